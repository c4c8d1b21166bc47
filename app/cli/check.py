"""Reads the config and reports every mistake, without starting anything.

With --live it also asks each upstream whether each key and session is still valid.
"""

import asyncio
import json
from argparse import ArgumentParser, Namespace

import msgspec

from app.cli import options
from app.config.load import Loaded, report

HELP = "report every mistake in the config; with --live, test every key"


def add_arguments(parser: ArgumentParser) -> None:
    """Adds the settings, `--live` and `--json`."""
    options.add_settings(parser)
    parser.add_argument("--live", action="store_true", help="ask the upstreams about each key")
    parser.add_argument("--json", action="store_true", help="of --live: JSON instead of a table")


def run(args: Namespace) -> int:
    """0: no mistakes, all keys valid. 1: some key is not valid."""
    loaded = options.load_config(args)
    return _live(loaded, args.json) if args.live else _report(loaded)


def _report(loaded: Loaded) -> int:
    from app.cli import upstream_list
    from app.process import har_folder

    config = loaded.config
    lines = (*upstream_list.check_lines(config), *har_folder.check_lines(config))
    print("\n".join([report(loaded), *lines]))
    return 0


def _live(loaded: Loaded, as_json: bool) -> int:
    from app.cli import check_keys

    findings = asyncio.run(check_keys.examine(loaded.config))
    if as_json:
        print(json.dumps(msgspec.to_builtins(findings), indent=2))
    else:
        print(check_keys.as_table(findings) if findings else "no keys are configured")
    return 0 if all(one.state == "valid" for one in findings) else 1
