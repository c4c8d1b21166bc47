"""claude.ai: what is asked, step by step, and what its answers and refusals mean."""

import asyncio
import base64
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.config.schema import Claude, Config
from app.pool.outcomes import Outcome, of_error
from app.wire.errors import GatewayError
from app.wire.events import Event, Finish, Reasoning, Session, Started, Text, Unknown
from app.wire.provider import Call, Key
from app.wire.upstream import UpstreamReply
from providers.claude import web
from providers.claude.web_decode import WebDecoder
from providers.claude.web_errors import read_error
from providers.claude.web_schema import Conversation
from tests.providers.web_calls import ScriptedUpstream, call_of, header, reply
from tests.recorded import recorded

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
    assert web.stamp(call) == {
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
    assert web.index(call.envelope) == "a"
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
    assert "index" not in web.stamp(call)["claude"]


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
    assert web.read(json.dumps({"messages": messages}).encode()).prompt == prompt


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
    asked = web.read(json.dumps({"messages": [*history, last]}).encode())
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
        web.read(json.dumps({"messages": [user("x")]} | body).encode())
    assert (bad.value.status, bad.value.param) == (400, param)


def test_json_is_asked_for_in_words() -> None:
    wish = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
    ask = web.read(json.dumps({"messages": [user("x")], "response_format": wish}).encode())
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


# What refusals mean


def exceeded(**more: Any) -> dict[str, Any]:
    inner = {"type": "exceeded_limit", "resetsAt": 1755806400, "remaining": None} | more
    return {"type": "error", "error": {"type": "rate_limit_error", "message": json.dumps(inner)}}


def error(kind: str, message: str, **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message, **more}}


ERRORS: list[tuple[UpstreamReply, int, str | None]] = [
    (reply(b"<title>Just a moment...</title>", 403), 502, "upstream_challenge"),
    (reply(b"", 403, headers={"cf-mitigated": "challenge"}), 502, "upstream_challenge"),
    (reply(b"<html>", 302), 502, "upstream_redirect"),
    (reply(error("invalid_request_error", "bad"), 400), 400, "invalid_request_error"),
    (
        reply(error("invalid_request_error", "This organization has been disabled."), 400),
        403,
        "organization_disabled",
    ),
    (reply(error("authentication_error", "x"), 401), 401, "invalid_api_key"),
    (
        reply(
            error(
                "permission_error",
                "Invalid authorization",
                details={"error_code": "account_session_invalid"},
            ),
            403,
        ),
        401,
        "invalid_api_key",
    ),
    (reply(error("permission_error", "no model"), 403), 403, "permission_error"),
    (reply(error("not_found_error", "x"), 404), 404, "conversation_not_found"),
    (reply(error("x", "x"), 413), 400, "context_length_exceeded"),
    (
        reply(error("invalid_request_error", "prompt is too long: 9"), 400),
        400,
        "context_length_exceeded",
    ),
    (reply(exceeded(), 429), 429, "usage_limit_reached"),
    (reply(exceeded(perModelLimit=False), 429), 429, "usage_limit_reached"),
    (reply(exceeded(perModelLimit=True), 429), 429, "model_limit_reached"),
    (reply(exceeded(representativeClaim="seven_day_opus"), 429), 429, "model_limit_reached"),
    (reply(exceeded(representativeClaim="seven_day"), 429), 429, "usage_limit_reached"),
    (reply(error("rate_limit_error", "slow down"), 429), 429, "rate_limit_exceeded"),
    (reply(b"", 429), 429, "rate_limit_exceeded"),
    (reply(error("overloaded_error", "x"), 529), 503, "overloaded_error"),
    (reply(error("api_error", "x"), 500), 503, "api_error"),
    (reply(b"<html>oops</html>", 500), 502, "upstream_error"),
    (reply([1], 400), 400, None),
]


@pytest.mark.parametrize(("answer", "status", "code"), ERRORS)
def test_each_refusal_is_told_apart(answer: UpstreamReply, status: int, code: str | None) -> None:
    told = read_error(answer)
    assert (told.status, told.code) == (status, code)
    assert told.message


