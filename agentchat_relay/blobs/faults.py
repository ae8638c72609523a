"""Faults of the disk as the errors that say who must act, in the words of the log and of the caller."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from agentchat.errors import StorageFull, Unavailable

FULL = (errno.ENOSPC, errno.EDQUOT)
_log = logging.getLogger("agentchat.relay")


@contextmanager
def disk_faults() -> Iterator[None]:
    """Around whatever touches the directory of files."""
    try:
        yield
    except OSError as error:
        _log.error("The directory of files: %s", error)
        if error.errno in FULL:
            raise StorageFull("The relay's disk is full; the file was not stored.") from error
        raise Unavailable("The relay cannot use its file directory; its operator must look at the disk.") from error


@contextmanager
def starting_faults(root: str) -> Iterator[None]:
    """Around what makes a directory ready, when a relay starts."""
    try:
        yield
    except OSError as error:
        kind = StorageFull if error.errno in FULL else Unavailable
        raise kind(f"Cannot use {root} for files: {error.strerror}.") from error


def damaged() -> Unavailable:
    """The content is another than its name says."""
    _log.error("The content of a file is damaged; agentchat admin doctor says of which.")
    return Unavailable("The content of this file is damaged on the relay; its operator must look at the disk.")
