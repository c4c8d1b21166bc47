"""claude.ai: what each refusal means."""

import pytest

from app.pool.outcomes import Outcome, of_error
from app.wire.upstream import UpstreamReply
from providers.claude.web_errors import read_error
from tests.providers.claude.web_refusals import error, exceeded
from tests.providers.web_calls import reply

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
