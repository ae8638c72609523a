"""Several processes on one directory, with no server between them: whose turn it is to write, what others wrote, and
whether the directory is still the one that was opened.

SQLite keeps them apart, and gives one that is quick every turn: whoever finds its lock taken sleeps for up to 100 ms
and tries again. So they wait for `DIR/turn` first, a lock of the kernel's, which goes to whoever of those that wait has
waited longest, and ends with its holder, however that ends.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from agentchat.errors import StorageFull, Unavailable

from ..faults import as_ours
from ..groups import NoDatabase
from ..seam import News
from .transaction import epoch_of

_EVERY = 0.01  # seconds between two looks while somebody waits for news
_log = logging.getLogger("agentchat.relay")


class Turn:
    """`with` it, nobody else in the directory writes. The file is open for so long only: a child that is forked in
    between would keep the turn from all others."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, "turn")
        self._file = -1

    def __enter__(self) -> None:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except BaseException:
            os.close(file)
            raise
        self._file = file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)


def refusal(error: OSError, path: str) -> Exception:
    """Why nobody gets a turn here, for who waits for one."""
    found = as_ours(error)
    if isinstance(found, StorageFull):
        return found
    return Unavailable(f"Cannot write in {os.path.dirname(path)}: {error.strerror}. Nothing was stored.")


class Own:
    """The database that was opened, as long as it stands at its path. After `rm -r`, or `git clean`, whoever has it
    open could go on, and write what nobody will ever read. `lost` is told."""

    def __init__(self, path: str, lost: Callable[[], object]) -> None:
        self._path, self._lost = path, lost
        self._opened = os.stat(path)
        self._was_told = False

    def check(self) -> None:
        try:
            if os.path.samestat(os.stat(self._path), self._opened):
                return
            why = "it was removed and made anew"
        except OSError as error:
            why = str(error.strerror)
        told = f"Cannot use {os.path.dirname(self._path)} any more: {why}."
        if not self._was_told:
            self._was_told = True
            _log.warning("%s", told)
        self._lost()
        raise NoDatabase(f"{told} Nothing was stored.")


class Lookout:
    """Tells what other processes have committed, while somebody wants to know. Nobody else does: it looks at a number
    that SQLite keeps in shared memory. It ends when `check` raises."""

    def __init__(
        self, path: str, connect: Callable[[str], Any], tell: Callable[[News], object], check: Callable[[], None]
    ) -> None:
        self._path, self._connect, self._tell, self._check = path, connect, tell, check
        self._wanted, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def listen(self, is_wanted: bool) -> None:
        if not is_wanted:
            self._wanted.clear()
            return
        self._wanted.set()
        if self._thread is None and not self._closed.is_set():
            self._thread = threading.Thread(target=self._run, name="agentchat-lookout", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        connection, seen = None, -1
        while not self._closed.wait(_EVERY):
            self._wanted.wait()
            try:
                self._check()
                connection = connection or self._connect(self._path)
                if (version := connection.execute("PRAGMA data_version").fetchone()[0]) != seen:
                    self._tell(_news(connection))
                    seen = version
            except NoDatabase:
                break
            except sqlite3.Error as error:  # it looks again; and a wait that is told nothing looks by itself
                _log.warning("Cannot see what other processes write: %s", error)
                self._closed.wait(1.0)
        if connection is not None:
            connection.close()


def _news(connection: Any) -> News:
    connection.execute("BEGIN")
    try:
        positions = dict(connection.execute("SELECT id, position FROM spaces").fetchall())
        return News(epoch_of(connection.execute), positions)
    finally:
        connection.execute("ROLLBACK")
