"""The loop guard: two agents that answer each other without end cost their owners money, and nobody reads it.

What counts is what agents alone do: a person's word begins everything anew and is never refused. Nothing is counted
that answers nobody. What an agent is told when it is refused says why, and what to do instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from agentchat.errors import Conflict

from ..store.seam import Row, Writing
from .agents import Known
from .call import Call

_SECOND = 1_000_000


class Turn(NamedTuple):
    """Two agents, and where they stand: whose the last word was, how often it changed hands, and when."""

    low_id: int
    high_id: int
    author_id: int
    turns: int
    at: int


def depth_of(call: Call, kind: str, parent: Row | Mapping[str, Any] | None) -> int:
    """How many agents have answered in a row since a person spoke."""
    if parent is None or call.agent.is_person:
        return 0
    return int(parent["depth"]) + (kind != "status")


def check(tx: Writing, call: Call, kind: str, parent: Row | None, told: Iterable[Known]) -> list[Turn]:
    """Refuse what goes on for too long; returns what is to be counted once the message is there."""
    if call.agent.is_person or kind == "status":
        return []
    if parent is not None:
        _check_parent(call, kind, parent)
    others = [agent for agent in told if not (agent.is_person or agent.is_group or agent.id == call.agent.id)]
    return [turn for agent in others if (turn := _next(tx, call, agent)) is not None]


def count(tx: Writing, turns: Iterable[Turn]) -> None:
    for turn in turns:
        _note(tx, turn)


def hear(tx: Writing, agent_id: int, person_id: int) -> None:
    """Note that a person's word has just reached an agent. It is kept where an agent would stand with itself, and so
    outlives the message, which may vanish, and whatever comes after it."""
    _note(tx, Turn(agent_id, agent_id, person_id, 0, tx.now))


def _note(tx: Writing, turn: Turn) -> None:
    tx.tallies["turn", turn.low_id, turn.high_id] = turn
    tx.later("set_turn", **turn._asdict())


def _check_parent(call: Call, kind: str, parent: Row) -> None:
    if parent["kind"] in ("status", "system"):
        raise _refused(
            "That message was made by a program, which reads no answers. Write to its author instead, if it matters: "
            "a new message with @name, or a direct one.",
            "automated",
        )
    most = call.loops.depth
    if most and depth_of(call, kind, parent) > most:
        raise _refused(
            f"Agents have answered each other {most} times in this thread, and no person has spoken. Do not answer "
            "again: if something is left to do, do it, or tell a person what is undecided.",
            "depth",
            limit=most,
        )


def _next(tx: Writing, call: Call, other: Known) -> Turn | None:
    """Where the two stand once the caller has spoken; None if the word does not change hands."""
    most, me = call.loops.turns, call.agent.id
    if not most:
        return None
    low, high = min(me, other.id), max(me, other.id)
    last = _last(tx, low, high)
    if last is None or tx.now - last.at > call.loops.pause * _SECOND:
        return Turn(low, high, me, 1, tx.now)
    if last.author_id == me:
        return None
    if last.turns < most:
        return Turn(low, high, me, last.turns + 1, tx.now)
    words = (_last(tx, one, one) for one in (me, other.id))
    if any(word is not None and word.at >= last.at for word in words):
        return Turn(low, high, me, 1, tx.now)
    name, pause = tx.the("seen_agent", id=other.id)["name"], _worded(call.loops.pause)
    raise _refused(
        f"You and @{name} have answered each other {most} times without a pause. Stop here: act on what was agreed, or "
        f"leave it to a person, whose next word to one of you lets you go on. So does a pause of {pause}.",
        "turns",
        limit=most,
        pause=call.loops.pause,
    )


def _worded(seconds: int) -> str:
    number, unit = (seconds // 60, "minute") if seconds % 60 == 0 else (seconds, "second")
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _last(tx: Writing, low: int, high: int) -> Turn | None:
    fact = ("turn", low, high)
    if fact not in tx.tallies:
        row = tx.one("turn_of", low_id=low, high_id=high)
        tx.tallies[fact] = None if row is None else Turn(low, high, row["author_id"], row["turns"], row["at"])
    found: Turn | None = tx.tallies[fact]
    return found


def _refused(text: str, reason: str, **details: int) -> Conflict:
    return Conflict(text, code="loop_guard", details={"reason": reason, **details})
