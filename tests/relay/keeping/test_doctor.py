"""The doctor: every finding provoked by really breaking a directory, and mended where that is safe."""

from __future__ import annotations

import contextlib
import os
import resource
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client
from agentchat_relay.blobs.guards import kept
from agentchat_relay.directory import Directory
from agentchat_relay.embedded import running
from agentchat_relay.keeping import surroundings
from agentchat_relay.keeping.doctor import examine
from agentchat_relay.keeping.progress import Progress
from agentchat_relay.keeping.visit import Finding, Visit
from agentchat_relay.service import administration
from agentchat_relay.wire import now
from tests.relay.conftest import UNLIMITED, Clock, purge_all
from tests.relay.keeping.conftest import (
    OK,
    WRONG,
    Admin,
    Board,
    blobs,
    check_consistent,
    clients,
    database,
    finish,
    rows,
    start,
    upload,
)

pytestmark = pytest.mark.sqlite

HOUR = 3600
CHECKS = [
    "relay", "access", "leftovers", "disk", "log", "database", "form", "orphans", "counters", "unread", "clock",
    "files", "strays", "index",
]  # fmt: skip


def found(ran: Any, check: str) -> list[Any]:
    return [finding for finding in ran.json["findings"] if finding["check"] == check and finding["level"] != "ok"]


def bad(ran: Any) -> list[str]:
    return [finding["check"] for finding in ran.json["findings"] if finding["level"] != "ok"]


def age(file: Path, seconds: float = 2 * HOUR) -> None:
    os.utime(file, (time.time() - seconds,) * 2)


def state(path: Path) -> dict[str, Any]:
    """Everything about a directory that looking must not change. A reader of a database may leave its log beside it."""
    return {
        str(file.relative_to(path)): (stat.S_IMODE(file.stat().st_mode), file.is_file() and file.read_bytes())
        for file in [path, *sorted(path.rglob("*"))]
        if file.name[-4:] not in ("-wal", "-shm") and file != path / "blobs" / "lock"
    }


def write(path: Path, *statements: str) -> None:
    with database(path) as connection:
        for statement in statements:
            connection.execute(statement)


# A directory in order


@pytest.mark.parametrize("words", [(), ("--quick",), ("--repair",)])
def test_a_directory_in_order(board: Board, admin: Admin, words: tuple[str, ...]):
    ran = admin("doctor", "--data", board.path, *words, "--json")
    assert ran.code == OK, ran
    assert [finding["check"] for finding in ran.json["findings"]] == CHECKS
    assert bad(ran) == []
    assert (ran.json["problems"], ran.json["warnings"], ran.json["repaired"]) == (0, 0, 0)
    assert ran.json["directory"] == str(board.path)


def test_for_people_a_line_each(board: Board, admin: Admin):
    ran = admin("doctor", "--data", board.path)
    lines = ran.out.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [["ok", check] for check in CHECKS]
    assert lines[-1] == "0 problems, 0 warnings."
    assert ran.err == ""


def test_looking_changes_nothing(board: Board, admin: Admin):
    os.chmod(board.path / "admin.key", 0o644)
    os.chmod(board.path, 0o755)
    (board.path / "relay.json").write_text('{"url": "http://127.0.0.1:1", "pid": 1}')
    os.chmod(board.path / "relay.json", 0o600)
    write(board.path, "UPDATE channels SET number = 7", "DELETE FROM agents WHERE name = 'bob'")
    before = state(board.path)
    assert admin("doctor", "--data", board.path).code == WRONG
    assert state(board.path) == before


@pytest.mark.parametrize("words", [(), ("--repair",)])
def test_beside_a_running_relay_it_only_looks(board: Board, admin: Admin, words: tuple[str, ...]):
    os.chmod(board.path / "link.key", 0o640)
    with running(str(board.path), settings=UNLIMITED) as relay:
        with Client(relay.url, board.keys["ann"]) as ann:
            ran = admin("doctor", "--data", board.path, *words, "--json")
            ann.send_message("general", "unharmed")
        assert ran.json["running"]
        assert "an embedded relay" in ran.json["findings"][0]["text"]
        assert found(ran, "relay") == ([] if not words else [ran.json["findings"][0]])
    assert ran.code == WRONG
    assert not found(ran, "access")[0]["repaired"]
    assert (board.path / "link.key").stat().st_mode & 0o777 == 0o640


def test_there_must_be_a_relay(tmp_path: Path, admin: Admin):
    ran = admin("doctor", "--data", tmp_path / "relay", "--repair")
    assert ran.code == WRONG
    assert "There is no relay" in ran.err
    assert not (tmp_path / "relay").exists()


