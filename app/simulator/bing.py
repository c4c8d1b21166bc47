"""Bing chat, under /bing: conversations, the picture upload, and the hub on a websocket.

The question asks for what shall happen, behind its last slash: `Hi /sim-captcha`. Words of its own:
captcha, throttled, expired, limit, disengaged, apology, search, draw, edit, two, closed, no-shake.
Of the shared faults (faults.py) cut-after, close-after, hang-after, drip and split count frames.
The text answers "You said: <question>", with " (turn 2)" in a conversation that goes on.
"""

import asyncio
import secrets
from itertools import count
from typing import Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request
from sanic.server.websockets.impl import WebsocketImplProtocol

from app.simulator import delivery
from app.simulator.bing_answer import JSON, Answer, Conversation, encode
from app.simulator.delivery import Dialect, with_headers
from app.simulator.faults import Fault, Refusal
from app.simulator.ledger import record_of

MAX_KEPT = 5000
_ids = count(1)

blueprint = Blueprint("bing", url_prefix="/bing")
conversations: dict[str, Conversation] = {}


def _refuse(asked: Refusal) -> HTTPResponse:
    return HTTPResponse(b"", asked.status)


DIALECT = Dialect(refuse=_refuse, error_event=b"", error_body=b"", bad_event=b"")


async def check_request(request: Request) -> tuple[Fault, HTTPResponse | None]:
    """Picks the fault and checks the request; the second value is the answer when it stops here."""
    fault = request.app.ctx.faults.pick(request)
    return fault, await delivery.before_answer(request, fault, DIALECT)


def _json(body: Any, headers: delivery.Headers = (), status: int = 200) -> HTTPResponse:
    response = HTTPResponse(encode(body), status, content_type="application/json; charset=utf-8")
    return with_headers(response, headers)


def _new_conversation() -> Conversation:
    made = Conversation(
        f"51D|BingProdUnAuthenticatedUsers|{secrets.token_hex(32).upper()}",
        str(next(_ids)),
        "sig+/" + secrets.token_urlsafe(24) + "==",  # what must be quoted in an address
    )
    conversations[made.id] = made
    if len(conversations) > MAX_KEPT:
        del conversations[next(iter(conversations))]
    return made


@blueprint.get("/turing/conversation/create")
async def create(request: Request) -> HTTPResponse | None:
    """Makes a conversation; its signature goes out in a header."""
    _, refused = await check_request(request)
    if refused:
        return refused
    made = _new_conversation()
    said = {
        "conversationId": made.id,
        "clientId": made.client_id,
        "result": {"value": "Success", "message": None},
    }
    return _json(said, [("X-Sydney-Encryptedconversationsignature", made.signature)])


@blueprint.get("/turing/conversation/chats")
async def chats(request: Request) -> HTTPResponse | None:
    """The last ten conversations."""
    _, refused = await check_request(request)
    found = [{"conversationId": id, "chatName": "A chat"} for id in conversations]
    return refused or _json({"chats": found[-10:], "result": {"value": "Success"}})


@blueprint.post("/sydney/DeleteSingleConversation")
async def delete(request: Request) -> HTTPResponse | None:
    """Deletes a conversation, when the signature is the right one."""
    _, refused = await check_request(request)
    if refused:
        return refused
    asked = request.json or {}
    made = conversations.get(asked.get("conversationId", ""))
    if made is None or asked.get("conversationSignature") != made.signature:
        return _json({"result": {"value": "UnauthorizedRequest", "message": "no"}}, status=401)
    del conversations[made.id]
    return _json({"conversationId": made.id, "result": {"value": "Success", "message": None}})


@blueprint.post("/images/kblob")
async def upload(request: Request) -> HTTPResponse | None:
    """The picture upload: a blob id for a JPEG or a URL, an empty object otherwise."""
    _, refused = await check_request(request)
    if refused:
        return refused
    form: Any = request.form or {}
    knowledge = msgspec.json.decode(form.get("knowledgeRequest") or "{}")
    picture = form.get("imageBase64") or ""
    if not picture.startswith("/9j/") and not knowledge.get("imageInfo", {}).get("url"):
        return _json({})
    return _json({"blobId": secrets.token_hex(8), "processedBlobId": ""})


# the hub ----------------------------------------------------------------------------------------


@blueprint.websocket("/sydney/ChatHub")  # type: ignore[untyped-decorator]
async def hub(request: Request, ws: WebsocketImplProtocol) -> None:
    """The SignalR hub: handshake, one question, its answer; then the connection stays open."""
    signature = request.args.get("sec_access_token", "")
    records = _Records(ws)
    shake = await records.next()
    if shake is None:
        return
    if shake.get("protocol") != "json":
        await ws.send('{"error":"Requested protocol is not available."}\x1e')
        return
    await ws.send("{}\x1e")
    while (record := await records.next()) is not None:
        if record.get("type") == 6:
            continue
        if record.get("type") == 4:
            await _answer_question(request, ws, record, signature)
            # The hub keeps the connection: its client is to leave.
            while await records.next() is not None:
                pass
            return


class _Records:
    """Splits the client's messages into records."""

    def __init__(self, ws: WebsocketImplProtocol) -> None:
        self._ws, self._rest = ws, ""
        self._whole: list[str] = []

    async def next(self) -> JSON | None:
        while not self._whole:
            data = await self._ws.recv()
            if data is None:
                return None
            text = data if isinstance(data, str) else data.decode()
            *whole, self._rest = (self._rest + text).split("\x1e")
            self._whole = [record for record in whole if record]
        found: JSON = msgspec.json.decode(self._whole.pop(0))
        return found


async def _answer_question(
    request: Request, ws: WebsocketImplProtocol, asked: JSON, signature: str
) -> None:
    argument = asked["arguments"][0]
    text = argument["message"]["text"]
    fault = request.app.ctx.faults.pick(request, text)
    record = record_of(request)
    record.body = encode(asked)  # what /_sim/last shows of a websocket is its question
    record.is_stream = True
    made = conversations.get(argument["conversationId"])
    word = fault.unknown
    if (
        made is None
        or made.signature != signature
        or made.client_id != argument["participant"]["id"]
    ):
        word = "unauthorized"
    answer = Answer(argument, asked["invocationId"], made, fault, word)
    for number, frame in enumerate(answer.frames()):
        if number == fault.hang_after:
            await delivery.hang()
        if number == fault.close_after:
            await ws.close(1000)
            return
        if number == fault.cut_after:
            await delivery.reset_connection(request)
        await _send_record(ws, frame, fault.split)
        record.events += 1
        await asyncio.sleep(max(fault.drip_ms, 0) / 1000)


async def _send_record(ws: WebsocketImplProtocol, frame: bytes, split: int) -> None:
    """One record, cut over several messages when that is asked for."""
    text = frame.decode()
    step = split if split > 0 else len(text)
    for start in range(0, len(text), step):
        await ws.send(text[start : start + step])
