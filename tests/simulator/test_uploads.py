"""The multipart reader in any split, and byte ranges."""

import hashlib

import pytest

from app.simulator.uploads import Upload, byte_range


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 10_000])
def test_an_upload_is_read_in_any_split(step):
    content = bytes(range(256)) * 3 + b"\r\n--Boun almost\r\n"
    body = (
        b'preamble\r\n--Bound\r\nContent-Disposition: form-data; name="purpose"\r\n\r\ntest\r\n'
        b'--Bound\r\nContent-Disposition: form-data; name="empty"\r\n\r\n\r\n'
        b'--Bound\r\nContent-Disposition: form-data; name="file"; filename="a b"\r\n'
        b"Content-Type: x/y\r\n\r\n" + content + b"\r\n--Bound--\r\nepilogue"
    )
    upload = Upload('multipart/form-data; boundary="Bound"')
    for start in range(0, len(body), step):
        upload.feed(body[start : start + step])
    upload.finish()
    assert upload.fields == {"purpose": "test", "empty": ""}
    assert upload.file.filename == "a b" and upload.file.bytes == len(content)
    assert upload.file.sha256 == hashlib.sha256(content).hexdigest()
    upload.file.close()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", None),
        ("bytes=0-0", (0, 1)),
        ("bytes=2-", (2, 10)),
        ("bytes=-4", (6, 10)),
        ("bytes=5-100", (5, 10)),
        ("bytes=0-1,3-4", None),
        ("lines=1-2", None),
        ("bytes=-", None),
    ],
)
def test_ranges_are_read_as_http_says(header, expected):
    assert byte_range(header, 10) == expected
