"""Pictures, sound and files of messages and of tool results."""

import base64
from typing import Any

import pytest

from providers.gemini.api import image_urls, model_of
from tests.providers.gemini.bodies import (
    assistant,
    chat,
    refused,
    tool,
)
from tests.providers.gemini.calls import make_call, sent

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n....").decode()


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            {"inlineData": {"mimeType": "image/png", "data": PNG}},
        ),
        (
            {"type": "image_url", "image_url": "DATA:Image/JPG;name=x;BASE64,AAAA"},
            {"inlineData": {"mimeType": "image/jpeg", "data": "AAAA"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": f"data:;base64,{PNG}"}},
            {"inlineData": {"mimeType": "image/png", "data": PNG}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:text/plain,a%20b"}},
            {"inlineData": {"mimeType": "text/plain", "data": "YSBi"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,QU%4A\nDQw%3D%3D"}},
            {"inlineData": {"mimeType": "image/png", "data": "QUJDQw=="}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x.test/a.PNG?size=1#top"}},
            {"fileData": {"mimeType": "image/png", "fileUri": "https://x.test/a.PNG?size=1#top"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "http://x.test/picture"}},
            {"fileData": {"mimeType": "image/jpeg", "fileUri": "http://x.test/picture"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "gs://bucket/a.webp"}},
            {"fileData": {"mimeType": "image/webp", "fileUri": "gs://bucket/a.webp"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://youtu.be/abc"}},
            {"fileData": {"fileUri": "https://youtu.be/abc"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            {"inlineData": {"mimeType": "audio/mp3", "data": "AAAA"}},
        ),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
            {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}},
        ),
        (
            {"type": "file", "file": {"file_data": "AAAA", "filename": "a.pdf"}},
            {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}},
        ),
    ],
)
def test_media_becomes_inline_data_or_a_uri(part: Any, expected: Any) -> None:
    body = chat({"role": "user", "content": [{"type": "text", "text": "?"}, part]})
    assert sent(body)["contents"][0]["parts"] == [{"text": "?"}, expected]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url", "image_url": {"url": "ftp://x/y"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": ""}}, "image_url.url"),
        ({"type": "image_url", "image_url": "file:///etc/passwd"}, "image_url"),
        ({"type": "image_url", "image_url": {"url": "http://[::1"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,<>"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}, "image_url.url"),
        (
            {"type": "input_audio", "input_audio": {"data": "AA", "format": "wma"}},
            "input_audio.format",
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}},
            "input_audio.data",
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, "file.file_id"),
        ({"type": "file", "file": {}}, "file"),
        ({"type": "file", "file": {"file_data": "AAAA", "filename": "a.exe"}}, "file.file_data"),
    ],
)
def test_media_that_cannot_be_sent_is_refused_by_path(part: Any, param: str) -> None:
    body = chat({"role": "user", "content": [part]})
    assert refused(body).param == f"messages[0].content[0].{param}"


JPEG = base64.b64encode(b"\xff\xd8\xff\xe0\x00\x10JFIF").decode()
WAV = base64.b64encode(b"RIFF\x24\x00\x00\x00WAVEfmt ").decode()
HEIC = base64.b64encode(b"\x00\x00\x00\x18ftypheic\x00\x00").decode()
PDF = base64.b64encode(b"%PDF-1.4\n").decode()
MOV = base64.b64encode(b"\x00\x00\x00\x14ftypqt  \x00\x00").decode()
TEXT = base64.b64encode("Grüße".encode()).decode()


def image_of(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def file_of(data: str, name: str | None = None) -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": data, "filename": name}}


def sound_of(data: str, format: str) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": data, "format": format}}


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        (image_of(f"data:application/octet-stream;base64,{PNG}"), "image/png"),
        (image_of(f"data:png;base64,{PNG}"), "image/png"),
        (image_of(f"data:image/*;base64,{HEIC}"), "image/heic"),
        (image_of(f"data:image/png;base64,{JPEG}"), "image/jpeg"),
        (image_of(f"data:binary/octet-stream;base64,{JPEG.replace('/', '_')}"), "image/jpeg"),
        (image_of("data:image/x-png;base64,AAAA"), "image/png"),
        (file_of(f"data:application/octet-stream;base64,{PDF}", "paper.pdf"), "application/pdf"),
        (file_of(f"data:application/octet-stream;base64,{PDF}"), "application/pdf"),
        (file_of(f"data:application/octet-stream;base64,{TEXT}", "notes.MD"), "text/markdown"),
        (file_of(f"data:application/octet-stream;base64,{TEXT}", "main.zig"), "text/plain"),
        (file_of(f"data:;base64,{MOV}"), "video/mov"),
        (file_of(PDF), "application/pdf"),
        (file_of(WAV, "sound"), "audio/wav"),
        (file_of(TEXT), "text/plain"),
        (sound_of(WAV, "mp3"), "audio/wav"),
        (sound_of(WAV, ""), "audio/wav"),
        (sound_of("AAAA", "audio/mpeg"), "audio/mp3"),
        (sound_of("AAAA", "audio/x-wav"), "audio/wav"),
    ],
)
def test_the_media_type_is_what_the_bytes_or_the_name_tell(part: Any, kind: str) -> None:
    (content,) = sent(chat({"role": "user", "content": [part]}))["contents"]
    assert content["parts"][0]["inlineData"]["mimeType"] == kind


@pytest.mark.parametrize(
    ("part", "param"),
    [
        (image_of("data:,"), "image_url.url"),
        (image_of("data:;base64,"), "image_url.url"),
        (image_of("data:image/png,"), "image_url.url"),
        (image_of("data:image/png;base64, \n"), "image_url.url"),
        (image_of("data:image/png;base64,===="), "image_url.url"),
        (file_of("data:application/pdf;base64,", "a.pdf"), "file.file_data"),
        (file_of("data:text/plain,", "a.txt"), "file.file_data"),
        (file_of("", "a.pdf"), "file.file_data"),
        (sound_of("", "wav"), "input_audio.data"),
    ],
)
def test_an_empty_picture_file_or_sound_is_refused_by_path(part: Any, param: str) -> None:
    error = refused(chat({"role": "user", "content": [{"type": "text", "text": "?"}, part]}))
    assert error.param == f"messages[0].content[1].{param}"
    assert "empty" in error.message


@pytest.mark.parametrize(
    ("part", "param"),
    [
        (image_of("data:application/octet-stream;base64,AAAA"), "image_url.url"),
        (image_of(f"data:image/*;base64,{TEXT}"), "image_url.url"),
        (file_of("AAAA", "a.exe"), "file.file_data"),
        (sound_of(PNG, "wav"), "input_audio.format"),
    ],
)
def test_a_file_of_no_known_kind_is_refused_by_path(part: Any, param: str) -> None:
    error = refused(chat({"role": "user", "content": [part]}))
    assert error.param == f"messages[0].content[0].{param}"


INLINE_PNG = {"inlineData": {"mimeType": "image/png", "data": PNG}}
INLINE_WAV = {"inlineData": {"mimeType": "audio/wav", "data": WAV}}
SCREENSHOT = [{"type": "text", "text": "A screenshot:"}, image_of(f"data:;base64,{PNG}")]


def function_result(result: Any, **more: Any) -> dict[str, Any]:
    return {"functionResponse": {"name": "f", "id": "a", "response": result, **more}}


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (SCREENSHOT, [function_result({"result": "A screenshot:"}), INLINE_PNG]),
        (SCREENSHOT[1:], [function_result({"result": ""}), INLINE_PNG]),
        (
            [{"type": "text", "text": '{"x": 1}'}, image_of("https://x.test/a.webp")],
            [
                function_result({"x": 1}),
                {"fileData": {"mimeType": "image/webp", "fileUri": "https://x.test/a.webp"}},
            ],
        ),
        ([sound_of(WAV, "wav")], [function_result({"result": ""}), INLINE_WAV]),
    ],
)
def test_a_picture_in_a_tools_result_stands_behind_it(content: Any, parts: Any) -> None:
    body = chat({"role": "user", "content": "?"}, assistant(("a", "f", "{}")), tool("a", content))
    assert sent(body)["contents"][2] == {"role": "user", "parts": parts}


def test_pictures_of_several_results_stand_behind_all_of_them() -> None:
    calls = assistant(("a", "f", "{}"), ("b", "f", "{}"))
    body = chat(
        {"role": "user", "content": "?"},
        calls,
        tool("b", SCREENSHOT),
        tool("a", SCREENSHOT[1:]),
        {"role": "user", "content": "And?"},
    )
    second = function_result({"result": "A screenshot:"})
    second["functionResponse"]["id"] = "b"
    assert sent(body)["contents"][2]["parts"] == [
        function_result({"result": ""}),
        second,
        INLINE_PNG,
        INLINE_PNG,
        {"text": "And?"},
    ]


def test_gemini_3_takes_a_results_picture_inside_it() -> None:
    content = [*SCREENSHOT, sound_of(WAV, "wav"), image_of("https://x.test/a.png")]
    body = chat({"role": "user", "content": "?"}, assistant(("a", "f", "{}")), tool("a", content))
    assert sent(body | {"model": "gemini-3-pro"})["contents"][2]["parts"] == [
        function_result({"result": "A screenshot:"}, parts=[INLINE_PNG]),
        INLINE_WAV,
        {"fileData": {"mimeType": "image/png", "fileUri": "https://x.test/a.png"}},
    ]


def test_a_picture_in_a_result_is_fetched_for_models_that_fetch_none() -> None:
    url = "https://x.test/a"
    messages = [{"role": "user", "content": "?"}, assistant(("a", "f", "{}"))]
    body = chat(*messages, tool("a", [image_of(url)])) | {"model": "gemini-2.0-flash"}
    call = make_call(body)
    assert image_urls(call.chat, model_of(call)) == [url]
    parts = sent(body, learned={url: ("image/png", b"\x89PNG\r\n\x1a\n....")})["contents"][2][
        "parts"
    ]
    assert parts == [function_result({"result": ""}), INLINE_PNG]


def test_the_older_functions_result_may_hold_a_picture() -> None:
    call = {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}
    result = {"role": "function", "name": "f", "content": SCREENSHOT}
    parts = sent(chat({"role": "user", "content": "?"}, call, result))["contents"][2]["parts"]
    assert [*parts[0], *parts[1]] == ["functionResponse", "inlineData"]


def test_a_fetched_image_that_is_empty_is_refused() -> None:
    url = "https://x.test/a.png"
    body = chat({"role": "user", "content": [image_of(url)]})
    assert refused(body, learned={url: ("image/png", b"")}).param == (
        "messages[0].content[0].image_url.url"
    )


def test_a_fetched_image_goes_inline_with_the_type_it_has() -> None:
    content = b"\x89PNG\r\n\x1a\n...."
    parts = [
        {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
        {"type": "image_url", "image_url": {"url": "https://x.test/b"}},
    ]
    learned = {
        "https://x.test/a.png": ("image/webp; q=1", b"abc"),
        "https://x.test/b": ("application/octet-stream", content),
    }
    body = chat({"role": "user", "content": parts}, model="gemini-2.0-flash")
    assert sent(body, learned=learned)["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/webp", "data": "YWJj"}},
        {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(content).decode()}},
    ]
