"""A refusal is about the key or about the request: its words tell, on chat and raw paths alike."""

import gzip
import json

import httpx
import pytest

from tests.server.scripted_upstream import gateway as gateway
from tests.server.scripted_upstream import upstream as upstream

CHAT = "/c/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]
JSON = {"content-type": "application/json"}
OK = {"status": 200, "headers": JSON, "body": {"id": "x", "choices": []}}
RAW_PATHS = {"openai": "/v1/chat/completions", "gemini": "/gemini/v1beta/openai/chat/completions"}


def refusal(status: int, body, **headers: str) -> dict:
    return {"status": status, "headers": JSON | headers, "body": body}


def ask(gateway, path: str) -> httpx.Response:
    body = {"model": "gpt-4o", "messages": MESSAGES}
    return httpx.post(gateway.url + path, json=body, timeout=20)


def resting(gateway, pool: str) -> set[str]:
    keys = httpx.get(f"{gateway.url}/admin/keys").json()["keys"]
    return {key["id"] for key in keys if key["pool"] == pool and key["state"] != "awake"}


@pytest.mark.parametrize("path", [CHAT, RAW_PATHS["openai"]], ids=["chat", "raw"])
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "Billing hard limit has been reached", "type": "x",
               "code": "billing_hard_limit_reached"}),
        (429, {"message": "You exceeded your current quota, please check your plan and billing "
               "details.", "type": "insufficient_quota", "code": None}),
        (403, {"message": "Sorry, your account balance is insufficient", "code": 30001}),
        (400, {"message": "Your account has been deactivated.", "code": "account_deactivated"}),
    ],
)  # fmt: skip
def test_an_empty_account_rests_and_another_key_answers(gateway, upstream, path, status, error):
    before = resting(gateway, "openai.api_keys")
    upstream.script([refusal(status, {"error": error}), OK])
    answer = ask(gateway, path)
    assert (answer.status_code, answer.json()["id"]) == (200, "x")
    assert answer.headers["x-attempts"] == "2"
    first, second = upstream.asked
    assert first.key != second.key
    refused = f"k{first.key.rpartition('-')[2]}"
    assert resting(gateway, "openai.api_keys") == before | {refused}


def test_googles_openai_layer_says_a_bad_key_with_400_in_a_list(gateway, upstream):
    reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    error = {"code": 400, "message": "API key expired.", "status": "INVALID_ARGUMENT"}
    upstream.script([refusal(400, [{"error": error | {"details": [reason]}}]), OK])
    answer = ask(gateway, RAW_PATHS["gemini"])
    assert (answer.status_code, len(upstream.asked)) == (200, 2)
    assert len(resting(gateway, "google_gemini.api_keys")) == 1


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("path", [*RAW_PATHS.values(), "/claude/api/v1/messages"])
def test_the_requests_own_fault_is_passed_on_as_it_came(gateway, upstream, path, packed):
    body = json.dumps({"error": {"message": "messages: my credit balance is too low"}}, indent=1)
    headers = {}
    if packed:
        headers = {"content-encoding": "gzip"}
    answer = {"status": 400, "headers": JSON | headers, "body": body}
    if packed:
        answer["bytes"] = gzip.compress(body.encode())
    upstream.script([answer])
    told = ask(gateway, path)
    assert (told.status_code, told.text) == (400, body)
    assert len(upstream.asked) == 1 and told.headers["x-attempts"] == "1"


def test_a_packed_refusal_is_read_too(gateway, upstream):
    before = resting(gateway, "claude.api_keys")
    message = "Your credit balance is too low to access the Anthropic API."
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    packed = gzip.compress(json.dumps(error).encode())
    headers = JSON | {"content-encoding": "gzip"}
    upstream.script([{"status": 400, "headers": headers, "bytes": packed}, OK])
    assert ask(gateway, "/claude/api/v1/messages").status_code == 200
    assert len(resting(gateway, "claude.api_keys") - before) == 1
