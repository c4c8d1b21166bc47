// The console: who is signed in, which view is shown, and what is wrong above all views.
import { ask, whenSignedOut } from "./api.js";
import { clock } from "./format.js";
import { connect, disconnect, live, useLive } from "./live.js";
import { troubles } from "./troubles.js";
import { html, render, useEffect, useErrorBoundary, useRef, useState } from "./ui.js";
import { Calls } from "./views/calls.js";
import { Config } from "./views/config.js";
import { Keys } from "./views/keys.js";
import { Now } from "./views/now.js";
import { Playground } from "./views/playground.js";
import { SignIn } from "./views/sign_in.js";
import { Tokens } from "./views/tokens.js";
import { language, setLanguage, t } from "./words.js";

const VIEWS = { now: Now, keys: Keys, calls: Calls, tokens: Tokens, playground: Playground, config: Config };
const THEMES = ["auto", "light", "dark"];
const DARK = matchMedia("(prefers-color-scheme: dark)");
const THEME_KEPT = "any-proxy.theme";

// #/calls/ID -> ["calls", "ID"]
function place() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  return [VIEWS[name] ? name : "now", decoded(rest.join("/"))];
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // written by hand
  }
}

function App() {
  const [session, setSession] = useState(null);
  const [error, setError] = useState("");
  const [[view, detail], setPlace] = useState(place());
  const [theme, setTheme] = useState(localStorage.getItem(THEME_KEPT) ?? "auto");
  const [, draw] = useState(language);

  const look = async () => {
    try {
      setSession(await ask("session"));
      setError("");
    } catch (failure) {
      setError(failure.message);
    }
  };
  useEffect(() => {
    const move = () => setPlace(place());
    const redraw = () => draw({}); // the plots are not drawn by CSS
    addEventListener("hashchange", move);
    DARK.addEventListener("change", redraw);
    whenSignedOut(() => setSession(known => ({ ...known, signed_in: false })));
    look();
    return () => {
      removeEventListener("hashchange", move);
      DARK.removeEventListener("change", redraw);
    };
  }, []);
  const isSignedIn = session?.signed_in;
  useEffect(() => {
    if (isSignedIn) connect();
    return disconnect;
  }, [isSignedIn]);
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem(THEME_KEPT, theme);
  }, [theme]);

  const speak = name => {
    setLanguage(name);
    draw(name);
  };
  const signOut = async () => {
    await ask("session", { method: "DELETE" });
    look();
  };
  const frame = { language, speak, theme, setTheme };
  if (!session) return html`<main class="door"><h1>any-proxy</h1><p role="status">${error || t("connecting")}</p></main>`;
  if (!isSignedIn) return html`<${SignIn} done=${look} settings=${html`<${Settings} ...${frame} />`} />`;
  return html`<${Frame} ...${frame} view=${view} detail=${detail} session=${session} signOut=${session.needs_token && signOut} />`;
}

function Frame({ view, detail, session, signOut, theme, setTheme, speak }) {
  const heading = useRef(null);
  const isFirst = useRef(true);
  useEffect(() => {
    document.title = `${t("view." + view)} · any-proxy`;
    if (!isFirst.current) heading.current.focus(); // a screen reader hears where it is
    isFirst.current = false;
  }, [view, detail, language]);
  const View = VIEWS[view];
  const skip = event => {
    event.preventDefault(); // the address names the view
    heading.current.focus();
  };
  return html`
    <a class="skip" href="#main" onClick=${skip}>${t("skip")}</a>
    <header class="bar">
      <a class="brand" href="#/now">any-proxy</a>
      <nav aria-label=${t("nav")}>
        ${Object.keys(VIEWS).map(name => html`<a href="#/${name}" aria-current=${name === view ? "page" : undefined}>${t("view." + name)}</a>`)}
      </nav>
      <div class="settings">
        <${Settings} language=${language} speak=${speak} theme=${theme} setTheme=${setTheme} />
        ${signOut && html`<button type="button" onClick=${signOut}>${t("sign_out")}</button>`}
      </div>
    </header>
    <main id="main">
      <${Top} />
      <h1 tabindex="-1" ref=${heading}>${t("view." + view)}</h1>
      <${Guard} key=${view}><${View} detail=${detail} theme=${theme + DARK.matches} language=${language} /></${Guard}>
    </main>
    <footer><small>any-proxy ${session.version}</small></footer>`;
}

// What is wrong, in words; and that the figures are old, when they are.
function Top() {
  useLive();
  useEffect(() => {
    document.body.classList.toggle("old", Boolean(live.seen) && !live.isConnected);
  });
  const found = live.isConnected ? troubles() : [];
  const isOld = live.seen && !live.isConnected;
  return html`<section class="top" aria-label=${t("state")}>
    <div role="alert">${isOld ? html`<p class="gone">${t("gone", { time: clock(live.seen) })}</p>` : null}</div>
    <div role="status"><ul class="troubles">
      ${found.map(each => html`<li key=${each.text} class=${each.level}><a href="#/${each.view}">${each.text}</a></li>`)}
      ${live.isConnected && !found.some(each => each.level !== "note") ? html`<li class="good">${t("all_well")}</li>` : null}
    </ul></div>
  </section>`;
}

// A fault in one view leaves the others usable.
function Guard({ children }) {
  const [error, again] = useErrorBoundary();
  if (!error) return children;
  return html`<p class="problem" role="alert">${t("view_failed", { why: String(error) })} <button type="button" onClick=${again}>${t("again")}</button></p>`;
}

function Settings({ speak, theme, setTheme }) {
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  return html`
    <button type="button" lang=${language === "zh" ? "en" : "zh-CN"} onClick=${() => speak(language === "zh" ? "en" : "zh")}>${language === "zh" ? "English" : "中文"}</button>
    <button type="button" aria-label=${t("theme", { name: t("theme." + theme) })} title=${t("theme", { name: t("theme." + theme) })} onClick=${() => setTheme(next)}>${{ auto: "◐", light: "☀", dark: "☾" }[theme]}</button>`;
}

render(html`<${App} />`, document.getElementById("app"));
