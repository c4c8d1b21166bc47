"""Large programs of others for the slow tests: each in a folder of its own, installed at first use.

`make test` does not install them.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sdk.install import PINS, is_new, node_commands, npm_packages, stamp

AI_SDK = Path(sys.prefix) / "ai-sdk"
GEMINI_CLIENTS = Path(sys.prefix) / "gemini-clients"


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
    return _node_with(AI_SDK)


def gemini_clients() -> tuple[Path, Path]:
    """Node, and the folder with gemini-cli and Google's SDKs. Skips as `environment`."""
    return _node_with(GEMINI_CLIENTS)


def _node_with(folder: Path) -> tuple[Path, Path]:
    found = node_commands()
    if found is None:
        pytest.skip("there is no Node; run `python -m tests.sdk.install`")
    try:
        npm_packages(folder, PINS / folder.name)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"{folder.name} cannot be installed here: {error}")
    return found[0], folder
