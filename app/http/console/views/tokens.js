// Who may use the gateway, and what each has used.
import { ask } from "../api.js";
import { number, percent, short, usd } from "../format.js";
import { useLive } from "../live.js";
import { Choice, Problem, Table } from "../parts.js";
import { html, useEffect, useState } from "../ui.js";
import { t } from "../words.js";

const SINCE = ["24h", "7d", "30d"];

export function Tokens() {
  const { figures } = useLive();
  const [since, setSince] = useState("24h");
  const [people, setPeople] = useState(null);
  const [usage, setUsage] = useState({});
  const [error, setError] = useState("");
  const [chosen, setChosen] = useState(null);
  useEffect(() => {
    ask("config").then(told => setPeople(told.effective.access.tokens), refusal => setError(refusal.message));
  }, []);
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
    { head: t("tokens.may"), cell: may },
    { head: t("tokens.limits"), cell: limits },
    { head: t("tokens.budget"), cell: person => budgets(figures, person.id) },
    { head: t("tokens.calls"), isNumber: true, cell: person => number(used(person, "calls") ?? 0) },
    { head: t("tokens.failed"), isNumber: true, cell: person => number(used(person, "failed") ?? 0) },
    { head: t("tokens.in"), isNumber: true, cell: person => short(used(person, "prompt_tokens") ?? 0) },
    { head: t("tokens.out"), isNumber: true, cell: person => short(used(person, "completion_tokens") ?? 0) },
    { head: t("tokens.cost"), isNumber: true, cell: person => usd(used(person, "cost_usd") ?? null) },
  ];
  return html`<p>${t("tokens.what")}</p>
    <div class="head"><${Choice} label=${t("field.since")} value=${since} onChange=${setSince} options=${SINCE.map(name => [name, t("since." + name)])} /></div>
    <${Problem} error=${error} />
    <${Table} caption=${t("view.tokens")} columns=${columns} rows=${rows} rowKey=${person => person.id} empty=${t("tokens.none")} />
    ${chosen !== null ? html`<${Models} key=${chosen + since} id=${chosen} since=${since} />` : null}`;
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
