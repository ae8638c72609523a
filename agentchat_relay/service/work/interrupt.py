"""What an interrupt is: its states and moves, and how it travels."""

from __future__ import annotations

from typing import Any

import msgspec

from agentchat import types

from ...wire import iso
from . import machine
from .machine import Machine, Move, Thing, Who

PENDING, ACKNOWLEDGED, WITHDRAWN, EXPIRED = "pending", "acknowledged", "withdrawn", "expired"
INTERRUPT = Machine(
    "interrupt", begins=PENDING, held=None, final=(ACKNOWLEDGED, WITHDRAWN, EXPIRED),
    moves=(
        Move("acknowledge", Who.TARGET, (PENDING,), ACKNOWLEDGED, "acknowledged"),
        Move("withdraw", Who.CREATOR, (PENDING,), WITHDRAWN, "withdrawn"),
        Move("expire", Who.RELAY, (PENDING,), EXPIRED, "expired"),
    ),
    shown=lambda row, now: snapshot(row, now),
)  # fmt: skip


class Details(msgspec.Struct):
    """What only interrupts have: what it is for, and the pause that it belongs to."""

    purpose: str = "attention"
    pause: str | None = None


_decode = msgspec.json.Decoder(Details).decode


def details_of(row: Any) -> Details:
    return _decode(row["details"])


def snapshot(thing: Thing, now: int) -> types.Interrupt:
    """An interrupt as it travels, as it stands by the clock."""
    row, details = machine.by_clock(INTERRUPT, thing, now), details_of(thing)
    return {
        "id": row["public_id"],
        "purpose": details.purpose,
        "reason": row["body"],
        "state": row["state"],
        "version": row["version"],
        "sender": row["creator_name"],
        "sent_by": row["creator"],
        "target": row["target_name"],
        "pause_id": details.pause,
        "note": row["reason"],
        "message_id": row["message"],
        "created_at": iso(row["created_at"]),
        "expires_at": iso(row["deadline_at"]),
        "ended_at": None if row["ended_at"] is None else iso(row["ended_at"]),
    }
