"""multipart/form-data, read back by the standard library."""

from email import message_from_bytes

from app.wire.multipart import form_data


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
