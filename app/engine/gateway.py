"""Composition root of a worker: makes its engine of config and shared memory, and ends it."""

import asyncio
import logging
from contextlib import AsyncExitStack
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from app.accounting.accounting import Accounting
from app.accounting.budgets import Budgets
from app.accounting.call_files import CallFiles
from app.accounting.ledger import Ledger
from app.accounting.prices import Prices
from app.accounting.store import store_of
from app.accounting.stored_tokens import StoredToken, StoredTokens
from app.accounting.usage import UsageReader
from app.auth.authenticate import Access, KnownToken
from app.auth.token_limits import TokenLimits
from app.clients import Clients
from app.config.schema import Config
from app.engine.admission import AdmissionControl
from app.engine.chat_call import Exchange
from app.engine.open_calls import OpenCalls
from app.engine.picture_cache import PictureCache
from app.engine.reverse_proxy import ReverseProxy
from app.pool.conversation_owners import Conversations
from app.pool.kept_answers import KeptAnswers
from app.pool.key_pool import KeyPool
from app.pool.leader import LeaderTasks
from app.pool.web_sessions import Sessions
from app.state.shared_table import SharedState
from app.state.worker_slots import WorkerRows
from app.telemetry.call_log import CallLog
from app.telemetry.log_writer import count_dropped
from app.telemetry.metrics import Metrics
from app.telemetry.recent_calls import CallHistory
from app.wire.errors import GatewayError

if TYPE_CHECKING:
    from app.telemetry.traces import Traces

logger = logging.getLogger("any_proxy.gateway")

_LAST_ERROR_SECONDS = 1.5  # for the error that ends a call to reach its caller


class Listing(Struct):
    """The cached model list of one provider, or the error that the provider gave in its place."""

    until: float = 0.0  # monotonic
    task: asyncio.Task[None] | None = None  # that asks the provider just now
    models: list[dict[str, Any]] | None = None
    error: GatewayError | None = None


class Gateway:
    """The engine of one worker: made on its event loop, closed after its last request.

    Without `rows` the worker's metrics stand in rows of its own, which no other process sees.
    """

    def __init__(
        self,
        config: Config,
        state: SharedState,
        rows: WorkerRows | None = None,
    ) -> None:
        self.config = config
        self.state = state
        self.access = Access(config)
        self.token_limits = TokenLimits(state)
        limits = config.limits
        self.admission = AdmissionControl(limits.in_flight, limits.queue, limits.queue_seconds)
        self.rows = rows or WorkerRows()
        row = self.rows.claim()
        if row is None:
            logger.warning("no row of shared memory is free: this worker's calls are not counted")
        self.metrics = Metrics(row)
        self.clients = Clients(config.timeouts.connect, config.transport)
        self.pool = KeyPool(config, state)
        self.leader_tasks = LeaderTasks(config, state, self.pool)
        count_dropped(self.metrics.log_dropped)
        keep = CallHistory(row).keep
        store = store_of(config.ledger)
        prices = Prices(config)
        self.budgets = Budgets(config, state, prices, refused=self.metrics.budget_refusal)
        self.accounting = Accounting(
            Ledger(store, config.ledger_days, self.metrics.ledger) if store is not None else None,
            prices,
            self.budgets,
        )
        self.usage = UsageReader(store_of(config.ledger))
        ids = [token.id for token in config.access.tokens]
        self.tokens = StoredTokens(store_of(config.ledger), state, ids, self._set_tokens)
        self.access.is_complete = self.tokens.is_complete
        self.traces: Traces | None = None
        if config.traces.endpoint:
            # Imported late: it takes a third of a second and some megabytes.
            from app.telemetry import traces

            exporter = traces.exporter_to(config.traces.endpoint, config.traces.headers)
            self.traces = traces.Traces(exporter, self.metrics.traces_dropped)
        self.log = CallLog(
            config.log_format,
            settle=self.accounting.settle,
            count=self.metrics.call,
            keep=keep,
            trace=self.traces.add if self.traces is not None else None,
        )
        kept = Path(config.openai.sessions_path)
        self.sessions = Sessions(self.pool, kept)
        self.conversations = Conversations(kept / "conversations.db")
        self.answers = KeptAnswers(Path(config.responses.path), config.responses.keep_hours)
        self.exchange = Exchange(
            config,
            self.clients,
            self.pool,
            self.log,
            self.sessions,
            self.conversations,
            self.answers,
        )
        if config.record_calls != "off":
            self.exchange.call_files = CallFiles(
                Path(config.record_calls_path),
                config.record_calls_bytes,
                only_errors=config.record_calls == "errors",
            )
        self.reverse_proxy = ReverseProxy(
            config, self.clients, self.pool, self.log, self.sessions, self.conversations
        )
        self.calls = OpenCalls(self.metrics.open)
        self.exchange.calls = self.reverse_proxy.calls = self.calls
        self.exchange.budgets = self.reverse_proxy.budgets = self.budgets
        self.picture_cache = PictureCache(
            Path(config.openai.image_path), self.clients, limits.image_folder_bytes
        )
        self.ready = True
        self.model_lists: dict[str, Listing] = {}  # by the provider's name

    def _set_tokens(self, stored: list[StoredToken]) -> None:
        """Takes over the access tokens that were added while the gateway runs."""
        self.access.set_stored(
            (each.digest, KnownToken(each.token, each.is_enabled, each.expires or inf))
            for each in stored
        )
        tokens = [*self.config.access.tokens, *(each.token for each in stored)]
        self.budgets.set_tokens(tokens)
        self.leader_tasks.set_tokens(tokens)

    def drain(self) -> None:
        """Reports the worker as not ready from now on; calls are still taken."""
        self.ready = False

    def refuse(self) -> None:
        """Refuses new calls with 503 `shutting_down` from now on; open calls go on."""
        self.calls.refuse()

    async def finish(self, seconds: float) -> None:
        """Waits up to `seconds` for the open calls, then ends the rest with an error."""
        if not await self._wait_until_idle(seconds):
            self.end_calls()
            await self._wait_until_idle(_LAST_ERROR_SECONDS)

    async def _wait_until_idle(self, seconds: float) -> bool:
        end = asyncio.get_running_loop().time() + seconds
        while self.calls:
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            await asyncio.sleep(min(0.05, left))
        return True

    def end_calls(self) -> None:
        """Ends every open call with the error `shutting_down`."""
        self.calls.end_all()

    async def close(self) -> None:
        """Closes connections, files and helper processes, and writes out the log.

        What cannot be closed keeps nothing else from it; its error is raised at the end.
        """
        async with AsyncExitStack() as last_first:
            last_first.callback(self.log.flush)
            if self.traces is not None:
                last_first.push_async_callback(asyncio.to_thread, self.traces.close)
            if self.exchange.call_files is not None:
                last_first.push_async_callback(asyncio.to_thread, self.exchange.call_files.close)
            for close in (
                self.tokens.close,
                self.usage.close,
                self.accounting.close,
                self.answers.close,
                self.conversations.close,
                self.exchange.slow_work.close,
                self.clients.close,
                self.leader_tasks.close,
            ):
                last_first.push_async_callback(close)
            last_first.callback(self.budgets.book)
            for listing in self.model_lists.values():
                if listing.task is not None:
                    listing.task.cancel()
