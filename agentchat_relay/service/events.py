"""Events: what was committed, in one order for each space, without holes.

A row says that something happened and to what; what is told of it is read from its subject when it is given out, once
for all readers. Who may see an event: everybody in the space if it has no audience, else its audience and its actor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from agentchat.errors import PositionExpired

from ..store.seam import Reading, Row
from ..wire import iso
from . import inbox, messages
from .call import Agent

_encode = msgspec.json.encode


class Happened(NamedTuple):
    """An event, and how it travels. It is small beside `body`, which is the same for everybody."""

    position: int
    kind: str
    actor_id: int | None
    channel_id: int | None
    audience_id: int | None
    body: bytes  # JSON on one line

    def is_visible_to(self, agent_id: int) -> bool:
        return self.audience_id is None or agent_id in (self.audience_id, self.actor_id)

    def concerns(self, agent_id: int) -> bool:
        """Whether it is this agent's own affair."""
        return agent_id in (self.audience_id, self.actor_id)


def head(tx: Reading, space_id: int) -> int:
    """The newest position of a space."""
    return int(tx.the("space_position", id=space_id)["position"])


def after(tx: Reading, space_id: int, position: int, limit: int) -> list[Happened]:
    """What came after a position, oldest first. It must be in the log, or at its end."""
    rows = tx.all("events_after", space_id=space_id, position=position, limit=limit)
    if not rows or rows[0]["position"] != position + 1:
        _check_kept(tx, space_id, position, rows)
    return [_happened(tx, row) for row in rows]


def _check_kept(tx: Reading, space_id: int, position: int, rows: list[Row]) -> None:
    newest = head(tx, space_id)
    if not rows and position == newest:
        return
    first = rows[0]["position"] if rows else newest + 1
    if position > newest:
        what = f"Position {position} is ahead of this relay's log, which ends at {newest}"
    else:
        what = f"Events up to position {first - 1} are no longer kept, and {position} is before that"
    raise PositionExpired(
        f"{what}. Read what you need anew (get_briefing, read_messages), then go on from position {newest}.",
        details={"first": first - 1, "position": newest},
    )


def _happened(tx: Reading, row: Row) -> Happened:
    tell = _DATA.get(row["kind"])
    body = {
        "position": row["position"],
        "kind": row["kind"],
        "at": iso(row["created_at"]),
        "actor": row["actor"],
        "channel": row["channel"],
        "subject": row["subject"],
        "data": None if tell is None else tell(tx, row),
    }
    return Happened(row["position"], row["kind"], row["actor_id"], row["channel_id"], row["audience_id"], _encode(body))


# What each kind tells besides. Whatever is gone by now tells nothing.


def _message(tx: Reading, event: Row) -> Any:
    row = tx.one("message_of", public_id=event["subject"])
    return None if row is None else {"message": messages.whole(tx, row["id"], False)}


def _item(tx: Reading, event: Row) -> Any:
    row = tx.one("inbox_item", public_id=event["subject"])
    return None if row is None else {"item": inbox.travelling(row)}


def _agent(tx: Reading, event: Row) -> Any:
    row = tx.one("agent_of", public_id=event["subject"])
    if row is None:
        return None
    return {"agent": row["name"], "card": None if row["card"] is None else msgspec.Raw(row["card"].encode())}


_DATA: dict[str, Callable[[Reading, Row], Any]] = {
    "message.created": _message,
    "inbox.added": _item,
    "agent.joined": _agent,
    "agent.card": _agent,
}


class Filter(NamedTuple):
    """Which events somebody wants."""

    agent: Agent
    channel_id: int | None = None
    kinds: frozenset[str] = frozenset()
    families: frozenset[str] = frozenset()
    mine: bool = False

    def wants(self, event: Happened) -> bool:
        return (
            (event.concerns(self.agent.id) if self.mine else event.is_visible_to(self.agent.id))
            and (self.channel_id is None or event.channel_id == self.channel_id)
            and (
                not (self.kinds or self.families)
                or event.kind in self.kinds
                or event.kind.partition(".")[0] in self.families
            )
        )


def filter_of(agent: Agent, *, channel_id: int | None = None, kind: str | None = None, mine: bool = False) -> Filter:
    named = (kind or "").split(",") if kind else []
    whole = frozenset(name for name in named if "." in name)
    return Filter(agent, channel_id, whole, frozenset(named) - whole, mine)
