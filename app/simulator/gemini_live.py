"""The live API of simulated Gemini, below /gemini/ws: setup, then turns.

GET /gemini/ws/google.ai.generativelanguage.{version}.GenerativeService.BidiGenerateContent

As the real one, it accepts every handshake, speaks JSON in binary frames, and tells a bad key, a
missing model or a spent quota by a close code and its reason. Only a fault of another status
refuses the handshake. Text answers text; sound is answered by how much of it came.
"""

import base64
from typing import Any

from sanic import Blueprint, HTTPResponse, Request
from sanic.server.websockets.impl import WebsocketImplProtocol

from app.simulator import delivery
from app.simulator.faults import Fault
from app.simulator.gemini_common import FAMILY, MESSAGES, credential_error, dialect
from app.simulator.gemini_request import camel
from app.simulator.live import LiveSession, websocket

blueprint = Blueprint(f"{FAMILY}-live", url_prefix="/gemini")
_OVER_THE_QUOTA = ("rate_limit", "quota")


@blueprint.on_request
async def check(request: Request) -> HTTPResponse | None:
    """Refuses the handshake where a fault asks for it."""
    fault: Fault = request.app.ctx.faults.pick(request)
    request.ctx.fault = fault
    if fault.refuse is not None and fault.refuse.kind in _OVER_THE_QUOTA:
        return None
    return await delivery.before_answer(request, fault, dialect(request))


# Google's own package asks for //ws/.
@websocket(blueprint, "//ws/<method>")
@websocket(blueprint, "/ws/<method>")
async def live(request: Request, ws: WebsocketImplProtocol, method: str) -> None:
    """One session: a setup, then turns."""
    fault: Fault = request.ctx.fault
    session = LiveSession(request, ws, fault, binary=True)
    if wrong := credential_error(request):
        await session.close(1007, wrong["error"]["message"])
        return
    if fault.refuse is not None:
        await session.close(1011, MESSAGES["quota"][:120])
        return
    turns = sound = 0
    is_set_up = False
    async for said in session.messages():
        message = camel(said)
        if not is_set_up:
            model = str((message.get("setup") or {}).get("model", ""))
            session.record.model = model.removeprefix("models/")
            if not model or "missing-" in model:
                reason = (
                    f"{model} is not found for API version v1beta, or is not supported for bidi"
                )
                await session.close(1008, reason)
                return
            is_set_up = True
            await session.say({"setupComplete": {}})
        elif realtime := message.get("realtimeInput"):
            sound += len(base64.b64decode((realtime.get("audio") or {}).get("data", "")))
            if realtime.get("audioStreamEnd"):
                turns += 1
                await _turn(session, f"{sound} bytes of sound", turns)
        elif content := message.get("clientContent"):
            if content.get("turnComplete") is not False:
                turns += 1
                await _turn(session, _last_text(content), turns)
        else:
            await session.close(1007, "Request contains an invalid argument.")


def _last_text(content: dict[str, Any]) -> str:
    turns = content.get("turns") or [{}]
    return "".join(part.get("text", "") for part in turns[-1].get("parts") or [])


async def _turn(session: LiveSession, text: str, number: int) -> None:
    said = f"You said: {text}" + (f" (turn {number})" if number > 1 else "")
    pieces = list(session.fault.pieces(said))
    for piece in pieces:
        turn = {"role": "model", "parts": [{"text": piece}]}
        await session.say({"serverContent": {"modelTurn": turn}})
    await session.say({"serverContent": {"generationComplete": True}})
    usage = {
        "promptTokenCount": 10 * number,
        "responseTokenCount": len(pieces),
        "totalTokenCount": 10 * number + len(pieces),
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10 * number}],
        "responseTokensDetails": [{"modality": "TEXT", "tokenCount": len(pieces)}],
    }
    await session.say({"serverContent": {"turnComplete": True}, "usageMetadata": usage})
