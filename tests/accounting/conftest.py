"""An empty ledger in SQLite, and in PostgreSQL where this machine has it."""

import pytest

from app.accounting.store import store_of
from tests.accounting.postgres import MISSING, Postgres


@pytest.fixture(scope="session")
def postgres():
    if MISSING:
        pytest.skip(MISSING)
    server = Postgres()
    server.start()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    """Where an empty ledger is to be."""
    if request.param == "sqlite":
        return str(tmp_path / "deep" / "usage.db")
    server = request.getfixturevalue("postgres")
    import psycopg

    with psycopg.connect(server.address, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return server.address


@pytest.fixture
def store(place):
    opened = store_of(place)
    yield opened
    opened.close()
