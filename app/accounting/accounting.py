"""Settles finished calls: what each has cost, its row in the ledger, its share of a budget."""

from typing import Protocol

from app.accounting.budgets import Budgets
from app.accounting.ledger import Ledger
from app.telemetry.call_log import ESTIMATED, TOLD, CallRecord
from app.wire.events import Usage


class Pricing(Protocol):
    """What tokens cost."""

    def cost(self, provider: str, model: str, usage: Usage | CallRecord) -> int | None:
        """Nano-USD, None where no price is known."""


class Accounting:
    """The one place where a finished call is settled. One per worker."""

    def __init__(
        self,
        ledger: Ledger | None = None,
        prices: Pricing | None = None,
        budgets: Budgets | None = None,
    ) -> None:
        self.ledger, self.prices, self.budgets = ledger, prices, budgets

    def settle(self, record: CallRecord) -> None:
        """Completes the record with its cost and books it. Called once, before it is logged."""
        is_priced = record.counted == TOLD or _is_estimate_priced(record)
        if record.cost is None and is_priced and self.prices is not None:
            record.cost = self.prices.cost(record.provider, record.model, record)
        if self.budgets is not None:
            self.budgets.settle(record)
        if self.ledger is not None and _is_call(record):
            self.ledger.add(record)

    async def close(self) -> None:
        """Writes what is not written yet."""
        if self.ledger is not None:
            await self.ledger.close()


def _is_estimate_priced(record: CallRecord) -> bool:
    """Whether estimated tokens tell the cost: pictures and sounds of which none are told cost more
    than their prompt."""
    if record.counted != ESTIMATED:
        return False
    return bool(record.completion_tokens) or record.front == "openai-embeddings"


def _is_call(record: CallRecord) -> bool:
    """Whether somebody who may call has called a provider: what strangers are refused fills no
    ledger."""
    return bool(record.provider) and (record.attempts > 0 or record.status not in (401, 403))
