"""An upstream's endpoints beside chat, each as a provider: bodies go on as they came.

Source: protocol sheet openai-compatible, section 9.
"""

from collections.abc import Callable, Collection
from typing import Any

from msgspec.structs import replace

from app.wire.asked import Asked, with_model
from app.wire.endpoints import FORMS, Endpoint
from app.wire.multipart import Field, form_data
from app.wire.provider import Call, Native, Provider, Wire
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest
from providers.openai import embeddings

WIRE: Wire = "openai-endpoint"
# Builds the request: the call, its body, the path below the base URL, and the headers that say the
# type of the body and of the answer (None: JSON, or events where the caller streams).
Post = Callable[[Call, bytes, str, Headers | None], UpstreamRequest]


def with_endpoints(
    chat: Provider, names: Collection[Endpoint], post: Post, drop: Collection[str] = ()
) -> Provider:
    """The chat provider with these endpoints of the same upstream. `drop` are the members of a body
    that it shall never see."""
    found = {name: replace(chat, native=_native(name, post, drop)) for name in names}
    return replace(chat, endpoints=found)


def _native(name: Endpoint, post: Post, drop: Collection[str]) -> Native:
    path = f"/{name}"

    def request(call: Call) -> UpstreamRequest:
        return post(call, with_model(call.chat, call.asked.model, call.model), path, None)

    def speech(call: Call) -> UpstreamRequest:
        body = with_model(call.chat, call.asked.model, call.model)
        kinds = [("Content-Type", "application/json"), ("Accept", "*/*")]
        return post(call, body, path, kinds)

    def form(call: Call) -> UpstreamRequest:
        boundary = call.new_id()  # 128 random bits: no file holds it
        kinds = [("Content-Type", f"multipart/form-data; boundary={boundary}"), ("Accept", "*/*")]
        return post(call, form_data(boundary, _renamed(call)), path, kinds)

    def embed(call: Call) -> UpstreamRequest:
        body = with_model(call.chat, call.asked.model, call.model)
        return post(call, embeddings.without_refused(call, body), path, None)

    def again(call: Call, reply: UpstreamReply) -> UpstreamRequest | None:
        return embed(call) if embeddings.learn(call, reply) else None

    def read_form(asked: Asked) -> list[Field]:
        names = {*asked.own_names, *drop}
        return [field for field in asked.options.fields if field.name not in names]

    if name in FORMS:
        return Native(wire=WIRE, read=read_form, request=form)
    read: Callable[[Asked], Any] = lambda asked: asked.carried(drop)  # noqa: E731
    if name == "embeddings":
        return Native(wire=WIRE, read=read, request=embed, retry=again)
    return Native(wire=WIRE, read=read, request=speech if name == "audio/speech" else request)


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
