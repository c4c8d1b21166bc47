// The live figures: one stream of server-sent events for the whole page.
import { isSignedIn } from "./api.js";
import { useEffect, useState } from "./ui.js";

const KEEP_SECONDS = 120; // of figures, to make rates of
const MOST_CALLS = 500;
const RETRY_MS = 3000;
const SILENCE_SECONDS = 6; // after which the figures are called old

export const live = { figures: null, keys: [], calls: [], past: [], isConnected: false, seen: 0 };
const listeners = new Set();
let source = null;
let watch = null;
let retry = null;

function tell() {
  for (const listener of listeners) listener();
}

export function connect() {
  disconnect();
  source = new EventSource("events");
  source.addEventListener("figures", event => {
    live.figures = JSON.parse(event.data);
    live.seen = Date.now() / 1000;
    live.isConnected = true;
    live.past.push(live.figures);
    while (live.past[0].time < live.figures.time - KEEP_SECONDS) live.past.shift();
    tell();
  });
  source.addEventListener("keys", event => {
    live.keys = JSON.parse(event.data);
    tell();
  });
  source.addEventListener("calls", event => {
    const known = new Set(live.calls.map(call => call.request_id + call.time));
    const fresh = JSON.parse(event.data).filter(call => !known.has(call.request_id + call.time));
    live.calls = [...fresh.reverse(), ...live.calls].slice(0, MOST_CALLS);
    tell();
  });
  source.addEventListener("error", () => {
    // The browser tries again by itself, but not after an answer that was no stream.
    if (source?.readyState === EventSource.CLOSED) retry = setTimeout(connectAgain, RETRY_MS);
  });
  watch = setInterval(() => {
    if (live.isConnected && Date.now() / 1000 - live.seen > SILENCE_SECONDS) {
      live.isConnected = false;
      tell();
    }
  }, 1000);
}

// Not before it is known that the session has not ended: a 401 every three seconds helps nobody.
async function connectAgain() {
  try {
    if (await isSignedIn()) connect();
  } catch {
    retry = setTimeout(connectAgain, RETRY_MS);
  }
}

export function disconnect() {
  source?.close();
  clearInterval(watch);
  clearTimeout(retry);
  source = null;
}

// The component that calls this is drawn again when something new has come.
export function useLive() {
  const [, draw] = useState(0);
  useEffect(() => {
    const listener = () => draw(n => n + 1);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  return live;
}

const sum = numbers => numbers.reduce((a, b) => a + b, 0);
const FINE = new Set(["complete", "client_gone"]);

function totals(figures) {
  const all = Object.values(figures.providers);
  const outcomes = all.flatMap(each => Object.entries(each.outcomes));
  return {
    calls: sum(outcomes.map(([, count]) => count)),
    failed: sum(outcomes.filter(([name]) => !FINE.has(name)).map(([, count]) => count)),
    tokens: sum(all.flatMap(each => Object.values(each.tokens))),
    first: figures.bounds.concat(Infinity).map((_, n) => sum(all.map(each => each.first_event[n] ?? 0))),
  };
}

// What happened within the last `seconds`: differences of counters.
export function recent(seconds) {
  const now = live.figures;
  if (!now) return null;
  const before = live.past.find(figures => figures.time >= now.time - seconds) ?? now;
  const span = now.time - before.time;
  const [a, b] = [totals(before), totals(now)];
  const calls = b.calls - a.calls;
  const failed = b.failed - a.failed;
  const first = b.first.map((count, n) => count - a.first[n]);
  return {
    span,
    calls,
    failed,
    callsPerSecond: span ? calls / span : 0,
    tokensPerSecond: span ? (b.tokens - a.tokens) / span : 0,
    errorRate: calls ? failed / calls : null,
    p50: percentile(first, now.bounds, 0.5),
    p95: percentile(first, now.bounds, 0.95),
  };
}

// Milliseconds, by linear interpolation inside a bucket, as Prometheus does.
function percentile(counts, bounds, share) {
  let wanted = share * sum(counts);
  if (!wanted) return null;
  for (let n = 0; n < counts.length; n++) {
    if (counts[n] >= wanted) {
      const low = n ? bounds[n - 1] : 0;
      const high = bounds[n] ?? low;
      return 1000 * (low + (high - low) * (wanted / counts[n]));
    }
    wanted -= counts[n];
  }
  return 1000 * bounds[bounds.length - 1];
}

// How often each outcome of a failure came within the last `seconds`, the most frequent first.
export function recentFailures(seconds) {
  const now = live.figures;
  const before = live.past.find(figures => figures.time >= now.time - seconds) ?? now;
  const found = [];
  for (const [provider, each] of Object.entries(now.providers)) {
    for (const [outcome, count] of Object.entries(each.outcomes)) {
      const more = count - (before.providers[provider]?.outcomes[outcome] ?? 0);
      if (more > 0 && !FINE.has(outcome)) found.push({ provider, outcome, count: more });
    }
  }
  return found.sort((a, b) => b.count - a.count);
}
