"""What keeps a command from doing its work, told so that the operator knows what to do next."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from agentchat.errors import AgentChatError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM)


class Refused(AgentChatError):
    """Nothing was done, for a reason that can be mended."""

    code = "refused"


@contextmanager
def database_faults(doing: str) -> Iterator[None]:
    """Faults of the database while `doing` something, as refusals."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", None) == "SQLITE_INTERRUPT":  # Ctrl-C, noticed by a progress handler
            raise KeyboardInterrupt from error
        raise Refused(f"{doing} failed: {error}. {_after(error)}") from error


@contextmanager
def faults(doing: str) -> Iterator[None]:
    """The same, and those of the disk."""
    with database_faults(doing):
        try:
            yield
        except BrokenPipeError:  # no disk: the reader of our output has seen enough
            raise
        except OSError as error:
            where = f" ({os.fsdecode(error.filename)})" if error.filename is not None else ""
            raise Refused(f"{doing} failed: {error.strerror or error}{where}. {_next(error)}") from error


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is wrong: torn, no database, or without the tables it must have."""
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or name == "SQLITE_ERROR"


def _after(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return "Make room on the disk and try again."
    if is_damage(error):
        return "The database is damaged: agentchat admin doctor says how far; agentchat admin restore takes a backup."
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
        return "Run this as the user that owns the directory."
    return "Look at the disk (is it full or broken?) and try again."


def _next(error: OSError) -> str:
    if error.errno in _FULL:
        return "Make room on the disk and try again."
    if error.errno in _DENIED:
        return "Run this as the user that owns the directory."
    if error.errno == errno.ENOENT:
        return "Make the directory first."
    return "Look at the disk and try again."
