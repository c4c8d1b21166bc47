"""Reads the config file into the structs of wire/settings.py, or says all that is wrong with it.

The structs' types lead the walk through the YAML, so that one pass finds every mistake, each told
as `file:line:column: key: what is wrong and what to write`. Scalars are text until their field's
type decides (an id 0123 stays 0123); an empty one means "not set". No message holds a value.
"""

import difflib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import UNSET, Struct

from app.config import startup_checks
from app.config.fields import PORT, SAMPLE, base_word, convert, extra, has_password, write
from app.config.schema import Config, Section
from app.config.yaml_tree import Node, Unreadable, read_file, scan

DEFAULT_PATH = "etc/c.yaml"
_TOKEN = "ANY_PROXY_TOKEN"  # noqa: S105 (the variable in which the sample looks for a token)
# A file is not needed when one of these is set. Beside a file they count where it says ${NAME}.
ENVIRONMENT_KEYS = {
    "OPENAI_API_KEY": "openai",
    "ANTHROPIC_API_KEY": "claude",
    "GEMINI_API_KEY": "google_gemini",
    "GOOGLE_API_KEY": "google_gemini",
}
# What may be set above the file: the flag wins over the variable.
OUTER_KEYS = {
    "host": ("--host", "ANY_PROXY_HOST"),
    "port": ("--port", "ANY_PROXY_PORT"),
    "workers": ("--workers", "ANY_PROXY_WORKERS"),
    "log_level": ("--log-level", "ANY_PROXY_LOG_LEVEL"),
    "log_format": ("--log-format", "ANY_PROXY_LOG_FORMAT"),
}
_MAX_READ = 8 << 20  # characters that aliases and variables may unfold to
_MAX_PROBLEMS = 1000

_VARIABLE = re.compile(
    r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_]\w{,127})(?::-(?P<default>[^}]*))?\})?", re.ASCII
)
_MAY_BE_EMPTY = re.compile(r"\$\{\w+:-\}")

_BAD: Any = object()  # a value whose mistake has been told already


