"""Bodies of the type multipart/form-data, encoded."""

from collections.abc import Iterable


def form_data(boundary: str, fields: Iterable[tuple[str, str, bytes]]) -> bytes:
    """Encodes (disposition, media type, value) fields in order.

    The disposition is the text behind `form-data; `, such as `name="file"; filename="a.png"`:
    quoting is the caller's task. A media type of "" leaves the Content-Type out.
    """
    out: list[bytes] = []
    for disposition, media_type, value in fields:
        head = f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n"
        if media_type:
            head += f"Content-Type: {media_type}\r\n"
        out += (head.encode(), b"\r\n", value, b"\r\n")
    out.append(f"--{boundary}--\r\n".encode())
    return b"".join(out)
