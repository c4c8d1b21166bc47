"""claude.ai: what is asked, step by step, and what its answers and refusals mean."""

import asyncio
import base64
import json
from typing import Any

import pytest

from app.config.schema import Claude, Config
from app.wire.errors import GatewayError
from app.wire.provider import Call, Key
from app.wire.upstream import UpstreamReply
from providers.claude import web
from tests.calls import asked_of, read_by
from tests.providers.claude.web_refusals import error
from tests.providers.web_calls import ScriptedUpstream, call_of, header, reply

C1 = "0c1f9a52-8e4a-4a53-9f3e-5b6f0d1c2a11"
ORG = "6d2f1c7e-0000-4000-8000-00000000abcd"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x02\x00\x00\x00\x03\x08\x02\x00\x00\x00rest"
PNG_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()
ORGANIZATIONS = [
    {"uuid": "api-org", "capabilities": ["api", "api_individual", "x"]},
    {"uuid": ORG, "capabilities": ["chat", "claude_pro"], "name": "n"},
    {"uuid": "other", "capabilities": ["chat"]},
]
CHATS = f"/api/organizations/{ORG}/chat_conversations"


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


SOUND = {"data": "eA==", "format": "wav"}


def file_part(name: str, data: bytes, kind: str) -> dict[str, Any]:
    url = f"data:{kind};base64," + base64.b64encode(data).decode()
    return {"type": "file", "file": {"filename": name, "file_data": url}}


def prepared(call: Call, upstream: ScriptedUpstream) -> Call:
    assert web.PROVIDER.prepare is not None
    return asyncio.run(web.PROVIDER.prepare(call, upstream))  # type: ignore[arg-type]


def made(**more: Any) -> UpstreamReply:
    created = {"uuid": C1, "name": "", "summary": "", "model": None, "created_at": "then"}
    return reply(created | more, 201)


# What is asked


def test_a_new_conversation_asks_for_the_organization_makes_a_conversation_and_then_asks() -> None:
    upstream = ScriptedUpstream(
        {
            "GET /api/organizations": reply(ORGANIZATIONS, set_cookies=("__cf_bm=abc; Path=/",)),
            f"POST {CHATS}": made(),
        }
    )
    body = {"model": "claude-sonnet-5", "messages": [user("Hello")], "max_tokens": 5}
    call = prepared(call_of(web.PROVIDER, body), upstream)
    organizations, create = upstream.asked
    assert organizations.via == create.via == "browser"
    assert header(organizations, "cookie") == "sessionKey=s3cret"
    assert (
        header(create, "cookie") == "__cf_bm=abc; sessionKey=s3cret"
        or header(create, "cookie") == "sessionKey=s3cret; __cf_bm=abc"
    )
    assert header(create, "authorization") is None
    assert isinstance(create.body, bytes)
    assert json.loads(create.body) == {
        "uuid": "00000000-0000-0000-0000-000000000001",
        "name": "",
        "model": "claude-sonnet-5",
        "include_conversation_preferences": True,
        "is_temporary": False,
    }
    request = web.request(call)
    assert request.url == f"https://claude.ai{CHATS}/{C1}/completion"
    assert header(request, "referer") == f"https://claude.ai/chat/{C1}"
    assert header(request, "accept") == "text/event-stream"
    assert isinstance(request.body, bytes)
    assert json.loads(request.body) == {
        "prompt": "Hello",
        "timezone": "UTC",
        "model": "claude-sonnet-5",
        "parent_message_uuid": web.FIRST_MESSAGE,
        "attachments": [],
        "files": [],
        "sync_sources": [],
        "rendering_mode": "messages",
    }
    assert call.dropped == ["max_tokens"]
    assert [key.fields["organization_id"] for key in upstream.renewed] == [ORG]
    assert web.session(call) == {
        "claude": {
            "type": "web",
            "index": "10001",
            "conversation": {
                "uuid": C1,
                "name": "",
                "summary": "",
                "model": "claude-sonnet-5",
                "created_at": "then",
                "updated_at": "",
            },
        }
    }


def test_a_known_organization_and_a_given_conversation_are_not_asked_for() -> None:
    key = Key(web.POOL, "a", "s", {"organization_id": ORG})
    state = {"uuid": C1, "model": "claude-sonnet-5", "parent_message_uuid": "p1"}
    body = {
        "claude": {"type": "web", "index": "a", "conversation": state},
        "messages": [
            {"role": "system", "content": "be brief"},
            user("1"),
            {"role": "assistant", "content": "one"},
            user("2"),
        ],
    }
    upstream = ScriptedUpstream({})
    call = prepared(call_of(web.PROVIDER, body, key), upstream)
    request = web.request(call)
    assert not upstream.asked
    assert isinstance(request.body, bytes)
    sent = json.loads(request.body)
    assert (sent["prompt"], sent["parent_message_uuid"]) == ("2", "p1")
    assert web.index(call.asked) == "a"
    # of what the answer hands out, the caller may have kept only the uuid
    body["claude"] = {"type": "web", "conversation": {"uuid": C1}}  # type: ignore[assignment]
    request = web.request(prepared(call_of(web.PROVIDER, body, key), upstream))
    assert isinstance(request.body, bytes)
    assert "parent_message_uuid" not in json.loads(request.body)


