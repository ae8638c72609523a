"""A place for temporary files that belongs to one process, among those of others: `ROOT/<random>/`.

Its lock is the kernel's, so that it ends with the process, however that ends. Whoever makes a place next removes those
whose lock nobody holds, and never one that is in use, be it on another machine.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LOCK = "lock"  # of a place, and, beside the places, of whoever makes or removes one


class Place:
    """A directory of this process alone, until `close` removes it with whatever is in it."""

    def __init__(self, root: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(root, 0o700)
        with _locked(root):
            _sweep(root)
            self.path = tempfile.mkdtemp(dir=root)
            self._lock = _opened(self.path)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        """It goes before its lock, so that no one else removes it at the same time."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def sweep(root: str) -> None:
    """Remove what dead processes left."""
    with _locked(root):
        _sweep(root)


def _sweep(root: str) -> None:
    for name in left_in(root):
        _remove(os.path.join(root, name))


def left_in(root: str) -> list[str]:
    """What dead processes left, by name; or a process that is just about to take its place."""
    names = os.listdir(root) if os.path.isdir(root) else []
    return sorted(name for name in names if name != LOCK and not _is_held(os.path.join(root, name)))


def _is_held(place: str) -> bool:
    try:
        lock = os.open(os.path.join(place, LOCK), os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):  # half made, or an older version's file
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)


@contextmanager
def _locked(root: str) -> Iterator[None]:
    lock = _opened(root)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _opened(folder: str) -> int:
    return os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT, 0o600)
