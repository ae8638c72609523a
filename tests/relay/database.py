"""The rows of a relay as another process sees and changes them, on the engine of this run.

With `--engine postgres` each data directory stands for a schema of its own. SQL is what both engines take, with `?`.
Wherever a directory is named, the URL of a schema may be.
"""

from __future__ import annotations

import itertools
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from agentchat_relay.embedded import Embedded
from agentchat_relay.store.postgres.engine import Postgres
from agentchat_relay.store.seam import Store
from agentchat_relay.store.sqlite.engine import Sqlite
from tests import postgres
from tests.relay.sharing import Shared

Where = Embedded | Shared | Path | str
BrokenRule = (sqlite3.IntegrityError, psycopg.IntegrityError)
engine = "sqlite"  # what --engine says
_schemas: dict[str, str] = {}
# Every process that writes waits for its turn, says that it had one, and that names and keys may have changed.
TURN = """
SELECT pg_advisory_xact_lock(hashtextextended('agentchat ' || current_schema(), 0)), setval('turn_writer', 0);
UPDATE epochs SET epoch = epoch + 1
"""


def examples(number: int) -> int:
    """So many, and fewer where each costs more: what is tried is the same code, on another engine."""
    return number if engine == "sqlite" else max(number * 2 // 5, 1)


def open_store(url: str, directory: str, **options: Any) -> Store:
    """What a relay opens: with `--engine postgres` this stands in for its own."""
    url = url or url_of(directory)
    return Postgres(url, **options) if url else Sqlite(directory, **options)


def _path(where: Where) -> str:
    return where.directory.path if isinstance(where, Embedded | Shared) else os.fspath(where)


def url_of(where: Where) -> str:
    """The schema that a directory stands for, made when it is first asked for; empty where SQLite is meant."""
    name = _path(where)
    if "://" in name:
        return name
    if engine == "postgres" and name not in _schemas:
        _schemas[name] = postgres.new_schema()
    return _schemas.get(name, "")


Ask = Callable[..., list[Any]]


def ask(where: Where, sql: str, *values: Any) -> list[Any]:
    """Run a statement in a transaction of its own; the rows it gives."""
    with opened(where) as run:
        return run(sql, *values)


@contextmanager
def opened(where: Where) -> Iterator[Ask]:
    """The same, over one connection."""
    if url := url_of(where):
        with psycopg.connect(url, cursor_factory=psycopg.RawCursor) as connection:
            yield partial(_run, connection)
    else:
        with closing(sqlite3.connect(Path(_path(where), "agentchat.db"), isolation_level=None)) as database:
            yield lambda sql, *values: database.execute(sql, values).fetchall()


def _run(connection: psycopg.Connection[Any], sql: str, *values: Any) -> list[Any]:
    numbers = itertools.count(1)
    numbered = re.sub(r"\?", lambda _: f"${next(numbers)}", sql)
    with connection.transaction():
        if not sql.startswith("SELECT"):
            connection.execute(TURN)
        found = connection.execute(numbered, values)
        return found.fetchall() if found.description else []


def tables(where: Where) -> list[str]:
    """Without those of the full-text index, which follows when it can."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    if url_of(where):
        sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() "
        sql += "AND table_name NOT LIKE 'fulltext%'"
    return sorted(row[0] for row in ask(where, sql))


def columns(where: Where, table: str) -> list[str]:
    """In the order of `SELECT *`."""
    sql = "SELECT name FROM pragma_table_info(?) ORDER BY cid"
    if url_of(where):
        sql = "SELECT attname FROM pg_attribute WHERE attrelid = CAST(CAST(? AS TEXT) AS REGCLASS) AND attnum > 0 "
        sql += "AND NOT attisdropped ORDER BY attnum"
    return [row[0] for row in ask(where, sql, table)]
