"""What a lock is: its states and moves, and how it travels."""

from __future__ import annotations

from typing import Any

import msgspec

from agentchat import types

from ...wire import iso
from . import machine, names
from .machine import Machine, Move, Thing, Who
from .names import Key

WAITING, HELD, RELEASED = "waiting", "held", "released"
LAPSED, BROKEN, EXPIRED, WITHDRAWN = "lapsed", "broken", "expired", "withdrawn"
LOCK = Machine(
    "lock", begins=WAITING, held=HELD, final=(RELEASED, LAPSED, BROKEN, EXPIRED, WITHDRAWN),
    moves=(
        Move("grant", Who.RELAY, (WAITING,), HELD, "granted"),
        Move("release", Who.OWNER, (HELD,), RELEASED, "released"),
        Move("withdraw", Who.OWNER, (WAITING,), WITHDRAWN, "withdrawn"),
        Move("break", Who.RELAY, (HELD,), BROKEN, "broken"),
        Move("lapse", Who.RELAY, (HELD,), LAPSED, "lapsed"),
        Move("expire", Who.RELAY, (WAITING,), EXPIRED, "expired"),
    ),
    shown=lambda row, now: snapshot(row, now),
    stale="You do not have this lock any more, or not with this fence: its lease was over, or an admin broke it. "
    "Others may have it. Nothing was changed. Stop what it was for, then call acquire_lock anew.",
    lost=(LAPSED, BROKEN), is_public=True,
)  # fmt: skip
RENEW = Move("renew", Who.OWNER, (HELD,), HELD, "")  # it tells nobody


class Details(msgspec.Struct):
    """What only locks have."""

    names: list[str]
    shared: bool
    lease: int  # seconds, from when it is granted

    @property
    def keys(self) -> list[Key]:
        return [names.key(name) for name in self.names]

    def conflicts(self, other: Details) -> bool:
        if self.shared and other.shared:
            return False
        return any(names.overlap(mine, theirs) for mine in self.keys for theirs in other.keys)

    def covers(self, other: Details) -> bool:
        """Whether whoever conflicts with the other conflicts with this one."""
        if self.shared and not other.shared:
            return False
        return all(any(names.covers(mine, theirs) for mine in self.keys) for theirs in other.keys)


_decode = msgspec.json.Decoder(Details).decode


def details_of(row: Any) -> Details:
    return _decode(row["details"])


def snapshot(thing: Thing, now: int) -> types.Lock:
    """A lock as it travels, as it stands by the clock."""
    row, details = machine.by_clock(LOCK, thing, now), details_of(thing)
    return {
        "id": row["public_id"],
        "names": details.names,
        "shared": details.shared,
        "state": row["state"],
        "version": row["version"],
        "fence": row["fence"] or None,
        "holder": row["creator_name"],
        "held_by": row["creator"],
        "reason": row["body"],
        "break_reason": row["reason"],
        "created_at": iso(row["created_at"]),
        "granted_at": _time(row["claimed_at"]),
        "lease_until": _time(row["lease_until"]),
        "waits_until": _time(row["deadline_at"]) if row["state"] == WAITING else None,
        "ended_at": _time(row["ended_at"]),
    }


def _time(at: int | None) -> str | None:
    return None if at is None else iso(at)
