"""GET /c/v1/models: what every configured provider offers, whoever of them is down."""

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
            bare = model.id.removeprefix(f"{provider}/")
            assert client.models.retrieve(f"{provider}/{bare}").id == model.id
        names = {model.id for model in models}
        assert {"gpt-4o", "claude/claude-opus-4-8", "gemini/gemini-2.5-flash"} <= names
        assert client.models.retrieve("claude-opus-4-8").id == "claude/claude-opus-4-8"
        for wrong in ("nonesuch", "claude/gpt-4o", "gemini/"):
            with pytest.raises(openai.NotFoundError) as caught:
                client.models.retrieve(wrong)
            assert caught.value.code == "model_not_found"


def test_an_id_from_the_list_can_be_asked_as_it_is_listed(doors):
    with openai.OpenAI(base_url=f"{doors.url}/c/v1", api_key="pool", max_retries=0) as client:
        ids = [model.id for model in client.models.list()]
        for name in ("gpt-4o", "claude/claude-opus-4-8", "gemini/gemini-2.5-flash"):
            assert name in ids
            answer = client.chat.completions.create(
                model=name, messages=[{"role": "user", "content": "a"}]
            )
            assert answer.choices[0].message.content == "You said: a"


BARE = {"claude-opus-4-8": "claude", "gemini-2.5-flash": "gemini", "gpt-4o": ""}


@pytest.mark.parametrize("name", BARE)
def test_a_bare_name_of_a_well_known_family_goes_to_its_house(doors, name):
    body = {"model": name, "messages": [{"role": "user", "content": "a"}]}
    answer = httpx.post(f"{doors.url}/c/v1/chat/completions", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
    assert {key for key in answer.json() if key in ("claude", "gemini")} == ({BARE[name]} - {""})


def test_without_a_key_of_that_house_or_with_one_of_the_callers_own_openai_is_asked(gateway, doors):
    body = {"model": "claude-opus-4-8", "messages": [{"role": "user", "content": "a"}]}
    own = {"authorization": "Bearer sk-mine"}
    for url, headers in ((gateway.url, {}), (doors.url, own)):
        answer = httpx.post(f"{url}/c/v1/chat/completions", json=body, headers=headers, timeout=20)
        assert answer.headers["x-upstream-request-id"] and "claude" not in answer.json()
        assert "request-id" not in answer.headers  # Anthropic's would be there


def test_a_token_holds_on_the_house_that_a_bare_name_goes_to(simulator, tmp_path):
    tokens = [
        {"id": "o", "val": "openai-0123456789-token", "providers": ["openai"]},
        {"id": "c", "val": "claude-0123456789-token", "models": ["claude/*"]},
    ]
    with running(tmp_path, config(simulator) | {"access": {"tokens": tokens}}) as gateway:
        body = {"model": "claude-opus-4-8", "messages": [{"role": "user", "content": "a"}]}
        status = [
            httpx.post(
                f"{gateway.url}/c/v1/chat/completions",
                json=body,
                headers={"authorization": f"Bearer {token['val']}"},
                timeout=20,
            ).status_code
            for token in tokens
        ]
        assert status == [403, 200]
        mine = {"authorization": "Bearer claude-0123456789-token"}
        found = httpx.get(f"{gateway.url}/c/v1/models", headers=mine, timeout=20).json()["data"]
        assert found and all(model["id"].startswith("claude/") for model in found)


def test_one_that_is_not_there_and_one_that_hangs_do_not_keep_the_others(simulator, tmp_path):
    nobody = f"http://127.0.0.1:{free_port()}"
    made = config(simulator, claude=nobody) | {"timeouts": {"first_event": 1}}
    simulator.fault("sim-hang", times=9, path="/gemini/v1beta/models", key="AIza-list")
    with running(tmp_path, made) as gateway:
        assert providers_in(listed(gateway)) == {"openai"}
        # A failure is remembered for a moment, or each list would wait for the hanging one.
        asked = simulator.stats()["by_key"]["AIza-list"]["requests"]
        assert providers_in(listed(gateway)) == {"openai"}
        assert simulator.stats()["by_key"]["AIza-list"]["requests"] == asked