def test_the_callers_own_session_is_not_remembered() -> None:
    upstream = ScriptedUpstream(
        {
            "GET /api/organizations": reply(
                ORGANIZATIONS, set_cookies=("sessionKey=rotated; Path=/",)
            ),
            f"POST {CHATS}": made(),
        }
    )
    call = call_of(web.PROVIDER, {"messages": [user("x")]}, Key(web.POOL, "", "own"))
    call = prepared(call, upstream)
    assert not upstream.renewed
    assert header(web.request(call), "cookie") == "sessionKey=rotated"
    assert "index" not in web.session(call)["claude"]


def test_a_rotated_session_is_used_at_once_and_told_to_all() -> None:
    upstream = ScriptedUpstream(
        {
            "GET /api/organizations": reply(ORGANIZATIONS),
            f"POST {CHATS}": reply(
                {"uuid": C1}, 201, ("sessionKey=sk-2; Path=/; Max-Age=99; HttpOnly",)
            ),
        }
    )
    call = prepared(call_of(web.PROVIDER, {"messages": [user("x")]}), upstream)
    assert call.key.val == "sk-2"
    assert (upstream.renewed[-1].id, upstream.renewed[-1].val) == ("10001", "sk-2")
    assert header(web.request(call), "cookie") == "sessionKey=sk-2"


@pytest.mark.parametrize(
    "line", ["sessionKey=; Max-Age=0", "sessionKey=s3cret", "other=1", "sessionKey=x; Max-Age=0"]
)
def test_a_session_that_did_not_change_is_not_renewed(line: str) -> None:
    assert web.renewed(Key(web.POOL, "a", "s3cret"), [line], 0) is None


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([user("a")], "a"),
        ([user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])], "a\n\nb"),
        ([{"role": "system", "content": "S"}, user("a")], "S\n\na"),
        (
            [
                {"role": "developer", "content": "S"},
                user("a"),
                {"role": "assistant", "content": "b"},
                user("c"),
            ],
            "S\n\nHuman: a\n\nAssistant: b\n\nHuman: c",
        ),
        (
            [
                user("w?"),
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "1", "content": "sun"},
                user("so?"),
            ],
            "Human: w?\n\nAssistant: [called f({})]\n\nTool: sun\n\nHuman: so?",
        ),
    ],
)
def test_a_new_conversation_is_sent_the_whole_history(messages: Any, prompt: str) -> None:
    assert read_by(web.PROVIDER, asked_of({"messages": messages})).prompt == prompt


def test_a_long_history_goes_as_an_attached_text() -> None:
    messages = [user("x" * 40_000), {"role": "assistant", "content": "y"}, user("é?")]
    key = Key(web.POOL, "a", "s", {"organization_id": ORG})
    upstream = ScriptedUpstream({f"POST {CHATS}": made()})
    call = prepared(call_of(web.PROVIDER, {"messages": messages}, key), upstream)
    request = web.request(call)
    assert isinstance(request.body, bytes)
    sent = json.loads(request.body)
    assert sent["prompt"] == "é?"
    (attached,) = sent["attachments"]
    assert attached["extracted_content"] == f"Human: {'x' * 40_000}\n\nAssistant: y"
    assert attached["file_size"] == len(attached["extracted_content"].encode())


def test_pictures_are_uploaded_and_thinking_is_switched_on() -> None:
    key = Key(web.POOL, "a", "s", {"organization_id": ORG})
    picture = {"type": "image_url", "image_url": {"url": PNG_URL}}
    body = {
        "messages": [user([picture, {"type": "text", "text": "what?"}])],
        "reasoning_effort": "high",
    }
    upstream = ScriptedUpstream(
        {
            f"POST {CHATS}": made(),
            f"PUT {CHATS}/{C1}": reply({"error": {"type": "permission_error"}}, 403),
            f"POST /api/{ORG}/upload": reply({"file_uuid": "f1"}),
        }
    )
    call = prepared(call_of(web.PROVIDER, body, key), upstream)
    _, settings_, upload = upstream.asked
    assert isinstance(settings_.body, bytes) and isinstance(upload.body, bytes)
    assert json.loads(settings_.body) == {"settings": {"paprika_mode": "extended"}}
    assert PNG in upload.body and b'filename="image-1.png"' in upload.body
    kind = header(upload, "content-type") or ""
    assert kind.partition("boundary=")[2].encode() in upload.body
    request = web.request(call)
    assert isinstance(request.body, bytes)
    assert json.loads(request.body)["files"] == ["f1"]


