"""Recorded upstream answers, read by tests and replayed by the simulator."""

from pathlib import Path


def recorded(family: str) -> Path:
    """The folder of a family's recordings."""
    return Path(__file__).parent / family
