"""Parses the error bodies of OpenAI-compatible servers, of whatever shape.

OpenAI's own is `{"error": {"message", "type", "param", "code"}}`. Others give the code as a number,
the error as a text, its members at the top, FastAPI's `detail`, a list, or no JSON at all.
"""

import re
from typing import Any

import msgspec
from msgspec import Struct

from app.wire.errors import GatewayError, bad_response
from app.wire.surrogates import mend

_MAX_TEXT = 300
# The operator's account, as upstreams name it to whoever asks with its key.
_ACCOUNT = re.compile(
    r"(?<=for account )'[^']*'"
    r"|(?<=\bteam[ /])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|(?<![\w-])(?:org|proj|user|acct|ak)[-_][A-Za-z0-9]{10,}"
)
_PAGE = re.compile(rb"\s*<")


class Refusal(Struct):
    """The members of an error; `message` is "" if none could be read."""

    message: str = ""
    type: str = ""
    code: str | None = None
    param: str | None = None
    is_strict: bool = False  # the body is in OpenAI's own shape
    more: dict[str, Any] = {}  # further members of the error object

    def body(self, message: str, type: str) -> bytes:
        """The JSON body in OpenAI's shape, with another message and type."""
        strict = {"message": message, "type": type, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": {**strict, **self.more}})


def read_refusal(body: bytes) -> Refusal:
    """Parses a whole body: JSON of any known shape, or plain text. A web page has no message."""
    try:
        value = msgspec.json.decode(mend(body))
    except (msgspec.DecodeError, ValueError, RecursionError):
        text = body[: 4 * _MAX_TEXT].decode("utf-8", "replace").strip()
        is_text = not _PAGE.match(body) and text[:1] not in ("{", "[", '"', "\ufffd")
        return Refusal(text[:_MAX_TEXT] if is_text else "")
    return of_value(value, is_body=True)


def of_value(value: Any, *, is_body: bool = False) -> Refusal:
    """Reads decoded JSON: an error object, the object around one, a text, or a list of them."""
    if isinstance(value, list):
        return of_value(value[0]) if value else Refusal()
    if isinstance(value, str):
        return Refusal(value[: 16 * _MAX_TEXT])
    if not isinstance(value, dict):
        return Refusal()
    error = value.get("error")
    if isinstance(error, dict):
        found = _of_object(error)
        is_as_sent = found.message == error.get("message")
        found.is_strict = is_body and len(value) == 1 and is_as_sent and _is_strict(error)
        if not found.message:
            found.message = _flat(value).message
        return found
    if isinstance(error, list):
        return of_value(error)
    return _flat(value)


def _of_object(error: dict[str, Any]) -> Refusal:
    found = _flat(error)
    known = ("message", "type", "param", "code", "user_id")
    found.more = {name: value for name, value in error.items() if name not in known}
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if isinstance(raw, str) and raw.strip() and raw not in found.message:
        # The message is only "Provider returned error"; the provider's own is in `raw`.
        reason = raw
        if raw.lstrip()[:1] in ("{", "["):
            reason = read_refusal(raw.encode()).message or raw
        found.message = f"{found.message}: {reason[: 4 * _MAX_TEXT]}".removeprefix(": ")
    return found


def _flat(members: dict[str, Any]) -> Refusal:
    """Reads an object whose members are the error's."""
    code, param = _text(members.get("code")), _text(members.get("param"))
    message = ""
    for name in ("message", "error", "detail", "error_description", "msg", "title", "errors"):
        value = members.get(name)
        if isinstance(value, dict | list) and value:
            inner = _invalid(value) if isinstance(value, list) else of_value(value)
            message, param = inner.message, param or inner.param
        elif isinstance(value, str):
            message = value
        if message:
            break
    type = _text(members.get("type")) or _text(members.get("error_type")) or ""
    return Refusal(_ACCOUNT.sub("...", message), type, code, param)


def _invalid(items: list[Any]) -> Refusal:
    """Reads the first item of FastAPI's list of validation errors."""
    first = items[0]
    if not isinstance(first, dict):
        return of_value(first)
    found = _flat(first)
    place = first.get("loc")
    if isinstance(place, list):
        found.param = ".".join(str(part) for part in place if part != "body") or None
    return found


def _is_strict(error: dict[str, Any]) -> bool:
    return (
        isinstance(error.get("message"), str)
        and all(
            error.get(name) is None or isinstance(error[name], str)
            for name in ("type", "param", "code")
        )
        and "metadata" not in error
    )


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


# The HTTP status of error codes and types, for errors inside a stream.
_STATUS = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "tokens": 429,
    "requests": 429,
    "insufficient_quota": 429,
    "exceeded_current_quota_error": 429,  # Moonshot
    "1113": 429,  # Z.AI: the balance
    "1302": 429,  # Z.AI: the rate
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_error": 403,
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "server_is_overloaded": 503,
}


def as_error(value: Any) -> GatewayError:
    """The error, an object or a text, of a stream that has begun or of a response with status 200.

    Its status is `status_code`, a number in place of the code, or that of a known word; else 502.
    """
    found = of_value(value)
    number = value.get("status_code") if isinstance(value, dict) else None
    status = (
        _status(str(number))
        or _status(found.code)
        or _STATUS.get(found.code or "")
        or _STATUS.get(found.type)
        or 502
    )
    return GatewayError(
        status,
        found.message or "The upstream broke its answer off at once, without a reason.",
        type=found.type,
        code=found.code or ("upstream_error" if status == 502 else None),
        param=found.param,
        outcome="upstream_error",
    )


def as_close_error(reason: str) -> GatewayError:
    """The error of an upstream that closes a websocket; OpenAI's `type.code` is understood."""
    return as_error({"message": reason, "code": reason.rpartition(".")[2]})


def wrong_type(label: str, wanted: str) -> GatewayError:
    """502 for a response 200 of the wrong content type: a web page, JSON in place of a stream."""
    return bad_response(
        f"The upstream answered 200 with {label.split(';')[0]!r} instead of {wanted}; "
        "check the upstream address in the config."
    )


def _status(code: str | None) -> int | None:
    """The status, if an upstream has put it in place of the code."""
    if code is None or len(code) != 3 or not code.isdecimal():
        return None
    return int(code) if 400 <= int(code) <= 599 else None
