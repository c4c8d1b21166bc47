"""Lists the hosts that an entry of `upstreams` can name: name, address, variable of the key."""

from argparse import ArgumentParser, Namespace

HELP = "list the hosts that an entry of upstreams can name"


def add_arguments(parser: ArgumentParser) -> None:
    """Adds nothing: the list does not depend on the config."""


def run(args: Namespace) -> int:
    """Prints the table."""
    from app.cli import upstream_list

    print(upstream_list.presets_table())
    return 0
