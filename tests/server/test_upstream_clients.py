"""Programs of others against two upstreams of OpenAI's wire through the gateway.

`ollama` gives parallel calls the same index and thinks in `reasoning`; `openrouter` begins with
comments and white space, thinks twice over and says its finish twice.
"""

import json
import os
import subprocess

import pytest

from tests.conftest import OtherProgram
from tests.sdk.programs import ai_sdk, environment
from tests.server.conftest import config_for
from tests.server.hosts import upstream
from tests.server.programs import HERE
from tests.server.running import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # the first one installs

CALL = 'call get_weather with {"city": "Paris"}'
TWO = 'call get_weather with {"city": "Paris"} and get_weather with {"city": "Rome"}'
# (upstream, a model of it): the second one thinks.
MODELS = ["ollama/qwen3", "ollama/qwen3-thinking", "openrouter/x/chat", "openrouter/x/thinking"]


@pytest.fixture(scope="module")
def two_hosts(simulator, tmp_path_factory):
    config = config_for(
        simulator.url,
        upstreams=[upstream(simulator.url, name) for name in ("ollama", "openrouter")],
    )
    with running(tmp_path_factory.mktemp("two-hosts"), config) as gateway:
        yield gateway


def wishes(gateway, model):
    wrong = f"{model.rpartition('/')[0]}/missing-model"
    return {"BASE_URL": f"{gateway.url}/c/v1", "MODEL": model, "WRONG": wrong}


def check(said):
    assert said["asked"] == ["Paris"]
    assert said["text"] == "The tool said: sunny in Paris"
    assert said["whole"] == "You said: hi"
    assert said["refused"].startswith(("404", "400")) and "missing-model" in said["refused"]


@pytest.mark.parametrize("model", MODELS)
def test_langchain(two_hosts, model):
    python = environment("llm-langchain") / "python"
    program = OtherProgram([str(python), "-W", "ignore", "-c"], {})
    said = program.run((HERE / "langchain_round.py").read_text(), **wishes(two_hosts, model))
    check(said)
    assert said["tokens"] > 0


@pytest.mark.parametrize("model", MODELS)
def test_vercels_ai_sdk(two_hosts, model):
    node, folder = ai_sdk()
    script = folder / "round.mjs"
    script.write_text((HERE / "ai_sdk.mjs").read_text())
    said = OtherProgram([str(node)], {}).run(str(script), **wishes(two_hosts, model))
    check(said)
    assert {"tool-call", "tool-result", "text-delta", "finish"} <= set(said["kinds"])
    assert ("The user said: call" in said["reasoning"]) == ("think" in model)
    assert said["tokens"] > 0


def llm(gateway, folder, model, *arguments):
    entry = {
        "model_id": "gateway",
        "model_name": model,
        "api_base": f"{gateway.url}/c/v1",
        "supports_tools": True,
    }
    (folder / "extra-openai-models.yaml").write_text(json.dumps([entry]))
    done = subprocess.run(
        [str(environment("llm-langchain") / "llm"), "-m", "gateway", "--key", "pool", *arguments],
        env={**os.environ, "LLM_USER_PATH": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.strip(), done.stderr


@pytest.mark.parametrize("model", MODELS)
def test_llm(two_hosts, tmp_path, model):
    tools = str(HERE / "llm_tools.py")
    code, said, errors = llm(two_hosts, tmp_path, model, "--functions", tools, CALL)
    assert code == 0 and said.endswith("The tool said: sunny in Paris"), (said, errors)
    assert llm(two_hosts, tmp_path, model, "--no-stream", "hi")[1].endswith("You said: hi")
    wrong = wishes(two_hosts, model)["WRONG"]
    code, said, errors = llm(two_hosts, tmp_path, wrong, "hi")
    assert code == 1 and "missing-model" in errors


@pytest.mark.parametrize("model", MODELS)
def test_aider_edits_a_file(two_hosts, tmp_path, model):
    """The simulated model repeats what it is told, and aider takes that for an edit."""
    aider = environment("aider") / "aider"
    file = tmp_path / "hello.py"
    file.write_text("print('old')\n")
    told = "hello.py\n```\nprint('new')\n```\n"
    done = subprocess.run(
        [
            str(aider),
            "--model", f"openai/{model}",
            "--openai-api-base", f"{two_hosts.url}/c/v1",
            "--openai-api-key", "pool",
            "--edit-format", "whole",
            "--message", f"\n{told}",
            "--yes-always",
            "--no-git",
            "--no-analytics",
            "--no-check-update",
            "--no-show-model-warnings",
            "--no-show-release-notes",
            "--map-tokens", "0",
            "hello.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert file.read_text() == "print('new')\n", done.stdout + done.stderr
    assert two_hosts.wait_log(model=model.partition("/")[2], stream=True, outcome="complete")
