"""`upstreams` and `models` of the config: what presets fill in, and the mistakes."""

import pytest

from app.config.load import ConfigError
from app.config.presets import BY_NAME, PRESETS, dialect_of
from app.config.upstreams import base_address
from tests.config.files import load_text


def upstreams_of(text: str, environ=None):
    return {each.name: each for each in load_text(text, environ or {}).config.upstreams}


def mistakes_of(text: str, environ=None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, environ or {})
    return [problem.split(": ", 1)[1] for problem in caught.value.problems]


def test_a_preset_alone_takes_its_key_from_its_variable():
    found = upstreams_of("upstreams: [deepseek]", {"DEEPSEEK_API_KEY": "dk"})["deepseek"]
    assert found.api_url == "https://api.deepseek.com"
    assert [(key.id, key.val) for key in found.api_keys or ()] == [("env", "dk")]


def test_without_its_variable_the_gateway_has_no_key_for_it_and_says_so():
    loaded = load_text("upstreams: [deepseek]", {})
    assert loaded.config.upstreams[0].api_keys is None
    assert any("DEEPSEEK_API_KEY is not set" in warning for warning in loaded.warnings)


def test_a_local_preset_and_an_empty_list_need_no_key():
    text = "upstreams: [ollama, {name: lab, api_url: 'http://h:1/v1', api_keys: []}]"
    assert [each.api_keys for each in upstreams_of(text).values()] == [[], []]


@pytest.mark.parametrize(
    ("written", "preset", "base"),
    [
        ("", "deepseek", "https://api.deepseek.com"),
        ("https://h/v1/", "", "https://h/v1"),
        ("https://h/v1/chat/completions", "", "https://h/v1"),
        ("https://h/v1/chat/completions/", "", "https://h/v1"),
        ("https://h", "", "https://h/v1"),
        ("https://h/", "", "https://h/v1"),
        ("https://h/api/paas/v4", "", "https://h/api/paas/v4"),
        ("https://h/chat/completions", "", "https://h"),
        ("http://box:11434", "ollama", "http://box:11434/v1"),
        ("https://mirror", "deepseek", "https://mirror"),
        ("https://r.openai.azure.com", "azure", "https://r.openai.azure.com/openai/v1"),
        (
            "https://r.openai.azure.com",
            "azure-deployments",
            "https://r.openai.azure.com/openai/deployments/{model}",
        ),
    ],
)
def test_addresses_end_in_one_right_place(written, preset, base):
    assert base_address(written, BY_NAME.get(preset, BY_NAME["vllm"])) == base


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("upstreams: [nobody]", "no preset is called so"),
        ("upstreams: [deepsek]", "did you mean deepseek?"),
        ("upstreams: [claude]", "claude is built in"),
        ("upstreams: [openai-chat-web]", "is built in"),
        ("upstreams: [azure]", "write api_url: https://RESOURCE.openai.azure.com"),
        ("upstreams: [ollama, ollama]", "the same as in upstreams[0]"),
        ("upstreams: [{name: Lab, api_url: 'http://h'}]", "small letters"),
        ("upstreams: [{name: lab, api_url: 'http://h', like: gork}]", "no preset is called so"),
        ("upstreams: [{name: lab, api_url: 'http://h', headers: {Host: x}}]", "the gateway's own"),
        ("openai: {api_url: 'https://h/v1'}", "ends in /v1"),
        ("models: {a: b, c: a}", "a is an alias too"),
        ("models: {'a*b*': gpt-4o}", "more than one *"),
        ("models: {a: groq/x-*}", "stands for nothing"),
        ("models: {a: groq/x}", "groq is a preset that is not in use"),
        ("models: {a: gork/x}", "there is no provider gork"),
        ("models: {a: []}", "leads to no model"),
    ],
)
def test_mistakes_are_told_where_they_stand(text, said):
    (message,) = mistakes_of(text)
    assert said in message


def test_a_token_for_a_provider_that_nobody_is_called_is_a_mistake():
    token = "access: {tokens: [{id: a, val: a-token-0123456789, providers: [openai, lap]}]}"
    assert mistakes_of(token)[0].startswith("access.tokens[0].providers: there is no provider lap")
    lab = "{name: lap, api_url: 'http://h', api_keys: []}"
    assert upstreams_of(f"upstreams: [{lab}]\n{token}").keys() == {"lap"}


def test_aliases_lead_to_one_model_or_several():
    text = "upstreams: [ollama]\nmodels: {fast: ollama/qwen3, smart: [claude/x, openai/y], '*': z}"
    assert load_text(text, {}).config.models == {
        "fast": ["ollama/qwen3"],
        "smart": ["claude/x", "openai/y"],
        "*": ["z"],
    }


def test_a_free_name_has_the_manners_of_what_it_is_like():
    assert dialect_of("lab", "mistral").tool_ids == "nine"
    assert dialect_of("mistral", "").tool_ids == "nine"
    assert dialect_of("lab", "").developer == "keep"
    assert dialect_of("mistral", "openai").tool_ids == "any"


def test_every_preset_is_a_whole_row():
    names = [name for preset in PRESETS for name in (preset.name, *preset.aliases)]
    assert len(names) == len(set(names)) == len(BY_NAME)
    for preset in PRESETS:
        assert bool(preset.api_url) != bool(preset.example)
        assert not preset.api_url.endswith("/")
