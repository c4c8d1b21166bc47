"""The real Codex, from npm, against each kind of upstream."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sdk import programs
from tests.server import programs as programs_of_ours
from tests.server.conftest import CLAUDE_KEYS, GEMINI_KEYS, config_for
from tests.server.running import Running
from tests.server.test_web_sessions import PNG

pytestmark = pytest.mark.slow
TARGETS = ("openai", "claude", "gemini", "host")
PREFIXES = {"openai": "", "claude": "claude/", "gemini": "gemini/", "host": "host/"}
COMMAND = '{"cmd": "echo ran-$((40+2))"}'
PATCH = "*** Begin Patch\n*** Add File: made.txt\n+hello\n*** End Patch\n"


@pytest.fixture(scope="module")
def gateway(simulator, tmp_path_factory):
    """`gpt-5.5`, whose tools Codex knows, is each upstream's model by an alias of `TARGET-`."""
    config = config_for(simulator.url) | {
        "claude": {
            "api_url": f"{simulator.url}/claude",
            "api_keys": [{"id": "a1", "val": CLAUDE_KEYS["a1"]}],
        },
        "google_gemini": {
            "api_url": f"{simulator.url}/gemini",
            "api_keys": [{"id": "g1", "val": GEMINI_KEYS["g1"]}],
        },
        "upstreams": [
            {
                "name": "host",
                "api_url": f"{simulator.url}/openai/v1",
                "api_keys": [{"id": "h1", "val": "sk-host-1"}],
            }
        ],
    }
    running = Running(tmp_path_factory.mktemp("codex"), config)
    yield running.wait()
    assert running.stop() == 0


class Codex:
    """One user of Codex with a home of their own; `run` is one `codex exec`."""

    def __init__(self, program: list[str], folder: Path, url: str, idle_ms: int = 300_000) -> None:
        self._program = program
        self.work, self._home = folder / "work", folder / "home"
        self.work.mkdir()
        (self._home / ".codex").mkdir(parents=True)
        (self._home / ".codex" / "config.toml").write_text(
            f"""
model_provider = "gateway"
[model_providers.gateway]
name = "Gateway"
base_url = "{url}/c/v1"
wire_api = "responses"
env_key = "GATEWAY_TOKEN"
request_max_retries = 1
stream_max_retries = 1
stream_idle_timeout_ms = {idle_ms}
[analytics]
enabled = false
[mcp_servers.sums]
command = "{sys.executable}"
args = ["{Path(programs_of_ours.__file__).parent / "mcp_sums.py"}"]
"""
        )

    def run(self, model: str, prompt: str, *flags: str) -> tuple[int, str, list[dict]]:
        """The exit code, the last message and the events that Codex told."""
        last = self.work.parent / "last.txt"
        last.unlink(missing_ok=True)
        done = subprocess.run(
            [
                *self._program,
                "exec",
                "--json",
                "--skip-git-repo-check",
                "--dangerously-bypass-approvals-and-sandbox",
                "-o",
                str(last),
                "-m",
                model,
                *flags,
                prompt,
            ],
            cwd=self.work,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self._home),
                "CODEX_HOME": str(self._home / ".codex"),
                "GATEWAY_TOKEN": "pool",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return done.returncode, last.read_text() if last.exists() else "", events


@pytest.fixture(scope="module")
def program():
    return programs.codex()


@pytest.fixture
def codex(program, tmp_path, gateway):
    return Codex(program, tmp_path, gateway.url)


def calls_of(gateway, before: int, count: int) -> list[dict]:
    """The log lines of the calls since there were `before` of them; at least `count` will come."""
    return gateway.wait_log(before + count, front="openai-responses")[before:]


@pytest.mark.parametrize("target", TARGETS)
def test_a_question(codex, gateway, target):
    before = len(gateway.log(front="openai-responses"))
    code, said, _ = codex.run(PREFIXES[target] + "some-model", "the answer is 42")
    assert code == 0 and "the answer is 42" in said
    [line] = calls_of(gateway, before, 1)
    assert line["outcome"] == "complete"


