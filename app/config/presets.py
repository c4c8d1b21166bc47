"""Presets of `upstreams`: well-known hosts of OpenAI's chat wire, one row each.

A preset says where the host is, which environment variable holds its key, and its dialect. A row
is all that a new one needs. Source: protocol sheet openai-compatible, sections 1, 2 and 5.5.
"""

from msgspec import Struct

from app.wire.dialect import OPENAI, Dialect
from app.wire.endpoints import ENDPOINTS, OPENAI_ENDPOINTS, Endpoint

# Most hosts know no `developer` role; what else they refuse is learned from their refusals.
COMPATIBLE = Dialect(developer="system")
_LOCAL = Dialect(developer="system", think_tags=True)


_ALL = frozenset(ENDPOINTS)
_EMBEDDINGS: frozenset[Endpoint] = frozenset({"embeddings"})
_SILICONFLOW_HAS: frozenset[Endpoint] = frozenset(
    {"embeddings", "rerank", "images/generations", "audio/speech", "audio/transcriptions"}
)


class Preset(Struct, frozen=True):
    """One well-known host.

    `api_url` is what stands before /chat/completions; "" where every account has its own address,
    which `example` shows. `variable` is the environment variable with the key, "" where none is
    needed. `path` is what an address without one gets. `endpoints` are those beside chat, where the
    host is known to lack some; else it says itself what it lacks.
    """

    name: str
    api_url: str
    variable: str = ""
    dialect: Dialect = COMPATIBLE
    aliases: tuple[str, ...] = ()
    example: str = ""
    path: str = "/v1"
    api_version: str = ""
    endpoints: frozenset[Endpoint] = _ALL


_DEEPSEEK = Dialect(
    developer="system", max_tokens="max_tokens", json_schema="object", thinking="thinking"
)
_GROQ = Dialect(
    thinking_back="reasoning",
    refuses=frozenset({"logprobs", "top_logprobs", "logit_bias"}),
)
_MISTRAL = Dialect(
    developer="system",
    max_tokens="max_tokens",
    usage="told",
    thinking_back="part",
    tool_ids="nine",
    force_tool="any",
    turns="answered",
    refuses=frozenset({"user", "logit_bias"}),
)
_MOONSHOT = Dialect(developer="system", max_tokens="max_completion_tokens", thinking="thinking")
_ZAI = Dialect(developer="system", json_schema="object", thinking="thinking")
_SILICONFLOW = Dialect(
    developer="system",
    max_tokens="max_tokens",
    json_schema="object",
    thinking="enable_thinking",
    think_tags=True,
)
_CEREBRAS = Dialect(
    developer="system",
    thinking_back="reasoning",
    refuses=frozenset(
        {
            "frequency_penalty",
            "presence_penalty",
            "logit_bias",
            "parallel_tool_calls",
            "service_tier",
            "prompt_cache_key",
        }
    ),
)
_PERPLEXITY = Dialect(
    developer="system",
    max_tokens="max_tokens",
    usage="told",
    thinking_back="none",
    force_tool="no",
    turns="alternate",
    refuses=frozenset({"tools", "tool_choice", "stop", "n", "logprobs", "seed"}),
    models_path="",
)
_COHERE = Dialect(developer="system", max_tokens="max_tokens", thinking_back="none", models_path="")
_GITHUB = Dialect(developer="system", models_path="https://models.github.ai/catalog/models")
_FOUNDRY = Dialect(
    auth="api-key", developer="system", max_tokens="max_tokens", thinking_back="none"
)
_DEPLOYMENTS = Dialect(auth="api-key", thinking_back="none", models_path="")
_OPENROUTER = Dialect(thinking_back="reasoning_details", keeps_bare_prefix=True)
_OLLAMA = Dialect(
    developer="system", max_tokens="max_tokens", thinking_back="reasoning", think_tags=True
)

