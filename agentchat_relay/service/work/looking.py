"""Looking at tasks: one, a list of them, and what concerns an agent."""

from __future__ import annotations

from typing import Any

import msgspec

from agentchat import types
from agentchat.contract import MOST_WORK, MOST_WORK_MENTIONS
from agentchat.errors import NotFound

from ...store.seam import Reading
from ...wire import Cursor, micros, read_cursor
from .. import channels, mentions
from ..call import Call
from . import history, machine
from .task import OPEN, STATUS, TASK, snapshot

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_PIECE = 100_000  # characters of a context in one answer
_END = 2**62
_encode = msgspec.json.encode


def get_task(tx: Reading, call: Call, *, task_id: str) -> types.TaskDetails:
    row = machine.seen(tx, call, TASK, task_id)
    return {"task": snapshot(row, tx.now), "history": history.of(tx, row), "has_more": row["version"] > history.MOST}


def read_task_context(tx: Reading, call: Call, *, task_id: str, offset: int = 0) -> types.TaskContext:
    row = machine.seen(tx, call, TASK, task_id)
    found = tx.one("work_context", work_id=row["id"], begin=offset + 1, size=_PIECE)
    if found is None:
        raise NotFound(f"Nothing came with task {task_id}; its body is all there is.")
    end = offset + len(found["content"])
    return {
        "task_id": task_id,
        "context": found["content"],
        "offset": offset,
        "size": found["size"],
        "has_more": end < found["size"],
    }


def list_tasks(
    tx: Reading,
    call: Call,
    *,
    status: str | None = None,
    capability: str | None = None,
    mine: str | None = None,
    channel: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> types.TaskList:
    me = call.agent
    place = f"tasks {me.space_id}"
    before = Cursor(place, _END) if cursor is None else read_cursor(cursor, place)
    states = [state for word, states in STATUS.items() if status in (None, word) for state in states]
    which: dict[str, tuple[str, dict[str, int]]] = {
        "created": ("list_work_by", {"creator_id": me.id}),
        "claimed": ("list_work_of", {"owner_id": me.id}),
    }
    statement, whose = which.get(mine or "", ("list_work", {"space_id": me.space_id}))
    channel_id = None if channel is None else channels.find(tx, call, channel).id
    if channel_id is not None and mine is None:
        statement, whose = "list_work_in", {"channel_id": channel_id}
    rows = tx.all(
        statement, kind=TASK.kind, agent_id=me.id, now=tx.now, before=before.at, states=_encode(states).decode(),
        tag="" if capability is None else f'%"{capability}"%', in_channel=channel_id or 0, limit=limit + 1, **whose,
    )  # fmt: skip
    more = len(rows) > limit
    return {
        "tasks": [_found(tx, call, row["public_id"]) for row in rows[:limit]],
        "next_cursor": str(Cursor(place, rows[limit - 1]["id"])) if more else None,
        "has_more": more,
    }


def check_work(tx: Reading, call: Call, *, since: str | None = None) -> types.Work:
    begin = tx.now - _DAY if since is None else micros(since, "since")
    me = call.agent
    tags = tx.the("tags_of", id=me.id)["tags"].split()

    def listed(statement: str, **values: Any) -> list[types.Task]:
        rows = tx.all(statement, kind=TASK.kind, limit=MOST_WORK, now=tx.now, **values)
        return [_found(tx, call, row["public_id"]) for row in rows]

    return {
        "mentions": mentions.check_mentions(tx, call, limit=MOST_WORK_MENTIONS)["mentions"],
        "offered_to_me": listed("offered_to", agent_id=me.id, state=OPEN),
        "open_matching": listed("offered", space_id=me.space_id, tags=_encode(["", *tags]).decode()),
        "mine_claimed": listed("held_by", agent_id=me.id),
        "completed_for_me": listed("ended_for", agent_id=me.id, since=begin, is_done=1),
        "failed_for_me": listed("ended_for", agent_id=me.id, since=begin, is_done=0),
        "declined_for_me": listed("unwanted_of", agent_id=me.id),
    }


def _found(tx: Reading, call: Call, public_id: str) -> types.Task:
    return snapshot(machine.found(tx, call.agent.space_id, TASK.kind, public_id), tx.now)
