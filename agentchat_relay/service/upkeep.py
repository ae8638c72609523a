"""What a relay does by itself: the first spaces and channels, and sweeping what has had its time."""

from __future__ import annotations

from ..store.seam import Writing
from . import channels, groups, inbox, vanishing
from .repeats import KEEP_DAYS

MAIN = "main"
SEEDED = ("global", "general")
_DAY = 86_400_000_000
_NONCES = 600_000_000  # ten windows
_EVENT_DAYS = 30
_PORTION = 1000


def seed(tx: Writing) -> bool:
    """Make the first space. Returns whether there was none."""
    if tx.one("space_by_name", name=MAIN) is not None:
        return False
    make_space(tx, MAIN)
    return True


def make_space(tx: Writing, name: str) -> None:
    space_id = tx.run("insert_space", name=name, created_at=tx.now)
    for channel in (*SEEDED, channels.DIRECT):
        channels.create(tx, space_id, channel, by=None)


def sweep(tx: Writing, at: int) -> int:
    """Delete a portion of what is too old at this time, and end what had its time; returns how much that was."""
    swept = inbox.sweep(tx, at) + groups.fan_out(tx) + vanishing.sweep(tx, at)
    swept += tx.run("sweep_nonces", before=at - _NONCES)
    swept += tx.run("sweep_turns", before=at - _DAY, limit=_PORTION)
    swept += tx.run("sweep_answers", before=at - KEEP_DAYS * _DAY, limit=_PORTION)
    for space in tx.all("space_ids"):
        swept += tx.run("sweep_events", space_id=space["id"], before=at - _EVENT_DAYS * _DAY, limit=_PORTION)
    return swept
