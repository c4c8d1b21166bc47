"""OpenAI's messages as Gemini's `contents` and `systemInstruction`.

Gemini demands that user and model take turns, and that every function call is answered in the next
content, in the order of the calls. Source: Google's Gemini API reference.
"""

import re
from typing import Any

from msgspec import Raw, Struct

from app.wire.chat import FunctionCall, Message, ToolCallRequest
from app.wire.errors import bad_request
from app.wire.surrogates import mend
from providers.gemini import schema
from providers.gemini.functions import Names
from providers.gemini.media import Learned, to_media
from providers.gemini.models import Model
from providers.gemini.raw_json import JSON_ERRORS, read_object
from providers.gemini.schema import FunctionResponse, RequestContent, RequestPart, ResponsePart
from providers.gemini.signatures import PLACEHOLDER, Signatures


class _Slot(Struct):
    """A tool call that waits for its result."""

    id: str | None
    name: str  # the caller's
    sent: FunctionResponse
    media: list[RequestPart] = []  # of the result, where it cannot stand inside it
    filled: bool = False


class Conversation:
    """Converts messages to contents: merged by role, results in the order of their calls."""

    def __init__(
        self, model: Model, names: Names, learned: Learned, signatures: Signatures
    ) -> None:
        self._model, self._names, self._learned = model, names, learned
        self._signatures = signatures
        self._contents: list[RequestContent] = []
        self._system: list[RequestPart] = []
        self._slots: list[_Slot] = []

    def read(self, messages: list[Message]) -> tuple[list[RequestContent], list[RequestPart]]:
        """The contents, and the parts of the system instruction."""
        for i, message in enumerate(messages):
            at = f"messages[{i}]"
            if message.role not in ("tool", "function"):
                self._close_calls()
            match message.role:
                case "system" | "developer" if message.keeps_place and self._has_answered():
                    self._add("user", [RequestPart(text=message.reminder())])
                case "system" | "developer":
                    self._system += self._texts(message, at)
                case "user":
                    self._add("user", self._parts(message, at))
                case "assistant":
                    self._assistant(message, at)
                case "tool":
                    self._result(message, at)
                case "function":
                    self._legacy_result(message, at)
                case _:
                    raise bad_request(
                        f"{message.role!r} is not a role; use system, developer, user,"
                        " assistant or tool.",
                        f"{at}.role",
                    )
        if any(slot.filled for slot in self._slots):
            self._close_calls()
        return self._checked(messages)

    def _checked(self, messages: list[Message]) -> tuple[list[RequestContent], list[RequestPart]]:
        contents, system = self._contents, self._system
        if not contents and any(message.role == "user" for message in messages):
            self._add(
                "user", [RequestPart(text="")]
            )  # Gemini accepts an empty text, but not an empty list
        if not contents and system:
            # OpenAI answers a lone system message, Gemini only a user.
            self._add("user", system)
            return contents, []
        if not contents:
            raise bad_request(
                "messages must hold at least one message of the user or the assistant.",
                "messages",
            )
        if system and not self._model.takes_system:
            if contents[0].role != "user":
                contents.insert(0, RequestContent([], "user"))
            contents[0].parts[:0] = system
            system = []
        if contents[0].role != "user":
            contents.insert(0, RequestContent([RequestPart(text=".")], "user"))
        return contents, system

    def _has_answered(self) -> bool:
        return any(content.role == "model" for content in self._contents)

    def _add(self, role: str, parts: list[RequestPart]) -> None:
        if not parts:
            return
        if self._contents and self._contents[-1].role == role:
            self._contents[-1].parts += parts
        else:
            self._contents.append(RequestContent(parts, role))

    def _texts(self, message: Message, at: str) -> list[RequestPart]:
        """A message that may hold only text."""
        for j, part in enumerate(message.parts()):
            if part.type != "text":
                raise bad_request(
                    f"A message of the role {message.role} may hold only text.",
                    f"{at}.content[{j}].type",
                )
        return [RequestPart(text=part.text) for part in message.parts() if part.text]

    def _parts(self, message: Message, at: str) -> list[RequestPart]:
        parts = []
        for j, part in enumerate(message.parts()):
            if part.type in ("text", "refusal"):
                text = part.text or part.refusal
                if text:
                    parts.append(RequestPart(text=text))
            else:
                parts.append(to_media(part, f"{at}.content[{j}]", self._learned))
        return parts

    def _assistant(self, message: Message, at: str) -> None:
        parts = self._parts(message, at)
        if message.refusal:
            parts.append(RequestPart(text=message.refusal))
        calls = message.tool_calls or []
        where = f"{at}.tool_calls"
        if not calls and message.function_call is not None:
            calls = [ToolCallRequest(function=message.function_call)]
            where = f"{at}.function_call"
        slots = []
        for k, call in enumerate(calls):
            path = f"{where}[{k}]" if message.tool_calls else where
            if call.function is None or not call.function.name:
                raise bad_request("A tool call needs a function with a name.", f"{path}.function")
            parts.append(self._call(call, call.function, path, is_first=k == 0))
            slots.append(self._slot(call.id, call.function.name))
        self._add("model", parts)
        self._slots = slots

    def _call(
        self, call: ToolCallRequest, function: FunctionCall, at: str, *, is_first: bool
    ) -> RequestPart:
        arguments = mend(((function.arguments or "").strip() or "{}").encode())
        try:
            read_object(arguments)
        except JSON_ERRORS:
            raise bad_request(
                "The arguments of a tool call must be the text of a JSON object.",
                f"{at}.function.arguments" if "tool_calls" in at else f"{at}.arguments",
            ) from None
        signature = _signature(call.extra_content) or (
            self._signatures.recall(call.id, function.name) if call.id else None
        )
        if signature is None and is_first and self._model.insists_on_signatures:
            signature = PLACEHOLDER
        sent = schema.FunctionCall(
            self._names.sent(function.name), Raw(arguments), _upstream_id(call.id)
        )
        return RequestPart(function_call=sent, thought_signature=signature)

    def _slot(self, call_id: str | None, name: str) -> _Slot:
        # A call without a result gets an empty one: Gemini refuses unequal numbers.
        response = FunctionResponse(self._names.sent(name), {"result": ""}, _upstream_id(call_id))
        return _Slot(call_id, name, response)

    def _result(self, message: Message, at: str) -> None:
        same = [slot for slot in self._slots if slot.id == message.tool_call_id]
        if not same:
            raise bad_request(
                f"No tool call with the id {message.tool_call_id!r} stands in the assistant"
                " message before this result.",
                f"{at}.tool_call_id",
            )
        self._fill(same, message, f"{at}.tool_call_id", at)

    def _legacy_result(self, message: Message, at: str) -> None:
        same = [slot for slot in self._slots if slot.name == message.name]
        if not same:
            raise bad_request(
                f"No call of the function {message.name!r} stands in the assistant message"
                " before this result.",
                f"{at}.name",
            )
        self._fill(same, message, f"{at}.name", at)

    def _fill(self, slots: list[_Slot], message: Message, param: str, at: str) -> None:
        slot = next((slot for slot in slots if not slot.filled), None)
        if slot is None:
            raise bad_request("This tool call has had its result already.", param)
        parts = self._parts(message, at)
        text = "".join(part.text or "" for part in parts)
        if message.is_error:
            slot.sent.response = {"error": text or "the tool failed"}
        else:
            slot.sent.response = _response(text)
        for part in parts:
            blob = part.inline_data
            if blob is not None and blob.mime_type in self._model.in_results:
                slot.sent.parts = [*(slot.sent.parts or ()), ResponsePart(blob)]
            elif part.text is None:
                slot.media.append(part)
        slot.filled = True

    def _close_calls(self) -> None:
        """All results of one assistant message go into one content, in the order of the calls."""
        if self._slots:
            slots, self._slots = self._slots, []
            self._add("user", [RequestPart(function_response=slot.sent) for slot in slots])
            self._add("user", [part for slot in slots for part in slot.media])


def _response(text: str) -> Any:
    """The response member: the result itself if it is a JSON object, else `{"result": text}`."""
    stripped = text.strip()
    if stripped.startswith("{"):
        body = mend(stripped.encode())
        try:
            read_object(body)
        except JSON_ERRORS:
            pass
        else:
            return Raw(body)
    return {"result": text}


_GENERATED_ID = re.compile(r"(?:call|toolu)_[0-9a-f]{24}")


def _upstream_id(call_id: str | None) -> str | None:
    """The call id to send: Gemini's own. Ids that this gateway generated are left out."""
    return None if call_id is None or _GENERATED_ID.fullmatch(call_id) else call_id


def _signature(extra: dict[str, Any] | None) -> str | None:
    google = (extra or {}).get("google")
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return signature if isinstance(signature, str) and signature else None
