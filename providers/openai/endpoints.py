"""A host's endpoints beside chat, each as a provider: bodies go on as they came.

A JSON body that the host refuses is repaired as a chat's is (providers/openai/repairs.py).
Source: protocol sheet openai-compatible, section 9.
"""

from msgspec.structs import replace

from app.wire.asked import Asked
from app.wire.endpoints import FORMS, Endpoint
from app.wire.multipart import Field, form_data
from app.wire.provider import Call, Native, Provider, Wire
from app.wire.upstream import UpstreamRequest
from providers.openai.host import Asking, Host

WIRE: Wire = "openai-endpoint"
_ANY = ("Accept", "*/*")
_SOUND = [("Content-Type", "application/json"), _ANY]


def with_endpoints(chat: Provider, host: Host) -> Provider:
    """The host's chat provider, with its endpoints."""
    found = {name: replace(chat, native=_native(host, name)) for name in host.endpoints}
    return replace(chat, endpoints=found)


def _native(host: Host, name: Endpoint) -> Native:
    if name in FORMS:
        return _form(host, f"/{name}")
    asking = Asking(
        host,
        f"/{name}",
        kinds=_SOUND if name == "audio/speech" else None,
        asks_usage=name == "completions",
    )
    return Native(
        wire=WIRE,
        read=asking.read,
        request=asking.native_request,
        retry=asking.native_retry,
        keep=asking.keep,
        adds_usage=asking.adds_usage,
    )


def _form(host: Host, path: str) -> Native:
    asking = Asking(host, path)

    def read(asked: Asked) -> list[Field]:
        names = {*asked.own_names, *host.drop}
        return [field for field in asked.options.fields if field.name not in names]

    def request(call: Call) -> UpstreamRequest:
        boundary = call.new_id()  # 128 random bits: no file holds it
        kinds = [("Content-Type", f"multipart/form-data; boundary={boundary}"), _ANY]
        return asking.post(call, form_data(boundary, _renamed(call)), kinds)

    return Native(wire=WIRE, read=read, request=request)


def _renamed(call: Call) -> list[tuple[str, str, bytes | memoryview]]:
    """The fields of a form, which asks for the model without our prefix."""
    fields: list[Field] = call.chat
    return [
        (
            field.disposition,
            field.media_type,
            call.model.encode() if field.name == "model" else field.value,
        )
        for field in fields
    ]