def test_a_models_limit_leaves_the_session_to_other_models() -> None:
    account, model = reply(exceeded(), 429), reply(exceeded(perModelLimit=True), 429)
    assert of_error(read_error(account)) is Outcome.SPENT
    assert of_error(read_error(model)) is Outcome.LIMITED
    assert read_error(model).message == (
        "The Claude account's limit for this model is used up until 2025-08-21 20:00 UTC."
    )


def test_a_used_up_limit_says_until_when() -> None:
    date = {"date": "Thu, 21 Aug 2025 19:00:00 GMT"}  # an hour before resetsAt
    told = read_error(reply(exceeded(representativeClaim="five_hour"), 429, headers=date))
    assert told.retry_after == 3600
    assert told.message == (
        "The Claude account's five-hour limit is used up until 2025-08-21 20:00 UTC."
    )
    assert read_error(reply(b"{}", 429, headers={"retry-after": "7"})).retry_after == 7


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


# What the answers say


def decoder() -> WebDecoder:
    return WebDecoder(Conversation(C1, name="n"), "asked", 1_755_800_000)


def decode(pieces: Iterable[bytes]) -> list[Event]:
    into = decoder()
    events = [event for piece in pieces for event in into.feed(piece)]
    return [*events, *into.finish()]


def frame(data: Any, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def events_of(*frames: dict[str, Any]) -> bytes:
    return b"".join(frame(data, data["type"]) for data in frames)


RAW = (
    b'event: completion\ndata: {"type":"completion","id":"chatcompl_A","completion":" Hello",'
    b'"stop_reason":null,"model":"claude-3-sonnet-20240229","stop":null,"log_id":"x",'
    b'"messageLimit":{"type":"within_limit"}}\n\n'
    b'event: ping\ndata: {"type":"ping"}\n\n'
    b'event: completion\ndata: {"type":"completion","id":"chatcompl_A","completion":" there",'
    b'"stop_reason":null,"model":"claude-3-sonnet-20240229","stop":null,"log_id":"x"}\n\n'
    b'event: completion\ndata: {"type":"completion","id":"chatcompl_A","completion":"",'
    b'"stop_reason":"stop_sequence","model":"claude-3-sonnet-20240229","stop":"\\n\\nHuman:",'
    b'"log_id":"x","messageLimit":{"type":"approaching_limit","remaining":5,'
    b'"resetsAt":1715000000}}\n\n'
)
MESSAGES = (recorded("claude") / "web-completion-messages-2026-08.sse").read_bytes()
OLD = (recorded("claude") / "web-completion-raw-2023.sse").read_bytes()
ZERO = "00000000-0000-0000-0000-000000000000"
CONVERSATION = {
    "uuid": C1,
    "name": "n",
    "summary": "",
    "model": "claude-sonnet-5",
    "created_at": "",
    "updated_at": "",
    "parent_message_uuid": ZERO,
}

STREAMS: dict[str, tuple[bytes, list[Event]]] = {
    "messages": (
        MESSAGES,
        [
            Session({"conversation": CONVERSATION}),
            Started("chatcompl_REDACTED", "claude-sonnet-5"),
            Text("Hi again"),
            Text("! What's up?"),
            Finish("stop"),
        ],
    ),
    "raw 2023": (
        OLD,
        [Started("", "claude-2.0"), Text("Hello"), Text(" world"), Finish("stop")],
    ),
    "raw 2024": (
        RAW,
        [
            Started("chatcompl_A", "claude-3-sonnet-20240229"),
            Text("Hello"),
            Text(" there"),
            Finish("stop"),
        ],
    ),
}
STREAMS |= {
    f"{name} crlf": (data.replace(b"\n", b"\r\n"), events)
    for name, (data, events) in STREAMS.items()
}


@pytest.mark.parametrize("name", STREAMS)
def test_both_formats_say_the_same_under_every_split(name: str) -> None:
    data, events = STREAMS[name]
    assert decode([data]) == events
    assert decode(bytes([byte]) for byte in data) == events
    for at in range(1, len(data)):
        assert decode([data[:at], data[at:]]) == events


START = {"type": "message_start", "message": {"id": "m", "uuid": "u2", "model": ""}}
STOP = {"type": "message_stop"}


def block(kind: str, *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": 0, "content_block": {"type": kind}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
    ]


def test_thinking_is_reasoning_and_the_servers_own_tools_are_nobodys_business() -> None:
    data = events_of(
        START,
        {"type": "conversation_ready"},
        *block(
            "thinking",
            {"type": "thinking_delta", "thinking": "Hm"},
            {"type": "thinking_summary_delta", "summary": {"summary": "thought"}},
        ),
        *block("thinking", {"type": "thinking_summary_delta", "summary": {"summary": "Alone"}}),
        *block(
            "tool_use",
            {"type": "input_json_delta", "partial_json": '{"query":1}'},
            {"type": "tool_use_block_update_delta", "message": "Searching"},
        ),
        *block("tool_result", {"type": "text_delta", "text": "a web page"}),
        *block(
            "text",
            {"type": "text_delta", "text": "So."},
            {"type": "citation_start_delta", "citation": {}},
            {"type": "flag_delta", "flag": "x"},
        ),
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}},
        STOP,
    )
    events = [event for event in decode([data]) if not isinstance(event, Session)]
    assert events == [
        Started("m", "asked"),
        Reasoning("Hm"),
        Reasoning("Alone\n"),
        Text("So."),
        Finish("length"),
    ]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        (None, "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_how_it_ended(reason: str | None, told: str) -> None:
    data = events_of(START, {"type": "message_delta", "delta": {"stop_reason": reason}}, STOP)
    assert [e.reason for e in decode([data]) if isinstance(e, Finish)] == [told]


def test_an_end_after_the_stop_reason_is_an_end() -> None:
    data = events_of(START, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}})
    assert decode([data])[-1] == Finish("stop")


