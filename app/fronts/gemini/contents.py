"""Google's contents as the neutral messages.

A turn's parts are pulled apart: results of functions become messages of their own, right behind the
calls and in their order; what else the user said follows. Calls and results need no ids on this
wire: they are matched by id, else by name, else by place. Protocol sheet: front-gemini, 3.
"""

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.fronts.gemini.media import media_part
from app.fronts.gemini.schema import Content, FunctionCall, FunctionResponse, Part
from app.fronts.gemini.signatures import THOUGHTS, carried
from app.fronts.tool_round import current_round
from app.wire import chat
from app.wire.asked import UNREADABLE
from app.wire.chat import Message, ToolCallRequest
from app.wire.errors import bad_request
from app.wire.fenced_code import fenced_code
from app.wire.signature_mark import START

_LONGEST_ID = 64
_NO_RESULT = ""
_OWN_WORD = "skip_thought_signature_validator"  # a client's, where it has no signature
_PLAIN_RESULTS = ("output", "result", "error")
_result = msgspec.json.Decoder(dict[str, Raw])
_text = msgspec.json.Decoder(str)
Placed = tuple[str, Part]  # a part and its path in the body
Contents = list[Content | str] | Content | str | None


class _Call(Struct):
    """A call of the last model turn, and its result once it has one."""

    given: str  # the caller's id, "" for none
    name: str
    sent: str
    result: Message | None = None


class Talk(Struct):
    """What the contents say."""

    messages: list[Message] = []
    dropped: list[str] = []


def read_contents(system: Contents, contents: Contents, *, is_whole: bool = True) -> Talk:
    """The neutral messages. Raises GatewayError 400 for what only Gemini takes.

    With `is_whole` False results need no call: gemini-cli counts the tokens of new parts alone.
    """
    return _Reader(is_whole).read(_listed(system), _listed(contents))


def _listed(contents: Contents) -> list[Content]:
    if contents is None:
        return []
    several = contents if isinstance(contents, list) else [contents]
    return [Content(text=each) if isinstance(each, str) else each for each in several]


class _Reader:
    """Reads one body. `_calls` are the calls of the last model turn."""

    def __init__(self, is_whole: bool) -> None:
        self._is_whole = is_whole
        self._is_current = False  # the round of calls that the answer will go on with
        self._calls: list[_Call] = []
        self.talk = Talk()

    def read(self, system: list[Content], contents: list[Content]) -> Talk:
        out = self.talk.messages
        for content in system:
            texts = [part.text for part in content.all_parts() if part.text]
            out += [Message("system", text) for text in texts]
        runs = list(_runs(contents))
        begin = current_round(not is_model and _asks(run) for is_model, run in runs)
        for at, (is_model, run) in enumerate(runs):
            self._is_current = at >= begin
            if is_model:
                self._close_calls()
                self._model(run)
            else:
                self._user(run)
        self._close_calls()
        return self.talk

    def _drop(self, name: str) -> None:
        if name not in self.talk.dropped:
            self.talk.dropped.append(name)

    # --- what the user says ---------------------------------------------------------------------

    def _user(self, run: list[tuple[str, list[Placed]]]) -> None:
        placed = [one for _, parts in run for one in parts]
        self._pair([(p, part.function_response) for p, part in placed if part.function_response])
        self._close_calls()
        out = self.talk.messages
        for role, parts in run:
            said = [each for path, part in parts for each in self._parts(path, part)]
            if role == "system":
                text = "\n\n".join(part.text or "" for part in said)
                out += [Message("system", text, keeps_place=True)] if text else []
            elif len(said) == 1 and said[0].type == "text":
                out.append(Message("user", said[0].text))
            elif said:
                out.append(Message("user", said))

    def _parts(self, path: str, part: Part) -> Iterator[chat.Part]:
        if part.text is not None:
            if part.text and not part.thought:
                yield chat.Part("text", text=part.text)
        elif part.inline_data is not None:
            yield media_part(f"{path}.inlineData", part.inline_data)
        elif part.file_data is not None:
            yield media_part(f"{path}.fileData", part.file_data)
        elif text := _code(part):
            yield chat.Part("text", text=text)
        elif part.function_call is not None:
            raise bad_request(f"{path}: a functionCall belongs to the role model.", path)
        elif part.function_response is None:
            self._drop("contents.parts")

    def _pair(self, results: list[tuple[str, FunctionResponse]]) -> None:
        """Gives each result to its call. Raises GatewayError 400 for one that has none."""
        left = results
        for fits in (_has_id, _has_name, _is_next):
            left = [each for each in left if not self._given(*each, fits)]
        for path, response in left:
            if self._is_whole:
                raise bad_request(
                    f"{path}.functionResponse: there are more function responses than calls in "
                    "the model's turn before.",
                    f"{path}.functionResponse",
                )
            self.talk.messages.append(self._result(path, response, response.id or ""))

    def _given(self, path: str, response: FunctionResponse, fits: Any) -> bool:
        for call in self._calls:
            if call.result is None and fits(call, response):
                call.result = self._result(path, response, call.sent)
                return True
        return False

    def _close_calls(self) -> None:
        """Answers the open calls, with a placeholder where no result came."""
        for call in self._calls:
            placeholder = Message("tool", _NO_RESULT, tool_call_id=call.sent)
            self.talk.messages.append(call.result or placeholder)
        self._calls = []

    def _result(self, path: str, response: FunctionResponse, sent: str) -> Message:
        text, is_error = _words_of(response.response, f"{path}.functionResponse.response")
        media = []
        for at, part in enumerate(response.parts or ()):
            where = f"{path}.functionResponse.parts[{at}]"
            if part.inline_data is not None:
                media.append(media_part(f"{where}.inlineData", part.inline_data))
            elif part.file_data is not None:
                media.append(media_part(f"{where}.fileData", part.file_data))
        head = [chat.Part("text", text=text)] if text else []
        content = [*head, *media] if media else text
        return Message("tool", content, tool_call_id=sent, is_error=is_error)

    # --- what the model said --------------------------------------------------------------------

    def _model(self, run: list[tuple[str, list[Placed]]]) -> None:
        texts: list[str] = []
        thoughts: list[str] = []  # those without signatures
        calls: list[ToolCallRequest] = []
        blocks: list[dict[str, Any]] | None = None  # the thought that the turn began with
        for path, part in (one for _, parts in run for one in parts):
            if part.function_call is not None:
                call = self._call(path, part.function_call)
                thoughts.append(self._sign(call, part.thought_signature))
                if not calls:
                    # Claude's turns begin with their thought.
                    blocks, call.thinking_blocks = call.thinking_blocks, None
                calls.append(call)
            elif part.thought:
                pass
            elif part.text is not None:
                texts.append(part.text)
            elif text := _code(part):
                texts.append(text)
            else:
                self._drop("contents.parts.inlineData" if part.inline_data else "contents.parts")
        text = "".join(texts)
        if text or calls:
            thought = "".join(thoughts) if self._is_current else ""
            self.talk.messages.append(
                Message(
                    "assistant",
                    text or None,
                    tool_calls=calls or None,
                    reasoning_content=thought or None,
                    thinking_blocks=blocks,
                )
            )

    def _call(self, path: str, said: FunctionCall) -> ToolCallRequest:
        if not said.name:
            at = f"{path}.functionCall.name"
            raise bad_request(f"{at}: a call needs the function's name.", at)
        arguments = _compact(said.args, f"{path}.functionCall.args")
        given = said.id or ""
        sent = given
        if not sent or len(sent) > _LONGEST_ID or any(sent == call.sent for call in self._calls):
            # The same for each request of the conversation: prompt caches go by it.
            sent = "call_" + sha256(f"{path} {given}".encode("utf-8", "replace")).hexdigest()[:24]
        self._calls.append(_Call(given, said.name, sent))
        return ToolCallRequest(sent, function=chat.FunctionCall(said.name, arguments))

    def _sign(self, call: ToolCallRequest, signature: str | None) -> str:
        """Takes back what the signature carries; a client's placeholder says nothing. Returns the
        thought of an upstream without signatures."""
        thought = ""
        if not signature or signature == _OWN_WORD:
            signature = THOUGHTS.recall(call.id or "")
        if signature and signature.startswith(START):
            call.thinking_blocks, thought = carried(signature)
        elif signature:
            call.extra_content = {"google": {"thought_signature": signature}}
        return thought


