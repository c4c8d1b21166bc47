"""What a file is: by its bytes, else by what the caller calls it, else by its name."""

import pytest

from app.wire.chat import Part
from app.wire.errors import GatewayError
from app.wire.image_bytes import read_picture
from app.wire.media_types import HEAD_BYTES, file_name, first_bytes, media_type

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"),
        (b"GIF87a\x01\x00", "image/gif"),
        (b"GIF89a\x01\x00", "image/gif"),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"BM\x46\x00\x00\x00\x00\x00\x00\x00\x36\x00", "image/bmp"),
        (b"II*\x00\x08\x00\x00\x00", "image/tiff"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00", "image/heic"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00", "image/heif"),
        (b"\x00\x00\x00\x1cftypavif\x00\x00", "image/avif"),
        (b"%PDF-1.4\n", "application/pdf"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "audio/wav"),
        (b"FORM\x00\x00\x00\x24AIFFCOMM", "audio/aiff"),
        (b"ID3\x04\x00", "audio/mpeg"),
        (b"\xff\xfb\x90\x00", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "audio/aac"),
        (b"fLaC\x00\x00\x00\x22", "audio/flac"),
        (b"OggS\x00\x02", "audio/ogg"),
        (b"\x00\x00\x00\x20ftypM4A \x00", "audio/mp4"),
        (b"\x00\x00\x00\x20ftypisom\x00", "video/mp4"),
        (b"\x00\x00\x00\x20ftyp3gp5\x00", "video/3gpp"),
        (b"\x00\x00\x00\x14ftypqt  \x00", "video/quicktime"),
        (b"\x1aE\xdf\xa3\x01\x00", "video/webm"),
        (b"RIFF\x24\x00\x00\x00AVI LIST", "video/avi"),
    ],
)
def test_bytes_tell_the_type(data, kind):
    assert media_type(data) == kind
    assert media_type(data[:HEAD_BYTES]) == kind


@pytest.mark.parametrize(
    "told", ["", "application/octet-stream", "png", "image/*", "image/jpeg", "text/plain", "*/*"]
)
def test_bytes_win_over_what_is_told(told):
    assert media_type(PNG, told, "photo.jpg") == "image/png"


@pytest.mark.parametrize(
    ("told", "name", "kind"),
    [
        ("image/svg+xml", "", "image/svg+xml"),
        ("Image/JPG", "", "image/jpeg"),
        ("text/plain; charset=utf-8", "notes.md", "text/plain"),
        (".PDF", "", "application/pdf"),
        ("application/octet-stream", "notes.MD", "text/markdown"),
        ("binary/octet-stream", "https://example.com/a.csv?v=1.2#top", "text/csv"),
        ("text/*", "table.csv", "text/csv"),
        ("", "png", None),
        ("", "http://[", None),
        ("nonsense", "file.unknown", None),
    ],
)
def test_words_tell_what_bytes_do_not(told, name, kind):
    assert media_type(b"a,b\n", told, name) == kind


def test_a_container_for_sound_and_film_is_what_the_caller_says():
    webm = b"\x1aE\xdf\xa3\x01\x00"
    assert media_type(webm, "audio/webm") == "audio/webm"
    assert media_type(b"\x00\x00\x00\x20ftypisom\x00", "audio/mp4") == "audio/mp4"
    assert media_type(webm, "image/png") == "video/webm"
    assert media_type(b"RIFF\x24\x00\x00\x00WAVEfmt ", "audio/mp3") == "audio/wav"


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("", b""),
        ("====", b""),
        ("iVBORw0KGgo", PNG[:8]),
        ("_9j_", b"\xff\xd8\xff"),
        ("!", b""),
        ("é", b""),
        ("A", b""),
        ("QUJD" * 1000, b"ABC" * 342),
    ],
)
def test_the_first_bytes_of_base64(text, head):
    assert first_bytes(text) == head


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("image/jpeg", "image.jpg"),
        ("audio/mpeg", "audio.mp3"),
        ("application/zip", "application.zip"),
        (None, "file"),
    ],
)
def test_a_file_without_a_name_gets_one_that_tells_its_type(kind, name):
    assert file_name(kind) == name


@pytest.mark.parametrize("url", ["data:,", "data:;base64,", "data:image/png;base64,", "", " "])
def test_an_empty_picture_is_a_400_that_names_its_part(url):
    with pytest.raises(GatewayError) as caught:
        read_picture(Part("image_url", image_url=url), "messages[0].content[1].image_url")
    assert (caught.value.status, caught.value.param) == (400, "messages[0].content[1].image_url")
