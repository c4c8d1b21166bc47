"""Sums of the ledger: calls, tokens and cost, by token, model, provider, key, day or hour.

Reads the ledger itself, so it needs no running gateway.
"""

import time
from argparse import ArgumentParser, Namespace

from app.cli import options
from app.cli.failure import CommandFailed

HELP = "sum up calls, tokens and cost"


def add_arguments(parser: ArgumentParser) -> None:
    """Adds what to sum by, the span, the form, and `-c`."""
    parser.add_argument(
        "--by", default="token", help="token (the default), provider, model, key, day, hour or all"
    )
    parser.add_argument("--since", help="2026-01-31, 24h, 7d; default: 30d")
    parser.add_argument("--until", help="the same; default: now")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", dest="form", action="store_const", const="csv", default="table")
    form.add_argument("--json", dest="form", action="store_const", const="json")
    options.add_address(parser)


def run(args: Namespace) -> int:
    """Prints the sums. Raises CommandFailed for what cannot be reported."""
    from app.cli import usage_report

    if args.by not in usage_report.CHOICES:
        raise CommandFailed(f"--by: expected one of {', '.join(usage_report.CHOICES)}", 2)
    config = options.load_config(args).config
    print(usage_report.report(config, args.by, args.since, args.until, args.form, time.time()))
    return 0
