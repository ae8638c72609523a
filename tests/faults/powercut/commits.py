"""Commits rows to a SQLite file in WAL mode and prints each id when its commit has returned; another thread reads.

python commits.py DATABASE SYNCHRONOUS WAL_AUTOCHECKPOINT
"""

from __future__ import annotations

import random
import sqlite3
import sys
import threading


def body(identifier: int) -> bytes:
    """What the row of that id holds: from a few bytes to three pages."""
    luck = random.Random(identifier)
    return luck.randbytes(luck.choice([10, 500, 12_000]))


def connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    return connection


def read(path: str) -> None:
    """Snapshots in the way of the checkpoints."""
    connection = connect(path)
    while True:
        connection.execute("BEGIN")
        connection.execute("SELECT total(length(body)) FROM rows").fetchone()
        connection.execute("SELECT body FROM rows ORDER BY id DESC").fetchone()
        connection.execute("COMMIT")


def main(path: str, synchronous: str, checkpoint: str) -> None:
    connection = connect(path)
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint}")
    (identifier,) = connection.execute("SELECT coalesce(max(id), 0) FROM rows").fetchone()
    threading.Thread(target=read, args=(path,), daemon=True).start()
    while True:
        identifier += 1
        connection.execute("INSERT INTO rows VALUES (?, ?)", (identifier, body(identifier)))
        print(identifier, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
