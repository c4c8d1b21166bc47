"""`pip install .` brings the whole gateway and the command `any-proxy`."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("app", "providers", "pyproject.toml", "requirements.txt", "README.md", "LICENSE")


@pytest.mark.slow
def test_the_wheel_holds_the_gateway_and_its_command(tmp_path):
    pytest.importorskip("setuptools", minversion="77", reason="older ones cannot read the licence")
    source = tmp_path / "source"  # setuptools leaves files behind
    for part in PARTS:
        target = source / part
        target.parent.mkdir(exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, target)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("any_proxy-*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)

    wanted = {
        file.relative_to(ROOT).as_posix()
        for folder in ("app", "providers")
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and not {"__pycache__", "simulator"} & set(file.parts)
    }
    held = {file.relative_to(site).as_posix() for file in site.rglob("*") if file.is_file()}
    assert {file for file in held if ".dist-info/" not in file} == wanted

    (info,) = site.glob("*.dist-info")
    distribution = PathDistribution(info)
    pinned = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line]
    assert distribution.requires == [line for line in pinned if not line.startswith("#")]
    (command,) = distribution.entry_points
    assert (command.name, command.value) == ("any-proxy", "app.cli.command_line:main")
    module, function = command.value.split(":")
    (empty := tmp_path / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", f"from {module} import main; {function}()", "check"],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(site), "OPENAI_API_KEY": "sk-1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "keys: 1 in openai.api_keys" in done.stdout
