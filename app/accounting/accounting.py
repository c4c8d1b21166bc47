"""Settles finished calls: what each has cost, its row in the ledger, its share of a budget."""

from typing import Any, Protocol

from app.accounting.ledger import Ledger
from app.telemetry.call_log import CallRecord
from app.wire.events import Usage


class Pricing(Protocol):
    """What tokens cost."""

    def cost(self, provider: str, model: str, usage: Usage) -> int | None:
        """Nano-USD, None where no price is known."""


class Budgeting(Protocol):
    """What tokens of access may still spend."""

    def settle(self, token_id: str, reservation: Any, tokens: int, cost: int | None) -> None:
        """Books what a call has spent in place of what was reserved for it."""


class Accounting:
    """The one place where a finished call is settled. One per worker.

    `reserved` holds the reservation of each open call by the identity of its record.
    """

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.ledger = ledger
        self.prices: Pricing | None = None
        self.budgets: Budgeting | None = None
        self.reserved: dict[int, Any] = {}

    def settle(self, record: CallRecord) -> None:
        """Completes the record with its cost and books it. Called once, before it is logged."""
        if record.cost is None and record.counted and self.prices is not None:
            record.cost = self.prices.cost(record.provider, record.model, record.usage())
        if self.ledger is not None and _is_call(record):
            self.ledger.add(record)
        if self.budgets is not None and record.token:
            tokens = (record.prompt_tokens or 0) + (record.completion_tokens or 0)
            reservation = self.reserved.pop(id(record), None)
            self.budgets.settle(record.token, reservation, tokens, record.cost)

    async def close(self) -> None:
        """Writes what is not written yet."""
        if self.ledger is not None:
            await self.ledger.close()


def _is_call(record: CallRecord) -> bool:
    """Whether somebody who may call has called a provider: what strangers are refused fills no
    ledger."""
    return bool(record.provider) and (record.attempts > 0 or record.status not in (401, 403))
