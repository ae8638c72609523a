"""The inbox: everything that waits for one agent, in one order, urgent items first, then the oldest.

Items are given out under a lease. A claim is the agent's last word on an item until somebody claims it anew: when its
lease is over the item may be given to another session, and only then an acknowledgement comes too late. So an item is
acknowledged once, and never by one who has lost it to another. An item that was given out too often without that is a
dead letter, one that had its time has expired: each ends in one way, and only a dead letter can be brought back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from agentchat import types
from agentchat.errors import Conflict, Forbidden, NotFound

from ..store.seam import Reading, Row, Writing
from ..wire import Cursor, iso, new_id, read_cursor
from . import scopes
from .call import Call
from .notices import FIRST

MOST_DELIVERIES = 5  # without an acknowledgement, then it is a dead letter
LONGEST_LEASE = 3_600_000_000
_CHECK_LEASE = 300
_REST = 30_000_000
_CHARACTERS = 12_000  # of all texts in one answer of check_inbox, so that a model sees each of them
_ANY = 1 << 40
_MOST_RECEIPTS = 500
_PORTION = 500
_SECOND = 1_000_000
_INTERRUPT = "interrupt"  # an item of this kind ends with what it is about
_WORK = frozenset({"task", "lock", _INTERRUPT, "approval"})  # items about something that has a state


# Looking


def peek_inbox(tx: Reading, call: Call, *, limit: int = 20, cursor: str | None = None) -> types.InboxPage:
    place = f"inbox {call.agent.id}"
    at = FIRST if cursor is None else read_cursor(cursor, place).at  # an id, and two bits for how urgent it is
    rows = tx.all(
        "peek_items", agent_id=call.agent.id, lanes=scopes.lanes(call), is_urgent=at & 3, after=at >> 2,
        now=tx.now, limit=limit + 1,
    )  # fmt: skip
    more = len(rows) > limit
    last = rows[limit - 1] if more else None
    return {
        "items": [travelling(tx, row, tx.now) for row in rows[:limit]],
        "next_cursor": None if last is None else str(Cursor(place, last["id"] << 2 | last["urgent"])),
        "has_more": more,
        "scopes": scopes.waiting_elsewhere(tx, call),
    }


def travelling(tx: Reading, row: Row, now: int | None = None) -> types.InboxItem:
    """An item as it travels. `now` is for whoever wants to know whether somebody holds it."""
    metadata = msgspec.json.decode(row["metadata"]) if row["metadata"] else {}
    project = metadata.get("project")
    item: types.InboxItem = {
        "item_id": row["public_id"],
        "kind": row["kind"],
        "urgent": bool(row["urgent"]),
        "deliveries": row["deliveries"],
        "message_id": row["message_id"],
        "channel": row["channel"],
        "from": row["author"],
        "from_project": project if isinstance(project, str) else None,
        "content": row["content"],
        "timestamp": iso(row["created_at"]),
        "expires_at": iso(row["expires_at"]) if row["expires_at"] else None,
    }
    if row["scope"]:
        item["scope"] = row["scope"]
    if row["vanishes_at"] is not None:
        item["ephemeral"] = True
    if now is not None and (row["lease_until"] or 0) > now:
        item["claimed_until"] = iso(row["lease_until"])
    if row["kind"] in _WORK and isinstance(id := metadata.get(f"{row['kind']}_id"), str):
        work = tx.one("work_state", public_id=id)
        item["work"] = {"id": id, "kind": row["kind"], "state": "gone" if work is None else work["state"]}
    if row["kind"] == "returned":
        retired = tx.all("undelivered_to", message_id=row["message_id"], limit=_MOST_RECEIPTS)
        item["undelivered_to"] = [agent["name"] for agent in retired]
    return item


def get_receipts(tx: Reading, call: Call, *, message_id: str) -> types.Receipts:
    what = {"public_id": message_id, "space_id": call.agent.space_id, "agent_id": call.agent.id}
    row = tx.one("find_message", **what) or tx.one("find_vanished", **what)
    if row is None:
        raise NotFound(f"There is no message {message_id}.")
    if row["author_id"] != call.agent.id:
        raise Forbidden("Only its author can ask what became of a message.")
    rows = tx.all("receipts_of", message_id=row["id"], limit=_MOST_RECEIPTS)
    return {"message_id": message_id, "receipts": [_receipt(receipt, tx.now) for receipt in rows]}


def _receipt(row: Row, now: int) -> types.Receipt:
    is_held = row["claim_id"] is not None and (row["lease_until"] or 0) > now
    state = "claimed" if is_held else "stored"
    if row["done_at"] is not None:
        state = row["outcome"] or "acknowledged"
    elif not is_held and row["expires_at"] is not None and row["expires_at"] <= now:
        state = "expired"
    receipt: types.Receipt = {
        "agent_name": row["name"],
        "kind": row["kind"],
        "state": state,
        "deliveries": row["deliveries"],
        "stored_at": iso(row["created_at"]),
        "claimed_at": iso(row["claimed_at"]) if row["claimed_at"] else None,
        "ended_at": iso(row["done_at"]) if row["done_at"] else None,
    }
    if row["scope"]:
        receipt["scope"] = row["scope"]
    if state == "dead":
        receipt["reason"] = _reason(row)
    return receipt


def _reason(row: Row) -> str:
    """Why an item is dead."""
    return row["reason"] or "deliveries"


def list_dead_letters(tx: Reading, call: Call, *, limit: int = 20) -> types.DeadLetters:
    return dead_letters(tx, call.agent.id, limit)


def dead_letters(tx: Reading, agent_id: int, limit: int) -> types.DeadLetters:
    rows = tx.all("dead_items", agent_id=agent_id, limit=limit + 1)
    items: list[types.DeadLetter] = [
        {**travelling(tx, row), "ended_at": iso(row["done_at"]), "reason": _reason(row)} for row in rows[:limit]
    ]
    return {"items": items, "has_more": len(rows) > limit}


# Claiming


def check_inbox(tx: Writing, call: Call, *, limit: int = 10, seen: str | None = None) -> types.Inbox:
    acknowledged = 0 if seen is None else _acknowledge(tx, call, seen)
    found = _claim(tx, call, limit, _CHECK_LEASE, call.session or "", _CHARACTERS)
    found["acknowledged"] = acknowledged
    return found


def claim_items(
    tx: Writing, call: Call, *, limit: int = 10, lease: int = 300, acknowledge: bool = False
) -> types.Inbox:
    claimed = _claim(tx, call, limit, lease, None, _ANY)
    if acknowledge and claimed["claim_id"]:
        claimed["acknowledged"] = _acknowledge(tx, call, claimed["claim_id"])
        claimed["lease_until"] = None
    return claimed


def _claim(tx: Writing, call: Call, limit: int, lease: int, session: str | None, characters: int) -> types.Inbox:
    agent = call.agent
    for tired in tx.all("tired_items", agent_id=agent.id, now=tx.now, most=MOST_DELIVERIES):
        end(tx, tired, "dead", agent.space_id, agent.id, None)
    claim_id = new_id(tx.now)
    until = tx.now + lease * _SECOND
    claimed = tx.run(
        "claim_items", claim_id=claim_id, now=tx.now, lease_until=until, session=session, agent_id=agent.id,
        lanes=scopes.lanes(call), longest=LONGEST_LEASE, limit=limit, characters=characters,
    )  # fmt: skip
    if not claimed:
        return {"items": [], "claim_id": None, "lease_until": None, "has_more": False, "acknowledged": 0}
    _tell(tx, call, "inbox.claimed", claim_id)
    items, has_more = _claimed(tx, call, claim_id)
    return {
        "items": items, "claim_id": claim_id, "lease_until": iso(until), "has_more": has_more, "acknowledged": 0,
    }  # fmt: skip


def _claimed(tx: Reading, call: Call, claim_id: str) -> tuple[list[types.InboxItem], bool]:
    rows = tx.all("claimed_items", agent_id=call.agent.id, claim_id=claim_id, lanes=scopes.lanes(call), now=tx.now)
    return [travelling(tx, row) for row in rows], bool(rows and rows[0]["has_more"])


def kept(claimed: types.Inbox) -> dict[str, Any]:
    """What is kept of an answer that gave out items, for a repeat of the call: not their texts."""
    return {**claimed, "items": []}


def told_again(tx: Reading, call: Call, answer: types.Inbox) -> types.Inbox:
    """The answer to a repeat: what the claim gave out, except what another has got since."""
    if answer["claim_id"] is None:
        return answer
    return {**answer, "items": _claimed(tx, call, answer["claim_id"])[0]}


# What becomes of a claim


def acknowledge_items(
    tx: Writing, call: Call, *, claim_id: str, item_ids: list[str] | None = None
) -> types.ClaimChange:
    held = _held(tx, call, claim_id, item_ids)
    for row in held:
        if row["outcome"] is not None:
            raise _over(claim_id, held, f"item {row['public_id']} is {row['outcome']}")
    open = [row for row in held if row["done_at"] is None]
    acknowledged = _acknowledge_rows(tx, call, claim_id, open)
    answer: types.ClaimChange = {
        "claim_id": claim_id, "items": len(held) - len(open) + acknowledged, "idempotent": not open,
    }  # fmt: skip
    if acknowledged < len(open):
        answer["kept"] = [row["public_id"] for row in open if row["kind"] == _INTERRUPT]
    return answer


def return_items(
    tx: Writing, call: Call, *, claim_id: str, item_ids: list[str] | None = None, delay: int = 0
) -> types.ClaimChange:
    held = _open(tx, call, claim_id, item_ids)
    dead = [row for row in held if row["deliveries"] >= MOST_DELIVERIES and row["kind"] != _INTERRUPT]
    for row in dead:
        end(tx, row, "dead", call.agent.space_id, call.agent.id, None, by=call.agent.id)
    until = tx.now + delay * _SECOND if delay else None
    for row in held:
        if row not in dead:
            tx.run("return_claimed", id=row["id"], claim_id=claim_id, lease_until=until)
            _tell(tx, call, "inbox.returned", row["public_id"])
    return {"claim_id": claim_id, "items": len(held), "idempotent": False, "dead": len(dead)}


def renew_claim(tx: Writing, call: Call, *, claim_id: str, lease: int = 300) -> types.ClaimChange:
    until = tx.now + lease * _SECOND
    _open(tx, call, claim_id, None)
    renewed = tx.run("renew_claim", claim_id=claim_id, agent_id=call.agent.id, lease_until=until)
    return {"claim_id": claim_id, "items": renewed, "idempotent": False, "lease_until": iso(until)}


def _held(tx: Reading, call: Call, claim_id: str, item_ids: Sequence[str] | None) -> list[Row]:
    """What the claim is about; those that were named, if some were, and then all of them."""
    rows = tx.all("items_of_claim", claim_id=claim_id, agent_id=call.agent.id)
    if not rows:
        raise _over(claim_id, rows, "it holds nothing any more")
    if item_ids is None:
        return rows
    by_id = {row["public_id"]: row for row in rows}
    lost = [item_id for item_id in dict.fromkeys(item_ids) if item_id not in by_id]
    if lost:
        raise _over(claim_id, rows, f"item {lost[0]} is not in it any more")
    return [by_id[item_id] for item_id in dict.fromkeys(item_ids)]


def _open(tx: Reading, call: Call, claim_id: str, item_ids: Sequence[str] | None) -> list[Row]:
    """The same, without what has ended."""
    held = _held(tx, call, claim_id, item_ids)
    ended = [row for row in held if row["done_at"] is not None]
    if len(ended) == len(held) or (ended and item_ids is not None):
        state = ended[0]["outcome"] or "acknowledged"
        raise _over(claim_id, held, f"item {ended[0]['public_id']} is {state}")
    return [row for row in held if row["done_at"] is None]


def _over(claim_id: str, rows: Iterable[Row], what: str) -> Conflict:
    held = [row["public_id"] for row in rows if row["done_at"] is None]
    return Conflict(
        f"Claim {claim_id} does not allow that: {what}. Nothing was changed; look with peek_inbox, or claim again.",
        details={"claim_id": claim_id, "held": held},
    )


def _acknowledge(tx: Writing, call: Call, claim_id: str) -> int:
    """Everything that a claim still holds."""
    rows = [row for row in tx.all("items_of_claim", claim_id=claim_id, agent_id=call.agent.id) if not row["done_at"]]
    return _acknowledge_rows(tx, call, claim_id, rows)


def _acknowledge_rows(tx: Writing, call: Call, claim_id: str, rows: Sequence[Row]) -> int:
    """How many that were: who has seen an interrupt has not acknowledged it, and is given it again after a while."""
    for row in rows:
        if row["kind"] == _INTERRUPT:
            tx.run("rest_claimed", id=row["id"], claim_id=claim_id, until=tx.now + _REST)
    done = [row for row in rows if row["kind"] != _INTERRUPT]
    for row in done:
        tx.run("acknowledge_claimed", id=row["id"], claim_id=claim_id, now=tx.now)
        _tell(tx, call, "inbox.acknowledged", row["public_id"])
    return len(done)


def requeue_items(tx: Writing, call: Call, *, item_ids: list[str]) -> types.Requeued:
    wanted = dict.fromkeys(item_ids)
    for item_id in wanted:
        if not requeue(tx, call.agent.space_id, call.agent.id, item_id, by=call.agent.id):
            raise NotFound(f"{item_id} is no dead letter of yours. list_dead_letters shows them.")
    return {"requeued": len(wanted)}


def requeue(tx: Writing, space_id: int, agent_id: int, item_id: str, *, by: int | None) -> bool:
    """Whether it was a dead letter, and waits again."""
    if not tx.run("requeue_item", public_id=item_id, agent_id=agent_id, now=tx.now):
        return False
    tx.event(space_id, "inbox.added", actor_id=by, subject=item_id, audience_id=agent_id)
    return True


def _tell(tx: Writing, call: Call, kind: str, subject: str) -> None:
    agent = call.agent
    tx.event(agent.space_id, kind, actor_id=agent.id, subject=subject, audience_id=agent.id)


# What ends by itself


def sweep(tx: Writing, at: int) -> int:
    """End a portion of what has had its time or failed too often; returns how much that was."""
    ended = 0
    for outcome, statement in (("expired", "expired_items"), ("dead", "all_tired_items")):
        for row in tx.all(statement, now=at, most=MOST_DELIVERIES, limit=_PORTION):
            end(tx, row, outcome, row["space_id"], row["agent_id"], row["channel_id"])
            ended += 1
    return ended


def end(
    tx: Writing, row: Row, outcome: str, space_id: int, agent_id: int, channel_id: int | None, *, by: int | None = None,
    reason: str | None = None,
) -> None:  # fmt: skip
    if tx.run("end_item", id=row["id"], now=tx.now, outcome=outcome, reason=reason):
        tx.event(
            space_id, f"inbox.{outcome}", actor_id=by, subject=row["public_id"], channel_id=channel_id,
            audience_id=agent_id,
        )  # fmt: skip
