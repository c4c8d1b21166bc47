"""Starts the gateway and runs until it is stopped (SIGTERM, or Ctrl-C in a terminal)."""

import sys
from argparse import ArgumentParser, Namespace
from functools import partial

from app.cli import options
from app.config.load import load_again

HELP = "start the gateway (the default)"


def add_arguments(parser: ArgumentParser) -> None:
    """Adds `-c` and the settings that override the file."""
    options.add_settings(parser)


def run(args: Namespace) -> int:
    """Serves until a signal; 2 if the port is taken meanwhile."""
    loaded = options.load_config(args, to_start=True)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)

    from app.process import fork_server

    fork_server.start()

    from app.process.server import serve

    return serve(loaded.config, partial(load_again, args.config, options.overrides(args)))
