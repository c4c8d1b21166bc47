"""Which provider answers a call: built-in families, `upstreams` and `models` of the config."""

import pytest

from app.config.schema import Config, KeyEntry, Upstream
from app.wire.errors import GatewayError
from providers.directory import Directory

HOST = "http://127.0.0.1:1/v1"


def upstream(name, **more) -> Upstream:
    return Upstream(name=name, **{"api_url": HOST, "api_keys": [KeyEntry(id="a", val="k")]} | more)


UPSTREAMS = [
    upstream("lab", models=["qwen3-32b", "shared"]),
    upstream("groq", models=["shared", "llama-*"]),
    upstream("openrouter"),
    upstream("openai-eu"),
]
DIRECTORY = Directory(Config(upstreams=UPSTREAMS))


def ends_at(model, name=None, directory=DIRECTORY, may_use=lambda provider: True):
    choice = directory.choose(name, model, None, may_use)
    return choice.provider.name, choice.model, choice.is_named


@pytest.mark.parametrize(
    ("asked", "provider", "model"),
    [
        ("lab/qwen3-32b", "lab", "qwen3-32b"),
        ("groq/openai/gpt-oss-120b", "groq", "openai/gpt-oss-120b"),
        ("openrouter/x-ai/grok-4", "openrouter", "x-ai/grok-4"),
        ("openrouter/auto", "openrouter", "openrouter/auto"),
        ("openai/gpt-4o", "openai-api", "gpt-4o"),
        ("openai-eu/gpt-4o", "openai-eu", "gpt-4o"),
        ("claude/claude-sonnet-4-5", "claude-api", "claude-sonnet-4-5"),
        ("gpt-4o", "openai-api", "gpt-4o"),
        ("meta-llama/llama-3", "openai-api", "meta-llama/llama-3"),
        ("llama-3.3-70b", "openai-api", "llama-3.3-70b"),  # a pattern leads nowhere
        ("", "openai-api", ""),
    ],
)
def test_one_prefix_is_taken_off(asked, provider, model):
    assert ends_at(asked) == (provider, model, True)


@pytest.mark.parametrize("name", ["lab", "openrouter", "claude", "openai-eu"])
def test_an_explicit_provider_takes_the_model_as_it_is(name):
    provider, model, is_named = ends_at("lab/x", name)
    assert provider.removesuffix("-api") == name and (model, is_named) == ("lab/x", True)


def test_a_bare_name_goes_to_the_first_upstream_that_lists_it():
    assert ends_at("qwen3-32b") == ("lab", "qwen3-32b", False)
    assert ends_at("shared") == ("lab", "shared", False)
    assert ends_at("qwen3-32b", may_use=lambda provider: False)[0] == "openai-api"


def test_listed_names_are_as_short_as_they_can_be_asked_for():
    listed = DIRECTORY.listed_id
    assert listed("openai", "gpt-4o") == "gpt-4o"
    assert listed("lab", "qwen3-32b") == "qwen3-32b" and listed("lab", "other") == "lab/other"
    assert listed("groq", "shared") == "groq/shared"
    assert listed("openai", "shared") == "openai/shared"


def test_an_unknown_prefix_is_refused_only_where_the_config_says_so():
    strict = Directory(Config(upstreams=UPSTREAMS, unknown_provider="refuse"))
    for name, model in ((None, "grok/grok-4"), ("grok", "grok-4")):
        assert ends_at(model, name)[0] == "openai-api"
        with pytest.raises(GatewayError) as caught:
            ends_at(model, name, strict)
        assert (caught.value.status, caught.value.code) == (400, "unknown_provider")
        assert "lab, groq, openrouter" in caught.value.message
    assert ends_at("gpt-4o", None, strict)[0] == "openai-api"


ALIASES = Directory(
    Config(
        models={
            "fast": ["groq/openai/gpt-oss-20b"],
            "smart": ["claude/claude-sonnet-4-5", "deepseek/deepseek-v4-pro"],
            "claude-*": ["openrouter/anthropic/claude-*"],
            "claude-haiku-*": ["deepseek/deepseek-v4-flash"],
            "*": ["gpt-4o"],
        }
    )
)


@pytest.mark.parametrize(
    ("asked", "targets"),
    [
        ("fast", ["groq/openai/gpt-oss-20b"]),
        ("smart", ["claude/claude-sonnet-4-5", "deepseek/deepseek-v4-pro"]),
        ("claude-opus-4-6", ["openrouter/anthropic/claude-opus-4-6"]),
        ("claude-haiku-4-5", ["deepseek/deepseek-v4-flash"]),
        ("claude-", ["openrouter/anthropic/claude-"]),
        ("anything", ["gpt-4o"]),
    ],
)
def test_an_alias_leads_to_its_targets_and_the_longest_pattern_wins(asked, targets):
    assert ALIASES.targets(asked) == targets


def test_without_aliases_nothing_has_a_target():
    assert DIRECTORY.targets("fast") == []
