"""ChatGPT web's checks before every question, and the proof of work that they may demand.

The proof is plain hashcash over a JSON array that describes a browser; no challenge is solved
here and no foreign script is run. Pure: the caller of the slow search decides where it runs and
when it stops. Source: public clients of the chatgpt.com backend.

    question to /sentinel/chat-requirements -> Requirements -> Puzzle -> search() ... -> token
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

Kind = Literal["sha3", "fnv"]

ANSWER_PREFIX = "gAAAAAB"
QUESTION_PREFIX = "gAAAAAC"
_FNV_END = "~S"
COUNTER, ELAPSED = 3, 9  # places in the array

# Tries that take under a millisecond, less than the cost of the CPU worker.
AT_ONCE: dict[Kind, int] = {"sha3": 120, "fnv": 15}
MAX_TRIES: dict[Kind, int] = {"sha3": 2_000_000, "fnv": 1_000_000}
MAX_EXPECTED_TRIES = 400_000  # above that a quarter of the searches would end without an answer


class Demand(Struct):
    """One of the checks; `seed` and `difficulty` belong to the proof of work."""

    required: bool = False
    seed: str | None = None
    difficulty: str | None = None


class Requirements(Struct):
    """What a question must bring. A missing part is not required."""

    token: str = ""
    persona: str | None = None
    force_login: bool | None = None
    arkose: Demand | None = None
    turnstile: Demand | None = None
    proofofwork: Demand | None = None


_requirements = msgspec.json.Decoder(Requirements)


def read_requirements(body: bytes) -> Requirements | None:
    """The requirements in a reply; None for another body or one without a token."""
    try:
        found = _requirements.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if found.token else None


class Puzzle(Struct, frozen=True):
    """`array` describes the browser; `COUNTER` and `ELAPSED` in it are replaced at each try."""

    kind: Kind
    seed: str
    difficulty: str
    array: tuple[Any, ...]


def expected_tries(difficulty: str) -> float:
    """How many tries an answer takes on average; infinity for what is no difficulty."""
    try:
        return float(16 ** len(difficulty) / (int(difficulty, 16) + 1))
    except (ValueError, OverflowError):
        return float("inf")


def search(puzzle: Puzzle, first: int, count: int) -> str | None:
    """The token of the first try in `first .. first+count` that verifies, or None.

    The comparison is on hex text: the first len(difficulty) digits, equal included.
    """
    before, after_counter, after_elapsed = _around(puzzle.array)
    difficulty = puzzle.difficulty.lower()
    # What stands before the counter never changes. Base64 works on groups of three bytes, so all
    # whole groups of it are encoded and hashed once.
    fixed_size = len(before) // 3 * 3
    fixed, rest = base64.b64encode(before[:fixed_size]), before[fixed_size:]
    head = puzzle.seed.encode() + fixed
    verify = _sha3(head, difficulty) if puzzle.kind == "sha3" else _fnv(head, difficulty)
    encode = binascii.b2a_base64
    for n in range(first, first + count):
        tail = encode(
            b"%b%d%b%d%b" % (rest, n, after_counter, n >> 1, after_elapsed), newline=False
        )
        if verify(tail):
            end = _FNV_END if puzzle.kind == "fnv" else ""
            return (fixed + tail).decode() + end
    return None


def _around(array: Sequence[Any]) -> tuple[bytes, bytes, bytes]:
    """The array as JavaScript's JSON.stringify writes it, without the counter and the time."""
    parts = [msgspec.json.encode(item) for item in array]
    return (
        b"[" + b",".join(parts[:COUNTER]) + b",",
        b"," + b",".join(parts[COUNTER + 1 : ELAPSED]) + b",",
        b"," + b",".join(parts[ELAPSED + 1 :]) + b"]",
    )


def _sha3(head: bytes, difficulty: str) -> Any:
    started = hashlib.sha3_512(head)
    size = len(difficulty)
    size_bytes = (size + 1) // 2

    def verify(tail: bytes) -> bool:
        attempt = started.copy()
        attempt.update(tail)
        return attempt.digest()[:size_bytes].hex()[:size] <= difficulty

    return verify


def fnv_hash(text: bytes, state: int = 2166136261) -> int:
    """32-bit FNV-1a of an ASCII text, from `state` on; without the finaliser."""
    for byte in text:
        state = ((state ^ byte) * 16777619) & 0xFFFFFFFF
    return state


def fnv_final(state: int) -> str:
    """murmur3's finaliser, as eight hex digits."""
    state ^= state >> 16
    state = state * 2246822507 & 0xFFFFFFFF
    state ^= state >> 13
    state = state * 3266489909 & 0xFFFFFFFF
    return f"{state ^ state >> 16:08x}"


def _fnv(head: bytes, difficulty: str) -> Any:
    started = fnv_hash(head)
    size = len(difficulty)

    def verify(tail: bytes) -> bool:
        return fnv_final(fnv_hash(tail, started))[:size] <= difficulty

    return verify


def browser_array(kind: Kind, user_agent: str, now: int, session: str) -> tuple[Any, ...]:
    """A browser as the website's own script describes it: 13 entries in 2024, 18 today."""
    array: tuple[Any, ...] = (
        3000,
        _date_text(now),
        4294705152,
        0,
        user_agent,
        None,
        None,
        "en-US",
        "en-US,en",
        0,
        "webdriver\u2212false",  # a minus sign, not a hyphen
        "location",
        "window",
    )
    if kind == "sha3":
        return array
    return (*array, 1000 + now % 5000, session, "", 8, now * 1000)


def array_of(token: str) -> tuple[Any, ...] | None:
    """The array inside a solved proof, to serve as the next one's description of the browser."""
    text = token.removeprefix(ANSWER_PREFIX).removesuffix(_FNV_END)
    if text == token:
        return None
    try:
        array = msgspec.json.decode(base64.b64decode(text, validate=True), type=list[Any])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
    return tuple(array) if len(array) > ELAPSED + 1 else None


def dated(array: tuple[Any, ...], now: int) -> tuple[Any, ...]:
    """The same array with the time set to `now` (Unix seconds)."""
    return (array[0], _date_text(now), *array[2:])


def _date_text(now: int) -> str:
    """As JavaScript's Date prints itself: a two-digit day."""
    moment = datetime.fromtimestamp(now, UTC)
    return moment.strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)")


def question(kind: Kind, array: tuple[Any, ...], seed: str) -> str:
    """The `p` of the requirements request: an easy proof for a seed of the client's choice."""
    difficulty = "0fffff" if kind == "sha3" else "0"
    found = search(Puzzle(kind, seed, difficulty, array), 0, 10_000)
    return QUESTION_PREFIX + (found or "")
