"""ChatGPT web: what is asked before the question, the question itself, and every refusal."""

import asyncio
import base64
import json
from typing import Any

import pytest

from app.config.schema import Config, OpenAI
from app.wire.asked import Asked
from app.wire.errors import GatewayError
from app.wire.provider import Call, Key
from app.wire.upstream import UpstreamReply
from providers.openai import sentinel, web, web_prepare, web_session
from tests.calls import asked_of, read_by
from tests.providers.openai.web_framings import A1, A2, C1
from tests.providers.web_calls import NOW, ScriptedUpstream, call_of, header, reply
from tests.wire.test_cookies import jwt

REQUIREMENTS = "POST /backend-api/sentinel/chat-requirements"
ANONYMOUS = "POST /backend-anon/sentinel/chat-requirements"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x02\x00\x00\x00\x03\x08\x02\x00\x00\x00rest"
PNG_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def session(**fields: str) -> Key:
    return Key(web.POOL, "10001", jwt({"exp": NOW + 100_000}), fields)


def prepared(call: Call, upstream: ScriptedUpstream) -> Call:
    return asyncio.run(web_prepare.prepare(call, upstream))


def asked(
    body: dict[str, Any],
    requirements: dict[str, Any] | None = None,
    key: Key | None = None,
    native: bool | None = None,
    **answers: UpstreamReply,
) -> tuple[dict[str, Any], Call, ScriptedUpstream]:
    """Prepares and builds the question; its JSON body."""
    key = key if key is not None else session()
    path = REQUIREMENTS if key.val else ANONYMOUS
    upstream = ScriptedUpstream({path: reply({"token": "t1"} | (requirements or {})), **answers})
    call = prepared(call_of(web.PROVIDER, body, key, native=native), upstream)
    request = web.request(call)
    assert isinstance(request.body, bytes)
    return json.loads(request.body), call, upstream


# What comes before


def test_the_guard_is_asked_with_a_proof_and_its_token_goes_with_the_question() -> None:
    guard = reply({"token": "t1"}, set_cookies=("__cf_bm=abc; Path=/", "oai-sc=d; Secure"))
    upstream = ScriptedUpstream({REQUIREMENTS: guard})
    key = session()
    given = {"model": "gpt-4o", "messages": [user("hi")]}
    call = prepared(call_of(web.PROVIDER, given, key), upstream)
    (first,) = upstream.asked
    assert isinstance(first.body, bytes)
    assert json.loads(first.body)["p"].startswith("gAAAAAC")
    request = web.request(call)
    assert (request.method, request.via) == ("POST", "browser")
    assert request.url == "https://chatgpt.com/backend-api/conversation"
    assert header(request, "openai-sentinel-chat-requirements-token") == "t1"
    assert header(request, "openai-sentinel-proof-token") is None
    assert header(request, "openai-sentinel-arkose-token") is None
    assert header(request, "accept") == "text/event-stream"
    for each in (first, request):
        assert header(each, "authorization") == f"Bearer {key.val}"
        assert header(each, "origin") == "https://chatgpt.com"
        assert header(each, "user-agent") == web_session.USER_AGENT
    device = header(request, "oai-device-id")
    assert device == header(first, "oai-device-id")
    assert header(first, "cookie") == f"oai-did={device}"
    assert set((header(request, "cookie") or "").split("; ")) == {
        f"oai-did={device}",
        "__cf_bm=abc",
        "oai-sc=d",
    }


def test_a_device_belongs_to_a_session_and_not_to_a_call() -> None:
    _, one, _ = asked({"messages": [user("x")]})
    _, two, _ = asked({"messages": [user("y")]})
    other = Key(web.POOL, "10002", one.key.val)
    _, three, _ = asked({"messages": [user("x")]}, key=other)
    assert one.learned.device_id == two.learned.device_id != three.learned.device_id


