"""Walks the YAML of a config file and builds the structs of `schema.py` from it.

The structs' types lead the walk, so that one pass finds every mistake. Each is reported as
`file:line:column: key: what is wrong and what to write`. Scalars are text until their field's type
decides (an id 0123 stays 0123); an empty one means "not set". No message contains a value.
"""

import difflib
import os
import re
import stat
from collections.abc import Mapping
from typing import Any, get_args, get_origin

import msgspec
from msgspec import UNSET

from app.config.families import KEY_VARIABLES, pool_sizes
from app.config.field_types import Section
from app.config.fields import (
    PORT,
    SAMPLE,
    advice,
    bare,
    convert,
    extra,
    field_hints,
    has_password,
    required_fields,
    type_name,
)
from app.config.schema import Config
from app.config.upstreams import fill_in
from app.config.yaml_tree import Node, Unreadable, read_file, scan

_TOKEN_VARIABLE = "ANY_PROXY_TOKEN"  # noqa: S105 (the variable of the sample's access token)
# Keys that can also be set by a flag or a variable; the flag wins.
OVERRIDABLE_KEYS = {
    "host": ("--host", "ANY_PROXY_HOST"),
    "port": ("--port", "ANY_PROXY_PORT"),
    "workers": ("--workers", "ANY_PROXY_WORKERS"),
    "log_level": ("--log-level", "ANY_PROXY_LOG_LEVEL"),
    "log_format": ("--log-format", "ANY_PROXY_LOG_FORMAT"),
}
_MAX_READ = 8 << 20  # characters that aliases and variables may expand to
_MAX_PROBLEMS = 1000

_VARIABLE = re.compile(
    r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_]\w{,127})(?::-(?P<default>[^}]*))?\})?", re.ASCII
)
_MAY_BE_EMPTY = re.compile(r"\$\{\w+:-\}")

_INVALID: Any = object()  # a value whose mistake has been reported
# Fields that identify an entry: no two entries of a list may have the same values.
_IDENTITIES = (("id",), ("bot_id", "user"))
# Required fields that may be left empty: the entry is then skipped.
_ENABLING = ("val", "bot_id", "name")


