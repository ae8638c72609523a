"""What a task is: its states and moves, and how it travels."""

from __future__ import annotations

from typing import Any

import msgspec

from agentchat import types

from ...wire import iso
from . import machine
from .machine import Machine, Move, Thing, Who

OPEN, CLAIMED, DECLINED, DONE = "open", "claimed", "declined", "done"
FAILED, CANCELLED, EXPIRED = "failed", "cancelled", "expired"
TASK = Machine(
    "task", begins=OPEN, held=CLAIMED, final=(DONE, FAILED, CANCELLED, EXPIRED),
    moves=(
        Move("claim", Who.TAKER, (OPEN,), CLAIMED, "claimed"),
        Move("decline", Who.TARGET, (OPEN,), DECLINED, "declined"),
        Move("progress", Who.OWNER, (CLAIMED,), CLAIMED, "progressed"),
        Move("return", Who.OWNER, (CLAIMED,), OPEN, "returned"),
        Move("complete", Who.OWNER, (CLAIMED,), DONE, "completed"),
        Move("fail", Who.OWNER, (CLAIMED,), FAILED, "failed"),
        Move("offer", Who.CREATOR, (OPEN, DECLINED), OPEN, "offered"),
        Move("cancel", Who.CREATOR, (OPEN, CLAIMED, DECLINED), CANCELLED, "cancelled"),
        Move("lapse", Who.RELAY, (CLAIMED,), OPEN, "lapsed"),
        Move("expire", Who.RELAY, (OPEN, CLAIMED, DECLINED), EXPIRED, "expired"),
    ),
    shown=lambda row, now: snapshot(row, now),
    stale="You do not have this task any more, or not with this fence: your lease was over, or you gave it back. Its "
    "fence is {fence} by now. Nothing was changed. Stop this work, or claim it anew.",
)  # fmt: skip
RENEW = Move("renew", Who.OWNER, (CLAIMED,), CLAIMED, "")  # it tells nobody
STATUS = {"open": (OPEN,), "claimed": (CLAIMED,), "done": (DONE,), "cancelled": (DECLINED, FAILED, CANCELLED, EXPIRED)}
_STATUS = {state: word for word, states in STATUS.items() for state in states}


def snapshot(thing: Thing, now: int) -> types.Task:
    """A task as it travels, as it stands by the clock."""
    row = machine.by_clock(TASK, thing, now)
    state = row["state"]
    task: types.Task = {
        "id": row["public_id"],
        "title": row["title"],
        "body": row["body"],
        "status": _STATUS[state],
        "state": state,
        "version": row["version"],
        "fence": row["fence"],
        "channel": row["channel_name"],
        "channel_id": row["channel"],
        "target": row["target_name"],
        "capability_tags": tags_of(row),
        "creator": row["creator_name"],
        "created_by": row["creator"],
        "claimant": row["owner_name"],
        "claimed_by": row["owner"],
        "result": row["result"],
        "reason": row["reason"],
        "message_id": row["message"],
        "result_message_id": row["result_message"],
        "created_at": iso(row["created_at"]),
        "claimed_at": _time(None if row["owner_id"] is None else row["claimed_at"]),
        "completed_at": _time(row["ended_at"]),
        "deadline_at": _time(row["deadline_at"]),
        "lease_until": _time(row["lease_until"]),
        "context_size": row["context_size"],
        "result_schema": result_schema_of(row),
        "urgent": bool(row["urgent"]),
    }
    if row["scope"]:
        task["scope"] = row["scope"]
    return task


def result_schema_of(row: Thing) -> dict[str, Any] | None:
    found = msgspec.json.decode(row["details"], type=dict[str, Any]) if row["details"] else {}
    schema: dict[str, Any] | None = found.get("result_schema")
    return schema


def _time(at: int | None) -> str | None:
    return None if at is None else iso(at)


def tags_of(row: Thing) -> list[str]:
    return msgspec.json.decode(row["tags"], type=list[str]) if row["tags"] else []
