"""Faults of Postgres, in our words for whoever called and in the log for whoever can mend them."""

from __future__ import annotations

import logging
import time

import psycopg
from psycopg import errors

from agentchat.errors import AgentChatError, BadRequest, StorageFull, Unavailable

from ..groups import NoDatabase

_SILENCE = 60.0  # seconds before the same is told again
_BUSY = (errors.LockNotAvailable, errors.QueryCanceled, errors.SerializationFailure, errors.DeadlockDetected)
_DENIED = (errors.InsufficientPrivilege, errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName)
# Of sessions that Postgres ended because a transaction stood still, or took too long: by these they are our own fault.
_ENDED = ("25P03", "25P04")
_log = logging.getLogger("agentchat.relay")
_told: dict[str, float] = {}


def as_ours(error: Exception) -> Exception:
    """A fault that an operator can mend, or that passes, as an error of ours; others stay what they are."""
    if isinstance(error, AgentChatError) or not isinstance(error, psycopg.Error):
        return error
    found = _translated(error)
    if found is None:
        return error
    if not isinstance(found, BadRequest):
        _tell(found, error)
    return found


def _translated(error: psycopg.Error) -> AgentChatError | None:
    if isinstance(error, errors.DiskFull):
        return StorageFull("The database's disk is full; nothing was stored.")
    if isinstance(error, _BUSY):
        return Unavailable("The relay's database is busy; try again soon.", retry_after=1)
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return Unavailable("The relay's database takes no writes; its operator must look.", retry_after=2)
    if isinstance(error, _DENIED):
        return Unavailable("The relay may not use its database as it must; its operator must look.", retry_after=5)
    if isinstance(error, errors.UntranslatableCharacter) or (
        isinstance(error, psycopg.DataError) and "NUL" in str(error)
    ):
        return BadRequest("A text holds the character NUL, which no name has.")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) or error.sqlstate in _ENDED:
        return NoDatabase(retry_after=1)
    return None


def _tell(found: AgentChatError, error: psycopg.Error) -> None:
    """Once in a while. Postgres' own text may hold what it stumbled over, so that only its name is told."""
    name = error.sqlstate or type(error).__name__
    now = time.monotonic()
    if now - _told.get(name, -_SILENCE) >= _SILENCE:
        _told[name] = now
        _log.error("%s (%s %s)", found.message, type(error).__name__, name)
