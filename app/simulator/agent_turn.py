"""The simulated models as agents: what they call to do a small task, the same for every family.

Two tasks are understood, in these words, for a FILE with a dot or a slash in its name:

    read FILE                              the caller's tool that reads a file, then its content
    read FILE and replace "A" by "B"       then the tool that edits a file, then what was done

The tools are the caller's own. They are told by name and schema, so that Claude Code, gemini-cli,
opencode and their likes all work. After a failed call the model says so and calls nothing more.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from app.simulator.tool_choice import Call

# What an agent program adds to its user's words.
_REMINDER = re.compile(r"(?s)<system-reminder>.*?</system-reminder>\s*")
_QUOTED = r"""(?:"([^"]+)"|'([^']+)'|`([^`]+)`|([^\s"'`]+))"""
_READ = re.compile(rf"(?i)\bread\s+{_QUOTED}")
_REPLACE = re.compile(rf"(?i)\s+and\s+replace\s+{_QUOTED}\s+(?:by|with)\s+{_QUOTED}")
# The words of agent programs for one input of a tool.
_PATH = ("file_path", "filePath", "absolute_path", "path")
_OLD = ("old_string", "oldString", "old_str")
_NEW = ("new_string", "newString", "new_str")


class Turn(Struct, frozen=True):
    """The last prompt of a conversation, without reminders, and the tool results since then."""

    prompt: str
    results: list[str]
    latest: list[str]  # those of the results that came after the model's last word
    failed: bool = False  # whether the last result is of a call that failed


def turn_of(said: Iterable[tuple[str, str]]) -> Turn:
    """The turn that a conversation is in: pairs of a role and a text.

    A result's role is "result", or "failure" for a call that failed.
    """
    turn = Turn("", [], [])
    for role, text in said:
        if role in ("result", "failure"):
            text = _REMINDER.sub("", text)
            turn = Turn(turn.prompt, [*turn.results, text], [*turn.latest, text], role == "failure")
        elif role == "user" and (words := _REMINDER.sub("", text)).strip():
            turn = Turn(words, [], [])
        elif role in ("assistant", "model"):
            turn.latest.clear()
    return turn


def act(tools: Mapping[str, Any], turn: Turn) -> Call | str | None:
    """The next call of the task in the prompt, or the closing words; None when there is no task.

    `tools` are the JSON schemas of the tools' inputs by name.
    """
    file, change, steps = _task(tools, turn.prompt)
    if not steps:
        return None
    if turn.failed:
        return f"The tool failed: {turn.results[-1]}"
    if len(turn.results) < len(steps):
        return steps[len(turn.results)]
    if change:
        return f'Replaced "{change[0]}" by "{change[1]}" in {file}.'
    return f"{file} says: {turn.results[-1]}"


def _task(tools: Mapping[str, Any], prompt: str) -> tuple[str, list[str], list[Call]]:
    """The file, what to replace by what if anything, and the calls; no calls without a task."""
    for reads in _READ.finditer(prompt):
        [file] = _words(reads)
        more = _REPLACE.match(prompt, reads.end())
        file = file if more else file.rstrip(".,;:!?")
        if not re.search(r"[./]\w", file):
            continue
        steps = [_step(tools, "read|view", {_PATH: file})]
        change = []
        if more:
            change = [each.rstrip(".,;!?") or each for each in _words(more)]
            old, new = change
            steps.append(_step(tools, "edit|replace", {_PATH: file, _OLD: old, _NEW: new}))
        calls = [step for step in steps if step]
        if len(calls) == len(steps):
            return file, change, calls
    return "", [], []


def _words(found: re.Match[str]) -> list[str]:
    return [word for word in found.groups() if word is not None]


def _step(tools: Mapping[str, Any], named: str, inputs: dict[tuple[str, ...], str]) -> Call | None:
    """A call of the first tool that is named so and takes all these inputs."""
    for name, schema in tools.items():
        members = (schema or {}).get("properties") or {}
        given = {
            word: value for words, value in inputs.items() for word in words if word in members
        }
        if len(given) == len(inputs) and re.search(rf"(?i){named}", name):
            more = [each for each in schema.get("required") or () if each not in given]
            # gemini-cli wants the change told in words, too.
            return Call(name, given | dict.fromkeys(more, "As asked."))
    return None
