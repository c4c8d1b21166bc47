"""`run.py keys ...`, `reload` and `check --live`, as their users type them."""

import base64
import json
import subprocess
import sys
import time

import httpx
import pytest

from tests.server.load import CHAT
from tests.server.running import ROOT, free_port, running

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


def jwt(left: int) -> str:
    """A token that says when it ends, as ChatGPT's do."""

    def part(value) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'RS256'})}.{part({'exp': int(time.time()) + left})}.sig"


def config_of(url: str, folder) -> dict:
    """Good keys and bad ones of every family; ids say which."""
    return {
        "openai": {
            "api_url": f"{url}/openai",
            "chat_web_url": f"{url}/chatgpt",
            "cookie_path": str(folder / "sessions"),
            "api_keys": [
                {"id": "good", "val": "sk-good-00000001"},
                {"id": "bad", "val": "sk-dead-00000002"},
                {"id": "limited", "val": "sk-limited-7-00000003"},
                {"id": "spent", "val": "sk-quota-00000004"},
            ],
            "web_sessions": [
                {"id": "fresh", "val": jwt(10 * 86_400)},
                {"id": "old", "val": jwt(-60)},
            ],
        },
        "claude": {
            "api_url": f"{url}/claude",
            "web_url": f"{url}/claude-web",
            "api_keys": [
                {"id": "good", "val": "sk-ant-api03-good-0001"},
                {"id": "bad", "val": "sk-ant-dead-0002"},
            ],
            "web_sessions": [
                {"id": "good", "val": "sk-ant-sid01-good-0001"},
                {"id": "bad", "val": "sk-ant-sid01-dead-0002"},
            ],
        },
        "google_gemini": {
            "api_url": f"{url}/gemini",
            "api_keys": [
                {"id": "good", "val": "AIza-good-0001"},
                {"id": "bad", "val": "AIza-dead-2"},
            ],
        },
        "coze": {
            "api_url": f"{url}/coze",
            "api_chat": {
                "access_token": "pat_good_0001",
                "bots": [
                    {"bot_id": "7340000000000000001", "user": "good"},
                    {"bot_id": "7340000000000000002", "user": "bad", "access_token": "pat_bad_02"},
                ],
            },
            "discord": {
                "enable": True,
                "api_url": f"{url}/discord",
                "gateway_url": url.replace("http", "ws") + "/discord",
                "guild_id": "1100000000000000001",
                "channel_id": "1100000000000000002",
                "chat_bot_token": "bot-good-0001",
                "coze_bot": ["1100000000000000003"],
                "auth": ["user-good-0001", "user-dead-0002"],
            },
        },
    }  # fmt: skip


EXPECTED = {
    ("openai.api_keys", "good"): "valid",
    ("openai.api_keys", "bad"): "refused",
    ("openai.api_keys", "limited"): "limited",
    ("openai.api_keys", "spent"): "spent",
    ("openai.web_sessions", "fresh"): "valid",
    ("openai.web_sessions", "old"): "expired",
    ("claude.api_keys", "good"): "valid",
    ("claude.api_keys", "bad"): "refused",
    ("claude.web_sessions", "good"): "valid",
    ("claude.web_sessions", "bad"): "refused",
    ("google_gemini.api_keys", "good"): "valid",
    ("google_gemini.api_keys", "bad"): "refused",
    ("coze.bots", "good/7340000000000000001"): "valid",
    ("coze.bots", "bad/7340000000000000002"): "refused",
    ("coze.discord", "discord"): "valid",
    ("coze.discord", "auth[0]"): "valid",
    ("coze.discord", "auth[1]"): "refused",
}


