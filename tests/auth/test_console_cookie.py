"""The console's cookie is valid for a while, for one token, and only as it was issued."""

import pytest

from app.auth.console_cookie import SECONDS, is_valid, issue

NOW = 1_800_000_000.5
SECRET = "operator-token-0123456789"


def test_it_is_valid_until_its_end():
    cookie = issue(SECRET, NOW)
    assert is_valid(SECRET, cookie, NOW)
    assert is_valid(SECRET, cookie, NOW + SECONDS - 1)
    assert not is_valid(SECRET, cookie, NOW + SECONDS)


def test_another_token_makes_it_invalid():
    assert not is_valid(SECRET + "x", issue(SECRET, NOW), NOW)


def test_it_holds_no_token():
    assert SECRET not in issue(SECRET, NOW)


@pytest.mark.parametrize(
    "forged",
    [
        "",
        ".",
        "1800043200",
        "1800043200.",
        "9" * 5000 + ".x",
        "-1.x",
        "١٨٠٠٠٤٣٢٠٠.x",
        "\udcff.\udcff",
    ],
)
def test_what_was_not_issued_is_invalid(forged):
    assert not is_valid(SECRET, forged, NOW)


def test_a_later_end_needs_a_signature_of_its_own():
    end, _, signature = issue(SECRET, NOW).partition(".")
    assert not is_valid(SECRET, f"{int(end) + 1}.{signature}", NOW)
    assert not is_valid(SECRET, f"0{end}.{signature}", NOW)
