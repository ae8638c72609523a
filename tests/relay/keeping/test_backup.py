"""Backups: whole and consistent while a relay writes at full speed, never half, and honest about what is missing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.keeping.backup import backup
from agentchat_relay.keeping.progress import Progress
from agentchat_relay.service import administration, retention
from agentchat_relay.store.seam import Lane
from agentchat_relay.store.sqlite import migrate as migrating
from agentchat_relay.store.sqlite.migrate import migrate
from agentchat_relay.store.statements import migrations
from tests.relay.conftest import UNLIMITED, Clock, purge_all, until
from tests.relay.keeping.conftest import (
    OK,
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
    upload,
)

pytestmark = pytest.mark.sqlite


class Crowd:
    """Threads that post and upload without a pause, and remember what the relay acknowledged."""

    def __init__(self, relay: Embedded, size: int = 4) -> None:
        self.posted: list[str] = []
        self.stored: list[str] = []
        self._over = threading.Event()
        self._clients = [Client(relay.url, relay.token(f"agent-{number}")) for number in range(size)]
        self._threads = [threading.Thread(target=self._work, args=(client,)) for client in self._clients]
        for thread in self._threads:
            thread.start()

    def _work(self, client: Client) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            self.posted.append(client.send_message(f"tech-{number % 5}", f"@agent-1 step {number}")["message"]["id"])
            if number % 10 == 0:
                self.stored.append(upload(client, "general", f"{number}.bin", os.urandom(5000)))

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.close()


def test_a_backup_under_load_is_one_state_and_has_all_that_was_acknowledged(tmp_path: Path):
    path, target = tmp_path / "relay", tmp_path / "backup"
    with running(str(path), settings=UNLIMITED) as relay:
        crowd = Crowd(relay)
        try:
            until(lambda: len(crowd.posted) > 300 and len(crowd.stored) > 10)
            posted, stored = list(crowd.posted), list(crowd.stored)
            ran = finish(start("backup", target, "--data", path, "--json"))
            meanwhile = len(crowd.posted) - len(posted)
        finally:
            crowd.stop()
    assert ran.code == OK, ran
    assert meanwhile > 0, "sends were stopped"
    found = {row[0] for row in rows(target, "SELECT public_id FROM messages")}
    assert found >= set(posted)
    assert {row[0] for row in rows(target, "SELECT path FROM files")} >= set(stored)
    check_consistent(target)
    check_private(target)
    told = json.loads((target / "backup.json").read_text())
    assert told == ran.json
    assert told["counts"]["messages"] == len(found)
    assert len(blobs(target)) == told["contents"]
    assert sorted(os.listdir(target)) == ["agentchat.db", "backup.json", "blobs"], "no credential, no index"
    assert os.listdir(tmp_path / "backup" / "blobs") == ["1"]


def test_a_stopped_relay_is_backed_up_as_well(board: Board, admin: Admin):
    target = board.path.parent / "backup"
    target.mkdir()  # empty is as good as new
    ran = admin("backup", target, "--data", board.path)
    assert ran.code == OK, ran
    assert "messages and 8 files" in ran.out
    assert ran.err == ""
    check_consistent(target)
    check_private(target)
    secrets = list(board.keys.values())
    secrets += [(board.path / name).read_text().strip() for name in ("admin.key", "link.key")]
    for file in target.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not [secret for secret in secrets if secret.encode() in content], file


def test_what_a_killed_relay_had_committed_is_in_it(board: Board, admin: Admin):
    """It stands in the log, which nobody has taken into the database yet."""
    with running(str(board.path), settings=UNLIMITED) as relay:
        with Client(relay.url, board.keys["ann"]) as ann:
            id = ann.send_message("general", "last words")["message"]["id"]
        left = board.path.parent / "left"  # what a kill at this moment leaves
        left.mkdir(mode=0o700)
        for name in ("agentchat.db", "agentchat.db-wal"):
            shutil.copy(board.path / name, left / name)
        shutil.copytree(board.path / "blobs", left / "blobs")
    assert admin("backup", board.path.parent / "b", "--data", left).code == OK
    assert rows(board.path.parent / "b", "SELECT 1 FROM messages WHERE public_id = ?", id) == [(1,)]


def test_deleted_text_does_not_live_on(board: Board, admin: Admin):
    with database(board.path) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("DELETE FROM messages WHERE content LIKE 'note % of the day'")
        connection.execute("DELETE FROM unindexed")
        connection.execute("UPDATE channels SET purged = 30 WHERE name = 'general'")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"of the day" in (board.path / "agentchat.db").read_bytes()
    assert admin("backup", board.path.parent / "b", "--data", board.path).code == OK
    assert b"of the day" not in (board.path.parent / "b" / "agentchat.db").read_bytes()


def test_missing_and_damaged_contents_are_named_and_the_rest_is_saved(board: Board, admin: Admin):
    missing, damaged = sorted(path for path in board.files if "/" in path and "f" in path.rpartition("-")[2])[:2]
    hashes = dict(rows(board.path, "SELECT path, '1/' || hash FROM files WHERE space_id = 1"))
    there = blobs(board.path)
    there[hashes[missing]].unlink()
    there[hashes[damaged]].write_bytes(b"?" * len(board.files[damaged]))
    target = board.path.parent / "backup"
    ran = admin("backup", target, "--data", board.path)
    assert ran.code == WRONG
    assert f"main:{missing}" in ran.err
    assert f"main:{damaged}" in ran.err
    lost = json.loads((target / "backup.json").read_text())["lost"]
    assert sorted((one["why"].partition(":")[0], one["files"][0]) for one in lost) == [
        ("damaged", f"main:{damaged}"),
        ("missing", f"main:{missing}"),
    ]
    assert set(blobs(target)) == set(blobs(board.path)) - {hashes[missing], hashes[damaged]}


class Purging(Progress):
    """Has a relay delete everything as soon as the database was copied."""

    def __init__(self, relay: Embedded) -> None:
        super().__init__(quiet=True)
        self.removed: list[bool] = []
        self._relay = relay

    def part(self, what: str, *more: Any) -> Any:
        if what == "Copying files":
            self.remove()
        return super().part(what, *more)

    def remove(self) -> None:
        assert self._relay.relay is not None
        parts = self._relay.relay.parts
        store, blobs = parts.store, parts.blobs
        purge_all(store)
        self.removed = [blobs.drop(*blob, lambda: False) for blob in store.ask(Lane.READ, retention.dropped)]


def test_what_is_deleted_meanwhile_is_in_it_still(board: Board, clock: Clock):
    with running(str(board.path), settings=UNLIMITED) as relay:
        relay.ask(lambda tx: administration.space_update(tx, name="main", retention=1))
        clock.ahead = 2 * 86_400.0
        purging = Purging(relay)
        made = backup(str(board.path), str(board.path.parent / "b"), purging)
        assert purging.removed == [False] * (made["contents"] - 1), "all but the other space's wait"
        assert rows(board.path, "SELECT count(*) FROM files") == [(1,)]
        purging.remove()
        assert purging.removed == [True] * (made["contents"] - 1), "now they go"
    assert made["lost"] == []
    assert rows(board.path.parent / "b", "SELECT count(*) FROM files") == [(8,)]
    check_consistent(board.path.parent / "b")


def test_an_older_database_can_be_backed_up(tmp_path: Path, admin: Admin, monkeypatch: pytest.MonkeyPatch):
    """Before an upgrade, with the newer version's command."""
    path = tmp_path / "relay"
    path.mkdir(mode=0o700)
    monkeypatch.setattr(migrating, "migrations", lambda engine: migrations(engine)[:1])
    with contextlib.closing(sqlite3.connect(path / "agentchat.db", isolation_level=None)) as connection:
        migrate(connection, "sqlite")
    assert admin("backup", tmp_path / "b", "--data", path, "--json").json["migration"] == 1


