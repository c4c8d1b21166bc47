"""ChatGPT web: what each refusal means."""

from typing import Any

import pytest

from app.wire.upstream import UpstreamReply
from providers.openai.web_errors import read_error
from tests.providers.web_calls import reply


def detail(status: int, detail: Any, **headers: str) -> UpstreamReply:
    return reply({"detail": detail}, status, headers=headers)


PAGE = b"<html><head><title>Just a moment...</title>"
ERRORS: list[tuple[UpstreamReply, int, str | None]] = [
    (detail(401, {"message": "expired", "code": "token_expired"}), 401, "token_expired"),
    (detail(401, {"message": "x", "code": "token_revoked"}), 401, "token_revoked"),
    (detail(401, "Unauthorized"), 401, "token_expired"),
    (reply(PAGE, 403), 403, "cloudflare_challenge"),
    (reply(PAGE, 429), 403, "cloudflare_challenge"),
    (reply(PAGE, 503), 403, "cloudflare_challenge"),
    (reply(b"{}", 403, headers={"cf-mitigated": "challenge"}), 403, "cloudflare_challenge"),
    (reply(b"<title>Attention Required! | Cloudflare</title>", 403), 403, "cloudflare_challenge"),
    (detail(403, "Unusual activity has been detected"), 403, "unusual_activity"),
    (detail(403, "no"), 403, "upstream_refused"),
    (detail(404, {"code": "conversation_not_found"}), 404, "conversation_not_found"),
    (
        detail(404, {"code": "history_disabled_conversation_not_found"}),
        404,
        "history_disabled_conversation_not_found",
    ),
    (detail(404, "Can't load conversation 1"), 404, "conversation_not_found"),
    (detail(404, "no such model"), 404, "model_not_found"),
    (detail(413, {"code": "message_length_exceeds_limit"}), 400, "context_length_exceeded"),
    (detail(422, [{"loc": ["body", "messages", 0, "id"], "msg": "bad"}]), 400, "invalid_parameter"),
    (detail(422, []), 400, "invalid_parameter"),
    (detail(429, {"clears_in": 252, "code": "model_cap_exceeded"}), 429, "model_cap_exceeded"),
    (detail(429, "Too many requests in 1 hour."), 429, "rate_limit_exceeded"),
    (detail(429, "Only one message at a time. Please"), 429, "concurrent_request"),
    (detail(400, "Only one message at a time. Please"), 429, "concurrent_request"),
    (reply(b"", 302), 502, "upstream_redirect"),
    (detail(500, "Internal Server Error"), 502, "upstream_error"),
    (reply(b"<html>oops", 502), 502, "upstream_error"),
    (reply({"error": {"message": "m", "code": "c"}}, 400), 400, "c"),
    (reply([1], 400), 400, None),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "status", "code"), ERRORS)
def test_each_refusal_is_told_apart(answer: UpstreamReply, status: int, code: str | None) -> None:
    told = read_error(answer)
    assert (told.status, told.code) == (status, code)
    assert told.message


def test_refusals_say_when_to_come_back_and_what_was_wrong() -> None:
    capped = detail(429, {"clears_in": 252, "code": "model_cap_exceeded"})
    assert read_error(capped).retry_after == 252
    assert read_error(detail(429, "Only one message at a time.")).retry_after == 60
    assert read_error(detail(429, "x", **{"retry-after": "7"})).retry_after == 7
    told = read_error(detail(422, [{"loc": ["body", "messages", 0, "id"], "msg": "bad id"}]))
    assert (told.param, told.message) == ("messages.0.id", "bad id")
    told = read_error(detail(404, {"code": "conversation_not_found"}))
    assert told.param == "openai.conversation.conversation_id"
    assert read_error(detail(401, "x"), anonymous=True).code == "upstream_rejected"
