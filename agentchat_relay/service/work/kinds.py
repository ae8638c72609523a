"""Every kind of work there is, and what the relay does with all of them by itself."""

from __future__ import annotations

from typing import NamedTuple

from ...store.seam import Reading, Writing
from . import approvals, interrupts, locks, pauses, tasks
from .approval import APPROVAL
from .interrupt import INTERRUPT
from .lock import LOCK
from .machine import Machine, found
from .pause import PAUSE
from .task import TASK

KINDS: dict[str, Machine] = {machine.kind: machine for machine in (TASK, LOCK, INTERRUPT, PAUSE, APPROVAL)}
_SETTLED = {
    TASK.kind: tasks.settle,
    LOCK.kind: locks.settle,
    INTERRUPT.kind: interrupts.settle,
    PAUSE.kind: pauses.settle,
    APPROVAL.kind: approvals.settle,
}
_DELETED = ("delete_offers", "delete_spread", "delete_parts", "delete_work_context", "delete_work_log", "delete_work")
_PORTION = 100
_DAY = 86_400_000_000
_BRIEF = 30  # days that a lock which ended is kept at most, as events are


class Due(NamedTuple):
    """The store's time, and when the next deadline or lease is over; None: nothing has one."""

    now: int
    at: int | None


def due(tx: Reading) -> Due:
    row = tx.one("next_work_due")
    return Due(tx.now, None if row is None else row["at"])


def purge(tx: Writing, at: int) -> int:
    """Delete a portion of what ended and was kept long enough at this time, which is the caller's; how much that was.
    Events that name it tell nothing of it any more."""
    rows = tx.all("work_kept_enough", now=at, day=_DAY, brief=_BRIEF, limit=_PORTION)
    for row in rows:
        for statement in _DELETED:
            tx.run(statement, id=row["id"], work_id=row["id"])
    return len(rows)


def settle(tx: Writing) -> int:
    """Make a portion of what is over by the clock explicit, or tell a portion of those whom a pause is still to reach;
    returns how much that was."""
    rows = tx.all("work_due", now=tx.now, limit=_PORTION)
    for row in rows:
        kind = row["kind"]
        _SETTLED[kind](tx, found(tx, row["space_id"], kind, row["public_id"]))
    return len(rows) or pauses.spread(tx)
