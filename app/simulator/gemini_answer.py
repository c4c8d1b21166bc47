"""Gemini's generateContent answer as the simulated model gives it: a request in, bytes out, no I/O.

The text answers "You said: <the last user text>". A function is called where the request forces it
or the prompt names it (tool_choice.py); function responses are repeated. Shapes, order of members
and blanks follow Google's published API and recorded answers of 2026.
"""

import json
import re
import secrets
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from app.simulator.agent_turn import act, turn_of
from app.simulator.examples import example
from app.simulator.faults import Fault
from app.simulator.gemini_request import JSON, GenerateRequest, parts_of, responses_of, sign
from app.simulator.tool_choice import Call, choose

THOUGHTS = "**Considering the question**\n\nThe user said something; it has to be said back.\n\n"
THOUGHT_TOKENS = 17


class Answer:
    """One answer to one request, in each of the three transports."""

    def __init__(self, request: GenerateRequest, fault: Fault) -> None:
        self.request = request
        self.fault = fault
        self.id = secrets.token_urlsafe(17)
        self.is_third = request.generation >= (3, 0)
        self.count = int(request.config.get("candidateCount") or 1)
        self.turn = turn_of(self._said())
        self.question = self.turn.prompt
        self.act: Call | str | None = None
        self._chosen = self._calls()
        thinking = request.config.get("thinkingConfig") or {}
        self.includes_thoughts = bool(thinking.get("includeThoughts"))
        self.thinks = self.includes_thoughts or (self.is_third or "-pro" in request.model)
        self.candidate_tokens = 0
        texts = [
            str(part.get("text") or "")
            for content in request.contents
            for part in parts_of(content)
        ]
        self.prompt_tokens = sum(len(text.split()) + 4 for text in texts)

    def _said(self) -> Iterator[tuple[str, str]]:
        """The conversation for `turn_of`: responses before the texts of their content."""
        for content in self.request.contents:
            for said in responses_of(content):
                role = "failure" if "error" in said["response"] else "result"
                yield role, json.dumps(said["response"], ensure_ascii=False)
            text = "".join(str(part.get("text") or "") for part in parts_of(content))
            yield "model" if content.get("role") == "model" else "user", text

    # content ------------------------------------------------------------------------------------

    def _declared(self) -> dict[str, JSON]:
        """The declarations that may be called, by name."""
        calling = self.request.calling
        wanted = calling.get("allowedFunctionNames")
        return {
            str(one["name"]): one
            for one in self.request.declarations
            if not wanted or one["name"] in wanted
        }

    def _calls(self) -> list[Call]:
        mode = str(self.request.calling.get("mode") or "AUTO").upper()
        declared = self._declared()
        if mode in ("AUTO", "VALIDATED"):
            schemas = {name: _schema(one) for name, one in declared.items()}
            self.act = act(schemas, self.turn)
        if isinstance(self.act, Call):
            return [self.act]
        if self.turn.latest or mode == "NONE":
            return []
        return choose(list(declared), self.question, is_forced=mode == "ANY")

    @property
    def calls(self) -> list[JSON]:
        """The function calls of this answer, as parts."""
        declared = self._declared()
        parts: list[JSON] = []
        for call in self._chosen:
            # Of parallel calls only the first is signed.
            signed = {} if parts else {"thoughtSignature": sign(call.name)}
            said = {"name": call.name, "args": call.arguments(_schema(declared[call.name]))}
            parts.append({"functionCall": said, **signed})
        return parts

    def _text(self, index: int) -> str:
        config = self.request.config
        if config.get("responseMimeType") == "application/json":
            schema = config.get("responseJsonSchema") or config.get("responseSchema")
            given = example(schema, self.question) if schema else {"answer": self.question}
            return json.dumps(given, ensure_ascii=False)
        if isinstance(self.act, str):
            return self.act
        if self.turn.latest:
            return f"The tool said: [{', '.join(self.turn.latest)}]"
        text = f"You said: {self.question}"
        return text if index == 0 else f"{text} (candidate {index})"

    def _pieces(self, index: int) -> tuple[list[str], str]:
        """The text in pieces, and the finish reason."""
        config, text = self.request.config, self._text(index)
        for stop in config.get("stopSequences") or []:
            text = text.split(stop, 1)[0] if stop else text
        is_json = config.get("responseMimeType") == "application/json"
        # A piece may end anywhere, even inside a word.
        pieces = re.findall(r"(?s).{1,9}", text) if is_json else list(self.fault.pieces(text))
        most = config.get("maxOutputTokens")
        if most is not None and most < len(pieces):
            return pieces[:most], "MAX_TOKENS"
        return pieces, "STOP"

    def _chunks(self, index: int) -> Iterator[tuple[list[JSON] | None, str | None]]:
        """The parts of each chunk of one candidate, and the finish reason with the last one."""
        model, most = self.request.model, self.request.config.get("maxOutputTokens")
        if model.startswith("malformed-"):
            yield None, "MALFORMED_FUNCTION_CALL"
            return
        if self.fault.refusal:
            yield None, "SAFETY"
            return
        if "-pro" in model and most is not None and most <= THOUGHT_TOKENS:
            yield None, "MAX_TOKENS"  # all spent on thinking
            return
        if self.includes_thoughts:
            yield [{"text": THOUGHTS, "thought": True}], None
        if calls := self.calls:
            self.candidate_tokens += 10 * len(calls)
            yield calls, None if self.is_third else "STOP"
            if self.is_third:
                yield [{"text": ""}], "STOP"
            return
        pieces, reason = self._pieces(index)
        for number, piece in enumerate(pieces):
            self.candidate_tokens += 1
            is_last = number == len(pieces) - 1 and not self.is_third
            yield [{"text": piece}], reason if is_last else None
        if self.is_third or not pieces:
            signed = {"thoughtSignature": sign("")} if self.is_third else {}
            yield [{"text": "", **signed}], reason

    # as objects --------------------------------------------------------------------------------

    def objects(self) -> Iterator[JSON]:
        """The GenerateContentResponse objects of a stream."""
        if self.request.model.startswith("blocked-"):
            yield self._object(None, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})
            return
        candidates = [self._candidate_chunks(index) for index in range(self.count)]
        for row in zip_longest(*candidates):  # one candidate per chunk, taking turns
            for candidate in filter(None, row):
                yield self._object([candidate])

    def whole(self) -> JSON:
        """The answer as one object: neighbouring texts of one kind are joined."""
        objects = list(self.objects())
        if "candidates" not in objects[0]:
            return objects[0]
        candidates: dict[int, JSON] = {}
        for one in objects:
            for candidate in one["candidates"]:
                held = candidates.setdefault(candidate["index"], {})
                parts = held.get("content", {}).get("parts", [])
                for part in candidate["content"].get("parts") or []:
                    if parts and _joins(parts[-1], part):
                        parts[-1] = {**parts[-1], **part, "text": parts[-1]["text"] + part["text"]}
                    elif part != {"text": ""}:
                        parts.append(part)
                held.update(candidate)
                held["content"] = {**candidate["content"], **({"parts": parts} if parts else {})}
        return self._object(list(candidates.values()))

    def _candidate_chunks(self, index: int) -> Iterator[JSON]:
        for parts, reason in self._chunks(index):
            content: JSON = {} if reason == "SAFETY" else {"role": "model"}
            candidate: JSON = {
                "content": content if parts is None else {"parts": parts, "role": "model"}
            }
            if reason:
                candidate["finishReason"] = reason
            candidate["index"] = index
            if reason == "SAFETY":
                candidate["safetyRatings"] = [
                    {"category": "HARM_CATEGORY_HARASSMENT", "probability": "HIGH", "blocked": True}
                ]
            if reason == "MALFORMED_FUNCTION_CALL":
                candidate["finishMessage"] = "Malformed function call: f(("
            if self.request.config.get("responseLogprobs") and parts and parts[0].get("text"):
                candidate["logprobsResult"] = self._logprobs(parts[0]["text"])
            yield candidate

    def _logprobs(self, text: str) -> JSON:
        chosen = {"token": text, "tokenId": 7, "logProbability": -0.25}
        count = int(self.request.config.get("logprobs") or 0)
        top = [{**chosen, "logProbability": -0.25 - other} for other in range(count)]
        return {"topCandidates": [{"candidates": top}], "chosenCandidates": [chosen]}

    def _object(self, candidates: list[JSON] | None, more: JSON | None = None) -> JSON:
        said: JSON = {} if candidates is None else {"candidates": candidates}
        return {
            **said,
            **(more or {}),
            "usageMetadata": self._usage(),
            "modelVersion": self.request.model.removeprefix("models/"),
            "responseId": self.id,
        }

    def _usage(self) -> JSON:
        usage: JSON = {"promptTokenCount": self.prompt_tokens}
        if self.candidate_tokens:
            usage["candidatesTokenCount"] = self.candidate_tokens
        thoughts = THOUGHT_TOKENS if self.thinks else 0
        usage["totalTokenCount"] = self.prompt_tokens + self.candidate_tokens + thoughts
        usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": self.prompt_tokens}]
        if thoughts:
            usage["thoughtsTokenCount"] = thoughts
        usage["serviceTier"] = "standard"
        return usage

    # as bytes ----------------------------------------------------------------------------------

    def events(self) -> Iterator[bytes]:
        """With alt=sse: each object on one line, ended by CRLF CRLF; no [DONE]."""
        end = b"\n\n" if self.fault.crlf else b"\r\n\r\n"  # the fault itself makes LF to CRLF
        for one in self.objects():
            yield b"data: " + on_one_line(one) + end

    def array(self) -> Iterator[bytes]:
        """Without alt=sse: the pieces of one pretty-printed array."""
        before = b"["
        for one in self.objects():
            yield before + pretty(one)
            before = b"\n,\r\n"
        yield b"\n]"


def _schema(declaration: JSON) -> Any:
    return declaration.get("parametersJsonSchema") or declaration.get("parameters")


def _joins(before: JSON, part: JSON) -> bool:
    return "text" in before and "text" in part and before.get("thought") == part.get("thought")


def on_one_line(value: Any) -> bytes:
    """JSON as Google writes it in SSE."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ": ")).encode()


def pretty(value: Any) -> bytes:
    """JSON as Google writes it in bodies."""
    return json.dumps(value, ensure_ascii=False, indent=2).encode()
