"""`run.py init`: what it asks, what it tests, and what it writes."""

import os
import pty
import select
import stat
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.config.load import load

ROOT = Path(__file__).parents[2]
KEY = "sk-one-that-nobody-may-see-1234"
VARIABLES = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY")


def environment(**more) -> dict:
    own = {name: text for name, text in os.environ.items() if name not in VARIABLES}
    return own | {"PYTHONPATH": str(ROOT)} | more


def init(folder, *words, **variables) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "init", *words],
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


class _OneKey(BaseHTTPRequestHandler):
    def do_GET(self):
        good = self.headers["authorization"] == f"Bearer {KEY}"
        body = b'{"data": [{"id": "m"}]}' if good else b'{"message": "Unauthorized"}'
        self.send_response(200 if good else 401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Tests print nothing."""


@pytest.fixture
def mistral():
    """A host whose list of models answers KEY only, as a word for --upstream."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _OneKey) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"mistral=http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_of_the_environment_are_tested_and_written_as_references(tmp_path, mistral):
    done = init(tmp_path, "--no-input", "--upstream", mistral, MISTRAL_API_KEY=KEY)
    file = tmp_path / "etc/c.yaml"
    assert done.returncode == 0, done.stderr
    assert (
        "upstreams.mistral  main  valid" in done.stdout and "etc/c.yaml is written" in done.stdout
    )
    assert mode(file) == 0o600 and [one.name for one in file.parent.iterdir()] == ["c.yaml"]
    assert KEY not in file.read_text() + done.stdout + done.stderr
    loaded = load(str(file), {"MISTRAL_API_KEY": KEY})
    assert loaded.warnings == [] and loaded.config.port == "127.0.0.1:8999"
    assert loaded.config.upstreams[0].api_keys[0].val == KEY


def test_a_refused_key_is_told_and_nothing_is_written(tmp_path, mistral):
    words = ("--no-input", "--upstream", mistral)
    done = init(tmp_path, *words, MISTRAL_API_KEY="sk-old-one-1234567")
    assert done.returncode == 1 and "refused" in done.stdout
    assert "nothing was written" in done.stderr and not [*tmp_path.glob("etc/*")]
    done = init(tmp_path, *words, "--no-test", MISTRAL_API_KEY="sk-old-one-1234567")
    assert done.returncode == 0 and (tmp_path / "etc/c.yaml").exists()


def test_a_file_that_exists_is_not_touched(tmp_path):
    (file := tmp_path / "mine.yaml").write_text("port: 1\n")
    done = init(tmp_path, "--no-input", "--no-test", "-c", "mine.yaml", OPENAI_API_KEY=KEY)
    assert done.returncode == 2 and "exists" in done.stderr and file.read_text() == "port: 1\n"


def test_a_shared_gateway_gets_tokens_of_its_own(tmp_path):
    for name in "ab":
        words = ("--no-input", "--no-test", "--share", "-c", name)
        assert init(tmp_path, *words, GEMINI_API_KEY=KEY).returncode == 0
    first, second = (load(str(tmp_path / name), {"GEMINI_API_KEY": KEY}) for name in "ab")
    assert first.warnings == [] and first.config.port == ":8999"
    tokens = [
        token
        for loaded in (first, second)
        for token in (loaded.config.access.tokens[0].val, loaded.config.admin.token)
    ]
    assert len({*tokens}) == 4 and min(map(len, tokens)) >= 32


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ((), 2, "no terminal"),
        (("--no-input",), 1, "no key was given"),
        (("--no-input", "--upstream", "nobody"), 2, "no such preset"),
        (("--no-input", "--upstream", "deepseek"), 2, "set DEEPSEEK_API_KEY"),
        (("--no-input", "--upstream", "azure-deployments"), 2, "needs its address"),
        (("--no-input", "--upstream", "ollama=nonsense"), 2, "c.yaml:"),
        (("--no-input", "--upstream", "ollama", "-c", "/proc/x/c.yaml"), 2, "cannot write in"),
    ],
)
def test_what_cannot_be_written_is_told(tmp_path, words, status, told):
    done = init(tmp_path, *words)
    assert (done.returncode, done.stdout) == (status, "") and told in done.stderr
    assert not [*tmp_path.glob("etc/*")]


def typed(folder, lines: list[tuple[str, str]], *words) -> tuple[int, str]:
    """Exit status, and what a terminal shows, when each line is typed after its question."""
    terminal, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), "init", *words],
        cwd=folder,
        env=environment(OPENAI_API_KEY=KEY),
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
    )
    os.close(inner)
    shown, at, end = "", 0, time.monotonic() + 30
    waiting = [*lines]
    while time.monotonic() < end:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the command has ended
            break
        if not piece:
            break
        shown += piece.decode()
        if waiting and waiting[0][0] in shown[at:]:
            line = waiting.pop(0)[1]
            at = len(shown)
            os.write(terminal, f"{line}\n".encode())
    os.close(terminal)
    assert not waiting, shown
    return process.wait(10), shown


def test_a_terminal_is_asked_and_shows_no_key(tmp_path, mistral):
    status, shown = typed(
        tmp_path,
        [
            ("use OPENAI_API_KEY?", "n"),
            ("openai key:", ""),
            ("claude key:", ""),
            ("gemini key:", ""),
            ("Further upstreams", "nobody"),
            ("Further upstreams", mistral),
            ("mistral key:", "has a space"),
            ("mistral key:", KEY),
            ("other machines", ""),
        ],
    )
    assert status == 0, shown
    assert KEY not in shown and "no such preset" in shown and "valid" in shown
    file = tmp_path / "etc/c.yaml"
    assert mode(file) == 0o600
    config = load(str(file), {}).config
    assert config.upstreams[0].api_keys[0].val == KEY and config.openai.api_keys == []
