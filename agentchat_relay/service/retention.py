"""Retention: a channel keeps its messages and files for so many days, then they are deleted, the oldest first.

What had its time is gone from pages, search, inboxes and pins, and from everybody's unread. A cursor to it still
works, since a cursor is a place in time. Whatever waited for somebody in it has expired, except what is about work that
is not over.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from ..store.seam import Reading, Row, Writing
from .work import outliving

DAY = 86_400_000_000
MOST_DAYS = 36_500
_PORTION = 200  # messages; what a portion costs, a send waits for


class Blob(NamedTuple):
    """A content that perhaps no file names any more."""

    space_id: int
    hash: str


_FIRST = Blob(0, "")


def due(tx: Reading, at: int) -> list[int]:
    """The channels that have something to purge at this time, which is the caller's: the store's clock may jump."""
    return [row["id"] for row in tx.all("channels_due", now=at, day=DAY)]


def purge(tx: Writing, channel_id: int, at: int) -> int:
    """Delete a portion of what a channel has kept long enough; returns how much that was."""
    kept = tx.the("retention_of", id=channel_id)
    if not kept["days"]:
        return 0
    before = at - kept["days"] * DAY
    messages = tx.all("messages_due", channel_id=channel_id, before=before, limit=_PORTION)
    if messages:
        _purge_messages(tx, channel_id, kept, messages)
    return len(messages) + _purge_files(tx, channel_id, before)


def finish(tx: Writing) -> None:
    """After a pass: replies that were read before it name messages that are gone."""
    tx.forget()


def _purge_messages(tx: Writing, channel_id: int, channel: Row, messages: list[Row]) -> None:
    """They are the channel's oldest, without a gap: everything up to the last of them."""
    through, chats = messages[-1]["created_at"], messages[-1]["chats"]
    _end_items(tx, channel_id, channel, through)
    _count_as_gone(tx, channel_id, messages, chats)
    for statement in ("purge_items", "purge_fan_outs", "purge_pins", "purge_chats", "purge_status"):
        tx.run(statement, channel_id=channel_id, through=through)
    tx.run("count_purged", purged=len(messages), id=channel_id)
    tx.run("mark_purged", id=max(row["id"] for row in messages))
    tx.event(
        channel["space_id"], "messages.purged", actor_id=None, subject=channel["public_id"], channel_id=channel_id,
        payload=str(through),
    )  # fmt: skip


def _end_items(tx: Writing, channel_id: int, channel: Row, through: int) -> None:
    outlived: dict[int, bool] = {}
    for item in tx.all("items_due", channel_id=channel_id, through=through):
        if item["message_id"] not in outlived:
            outlived[item["message_id"]] = outliving.write_anew(tx, item["kind"], item["message_id"])
        if not outlived[item["message_id"]]:
            tx.event(
                channel["space_id"], "inbox.expired", actor_id=None, subject=item["public_id"], channel_id=channel_id,
                audience_id=item["agent_id"],
            )  # fmt: skip


def _count_as_gone(tx: Writing, channel_id: int, messages: list[Row], chats: int) -> None:
    """What is gone is unread by nobody. A member's own posts were never unread: they must not be taken off twice."""
    posts = Counter[int]()
    members: dict[int, Row | None] = {}
    for message in messages:
        if message["kind"] != "status":
            author = message["author_id"]
            if author not in members:
                members[author] = tx.one("membership", agent_id=author, channel_id=channel_id)
            member = members[author]
            if member is not None and message["created_at"] > member["read_at"]:
                posts[author] += 1
    for author, number in posts.items():
        tx.run("own_purged", posts=number, agent_id=author, channel_id=channel_id)
    tx.run("skip_purged", chats=chats, channel_id=channel_id)


def _purge_files(tx: Writing, channel_id: int, before: int) -> int:
    files = tx.all("files_due", channel_id=channel_id, before=before, limit=_PORTION)
    for file in files:
        tx.run("purge_file", id=file["id"])
        tx.run("drop_blob", space_id=file["space_id"], hash=file["hash"])
        tx.event(file["space_id"], "file.purged", actor_id=None, subject=file["path"], channel_id=channel_id)
    return len(files)


# Contents. Their files are gone first; a content goes when no other file has it.


def dropped(tx: Reading, after: Blob = _FIRST) -> list[Blob]:
    """A portion of the contents to be looked at, in order."""
    rows = tx.all("dropped_blobs", space_id=after.space_id, hash=after.hash, limit=_PORTION)
    return [Blob(row["space_id"], row["hash"]) for row in rows]


def is_named(tx: Reading, blob: Blob) -> bool:
    return tx.one("content_named", space_id=blob.space_id, hash=blob.hash) is not None


def settle(tx: Writing, blobs: list[Blob]) -> None:
    for blob in blobs:
        tx.run("settle_blob", space_id=blob.space_id, hash=blob.hash)