# What is refused


def _newer(path: Path) -> None:
    with database(path) as connection:
        connection.execute("INSERT INTO migrations VALUES (99, 'tomorrow', 0)")


def _filled(folder: Path) -> None:
    folder.mkdir()
    (folder / "mine").touch()


@pytest.mark.parametrize(
    ("target", "before", "told"),
    [
        ("full", lambda path: _filled(path.parent / "full"), "not empty"),
        ("file", lambda path: (path.parent / "file").touch(), "not empty"),
        ("relay/backup", lambda path: None, "inside the relay's own directory"),
        ("relay", lambda path: None, "inside the relay's own directory"),
        ("nowhere/backup", lambda path: None, "There is no directory"),
        ("/proc", lambda path: None, "mount point"),
        ("b", lambda path: _filled(path.parent / "b.partial"), "no backup made it"),
        ("b", lambda path: (path / "agentchat.db").unlink(), "shows that a relay was here"),
        ("b", lambda path: (path / "agentchat.db").write_bytes(b"no database" * 1000), "doctor"),
        ("b", _newer, "newer version"),
    ],
)
def test_what_cannot_be_done_is_refused(
    board: Board, admin: Admin, target: str, before: Callable[[Path], object], told: str
):
    before(board.path)
    there = sorted(board.path.parent.rglob("*"))
    ran = admin("backup", board.path.parent / target, "--data", board.path)
    assert ran.code == WRONG
    assert told in ran.err
    assert [file for file in sorted(board.path.parent.rglob("*")) if file.name[-4:] not in ("-wal", "-shm")] == there
    assert (
        json.loads(admin("backup", board.path.parent / target, "--data", board.path, "--json").err)["code"] == "refused"
    )


