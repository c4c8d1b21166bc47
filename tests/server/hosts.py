"""The entries of `upstreams` that lead to the simulated hosts, for tests of whole gateways."""

# As in app/simulator/compatible_hosts.py; those of the second row want no key.
KEYED = (
    "deepseek",
    "groq",
    "openrouter",
    "mistral",
    "xai",
    "moonshot",
    "dashscope",
    "zai",
    "perplexity",
    "cerebras",
    "azure-deployments",
    "together",
    "huggingface",
)
LOCAL = ("ollama", "vllm", "llamacpp")
HOSTS = KEYED + LOCAL


def upstream(url: str, name: str, host: str = "", **more) -> dict:
    """An entry called `name` that leads to the simulated `host`, with the key `a` if it wants
    one."""
    host = host or name
    base = f"{url}/compatible/{host}"
    base += "/openai/deployments/{model}" if host == "azure-deployments" else "/v1"
    entry = {"name": name, "api_url": base}
    if host != name:
        entry["like"] = host
    if host not in LOCAL:
        entry["api_keys"] = [{"id": "a", "val": f"demo-{name}-one"}]
    elif host != name:
        entry["api_keys"] = []
    return entry | more
