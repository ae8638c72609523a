"""Ephemeral messages: gone once everybody they notified is done with them, at the latest when their time is over.

A message that vanished is turned over. Its row says nothing of what it said; the ids in it are negative, so that no
list, search, thread or inbox finds it; and it stays for a week, for its author to learn what became of it, for answers
to it, and for counts. There is another reason not to delete it at once: where SQLite deletes rows it moves those beside
them, and could leave a copy of one that is still to vanish.

Unread is a difference of counts (`read_state.py`). A post that vanished stays in the channel's, so whoever has not read
it has one more to be left out, as if it were an own one. Once everything before some post is gone, the counts begin at
that one. All posts of an ephemeral channel vanish, so that is never long ago.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from agentchat import types

from ..store.seam import Reading, Row, Writing
from ..wire import iso
from . import agents, channels, messages, repeats

DAY = 86_400
_PORTION = 50  # messages; what a portion costs, a send waits for
_MICROS = 1_000_000
_NEAR = 300  # rows; a page of a database holds fewer
_encode = msgspec.json.encode


class Due(NamedTuple):
    """Whether something is to vanish, the store's time, and when the next thing's time is over; None: nothing's."""

    is_acknowledged: bool
    now: int
    at: int | None


def due(tx: Reading) -> Due:
    times = [row["at"] for name in ("next_vanishing", "next_vanishing_file") if (row := tx.one(name)) is not None]
    at = min((time for time in times if time is not None), default=None)
    return Due(bool(tx.all("acknowledged_vanishing", limit=1)), tx.now, at)


def vanish(tx: Writing, at: int | None) -> int:
    """Have a portion vanish: what everybody is done with, and what is over at this time, unless that is in doubt.
    Returns how much was looked at."""
    done = [row["id"] for row in tx.all("acknowledged_vanishing", limit=_PORTION)]
    for id in done:
        if not _is_awaited(tx, id):
            _vanish(tx, id)
            for silent in tx.all("silent_with", id=id):
                _vanish(tx, silent["id"])
        tx.run("looked_at", id=id)
    if at is None:
        return len(done)
    over = [row["id"] for row in tx.all("overdue_vanishing", now=at, limit=_PORTION)]
    for id in over:
        _vanish(tx, id)
    files = tx.all("vanishing_files", now=at, limit=_PORTION)
    for file in files:
        _vanish_file(tx, file)
    return len(done) + len(over) + len(files)


def let_go(tx: Writing, id: int) -> None:
    """Have a message looked at again if it was kept only for an agent that is deleted now. If nobody is done with it,
    what the deleted had of it has expired."""
    if not _is_awaited(tx, id) and not tx.run("look_again", id=id):
        tx.run("expire_dead", id=id)


def _is_awaited(tx: Reading, id: int) -> bool:
    return tx.one("is_awaited", id=id, grave=f"{agents.GRAVE}%") is not None


def sweep(tx: Writing, at: int) -> int:
    """Delete a portion of what is left of messages that vanished a week ago."""
    traces = tx.all("traces_due", before=at - repeats.KEEP_DAYS * DAY * _MICROS, near=_NEAR, limit=_PORTION)
    for trace in traces:
        tx.run("delete_items", id=trace["id"])
        tx.run("delete_trace", id=trace["id"])
        tx.run("mark_purged", id=trace["id"])
    return len(traces)


def _vanish(tx: Writing, id: int) -> None:
    row = tx.one("vanishing_message", id=id)
    if row is None:  # it had the time of its channel
        return
    for item in tx.all("items_left", id=id, grave=f"{agents.GRAVE}%"):
        tx.run("expire_item", id=item["id"], now=tx.now)
        tx.event(
            row["space_id"], "inbox.expired", actor_id=None, subject=item["public_id"], channel_id=row["channel_id"],
            audience_id=item["agent_id"],
        )  # fmt: skip
    is_private = row["recipient_id"] is not None
    is_counted = not is_private and row["kind"] != "status"
    if row["key"] is not None:
        _keep_answer(tx, row, _emptied_answer(tx, row))
    tx.run("delete_pin", message_id=id)
    tx.run("delete_fan_out", message_id=id)
    tx.run("turn_over", id=id, now=tx.now, kind="chat" if is_counted else "status")
    tx.run("count_purged", purged=1, id=row["channel_id"])
    if is_counted or is_private:
        _count_as_gone(tx, row, is_private)
    tx.event(
        row["space_id"], "message.vanished", actor_id=row["author_id"] if is_private else None,
        subject=row["public_id"], channel_id=row["channel_id"], audience_id=row["recipient_id"],
    )  # fmt: skip


