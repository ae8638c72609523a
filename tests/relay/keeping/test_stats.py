"""Stats: how much there is, the relay running or not, at a cost that does not grow with the messages."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client, __version__
from agentchat_relay.directory import Directory
from agentchat_relay.embedded import running
from agentchat_relay.service import administration
from agentchat_relay.store.statements import statements
from tests.relay.conftest import UNLIMITED, Clock, purge_all
from tests.relay.keeping.conftest import OK, Admin, Board, database, rows

pytestmark = pytest.mark.sqlite

DAY = 86_400.0


@contextmanager
def served(board: Board, on: bool) -> Iterator[None]:
    if not on:
        yield
        return
    with running(str(board.path), settings=UNLIMITED):
        yield


@pytest.mark.parametrize("on", [True, False], ids=["running", "stopped"])
def test_it_counts(board: Board, admin: Admin, on: bool):
    with served(board, on):
        told = admin("stats", "--data", board.path, "--json").json
    spaces = {space["name"]: space for space in told["spaces"]}
    assert list(spaces) == ["main", "team"]
    for name, space in spaces.items():
        assert space == counted(board.path, name)
    assert spaces["main"]["messages"] > 30
    assert spaces["main"]["open_inbox"] > 0
    relay = told["relay"]
    assert (relay["version"], relay["spaces"], relay["machines"]) == (__version__, 2, 0)
    assert relay["database_bytes"] >= (board.path / "agentchat.db").stat().st_size > 0
    assert relay["index_bytes"] > 0


def counted(path: Path, space: str) -> dict[str, Any]:
    """The same by counting every row."""

    def one(sql: str) -> Any:
        return rows(path, f"{sql} (SELECT id FROM spaces WHERE name = ?)", space)[0][0]

    of_channel = "channel_id IN (SELECT id FROM channels WHERE space_id ="
    (ends,) = rows(
        path,
        "SELECT strftime('%Y-%m-%dT%H:%M:%S', min(created_at) / 1000000, 'unixepoch'),"
        " strftime('%Y-%m-%dT%H:%M:%S', max(created_at) / 1000000, 'unixepoch'), min(created_at), max(created_at)"
        f" FROM messages WHERE {of_channel} (SELECT id FROM spaces WHERE name = ?))",
        space,
    )
    oldest, newest = (
        None if at is None else f"{text}.{at % 1_000_000:06}+00:00" for text, at in zip(ends[:2], ends[2:], strict=True)
    )
    return {
        "name": space,
        "agents": one("SELECT count(*) FROM agents WHERE active AND NOT is_group AND space_id ="),
        "channels": one("SELECT count(*) FROM channels WHERE space_id ="),
        "messages": one("SELECT count(*) FROM messages m JOIN channels c ON c.id = m.channel_id WHERE c.space_id ="),
        "files": one("SELECT count(*) FROM files WHERE space_id ="),
        "file_bytes": one("SELECT coalesce(sum(size), 0) FROM files WHERE space_id ="),
        "open_inbox": one(
            "SELECT count(*) FROM inbox i JOIN agents a ON a.id = i.agent_id WHERE done_at IS NULL AND a.space_id ="
        ),
        "oldest_message_at": oldest,
        "newest_message_at": newest,
    }


def test_what_was_purged_does_not_count(board: Board, admin: Admin, clock: Clock):
    with running(str(board.path), settings=UNLIMITED) as relay:
        relay.ask(lambda tx: administration.space_update(tx, name="main", retention=30))
        with Client(relay.url, board.keys["ann"]) as ann:
            end_what_waits(ann)
        clock.ahead = 29 * DAY
        with Client(relay.url, board.keys["bob"]) as bob:
            bob.send_message("tech-web", "newer")
        clock.ahead = 31 * DAY
        store = relay.relay.store  # type: ignore[union-attr]
        purge_all(store)
        told = admin("stats", "--data", board.path, "--json").json
    (main,) = (space for space in told["spaces"] if space["name"] == "main")
    assert main["messages"] == 1
    assert main == counted(board.path, "main")


def end_what_waits(ann: Client) -> None:
    """What is over by the clock would be told in messages that are newer, and what is not would outlive its own."""
    for task in ann.list_tasks(mine="created")["tasks"]:
        if task["state"] in ("open", "declined"):
            ann.cancel_task(task["id"])
    for interrupt in ann.list_interrupts(sent=True, state="pending")["interrupts"]:
        ann.withdraw_interrupt(interrupt["id"])
    for pause in ann.list_pauses()["pauses"]:
        ann.resume_agents(pause["id"])
    for approval in ann.list_approvals(mine=True, state="pending")["approvals"]:
        ann.withdraw_approval(approval["id"])


def test_an_empty_relay(tmp_path: Path, admin: Admin):
    told = admin("--data", tmp_path / "relay", "stats", "--json").json
    (main,) = told["spaces"]
    assert main == counted(tmp_path / "relay", "main")
    assert main["oldest_message_at"] is main["newest_message_at"] is None


def test_for_people_two_tables(board: Board, admin: Admin):
    ran = admin("stats", "--data", board.path)
    assert ran.code == OK
    relay, spaces = (
        [re.split(r" {2,}", line) for line in table.splitlines()] for table in ran.out.strip().split("\n\n")
    )
    assert dict(zip(*relay, strict=True))["version"] == __version__
    assert dict(zip(*relay, strict=True))["database bytes"].endswith("KiB")
    main = dict(zip(spaces[0], spaces[1], strict=True))
    assert (main["name"], main["files"]) == ("main", "7")
    assert main["newest message at"].endswith("Z")


def test_over_http(board: Board):
    with running(str(board.path), settings=UNLIMITED) as relay:
        secret = Directory(board.path).admin_secret()
        request = urllib.request.Request(
            f"{relay.url}/api/v2/admin/stats", headers={"Authorization": f"Bearer {secret}"}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            told = json.load(answer)
    assert {space["name"] for space in told["data"]["spaces"]} == {"main", "team"}


@pytest.mark.parametrize("name", ["stats_spaces", "stats_oldest"])
def test_no_statement_looks_at_every_message(board: Board, name: str):
    with database(board.path) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statements('sqlite')[name].sql}")]
    on_messages = [step for step in plan if re.search(r"\b(m|messages)\b", step)]
    assert not [step for step in on_messages if step.startswith("SCAN")]
    assert name == "stats_spaces" or on_messages
    assert not [step for step in plan if "SCAN i" in step]
