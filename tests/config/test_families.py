"""API keys from environment variables."""

from typing import get_type_hints

import providers
from app.config.families import FAMILIES, KEY_VARIABLES, PROVIDER_NAMES, pool_sizes
from app.config.load import (
    load,
)
from app.config.schema import Config, KeyEntry, OpenAI
from tests.config.files import load_text


def test_without_a_file_the_keys_of_the_environment_make_a_config():
    environ = {name: f"value of {name}" for name in KEY_VARIABLES}
    loaded = load(None, environ)
    config = loaded.config
    assert [(key.id, key.val) for key in config.openai.api_keys] == [
        ("env", "value of OPENAI_API_KEY")
    ]
    assert [key.val for key in config.claude.api_keys] == ["value of ANTHROPIC_API_KEY"]
    assert [key.val for key in config.google_gemini.api_keys] == ["value of GEMINI_API_KEY"]
    assert loaded.warnings == []
    only_google = load(None, {"GOOGLE_API_KEY": "g"}).config
    assert [(key.id, key.val) for key in only_google.google_gemini.api_keys] == [("env", "g")]


def test_beside_a_file_the_environments_keys_are_not_mixed_in_but_hinted_at():
    loaded = load_text("openai: {api_keys: [{id: a, val: b}]}", dict.fromkeys(KEY_VARIABLES, "x"))
    assert loaded.config.claude.api_keys == []
    assert [warning.partition(";")[0] for warning in loaded.warnings] == [
        "c.yaml:1:1: claude.api_keys: ANTHROPIC_API_KEY is set but not used",
        "c.yaml:1:1: google_gemini.api_keys: GEMINI_API_KEY is set but not used",
        "c.yaml:1:1: google_gemini.api_keys: GOOGLE_API_KEY is set but not used",
    ]


def test_every_family_is_a_row_of_the_providers_with_a_section_of_its_own():
    assert [family.name for family in providers.FAMILIES] == [family.name for family in FAMILIES]
    assert set(PROVIDER_NAMES) == {name for each in providers.FAMILIES for name in each.named}
    assert get_type_hints(Config).keys() >= {family.section for family in FAMILIES}


def test_every_list_of_credentials_is_counted():
    config = Config(openai=OpenAI(api_keys=[KeyEntry(id="a", val="b")]))
    assert pool_sizes(config) == {
        "openai.api_keys": 1,
        "openai.web_sessions": 0,
        "claude.api_keys": 0,
        "claude.web_sessions": 0,
        "google_gemini.api_keys": 0,
        "coze.api_chat.bots": 0,
        "coze.discord.auth": 0,
    }
