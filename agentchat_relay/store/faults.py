"""Faults of the engine at work: in our words for whoever called, and in the log for whoever can mend them."""

from __future__ import annotations

import errno
import logging
import time

from agentchat.errors import AgentChatError, StorageFull, Unavailable

_SILENCE = 60.0  # seconds before the same is told again
_log = logging.getLogger("agentchat.relay")
_told: dict[str, float] = {}


def as_ours(error: Exception) -> Exception:
    """A fault that an operator can mend as an error of ours; others stay what they are."""
    if isinstance(error, AgentChatError):
        return error
    found = _of_disk(error) if isinstance(error, OSError) else _translated(str(error).lower())
    if found is None:
        return error
    if not isinstance(found, _Busy):
        _tell(found, error)
    return found


class _Busy(Unavailable):
    """The relay's database is busy; try again soon."""


def _of_disk(error: OSError) -> AgentChatError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("The relay's disk is full; nothing was stored.")
    return Unavailable("The relay cannot use its disk; its operator must look at it.")


def _translated(text: str) -> AgentChatError | None:
    if "disk is full" in text or "no space left" in text:
        return StorageFull("The relay's disk is full; nothing was stored.")
    if "locked" in text or "busy" in text:
        return _Busy()
    if "readonly" in text or "disk i/o" in text or "unable to open" in text:
        return Unavailable("The relay cannot write to its database; its operator must look at the disk.")
    if "malformed" in text or "not a database" in text or "could not decode" in text:
        return Unavailable("The relay's database is damaged; its operator must look: agentchat admin doctor.")
    return None


def _tell(found: AgentChatError, error: Exception) -> None:
    """Once in a while. The engine's own text may hold what it stumbled over, so it tells its name for that."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    now = time.monotonic()
    if now - _told.get(name, -_SILENCE) >= _SILENCE:
        _told[name] = now
        _log.error("%s (%s)", found.message, name)
