"""Presence: who is here, from when an agent was seen last. It says nothing about mail, which is taken for everybody.

An agent is seen when it calls, and as long as it has a stream or a wait open. That is written down once a minute at
most, and read by the store's clock, so that all relays of one store say the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from agentchat import types

from ..store.seam import Writing

_MINUTE = 60_000_000
SEEN_EVERY = _MINUTE  # microseconds
ONLINE = 3 * SEEN_EVERY  # a note may come late, or be lost, before anybody looks idle
PRESENT = 30 * _MINUTE  # a model may be busy for so long without a call; then it counts as offline
AHEAD = _MINUTE  # who was seen later than that was seen when a clock was wrong


class Between(NamedTuple):
    """Which times of being seen make a presence: those between the two, or all others."""

    seen_after: int
    seen_before: int
    is_between: int = 1


def of(seen_at: int | None, now: int) -> types.Presence:
    """The presence of an agent that was seen last at this time."""
    ago = now - (seen_at or 0)
    if not -AHEAD <= ago < PRESENT:
        return "offline"
    return "online" if ago < ONLINE else "idle"


def between(presence: str | None, now: int) -> Between:
    """The same the other way round; None is any."""
    match presence:
        case "online":
            return Between(now - ONLINE + 1, now + AHEAD)
        case "idle":
            return Between(now - PRESENT + 1, now - ONLINE)
        case "offline":
            return Between(now - PRESENT + 1, now + AHEAD, 0)
    return Between(0, 1 << 62)


def see(tx: Writing, agent_id: int) -> None:
    """Note that an agent is here: once in a group of calls, which share their time."""
    fact = ("seen", agent_id)
    if tx.memo.get(fact) != tx.now:
        tx.memo[fact] = tx.now
        tx.later("see_agent", now=tx.now, id=agent_id)


def see_all(tx: Writing, *, agent_ids: Iterable[int]) -> None:
    for agent_id in agent_ids:
        see(tx, agent_id)
