"""multipart/form-data, read back by the standard library."""

from email import message_from_bytes

import pytest

from app.wire.errors import GatewayError
from app.wire.multipart import form_data, read_form


def test_every_field_is_read_back_in_order() -> None:
    fields = [
        ('name="data"', "", b"{}"),
        ('name="file"; filename="a.png"', "image/png", b"\r\n--\x00\xff\r\n"),
    ]
    body = form_data("b0undary", fields)
    head = b"Content-Type: multipart/form-data; boundary=b0undary\r\n\r\n"
    parts = message_from_bytes(head + body).get_payload()
    assert isinstance(parts, list)
    read = [
        (part["Content-Disposition"], part["Content-Type"], part.get_payload(decode=True))
        for part in parts
    ]
    assert read == [
        ('form-data; name="data"', None, b"{}"),
        ('form-data; name="file"; filename="a.png"', "image/png", b"\r\n--\x00\xff\r\n"),
    ]


def test_the_last_boundary_ends_the_body() -> None:
    assert form_data("b", [("name=x", "", b"1")]) == (
        b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\n1\r\n--b--\r\n"
    )


TYPE = "multipart/form-data; boundary=b0undary"
FORM = [
    ('name="model"', "", b"lab/whisper"),
    ('name="file"; filename="a \\"b\\".wav"', "audio/wav", b"\r\n--\x00\xff--b0undar\r\n"),
    ('name="include[]"', "", b""),
]


def test_what_is_encoded_is_read_again() -> None:
    body = form_data("b0undary", FORM)
    fields = read_form(body, TYPE)
    assert [(f.disposition, f.media_type, bytes(f.value)) for f in fields] == FORM
    assert [(f.name, bool(f.file)) for f in fields] == [
        ("model", False),
        ("file", True),
        ("include[]", False),
    ]
    assert form_data("b0undary", ((f.disposition, f.media_type, f.value) for f in fields)) == body


def test_every_cut_of_a_form_is_refused() -> None:
    body = form_data("b0undary", FORM).removesuffix(b"--\r\n")
    for end in range(len(body) + 1):
        with pytest.raises(GatewayError) as caught:
            read_form(body[:end], TYPE)
        assert (caught.value.status, caught.value.code) == (400, "invalid_form")


def part(head: bytes, value: bytes = b"x") -> bytes:
    return b"--b0undary\r\n" + head + b"\r\n\r\n" + value + b"\r\n--b0undary--\r\n"


@pytest.mark.parametrize(
    "body",
    [
        part(b"Content-Disposition: form-data; name=model"),
        part(b'Content-Disposition: form-data; name="a"; name="model"'),
        part(b"Content-Disposition: form-data; name*=utf-8''model"),
        part(b'Content-Disposition: attachment; name="model"'),
        part(b'Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data'),
        part(b'Content-Disposition: form-data; name="a"\r\n folded'),
        part(b'Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64'),
        part(b'Content-Disposition: form-data; name="\xff"'),
        part(b"Content-Type: text/plain"),
        b"preamble\r\n" + part(b'Content-Disposition: form-data; name="a"'),
        part(b'Content-Disposition: form-data; name="a"', b"x\r\n--b0undary-more"),
        form_data("b0undary", [('name="a"', "", b"")] * 65),
        b"",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(body) -> None:
    with pytest.raises(GatewayError) as caught:
        read_form(body, TYPE)
    assert (caught.value.status, caught.value.code) == (400, "invalid_form")


@pytest.mark.parametrize(
    ("content_type", "is_read"),
    [
        ('multipart/form-data; boundary="b0undary"', True),
        ("Multipart/Form-Data; charset=utf-8; boundary=b0undary", True),
        ("multipart/form-data", False),
        ("multipart/mixed; boundary=b0undary", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_the_content_type_must_name_the_boundary(content_type, is_read) -> None:
    body = form_data("b0undary", FORM)
    if is_read:
        assert len(read_form(body, content_type)) == 3
    else:
        with pytest.raises(GatewayError):
            read_form(body, content_type)
