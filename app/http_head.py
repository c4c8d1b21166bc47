"""The head of a request as two readers might understand it differently: then nobody reads it.

What a proxy before us and the web framework behind us could take for two different requests is how
requests are smuggled; RFC 9112 (sections 2.2, 3.2, 5, 6 and 7.1) tells servers to refuse it.
Pure; one pass over the bytes.
"""

import re

MAX_HEADERS = 100

# Request line in origin form (or `*`), then fields: a token, a colon, visible signs. No lone CR or
# LF, no folded lines, no space before the colon, no absolute address, no CONNECT target.
_GOOD = re.compile(
    rb"[A-Z]{1,16}+ (?:/[!-~]*+|\*) HTTP/1\.[01]"
    rb"(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+)*+"
).fullmatch
_HOST = re.compile(
    rb"\nhost:[ \t]*+([A-Za-z0-9._-]++|\[[0-9A-Fa-f:.]++\])?(?::[0-9]{0,5})?[ \t]*+(?=\r|\Z)", re.I
).findall
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*+[0-9]{1,18}[ \t]*+(?=\r|\Z)", re.I).search
_TARGET = re.compile(rb"[A-Z]{1,16} (?!/|\* )[^ ]+ HTTP/").match
_CHUNK = re.compile(rb"\r\n[0-9A-Fa-f]{1,15}[ \t]*+(?:;[\t -~\x80-\xff]*+)?").fullmatch
MAX_CHUNK_LINE = 1024


def flaw(head: bytes, has_length: bool, is_chunked: bool, hosts: int) -> str:
    """What is wrong with a head (without its last empty line), "" when nothing is.

    `has_length`, `is_chunked` and `hosts` are what the framework made of it.
    """
    if not _GOOD(head):
        if _TARGET(head):
            return "Write the path alone after the method: this is no proxy."
        return "The request's head is malformed."
    if head.count(b"\r\n") > MAX_HEADERS:
        return f"The request has more than {MAX_HEADERS} headers."
    first_line_10 = head.find(b" HTTP/1.0", 0, head.find(b"\r\n") + 1 or None) >= 0
    if hosts != 1 and not (hosts == 0 and first_line_10):
        return "Send one Host header."
    if hosts and len(_HOST(head)) != 1:
        return "The Host header holds no host."
    if has_length and not _LENGTH(head):
        return "The Content-Length is no plain number."
    if is_chunked and (has_length or first_line_10):
        return "A chunked body has no other length, and needs HTTP/1.1."
    return ""


def is_good_chunk_line(line: bytes) -> bool:
    """The line before a chunk, with the line break that ends the chunk before it."""
    return len(line) <= MAX_CHUNK_LINE and _CHUNK(line) is not None
