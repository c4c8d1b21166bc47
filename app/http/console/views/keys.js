// Every pool as a board: each key's state, why, until when, its share of the calls; and what can be
// done about it.
import { ask } from "../api.js";
import { left, moment, number, percent } from "../format.js";
import { live, useLive } from "../live.js";
import { Badge, Problem, Table } from "../parts.js";
import { coolsUntil, isCooling, isUsable, pools, whyNot } from "../troubles.js";
import { html, useState } from "../ui.js";
import { t, word } from "../words.js";

const KINDS = { awake: "good", due: "mid", probing: "mid", resting: "bad", disabled: "note" };
const FINDINGS = { valid: "good", limited: "mid", unknown: "note" };

export function Keys() {
  useLive();
  const [findings, setFindings] = useState({});
  const [error, setError] = useState("");
  const act = async (action, key) => {
    const name = key.pool + "/" + key.id;
    if (action === "test") setFindings(known => ({ ...known, [name]: { state: "asking" } }));
    try {
      const told = await ask("keys", { method: "POST", body: { action, id: key.id, pool: key.pool } });
      if (action === "test") setFindings(known => ({ ...known, [name]: told.finding }));
      else live.keys = live.keys.map(each => told.keys.find(now => now.pool === each.pool && now.id === each.id) ?? each);
      setError("");
    } catch (refusal) {
      setError(refusal.message);
      setFindings(({ [name]: _, ...rest }) => rest);
    }
  };
  const all = [...pools(live.keys)];
  return html`<p>${t("keys.what")}</p>
    <${Problem} error=${error} />
    ${all.length ? null : html`<p class="empty">${t(live.figures ? "keys.none" : "waiting")}</p>`}
    ${all.map(([pool, keys]) => html`<${Pool} key=${pool} pool=${pool} keys=${keys} findings=${findings} act=${act} />`)}`;
}

function Pool({ pool, keys, findings, act }) {
  const uses = keys.reduce((sum, key) => sum + key.uses, 0);
  const real = keys.filter(key => key.id);
  const usable = keys.some(key => !key.id) ? 0 : real.filter(isUsable).length;
  const columns = [
    { head: "id", cell: key => html`<b>${key.id || t("keys.upstream")}</b>` },
    { head: t("state"), cell: key => html`<${State} pool=${pool} id=${key.id} finding=${findings[pool + "/" + key.id]} status=${key} />` },
    { head: t("keys.share"), cell: key => html`<${Share} part=${uses ? key.uses / uses : 0} uses=${key.uses} />` },
    { head: t("keys.last"), isNumber: true, cell: key => key.last_status || "–" },
    { head: t("keys.limits"), cell: key => limits(key.limits) },
    { head: t("keys.expires"), cell: key => (key.expires ? html`<span class=${key.expires * 1000 < Date.now() ? "bad" : ""}>${left(key.expires - Date.now() / 1000)}</span>` : "–") },
    { head: t("keys.actions"), cell: key => html`<${Actions} status=${key} act=${act} />` },
  ];
  return html`<section class="card" aria-labelledby=${"pool-" + pool}>
    <div class="head"><h2 id=${"pool-" + pool}>${pool}</h2>
      <${Badge} kind=${usable === real.length ? "good" : usable ? "mid" : "bad"}>${t("keys.usable", { n: usable, of: real.length })}</${Badge}></div>
    <${Table} caption=${pool} columns=${columns} rows=${keys} rowKey=${key => key.id} />
  </section>`;
}

function State({ status, finding }) {
  const kind = status.refused ? "bad" : status.models && status.state === "awake" ? "mid" : KINDS[status.state];
  const name = status.models && status.state === "awake" ? "models_rest" : status.state;
  const until = isCooling(status) ? t("keys.until", { time: moment(coolsUntil(status)), left: left(coolsUntil(status) - Date.now() / 1000) }) : "";
  const why = whyNot(status) && status.state !== "disabled" ? word(whyNot(status)) : "";
  return html`<${Badge} kind=${kind}>${word(name)}</${Badge}>
    ${why || until ? html` <span class="why">${[why, until].filter(Boolean).join(", ")}</span>` : null}
    <div aria-live="polite">${finding && html`<p class="finding"><${Badge} kind=${FINDINGS[finding.state] ?? (finding.state === "asking" ? "note" : "bad")}>${word(finding.state)}</${Badge}> ${finding.told}</p>`}</div>`;
}

function Share({ part, uses }) {
  return html`<span class="share"><meter min="0" max="1" value=${part} aria-label=${percent(part)}></meter> ${percent(part)} <small>(${number(uses)})</small></span>`;
}

function limits(some) {
  const told = Object.entries(some ?? {}).filter(([, value]) => value).map(([name, value]) => `${name} ${number(value)}`);
  return told.join(", ") || "–";
}

function Actions({ status, act }) {
  const isOff = status.state === "disabled";
  const button = (action, text) => html`<button type="button" aria-label="${text}: ${status.id || status.pool}" onClick=${() => act(action, status)}>${text}</button>`;
  return html`<span class="actions">
    ${status.id ? button(isOff ? "enable" : "disable", t(isOff ? "keys.enable" : "keys.disable")) : null}
    ${!isOff && (isCooling(status) || status.state !== "awake") ? button("reset", t("keys.reset")) : null}
    ${status.id ? button("test", t("keys.test")) : null}
  </span>`;
}
