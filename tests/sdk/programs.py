"""Large programs of others for the slow tests: each in a folder of its own, installed at first use.

`make test` does not install them.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sdk.install import PINS, is_new, node_commands, npm_packages, stamp


def environment(name: str) -> Path:
    """The `bin` of a virtual environment with what tests/sdk/NAME.txt pins.

    Skips the test where it cannot be installed: no network, or no wheel for this machine.
    """
    folder, pins = Path(sys.prefix) / name, f"{name}.txt"
    if is_new(folder, pins):
        shutil.rmtree(folder, ignore_errors=True)
        python = [str(folder / "bin" / "python"), "-m", "pip", "-q", "install"]
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            # Wheels only: building one of these would take a core for many minutes.
            wheels = ["--only-binary", ":all:", "-r", str(PINS / pins)]
            subprocess.run([*python, *wheels], check=True, capture_output=True, timeout=900)
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"{name} cannot be installed here: {error}")
        stamp(folder, pins)
    return folder / "bin"


def ai_sdk() -> tuple[Path, Path]:
    """Node, and the folder with Vercel's AI SDK in its node_modules. Skips as `environment`."""
    return _with_node("ai-sdk")


def codex() -> list[str]:
    """The command Codex. Skips as `environment`."""
    node, folder = _with_node("codex")
    return [str(node), str(folder / "node_modules" / "@openai" / "codex" / "bin" / "codex.js")]


def cline() -> Path:
    """The program Cline. Skips as `environment`, and where the pins have none for this machine.

    Its packages for other machines could not be pinned: npm did not have them.
    """
    _, folder = _with_node("cline")
    found = sorted(folder.glob("node_modules/@cline/cli-*/bin/cline"))
    if not found:
        pytest.skip("there is no pinned Cline for this machine")
    return found[0]


def gemini_clients() -> tuple[Path, Path]:
    """Node, and the folder with gemini-cli and Google's SDKs. Skips as `environment`."""
    return _with_node("gemini-clients")


def anthropic_clients() -> tuple[Path, Path]:
    """Node, and the folder with Claude Code and Anthropic's clients in its node_modules.

    Skips as `environment`.
    """
    return _with_node("claude-code")


def claude_code() -> Path:
    """The program Claude Code. Skips as `environment`, and where npm has none for this machine."""
    _, folder = anthropic_clients()
    found = sorted(folder.glob("node_modules/@anthropic-ai/claude-code-*/claude"))
    if not found:
        pytest.skip("npm has no Claude Code for this machine")
    return found[0]


def _with_node(name: str) -> tuple[Path, Path]:
    """Node, and the folder with what tests/sdk/NAME/package.json pins."""
    found = node_commands()
    if found is None:
        pytest.skip("there is no Node; run `python -m tests.sdk.install`")
    folder = Path(sys.prefix) / name
    try:
        npm_packages(folder, PINS / name)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"{name} cannot be installed here: {error}")
    return found[0], folder
