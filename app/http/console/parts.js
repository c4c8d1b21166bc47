// Small pieces that several views show.
import { html, useState } from "./ui.js";
import { t, word } from "./words.js";

export function Badge({ kind, children }) {
  return html`<span class="badge ${kind}">${children}</span>`;
}

// A table that becomes a list of cards on a phone. Each column: name, head, cell(row), and
// `isNumber`, where digits should stand below each other, and `isMinor`, what a phone leaves out.
export function Table({ caption, columns, rows, empty, rowKey, onRow }) {
  if (!rows.length) return html`<p class="empty">${empty ?? t("none")}</p>`;
  return html`<div class="wide" role="group" aria-label=${caption} tabindex="0">
    <table>
      <caption class="unseen">${caption}</caption>
      <thead><tr>${columns.map(each => html`<th scope="col" class=${each.isNumber ? "number" : ""}>${each.head}</th>`)}</tr></thead>
      <tbody>
        ${rows.map(row => html`<tr key=${rowKey(row)} class=${onRow ? "opens" : ""} onClick=${onRow && (() => onRow(row))}>
          ${columns.map(each => html`<td data-head=${each.head} class=${`${each.isNumber ? "number" : ""} ${each.isMinor ? "minor" : ""}`}>${each.cell(row)}</td>`)}
        </tr>`)}
      </tbody>
    </table>
  </div>`;
}

export function Choice({ label, value, options, onChange }) {
  return html`<div class="choice" role="group" aria-label=${label}>
    ${options.map(([name, text]) => html`<button type="button" aria-pressed=${name === value} onClick=${() => onChange(name)}>${text}</button>`)}
  </div>`;
}

export function Field({ label, children }) {
  return html`<label class="field"><span>${label}</span>${children}</label>`;
}

export function Problem({ error }) {
  return error ? html`<p class="problem" role="alert">${error}</p>` : null;
}

export function Copy({ text, label }) {
  const [isDone, setDone] = useState(false);
  const copy = async () => {
    const isCopied = await toClipboard(text());
    setDone(isCopied);
    setTimeout(() => setDone(false), 2000);
  };
  return html`<button type="button" onClick=${copy}><span aria-live="polite">${isDone ? t("copied") : label}</span></button>`;
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Only secure addresses have a clipboard; elsewhere a selected field does it.
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "unseen";
    document.body.append(field);
    field.select();
    const isCopied = document.execCommand("copy");
    field.remove();
    return isCopied;
  }
}

const GOOD = new Set(["complete", "ok"]);
const NEUTRAL = new Set(["client_gone", "caller left", "overtaken", "connection lost", "let go"]);

export function Outcome({ outcome, status, code }) {
  const kind = GOOD.has(outcome) ? "good" : NEUTRAL.has(outcome) ? "note" : "bad";
  const more = code && code !== outcome ? ` ${code}` : "";
  return html`<${Badge} kind=${kind}>${word(outcome)}</${Badge}>${" "}<small>${status || ""}${more}</small>`;
}
