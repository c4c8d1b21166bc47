"""A kept answer's conversation that lives at a website: the next turn goes on with it there.

Then the site is sent what is new. Where the session that has it is gone, another one gets the whole
history. Protocol sheet: front-responses, 6.3.
"""

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from app.engine.call import ChatCall, Target
from app.pool.key_pool import KeyPool
from app.wire.asked import Asked

_members = msgspec.json.Decoder(dict[str, Raw] | None)


def resumed(pool: KeyPool, ask: ChatCall, target: Target) -> Asked | None:
    """The request with the member that goes on with the conversation; None where there is none.

    A caller who says so much as a key or a conversation in that member decides alone.
    """
    asked, provider = ask.asked, target.provider
    maker = asked.maker
    if maker is None or provider.resumed is None or maker.pool != provider.pool:
        return None
    if maker.key_id and pool.find(maker.pool, maker.key_id) is None:
        return None
    own = provider.resumed(maker.session)
    if own is None:
        return None
    said = _members.decode(asked.members.get(provider.family, Raw(b"null"))) or {}
    if not said.keys() <= {"type"}:
        return None
    member = Raw(msgspec.json.encode({**said, **own}))
    return replace(asked, members={**asked.members, provider.family: member})