def _count_as_gone(tx: Writing, row: Row, is_private: bool) -> None:
    """Direct messages are unread until they are acknowledged, so that only what was counted is taken back."""
    channel_id, at = row["channel_id"], row["created_at"]
    tx.run(
        "own_vanished" if is_private else "skip_one", channel_id=channel_id, author_id=row["author_id"], created_at=at
    )
    if is_private:
        return
    oldest = tx.one("oldest_chat", channel_id=channel_id)
    standing = tx.standing(channel_id)
    if oldest is None or oldest["created_at"] > at:  # else there is nothing new at the beginning
        chats, before = (
            (standing.chats, standing.at + 1) if oldest is None else (oldest["chats"] - 1, oldest["created_at"])
        )
        tx.run("skip_through", channel_id=channel_id, chats=chats)
        tx.run("settle_through", channel_id=channel_id, at=before)


def _keep_answer(tx: Writing, row: Row, answer: Any) -> None:
    """A repeat of the call must do nothing again, and is told the truth."""
    repeats.keep(tx, row["author_id"], row["key"], row["digest"], _encode(answer).decode())


def _emptied_answer(tx: Writing, row: Row) -> dict[str, Any]:
    """That of the call which made a message that vanishes. If it made several they all look so: whichever is not gone
    yet, a repeat of the call is told anew."""
    message = _emptied(row)
    others = [_emptied(tx.the("sent_message", id=other["id"])) for other in tx.all("sent_with", id=row["id"])]
    return {"message": message, "unmatched_mentions": []} | ({"messages": [message, *others]} if others else {})


def emptied_before(answer: str) -> list[types.Message]:
    """The messages of such an answer, as it was kept."""
    kept = msgspec.json.decode(answer)
    found: list[types.Message] = kept.get("messages", [kept["message"]])
    return found


def sent_before(tx: Reading, id: int) -> Any:
    """A private message for a repeat of its call, as it travels."""
    row = tx.the("sent_message", id=id)
    return _emptied(row) if row["is_gone"] else messages.whole(tx, id, False)


def _emptied(row: Row) -> dict[str, Any]:
    """A message as it travels, without what it said."""
    return {
        "id": row["public_id"],
        "channel_id": row["channel"],
        "channel_name": row["channel_name"],
        "author_agent_id": row["author"],
        "author_name": row["author_name"],
        "agents": {"id": row["author"], "name": row["author_name"]},
        "author_display": None,
        "content": "",
        "metadata": None,
        "parent_message_id": row["parent"],
        "kind": row["kind"],
        "created_at": iso(row["created_at"]),
        "updated_at": None,
        "vanished": True,
        "pinned": False,
    }


def _vanish_file(tx: Writing, file: Row) -> None:
    if file["key"] is not None:
        stored = {"name": "", "size": file["size"], "path": file["path"], "created_at": iso(file["created_at"])}
        _keep_answer(tx, file, {"file": stored})
    tx.run("purge_file", id=file["id"])
    tx.run("drop_blob", space_id=file["space_id"], hash=file["hash"])
    tx.event(file["space_id"], "file.purged", actor_id=None, subject=file["path"], channel_id=file["channel_id"])


# Channels


def set_channel(tx: Writing, space_id: int, channel: channels.Channel, seconds: int | None) -> bool:
    """Make all posts of a channel vanish, or none. Whether it could be done: not while it holds any that do not fit;
    another time than before is for posts to come."""
    if (channel.vanish_after is None) != (seconds is None) and tx.one("holds_anything", channel_id=channel.id):
        return False
    tx.run("channel_vanishes", id=channel.id, vanish_after=seconds)
    tx.event(
        space_id, "channel.ephemeral" if seconds else "channel.kept", actor_id=None, subject=channel.public_id,
        channel_id=channel.id, payload=str(seconds),
    )  # fmt: skip
    tx.forget()
    return True
