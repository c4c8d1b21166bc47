// What is wrong, in words: the top of the page. An operator reads this first.
import { left, moment, percent } from "./format.js";
import { live, recent, recentFailures } from "./live.js";
import { t, word } from "./words.js";

const MINUTE = 60;
const NEARLY_SPENT = 0.8;
const SOON_SECONDS = 3 * 86400;

export const isUsable = key => key.state === "awake" && !key.models;
export const isCooling = key => key.state === "resting" || (key.state === "awake" && Boolean(key.models));
export const coolsUntil = key => (key.state === "resting" ? key.until : key.models_until);
const isRefused = key => key.refused && key.state !== "disabled";
export const whyNot = key => (key.models && key.state === "awake" ? "rate limited" : key.why);

export function pools(keys) {
  const found = new Map();
  for (const key of keys) found.set(key.pool, [...(found.get(key.pool) ?? []), key]);
  return found;
}

// Each trouble: level (bad, mid or note), text, and the view that tells more.
export function troubles() {
  if (!live.figures) return [];
  return [...ofGateway(), ...ofCalls(), ...ofBudgets(), ...[...pools(live.keys)].flatMap(([pool, keys]) => ofPool(pool, keys))]
    .sort((a, b) => rank(a) - rank(b));
}

const rank = trouble => ["bad", "mid", "note"].indexOf(trouble.level);

function ofGateway() {
  const found = [];
  const { ready, worker_restarts: restarts, last_reload_ok: isReloaded, last_reload: said } = live.figures;
  if (!ready) found.push({ level: "mid", text: t("trouble.draining"), view: "now" });
  if (isReloaded === false) found.push({ level: "mid", text: t("trouble.reload", { said }), view: "config" });
  if (restarts) found.push({ level: "mid", text: t("trouble.restarts", { n: restarts }), view: "now" });
  return found;
}

function ofCalls() {
  const last = recent(MINUTE);
  if (last.failed < 3 || last.errorRate < 0.05) return [];
  const [most] = recentFailures(MINUTE);
  const values = { part: percent(last.errorRate), n: last.failed, outcome: word(most?.outcome ?? ""), provider: most?.provider ?? "" };
  return [{ level: last.errorRate > 0.25 ? "bad" : "mid", text: t("trouble.errors", values), view: "calls" }];
}

function ofBudgets() {
  return live.figures.budgets.filter(each => each.used >= NEARLY_SPENT).map(({ token, used }) => ({
    level: used >= 1 ? "bad" : "mid",
    text: t(used >= 1 ? "trouble.spent" : "trouble.budget", { token, part: percent(used) }),
    view: "tokens",
  }));
}

function ofPool(pool, all) {
  const found = [];
  const down = all.find(key => !key.id);
  const keys = all.filter(key => key.id);
  const isLost = keys.length > 0 && !keys.some(isUsable);
  if (down) found.push({ level: "bad", text: t("trouble.down", { pool, why: word(down.why), until: moment(down.until) }), view: "keys" });
  const groups = new Map();
  for (const key of keys.filter(key => isRefused(key) || isCooling(key))) {
    const kind = isRefused(key) ? "refused" : whyNot(key);
    groups.set(kind, [...(groups.get(kind) ?? []), key]);
  }
  for (const [kind, some] of groups) {
    const values = { n: some.length, of: keys.length, pool, why: word(kind), until: moment(Math.max(...some.map(coolsUntil))) };
    const text = kind === "refused" ? t("trouble.refused", values) : t("trouble.cooling", values);
    found.push({ level: isLost ? "bad" : "mid", text, view: "keys" });
  }
  const disabled = keys.filter(key => key.state === "disabled");
  if (disabled.length) {
    const text = t("trouble.disabled", { n: disabled.length, of: keys.length, pool });
    found.push({ level: isLost ? "bad" : "note", text, view: "keys" });
  }
  const now = Date.now() / 1000;
  for (const key of keys.filter(each => each.expires && each.expires - now < SOON_SECONDS)) {
    const values = { id: key.id, pool, left: left(key.expires - now) };
    const isOver = key.expires < now;
    found.push({ level: isOver ? "bad" : "mid", text: t(isOver ? "trouble.expired" : "trouble.expires", values), view: "keys" });
  }
  return found;
}
