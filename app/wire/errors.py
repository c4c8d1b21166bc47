"""The one error of the gateway. Each front says it in the shape of its own API.

Every failure a caller can see is a `GatewayError`, rendered as
`{"error": {"message", "type", "param", "code"}}` so that OpenAI's SDKs understand all of them.
The message says what happened and what to do; the code is a short stable word to grep for.
"""

import re

import msgspec
from msgspec import Struct

from app.wire.retry_after import MOST_SECONDS, whole_seconds

OUT_OF_RESOURCES = "gateway_out_of_resources"  # ours: no descriptor, no memory


class ErrorDetail(Struct):
    """The content of OpenAI's error body."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct):
    """OpenAI's error body."""

    error: ErrorDetail


class GatewayError(Exception):
    """A failure to be told to the caller.

    `status` is the HTTP status, `retry_after` seconds, of which the caller is told at most
    `most_wait`: an upstream may say anything. `headers` are further response headers.
    `transient` is False for what no retry can heal: SDKs are told so by `x-should-retry: false`.
    `outcome` is the word the log line gets; "error" leaves that to `ending`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "",
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        most_wait: float = MOST_SECONDS,
        headers: tuple[tuple[str, str], ...] = (),
        outcome: str = "error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        # Whatever an upstream calls it: clients ask for a key by this word.
        self.type = type if type and status != 401 else error_type(status)
        self.code = code
        self.param = param
        self.retry_after, self.most_wait = retry_after, most_wait
        self.headers = headers
        self.outcome = outcome
        self.said = b""  # rendered before it in the same read, to be sent if the stream has begun
        self.words = ""  # the upstream's own, where `message` is another one
        # An upstream's own body, to be passed on as it is to callers who speak `raw_wire`.
        self.raw: bytes | None = None
        self.raw_wire = "openai-chat"

    @property
    def wait(self) -> int | None:
        """Whole seconds until the caller may come again, as Retry-After has them."""
        if self.retry_after is None:
            return None
        return whole_seconds(self.retry_after, self.most_wait)

    def ending(self, was_asked: bool) -> str:
        """The log's word for a call that ended with this, by whether an upstream was asked."""
        if self.outcome != "error":
            return self.outcome
        return "upstream_error" if was_asked or self.status in (502, 504) else "refused"


def error_type(status: int) -> str:
    """OpenAI's word for a status, where the upstream gave none."""
    match status:
        case 401:
            return "authentication_error"
        case 403:
            return "permission_error"
        case 429:
            return "rate_limit_error"
        case _ if status >= 500:
            return "server_error"
        case _:
            return "invalid_request_error"


def bad_request(message: str, param: str | None = None, code: str | None = None) -> GatewayError:
    """400 for a body that cannot be served; `param` names the path of the offending member."""
    return GatewayError(
        400, message, param=param, code=code or "invalid_parameter", outcome="refused"
    )


def upstream_cut(
    what: str = "The upstream closed the connection before its answer was whole",
) -> GatewayError:
    """502 for an answer that ended early. The caller may try again."""
    return GatewayError(502, what + ".", code="upstream_cut", outcome="upstream_cut")


def bad_response(what: str) -> GatewayError:
    """502 for an upstream answer that is not what its protocol promises."""
    return GatewayError(502, what, code="upstream_bad_response", outcome="upstream_error")


_AT = re.compile(r" - at `(key in )?\$(?P<path>[^`]*)`$")


def from_validation(error: msgspec.ValidationError) -> GatewayError:
    """msgspec's complaint as a 400 whose `param` is the path it names."""
    text = str(error)
    at = _AT.search(text)
    if not at:
        return bad_request(text)
    path = at["path"].lstrip(".").replace("[...]", "")
    return bad_request(f"{text[: at.start()]} in {path or 'the request body'}.", param=path or None)
