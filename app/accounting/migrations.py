"""The ledger's tables, built up by version number: the same in SQLite and in PostgreSQL.

A version, once released, is never changed: a change of the tables is one more entry. `{id}` stands
for the database's own type of a number that it counts up itself, `{number}` for that of 64 bits.
"""

_KIND = (
    "token, address, route, front, provider, model_asked, model, key_id, stream, status, outcome, "
    "code, attempts, counted"
)
_OWN = (
    "time, request_id, first_event_ms, total_ms, prompt_tokens, cached_tokens, "
    "cache_write_tokens, completion_tokens, reasoning_tokens, cost"
)

VERSIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE ledger_calls (
            id {id}, time BIGINT NOT NULL, request_id TEXT NOT NULL, token TEXT NOT NULL,
            address TEXT NOT NULL, route TEXT NOT NULL, front TEXT NOT NULL, provider TEXT NOT NULL,
            model_asked TEXT NOT NULL, model TEXT NOT NULL, key_id TEXT NOT NULL,
            stream SMALLINT NOT NULL, status INTEGER NOT NULL, outcome TEXT NOT NULL,
            code TEXT NOT NULL, attempts INTEGER NOT NULL, first_event_ms DOUBLE PRECISION,
            total_ms DOUBLE PRECISION NOT NULL, prompt_tokens BIGINT, cached_tokens BIGINT,
            cache_write_tokens BIGINT, completion_tokens BIGINT, reasoning_tokens BIGINT,
            counted TEXT NOT NULL, cost BIGINT
        )""",
        "CREATE INDEX ledger_calls_time ON ledger_calls (time)",
        """CREATE TABLE ledger_sums (
            seconds INTEGER NOT NULL, start BIGINT NOT NULL, token TEXT NOT NULL,
            provider TEXT NOT NULL, model TEXT NOT NULL, key_id TEXT NOT NULL,
            calls BIGINT NOT NULL, failed BIGINT NOT NULL, prompt_tokens BIGINT NOT NULL,
            cached_tokens BIGINT NOT NULL, cache_write_tokens BIGINT NOT NULL,
            completion_tokens BIGINT NOT NULL, reasoning_tokens BIGINT NOT NULL,
            estimated BIGINT NOT NULL, cost BIGINT NOT NULL, unpriced BIGINT NOT NULL,
            PRIMARY KEY (seconds, start, token, provider, model, key_id)
        )""",
        "CREATE TABLE ledger_writers (id TEXT PRIMARY KEY, batch BIGINT NOT NULL, "
        "time BIGINT NOT NULL)",
    ),
    (
        # Access tokens that were added while the gateway ran. `digest` is SHA-256 of the token.
        """CREATE TABLE ledger_tokens (
            id TEXT PRIMARY KEY, digest TEXT NOT NULL UNIQUE, rights TEXT NOT NULL,
            enabled SMALLINT NOT NULL, created BIGINT NOT NULL, expires BIGINT
        )""",
        # `mark` is another number after each change of them.
        "CREATE TABLE ledger_tokens_mark (one SMALLINT PRIMARY KEY, mark BIGINT NOT NULL)",
    ),
    (
        # What many calls have in common stands once. Its id is made of it, and above 0; those of
        # calls that were there before are below.
        """CREATE TABLE ledger_call_kinds (
            id {number} PRIMARY KEY, used BIGINT NOT NULL, token TEXT NOT NULL,
            address TEXT NOT NULL, route TEXT NOT NULL, front TEXT NOT NULL, provider TEXT NOT NULL,
            model_asked TEXT NOT NULL, model TEXT NOT NULL, key_id TEXT NOT NULL,
            stream SMALLINT NOT NULL, status INTEGER NOT NULL, outcome TEXT NOT NULL,
            code TEXT NOT NULL, attempts INTEGER NOT NULL, counted TEXT NOT NULL
        )""",
        """CREATE TABLE ledger_call_rows (
            id {id}, time BIGINT NOT NULL, request_id TEXT NOT NULL, kind BIGINT NOT NULL,
            first_event_ms DOUBLE PRECISION, total_ms DOUBLE PRECISION NOT NULL,
            prompt_tokens BIGINT, cached_tokens BIGINT, cache_write_tokens BIGINT,
            completion_tokens BIGINT, reasoning_tokens BIGINT, cost BIGINT
        )""",
        f"INSERT INTO ledger_call_kinds (id, used, {_KIND}) "  # noqa: S608 (constants)
        f"SELECT -MIN(id), MAX(time) / 1000, {_KIND} FROM ledger_calls GROUP BY {_KIND}",
        f"INSERT INTO ledger_call_rows (kind, {_OWN}) "  # noqa: S608 (constants)
        f"SELECT kinds.id, {_OWN} FROM ledger_calls "
        f"JOIN ledger_call_kinds kinds USING ({_KIND}) ORDER BY ledger_calls.id",
        "DROP TABLE ledger_calls",
        "CREATE INDEX ledger_call_rows_time ON ledger_call_rows (time)",
        f"CREATE VIEW ledger_calls AS SELECT own.id, {_KIND}, {_OWN} "  # noqa: S608 (constants)
        "FROM ledger_call_rows own JOIN ledger_call_kinds kinds ON kinds.id = own.kind",
    ),
)


class TooNew(Exception):
    """The tables were made by a newer release; this one must not write to them."""

    def __init__(self, found: int) -> None:
        super().__init__(
            f"the ledger has version {found}, and this release knows {len(VERSIONS)}: "
            "start the newer release, or name another ledger"
        )


def missing(version: int) -> list[tuple[int, tuple[str, ...]]]:
    """Numbers and statements of the versions that a ledger of this version lacks, in order.

    Raises TooNew.
    """
    if version > len(VERSIONS):
        raise TooNew(version)
    return list(enumerate(VERSIONS, 1))[version:]