def test_what_retention_took_is_no_damage(board: Board, admin: Admin, clock: Clock):
    with running(str(board.path), settings=UNLIMITED) as relay:
        relay.ask(lambda tx: administration.space_update(tx, name="main", retention=30))
        store = relay.relay.store  # type: ignore[union-attr]
        clock.ahead = 29 * 24 * HOUR
        with Client(relay.url, board.keys["bob"]) as bob:
            bob.send_message("tech-web", "newer")
        clock.ahead = 31 * 24 * HOUR
        purge_all(store)
        clock.ahead = 0
    assert rows(board.path, "SELECT count(*) FROM dropped_blobs")[0][0] > 0, "their contents are not strays"
    for file in blobs(board.path).values():
        age(file)
    ran = admin("doctor", "--data", board.path, "--repair", "--json")
    assert bad(ran) == ["clock"], "the newer message is of a month from now"


# Each kind of damage, and its repair


def _strange_members(path: Path) -> None:
    write(path, "UPDATE memberships SET read_chats = 1000, own_above = 5 WHERE agent_id = 2")


def _lost_agent(path: Path) -> None:
    """What hangs on an agent that is gone; it wrote nothing itself."""
    write(
        path,
        "INSERT INTO memberships (agent_id, channel_id, joined_at, read_at, read_chats, moved_at)"
        " VALUES (77, 1, 1, 0, 0, 1)",
        "INSERT INTO inbox (public_id, agent_id, kind, message_id, created_at) VALUES ('x', 1, 'mention', 7777, 1)",
        "INSERT INTO pins VALUES (7777, 1, 1, 1)",
        "INSERT INTO answers (agent_id, key, digest, answer, created_at) VALUES (77, 'k', x'00', '{}', 1)",
        "INSERT INTO work_offers VALUES (1, 'task', '', 7777)",
        "INSERT INTO work_contexts VALUES (7777, 'of nothing')",
        "INSERT INTO work_log (space_id, work_id, version, action, after, fence, at)"
        " VALUES (1, 7777, 1, 'create', 'open', 0, 1)",
    )


def _stray(path: Path) -> None:
    for name in ("1", "2"):
        (path / "blobs" / name / "ab").mkdir(mode=0o700, exist_ok=True)
        file = path / "blobs" / name / "ab" / ("ab" * 32)
        file.write_bytes(b"nobody's")
        os.chmod(file, 0o600)
        age(file)


def _leave(path: Path) -> None:
    for name in ("admin.key.4711", "agentchat.db.partial", "blobs/tmp/tmpabc"):
        (path / name).write_bytes(b"")
        os.chmod(path / name, 0o600)
        age(path / name)


def _open(path: Path) -> None:
    os.chmod(path, 0o750)
    os.chmod(path / "blobs", 0o755)
    os.chmod(path / "admin.key", 0o644)
    os.chmod(next(iter(blobs(path).values())), 0o604)


