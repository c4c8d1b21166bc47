"""One web session of ChatGPT: its browser's headers and device id, and requests that bear them.

Source: public clients of chatgpt.com.
"""

import hashlib
import uuid
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from app.config.schema import Config
from app.wire.cookies import after_set_cookie, cookie_header, read_cookie_header
from app.wire.errors import bad_response
from app.wire.provider import Call, Key, Upstream
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest, join_url
from providers.openai import web_errors
from providers.openai.web_question import WebQuestion

T = TypeVar("T")

# The browser client's own (a test compares): the proof of work must name the one that is sent.
USER_AGENT = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/150.0.0.0 Safari/537.36"
)


def device_id(call: Call) -> str:
    """The device id, a UUID: one per session, or per conversation without an account."""
    key = call.key
    if key.fields.get("device_id"):
        return key.fields["device_id"]
    if key.val:
        return device_of(key)
    held: str | None = call.chat.state.device_id if isinstance(call.chat, WebQuestion) else None
    try:
        return str(uuid.UUID(held or ""))
    except ValueError:
        if call.learned is not None:
            found: str = call.learned.device_id
            return found
        return str(uuid.UUID(hex=call.new_id()))


def device_of(key: Key) -> str:
    """A device id derived from the session, so that every worker sends the same one."""
    name = f"{key.pool}/{key.id}" if key.id else key.val
    digest = hashlib.sha256(b"device\n" + name.encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def user_agent(key: Key) -> str:
    """The User-Agent of the session's own browser, else that of the imitated one."""
    return key.fields.get("user_agent") or USER_AGENT


def origin(config: Config) -> str:
    """The site's address without a slash at the end."""
    return config.openai.chat_web_url.rstrip("/")


def proxy(config: Config) -> str | None:
    """The proxy for requests to the site; None for a direct connection."""
    return config.openai.proxy_url or config.proxy_url or None


def browser_headers(key: Key, config: Config, device_id: str, cookies: str) -> Headers:
    """The headers that the site's own script sends with every request."""
    headers: Headers = [
        ("Accept", "*/*"),
        ("Accept-Language", key.fields.get("accept_language") or "en-US,en;q=0.9"),
        ("Origin", origin(config)),
        ("Referer", origin(config) + "/"),
        ("User-Agent", user_agent(key)),
        ("OAI-Language", key.fields.get("oai_language") or "en-US"),
        ("OAI-Device-Id", device_id),
    ]
    for name in ("sec-ch-ua", "sec-ch-ua-mobile", "sec-ch-ua-platform"):
        if key.fields.get(name):
            headers.append((name, key.fields[name]))
    if key.val:
        headers.append(("Authorization", f"Bearer {key.val}"))
    if key.fields.get("account_id"):
        headers.append(("ChatGPT-Account-Id", key.fields["account_id"]))
    jar = read_cookie_header(cookies)
    jar.setdefault("oai-did", device_id)
    headers.append(("Cookie", cookie_header(jar)))
    return headers


def backend(key: Key) -> str:
    """The path prefix of the backend, which differs for requests without an account."""
    return "/backend-api" if key.val else "/backend-anon"


class SessionClient(Struct):
    """Sends requests as one session and keeps the cookies that the replies set."""

    call: Call
    upstream: Upstream
    device_id: str
    cookies: str

    async def send(self, method: str, path: str, body: Any = None) -> UpstreamReply:
        """Sends a request with a JSON body."""
        call = self.call
        headers = browser_headers(call.key, call.config, self.device_id, self.cookies)
        if body is not None:
            headers.append(("Content-Type", "application/json"))
        reply = await self.upstream.send(
            UpstreamRequest(
                method=method,
                url=join_url(call.config.openai.chat_web_url, path),
                headers=headers,
                body=None if body is None else msgspec.json.encode(body),
                via="browser",
                proxy=proxy(call.config),
            )
        )
        self.cookies = after_set_cookie(self.cookies, reply.set_cookies, call.now)
        return reply

    async def request(self, method: str, path: str, body: Any, shape: type[T]) -> T:
        """The reply's JSON, decoded as `shape`. Raises GatewayError for a refusal."""
        reply = await self.send(method, path, body)
        if not 200 <= reply.status < 300 or web_errors.is_challenge(reply):
            raise web_errors.read_error(reply, anonymous=not self.call.key.val)
        try:
            return msgspec.json.decode(reply.body, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise bad_response(f"chatgpt.com's answer to {path} is not what was due.") from None


def session_request(config: Config, key: Key, path: str) -> UpstreamRequest:
    """A GET of `path` as this session's browser sends it."""
    device = key.fields.get("device_id") or device_of(key)
    return UpstreamRequest(
        method="GET",
        url=join_url(config.openai.chat_web_url, path),
        headers=browser_headers(key, config, device, key.fields.get("cookies", "")),
        via="browser",
        proxy=proxy(config),
    )
