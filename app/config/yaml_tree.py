"""Parses a YAML file into a small tree with lines and columns, or raises Unreadable with a place.

Scalars stay text as written; tags are ignored. Limits on bytes, nodes and depth bound the time for
a hostile or mistaken file to a second: PyYAML's own composer has none, and overflows the C stack on
50,000 open brackets. Aliases share their anchor's node, so an alias bomb costs nothing until it is
walked.
"""

import os
import re
import stat
from typing import Any, Literal

import yaml
from msgspec import Struct

_MAX_FILE_BYTES = 1 << 20  # 14,000 keys fit
_MAX_NODES = 100_000
_MAX_DEPTH = 50
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_NULLS = ("", "~", "null", "Null", "NULL")


class Node(Struct):
    """A node of the tree. Lines and columns count from 1."""

    kind: Literal["document", "text", "list", "mapping"]
    line: int
    column: int
    text: str = ""
    plain: bool = False  # neither quoted nor a block
    children: list["Node"] = []  # of a mapping: key, value, key, value ...

    @property
    def is_empty(self) -> bool:
        """Whether the value was left empty, or is YAML's null."""
        return self.kind == "text" and (not self.text or (self.plain and self.text in _NULLS))

    def shape(self) -> str:
        """The kind of node, as messages name it."""
        return "text" if self.kind == "text" else f"a {self.kind}"


class Unreadable(Exception):
    """The file cannot be read, or not from this place on."""

    def __init__(self, message: str, line: int = 1, column: int = 1, key: str = "file") -> None:
        super().__init__(message)
        self.message, self.line, self.column, self.key = message, line, column, key


def read_file(path: str) -> bytes:
    """The content of a small regular file. Raises Unreadable, with the remedy."""
    hint = "write the path of a YAML file after -c"
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise Unreadable(f"is a directory; {hint}")
        if not stat.S_ISREG(mode):  # reading a pipe would block
            raise Unreadable(f"is not a regular file; {hint}")
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise Unreadable(f"does not exist; {hint}") from None
    except PermissionError:
        raise Unreadable(f"cannot be read by {user()}; {_remedy(path)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise Unreadable(f"cannot be read ({reason}); write another path") from None
    if len(data) > _MAX_FILE_BYTES:
        raise Unreadable(f"is larger than {_MAX_FILE_BYTES} bytes; is it the right file?")
    return data


def user() -> str:
    """The user of this process, as messages name it."""
    return f"this user (uid {os.geteuid()})"


def _remedy(path: str) -> str:
    try:
        owner = os.stat(path).st_uid
    except OSError:
        return "let it search the folders above"
    if owner == os.geteuid():
        return "chmod u+r it"
    return f"it belongs to uid {owner}: chown it to uid {os.geteuid()}, and chmod 600 it"


def scan(data: bytes) -> Node | None:
    """The only document in `data`; None if there are only comments. Raises Unreadable."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = "is not UTF-8 here; save it as UTF-8"
        raise Unreadable(message, *_position(data[: error.start])) from None
    try:
        return _build(text)
    except yaml.reader.ReaderError as error:
        message = "holds a control character; remove it"
        raise Unreadable(message, *_position(text.encode()[: error.position])) from None
    except yaml.MarkedYAMLError as error:
        raise _syntax_mistake(error, text) from None


def _build(text: str) -> Node | None:
    root = Node("document", 1, 1)
    open_nodes, anchors, count = [root], dict[str, Node](), 0
    for event in yaml.parse(text, Loader=_LOADER):
        mark: Any = event.start_mark  # every event of a parser has a mark
        line, column = mark.line + 1, mark.column + 1
        match event:
            case yaml.ScalarEvent():
                node = Node("text", line, column, event.value, event.implicit[0])
            case yaml.SequenceStartEvent():
                node = Node("list", line, column)
            case yaml.MappingStartEvent():
                node = Node("mapping", line, column)
            case yaml.AliasEvent():
                if event.anchor not in anchors:
                    message = "* begins an alias that no anchor defines; put text into quotes"
                    raise Unreadable(message, line, column, "yaml")
                node = anchors[event.anchor]
            case yaml.CollectionEndEvent():
                open_nodes.pop()
                continue
            case yaml.DocumentStartEvent() if root.children:
                message = "a second document begins; keep one and remove the --- line"
                raise Unreadable(message, line, column, "yaml")
            case _:
                continue
        open_nodes[-1].children.append(node)
        count += 1
        if count > _MAX_NODES:
            message = f"holds more than {_MAX_NODES} values; is it the right file?"
            raise Unreadable(message, line, column)
        if isinstance(event, yaml.AliasEvent):
            continue
        if event.anchor:
            anchors[event.anchor] = node
        if node.kind != "text":
            open_nodes.append(node)
            if len(open_nodes) > _MAX_DEPTH:
                raise Unreadable(f"is nested deeper than {_MAX_DEPTH} levels", line, column)
    return root.children[0] if root.children else None


def _position(before: bytes) -> tuple[int, int]:
    last_line = before[before.rfind(b"\n") + 1 :]
    return before.count(b"\n") + 1, len(last_line.decode(errors="replace")) + 1


def _syntax_mistake(error: yaml.MarkedYAMLError, text: str) -> Unreadable:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Unreadable("cannot be understood; check quotes and indentation", key="yaml")
    line = (text.split("\n")[mark.line :] or [""])[0]
    match line[mark.column : mark.column + 1]:
        case "{" if line[: mark.column].endswith("$"):
            message = 'a variable between { } or [ ] needs quotes; write "${NAME}"'
        case "\t":
            message = "a tab stands here; indent with spaces"
        case ("@" | "`" | "%" | "!" | "&" | "|" | ">") as sign:
            message = f"{sign} cannot begin a value; put the value into quotes"
        case _:  # the parser quotes characters it expected, and pieces of the file: maybe secrets
            problem = re.sub(r"'[^' ]{2,}'", "...", error.problem or "cannot be understood")
            message = f"{problem}; check quotes and indentation here and in the line above"
    return Unreadable(message, mark.line + 1, mark.column + 1, "yaml")
