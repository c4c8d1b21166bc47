"""Options that several commands share: the config file, and settings that override it."""

import os
from argparse import SUPPRESS, ArgumentParser, Namespace

from app.config.load import Loaded, load, load_valid_parts
from app.config.schema import Config

# Options may stand before the command or after it. The commands' parsers suppress their defaults,
# else an option that stands before the command would be reset.
_DEFAULTS = {
    "config": None,
    "host": None,
    "port": None,
    "workers": None,
    "log_level": None,
    "log_format": None,
}


def defaults() -> Namespace:
    """The arguments before any option was read."""
    return Namespace(**_DEFAULTS)


def add_address(parser: ArgumentParser) -> None:
    """Adds what says where a gateway listens: `-c`, `--host`, `--port`."""
    parser.add_argument(
        "-c", "--config", metavar="FILE", default=SUPPRESS, help="default: etc/c.yaml"
    )
    parser.add_argument("--host", default=SUPPRESS, help="address to listen on")
    parser.add_argument("--port", default=SUPPRESS, help="port to listen on")


def add_settings(parser: ArgumentParser) -> None:
    """Adds `-c` and every setting that overrides the file."""
    add_address(parser)
    parser.add_argument("--workers", default=SUPPRESS, help="worker processes; 0: one per core")
    parser.add_argument(
        "--log-level", metavar="LEVEL", default=SUPPRESS, help="debug, info, warning or error"
    )
    parser.add_argument("--log-format", metavar="FORM", default=SUPPRESS, help="json or text")


def overrides(args: Namespace) -> dict[str, str | None]:
    """The settings given as flags, as `load` takes them."""
    return {name: getattr(args, name) for name in _DEFAULTS if name != "config"}


def load_config(args: Namespace, *, to_start: bool = False) -> Loaded:
    """The effective config. Raises ConfigError with every mistake."""
    return load(args.config, os.environ, overrides(args), to_start=to_start)


def load_valid(args: Namespace) -> Config:
    """The config with defaults in place of mistakes, as `load_valid_parts` reads it."""
    return load_valid_parts(args.config, os.environ, overrides(args))
