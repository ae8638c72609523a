"""What the relay tells: to whoever follows its channels during a round, and to everybody at the end of it."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from agentchat import Client, errors, types
from agentchat.client import Transport
from tests.faults.histories import DIRECT, Followed, Item, Kept, Post, Row, Seen, Told
from tests.faults.load import AUDITOR, PATIENCE, Reached


def row_of(message: types.Message) -> Row:
    return Row(
        id=message["id"],
        channel=message["channel_name"],
        author=message["author_name"],
        text=message["content"],
        at=message["created_at"],
        parent=message["parent_message_id"],
        kind=message["kind"],
        pinned=message["pinned"],
        files=tuple(file["path"] for file in (message["metadata"] or {}).get("files", [])),
    )


def follow(relay: Reached, name: str, key: str, channel: str, limit: int, over: threading.Event,
    transport: Transport | None = None,
) -> Followed:  # fmt: skip
    """Read a list of messages by its next_cursor until nothing follows and nobody posts any more."""
    with Client(relay.url, key, agent=name, retries=20, deadline=PATIENCE, transport=transport) as client:
        page = client.read_messages(channel, limit=limit, include_status=True)
        rows, cursor = [row_of(message) for message in page["messages"]], page["next_cursor"]
        while page["has_more"]:  # more was posted before the first look than one page holds
            page = client.read_messages(channel, limit=limit, cursor=page["previous_cursor"], include_status=True)
            rows = [row_of(message) for message in page["messages"]] + rows
        while True:
            ending = over.is_set()
            page = client.read_messages(channel, limit=limit, cursor=cursor, include_status=True)
            rows += map(row_of, page["messages"])
            cursor = page["next_cursor"]
            if ending and not page["messages"]:
                return Followed(name, channel, rows)
            if not page["has_more"]:
                over.wait(0.01)


def whole(client: Client, channel: str, limit: int) -> list[Row]:
    """A list of messages from its last page to its first."""
    rows: list[Row] = []
    cursor, more = None, True
    while more:
        page = client.read_messages(channel, limit=limit, cursor=cursor, include_status=True)
        rows = [*map(row_of, page["messages"]), *rows]
        cursor, more = page["previous_cursor"], page["has_more"]
    return rows


def _is_searched(post: Post) -> bool:
    return post.kind == "chat" and post.author != AUDITOR


def collect(url: str, keys: dict[str, str], told: Told, luck: random.Random) -> Kept:
    """Everything, as those see it whom it concerns."""
    with ExitStack() as stack:
        clients = {name: stack.enter_context(Client(url, key, agent=name, retries=20)) for name, key in keys.items()}
        auditor = clients[AUDITOR]
        board = {name: _board(client) for name, client in clients.items()}
        channels = sorted({channel for lines in board.values() for channel in lines} - {DIRECT})
        items = {name: _items(client, unread=False) for name, client in clients.items()}
        files = {channel: auditor.list_files(channel)["files"] for channel in channels}
        return Kept(
            channels={channel: whole(auditor, channel, luck.randint(20, 200)) for channel in channels},
            direct={name: whole(client, DIRECT, luck.randint(5, 200)) for name, client in clients.items()},
            alone=_alone(clients, told),
            items=items,
            unread={name: {item.id for item in _items(client)} for name, client in clients.items()},
            readers={channel: _readers(auditor, channel) for channel in channels},
            board=board,
            pinned={
                channel: [message["id"] for message in auditor.list_pinned_messages(channel)["messages"]]
                for channel in channels
            },
            files={channel: [(file["name"], file["path"]) for file in found] for channel, found in files.items()},
            contents=_contents(auditor, [file["path"] for found in files.values() for file in found]),
            found={
                post.text: [hit["id"] for hit in clients[post.author].search_messages(post.text.split()[-1])["results"]]
                for post in {post.text: post for post in told.posts if _is_searched(post)}.values()
            },
        )


def boards_of(url: str, keys: dict[str, str]) -> dict[str, dict[str, Seen]]:
    found = {}
    for name, key in keys.items():
        with Client(url, key, agent=name, retries=20) as client:
            found[name] = _board(client)
    return found


def _contents(client: Client, paths: Sequence[str]) -> dict[str, bytes]:
    found = {}
    for path in paths:
        with suppress(errors.NotFound):  # the checker will miss it
            found[path] = client.download_file(path)["content"]
    return found


def _alone(clients: dict[str, Client], told: Told) -> dict[str, Row]:
    """What was acknowledged, asked for by its id."""
    rows = {}
    for author, id in {(post.author, post.id) for post in told.posts if post.id}:
        try:
            rows[id] = row_of(clients[author].get_message(id)["message"])
        except errors.NotFound:  # the checker will miss it
            continue
    return rows


def _board(client: Client) -> dict[str, Seen]:
    """The channels that the agent is in."""
    return {
        line["channel"]: Seen(line["unread"], line["latest"] and line["latest"]["id"])
        for line in client.check_board()["channels"]
        if line["joined"]
    }


def _items(client: Client, unread: bool = True) -> list[Item]:
    listed = client.check_mentions(unread=unread, limit=100)["mentions"]
    if len(listed) == 100:
        raise RuntimeError("more mentions than one call can list: the round is too large")
    return [Item(item["mention_id"], item["message_id"], item["read"]) for item in listed]


def _readers(client: Client, channel: str) -> dict[str, str]:
    return {reader["agent_name"]: reader["read_through"] for reader in client.list_readers(channel)["readers"]}
