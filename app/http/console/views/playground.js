// A chat with any model by any front; beside it the raw request and the raw stream. Everything is
// forgotten when the page is left, unless the user has it kept in this browser.
import { ask, call } from "../api.js";
import { ms, number } from "../format.js";
import { FRONTS, SNIPPETS, eventSplitter, read } from "../fronts.js";
import { Copy, Field, Problem } from "../parts.js";
import { html, useEffect, useRef, useState } from "../ui.js";
import { t } from "../words.js";

const KEPT = "any-proxy.playground";
const MOST_RAW = 200_000; // characters of a stream that are shown
const MOST_PICTURE = 8 * 1024 * 1024;
const SAMPLE_TOOL = JSON.stringify([{
  name: "get_weather",
  description: "The weather in a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
}], null, 2);

function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}

export function Playground() {
  const before = useRef(kept()).current;
  const [models, setModels] = useState([]);
  const [model, setModel] = useState(before.model ?? "");
  const [front, setFront] = useState(before.front ?? "openai-chat");
  const [system, setSystem] = useState(before.system ?? "");
  const [tools, setTools] = useState(before.tools ?? "");
  const [turns, setTurns] = useState(before.turns ?? []);
  const [isKept, setKept] = useState(Boolean(before.turns));
  const [text, setText] = useState("");
  const [picture, setPicture] = useState("");
  const [answer, setAnswer] = useState(null); // that which comes just now
  const [sent, setSent] = useState(null);
  const [raw, setRaw] = useState("");
  const [error, setError] = useState("");
  const stop = useRef(null);

  useEffect(() => {
    ask("playground/c/v1/models").then(
      told => {
        setModels(told.data);
        setModel(known => known || (told.data[0]?.id ?? ""));
      },
      refusal => setError(refusal.message),
    );
    return () => stop.current?.abort();
  }, []);
  useEffect(() => {
    if (isKept) localStorage.setItem(KEPT, JSON.stringify({ model, front, system, tools, turns }));
    else localStorage.removeItem(KEPT);
  }, [isKept, model, front, system, tools, turns]);

  const request = given => ({ path: FRONTS[front].path(model), body: FRONTS[front].body({ model, system, turns: given, tools: parsed(tools) }) });

  const send = async event => {
    event.preventDefault();
    let made;
    const given = [...turns, { role: "user", text, ...(picture ? { picture } : {}) }];
    try {
      made = request(given);
    } catch (mistake) {
      setError(t("play.bad_tools", { why: mistake.message }));
      return;
    }
    setError("");
    setTurns(given);
    setText("");
    setPicture("");
    setRaw("");
    setSent(made);
    const controller = (stop.current = new AbortController());
    const said = { role: "assistant", text: "", thinking: "", tools: {}, began: performance.now() };
    setAnswer({ ...said });
    try {
      await stream(made, controller.signal, said);
    } catch (failure) {
      if (failure.name === "AbortError") said.isStopped = true;
      else said.error = failure.message;
    }
    said.total = performance.now() - said.began;
    stop.current = null;
    setAnswer(null);
    setTurns([...given, said]);
  };

  const stream = async (made, signal, said) => {
    const response = await call(made.path, made.body, signal);
    said.request_id = response.headers.get("x-request-id");
    if (!response.ok) {
      const told = await response.text();
      setRaw(told);
      throw new Error(messageOf(told) ?? `HTTP ${response.status}`);
    }
    const decoder = new TextDecoder();
    const split = eventSplitter();
    const reader = response.body.getReader();
    for (let whole = ""; ;) {
      const { done, value } = await reader.read();
      if (done) break;
      const piece = decoder.decode(value, { stream: true });
      if (whole.length < MOST_RAW) setRaw((whole += piece));
      for (const data of split(piece)) for (const what of read(front, data)) take(said, what);
      setAnswer({ ...said });
    }
  };

  const history = answer ? [...turns, answer] : turns;
  return html`
    <p>${t("play.what")}</p>
    <div class="playground">
      <section class="chat" aria-labelledby="chat">
        <h2 id="chat" class="unseen">${t("play.chat")}</h2>
        <div class="search">
          <${Field} label=${t("play.model")}>
            <input list="models" value=${model} onInput=${event => setModel(event.target.value)} required spellcheck="false" />
          </${Field}>
          <datalist id="models">${models.map(each => html`<option value=${each.id}>${each.provider}</option>`)}</datalist>
          <${Field} label=${t("play.front")}><select value=${front} onChange=${event => setFront(event.target.value)}>
            ${Object.entries(FRONTS).map(([name, each]) => html`<option value=${name}>${each.title}</option>`)}
          </select></${Field}>
        </div>
        <details><summary>${t("play.more")}</summary>
          <${Field} label=${t("play.system")}><textarea rows="2" value=${system} onInput=${event => setSystem(event.target.value)}></textarea></${Field}>
          <${Field} label=${t("play.tools")}><textarea rows="6" spellcheck="false" value=${tools} onInput=${event => setTools(event.target.value)}></textarea></${Field}>
          <button type="button" onClick=${() => setTools(SAMPLE_TOOL)}>${t("play.sample_tool")}</button>
        </details>
        <div class="turns" role="log" aria-label=${t("play.chat")} tabindex="0">
          ${history.length ? history.map(turn => html`<${Turn} turn=${turn} />`) : html`<p class="empty">${t("play.empty")}</p>`}
        </div>
        <${Problem} error=${error} />
        <form onSubmit=${send}>
          <${Field} label=${t("play.message")}>
            <textarea rows="3" required value=${text} onInput=${event => setText(event.target.value)} onKeyDown=${event => sendOnEnter(event)}></textarea>
          </${Field}>
          ${picture && html`<p><img class="picture" src=${picture} alt=${t("play.picture")} /> <button type="button" onClick=${() => setPicture("")}>${t("play.no_picture")}</button></p>`}
          <div class="head">
            ${answer ? html`<button type="button" class="main" onClick=${() => stop.current?.abort()}>${t("play.stop")}</button>`
              : html`<button type="submit" class="main">${t("play.send")}</button>`}
            <label class="file">${t("play.picture")} <input type="file" accept="image/*" onChange=${event => readPicture(event, setPicture, setError)} /></label>
            <button type="button" disabled=${!turns.length || Boolean(answer)} onClick=${() => { setTurns([]); setRaw(""); setSent(null); }}>${t("play.clear")}</button>
            <label class="check"><input type="checkbox" checked=${isKept} onChange=${event => setKept(event.target.checked)} /> ${t("play.keep")}</label>
          </div>
        </form>
      </section>
      <section class="raw" aria-labelledby="raw">
        <div class="head"><h2 id="raw">${t("play.request")}</h2>
          ${sent && Object.entries(SNIPPETS).map(([name, write]) => html`<${Copy} key=${name} label=${t("play.copy", { name })} text=${() => write(front, sent.path, sent.body)} />`)}</div>
        <pre tabindex="0" aria-label=${t("play.request")}>${sent ? `POST ${sent.path}\n\n${JSON.stringify(sent.body, shorten, 2)}` : "–"}</pre>
        <h2>${t("play.stream")}</h2>
        <pre tabindex="0" aria-label=${t("play.stream")} class="stream">${raw || "–"}</pre>
      </section>
    </div>`;
}

