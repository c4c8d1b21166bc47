"""ChatGPT web's errors as the gateway's.

Upstream bodies are `{"detail": text | object | list}`, a web page, or rarely OpenAI's own shape.
Source: public clients of chatgpt.com.
"""

import re
from typing import Any

import msgspec

from app.wire.errors import GatewayError, bad_response
from app.wire.retry_after import retry_after_header
from app.wire.upstream import UpstreamReply

_FINAL = (("x-should-retry", "false"),)
_GONE_TOKEN = frozenset(
    ("token_expired", "token_invalidated", "invalid_jwt", "token_revoked", "invalid_api_key")
)
_NO_CONVERSATION = frozenset(
    (
        "conversation_not_found",
        "history_disabled_conversation_not_found",
        "history_disabled_conversation_expired",
        "conversation_deleted",
        "conversation_inaccessible",
    )
)
_TOO_LONG = frozenset(("message_length_exceeds_limit", "conversation_too_large", "input_too_large"))
_CONVERSATION = "openai.conversation.conversation_id"
_CHALLENGE = re.compile(
    rb"just a moment|cf_chl_opt|cf-please-wait|attention required! \| cloudflare", re.IGNORECASE
)
# The status that the text of an error inside a 200 stands for; it seldom has a code.
_WORDS = (
    (re.compile(r"reached (?:our|your|the) (?:\w+ )?limit|hit (?:the|your) .{0,40}limit"), 429),
    (re.compile(r"too many (?:requests|messages)"), 429),
    (re.compile(r"unusual activity"), 403),
    (re.compile(r"message you submitted was too long"), 413),
    (re.compile(r"authentication token has expired"), 401),
)
_any = msgspec.json.Decoder()


def challenge() -> GatewayError:
    """The error for a Cloudflare challenge page, which only a browser can pass."""
    return GatewayError(
        403,
        "chatgpt.com answered with a challenge page instead of data: it does not trust this "
        "address. Use another address (openai.proxy_url), or a HAR with fresh cookies.",
        type="upstream_challenge",
        code="cloudflare_challenge",
        headers=_FINAL,
        outcome="upstream_challenge",
    )


def is_challenge(reply: UpstreamReply) -> bool:
    """Whether a reply is a Cloudflare challenge: by its header, else by the words of the page."""
    if reply.headers.get("cf-mitigated", "").lower() == "challenge":
        return True
    return "json" not in reply.headers.get("content-type", "") and bool(
        _CHALLENGE.search(reply.body[:65536])
    )


def web_page(body: bytes) -> GatewayError:
    """The error for a web page with status 200 in place of data."""
    if _CHALLENGE.search(body):
        return challenge()
    return bad_response("chatgpt.com answered with a web page; check openai.chat_web_url.")


def arkose_required() -> GatewayError:
    """The error when the site wants an Arkose token and there is none."""
    return GatewayError(
        403,
        "chatgpt.com wants an Arkose token for this model and account. Send one in "
        "openai.arkose_token, or put a HAR that holds a fresh one into hars_path.",
        type="captcha_required",
        code="arkose_token_required",
        param="openai.arkose_token",
        headers=_FINAL,
    )


def turnstile_required() -> GatewayError:
    """The error when the site insists on a Turnstile answer."""
    return GatewayError(
        403,
        "chatgpt.com insists on a Turnstile answer, which only a browser can give. Try later, "
        "with another account, or from another address (openai.proxy_url).",
        type="captcha_required",
        code="turnstile_required",
        headers=_FINAL,
    )


def login_required() -> GatewayError:
    """The error when the site takes no anonymous questions from this address."""
    return GatewayError(
        403,
        "chatgpt.com refuses questions without an account from this address. Configure "
        "openai.web_sessions or hars_path, or send an access token in the Authorization header.",
        type="invalid_request_error",
        code="login_required",
        headers=_FINAL,
    )


def token_expired(code: str = "token_expired") -> GatewayError:
    """The error for an expired or refused access token; `code` is the site's own."""
    return GatewayError(
        401,
        "The ChatGPT session's access token has expired or was not accepted; sign in again in a "
        "browser and take a new token, or a new HAR.",
        type="invalid_request_error",
        code=code,
    )


def proof_failed(what: str) -> GatewayError:
    """The error when the proof of work was not found; `what` says why."""
    return GatewayError(
        503, f"The proof of work was not done: {what}.", code="proof_of_work_failed"
    )


