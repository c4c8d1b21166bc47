"""How an upstream of OpenAI's wire deviates from OpenAI's own API: a closed list of switches.

Only requests and addresses need them. Answers need none: one decoder understands every deviation
(providers/openai/decode.py). Source: protocol sheet openai-compatible, section 5.5.
"""

from typing import Literal

from msgspec import Struct


class Dialect(Struct, frozen=True, kw_only=True):
    """The switches of one upstream. The defaults are what a host takes that knows all of the wire.

    `refuses` are top-level members that are refused for certain, and so are never sent.
    `models_path` is where the list of models stands: below the base address, or a whole URL; "" for
    none.
    """

    # The wire that callers of every front are answered from; responses: it has no chat.
    wire: Literal["chat", "responses"] = "chat"
    # How a key is sent: Authorization: Bearer KEY, or api-key: KEY.
    auth: Literal["bearer", "api-key"] = "bearer"
    # The member that limits the answer's length; "either": as the caller wrote it.
    max_tokens: Literal["either", "max_tokens", "max_completion_tokens"] = "either"
    # Whether messages of the role `developer` become `system`.
    developer: Literal["keep", "system"] = "keep"
    # Whether usage in a stream is asked for by stream_options, or comes unasked.
    usage: Literal["ask", "told"] = "ask"
    # The member of an assistant message that takes earlier thinking back.
    # reasoning_details: OpenRouter's list beside `reasoning`, which holds signatures.
    thinking_back: Literal[
        "reasoning_content", "reasoning", "reasoning_details", "part", "none"
    ] = "reasoning_content"
    # How thinking is asked for; "thinking" is an object {type}, beside reasoning_effort.
    thinking: Literal["reasoning_effort", "thinking", "enable_thinking"] = "reasoning_effort"
    # The ids of tool calls: any text, or nine letters and digits.
    tool_ids: Literal["any", "nine"] = "any"
    # The word for "some tool must be called"; "no": it cannot be asked for.
    force_tool: Literal["required", "any", "no"] = "required"
    # Whether response_format takes a JSON schema, or json_object only.
    json_schema: Literal["yes", "object"] = "yes"
    # The order of messages: any; answered: the user does not speak right after a tool; alternate:
    # neither the user nor the model speaks twice in a row.
    turns: Literal["any", "answered", "alternate"] = "any"
    # Whether a message's content may be a list of parts, or only text.
    content: Literal["parts", "text"] = "parts"
    # Whether an answer's opening <think> tag holds thinking.
    think_tags: bool = False
    refuses: frozenset[str] = frozenset()
    models_path: str = "/models"
    # Whether a name without a slash keeps the upstream's prefix: openrouter/auto.
    keeps_bare_prefix: bool = False


OPENAI = Dialect()
