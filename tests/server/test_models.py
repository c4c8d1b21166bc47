"""GET /c/v1/models: what every configured provider offers, whoever of them is down."""

import time

import httpx
import openai
import pytest

from tests.server.conftest import config_for
from tests.server.running import free_port, running


def config(simulator, **urls):
    """Three providers on the simulator, or at the addresses given."""
    claude = urls.get("claude", f"{simulator.url}/claude")
    gemini = urls.get("gemini", f"{simulator.url}/gemini")
    made = config_for(simulator.url) | {
        "claude": {"api_url": claude, "api_keys": [{"id": "1", "val": "sk-ant-api03-list"}]},
        "google_gemini": {"api_url": gemini, "api_keys": [{"id": "1", "val": "AIza-list"}]},
    }
    made["openai"] = made["openai"] | {"api_url": urls.get("openai", f"{simulator.url}/openai")}
    return made


def listed(gateway):
    return httpx.get(f"{gateway.url}/c/v1/models", timeout=20)


def providers_in(reply):
    assert reply.status_code == 200, reply.text
    return {model["provider"] for model in reply.json()["data"]}


def test_every_provider_is_listed_with_its_name_in_openais_shape(doors):
    with openai.OpenAI(base_url=f"{doors.url}/c/v1", api_key="pool", max_retries=0) as client:
        models = list(client.models.list())
        by_provider = {model.model_extra["provider"]: model for model in models}
        assert set(by_provider) == {"openai", "claude", "gemini"}
        for model in models:
            assert model.object == "model" and isinstance(model.created, int) and model.owned_by
        for provider, model in by_provider.items():
            assert client.models.retrieve(model.id).model_extra["provider"] == provider
            assert client.models.retrieve(f"{provider}/{model.id}").id == model.id
        names = {model.id for model in models}
        assert {"gpt-4o", "claude-opus-4-8", "gemini-2.5-flash"} <= names
        for wrong in ("nonesuch", "claude/gpt-4o", "gemini/"):
            with pytest.raises(openai.NotFoundError) as caught:
                client.models.retrieve(wrong)
            assert caught.value.code == "model_not_found"


def test_a_prefixed_id_from_the_list_can_be_asked(doors):
    with openai.OpenAI(base_url=f"{doors.url}/c/v1", api_key="pool", max_retries=0) as client:
        for provider in ("openai", "claude", "gemini"):
            ids = [m.id for m in client.models.list() if m.model_extra["provider"] == provider]
            name = next(i for i in ids if i in ("gpt-4o", "claude-opus-4-8", "gemini-2.5-flash"))
            answer = client.chat.completions.create(
                model=f"{provider}/{name}", messages=[{"role": "user", "content": "a"}]
            )
            assert answer.choices[0].message.content == "You said: a"


def test_one_that_is_not_there_and_one_that_hangs_do_not_keep_the_others(simulator, tmp_path):
    nobody = f"http://127.0.0.1:{free_port()}"
    made = config(simulator, claude=nobody) | {"timeouts": {"first_event": 1}}
    simulator.fault("sim-hang", times=9, path="/gemini/v1beta/models", key="AIza-list")
    with running(tmp_path, made) as gateway:
        assert providers_in(listed(gateway)) == {"openai"}
        # A failure is remembered for a moment, or each list would wait for the hanging one.
        began = time.monotonic()
        assert providers_in(listed(gateway)) == {"openai"}
        assert time.monotonic() - began < 0.8
