"""The database's log is begun anew, whoever reads meanwhile."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from agentchat_relay.store.seam import Lane
from agentchat_relay.store.sqlite import engine
from agentchat_relay.store.sqlite.engine import Sqlite

pytestmark = pytest.mark.sqlite


def test_readers_without_a_gap_do_not_make_the_log_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One of two always holds a snapshot, so that SQLite by itself would never begin its log anew."""
    monkeypatch.setattr(engine, "_LONG_LOG", 60)
    monkeypatch.setattr(engine, "_BETWEEN_CHECKPOINTS", 0.0)
    store, over = Sqlite(str(tmp_path)), threading.Event()
    turns = [threading.Semaphore(1), threading.Semaphore(0)]

    def read(me: int) -> None:
        with closing(sqlite3.connect(tmp_path / "agentchat.db", isolation_level=None)) as reader:
            while not over.is_set():
                turns[me].acquire(timeout=20)
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM spaces").fetchone()
                turns[1 - me].release()  # the other begins before this one ends
                over.wait(0.005)
                reader.execute("ROLLBACK")

    readers = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    for thread in readers:
        thread.start()
    try:
        largest = 0
        for number in range(400):
            content = f"{number} " + "x" * 9000
            store.ask(Lane.WRITE, lambda tx, content=content: tx.run("insert_space", name=content, created_at=0))
            largest = max(largest, os.path.getsize(tmp_path / "agentchat.db-wal"))
        assert largest < 300 * 4096, "1,600 pages were written"
    finally:
        over.set()
        for turn in turns:
            turn.release()
        for thread in readers:
            thread.join()
        store.close()