def test_without_an_account_the_device_is_handed_out_and_taken_back() -> None:
    nobody = Key(web.POOL, "", "")
    _, call, upstream = asked({"messages": [user("x")]}, key=nobody)
    assert upstream.asked[0].url.endswith("/backend-anon/sentinel/chat-requirements")
    assert header(upstream.asked[0], "authorization") is None
    device = web.session(call)["openai"]["device_id"]
    assert device == call.learned.device_id == header(web.request(call), "oai-device-id")
    again = {"conversation": {"conversation_id": C1, "last_message_id": A2, "device_id": device}}
    _, call, _ = asked({"messages": [user("x")], "openai": again}, key=nobody)
    assert header(web.request(call), "oai-device-id") == device
    assert web.session(call)["openai"]["device_id"] == device


@pytest.mark.parametrize("kind", ["sha3", "fnv"])
def test_a_proof_of_work_is_done_off_the_loop_and_verifies(kind: str) -> None:
    config = Config(openai=OpenAI(pow=kind))  # type: ignore[arg-type]
    work = {"required": True, "seed": "0.42665582693491433", "difficulty": "00ffff"}
    upstream = ScriptedUpstream({REQUIREMENTS: reply({"token": "t", "proofofwork": work})})
    call = call_of(web.PROVIDER, {"messages": [user("x")]}, session(), config)
    proof = header(web.request(prepared(call, upstream)), "openai-sentinel-proof-token")
    assert proof is not None and proof.startswith("gAAAAAB")
    assert proof.endswith("~S") is (kind == "fnv")
    array = sentinel.array_of(proof)
    assert array is not None and array[4] == web_session.USER_AGENT
    puzzle = sentinel.Puzzle(kind, work["seed"], work["difficulty"], array)  # type: ignore[arg-type]
    assert sentinel.search(puzzle, array[3], 1) == proof.removeprefix("gAAAAAB")
    assert upstream.offloaded <= 1


@pytest.mark.parametrize("ending", [None, TimeoutError()])
def test_a_proof_that_is_not_found_in_time_is_told_and_no_token_is_made_up(ending: Any) -> None:
    class Slow(ScriptedUpstream):
        async def offload(self, function: Any, *args: Any) -> Any:
            if ending is not None:
                raise ending

    work = {"required": True, "seed": "0.1", "difficulty": "000032"}
    upstream = Slow({REQUIREMENTS: reply({"token": "t", "proofofwork": work})})
    with pytest.raises(GatewayError) as refused:
        prepared(call_of(web.PROVIDER, {"messages": [user("x")]}, session()), upstream)
    assert (refused.value.status, refused.value.code) == (503, "proof_of_work_failed")
    assert len(upstream.asked) == 1  # the question was not asked


def test_the_har_describes_its_own_browser_in_the_proof() -> None:
    own = (1111, "old date", 7, 5, "har agent", "x.js", "build", "de", "de,en", 1, "nav", "d", "w")
    token = "gAAAAAB" + base64.b64encode(json.dumps(own).encode()).decode()
    key = session(proof=token, user_agent="har agent", device_id="d-1", account_id="acc")
    work = {"required": True, "seed": "0.1", "difficulty": "ffffff"}
    _, call, upstream = asked({"messages": [user("x")]}, {"proofofwork": work}, key)
    request = web.request(call)
    proof = sentinel.array_of(header(request, "openai-sentinel-proof-token") or "")
    assert proof is not None
    assert (proof[0], proof[4], proof[6]) == (1111, "har agent", "build")
    assert proof[1] != "old date"
    for each in (*upstream.asked, request):
        assert header(each, "user-agent") == "har agent"
        assert header(each, "oai-device-id") == "d-1"
        assert header(each, "chatgpt-account-id") == "acc"


