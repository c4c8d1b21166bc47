// How the gateway is doing: figures of the last minute, and plots of the ledger.
import { ask } from "../api.js";
import { ms, number, percent, rate, short } from "../format.js";
import { live, recent, useLive } from "../live.js";
import { Badge, Choice, Problem, Table } from "../parts.js";
import { Plot } from "../plot.js";
import { html, useEffect, useMemo, useState } from "../ui.js";
import { t, word } from "../words.js";

const SPANS = ["15m", "1d", "30d"];
const GROUPS = ["all", "provider", "model", "token"];
const REFRESH_SECONDS = { "15m": 5, "1d": 60, "30d": 300 };

export function Now({ theme, language }) {
  return html`<${Tiles} /><${Plots} theme=${theme} language=${language} /><${Workers} />`;
}

function Tiles() {
  useLive();
  if (!live.figures) return html`<p class="empty">${t("waiting")}</p>`;
  const last = recent(60);
  const tiles = [
    ["requests", rate(last.callsPerSecond), t("now.per_second")],
    ["streams", number(live.figures.open_streams), t("now.open_calls", { n: number(live.figures.open_calls) })],
    ["tokens", rate(last.tokensPerSecond), t("now.per_second")],
    ["p50", ms(last.p50), t("now.first_event")],
    ["p95", ms(last.p95), t("now.first_event")],
    ["errors", percent(last.errorRate), t("now.of_calls", { n: number(last.failed), of: number(last.calls) })],
  ];
  return html`<dl class="tiles" aria-label=${t("now.minute")}>
    ${tiles.map(([name, figure, more]) => html`<div class=${name === "errors" && last.errorRate > 0.05 ? "tile bad" : "tile"}>
      <dt>${t("now." + name)}</dt><dd><b>${figure}</b> <small>${more}</small></dd>
    </div>`)}
  </dl>`;
}

function Plots({ theme, language }) {
  const [span, setSpan] = useState("15m");
  const [by, setBy] = useState("all");
  const [told, setTold] = useState(null);
  const [error, setError] = useState("");
  useEffect(() => {
    let isGone = false;
    const look = async () => {
      try {
        const found = await ask(`series?span=${span}&by=${by}`);
        if (!isGone) setTold({ ...found, span, by });
        setError("");
      } catch (refusal) {
        setError(refusal.message);
      }
    };
    look();
    const timer = setInterval(look, REFRESH_SECONDS[span] * 1000);
    return () => {
      isGone = true;
      clearInterval(timer);
    };
  }, [span, by]);
  return html`<section aria-labelledby="plots">
    <div class="head">
      <h2 id="plots">${t("now.plots")}</h2>
      <${Choice} label=${t("now.span")} value=${span} onChange=${setSpan} options=${SPANS.map(name => [name, t("span." + name)])} />
      <${Choice} label=${t("now.by")} value=${by} onChange=${setBy} options=${GROUPS.map(name => [name, t("by." + name)])} />
    </div>
    <${Problem} error=${error} />
    ${told && (told.lines.length ? html`<${Grid} told=${told} theme=${theme} language=${language} />` : html`<p class="empty">${t("now.no_calls")}</p>`)}
  </section>`;
}

function Grid({ told, theme, language }) {
  const plots = useMemo(() => {
    const isDays = told.span === "30d";
    const divide = isDays ? 1 : told.seconds;
    const named = pick => told.lines.map(line => ({ label: line.name || t(told.by === "all" ? "by.all" : "none"), values: pick(line) }));
    const last = told.lines[0].calls.length - 1;
    const each = (line, what) => line[what].map((value, n) => value / (n === last && !isDays ? told.last_seconds : divide));
    const per = isDays ? t("per_day") : t("per_second");
    const first = told.by === "all"
      ? told.lines.flatMap(line => [{ label: "p50", values: line.p50_ms }, { label: "p95", values: line.p95_ms }])
      : named(line => line.p95_ms);
    const failed = named(line => line.calls.map((calls, n) => (calls ? line.failed[n] / calls : null)));
    const found = [
      { title: `${t("now.requests")} ${per}`, lines: named(line => each(line, "calls")), format: isDays ? short : rate },
      { title: `${t("now.tokens")} ${per}`, lines: named(line => each(line, "tokens")), format: short },
      { title: t("now.errors"), lines: failed, format: percent },
    ];
    if (!isDays) {
      found.splice(1, 0, { title: `${t("now.streams_begun")} ${per}`, lines: named(line => each(line, "streams")), format: rate });
      found.push({ title: told.by === "all" ? t("now.first") : t("now.first_p95"), lines: first, format: ms });
    }
    return found;
  }, [told, language]);
  const times = useMemo(() => told.lines[0].calls.map((_, n) => told.start + n * told.seconds), [told]);
  return html`<div class="plots">
    ${plots.map(plot => html`<${Plot} key=${plot.title + told.span + told.by} ...${plot} times=${times} theme=${theme} />`)}
  </div>`;
}

function Workers() {
  useLive();
  const columns = [
    { head: t("worker.name"), cell: worker => worker.name || worker.pid },
    { head: "pid", isNumber: true, cell: worker => worker.pid },
    { head: t("state"), cell: worker => html`<${Badge} kind=${worker.state === "serving" ? "good" : "mid"}>${word(worker.state)}</${Badge}>` },
    { head: t("worker.restarts"), isNumber: true, cell: worker => worker.restarts },
    { head: t("worker.calls"), isNumber: true, cell: worker => worker.open_calls },
    { head: t("worker.streams"), isNumber: true, cell: worker => worker.open_streams },
  ];
  return html`<section aria-labelledby="workers">
    <h2 id="workers">${t("now.workers")}</h2>
    <${Table} caption=${t("now.workers")} columns=${columns} rows=${live.figures?.workers ?? []} rowKey=${worker => worker.pid} />
  </section>`;
}
