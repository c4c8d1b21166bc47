"""What the slow tests run inside other programs: scripts for their interpreters."""

from pathlib import Path

HERE = Path(__file__).parent
