"""A schema of a real Postgres for each test, with a few agents and channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import tuple_row

from agentchat_relay.store.postgres.connection import Connection, Link, connect
from agentchat_relay.store.postgres.index import SESSION, Index
from agentchat_relay.store.postgres.migrate import prepare
from tests import postgres

_PEOPLE = """
INSERT INTO agents (id, public_id, space_id, name, created_at)
    SELECT n, 'agent-' || n, 1, 'agent' || n, 0 FROM generate_series(1, 9) n;
INSERT INTO channels (id, public_id, space_id, name, type, created_at)
    SELECT n, 'channel-' || n, 1 + n / 10, 'room' || n, 'public', 0 FROM generate_series(1, 19) n;
"""
_INSERT = """
INSERT INTO messages (id, public_id, channel_id, number, chats, created_at, author_id, recipient_id, kind, content)
VALUES (%s, 'message-' || %s, %s, 0, 0, 0, 1, %s, %s, %s)
"""


class Place:
    """A schema, and what tests do in it."""

    def __init__(self) -> None:
        self.url = postgres.new_schema()
        self._links: list[Link] = []
        self._next_id = 1
        self.own = psycopg.connect(self.url, autocommit=True, row_factory=tuple_row)
        self.sql = self.own.execute
        with self.connect() as connection:
            prepare(connection, 1)
        self.sql(_PEOPLE)

    def connect(self) -> Connection:
        return connect(self.url, SESSION)

    def link(self) -> Link:
        self._links.append(Link(self.connect))
        return self._links[-1]

    def index(self) -> Index:
        return Index(self.link())

    def post(self, *texts: str, channel: int = 1, kind: str = "chat", to: int | None = None) -> list[int]:
        """The ids of new messages of the first agent's."""
        ids = [*range(self._next_id, self._next_id + len(texts))]
        self._next_id += len(texts)
        rows = [(id, id, channel, to, kind, text) for id, text in zip(ids, texts, strict=True)]
        self.own.cursor().executemany(_INSERT, rows)
        return ids

    def one(self, sql: str, *values: Any) -> Any:
        row = self.sql(sql, values or None).fetchone()
        assert row is not None
        return row[0]

    def indexed(self) -> list[int]:
        return [id for (id,) in self.sql("SELECT id FROM fulltext ORDER BY id")]

    def close(self) -> None:
        for link in self._links:
            link.close()
        self.own.close()


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


@pytest.fixture
def index(place: Place) -> Index:
    return place.index()


def follow(index: Index) -> None:
    while index.step(wait=True):
        pass
