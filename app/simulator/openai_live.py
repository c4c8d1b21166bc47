"""The websockets of the simulated OpenAI API: Realtime and Responses.

GET /openai/v1/realtime?model=   a session: items are added, sound is collected, responses are
                                 made of the last text, or tell how much sound came
GET /openai/v1/responses         `response.create` as POST /v1/responses, events as messages

A bad key is refused before the handshake, as the real one does with a key in a header. Models are
as elsewhere: `sim-429` refuses the handshake, `sim-cut-after-3` breaks off after three messages.
"""

import base64
import binascii
import secrets
from typing import Any

from sanic import Blueprint, HTTPResponse, Request
from sanic.server.websockets.impl import WebsocketImplProtocol

from app.simulator.live import JSON, LiveSession, decode, websocket
from app.simulator.openai_common import FAMILY, check_request
from app.simulator.openai_responses import ResponseAnswer

blueprint = Blueprint(f"{FAMILY}-live", url_prefix="/openai")
CHUNK = "UklGRg==" * 64  # a piece of sound


@blueprint.on_request
async def check(request: Request) -> HTTPResponse | None:
    """Refuses a handshake as a request is refused."""
    request.ctx.fault, refused = await check_request(request, request.args.get("model", ""))
    return refused


@websocket(blueprint, "/v1/realtime", subprotocol="realtime")
async def realtime(request: Request, ws: WebsocketImplProtocol) -> None:
    """The Realtime API."""
    session = _Realtime(LiveSession(request, ws, request.ctx.fault), request.args.get("model", ""))
    await session.run()


class _Realtime:
    def __init__(self, session: LiveSession, model: str) -> None:
        self._session = session
        self._settings: JSON = {
            "type": "realtime",
            "object": "realtime.session",
            "id": "sess_" + secrets.token_hex(12),
            "model": model,
            "output_modalities": ["audio"],
        }
        self._text, self._sound, self._turns = "", 0, 0

    async def run(self) -> None:
        """Answers events until the client leaves."""
        await self._say("session.created", session=self._settings)
        async for event in self._session.messages():
            kind = event.get("type")
            answers = {
                "session.update": self._update,
                "conversation.item.create": self._add,
                "input_audio_buffer.append": self._hear,
                "input_audio_buffer.commit": self._commit,
                "response.create": self._respond,
            }
            answer = answers.get(str(kind))
            if answer is None:
                await self._refuse(f"Invalid value: '{kind}'.", "type", event)
            else:
                await answer(event)

    async def _say(self, kind: str, **fields: Any) -> None:
        event_id = "event_" + secrets.token_hex(10)
        await self._session.say({"type": kind, "event_id": event_id, **fields})

    async def _refuse(self, message: str, param: str, event: JSON) -> None:
        error = {
            "type": "invalid_request_error",
            "code": "invalid_value",
            "message": message,
            "param": param,
            "event_id": event.get("event_id"),
        }
        await self._say("error", error=error)

    async def _update(self, event: JSON) -> None:
        self._settings |= event.get("session") or {}
        await self._say("session.updated", session=self._settings)

    async def _add(self, event: JSON) -> None:
        item = {"id": "item_" + secrets.token_hex(10), **(event.get("item") or {})}
        parts = item.get("content") or []
        self._text = "".join(part.get("text", "") for part in parts if isinstance(part, dict))
        await self._say("conversation.item.added", item=item, previous_item_id=None)
        await self._say("conversation.item.done", item=item, previous_item_id=None)

    async def _hear(self, event: JSON) -> None:
        try:
            self._sound += len(base64.b64decode(event.get("audio", ""), validate=True))
        except (binascii.Error, TypeError, ValueError):
            await self._refuse("Invalid 'audio'. Expected base64-encoded audio.", "audio", event)

    async def _commit(self, event: JSON) -> None:
        self._text = f"{self._sound} bytes of sound"
        self._sound = 0
        item_id = "item_" + secrets.token_hex(10)
        await self._say("input_audio_buffer.committed", item_id=item_id, previous_item_id=None)

    async def _respond(self, event: JSON) -> None:
        self._turns += 1
        asked = event.get("response") or {}
        spoken = "audio" in (asked.get("output_modalities") or self._settings["output_modalities"])
        said = f"You said: {self._text}" + (f" (turn {self._turns})" if self._turns > 1 else "")
        pieces = list(self._session.fault.pieces(said))
        response: JSON = {
            "object": "realtime.response",
            "id": "resp_" + secrets.token_hex(10),
            "status": "in_progress",
            "output": [],
        }
        await self._say("response.created", response=response)
        item_id = "item_" + secrets.token_hex(10)
        at = {
            "response_id": response["id"],
            "item_id": item_id,
            "output_index": 0,
            "content_index": 0,
        }
        kind = "output_audio_transcript" if spoken else "output_text"
        for piece in pieces:
            if spoken:
                await self._say("response.output_audio.delta", **at, delta=CHUNK)
            await self._say(f"response.{kind}.delta", **at, delta=piece)
        done = {"transcript": said} if spoken else {"text": said}
        await self._say(f"response.{kind}.done", **at, **done)
        part = {"type": "output_audio" if spoken else "output_text", **done}
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [part],
        }
        tokens = len(pieces)
        details = {"text_tokens": 0 if spoken else tokens, "audio_tokens": tokens if spoken else 0}
        cached = {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}
        usage = {
            "total_tokens": 12 + tokens,
            "input_tokens": 12,
            "output_tokens": tokens,
            "input_token_details": {
                "text_tokens": 12,
                "audio_tokens": 0,
                "image_tokens": 0,
                "cached_tokens": 0,
                "cached_tokens_details": cached,
            },
            "output_token_details": details,
        }
        response |= {"status": "completed", "output": [item], "usage": usage}
        await self._say("response.done", response=response)


@websocket(blueprint, "/v1/responses")
async def responses(request: Request, ws: WebsocketImplProtocol) -> None:
    """Responses over a websocket. `generate: false` makes a response without output."""
    session = LiveSession(request, ws, request.ctx.fault)
    async for body in session.messages():
        if body.get("type") != "response.create" or not body.get("model"):
            message = "Missing required parameter: 'model'."
            error = {"type": "invalid_request_error", "code": None, "message": message}
            await session.say({"type": "error", "status": 400, "error": error})
            continue
        made = ResponseAnswer(body, session.fault)
        if body.get("generate") is False:
            made.output = []
        for event in made.events():
            await session.say(decode(event.partition(b"data: ")[2]))