class ConfigError(Exception):
    """Everything that is wrong, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Loaded(Struct):
    """A config without mistakes, what is odd about it, and where each key was written."""

    config: Config
    path: str
    warnings: list[str]
    places: dict[str, str]

    @property
    def holds_settings(self) -> bool:
        """False for a file with nothing but comments: is it the right one?"""
        return any(key and at.startswith(f"{self.path}:") for key, at in self.places.items())


def load(
    path: str | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, str | int | None] | None = None,
    *,
    to_start: bool = False,
) -> Loaded:
    """The config, or ConfigError with the mistakes of file, environment and flags together.

    Flag over environment over file over default. `to_start` also asks whether the port is free,
    which a reload must not do: by then it is ours.
    """
    reader, config = _read(path, environ, overrides or {})
    loaded = Loaded(config, reader.file, reader.warnings, reader.places)
    address_known = not {"file", "yaml", "host", "port"} & reader.mistaken
    problems = reader.problems + check_environment(loaded, port=to_start and address_known)
    if problems:
        raise ConfigError(problems)
    if not loaded.holds_settings:
        message = (
            "holds no settings, so all is at its default; etc/c.yaml is a sample with every key"
        )
        reader.warnings.append(f"{loaded.path}:1:1: file: {message}")
    reader.note_oddities(config)
    loaded.warnings += _placed(loaded, startup_checks.folder_warnings(config))
    return loaded


def understood(
    path: str | None, environ: Mapping[str, str], overrides: Mapping[str, str | int | None]
) -> Config:
    """As much of the config as has no mistakes: a gateway may run that read it before they came."""
    return _read(path, environ, overrides)[1]


def _read(
    path: str | None, environ: Mapping[str, str], overrides: Mapping[str, str | int | None]
) -> tuple["_Reader", Config]:
    path = path if path is not None else environ.get("ANY_PROXY_CONFIG") or None
    substitute = _environment_file(environ)
    if path is None and substitute and not os.path.lexists(DEFAULT_PATH):
        reader = _Reader("environment", environ)
        config = reader.read(substitute)
    else:
        reader = _Reader(path if path is not None else DEFAULT_PATH, environ)
        config = reader.read()
        if path is None and not os.path.lexists(DEFAULT_PATH):
            reader.problems[0] += f", or set {' or '.join(ENVIRONMENT_KEYS)}"
    reader.check_tokens()
    return reader, reader.outer_layers(config, overrides)


def listen_address(config: Config) -> tuple[str, int]:
    """Where to listen. `host` wins over the host in `port`; without either, every address."""
    match = PORT.fullmatch(config.port)
    assert match, "load() lets no other port through"
    host = config.host or match["host"] or "0.0.0.0"  # noqa: S104 (what the Go project's port says)
    return host.strip("[]"), int(match["port"])


def secrets(config: Config) -> frozenset[str]:
    """Every secret value, proxy passwords included: what a log line must never hold."""
    found = set()
    for text, hint in _leaves(config, Config):
        if has_password(hint, text):
            password = urlsplit(text).password or ""
            found |= {password, unquote(password)}
        elif extra(hint).get("secret"):
            found.add(text)
    return frozenset(found - {""})


def check_environment(loaded: Loaded, *, port: bool = True) -> list[str]:
    """What only this machine can tell: is the certificate good and, if asked, the port free?"""
    mistakes = [*startup_checks.certificate_mistakes(loaded.config)]
    if port:
        mistakes += startup_checks.port_mistakes(loaded.config, *listen_address(loaded.config))
    return _placed(loaded, mistakes)


def _placed(loaded: Loaded, notes: Iterable[tuple[str, str]]) -> list[str]:
    start = f"{loaded.path}:1:1"
    return [f"{loaded.places.get(key) or start}: {key}: {message}" for key, message in notes]


def report(result: Loaded | ConfigError) -> str:
    """What `run.py check` prints."""
    if isinstance(result, ConfigError):
        count = len(result.problems)
        return "\n".join([*result.problems, f"{count} problem{'s' * (count > 1)} found"])
    host, port = listen_address(result.config)
    scheme = "https" if result.config.https_info.enable else "http"
    pools = [f"{count} in {pool}" for pool, count in _pool_sizes(result.config).items() if count]
    return "\n".join(
        [f"warning: {warning}" for warning in result.warnings]
        + [f"{result.path}: {'no mistakes found' if result.holds_settings else 'no settings'}"]
        + [f"listens on {scheme}://{f'[{host}]' if ':' in host else host}:{port}"]
        + [f"keys: {', '.join(pools) or 'none'}"]
    )


class _Reader:
    """One reading of one file. The walk's methods return the value, UNSET for one that was left
    empty, or _BAD for one whose mistake is in `problems` by now."""

    def __init__(self, file: str, environ: Mapping[str, str]) -> None:
        self.file, self.environ = file, environ
        self.problems: list[str] = []
        self.mistaken: set[str] = set()  # the keys they are about
        self.warnings: list[str] = []
        self.places: dict[str, str] = {}
        self._firsts: dict[tuple[str, ...], str] = {}  # (list, id): the entry that had it first
        self._tokens: list[tuple[Node, str, str]] = []  # of callers: where, and the value
        self._upstream_secrets: set[str] = set()
        self._secrets: dict[
            tuple[str, str], str
        ] = {}  # (list, secret): the entry that had it first
        self._holds_secrets = False  # in the file itself, not by way of a variable
        self._left = _MAX_READ

    def read(self, data: bytes | None = None) -> Config:
        """What can be understood; the rest stands in `problems`, and defaults in its place."""
        try:
            root = scan(read_file(self.file) if data is None else data)
            config = UNSET if root is None else self._value(root, Config, "")
        except Unreadable as error:
            place = f"{self.file}:{error.line}:{error.column}"
            self.problems.append(f"{place}: {error.key}: {error.message}")
            self.mistaken.add(error.key)
            config = UNSET
        return config if isinstance(config, Config) else Config()

    def check_tokens(self) -> None:
        """A token that is something else besides would travel as that, or name two callers."""
        first: dict[str, str] = {}
        for node, path, value in self._tokens:
            other = first.setdefault(value, path)
            if other != path:
                self._problem(node, path, f"the same as in {other}; write another")
            elif value in self._upstream_secrets:
                self._problem(node, path, "is a key of an upstream too; write another")

    def outer_layers(self, config: Config, flags: Mapping[str, str | int | None]) -> Config:
        variables = {key: self.environ.get(names[1]) for key, names in OUTER_KEYS.items()}
        for layer, values in ((1, variables), (0, flags)):
            found: dict[str, Any] = {}
            for key, names in OUTER_KEYS.items():
                text = values.get(key)
                if text is None or text == "":
                    continue
                self.places[key] = names[layer]
                found[key], message = convert(str(text), _hints(Config)[key])
                if message:
                    advice = write(names[layer], _hints(Config)[key], "=")
                    self.problems.append(f"{names[layer]}: {key}: {message}; {advice}")
                    self.mistaken.add(key)
                    del found[key]
            port = PORT.fullmatch(found.get("port", ""))
            if port and port["host"]:  # else a host of a lower layer would win over this one
                found.setdefault("host", "")
            config = msgspec.structs.replace(config, **found)
        return config

    def note_oddities(self, config: Config) -> None:
        """Warnings about the whole that no single line is to blame for."""
        notes = []
        pools = _pool_sizes(config)
        for name, family in ENVIRONMENT_KEYS.items():
            if self.environ.get(name) and not pools[f"{family}.api_keys"]:
                entry = f'- {{id: env, val: "${{{name}}}"}}'
                notes.append(f"{family}.api_keys: {name} is set but not used; write {entry} there")
        if not any(pools.values()):
            names = " or ".join(ENVIRONMENT_KEYS)
            empty = [name for name in ENVIRONMENT_KEYS if self.environ.get(name) == ""]
            are = f"{', '.join(empty)} {'are' if len(empty) > 1 else 'is'} set to nothing; "
            notes.append(
                "keys: there are none, so only callers who bring their own are served; "
                f"{are if empty else ''}write some, or set {names}"
            )
        locked = config.access.protected and not config.access.tokens
        if locked and self.environ.get(_TOKEN) == "":
            notes.append(
                f"access.tokens: {_TOKEN} is set to nothing, so only programs on this machine may "
                "use the keys (in a container: none outside it); give it 16 characters or more"
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
        if get_origin(hint) is list:
            return self._list(node, get_args(hint)[0], path)
        if get_origin(hint) is dict:
            key_hint, item_hint = get_args(hint)
            return self._table(node, key_hint, item_hint, path)
        return self._leaf(node, hint, path)

    def _section(self, node: Node, section: type[Section], path: str) -> Any:
        hints = _hints(section)
        if node.kind != "mapping":
            some = ", ".join(f"{name}: ..." for name in _required(section) or list(hints)[:3])
            message = f"expected a mapping, got {node.shape()}; write {some}"
            return self._problem(node, path, message)
        lines, seen = dict[str, int](), dict[str, tuple[Node, Any]]()
        for key, child in zip(node.children[::2], node.children[1::2], strict=True):
            at = f"{path}.{_shown(key.text)}".lstrip(".")
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
        required = _required(section)
        for name in ("val", "bot_id"):  # an entry without its value is a place kept free
            if name in required and name in seen and seen[name][1] is UNSET:
                child = seen[name][0]
                if not _MAY_BE_EMPTY.search(child.text):
                    self._warn(child, f"{path}.{name}", "empty, so the entry is left out")
                return UNSET
        for name in required:
            if name not in seen:
                self._problem(node, f"{path}.{name}", f"missing; {write(name, hints[name])}")
            elif seen[name][1] is UNSET:
                message = f"empty; {write(name, hints[name])}"
                self._problem(seen[name][0], f"{path}.{name}", message)
        values = {n: v for n, (_, v) in seen.items() if v is not UNSET and v is not _BAD}
        for names in (("id",), ("bot_id", "user")):  # what may stand only once in a list
            if values.keys() >= set(names):
                slot = (path.rpartition("[")[0], *(values[name] for name in names))
                first = self._firsts.setdefault(slot, path)
                if first != path:
                    message = f"the same as in {first}; write another"
                    self._problem(seen[names[0]][0], f"{path}.{names[0]}", message)
        return section(**values) if values.keys() >= set(required) else _BAD

    def _list(self, node: Node, hint: Any, path: str) -> Any:
        if node.kind != "list":
            message = f'expected a list, got {node.shape()}; begin each item with "- "'
            return self._problem(node, path, message)
        items = [self._value(child, hint, f"{path}[{i}]") for i, child in enumerate(node.children)]
        return [item for item in items if item is not UNSET and item is not _BAD]

    def _table(self, node: Node, key_hint: Any, hint: Any, path: str) -> Any:
        """A mapping whose keys are the operator's own."""
        if node.kind != "mapping":
            message = f"expected a mapping, got {node.shape()}; write name: value"
            return self._problem(node, path, message)
        found: dict[str, Any] = {}
        for key, child in zip(node.children[::2], node.children[1::2], strict=True):
            at = f"{path}.{_shown(key.text)}"
            name = self._leaf(key, key_hint, at)
            value = self._value(child, hint, at)
            if name is UNSET:
                self._problem(key, path, "an empty name; write a name before the colon")
            elif name in found:
                self._problem(key, at, "written before; keep one of the two")
            elif name is not _BAD and value is not UNSET and value is not _BAD:
                found[name] = value
        return found

    def _leaf(self, node: Node, hint: Any, path: str) -> Any:
        name = re.sub(r"\[\d+\]$", "", path.rpartition(".")[2])
        if node.kind != "text":
            message = f"expected {base_word(hint)}, got {node.shape()}; {write(name, hint)}"
            return self._problem(node, path, message)
        text = self._fill_in(node, path)
        if text is None:
            return _BAD
        if text == "":
            return UNSET
        value, message = convert(text, hint)
        if message:
            return self._problem(node, path, f"{message}; {write(name, hint)}")
        if extra(hint).get("check") == "token":
            self._tokens.append((node, path, value))
        elif extra(hint).get("secret"):
            self._upstream_secrets.add(value)
            if path.endswith((".val", "]")):
                first = self._secrets.setdefault((path.rpartition("[")[0], value), path)
                if first != path:
                    message = f"the same secret as in {first}, so one account under two names"
                    self._warn(node, path, f"{message}; remove one")
        if extra(hint).get("secret") or has_password(hint, text):
            if SAMPLE.fullmatch(text):
                self._warn(node, path, "looks like a sample value; write your own")
            # Values that begin with demo- are known to be fake: etc/demo.yaml.
            self._holds_secrets |= text == node.text and not text.startswith("demo-")
        return value

    def _fill_in(self, node: Node, path: str) -> str | None:
        """The text with ${NAME}, ${NAME:-default} and $${ replaced; None when one cannot be."""
        good = True

        def replacement(match: re.Match[str]) -> str:
            nonlocal good
            name, default = match["name"], match["default"]
            if match[0] == "$${":
                return "${"
            if name is None:
                good = False
                message = "${ begins a variable; write ${NAME}, or $${ for the signs themselves"
                self._problem(node, path, message)
                return ""
            value = self.environ.get(name)
            if value is None and default is None:
                good = False
                message = f"the environment has no {name}; set it, or write ${{{name}:-}}"
                self._problem(node, path, message)
            value = value or default or ""
            self._spend(len(value), node)
            return value

        text = _VARIABLE.sub(replacement, node.text) if "${" in node.text else node.text
        return text if good else None

    def _problem(self, node: Node, path: str, message: str) -> Any:
        if len(self.problems) >= _MAX_PROBLEMS:
            raise Unreadable("mistakes from here on are not listed", node.line, node.column)
        place = f"{self.file}:{node.line}:{node.column}"
        self.problems.append(f"{place}: {path or 'file'}: {message}")
        self.mistaken.add(path or "file")
        return _BAD

    def _warn(self, node: Node, path: str, message: str) -> None:
        self.warnings.append(f"{self.file}:{node.line}:{node.column}: {path}: {message}")

    def _spend(self, characters: int, node: Node) -> None:
        self._left -= characters
        if self._left < 0:
            message = "aliases or variables make too much of it; write the entries out"
            raise Unreadable(message, node.line, node.column)


