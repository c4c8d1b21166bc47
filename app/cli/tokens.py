"""Lists the access tokens of the running gateway, adds one, or changes an added one.

list         every token with its state, limits and used budget (the default)
add ID       adds a token and prints it: nothing shows it again
disable ID   requests with this token are refused
enable ID    takes the token back into use
remove ID    forgets the token
usage [ID]   calls, tokens and cost of the last 30 days, of all tokens or by the models of one

Added tokens are kept in the ledger's database and hold in all workers at once. Tokens of the config
are changed in the config.
"""

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from typing import Any

from app.cli import options
from app.cli.failure import CommandFailed
from app.cli.table import as_table as aligned

HELP = "list, add, disable, enable or remove access tokens of the running gateway"

_ACTIONS = ("list", "add", "disable", "enable", "remove", "usage")
_LIMITS = ("rpm", "tpm", "max_concurrent")
_OF_ADD = (
    *_LIMITS, "providers", "models", "usd", "tokens", "per", "unpriced", "no_store", "expires",
)  # fmt: skip


def add_arguments(parser: ArgumentParser) -> None:
    """Adds the action, the token's id, `--json`, what `add` takes, and where the gateway
    listens."""
    parser.add_argument("action", nargs="?", default="list", choices=_ACTIONS, help="see above")
    parser.add_argument("id", nargs="?", metavar="ID", help="of the token")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    new = parser.add_argument_group("what add takes; left out: no limit")
    new.add_argument("--providers", metavar="A,B", help="the only providers it is for")
    new.add_argument("--models", metavar="A,B", help="the only models, such as gpt-4o*,claude/*")
    new.add_argument("--rpm", type=int, metavar="N", help="requests per minute")
    new.add_argument("--tpm", type=int, metavar="N", help="tokens per minute")
    new.add_argument("--max-concurrent", type=int, metavar="N", help="requests at a time")
    new.add_argument("--usd", type=float, metavar="X", help="budget in USD")
    new.add_argument("--tokens", type=int, metavar="N", help="budget in tokens")
    new.add_argument("--per", metavar="PERIOD", help="of the budget: day, week or month")
    new.add_argument("--unpriced", metavar="HOW", help="models without a price: pass or refuse")
    new.add_argument(
        "--no-store", action="store_const", const=True, help="no answer is kept for a next turn"
    )
    new.add_argument("--expires", metavar="WHEN", help="2026-12-31, a time, 30d or 12h")
    options.add_address(parser)


def run(args: Namespace) -> int:
    """Prints the tokens, or what was changed. Raises CommandFailed with what the gateway said."""
    action = args.action
    if action in ("list", "usage"):
        if action == "list" and args.id is not None:
            raise CommandFailed("tokens list: takes no id; see tokens --help", 2)
    elif args.id is None:
        raise CommandFailed(f"tokens {action}: an id is needed; see tokens --help", 2)
    given = [name for name in _OF_ADD if getattr(args, name) is not None]
    if given and action != "add":
        flag = given[0].replace("_", "-")
        raise CommandFailed(f"tokens {action}: takes no --{flag}; see tokens --help", 2)
    if action == "usage":
        return _usage(args)
    order = None if action == "list" else {"action": action, "id": args.id}
    if order is not None and action == "add":
        order |= _rights(args)
    answer = _ask(args, "POST" if order else "GET", "/admin/tokens", order)
    if args.json:
        print(json.dumps(answer if action == "add" else answer["tokens"], indent=2))
    elif action == "add":
        print("the token, which nothing shows again:", file=sys.stderr)
        print(answer["value"])
    elif action == "list":
        print(as_table(answer["tokens"]))
    else:
        print(f"{args.id}: {action}d")
    return 0


def as_table(tokens: list[dict[str, Any]]) -> str:
    """The tokens as aligned columns."""
    rows = [("id", "from", "state", "expires", "used", "limits")]
    for one in tokens:
        expires = "-" if one["expires"] is None else _time(one["expires"])
        used = ", ".join(f"{part:.0%} of {what}" for what, part in one["used"].items()) or "-"
        rows.append((one["id"], one["source"], one["state"], expires, used, _limits(one)))
    return aligned(rows)


def _limits(one: dict[str, Any]) -> str:
    budget = one["budget"]
    parts = [f"{name} {one[name]}" for name in _LIMITS if one[name]]
    parts += [f"{budget['usd']:g} USD per {budget['per']}"] if budget["usd"] else []
    parts += [f"{budget['tokens']} tokens per {budget['per']}"] if budget["tokens"] else []
    parts += [f"{name} {','.join(one[name])}" for name in ("providers", "models") if one[name]]
    parts += [] if one["store"] else ["no store"]
    return "; ".join(parts) or "none"


def _rights(args: Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: getattr(args, name) for name in _LIMITS if getattr(args, name) is not None
    }
    for name in ("providers", "models"):
        if (given := getattr(args, name)) is not None:
            found[name] = [part.strip() for part in given.split(",") if part.strip()]
    budget = {
        name: getattr(args, name)
        for name in ("usd", "tokens", "per", "unpriced")
        if getattr(args, name) is not None
    }
    if budget:
        found["budget"] = budget
    if args.no_store:
        found["store"] = False
    if args.expires is not None:
        found["expires"] = args.expires
    return found


def _usage(args: Namespace) -> int:
    from app.cli import usage_report

    by, having = ("token", []) if args.id is None else ("model", [("token", args.id)])
    config, form = options.load_config(args).config, "json" if args.json else "table"
    print(usage_report.report(config, by, None, None, form, time.time(), having))
    return 0


def _ask(args: Namespace, method: str, path: str, body: Any = None) -> dict[str, Any]:
    from app.cli import running_gateway

    status, answer = running_gateway.request(options.load_config(args).config, method, path, body)
    if status != 200:
        raise CommandFailed(answer["error"]["message"])
    return answer


def _time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")
