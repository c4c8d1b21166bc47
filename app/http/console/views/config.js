// The config as it is effective, without its secrets; what is wrong in the file; and the reload.
import { ask } from "../api.js";
import { Badge, Field, Problem } from "../parts.js";
import { html, useEffect, useState } from "../ui.js";
import { t } from "../words.js";

export function Config() {
  const [told, setTold] = useState(null);
  const [error, setError] = useState("");
  const [outcome, setOutcome] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const [text, setText] = useState("");
  const look = () => ask("config").then(setTold, refusal => setError(refusal.message));
  useEffect(() => { look(); }, []);
  const reload = async () => {
    setBusy(true);
    setError("");
    try {
      setOutcome(await ask("reload", { method: "POST" }));
    } catch (refusal) {
      if (refusal.body?.message) setOutcome(refusal.body);
      else setError(refusal.message);
    }
    setBusy(false);
    look();
  };
  if (!told) return html`<${Problem} error=${error} /><p role="status">${t("waiting")}</p>`;
  const lines = flat(told.effective).filter(([key, value]) => `${key}: ${value}`.toLowerCase().includes(text.toLowerCase()));
  return html`
    <section class="card" aria-labelledby="file">
      <div class="head"><h2 id="file">${told.path ?? t("config.file")}</h2>
        ${told.problems.length ? html`<${Badge} kind="bad">${t("config.mistakes", { n: told.problems.length })}</${Badge}>`
          : told.changed ? html`<${Badge} kind="mid">${t("config.changed")}</${Badge}>`
          : told.changed === false ? html`<${Badge} kind="good">${t("config.same")}</${Badge}>` : null}
        <button type="button" onClick=${look}>${t("config.check")}</button>
        <button type="button" class="main" disabled=${isBusy} onClick=${reload}>${t(isBusy ? "config.reloading" : "config.reload")}</button></div>
      <${Lines} title=${t("config.problems")} lines=${told.problems} kind="bad" />
      <${Lines} title=${t("config.warnings")} lines=${told.warnings} kind="mid" />
      <div role="status">${outcome && html`<${Reloaded} outcome=${outcome} />`}</div>
      ${!outcome && told.last_reload ? html`<h3>${t("config.last_reload")}</h3><${Reloaded} outcome=${told.last_reload} />` : null}
      <${Problem} error=${error} />
    </section>
    <section aria-labelledby="effective"><h2 id="effective">${t("config.effective")}</h2>
      <p>${t("config.what")}</p>
      <${Field} label=${t("calls.filter")}><input type="search" value=${text} onInput=${event => setText(event.target.value)} /></${Field}>
      <div class="wide" tabindex="0" role="group" aria-label=${t("config.effective")}>
        <table class="effective"><caption class="unseen">${t("config.effective")}</caption>
          <thead><tr><th scope="col">${t("config.key")}</th><th scope="col">${t("config.value")}</th><th scope="col">${t("config.place")}</th></tr></thead>
          <tbody>${lines.map(([key, value]) => html`<tr key=${key}>
            <th scope="row" data-head=${t("config.key")}><code>${key}</code></th><td data-head=${t("config.value")}><code>${value}</code></td><td data-head=${t("config.place")}><small>${line(told.places[key])}</small></td></tr>`)}</tbody>
        </table></div>
    </section>`;
}

function Reloaded({ outcome }) {
  return html`<p><${Badge} kind=${outcome.ok ? "good" : "bad"}>${t(outcome.ok ? "config.done" : "config.refused")}</${Badge}> ${outcome.message}</p>
    <${Lines} title=${t("config.problems")} lines=${outcome.problems} kind="bad" />
    <${Lines} title=${t("config.kept")} lines=${outcome.kept} kind="mid" />`;
}

function Lines({ title, lines, kind }) {
  if (!lines?.length) return null;
  return html`<h3>${title}</h3><ul class="lines ${kind}">${lines.map(text => html`<li><code>${text}</code></li>`)}</ul>`;
}

// etc/c.yaml:7:3 -> 7
const line = place => (place ? (/:(\d+):\d+$/.exec(place)?.[1] ?? place) : "");

// The values as the mistakes name them: openai.api_keys[0].id
function flat(value, name = "") {
  if (value !== null && typeof value === "object") {
    const inner = Array.isArray(value) ? value.map((each, n) => [`${name}[${n}]`, each]) : Object.entries(value).map(([key, each]) => [name ? `${name}.${key}` : key, each]);
    return inner.length ? inner.flatMap(([key, each]) => flat(each, key)) : [[name, Array.isArray(value) ? "[]" : "{}"]];
  }
  return [[name, value === null ? "–" : value === "" ? '""' : String(value)]];
}
