"""Which kept answers a caller may see: those that they have been given themselves."""

from sanic import Request

from app.auth.caller import Caller
from app.auth.credentials import callers_own
from app.http.responses import gateway_of
from app.pool.kept_answers import MOST_TURNS, owner_of
from app.wire.asked import Asked
from app.wire.errors import bad_request
from app.wire.front import Front
from app.wire.kept import Maker


def answers_are_kept(request: Request) -> bool:
    """Whether the config and the caller's token allow it."""
    token = request.ctx.caller.token
    return gateway_of(request).answers.is_on and (token is None or token.store)


def owner_of_answers(request: Request, front: Front) -> bytes:
    """Whose answers the caller's are: the access token's, else the owner's of their own key.

    Callers who send neither share theirs: they are all on this machine, or the config lets
    everybody in. Raises GatewayError 401 for others.
    """
    caller: Caller = request.ctx.caller
    if caller.token is not None:
        return owner_of(f"token {caller.token.val}")
    own = callers_own(request.headers, front.credential_headers)
    if not own:
        caller.need_keys()
    return owner_of(f"key {own}")


async def find_kept(request: Request, front: Front, asked: Asked) -> None:
    """Finds the earlier answers that the body goes on from. What is missing is told when the body
    is read, in the front's words. Raises GatewayError 400 for a chain that is too long."""
    assert front.refers is not None
    chain, ids = front.refers(asked)
    if chain is None and not ids:
        return
    owner = owner_of_answers(request, front)
    found = await gateway_of(request).answers.find(owner, chain, ids)
    if found.is_too_long:
        raise bad_request(
            f"previous_response_id: this conversation has more than {MOST_TURNS} turns; send its "
            "items as input.",
            "previous_response_id",
        )
    asked.kept = found.turns
    if chain in found.turns:
        asked.maker = Maker(found.pool, found.key_id, found.turns[chain].session)
