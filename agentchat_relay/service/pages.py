"""Reading messages: the pages of a channel, of a thread, of the direct messages, and what is pinned."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from agentchat import types
from agentchat.errors import BadRequest, Conflict, NotFound

from ..store.seam import NeedsWrite, Reading, Row, Writing
from ..wire import Cursor, micros, read_cursor
from . import channels, groups, read_state
from .call import Call
from .messages import whole

MOST_PINNED = 50  # in one channel
_END = (1 << 62) - 1
_GONE = "gone"


def read_messages(
    tx: Reading,
    call: Call,
    *,
    channel: str,
    limit: int = 20,
    before: str | None = None,
    cursor: str | None = None,
    include_status: bool = False,
    mark_read: bool = False,
) -> types.MessagePage:
    found = channels.find(tx, call, channel)
    list_id = call.agent.public_id if found.is_direct else found.public_id
    start = Cursor(list_id, _END if before is None else max(micros(before, "before"), 0))
    if cursor is not None:
        start = read_cursor(cursor, list_id)
        if before is not None:
            raise BadRequest("Send before or cursor, not both.")
    member = tx.one("membership", agent_id=call.agent.id, channel_id=found.id)
    if not tx.writes and (member is None or mark_read):
        raise NeedsWrite
    if found.is_direct:
        groups.tell_now(tx, call.agent.id)
        rows = _direct(tx, call, start, limit + 1)
    else:
        name = f"{'full_' if include_status else ''}page_{'after' if start.newer else 'before'}"
        rows = tx.all(name, channel_id=found.id, at=start.at, limit=limit + 1)
    page = _page(tx, rows, start, limit, pins=_pins(tx, found.id))
    page["channelId"] = found.public_id
    if found.vanish_after is not None:
        page["vanish_after"] = found.vanish_after
    if member is None:
        channels.join(cast("Writing", tx), call.agent.id, found)
    if mark_read:
        _count_as_read(cast("Writing", tx), call, found.id, max((row["created_at"] for row in rows[:limit]), default=0))
    return page


def _direct(tx: Reading, call: Call, start: Cursor, limit: int) -> list[Row]:
    name = f"direct_page_{'after' if start.newer else 'before'}"
    return tx.all(name, agent_id=call.agent.id, at=start.at, limit=limit)


def newest_direct(tx: Reading, call: Call) -> int | None:
    """Internal id of the last direct message the caller wrote or got."""
    rows = tx.all("direct_page_before", agent_id=call.agent.id, at=_END, limit=1)
    return rows[0]["id"] if rows else None


def _page(tx: Reading, rows: list[Row], start: Cursor, limit: int, pins: set[int]) -> types.MessagePage:
    """The rows, of which one more than the limit was asked for, as a page, oldest first."""
    has_more = len(rows) > limit
    rows = rows[:limit] if start.newer else rows[:limit][::-1]
    oldest = rows[0]["created_at"] if rows else start.at
    newest = rows[-1]["created_at"] if rows else start.at
    if not rows and not start.newer:  # an empty page of what is older: what is newer begins right there
        newest = 0 if start.at == 0 or start.at > tx.now else start.at - 1
    if not rows and start.newer:
        oldest = start.at + 1
    return {
        "messages": [whole(tx, row["id"], row["id"] in pins) for row in rows],
        "previous_cursor": str(Cursor(start.place, oldest)),
        "next_cursor": str(Cursor(start.place, newest, True)),
        "has_more": has_more,
    }


def _count_as_read(tx: Writing, call: Call, channel_id: int, newest: int) -> None:
    """Count the last page shown this way as read, and note this one. A repeat of the same call, whose answer was lost,
    counts nothing: what it shows was not seen yet."""
    member = tx.the("membership", agent_id=call.agent.id, channel_id=channel_id)
    if call.key is None or call.key != member["shown_key"]:
        read_state.advance(tx, call, channel_id, member, member["shown_at"])
    shown = max(newest, member["shown_at"])
    tx.run("show_page", shown_at=shown, shown_key=call.key, agent_id=call.agent.id, channel_id=channel_id)


def read_thread(
    tx: Reading, call: Call, *, message_id: str, limit: int = 50, cursor: str | None = None
) -> types.MessagePage:
    found = _find(tx, call, message_id)
    if found["recipient_id"] is not None:
        groups.tell_now(tx, call.agent.id)
    root_id = found["root_id"] or found["id"]
    root = tx.one("root_of", id=root_id, agent_id=call.agent.id)
    list_id = _GONE if root is None else root["public_id"]  # the first message may have had its time
    after = 0 if cursor is None else read_cursor(cursor, list_id, any_place=root is None).at
    rows = [root] if root is not None and after < root["created_at"] else []
    rows += tx.all("thread_after", agent_id=call.agent.id, root_id=root_id, at=after, limit=limit + 1 - len(rows))
    pins = _pins(tx, found["channel_id"])
    last = rows[:limit][-1]["created_at"] if rows else after
    return {
        "messages": [whole(tx, row["id"], row["id"] in pins) for row in rows[:limit]],
        "next_cursor": str(Cursor(list_id, last, True)),
        "previous_cursor": None,
        "has_more": len(rows) > limit,
    }


def get_message(tx: Reading, call: Call, *, message_id: str, offset: int = 0) -> types.FoundMessage:
    row = _find(tx, call, message_id)
    message: Any = whole(tx, row["id"])
    if offset:
        message = msgspec.json.decode(message)
        message["content"] = message["content"][offset:]
    return {"message": message, "offset": offset, "total_chars": row["characters"]}


def pin_message(tx: Writing, call: Call, *, message_id: str) -> types.Pinned:
    row = _to_be_pinned(tx, call, message_id)
    pins = _pins(tx, row["channel_id"])
    if row["id"] not in pins:
        if len(pins) >= MOST_PINNED:
            raise Conflict(f"{MOST_PINNED} messages are pinned in this channel, which is the limit; unpin one first.")
        tx.run(
            "insert_pin", message_id=row["id"], channel_id=row["channel_id"], pinned_by=call.agent.id,
            pinned_at=tx.now,
        )  # fmt: skip
        _tell(tx, call, row, "message.pinned")
    return {"message_id": message_id, "pinned": True}


def unpin_message(tx: Writing, call: Call, *, message_id: str) -> types.Pinned:
    row = _to_be_pinned(tx, call, message_id)
    if tx.run("delete_pin", message_id=row["id"]):
        _tell(tx, call, row, "message.unpinned")
    return {"message_id": message_id, "pinned": False}


def _tell(tx: Writing, call: Call, row: Row, kind: str) -> None:
    agent = call.agent
    tx.event(agent.space_id, kind, actor_id=agent.id, subject=row["public_id"], channel_id=row["channel_id"])


def _to_be_pinned(tx: Reading, call: Call, message_id: str) -> Row:
    row = _find(tx, call, message_id)
    if row["recipient_id"] is not None:
        raise BadRequest("A direct message cannot be pinned; pins are for everyone in a channel.")
    return row


def list_pinned_messages(tx: Reading, call: Call, *, channel: str) -> types.MessagePage:
    found = channels.find(tx, call, channel)
    ids = sorted(_pins(tx, found.id))
    return {"messages": [whole(tx, id, True) for id in ids], "channelId": found.public_id, "has_more": False}


def _pins(tx: Reading, channel_id: int) -> set[int]:
    return {row["message_id"] for row in tx.all("pins_of_channel", channel_id=channel_id)}


def _find(tx: Reading, call: Call, message_id: str) -> Row:
    """A message of the caller's space that the caller may see."""
    row = tx.one("find_message", public_id=message_id, space_id=call.agent.space_id, agent_id=call.agent.id)
    if row is None:
        raise no_message(tx, call, message_id)
    return row


def no_message(tx: Reading, call: Call, message_id: str) -> NotFound:
    """Why it is not to be had."""
    if tx.one("find_vanished", public_id=message_id, space_id=call.agent.space_id, agent_id=call.agent.id) is not None:
        return NotFound(f"Message {message_id} was ephemeral and has vanished; nobody has it any more.")
    return NotFound(f"There is no message {message_id}.")
