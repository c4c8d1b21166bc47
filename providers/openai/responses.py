"""OpenAI's Responses as they are: bodies and answers travel untouched.

But for what only the gateway understands: its own members, an alias in place of a model's name,
ids of its own answers, which OpenAI would look up in vain, and thoughts in its mark, which OpenAI
would refuse for good. Each is looked for in the bytes, so the usual body is never taken apart.
Protocol sheet: front-responses, 2.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.wire.asked import UNREADABLE, Asked, as_bad_request
from app.wire.chat import read_members
from app.wire.errors import GatewayError, bad_request
from app.wire.kept import PREFIX, item_place
from app.wire.model_in_body import with_model
from app.wire.provider import Call, Native, Wire
from app.wire.signature_mark import START, read_mark
from app.wire.upstream import UpstreamReply, UpstreamRequest

WIRE: Wire = "openai-responses"
_OURS = re.compile(rb'"(?:%b|(?:rs|msg|fc|ctc|tsc|lsh|sh|apc|cmp|resp)_gw)' % START.encode())
_SUMMARY = "Summary of the conversation so far:\n"


class _Item(Struct):
    """What tells an item of the gateway's from OpenAI's."""

    type: str | None = None
    id: str | None = None
    encrypted_content: str | None = None


_items = msgspec.json.Decoder(list[dict[str, Raw]] | str | None)
_seen = msgspec.json.Decoder(_Item)
_text = msgspec.json.Decoder(str | None)


def read(asked: Asked, drop: tuple[str, ...] = ()) -> bytes:
    """The body for OpenAI. Raises GatewayError 400 for an answer that is not kept any more."""
    body = asked.carried(drop)
    if not _OURS.search(body):
        return body
    members = read_members(body)
    try:
        _translate(members, asked)
    except UNREADABLE as error:
        raise as_bad_request(error, body) from None
    return msgspec.json.encode(members)


def _translate(members: dict[str, Raw], asked: Asked) -> None:
    """Puts in place of the gateway's ids and marks what they stand for."""
    said = _items.decode(members.get("input", b"null"))
    own = [{"role": Raw(b'"user"'), "content": members["input"]}] if isinstance(said, str) else said
    items: list[Any] = own or []
    previous = _text.decode(members.get("previous_response_id", b"null"))
    if previous is not None and previous.startswith(PREFIX):
        del members["previous_response_id"]
        before = [_items.decode(msgspec.json.encode([raw])) for raw in _chain(asked, previous)]
        items = [item for each in before if isinstance(each, list) for item in each] + items
    kept = [told for item in items if (told := _told(item, asked)) is not None]
    if isinstance(said, str) and kept == own:
        return
    members["input"] = Raw(msgspec.json.encode(kept))


def _chain(asked: Asked, previous: str) -> list[Raw]:
    """The items of the kept turns before this one."""
    turns = []
    turn: str | None = previous
    while turn is not None and (kept := asked.kept.get(turn)) is not None:
        turns.append(kept)
        turn = kept.parent
    if not turns:
        raise bad_request(
            f"Previous response with id '{previous[:128]}' not found.",
            "previous_response_id",
            "previous_response_not_found",
        )
    return [raw for kept in reversed(turns) for raw in (*kept.input, *kept.output)]


def _told(item: dict[str, Raw], asked: Asked) -> dict[str, Raw] | None:
    """The item as OpenAI may see it; None for one that means nothing there."""
    seen = _seen.decode(msgspec.json.encode(item))
    place = item_place(seen.id) if seen.id else None
    if seen.type == "item_reference" and place is not None:
        kept = asked.kept.get(place[0])
        if kept is None or place[1] >= len(kept.output):
            raise bad_request(f"Item with id '{seen.id}' not found.", "input")
        item = msgspec.json.decode(kept.output[place[1]], type=dict[str, Raw])
        return _told(item, asked)
    if (seen.encrypted_content or "").startswith(START):
        found = read_mark(seen.encrypted_content or "")
        if seen.type != "compaction" or found is None:
            return None
        text = msgspec.json.encode(_SUMMARY + found[1])
        return {"role": Raw(b'"user"'), "content": Raw(text)}
    if place is not None:
        item = {name: value for name, value in item.items() if name != "id"}
    return item


def earlier(asked: Asked) -> str | None:
    """The id of OpenAI's own answer, or item, that the body goes on from."""
    options = asked.options
    ids = (options.previous, *options.references)
    return next((id for id in ids if id and not id.startswith(PREFIX) and not item_place(id)), None)


def native(
    post: Callable[[Call, bytes, str], UpstreamRequest],
    read_error: Callable[[UpstreamReply], GatewayError],
    path: str,
    drop: tuple[str, ...],
) -> Native:
    """How an upstream is asked that speaks Responses itself.

    `post` makes the request of a body and the path behind the upstream's base address; `drop` are
    members that it shall never see.
    """

    def request(call: Call) -> UpstreamRequest:
        body = with_model(call.chat, call.asked.model, call.model)
        return post(call, body, path + call.asked.options.path)

    def refused(reply: UpstreamReply) -> GatewayError:
        error = read_error(reply)
        error.raw_wire = WIRE
        return error

    return Native(
        wire=WIRE,
        read=lambda asked: read(asked, drop),
        request=request,
        read_error=refused,
        earlier=earlier,
    )
