"""Bodies of the type multipart/form-data: encoded, and read."""

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from app.wire.errors import GatewayError, bad_request

_MAX_FIELDS = 64
_MAX_HEAD = 4096  # bytes of one field's headers
_CONTENT_TYPE = re.compile(
    r"""multipart/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"\\]{1,70})"|([^\s;,"]{1,70}))\s*(?:;.*)?""",
    re.IGNORECASE,
)
# The name, then at most a file's name in either spelling. What is read otherwise by an upstream
# would ask for another model than the one that was looked at.
_DISPOSITION = re.compile(
    r'form-data\s*;\s*name="(?P<name>[\w.\[\]-]+)"'
    r'(?P<file>(?:\s*;\s*filename(?:="(?:[^"\\\r\n]|\\.)*"|\*=[\w!#$%&+^`{}~.\'-]+))*)',
    re.IGNORECASE | re.ASCII,
)
_HEADER = re.compile(r"([\w-]+):[ \t]*([^\r\n]*)", re.ASCII)


class Field(Struct, frozen=True):
    """One field of a form. `file` is what its disposition says of a file, "" for plain text."""

    name: str
    value: bytes | memoryview
    media_type: str = ""
    file: str = ""

    @property
    def disposition(self) -> str:
        """What `form_data` wants of it."""
        return f'name="{self.name}"{self.file}'


def form_data(boundary: str, fields: Iterable[tuple[str, str, bytes | memoryview]]) -> bytes:
    """Encodes (disposition, media type, value) fields in order.

    The disposition is the text behind `form-data; `, such as `name="file"; filename="a.png"`:
    quoting is the caller's task. A media type of "" leaves the Content-Type out.
    """
    out: list[bytes | memoryview] = []
    for disposition, media_type, value in fields:
        head = f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n"
        if media_type:
            head += f"Content-Type: {media_type}\r\n"
        out += (head.encode(), b"\r\n", value, b"\r\n")
    out.append(f"--{boundary}--\r\n".encode())
    return b"".join(out)


def read_form(body: bytes, content_type: str) -> list[Field]:
    """The fields in order; the values of files are views of the body.

    Strict, so that no upstream can read the same body in another way. Raises GatewayError 400.
    """
    found = _CONTENT_TYPE.fullmatch(content_type.strip())
    if found is None:
        raise _broken("the Content-Type must be multipart/form-data with its boundary")
    try:
        delimiter = b"--" + (found[1] or found[2]).encode("ascii")
        return list(_fields(body, delimiter))
    except UnicodeError:
        raise _broken("headers must be ASCII or UTF-8") from None


def _fields(body: bytes, delimiter: bytes) -> Iterator[Field]:
    view, between = memoryview(body), b"\r\n" + delimiter
    at = len(delimiter)
    if not body.startswith(delimiter):
        raise _broken("it does not begin with its boundary")
    for _ in range(_MAX_FIELDS + 1):
        mark = body[at : at + 2]
        if mark == b"--":
            return
        head_end = body.find(b"\r\n\r\n", at, at + _MAX_HEAD)
        if mark != b"\r\n" or head_end < 0:
            raise _broken("a boundary is followed by something else than a field")
        end = body.find(between, head_end + 4)
        if end < 0:
            raise _broken("it ends early")
        head = body[at + 2 : head_end].decode()
        yield _field(head, view[head_end + 4 : end])
        at = end + len(between)
    raise _broken(f"it holds more than {_MAX_FIELDS} fields")


def _field(head: str, value: memoryview) -> Field:
    headers: dict[str, str] = {}
    for line in head.split("\r\n"):
        found = _HEADER.fullmatch(line)
        if found is None or found[1].lower() in headers:
            raise _broken("a field's headers cannot be read")
        headers[found[1].lower()] = found[2].strip()
    said = _DISPOSITION.fullmatch(headers.get("content-disposition", ""))
    if said is None or headers.get("content-transfer-encoding", "binary") not in ("binary", "8bit"):
        raise _broken("a field's Content-Disposition cannot be read")
    return Field(
        said["name"],
        value if said["file"] else bytes(value),
        headers.get("content-type", ""),
        said["file"],
    )


def _broken(why: str) -> GatewayError:
    return bad_request(f"The form cannot be read: {why}.", code="invalid_form")
