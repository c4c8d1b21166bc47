"""Proof of work, both generations, against worked vectors; and what the guard may answer."""

import base64
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.openai.sentinel import (
    ANSWER_PREFIX,
    Puzzle,
    array_of,
    browser_array,
    dated,
    expected_tries,
    fnv_final,
    fnv_hash,
    question,
    read_requirements,
    search,
)

SEED = "0.42665582693491433"
AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/125.0.0.0 Safari/537.36"
)
ARRAY = (
    3008,
    "Sat Jun 01 2024 12:00:00 GMT+0000 (Coordinated Universal Time)",
    None,
    0,
    AGENT,
    None,
    "prod-example",
    "en-US",
    "en-US,en",
    0,
    "webdriver\u2212false",
    "location",
    "window",
)


def solved_at(token: str) -> int:
    found = array_of(ANSWER_PREFIX + token)
    assert found is not None
    assert found[9] == found[3] >> 1
    return int(found[3])


@pytest.mark.parametrize(
    ("kind", "difficulty", "tries", "digest"),
    [
        ("sha3", "0fffff", 0, "21bef816448e90f9"),
        ("sha3", "05cdf2", 0, "21bef816448e90f9"),
        ("sha3", "00ffff", 279, "406a8892758922dc"),
        ("fnv", "0fffff", 6, "d33e5f612a159965"),
        ("fnv", "05cdf2", 31, "1c384197faf406f0"),
        ("fnv", "00ffff", 215, "407e7972814f387c"),
        pytest.param("sha3", "000032", 137831, "8c432d8bb646a4e2", marks=pytest.mark.slow),
        pytest.param("fnv", "000032", 133203, "1ff3889204ed29d4", marks=pytest.mark.slow),
    ],
)
def test_the_worked_vectors_come_out(kind: str, difficulty: str, tries: int, digest: str) -> None:
    puzzle = Puzzle(kind, SEED, difficulty, ARRAY)  # type: ignore[arg-type]
    assert search(puzzle, 0, tries) is None
    found = search(puzzle, tries, 1)
    assert found is not None
    assert solved_at(found) == tries
    token = ANSWER_PREFIX + found
    assert hashlib.sha256(token.encode()).hexdigest()[:16] == digest
    first = search(puzzle, 0, tries + 500)
    assert first == found


def test_the_base64_is_that_of_a_browsers_json() -> None:
    found = search(Puzzle("sha3", SEED, "ffffff", ARRAY), 0, 1)
    assert found is not None
    assert len(found) == 352
    assert found.startswith("WzMwMDgsIlNhdCBKdW4gMDEgMjAyNCAxMjowMDowMCBHTVQr")
    assert base64.b64decode(found).decode() == json.dumps(
        ARRAY, separators=(",", ":"), ensure_ascii=False
    )


@pytest.mark.parametrize(
    ("text", "digest"), [(b"", "ab3e7c0b"), (b"a", "1a80b1b3"), (b"hello", "888d766e")]
)
def test_the_newer_hash_has_its_check_values(text: bytes, digest: str) -> None:
    assert fnv_final(fnv_hash(text)) == digest


@pytest.mark.parametrize("kind", ["sha3", "fnv"])
def test_a_search_in_slices_finds_the_same(kind: str) -> None:
    puzzle = Puzzle(kind, "x", "00ffff", browser_array("fnv", AGENT, 1717243200, "s"))  # type: ignore[arg-type]
    whole = search(puzzle, 0, 3000)
    sliced = next(filter(None, (search(puzzle, at, 100) for at in range(0, 3000, 100))))
    assert whole == sliced


def test_equal_to_the_difficulty_is_an_answer() -> None:
    puzzle = Puzzle("fnv", SEED, "ffffffff", ARRAY)
    found = search(puzzle, 0, 1)
    assert found is not None
    digest = fnv_final(fnv_hash(SEED.encode() + found.removesuffix("~S").encode()))
    assert search(Puzzle("fnv", SEED, digest, ARRAY), 0, 1) == found
    assert search(Puzzle("fnv", SEED, digest.upper(), ARRAY), 0, 1) == found
    assert search(Puzzle("fnv", SEED, f"{int(digest, 16) - 1:08x}", ARRAY), 0, 1) is None


def test_a_browser_is_described_as_its_generation_does() -> None:
    old, new = (browser_array(kind, AGENT, 1717243200, "s") for kind in ("sha3", "fnv"))  # type: ignore[arg-type]
    assert (len(old), len(new)) == (13, 18)
    assert old[1] == "Sat Jun 01 2024 12:00:00 GMT+0000 (Coordinated Universal Time)"
    assert old[4] == AGENT
    assert dated(ARRAY, 0)[1] == "Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)"
    assert dated(ARRAY, 0)[2:] == ARRAY[2:]


@pytest.mark.parametrize("kind", ["sha3", "fnv"])
def test_the_question_holds_a_proof_for_its_own_seed(kind: str) -> None:
    p = question(kind, ARRAY, "0.5")  # type: ignore[arg-type]
    assert p.startswith("gAAAAAC")
    assert array_of(p.replace("gAAAAAC", "gAAAAAB")) is not None


@pytest.mark.parametrize(
    ("difficulty", "tries"),
    [("05cdf2", 44.1), ("000032", 328965.0), ("0fffff", 16.0), ("xyz", float("inf"))],
)
def test_the_work_is_known_before_it_is_done(difficulty: str, tries: float) -> None:
    assert expected_tries(difficulty) == pytest.approx(tries, rel=0.01)


@pytest.mark.parametrize("token", ["", "gAAAAAB", "gAAAAAB!!", "gAAAAABW10=", "wrong", "gAAAAABé"])
def test_what_is_no_solved_proof_gives_no_array(token: str) -> None:
    assert array_of(token) is None


@pytest.mark.parametrize(
    ("body", "token"),
    [
        (b'{"token":"t"}', "t"),
        (b'{"token":"t","arkose":null,"so":{"required":true},"persona":null}', "t"),
        (b'{"prepare_token":"t"}', None),
        (b'{"token":""}', None),
        (b"<html>", None),
        (b"[]", None),
        (b'"\xff"', None),
    ],
)
def test_requirements_are_read_whatever_is_missing(body: bytes, token: str | None) -> None:
    found = read_requirements(body)
    assert (found.token if found else None) == token


@settings(max_examples=60)
@given(st.binary())
def test_no_answer_breaks_the_reader(body: bytes) -> None:
    read_requirements(body)


@settings(max_examples=60)
@given(st.text())
def test_no_token_breaks_the_reader(token: str) -> None:
    array_of(token)
    array_of("gAAAAAB" + token)
    expected_tries(token)
