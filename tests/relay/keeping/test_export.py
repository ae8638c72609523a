"""Exports: everything of one space, nothing of another, as the API tells it; and never mistaken when cut."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client
from agentchat_relay.embedded import running
from tests.relay.conftest import UNLIMITED, until
from tests.relay.keeping.conftest import (
    MISSING,
    OK,
    THERE,
    WRONG,
    Admin,
    Board,
    clients,
    database,
    finish,
    rows,
    start,
)

pytestmark = pytest.mark.sqlite


def lines(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def of(exported: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line[kind] for line in exported if line["kind"] == kind]


def test_it_tells_what_the_api_tells(board: Board, admin: Admin):
    with running(str(board.path), settings=UNLIMITED) as relay, contextlib.ExitStack() as stack:
        ann, bob = (
            stack.enter_context(Client(relay.url, board.keys[name], scopes=[THERE])) for name in ("ann", "bob")
        )  # fmt: skip
        exported = lines(admin("export", "main", "--data", board.path).out)
        for client, name in ((ann, "ann"), (bob, "bob")):
            _compare_messages(client, name, exported)
            _compare_members(client, name, exported)
            _compare_inbox(client, name, exported)
        _compare_work(ann, exported)
        _compare_locks(ann, exported)
        _compare_agents(ann, exported)
        _compare_files(ann, exported, board)


def _compare_messages(client: Client, name: str, exported: list[dict[str, Any]]) -> None:
    everything = of(exported, "message")
    given = {item["message_id"] for item in of(exported, "inbox") if item["agent"] == name}
    for channel in client.list_channels()["channels"]:
        page = client.read_messages(channel["name"], limit=200, include_status=True)["messages"]
        told = [
            (m["id"], m["author_name"], m["content"], m["metadata"], m["parent_message_id"], m["pinned"], m["kind"],
             m["created_at"], m["channel_id"], m["author_agent_id"])
            for m in page
        ]  # fmt: skip
        mine = [
            (m["id"], m["author"], m["content"], m["metadata"], m["parent_id"], m["pinned"], m["kind"],
             m["created_at"], m["channel_id"], m["author_id"])
            for m in everything
            if m["channel"] == channel["name"]
            and (m["recipient"] is None or name in (m["recipient"], m["author"]) or m["id"] in given)
        ]  # fmt: skip
        assert sorted(mine) == sorted(told, key=lambda one: one[0])
        assert [one[7] for one in mine] == sorted(one[7] for one in mine)


def _compare_members(client: Client, name: str, exported: list[dict[str, Any]]) -> None:
    mine = {m["channel"]: m for m in of(exported, "membership") if m["agent"] == name}
    board = {row["channel"]: row["unread"] for row in client.check_board()["channels"] if row["joined"]}
    assert {channel: m["unread"] for channel, m in mine.items()} == board
    for channel, member in mine.items():
        if channel != "direct-messages":
            readers = {r["agent_name"]: r["read_through"] for r in client.list_readers(channel)["readers"]}
            assert (member["read_through"] or member["joined_at"]) == readers[name]


def _compare_inbox(client: Client, name: str, exported: list[dict[str, Any]]) -> None:
    told = {(m["mention_id"], m["message_id"], not m["read"]) for m in client.check_mentions(unread=False)["mentions"]}
    assert {(i["id"], i["message_id"], i["open"]) for i in of(exported, "inbox") if i["agent"] == name} == told
    assert all((item["done_at"] is None) is item["open"] for item in of(exported, "inbox"))
    items = {item["id"]: item for item in of(exported, "inbox")}
    for item in client.peek_inbox(limit=100)["items"]:
        kept = items[item["item_id"]]
        assert {name: kept[name] for name in ("urgent", "deliveries", "outcome", "expires_at", "scope")} == {
            "urgent": item["urgent"], "deliveries": item["deliveries"], "outcome": None,
            "expires_at": item["expires_at"], "scope": item.get("scope"),
        }  # fmt: skip


def _compare_work(client: Client, exported: list[dict[str, Any]]) -> None:
    """Of who made all of it."""
    tasks = {task["id"]: task for task in client.list_tasks()["tasks"]}
    works = [work for work in of(exported, "work") if work["type"] == "task"]
    assert {work["id"]: work["state"] for work in works} == {id: one["state"] for id, one in tasks.items()}
    assert {task["state"] for task in tasks.values()} == {"open", "declined", "done"}
    same = ("title", "body", "version", "fence", "channel", "creator", "target", "capability_tags", "result", "reason",
            "message_id", "result_message_id", "created_at", "claimed_at", "deadline_at", "lease_until")  # fmt: skip
    for work in works:
        task = tasks[work["id"]]
        assert (work["type"], work["owner"], work["ended_at"]) == ("task", task["claimant"], task["completed_at"])
        assert {name: work[name] for name in same} == {name: task[name] for name in same}  # type: ignore[literal-required]
        assert (work["details"] or {}).get("result_schema") == task["result_schema"]
        if work["context"] is not None:
            assert work["context"] == client.read_task_context(work["id"])["context"]
        history = [line for line in of(exported, "transition") if line["id"] == work["id"]]
        told = client.get_task(work["id"])["history"]
        assert [{**line, "id": work["id"], "type": "task"} for line in told] == history


def _compare_locks(client: Client, exported: list[dict[str, Any]]) -> None:
    locks = [work for work in of(exported, "work") if work["type"] == "lock"]
    assert [work["state"] for work in locks] == ["released", "held", "held"]
    shown = [
        (work["id"], work["owner"], work["fence"], work["lease_until"], work["details"]["names"]) for work in locks[1:]
    ]
    listed = client.list_locks()["locks"]
    assert shown == [(one["id"], one["holder"], one["fence"], one["lease_until"], one["names"]) for one in listed]
    ids = {work["id"] for work in locks}
    told = [(line["action"], line["actor"], line["after"]) for line in of(exported, "transition") if line["id"] in ids]
    assert told == [
        ("grant", "ann", "held"), ("release", "ann", "released"), ("grant", "ann", "held"), ("grant", "bob", "held"),
    ]  # fmt: skip


def _compare_agents(client: Client, exported: list[dict[str, Any]]) -> None:
    told = {agent["name"]: agent["card"] for agent in client.find_agents()["agents"]}
    cards = {agent["name"]: agent["card"] or {} for agent in of(exported, "agent") if agent["kind"] != "group"}
    assert {name: {k: v for k, v in (card or {}).items() if v} for name, card in told.items()} == cards
    members: dict[str, list[str]] = {each["name"]: [] for each in of(exported, "agent") if each["kind"] == "group"}
    for member in of(exported, "member"):
        members[member["group"]].append(member["agent"])
    listed = [client.list_groups(group=row["name"])["groups"][0] for row in client.list_groups()["groups"]]
    assert members == {row["name"]: row["agents"] for row in listed} == {"crew": ["ann", "bob"]}


def _compare_files(client: Client, exported: list[dict[str, Any]], board: Board) -> None:
    mine = {file["path"]: file for file in of(exported, "file")}
    assert {path: file["sha256"] for path, file in mine.items()} == {
        path: hashlib.sha256(content).hexdigest() for path, content in board.files.items()
    }
    for file in client.list_files("general")["files"]:
        assert {name: file[name] for name in ("name", "size", "type", "created_at")}.items() <= mine[
            file["path"]
        ].items()


def test_its_form(board: Board, admin: Admin):
    ran = admin("export", "main", "--data", board.path)
    assert (ran.code, ran.err) == (OK, "")
    exported = lines(ran.out)
    first, last = exported[0], exported[-1]
    assert (first["kind"], first["format"], first["space"]["name"]) == ("space", 1, "main")
    assert first["exported_at"] > of(exported, "message")[-1]["created_at"]
    assert last["kind"] == "end"
    assert last["counts"] == Counter(line["kind"] for line in exported[1:-1])
    order = [kind for kind, _ in Counter(line["kind"] for line in exported).items()]
    assert order == [
        "space", "agent", "member", "channel", "membership", "message", "inbox", "file", "work",
        "transition", "end",
    ]  # fmt: skip
    assert {(m["author"], m["recipient"]) for m in of(exported, "message") if m["channel"] == "direct-messages"} == {
        ("ann", "bob"),
        ("ann", "crew"),
        ("bob", "ann"),  # that he declined a task
        ("ann", "ann"),  # that she asked for approval
    }


def test_nothing_of_another_space_and_no_key(board: Board, admin: Admin):
    main, team = (admin("export", space, "--data", board.path).out for space in ("main", "team"))
    assert "elsewhere" not in main
    assert [m["content"] for m in of(lines(team), "message")] == ["elsewhere", "Shared a file: e.bin (9 bytes)"]
    assert "note" not in team
    hashes = [row[0] for row in rows(board.path, "SELECT key_hash FROM agents WHERE key_hash IS NOT NULL")]
    assert not [secret for secret in [*hashes, *board.keys.values()] if secret in main + team]


def test_into_a_file(board: Board, admin: Admin):
    file = board.path.parent / "main.jsonl"
    before = admin("export", "main", "--data", board.path).out
    ran = admin("export", "main", "--data", board.path, "--out", file)
    assert ran.code == OK
    assert "messages" in ran.out
    assert file.stat().st_mode & 0o777 == 0o600
    assert lines(file.read_text())[1:] == lines(before)[1:]
    again = admin("export", "main", "--data", board.path, "--out", file)
    assert again.code == WRONG
    assert "there already" in again.err
    told = admin("export", "team", "--data", board.path, "--out", f"{file}2", "--json").json
    assert told["counts"]["message"] == 2


@pytest.mark.parametrize("out", [(), ("--out", "new.jsonl")])
def test_a_space_that_is_none(
    board: Board, admin: Admin, out: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    ran = admin("export", "mian", "--data", board.path, *out)
    assert ran.code == MISSING
    assert "Did you mean main?" in ran.err
    assert ran.out == ""
    assert os.listdir(tmp_path) == ["relay"]


def test_no_relay_no_folder_no_room(board: Board, admin: Admin, tmp_path: Path):
    ran = admin("export", "main", "--data", tmp_path / "nowhere")
    assert (ran.code, ran.out) == (WRONG, "")
    assert "There is no relay" in ran.err
    ran = admin("export", "main", "--data", board.path, "--out", tmp_path / "no" / "file")
    assert ran.code == WRONG
    assert "Make the directory first" in ran.err

    def tighten() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    ran = finish(start("export", "main", "--data", board.path, "--out", tmp_path / "file", preexec_fn=tighten))
    assert ran.code == WRONG
    assert not (tmp_path / "file").exists()


def test_an_older_database_is_brought_up_to_date_first(board: Board, admin: Admin):
    with database(board.path) as connection:
        connection.execute("DELETE FROM migrations WHERE number > 1")
    ran = admin("export", "main", "--data", board.path)
    assert (ran.code, ran.out) == (WRONG, "")
    assert "agentchat serve" in ran.err


def test_a_reader_that_has_seen_enough(large_board: Path):
    command = [sys.executable, "-m", "agentchat", "admin", "export", "main", "--data", str(large_board)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        assert json.loads(process.stdout.readline())["kind"] == "space"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.wait() == OK


@pytest.fixture
def large_board(board: Board) -> Path:
    """More than a pipe holds."""
    with database(board.path) as connection:
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
            " INSERT INTO messages (public_id, channel_id, number, chats, created_at, author_id, kind, content)"
            " SELECT 'x' || i, 1, i, i, i, 1, 'chat', hex(zeroblob(500)) FROM n"
        )
        connection.execute("UPDATE channels SET number = 5000, chats = 5000, last_at = 5000 WHERE id = 1")
    return board.path


def test_memory_does_not_grow_with_the_messages(large_board: Path):
    """Five megabytes of text pass through a process that gains less than half of that."""
    code = (
        "import resource, sys\n"
        "from agentchat_relay.keeping.export import export\n"
        "from agentchat_relay.keeping.progress import Progress\n"
        "sizes = []\n"
        "def write(batch):\n"
        "    sizes.append((len(batch), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))\n"
        "export(sys.argv[1], 'main', write, Progress(quiet=True))\n"
        "print(sum(size for size, _ in sizes), sizes[-1][1] - sizes[0][1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, large_board], capture_output=True, text=True, check=True)
    written, grown = map(int, done.stdout.split())
    assert written > 5_000_000
    assert grown * 1024 < written / 2


def test_it_is_one_state_while_others_write(board: Board):
    with running(str(board.path), settings=UNLIMITED) as relay, contextlib.ExitStack() as stack:
        (cat,) = clients(relay, stack, "cat")
        over, sent = threading.Event(), []

        def talk() -> None:
            while not over.is_set():
                sent.append(cat.send_message("talk", f"@bob {len(sent)}")["message"]["id"])

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            until(lambda: len(sent) > 50)
            known = list(sent)
            ran = finish(start("export", "main", "--data", board.path))
        finally:
            over.set()
            thread.join()
    exported = lines(ran.out)
    talked = [m["id"] for m in of(exported, "message") if m["channel"] == "talk"]
    assert set(known) <= set(talked)
    (channel,) = (c for c in of(exported, "channel") if c["name"] == "talk")
    assert channel["messages"] == len(talked)
    waiting = {item["message_id"] for item in of(exported, "inbox") if item["agent"] == "bob"}
    assert set(talked) <= waiting
