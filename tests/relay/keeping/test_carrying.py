"""Which tables are carried, and that any row a relay could have arrives as it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentchat_relay.keeping.carrying.carry import carry
from agentchat_relay.keeping.carrying.postgres import new_rows
from agentchat_relay.keeping.carrying.sqlite import State, new_file
from agentchat_relay.keeping.carrying.tables import CARRIED, LEFT, tables
from agentchat_relay.keeping.progress import Progress
from agentchat_relay.store.postgres.engine import migrated
from agentchat_relay.store.sqlite.migrate import migrate
from tests import postgres
from tests.relay.keeping.everything import sql

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def url() -> str:
    made = postgres.new_schema()
    migrated(made, after=True, role=None)
    return made


@pytest.fixture
def empty() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, "sqlite")
        yield connection


def test_every_table_of_either_engine_is_considered(url: str, empty: sqlite3.Connection):
    """A new one goes into CARRIED, or into LEFT with the reason. The marks of sqlite_sequence are for what is LEFT."""
    found = {name for (name,) in empty.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    of_sqlite = {name for name in found if not name.startswith("sqlite_")}
    with sql(url) as connection:
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
        of_postgres = {name for (name,) in connection.execute(query)}
    assert of_sqlite | of_postgres == {*CARRIED, *LEFT}
    assert of_sqlite & of_postgres == {*CARRIED, "migrations"}


def test_the_engines_have_the_same_columns(url: str):
    with sql(url) as connection:
        for table in tables():
            query = (
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_schema = current_schema() AND table_name = %s"
            )
            assert {name for (name,) in connection.execute(query, (table.name,))} == set(table.columns), table.name
            assert table.key, f"{table.name} needs a key to be read in the order of"


def test_every_sequence_is_considered(url: str):
    """Those of ids are set behind them; that of the turns belongs to the database."""
    query = "SELECT sequencename FROM pg_sequences WHERE schemaname = current_schema()"
    with sql(url) as connection:
        found = {name for (name,) in connection.execute(query)}
    assert found - {"turn_writer"} <= {f"{name}_id_seq" for name in CARRIED}


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=50)
number = st.integers(-(2**63), 2**63 - 1)
row = st.fixed_dictionaries(
    {
        "public_id": text,
        "channel_id": number,
        "number": number,
        "chats": number,
        "created_at": number,
        "author_id": number,
        "kind": st.sampled_from(["chat", "status", "system"]),
        "content": text,
        "recipient_id": st.none() | number,
        "metadata": st.none() | text,
        "parent_id": st.none() | number,
        "unmatched": st.none() | text,
        "digest": st.none() | st.binary(max_size=40),
    }
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    messages=st.dictionaries(number, row, max_size=8),
    nonces=st.dictionaries(text, number, max_size=8),
    blobs=st.sets(st.tuples(number, text), max_size=8),
)
def test_any_row_arrives(
    url: str,
    tmp_path_factory: pytest.TempPathFactory,
    messages: dict[int, Any],
    nonces: dict[str, int],
    blobs: set[Any],
):
    """Keys of text in any order of letters, numbers as far as they go."""
    folder = tmp_path_factory.mktemp("any")
    first, second = folder / "first", folder / "second"
    with new_file(str(first)) as made:
        _insert(made._connection, messages, nonces, blobs)
        made.settle()
        with _emptied(url), new_rows(url, "Testing") as (_, rows):
            carried = carry(State(made._connection), rows, QUIET)
            with new_file(str(second)) as again:
                assert carry(rows, again, QUIET) == carried
    assert _dumped(first) == _dumped(second)
    assert carried["messages"]["rows"] == len({m["public_id"] for m in messages.values()})


def _insert(connection: sqlite3.Connection, messages: dict[int, Any], nonces: dict[str, int], blobs: set[Any]) -> None:
    for id, values in messages.items():
        names = ", ".join(values)
        statement = f"INSERT OR IGNORE INTO messages (id, {names}) VALUES (?{', ?' * len(values)})"
        connection.execute(statement, (id, *values.values()))
    connection.executemany("INSERT INTO nonces (nonce, used_at) VALUES (?, ?)", nonces.items())
    connection.executemany("INSERT INTO dropped_blobs VALUES (?, ?)", blobs)


def _emptied(url: str) -> Any:
    with sql(url) as connection:
        connection.execute(f"TRUNCATE {', '.join(CARRIED)}".encode())
    return closing(psycopg.connect(url))


def _dumped(path: Path) -> list[str]:
    """Its rows and its form. Rows of a key of text may lie in any order."""
    with closing(sqlite3.connect(path)) as connection:
        return [line for line in sorted(connection.iterdump()) if 'INTO "migrations"' not in line]
