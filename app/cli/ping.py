"""Checks whether the gateway that runs with this config is alive: for containers and supervisors.

Asks /healthz at the effective address, with TLS if the config says so. Exit status 0 or 1.
"""

from argparse import ArgumentParser, Namespace

from app.cli import options
from app.cli.failure import CommandFailed

HELP = "check whether the running gateway is alive"


def add_arguments(parser: ArgumentParser) -> None:
    """Adds where the gateway listens."""
    options.add_address(parser)


def run(args: Namespace) -> int:
    """0 if a worker answers. Raises NotRunning."""
    from app.cli import running_gateway

    try:
        running_gateway.ping(options.load_valid(args))
    except ValueError as error:
        raise CommandFailed(str(error)) from None
    return 0
