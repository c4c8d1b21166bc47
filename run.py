"""Starts the gateway: `run.py -c etc/c.yaml`; or only reads its config: `run.py check -c ...`."""

import argparse
import asyncio
import json
import os
import sys
import time
from functools import partial
from typing import Any

from app import __version__
from app.config.load import ConfigError, Loaded, load, load_again, load_valid_parts, report

_EPILOG = """\
%(prog)s check --live      checks each key and session at its upstream
%(prog)s presets           lists the hosts that an entry of upstreams can name
%(prog)s ping              checks whether the running gateway is alive (exit status 0 or 1)
%(prog)s usage --by model    sums of calls, tokens and cost; by token, key, day ... too
%(prog)s keys list         lists the keys of the running gateway with their status
%(prog)s keys reset ID     ends a key's cooldown; disable takes it out of use, enable back into it
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns the exit status.

    0: stopped, or all checks passed. 1: a key is not valid, or the gateway refused. 2: a mistake in
    the config or the command line.
    """
    parser = _parser()
    args = parser.parse_args(arguments)
    _check_arguments(parser, args)
    flags = {
        name: getattr(args, name) for name in ("host", "port", "workers", "log_level", "log_format")
    }
    if args.command == "presets":
        from app.cli import upstream_list

        print(upstream_list.presets_table())
        return 0
    if args.command == "ping":
        return _ping(args, flags)
    try:
        loaded = load(args.config, os.environ, flags, to_start=args.command == "serve")
    except ConfigError as error:
        print(report(error), file=sys.stderr)
        return 2
    if args.command == "keys":
        return _keys(args, loaded)
    if args.command == "usage":
        return _usage(args, loaded)
    if args.command == "check":
        return _live_check(args, loaded) if args.live else _check(loaded)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)

    from app.process import fork_server

    fork_server.start()

    from app.process.server import serve

    return serve(loaded.config, partial(load_again, args.config, flags))


def _ping(args: argparse.Namespace, flags: dict[str, str | None]) -> int:
    from app.cli import key_commands

    try:
        key_commands.ping(load_valid_parts(args.config, os.environ, flags))
    except (key_commands.NotRunning, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _check(loaded: Loaded) -> int:
    from app.cli import upstream_list
    from app.process import har_folder

    config = loaded.config
    lines = (*upstream_list.check_lines(config), *har_folder.check_lines(config))
    print("\n".join([report(loaded), *lines]))
    return 0


def _live_check(args: argparse.Namespace, loaded: Loaded) -> int:
    from app.cli import check_keys

    findings = asyncio.run(check_keys.examine(loaded.config))
    if args.json:
        print(json.dumps([_as_dict(one) for one in findings], indent=2))
    else:
        print(check_keys.as_table(findings) if findings else "no keys are configured")
    return 0 if all(one.state == "valid" for one in findings) else 1


def _as_dict(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


def _keys(args: argparse.Namespace, loaded: Loaded) -> int:
    from app.cli import key_commands

    order = None
    if args.action != "list":
        order = {"action": args.action, "id": args.id, "pool": args.pool or ""}
    try:
        keys = key_commands.request_keys(loaded.config, order)
    except (key_commands.NotRunning, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    if args.pool:
        keys = [key for key in keys if key["pool"] == args.pool]
    print(json.dumps(keys, indent=2) if args.json else key_commands.as_table(keys, time.time()))
    return 0


def _usage(args: argparse.Namespace, loaded: Loaded) -> int:
    from app.cli import usage_report

    form = "csv" if args.csv else "json" if args.json else "table"
    try:
        by = args.by or "token"
        if by not in usage_report.CHOICES:
            raise ValueError(f"--by: expected one of {', '.join(usage_report.CHOICES)}")
        told = usage_report.report(loaded.config, by, args.since, args.until, form, time.time())
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(told)
    return 0


def _check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.command == "keys":
        args.action = args.action or "list"
        if args.action not in ("list", "reset", "disable", "enable"):
            parser.error("keys: write list, reset ID, disable ID or enable ID")
        if (args.id is None) != (args.action == "list"):
            parser.error(f"keys {args.action}: {'an id is needed' if args.id is None else 'no id'}")
    elif args.action is not None:
        parser.error(f"{args.command} takes no further word: {args.action}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").replace("run.py", "%(prog)s"),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=("serve", "check", "keys", "ping", "presets", "usage"),
        default="serve",
        help="serve (the default); check: read the config, tell every mistake, start nothing; "
        "keys: ask the running gateway; ping: ask whether it is alive; presets: list what "
        "an entry of upstreams can name; usage: what the ledger has of calls, tokens and cost",
    )
    parser.add_argument("action", nargs="?", help="of keys: list, reset, disable or enable")
    parser.add_argument("id", nargs="?", metavar="ID", help="of the key")
    parser.add_argument("-c", "--config", metavar="FILE", help="default: etc/c.yaml")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", help="port to listen on")
    parser.add_argument("--workers", help="worker processes; 0: one per core")
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    parser.add_argument("--log-format", metavar="FORM", help="json or text")
    parser.add_argument("--live", action="store_true", help="of check: ask the upstreams too")
    parser.add_argument("--json", action="store_true", help="of keys, usage and check --live")
    parser.add_argument("--csv", action="store_true", help="of usage")
    parser.add_argument("--by", help="of usage: token, provider, model, key, day, hour or all")
    parser.add_argument("--since", help="of usage: 2026-01-31, 24h, 7d; default: 30d")
    parser.add_argument("--until", help="of usage: the same")
    parser.add_argument("--pool", help="of keys: where several pools have the id")
    parser.add_argument("--version", action="version", version=f"any-proxy {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
