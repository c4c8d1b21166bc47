"""One web session of claude.ai: its headers and cookies, and requests that bear them.

Source: public clients and captures of claude.ai.
"""

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from app.config.schema import Config
from app.wire.cookies import after_set_cookie, read_cookie
from app.wire.errors import bad_response
from app.wire.provider import Call, Key, Upstream
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest, join_url
from providers.claude import web_errors

T = TypeVar("T")


def session_cookie(key: Key) -> str:
    """The Cookie header of a session, with the other cookies that the site has set."""
    return after_set_cookie(key.fields.get("cookies", ""), [f"sessionKey={key.val}"], 0)


def browser_headers(config: Config, cookies: str, referer: str = "/new") -> Headers:
    """The headers of the web app's own script; the browser client adds those of a browser."""
    origin = config.claude.web_url.rstrip("/")
    return [
        ("Accept", "*/*"),
        ("Origin", origin),
        ("Referer", origin + referer),
        ("anthropic-client-platform", "web_claude_ai"),
        ("Cookie", cookies),
    ]


def proxy(config: Config) -> str | None:
    """The proxy for requests to the site; None for a direct connection."""
    return config.claude.proxy_url or config.proxy_url or None


def renewed(key: Key, set_cookies: list[str], now: int) -> Key | None:
    """The session after an answer that rotated its cookie; None when nothing changed."""
    for line in reversed(set_cookies):
        cookie = read_cookie(line, now)
        if cookie is None or cookie.name != "sessionKey":
            continue
        if not cookie.value or cookie.expires == 0 or cookie.value == key.val:
            return None
        fields = {**key.fields, "expires": str(cookie.expires or "")}
        return Key(key.pool, key.id, cookie.value, fields)
    return None


class SessionClient(Struct):
    """Sends requests as one session and keeps the cookies that the replies set."""

    call: Call
    upstream: Upstream
    cookies: str

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> UpstreamReply:
        """Sends one request; a session cookie that the reply renews is taken over."""
        call = self.call
        headers = browser_headers(call.config, self.cookies)
        if body is not None:
            headers.append(("Content-Type", content_type))
        reply = await self.upstream.send(
            UpstreamRequest(
                method=method,
                url=join_url(call.config.claude.web_url, path),
                headers=headers,
                body=body,
                via="browser",
                proxy=proxy(call.config),
            )
        )
        self.cookies = after_set_cookie(self.cookies, reply.set_cookies, call.now)
        key = renewed(call.key, reply.set_cookies, call.now)
        if key is not None:
            await self.use(key)
        return reply

    async def use(self, key: Key) -> None:
        """Goes on with a changed key; a pooled one is renewed in every worker."""
        self.call = msgspec.structs.replace(self.call, key=key)
        if key.id:
            await self.upstream.renew(key)

    async def request(self, method: str, path: str, body: Any, shape: type[T]) -> T:
        """Sends a JSON body; the reply's JSON, decoded as `shape`. Raises as `expect` does."""
        encoded = None if body is None else msgspec.json.encode(body)
        return self.expect(await self.send(method, path, encoded), shape)

    def expect(self, reply: UpstreamReply, shape: type[T]) -> T:
        """The JSON of a reply, decoded as `shape`. Raises GatewayError for a refusal."""
        if not 200 <= reply.status < 300 or web_errors.is_challenge(reply):
            raise web_errors.read_error(reply, self.call.now)
        return _decoded(reply, shape)


def _decoded(reply: UpstreamReply, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(reply.body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad_response("claude.ai's answer is not what was due.") from None
