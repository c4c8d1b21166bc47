"""Dockerfile, compose.yaml and the README's container command, as far as no container is needed."""

import json
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
import yaml

from app.config.load import load
from tests.server.running import ROOT, Running, free_port, running

TOKEN = "a-token-of-one-caller"
FORWARDED = {"x-forwarded-for": "198.51.100.7"}  # what a call from outside a container looks like
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]


def instruction(name: str) -> list[str]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    (command,) = re.findall(rf"^{name} [^\[]*(\[.*\])$", text, re.M)
    return json.loads(command)


def given_by_compose() -> set[str]:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["gateway"]
    shared = yaml.safe_load((ROOT / service["extends"]["file"]).read_text())["services"]
    return set(shared[service["extends"]["service"]]["environment"])


def given_by(readme: Path) -> set[str]:
    text = readme.read_text().replace("\\\n", "")
    (command,) = re.findall(r"^ +docker run .*", text, re.M)
    return {after for flag, after in pairwise(shlex.split(command)) if flag == "-e"}


@pytest.mark.parametrize(
    "names",
    [given_by_compose(), *map(given_by, READMES)],
    ids=["compose.yaml", *(file.name for file in READMES)],
)
def test_the_variables_that_are_passed_on_admit_a_caller(names):
    """The sample config, which is in the image, with what comes from outside."""
    environ = {name: f"value-of-{name}" for name in names} | {"ANY_PROXY_TOKEN": TOKEN}
    assert environ.keys() == names
    loaded = load(str(ROOT / "etc/c.yaml"), environ)
    assert loaded.warnings == []
    assert [token.val for token in loaded.config.access.tokens] == [TOKEN]
    assert loaded.config.openai.api_keys and loaded.config.claude.api_keys


def test_one_variable_admits_a_caller_from_outside(simulator, tmp_path):
    config = {
        "openai": {
            "api_url": f"{simulator.url}/openai",
            "api_keys": [{"id": "env", "val": "${OPENAI_API_KEY:-}"}],
        },
        "access": {"tokens": [{"id": "env", "val": "${ANY_PROXY_TOKEN:-}"}]},
    }
    env = {"OPENAI_API_KEY": "sk-container", "ANY_PROXY_TOKEN": TOKEN}
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    with running(tmp_path, config, env=env) as gateway:
        statuses = [
            httpx.post(
                f"{gateway.url}/c/v1/chat/completions",
                json=body,
                headers=FORWARDED | {"authorization": f"Bearer {token}"},
            ).status_code
            for token in (TOKEN, "pool")
        ]
    assert statuses == [200, 401]


def ping(*words: str) -> subprocess.CompletedProcess:
    """The health check's own command, with what a test has to add."""
    program, *command = instruction("HEALTHCHECK")
    assert [program] == instruction("ENTRYPOINT") == ["any-proxy"]
    return subprocess.run(
        [sys.executable, "run.py", *command, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
    )


def test_the_health_check_asks_where_the_gateway_is(simulator, tmp_path):
    """Another port and TLS: both are known from the config alone."""
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=gateway.example",
         "-addext", "subjectAltName=DNS:gateway.example", "-keyout", str(key), "-out", str(pem)],
        check=True, capture_output=True,
    )  # fmt: skip
    info = {"enable": True, "pem_file": str(pem), "key_file": str(key)}
    gateway = Running(tmp_path, {"https_info": info})
    gateway.url = gateway.url.replace("http", "https")
    try:
        down = ping("-c", str(gateway.file))
        while down.returncode and gateway.process.poll() is None:  # it starts meanwhile
            assert "no gateway answers at 127.0.0.1" in down.stderr
            down = ping("-c", str(gateway.file))
        assert (down.returncode, down.stderr) == (0, "")
        # Mistakes that came after the start do not make it sick.
        config = json.loads(gateway.file.read_text())
        gateway.file.write_text(json.dumps(config | {"surprise": 1}))
        assert ping("-c", str(gateway.file)).returncode == 0
    finally:
        gateway.stop()


def test_the_health_check_says_no_when_nobody_answers(tmp_path):
    told = ping("-c", str(tmp_path / "none.yaml"), "--port", f"127.0.0.1:{free_port()}")
    assert told.returncode == 1 and "no gateway answers at 127.0.0.1:" in told.stderr
