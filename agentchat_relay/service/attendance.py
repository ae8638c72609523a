"""Attendance: who came and who went in a space since somebody looked. What there is to look at are rows; whoever looks
remembers how they were, so that all relays tell of the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from agentchat import types

from ..store.seam import Reading
from ..wire import iso
from . import agents, events, presence

_MOST = 5000  # agents of a space that are not offline; while there are more, nobody is told of any
Attending = Mapping[int, types.Presence]  # who is not offline


class Change(NamedTuple):
    """An agent whose presence changed, and the event that says so. It stands in no log and has no position."""

    agent_id: int
    body: bytes


class Looked(NamedTuple):
    attending: Attending | None
    changes: list[Change]


def look(tx: Reading, space_id: int, before: Attending | None) -> Looked:
    """Who is here, and what is new since; without a before, nothing is."""
    rows = tx.all(
        "agents_seen", space_id=space_id, since=tx.now - presence.PRESENT + 1, until=tx.now + presence.AHEAD,
        limit=_MOST + 1,
    )  # fmt: skip
    if len(rows) > _MOST:
        return Looked(before, [])
    attending: Attending = {row["id"]: presence.of(row["last_seen_at"], tx.now) for row in rows}
    if before is None:
        return Looked(attending, [])
    changed = [id for id in {**before, **attending} if before.get(id) != attending.get(id)]
    changes = [_change(tx, id, attending.get(id, "offline")) for id in changed]
    return Looked(attending, [change for change in changes if change is not None])


def _change(tx: Reading, agent_id: int, now: types.Presence) -> Change | None:
    row = tx.the("seen_agent", id=agent_id)
    if row["name"].startswith(agents.GRAVE):  # the log has told that it is deleted
        return None
    card = msgspec.json.decode(row["card"]) if row["card"] else {}
    data = {
        "agent": row["name"],
        "presence": now,
        "status_line": card.get("status_line"),
        "last_seen_at": iso(row["last_seen_at"]) if row["last_seen_at"] else None,
    }
    return Change(
        agent_id, events.told(events.PRESENCE, tx.now, actor=row["name"], subject=row["public_id"], data=data)
    )
