// Numbers, times and money as the reader's language writes them.
import { language, t } from "./words.js";

const locale = () => (language === "zh" ? "zh-CN" : "en-GB");

export function number(value, digits = 0) {
  if (value === null || value === undefined) return "–";
  return value.toLocaleString(locale(), { maximumFractionDigits: digits });
}

export function short(value) {
  if (value === null || value === undefined) return "–";
  return value.toLocaleString(locale(), { notation: "compact", maximumFractionDigits: 1 });
}

export function rate(value) {
  if (value === null || value === undefined) return "–";
  return number(value, value < 10 ? 2 : value < 100 ? 1 : 0);
}

export function percent(part) {
  if (part === null || part === undefined) return "–";
  return part.toLocaleString(locale(), { style: "percent", maximumFractionDigits: 1 });
}

export function ms(value) {
  if (value === null || value === undefined) return "–";
  return value < 1000 ? `${number(value)} ms` : `${number(value / 1000, value < 10000 ? 2 : 1)} s`;
}

export function usd(value) {
  if (value === null || value === undefined) return "–";
  return "$" + value.toLocaleString(locale(), { maximumSignificantDigits: value < 1 ? 3 : 6 });
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString(locale(), { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

// The time of day, with the day where it is another one.
export function moment(seconds) {
  const at = new Date(seconds * 1000);
  const time = at.toLocaleTimeString(locale(), { hour: "2-digit", minute: "2-digit" });
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? time : at.toLocaleDateString(locale(), { month: "short", day: "numeric" }) + " " + time;
}

export function left(seconds) {
  if (seconds < 0) return t("time.over");
  if (seconds < 120) return t("time.seconds", { n: Math.ceil(seconds) });
  if (seconds < 7200) return t("time.minutes", { n: Math.round(seconds / 60) });
  if (seconds < 172800) return t("time.hours", { n: Math.round(seconds / 3600) });
  return t("time.days", { n: Math.round(seconds / 86400) });
}
