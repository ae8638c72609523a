"""What a pause is: its states and moves, and how it travels."""

from __future__ import annotations

from agentchat import types

from ...wire import iso
from . import machine
from .machine import Machine, Move, Thing, Who

PAUSED, RESUMED, EXPIRED = "paused", "resumed", "expired"
PAUSE = Machine(
    "pause", begins=PAUSED, held=None, final=(RESUMED, EXPIRED),
    moves=(
        Move("resume", Who.LEADER, (PAUSED,), RESUMED, "resumed"),
        Move("expire", Who.RELAY, (PAUSED,), EXPIRED, "expired"),
    ),
    shown=lambda row, now: snapshot(row, now), is_public=True,
)  # fmt: skip


def snapshot(thing: Thing, now: int) -> types.Pause:
    """A pause as it travels, as it stands by the clock."""
    row = machine.by_clock(PAUSE, thing, now)
    return {
        "id": row["public_id"],
        "of": "group" if row["channel_id"] is None else "channel",
        "name": row["channel_name"] or row["target_name"],
        "reason": row["body"],
        "state": row["state"],
        "version": row["version"],
        "paused_by": row["creator_name"],
        "note": row["reason"],
        "created_at": iso(row["created_at"]),
        "expires_at": iso(row["deadline_at"]),
        "ended_at": None if row["ended_at"] is None else iso(row["ended_at"]),
    }
