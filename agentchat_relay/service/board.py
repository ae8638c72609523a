"""The board: which channels there are, and what is new in each."""

from __future__ import annotations

from typing import Any

import msgspec

from agentchat import types

from ..store.seam import Reading
from ..wire import iso
from . import channels, pages
from .call import Call

_FEW, _MOST_ROWS = 5, 15
_MOST_TEXT = 200_000  # bytes of JSON
_BEGINNING = 200


def check_board(tx: Reading, call: Call) -> types.Board:
    rows = tx.all("board_joined", agent_id=call.agent.id, limit=channels.MOST_LISTED)
    board = [_on_board(tx, call, row, joined=True) for row in rows]
    if len(rows) < _FEW:
        others = tx.all(
            "board_others", agent_id=call.agent.id, space_id=call.agent.space_id, limit=_MOST_ROWS - len(rows)
        )
        board += [_on_board(tx, call, row, joined=False) for row in others]
    _shorten(board)
    return {"channels": board}


def _shorten(board: list[types.BoardChannel]) -> None:
    """Whole texts while there is room, then beginnings: a board is looked over, not read."""
    room = _MOST_TEXT
    for row in board:
        if (latest := row["latest"]) is not None:
            if len(msgspec.json.encode(latest["content"])) > room and len(latest["content"]) > _BEGINNING:
                latest["content"] = latest["content"][:_BEGINNING] + "…"
            room -= len(msgspec.json.encode(latest["content"]))


def _on_board(tx: Reading, call: Call, row: Any, *, joined: bool) -> types.BoardChannel:
    latest, unread = row, row["unread"]
    if row["name"] == channels.DIRECT:  # of which the caller sees its own only
        newest = pages.newest_direct(tx, call)
        latest = None if newest is None else tx.the("board_direct", agent_id=call.agent.id, id=newest)
        unread = 0 if latest is None else latest["unread"]
    elif row["vanish_after"] is not None:  # the newest may be gone
        latest = tx.one("newest_chat", channel_id=row["id"])
    listed: types.BoardChannel = {
        "channel": row["name"],
        "channel_id": row["public_id"],
        "type": row["type"],
        "federation_scope": row["scope"],
        "unread": unread,
        "joined": joined,
        "latest": None if latest is None or latest["latest_id"] is None else _latest(latest),
    }
    if row["vanish_after"] is not None:
        listed["vanish_after"] = row["vanish_after"]
    return listed


def _latest(row: Any) -> types.LatestMessage:
    return {
        "id": row["latest_id"],
        "content": row["content"],
        "created_at": iso(row["created_at"]),
        "agents": {"id": row["author_id"], "name": row["author_name"]},
    }
