// Preact and htm under one name. Components write: html`<p class=${name}>${text}</p>`.
import { h, render } from "./vendor/preact.mjs";
import htm from "./vendor/htm.mjs";

export const html = htm.bind(h);
export { render };
export { useEffect, useErrorBoundary, useMemo, useRef, useState } from "./vendor/preact-hooks.mjs";
