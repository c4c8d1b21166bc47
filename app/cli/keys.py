"""Lists the keys of the running gateway, or changes one in all its workers.

list         every key with its state (the default)
reset ID     ends the key's cooldown
disable ID   no new call uses the key
enable ID    takes the key back into use
"""

import json
import time
from argparse import ArgumentParser, Namespace
from typing import Any

from app.cli import options
from app.cli.failure import CommandFailed
from app.cli.table import as_table as aligned

HELP = "list, reset, disable or enable keys of the running gateway"


def add_arguments(parser: ArgumentParser) -> None:
    """Adds the action, the key's id and its pool, `--json`, and where the gateway listens."""
    actions = ("list", "reset", "disable", "enable")
    parser.add_argument("action", nargs="?", default="list", choices=actions, help="see above")
    parser.add_argument("id", nargs="?", metavar="ID", help="of the key")
    parser.add_argument("--pool", help="where several pools have the id; of list: only this one")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    options.add_address(parser)


def run(args: Namespace) -> int:
    """Prints the keys, or the changed one. Raises CommandFailed with what the gateway said."""
    from app.cli import running_gateway

    if (args.id is None) != (args.action == "list"):
        problem = "an id is needed" if args.id is None else "takes no id"
        raise CommandFailed(f"keys {args.action}: {problem}; see keys --help", 2)
    order = None
    if args.action != "list":
        order = {"action": args.action, "id": args.id, "pool": args.pool or ""}
    found = running_gateway.request_keys(options.load_config(args).config, order)
    if args.pool:
        found = [key for key in found if key["pool"] == args.pool]
    print(json.dumps(found, indent=2) if args.json else as_table(found, time.time()))
    return 0


def as_table(keys: list[dict[str, Any]], now: float) -> str:
    """The keys as aligned columns; `now` is Unix seconds."""
    rows = [("pool", "id", "state", "uses", "last", "reason")]
    for key in keys:
        reason = key["why"]
        if key["state"] == "resting":
            reason += f"{', ' if reason else ''}{max(key['until'] - now, 0):.0f} s left"
        last = str(key["last_status"] or "-")
        name = key["id"] or "(the upstream)"
        rows.append((key["pool"], name, key["state"], str(key["uses"]), last, reason))
    return aligned(rows)
