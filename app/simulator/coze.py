"""Coze's open API, under /coze: v3 and v2 chats, files, conversations.

Tokens begin with `pat_`; one with "bad" in it is refused (4100). A bot's id is any text. Named
like a fault (`sim-cut-after-3`) it has it; `code-4016` refuses the chat with that code before the
stream, `event-5000` inside it. Errors are HTTP 200 with JSON, as there.
The text answers "You said: <question>", with " (turn 2)" when the conversation remembers a first.
"""

import re
import secrets
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import msgspec
from msgspec import Struct
from sanic import Blueprint, HTTPResponse, Request

from app.simulator import delivery
from app.simulator.delivery import Dialect, send_events, with_headers
from app.simulator.faults import Fault, Refusal
from app.simulator.ledger import record_of

JSON = dict[str, Any]
encode = msgspec.json.encode

MAX_KEPT = 5000  # conversations, chats and files each
MAX_MESSAGES = 100
SSE = "text/event-stream"
_REFUSED = re.compile(r"code-(\d+)$")
_BROKEN = re.compile(r"event-(\d+)$")
_ids = count(7_382_159_487_131_697_202)

blueprint = Blueprint("coze", url_prefix="/coze")


def new_id() -> str:
    """The next id, a decimal number of Coze's size."""
    return str(next(_ids))


class Chat(Struct):
    """One v3 chat: a question and its answer."""

    id: str
    conversation_id: str
    bot_id: str
    question: str
    answer: str
    created_at: int
    status: str = "in_progress"

    def view(self) -> JSON:
        """Coze's Chat object; usage only when it is completed."""
        usage = {"token_count": 0, "output_count": 0, "input_count": 0}
        if self.status == "completed":
            output, asked = len(self.answer.split()), len(self.question.split()) + 10
            usage = {"token_count": output + asked, "output_count": output, "input_count": asked}
        view: JSON = {
            "id": self.id,
            "conversation_id": self.conversation_id,
            "bot_id": self.bot_id,
            "created_at": self.created_at,
            "last_error": {"code": 0, "msg": ""},
            "status": self.status,
            "usage": usage,
        }
        if self.status == "completed":
            view["completed_at"] = int(time.time())
        return view

    def message(self, id: str, type: str, content: str) -> JSON:
        """One message of the chat as Coze writes it."""
        return {
            "id": id,
            "conversation_id": self.conversation_id,
            "bot_id": self.bot_id,
            "role": "assistant",
            "type": type,
            "content": content,
            "content_type": "text",
            "chat_id": self.id,
        }


class Conversation(Struct):
    """A conversation: its number of questions and the chat that still runs."""

    id: str
    turns: int = 0
    running: str = ""  # the chat that is not over


class Memory:
    """What the server keeps; the oldest entries are dropped first."""

    def __init__(self) -> None:
        self.conversations: dict[str, Conversation] = {}
        self.chats: dict[str, Chat] = {}
        self.files: dict[str, int] = {}

    @staticmethod
    def put(kept: dict[str, Any], id: str, value: Any) -> None:
        """Adds an entry to one of the tables and drops the oldest beyond MAX_KEPT."""
        kept[id] = value
        if len(kept) > MAX_KEPT:
            del kept[next(iter(kept))]


memory = Memory()

# how it fails -----------------------------------------------------------------------------------


def logid() -> str:
    """A fresh log id."""
    return time.strftime("%Y%m%d%H%M%S") + secrets.token_hex(9).upper()


def refusal(code: int, msg: str, status: int = 200) -> HTTPResponse:
    """An error: a code in a JSON body, HTTP 200 unless given otherwise."""
    id = logid()
    body = encode({"code": code, "msg": msg, "detail": {"logid": id}})
    return with_headers(
        HTTPResponse(body, status), [("content-type", "application/json"), ("x-tt-logid", id)]
    )


def answer(data: Any, **more: Any) -> HTTPResponse:
    """A JSON answer with code 0."""
    body = encode({"data": data, "code": 0, "msg": "", **more})
    return with_headers(
        HTTPResponse(body), [("content-type", "application/json"), ("x-tt-logid", logid())]
    )