@pytest.mark.parametrize("target", TARGETS)
def test_a_turn_of_the_shell(codex, gateway, target):
    before = len(gateway.log(front="openai-responses"))
    prompt = 'call exec_command with {"cmd": "echo hi-from-$((40+2))"}'
    code, said, _ = codex.run(PREFIXES[target] + "some-model", prompt)
    assert code == 0 and "hi-from-42" in said
    assert [line["outcome"] for line in calls_of(gateway, before, 2)] == ["complete"] * 2


@pytest.mark.parametrize("target", TARGETS[1:])
def test_a_patch_a_command_and_a_picture(program, gateway, simulator, tmp_path, target):
    alias = {"gpt-5.5": PREFIXES[target] + "gpt-5.5"}
    file = json.loads(gateway.file.read_text()) | {"models": alias}
    del file["port"], file["state_path"], file["responses"]
    other = Running(tmp_path / "other", file).wait()
    (tmp_path / "user").mkdir()
    user = Codex(program, tmp_path / "user", other.url)
    picture = tmp_path / "picture.png"
    picture.write_bytes(base64.b64decode(PNG))
    calls = f"apply_patch with {json.dumps({'input': PATCH})} and exec_command with {COMMAND}"
    code, said, _ = user.run("gpt-5.5", f"call {calls}", f"--image={picture}")
    assert other.stop() == 0
    assert code == 0 and "ran-42" in said, said
    assert (user.work / "made.txt").read_text() == "hello\n"
    asked = simulator.last(2)
    assert all(PNG[:40] in each["body_text"] for each in asked)


@pytest.mark.parametrize("target", TARGETS[1:])
def test_a_tool_of_an_mcp_server(codex, gateway, target):
    before = len(gateway.log(front="openai-responses"))
    prompt = 'call mcp__sums__add with {"a": 40, "b": 2}'
    code, said, _ = codex.run(PREFIXES[target] + "some-model", prompt)
    assert code == 0 and "sum=42" in said
    assert [line["outcome"] for line in calls_of(gateway, before, 2)] == ["complete"] * 2


@pytest.mark.parametrize("target", TARGETS)
def test_a_cut_stream_is_no_storm(codex, gateway, target):
    before = len(gateway.log(front="openai-responses"))
    code, _, events = codex.run(PREFIXES[target] + "sim-cut-after-8", "word " * 40)
    assert code != 0
    assert any("error" in event["type"] or "failed" in event["type"] for event in events)
    assert len(calls_of(gateway, before, 2)) == 2  # once, and once again


@pytest.mark.parametrize("target", TARGETS)
def test_a_rate_limit_is_waited_for(codex, gateway, simulator, target):
    model = f"limited-{target}"
    keys = 2 if target == "openai" else 1
    simulator.fault("429", times=keys, model=model)
    code, said, _ = codex.run(PREFIXES[target] + model, "the answer is 42")
    assert code == 0 and "the answer is 42" in said


def test_a_structured_answer(codex, gateway):
    schema = codex.work / "schema.json"
    schema.write_text(
        json.dumps(
            {
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "required": ["a"],
                "additionalProperties": False,
            }
        )
    )
    code, said, _ = codex.run("claude/some-model", "hm", "--output-schema", str(schema))
    assert code == 0 and set(json.loads(said)) == {"a"}


@pytest.mark.timeout(150)
@pytest.mark.parametrize("is_awake", [True, False])
def test_a_silent_upstream_is_waited_for(program, gateway, simulator, tmp_path, is_awake):
    """Scaled: silences of 2 s, of which Codex bears 1.2; a "minute" is 0.5 s, or a minute."""
    (tmp_path / "user").mkdir()
    model = "gemini/sim-drip-2000"
    if not is_awake:
        code, _, _ = Codex(program, tmp_path / "user", gateway.url, 1200).run(model, "hi")
        assert code != 0
        return
    file = json.loads(gateway.file.read_text()) | {"timeouts": {"keep_alive_comment": 0.2}}
    del file["port"], file["state_path"], file["responses"]
    hasty = Path(__file__).parent / "hasty.py"
    other = Running(tmp_path / "other", file, env={"MINUTE": "0.5"}, program=hasty).wait()
    code, said, _ = Codex(program, tmp_path / "user", other.url, 1200).run(model, "hi")
    assert other.stop() == 0
    assert code == 0 and said.startswith("You said:")
