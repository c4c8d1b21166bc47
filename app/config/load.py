"""Reads the config: flags over environment variables over the file over defaults.

The result is a `Loaded`, or a ConfigError with every mistake of all layers. `reader.py` walks the
file itself.
"""

import os
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from app.config import startup_checks
from app.config.families import KEY_VARIABLES, config_from_variables, pool_sizes
from app.config.fields import PORT, extra, has_password, leaves
from app.config.reader import Reader
from app.config.schema import Config

DEFAULT_PATH = "etc/c.yaml"


class ConfigError(Exception):
    """The config has mistakes: `problems`, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Loaded(Struct):
    """A config without mistakes, its warnings, and the place of each key (`file:line:column`)."""

    config: Config
    path: str
    warnings: list[str]
    places: dict[str, str]

    @property
    def holds_settings(self) -> bool:
        """False for a file of nothing but comments, which may be the wrong one."""
        return any(key and at.startswith(f"{self.path}:") for key, at in self.places.items())


def load(
    path: str | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, str | int | None] | None = None,
    *,
    to_start: bool = False,
) -> Loaded:
    """The effective config. Raises ConfigError with the mistakes of file, environment and flags.

    `overrides` are the flags. `to_start` also checks that the port is free, which a reload must not
    do: the gateway itself listens there by then.
    """
    reader, config = _read(path, environ, overrides or {})
    loaded = Loaded(config, reader.file, reader.warnings, reader.places)
    address_known = not {"file", "yaml", "host", "port"} & reader.keys_with_problems
    problems = reader.problems + check_environment(loaded, port=to_start and address_known)
    if problems:
        raise ConfigError(problems)
    if not loaded.holds_settings:
        message = (
            "holds no settings, so all is at its default; etc/c.yaml is a sample with every key"
        )
        reader.warnings.append(f"{loaded.path}:1:1: file: {message}")
    reader.warn_about_config(config)
    loaded.warnings += _placed(loaded, startup_checks.folder_warnings(config))
    loaded.warnings += _placed(loaded, startup_checks.privacy_warnings(config))
    return loaded


def load_again(path: str | None, overrides: Mapping[str, str | int | None]) -> Loaded:
    """The same file, read again with this process's environment. See `load`."""
    return load(path, os.environ, overrides)


def load_valid_parts(
    path: str | None, environ: Mapping[str, str], overrides: Mapping[str, str | int | None]
) -> Config:
    """The config with defaults in place of mistakes: for commands about a gateway that may have
    read the file before the mistakes were made."""
    return _read(path, environ, overrides)[1]


def _read(
    path: str | None, environ: Mapping[str, str], overrides: Mapping[str, str | int | None]
) -> tuple[Reader, Config]:
    path = path if path is not None else environ.get("ANY_PROXY_CONFIG") or None
    substitute = config_from_variables(environ)
    if path is None and substitute and not os.path.lexists(DEFAULT_PATH):
        reader = Reader("environment", environ)
        config = reader.read(substitute)
    else:
        reader = Reader(path if path is not None else DEFAULT_PATH, environ)
        config = reader.read()
        if path is None and not os.path.lexists(DEFAULT_PATH):
            reader.problems[0] += f", or set {' or '.join(KEY_VARIABLES)}"
    reader.check_tokens()
    config = reader.apply_overrides(config, overrides)
    return reader, reader.fill_in_upstreams(config)


def listen_address(config: Config) -> tuple[str, int]:
    """Address and port to listen on: `host`, else the host in `port`, else every address."""
    match = PORT.fullmatch(config.port)
    assert match, "load() accepts no other port"
    host = config.host or match["host"] or "0.0.0.0"  # noqa: S104 (what the Go project's port says)
    return host.strip("[]"), int(match["port"])


def secrets(config: Config) -> frozenset[str]:
    """Every secret in the config, passwords in addresses included: what no log line may contain."""
    found = set()
    for text, hint in leaves(config, Config):
        if has_password(hint, text):
            password = urlsplit(text).password or ""
            found |= {password, unquote(password)}
        elif extra(hint).get("secret"):
            found.add(text)
    return frozenset(found - {""})


def check_environment(loaded: Loaded, *, port: bool = True) -> list[str]:
    """Mistakes that depend on this machine: the certificate's files, packages that the ledger and
    traces need and, if asked, the port."""
    mistakes = [*startup_checks.certificate_mistakes(loaded.config)]
    mistakes += startup_checks.ledger_mistakes(loaded.config)
    mistakes += startup_checks.traces_mistakes(loaded.config)
    if port:
        mistakes += startup_checks.port_mistakes(loaded.config, *listen_address(loaded.config))
    return _placed(loaded, mistakes)


def _placed(loaded: Loaded, notes: Iterable[tuple[str, str]]) -> list[str]:
    start = f"{loaded.path}:1:1"
    return [f"{loaded.places.get(key) or start}: {key}: {message}" for key, message in notes]


def report(result: Loaded | ConfigError) -> str:
    """The text that `run.py check` prints."""
    if isinstance(result, ConfigError):
        count = len(result.problems)
        return "\n".join([*result.problems, f"{count} problem{'s' * (count > 1)} found"])
    host, port = listen_address(result.config)
    scheme = "https" if result.config.https_info.enable else "http"
    pools = [f"{count} in {pool}" for pool, count in pool_sizes(result.config).items() if count]
    return "\n".join(
        [f"warning: {warning}" for warning in result.warnings]
        + [f"{result.path}: {'no mistakes found' if result.holds_settings else 'no settings'}"]
        + [f"listens on {scheme}://{f'[{host}]' if ':' in host else host}:{port}"]
        + [f"keys: {', '.join(pools) or 'none'}"]
    )
