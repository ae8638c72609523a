"""Retirement: an agent that was not seen for as many days as the operator chose gets no mail until it is back.

What waited for it ends as dead letters, which it can bring back, and whoever wrote that learns of it: once for a
message, however many did not get it. All of it goes in portions, each of which leaves things as they may be: retired
first, then given back, and what was left half done is gone on with by whoever looks next. Any call brings an agent
back. One that is deleted is retired for good.
"""

from __future__ import annotations

from ..store.seam import Row, Writing
from ..wire import new_id
from . import agents, inbox, presence, vanishing
from .work import approvals, machine

_DAY = 86_400_000_000
_PORTION = 200


def retire(tx: Writing, at: int, *, days: int) -> int:
    """Retire a portion of those not seen for so many days at this time, which is the caller's; returns how many."""
    stale = tx.all("stale_agents", before=at - days * _DAY, limit=_PORTION)
    for row in stale:
        tx.run("retire_agent", id=row["id"], now=tx.now)
        tx.event(row["space_id"], "agent.retired", actor_id=None, subject=row["public_id"])
    if stale:
        tx.forget()
    return len(stale)


def give_back(tx: Writing, at: int) -> int:
    """End a portion of what waits for agents that were retired; returns how much that was."""
    rows = tx.all("items_of_retired", now=tx.now, limit=_PORTION)
    for row in rows:
        inbox.end(tx, row, "dead", row["space_id"], row["agent_id"], row["channel_id"], reason="retired")
        if row["message_id"] is not None and not row["author"].startswith(agents.GRAVE):
            _tell_author(tx, row)
        if row["vanishing"] and row["name"].startswith(agents.GRAVE):
            vanishing.let_go(tx, row["message_id"])
    return len(rows)


def for_good(tx: Writing, agent_id: int) -> None:
    """Give back what waits for an agent that was deleted, a portion now; the next ones follow by themselves."""
    for letter in tx.all("dead_vanishing", agent_id=agent_id):
        vanishing.let_go(tx, letter["id"])
    give_back(tx, tx.now)


def _tell_author(tx: Writing, row: Row) -> None:
    public_id, author_id = new_id(tx.now), row["author_id"]
    if tx.run(
        "insert_returned", public_id=public_id, agent_id=author_id, message_id=row["message_id"], created_at=tx.now,
        vanishing=row["vanishing"],
    ):  # fmt: skip
        tx.event(
            row["space_id"], "inbox.added", actor_id=None, subject=public_id, channel_id=row["channel_id"],
            audience_id=author_id,
        )  # fmt: skip


def arrive(tx: Writing, agent_id: int) -> None:
    """Note that an agent is here which was not for long. If it had been retired, it is back."""
    presence.see(tx, agent_id)
    row = tx.one("retired_agent", id=agent_id)
    if row is not None:
        tx.run("unretire_agent", id=agent_id)
        tx.event(row["space_id"], "agent.returned", actor_id=agent_id, subject=row["public_id"])
        tx.forget()
        if machine.is_reviewer(tx, agent_id):
            approvals.welcome(tx, row["space_id"], agent_id)