def test_a_second_backup_to_the_same_place_waits_its_turn(board: Board, admin: Admin):
    partial = board.path.parent / "b.partial"
    partial.mkdir()
    with open(partial / "unfinished", "wb") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        ran = admin("backup", board.path.parent / "b", "--data", board.path)
        assert ran.code == WRONG
        assert "Another backup" in ran.err
    assert admin("backup", board.path.parent / "b", "--data", board.path).code == OK, "a killed one is replaced"
    assert not partial.exists()


@pytest.mark.parametrize("limit", [20_000, 450_000])
def test_a_full_disk_is_told_and_leaves_nothing(board: Board, limit: int):
    """Within the database, and within the files."""
    big = os.urandom(500_000)
    with running(str(board.path), settings=UNLIMITED) as relay, Client(relay.url, board.keys["ann"]) as ann:
        upload(ann, "general", "big.bin", big)
    assert (board.path / "agentchat.db").stat().st_size < 450_000

    def tighten() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    ran = finish(start("backup", board.path.parent / "b", "--data", board.path, preexec_fn=tighten))
    assert ran.code == WRONG
    assert "failed" in ran.err
    assert "try again" in ran.err
    assert [file.name for file in board.path.parent.iterdir()] == ["relay"]


# Interruptions


def size_of(path: Path) -> int:
    """It may be gone at any moment."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def test_killed_at_any_moment_it_never_looks_finished(large: Path, tmp_path: Path):
    path, target, partial = large, tmp_path / "b", tmp_path / "b.partial"
    moments: list[Callable[[], bool]] = [
        partial.exists,
        lambda: size_of(partial / "agentchat.db") > 0,
        lambda: len(blobs(partial)) > 0,
        lambda: len(blobs(partial)) > 10,
        (partial / "backup.json").exists,
    ]
    struck = 0
    for moment in moments:
        if strike(start("backup", target, "--data", path), moment) and not target.exists():
            struck += 1
        else:  # it was faster
            check_consistent(target)
            shutil.rmtree(target)
    assert struck >= 3, "the kills came too late to show anything"
    assert finish(start("backup", target, "--data", path)).code == OK
    assert not partial.exists()
    check_consistent(target)


def test_ctrl_c_leaves_nothing(large: Path, tmp_path: Path):
    target, partial = tmp_path / "b", tmp_path / "b.partial"
    process = start("backup", target, "--data", large)
    strike(process, lambda: len(blobs(partial)) > 0, signal.SIGINT)
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []
