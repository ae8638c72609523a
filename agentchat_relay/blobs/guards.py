"""Who holds contents: threads of one process, or processes by a lock file. `store/postgres/guard.py` has a third."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .seam import Guard, Hold


class InProcess(Guard):
    """For contents that only this process removes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shared = 0
        self._alone = False

    def share(self) -> Hold:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._shared += 1
        return _Held(self, alone=False)

    def alone(self) -> Hold | None:
        with self._changed:
            if self._alone or self._shared:
                return None
            self._alone = True
        return _Held(self, alone=True)

    def let_go(self, *, alone: bool) -> None:
        with self._changed:
            if alone:
                self._alone = False
                self._changed.notify_all()
            else:
                self._shared -= 1

    def close(self) -> None:
        pass


class _Held(Hold):
    def __init__(self, guard: InProcess, *, alone: bool) -> None:
        self._guard: InProcess | None = guard
        self._alone = alone

    def sure(self) -> None:
        pass  # it cannot be lost

    def release(self) -> None:
        if self._guard is not None:
            self._guard.let_go(alone=self._alone)
            self._guard = None


class LockFile(Guard):
    """For a directory, `ROOT/lock`. Each hold is a lock of the kernel by itself, so that two of one process are to each
    other as two of different processes are, and none survives its process. NFS has it from version 4 on."""

    def __init__(self, root: str) -> None:
        self._root = root

    def share(self) -> Hold:
        lock = _opened(self._root)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
        except BaseException:
            os.close(lock)
            raise
        return _Locked(lock)

    def alone(self) -> Hold | None:
        lock = _opened(self._root)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        except BaseException:
            os.close(lock)
            raise
        return _Locked(lock)

    def close(self) -> None:
        pass


class _Locked(Hold):
    def __init__(self, lock: int) -> None:
        self._lock = lock

    def sure(self) -> None:
        pass  # it ends when its file is closed

    def release(self) -> None:
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def _opened(root: str) -> int:
    lock = os.open(os.path.join(root, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    if os.geteuid() == 0:  # who may back up what belongs to another user, and must not shut that one out
        owner = os.stat(root)
        os.fchown(lock, owner.st_uid, owner.st_gid)
    return lock


@contextmanager
def kept(root: str) -> Iterator[None]:
    """While this lasts, no process removes a content below `root`."""
    hold = LockFile(root).share()
    try:
        yield
    finally:
        hold.release()
