"""What an approval is: its states and moves, and how it travels."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from agentchat import types
from agentchat.approval import call_hash
from agentchat.errors import BadRequest

from ...wire import DEEPEST, depth, iso
from . import machine
from .machine import Machine, Move, Thing, Who

PENDING, ALLOWED, EDITED, DENIED = "pending", "allowed", "edited", "denied"
ANSWERED, WITHDRAWN, EXPIRED = "answered", "withdrawn", "expired"
APPROVAL = Machine(
    "approval", begins=PENDING, held=None, final=(ALLOWED, EDITED, DENIED, ANSWERED, WITHDRAWN, EXPIRED),
    moves=(
        Move("allow", Who.REVIEWER, (PENDING,), ALLOWED, "allowed"),
        Move("edit", Who.REVIEWER, (PENDING,), EDITED, "edited"),
        Move("deny", Who.REVIEWER, (PENDING,), DENIED, "denied"),
        Move("respond", Who.REVIEWER, (PENDING,), ANSWERED, "answered"),
        Move("dismiss", Who.REVIEWER, (PENDING,), PENDING, "dismissed"),
        Move("withdraw", Who.CREATOR, (PENDING,), WITHDRAWN, "withdrawn"),
        Move("expire", Who.RELAY, (PENDING,), EXPIRED, "expired"),
    ),
    shown=lambda row, now: snapshot(row, now), is_reviewed=True,
)  # fmt: skip
_VERDICTS = {ALLOWED: "allow", EDITED: "edit", DENIED: "deny", EXPIRED: "deny", ANSWERED: "respond"}
_MOST_SHOWN = 2000  # characters of the arguments


class Details(msgspec.Struct):
    """What only approvals have: the arguments as JSON in their canonical form, and what stands for the call."""

    arguments: str
    call_hash: str

    @property
    def preview(self) -> str:
        return self.arguments[:_MOST_SHOWN]


_decode = msgspec.json.Decoder(Details).decode


def details_of(row: Any) -> Details:
    return _decode(row["details"])


def arguments_of(text: str) -> dict[str, Any]:
    """The arguments of a call, from their JSON, read as clients read it: numbers of any length among it. What readers
    could take for different things is refused."""
    try:
        arguments = json.loads(
            text, parse_constant=_no_number, parse_float=_number, parse_int=_whole, object_pairs_hook=_once
        )
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"arguments must be a JSON object, as text: {error}.") from None
    if not isinstance(arguments, dict):
        raise BadRequest('arguments must be a JSON object, as text, like {"path": "a.txt"}.')
    if depth(arguments) > DEEPEST:
        raise BadRequest(f"arguments must not be nested deeper than {DEEPEST}; readers could not take them apart.")
    return arguments


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        raise ValueError("a name stands twice in one object")
    return found


def _number(word: str) -> float:
    if math.isinf(number := float(word)):
        raise ValueError(f"{word[:40]} is too large a number")
    return number


def _whole(word: str) -> int:
    try:
        return int(word)
    except ValueError:  # Python's own words would tell the agent to change a setting of the relay's process
        raise ValueError(f"the number {word[:40]}… has too many digits, {len(word.lstrip('-'))}") from None


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def allowed_of(thing: Thing) -> dict[str, Any] | None:
    """The arguments that the tool may be called with."""
    if thing["state"] == ALLOWED:
        return arguments_of(details_of(thing).arguments)
    return arguments_of(thing["result"]) if thing["state"] == EDITED else None


def snapshot(thing: Thing, now: int) -> types.Approval:
    """An approval as it travels, as it stands by the clock."""
    row, details = machine.by_clock(APPROVAL, thing, now), details_of(thing)
    allowed = allowed_of(row)
    return {
        "id": row["public_id"],
        "tool_name": row["title"],
        "preview": details.preview,
        "arguments_size": len(details.arguments),
        "call_hash": details.call_hash,
        "reason": row["body"],
        "state": row["state"],
        "verdict": _VERDICTS.get(row["state"]),
        "allowed_hash": None if allowed is None else call_hash(row["title"], allowed),
        "message": row["reason"],
        "version": row["version"],
        "requester": row["creator_name"],
        "requested_by": row["creator"],
        "decided_by": row["owner_name"],
        "message_id": row["message"],
        "urgent": bool(row["urgent"]),
        "created_at": iso(row["created_at"]),
        "deadline_at": iso(row["deadline_at"]),
        "ended_at": None if row["ended_at"] is None else iso(row["ended_at"]),
    }
