// Requests to the gateway. The cookie signs them; the header says that it is this page that asks.
const HEADERS = { "x-gateway-console": "1" };

export class Refusal extends Error {
  constructor(status, message, body) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

let onSignedOut = () => {};
export function whenSignedOut(act) {
  onSignedOut = act;
}

// The JSON of the answer. Throws a Refusal with the gateway's own message.
export async function ask(path, { method = "GET", body, signal } = {}) {
  const answer = await fetch(path, {
    method,
    headers: body === undefined ? HEADERS : { ...HEADERS, "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
    signal: signal ?? AbortSignal.timeout(70000),
  });
  if (answer.status === 204) return null;
  let told = null;
  try {
    told = await answer.json();
  } catch {
    if (answer.ok) throw new Refusal(answer.status, "no JSON");
  }
  if (answer.ok) return told;
  if (answer.status === 401 && path !== "session") onSignedOut();
  throw new Refusal(answer.status, told?.error?.message ?? `HTTP ${answer.status}`, told);
}

// Whether the session goes on; if not, the page asks for the token again.
export async function isSignedIn() {
  const { signed_in: isIn } = await ask("session");
  if (!isIn) onSignedOut();
  return isIn;
}

// A request of the playground: the answer as it comes, for its stream to be read.
export function call(path, body, signal) {
  return fetch("playground" + path, {
    method: body === undefined ? "GET" : "POST",
    headers: { ...HEADERS, "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
    signal,
  });
}