def command(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "run.py", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def written(folder, config: dict):
    file = folder / "c.yaml"
    file.write_text(json.dumps(config))
    file.chmod(0o600)
    return file


def secrets_of(value) -> list[str]:
    if isinstance(value, dict):
        found = [v for k, v in value.items() if k in ("val", "access_token", "chat_bot_token")]
        found += value.get("auth", [])
        return found + [s for v in value.values() for s in secrets_of(v)]
    return [s for v in value for s in secrets_of(v)] if isinstance(value, list) else []


def test_the_key_doctor_tells_each_key_apart(simulator, tmp_path):
    config = config_of(simulator.url, tmp_path)
    file = written(tmp_path, config)
    done = command("check", "--live", "--json", "-c", file)
    assert done.returncode == 1, done.stderr
    found = {(one["pool"], one["id"]): one for one in json.loads(done.stdout)}
    assert {key: one["state"] for key, one in found.items()} == EXPECTED, done.stdout
    assert 9 * 86_400 < found["openai.web_sessions", "fresh"]["expires_in"] <= 10 * 86_400
    table = command("check", "--live", "-c", file)
    assert table.returncode == 1 and "refused" in table.stdout and "over" in table.stdout
    for secret in secrets_of(config):
        assert secret not in done.stdout + done.stderr + table.stdout + table.stderr


def test_the_key_doctor_is_content_with_good_keys(simulator, tmp_path):
    config = config_of(simulator.url, tmp_path)
    config["openai"]["api_keys"] = config["openai"]["api_keys"][:1]
    del config["openai"]["web_sessions"], config["claude"], config["google_gemini"], config["coze"]
    done = command("check", "--live", "-c", written(tmp_path, config))
    assert done.returncode == 0, done.stdout
    assert "openai.api_keys  good  valid" in done.stdout


def test_an_upstream_that_is_away_is_no_bad_key_but_not_good_either(tmp_path):
    config = {"openai": {"api_url": f"http://127.0.0.1:{free_port()}", "api_keys": [
        {"id": "k", "val": "sk-0000000001"}]}}  # fmt: skip
    done = command("check", "--live", "--json", "-c", written(tmp_path, config))
    (one,) = json.loads(done.stdout)
    assert done.returncode == 1 and one["state"] == "unknown" and one["told"]


def test_a_wrong_config_is_status_2_for_every_command(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("nonsense: 1\n")
    for words in (("check", "--live"), ("keys", "list")):
        done = command(*words, "-c", file)
        assert done.returncode == 2 and f"{file}:1:1" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "explode"), ("keys", "reset"), ("keys", "list", "k1"), ("check", "now"),
        ("serve", "keys"),
    ],
)  # fmt: skip
def test_wrong_words_are_told(words):
    done = command(*words, "-c", "etc/demo.yaml")
    assert done.returncode == 2 and ("run.py" in done.stderr or "keys --help" in done.stderr)


def test_without_a_gateway_the_commands_say_so(tmp_path):
    file = written(tmp_path, {"port": f"127.0.0.1:{free_port()}"})
    for words in (("keys", "list"), ("reload",), ("ping",)):
        done = command(*words, "-c", file)
        assert done.returncode == 1 and "no gateway answers" in done.stderr


@pytest.mark.parametrize("token", ["", "operator-token-0123456789"])
def test_keys_of_the_running_gateway_are_listed_and_changed(simulator, tmp_path, token):
    config = {
        "workers": 2,
        "admin": {"token": token} if token else {},
        "openai": {
            "api_url": f"{simulator.url}/openai",
            "api_keys": [{"id": "k1", "val": "sk-one-1111"}, {"id": "k2", "val": "sk-two-2222"}],
        },
        "claude": {"api_keys": [{"id": "k2", "val": "sk-ant-1111-2222"}]},
    }
    with running(tmp_path, config) as gateway:

        def keys(*words) -> subprocess.CompletedProcess:
            return command("keys", *words, "-c", gateway.file)

        listed = keys("list")
        assert listed.returncode == 0 and listed.stdout.count("awake") == 3
        assert "sk-" not in listed.stdout and "openai.api_keys" in listed.stdout
        unclear = keys("disable", "k2")
        assert unclear.returncode == 1 and "name one: openai.api_keys, claude" in unclear.stderr
        assert keys("disable", "k2", "--pool", "openai.api_keys").returncode == 0
        answers = [httpx.post(gateway.url + CHAT, json=BODY) for _ in range(12)]
        assert {answer.headers["x-auth-id"] for answer in answers} == {"k1"}
        (disabled,) = [
            key for key in json.loads(keys("list", "--json").stdout) if key["state"] == "disabled"
        ]
        assert (disabled["pool"], disabled["id"]) == ("openai.api_keys", "k2")
        assert keys("enable", "k2", "--pool", "openai.api_keys").returncode == 0
        assert keys("list").stdout.count("awake") == 3
        nobody = keys("reset", "nobody")
        assert nobody.returncode == 1 and "No key with id" in nobody.stderr

        if not token:
            return
        text = gateway.file.read_text()
        gateway.file.write_text(json.dumps(json.loads(text) | {"surprise": 1}))
        refused = command("reload", "-c", gateway.file)
        assert refused.returncode == 2 and "surprise: unknown key" in refused.stderr
        gateway.file.write_text(text + "]")  # nor does it say where the gateway listens
        refused = command("reload", "-c", gateway.file)
        assert refused.returncode == 2 and "c.yaml:1:" in refused.stderr, refused.stderr
        config["openai"]["api_keys"].append({"id": "k3", "val": "sk-three-3333"})
        changed = json.loads(text) | {"openai": config["openai"]}
        gateway.file.write_text(json.dumps(changed))
        done = command("reload", "-c", gateway.file)
        assert (done.returncode, done.stdout) == (0, "Reloaded.\n"), done.stderr
        assert "k3" in keys("list").stdout
        # Another token than the one the gateway has: its own words.
        gateway.file.write_text(json.dumps(changed | {"admin": {"token": "another-0123456789abc"}}))
        stranger = command("reload", "-c", gateway.file)
        assert stranger.returncode == 1 and "admin.token" in stranger.stderr
