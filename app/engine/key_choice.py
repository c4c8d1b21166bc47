"""Whose key answers a call: the caller's own, a named one, a conversation's, any of the pool."""

import random
from typing import TYPE_CHECKING, Any

from app.auth.credentials import callers_own
from app.engine.call import (
    ANY,
    CallState,
    ChatCall,
    KeyChoice,
    Plan,
    Target,
    credential_headers,
)
from app.wire.errors import GatewayError
from app.wire.kept import family_of
from app.wire.provider import Key, Provider

if TYPE_CHECKING:
    from app.engine.chat_call import Exchange


def choose(engine: "Exchange", ask: ChatCall, target: Target, how: Plan) -> KeyChoice | None:
    """The caller's own credential, else the pool's: by header, by body, at random. None: which
    conversation it is decides."""
    provider = target.provider
    own = callers_own(ask.headers, credential_headers(ask.front, target))
    if not own:
        ask.caller.need_keys()
    named = ask.headers.get("x-auth-id")
    if provider.candidates is not None:
        keys = provider.candidates(engine.pool.keys(provider.pool), own, ask.headers, ask.asked)
        if not keys[0].id:
            return KeyChoice(random.choice(keys), is_bound=bool(own))
        among = frozenset(key.id for key in keys)
        return KeyChoice(among=among, is_bound=bool(named))
    if own:
        return KeyChoice(Key(provider.pool, "", own), is_bound=True)
    wanted = named or how.index(ask.asked)
    if wanted:
        return KeyChoice(wanted=wanted, is_bound=True)
    native = how.native
    if native is not None and native.earlier is not None and native.earlier(ask.asked):
        return None
    if provider.conversation is not None or provider.anonymous:
        return None
    maker = ask.asked.maker
    if maker is not None and maker.key_id and maker.pool == provider.pool:
        return KeyChoice(preferred=maker.key_id)
    return ANY


async def of_conversation(
    engine: "Exchange", state: CallState, provider: Provider, how: Plan, chat: Any
) -> KeyChoice:
    """The session that a continued conversation belongs to; for a new one, any."""
    native, asked = how.native, state.call.asked
    earlier = native.earlier(asked) if native is not None and native.earlier else None
    if earlier is not None and engine.conversations is not None:
        made_by = await engine.conversations.owner(provider.pool, family_of(earlier))
        if made_by:
            return KeyChoice(wanted=made_by, is_bound=True)
    conversation = provider.conversation(chat) if provider.conversation is not None else None
    wanted = await _owner(engine, provider, conversation)
    if not wanted and provider.anonymous and not engine.pool.size(provider.pool):
        return KeyChoice(Key(provider.pool, "", ""))
    return KeyChoice(wanted=wanted, is_bound=bool(wanted or conversation))


async def _owner(engine: "Exchange", provider: Provider, conversation_id: str | None) -> str | None:
    """The session a continued conversation belongs to, where the caller did not say."""
    if not conversation_id or engine.pool.size(provider.pool) < 2:
        return None
    found = None
    if engine.conversations is not None:
        found = await engine.conversations.owner(provider.pool, conversation_id)
    if found is None:
        raise GatewayError(
            400,
            "Which of the configured sessions this conversation belongs to is not known here; "
            "send back `index` as it was handed out, or name the session by x-auth-id.",
            code="conversation_owner_unknown",
            param="index",
        )
    return found
