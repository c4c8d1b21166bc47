// Who may use the gateway, and what each has used; tokens are added, disabled and removed.
import { ask } from "../api.js";
import { left, number, percent, short, usd } from "../format.js";
import { useLive } from "../live.js";
import { Badge, Choice, Copy, Field, Problem, Table } from "../parts.js";
import { html, useEffect, useState } from "../ui.js";
import { t, word } from "../words.js";

const SINCE = ["24h", "7d", "30d"];
const KINDS = { enabled: "good", disabled: "note", expired: "bad" };

export function Tokens() {
  const { figures } = useLive();
  const [since, setSince] = useState("24h");
  const [people, setPeople] = useState(null);
  const [usage, setUsage] = useState({});
  const [error, setError] = useState("");
  const [chosen, setChosen] = useState(null);
  const look = () => ask("tokens").then(told => setPeople(told.tokens), refusal => setError(refusal.message));
  useEffect(() => {
    look();
  }, []);
  const order = async body => {
    try {
      const told = await ask("tokens", { method: "POST", body });
      setError("");
      await look();
      return told;
    } catch (refusal) {
      setError(refusal.message);
      return null;
    }
  };
  useEffect(() => {
    ask(`usage?by=token&since=${since}`).then(
      told => setUsage(Object.fromEntries(told.data.map(each => [each.token, each]))),
      refusal => setError(refusal.message),
    );
  }, [since]);
  if (!people) return html`<${Problem} error=${error} /><p role="status">${t("waiting")}</p>`;
  const known = new Set(people.map(person => person.id));
  const others = Object.keys(usage).filter(id => !known.has(id)).map(id => ({ id, isOther: true }));
  const rows = [...people, ...others];
  const used = (person, name) => usage[person.id]?.[name];
  const columns = [
    { head: "id", cell: person => html`<button type="button" class="link" aria-pressed=${chosen === person.id} onClick=${() => setChosen(person.id)}>${person.id || t("tokens.nobody")}</button>` },
    { head: t("state"), cell: state },
    { head: t("tokens.may"), cell: may },
    { head: t("tokens.limits"), cell: limits },
    { head: t("tokens.budget"), cell: person => budgets(figures, person.id) },
    { head: t("tokens.calls"), isNumber: true, cell: person => number(used(person, "calls") ?? 0) },
    { head: t("tokens.failed"), isNumber: true, cell: person => number(used(person, "failed") ?? 0) },
    { head: t("tokens.in"), isNumber: true, cell: person => short(used(person, "prompt_tokens") ?? 0) },
    { head: t("tokens.out"), isNumber: true, cell: person => short(used(person, "completion_tokens") ?? 0) },
    { head: t("tokens.cost"), isNumber: true, cell: person => usd(used(person, "cost_usd") ?? null) },
    { head: t("keys.actions"), cell: person => html`<${Actions} person=${person} order=${order} />` },
  ];
  return html`<p>${t("tokens.what")}</p>
    <${Add} order=${order} />
    <div class="head"><${Choice} label=${t("field.since")} value=${since} onChange=${setSince} options=${SINCE.map(name => [name, t("since." + name)])} /></div>
    <${Problem} error=${error} />
    <${Table} caption=${t("view.tokens")} columns=${columns} rows=${rows} rowKey=${person => person.id} empty=${t("tokens.none")} />
    ${chosen !== null ? html`<${Models} key=${chosen + since} id=${chosen} since=${since} />` : null}`;
}

// What is added here is in the ledger; what the config has is changed there.
function Add({ order }) {
  const [value, setValue] = useState(null);
  const submit = async event => {
    event.preventDefault();
    const form = event.target;
    const told = await order(orderOf(new FormData(form)));
    if (!told) return;
    setValue({ id: told.tokens[0].id, text: told.value });
    form.reset();
  };
  return html`<details class="card"><summary>${t("tokens.add")}</summary>
    <form class="head" onSubmit=${submit}>
      <${Field} label="id"><input name="id" required maxlength="64" autocomplete="off" /></${Field}>
      <${Field} label=${t("tokens.models")}><input name="models" placeholder="gpt-4o*, claude-*" autocomplete="off" /></${Field}>
      <${Field} label=${t("tokens.expires")}><input name="expires" placeholder="30d" autocomplete="off" /></${Field}>
      <${Field} label=${t("tokens.rpm")}><input name="rpm" type="number" min="0" /></${Field}>
      <${Field} label=${t("tokens.usd")}><input name="usd" type="number" min="0" step="any" /></${Field}>
      <${Field} label=${t("tokens.per")}><select name="per">${["day", "week", "month"].map(name => html`<option value=${name}>${t("per." + name)}</option>`)}</select></${Field}>
      <button type="submit">${t("tokens.add")}</button>
    </form>
    <div aria-live="polite">${value && html`<p>${t("tokens.value", { id: value.id })} <code>${value.text}</code> <${Copy} text=${() => value.text} label=${t("tokens.copy")} /></p>`}</div>
  </details>`;
}

