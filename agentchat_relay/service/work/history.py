"""What happened to a thing, for whoever may see it."""

from __future__ import annotations

from agentchat import types

from ...store.seam import Reading
from ...wire import iso
from .machine import Thing

MOST = 50


def of(tx: Reading, thing: Thing) -> list[types.Transition]:
    """The newest transitions, oldest first."""
    rows = tx.all("work_history", work_id=thing["id"], after=thing["version"] - MOST, limit=MOST)
    return [
        {
            "version": line["version"],
            "action": line["action"],
            "actor": line["actor"],
            "before": line["before"],
            "after": line["after"],
            "fence": line["fence"],
            "note": line["note"],
            "at": iso(line["at"]),
        }
        for line in rows
    ]
