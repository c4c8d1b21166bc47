// Calls: those that end now, those of the ledger, and the trail of one.
import { ask } from "../api.js";
import { clock, moment, ms, number, usd } from "../format.js";
import { asCurl } from "../fronts.js";
import { live, useLive } from "../live.js";
import { Badge, Choice, Copy, Field, Outcome, Problem, Table } from "../parts.js";
import { html, useEffect, useState } from "../ui.js";
import { t, word } from "../words.js";

const SHOWN = 50; // of the live list
const PAGE = 100; // of the ledger
const FIELDS = ["request_id", "token", "provider", "model", "key_id", "outcome", "status"];

export function Calls({ detail }) {
  return detail ? html`<${Trail} id=${detail} />` : html`<${List} />`;
}

const open = call => { location.hash = "#/calls/" + encodeURIComponent(call.request_id); };
const cost = call => (call.cost_usd !== undefined ? call.cost_usd : call.cost === undefined ? null : call.cost / 1e9);
const tokens = call => (call.counted ? `${number(call.prompt_tokens ?? 0)} → ${number(call.completion_tokens ?? 0)}` : "–");

function columns() {
  return [
    { head: t("calls.time"), cell: call => html`<a class="whole" href="#/calls/${encodeURIComponent(call.request_id)}" onClick=${event => event.stopPropagation()}>${stamp(call.time)}</a>` },
    { head: t("calls.outcome"), cell: call => html`<${Outcome} outcome=${call.outcome} status=${call.status} code=${call.code} />` },
    { head: t("calls.model"), cell: call => html`${call.model || call.model_asked || "–"} <small>${call.provider}${call.key_id ? ` · ${call.key_id}` : ""}</small>` },
    { head: t("calls.token"), cell: call => call.token || "–" },
    { head: t("calls.front"), isMinor: true, cell: call => html`${call.front || call.route}${call.stream ? html` <small>${t("calls.stream")}</small>` : null}` },
    { head: t("calls.attempts"), isMinor: true, isNumber: true, cell: call => call.attempts ?? 0 },
    { head: t("calls.first"), isMinor: true, isNumber: true, cell: call => ms(call.first_event_ms) },
    { head: t("calls.total"), isNumber: true, cell: call => ms(call.total_ms) },
    { head: t("calls.tokens"), isNumber: true, cell: tokens },
    { head: t("calls.cost"), isMinor: true, isNumber: true, cell: call => usd(cost(call)) },
  ];
}

function stamp(time) {
  const at = Date.parse(time) / 1000;
  return Date.now() / 1000 - at < 43200 ? clock(at) : moment(at);
}

function List() {
  const [which, setWhich] = useState("live");
  const options = [["live", t("calls.live")], ["search", t("calls.search")]];
  return html`<div class="head"><${Choice} label=${t("calls.which")} value=${which} onChange=${setWhich} options=${options} /></div>
    ${which === "live" ? html`<${Live} />` : html`<${Search} />`}`;
}

function Live() {
  useLive();
  const [held, setHeld] = useState(null); // the list as it stood when it was paused
  const [text, setText] = useState("");
  const [isFailed, setFailed] = useState(false);
  const matches = call => (!text || JSON.stringify(call).toLowerCase().includes(text.toLowerCase()))
    && (!isFailed || call.outcome !== "complete");
  const shown = (held ?? live.calls).filter(matches).slice(0, SHOWN);
  return html`
    <div class="head">
      <${Field} label=${t("calls.filter")}><input type="search" value=${text} onInput=${event => setText(event.target.value)} /></${Field}>
      <label class="check"><input type="checkbox" checked=${isFailed} onChange=${event => setFailed(event.target.checked)} /> ${t("calls.failed_only")}</label>
      <button type="button" aria-pressed=${Boolean(held)} onClick=${() => setHeld(held ? null : live.calls)}>${t(held ? "calls.resume" : "calls.pause")}</button>
    </div>
    <section><${Table} caption=${t("calls.live")} columns=${columns()} rows=${shown} rowKey=${call => call.request_id + call.time} onRow=${open} empty=${t("calls.none")} /></section>`;
}

function Search() {
  const [asked, setAsked] = useState(null);
  const submit = event => {
    event.preventDefault();
    const given = [...new FormData(event.target)].filter(([, value]) => value.trim());
    setAsked(Object.fromEntries(given.map(([name, value]) => [name, value.trim()])));
  };
  return html`<form class="search" onSubmit=${submit}>
    ${FIELDS.map(name => html`<${Field} label=${t("field." + name)}><input name=${name} autocomplete="off" /></${Field}>`)}
    <${Field} label=${t("field.since")}><select name="since">
      ${["1h", "24h", "7d", "30d"].map(span => html`<option value=${span} selected=${span === "24h"}>${t("since." + span)}</option>`)}
    </select></${Field}>
    <button class="main" type="submit">${t("calls.find")}</button>
  </form>
  ${asked && html`<section><${Found} key=${JSON.stringify(asked)} asked=${asked} /></section>`}`;
}

