"""The simulated hosts of OpenAI's chat wire, one row of data each: how each departs from OpenAI.

What is not seen in recordings is from the hosts' documents and from public reports; shapes that
nobody has recorded are marked "made up". The words of refusals are those that were seen.
Source: protocol sheet openai-compatible, sections 1 to 3.
"""

from typing import Any, Literal

from msgspec import Struct

JSON = dict[str, Any]
# The bodies of refusals; compatible_errors.py writes them.
Shape = Literal["openai", "openrouter", "coded", "azure", "xai", "mistral", "flat", "vllm", "text"]


class Refused(Struct, frozen=True):
    """A refusal in a host's own words; `message` may hold %s, the member or the model."""

    status: int
    message: str
    type: str | None = None
    code: str | int | None = None


class Tools(Struct, frozen=True, kw_only=True):
    """How a streamed tool call looks."""

    is_whole: bool = False  # all arguments in the first piece
    index: Literal["own", "zero", "none"] = "own"
    has_type: bool = True
    ids: Literal["call", "nine", "functions"] = "call"
    repeats_id: bool = False  # id "" and the type again in each continuation
    finish: str = "tool_calls"


class Host(Struct, frozen=True, kw_only=True):
    """One host. The defaults are what most of them do, so a row says what is different."""

    # credentials
    key: Literal["bearer", "api-key", "none"] = "bearer"
    wrong_key: Refused = Refused(
        401, "Invalid API key.", "invalid_request_error", "invalid_api_key"
    )
    # refusals
    shape: Shape = "openai"
    quota: Refused = Refused(
        429, "You exceeded your current quota.", "insufficient_quota", "insufficient_quota"
    )
    no_model: Refused = Refused(
        404, "The model `%s` does not exist.", "invalid_request_error", "model_not_found"
    )
    refuses: frozenset[str] = frozenset()  # members
    refusal: Refused = Refused(400, "%s is not supported.", "invalid_request_error")
    only: frozenset[str] | None = None  # all members that it knows, where it refuses the others
    no_developer: str = ""  # what it says of that role
    history_refuses: frozenset[str] = frozenset()  # members of messages
    only_json_object: bool = False
    force_tool: str = "required"  # the word; any other is refused
    # What the host refuses besides, by the names of rules in compatible_rules.py.
    rules: tuple[str, ...] = ()
    # answers
    thinking: Literal["reasoning_content", "reasoning", "details", "parts", "tags", "none"] = (
        "reasoning_content"
    )
    usage: Literal["asked", "finish", "repeated", "x_groq", "always"] = "asked"
    usage_members: JSON = {}  # beside OpenAI's three counts
    is_thinking_outside: bool = False  # completion_tokens leaves the thinking out
    tools: Tools = Tools()
    has_role_everywhere: bool = False
    has_null_finish: bool = True  # finish_reason: null until the end, else no such member
    stop: str = "stop"
    opening: bytes = b""  # comments before the first chunk
    padding: bytes = b""  # white space before a whole answer
    first_chunk: JSON = {}
    chunk_members: JSON = {}
    usage_chunk_members: JSON = {}
    last_object: str = "chat.completion.chunk"
    has_done: bool = True
    error_event: Literal["data", "event", "chunk", "line"] = "data"
    headers: tuple[tuple[str, str], ...] = ()
    # lists
    models: tuple[str, ...] = ()
    models_shape: Literal["openai", "array", "openrouter", "both", "none"] = "openai"
    model_members: JSON = {}
    embedding: str = ""  # the model; "" where there is none of them


_PENALTIES = frozenset({"frequency_penalty", "presence_penalty"})
_FILTERED = {
    "choices": [],
    "created": 0,
    "id": "",
    "model": "",
    "object": "",
    "prompt_filter_results": [
        {
            "prompt_index": 0,
            "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}},
        }
    ],
}
_SOURCES = ["https://example.com/one", "https://example.org/two"]
_MISTRAL_KNOWS = frozenset(
    {
        "frequency_penalty",
        "guardrails",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_mode",
        "random_seed",
        "reasoning_effort",
        "response_format",
        "safe_prompt",
        "stop",
        "stream",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
    }
)