function parsed(tools) {
  return tools.trim() ? [JSON.parse(tools)].flat() : [];
}

// Adds what an event said to the answer.
function take(said, what) {
  if (what.text || what.thinking || what.tool) said.first ??= performance.now() - said.began;
  if (what.text) said.text += what.text;
  if (what.thinking) said.thinking += what.thinking;
  if (what.tool) {
    const tool = (said.tools[what.tool.id] ??= { name: "", input: "" });
    tool.name ||= what.tool.name ?? "";
    tool.input += what.tool.more ?? "";
  }
  if (what.usage) said.usage = what.usage.map((count, n) => count ?? said.usage?.[n] ?? null);
  if (what.finish) said.finish = what.finish;
  if (what.error) said.error = what.error;
}

function messageOf(text) {
  try {
    const told = JSON.parse(text);
    return (told.error ?? told[0]?.error)?.message;
  } catch {
    return undefined;
  }
}

// A picture is many lines of base64 that nobody reads.
function shorten(name, value) {
  return typeof value === "string" && value.length > 2000 ? value.slice(0, 80) + `… (${value.length})` : value;
}

function sendOnEnter(event) {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    event.target.form.requestSubmit();
  }
}

function readPicture(event, setPicture, setError) {
  const [file] = event.target.files;
  if (!file) return;
  if (file.size > MOST_PICTURE) {
    setError(t("play.large_picture"));
    return;
  }
  const reader = new FileReader();
  reader.onload = () => setPicture(reader.result);
  reader.readAsDataURL(file);
  event.target.value = "";
}

function Turn({ turn }) {
  const tools = Object.values(turn.tools ?? {});
  const facts = [
    turn.first && t("play.first", { ms: ms(turn.first) }), turn.total && ms(turn.total),
    turn.usage && `${number(turn.usage[0])} → ${number(turn.usage[1])} ${t("tokens.tokens")}`, turn.finish,
  ].filter(Boolean);
  return html`<article class="turn ${turn.role}">
    <h3>${t("play." + turn.role)}</h3>
    ${turn.picture && html`<img class="picture" src=${turn.picture} alt=${t("play.picture")} />`}
    ${turn.thinking && html`<details><summary>${t("play.thinking")}</summary><p class="text">${turn.thinking}</p></details>`}
    ${turn.text && html`<p class="text">${turn.text}</p>`}
    ${tools.map(tool => html`<p class="tool"><b>${tool.name}</b> <code>${tool.input}</code></p>`)}
    ${turn.error && html`<p class="problem">${turn.error}</p>`}
    ${turn.isStopped && html`<p class="empty">${t("play.stopped")}</p>`}
    ${turn.role === "assistant" && html`<footer><small>${facts.join(" · ")}${turn.request_id && turn.total ? html` · <a href="#/calls/${encodeURIComponent(turn.request_id)}">${t("play.trail")}</a>` : null}</small></footer>`}
  </article>`;
}
