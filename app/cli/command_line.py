"""The command line of the gateway: `any-proxy [COMMAND] [options]`.

Each command is a module with `HELP` (a line for the list of commands), a docstring (its
description), `add_arguments(parser)` and `run(args)`, which returns the exit status. Modules of
commands import what is large in `run`: `ping` is called every few seconds, and `serve` starts its
fork server before it imports the gateway.
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from types import ModuleType

from app import __version__
from app.cli import check, init, keys, options, ping, presets, reload, serve, tokens, usage
from app.cli.failure import CommandFailed
from app.config.load import ConfigError, report

COMMANDS: dict[str, ModuleType] = {
    "serve": serve,
    "init": init,
    "check": check,
    "keys": keys,
    "tokens": tokens,
    "usage": usage,
    "reload": reload,
    "ping": ping,
    "presets": presets,
}
_DESCRIPTION = """\
any-proxy: one gateway to every AI chat. Without a command it serves:

  %(prog)s -c etc/c.yaml
"""
_EPILOG = """\
%(prog)s COMMAND --help explains a command. Exit status: 0 done, or stopped as asked;
1 a key is not valid, or the gateway refused; 2 a mistake in the config or the command line.
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns the exit status."""
    args = parser().parse_args(arguments, options.defaults())
    try:
        status: int = args.run(args)
    except ConfigError as error:
        print(report(error), file=sys.stderr)
        return 2
    except CommandFailed as error:
        print(error, file=sys.stderr)
        return error.status
    return status


def parser() -> ArgumentParser:
    """The parser of the whole command line; `run` in its result is the command's function."""
    whole = ArgumentParser(
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=RawDescriptionHelpFormatter
    )
    whole.add_argument("--version", action="version", version=f"any-proxy {__version__}")
    options.add_settings(whole)
    whole.set_defaults(run=serve.run)
    commands = whole.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in COMMANDS.items():
        each = commands.add_parser(
            name,
            help=command.HELP,
            description=command.__doc__,
            formatter_class=RawDescriptionHelpFormatter,
        )
        command.add_arguments(each)
        each.set_defaults(run=command.run)
    return whole