class Reader:
    """Reads one file. The methods of the walk return the value, UNSET if it was left empty, or
    _INVALID if its mistake has been added to `problems`."""

    def __init__(self, file: str, environ: Mapping[str, str]) -> None:
        self.file, self.environ = file, environ
        self.problems: list[str] = []
        self.keys_with_problems: set[str] = set()
        self.warnings: list[str] = []
        self.places: dict[str, str] = {}
        self._first_by_identity: dict[tuple[str, ...], str] = {}  # (list, id) -> path of the entry
        self._tokens: list[tuple[Node, str, str]] = []  # access tokens: node, path, value
        self._upstream_secrets: set[str] = set()
        self._first_by_secret: dict[tuple[str, str], str] = {}  # (list, secret) -> path
        self._holds_secrets = False  # literally, not through a variable
        self._budget = _MAX_READ

    def read(self, data: bytes | None = None) -> Config:
        """The config, with defaults in place of whatever is in `problems`."""
        try:
            root = scan(read_file(self.file) if data is None else data)
            config = UNSET if root is None else self._value(root, Config, "")
        except Unreadable as error:
            place = f"{self.file}:{error.line}:{error.column}"
            self.problems.append(f"{place}: {error.key}: {error.message}")
            self.keys_with_problems.add(error.key)
            config = UNSET
        return config if isinstance(config, Config) else Config()

    def check_tokens(self) -> None:
        """Reports access tokens that are also an upstream secret or another caller's token."""
        first: dict[str, str] = {}
        for node, path, value in self._tokens:
            other = first.setdefault(value, path)
            if other != path:
                self._problem(node, path, f"the same as in {other}; write another")
            elif value in self._upstream_secrets:
                self._problem(node, path, "is a key of an upstream too; write another")

    def apply_overrides(self, config: Config, flags: Mapping[str, str | int | None]) -> Config:
        """The config with environment variables over it, and flags over those."""
        variables = {key: self.environ.get(names[1]) for key, names in OVERRIDABLE_KEYS.items()}
        for layer, values in ((1, variables), (0, flags)):
            found: dict[str, Any] = {}
            for key, names in OVERRIDABLE_KEYS.items():
                text = values.get(key)
                if text is None or text == "":
                    continue
                self.places[key] = names[layer]
                found[key], message = convert(str(text), field_hints(Config)[key])
                if message:
                    example = advice(names[layer], field_hints(Config)[key], "=")
                    self.problems.append(f"{names[layer]}: {key}: {message}; {example}")
                    self.keys_with_problems.add(key)
                    del found[key]
            port = PORT.fullmatch(found.get("port", ""))
            if port and port["host"]:  # else the host of a lower layer would win
                found.setdefault("host", "")
            config = msgspec.structs.replace(config, **found)
        return config

    def fill_in_upstreams(self, config: Config) -> Config:
        """The config with its upstreams complete; reports what is wrong with their names."""
        config, mistakes, warnings = fill_in(config, self.environ)
        for notes, found in ((mistakes, self.problems), (warnings, self.warnings)):
            for key, message in notes:
                place = self.places.get(key) or f"{self.file}:1:1"
                found.append(f"{place}: {key}: {message}")
        self.keys_with_problems |= {key for key, _ in mistakes}
        return config

    def warn_about_config(self, config: Config) -> None:
        """Adds the warnings that belong to no single line."""
        notes = []
        pools = pool_sizes(config)
        for name, family in KEY_VARIABLES.items():
            if self.environ.get(name) and not pools[f"{family}.api_keys"]:
                entry = f'- {{id: env, val: "${{{name}}}"}}'
                notes.append(f"{family}.api_keys: {name} is set but not used; write {entry} there")
        if not any(pools.values()):
            names = " or ".join(KEY_VARIABLES)
            empty = [name for name in KEY_VARIABLES if self.environ.get(name) == ""]
            are = f"{', '.join(empty)} {'are' if len(empty) > 1 else 'is'} set to nothing; "
            notes.append(
                "keys: there are none, so only callers who bring their own are served; "
                f"{are if empty else ''}write some, or set {names}"
            )
        local_only = config.access.protected and not config.access.tokens
        if local_only and self.environ.get(_TOKEN_VARIABLE) == "":
            notes.append(
                f"access.tokens: {_TOKEN_VARIABLE} is set to nothing, so only programs on this "
                "machine may use the keys (in a container: none outside it); give it 16 characters "
                "or more"
            )
        if not config.access.tokens and not config.access.protected:
            notes.append(
                "access.protected: false and no access.tokens: whoever reaches the port uses your "
                "keys; write access.tokens, or remove protected: false"
            )
        if self._holds_secrets and os.stat(self.file).st_mode & stat.S_IROTH:
            notes.append(
                "file: others on this machine can read the secrets in it; chown it to the user "
                "that the gateway runs as (in the image: uid 10001), then chmod 600 it"
            )
        self.warnings += [f"{self.file}:1:1: {note}" for note in notes]

    def _value(self, node: Node, hint: Any, path: str) -> Any:
        self._spend(64 + len(node.text), node)
        self.places[path] = f"{self.file}:{node.line}:{node.column}"
        if hint is Any:
            if node.children:
                self._warn(node, path, "accepted, but not used: no challenge is solved here")
            return UNSET
        if node.is_empty:
            return UNSET
        if isinstance(hint, type) and issubclass(hint, Section):
            return self._section(node, hint, path)
        is_one_or_more, hint = extra(hint).get("one_or_more"), bare(hint)
        if get_origin(hint) is list:
            if is_one_or_more and node.kind == "text":
                value = self._leaf(node, get_args(hint)[0], path)
                return value if value is UNSET or value is _INVALID else [value]
            return self._list(node, get_args(hint)[0], path)
        if get_origin(hint) is dict:
            key_hint, item_hint = get_args(hint)
            return self._table(node, key_hint, item_hint, path)
        return self._leaf(node, hint, path)

    def _section(self, node: Node, section: type[Section], path: str) -> Any:
        hints = field_hints(section)
        if node.kind == "text" and (name := section.short_form):
            value = self._leaf(node, hints[name], path)
            return section(**{name: value}) if isinstance(value, str) else value
        if node.kind != "mapping":
            some = ", ".join(f"{name}: ..." for name in required_fields(section) or list(hints)[:3])
            message = f"expected a mapping, got {node.shape()}; write {some}"
            return self._problem(node, path, message)
        lines, seen = dict[str, int](), dict[str, tuple[Node, Any]]()
        for key, child in zip(node.children[::2], node.children[1::2], strict=True):
            at = f"{path}.{_display_name(key.text)}".lstrip(".")
            if key.kind != "text":
                self._problem(key, path, f"expected text as a key, got {key.shape()}")
            elif key.text not in hints:
                self._problem(key, at, _unknown(key.text, list(hints)))
            elif key.text in seen:
                line = lines[key.text]
                self._problem(key, at, f"written before, in line {line}; keep one of the two")
            else:
                lines[key.text] = key.line
                seen[key.text] = (child, self._value(child, hints[key.text], at))
        required = required_fields(section)
        for name in _ENABLING:
            if name in required and name in seen and seen[name][1] is UNSET:
                child = seen[name][0]
                if not _MAY_BE_EMPTY.search(child.text):
                    self._warn(child, f"{path}.{name}", "empty, so the entry is left out")
                return UNSET
        for name in required:
            if name not in seen:
                self._problem(node, f"{path}.{name}", f"missing; {advice(name, hints[name])}")
            elif seen[name][1] is UNSET:
                message = f"empty; {advice(name, hints[name])}"
                self._problem(seen[name][0], f"{path}.{name}", message)
        values = {n: v for n, (_, v) in seen.items() if v is not UNSET and v is not _INVALID}
        for names in _IDENTITIES:
            if values.keys() >= set(names):
                slot = (path.rpartition("[")[0], *(values[name] for name in names))
                first = self._first_by_identity.setdefault(slot, path)
                if first != path:
                    message = f"the same as in {first}; write another"
                    self._problem(seen[names[0]][0], f"{path}.{names[0]}", message)
        return section(**values) if values.keys() >= set(required) else _INVALID

    def _list(self, node: Node, hint: Any, path: str) -> Any:
        if node.kind != "list":
            message = f'expected a list, got {node.shape()}; begin each item with "- "'
            return self._problem(node, path, message)
        items = [self._value(child, hint, f"{path}[{i}]") for i, child in enumerate(node.children)]
        return [item for item in items if item is not UNSET and item is not _INVALID]

    def _table(self, node: Node, key_hint: Any, hint: Any, path: str) -> Any:
        """A mapping with arbitrary keys."""
        if node.kind != "mapping":
            message = f"expected a mapping, got {node.shape()}; write name: value"
            return self._problem(node, path, message)
        found: dict[str, Any] = {}
        for key, child in zip(node.children[::2], node.children[1::2], strict=True):
            at = f"{path}.{_display_name(key.text)}"
            name = self._leaf(key, key_hint, at)
            value = self._value(child, hint, at)
            if name is UNSET:
                self._problem(key, path, "an empty name; write a name before the colon")
            elif name in found:
                self._problem(key, at, "written before; keep one of the two")
            elif name is not _INVALID and value is not UNSET and value is not _INVALID:
                found[name] = value
        return found

    def _leaf(self, node: Node, hint: Any, path: str) -> Any:
        name = re.sub(r"\[\d+\]$", "", path.rpartition(".")[2])
        if node.kind != "text":
            message = f"expected {type_name(hint)}, got {node.shape()}; {advice(name, hint)}"
            return self._problem(node, path, message)
        text = self._substitute(node, path)
        if text is None:
            return _INVALID
        if text == "":
            return UNSET
        value, message = convert(text, hint)
        if message:
            return self._problem(node, path, f"{message}; {advice(name, hint)}")
        if extra(hint).get("check") == "token":
            self._tokens.append((node, path, value))
        elif extra(hint).get("secret"):
            self._upstream_secrets.add(value)
            if path.endswith((".val", "]")):
                first = self._first_by_secret.setdefault((path.rpartition("[")[0], value), path)
                if first != path:
                    message = f"the same secret as in {first}, so one account under two names"
                    self._warn(node, path, f"{message}; remove one")
        if extra(hint).get("secret") or has_password(hint, text):
            if SAMPLE.fullmatch(text):
                self._warn(node, path, "looks like a sample value; write your own")
            # Values that begin with demo- are known to be fake: etc/demo.yaml.
            self._holds_secrets |= text == node.text and not text.startswith("demo-")
        return value

    def _substitute(self, node: Node, path: str) -> str | None:
        """The text with ${NAME}, ${NAME:-default} and $${ replaced; None after a mistake."""
        ok = True

        def replacement(match: re.Match[str]) -> str:
            nonlocal ok
            name, default = match["name"], match["default"]
            if match[0] == "$${":
                return "${"
            if name is None:
                ok = False
                message = (
                    "${ begins a variable; write ${NAME}, or $${ for the characters themselves"
                )
                self._problem(node, path, message)
                return ""
            value = self.environ.get(name)
            if value is None and default is None:
                ok = False
                message = f"the environment has no {name}; set it, or write ${{{name}:-}}"
                self._problem(node, path, message)
            value = value or default or ""
            self._spend(len(value), node)
            return value

        text = _VARIABLE.sub(replacement, node.text) if "${" in node.text else node.text
        return text if ok else None

    def _problem(self, node: Node, path: str, message: str) -> Any:
        if len(self.problems) >= _MAX_PROBLEMS:
            raise Unreadable("mistakes from here on are not listed", node.line, node.column)
        place = f"{self.file}:{node.line}:{node.column}"
        self.problems.append(f"{place}: {path or 'file'}: {message}")
        self.keys_with_problems.add(path or "file")
        return _INVALID

    def _warn(self, node: Node, path: str, message: str) -> None:
        self.warnings.append(f"{self.file}:{node.line}:{node.column}: {path}: {message}")

    def _spend(self, characters: int, node: Node) -> None:
        self._budget -= characters
        if self._budget < 0:
            message = "aliases or variables make too much of it; write the entries out"
            raise Unreadable(message, node.line, node.column)


def _display_name(name: str) -> str:
    """A name from the file, or "?" if it could be a misplaced secret."""
    return name if re.fullmatch(r"(?!sk-)[\w.<-]{1,32}", name) else "?"


def _unknown(name: str, known: list[str]) -> str:
    """The message for an unknown key, with the closest known one."""
    close = difflib.get_close_matches(name, known, 1) if len(name) <= 32 else []
    hint = f"did you mean {close[0]}?" if close else f"the keys here are {', '.join(known)}"
    return f"unknown key; {hint}"
