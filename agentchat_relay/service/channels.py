"""Channels: found by name, made by the first post, joined by posting and reading."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import msgspec

from agentchat import types
from agentchat.errors import BadRequest, LimitReached, NotFound

from ..store.seam import Reading, Writing
from ..wire import iso, new_id
from .call import Call
from .guess import near

DIRECT = "direct-messages"
MOST_CREATED = 20  # by one agent
MOST_LISTED = 1000
_GLOBAL = frozenset({"general", "status", "alerts", DIRECT, "global"})
_PREFIXES = (  # prefix, type, federation scope
    ("gossip-", "gossip", "global"),
    ("shared-", "shared", "peers"),
    ("project-", "project", "local"),
    ("tech-", "technology", "local"),
    ("env-", "environment", "local"),
)


class Channel(NamedTuple):
    """What a channel is, without where it stands."""

    id: int
    public_id: str
    name: str
    vanish_after: int | None = None  # seconds; of an ephemeral one

    @property
    def is_direct(self) -> bool:
        return self.name == DIRECT


def find(tx: Reading, call: Call, name: str) -> Channel:
    """The channel of this name in the caller's space."""
    found = look_up(tx, call.agent.space_id, name)
    if found is None:
        names = near(name, (row["name"] for row in tx.all("channel_names", space_id=call.agent.space_id)))
        hint = f"Did you mean #{names[0]}?" if names else "check_board lists channels."
        raise NotFound(f"There is no channel #{name}. {hint}", details={"near": names})
    return found


def look_up(tx: Reading, space_id: int, name: str) -> Channel | None:
    row = tx.one("channel_by_name", space_id=space_id, name=name)
    return None if row is None else Channel(row["id"], row["public_id"], name, row["vanish_after"])


def known(tx: Writing, space_id: int, name: str) -> Channel | None:
    """`look_up` for the hot path."""
    found = tx.memo.get(("channel", space_id, name))
    if found is None and (found := look_up(tx, space_id, name)) is not None:
        tx.memo["channel", space_id, name] = found
    return cast("Channel | None", found)


def check_may_create(tx: Reading, call: Call) -> None:
    if tx.the("channels_made_by", id=call.agent.id)["channels_created"] >= MOST_CREATED:
        raise LimitReached(
            f"You have created {MOST_CREATED} channels, which is the limit; use one that exists.", code="channel_limit"
        )


def create(
    tx: Writing, space_id: int, name: str, *, by: int | None, vanish_after: int | None = None
) -> Channel:  # fmt: skip
    """A new channel; its type follows from its name. The caller's limit was checked before."""
    public_id = new_id(tx.now)
    type, scope = _type_of(name)
    id = tx.run(
        "insert_channel", public_id=public_id, space_id=space_id, name=name, type=type, scope=scope, created_by=by,
        created_at=tx.now, vanish_after=vanish_after,
    )  # fmt: skip
    if by is not None:
        tx.run("count_channel_of", id=by)
    tx.event(space_id, "channel.created", actor_id=by, subject=public_id, channel_id=id, payload=name)
    if vanish_after is not None:
        tx.event(
            space_id, "channel.ephemeral", actor_id=by, subject=public_id, channel_id=id, payload=str(vanish_after)
        )  # fmt: skip
    return Channel(id, public_id, name, vanish_after)


def _type_of(name: str) -> tuple[str, str]:
    for prefix, type, scope in _PREFIXES:
        if name.startswith(prefix):
            return type, scope
    return "global" if name in _GLOBAL else "project", "local"


def join(tx: Writing, agent_id: int, channel: Channel) -> None:
    """Make the agent a member, unless it is; what is there already counts as read."""
    fact = ("member", agent_id, channel.id)
    if fact in tx.memo:
        return
    if tx.one("membership", agent_id=agent_id, channel_id=channel.id) is None:
        standing = tx.standing(channel.id)
        tx.run(
            "insert_membership", agent_id=agent_id, channel_id=channel.id, now=tx.now, read_at=standing.at,
            read_chats=standing.chats,
        )  # fmt: skip
    tx.memo[fact] = True


def list_channels(tx: Reading, call: Call, *, type: str | None = None) -> types.ChannelList:
    rows = tx.all("channels_joined", agent_id=call.agent.id, type=type or "%", limit=MOST_LISTED)
    return {"channels": [_row(row) for row in rows]}


def _row(row: Any) -> types.Channel:
    listed: types.Channel = {
        "id": row["public_id"],
        "name": row["name"],
        "type": row["type"],
        "description": row["description"],
        "metadata": msgspec.json.decode(row["metadata"]) if row["metadata"] else None,
        "created_by": row["creator"],
        "archived": bool(row["archived"]),
        "created_at": iso(row["created_at"]),
        "federation_scope": row["scope"],
    }
    if row["vanish_after"] is not None:
        listed["vanish_after"] = row["vanish_after"]
    return listed


def refuse_direct(channel: str) -> None:
    """Direct messages have an operation of their own."""
    if channel == DIRECT:
        raise BadRequest("#direct-messages takes no posts; use send_direct_message with the agent's name.")
