"""A real engine behind the gateway: llama.cpp's own server, of the package `xllamacpp` on PyPI.

Its model is made by the test: two layers of random weights, so what it says is noise; how it says
it is not.
"""

import subprocess
import time

import httpx
import openai
import pytest

from tests.sdk.programs import environment
from tests.server.conftest import config_for
from tests.server.programs import HERE
from tests.server.running import free_port, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # the first one installs

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    python = environment("llamacpp") / "python"
    folder, port = tmp_path_factory.mktemp("llamacpp"), free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(python), str(HERE / "llama_server.py"), str(folder), str(port)],
            stdout=log,
            stderr=log,
        )
    try:
        end = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None and time.monotonic() < end, folder / "log"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def client(engine, simulator, tmp_path_factory):
    config = config_for(
        simulator.url,
        # The origin alone: /v1 is the preset's.
        upstreams=[{"name": "llamacpp", "api_url": engine}],
        models={"local": "llamacpp/tiny"},
    )
    with (
        running(tmp_path_factory.mktemp("gateway"), config) as gateway,
        openai.OpenAI(base_url=f"{gateway.url}/c/v1", api_key="pool", max_retries=0) as made,
    ):
        made.gateway = gateway
        yield made


def ask(client, model="llamacpp/tiny", **members):
    more = {"messages": HI, "max_tokens": 12, "temperature": 0, **members}
    return client.chat.completions.create(model=model, **more)


def test_it_answers_whole_and_streamed_with_the_same_words(client):
    whole = ask(client)
    assert whole.choices[0].message.content and whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 12
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    said = "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
    assert said == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == 12
    calls = client.gateway.wait_log(2, provider="llamacpp", outcome="complete")
    assert {call["completion_tokens"] for call in calls} == {12}


def test_its_model_is_listed_and_the_alias_leads_to_it(client):
    listed = {model.id: model for model in client.models.list()}
    assert listed["llamacpp/tiny"].owned_by == "llamacpp"
    assert ask(client, "local").model == "tiny"


def test_its_refusals_are_told(client):
    with pytest.raises(openai.BadRequestError, match="messages"):
        ask(client, messages="no list", stream=False)
    with pytest.raises(openai.BadRequestError):
        ask(client, messages=[{"role": "user", "content": "x" * 40_000}])


def test_its_other_endpoints_are_behind_the_raw_route(client, engine):
    reply = httpx.post(
        f"{client.gateway.url}/upstreams/llamacpp/completions",
        json={"prompt": "hi", "max_tokens": 4},
        timeout=30,
    )
    assert reply.status_code == 200 and reply.json()["usage"]["completion_tokens"] == 4


def test_a_caller_that_leaves_stops_the_engine(client, engine):
    stream = ask(client, stream=True, max_tokens=1500)
    next(iter(stream))
    stream.close()
    end = time.monotonic() + 10
    while any(slot["is_processing"] for slot in httpx.get(f"{engine}/slots").json()):
        assert time.monotonic() < end, "the engine goes on for nobody"
        time.sleep(0.05)
