"""Clients of Anthropic's API on /c: before Claude, whose bytes pass, and translated upstreams."""

import pytest

from tests.conftest import OtherProgram
from tests.sdk.programs import anthropic_clients, environment
from tests.server.programs import HERE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # the first one installs

# The family of the simulator, and a model of it.
MODELS = {
    "claude": "claude-haiku-4-5",
    "openai": "openai/gpt-5-mini",
    "gemini": "gemini/gemini-2.5-flash",
}


@pytest.fixture(params=MODELS)
def family(request):
    return request.param


def wishes(doors, family):
    return {
        "BASE_URL": f"{doors.url}/c",
        "MODEL": MODELS[family],
        "WRONG": f"{family}/missing-model",
        "CUT": f"{family}/sim-cut-after-2",
    }


def check(said, family):
    assert said["asked"] == ["Paris"]
    assert said["text"].startswith("The tool said: ") and "sunny in Paris" in said["text"]
    assert said["whole"] == "You said: hi"
    assert said["tokens"] > 0
    assert "404" in said["refused"], said["refused"]


def javascript(doors, family, name):
    node, folder = anthropic_clients()
    script = folder / name
    script.write_text((HERE / name).read_text())
    return OtherProgram([str(node)], {}).run(str(script), **wishes(doors, family))


def test_the_typescript_sdk(doors, family):
    said = javascript(doors, family, "messages.mjs")
    check(said, family)
    assert said["end"] == "tool_use" and said["counted"] > 0
    assert said["refused"] == "NotFoundError 404 not_found_error"
    assert said["broken"]


def test_vercels_ai_sdk(doors, family):
    said = javascript(doors, family, "ai_sdk_anthropic.mjs")
    check(said, family)
    assert {"tool-call", "tool-result", "text-delta", "finish"} <= set(said["kinds"])
    assert "missing-model" in said["refused"]


def test_langchain(doors, family):
    python = environment("langchain-anthropic") / "python"
    program = OtherProgram([str(python), "-W", "ignore", "-c"], {})
    script = (HERE / "langchain_anthropic_round.py").read_text()
    check(program.run(script, **wishes(doors, family)), family)


def test_the_old_python_sdk(doors, family):
    python = environment("anthropic-1x") / "python"
    script = (HERE / "anthropic_round.py").read_text()
    said = OtherProgram([str(python), "-W", "ignore", "-c"], {}).run(
        script, **wishes(doors, family)
    )
    assert said["version"] == "1.17.0" and "NotFoundError" in said["refused"]
    check(said, family)
