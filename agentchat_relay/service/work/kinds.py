"""Every kind of work there is, and what the relay does with all of them by itself."""

from __future__ import annotations

from typing import NamedTuple

from ...store.seam import Reading, Writing
from . import tasks
from .machine import Machine, found
from .task import TASK

KINDS: dict[str, Machine] = {machine.kind: machine for machine in (TASK,)}
_SETTLED = {TASK.kind: tasks.settle}
_PORTION = 100
_DAY = 86_400_000_000


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
    rows = tx.all("work_kept_enough", now=at, day=_DAY, limit=_PORTION)
    for row in rows:
        for statement in ("delete_offers", "delete_work_context", "delete_work_log", "delete_work"):
            tx.run(statement, **{"work_id" if statement == "delete_offers" else "id": row["id"]})
    return len(rows)


def settle(tx: Writing) -> int:
    """Make a portion of what is over by the clock explicit; returns how much that was."""
    rows = tx.all("work_due", now=tx.now, limit=_PORTION)
    for row in rows:
        kind = row["kind"]
        _SETTLED[kind](tx, found(tx, row["space_id"], kind, row["public_id"]))
    return len(rows)
