"""SQLite's store: its migrations, spoiled indexes and full disks."""

from __future__ import annotations

import os
import random
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from agentchat import Client
from agentchat.errors import AgentChatError, NotConfigured, StorageFull, Unavailable
from agentchat_relay.embedded import running
from agentchat_relay.store.query import read_query
from agentchat_relay.store.seam import Lane
from agentchat_relay.store.sqlite.engine import Sqlite, connect
from agentchat_relay.store.sqlite.index import match
from agentchat_relay.store.sqlite.migrate import migrate
from agentchat_relay.store.statements import statements
from tests.relay.conftest import UNLIMITED
from tests.relay.peek import Peek, threads
from tests.relay.test_values import QUERY_TEXTS

pytestmark = pytest.mark.sqlite


# Migrations


def schema(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()


@pytest.fixture(scope="module")
def whole_schema(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    directory = tmp_path_factory.mktemp("schema")
    Sqlite(directory).close()
    return schema(directory / "agentchat.db")


def test_a_file_of_a_newer_relay_is_refused_and_left_alone(tmp_path: Path):
    Sqlite(tmp_path).close()
    path = tmp_path / "agentchat.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO migrations VALUES (9999, 'from_the_future', 1)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    there, before = path.read_bytes(), threads()
    with pytest.raises(NotConfigured, match="newer version"):
        Sqlite(tmp_path)
    assert threads() == before
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute("SELECT max(number) FROM migrations").fetchone() == (9999,)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.read_bytes()[100:] == there[100:]


class Fragile(sqlite3.Connection):
    """Fails at the n-th statement that creates or inserts something."""

    left = 0

    def execute(self, sql: str, *values: Any) -> Any:  # type: ignore[override]
        if re.match(r"\s*(CREATE|INSERT)", sql):
            Fragile.left -= 1
            if Fragile.left == 0:
                raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *values)


def fragile(path: str) -> Any:
    return sqlite3.connect(path, factory=Fragile, isolation_level=None, check_same_thread=False)


@pytest.mark.parametrize("at", [1, 2, 3, 10, 20, 30])
def test_an_interrupted_migration_is_made_again(tmp_path: Path, whole_schema: list[Any], at: int):
    Fragile.left, before = at, threads()
    with pytest.raises(Unavailable, match="I/O"):
        Sqlite(tmp_path, connect=fragile)
    assert threads() == before
    assert len(schema(tmp_path / "agentchat.db")) <= 1  # the table of migrations at most
    Sqlite(tmp_path).close()
    assert schema(tmp_path / "agentchat.db") == whole_schema


# What lists for people search with LIKE, whose pattern SQLite looks at when it plans.
PLANNED_ANEW = {"find_agents", "list_agents", "channels_joined"}
LISTS = {"below", "lanes", "leading", "names", "states", "tags"}  # parameters that are lists


def test_no_statement_is_planned_anew_with_every_call():
    """As SQLite does without a word where an index of only some rows could be meant by what a parameter says."""
    planned: list[int] = []
    with closing(sqlite3.connect(":memory:", isolation_level=None, cached_statements=1000)) as connection:
        migrate(connection, "sqlite")
        connection.set_authorizer(lambda *what: planned.append(1) or sqlite3.SQLITE_OK)
        found = set()
        for name, statement in statements("sqlite").items():
            connection.execute("BEGIN")
            for number in (1, 2):
                planned.clear()
                values = [f'["{number}"]' if one in LISTS else number for one in statement.names]
                with suppress(sqlite3.IntegrityError):
                    connection.execute(statement.sql, values).fetchall()
            if planned:
                found.add(name)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    assert found == PLANNED_ANEW


def test_a_file_that_is_no_database_is_not_overwritten(tmp_path: Path):
    before = threads()
    (tmp_path / "agentchat.db").write_bytes(b"precious notes of somebody\n" * 200)
    with pytest.raises((AgentChatError, sqlite3.DatabaseError)):
        Sqlite(tmp_path)
    assert (tmp_path / "agentchat.db").read_bytes() == b"precious notes of somebody\n" * 200
    assert threads() == before


# The search index


@contextmanager
def relay_at(path: Path, **more: Any) -> Iterator[Client]:
    with (
        running(str(path), settings=UNLIMITED, **more) as relay,
        Client(relay.url, relay.token("mac-search"), retries=5) as client,
    ):
        yield client


def filled(path: Path, count: int, word: str) -> None:
    with relay_at(path) as client:
        for number in range(count):
            client.send_message("general", f"{word} number{number}")


def remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def spoil_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for at in range(4096 * 2, len(content)):
        content[at] = at * 7 % 256
    path.write_bytes(content)


def other_schema(path: Path) -> None:
    remove(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE fulltext (other TEXT)")
        connection.execute("CREATE TABLE progress (other TEXT)")


SPOILED: dict[str, Callable[[Path], object]] = {
    "deleted": remove,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"this is no database\n" * 500),
    "random": lambda path: path.write_bytes(random.Random(5).randbytes(50_000)),
    "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "first page only": lambda path: path.write_bytes(path.read_bytes()[:4096]),
    "junk in the middle": spoil_middle,
    "another schema": other_schema,
    "stray log": lambda path: path.with_name("search.db-wal").write_bytes(b"junk" * 2000),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_spoiled_index_is_made_again(tmp_path: Path, kind: str):
    filled(tmp_path, 60, "needle")
    SPOILED[kind](tmp_path / "search.db")
    check_index(tmp_path)


def check_index(path: Path) -> None:
    with relay_at(path) as client:
        assert len(client.search_messages("needle")["results"]) == 50
        for number in (0, 31, 59):
            contents = [hit["content"] for hit in client.search_messages(f"number{number} needle")["results"]]
            assert contents == [f"needle number{number}"]
        client.send_message("general", "needle newest")
        assert len(client.search_messages("newest")["results"]) == 1
        assert client.search_messages("straw")["results"] == []


@pytest.mark.parametrize("count", [1, 60, 90])
def test_the_index_of_another_database_is_made_again(tmp_path: Path, count: int):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    filled(ours, 60, "needle")
    filled(theirs, count, "straw")
    remove(ours / "search.db")
    shutil.copy(theirs / "search.db", ours / "search.db")
    check_index(ours)


def test_an_index_that_lags_behind_catches_up(tmp_path: Path):
    filled(tmp_path, 30, "needle")
    old = (tmp_path / "search.db").read_bytes()
    with relay_at(tmp_path) as client:
        for number in range(30, 60):
            client.send_message("general", f"needle number{number}")
    remove(tmp_path / "search.db")
    (tmp_path / "search.db").write_bytes(old)
    check_index(tmp_path)


# Full disks


class Disk:
    """Databases that cannot grow beyond so many pages, until there is room again."""

    def __init__(self, name: str, pages: int) -> None:
        self._name = name
        self._pages = pages
        self._connections: list[Any] = []

    def connect(self, path: str) -> Any:
        connection = connect(path)
        if os.path.basename(path) == self._name:
            connection.execute(f"PRAGMA max_page_count = {self._pages}")
            self._connections.append(connection)
        return connection

    def grow(self, tx: Any) -> None:
        """A call for WRITE, so that nobody else writes meanwhile."""
        for connection in self._connections:
            connection.execute("PRAGMA max_page_count = 1000000")


def test_a_full_disk_loses_nothing_and_gets_well_again(tmp_path: Path):
    Peek(tmp_path).store.close()
    disk = Disk("agentchat.db", (tmp_path / "agentchat.db").stat().st_size // 4096 + 40)
    peek = Peek(tmp_path, connect=disk.connect)
    kept: list[str] = []
    refused = 0
    while refused < 10:
        text = f"{len(kept)}:{refused} " + "x" * 2000
        try:
            peek.ask(Lane.APPEND, peek.post(text))
            kept.append(text)
        except StorageFull:
            refused += 1
    assert len(kept) > 5
    assert peek.contents() == kept
    peek.check_numbers()
    texts = [f"together {number} " + "y" * 2000 for number in range(30)]
    told = peek.together(*((Lane.APPEND, peek.post(text)) for text in texts))
    assert {type(error) for _, error in told} <= {type(None), StorageFull}
    assert any(isinstance(error, StorageFull) for _, error in told)
    kept += [text for text, (_, error) in zip(texts, told, strict=True) if error is None]
    assert peek.contents() == kept
    assert len(peek.ask(Lane.READ, lambda tx: tx.all("list_spaces"))) == 1
    peek.ask(Lane.WRITE, disk.grow)
    told = peek.together(*((Lane.APPEND, peek.post(text)) for text in texts))
    assert all(error is None for _, error in told)
    assert peek.contents() == kept + texts
    peek.check_numbers()
    peek.store.close()


def test_callers_of_a_full_relay_are_told_so(tmp_path: Path):
    filled(tmp_path, 1, "x")
    disk, sent = Disk("agentchat.db", (tmp_path / "agentchat.db").stat().st_size // 4096 + 20), 1
    with (
        running(str(tmp_path), settings=UNLIMITED, connect=disk.connect) as relay,
        Client(relay.url, relay.token("mac-full"), retries=0) as client,
    ):
        with pytest.raises(StorageFull) as caught:
            while True:
                client.send_message("general", f"{sent} " + "x" * 5000)
                sent += 1
        assert caught.value.status == 507
        assert sent > 3
        assert len(client.read_messages("general", limit=200)["messages"]) == sent
        relay.ask(disk.grow)
        client.send_message("general", "well again")
        assert len(client.read_messages("general", limit=200)["messages"]) == sent + 1


def test_an_index_that_cannot_grow_stops_no_message(tmp_path: Path):
    disk = Disk("search.db", 30)
    with relay_at(tmp_path, connect=disk.connect) as client:
        luck = random.Random(3)
        for _ in range(150):
            client.send_message("general", " ".join(f"{luck.getrandbits(40):x}" for _ in range(300)))
        with suppress(Unavailable, StorageFull):
            assert client.with_options(retries=0).search_messages("nothing")["results"] == []
        assert len(client.read_messages("general", limit=200)["messages"]) == 150


# Queries


@given(text=QUERY_TEXTS)
def test_the_engine_takes_any_query(text: str):
    query = read_query(text)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE fulltext USING fts5(content, place, tokenize = 'porter unicode61')")
        connection.execute("INSERT INTO fulltext VALUES ('a b ab or', 's1')")
        if query:
            connection.execute(
                "SELECT rowid FROM fulltext WHERE fulltext MATCH ?", (match(query, ["s1", "d2"]),)
            ).fetchall()
