"""The ledger's tables, built up by version number: the same in SQLite and in PostgreSQL.

A version, once released, is never changed: a change of the tables is one more entry. `{id}` stands
for the database's own type of a number that it counts up itself.
"""

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
