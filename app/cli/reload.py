"""Has the running gateway read its config again.

A file with mistakes changes nothing: they are printed, and the exit status is 2. Otherwise no call
fails, and what only a restart changes is named.
"""

from argparse import ArgumentParser, Namespace

from app.cli import options
from app.cli.failure import CommandFailed

HELP = "have the running gateway read its config again"


def add_arguments(parser: ArgumentParser) -> None:
    """Adds where the gateway listens."""
    options.add_address(parser)


def run(args: Namespace) -> int:
    """0: the new config is in use. Raises ConfigError, or CommandFailed: 2 for mistakes, 1 for the
    rest."""
    from app.cli import running_gateway

    # Not load_config: the gateway says what is wrong with the file, as it sees it.
    try:
        status, answer = running_gateway.request_reload(options.load_valid(args))
    except CommandFailed:
        options.load_config(args)  # mistakes may hide where the gateway is: then they are told
        raise
    problems = answer.get("problems", [])
    if status != 200:
        raise CommandFailed("\n".join([answer["message"], *problems]), 2 if problems else 1)
    kept = answer["kept"]
    lines = [f"warning: {warning}" for warning in answer["warnings"]]
    lines += [answer["message"]]
    lines += [f"unchanged until a restart: {', '.join(kept)}"] if kept else []
    print("\n".join(lines))
    return 0
