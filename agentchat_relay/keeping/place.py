"""A directory that a restore or a move makes a relay's.

The database gets its name last, so that a directory whose filling was interrupted is no relay's, and the same command
can begin it again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..blobs.opening import BLOBS
from ..directory import Directory
from ..durable import sync_directory
from . import snapshot
from .folder import sync
from .refusal import Refused

PARTIAL = f"{snapshot.DATABASE}.partial"
_SETTINGS = "relay.toml"
_OURS = {"lock", _SETTINGS, BLOBS, PARTIAL}


def check_empty(path: str) -> None:
    """Nothing may be there, except what was interrupted, and settings."""
    found = set(os.listdir(path)) if os.path.isdir(path) else {path} if os.path.lexists(path) else set()
    if not found <= ({*_OURS} if PARTIAL in found else {"lock", _SETTINGS}):
        raise Refused(f"{path} is not empty. Name a new directory, or move what is there away first.")


@contextmanager
def held(directory: Directory, purpose: str) -> Iterator[bool]:
    """The directory, for us alone, and emptied of what an interruption left: whether there was something. After an
    error nothing is left."""
    is_new = not os.path.isdir(directory.path)
    directory.hold(purpose)
    try:
        check_empty(directory.path)  # a relay may have been faster
        yield _clear(directory.path)
    except BaseException:
        _clear(directory.path)
        with suppress(OSError):
            os.unlink(os.path.join(directory.path, "lock"))
            if is_new:
                os.rmdir(directory.path)
        raise
    finally:
        directory.release()


def finish(path: str) -> None:
    """Everything is there: make it durable, and a relay's."""
    sync(path)
    os.rename(os.path.join(path, PARTIAL), os.path.join(path, snapshot.DATABASE))
    sync_directory(path)


def _clear(path: str) -> bool:
    """Remove what was interrupted; whether there was something."""
    found = os.path.lexists(partial := os.path.join(path, PARTIAL))
    if found:
        shutil.rmtree(os.path.join(path, BLOBS), ignore_errors=True)
        os.unlink(partial)
    return found
