"""The simulated Discord's gateway: sessions on a websocket, RESUME, a control endpoint."""

import secrets

import msgspec
from sanic import Blueprint, HTTPResponse, Request
from sanic.server.websockets.impl import WebsocketImplProtocol

from app.simulator.discord import BOT_TOKENS, answer, gateway_url
from app.simulator.discord_state import (
    JSON,
    MESSAGE_CONTENT,
    OWN_BOT,
    Session,
    encode,
    send_event,
    state,
)

blueprint = Blueprint("discord-gateway", url_prefix="/discord")
HEARTBEAT_MS = 41_250
KEPT_SESSIONS = 20


@blueprint.websocket("/gw")  # type: ignore[untyped-decorator]
async def gateway(request: Request, ws: WebsocketImplProtocol) -> None:
    """One gateway connection: HELLO, then heartbeats, IDENTIFY and RESUME."""
    await ws.send(
        encode({"t": None, "s": None, "op": 10, "d": {"heartbeat_interval": HEARTBEAT_MS}}).decode()
    )
    session: Session | None = None
    try:
        while True:
            data = await ws.recv()
            if data is None:
                return
            payload = msgspec.json.decode(data)
            match payload["op"]:
                case 1:
                    await ws.send('{"op":11}')
                case 2:
                    session = await _identify(request, ws, payload["d"])
                case 6:
                    session = await _resume(ws, payload["d"])
    finally:
        if session is not None and session.ws is ws:
            session.ws = None


async def _identify(request: Request, ws: WebsocketImplProtocol, data: JSON) -> Session | None:
    token, intents = data["token"], data["intents"]
    if not token.startswith(BOT_TOKENS):
        await ws.close(4004, "Authentication failed.")
        return None
    if "nointent" in token and intents & MESSAGE_CONTENT:
        await ws.close(4014, "Disallowed intent(s).")
        return None
    state.identified += 1
    session = Session(secrets.token_hex(16), intents, ws=ws)
    state.sessions[session.id] = session
    while len(state.sessions) > KEPT_SESSIONS:
        del state.sessions[next(iter(state.sessions))]
    ready = {
        "v": 10,
        "user": OWN_BOT,
        "guilds": [],
        "session_id": session.id,
        "session_type": "normal",
        "resume_gateway_url": gateway_url(request),
        "private_channels": [],
        "relationships": [],
        "presences": [],
        "application": {"id": OWN_BOT["id"], "flags": 1 << 19},
    }
    await send_event(session, "READY", ready)
    return session


async def _resume(ws: WebsocketImplProtocol, data: JSON) -> Session | None:
    session = state.sessions.get(data["session_id"])
    if session is None:
        await ws.send('{"t":null,"s":null,"op":9,"d":false}')
        return None
    session.ws = ws
    for seq, text in list(session.sent):
        if seq > (data["seq"] or 0):
            await ws.send(text)
    await send_event(session, "RESUMED", {})
    return session


@blueprint.post("/_gateway")
async def control(request: Request) -> HTTPResponse:
    """Does to all open sessions what `do` asks (the words are in discord.py)."""
    what = (request.json or {}).get("do", "")
    open_sessions = [session for session in state.sessions.values() if session.ws is not None]
    if what == "count":
        return answer({"sessions": len(open_sessions), "identified": state.identified})
    if what == "forget":
        state.sessions.clear()
    for session in open_sessions:
        ws, drop = session.ws, what in ("drop", "forget")
        if drop:
            session.ws = None
            await ws.close(4000, "Unknown error.")
        else:
            op = {"reconnect": (7, None), "invalid": (9, False), "resumable": (9, True)}[what]
            if what == "invalid":
                state.sessions.pop(session.id, None)
            await ws.send(encode({"t": None, "s": None, "op": op[0], "d": op[1]}).decode())
    return answer({"sessions": len(open_sessions), "identified": state.identified})