def read_error(reply: UpstreamReply, anonymous: bool = False) -> GatewayError:
    """What a reply with an error status means for the caller."""
    status = reply.status
    if 300 <= status < 400:
        return GatewayError(
            502,
            "chatgpt.com redirects; set the address it really has in openai.chat_web_url.",
            code="upstream_redirect",
        )
    if is_challenge(reply):
        return challenge()
    detail = _detail(reply.body)
    if isinstance(detail, list):
        return _invalid(detail)
    code, text, clears_in = "", "", None
    if isinstance(detail, dict):
        code = str(detail.get("code") or "")
        text = str(detail.get("message") or "")
        clears_in = _number(detail.get("clears_in"))
    elif isinstance(detail, str):
        text = detail
    retry_after = clears_in if clears_in is not None else retry_after_header(reply.headers)
    return refusal(status, code, text, retry_after, anonymous)


def refusal(
    status: int,
    code: str = "",
    text: str = "",
    retry_after: float | None = None,
    anonymous: bool = False,
) -> GatewayError:
    """The error for a refusal before or inside the stream; `status` is 200 for the latter.

    `code` and `text` are the site's own, "" for none. `retry_after` is in seconds.
    """
    lower = text.lower()
    if status == 200:
        status = next((meant for words, meant in _WORDS if words.search(lower)), 200)
    if code in _NO_CONVERSATION or "can't load conversation" in lower:
        return GatewayError(
            404,
            text or "This conversation does not exist for this account.",
            code=code if code in _NO_CONVERSATION else "conversation_not_found",
            param=_CONVERSATION,
        )
    if code in _TOO_LONG or status == 413:
        return GatewayError(400, text or "The message is too long.", code="context_length_exceeded")
    if "only one message at a time" in lower:
        return GatewayError(429, text, code="concurrent_request", retry_after=retry_after or 60)
    if status == 401 and anonymous:
        return GatewayError(
            502,
            "chatgpt.com refused a question without an account" + (f": {text}" if text else "."),
            type="upstream_error",
            code="upstream_rejected",
        )
    if status == 401 or code in _GONE_TOKEN:
        return token_expired(code or "token_expired")
    if status == 429 or code == "model_cap_exceeded":
        return GatewayError(
            429,
            text or "Too many requests; try again later.",
            code=code or "rate_limit_exceeded",
            retry_after=retry_after,
        )
    return _by_status(status, code, text)


def _by_status(status: int, code: str, text: str) -> GatewayError:
    """The error for a refusal of which only the status tells the kind."""
    if status == 403:
        unusual = "unusual activity" in text.lower()
        return GatewayError(
            403,
            text or "chatgpt.com refused the question.",
            code=code or ("unusual_activity" if unusual else "upstream_refused"),
            headers=_FINAL,
        )
    if status == 404:
        return GatewayError(
            404,
            text or "chatgpt.com knows no such model or conversation.",
            code=code or "model_not_found",
            param=None if code else "model",
        )
    if 400 <= status < 500:
        return GatewayError(status, text or f"HTTP {status}.", code=code or None)
    return GatewayError(
        502,
        text or f"chatgpt.com failed (HTTP {status}).",
        type="upstream_error" if status == 200 else "server_error",
        code=code or "upstream_error",
        outcome="upstream_error",
    )


def in_stream(error: Any, code: str | None) -> GatewayError:
    """The error for the `error` member of a 200 answer: text, or an object."""
    if isinstance(error, dict):
        code = str(error.get("code") or code or "")
        text = str(error.get("message") or "")
        return refusal(200, code, text, _number(error.get("clears_in")))
    return refusal(200, code or "", str(error))


def in_json(body: bytes) -> GatewayError:
    """The error for a 200 in JSON that is neither a stream nor the address of one."""
    detail = _detail(body)
    if isinstance(detail, dict):
        return in_stream(detail, None)
    if isinstance(detail, str):
        return refusal(200, "", detail)
    return bad_response("chatgpt.com answered with JSON that is neither an answer nor an error.")


def _invalid(detail: list[Any]) -> GatewayError:
    first = detail[0] if detail and isinstance(detail[0], dict) else {}
    place = first.get("loc")
    where = [str(part) for part in place if part != "body"] if isinstance(place, list) else []
    return GatewayError(
        400,
        str(first.get("msg") or "chatgpt.com refused the request's shape."),
        code="invalid_parameter",
        param=".".join(where) or None,
    )


def _detail(body: bytes) -> Any:
    try:
        found = _any.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    return found.get("detail", found.get("error"))


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < 1e7 else None
