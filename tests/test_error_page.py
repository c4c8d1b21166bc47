"""docs/errors.md has every error code of the gateway, and no other."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "errors.md").read_text()
TOLD = re.findall(r"^\| `([a-z_]+)` \|", TEXT, re.M)
# Assigned to a name `code` that is none of an error.
NOT_CODES = {"close_", "code", "coze_", "error_code", "message", "token_"}


def trees():
    for room in ("app", "providers"):
        for path in (ROOT / room).rglob("*.py"):
            if "simulator" not in path.parts:
                yield ast.parse(path.read_text())


def words(node: ast.AST | None) -> set[str]:
    """The texts in an expression that look like a code."""
    if node is None:
        return set()
    texts = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
    return {text for text in texts if isinstance(text, str) and re.fullmatch("[a-z_]{4,}", text)}


def assigned(target: ast.AST, value: ast.AST) -> set[str]:
    """What an assignment gives to a name `code` or an attribute of that name."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        # Not strict: a starred one leaves fewer.
        pairs = zip(target.elts, value.elts, strict=False)
        return {word for pair in pairs for word in assigned(*pair)}
    name = getattr(target, "id", "") or getattr(target, "attr", "")
    return words(value) if name == "code" else set()


def codes_in(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="code", value=value):
                found |= words(value)
            case ast.Assign(targets=targets, value=value):
                found = found.union(*(assigned(target, value) for target in targets))
            case ast.Call(func=ast.Name(id="bad_request"), args=[_, _, third]):
                found |= words(third)
            case ast.arguments(args=[*_, ast.arg(arg="code")], defaults=[*_, value]):
                found |= words(value)
    return found


def test_each_code_is_in_the_page():
    used = set().union(*map(codes_in, trees())) - NOT_CODES
    assert len(used) > 90
    assert used <= set(TOLD), sorted(used - set(TOLD))


def test_each_status_is_in_the_page():
    """Where status and code are both written in one call."""
    statuses = dict(re.findall(r"^\| `([a-z_]+)` \| ([^|]*) \|", TEXT, re.M))
    seen = 0
    for node in (each for tree in trees() for each in ast.walk(tree)):
        match node:
            case ast.Call(
                func=ast.Name(id="GatewayError"), args=[ast.Constant(value=int(status)), *_]
            ):
                codes = [word.value for word in node.keywords if word.arg == "code"]
                for code in (code for code in codes if isinstance(code, ast.Constant)):
                    seen += 1
                    assert str(status) in statuses[code.value], (code.value, status)
    assert seen > 60


def test_each_code_of_the_page_is_used():
    texts = {
        node.value
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(TOLD) <= texts, sorted(set(TOLD) - texts)


def test_each_code_has_a_status_a_cause_and_a_cure():
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 4 and all(cells), row
        assert re.fullmatch(r"[45](\d\d|xx)(, [45](\d\d|xx))*", cells[1]), row
    assert len(TOLD) == len(set(TOLD)) == len(rows)
