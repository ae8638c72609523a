"""Which tables go along when a relay's rows are carried to another database, and which do not, with the reason.

Both engines have the same tables of the same columns for everything that counts. A table that is named nowhere here
fails a test, so that none is forgotten.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from typing import NamedTuple

from ...store.sqlite.migrate import migrate

CARRIED = (
    "spaces", "machines", "agents", "nonces", "channels", "memberships", "messages", "pins", "inbox", "files",
    "answers", "events", "marks", "dropped_blobs", "group_members", "fan_outs", "turns", "work", "work_offers",
    "work_contexts", "work_log", "work_names", "fences", "work_parts", "spreads",
)  # fmt: skip
LEFT = {
    "migrations": "what was done to this database, and when",
    "unindexed": "SQLite's index has its words taken out by it; the index is made anew",
    "fulltext": "the index is made anew, by the relay",
    "fulltext_progress": "the same",
    "epochs": "how often this database's relays forgot something",
    "secrets": "a relay gives its own, of its directory, to a database that has none",
    "allowances": "how much each agent may do in this minute",
    "attempts": "the same for attempts at secrets",
}


class Table(NamedTuple):
    """A table as both engines have it; the columns in SQLite's order, those of the key in the key's."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    texts: frozenset[str]  # columns of text, which Postgres sorts in many ways

    @property
    def listed(self) -> str:
        return ", ".join(f'"{column}"' for column in self.columns)


@cache
def tables() -> tuple[Table, ...]:
    """What is carried, in the form that this version gives a new database."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, "sqlite")
        return tuple(_table(connection, name) for name in CARRIED)


def _table(connection: sqlite3.Connection, name: str) -> Table:
    found = connection.execute(f"PRAGMA table_info({name})").fetchall()
    in_key = sorted((place, column) for _, column, _, _, _, place in found if place)
    return Table(
        name,
        tuple(column for _, column, *_ in found),
        tuple(column for _, column in in_key),
        frozenset(column for _, column, type, *_ in found if type == "TEXT"),
    )