def test_a_pdf_is_uploaded_and_a_text_goes_along_as_pasted() -> None:
    key = Key(web.POOL, "a", "s", {"organization_id": ORG})
    parts = [
        file_part('a"\r\nb.pdf', b"%PDF-1.4 bytes", "application/pdf"),
        file_part("notes.md", "# Überschrift".encode(), "text/markdown"),
        {"type": "text", "text": "what?"},
    ]
    upstream = ScriptedUpstream(
        {f"POST {CHATS}": made(), f"POST /api/{ORG}/upload": reply({"file_uuid": "f1"})}
    )
    call = prepared(call_of(web.PROVIDER, {"messages": [user(parts)]}, key), upstream)
    upload = upstream.asked[-1]
    assert isinstance(upload.body, bytes)
    assert b"\r\n\r\n%PDF-1.4 bytes\r\n--" in upload.body
    assert b'filename="a___b.pdf"\r\nContent-Type: application/pdf\r\n' in upload.body
    request = web.request(call)
    assert isinstance(request.body, bytes)
    sent = json.loads(request.body)
    assert (sent["prompt"], sent["files"]) == ("what?", ["f1"])
    (pasted,) = sent["attachments"]
    assert pasted == {
        "file_name": "notes.md",
        "file_type": "md",
        "file_size": 14,
        "extracted_content": "# Überschrift",
    }


def test_a_text_file_stands_beside_a_long_history() -> None:
    history = [user("x" * 40_000), {"role": "assistant", "content": "y"}]
    last = user([file_part("n.txt", b"note", "text/plain"), {"type": "text", "text": "z"}])
    asked = read_by(web.PROVIDER, asked_of({"messages": [*history, last]}))
    assert asked.prompt == "z" and asked.pasted
    assert [each["file_name"] for each in asked.enclosed.texts] == ["n.txt"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"n": 2}, "n"),
        ({"claude": {"conversation": {"uuid": "../x"}}}, "claude.conversation.uuid"),
        ({"claude": {"conversation": {"uuid": 7}}}, "claude.conversation.uuid"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        (
            {"claude": {"conversation": {"uuid": C1}},
             "messages": [user("x"), {"role": "assistant", "content": "y"}]},
            "messages",
        ),
        (
            {"messages": [user([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}])]},
            "messages[0].content[0].image_url",
        ),
        (
            {"messages": [user([{"type": "image_url", "image_url": "data:x;base64,AAAA"}])]},
            "messages[0].content[0].image_url",
        ),
        (
            {"messages": [user([{"type": "file", "file": {}}])]},
            "messages[0].content[0].file.file_data",
        ),
        (
            {"messages": [user([{"type": "file", "file": {"file_id": "file-1"}}])]},
            "messages[0].content[0].file.file_data",
        ),
        (
            {"messages": [user([file_part("a.zip", b"PK\3\4", "application/zip")])]},
            "messages[0].content[0].file.file_data",
        ),
        (
            {"messages": [user([{"type": "input_audio", "input_audio": SOUND}])]},
            "messages[0].content[0]",
        ),
    ],
)  # fmt: skip
def test_what_the_site_cannot_be_asked_is_a_400_that_names_it(
    body: dict[str, Any], param: str
) -> None:
    with pytest.raises(GatewayError) as bad:
        read_by(web.PROVIDER, asked_of({"messages": [user("x")]} | body))
    assert (bad.value.status, bad.value.param) == (400, param)


def test_json_is_asked_for_in_words() -> None:
    wish = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
    ask = read_by(web.PROVIDER, asked_of({"messages": [user("x")], "response_format": wish}))
    assert ask.prompt.endswith('{"type":"object"}')


def test_the_proxy_is_the_providers_own_first() -> None:
    key = Key(web.POOL, "a", "s", {"organization_id": ORG})
    for config, proxy in (
        (Config(proxy_url="http://all:1"), "http://all:1"),
        (Config(proxy_url="http://all:1", claude=Claude(proxy_url="http://own:1")), "http://own:1"),
        (Config(), None),
    ):
        upstream = ScriptedUpstream({f"POST {CHATS}": made()})
        call = prepared(call_of(web.PROVIDER, {"messages": [user("x")]}, key, config), upstream)
        assert upstream.asked[0].proxy == proxy
        assert web.request(call).proxy == proxy


def test_a_refused_step_is_told_and_nothing_goes_on() -> None:
    upstream = ScriptedUpstream(
        {"GET /api/organizations": reply([{"uuid": "x", "capabilities": ["api"]}])}
    )
    with pytest.raises(GatewayError) as refused:
        prepared(call_of(web.PROVIDER, {"messages": [user("x")]}), upstream)
    assert refused.value.code == "no_chat_organization"
    key = Key(web.POOL, "a", "s", {"organization_id": ORG})
    for answer, code in (
        (reply(error("not_found_error", "x"), 404), "conversation_not_found"),
        (reply(b"<html>", 200), "upstream_bad_response"),
        (reply({"uuid": ""}, 201), "upstream_bad_response"),
    ):
        upstream = ScriptedUpstream({f"POST {CHATS}": answer})
        with pytest.raises(GatewayError) as refused:
            prepared(call_of(web.PROVIDER, {"messages": [user("x")]}, key), upstream)
        assert refused.value.code == code