def _environment_file(environ: Mapping[str, str]) -> bytes:
    """What a file would say if its only news were the keys in the environment."""
    names = {f: n for n, f in reversed(ENVIRONMENT_KEYS.items()) if environ.get(n)}
    lines = [f'{f}: {{api_keys: [{{id: env, val: "${{{n}}}"}}]}}\n' for f, n in names.items()]
    return "".join(lines).encode()


@cache
def _hints(section: type[Section]) -> dict[str, Any]:
    return get_type_hints(section, include_extras=True)


@cache
def _required(section: type[Section]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(section) if field.required]


def _shown(name: str) -> str:
    """A name from the file, unless it is odd or long enough to be a misplaced secret."""
    return name if re.fullmatch(r"(?!sk-)[\w.<-]{1,32}", name) else "?"


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1) if len(name) <= 32 else []
    advice = f"did you mean {close[0]}?" if close else f"the keys here are {', '.join(known)}"
    return f"unknown key; {advice}"


def _leaves(value: Any, hint: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Section):
        for name, inner in _hints(type(value)).items():
            yield from _leaves(getattr(value, name), inner)
    elif get_origin(hint) is list:
        for item in value:
            yield from _leaves(item, get_args(hint)[0])
    elif get_origin(hint) is dict:
        for item in value.values():
            yield from _leaves(item, get_args(hint)[1])
    else:
        yield value, hint


def _pool_sizes(config: Config) -> dict[str, int]:
    return {
        "openai.api_keys": len(config.openai.api_keys),
        "openai.web_sessions": len(config.openai.web_sessions),
        "claude.api_keys": len(config.claude.api_keys),
        "claude.web_sessions": len(config.claude.web_sessions),
        "google_gemini.api_keys": len(config.google_gemini.api_keys),
        "coze.api_chat.bots": len(config.coze.api_chat.bots),
        "coze.discord.auth": len(config.coze.discord.auth),
    }