function orderOf(fields) {
  const body = { action: "add", id: fields.get("id") };
  const models = fields.get("models").split(",").map(each => each.trim()).filter(Boolean);
  if (models.length) body.models = models;
  if (fields.get("expires")) body.expires = fields.get("expires");
  if (fields.get("rpm")) body.rpm = Number(fields.get("rpm"));
  if (fields.get("usd")) body.budget = { usd: Number(fields.get("usd")), per: fields.get("per") };
  return body;
}

function state(person) {
  if (person.isOther) return "–";
  const ends = person.expires ? html` <small>${left(person.expires - Date.now() / 1000)}</small>` : null;
  return html`<${Badge} kind=${KINDS[person.state]}>${word(person.state)}</${Badge}>${ends}`;
}

function Actions({ person, order }) {
  const [isAsked, setAsked] = useState(false);
  if (person.isOther) return "–";
  if (person.source === "config") return html`<small>${t("tokens.in_config")}</small>`;
  const button = (text, onClick) => html`<button type="button" aria-label="${text}: ${person.id}" onClick=${onClick}>${text}</button>`;
  const send = action => () => order({ action, id: person.id });
  return html`<span class="actions">
    ${person.state === "disabled" ? button(t("keys.enable"), send("enable")) : button(t("keys.disable"), send("disable"))}
    ${isAsked ? button(t("tokens.really"), send("remove")) : button(t("tokens.remove"), () => setAsked(true))}
  </span>`;
}

function may(person) {
  if (person.isOther) return "–";
  const told = [...person.providers, ...person.models];
  return told.length ? told.join(", ") : t("tokens.all");
}

function limits(person) {
  const told = ["rpm", "tpm", "max_concurrent"].filter(name => person[name]).map(name => `${name} ${number(person[name])}`);
  const budget = person.budget ?? {};
  if (budget.usd) told.push(`${usd(budget.usd)} / ${t("per." + budget.per)}`);
  if (budget.tokens) told.push(`${short(budget.tokens)} ${t("tokens.tokens")} / ${t("per." + budget.per)}`);
  return told.join(", ") || "–";
}

function budgets(figures, id) {
  const own = (figures?.budgets ?? []).filter(each => each.token === id);
  if (!own.length) return "–";
  return own.map(({ kind, used }) => html`<span class="share"><meter min="0" max="1" high="0.8" optimum="0" value=${used} aria-label=${percent(used)}></meter> ${percent(used)} <small>${kind === "usd" ? "USD" : t("tokens.tokens")}</small></span> `);
}

function Models({ id, since }) {
  const [rows, setRows] = useState(null);
  const [error, setError] = useState("");
  useEffect(() => {
    const query = new URLSearchParams({ by: "model", since, token: id });
    ask(`usage?${query}`).then(told => setRows(told.data), refusal => setError(refusal.message));
  }, []);
  const columns = [
    { head: t("calls.model"), cell: row => html`${row.model || "–"} <small>${row.provider}</small>` },
    { head: t("tokens.calls"), isNumber: true, cell: row => number(row.calls) },
    { head: t("tokens.failed"), isNumber: true, cell: row => number(row.failed) },
    { head: t("tokens.in"), isNumber: true, cell: row => short(row.prompt_tokens) },
    { head: t("tokens.out"), isNumber: true, cell: row => short(row.completion_tokens) },
    { head: t("tokens.cost"), isNumber: true, cell: row => usd(row.cost_usd) },
  ];
  return html`<section class="card" aria-labelledby="models"><h2 id="models">${t("tokens.models_of", { id: id || t("tokens.nobody") })}</h2>
    <${Problem} error=${error} />
    ${rows && html`<${Table} caption=${t("calls.model")} columns=${columns} rows=${rows} rowKey=${row => row.provider + row.model} />`}
  </section>`;
}