_CODES = {"auth": 4100, "forbidden": 4101, "payment": 4011, "rate_limit": 4020, "quota": 4008}


def _refuse(asked: Refusal) -> HTTPResponse:
    if asked.kind in _CODES:
        return refusal(_CODES[asked.kind], "The simulator refuses.")
    return refusal(4009 if asked.status >= 500 else 4000, "The simulator refuses.", asked.status)


DIALECT_V3 = Dialect(
    refuse=_refuse,
    error_event=b'event:error\ndata:{"code":5000,"msg":"event interval error"}\n\n',
    error_body=b'{"code":5000,"msg":"event interval error"}',
    bad_event=b'event:conversation.message.delta\ndata:{"id":"7\n\n',
)
DIALECT_V2 = Dialect(
    refuse=_refuse,
    error_event=b'data:{"event":"error","error_information":{"code":5000,"msg":"oops"}}\n\n',
    error_body=b'{"code":5000,"msg":"oops"}',
    bad_event=b'data:{"event":"mess\n\n',
)


async def check_request(
    request: Request, dialect: Dialect, bot_id: str = ""
) -> tuple[Fault, HTTPResponse | None]:
    """Picks the fault and checks the request; the second value is the answer when it stops here."""
    fault = request.app.ctx.faults.pick(request, bot_id)
    key = record_of(request).key
    if not fault.name and (not key.startswith(("pat_", "demo-")) or "bad" in key):
        return fault, refusal(4100, "authentication is invalid")
    if refused := await delivery.before_answer(request, fault, dialect):
        return fault, refused
    if asked := _REFUSED.match(bot_id):
        return fault, refusal(int(asked[1]), "as the bot's name asks")
    return fault, None


def read(request: Request) -> JSON | None:
    """The JSON object of the body, None when it is none."""
    try:
        body = msgspec.json.decode(request.body)
    except msgspec.DecodeError:
        return None
    return body if isinstance(body, dict) else None


# v3 ---------------------------------------------------------------------------------------------


@blueprint.post("/v3/chat")
async def chat_v3(request: Request) -> HTTPResponse | None:
    """POST /v3/chat: starts a chat, streamed or to be polled."""
    body = read(request)
    bot_id = body.get("bot_id") if body else None
    fault, refused = await check_request(request, DIALECT_V3, str(bot_id or ""))
    if refused:
        return refused
    # A number in place of an id is refused like what is no JSON at all.
    if body is None or not isinstance(bot_id, str) or not isinstance(body.get("user_id"), str):
        return refusal(4000, "Request parameter error: not a valid json or chat request")
    messages = body.get("additional_messages") or []
    if problem := _problem(body, messages):
        return problem
    asked = request.args.get("conversation_id")
    conversation = memory.conversations.get(asked) if asked else _new_conversation()
    if conversation is None:
        return refusal(4002, "The requested conversation does not exist.")
    if conversation.running:
        return refusal(4016, "The conversation has a running chat.")
    question = _text(messages[-1]) if messages else ""
    conversation.turns += 1
    said = f"You said: {question}"
    if conversation.turns > 1:
        said += f" (turn {conversation.turns})"
    if files := _files(messages[-1]) if messages else 0:
        said += f" (with {files} files)"
    chat = Chat(new_id(), conversation.id, bot_id, question, said, int(time.time()))
    memory.put(memory.chats, chat.id, chat)
    if not body.get("stream"):
        chat.status = "completed"
        return answer({**chat.view(), "status": "in_progress"})
    conversation.running = chat.id
    try:
        if fault.replay:
            found = request.app.ctx.recordings.find("coze", fault.replay)
            if found is None:
                return refusal(4200, f"There is no recording {fault.replay!r}.")
            events: Iterator[bytes] = iter(found.events())
        else:
            events = _events(chat, fault)
        return await send_events(
            request,
            fault,
            events,
            DIALECT_V3,
            headers=[("x-tt-logid", logid())],
            content_type=SSE,
        )
    finally:
        # A caller that leaves does not end the chat: only its end or a cancel does.
        if chat.status in ("completed", "failed") or fault.name:
            conversation.running = ""


