"""A directory of a relay with a row of every kind in it, as agents, machines and time leave them; and its rows."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import tuple_row

from agentchat_relay.embedded import Embedded, running
from agentchat_relay.keeping.carrying.tables import tables
from agentchat_relay.service import administration
from agentchat_relay.service.work import pauses
from tests.relay.conftest import UNLIMITED, Clock, purge_all
from tests.relay.keeping.conftest import Board, ask_for_approval, clients, hand_over, lock_up, rows, stop, upload
from tests.relay.test_registration import Machine, ask

DAY = 86_400.0
KEY = "a-key-of-a-post"  # under which ann posted KEYED, and pinned it under the other
KEYED = "posted once"
PIN_KEY = "a-key-of-a-pin"
ODD = [
    "\\N", "\\.", "a\tb\r\nc\\td", "'quoted' \"twice\"", "\x01\x1f\x7f", "é e\u0301 \u202eback", "🦊" * 300,
    "\ufeff\uffff", "{1,2}", "%s $1 ?", "long " * 2000,
]  # fmt: skip


def fill(path: Path) -> Board:
    with pytest.MonkeyPatch.context() as patch, running(str(path), settings=UNLIMITED) as relay:
        patch.setattr(pauses, "spread", lambda tx: 0)  # else the relay goes about what is not told yet
        return Board(path, *_live(relay, Clock(patch)))


def _live(relay: Embedded, clock: Clock) -> tuple[dict[str, str], dict[str, bytes]]:
    with contextlib.ExitStack() as stack:
        relay.space("team")
        ann, bob, gone = clients(relay, stack, "ann", "bob", "gone")
        (eve,) = clients(relay, stack, "eve", space="team")
        relay.token("carol", kind="person")
        _register(relay)
        first = ann.send_message("tech-web", "@bob @nobody the build is green", metadata={"build": 7})["message"]
        bob.send_message("tech-web", "thanks", parent_message_id=first["id"])
        ann.send_message("tech-web", "done", kind="status")
        ann.send_direct_message("bob", "a word in private")
        bob.send_direct_message("ann", "@ann another")
        for one in (ann, bob):
            one.join_group("crew")
        ann.send_to_many(["crew", "bob"], "to you and all of you", scope="repo:example.org/proj")
        relay.ask(lambda tx: _half_told(tx, first["id"]))
        bob.mark_mentions_read([bob.check_mentions()["mentions"][-1]["mention_id"]])
        for text in ODD:
            gone.send_message("general", text, metadata={"text": text[:99]})
        kept = ann.with_options(idempotency_key=KEY).send_message("general", KEYED)["message"]
        ann.with_options(idempotency_key=PIN_KEY).pin_message(kept["id"])
        bob.read_messages("general", limit=5, mark_read=True)
        files = {upload(ann, "general", f"f{n}.txt", content): content for n, content in enumerate((b"one", b"two"))}
        upload(eve, "general", "e.bin", b"elsewhere")
        ann.set_card(role="builder", capabilities=["ci"])
        eve.send_message("general", "elsewhere")
        hand_over(ann, bob)
        stop(relay, ann, bob)
        ask_for_approval(relay, ann, bob)
        relay.ask(_half_paused)
        for text in ODD:
            bob.claim_task(ann.create_task(text[:200], channel="general", context=text)["task"]["id"], lease=86_400)
        eve.create_task("elsewhere", channel="general", deadline_in=30_000_000)
        relay.ask(lambda tx: administration.agent_delete(tx, name="gone"))
        clock.ahead = -3 * DAY  # the newest message of all is old, and goes
        ann.send_message("alerts", "of the day")
        upload(ann, "alerts", "old.txt", b"old")
        ann.send_message("alerts", "@bob green too")
        relay.ask(lambda tx: administration.channel_update(tx, name="alerts", retention=1))
        relay.ask(lambda tx: administration.space_update(tx, name="team", retention=90))
        clock.ahead = 0
        lock_up(ann, bob)
        assert purge_all(relay.relay.store) == 4  # type: ignore[union-attr]
        keys = {client.agent or "": client.credential.held or "" for client in (ann, bob, eve)}
    return keys, files


def _half_told(tx: Any, id: str) -> None:
    """A large group that is not told yet; of a channel's message, so that no relay goes about it."""
    message_id = tx.the("find_message", public_id=id, space_id=1, agent_id=0)["id"]
    tx.run("insert_fan_out", message_id=message_id, after_id=7, urgent=1, expires_at=None, scope="thread:7")


def _half_paused(tx: Any) -> None:
    """A pause of which not all are told."""
    tx.run("set_spread", work_id=tx.all("pauses", space_id=1, now=tx.now, limit=1)[0]["id"], after_id=7)


def _register(relay: Embedded) -> None:
    machine = Machine("box")
    relay.ask(lambda tx: administration.machine_add(tx, name="box", public_key=machine.public, space="main"))
    assert ask(relay, machine.body("box-worker")).status == 200


def of_directory(path: Path) -> dict[str, list[Any]]:
    """All rows that count, by table."""
    return {table.name: sorted(rows(path, f"SELECT {table.listed} FROM {table.name}"), key=repr) for table in tables()}


def of_postgres(url: str) -> dict[str, list[Any]]:
    with psycopg.connect(url, row_factory=tuple_row) as connection:
        return {
            table.name: sorted(connection.execute(f"SELECT {table.listed} FROM {table.name}".encode()), key=repr)
            for table in tables()
        }


@contextlib.contextmanager
def sql(url: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """To look into a Postgres, and to break it."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def one(url: str, query: str) -> Any:
    with sql(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path)) if path.exists() else []
