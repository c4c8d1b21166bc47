"""OpenAI's request as Gemini's: the exact JSON that goes upstream, row by row."""

import base64
import json
from typing import Any

import pytest

from app.wire.errors import GatewayError
from providers.gemini.api import PROVIDER, image_urls, model_of
from providers.gemini.models import Model
from providers.gemini.request import to_generate_content
from providers.gemini.signatures import PLACEHOLDER, Signatures
from tests.providers.gemini.calls import RECORDED, decode, make_call, sent, user

HELLO = [{"role": "user", "parts": [{"text": "Hi"}]}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Gets current weather",
        "parameters": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {"city": {"type": ["string", "null"]}},
            "additionalProperties": False,
        },
    },
}
NO_PARAMETERS = {"type": "function", "function": {"name": "now"}}


def assistant(*calls: tuple[str, str, str], text: str | None = None) -> dict[str, Any]:
    """An assistant message with (id, name, arguments) calls."""
    return {
        "role": "assistant",
        "content": text,
        "tool_calls": [
            {"id": i, "type": "function", "function": {"name": n, "arguments": a}}
            for i, n, a in calls
        ],
    }


def tool(call_id: str, content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def chat(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "gemini-2.5-flash", "messages": list(messages), **more}


def refused(body: Any, **more: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        PROVIDER.request(make_call(body, **more))
    assert caught.value.status == 400
    return caught.value


def dropped(body: Any) -> list[str]:
    call = make_call(body)
    PROVIDER.request(call)
    return call.dropped


# Messages


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([{"role": "user", "content": "Hi"}], {"contents": HELLO}, id="a question"),
        pytest.param(
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
                {"role": "system", "content": ""},
            ],
            {
                "contents": HELLO,
                "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]},
            },
            id="all instructions in order",
        ),
        pytest.param(
            [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": ""}],
                },
                {"role": "user", "content": "b", "name": "Bo"},
                {"role": "assistant", "content": "c"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "d"},
                        {"type": "refusal", "refusal": "no"},
                    ],
                },
                {"role": "assistant", "content": None, "refusal": "never"},
            ],
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
                    {
                        "role": "model",
                        "parts": [{"text": "c"}, {"text": "d"}, {"text": "no"}, {"text": "never"}],
                    },
                ]
            },
            id="neighbours of one role are merged",
        ),
        pytest.param(
            [{"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "Hi"}],
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "."}]},
                    {"role": "model", "parts": [{"text": "Hello!"}]},
                    *HELLO,
                ]
            },
            id="the first word is the user's",
        ),
        pytest.param(
            [{"role": "user", "content": ""}],
            {"contents": [{"role": "user", "parts": [{"text": ""}]}]},
            id="an empty question",
        ),
        pytest.param(
            [
                {"role": "user", "content": "Hi"},
                assistant(("c1", "weather", '{"city": "Bonn", "n": 1.50}'), ("c2", "now", "")),
                tool("c2", "12:00"),
                tool("c1", ' {"sky": "blue"} '),
                {"role": "user", "content": "So?"},
            ],
            {
                "contents": [
                    *HELLO,
                    {
                        "role": "model",
                        "parts": [
                            {
                                "functionCall": {
                                    "name": "weather",
                                    "args": {"city": "Bonn", "n": 1.5},
                                    "id": "c1",
                                }
                            },
                            {"functionCall": {"name": "now", "args": {}, "id": "c2"}},
                        ],
                    },
                    {
                        "role": "user",
                        "parts": [
                            {
                                "functionResponse": {
                                    "name": "weather",
                                    "response": {"sky": "blue"},
                                    "id": "c1",
                                }
                            },
                            {
                                "functionResponse": {
                                    "name": "now",
                                    "response": {"result": "12:00"},
                                    "id": "c2",
                                }
                            },
                            {"text": "So?"},
                        ],
                    },
                ]
            },
            id="results in the order of their calls",
        ),
        pytest.param(
            [
                {"role": "user", "content": "Hi"},
                assistant(
                    ("call_" + "a" * 24, "f", "{}"), ("call_" + "b" * 24, "f", "{}"), text="Wait."
                ),
                tool(
                    "call_" + "b" * 24,
                    [{"type": "text", "text": "[1,"}, {"type": "text", "text": "2]"}],
                ),
            ],
            {
                "contents": [
                    *HELLO,
                    {
                        "role": "model",
                        "parts": [
                            {"text": "Wait."},
                            {"functionCall": {"name": "f", "args": {}}},
                            {"functionCall": {"name": "f", "args": {}}},
                        ],
                    },
                    {
                        "role": "user",
                        "parts": [
                            {"functionResponse": {"name": "f", "response": {"result": ""}}},
                            {"functionResponse": {"name": "f", "response": {"result": "[1,2]"}}},
                        ],
                    },
                ]
            },
            id="a missing result is filled, ids of our own stay here",
        ),
        pytest.param(
            [
                {"role": "user", "content": "Hi"},
                assistant(("c1", "f", "{}")),
                {"role": "user", "content": "Never mind"},
            ],
            {
                "contents": [
                    *HELLO,
                    {
                        "role": "model",
                        "parts": [{"functionCall": {"name": "f", "args": {}, "id": "c1"}}],
                    },
                    {
                        "role": "user",
                        "parts": [
                            {
                                "functionResponse": {
                                    "name": "f",
                                    "response": {"result": ""},
                                    "id": "c1",
                                }
                            },
                            {"text": "Never mind"},
                        ],
                    },
                ]
            },
            id="calls nobody answered",
        ),
        pytest.param(
            [{"role": "user", "content": "Hi"}, assistant(("c1", "f", "{}"))],
            {
                "contents": [
                    *HELLO,
                    {
                        "role": "model",
                        "parts": [{"functionCall": {"name": "f", "args": {}, "id": "c1"}}],
                    },
                ]
            },
            id="a call at the very end waits",
        ),
        pytest.param(
            [
                {"role": "user", "content": "Hi"},
                {
                    "role": "assistant",
                    "content": None,
                    "function_call": {"name": "f", "arguments": '{"a":1}'},
                },
                {"role": "function", "name": "f", "content": "done"},
            ],
            {
                "contents": [
                    *HELLO,
                    {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}]},
                    {
                        "role": "user",
                        "parts": [
                            {"functionResponse": {"name": "f", "response": {"result": "done"}}}
                        ],
                    },
                ]
            },
            id="the older functions",
        ),
    ],
)
def test_messages_become_contents(messages: list[Any], expected: Any) -> None:
    assert sent({"model": "gemini-2.5-flash", "messages": messages}) == expected


