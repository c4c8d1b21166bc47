"""Refuses request heads that two parsers could read differently: no request smuggling.

Smuggling needs a proxy in front and the web framework here to see different requests in the same
bytes. RFC 9112 (sections 2.2, 3.2, 5, 6 and 7.1) tells servers to refuse such heads. Pure; one pass
over the bytes.
"""

import re
from collections.abc import Sequence
from typing import Protocol

MAX_HEADERS = 100
MAX_CHUNK_LINE = 1024

# In origin form, or `*`: no absolute address, no CONNECT target.
_LINE = re.compile(rb"[A-Z]{1,16}+ (?:/[!-~]*+|\*) HTTP/1\.([01])(?=\r\n|\Z)").match
_OTHER_TARGET = re.compile(rb"[A-Z]{1,16} (?!/|\* )[^ ]+ HTTP/").match
_FINE = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
# Sanic strips Unicode's spaces too: it would read a length behind a no-break space.
_ODD_FRAMING = re.compile(
    rb"\n(?:host|content-length|transfer-encoding|connection|expect):[\t -~]*+[\x80-\xff]", re.I
).search
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_HOST = re.compile(r"(?:[A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?").fullmatch
_LENGTH = re.compile(r"[0-9]{1,18}").fullmatch
_CHUNK = re.compile(rb"\r\n[0-9A-Fa-f]{1,15}[ \t]*+(?:;[\t -~\x80-\xff]*+)?").fullmatch
# Header names found to be tokens. Bounded, for callers may invent names without end.
_known: set[str] = {"host"}
_MAX_KNOWN = 2048
_MAX_NAME = 64


class Headers(Protocol):
    """The headers as the framework parsed them: names in lower case, every value of each."""

    def getall(self, name: str, default: Sequence[str], /) -> Sequence[str]:
        """Every value of the header."""


def reason_to_refuse(head: bytes, names: set[str], headers: Headers) -> str:
    """Why a head (without its last empty line) is answered with 400; "" if it is in order."""
    line = _LINE(head)
    if line is None:
        if _OTHER_TARGET(head):
            return "Send an origin-form target (GET /path); this is not a forward proxy."
        return "The request line is malformed."
    breaks = head.count(b"\r\n")
    # A lone CR or LF, a NUL: parsers differ about where the next line begins.
    if head.translate(None, _FINE) != b"\r\n" * breaks:
        return "The headers hold control characters."
    if not head.isascii() and _ODD_FRAMING(head):
        return "Host and lengths are written in ASCII."
    if breaks > MAX_HEADERS:
        return f"The request has more than {MAX_HEADERS} headers."
    if not _known >= names:
        for name in names - _known:
            # A folded line, a space before the colon, no name: parsers differ about these.
            if not _TOKEN(name):
                return "The name of a header is malformed."
            if len(_known) < _MAX_KNOWN and len(name) <= _MAX_NAME:
                _known.add(name)
    is_old = line[1] == b"0"
    hosts = headers.getall("host", ())
    if len(hosts) != 1:
        if hosts or not is_old:
            return "Send one Host header."
    elif not _HOST(hosts[0].rstrip()):
        return "The Host header holds no host."
    is_chunked = "transfer-encoding" in names
    if "content-length" in names:
        lengths = headers.getall("content-length", ())
        if is_chunked or len(lengths) != 1 or not _LENGTH(lengths[0].strip(" \t")):
            return "The Content-Length must be one plain number, without Transfer-Encoding."
    elif is_chunked and is_old:
        return "A chunked body needs HTTP/1.1."
    return ""


def is_good_chunk_line(line: bytes | bytearray) -> bool:
    """Whether a chunk's size line is well formed; `line` begins with the line break before it."""
    return len(line) <= MAX_CHUNK_LINE and _CHUNK(line) is not None
