"""docs/operations.md tells every word that log and metrics have for an end, and no other."""

import ast
import re
from pathlib import Path

from app.pool.outcomes import Outcome
from app.telemetry.call_log import LOST, OVERTAKEN
from app.wire.errors import GatewayError

ROOT = Path(__file__).parents[2]


def sources():
    for room in ("app", "providers"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if "simulator" not in path.relative_to(ROOT).parts:
                yield ast.parse(path.read_text())


def strings(node):
    return {
        found.value
        for found in ast.walk(node)
        if isinstance(found, ast.Constant) and isinstance(found.value, str)
    }


def assigned(node):
    """What is assigned to an attribute `outcome`, alone or in a tuple."""
    for target in node.targets:
        pairs = [(target, node.value)]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(target.elts, node.value.elts, strict=False))
        for each, value in pairs:
            if isinstance(each, ast.Attribute) and each.attr == "outcome":
                yield value


def written():
    """Every word that stands where an outcome of a call is made."""
    # refusals.py: outcome=code
    words = {"all_keys_cooling", "key_cooling", "keys_refused", "keys_spent"}
    for tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                for given in node.keywords:
                    if given.arg == "outcome" and isinstance(given.value, ast.Constant | ast.IfExp):
                        words |= strings(given.value)
            elif isinstance(node, ast.Assign):
                for value in assigned(node):
                    words |= {text for text in strings(value) if re.fullmatch(r"[a-z_]+", text)}
    error = GatewayError(400, "x")
    words |= {error.ending(True), error.ending(False), GatewayError(502, "x").ending(False)}
    return words - {"error"}


def test_the_documented_words_are_those_that_are_written():
    text = (ROOT / "docs" / "operations.md").read_text()
    told = re.search(r"\nOutcomes: (.*?)\n\n", text, re.DOTALL)[1]
    assert set(re.findall(r"`([a-z_]+)`", told)) == written()


def test_the_documented_classes_of_attempts_are_those_that_are_written():
    text = (ROOT / "docs" / "operations.md").read_text()
    told = re.search(r"\nThe `class` of an attempt: (.*?)\n\n", text, re.DOTALL)[1]
    words = {outcome.word for outcome in Outcome} | {OVERTAKEN, LOST}
    assert set(re.findall(r"`([a-z ]+)`", told)) == words
