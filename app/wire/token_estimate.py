"""An estimate of a prompt's tokens, for answers that must tell a count before the upstream does.

It errs on the high side: a caller who compacts a little early loses nothing, one who compacts too
late is refused. What upstreams count is learned per model, in this worker's memory. Protocol sheet:
front-messages, 7.1.
"""

from collections import OrderedDict
from collections.abc import Iterable

from app.wire.chat import ChatRequest, Function, Message, Part

_ASCII_PER_TOKEN = 3.5
_PER_OTHER = 0.8  # tokens of a character that is not ASCII
_PER_MESSAGE = 6
_PER_IMAGE = 1600
_PER_FILE_STEP = 2000  # for each 100 KB that a PDF or a sound has begun
_FILE_STEP = 100_000 * 4 // 3  # in base64
_LEAST, _MOST = 0.7, 1.6  # bounds of what is learned
# A smaller prompt is mostly what the vendor adds to it: 500 tokens of Anthropic's for any tools.
_TELLING = 1000
_MAX_MODELS = 256


def text_tokens(text: str) -> float:
    """Tokens of one text."""
    if text.isascii():
        return len(text) / _ASCII_PER_TOKEN
    ascii_only = len(text.encode("ascii", "ignore"))
    return ascii_only / _ASCII_PER_TOKEN + (len(text) - ascii_only) * _PER_OTHER


def prompt_tokens(chat: ChatRequest) -> int:
    """Tokens of messages, tools and the answer's schema, as if nothing was known of the model."""
    total = sum(map(_message_tokens, chat.messages))
    functions = [*(tool.function for tool in chat.tools or ()), *(chat.functions or ())]
    total += _function_tokens(f for f in functions if f is not None)
    shape = (chat.response_format or {}).get("json_schema", b"")
    return int(total + len(bytes(shape)) / _ASCII_PER_TOKEN) + 1


def _message_tokens(message: Message) -> float:
    total = float(_PER_MESSAGE)
    content = message.content
    if isinstance(content, str):
        total += text_tokens(content)
    else:
        total += sum(map(_part_tokens, content or ()))
    for call in message.tool_calls or ():
        if call.function is not None:
            total += text_tokens(call.function.name) + text_tokens(call.function.arguments or "")
    return total + text_tokens(message.reasoning_content or "")


def _part_tokens(part: Part) -> float:
    if part.text:
        return text_tokens(part.text)
    if part.image_url is not None:
        return _PER_IMAGE
    data = ""
    if part.file is not None:
        data = part.file.file_data or ""
    elif part.input_audio is not None:
        data = part.input_audio.data
    elif part.refusal:
        return text_tokens(part.refusal)
    else:
        return 0
    return _PER_FILE_STEP * (len(data) // _FILE_STEP + 1)


def _function_tokens(functions: Iterable[Function]) -> float:
    total = 0.0
    for function in functions:
        total += text_tokens(function.name) + text_tokens(function.description or "")
        for name, schema in (function.parameters or {}).items():
            total += (len(name) + len(bytes(schema))) / _ASCII_PER_TOKEN
    return total


class LearnedFactors:
    """By how much each model's own counts differ from the estimate; bounded in models."""

    def __init__(self) -> None:
        self._factors: OrderedDict[str, float] = OrderedDict()

    def applied(self, model: str, tokens: int) -> int:
        """The estimate `tokens`, corrected by what this model was seen to count."""
        return round(tokens * self._factors.get(model, 1.0))

    def learn(self, model: str, estimated: int, counted: int) -> None:
        """Takes in what the upstream counted where `prompt_tokens` had said `estimated`.

        Small prompts say nothing of larger ones.
        """
        if estimated < _TELLING or counted <= 0:
            return
        seen = min(max(counted / estimated, _LEAST), _MOST)
        held = self._factors.pop(model, None)
        self._factors[model] = seen if held is None else held + (seen - held) / 4
        if len(self._factors) > _MAX_MODELS:
            self._factors.popitem(last=False)


LEARNED = LearnedFactors()
