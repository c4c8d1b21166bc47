"""Uploaded files: a streaming multipart reader and a bounded store.

An upload is hashed and spooled as it arrives, never held in memory as a whole. The oldest files
are dropped when the store is full.
"""

import hashlib
import re
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import IO, Any

from sanic import Request

from app.simulator.ledger import record_of
from app.simulator.openai_chat import token

MAX_FILES = 64
MAX_BYTES = 512 * 1024 * 1024
SPOOL_BYTES = 1024 * 1024
MAX_FIELD_BYTES = 64 * 1024
_NAME = re.compile(r'\bname="([^"]*)"')
_FILENAME = re.compile(r'\bfilename="([^"]*)"')

# What the reader says: ("part", name, filename or None), then its ("data", bytes) pieces.
PartEvent = tuple[str, str, str | None] | tuple[str, bytes]


class Malformed(Exception):
    """The body is not the multipart that its content type promises."""


class Multipart:
    """Parses multipart/form-data in any split."""

    def __init__(self, content_type: str) -> None:
        boundary = re.search(r'boundary="?([^";]+)"?', content_type)
        if "multipart/form-data" not in content_type or not boundary:
            raise Malformed("expected multipart/form-data with a boundary")
        self._delimiter = b"\r\n--" + boundary[1].encode()
        self._buffer = bytearray(b"\r\n")  # so that the first boundary looks like the others
        self._state = "preamble"

    def feed(self, data: bytes) -> Iterator[PartEvent]:
        """Takes the next bytes and yields the events they complete; raises Malformed."""
        buffer = self._buffer
        buffer += data
        while True:
            if self._state in ("preamble", "body"):
                end = buffer.find(self._delimiter)
                keep = len(self._delimiter) + 1
                upto = end if end >= 0 else max(len(buffer) - keep, 0)
                if self._state == "body" and upto:
                    yield "data", bytes(buffer[:upto])
                del buffer[:upto]
                if end < 0 or len(buffer) < keep + 1:
                    return
                closes = buffer[keep - 1 : keep + 1] == b"--"
                del buffer[: keep + 1]
                self._state = "epilogue" if closes else "headers"
            elif self._state == "headers":
                end = buffer.find(b"\r\n\r\n")
                if end < 0:
                    if len(buffer) > MAX_FIELD_BYTES:
                        raise Malformed("a part's headers do not end")
                    return
                head = bytes(buffer[:end]).decode("utf-8", "replace")
                del buffer[: end + 4]
                name, filename = _NAME.search(head), _FILENAME.search(head)
                yield "part", name[1] if name else "", filename[1] if filename else None
                self._state = "body"
            else:
                buffer.clear()
                return

    def finish(self) -> None:
        """Raises Malformed when the closing boundary has not come."""
        if self._state != "epilogue":
            raise Malformed("the body ended before its closing boundary")


class StoredFile:
    """One file, spooled to disk beyond SPOOL_BYTES."""

    def __init__(self, filename: str) -> None:
        self.id = "file-" + token()
        self.filename = filename
        self.purpose = ""
        self.created = int(time.time())
        self.bytes = 0
        self.sha256 = ""
        self._hash = hashlib.sha256()
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115

    def write(self, data: bytes) -> None:
        """Appends bytes."""
        self._hash.update(data)
        self._spool.write(data)
        self.bytes += len(data)

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`."""
        self._spool.seek(start)
        return self._spool.read(end - start)

    def close(self) -> None:
        """Frees the spool."""
        self._spool.close()

    def seal(self) -> None:
        """Computes the hash, once all bytes are written."""
        self.sha256 = self._hash.hexdigest()

    @property
    def etag(self) -> str:
        """The entity tag, from the hash."""
        return f'"{self.sha256[:32]}"'

    def view(self) -> dict[str, Any]:
        """OpenAI's File object, and the hash for tests to compare."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
            "expires_at": None,
            "sha256": self.sha256,
        }


class Upload:
    """One multipart body as it arrives: its plain fields, and its file."""

    def __init__(self, content_type: str) -> None:
        self.fields: dict[str, str] = {}
        self.file: StoredFile | None = None
        self.bytes = 0
        self.hash = hashlib.sha256()
        self._reader = Multipart(content_type)
        self._field: str | None = None

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the body; raises Malformed."""
        self.bytes += len(data)
        self.hash.update(data)
        for event in self._reader.feed(data):
            match event:
                case "part", name, None:
                    self._field = str(name)
                    self.fields.setdefault(self._field, "")
                case "part", _, filename:
                    self._field = None
                    self.file = self.file or StoredFile(str(filename))
                case "data", piece:
                    self._take(bytes(piece) if isinstance(piece, bytes) else b"")

    def finish(self) -> None:
        """Seals the file at the end of the body; raises Malformed."""
        self._reader.finish()
        if self.file:
            self.file.purpose = self.fields.get("purpose", "")
            self.file.seal()

    def _take(self, piece: bytes) -> None:
        if self._field is None:
            if self.file:
                self.file.write(piece)
        elif len(self.fields[self._field]) < MAX_FIELD_BYTES:
            self.fields[self._field] += piece.decode("utf-8", "replace")


class FileStore:
    """A bounded store of files; the oldest are dropped first."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, StoredFile] = OrderedDict()

    def put(self, file: StoredFile) -> None:
        """Adds a file and drops the oldest beyond the limits."""
        self._files[file.id] = file
        while len(self._files) > 1 and (len(self._files) > MAX_FILES or self._total() > MAX_BYTES):
            self._files.popitem(last=False)[1].close()

    def get(self, identity: str) -> StoredFile | None:
        """The file, or None."""
        return self._files.get(identity)

    def remove(self, identity: str) -> bool:
        """Removes a file; False when there is none."""
        file = self._files.pop(identity, None)
        if file:
            file.close()
        return file is not None

    def all(self) -> list[StoredFile]:
        """All files, newest first."""
        return list(reversed(self._files.values()))

    def _total(self) -> int:
        return sum(file.bytes for file in self._files.values())


async def receive_upload(request: Request) -> Upload:
    """The multipart body of a route with stream=True; its size and hash are recorded.

    The body is read to its end also when it is malformed; then Malformed is raised.
    """
    record, upload, malformed = record_of(request), None, None
    try:
        upload = Upload(request.headers.get("content-type", ""))
    except Malformed as error:
        malformed = error
    while (piece := await request.stream.read()) is not None:  # type: ignore[union-attr]
        if upload is None or malformed:
            continue
        try:
            upload.feed(piece)
            record.body_bytes = upload.bytes
        except Malformed as error:
            malformed = error
    if upload is None or malformed:
        assert malformed is not None
        raise malformed
    record.body_sha256 = upload.hash.hexdigest()
    upload.finish()
    return upload


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """The half-open range a single-range `Range` header asks for; None when there is none to serve.

    Raises ValueError for a range beyond the end (416).
    """
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if not asked or asked[0] == "bytes=-":
        return None
    first, last = asked[1], asked[2]
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1 if last else size, size)
    if start >= size or end <= start:
        raise ValueError(header)
    return start, end