@pytest.mark.parametrize("model", ["gemma-3-27b-it", "models/gemma-3n-e4b-it"])
def test_instructions_for_gemma_stand_before_the_first_question(model: str) -> None:
    body = chat({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
    assert sent(body | {"model": model}) == {
        "contents": [{"role": "user", "parts": [{"text": "Be brief."}, {"text": "Hi"}]}]
    }


def test_instructions_for_v1_stand_before_the_first_question() -> None:
    body = chat({"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "Hi"})
    assert sent(body, headers={"x-version": "v1"}) == {
        "contents": [
            {"role": "user", "parts": [{"text": "Be brief."}]},
            {"role": "model", "parts": [{"text": "Hi"}]},
        ]
    }


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ([{"role": "narrator", "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": "x"}, tool("c9", "x")], "messages[1].tool_call_id"),
        (
            [{"role": "user", "content": "x"}, assistant(("a", "f", "{}")), tool("b", "x")],
            "messages[2].tool_call_id",
        ),
        (
            [assistant(("a", "f", "{}")), tool("a", "x"), tool("a", "y")],
            "messages[2].tool_call_id",
        ),
        (
            [assistant(("a", "f", "{}")), {"role": "user", "content": "x"}, tool("a", "x")],
            "messages[2].tool_call_id",
        ),
        ([assistant(("a", "f", "[1]"))], "messages[0].tool_calls[0].function.arguments"),
        ([assistant(("a", "f", "{"))], "messages[0].tool_calls[0].function.arguments"),
        ([assistant(("a", "", "{}"))], "messages[0].tool_calls[0].function"),
        (
            [{"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}],
            "messages[0].tool_calls[0].function",
        ),
        (
            [{"role": "assistant", "function_call": {"name": "f", "arguments": "x"}}],
            "messages[0].function_call.arguments",
        ),
        ([{"role": "function", "name": "f", "content": "x"}], "messages[0].name"),
        (
            [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            "messages[0].content[0].type",
        ),
        ([{"role": "user", "content": [{"type": "video_url"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0]"),
        (
            [
                assistant(("a", "f", "{}")),
                tool("a", [{"type": "image_url", "image_url": {"url": "x"}}]),
            ],
            "messages[1].content[0].image_url.url",
        ),
        (
            [assistant(("a", "f", "{}")), tool("a", [{"type": "video_url"}])],
            "messages[1].content[0].type",
        ),
    ],
)
def test_messages_that_make_no_sense_are_refused_by_path(messages: list[Any], param: str) -> None:
    assert refused({"model": "gemini-2.5-flash", "messages": messages}).param == param


# Media


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


# Settings


@pytest.mark.parametrize(
    ("settings", "config"),
    [
        ({"temperature": 0}, {"temperature": 0}),
        (
            {"temperature": 1.5, "top_p": 0.5, "top_k": 7},
            {"temperature": 1.5, "topP": 0.5, "topK": 7},
        ),
        ({"max_tokens": 9}, {"maxOutputTokens": 9}),
        ({"max_tokens": 9, "max_completion_tokens": 8}, {"maxOutputTokens": 8}),
        ({"n": 1}, None),
        ({"n": 3}, {"candidateCount": 3}),
        ({"stop": "a"}, {"stopSequences": ["a"]}),
        ({"stop": ["a", "", "b"]}, {"stopSequences": ["a", "b"]}),
        ({"stop": []}, None),
        ({"seed": 7}, {"seed": 7}),
        ({"seed": -(2**31)}, {"seed": -(2**31)}),
        ({"seed": 2**31}, {"seed": -(2**31)}),
        ({"presence_penalty": 0, "frequency_penalty": 0}, None),
        ({"logprobs": True, "top_logprobs": 3}, {"responseLogprobs": True, "logprobs": 3}),
        ({"logprobs": True, "top_logprobs": 50}, {"responseLogprobs": True, "logprobs": 20}),
        ({"logprobs": False}, None),
        ({"response_format": {"type": "text"}}, None),
        (
            {"response_format": {"type": "json_object"}},
            {"responseMimeType": "application/json"},
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "dog",
                        "strict": True,
                        "schema": {"$schema": "x", "type": "object", "$defs": {"a": {}}},
                    },
                }
            },
            {
                "responseMimeType": "application/json",
                "responseJsonSchema": {"type": "object", "$defs": {"a": {}}},
            },
        ),
        ({"modalities": ["text"]}, None),
        ({"modalities": ["text", "image"]}, {"responseModalities": ["TEXT", "IMAGE"]}),
    ],
)
def test_settings_become_the_generation_config(settings: Any, config: Any) -> None:
    expected = {"contents": HELLO} | ({} if config is None else {"generationConfig": config})
    assert sent(user(**settings)) == expected


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"stop": list("abcdef")}, "stop"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x", "format": "wav"}}, "audio"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": "x"}}},
            "response_format.json_schema.schema",
        ),
        ({"reasoning_effort": "heroic"}, "reasoning_effort"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": "maybe"}, "tool_choice"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
        ),
        ({"tools": [WEATHER], "tool_choice": {"type": "custom"}}, "tool_choice"),
        ({"tools": [WEATHER, {"type": "custom", "custom": {}}]}, "tools[1].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"functions": [{"name": ""}]}, "functions[0].function"),
        ({"generation_config": []}, "generation_config"),
        ({"extra_body": {"google": {"cached_content": 1}}}, "extra_body.google.cached_content"),
    ],
)
def test_settings_that_cannot_be_kept_are_refused_by_name(settings: Any, param: str) -> None:
    assert refused(user(**settings)).param == param


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (
            {"presence_penalty": 0.5, "frequency_penalty": -1},
            ["presence_penalty", "frequency_penalty"],
        ),
        ({"presence_penalty": 0}, []),
        ({"logit_bias": {"50256": -100}}, ["logit_bias"]),
        ({"logit_bias": {}}, []),
        ({"user": "u", "safety_identifier": "s"}, ["user", "safety_identifier"]),
        ({"metadata": {"a": "b"}, "store": True}, ["metadata", "store"]),
        ({"metadata": None, "store": None, "audio": None}, []),
        ({"service_tier": "auto", "verbosity": "low"}, ["service_tier", "verbosity"]),
        ({"prediction": {}, "prompt_cache_key": "k"}, ["prediction", "prompt_cache_key"]),
        ({"web_search_options": {}}, ["web_search_options"]),
        ({"parallel_tool_calls": False, "tools": [WEATHER]}, ["parallel_tool_calls"]),
        ({"parallel_tool_calls": True, "tools": [WEATHER]}, []),
        ({"stream_options": {"include_usage": True}, "stream": True}, []),
    ],
)
def test_what_is_dropped_is_named_and_not_sent(settings: Any, names: list[str]) -> None:
    assert sorted(dropped(user(**settings))) == sorted(names)
    assert set(sent(user(**settings))) <= {"contents", "tools"}


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        ("gemini-2.5-flash", "minimal", {"thinkingBudget": 1024, "includeThoughts": True}),
        ("gemini-2.5-flash", "low", {"thinkingBudget": 1024, "includeThoughts": True}),
        ("models/gemini-2.5-pro", "medium", {"thinkingBudget": 8192, "includeThoughts": True}),
        ("gemini-2.5-flash-lite", "high", {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-2.5-flash", "xhigh", {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-3-flash-preview", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3-pro-preview", "none", {"thinkingLevel": "LOW"}),
        (
            "gemini-3-flash-preview",
            "minimal",
            {"thinkingLevel": "MINIMAL", "includeThoughts": True},
        ),
        ("gemini-3-pro-preview", "minimal", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("gemini-3.1-pro", "minimal", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("gemini-3.7-flash", "minimal", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("gemini-3.6-flash", "low", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        ("gemini-3.1-pro", "medium", {"thinkingLevel": "MEDIUM", "includeThoughts": True}),
        ("gemini-flash-latest", "max", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        ("gemini-2.0-flash", "high", None),
        ("gemini-1.5-pro-latest", "high", None),
        ("gemini-pro", "high", None),
        ("gemma-3-27b-it", "high", None),
        ("gemini-2.5-flash-image", "high", None),
        ("tunedModels/mine-123", "high", None),
    ],
)
def test_reasoning_effort_becomes_what_the_model_understands(
    model: str, effort: str, thinking: Any
) -> None:
    body = user(reasoning_effort=effort) | {"model": model}
    assert sent(body).get("generationConfig", {}).get("thinkingConfig") == thinking
    assert dropped(body) == ([] if thinking else ["reasoning_effort"])


def test_reasoning_effort_is_dropped_for_v1() -> None:
    assert sent(user(reasoning_effort="low"), headers={"x-version": "v1"}) == {"contents": HELLO}


def test_google_extensions_are_merged_last_and_never_doubled() -> None:
    body = user(
        max_tokens=5,
        temperature=1,
        reasoning_effort="low",
        generation_config={"max_output_tokens": 7, "media_resolution": "LOW"},
        extra_body={
            "google": {
                "thinking_config": {"thinking_level": "HIGH", "include_thoughts": False},
                "safety_settings": [
                    {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}
                ],
            }
        },
        cached_content="cachedContents/x",
    )
    assert sent(body) == {
        "contents": HELLO,
        "generationConfig": {
            "maxOutputTokens": 7,
            "temperature": 1,
            "mediaResolution": "LOW",
            "thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": False},
        },
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "cachedContent": "cachedContents/x",
    }


def test_a_response_schema_of_googles_own_replaces_ours() -> None:
    body = user(
        response_format={"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
        generation_config={"response_schema": {"type": "STRING", "max_length": 3}},
    )
    assert sent(body)["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseSchema": {"type": "STRING", "max_length": 3},
    }


# More digits than a float has, and none that may be lost.
NUMBERS = '{"a":12345678901234567890123,"b":1.10,"c":1e400,"d":-0.0,"e":[1E5]}'


@pytest.mark.parametrize(
    "member",
    [
        '"tools":[{"type":"function","function":{"name":"f","parameters":{"x":%s}}}]',
        '"functions":[{"name":"f","parameters":%s}]',
        '"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":%s}}',
        '"generation_config":{"response_schema":%s}',
        '"generation_config":{"thinking_config":{"some_budget":%s}}',
        '"safety_settings":[%s]',
        '"extra_body":{"google":{"thinking_config":{"x":%s}}}',
    ],
)
def test_numbers_keep_their_digits(member: str) -> None:
    body = '{"messages":[{"role":"user","content":"x"}],' + member % NUMBERS + "}"
    request = PROVIDER.request(make_call(body.encode(), model="gemini-2.5-flash"))
    assert NUMBERS.encode()[1:-1] in request.body  # type: ignore[operator]


def test_a_schema_that_is_no_text_is_refused() -> None:
    body = b'{"messages":[{"role":"user","content":"x"}],"functions":[{"name":"f","parameters":'
    error = refused(body + b'{"title":"\xff"}}]}', model="gemini-2.5-flash")
    assert error.code == "invalid_json"


# Tools


def test_tools_become_one_list_of_declarations() -> None:
    body = user(tools=[WEATHER, NO_PARAMETERS])
    assert sent(body) == {
        "contents": HELLO,
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "weather",
                        "description": "Gets current weather",
                        "parametersJsonSchema": {
                            "type": "object",
                            "properties": {"city": {"type": ["string", "null"]}},
                            "additionalProperties": False,
                        },
                    },
                    {"name": "now"},
                ]
            }
        ],
    }


STRICT = {"type": "function", "function": {"name": "now", "strict": True}}


def _allowed(mode: str, *names: str) -> Any:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


@pytest.mark.parametrize(
    ("tools", "choice", "config"),
    [
        ([WEATHER], None, None),
        ([WEATHER], "auto", None),
        ([WEATHER], "none", {"mode": "NONE"}),
        ([WEATHER], "required", {"mode": "ANY"}),
        (
            [WEATHER],
            {"type": "function", "function": {"name": "weather"}},
            {"mode": "ANY", "allowedFunctionNames": ["weather"]},
        ),
        ([STRICT], None, {"mode": "VALIDATED"}),
        ([STRICT], "none", {"mode": "NONE"}),
        (
            [WEATHER, NO_PARAMETERS],
            _allowed("required", "now"),
            {"mode": "ANY", "allowedFunctionNames": ["now"]},
        ),
        (
            [WEATHER, NO_PARAMETERS],
            _allowed("auto", "now", "weather"),
            {"mode": "VALIDATED", "allowedFunctionNames": ["now", "weather"]},
        ),
        ([], "none", None),
        ([], "auto", None),
    ],
)
def test_tool_choice_becomes_a_mode(tools: Any, choice: Any, config: Any) -> None:
    expected = None if config is None else {"functionCallingConfig": config}
    assert sent(user(tools=tools, tool_choice=choice)).get("toolConfig") == expected


def test_the_older_functions_become_tools() -> None:
    body = user(functions=[{"name": "f", "parameters": {}}], function_call={"name": "f"})
    assert sent(body) == {
        "contents": HELLO,
        "tools": [{"functionDeclarations": [{"name": "f"}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    }


def test_names_gemini_refuses_are_changed_everywhere_and_changed_back() -> None:
    def named(name: str) -> Any:
        return {"type": "function", "function": {"name": name}}

    body = chat(
        {"role": "user", "content": "Hi"},
        assistant(("c1", "do it", "{}")),
        tool("c1", "ok"),
        tools=[named("do_it"), named("do it"), named("do/it"), named("1st"), named("x" * 90)],
        tool_choice={"type": "function", "function": {"name": "do/it"}},
        stream=True,
    )
    out = sent(body)
    names = [one["name"] for one in out["tools"][0]["functionDeclarations"]]
    assert names == ["do_it", "do_it_2", "do_it_3", "_1st", "x" * 60]
    assert out["contents"][1]["parts"][0]["functionCall"]["name"] == "do_it_2"
    assert out["contents"][2]["parts"][0]["functionResponse"]["name"] == "do_it_2"
    config = out["toolConfig"]["functionCallingConfig"]
    assert config["allowedFunctionNames"] == ["do_it_3"]

    assert PROVIDER.decoder is not None
    decoder = PROVIDER.decoder(make_call(body))
    answer = {
        "candidates": [
            {
                "content": {"parts": [{"functionCall": {"name": n}} for n in names]},
                "finishReason": "STOP",
            }
        ]
    }
    events = list(decoder.feed(b"data: " + json.dumps(answer).encode() + b"\r\n\r\n"))
    told = [event.name for event in events[1:]]  # type: ignore[union-attr]
    assert told == ["do_it", "do it", "do/it", "1st", "x" * 90]


# Thought signatures


def with_signature(signature: Any, **more: Any) -> dict[str, Any]:
    message = assistant(("call_1", "f", "{}"), ("call_2", "f", "{}"))
    message["tool_calls"][0]["extra_content"] = signature
    return chat({"role": "user", "content": "Hi"}, message, tool("call_1", "x"), **more)


def signatures_in(out: Any) -> list[Any]:
    return [part.get("thoughtSignature") for part in out["contents"][1]["parts"]]


def test_a_signature_the_client_kept_goes_back() -> None:
    kept = {"google": {"thought_signature": "c2ln"}}
    assert signatures_in(sent(with_signature(kept))) == ["c2ln", None]


@pytest.mark.parametrize("extra", [None, {}, {"google": 1}, {"google": {"thought_signature": 5}}])
def test_gemini_3_gets_the_placeholder_on_the_first_call_only(extra: Any) -> None:
    assert signatures_in(sent(with_signature(extra, model="gemini-3-pro-preview"))) == [
        PLACEHOLDER,
        None,
    ]
    assert signatures_in(sent(with_signature(extra, model="gemini-2.5-pro"))) == [None, None]


def test_a_signature_the_client_lost_is_remembered_by_the_calls_id() -> None:
    from providers.gemini.answer import AnswerDecoder

    signatures = Signatures()
    decoder = AnswerDecoder(model="m", new_id=lambda: "0" * 32, signatures=signatures)
    decoder.feed((RECORDED / "array-tool-call-gemini3.json").read_bytes())
    message = assistant(("call_" + "0" * 24, "multiply", '{"x":5,"y":3}'))
    call = make_call(chat({"role": "user", "content": "5 times 3?"}, message))
    model = Model("gemini-3-flash-preview", "v1beta")
    body, _ = to_generate_content(call.chat, model, {}, signatures)
    recorded = json.loads((RECORDED / "array-tool-call-gemini3.json").read_bytes())
    part = recorded[0]["candidates"][0]["content"]["parts"][0]
    assert signatures_in(json.loads(body)) == [part["thoughtSignature"]]


def test_remembered_signatures_are_bounded_in_number_and_size() -> None:
    signatures = Signatures(max_entries=3, max_chars=100)
    for i in range(5):
        signatures.remember(f"c{i}", "f", "x")
    assert [signatures.recall(f"c{i}", "f") for i in range(5)] == [None, None, "x", "x", "x"]
    signatures.recall("c2", "f")  # used: forgotten last
    signatures.remember("c5", "f", "x")
    assert signatures.recall("c2", "f") == "x"
    assert signatures.recall("c2", "another") is None
    signatures.remember("big", "f", "x" * 99)
    assert len(signatures) == 2
    signatures.remember("huge", "f", "x" * 101)
    assert len(signatures) == 0


# Against what official and other clients were recorded to send


def test_a_recorded_tool_loop_is_said_the_way_the_upstream_accepted_it() -> None:
    recorded = json.loads((RECORDED / "requests.json").read_text())
    body = recorded["array-tool-result-followup.json"]["request_body"]
    call, result = body["contents"][1]["parts"][1], body["contents"][2]["parts"][0]
    message = assistant(("call_" + "0" * 24, "multiply", '{"y":3,"x":5}'))
    message["tool_calls"][0]["extra_content"] = {
        "google": {"thought_signature": call["thoughtSignature"]}
    }
    declared = body["tools"][0]["functionDeclarations"][0]
    out = sent(
        chat(
            {"role": "user", "content": "What is 5 times 3?"},
            message,
            tool("call_" + "0" * 24, '{"output": "15"}'),
            tools=[{"type": "function", "function": declared}],
            model="gemini-3-flash-preview",
            extra_body={"google": {"safety_settings": body["safetySettings"]}},
        )
    )
    assert out == {
        "contents": [
            body["contents"][0],
            {
                "role": "model",
                "parts": [
                    {
                        "functionCall": call["function_call"],
                        "thoughtSignature": call["thoughtSignature"],
                    }
                ],
            },
            {"role": "user", "parts": [{"functionResponse": result["function_response"]}]},
        ],
        "safetySettings": body["safetySettings"],
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "multiply",
                        "description": declared["description"],
                        "parametersJsonSchema": declared["parameters"],
                    }
                ]
            }
        ],
    }


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("sse-text-one-chunk.sse", chat({"role": "user", "content": "Count from 1 to 3"})),
        (
            "safety-blocked.json",
            chat(
                {"role": "system", "content": "You hate the world!"},
                {"role": "user", "content": "Tell me a joke about a Brazilians."},
                safety_settings=[
                    {"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_LOW_AND_ABOVE"}
                ],
            ),
        ),
        (
            "max-tokens-empty.json",
            chat(
                {"role": "system", "content": "You are a helpful chatbot."},
                {"role": "user", "content": "What is the capital of France?"},
                max_tokens=5,
                generation_config={"response_modalities": ["TEXT"]},
            ),
        ),
        (
            "array-thoughts.json",
            chat(
                {"role": "user", "content": "Name for a pet pelican, just the name"},
                thinking_config={"include_thoughts": True},
                safety_settings=[
                    {"category": f"HARM_CATEGORY_{word}", "threshold": "BLOCK_NONE"}
                    for word in (
                        "DANGEROUS_CONTENT",
                        "SEXUALLY_EXPLICIT",
                        "HATE_SPEECH",
                        "HARASSMENT",
                    )
                ],
            ),
        ),
    ],
)
def test_a_recorded_request_can_be_said_in_openais_words(name: str, body: Any) -> None:
    recorded = json.loads((RECORDED / "requests.json").read_text())[name]["request_body"]
    recorded.get("systemInstruction", {}).pop("role", None)  # ignored by the upstream
    if not recorded.get("generationConfig", True):
        del recorded["generationConfig"]
    assert sent(body) == recorded


def test_a_whole_tool_round_through_an_openai_client_keeps_everything() -> None:
    events = decode((RECORDED / "parallel-tool-calls.json").read_bytes(), stream=False)
    calls = [
        {
            "id": event.id,
            "type": "function",
            "function": {"name": event.name, "arguments": event.arguments},
            "extra_content": event.extra_content,
        }
        for event in events
        if type(event).__name__ == "ToolCall"
    ]
    out = sent(
        chat(
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": None, "tool_calls": calls},
            *(tool(call["id"], "ok") for call in calls),
        )
    )
    recorded = json.loads((RECORDED / "parallel-tool-calls.json").read_bytes())
    assert out["contents"][1]["parts"] == recorded["candidates"][0]["content"]["parts"]
