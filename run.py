"""The gateway's command in a checkout, `python run.py`; installed, it is `any-proxy`."""

import sys

from app.cli.command_line import main

if __name__ == "__main__":
    sys.exit(main())
