"""Embedding requests to upstreams that refuse a part of them.

Every SDK asks for base64 by default, and many hosts know only lists of numbers: then those are
asked for (the front makes base64 of them). What a host refuses is remembered for an hour.

Source: protocol sheet openai-compatible, section 9.
"""

import re

import msgspec
from msgspec import Raw

from app.wire.chat import read_members
from app.wire.provider import Call
from app.wire.upstream import UpstreamReply

_REMEMBERED_SECONDS = 3600
_MAX_REMEMBERED = 1000  # model names are the callers'
_IS_UNKNOWN = re.compile(rb"forbidden|not permitted|unknown|unrecogni[sz]ed|unexpected").search
_IS_USER = re.compile(rb"""["'`\\]user["'`\\]""").search

# What to send in place of a member, None for nothing; by pool and model, with the time (Unix s)
# until when it holds.
_Repairs = dict[str, bytes | None]
_repairs: dict[tuple[str, str], tuple[int, _Repairs]] = {}


def learn(call: Call, reply: UpstreamReply) -> bool:
    """Whether the refusal tells of a member without which it is worth to ask again."""
    if reply.status not in (400, 415, 422):
        return False
    members, found = read_members(call.chat), _Repairs()
    said = reply.body
    if _asks_base64(members) and (b"encoding_format" in said or b"base64" in said):
        found["encoding_format"] = None if _IS_UNKNOWN(said) else b'"float"'
    if "user" in members and _IS_USER(said):
        found["user"] = None
    known = _known(call)
    if found.items() <= known.items():
        return False
    if len(_repairs) >= _MAX_REMEMBERED:
        _repairs.clear()
    at = (call.key.pool, call.model)
    _repairs[at] = call.now + _REMEMBERED_SECONDS, known | found
    return True


def without_refused(call: Call, body: bytes) -> bytes:
    """The body without what this upstream has refused; names it in `call.dropped` where the answer
    is not the same without."""
    known = _known(call)
    if not known:
        return body
    members = read_members(body)
    for name, value in known.items():
        if name not in members or (name == "encoding_format" and not _asks_base64(members)):
            continue
        del members[name]
        if value is not None:
            members[name] = Raw(value)
        if name not in ("encoding_format", *call.dropped):
            call.dropped.append(name)
    return msgspec.json.encode(members)


def _known(call: Call) -> _Repairs:
    until, known = _repairs.get((call.key.pool, call.model), (0, {}))
    return known if until > call.now else {}


def _asks_base64(members: dict[str, Raw]) -> bool:
    return bytes(members.get("encoding_format", b"")) == b'"base64"'