def _problem(body: JSON, messages: list[JSON]) -> HTTPResponse | None:
    if len(messages) > MAX_MESSAGES:
        return refusal(4004, "additional_messages exceeds the limit.")
    if not body.get("stream") and body.get("auto_save_history") is False:
        return refusal(4007, "auto_save_history must be true when stream is false.")
    for place, message in enumerate(messages):
        if message.get("role") not in ("user", "assistant"):
            return refusal(4000, f"Invalid role {message.get('role')!r}.")
        if message.get("content_type") != "object_string":
            continue
        items = msgspec.json.decode(message["content"])
        texts = sum(item["type"] == "text" for item in items)
        if texts > 1 or texts == len(items):
            return refusal(4000, "object_string needs a file and at most one text.")
        for item in items:
            if item.get("file_id") and item["file_id"] not in memory.files:
                return refusal(4000, "The file does not exist.")
        beside = messages[max(place - 1, 0) : place] + messages[place + 1 : place + 2]
        if not texts and not any(m.get("content_type") == "text" for m in beside):
            return refusal(4000, "A picture needs a text message beside it.")
    return None


def _text(message: JSON) -> str:
    if message.get("content_type") != "object_string":
        return str(message.get("content", ""))
    items = msgspec.json.decode(message["content"])
    return "".join(item.get("text") or "" for item in items)


def _files(message: JSON) -> int:
    if message.get("content_type") != "object_string":
        return 0
    return sum(item["type"] != "text" for item in msgspec.json.decode(message["content"]))


def _new_conversation() -> Conversation:
    conversation = Conversation(new_id())
    memory.put(memory.conversations, conversation.id, conversation)
    return conversation


def _event(name: str, data: Any) -> bytes:
    return f"event:{name}\ndata:".encode() + encode(data) + b"\n\n"


def _events(chat: Chat, fault: Fault) -> Iterator[bytes]:
    yield _event("conversation.chat.created", {**chat.view(), "status": "created"})
    yield _event("conversation.chat.in_progress", chat.view())
    if broken := _BROKEN.match(chat.bot_id):
        chat.status = "failed"
        error = {"code": int(broken[1]), "msg": "as the bot's name asks"}
        yield _event("conversation.chat.failed", {**chat.view(), "last_error": error})
        yield b'event:done\ndata:"[DONE]"\n\n'
        return
    id = new_id()
    said = []
    for piece in fault.pieces(chat.answer):
        said.append(piece)
        yield _event("conversation.message.delta", chat.message(id, "answer", piece))
    whole = "".join(said)
    yield _event("conversation.message.completed", chat.message(id, "answer", whole))
    finish = '{"msg_type":"generate_answer_finish","data":"{\\"finish_reason\\":0}"}'
    for type, content in (("verbose", finish), ("follow_up", "Another question?")):
        yield _event("conversation.message.completed", chat.message(new_id(), type, content))
    chat.status = "completed"
    yield _event("conversation.chat.completed", chat.view())
    yield b'event:done\ndata:"[DONE]"\n\n'


def _chat_asked(request: Request) -> Chat | None:
    return memory.chats.get(request.args.get("chat_id", ""))


async def retrieve(request: Request) -> HTTPResponse | None:
    """The state of a chat."""
    _, refused = await check_request(request, DIALECT_V3)
    chat = _chat_asked(request)
    if refused or chat is None:
        return refused or refusal(4001, "The requested chat does not exist.")
    return answer(chat.view())


async def message_list(request: Request) -> HTTPResponse | None:
    """The messages of a chat."""
    _, refused = await check_request(request, DIALECT_V3)
    chat = _chat_asked(request)
    if refused or chat is None:
        return refused or refusal(4001, "The requested chat does not exist.")
    return answer(
        [
            chat.message(new_id(), "answer", chat.answer),
            chat.message(new_id(), "follow_up", "Another question?"),
        ]
    )


# The documentation says GET, the official Python SDK says POST.
blueprint.add_route(retrieve, "/v3/chat/retrieve", methods=["GET", "POST"])
blueprint.add_route(message_list, "/v3/chat/message/list", methods=["GET", "POST"])


