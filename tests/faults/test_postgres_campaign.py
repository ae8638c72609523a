"""The campaign of relays that share a Postgres passes, and would not if one of them broke a promise; the rules in SQL
complain of what they are for."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from agentchat_relay.store.postgres.engine import Postgres
from tests import postgres
from tests.faults import postgres_campaign
from tests.faults.database import RULES, Database
from tests.faults.histories import Kept, Row

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.campaign
def test_rounds_pass() -> None:
    command = [sys.executable, "-m", "tests.faults.postgres_campaign", "--rounds", "2", "--seed", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    assert (summary["rounds"], summary["failed rounds"]) == (2, [])
    assert summary["strikes"]["everything at once"] == 2
    assert sum(summary["strikes"].values()) >= 6
    assert summary["messages"] > 100
    assert summary["keys revoked"] > 0
    assert 0 < summary["acknowledged"] < summary["writes"]


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """One that rounds may strike."""
    with postgres.server(recovery_init_sync_method="syncfs") as made:
        yield made


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ("turns", ": refused with internal_error"),
        ("early", "reads: refused with not_found"),
        ("repeat", ": refused with internal_error"),
        ("dedupe", ": stored 2 times"),
        ("counters", " refused with internal_error"),
        ("keys", " let a revoked key of mac-guest read"),
        ("doubt", ": stored 2 times"),
    ],
)
def test_a_broken_relay_fails_the_campaign(
    broken: str, complaint: str, server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a few short rounds."""
    assert broken in postgres_campaign.CONTROLS
    monkeypatch.setattr(postgres_campaign.SharedSender, "calls", 20)
    monkeypatch.setattr(postgres_campaign, "MOST", 1)
    monkeypatch.setattr(postgres_campaign, "LEAST", 1)
    rounds = (postgres_campaign.run_round(1, number, server, broken) for number in range(4))
    assert any(line.endswith(complaint) for played in rounds for line in played.violations)


def test_the_strikes_follow_from_the_seed() -> None:
    plans = [postgres_campaign.planned(random.Random(f"{seed}/0")) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert postgres_campaign.LEAST <= len(plans[0]) <= postgres_campaign.MOST


# The rules in SQL

AGENT = "INSERT INTO agents (id, public_id, space_id, name, created_at) VALUES (7, 'ann', 1, 'ann', 0)"
MESSAGE = """
INSERT INTO messages (id, public_id, channel_id, number, chats, created_at, author_id, kind, content, key)
VALUES ({id}, 'm{id}', 1, {number}, {number}, {at}, 7, 'chat', 'hi', {key})
"""
EVENT = """
INSERT INTO events (space_id, position, kind, subject, created_at, hash)
VALUES (1, {position}, 'message.created', 'm{id}', 0, '')
"""
CHANNEL = "UPDATE channels SET number = 2, chats = 2, last_at = 20, latest_id = 2 WHERE id = 1"
MEMBER = """
INSERT INTO memberships (agent_id, channel_id, joined_at, read_at, read_chats, own_above, moved_at)
VALUES (7, 1, 0, 10, 1, 1, 0)
"""
RIGHT = [
    AGENT,
    "DELETE FROM events",
    MESSAGE.format(id=1, number=1, at=10, key="'k'"),
    MESSAGE.format(id=2, number=2, at=20, key="NULL"),
    EVENT.format(position=1, id=1),
    EVENT.format(position=2, id=2),
    CHANNEL,
    "UPDATE spaces SET position = 2",
    MEMBER,
]


@pytest.fixture(scope="module")
def database(server: postgres.Server) -> Database:
    """Two messages, and whatever belongs to them."""
    made = Database(server)
    with closing(Postgres(made.url)), psycopg.connect(made.url) as connection:
        connection.execute("INSERT INTO spaces (id, name, created_at) VALUES (1, 'main', 0)")
        connection.execute(
            "INSERT INTO channels (id, public_id, space_id, name, type, created_at) VALUES (1, 'c', 1, 'room', '', 0)"
        )
        for sql in RIGHT:
            connection.execute(sql)
    return made


def found_by(database: Database, change: str) -> set[str]:
    """What complains of it."""
    with psycopg.connect(database.url) as connection:
        connection.execute(change)
        found = {what for what, sql in RULES.items() if connection.execute(sql).fetchall()}
        connection.rollback()
    return found


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("UPDATE messages SET number = 3 WHERE id = 2", "numbers of a channel have holes, or its times do not grow"),
        ("UPDATE messages SET created_at = 10", "numbers of a channel have holes, or its times do not grow"),
        ("UPDATE messages SET chats = 1", "numbers of a channel have holes, or its times do not grow"),
        ("UPDATE channels SET number = 3", "a channel's counters are wrong"),
        ("UPDATE channels SET latest_id = 1", "a channel's counters are wrong"),
        ("UPDATE events SET position = 3 WHERE position = 2", "positions of events have holes"),
        ("UPDATE spaces SET position = 3", "positions of events have holes"),
        ("DELETE FROM events WHERE position = 2", "a message without its one event, or an event without its message"),
        (EVENT.format(position=3, id=1), "a message without its one event, or an event without its message"),
        (EVENT.format(position=3, id=9), "a message without its one event, or an event without its message"),
        (
            "INSERT INTO inbox (public_id, agent_id, kind, message_id, created_at) VALUES ('i', 7, 'mention', 1, 0)",
            "an item of an inbox without its one event, or the other way round",
        ),
        ("UPDATE events SET subject = 'm' || (3 - position)", "events stand in another order than their messages"),
        ("UPDATE memberships SET read_chats = 0", "a read cursor counts wrong"),
        ("UPDATE memberships SET own_above = 0", "a read cursor counts wrong"),
        (
            "INSERT INTO answers (agent_id, key, digest, answer, created_at) VALUES (7, 'k', '', '', 0)",
            "one key has two effects",
        ),
        ("DELETE FROM agents", "a row hangs in the air"),
        ("INSERT INTO pins VALUES (9, 1, 7, 0)", "a row hangs in the air"),
        ("UPDATE messages SET parent_id = 2 WHERE id = 1", "a row hangs in the air"),
    ],
)
def test_the_rules_complain_of(change: str, complaint: str, database: Database) -> None:
    assert complaint in found_by(database, change)


def test_the_rules_accept_what_is_right(database: Database) -> None:
    assert found_by(database, "SELECT 1") == set()


def test_what_relays_show_is_what_the_database_holds(database: Database) -> None:
    rows = [Row(id, "general", "ann", "hi", "") for id in ("m1", "m3")]
    kept = Kept({"general": rows}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {})
    assert [*database.complaints(kept)] == [
        "m2: a row of the database that no relay shows",
        "m3: shown by a relay, and no row of the database",
    ]
