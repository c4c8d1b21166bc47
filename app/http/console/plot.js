// A plot over time, drawn by uPlot in the colours of the page, with its legend as a list.
import { html, useEffect, useRef, useState } from "./ui.js";
import { language } from "./words.js";

/* global uPlot */
const COLORS = 8;
const HEIGHT = 170;

const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Where a value stands between two that are missing: no line leads to it, so it is a point.
function lonely(plot, series) {
  const values = plot.data[series];
  const isThere = n => typeof values[n] === "number";
  return values.flatMap((_, n) => (isThere(n) && !isThere(n - 1) && !isThere(n + 1) ? [n] : []));
}

// `lines`: {label, values}, a number or null per time. `format` writes a value.
export function Plot({ title, times, lines, format, theme }) {
  const box = useRef(null);
  const plot = useRef(null);
  const [at, setAt] = useState(null);
  const labels = lines.map(line => line.label).join("\n");

  useEffect(() => {
    const element = box.current;
    const axis = { stroke: color("--dim"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const names = language === "zh" ? "zh-CN" : "en-GB";
    const hour = new Intl.DateTimeFormat(names, { hour: "2-digit", minute: "2-digit" });
    const day = new Intl.DateTimeFormat(names, { month: "short", day: "numeric" });
    const made = new uPlot({
      width: element.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [
        { ...axis, size: 30, values: (_, marks, __, ___, step) => marks.map(mark => (step >= 86400 ? day : hour).format(mark * 1000)) },
        { ...axis, size: 62, values: (_, marks) => marks.map(format) },
      ],
      series: [{}, ...lines.map((line, n) => ({
        label: line.label,
        stroke: color(`--plot${n % COLORS}`),
        width: 1.75,
        fill: lines.length === 1 ? color("--plot0") + "22" : undefined,
        points: { show: false, size: 5, fill: color(`--plot${n % COLORS}`), filter: lonely },
        spanGaps: false,
      }))],
      hooks: { setCursor: [it => setAt(it.cursor.idx ?? null)] },
    }, [times, ...lines.map(line => line.values)], element);
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    watch.observe(element);
    return () => {
      watch.disconnect();
      made.destroy();
    };
  }, [labels, theme, language]);

  useEffect(() => plot.current.setData([times, ...lines.map(line => line.values)]), [times, lines]);

  const shown = at ?? times.length - 1;
  const told = lines.map(line => `${line.label}: ${format(line.values[shown])}`).join(", ");
  return html`<figure class="plot">
    <figcaption>${title}</figcaption>
    <div ref=${box} role="img" aria-label="${title}. ${told}"></div>
    <ul class="legend" aria-hidden="true">
      ${lines.map((line, n) => html`<li><i class="plot${n % COLORS}"></i>${line.label} <b>${format(line.values[shown])}</b></li>`)}
    </ul>
  </figure>`;
}
