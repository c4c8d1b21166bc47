"""`python -m app.simulator`: starts the simulated upstreams and prints their address."""

import argparse
from pathlib import Path

from app.simulator.recordings import DEFAULT
from app.simulator.server import serve


def main() -> None:
    """Parses the arguments and serves; exits with 2 when the address cannot be bound."""
    parser = argparse.ArgumentParser(prog="python -m app.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8998, help="0: any free one (it is printed)")
    parser.add_argument("--recordings", type=Path, default=DEFAULT, help="folder to replay from")
    parser.add_argument(
        "--with-parent", action="store_true", help="stop when the process that started this stops"
    )
    asked = parser.parse_args()
    try:
        serve(asked.host, asked.port, asked.recordings, asked.with_parent)
    except OSError as error:
        parser.exit(2, f"simulator: cannot listen on {asked.host}:{asked.port}: {error.strerror}\n")


if __name__ == "__main__":
    main()
