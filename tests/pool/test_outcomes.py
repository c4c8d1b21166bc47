"""What an upstream's answer says about a key."""

import pytest

from app.pool.outcomes import Outcome, of_error, of_refusal, of_status
from app.wire.errors import GatewayError


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.OK),
        (206, Outcome.OK),
        (302, Outcome.OK),  # a forwarded redirect is an answer
        (400, Outcome.REQUEST),
        (401, Outcome.AUTH),
        (402, Outcome.SPENT),
        (403, Outcome.FORBIDDEN),
        (404, Outcome.REQUEST),
        (408, Outcome.UPSTREAM),
        (413, Outcome.REQUEST),
        (422, Outcome.REQUEST),
        (429, Outcome.LIMITED),
        (500, Outcome.UPSTREAM),
        (503, Outcome.UPSTREAM),
        (529, Outcome.UPSTREAM),
    ],
)
def test_what_a_status_says(status, outcome):
    assert of_status(status) is outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (GatewayError(429, "x", code="insufficient_quota"), Outcome.SPENT),
        (GatewayError(403, "x", code="insufficient_quota"), Outcome.SPENT),
        (GatewayError(429, "x", code="rate_limit_exceeded"), Outcome.LIMITED),
        (GatewayError(403, "x", code="cloudflare_challenge"), Outcome.UPSTREAM),
        (GatewayError(502, "x", code="upstream_challenge"), Outcome.UPSTREAM),
        (GatewayError(403, "x", outcome="upstream_challenge"), Outcome.UPSTREAM),
        (GatewayError(403, "x"), Outcome.FORBIDDEN),
        (GatewayError(504, "x", code="upstream_timeout"), Outcome.UPSTREAM),
    ],
)
def test_what_an_error_says(error, outcome):
    assert of_error(error) is outcome


@pytest.mark.parametrize(
    ("status", "type_", "code", "message"),
    [
        (429, "insufficient_quota", None, "You exceeded your current quota, please check ..."),
        (429, "", "insufficient_quota", "x"),
        (400, "invalid_request_error", "billing_hard_limit_reached", "Billing hard limit ..."),
        (429, "billing_not_active", "billing_not_active", "Your account is not active, ..."),
        (429, "", None, "You exceeded your current quota, please check your plan."),
        (402, "", "invalid_request_error", "Insufficient Balance"),  # DeepSeek
        (402, "", None, "x"),
        (
            403,
            "",
            "The caller does not have permission to execute the specified operation",
            "Your team 1-2 has either used all available credits or reached its monthly spending "
            "limit.",
        ),  # xAI
        (429, "", "Some resource has been exhausted", "You have used all available credits."),
        (429, "exceeded_current_quota_error", None, "Your account is suspended, please ..."),
        (429, "", "1113", "Insufficient balance or no resource package. Please recharge."),
        (403, "", "NOT_ENOUGH_BALANCE", "x"),
        (403, "", None, "Sorry, your account balance is insufficient"),  # SiliconFlow
        (400, "Arrearage", "Arrearage", "Access denied, please make sure your account ..."),
        (403, "", "AccountOverdueError", "The request failed because your account is overdue."),
        (429, "credit_limit", "credit_limit", "Credit limit exceeded"),  # Together
        (400, "invalid_request_error", "blocked_api_access", "API access is restricted ..."),
        (403, "", None, "Your credit balance is too low to access the Anthropic API."),
    ],
)
def test_every_familys_words_for_an_empty_account(status, type_, code, message):
    error = GatewayError(status, message, type=type_, code=code)
    assert of_error(error) is Outcome.SPENT
    assert of_refusal(error, {"content-type": "application/json"}) is Outcome.SPENT


@pytest.mark.parametrize(
    ("status", "code", "message", "outcome"),
    [
        (400, None, "messages[0]: 'my credit balance is too low' is no ...", Outcome.REQUEST),
        (429, "rate_limit_exceeded", "Rate limit reached, used all available credits of a minute.",
         Outcome.LIMITED),
        (429, None, "You exceeded your current quota. Quota exceeded for metric: x/y, limit: 10",
         Outcome.LIMITED),
        (429, None, "You exceeded your current quota.\n* Please retry in 21.1s.", Outcome.LIMITED),
        (429, None, "Rate limit reached on tokens per day (TPD): Limit 100000", Outcome.LIMITED),
        (403, None, "The model may not be used with this account.", Outcome.FORBIDDEN),
        (500, "insufficient_quota", "x", Outcome.UPSTREAM),
        (404, "insufficient_quota", "x", Outcome.REQUEST),
        (429, "rate_limit_exceeded", "Request too large for gpt-4o in organization x on tokens per "
         "min (TPM): Limit 30000, Requested 40000.", Outcome.REQUEST),
        (429, "rate_limit_exceeded", "Extra usage is required for long context requests.",
         Outcome.REQUEST),
        (403, "organization_disabled", "x", Outcome.AUTH),
        (401, "account_deactivated", "x", Outcome.AUTH),
        (400, "account_deactivated", "x", Outcome.AUTH),
    ],
)  # fmt: skip
def test_words_that_are_near_to_it(status, code, message, outcome):
    assert of_error(GatewayError(status, message, code=code)) is outcome


@pytest.mark.parametrize(
    ("error", "headers", "outcome"),
    [
        (GatewayError(429, "x", code="insufficient_quota"), {}, Outcome.SPENT),
        (GatewayError(429, "x", type="insufficient_quota"), {}, Outcome.SPENT),
        (GatewayError(429, "x", code="rate_limit_exceeded"), {}, Outcome.LIMITED),
        (GatewayError(401, "x"), {}, Outcome.AUTH),
        (GatewayError(400, "x"), {}, Outcome.REQUEST),
        (GatewayError(403, "x"), {"cf-mitigated": "challenge"}, Outcome.UPSTREAM),
        (GatewayError(403, "x"), {"content-type": "text/html; charset=UTF-8"}, Outcome.UPSTREAM),
        (GatewayError(403, "x"), {"content-type": "application/json"}, Outcome.FORBIDDEN),
    ],
)
def test_what_a_forwarded_refusal_says(error, headers, outcome):
    assert of_refusal(error, headers) is outcome
