"""Starts the gateway: `run.py -c etc/c.yaml`; or only reads its config: `run.py check -c ...`."""

import argparse
import os
import sys
from functools import partial

from app import __version__
from app.config import ConfigError, load, report


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 stopped or checked well, 2 the config or the command line is wrong."""
    args = _parser().parse_args(arguments)
    flags = {
        name: getattr(args, name) for name in ("host", "port", "workers", "log_level", "log_format")
    }
    checking = args.command == "check"
    try:
        loaded = load(args.config, os.environ, flags, to_start=not checking)
    except ConfigError as error:
        print(report(error), file=sys.stderr)
        return 2
    if checking:
        from app.har_watch import check_lines

        print("\n".join([report(loaded), *check_lines(loaded.config)]))
        return 0
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)

    from app.server import serve  # late: a check needs no web server

    return serve(loaded.config, partial(load, args.config, os.environ, flags))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    parser.add_argument(
        "command",
        nargs="?",
        choices=("serve", "check"),
        default="serve",
        help="serve (the default) or check: read the config, tell every mistake, start nothing",
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="default: etc/c.yaml")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", help="port to listen on")
    parser.add_argument("--workers", help="worker processes; 0: one per core")
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    parser.add_argument("--log-format", metavar="FORM", help="json or text")
    parser.add_argument("--version", action="version", version=f"any-proxy {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
