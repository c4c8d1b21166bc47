// The words of the page in the reader's language. A table per language; tests compare their keys.
import en from "./words/en.js";
import zh from "./words/zh.js";

const TABLES = { en, zh };
const KEPT = "any-proxy.language";

function preferred() {
  const kept = localStorage.getItem(KEPT);
  if (TABLES[kept]) return kept;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export let language = preferred();
document.documentElement.lang = language === "zh" ? "zh-CN" : "en";

export function setLanguage(name) {
  language = name;
  localStorage.setItem(KEPT, name);
  document.documentElement.lang = name === "zh" ? "zh-CN" : "en";
}

// `{name}` in a text is replaced by the value of that name.
export function t(key, values = {}) {
  const text = TABLES[language][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

// The gateway's own words (states, reasons, outcomes): translated where the table has them.
export function word(text) {
  return TABLES[language]["word." + text] ?? text;
}