def _tear(path: Path) -> None:
    size = (path / "search.db").stat().st_size
    os.truncate(path / "search.db", size // 2)


def _zero(path: Path) -> None:
    """Within FTS5's own structures, where only it notices."""
    write_to_index(path, "UPDATE fulltext_data SET block = zeroblob(length(block)) WHERE id > 10")


def write_to_index(path: Path, statement: str) -> None:
    with database(path, "search.db") as connection:
        connection.execute(statement)


def _announce(path: Path) -> None:
    (path / "relay.json").write_text('{"url": "http://127.0.0.1:1", "pid": 4711}')
    os.chmod(path / "relay.json", 0o600)


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "modes": (_open, "access", "admin.key"),
    "leftovers": (_leave, "leftovers", "agentchat.db.partial"),
    "announcement": (_announce, "relay.json", "address"),
    "orphans": (_lost_agent, "orphans", "memberships"),
    "number": (lambda path: write(path, "UPDATE channels SET number = number + 3"), "counters", "#main:"),
    "chats": (
        lambda path: write(path, "UPDATE channels SET chats = chats + 5 WHERE name = 'general'"),
        "counters",
        "general",
    ),
    "purged": (
        lambda path: write(path, "UPDATE channels SET purged = 1 WHERE name = 'general'"),
        "counters",
        "general",
    ),
    "last": (lambda path: write(path, "UPDATE channels SET last_at = 1 WHERE name = 'general'"), "counters", "general"),
    "latest": (lambda path: write(path, "UPDATE channels SET latest_id = 1 WHERE name = 'general'"), "counters", "gen"),
    "empty": (lambda path: write(path, "UPDATE channels SET number = 5 WHERE name = 'global'"), "counters", "global"),
    "unread": (_strange_members, "unread", "members"),
    "strays": (_stray, "strays", "2 contents (16 bytes)"),
    "no index": (lambda path: (path / "search.db").unlink(), "index", "no search.db"),
    "torn index": (_tear, "index", "damaged"),
    "no database": (lambda path: (path / "search.db").write_bytes(b"?" * 9000), "index", "damaged"),
    "no tables": (lambda path: write_to_index(path, "DROP TABLE progress"), "index", "damaged"),
    "other index": (lambda path: write_to_index(path, "UPDATE progress SET public_id = 'x'"), "index", "another"),
    "future index": (lambda path: write_to_index(path, "UPDATE progress SET id = 99999"), "index", "another"),
}
ONLY_FTS5_NOTICES = {"broken words": (_zero, "index", "damaged")}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_mended(board: Board, admin: Admin, name: str):
    damage, check, text = DAMAGE[name]
    damage(board.path)
    ran = admin("doctor", "--data", board.path, "--json")
    assert set(bad(ran)) == {check}
    first = found(ran, check)[0]
    assert text in first["text"]
    assert first["advice"]
    assert not first["repaired"]
    assert "doctor --repair" in str(found(ran, check))
    assert ran.code == (WRONG if first["level"] == "problem" else OK)

    mended = admin("doctor", "--data", board.path, "--repair", "--json")
    assert mended.code == OK, mended
    assert all(finding["repaired"] for finding in found(mended, check))
    assert mended.json["repaired"] == len(found(mended, check)) > 0
    ran = admin("doctor", "--data", board.path, "--repair", "--json")
    assert bad(ran) == []
    still_works(board)


@pytest.mark.parametrize("name", ONLY_FTS5_NOTICES)
def test_damage_that_only_a_repair_looks_for(board: Board, admin: Admin, name: str):
    damage, check, _ = ONLY_FTS5_NOTICES[name]
    damage(board.path)
    mended = admin("doctor", "--data", board.path, "--repair", "--json")
    assert [finding["repaired"] for finding in found(mended, check)] == [True]
    still_works(board)


def still_works(board: Board) -> None:
    """Agents find everything, and the search too."""
    with running(str(board.path), settings=UNLIMITED) as relay, Client(relay.url, board.keys["bob"]) as bob:
        notes = [message["content"] for message in bob.read_messages("general", limit=200)["messages"]]
        assert {f"note {number} of the day" for number in range(30)} <= set(notes)
        assert bob.search_messages("green")["results"]
        assert all(channel["unread"] >= 0 for channel in bob.check_board()["channels"])
        bob.send_message("general", "on we go")
        for path, content in board.files.items():
            assert bob.download_file(path)["content"] == content
    check_consistent(board.path)


def test_unread_is_counted_again(board: Board, admin: Admin):
    """To what it was, not merely to something that is possible."""
    before = rows(board.path, "SELECT agent_id, channel_id, read_chats, own_above FROM memberships ORDER BY 1, 2")
    _strange_members(board.path)
    assert admin("doctor", "--data", board.path, "--repair").code == OK
    assert (
        rows(board.path, "SELECT agent_id, channel_id, read_chats, own_above FROM memberships ORDER BY 1, 2") == before
    )


def test_counters_come_back_as_they_were(board: Board, admin: Admin):
    columns = "SELECT id, number, purged, chats, last_at, latest_id FROM channels ORDER BY id"
    before = rows(board.path, columns)
    used = "WHERE number > 0"
    write(board.path, f"UPDATE channels SET number = 1, purged = 9, chats = 0, last_at = 5, latest_id = NULL {used}")
    assert admin("doctor", "--data", board.path, "--repair").code == OK
    assert rows(board.path, columns) == before


# What cannot be mended


def test_contents_that_are_lost(board: Board, admin: Admin):
    there = sorted(blobs(board.path).values())
    there[0].unlink()
    there[1].write_bytes(b"x" * there[1].stat().st_size)
    there[2].write_bytes(b"short")
    paths = {hash: path for path, hash in rows(board.path, "SELECT path, hash FROM files ORDER BY id DESC")}
    full, quick = (admin("doctor", "--data", board.path, *words, "--json") for words in ((), ("--quick",)))
    for ran, number in ((full, 3), (quick, 2)):
        assert ran.code == WRONG
        assert bad(ran) == ["files"]
        (lost,) = found(ran, "files")
        assert lost["text"].startswith(f"{number} of {len(there)} contents are lost")
        assert "from a backup" in lost["advice"]
    text = found(full, "files")[0]["text"]
    for file, why in zip(there, ("missing", "damaged", "damaged"), strict=False):
        assert f"{file.relative_to(board.path)} ({why}" in text
        assert paths[file.name] in text
    assert admin("doctor", "--data", board.path, "--repair").code == WRONG
    assert rows(board.path, "SELECT count(*) FROM files") == [(8,)], "their names stay"


