"""Several relays on one database: whatever one of them acknowledged, a search at another finds."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import pytest

from agentchat_relay.service import retention
from agentchat_relay.store.postgres.engine import Postgres
from agentchat_relay.store.query import read_query
from agentchat_relay.store.seam import Lane
from tests import postgres

Stores = list[Postgres]


@pytest.fixture
def stores() -> Iterator[Stores]:
    url = postgres.new_schema()
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Postgres(url, readers=1, index_pause=0.005))) for _ in range(3)]


def post(store: Postgres, text: str) -> None:
    def call(tx: Any) -> None:
        at = tx.place(1, chat=True)
        values = dict.fromkeys(
            (
                "recipient_id",
                "metadata",
                "parent_id",
                "root_id",
                "sent_with",
                "vanishes_at",
                "unmatched",
                "key",
                "digest",
            )
        )
        tx.later(
            "insert_message", **values, id=at.id, public_id=f"message-{at.id}", channel_id=1, number=at.number,
            chats=at.chats, created_at=at.at, author_id=1, kind="chat", content=text, depth=0,
        )  # fmt: skip

    store.ask(Lane.APPEND, call)


def people(store: Postgres) -> None:
    def call(tx: Any) -> None:
        tx.run("insert_space", name="space", created_at=0)
        agent = {"public_id": "a", "space_id": 1, "name": "ann", "machine_id": None, "kind": "agent", "key_hash": "k"}
        tx.run("insert_agent", **agent, created_at=0)
        channel = {"public_id": "c", "space_id": 1, "name": "room", "type": "public", "scope": "local"}
        tx.run("insert_channel", **channel, created_by=1, created_at=0, vanish_after=None)

    store.ask(Lane.WRITE, call)


def found(store: Postgres, text: str) -> list[str]:
    rows = store.ask(Lane.SEARCH, lambda tx: tx.search(read_query(text), places=["s1"], limit=1000).rows)
    return sorted(row["content"] for row in rows)


def test_what_one_wrote_another_finds(stores: Stores):
    people(stores[0])
    for number in range(30):
        post(stores[number % 3], f"needle{number}")
        assert found(stores[(number + 1) % 3], f"needle{number}") == [f"needle{number}"]


def test_all_write_and_search_at_once(stores: Stores):
    people(stores[0])

    def work(place: int) -> None:
        for number in range(40):
            post(stores[place], f"hay needle{place}x{number}")
            assert found(stores[(place + number) % 3], f"needle{place}x{number}") == [f"hay needle{place}x{number}"]

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert [len(found(store, "hay")) for store in stores] == [120] * 3


def test_what_one_purged_no_other_finds(stores: Stores):
    people(stores[0])
    for number in range(20):
        post(stores[number % 3], f"hay number{number}")
    assert len(found(stores[1], "hay")) == 20
    stores[2].ask(Lane.WRITE, lambda tx: tx.run("keep_space", id=1, retention=1))
    later = stores[2].ask(Lane.READ, lambda tx: tx.now) + 2 * 86_400 * 1_000_000
    stores[2].ask(Lane.WRITE, lambda tx: retention.purge(tx, 1, later))
    post(stores[0], "hay anew")
    assert [found(store, "hay") for store in stores] == [["hay anew"]] * 3
