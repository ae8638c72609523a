"""How far an agent has read a channel. The cursor moves forward only, and moving it acknowledges no mention."""

from __future__ import annotations

from agentchat import types
from agentchat.errors import BadRequest

from ..store.seam import Reading, Row, Writing
from ..wire import iso, micros
from . import channels
from .call import Call

_MOST_READERS = 500
_EVER = 1 << 62
_CLOCK_SLACK = 60_000_000  # a caller's clock may be this far ahead


def mark_channel_read(tx: Writing, call: Call, *, channel: str, through: str | None = None) -> types.ReadPosition:
    found = channels.find(tx, call, channel)
    standing = tx.standing(found.id)
    at = standing.at if through is None else micros(through, "through")
    if at > max(tx.now, standing.at) + _CLOCK_SLACK:
        raise BadRequest(f"through must not lie in the future, got {through}.")
    channels.join(tx, call.agent.id, found)
    row = tx.the("membership", agent_id=call.agent.id, channel_id=found.id)
    if found.is_direct:
        return {"channel": channel, "read_through": iso(_newest_direct(tx, call, at) or row["joined_at"])}
    reached = advance(tx, call, found.id, row, at)
    return {"channel": channel, "read_through": iso(reached or row["joined_at"])}


def advance(tx: Writing, call: Call, channel_id: int, member: Row, at: int) -> int:
    """Move the cursor to the last message up to `at`, if that is forward; returns where it stands then."""
    standing, before = tx.standing(channel_id), int(member["read_at"])
    if at >= standing.at:
        reached, chats, own = standing.at, standing.chats, 0
    else:
        reached, chats = _newest_through(tx, channel_id, at)
        own = _own_above(tx, call, channel_id, member, reached)
    if reached <= before:
        return before
    tx.run(
        "move_cursor", read_at=reached, read_chats=chats, own_above=own, now=tx.now, agent_id=call.agent.id,
        channel_id=channel_id,
    )  # fmt: skip
    return reached


def _newest_through(tx: Writing, channel_id: int, at: int) -> tuple[int, int]:
    """Time and count of the last chat up to a time."""
    row = tx.one("newest_through", channel_id=channel_id, through=at)
    return (0, 0) if row is None else (row["created_at"], row["chats"])


def _own_above(tx: Writing, call: Call, channel_id: int, member: Row, reached: int) -> int:
    """The caller's own posts that stay above a cursor that moves only part of the way. The rows it passes are looked
    at once in the life of a membership, since it never goes back."""
    if not member["own_above"]:
        return 0
    passed = tx.the(
        "own_between", channel_id=channel_id, after=member["read_at"], through=reached, agent_id=call.agent.id
    )
    return int(member["own_above"] - passed["own"])


def list_readers(tx: Reading, call: Call, *, channel: str) -> types.Readers:
    found = channels.find(tx, call, channel)
    if found.is_direct:
        return {"channel": channel, "readers": _reader_of_direct(tx, call, found)}
    rows = tx.all("readers_of", channel_id=found.id, limit=_MOST_READERS)
    readers: list[types.Reader] = [
        {
            "agent_name": row["name"],
            "read_through": iso(row["read_at"] or row["joined_at"]),
            "updated_at": iso(row["moved_at"]),
        }
        for row in rows
    ]
    return {"channel": channel, "readers": readers}


def _newest_direct(tx: Reading, call: Call, at: int) -> int | None:
    """Time of the caller's newest direct message up to a time. There is no cursor among them: they are unread until
    they are acknowledged, and the channel's own numbers would tell of foreign ones."""
    rows = tx.all("direct_page_before", agent_id=call.agent.id, at=at + 1, limit=1)
    return rows[0]["created_at"] if rows else None


def _reader_of_direct(tx: Reading, call: Call, found: channels.Channel) -> list[types.Reader]:
    """Of the direct messages everybody sees only themselves."""
    member = tx.one("membership", agent_id=call.agent.id, channel_id=found.id)
    if member is None:
        return []
    through = iso(_newest_direct(tx, call, _EVER) or member["joined_at"])
    return [{"agent_name": call.agent.name, "read_through": through, "updated_at": through}]
