"""Who may ask by the Gemini front, with which credential, and which models it lists."""

import json

import httpx
import pytest
from google.genai import errors

from tests.server.gemini_door import CLAUDE, GEMINI, config, post
from tests.server.gemini_door import client as client
from tests.server.gemini_door import door as door
from tests.server.running import running

TOKEN = "tok-of-a-caller-1234567890"


# --- models -----------------------------------------------------------------------------------


def test_models_are_listed_in_pages(client, door):
    names = [model.name for model in client.models.list(config={"page_size": 3})]
    assert "models/gemini-2.5-flash" in names and "models/my-gemini" in names
    assert any(name.startswith("models/claude/claude-") for name in names)
    assert any(name.startswith("models/openai/gpt-") for name in names)
    assert len(names) == len(set(names)) > 3
    found = client.models.get(model=names[-1].removeprefix("models/"))
    assert found.name == names[-1] and found.input_token_limit > 0
    with pytest.raises(errors.ClientError) as caught:
        client.models.get(model="missing")
    assert caught.value.code == 404


def test_the_caller_decides_in_whose_shape_models_are_listed(door):
    def listed(query="", **headers):
        made = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.get(f"{door.url}/c/v1/models{query}", headers=made).json()

    assert listed()["object"] == "list"
    assert "has_more" in listed(anthropic_version="2023-06-01")
    assert "models" in listed(x_goog_api_key="pool")
    assert "models" in listed("?pageSize=2")
    assert "models" in listed("?key=pool")
    assert "models" in httpx.get(f"{door.url}/c/v1beta/models").json()


# --- credentials ------------------------------------------------------------------------------


def test_a_key_in_the_query_is_used_and_never_seen_again(simulator, tmp_path):
    own = "AIza-callers-own-5678901234"
    with running(tmp_path, config(simulator)) as gateway:
        path = f"/c/v1beta/models/{GEMINI}:streamGenerateContent?alt=sse&key={own}"
        reply = post(gateway, path)
        assert reply.status_code == 200
        asked = simulator.last(path="/gemini/")[-1]
        assert "key=" not in json.dumps(asked)
        gateway.wait_log(1, front="gemini")
        said = gateway.out.read_text() + gateway.err.read_text()
        said += httpx.get(f"{gateway.url}/metrics").text
        assert own not in said and "callers-own" not in said
        # A key of Google's goes to no other house.
        reply = post(gateway, f"/c/v1beta/models/{CLAUDE}:generateContent?key={own}")
        assert reply.status_code == 401
        assert reply.json()["error"]["status"] == "UNAUTHENTICATED"


@pytest.mark.parametrize("place", ["header", "query", "bearer"])
def test_an_access_token_is_taken_from_each_place(simulator, tmp_path, place):
    access = {"tokens": [{"id": "t1", "val": TOKEN, "models": ["claude-sonnet-4-5"]}]}
    with running(tmp_path, config(simulator, access=access)) as gateway:

        def tried(model, token=TOKEN):
            path = f"/c/v1beta/models/{model}:generateContent"
            headers = {}
            if place == "query":
                path += f"?key={token}"
            elif place == "header":
                headers["x-goog-api-key"] = token
            else:
                headers["authorization"] = f"Bearer {token}"
            return post(gateway, path, headers=headers)

        assert tried(CLAUDE).status_code == 200
        # The name is read whole: a token for one model opens no other one of the house.
        refused = tried("claude/claude-opus-4-8")
        assert refused.status_code == 403
        assert refused.json()["error"]["status"] == "PERMISSION_DENIED"
        wrong = tried(CLAUDE, "tok-wrong")
        assert wrong.status_code == 401
        assert wrong.json()["error"]["status"] == "UNAUTHENTICATED"
        for path in (f"/c/v1/models/{CLAUDE}:generateContent", f"/c/v1/{CLAUDE}:countTokens"):
            assert post(gateway, path).json()["error"]["status"] == "UNAUTHENTICATED"
        assert TOKEN not in gateway.out.read_text() + gateway.err.read_text()