def _page(path: Path, name: str) -> None:
    ((root, size),) = rows(
        path, "SELECT rootpage, page_size FROM sqlite_master, pragma_page_size WHERE sqlite_master.name = ?", name
    )
    write(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray((path / "agentchat.db").read_bytes())
    content[(root - 1) * size : root * size] = os.urandom(size)
    (path / "agentchat.db").write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: _page(path, "messages_in_channel"),
        lambda path: _page(path, "messages"),
        lambda path: os.truncate(path / "agentchat.db", 20_000),
        lambda path: (path / "agentchat.db").write_bytes(b"nonsense" * 1000),
    ],
)
def test_a_damaged_database_is_left_alone(board: Board, admin: Admin, damage: Callable[[Path], object]):
    damage(board.path)
    _stray(board.path)
    before = state(board.path)
    for words in ((), ("--quick",), ("--repair",)):
        ran = admin("doctor", "--data", board.path, *words, "--json")
        assert ran.code == WRONG
        (told,) = found(ran, "database")
        assert "agentchat admin restore" in told["advice"]
    after = state(board.path)
    assert after.pop("lock")
    before.pop("lock")
    assert after == before


def test_messages_of_nobody_are_told_and_kept(board: Board, admin: Admin):
    write(board.path, "DELETE FROM agents WHERE name = 'bob'")
    messages = rows(board.path, "SELECT count(*) FROM messages")
    ran = admin("doctor", "--data", board.path, "--repair", "--json")
    assert ran.code == WRONG
    kinds = {finding["text"].split()[3]: finding["repaired"] for finding in found(ran, "orphans")}
    mended = dict.fromkeys(["memberships", "inbox", "answers", "group_members", "turns"], True)
    assert kinds == {**mended, "messages": False, "files": False, "work": False}
    assert rows(board.path, "SELECT count(*) FROM messages") == messages


def test_messages_that_are_gone_are_noticed(board: Board, admin: Admin):
    """Nobody purged them: the counters tell."""
    write(board.path, "DELETE FROM messages WHERE content = 'note 7 of the day'", "DELETE FROM unindexed")
    ran = admin("doctor", "--data", board.path, "--json")
    assert bad(ran) == ["counters"]
    assert "they tell of 1 more than there are" in found(ran, "counters")[0]["text"]
    assert "a backup may have them" in found(ran, "counters")[0]["advice"]


def test_a_newer_database(board: Board, admin: Admin):
    write(board.path, "INSERT INTO migrations VALUES (99, 'tomorrow', 0)")
    ran = admin("doctor", "--data", board.path, "--repair", "--json")
    assert ran.code == WRONG
    assert bad(ran) == ["form"]
    assert "agentchat of that version" in found(ran, "form")[0]["advice"]


def test_an_older_database(board: Board, admin: Admin):
    write(board.path, "DELETE FROM migrations WHERE number > 1")
    ran = admin("doctor", "--data", board.path, "--repair", "--json")
    assert ran.code == OK
    assert bad(ran) == ["form"]
    assert "when it starts" in found(ran, "form")[0]["advice"]
    assert rows(board.path, "SELECT max(number) FROM migrations") == [(1,)], "repairing is no upgrade"


# Around the database


def test_the_clock(board: Board, admin: Admin):
    ahead = now() + 5 * HOUR * 1_000_000
    write(board.path, f"UPDATE agents SET last_seen_at = {ahead} WHERE name = 'ann'")
    ran = admin("doctor", "--data", board.path, "--json")
    assert ran.code == OK
    assert bad(ran) == ["clock"]
    (told,) = found(ran, "clock")
    assert "5 hours from now" in told["text"]
    assert "timedatectl" in told["advice"]


def test_the_clock_of_the_disk(board: Board, admin: Admin):
    age(board.path / "agentchat.db", -3 * 24 * HOUR)
    ran = admin("doctor", "--data", board.path, "--json")
    assert "3 days from now" in found(ran, "clock")[0]["text"]