PRESETS = (
    Preset(
        "deepseek",
        "https://api.deepseek.com",
        "DEEPSEEK_API_KEY",
        _DEEPSEEK,
        path="",
        endpoints=frozenset(),
    ),
    Preset(
        "groq",
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        _GROQ,
        endpoints=frozenset({"audio/speech", "audio/transcriptions", "audio/translations"}),
    ),
    Preset("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", _OPENROUTER),
    Preset(
        "mistral",
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        _MISTRAL,
        endpoints=frozenset({"embeddings", "moderations", "audio/speech", "audio/transcriptions"}),
    ),
    Preset("xai", "https://api.x.ai/v1", "XAI_API_KEY", OPENAI, ("grok",)),
    Preset(
        "moonshot",
        "https://api.moonshot.ai/v1",
        "MOONSHOT_API_KEY",
        _MOONSHOT,
        aliases=("kimi",),
        endpoints=frozenset(),
    ),
    Preset(
        "moonshot-cn",
        "https://api.moonshot.cn/v1",
        "MOONSHOT_API_KEY",
        _MOONSHOT,
        endpoints=frozenset(),
    ),
    Preset(
        "dashscope",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
        Dialect(developer="system", thinking="enable_thinking"),
        aliases=("qwen",),
    ),
    Preset(
        "dashscope-cn",
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
        Dialect(developer="system", thinking="enable_thinking"),
    ),
    Preset("zai", "https://api.z.ai/api/paas/v4", "ZAI_API_KEY", _ZAI, path="/api/paas/v4"),
    Preset(
        "zai-coding",
        "https://api.z.ai/api/coding/paas/v4",
        "ZAI_API_KEY",
        _ZAI,
        path="/api/coding/paas/v4",
    ),
    Preset(
        "zhipu",
        "https://open.bigmodel.cn/api/paas/v4",
        "ZHIPU_API_KEY",
        _ZAI,
        aliases=("glm",),
        path="/api/paas/v4",
    ),
    Preset(
        "siliconflow",
        "https://api.siliconflow.cn/v1",
        "SILICONFLOW_API_KEY",
        _SILICONFLOW,
        endpoints=_SILICONFLOW_HAS,
    ),
    Preset(
        "siliconflow-global",
        "https://api.siliconflow.com/v1",
        "SILICONFLOW_API_KEY",
        _SILICONFLOW,
        endpoints=_SILICONFLOW_HAS,
    ),
    Preset("together", "https://api.together.xyz/v1", "TOGETHER_API_KEY", _LOCAL),
    Preset("fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    Preset("novita", "https://api.novita.ai/v3/openai", "NOVITA_API_KEY", path="/v3/openai"),
    Preset(
        "cerebras",
        "https://api.cerebras.ai/v1",
        "CEREBRAS_API_KEY",
        _CEREBRAS,
        endpoints=frozenset({"completions"}),
    ),
    Preset(
        "perplexity",
        "https://api.perplexity.ai",
        "PERPLEXITY_API_KEY",
        _PERPLEXITY,
        path="",
        endpoints=_EMBEDDINGS,
    ),
    Preset(
        "nvidia", "https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY", _LOCAL, aliases=("nim",)
    ),
    Preset(
        "github",
        "https://models.github.ai/inference",
        "GITHUB_TOKEN",
        _GITHUB,
        endpoints=_EMBEDDINGS,
    ),
    Preset(
        "cohere",
        "https://api.cohere.ai/compatibility/v1",
        "COHERE_API_KEY",
        _COHERE,
        endpoints=_EMBEDDINGS,
    ),
    Preset("huggingface", "https://router.huggingface.co/v1", "HF_TOKEN", _LOCAL),
    Preset(
        "azure",
        "",
        "AZURE_OPENAI_API_KEY",
        Dialect(thinking_back="none"),
        example="https://RESOURCE.openai.azure.com/openai/v1",
        path="/openai/v1",
    ),
    Preset(
        "azure-deployments",
        "",
        "AZURE_OPENAI_API_KEY",
        _DEPLOYMENTS,
        example="https://RESOURCE.openai.azure.com/openai/deployments/{model}",
        path="/openai/deployments/{model}",
        api_version="2024-10-21",
        endpoints=OPENAI_ENDPOINTS,
    ),
    Preset(
        "azure-foundry",
        "",
        "AZURE_OPENAI_API_KEY",
        _FOUNDRY,
        example="https://RESOURCE.services.ai.azure.com/models",
        path="/models",
        api_version="2024-05-01-preview",
    ),
    Preset(
        "gemini-openai",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
        path="/v1beta/openai",
    ),
    Preset(
        "vertex",
        "",
        "VERTEX_ACCESS_TOKEN",
        Dialect(developer="system", models_path=""),
        example="https://aiplatform.googleapis.com/v1/projects/P/locations/L/endpoints/openapi",
    ),
    Preset(
        "bedrock",
        "",
        "AWS_BEARER_TOKEN_BEDROCK",
        Dialect(developer="system", thinking_back="reasoning"),
        example="https://bedrock-mantle.REGION.api.aws/v1",
    ),
    Preset("ollama", "http://127.0.0.1:11434/v1", "", _OLLAMA),
    Preset("ollama-cloud", "https://ollama.com/v1", "OLLAMA_API_KEY", _OLLAMA),
    Preset("vllm", "http://127.0.0.1:8000/v1", "", Dialect(think_tags=True)),
    Preset("sglang", "http://127.0.0.1:30000/v1", "", _LOCAL),
    Preset(
        "tgi",
        "http://127.0.0.1:3000/v1",
        "",
        Dialect(developer="system", content="text", think_tags=True),
    ),
    Preset("llamacpp", "http://127.0.0.1:8080/v1", "", _LOCAL),
    Preset("lmstudio", "http://127.0.0.1:1234/v1", "", _LOCAL),
)
BY_NAME = {name: preset for preset in PRESETS for name in (preset.name, *preset.aliases)}
# What `like` may name: every preset, OpenAI's own API, and a host that has Responses alone.
DIALECTS = {
    "openai": OPENAI,
    "responses": Dialect(wire="responses"),
    **{name: preset.dialect for name, preset in BY_NAME.items()},
}


def dialect_of(name: str, like: str) -> Dialect:
    """The dialect of an upstream: that of `like`, else of the preset called `name`, else
    OpenAI's."""
    return DIALECTS[like or (name if name in DIALECTS else "openai")]


def endpoints_of(name: str) -> frozenset[Endpoint]:
    """What an upstream has beside chat, as far as is known."""
    preset = BY_NAME.get(name)
    return _ALL if preset is None else preset.endpoints
