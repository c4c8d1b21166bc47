"""Bing chat, under /bing: conversations, the picture upload, and the hub on a websocket.

The question asks for what shall happen, behind its last slash: `Hi /sim-captcha`. Words of its own:
captcha, throttled, expired, limit, disengaged, apology, search, draw, edit, two, closed, no-shake.
Of the shared faults (faults.py) cut-after, close-after, hang-after, drip and split count frames.
The text answers "You said: <question>", with " (turn 2)" in a conversation that goes on.
"""

import asyncio
import secrets
from collections.abc import Iterator
from itertools import count
from typing import Any

import msgspec
from msgspec import Struct
from sanic import Blueprint, HTTPResponse, Request
from sanic.server.websockets.impl import WebsocketImplProtocol

from app.simulator import delivery
from app.simulator.delivery import Dialect, with_headers
from app.simulator.faults import Fault, Refusal
from app.simulator.ledger import record_of

JSON = dict[str, Any]
encode = msgspec.json.encode

MAX_KEPT = 5000
MAX_TURNS = 30
END = b"\x1e"
_ids = count(1)

blueprint = Blueprint("bing", url_prefix="/bing")


class Conversation(Struct):
    id: str
    client_id: str
    signature: str
    turns: int = 0


conversations: dict[str, Conversation] = {}


def _refuse(asked: Refusal) -> HTTPResponse:
    return HTTPResponse(b"", asked.status)


DIALECT = Dialect(refuse=_refuse, error_event=b"", error_body=b"", bad_event=b"")


async def enter(request: Request) -> tuple[Fault, HTTPResponse | None]:
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
    _, refused = await enter(request)
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
    _, refused = await enter(request)
    found = [{"conversationId": id, "chatName": "A chat"} for id in conversations]
    return refused or _json({"chats": found[-10:], "result": {"value": "Success"}})


@blueprint.post("/sydney/DeleteSingleConversation")
async def delete(request: Request) -> HTTPResponse | None:
    _, refused = await enter(request)
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
    _, refused = await enter(request)
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
            await _turn(request, ws, record, signature)
            # The hub keeps the connection: its client is to leave.
            while await records.next() is not None:
                pass
            return


class _Records:
    """What the client says, record by record."""

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


async def _turn(request: Request, ws: WebsocketImplProtocol, asked: JSON, signature: str) -> None:
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
    frames = _frames(argument, asked["invocationId"], made, fault, word)
    for number, frame in enumerate(frames):
        if number == fault.hang_after:
            await delivery.forever()
        if number == fault.close_after:
            await ws.close(1000)
            return
        if number == fault.cut_after:
            await delivery.cut(request)
        await _put(ws, frame, fault.split)
        record.events += 1
        await asyncio.sleep(max(fault.drip_ms, 0) / 1000)


async def _put(ws: WebsocketImplProtocol, frame: bytes, split: int) -> None:
    """One record, cut over several messages when that is asked for."""
    text = frame.decode()
    step = split if split > 0 else len(text)
    for start in range(0, len(text), step):
        await ws.send(text[start : start + step])


def _update(request_id: str, *messages: JSON, **more: Any) -> bytes:
    argument: JSON = {"messages": list(messages)} if messages else {}
    argument |= {"requestId": request_id, **more}
    return encode({"type": 1, "target": "update", "arguments": [argument]}) + END


def _frames(
    argument: JSON, invocation: str, made: Conversation | None, fault: Fault, word: str
) -> Iterator[bytes]:
    request_id = argument["requestId"]
    turns = 1
    if made is not None:
        turns = made.turns = made.turns + 1
    if word == "limit":
        turns = MAX_TURNS
    throttling = {
        "maxNumUserMessagesInConversation": MAX_TURNS,
        "numUserMessagesInConversation": turns,
    }

    def bot(text: str | None, id: str, **more: Any) -> JSON:
        said: JSON = {} if text is None else {"text": text}
        card = {"type": "TextBlock", "text": text, "wrap": True}
        return {
            **said,
            "author": "bot",
            "createdAt": "2024-02-05T07:59:50.1+00:00",
            "messageId": id,
            "requestId": request_id,
            "offense": "None",
            "adaptiveCards": [{"type": "AdaptiveCard", "version": "1.0", "body": [card]}],
            "contentOrigin": "DeepLeo",
            **more,
        }

    def final(value: str, messages: list[JSON] | None, message: str) -> bytes:
        item: JSON = {
            "firstNewMessageIndex": None if messages is None else 1,
            "conversationId": argument["conversationId"],
            "requestId": request_id,
            "result": {"value": value, "message": message, "serviceVersion": "20240203.103"},
        }
        if messages is None:
            item["result"]["error"] = message
        else:
            user = {**argument["message"], "messageId": request_id}
            item |= {"messages": [user, *messages], "throttling": throttling}
        end = {"type": 3, "invocationId": invocation}
        return (
            encode({"type": 2, "invocationId": invocation, "item": item}) + END + encode(end) + END
        )

    refusals = {
        "captcha": ("CaptchaChallenge", "User needs to solve CAPTCHA to continue."),
        "throttled": ("Throttled", "Request is throttled."),
        "expired": ("InvalidSession", "Conversation doesn't exist or has expired."),
        "unauthorized": ("UnauthorizedRequest", "Cannot retrieve user status."),
    }
    if word in refusals:
        value, message = refusals[word]
        yield final(value, None, message)
        return
    if word == "closed":
        yield b'{"type":7,"error":"Connection closed with an error.","allowReconnect":true}\x1e'
        return
    yield b'{"type":6}\x1e'
    yield _update(request_id, throttling=throttling)
    if word == "limit":
        yield final("Success", [], "")
        return
    text = argument["message"]["text"]
    said = f"You said: {text}" + (f" (turn {turns})" if turns > 1 else "")
    if argument["message"].get("imageUrl"):
        said += " (with a picture)"
    if argument.get("previousMessages"):
        said += " (with context)"
    side: list[JSON] = []
    sources: list[JSON] = []
    if word == "search":
        results = '{"web_search_results":[{"title":"A page","snippets":["..."]}]}'
        side = [
            bot("Searching the web for: `x`", "q1", messageType="InternalSearchQuery"),
            bot(results, "q2", messageType="InternalSearchResult"),
            bot("Buy this", "q3", messageType="AdsQuery"),
        ]
        sources = [{"providerDisplayName": "A page", "seeMoreUrl": "https://page.example/"}]
    if word == "draw":
        side = [bot(text, "d1", contentType="IMAGE", messageType="GenerateContentQuery")]
    for note in side:
        yield _update(request_id, note)
    so_far = ""
    for piece in fault.pieces(said):
        so_far += piece
        yield _update(request_id, bot(so_far, "m1", sourceAttributions=sources))
        if word in ("disengaged", "apology"):
            how: JSON = {"messageType": "Disengaged", "hiddenText": "> Conversation disengaged"}
            if word == "apology":
                how = {"contentOrigin": "Apology", "hiddenText": "Sorry!"}
            gone = bot(None, "m2", **how)
            yield _update(request_id, gone)
            yield final("Success", [bot(so_far, "m1"), gone], text)
            return
    if word == "edit":
        yield _update(request_id, bot(so_far.replace("You", "you"), "m1"))
    answers = [bot(so_far, "m1", sourceAttributions=sources)]
    if word == "two":
        yield _update(request_id, bot("And more.", "m2"))
        answers.append(bot("And more.", "m2"))
    card = bot(text, "r1", messageType="RenderCardRequest")
    yield final("Success", [*side, *answers, card], text)