def test_young_contents_and_files_in_the_making_are_left_alone(board: Board, admin: Admin):
    _stray(board.path)
    _leave(board.path)
    for name in ("1", "2"):
        age(board.path / "blobs" / name / "ab" / ("ab" * 32), 60)
    for name in ("admin.key.4711", "agentchat.db.partial", "blobs/tmp/tmpabc"):
        age(board.path / name, 60)
    assert bad(admin("doctor", "--data", board.path, "--json")) == []


def test_strays_wait_for_a_backup(board: Board, admin: Admin):
    _stray(board.path)
    with kept(str(board.path / "blobs")):
        ran = admin("doctor", "--data", board.path, "--repair", "--json")
    (told,) = found(ran, "strays")
    assert not told["repaired"]
    assert "a backup is being made" in told["advice"]


def test_a_long_log(board: Board, admin: Admin):
    with open(board.path / "agentchat.db-wal", "ab") as log:
        os.truncate(log.fileno(), 300 << 20)
    os.chmod(board.path / "agentchat.db-wal", 0o600)
    ran = admin("doctor", "--data", board.path, "--json")
    assert "300.0 MiB" in found(ran, "log")[0]["text"]


def test_a_full_disk_is_told(board: Board, admin: Admin, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(surroundings, "_ENOUGH", 1 << 62)
    ran = admin("doctor", "--data", board.path, "--json")
    assert (ran.code, bad(ran)) == (OK, ["disk"])
    monkeypatch.setattr(surroundings, "_LITTLE", 1 << 62)
    ran = admin("doctor", "--data", board.path, "--json")
    assert (ran.code, bad(ran)) == (WRONG, ["disk"])


def test_a_stopped_relay_can_be_looked_at_and_saved_though_its_disk_is_full(board: Board):
    """SQLite cannot make the files it needs beside the database."""
    assert not (board.path / "agentchat.db-shm").exists()

    def tighten() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    words = ("--data", board.path)
    ran = finish(start("doctor", *words, "--json", preexec_fn=tighten))
    assert (ran.code, bad(ran)) == (OK, [])
    ran = finish(start("export", "main", *words, preexec_fn=tighten))
    assert ran.code == OK
    assert '"kind":"end"' in ran.out.splitlines()[-1]
    (board.path / "agentchat.db-wal").write_bytes(bytes(5000))  # a killed relay may have left something in its log
    ran = finish(start("export", "main", *words, preexec_fn=tighten))
    assert (ran.code, ran.out) == (WRONG, "")
    assert "another disk" in ran.err


def test_a_foreign_owner(board: Board):
    """Somebody administered as root what belongs to the relay's own user."""
    file, mine = str(board.path / "admin.key"), os.geteuid()
    if mine == 0:
        os.chown(file, 12345, -1)
        assert surroundings.access(str(board.path)).foreign == [file]
    told: list[Finding] = []
    visit = Visit(str(board.path), repairing=True, quick=False, progress=Progress(), told=told.append)
    surroundings.check_access(visit, surroundings.Access([], [file], mine))
    assert told[0]["level"] == "problem"
    assert told[0]["repaired"] is (mine == 0)
    assert mine == 0 or told[0]["advice"] == f"As root: chown -R {mine} {board.path}"
    assert os.stat(file).st_uid == mine


def test_repairing_keeps_others_out(board: Board, admin: Admin):
    holder = Directory(board.path)
    holder.hold("agentchat admin")
    try:
        ran = admin("doctor", "--data", board.path, "--repair", "--json")
    finally:
        holder.release()
    assert "agentchat admin" in found(ran, "relay")[0]["text"]


def test_a_new_relay_without_files_or_messages(tmp_path: Path, admin: Admin):
    assert admin("--data", tmp_path / "relay", "space", "list").code == OK
    ran = admin("doctor", "--data", tmp_path / "relay", "--json")
    assert bad(ran) == []
    assert ran.code == OK


class Interrupting(Progress):
    """Does something else right after each part."""

    def __init__(self, between: Callable[[], object]) -> None:
        super().__init__(quiet=True)
        self._between = between

    @contextlib.contextmanager
    def part(self, *what: Any) -> Iterator[Callable[[int], None]]:
        with super().part(*what) as at:
            yield at
        self._between()


def test_what_comes_meanwhile_is_not_wrong(board: Board):
    with running(str(board.path), settings=UNLIMITED) as relay, contextlib.ExitStack() as stack:
        (cat,) = clients(relay, stack, "cat")

        def busy() -> None:
            cat.send_message("general", "@bob busy")
            upload(cat, "general", "new.txt", os.urandom(10))

        seen = examine(str(board.path), Interrupting(busy), lambda finding: None)
    assert [finding for finding in seen["findings"] if finding["level"] != "ok"] == []
