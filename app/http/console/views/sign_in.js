// Sign-in by admin.token. The token goes to the gateway once and is kept nowhere in the browser:
// what stays is a cookie that no script can read.
import { ask } from "../api.js";
import { Problem } from "../parts.js";
import { html, useState } from "../ui.js";
import { t } from "../words.js";

export function SignIn({ done, settings }) {
  const [token, setToken] = useState("");
  const [error, setError] = useState("");
  const send = async event => {
    event.preventDefault();
    try {
      await ask("session", { method: "POST", body: { token } });
      setToken("");
      await done();
    } catch (refusal) {
      setError(refusal.status === 401 ? t("sign_in.wrong") : refusal.message);
    }
  };
  return html`<main class="door">
    <h1>any-proxy</h1>
    <p>${t("sign_in.what")}</p>
    <form onSubmit=${send}>
      <label for="token">admin.token</label>
      <input id="token" type="password" autocomplete="current-password" required value=${token} onInput=${event => setToken(event.target.value)} />
      <button class="main" type="submit">${t("sign_in")}</button>
    </form>
    <${Problem} error=${error} />
    <p class="settings">${settings}</p>
  </main>`;
}