@pytest.mark.parametrize(
    ("requirements", "status", "code", "param"),
    [
        ({"arkose": {"required": True}}, 403, "arkose_token_required", "openai.arkose_token"),
        ({"persona": "chatgpt-noauth"}, 401, "token_not_accepted", None),
        ({"proofofwork": {"required": True}}, 503, "proof_of_work_failed", None),
        (
            {"proofofwork": {"required": True, "seed": "1", "difficulty": "00000001"}},
            503,
            "proof_of_work_failed",
            None,
        ),
        (
            {"proofofwork": {"required": True, "seed": "1", "difficulty": "zz"}},
            503,
            "proof_of_work_failed",
            None,
        ),
        ({"token": ""}, 502, "upstream_bad_response", None),
    ],
)
def test_what_the_guard_wants_and_cannot_be_given_is_told_before_the_question(
    requirements: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    with pytest.raises(GatewayError) as refused:
        asked({"messages": [user("x")]}, requirements)
    assert (refused.value.status, refused.value.code, refused.value.param) == (status, code, param)


def test_a_refused_stranger_is_told_to_sign_in() -> None:
    with pytest.raises(GatewayError) as refused:
        asked({"messages": [user("x")]}, {"force_login": True}, Key(web.POOL, "", ""))
    assert (refused.value.status, refused.value.code) == (403, "login_required")
    asked({"messages": [user("x")]}, {"force_login": True})  # means nothing to who is signed in


def test_an_arkose_token_is_the_callers_or_a_fresh_one_of_the_har_once() -> None:
    wants = {"arkose": {"required": True}, "turnstile": {"required": True}}
    body = {"messages": [user("x")], "openai": {"arkose_token": "theirs"}}
    _, call, _ = asked(body, wants)
    assert header(web.request(call), "openai-sentinel-arkose-token") == "theirs"
    key = session(arkose_token="har", arkose_at=str(NOW - 60), device_id="d")
    _, call, upstream = asked({"messages": [user("x")]}, wants, key)
    assert header(web.request(call), "openai-sentinel-arkose-token") == "har"
    assert "arkose_token" not in upstream.renewed[-1].fields
    assert upstream.renewed[-1].fields["device_id"] == "d"
    old = session(arkose_token="har", arkose_at=str(NOW - 6000))
    with pytest.raises(GatewayError):
        asked({"messages": [user("x")]}, wants, old)


def test_the_guard_is_asked_once_more_after_a_403_but_not_after_a_challenge() -> None:
    no = reply({"detail": "Unusual activity"}, 403)
    upstream = ScriptedUpstream({REQUIREMENTS: [no, reply({"token": "t"})]})
    prepared(call_of(web.PROVIDER, {"messages": [user("x")]}, session()), upstream)
    assert len(upstream.asked) == 2
    page = reply(b"<title>Just a moment...</title>", 403)
    upstream = ScriptedUpstream({REQUIREMENTS: [page]})
    with pytest.raises(GatewayError) as refused:
        prepared(call_of(web.PROVIDER, {"messages": [user("x")]}, session()), upstream)
    assert refused.value.code == "cloudflare_challenge"


def test_a_token_at_its_end_is_renewed_by_the_sessions_cookie() -> None:
    cookies = "__Secure-next-auth.session-token.0=ab; __Secure-next-auth.session-token.1=cd"
    ending = Key(web.POOL, "h", jwt({"exp": NOW + 60}), {"cookies": cookies, "device_id": "d"})
    fresh = jwt({"exp": NOW + 900_000})
    upstream = ScriptedUpstream(
        {
            "GET /api/auth/session": reply(
                {"accessToken": fresh},
                set_cookies=("__Secure-next-auth.session-token.0=ef; Path=/; HttpOnly",),
            ),
            REQUIREMENTS: reply({"token": "t"}),
        }
    )
    call = prepared(call_of(web.PROVIDER, {"messages": [user("x")]}, ending), upstream)
    assert header(upstream.asked[0], "authorization") is None
    assert cookies in (header(upstream.asked[0], "cookie") or "")
    assert header(web.request(call), "authorization") == f"Bearer {fresh}"
    (renewed,) = upstream.renewed
    assert renewed.val == fresh
    assert "session-token.0=ef" in renewed.fields["cookies"]
    assert "session-token.1=cd" in renewed.fields["cookies"]


@pytest.mark.parametrize("told", [{}, {"accessToken": ""}, {"WARNING_BANNER": "x"}])
def test_a_token_that_has_ended_and_cannot_be_renewed_is_401_here(told: dict[str, Any]) -> None:
    ended = jwt({"exp": NOW - 1})
    cookies = {"cookies": "__Secure-next-auth.session-token=x"}
    for key in (Key(web.POOL, "a", ended), Key(web.POOL, "a", ended, cookies)):
        upstream = ScriptedUpstream({"GET /api/auth/session": reply(told)})
        with pytest.raises(GatewayError) as refused:
            prepared(call_of(web.PROVIDER, {"messages": [user("x")]}, key), upstream)
        assert (refused.value.status, refused.value.code) == (401, "token_expired")


# The question


def test_the_question_is_the_sites_own_body() -> None:
    body, call, _ = asked({"model": "gpt-4o", "messages": [user("hi")], "temperature": 1})
    message = body["messages"][0]
    assert message == {
        "id": message["id"],
        "author": {"role": "user"},
        "content": {"content_type": "text", "parts": ["hi"]},
        "metadata": {},
    }
    assert (body["action"], body["model"], body["force_use_sse"]) == ("next", "gpt-4o", True)
    assert body["suggestions"] == []
    assert "conversation_id" not in body
    assert body["parent_message_id"]
    assert call.dropped == ["temperature"]
    assert asked({"messages": [user("hi")]})[0]["model"] == "auto"


@pytest.mark.parametrize(
    ("state", "parent"),
    [
        ({"conversation_id": C1, "last_message_id": A2, "parent_message_id": A1}, A2),
        ({"conversation_id": C1, "parent_message_id": A1}, A1),
        ({"conversation_id": C1}, "current"),
        ({"parent_message_id": A1, "last_message_id": A2}, None),  # means nothing without a conv.
    ],
)
def test_a_conversation_goes_on_from_the_right_message(
    state: dict[str, str], parent: str | None
) -> None:
    node = {f"GET /backend-api/conversation/{C1}": reply({"current_node": "current"})}
    for member in ({"conversation": state}, state):
        messages = [user("1"), {"role": "assistant", "content": "one"}, user("2")]
        given = {"messages": messages, "openai": member}
        key = session()
        upstream = ScriptedUpstream({REQUIREMENTS: reply({"token": "t"}), **node})
        call = prepared(call_of(web.PROVIDER, given, key), upstream)
        request = web.request(call)
        assert isinstance(request.body, bytes)
        body = json.loads(request.body)
        if parent is None:
            assert "conversation_id" not in body
            assert body["parent_message_id"] not in (A1, A2)
        else:
            assert (body["conversation_id"], body["parent_message_id"]) == (C1, parent)
            assert body["messages"][0]["content"]["parts"] == ["2"]


def test_the_message_id_and_the_index_are_the_callers_choice() -> None:
    body, call, _ = asked({"messages": [user("x")], "openai": {"message_id": "m-1"}})
    assert body["messages"][0]["id"] == "m-1"
    for member in ({"index": "7"}, {"conversation": {"index": "7"}}):
        call = call_of(web.PROVIDER, {"messages": [user("x")], "openai": member})
        assert web.index(call.asked) == "7"


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([user("a")], "a"),
        ([user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])], "a\nb"),
        ([{"role": "system", "content": "S"}, user("a")], "S\n\na"),
        (
            [
                {"role": "system", "content": "S"},
                user("a"),
                {"role": "assistant", "content": "b"},
                user("c"),
            ],
            "S\n\nUser: a\n\nAssistant: b\n\nUser: c",
        ),
    ],
)
def test_a_new_conversation_is_sent_the_whole_history(messages: Any, prompt: str) -> None:
    body, _, _ = asked({"messages": messages})
    assert body["messages"][0]["content"]["parts"] == [prompt]
    assert len(body["messages"]) == 1


