"""requirements.lock has what requirements*.txt ask for, with hashes."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, tuple[str, int]]:
    """Package -> its version and the number of hashes."""
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", "")
    found = re.findall(r"^([\w.-]+)==([^ ;]+)(.*)$", text, re.M)
    return {name: (version, rest.count("--hash=sha256:")) for name, version, rest in found}


FILES = ["requirements.txt", "requirements-postgres.txt", "requirements-otel.txt"]


@pytest.mark.parametrize("file", FILES)
def test_every_pin_is_locked_with_hashes(file):
    pins = re.findall(r"^([\w.-]+)(?:\[\w+\])?==(\S+)$", (ROOT / file).read_text(), re.M)
    lock = locked()
    assert pins
    wrong = [f"{name}=={version}" for name, version in pins if lock[normal(name)][0] != version]
    assert not wrong, "run: make lock"
    assert all(count for _, count in lock.values())
