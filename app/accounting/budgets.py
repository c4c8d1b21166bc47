"""Budgets and token rates of access tokens, over all workers, and over all hosts with Redis.

A call reserves what it is likely to cost before an upstream is asked, and is settled once its log
record is complete. A budget is exceeded by the calls under way at most: a call is let in while
there is something left for it, and the last one may cost more than was left. A call that runs is
never cut; a websocket, which has no end, is closed after the answer that has spent the budget.

While much of a budget is left, a worker takes a small part of the rest as a lease, for a twentieth
of a second: it lets calls in from it without a look at what the others do. They see the lease as
reserved, so all together cannot give away what is not there. Near the end each call is told and
looked at by itself.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator

import msgspec
from msgspec import Struct

from app.accounting.prices import Prices
from app.auth.token_limits import row_name
from app.config.schema import AccessToken, Config
from app.state import periods
from app.state.rate_windows import Limits, RateWindows
from app.state.shared_table import ROWS, SharedState
from app.state.spending import Spending
from app.telemetry.call_log import CallRecord
from app.wire.errors import GatewayError

logger = logging.getLogger("any_proxy.budgets")

NANO = 1_000_000_000  # nano-USD in one USD
HEADER = "x-gateway-budget"
_WARNED_AT = 0.8
_RETRY_SECONDS = 1.0  # told to a caller whose calls under way have reserved what is left
_BOOK_SECONDS = 0.05  # between a call's end and the sums of its periods; how long a lease holds
_LEASED = 1 / 8  # of what is left, to all workers together
_LEASED_BELOW = 0.75  # the used part of a budget beyond which there are no leases
_CLEANUP_SECONDS = 0.25  # between two checks for workers that died with reservations
# How long an answer may get is mostly said far too high, and a reservation is only a guess.
_ANSWER_TOKENS = 1000  # reserved for an answer of unsaid length
_MOST_ANSWER_TOKENS = 4096
_MOST_READ = 256 * 1024  # bytes of a body that are searched for the length of the answer: 0.4 ms
_FINAL = (("x-should-retry", "false"),)
_NO_ROOM = -math.inf


class _Config(Struct, rename="camel"):
    max_output_tokens: int | None = None


class _Lengths(Struct):
    """Where the APIs say how long an answer may get."""

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None
    generationConfig: _Config | None = None


_lengths = msgspec.json.Decoder(_Lengths).decode


def answer_tokens(body: bytes) -> int:
    """How many tokens are reserved for the answer to a request with this body, of any API."""
    if len(body) > _MOST_READ:
        return _ANSWER_TOKENS
    try:
        said = _lengths(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _ANSWER_TOKENS
    inner = said.generationConfig.max_output_tokens if said.generationConfig else None
    most = said.max_completion_tokens or said.max_tokens or said.max_output_tokens or inner
    if most is None or most < 0:
        most = _ANSWER_TOKENS
    return min(most * max(said.n or 1, 1), _MOST_ANSWER_TOKENS)


class _Row:
    """One token's limits, where they are counted, and what this worker has not told the others."""

    __slots__ = (
        "is_unbooked",
        "lease_nano",
        "lease_tokens",
        "most_nano",
        "most_tokens",
        "period",
        "rate",
        "room_nano",
        "room_tokens",
        "row",
        "spent_nano",
        "spent_tokens",
        "token",
        "told_nano",
        "told_tokens",
        "untold_nano",
        "untold_tokens",
    )

    def __init__(
        self,
        row: int,
        token: AccessToken,
        rate: Limits,
        period: int,
        most_tokens: int,
        most_nano: int,
    ) -> None:
        self.row, self.token, self.rate, self.period = row, token, rate, period
        self.most_tokens, self.most_nano = most_tokens, most_nano  # of the budget; 0 for no limit
        # What is reserved in the shared table for calls to come, and how much may be untold.
        self.lease_tokens = self.lease_nano = 0
        self.room_tokens = self.room_nano = _NO_ROOM
        # Not in the shared table yet: all, and what of it is spent.
        self.untold_tokens = self.untold_nano = 0
        self.spent_tokens = self.spent_nano = 0
        # In the shared table, and not in the sums of the periods yet.
        self.told_tokens = self.told_nano = 0
        self.is_unbooked = False

    def lets_in(self, standing: tuple[float, ...], own_tokens: int, own_nano: int) -> bool:
        """Whether a call may begin that has reserved so much, which `standing` includes: something
        is left, and no other call under way has reserved it."""
        tokens, nano, held_tokens, held_nano = standing
        if (most := self.most_tokens) and (
            tokens >= most or (held_tokens > own_tokens and tokens + held_tokens > most)
        ):
            return False
        return not (most := self.most_nano) or not (
            nano >= most or (held_nano > own_nano and nano + held_nano > most)
        )

    def lease(self, standing: tuple[float, ...], workers: int) -> bool:
        """Takes a part of what `standing` leaves, where that is much. Returns whether it did."""
        if self.rate.tpm or self.part(standing) >= _LEASED_BELOW:
            return False
        tokens, nano, held_tokens, held_nano = standing
        # Whole numbers, so that what is added and taken back leaves no trace.
        lease_tokens = int((self.most_tokens - tokens - held_tokens) * _LEASED / workers)
        lease_nano = int((self.most_nano - nano - held_nano) * _LEASED / workers)
        if self.most_tokens and lease_tokens < _ANSWER_TOKENS:
            return False
        if self.most_nano and lease_nano <= 0:
            return False
        self.room_tokens = self.room_nano = math.inf
        if self.most_tokens:
            self.lease_tokens = self.room_tokens = lease_tokens
        if self.most_nano:
            self.lease_nano = self.room_nano = lease_nano
        return True

    def has_room(self, standing: tuple[float, ...]) -> bool:
        """Whether all that is reserved may be spent."""
        tokens, nano, held_tokens, held_nano = standing
        return (not self.most_tokens or tokens + held_tokens <= self.most_tokens) and (
            not self.most_nano or nano + held_nano <= self.most_nano
        )

    def part(self, standing: tuple[float, ...]) -> float:
        """The used part of the budget: of its tokens or its money, whichever is nearer the end."""
        tokens, nano = standing[:2]
        by_tokens = tokens / self.most_tokens if self.most_tokens else 0.0
        by_money = nano / self.most_nano if self.most_nano else 0.0
        return by_tokens if by_tokens > by_money else by_money


