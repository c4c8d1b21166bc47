"""Code as Markdown."""

import re

_TICKS = re.compile(r"`{3,}")


def fenced_code(code: str, language: str) -> str:
    """A Markdown code block whose fence is longer than any inside the code."""
    fence = "`" * max([3, *(len(ticks) + 1 for ticks in _TICKS.findall(code))])
    end = "" if code.endswith("\n") else "\n"
    return f"\n{fence}{language}\n{code}{end}{fence}\n"