def test_unknown_events_are_counted_and_break_nothing() -> None:
    odd: list[Any] = [{"type": "new_thing"}, {"type": "content_block_delta"}, [1], 7]
    data = b"".join(frame(o) for o in odd) + frame("x") + b"data: {broken\n\n" + MESSAGES
    events = decode([data])
    assert "".join(e.text for e in events if isinstance(e, Text)) == "Hi again! What's up?"
    assert Unknown("new_thing") in events


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 502, "upstream_cut"),
        (events_of(START), 502, "upstream_cut"),
        (OLD[: OLD.index(b"\n\n") + 2], 502, "upstream_cut"),
        (events_of(error("overloaded_error", "Overloaded")), 503, "overloaded_error"),
        (events_of(START, exceeded()), 429, "usage_limit_reached"),
        (
            frame({"error": {"type": "rate_limit_error", "message": "x", "resets_at": 1755800060}}),
            429,
            "rate_limit_exceeded",
        ),
        (json.dumps(error("not_found_error", "x")).encode(), 404, "conversation_not_found"),
        (b"<title>Just a moment...</title>", 502, "upstream_challenge"),
        (b"<html>hello</html>", 502, "upstream_bad_response"),
    ],
)
def test_what_is_no_whole_answer_is_an_error(data: bytes, status: int, code: str) -> None:
    with pytest.raises(GatewayError) as bad:
        decode([data])
    assert (bad.value.status, bad.value.code) == (status, code)
    if b"resets_at" in data:
        assert bad.value.retry_after == 60


def test_what_stands_before_an_error_in_the_same_read_is_told() -> None:
    begun = MESSAGES[: MESSAGES.index(b"event: content_block_stop")]
    events = []
    with pytest.raises(GatewayError):
        for made in decoder().feed(begun + events_of(error("overloaded_error", "x"))):
            events.append(made)
    assert "".join(e.text for e in events if isinstance(e, Text)).startswith("Hi again")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_rubbish_is_refused_or_ignored_but_never_a_crash(junk: bytes) -> None:
    for data in (junk, b"data: " + junk + b"\n\n" + MESSAGES, MESSAGES[:700] + junk):
        try:
            decode([data[:50], data[50:]])
            read_error(reply(junk, 400))
        except GatewayError:
            continue


MEMBERS = ["type", "delta", "message", "content_block", "error", "completion", "stop_reason"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["text_delta", "message_start"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=5)
    ),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(JSON, max_size=5))
def test_json_of_any_shape_is_refused_or_ignored_but_never_a_crash(objects: list[Any]) -> None:
    try:
        decode([*(frame(o) for o in objects), MESSAGES])
    except GatewayError:
        return