class _Held(Struct):
    """A reservation. It holds its record, so that no other can have the same identity."""

    row: _Row
    record: CallRecord
    tokens: int
    nano: int
    spent_tokens: int = 0  # booked before the call is over
    spent_nano: int = 0


class Budgets:
    """The budgets of one worker's callers; the sums are rows of the shared table."""

    def __init__(
        self,
        config: Config,
        state: SharedState,
        prices: Prices,
        clock: Callable[[], float] = time.time,
        refused: Callable[[str], None] = lambda kind: None,
    ) -> None:
        self._state, self._prices, self._clock = state, prices, clock
        self._refused = refused
        self._windows, self._spending = RateWindows(state), Spending(state)
        self._rows: dict[str, tuple[AccessToken, _Row | None]] = {}
        self._held: dict[int, _Held] = {}
        # Calls are booked together, for each lock costs microseconds.
        self._unbooked: list[_Row] = []
        self._timer: asyncio.TimerHandle | None = None
        self._cleaned_at = 0.0
        self.set_tokens(config.access.tokens)

    def set_tokens(self, tokens: Iterable[AccessToken]) -> None:
        """Sets the tokens that there are. Calls under way of others are settled all the same."""
        known = {token.id: token for token in tokens}
        for gone in self._rows.keys() - known.keys():
            del self._rows[gone]
        for token in known.values():  # other hosts tell of their spending before a call comes
            self._row(token)

    def reserve(
        self,
        record: CallRecord,
        token: AccessToken | None,
        prompt_tokens: int,
        body: bytes | None,
    ) -> str | None:
        """Reserves what the call of `record` is likely to cost, until `settle(record)`.

        `body` says how long the answer may get; None for one that is not counted in tokens. To be
        called on the event loop. Returns what a caller who has used 80 % of a budget is told, else
        None. Raises GatewayError 429 `budget_exceeded` or `token_limit`, 403 `unpriced_model`.
        """
        if token is None:
            return None
        known = self._rows.get(token.id)
        limits = known[1] if known is not None and known[0] is token else self._row(token)
        if limits is None:
            return None
        answered = 0 if body is None else _ANSWER_TOKENS
        tokens = prompt_tokens + answered
        untold = limits.untold_tokens + tokens
        if untold <= limits.room_tokens:  # there is a lease
            nano = self._estimate(limits, record, prompt_tokens, answered)
            dearer = limits.untold_nano + nano
            if dearer <= limits.room_nano:
                limits.untold_tokens, limits.untold_nano = untold, dearer
                self._held[id(record)] = _Held(limits, record, tokens, nano)
                return None
        now = self._clock()
        answered = 0 if body is None else answer_tokens(body)
        tokens = prompt_tokens + answered
        nano = self._estimate(limits, record, prompt_tokens, answered)
        if limits.rate.tpm:
            self._take_rate(limits, tokens, now)
        self._held[id(record)] = _Held(limits, record, tokens, nano)
        limits.untold_tokens += tokens
        limits.untold_nano += nano
        # First told, then read: of two calls at once each sees the other one.
        self._tell(limits)
        standing = self._standing(limits, now)
        if not limits.lets_in(standing, tokens, nano):
            standing = self._look_again(limits, now)
            if not limits.lets_in(standing, tokens, nano):
                self._give_back(record, now)
                self._refused("budget")
                raise _exceeded(limits, standing, now)
        self._lease(limits, standing, now)
        part = limits.part(standing)
        return None if part < _WARNED_AT else f"{_percent(part)} of {_said(limits)} used"

    def _lease(self, limits: _Row, standing: tuple[float, ...], now: float) -> None:
        """Reserves a part of what is left for calls to come, where that is much."""
        if not limits.lease(standing, self._state.lines_used):
            return
        self._state.change_budget(limits.row, limits.lease_tokens, limits.lease_nano, 0, 0)
        # Others may have taken the rest since `standing`: as with a call, first told, then read.
        if not limits.has_room(self._standing(limits, now)):
            self._tell(limits)
        if not limits.is_unbooked:
            self._book_later(limits)

    def _estimate(
        self, limits: _Row, record: CallRecord, prompt_tokens: int, answer_tokens: int
    ) -> int:
        """What the call is likely to cost in nano-USD. Raises GatewayError 403."""
        if not limits.most_nano:
            return 0
        price = self._prices.find(record.provider, record.model)
        if price is not None:
            return price.estimate(prompt_tokens, answer_tokens)
        if limits.token.budget.unpriced == "refuse":
            raise _unpriced(record)
        return 0

    def _give_back(self, record: CallRecord, now: float) -> None:
        """Takes back the reservation of a call that is not let in."""
        held = self._held.pop(id(record))
        limits = held.row
        limits.untold_tokens -= held.tokens
        limits.untold_nano -= held.nano
        self._tell(limits)
        if limits.rate.tpm:
            with self._state.guard:
                self._windows.add_tokens(limits.row, -held.tokens, now)

    def _tell(self, limits: _Row) -> None:
        """Writes into the shared table what the other workers have not been told, and gives the
        lease back."""
        self._state.change_budget(
            limits.row,
            limits.untold_tokens - limits.spent_tokens - limits.lease_tokens,
            limits.untold_nano - limits.spent_nano - limits.lease_nano,
            limits.spent_tokens,
            limits.spent_nano,
        )
        limits.told_tokens += limits.spent_tokens
        limits.told_nano += limits.spent_nano
        limits.untold_tokens = limits.untold_nano = limits.spent_tokens = limits.spent_nano = 0
        limits.lease_tokens = limits.lease_nano = 0
        limits.room_tokens = limits.room_nano = _NO_ROOM

    def advance(self, record: CallRecord) -> bool:
        """Books what an open websocket has cost so far. Returns whether its budget has more; always
        True for a call that reserved nothing. To be called on the event loop."""
        held = self._held.get(id(record))
        if held is None:
            return True
        limits = held.row
        cost = record.cost
        if cost is None and limits.most_nano:
            cost = self._prices.cost(record.provider, record.model, record)
        self._spend(held, record.tokens, cost or 0)
        self._tell(limits)
        return limits.part(self._standing(limits, self._clock())) < 1

    def settle(self, record: CallRecord) -> None:
        """Puts what a call has cost in the place of its reservation; `record` is complete. To be
        called on the event loop."""
        held = self._held.pop(id(record), None)
        if held is not None:
            self._spend(held, record.tokens, record.cost or 0, is_over=True)

    def _spend(self, held: _Held, tokens: int, nano: int, is_over: bool = False) -> None:
        """Adds what the call has cost in all, less what it had cost before. One that is over has no
        reservation any more."""
        limits = held.row
        if limits.rate.tpm:
            # What was reserved is in the window already, until the call is over.
            rated = max(held.tokens, held.spent_tokens)
            now_rated = tokens if is_over else max(tokens, rated)
            with self._state.guard:
                self._windows.add_tokens(limits.row, now_rated - rated, self._clock())
        more, dearer = tokens - held.spent_tokens, nano - held.spent_nano
        limits.spent_tokens += more
        limits.spent_nano += dearer
        if is_over:
            more -= held.tokens
            dearer -= held.nano
        limits.untold_tokens += more
        limits.untold_nano += dearer
        held.spent_tokens, held.spent_nano = tokens, nano
        if not limits.is_unbooked:
            self._book_later(limits)
        if limits.untold_tokens > limits.room_tokens or limits.untold_nano > limits.room_nano:
            self._tell(limits)

    def _book_later(self, limits: _Row) -> None:
        limits.is_unbooked = True
        self._unbooked.append(limits)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_BOOK_SECONDS, self.book)

    def book(self) -> None:
        """Adds what calls have spent to the sums of their periods, tells the other workers, and
        warns."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        unbooked, self._unbooked = self._unbooked, []
        now = self._clock()
        for limits in unbooked:
            limits.is_unbooked = False
            self._tell(limits)
            tokens, nano = limits.told_tokens, limits.told_nano
            limits.told_tokens = limits.told_nano = 0
            if not tokens and not nano:
                continue
            with self._state.guard:
                self._spending.add(limits.row, tokens, nano, now)
            self._state.change_budget(limits.row, 0, 0, -tokens, -nano)
            part = limits.part(self._standing(limits, now))
            if part < _WARNED_AT:
                continue
            with self._state.guard:
                is_first = self._spending.first_warning(
                    limits.row, limits.period, 2 if part >= 1 else 1, now
                )
            if is_first:
                logger.warning(
                    "access token %s has used %s of its budget (%s)",
                    limits.token.id,
                    _percent(part),
                    _said(limits),
                )

    def _standing(self, limits: _Row, now: float) -> tuple[float, float, float, float]:
        """Tokens and nano-USD: those spent, and those reserved by all calls under way."""
        held_tokens, held_nano, tokens, nano = self._state.standing(limits.row)
        booked = self._spending.spent(limits.row, limits.period, now)
        return booked[0] + tokens, booked[1] + nano, held_tokens, held_nano

    def _look_again(self, limits: _Row, now: float) -> tuple[float, float, float, float]:
        """`_standing`, once the reservations of dead workers are freed."""
        if now - self._cleaned_at > _CLEANUP_SECONDS:
            self._cleaned_at = now
            with self._state.guard:
                self._state.forget_dead()
        return self._standing(limits, now)

    def _take_rate(self, limits: _Row, tokens: int, now: float) -> None:
        """Counts tokens of the current minute. Raises GatewayError 429 `token_limit`."""
        with self._state.guard:
            wait = self._windows.wait(limits.row, limits.rate, now)
            if not wait:
                self._windows.add_tokens(limits.row, tokens, now)
        if wait:
            self._refused("tpm")
            raise GatewayError(
                429,
                f"Your access token has reached its limit ({limits.rate.tpm} tokens per minute); "
                "ask again after the time in Retry-After.",
                code="token_limit",
                retry_after=wait,
            )

    def used(self) -> Iterator[tuple[str, str, float]]:
        """Yields (id of the token, "tokens" or "usd", used part of the budget) of all budgets."""
        self.book()
        now = self._clock()
        for token, limits in list(self._rows.values()):
            if limits is None:
                continue
            tokens, nano = self._spending.spent(limits.row, limits.period, now)
            if limits.most_tokens:
                yield token.id, "tokens", tokens / limits.most_tokens
            if limits.most_nano:
                yield token.id, "usd", nano / limits.most_nano

    def _row(self, token: AccessToken) -> _Row | None:
        known = self._rows.get(token.id)
        if known is None or known[0] is not token:
            budget, found = token.budget, None
            if budget.usd or budget.tokens or token.tpm:
                row = self._state.row(row_name(token))
                # In a full table all further tokens share the last row.
                row = row if row >= 0 else ROWS
                period = periods.PERIODS.index(budget.per)
                rate, nano = Limits(tpm=token.tpm), round(budget.usd * NANO)
                found = _Row(row, token, rate, period, budget.tokens, nano)
            known = self._rows[token.id] = token, found
        return known[1]


def _exceeded(limits: _Row, standing: tuple[float, ...], now: float) -> GatewayError:
    if limits.part(standing) < 1:
        return GatewayError(
            429,
            f"What is left of your access token's budget ({_said(limits)}) is reserved by its "
            "calls under way; ask again when they have ended.",
            code="budget_exceeded",
            retry_after=_RETRY_SECONDS,
        )
    end = periods.end(limits.token.budget.per, now)
    return GatewayError(
        429,
        f"Your access token has spent its budget ({_said(limits)}); the next one begins at "
        f"{_utc(end)}.",
        code="budget_exceeded",
        retry_after=end - now,
        most_wait=math.inf,
        headers=_FINAL,
    )


def _said(limits: _Row) -> str:
    budget = limits.token.budget
    parts = [f"{budget.usd:g} USD"] if budget.usd else []
    parts += [f"{budget.tokens} tokens"] if budget.tokens else []
    return f"{' and '.join(parts)} per {budget.per}"


def _percent(part: float) -> str:
    return f"{int(part * 100)}%"


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _unpriced(record: CallRecord) -> GatewayError:
    return GatewayError(
        403,
        f"No price is known for the model {record.model[:64]!r} of {record.provider}, and your "
        "access token's budget is for models with a price only; ask another model, or have its "
        "operator write one under prices.",
        code="unpriced_model",
        headers=_FINAL,
    )
