"""What a picture or a file is, is read from its bytes: labels are often wrong."""

import base64

import msgspec
import pytest

from app.wire.errors import GatewayError
from app.wire.media_types import first_bytes, media_type
from providers.claude.api import PROVIDER
from providers.claude.web import PROVIDER as PROVIDER_WEB
from tests.calls import asked_of, read_by

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF"
GIF = b"GIF89a\1\0\1\0\x80\0\0\0\0\0"
WEBP = b"RIFF\x24\0\0\0WEBPVP8 "
PDF = b"%PDF-1.4\n%\xe2\xe3"
TYPES = {
    "image/png": PNG,
    "image/jpeg": JPEG,
    "image/gif": GIF,
    "image/webp": WEBP,
}
LABELS = [
    "image/png",
    "image/jpeg",
    "image/jpg",
    "IMAGE/WEBP",
    "image/*",
    "png",
    "image/svg+xml",
    "application/octet-stream",
    "",
]


def data_url(label: str, data: bytes) -> str:
    return f"data:{label};base64,{base64.b64encode(data).decode()}"


def image_part(label: str, data: bytes) -> dict:
    return {"type": "image_url", "image_url": {"url": data_url(label, data)}}


def sent(make_call, *messages: dict) -> list[dict]:
    """The content of the last message as Claude gets it."""
    call = make_call({"model": "claude-sonnet-4-5", "messages": list(messages)})
    return msgspec.json.decode(PROVIDER.request(call).body)["messages"][-1]["content"]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("kind", TYPES)
def test_a_picture_has_the_type_of_its_bytes(make_call, kind, label):
    part = image_part(label, TYPES[kind])
    (image,) = sent(make_call, {"role": "user", "content": [part]})
    assert image["source"]["media_type"] == kind
    assert base64.b64decode(image["source"]["data"]) == TYPES[kind]
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    (result,) = sent(
        make_call,
        {"role": "user", "content": "Look."},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": [part]},
    )
    assert result["content"][0]["source"]["media_type"] == kind


@pytest.mark.parametrize("label", LABELS)
def test_claude_web_goes_by_the_bytes_too(label):
    message = {"role": "user", "content": [image_part(label, GIF)]}
    (picture,) = read_by(PROVIDER_WEB, asked_of({"messages": [message]})).enclosed.files
    assert picture.media_type == "image/gif"


def test_bytes_that_nothing_is_known_of_keep_a_good_label(make_call):
    part = image_part("image/png", b"something else")
    (image,) = sent(make_call, {"role": "user", "content": [part]})
    assert image["source"]["media_type"] == "image/png"


@pytest.mark.parametrize("label", ["application/octet-stream", "application/x-pdf", "text/plain"])
def test_a_pdf_is_one_whatever_its_label(make_call, label):
    part = {"type": "file", "file": {"filename": "a", "file_data": data_url(label, PDF)}}
    (block,) = sent(make_call, {"role": "user", "content": [part]})
    assert (block["type"], block["source"]["media_type"]) == ("document", "application/pdf")


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("application/octet-stream", "notes.md"),
        ("", "a.csv"),
        ("application/x-python", "a.py"),
        ("application/javascript", None),
        ("application/toml", "a.toml"),
    ],
)
def test_what_reads_as_text_is_a_text_whatever_its_label(make_call, label, name):
    file = {"filename": name, "file_data": data_url(label, "Grüße, 1,2\n".encode())}
    (block,) = sent(make_call, {"role": "user", "content": [{"type": "file", "file": file}]})
    assert block["source"] == {"type": "text", "media_type": "text/plain", "data": "Grüße, 1,2\n"}


@pytest.mark.parametrize("data", [b"PK\3\4\0\0", b"\0\1\2\3", b"\xff\xfe\0a"])
def test_other_files_stay_refused(make_call, data):
    file = {"file_data": data_url("application/octet-stream", data)}
    with pytest.raises(GatewayError) as caught:
        sent(make_call, {"role": "user", "content": [{"type": "file", "file": file}]})
    assert caught.value.param == "messages[0].content[0].file.file_data"


def test_a_picture_sent_as_a_file_is_a_picture(make_call):
    part = {"type": "file", "file": {"file_data": data_url("application/pdf", JPEG)}}
    (block,) = sent(make_call, {"role": "user", "content": [part]})
    assert (block["type"], block["source"]["media_type"]) == ("image", "image/jpeg")


def test_a_pdf_sent_as_a_picture_is_a_document(make_call):
    part = image_part("application/pdf", PDF)
    (block,) = sent(make_call, {"role": "user", "content": [part]})
    assert (block["type"], block["source"]["media_type"]) == ("document", "application/pdf")


def test_claude_web_uploads_a_picture_that_came_as_a_file():
    part = {"type": "file", "file": {"file_data": base64.b64encode(JPEG).decode()}}
    body = msgspec.json.encode({"messages": [{"role": "user", "content": [part]}]})
    (picture,) = read_by(PROVIDER_WEB, asked_of(body)).enclosed.files
    assert (picture.media_type, picture.data) == ("image/jpeg", JPEG)


@pytest.mark.parametrize("kind", TYPES)
def test_the_first_letters_of_the_base64_are_enough(kind):
    for cut in range(4):
        text = base64.b64encode(TYPES[kind] + b"x" * cut).decode().rstrip("=")
        assert media_type(first_bytes(text)) == kind
    assert media_type(first_bytes(base64.b64encode(PDF).decode())) == "application/pdf"
    assert media_type(first_bytes("AAAA")) is None
    assert media_type(first_bytes("")) is None


@pytest.mark.parametrize("data", ["é", "iVBé", "!!!!"])
def test_a_file_that_is_no_base64_is_refused(make_call, data):
    part = {"type": "file", "file": {"file_data": data, "filename": "a.txt"}}
    with pytest.raises(GatewayError) as caught:
        sent(make_call, {"role": "user", "content": [part]})
    assert caught.value.status == 400
