"""The errors of Coze's open API as the gateway's errors.

Coze says most errors with HTTP status 200 and a code in the body.
Source: Coze's list of error codes.
"""

import msgspec

from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamReply
from providers.coze import schema

NO_RETRY = (("x-should-retry", "false"),)


def coze_error(code: int, text: str, logid: str = "") -> GatewayError:
    """One of Coze's codes as the gateway's error. Coze's support asks for the log id."""
    meaning = schema.ERRORS.get(code) or schema.Meaning(502, "Coze refused the request")
    trace = f", logid {logid}" if logid else ""
    said = f": {text}" if text else ""
    return GatewayError(
        meaning.status,
        f"Coze{said} ({meaning.says}; coze code {code}{trace}).",
        type=meaning.type or "upstream_error",
        code=meaning.code or f"coze_{code}",
        headers=() if meaning.retry else NO_RETRY,
        outcome="upstream_error",
    )


def read_error(reply: UpstreamReply) -> GatewayError:
    """The error in a reply of any status."""
    logid = reply.headers.get("x-tt-logid", "")
    try:
        said = error_decoder.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = schema.ErrorReply()
    if said.number:
        return coze_error(
            said.number, said.text, logid or (said.detail.logid if said.detail else "")
        )
    kept = reply.status if reply.status in (400, 401, 402, 403, 404, 413, 422, 429) else 502
    trace = f" (logid {logid})" if logid else ""
    return GatewayError(
        kept,
        f"Coze answered with HTTP status {reply.status} and no error code{trace}.",
        type="upstream_error",
        code="upstream_error",
        outcome="upstream_error",
    )


error_decoder = msgspec.json.Decoder(schema.ErrorReply)
