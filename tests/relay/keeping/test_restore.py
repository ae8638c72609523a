"""Restores: the same board under the same keys, or nothing; never half of one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client, errors
from agentchat_relay.directory import Directory
from agentchat_relay.embedded import running
from agentchat_relay.settings import Settings
from tests.relay.conftest import UNLIMITED, until
from tests.relay.keeping.conftest import (
    OK,
    TAKEN,
    WRONG,
    Admin,
    Board,
    blobs,
    check_consistent,
    check_private,
    database,
    finish,
    rows,
    start,
    strike,
)

pytestmark = pytest.mark.sqlite


@pytest.fixture
def backup(board: Board, admin: Admin) -> Path:
    target = board.path.parent / "backup"
    assert admin("backup", target, "--data", board.path).code == OK
    return target


def seen(path: Path, board: Board, settings: Settings = UNLIMITED) -> dict[str, Any]:
    """All that agents see of a directory, with the keys they had."""
    found: dict[str, Any] = {}
    with running(str(path), settings=settings) as relay, contextlib.ExitStack() as stack:
        for name, key in board.keys.items():
            client = stack.enter_context(Client(relay.url, key, retries=0))
            found[name] = {
                "board": client.check_board(),
                "mentions": client.check_mentions(unread=False),
                "agents": {
                    agent["name"]: {**agent, "presence": None, "last_seen_at": None}
                    for agent in client.find_agents()["agents"]
                },
                "channels": {
                    channel["name"]: (
                        client.read_messages(channel["name"], limit=200, include_status=True),
                        client.list_files(channel["name"]),
                        client.list_pinned_messages(channel["name"]),
                    )
                    for channel in client.list_channels()["channels"]
                },
            }
            until(lambda client=client: searched(client))  # type: ignore[misc]
            found[name]["search"] = client.search_messages("day OR green OR private OR elsewhere")
        with Client(relay.url, board.keys["ann"]) as ann:
            found["files"] = {path: ann.download_file(path)["content"] for path in board.files}
    return found


def searched(client: Client) -> bool:
    try:
        client.search_messages("anything")
    except errors.Unavailable:
        return False
    return True


def test_round_trip(board: Board, backup: Path, admin: Admin):
    before = seen(board.path, board)
    again = board.path.parent / "new" / "relay"
    ran = admin("restore", backup, "--data", again)
    assert ran.code == OK, ran
    assert f"agentchat serve --data {again}" in ran.out
    assert ran.err == ""
    check_consistent(again)
    check_private(again)
    after = seen(again, board)
    assert after == before
    assert after["files"] == board.files
    assert Directory(again).admin_secret() != Directory(board.path).admin_secret()


def test_a_restored_relay_goes_on(board: Board, backup: Path, admin: Admin):
    again = board.path.parent / "again"
    assert admin("restore", backup, "--data", again).code == OK
    with running(str(again), settings=UNLIMITED) as relay, Client(relay.url, board.keys["ann"]) as ann:
        id = ann.send_message("general", "here we are again")["message"]["id"]
        assert ann.read_messages("general", limit=1)["messages"][0]["id"] == id
        assert ann.search_messages("again")["results"][0]["id"] == id
    check_consistent(again)


def test_json(board: Board, backup: Path, admin: Admin):
    again = board.path.parent / "again"
    told = admin("restore", backup, "--data", again, "--json").json
    made = json.loads((backup / "backup.json").read_text())
    assert told["directory"] == str(again)
    assert {told[name] == made[name] for name in ("made_at", "version", "counts", "lost")} == {True}
    assert not told["again"]


def test_settings_may_be_there_already(board: Board, backup: Path, admin: Admin):
    again = board.path.parent / "again"
    again.mkdir(mode=0o755)
    (again / "relay.toml").write_text("port = 1\n")
    assert admin("restore", backup, "--data", again).code == OK
    assert (again / "relay.toml").read_text() == "port = 1\n"
    assert again.stat().st_mode & 0o777 == 0o700


# What is refused


def _manifest(backup: Path, **changes: Any) -> None:
    made = json.loads((backup / "backup.json").read_text())
    made |= changes
    (backup / "backup.json").write_text(json.dumps({name: value for name, value in made.items() if value is not None}))


def _flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x55
    file.write_bytes(content)


def _rot(backup: Path) -> None:
    """Damage that the manifest knows nothing of: the page of an index."""
    with database(backup) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages_in_channel'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    file = backup / "agentchat.db"
    content = bytearray(file.read_bytes())
    content[(page - 1) * size + 100 : page * size] = os.urandom(size - 100)
    file.write_bytes(content)
    _manifest(backup, database_sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda backup: (backup / "backup.json").unlink(), "is no backup"),
        (lambda backup: shutil.rmtree(backup), "is no backup"),
        (lambda backup: (backup / "backup.json").write_text('{"format": 1'), "cannot be understood"),
        (lambda backup: (backup / "backup.json").write_text("[]"), "no manifest"),
        (lambda backup: _manifest(backup, database_sha256=None), "no manifest"),
        (lambda backup: _manifest(backup, format=2), "newer version"),
        (lambda backup: _manifest(backup, migration=99), "newer version"),
        (lambda backup: _manifest(backup, migration=1), "not of one backup"),
        (lambda backup: _manifest(backup, database_bytes=1 << 60), "Make room"),
        (lambda backup: _flip(backup / "agentchat.db", 5000), "SHA-256"),
        (lambda backup: (backup / "agentchat.db").unlink(), "not whole"),
        (_rot, "damaged"),
    ],
)
def test_a_backup_that_is_none_is_refused_and_leaves_nothing(
    board: Board, backup: Path, admin: Admin, spoil: Callable[[Path], object], told: str
):
    spoil(backup)
    ran = admin("restore", backup, "--data", board.path.parent / "again")
    assert ran.code == WRONG
    assert told in ran.err
    assert not (board.path.parent / "again").exists()


def _with(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("make", "code", "told"),
    [
        (lambda board, backup: board.path, WRONG, "not empty"),
        (lambda board, backup: _with(board.path.parent / "d", "mine"), WRONG, "not empty"),
        (lambda board, backup: _with(board.path.parent / "d", "lock", "blobs"), WRONG, "not empty"),
        (lambda board, backup: backup / "agentchat.db", WRONG, "inside the backup"),
        (lambda board, backup: backup / "relay", WRONG, "inside the backup"),
    ],
)
def test_a_place_that_is_taken_is_refused_and_stays_as_it_is(
    board: Board, backup: Path, admin: Admin, make: Callable[[Board, Path], Path], code: int, told: str
):
    place = make(board, backup)
    there = sorted(board.path.parent.rglob("*"))
    ran = admin("restore", backup, "--data", place)
    assert ran.code == code
    assert told in ran.err
    assert sorted(board.path.parent.rglob("*")) == there


def test_a_directory_in_use_is_refused(board: Board, backup: Path, admin: Admin):
    again = board.path.parent / "again"
    holder = Directory(again)
    holder.hold("agentchat admin")
    try:
        ran = admin("restore", backup, "--data", again)
    finally:
        holder.release()
    assert ran.code == TAKEN
    assert "agentchat admin" in ran.err
    assert os.listdir(again) == ["lock"]


def test_a_full_disk_leaves_nothing(board: Board, backup: Path):
    def tighten() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    ran = finish(start("restore", backup, "--data", board.path.parent / "again", preexec_fn=tighten))
    assert ran.code == WRONG
    assert "try again" in ran.err
    assert not (board.path.parent / "again").exists()


# What is missing in the backup


def test_damaged_contents_are_named_and_the_rest_is_restored(board: Board, backup: Path, admin: Admin):
    there = sorted(blobs(backup).items())
    _flip(there[0][1], 10)
    there[1][1].unlink()
    again = board.path.parent / "again"
    ran = admin("restore", backup, "--data", again)
    assert ran.code == WRONG
    for name, _ in there[:2]:
        assert name.partition("/")[2] in ran.err
    assert set(blobs(again)) == {name for name, _ in there[2:]}
    assert rows(again, "SELECT count(*) FROM files") == rows(backup, "SELECT count(*) FROM files")


def test_a_strangers_backup_writes_nothing_elsewhere(board: Board, backup: Path, admin: Admin):
    """Names of contents come from the database, which anybody may have written."""
    with database(backup) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("UPDATE files SET hash = '../../../../outside' WHERE id = 1")
    _manifest(backup, database_sha256=hashlib.sha256((backup / "agentchat.db").read_bytes()).hexdigest())
    (board.path.parent / "outside").write_text("mine")
    ran = admin("restore", backup, "--data", board.path.parent / "again")
    assert ran.code == WRONG
    assert "no SHA-256" in ran.err
    assert (board.path.parent / "outside").read_text() == "mine"


# Interruptions


def test_killed_at_any_moment_it_is_no_relay_and_can_be_repeated(large: Path, tmp_path: Path, admin: Admin):
    backup, again = tmp_path / "b", tmp_path / "again"
    assert admin("backup", backup, "--data", large).code == OK
    moments: list[Callable[[], bool]] = [
        again.exists,
        (again / "agentchat.db.partial").exists,
        lambda: len(blobs(again)) > 0,
        lambda: len(blobs(again)) > 10,
    ]
    struck = 0
    for moment in moments:
        if strike(start("restore", backup, "--data", again), moment):
            struck += 1
            assert not Directory(again).is_there()
        else:
            check_consistent(again)
            shutil.rmtree(again)
    assert struck >= 2, "the kills came too late to show anything"
    left = (again / "agentchat.db.partial").exists()
    ran = finish(start("restore", backup, "--data", again))
    assert ran.code == OK, ran
    assert ("begun again" in ran.out) is left
    check_consistent(again)
    check_private(again)
    assert sorted(os.listdir(again)) == ["agentchat.db", "blobs", "lock"]
