"""gemini-cli, and the JavaScript clients of the Gemini API, before every kind of upstream."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import OtherProgram
from tests.fronts.gemini_calls import PNG
from tests.sdk.programs import environment, gemini_clients
from tests.server.gemini_door import CLAUDE, GEMINI, MODELS, OPENAI, config
from tests.server.programs import HERE
from tests.server.running import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
CLI = Path("@google/gemini-cli/bundle/gemini.js")
SETTINGS = {
    "security": {"auth": {"selectedType": "gemini-api-key"}},
    "privacy": {"usageStatisticsEnabled": False},
    "general": {"disableAutoUpdate": True},
    "telemetry": {"enabled": False},
}
CALLS = [["get_weather", {"city": "Paris"}], ["get_news", {"city": "Oslo"}]]


@pytest.fixture(scope="module")
def installed() -> tuple[str, Path]:
    """Node, and the packages."""
    node, folder = gemini_clients()
    return str(node), folder / "node_modules"


@pytest.fixture(scope="module")
def door(simulator, tmp_path_factory):
    with running(tmp_path_factory.mktemp("gemini-clients"), config(simulator)) as gateway:
        yield gateway


class Program:
    """gemini-cli in a home of its own, with nothing of this machine's settings."""

    def __init__(self, installed: tuple[str, Path], url: str, home: Path) -> None:
        node, packages = installed
        self.folder = home / "project"
        self.folder.mkdir()
        (home / ".gemini").mkdir()
        (home / ".gemini" / "settings.json").write_text(json.dumps(SETTINGS))
        self._command = [node, str(packages / CLI), "--yolo", "--skip-trust"]
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "GOOGLE_GEMINI_BASE_URL": f"{url}/c",
            "GEMINI_API_KEY": "pool",
            "NO_COLOR": "1",
            "CI": "1",
        }

    def ask(self, model: str, prompt: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [*self._command, "-m", model, "-p", prompt],
            cwd=self.folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def program(installed, door, tmp_path):
    return Program(installed, door.url, tmp_path)


@pytest.mark.parametrize("model", MODELS)
def test_a_question_is_answered(program, door, model):
    code, out, err = program.ask(model, f"blue moon over {model}")
    assert code == 0, err
    assert f"blue moon over {model}" in out
    assert door.wait_log(front="gemini", model=model.partition("/")[2] or model, stream=True)


@pytest.mark.parametrize("model", MODELS)
def test_a_tool_is_run_and_its_result_goes_back(program, model):
    (program.folder / "moon.txt").write_text("The moon is blue.\n")
    code, out, err = program.ask(model, 'call read_file with {"file_path": "moon.txt"}')
    assert code == 0, err
    assert "The moon is blue." in out


@pytest.mark.parametrize("model", ["gemini/sim-cut-after-3", "openai/sim-cut-after-3"])
def test_a_cut_stream_is_seen_and_asked_again(program, door, model):
    _, _, err = program.ask(model, "blue moon")
    assert "finish reason" in err or "error" in err.lower()
    name = model.partition("/")[2]
    house = "gemini-api" if model.startswith("gemini") else "openai-api"
    lines = door.wait_log(4, front="gemini", model=name, provider=house)
    assert {line["outcome"] for line in lines} <= {"upstream_cut", "upstream_error"}


@pytest.mark.parametrize("model", [GEMINI, CLAUDE, OPENAI])
def test_a_rate_limit_is_waited_for(program, door, simulator, model):
    family = {GEMINI: "gemini", CLAUDE: "claude", OPENAI: "openai"}[model]
    simulator.fault("429-after-2", times=2, family=family)  # each of both keys
    code, out, err = program.ask(model, f"red moon over {model}")
    assert code == 0, err
    assert f"red moon over {model}" in out
    statuses = [line["status"] for line in door.log(front="gemini")]
    assert 429 in statuses and statuses[-1] == 200


@pytest.mark.parametrize("model", MODELS)
def test_a_picture_and_a_text_are_read_at_once(program, simulator, model):
    (program.folder / "red.png").write_bytes(base64.b64decode(PNG))
    (program.folder / "moon.txt").write_text("The moon is blue.\n")
    files = " and ".join(
        f'read_file with {{"file_path": "{name}"}}' for name in ("red.png", "moon.txt")
    )
    code, out, err = program.ask(model, f"call {files}")
    assert code == 0, err
    assert "The moon is blue." in out
    sent = simulator.last(1, model=model.rpartition("/")[2])[0]
    assert PNG in sent["body_text"]


def test_claudes_thoughts_survive_two_rounds_of_tools_and_a_rate_limit(program, simulator):
    file = program.folder / "moon.txt"
    file.write_text("The moon is blue.\n")
    simulator.fault("429-after-2", times=2, family="claude")  # each of both keys
    prompt = f'read {file} and replace "is blue" by "is red"'
    code, out, err = program.ask("gemini-2.5-pro", prompt)  # asks for thoughts by this name
    assert code == 0, err
    assert file.read_text() == "The moon is red.\n", out
    sent = simulator.last(1, path="/claude/v1/messages")[0]["json"]
    thoughts = [
        message["content"][0] for message in sent["messages"] if message["role"] == "assistant"
    ]
    # Simulated Claude refuses a thought that is not signed as it was told.
    assert [block["type"] for block in thoughts] == ["thinking", "thinking"]
    assert all(block["signature"] for block in thoughts)


def test_a_search_is_answered_by_gemini_itself(program, door):
    code, out, err = program.ask(OPENAI, 'call google_web_search with {"query": "moon"}')
    assert code == 0, err
    assert "moon" in out
    line = door.wait_log(front="gemini", model="gemini-3-flash-preview")[-1]
    assert (line["provider"], line["status"]) == ("gemini-api", 200)


def test_the_router_of_the_auto_model_is_another_house(program, door):
    code, out, err = program.ask("auto", "green moon")
    assert code == 0, err
    assert "green moon" in out
    route = "/c/v1beta/models/<model>:generateContent"
    routed = door.wait_log(front="gemini", model="gpt-4o", route=route)[-1]
    assert (routed["provider"], routed["status"]) == ("openai-api", 200)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("client", ["genai", "vercel", "langchain"])
def test_a_javascript_client_does_all_its_rounds(
    installed, door, simulator, tmp_path, client, model
):
    node, packages = installed
    script = tmp_path / "round.mjs"
    shutil.copy(Path(__file__).parent / "gemini_clients.mjs", script)
    (tmp_path / "node_modules").symlink_to(packages)
    house = model.partition("/")[0] if "/" in model else "gemini"
    done = subprocess.run(
        [node, str(script)],
        env={
            "PATH": os.environ["PATH"],
            "CLIENT": client,
            "URL": f"{door.url}/c",
            "MODEL": model,
            "FAILING": f"{house}/sim-404",
            "PNG": PNG,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["text"] == said["stream"] == "You said: blue moon"
    assert said["calls"] == CALLS
    assert said["after"]
    assert said["error"] == 404
    assert list(said["json"]) == ["city"]
    if client != "langchain" or model == GEMINI:
        assert said["picture"] == "You said: what is it?"
        asked = simulator.last(40, model=model.rpartition("/")[2])
        assert any(PNG in call["body_text"] for call in asked)


@pytest.mark.timeout(1200)  # the first one installs
@pytest.mark.parametrize("model", MODELS)
def test_langchains_python_client_does_all_its_rounds(door, simulator, model):
    python = environment("langchain-google-genai") / "python"
    house = model.partition("/")[0] if "/" in model else "gemini"
    said = OtherProgram([str(python), "-W", "ignore", "-c"], {}).run(
        (HERE / "langchain_google_round.py").read_text(),
        BASE_URL=f"{door.url}/c",
        MODEL=model,
        WRONG=f"{house}/sim-404",
        PICTURE=f"data:image/png;base64,{PNG}",
    )
    assert said["text"] == said["stream"] == "You said: blue moon"
    assert said["calls"] == CALLS
    assert said["after"] and said["tokens"] > 0
    assert list(said["json"]) == ["city"]
    assert said["picture"] == "You said: what is it?"
    assert "404" in said["error"], said["error"]
    asked = simulator.last(40, model=model.rpartition("/")[2])
    assert any(PNG in json.dumps(call["json"]) for call in asked)
