"""Search: the newest hits, the best of them first."""

from __future__ import annotations

from agentchat import types

from ..store.query import Query, read_query
from ..store.seam import Reading, Row, place_of
from ..wire import iso
from . import channels
from .call import Call

_NEWEST = 200  # hits that are ranked; ranking all would cost more with every message that was ever sent
_NEWEST_OF_CHANNEL = 100
_BEST = 50
_LOOKED_AT = 4000  # characters of a message that count
_USUAL_LENGTH = 250


def search_messages(tx: Reading, call: Call, *, query: str, channel: str | None = None) -> types.SearchResults:
    wanted = read_query(query)
    groups = [row["group_id"] for row in tx.all("groups_of", space_id=call.agent.space_id, agent_id=call.agent.id)]
    places = _places(tx, call, channel, groups)
    limit = _NEWEST if channel is None else _NEWEST_OF_CHANNEL
    rows, is_complete = tx.search(wanted, places=places, limit=limit) if wanted and places else ([], True)
    if groups:
        rows = [row for row in rows if row["channel_name"] != channels.DIRECT or _is_seen(tx, call, row)]
    ranked = sorted(((_rank(row["content"], wanted), row["id"], row) for row in rows), key=lambda hit: hit[:2])
    best = [_row(row, rank) for rank, _, row in ranked[: -_BEST - 1 : -1]]
    return {"query": query, "results": best, "has_more": not is_complete or len(ranked) > len(best)}


def _places(tx: Reading, call: Call, channel: str | None, groups: list[int]) -> list[str]:
    """Where the caller may look: the space and its own mail, with that of its groups, or one channel."""
    mine = [place_of(agent_id=id) for id in (call.agent.id, *groups)]
    if channel is None:
        return [place_of(space_id=call.agent.space_id), *mine]
    found = channels.look_up(tx, call.agent.space_id, channel)
    if found is None:
        return []
    return mine if found.is_direct else [place_of(channel_id=found.id)]


def _is_seen(tx: Reading, call: Call, row: Row) -> bool:
    """Whether this agent may see it: mail to a group is for those who were in it then."""
    agent = call.agent
    return tx.one("find_message", public_id=row["public_id"], space_id=agent.space_id, agent_id=agent.id) is not None


def _rank(content: str, wanted: Query) -> float:
    """How much of the words a message holds for its length: each counts less the more often it comes."""
    text = content[:_LOOKED_AT].lower()
    length = 0.25 + 0.75 * len(text) / _USUAL_LENGTH
    rank = 0.0
    for word in wanted.words:
        found = text.count(word[:6] if len(word) > 7 else word)  # roughly its stem
        rank += found / (found + 1.2 * length)
    return round(rank, 4)


def _row(row: Row, rank: float) -> types.SearchHit:
    return {
        "id": row["public_id"],
        "channel_id": row["channel_id"],
        "channel_name": row["channel_name"],
        "author_agent_id": row["author_id"],
        "author_name": row["author_name"],
        "content": row["content"],
        "created_at": iso(row["created_at"]),
        "rank": rank,
    }
