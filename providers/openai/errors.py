"""What a refusal of a host of OpenAI's chat wire says, of whatever shape its body is."""

import re
from collections.abc import Callable

from app.wire.errors import GatewayError
from app.wire.refusals import Refusal, read_refusal
from app.wire.retry_after import retry_after_header
from app.wire.surrogates import mend
from app.wire.upstream import UpstreamReply

# Statuses outside the standard, as a caller understands them: Groq's flex tier is full, overloaded.
_STATUS = {498: 503, 529: 503}
_BAD_KEY = re.compile(
    r"(?:Incorrect|Invalid|Missing|No) API key\b|API key (?:not valid|not found|expired)",
    re.IGNORECASE,
)


def _is_bad_key(found: Refusal) -> bool:
    """xAI and Google's OpenAI layer refuse a key with 400."""
    return found.code == "invalid_api_key" or _BAD_KEY.match(found.message) is not None


def error_reader(setting: str) -> Callable[[UpstreamReply], GatewayError]:
    """`read_error` of the host whose address the config has at `setting`."""

    def read_error(reply: UpstreamReply) -> GatewayError:
        """The upstream's own error, untouched where it has OpenAI's shape; pages summed up."""
        status = reply.status
        retry_after = retry_after_header(reply.headers)
        if 300 <= status < 400:
            return GatewayError(
                502,
                f"The upstream redirects; set the address it really has in {setting}.",
                code="upstream_redirect",
            )
        told = _STATUS.get(status, status if status <= 511 else 502)
        found = read_refusal(reply.body)
        if status == 400 and reply.body.lstrip()[:1] in (b"{", b"[") and _is_bad_key(found):
            refused = found.message or "The upstream does not accept this API key."
            return GatewayError(401, refused, code="invalid_api_key")
        if not found.message and not found.code:
            what = "Too many requests" if status == 429 else "The upstream failed"
            what = "The request is too large for the upstream" if status == 413 else what
            return GatewayError(
                told, f"{what} (HTTP {status}, no JSON error).", code=None, retry_after=retry_after
            )
        error = GatewayError(
            told,
            found.message or f"The upstream answered HTTP {status} without a message.",
            type=found.type,
            code=found.code,
            param=found.param,
            retry_after=retry_after,
        )
        error.raw = mend(reply.body) if found.is_strict else found.body(error.message, error.type)
        return error

    return read_error
