"""A gateway with every kind of upstream behind it, as clients of the Gemini API ask it.

A module that imports `door` and `client` has them for itself.
"""

import httpx
import pytest
from google import genai
from google.genai import types

from tests.server.conftest import CLAUDE_KEYS, GEMINI_KEYS, config_for
from tests.server.running import running

GEMINI, CLAUDE = "gemini-2.5-flash", "claude/claude-sonnet-4-5"
OPENAI, LOCAL = "openai/gpt-4o", "local/gpt-4o"
MODELS = (GEMINI, CLAUDE, OPENAI, LOCAL)


def config(simulator, **more):
    claude = [{"id": i, "val": v} for i, v in CLAUDE_KEYS.items()]
    google = [{"id": i, "val": v} for i, v in GEMINI_KEYS.items()]
    return config_for(
        simulator.url,
        claude={"api_url": f"{simulator.url}/claude", "api_keys": claude},
        google_gemini={"api_url": f"{simulator.url}/gemini", "api_keys": google},
        upstreams=[
            {
                "name": "local",
                "api_url": f"{simulator.url}/openai/v1",
                "api_keys": [{"id": "l1", "val": "sk-local-1111"}],
            }
        ],
        models={
            "gemini-*-lite": OPENAI,
            "gemini-2.5-pro": CLAUDE,
            "my-gemini": "gemini/gemini-2.5-flash",
            "my-embedding": "gemini/gemini-embedding-001",
        },
        **more,
    )


@pytest.fixture(scope="module")
def door(simulator, tmp_path_factory):
    with running(tmp_path_factory.mktemp("gemini-front"), config(simulator)) as gateway:
        yield gateway


def client_of(gateway, key="pool", version="v1beta"):
    made = types.HttpOptions(base_url=f"{gateway.url}/c", api_version=version)
    return genai.Client(api_key=key, http_options=made)


@pytest.fixture(scope="module")
def client(door):
    made = client_of(door)
    yield made
    made.close()


def post(gateway, path, body=None, **options):
    body = body or {"contents": [{"role": "user", "parts": [{"text": "blue moon"}]}]}
    return httpx.post(f"{gateway.url}{path}", json=body, timeout=20, **options)