// What the ledger has, a page at a time.
function Found({ asked }) {
  const [rows, setRows] = useState(null);
  const [next, setNext] = useState(null);
  const [error, setError] = useState("");
  const load = async before => {
    const query = new URLSearchParams({ ...asked, limit: PAGE, ...(before ? { before } : {}) });
    try {
      const told = await ask(`calls?${query}`);
      setRows(known => [...(before ? known : []), ...told.data]);
      setNext(told.next);
    } catch (refusal) {
      setError(refusal.message);
    }
  };
  useEffect(() => { load(null); }, []);
  if (error) return html`<${Problem} error=${error} />`;
  if (!rows) return html`<p role="status">${t("waiting")}</p>`;
  return html`<p role="status">${t("calls.found", { n: rows.length })}</p>
    <${Table} caption=${t("calls.search")} columns=${columns()} rows=${rows} rowKey=${call => call.id} onRow=${open} empty=${t("calls.not_found")} />
    ${next ? html`<button type="button" onClick=${() => load(next)}>${t("calls.older")}</button>` : null}`;
}

// One call: the attempts, as long as a worker remembers them, and the ledger's row.
function Trail({ id }) {
  const [calls, setCalls] = useState(null);
  const [row, setRow] = useState(null);
  const [error, setError] = useState("");
  useEffect(() => {
    const look = async () => {
      const [trail, ledger] = await Promise.allSettled([
        ask("requests/" + encodeURIComponent(id)),
        ask(`calls?request_id=${encodeURIComponent(id)}`),
      ]);
      setRow(ledger.value?.data[0] ?? null);
      setCalls(trail.value?.calls ?? ledger.value?.data ?? []);
      if (!trail.value && !ledger.value?.data.length) setError(trail.reason.message);
    };
    look();
  }, [id]);
  return html`<p><a href="#/calls">← ${t("calls.back")}</a></p>
    <${Problem} error=${error} />
    ${calls === null ? html`<p role="status">${t("waiting")}</p>` : calls.map(call => html`<${One} call=${{ ...row, ...call }} />`)}`;
}

function One({ call }) {
  const facts = [
    ["request_id", call.request_id], ["time", moment(Date.parse(call.time) / 1000)], ["token", call.token], ["front", call.front],
    ["route", call.route], ["model_asked", call.model_asked], ["model", call.model], ["provider", call.provider], ["key_id", call.key_id],
    ["first", ms(call.first_event_ms)], ["total", ms(call.total_ms)], ["tokens", call.counted ? `${tokens(call)} (${word(call.counted)})` : ""],
    ["cost", cost(call) === null ? "" : usd(cost(call))], ["upstream_request_id", call.upstream_request_id],
  ].filter(([, value]) => value);
  return html`<article class="card">
    <div class="head"><h2>${call.model || call.model_asked || call.route}</h2><${Outcome} outcome=${call.outcome} status=${call.status} code=${call.code} />
      ${call.front ? html`<${Copy} label=${t("copy_curl")} text=${() => asCurl(call)} />` : null}</div>
    ${call.attempts?.length ? html`<${Timing} call=${call} /><${Attempts} attempts=${call.attempts} />` : null}
    <dl class="facts">${facts.map(([name, value]) => html`<div><dt>${t("field." + name)}</dt><dd>${value}</dd></div>`)}</dl>
    <p><small>${t("calls.no_prompt")}</small></p>
  </article>`;
}

// The attempts side by side, as wide as they took; the mark is the first event. SVG, since the
// policy of the page allows no style attributes.
function Timing({ call }) {
  const whole = Math.max(call.total_ms, ...call.attempts.map(one => one.ms), 1);
  let at = 0;
  const bars = call.attempts.map(one => {
    const bar = { x: at, width: Math.max((100 * one.ms) / whole, 0.5), one };
    at += (100 * one.ms) / whole;
    return bar;
  });
  const label = call.attempts.map(one => `${one.key_id || one.provider} ${word(one.class)} ${ms(one.ms)}`).join(", ");
  const mark = call.first_event_ms ? Math.min((100 * call.first_event_ms) / whole, 99.6) : null;
  return html`<figure class="timing">
    <svg viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label=${label}>
      <rect width="100" height="6" class="rail" />
      ${bars.map(bar => html`<rect x=${bar.x} width=${Math.min(bar.width, 100 - bar.x)} height="6" class=${bar.one.class === "ok" ? "good" : "bad"} />`)}
      ${mark === null ? null : html`<rect x=${mark} width="0.4" height="6" class="mark" />`}
    </svg>
    <figcaption><span>0</span>${mark === null ? null : html`<span>${t("calls.first_at", { ms: ms(call.first_event_ms) })}</span>`}<span>${ms(call.total_ms)}</span></figcaption>
  </figure>`;
}

function Attempts({ attempts }) {
  const columns = [
    { head: "#", isNumber: true, cell: one => attempts.indexOf(one) + 1 },
    { head: t("calls.outcome"), cell: one => html`<${Outcome} outcome=${one.class} status=${one.status} code=${one.code} />` },
    { head: t("calls.model"), cell: one => html`${one.model} <small>${one.provider}</small>` },
    { head: t("calls.key"), cell: one => one.key_id || "–" },
    { head: t("calls.took"), isNumber: true, cell: one => ms(one.ms) },
    { head: t("calls.then"), cell: one => (one.next ? html`<${Badge} kind="note">${word("next." + one.next)}</${Badge}>` : "–") },
  ];
  return html`<${Table} caption=${t("calls.attempts")} columns=${columns} rows=${attempts} rowKey=${one => attempts.indexOf(one)} />`;
}
