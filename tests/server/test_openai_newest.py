"""The newest official Python client through the gateway: each provider, chosen in both ways."""

from contextlib import closing

import openai
import pytest

from tests.server import rounds
from tests.server.rounds.openai_round import Round


@pytest.mark.parametrize("prefixed", [True, False], ids=["by prefix", "by field"])
@pytest.mark.parametrize("provider", rounds.PROVIDERS)
def test_a_day_with_the_client_is_the_same_with_every_provider(doors, provider, prefixed):
    wish = rounds.wishes(doors.url, provider, prefixed)
    with closing(Round(wish["BASE"], wish["KEY"], wish["MODEL"], wish["PROVIDER"])) as day:
        rounds.check({"version": openai.__version__, **day.told()}, provider, openai.__version__)


def test_an_explicit_provider_wins_over_the_models_prefix(doors):
    with openai.OpenAI(base_url=f"{doors.url}/c/v1", api_key="pool", max_retries=0) as client:
        answer = client.chat.completions.with_raw_response.create(
            model="gemini/gpt-4o",
            messages=[{"role": "user", "content": "a"}],
            extra_body={"provider": "openai"},
        )
    # The prefix belongs to the upstream's name then, as with routers that have slashes in names.
    assert answer.headers["x-auth-id"] in rounds.POOLED["openai"]


def test_an_unknown_provider_goes_to_openai_as_in_the_original(doors):
    with openai.OpenAI(base_url=f"{doors.url}/c/v1", api_key="pool", max_retries=0) as client:
        answer = client.chat.completions.with_raw_response.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "a"}],
            extra_body={"provider": "nonesuch"},
        )
    assert answer.headers["x-auth-id"] in rounds.POOLED["openai"]


def test_claude_without_a_type_and_with_type_api_mean_the_api(doors):
    with openai.OpenAI(base_url=f"{doors.url}/c/v1", api_key="pool", max_retries=0) as client:
        for own in (None, {}, {"type": "api"}, {"type": "api", "index": "a2"}, {"index": "a1"}):
            body = {"provider": "claude"} | ({} if own is None else {"claude": own})
            answer = client.chat.completions.create(
                model="claude-haiku-4-5",
                messages=[{"role": "user", "content": "a"}],
                extra_body=body,
            )
            told = answer.model_extra["claude"]
            assert told["type"] == "api"
            assert told["index"] == (own or {}).get("index", told["index"])


@pytest.mark.parametrize(
    ("provider", "first", "second"), [("claude", "a1", "a2"), ("gemini", "g1", "g2")]
)
def test_the_header_wins_over_the_bodys_index(doors, provider, first, second):
    with openai.OpenAI(base_url=f"{doors.url}/c/v1", api_key="pool", max_retries=0) as client:
        answer = client.chat.completions.create(
            model=rounds.MODELS[provider],
            messages=[{"role": "user", "content": "a"}],
            extra_body={"provider": provider, provider: {"index": first}},
            extra_headers={"x-auth-id": second},
        )
    assert answer.model_extra[provider] == {"type": "api", "index": second}
