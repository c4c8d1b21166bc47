"""Other clients of Responses through the gateway, against each kind of upstream.

A round of tools is done with thinking on: the simulated Claude refuses a thought that does not come
back as it went.
"""

import pytest

from tests.conftest import OtherProgram
from tests.sdk.programs import ai_sdk, environment
from tests.server.programs import HERE
from tests.server.running import Running
from tests.server.test_responses_sdk import MODELS, NATIVE, ONLY, config_of

ALL = [*MODELS, NATIVE, ONLY]
installs = [pytest.mark.slow, pytest.mark.timeout(1200)]  # the first one of a program


@pytest.fixture(scope="module")
def gateway(simulator, tmp_path_factory):
    running = Running(tmp_path_factory.mktemp("clients"), config_of(simulator))
    yield running.wait()
    assert running.stop() == 0


@pytest.fixture(autouse=True)
def no_earlier_requests(simulator):
    """The simulator is that of other files' tests, too."""
    simulator.reset()


def wishes(gateway, model):
    wrong = f"{model.rpartition('/')[0]}/missing-model".lstrip("/")
    return {"BASE_URL": f"{gateway.url}/c/v1", "MODEL": model, "WRONG": wrong}


def check_refusal(said):
    assert said["refused"].startswith(("404", "400")) and "missing-model" in said["refused"]


def thoughts_came_back(simulator, model):
    """Whether the last requests to Claude hold the thought before the call."""
    [*_, last] = simulator.last(40, model=model.rpartition("/")[2], path="/claude")
    bodies = [each["json"] for each in simulator.last(40, path="/claude") if each["json"]]
    turns = [m for body in bodies for m in body.get("messages", ()) if m["role"] == "assistant"]
    return last and any(block["type"] == "thinking" for turn in turns for block in turn["content"])


@pytest.mark.parametrize("model", ALL)
def test_the_npm_package(gateway, node, simulator, model):
    said = node.run((HERE / "openai_responses.js").read_text(), **wishes(gateway, model))
    assert said["whole"] == "You said: hi"
    assert said["asked"] == ["Paris"]
    assert said["text"] == said["deltas"] and "sunny in Paris" in said["text"]
    assert said["ends"] == ["response.completed"] * 2
    assert said["tokens"] > 0 and said["parsed"] == "string"
    check_refusal(said)
    if model.startswith("claude/"):
        assert thoughts_came_back(simulator, model)


class TestInstalled:
    """Programs in environments of their own."""

    pytestmark = installs

    @pytest.mark.parametrize("model", ALL)
    def test_vercels_ai_sdk(self, gateway, simulator, model):
        node, folder = ai_sdk()
        script = folder / "responses.mjs"
        script.write_text((HERE / "ai_sdk_responses.mjs").read_text())
        said = OtherProgram([str(node)], {}).run(str(script), **wishes(gateway, model))
        # The simulated OpenAI keeps nothing.
        for name in ("off",) if model in (MODELS[0], NATIVE, ONLY) else ("default", "off"):
            told = said["rounds"][name]
            assert told["asked"] == ["Paris", "Rome"], name
            assert "sunny in Rome" in told["text"], (name, told)
            assert told["tokens"] > 0 and told["finish"] == "stop", name
        assert said["whole"] == "You said: hi"
        check_refusal(said)
        if model.startswith("claude/"):
            assert said["rounds"]["off"]["reasoning"]
            assert thoughts_came_back(simulator, model)

    @pytest.mark.parametrize("model", ALL)
    def test_the_agents_sdk(self, gateway, simulator, model):
        python = environment("openai-agents") / "python"
        program = OtherProgram([str(python), "-W", "ignore", "-c"], {})
        said = program.run((HERE / "agents_round.py").read_text(), **wishes(gateway, model))
        assert said["asked"] == ["Paris"] * 2
        assert said["text"] == said["streamed"] and "sunny in Paris" in said["text"]
        assert said["deltas"].endswith(said["text"])
        assert said["last_agent"] == "helper" and said["handed"].startswith("The tool said: ")
        assert said["tokens"] > 0
        check_refusal(said)
        if model.startswith("claude/"):
            assert thoughts_came_back(simulator, model)

    @pytest.mark.parametrize("model", ALL)
    def test_langchain(self, gateway, simulator, model):
        python = environment("openai-agents") / "python"
        program = OtherProgram([str(python), "-W", "ignore", "-c"], {})
        script = (HERE / "langchain_round.py").read_text()
        said = program.run(script, **wishes(gateway, model), RESPONSES="1")
        assert said["asked"] == ["Paris"]
        assert "sunny in Paris" in said["text"]
        assert said["whole"] == "You said: hi" and said["tokens"] > 0
        check_refusal(said)
        if model.startswith("claude/"):
            assert thoughts_came_back(simulator, model)
