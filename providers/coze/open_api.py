"""Requests to Coze's open API and the JSON that comes back.

Source: Coze's open API documentation.
"""

from typing import TypeVar

import msgspec

from app.config.schema import Config
from app.wire.errors import bad_response
from app.wire.provider import Call
from app.wire.upstream import UpstreamRequest, join_url

T = TypeVar("T")


def proxy(config: Config) -> str | None:
    """The proxy for requests to Coze; None for a direct connection."""
    return config.coze.proxy_url or config.proxy_url or None


def post(
    call: Call, path: str, body: bytes, content_type: str = "application/json"
) -> UpstreamRequest:
    """A POST with the token of the call's key."""
    return UpstreamRequest(
        method="POST",
        url=join_url(call.config.coze.api_url, path),
        headers=[
            ("authorization", f"Bearer {call.key.val}"),
            ("content-type", content_type),
            ("accept", "*/*"),
        ],
        body=body,
        proxy=proxy(call.config),
    )


def read_json(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Decodes JSON from Coze. Raises GatewayError 502 for what does not fit the decoder's type."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_response(f"Coze sent what its protocol does not know: {error}.") from None
