"""Mentions: the inbox items that messages made. Marking one read acknowledges it."""

from __future__ import annotations

from typing import Any

import msgspec

from agentchat import types

from ..store.seam import Reading, Writing
from ..wire import iso
from . import scopes
from .call import Call


def check_mentions(tx: Reading, call: Call, *, unread: bool = True, limit: int = 20) -> types.Mentions:
    if unread:
        rows = tx.all("items_open", agent_id=call.agent.id, lanes=scopes.lanes(call), now=tx.now, limit=limit + 1)
    else:
        rows = tx.all("items_all", agent_id=call.agent.id, limit=limit + 1)
    return {"mentions": [_row(row) for row in rows[:limit]], "has_more": len(rows) > limit}


def _row(row: Any) -> types.ReceivedMention:
    metadata = msgspec.json.decode(row["metadata"]) if row["metadata"] else {}
    project = metadata.get("project")
    return {
        "mention_id": row["public_id"],
        "message_id": row["message_id"],
        "channel": row["channel"],
        "from": row["author"],
        "from_project": project if isinstance(project, str) else None,
        "content": row["content"],
        "timestamp": iso(row["created_at"]),
        "read": row["done_at"] is not None,
    }


def mark_mentions_read(tx: Writing, call: Call, *, mention_ids: list[str]) -> types.MarkedRead:
    agent, kept = call.agent, list[str]()
    for mention_id in mention_ids:
        if tx.run("acknowledge_item", now=tx.now, public_id=mention_id, agent_id=agent.id):
            tx.event(agent.space_id, "inbox.acknowledged", actor_id=agent.id, subject=mention_id, audience_id=agent.id)
        elif tx.one("interrupt_waits", public_id=mention_id, agent_id=agent.id) is not None:
            kept.append(mention_id)
    answer: types.MarkedRead = {"marked_read": len(mention_ids) - len(kept)}
    if kept:
        answer["kept"] = list(dict.fromkeys(kept))
    return answer