def test_pictures_are_uploaded_to_the_account_first() -> None:
    picture = {"type": "image_url", "image_url": {"url": PNG_URL}}
    upstream = ScriptedUpstream(
        {
            "POST /backend-api/files": reply(
                {"file_id": "file-X1", "upload_url": "https://store.example/up?sig=1"}
            ),
            "PUT /up?sig=1": reply(b"", 201),
            "POST /backend-api/files/file-X1/uploaded": reply({"status": "success"}),
            REQUIREMENTS: reply({"token": "t"}),
        }
    )
    given = {"messages": [user([picture, {"type": "text", "text": "what?"}])]}
    call = prepared(call_of(web.PROVIDER, given, session()), upstream)
    place, put, _, _ = upstream.asked
    assert isinstance(place.body, bytes)
    assert json.loads(place.body)["file_size"] == len(PNG)
    assert (put.method, put.body) == ("PUT", PNG)
    assert header(put, "authorization") is None and header(put, "cookie") is None
    assert header(put, "x-ms-blob-type") == "BlockBlob"
    request = web.request(call)
    assert isinstance(request.body, bytes)
    (message,) = json.loads(request.body)["messages"]
    assert message["content"]["content_type"] == "multimodal_text"
    pointer, text = message["content"]["parts"]
    assert text == "what?"
    assert pointer["asset_pointer"] == "file-service://file-X1"
    assert (pointer["width"], pointer["height"], pointer["size_bytes"]) == (2, 3, len(PNG))
    assert message["metadata"]["attachments"][0]["mime_type"] == "image/png"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": []}, "messages"),
        ({"openai": {"conversation": {"conversation_id": C1}}, "messages": [
            user("x"), {"role": "assistant", "content": "y"}]}, "messages"),
        ({"openai": {"conversation": 7}}, "openai.conversation"),
        ({"messages": [user([{"type": "image_url", "image_url": "https://x/y"}])]},
         "messages[0].content[0].image_url"),
        ({"messages": [user([{"type": "input_audio"}])]}, "messages[0].content[0]"),
    ],
)  # fmt: skip
def test_what_the_site_cannot_be_asked_is_a_400_that_names_it(
    body: dict[str, Any], param: str
) -> None:
    with pytest.raises(GatewayError) as bad:
        read_by(web.PROVIDER, asked_of({"messages": [user("x")]} | body))
    assert (bad.value.status, bad.value.param) == (400, param)


