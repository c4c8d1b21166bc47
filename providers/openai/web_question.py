"""What a chat request asks ChatGPT's website: one message with pictures.

Source: public clients of chatgpt.com.
"""

from typing import Any

from msgspec import Struct

from app.wire.chat import ChatRequest, Message, Part, plain
from app.wire.errors import GatewayError, bad_request
from app.wire.image_bytes import Picture, read_picture
from providers.openai.web_schema import Conversation


class WebQuestion(Struct):
    """What the caller asks, read once however many sessions are tried.

    Either `prompt` with `pictures` (an OpenAI-shaped request) or `native`, the site's own body.
    """

    state: Conversation
    message_id: str | None = None
    arkose_token: str | None = None
    prompt: str = ""
    pictures: list[Picture] = []
    native: dict[str, Any] | None = None
    dropped: list[str] = []


DROPPED = (
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "parallel_tool_calls",
    "reasoning_effort",
    "modalities",
)


def refuse_unsupported(chat: ChatRequest) -> None:
    """Raises GatewayError 400 for a parameter that the site cannot honour nor leave out."""

    def no(param: str, what: str) -> GatewayError:
        return bad_request(
            f"ChatGPT web cannot be asked {what}; leave {param} out or use another provider.",
            param=param,
            code="unsupported_parameter",
        )

    if chat.n is not None and chat.n != 1:
        raise no("n", "for several answers")
    if chat.tools and chat.tool_choice != "none":
        raise no("tools", "to call tools")
    if chat.functions and chat.function_call != "none":
        raise no("functions", "to call functions")
    if chat.logprobs:
        raise no("logprobs", "for log probabilities")
    if plain(chat.response_format or {}).get("type") in ("json_schema", "json_object"):
        raise no("response_format", "for JSON of a given shape")


def to_prompt(messages: list[Message], continued: bool) -> tuple[str, list[Picture]]:
    """Text and pictures of the one message that is sent: the new turn, or a whole transcript.

    Earlier answers are not sent as messages of their own: models tend to go on with them. Raises
    GatewayError 400 when there is nothing new to send.
    """
    first = 0
    if continued:
        answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
        first = answers[-1] + 1 if answers else 0
    system: list[str] = []
    turns: list[tuple[str, str]] = []
    pictures: list[Picture] = []
    for i, message in enumerate(messages[first:], first):
        text = _text(message, f"messages[{i}]", pictures)
        if message.role in ("system", "developer"):
            answered = continued or any(role == "assistant" for role, _ in turns)
            if message.keeps_place and answered and text:
                turns.append(("user", message.reminder()))
            elif not continued and text:  # a continued conversation has had it
                system.append(text)
        elif text:
            turns.append((message.role, text))
    if not turns and not pictures:
        raise bad_request(
            "There is no new message to send: the last one must be the user's.", param="messages"
        )
    if continued or (len(turns) <= 1 and all(role == "user" for role, _ in turns)):
        return "\n\n".join([*system, *(text for _, text in turns)]), pictures
    transcript = [f"{_SPEAKERS.get(role, role.capitalize())}: {text}" for role, text in turns]
    return "\n\n".join([*system, *transcript]), pictures


_SPEAKERS = {"user": "User", "assistant": "Assistant", "tool": "Tool", "function": "Tool"}


def _text(message: Message, at: str, pictures: list[Picture]) -> str:
    texts = []
    for j, part in enumerate(message.parts()):
        where = f"{at}.content[{j}]"
        match part.type:
            case "text" | "input_text":
                texts.append(part.text or "")
            case "refusal":
                texts.append(part.refusal or "")
            case "image_url":
                pictures.append(read_picture(part, f"{where}.image_url"))
            case _:
                raise _unsupported(part, where)
    for call in message.tool_calls or []:
        if call.function is not None:
            texts.append(f"[called {call.function.name}({call.function.arguments or ''})]")
    if message.is_error:
        return message.result()
    return "\n".join(text for text in texts if text)


def _unsupported(part: Part, where: str) -> GatewayError:
    return bad_request(
        f"ChatGPT web takes text and images; a part of type {part.type[:40]!r} cannot be sent.",
        param=where,
        code="unsupported_content",
    )