HOSTS: dict[str, Host] = {
    "deepseek": Host(
        wrong_key=Refused(
            401,
            "Authentication Fails, Your api key: ****-key is invalid",
            "authentication_error",
            "invalid_request_error",
        ),
        quota=Refused(402, "Insufficient Balance", "unknown_error", "invalid_request_error"),
        no_developer="Failed to deserialize the JSON body into the target type: messages[%d].role:"
        " unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`,"
        " `latest_reminder`",
        only_json_object=True,
        rules=("function tools only", "thinking comes back", "json is named"),
        usage="finish",
        usage_members={"prompt_cache_hit_tokens": 0, "prompt_cache_miss_tokens": 0},
        opening=b": keep-alive\n\n",
        padding=b"\n\n",
        chunk_members={"system_fingerprint": "fp_eaab8d114b_prod0820_fp8_kvcache"},
        models=("deepseek-v4-flash", "deepseek-v4-pro"),
    ),
    "groq": Host(
        wrong_key=Refused(401, "Invalid API Key", "invalid_request_error", "invalid_api_key"),
        no_model=Refused(
            404,
            "The model `%s` does not exist or you do not have access to it.",
            "invalid_request_error",
            "model_not_found",
        ),
        refuses=frozenset({"logprobs", "top_logprobs", "logit_bias"}),
        refusal=Refused(400, "property '%s' is unsupported", "invalid_request_error"),
        history_refuses=frozenset({"name", "reasoning_content"}),
        rules=("one answer",),
        thinking="reasoning",
        usage="x_groq",
        usage_members={"queue_time": 0.2, "prompt_time": 0.02, "total_time": 0.19},
        tools=Tools(is_whole=True, ids="functions"),
        error_event="event",
        headers=(("x-ratelimit-reset-tokens", "26ms"), ("x-ratelimit-reset-requests", "1m26.4s")),
        models=("openai/gpt-oss-120b", "openai/gpt-oss-20b", "llama-3.3-70b-versatile"),
        model_members={"active": True, "context_window": 131072, "owned_by": "Groq"},
    ),
    "openrouter": Host(
        shape="openrouter",
        wrong_key=Refused(401, "Missing Authentication header", None, 401),
        quota=Refused(402, "Insufficient credits", None, 402),
        no_model=Refused(400, "%s is not a valid model ID", None, 400),
        thinking="details",
        usage="repeated",
        usage_members={"cost": 0.000081, "is_byok": False},
        has_role_everywhere=True,
        opening=b": OPENROUTER PROCESSING\n\n" * 3,
        padding=b"\n         \n" * 2,
        chunk_members={"provider": "Amazon Bedrock"},
        error_event="chunk",
        models=("anthropic/claude-haiku-4.5", "openai/gpt-oss-120b", "openrouter/auto"),
        models_shape="openrouter",
        model_members={
            "pricing": {"prompt": "0.000003", "completion": "0.000015"},
            "supported_parameters": ["max_tokens", "tools"],
        },
        embedding="openai/text-embedding-3-small",
    ),
    "mistral": Host(
        shape="mistral",
        wrong_key=Refused(401, "Invalid API Key"),
        no_model=Refused(400, "Invalid model: %s", "invalid_model", "1500"),
        only=_MISTRAL_KNOWS,
        refusal=Refused(422, "Extra inputs are not permitted", "extra_forbidden"),
        no_developer="Input tag 'developer' found using 'role' does not match any of the expected"
        " tags: 'assistant', 'system', 'tool', 'user'",
        history_refuses=frozenset({"reasoning_content", "reasoning"}),
        force_tool="any",
        rules=(
            "nine signs in tool ids",
            "no user after tool",
            "user or tool is last",
            "some tools",
        ),
        thinking="parts",
        usage="finish",
        usage_members={"num_cached_tokens": 0},
        tools=Tools(is_whole=True, index="none", has_type=False, ids="nine"),
        chunk_members={"p": "abcdefghijklmnopq"},
        headers=(("x-ratelimit-limit-tokens-minute", "500000"), ("ratelimitbysize-reset", "33")),
        models=("mistral-small-latest", "magistral-medium-latest"),
        model_members={"capabilities": {"completion_chat": True}, "aliases": []},
        embedding="mistral-embed",
    ),
    "xai": Host(
        shape="xai",
        wrong_key=Refused(
            400,
            "Incorrect API key provided. You can obtain an API key from https://console.x.ai.",
            code="invalid-argument",
        ),
        no_model=Refused(404, "The model %s does not exist.", code="not-found"),
        rules=("no penalties when thinking",),
        is_thinking_outside=True,
        usage_members={"num_sources_used": 0, "cost_in_usd_ticks": 1918250},
        tools=Tools(is_whole=True),
        has_null_finish=False,
        chunk_members={"system_fingerprint": "fp_25ea88a038"},
        models=("grok-4", "grok-3-mini"),
    ),
    "moonshot": Host(
        wrong_key=Refused(401, "Invalid Authentication", "invalid_authentication_error"),
        quota=Refused(
            429,
            "You exceeded your current token quota, please check your account balance",
            "exceeded_current_quota_error",
        ),
        refuses=frozenset({"functions", "function_call"}),
        rules=("no forced tool when thinking", "thinking comes back"),
        tools=Tools(ids="functions"),
        usage_members={"cached_tokens": 0},
        models=("kimi-k2.5", "kimi-k2-thinking"),
    ),
    "dashscope": Host(
        wrong_key=Refused(
            401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key"
        ),
        no_developer="developer is not one of ['system', 'assistant', 'user', 'tool', 'function']"
        " - 'messages.%d.role'",
        rules=("thinking is streamed",),
        tools=Tools(repeats_id=True),
        models=("qwen3-max", "qwen3-32b-thinking"),
        embedding="text-embedding-v4",
    ),
    "zai": Host(
        shape="coded",
        wrong_key=Refused(401, "Authentication parameter not received", code="1001"),
        quota=Refused(429, "Insufficient balance or no resource package.", code="1113"),
        no_model=Refused(400, "Unknown Model, please check the model code.", code="1211"),
        no_developer="[1214] Incorrect role information",
        only_json_object=True,
        usage="finish",
        tools=Tools(is_whole=True),
        has_role_everywhere=True,
        has_null_finish=False,
        models=("glm-5.2", "glm-4.7-flash"),
        embedding="embedding-3",
    ),
    "perplexity": Host(
        wrong_key=Refused(
            401,
            "Invalid API key provided. Ensure your API key is correct and active.",
            "invalid_api_key",
            401,
        ),
        no_model=Refused(400, "Invalid model '%s'.", "invalid_model", 400),
        refuses=frozenset(
            {"tools", "tool_choice", "stop", "n", "logprobs", "top_logprobs", "seed"}
        ),
        rules=("turns alternate",),
        thinking="tags",
        usage="always",
        usage_members={"search_context_size": "low", "cost": {"total_cost": 0.00502}},
        has_role_everywhere=True,
        has_null_finish=False,
        chunk_members={"citations": _SOURCES},
        last_object="chat.completion.done",
        has_done=False,
        models=("anthropic/claude-haiku-4-5", "openai/gpt-5-mini"),
        model_members={"created": 0, "pricing": {"input": 1, "output": 5}},
    ),
    "cerebras": Host(
        shape="flat",
        wrong_key=Refused(401, "Wrong API Key", "invalid_request_error", "wrong_api_key"),
        refuses=_PENALTIES
        | {"logit_bias", "parallel_tool_calls", "service_tier", "prompt_cache_key"},
        refusal=Refused(
            400, "property '%s' is unsupported", "invalid_request_error", "wrong_api_format"
        ),
        history_refuses=frozenset({"reasoning_content"}),
        thinking="reasoning",
        models=("gpt-oss-120b", "zai-glm-4.7"),
        model_members={"created": 0, "owned_by": "Cerebras"},
    ),
    "azure-deployments": Host(
        key="api-key",
        shape="azure",
        wrong_key=Refused(
            401,
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to"
            " provide a valid key for an active subscription and use a correct regional API"
            " endpoint for your resource.",
            code="401",
        ),
        quota=Refused(429, "Your requests have exceeded the quota.", code="insufficient_quota"),
        no_model=Refused(
            404,
            "The API deployment for this resource does not exist. If you created the deployment"
            " within the last 5 minutes, please wait a moment and try again.",
            code="DeploymentNotFound",
        ),
        thinking="none",
        first_chunk=_FILTERED,
        headers=(("x-ms-region", "East US 2"), ("x-ratelimit-reset-requests", "500")),
        models_shape="none",
        embedding="text-embedding-3-small",
    ),
    "ollama": Host(
        key="none",
        no_model=Refused(404, "model '%s' not found", "not_found_error"),
        rules=("no remote images",),
        thinking="reasoning",
        tools=Tools(is_whole=True, index="zero"),  # made up: nobody has recorded it
        has_role_everywhere=True,
        chunk_members={"system_fingerprint": "fp_ollama"},
        models=("qwen3", "gpt-oss:20b"),
        model_members={"owned_by": "library"},
        embedding="nomic-embed-text",
    ),
    "vllm": Host(
        key="none",
        shape="vllm",
        no_model=Refused(404, "The model `%s` does not exist.", "NotFoundError", 404),
        rules=("auto tools are switched on",),
        thinking="reasoning",
        tools=Tools(finish="stop"),
        models=("Qwen/Qwen3-32B",),
        model_members={"owned_by": "vllm", "root": "Qwen/Qwen3-32B", "max_model_len": 32768},
        embedding="intfloat/e5-mistral-7b-instruct",
    ),
    "llamacpp": Host(
        key="none",
        no_model=Refused(400, "model not found: %s", "invalid_request_error", 400),
        tools=Tools(has_type=True),
        chunk_members={"system_fingerprint": "b7010-c27efd2bd"},
        usage_chunk_members={"timings": {"prompt_n": 1, "predicted_n": 41}},
        error_event="line",
        models=("tiny",),
        models_shape="both",
        model_members={"owned_by": "llamacpp", "meta": {"n_ctx_train": 2048}},
        embedding="tiny",
    ),
    "together": Host(
        wrong_key=Refused(
            401,
            "Invalid API key provided. You can find your API key at"
            " https://api.together.xyz/settings/api-keys.",
            "invalid_request_error",
            "invalid_api_key",
        ),
        quota=Refused(402, "Credit limit exceeded", "credit_limit", "billing"),
        thinking="tags",
        usage="finish",
        usage_members={"cached_tokens": 0},
        has_role_everywhere=True,
        stop="eos",
        headers=(("x-ratelimit-reset", "2"),),
        models=("deepseek-ai/DeepSeek-R1", "Qwen/Qwen3-235B-A22B-fp8"),
        models_shape="array",
        embedding="BAAI/bge-base-en-v1.5",
    ),
    "huggingface": Host(
        shape="text",
        wrong_key=Refused(401, "Invalid username or password."),
        quota=Refused(402, "You have exceeded your monthly included credits."),
        thinking="tags",
        usage="finish",
        has_role_everywhere=True,
        # Sent with good answers too.
        headers=(("retry-after", "13"),),
        models=("openai/gpt-oss-120b:cerebras", "Qwen/Qwen3-32B:groq"),
    ),
}
