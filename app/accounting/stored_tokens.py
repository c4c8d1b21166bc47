"""Access tokens that operators add while the gateway runs, kept in the ledger's database.

    POST /admin/tokens: the database is written, then a counter in shared memory goes up
    any worker, before it authenticates a request: the counter has moved, so it reads them again

So a change holds in all workers of this host once it is answered, and costs each request one look
at a number. Workers also look at the database every few seconds, for changes by other hosts.

A token is 256 random bits, and SHA-256 of it is all that is kept: nothing can be guessed from it.
While the database cannot be read, the tokens that are known stay as they are.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from app.accounting.store import Row, Store, Unwritten
from app.auth.token_limits import row_name
from app.config.schema import AccessToken, TokenRights
from app.offload.background import repeat
from app.state.shared_table import TOKENS_CHANGED, SharedState
from app.telemetry.redaction import redact
from app.wire.errors import GatewayError

logger = logging.getLogger("any_proxy.tokens")

T = TypeVar("T")

MOST_TOKENS = 1000
_PREFIX = "anyproxy-"
_LOOK_SECONDS = 3.0  # between two looks at the database
WAIT_SECONDS = 1.0  # of a request for the tokens to be read
_COLUMNS = "id, digest, rights, enabled, created, expires"
_LIST = f"SELECT {_COLUMNS} FROM ledger_tokens ORDER BY created, id"  # noqa: S608 (constants)
_MARK = "SELECT mark FROM ledger_tokens_mark"
_NEW_MARK = (
    "INSERT INTO ledger_tokens_mark (one, mark) VALUES (1, ?) "
    "ON CONFLICT (one) DO UPDATE SET mark = excluded.mark"
)
_ADD = (
    f"INSERT INTO ledger_tokens ({_COLUMNS}) SELECT ?, ?, ?, 1, ?, CAST(? AS BIGINT) "  # noqa: S608 (constants)
    "WHERE (SELECT COUNT(*) FROM ledger_tokens) < ?"
)
_CHANGES = {
    "disable": "UPDATE ledger_tokens SET enabled = 0 WHERE id = ?",
    "enable": "UPDATE ledger_tokens SET enabled = 1 WHERE id = ?",
    "remove": "DELETE FROM ledger_tokens WHERE id = ?",
}
_rights = msgspec.json.Decoder(TokenRights).decode


class StoredToken(Struct, frozen=True):
    """One token of the database. Times are Unix seconds; `expires` None is never.

    The `val` of `token` tells it from every other and is not the token itself, which nobody knows.
    """

    token: AccessToken
    digest: str  # SHA-256, hexadecimal
    is_enabled: bool
    created: int
    expires: int | None

    def state(self, now: float) -> str:
        """ "enabled", "disabled" or "expired"."""
        if not self.is_enabled:
            return "disabled"
        return "enabled" if self.expires is None or now < self.expires else "expired"


class StoredTokens:
    """The tokens that one worker knows. `apply` is called with all of them whenever they change.

    `store` is None where no ledger is kept: then there are none. `configured` are the ids in the
    config, which none of these may have.
    """

    def __init__(
        self,
        store: Store | None,
        state: SharedState,
        configured: Sequence[str] = (),
        apply: Callable[[list[StoredToken]], None] = lambda tokens: None,
    ) -> None:
        self._store, self._state, self._apply = store, state, apply
        self._configured = frozenset(configured)
        self._cells = state.cells
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokens")
        self._reading: asyncio.Task[None] | None = None
        self._until = 0.0  # monotonic time up to which requests wait for it
        self._mark: int | None = None  # of what was read; None: nothing was yet
        self._is_well = True
        self._ignored: frozenset[str] = frozenset()
        self.seen = self.version
        self.known: list[StoredToken] = []

    @property
    def version(self) -> float:
        """Moves with each change, in all workers; `seen` is the one that this worker knows."""
        return self._cells[TOKENS_CHANGED]

    @property
    def is_complete(self) -> bool:
        """Whether the database was read at least once, so that an unknown token is a wrong one."""
        return self._store is None or self._mark is not None

    async def refresh(self) -> None:
        """Reads the tokens again. Waits a second at most, then what is known counts until they are
        read."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="reading access tokens")
            self._until = time.monotonic() + WAIT_SECONDS
        await asyncio.wait({self._reading}, timeout=max(self._until - time.monotonic(), 0))

    async def run(self) -> None:
        """Looks for changes by other hosts, and for what could not be read, until cancelled."""
        if self._store is not None:
            await repeat("looking for access tokens", self.look, _LOOK_SECONDS)

    async def look(self) -> None:
        """Looks once whether the database has changed; if so, all workers read it again."""
        try:
            mark = await self._on_thread(_mark_of)
        except Unwritten as error:
            self._failed(error)
            return
        if mark != self._mark:
            self._announce()
            await self.refresh()

    async def add(self, id: str, rights: TokenRights, expires: int | None) -> str:
        """Adds a token and returns it: the only time that anybody sees it.

        Raises GatewayError 409 for an id that is taken or when there is no room, 404 without a
        ledger, 503 when the database cannot be written.
        """
        if id in self._configured:
            raise _taken(id, "the config has a token of this id")
        # Claimed here, so that a full table is told and not found out later. Rows are kept until
        # the gateway is stopped: what a token has spent is not forgotten when it is removed.
        if self._state.row(row_name(AccessToken(id=id, val=""))) < 0:
            raise _no_room("the table of limits is full until the gateway is started again")
        value = _PREFIX + secrets.token_urlsafe(32)
        redact.learn([value])
        text = msgspec.json.encode(rights).decode()
        row = (id, digest_of(value), text, int(time.time()), expires, MOST_TOKENS)
        try:
            added = await self._change(_ADD, row)
        except Unwritten as error:
            if not error.is_final:
                raise _unavailable(error) from None
            raise _taken(id, "there is one of this id already") from None
        if not added:
            raise _no_room(f"there are {MOST_TOKENS} already; remove some")
        logger.warning("access token %s was added", id)
        return value

    async def change(self, action: str, id: str) -> None:
        """Disables, enables or removes a token: `action` is the verb.

        Raises GatewayError 404 for an id that no stored token has, 409 for one of the config's, 503
        when the database cannot be written.
        """
        if id in self._configured:
            raise GatewayError(
                409,
                f"The token {id} is in the config: change it there, under access.tokens, and "
                "reload.",
                code="token_in_config",
            )
        try:
            found = await self._change(_CHANGES[action], (id,))
        except Unwritten as error:
            raise _unavailable(error) from None
        if not found:
            raise GatewayError(
                404,
                f"No token with id {id[:64]!r}; GET /admin/tokens lists them.",
                code="unknown_token",
            )
        logger.warning("access token %s: %sd", id, action)

    async def close(self) -> None:
        """Closes the database."""
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=WAIT_SECONDS)
        if self._store is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown(wait=False)

    async def _change(self, statement: str, values: Sequence[Any]) -> int:
        """Runs one change and announces it. Returns how many rows it changed. Raises Unwritten."""
        mark = secrets.randbits(62)
        changed = await self._on_thread(
            lambda store: store.change([(statement, values), (_NEW_MARK, (mark,))])[0]
        )
        self._announce()
        await self.refresh()
        return changed

    def _announce(self) -> None:
        with self._state.guard:
            self._cells[TOKENS_CHANGED] += 1

    async def _read(self) -> None:
        """Takes over what the database has; keeps what is known if it cannot be read."""
        seen = self.version
        while True:
            try:
                mark, rows = await self._on_thread(lambda store: (_mark_of(store), _rows_of(store)))
            except (Unwritten, GatewayError) as error:
                if isinstance(error, Unwritten):
                    self._failed(error)
                    self._mark = None if self._mark is None else -1  # `look` reads them again
                self.seen = seen
                return
            self._take(mark, rows)
            self.seen = seen
            if seen == self.version:
                return
            seen = self.version  # changed once more while it was read

    def _take(self, mark: int, rows: Sequence[Row]) -> None:
        before = {known.digest: known for known in self.known}
        found: list[StoredToken] = []
        ignored = set()
        for row in rows:
            try:
                one = _token_of(row)
            except msgspec.DecodeError:
                ignored.add(f"{row[0]} (its rights cannot be read)")
                continue
            if one.token.id in self._configured:
                ignored.add(f"{row[0]} (the config has one of this id)")
                continue
            known = before.get(one.digest)
            found.append(known if known == one else one)  # limits are found by identity
        if ignored - self._ignored:
            logger.error("access tokens are ignored: %s", ", ".join(sorted(ignored)))
        self._ignored = frozenset(ignored)
        if not self._is_well:
            logger.warning("access tokens are read again")
        self._is_well = True
        self._mark, self.known = mark, found
        self._apply(found)

    def _failed(self, error: Unwritten) -> None:
        if self._is_well:
            reason = redact(str(error))[:300]
            logger.error("access tokens cannot be read; those that are known stay: %s", reason)
        self._is_well = False

    async def _on_thread(self, work: Callable[[Store], T]) -> T:
        store = self._store
        if store is None:
            raise GatewayError(
                404,
                "No ledger is kept here (ledger: off in the config), and tokens are added to its "
                "database; write them in the config, under access.tokens.",
                code="no_ledger",
            )
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, store)


def digest_of(value: str) -> str:
    """By what a stored token is found: SHA-256, hexadecimal."""
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()


def _mark_of(store: Store) -> int:
    found = store.read(_MARK)
    return int(found[0][0]) if found else 0


def _rows_of(store: Store) -> list[Row]:
    return store.read(_LIST)


def _token_of(row: Row) -> StoredToken:
    id, digest, text, enabled, created, expires = row
    rights = _rights(text)
    members = {name: getattr(rights, name) for name in TokenRights.__struct_fields__}
    token = AccessToken(id=id, val=f"sha256:{digest}", **members)
    return StoredToken(token, digest, bool(enabled), created, expires)


def _taken(id: str, why: str) -> GatewayError:
    return GatewayError(
        409, f"A token cannot be called {id}: {why}; choose another id.", code="token_exists"
    )


def _no_room(why: str) -> GatewayError:
    return GatewayError(409, f"No token can be added: {why}.", code="too_many_tokens")


def _unavailable(error: Unwritten) -> GatewayError:
    return GatewayError(
        503,
        f"The ledger, which holds the tokens, cannot be written: {redact(str(error))[:300]}",
        code="ledger_unavailable",
    )