# The site's own body, handed in as it is


NATIVE: dict[str, Any] = {
    "action": "next",
    "messages": [
        {
            "id": "m1",
            "author": {"role": "user"},
            "content": {"content_type": "text", "parts": ["hi"]},
            "metadata": {"mine": 1},
            "create_time": 1.5,
        }
    ],
    "parent_message_id": "p1",
    "model": "gpt-4o",
    "history_and_training_disabled": True,
    "brand_new_member": {"x": [1]},
}


def test_a_native_body_keeps_all_it_has_and_is_given_what_it_lacks() -> None:
    given = NATIVE | {"conversation_id": None, "stream": True}
    body, call, _ = asked(given, native=True)
    for name, value in NATIVE.items():
        assert body[name] == value
    assert body["conversation_mode"] == {"kind": "primary_assistant"}
    assert body["suggestions"] == []
    assert "conversation_id" not in body and "stream" not in body
    assert call.learned.message_id == "m1"
    wants = {"arkose": {"required": True}}
    _, call, _ = asked(NATIVE | {"arkose_token": "a"}, wants, native=True)
    assert header(web.request(call), "openai-sentinel-arkose-token") == "a"


@pytest.mark.parametrize("missing", ["messages", "parent_message_id", "model"])
def test_a_native_body_without_what_it_must_have_is_a_400(missing: str) -> None:
    body = {name: value for name, value in NATIVE.items() if name != missing}
    with pytest.raises(GatewayError) as bad:
        web.read_native(asked_of(body))
    assert bad.value.status == 400 and missing in bad.value.message
    for broken in (b"", b"[]", b"{", json.dumps(NATIVE | {"messages": [{"id": "x"}]}).encode()):
        with pytest.raises(GatewayError):
            web.read_native(Asked(body=broken))


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({"host": "gw.example:8999"}, "http://gw.example:8999"),
        ({"host": "gw.example", "x-forwarded-proto": "https"}, "https://gw.example"),
        ({"host": "gw.example", "x-forwarded-proto": "javascript"}, "http://gw.example"),
        ({"host": 'x")<script>'}, ""),
        ({}, ""),
    ],
)
def test_links_begin_where_the_caller_reached_us(headers: dict[str, str], address: str) -> None:
    assert web.public_address(headers, Config()) == address


def test_models_are_listed_by_their_slugs() -> None:
    request = web.models_request(Config(), session())
    assert request.url == "https://chatgpt.com/backend-api/models"
    listed = web.read_models(reply({"models": [{"slug": "gpt-4o", "title": "x"}, {"slug": ""}]}))
    assert [entry["id"] for entry in listed] == ["gpt-4o"]
