"""One answer of the simulated Bing chat, as the frames of its hub; no I/O.

Cumulative updates of the answer's text, then one final frame with all messages, or the refusal
that the word of the question asks for.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from app.simulator.faults import Fault

JSON = dict[str, Any]
encode = msgspec.json.encode

MAX_TURNS = 30
END = b"\x1e"
# (value, message) of a final frame that refuses, by the word of the question.
REFUSALS = {
    "captcha": ("CaptchaChallenge", "User needs to solve CAPTCHA to continue."),
    "throttled": ("Throttled", "Request is throttled."),
    "expired": ("InvalidSession", "Conversation doesn't exist or has expired."),
    "unauthorized": ("UnauthorizedRequest", "Cannot retrieve user status."),
}


class Conversation(Struct):
    """A conversation: its id, its owner, its signature, the questions asked in it so far."""

    id: str
    client_id: str
    signature: str
    turns: int = 0


class Answer:
    """The answer to one question; counts it as a turn of the conversation."""

    def __init__(
        self,
        argument: JSON,
        invocation: str,
        conversation: Conversation | None,
        fault: Fault,
        word: str,
    ) -> None:
        self._argument, self._invocation = argument, invocation
        self._fault, self._word = fault, word
        self._request_id = argument["requestId"]
        self._text: str = argument["message"]["text"]
        self._turns = 1
        if conversation is not None:
            self._turns = conversation.turns = conversation.turns + 1
        if word == "limit":
            self._turns = MAX_TURNS
        self._throttling = {
            "maxNumUserMessagesInConversation": MAX_TURNS,
            "numUserMessagesInConversation": self._turns,
        }

    def frames(self) -> Iterator[bytes]:
        """All records of the answer, each with its end byte."""
        if self._word in REFUSALS:
            value, message = REFUSALS[self._word]
            yield self._final(value, None, message)
            return
        if self._word == "closed":
            yield b'{"type":7,"error":"Connection closed with an error.","allowReconnect":true}\x1e'
            return
        yield b'{"type":6}\x1e'
        yield self._update(throttling=self._throttling)
        if self._word == "limit":
            yield self._final("Success", [], "")
            return
        yield from self._messages()

    def _messages(self) -> Iterator[bytes]:
        """Side messages, the text as it grows, and the final frame."""
        word = self._word
        side, sources = self._side_messages()
        for message in side:
            yield self._update(message)
        so_far = ""
        for piece in self._fault.pieces(self._reply()):
            so_far += piece
            yield self._update(self._bot(so_far, "m1", sourceAttributions=sources))
            if word in ("disengaged", "apology"):
                yield from self._retracted(so_far)
                return
        if word == "edit":
            yield self._update(self._bot(so_far.replace("You", "you"), "m1"))
        answers = [self._bot(so_far, "m1", sourceAttributions=sources)]
        if word == "two":
            yield self._update(self._bot("And more.", "m2"))
            answers.append(self._bot("And more.", "m2"))
        card = self._bot(self._text, "r1", messageType="RenderCardRequest")
        yield self._final("Success", [*side, *answers, card], self._text)

    def _reply(self) -> str:
        reply = f"You said: {self._text}" + (f" (turn {self._turns})" if self._turns > 1 else "")
        if self._argument["message"].get("imageUrl"):
            reply += " (with a picture)"
        if self._argument.get("previousMessages"):
            reply += " (with context)"
        return reply

    def _side_messages(self) -> tuple[list[JSON], list[JSON]]:
        """The messages before the answer, and the sources that the answer cites."""
        if self._word == "search":
            results = '{"web_search_results":[{"title":"A page","snippets":["..."]}]}'
            side = [
                self._bot("Searching the web for: `x`", "q1", messageType="InternalSearchQuery"),
                self._bot(results, "q2", messageType="InternalSearchResult"),
                self._bot("Buy this", "q3", messageType="AdsQuery"),
            ]
            source = {"providerDisplayName": "A page", "seeMoreUrl": "https://page.example/"}
            return side, [source]
        if self._word == "draw":
            query = {"contentType": "IMAGE", "messageType": "GenerateContentQuery"}
            return [self._bot(self._text, "d1", **query)], []
        return [], []

    def _retracted(self, so_far: str) -> Iterator[bytes]:
        """What takes the text back: a disengagement, or an apology."""
        how: JSON = {"messageType": "Disengaged", "hiddenText": "> Conversation disengaged"}
        if self._word == "apology":
            how = {"contentOrigin": "Apology", "hiddenText": "Sorry!"}
        gone = self._bot(None, "m2", **how)
        yield self._update(gone)
        yield self._final("Success", [self._bot(so_far, "m1"), gone], self._text)

    def _bot(self, text: str | None, id: str, **more: Any) -> JSON:
        said: JSON = {} if text is None else {"text": text}
        card = {"type": "TextBlock", "text": text, "wrap": True}
        return {
            **said,
            "author": "bot",
            "createdAt": "2024-02-05T07:59:50.1+00:00",
            "messageId": id,
            "requestId": self._request_id,
            "offense": "None",
            "adaptiveCards": [{"type": "AdaptiveCard", "version": "1.0", "body": [card]}],
            "contentOrigin": "DeepLeo",
            **more,
        }

    def _update(self, *messages: JSON, **more: Any) -> bytes:
        argument: JSON = {"messages": list(messages)} if messages else {}
        argument |= {"requestId": self._request_id, **more}
        return encode({"type": 1, "target": "update", "arguments": [argument]}) + END

    def _final(self, value: str, messages: list[JSON] | None, message: str) -> bytes:
        item: JSON = {
            "firstNewMessageIndex": None if messages is None else 1,
            "conversationId": self._argument["conversationId"],
            "requestId": self._request_id,
            "result": {"value": value, "message": message, "serviceVersion": "20240203.103"},
        }
        if messages is None:
            item["result"]["error"] = message
        else:
            user = {**self._argument["message"], "messageId": self._request_id}
            item |= {"messages": [user, *messages], "throttling": self._throttling}
        end = {"type": 3, "invocationId": self._invocation}
        record = {"type": 2, "invocationId": self._invocation, "item": item}
        return encode(record) + END + encode(end) + END