def _asks(run: list[tuple[str, list[Placed]]]) -> bool:
    """Whether the user says something besides results of functions."""
    return any(
        part.function_response is None and part.text != "" for _, parts in run for _, part in parts
    )


def _runs(contents: Iterable[Content]) -> Iterator[tuple[bool, list[tuple[str, list[Placed]]]]]:
    """Turns of the model, and what stands between them: each content's role and parts."""
    was_model, run = False, list[tuple[str, list[Placed]]]()
    for index, content in enumerate(contents):
        role = (content.role or "user").lower()
        if role not in ("user", "model", "function", "tool", "system", "assistant"):
            path = f"contents[{index}].role"
            raise bad_request(f"{path}: must be user or model.", path)
        is_model = role in ("model", "assistant")
        if run and is_model != was_model:
            yield was_model, run
            run = []
        placed = [
            (f"contents[{index}].parts[{at}]", part) for at, part in enumerate(content.all_parts())
        ]
        was_model = is_model
        run.append((role, placed))
    if run:
        yield was_model, run


# --- which call a result belongs to -------------------------------------------------------------


def _has_id(call: _Call, response: FunctionResponse) -> bool:
    given = response.id
    if not given:
        return False
    # gemini-cli writes the function's name in front of it where it counts tokens.
    return given in (call.given, call.sent) or given == f"{call.name}__{call.given}"


def _has_name(call: _Call, response: FunctionResponse) -> bool:
    return bool(response.name) and response.name == call.name


def _is_next(call: _Call, response: FunctionResponse) -> bool:
    return True


# --- values -------------------------------------------------------------------------------------


def _words_of(raw: Raw, path: str) -> tuple[str, bool]:
    """A function's result as text, and whether it failed: the text alone where that is all."""
    if bytes(raw).strip() in (b"", b"null", b"{}"):
        return "", False
    try:
        members = _result.decode(raw)
        if len(members) == 1:
            ((name, value),) = members.items()
            if name in _PLAIN_RESULTS and bytes(value)[:1] == b'"':
                return _text.decode(value), name == "error"
    except UNREADABLE:
        pass
    return _compact(raw, path, is_object=False), False


def _compact(raw: Raw, path: str, *, is_object: bool = True) -> str:
    """The value's JSON text without blanks. Raises GatewayError 400 for what is no object."""
    value = bytes(raw).strip()
    if value in (b"", b"null"):
        return "{}"
    try:
        compact = msgspec.json.format(value, indent=-1).decode()
    except UNREADABLE:
        compact = ""
    if not compact or (is_object and compact[0] != "{"):
        raise bad_request(f"{path}: must be a JSON object.", path)
    return compact


def _code(part: Part) -> str:
    """Code that ran at Google and what it printed, in Markdown; "" for another part."""
    if part.executable_code is not None:
        code = part.executable_code
        language = re.sub(r"\W", "", (code.language or "").lower())
        return fenced_code(code.code or "", language)
    if part.code_execution_result is not None:
        return fenced_code(part.code_execution_result.output or "", "")
    return ""
