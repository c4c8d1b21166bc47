"""A gateway to which a minute of silence is MINUTE seconds, so that nobody has to wait for one.

Run as run.py is; its workers import it again.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from app.engine import keep_alive

# private: the constant is a fact about Codex, which no config should change
keep_alive._WAKE_SECONDS = float(os.environ["MINUTE"])

if __name__ == "__main__":
    import run as program

    sys.exit(program.main())
