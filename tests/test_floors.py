"""Who may import whom: every room stands on a floor and reaches downwards only.

The table is the rule. A module outside the rooms fails too: say where it belongs.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What makes a module hard to test, to replay and to reason about stays out of the pure floors.
IMPURE = {"asyncio", "random", "secrets", "select", "socket", "subprocess", "threading", "time"}
NETWORK = {
    "aiohappyeyeballs",
    "certifi",
    "curl_cffi",
    "httptools",
    "httpx",
    "socksio",
    "websockets",
}

ALL = ("app", "providers")


@dataclass(frozen=True)
class Floor:
    """Rooms, the rooms they may import, the packages besides, and standard modules they may not."""

    rooms: tuple[str, ...]
    may: tuple[str, ...]
    packages: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()


def floor(rooms, may, packages=(), never=()) -> Floor:
    return Floor(tuple(rooms), tuple(may), frozenset(packages), frozenset(never))


GROUND = ("app.config", "app.offload", "app.state")
WIRE = ("app.wire", "app.config.schema")
PRESETS = "app.config.presets"  # rows of data
MIDDLE = (*GROUND, "app.wire", "app.auth", "app.clients", "app.telemetry")
ENGINE = (*MIDDLE, "app.accounting", "app.pool", "app.engine")

# Bottom up: each room, what it may import besides itself, and which packages.
FLOORS = (
    floor(["app.offload"], []),
    floor(["app.config"], ["app.wire"], ["msgspec", "yaml"]),
    floor(["app.config.field_types", "app.config.schema"], [], ["msgspec"], IMPURE),
    floor(["app.state"], ["app.config.schema", "app.offload"], ["msgspec"]),
    floor(["app.wire"], WIRE, ["msgspec"], IMPURE),
    floor(["app.fronts"], WIRE, ["msgspec"], IMPURE),
    floor([PRESETS], ["app.wire"], ["msgspec"], IMPURE),
    floor(
        ["providers"], [*WIRE, PRESETS], ["msgspec"], IMPURE
    ),  # and its own family, see `_is_allowed`
    floor(["app.clients"], WIRE, ["msgspec", *NETWORK]),
    floor(["app.telemetry"], [*WIRE, "app.state"], ["msgspec"]),
    floor(["app.telemetry.traces"], ["app.telemetry"], ["opentelemetry"]),
    floor(["app.auth"], [*WIRE, "app.state"], ["msgspec"]),
    floor(["app.accounting"], MIDDLE, ["msgspec", "psycopg"]),
    floor(["app.pool"], MIDDLE, ["msgspec", "redis"]),
    floor(["app.engine"], ENGINE, ["msgspec"]),
    floor(
        ["app.http"],
        [*ENGINE, "app.fronts", "providers"],
        ["httptools", "msgspec", "sanic", "websockets"],
    ),
    floor(
        ["app.process"],
        [*ENGINE, "app.fronts", "app.http", "providers"],
        ["aiohttp", "discord", "msgspec", "sanic", "uvloop", "yarl"],
    ),
    floor(["app.cli"], [*ENGINE, "app.process", "providers"], ["msgspec"]),
    floor(["app.simulator"], [], ["msgspec", "sanic", "uvloop", "websockets"]),
    floor(["run"], ["app.config", "app.cli", "app.process"]),
)


def modules(root: Path) -> dict[str, Path]:
    """Dotted names of everything the floors speak of."""
    files = [*root.glob("app/**/*.py"), *root.glob("providers/**/*.py"), *root.glob("run.py")]
    names = {}
    for file in files:
        parts = file.relative_to(root).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


def imports(name: str, file: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import, wherever in the file it stands."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(
                [*(above if node.level else []), *([node.module] if node.module else [])]
            )
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                is_module = whole in known or (base == "app" and alias.name != "__version__")
                yield node.lineno, whole if is_module else base


def violations(root: Path) -> list[str]:
    known = modules(root)
    found = []
    for name, file in sorted(known.items()):
        stands_on = _floor_of(name)
        where = file.relative_to(root)
        if stands_on is None:
            if name not in ALL:
                found.append(
                    f"{where} stands on no floor: give {name} a row in {Path(__file__).name}"
                )
            continue
        for line, imported in imports(name, file, known):
            if not _is_allowed(stands_on, name, imported):
                found.append(f"{where}:{line} may not import {imported}")
    return found


def _floor_of(name: str) -> Floor | None:
    """The row with the longest room that holds the module. `app` alone is just a name."""
    if name == "app":
        return None
    rows = [(room, row) for row in FLOORS for room in row.rooms if _within(name, room)]
    return max(rows, key=lambda each: len(each[0]))[1] if rows else None


def _is_allowed(stands_on: Floor, name: str, imported: str) -> bool:
    top = imported.split(".")[0]
    if top in sys.stdlib_module_names:
        return top not in stands_on.never
    if top not in ALL:
        return top in stands_on.packages
    if imported == "app":  # its version, no room in it
        return True
    if _within(name, "providers"):
        family = ".".join(name.split(".")[:2])
        # The places that name all families.
        registers = name in ("providers", "providers.directory")
        if _within(imported, family) or (registers and _within(imported, "providers")):
            return True
        return any(_within(imported, room) for room in stands_on.may)
    return any(_within(imported, room) for room in (*stands_on.rooms, *stands_on.may))


def _within(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def test_every_module_reaches_downwards_only():
    assert violations(ROOT) == []


def test_there_is_something_to_look_at():
    assert len(modules(ROOT)) > 20


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("app/wire/clock.py", "import time", "may not import time"),
        (
            "app/wire/loop.py",
            "def f():\n    from asyncio import sleep",
            ":2 may not import asyncio",
        ),
        ("app/wire/up.py", "from app import config", "may not import app.config"),
        ("app/wire/near.py", "from ..clients import api", "may not import app.clients"),
        ("providers/a/api.py", "import httpx", "may not import httpx"),
        ("providers/a/web.py", "import random", "may not import random"),
        ("providers/a/next.py", "from providers.b import api", "may not import providers.b"),
        ("providers/a/pool.py", "from app.pool.key_pool import Pool", "may not import app.pool"),
        ("app/config/load.py", "import sanic", "may not import sanic"),
        ("app/pool/key_pool.py", "import providers", "may not import providers"),
        ("app/clients/httpx_client.py", "from app.config import load", "may not import app.config"),
        ("app/engine/chat_call.py", "from sanic import Request", "may not import sanic"),
        ("app/engine/attempt.py", "from app.fronts import registry", "may not import app.fronts"),
        (
            "app/fronts/openai_chat/stream.py",
            "import providers.openai",
            "may not import providers.openai",
        ),
        (
            "app/http/routes/chat.py",
            "from app.routes.forward import f",
            "may not import app.routes",
        ),
        ("app/simulator/x.py", "import app.fronts", "may not import app.fronts"),
        ("app/new.py", "", "app/new.py stands on no floor"),
        ("run.py", "import app.engine", "may not import app.engine"),
    ],
)
def test_a_planted_mistake_is_found(tmp_path, path, source, complaint):
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    (found,) = violations(tmp_path)
    assert complaint in found and found.startswith(path)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("app/wire/good.py", "import re\nimport msgspec\nfrom app.wire import errors"),
        ("providers/a/api.py", "from app.wire.chat import x\nfrom providers.a.schema import y"),
        ("providers/__init__.py", "from providers.a import api\nfrom providers import b"),
        (
            "app/engine/chat_call.py",
            "import asyncio\nfrom app.clients import Clients\nfrom app import __version__",
        ),
        (
            "app/http/routes/chat.py",
            "import sanic\nfrom app.http.responses import x\nimport providers",
        ),
    ],
)
def test_what_is_allowed_is_not_complained_about(tmp_path, path, source):
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    assert violations(tmp_path) == []