@blueprint.post("/v3/chat/cancel")
async def cancel(request: Request) -> HTTPResponse | None:
    """Cancels a running chat."""
    _, refused = await check_request(request, DIALECT_V3)
    body = read(request) or {}
    chat = memory.chats.get(body.get("chat_id", ""))
    if refused or chat is None:
        return refused or refusal(4001, "The requested chat does not exist.")
    if chat.status != "in_progress":
        return refusal(4104, "The chat cannot be cancelled.")
    chat.status = "canceled"
    memory.conversations[chat.conversation_id].running = ""
    return answer(chat.view())


# <who> is always "me", which Sanic's router does not tell from other pages when written out.
@blueprint.get("/v1/users/<who>")
async def me(request: Request, who: str) -> HTTPResponse:
    """The user of the token."""
    _, refused = await check_request(request, DIALECT_V3)
    if refused:
        return refused
    return answer({"user_id": "7280000000000000001", "user_name": "sim", "nick_name": "Sim"})


@blueprint.post("/v1/conversation/create")
async def create_conversation(request: Request) -> HTTPResponse | None:
    """Makes an empty conversation."""
    _, refused = await check_request(request, DIALECT_V3)
    if refused:
        return refused
    made = _new_conversation()
    section = {"last_section_id": made.id, "meta_data": {}}
    return answer({"id": made.id, "created_at": int(time.time()), **section})


@blueprint.post("/v1/files/upload")
async def upload(request: Request) -> HTTPResponse | None:
    """Stores a file; only its size is kept."""
    _, refused = await check_request(request, DIALECT_V3)
    file = request.files.get("file") if request.files else None
    if refused or file is None:
        return refused or refusal(4301, "no file in the form")
    id = new_id()
    memory.put(memory.files, id, len(file.body))
    return answer(
        {
            "id": id,
            "bytes": len(file.body),
            "created_at": int(time.time()),
            "file_name": file.name,
        }
    )


# v2 ---------------------------------------------------------------------------------------------


@blueprint.post("/open_api/v2/chat")
async def chat_v2(request: Request) -> HTTPResponse | None:
    """POST /open_api/v2/chat: takes whatever conversation id the client chose."""
    body = read(request) or {}
    bot_id, query = body.get("bot_id"), body.get("query")
    fault, refused = await check_request(request, DIALECT_V2, str(bot_id or ""))
    if refused:
        return refused
    if not (isinstance(bot_id, str) and isinstance(query, str) and isinstance(body["user"], str)):
        return refusal(4000, "Request parameter error")
    id = body.get("conversation_id") or secrets.token_hex(16)
    conversation = memory.conversations.get(id)
    if conversation is None:  # v2 takes whatever id its caller chose
        conversation = Conversation(id)
        memory.put(memory.conversations, id, conversation)
    conversation.turns += 1
    said = f"You said: {query}"
    if conversation.turns > 1:
        said += f" (turn {conversation.turns})"
    if not body.get("stream"):
        message = {"role": "assistant", "type": "answer", "content": said, "content_type": "text"}
        return answer(None, messages=[message], conversation_id=id)
    return await send_events(
        request, fault, _events_v2(id, said, bot_id, fault), DIALECT_V2, content_type=SSE
    )


def _events_v2(id: str, said: str, bot_id: str, fault: Fault) -> Iterator[bytes]:
    seq = count()

    def message(type: str, content: str, index: int, is_finish: bool) -> bytes:
        event = {
            "event": "message",
            "message": {
                "role": "assistant",
                "type": type,
                "content": content,
                "content_type": "text",
            },
            "is_finish": is_finish,
            "index": index,
            "conversation_id": id,
            "seq_id": next(seq),
        }
        return b"data:" + encode(event) + b"\n\n"

    if broken := _BROKEN.match(bot_id):
        error = {"code": int(broken[1]), "msg": "as the bot's name asks"}
        yield b"data:" + encode({"event": "error", "error_information": error}) + b"\n\n"
        return
    for piece in fault.pieces(said):
        yield message("answer", piece, 0, False)
    yield message("answer", "", 0, True)
    finish = '{"msg_type":"generate_answer_finish","data":""}'
    yield message("verbose", finish, 1, True)
    yield message("follow_up", "Another question?", 2, True)
    yield b'data:{"event":"done"}\n\n'
