"""backup, restore, export and doctor of a relay on Postgres, whose rows were moved there."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client
from agentchat_relay.embedded import running
from agentchat_relay.keeping import scratch
from agentchat_relay.keeping.move import move
from agentchat_relay.keeping.progress import Progress
from agentchat_relay.store.postgres.engine import Postgres, migrated
from agentchat_relay.store.sqlite import migrate as migrating
from agentchat_relay.store.sqlite.migrate import migrate
from agentchat_relay.store.statements import migrations
from tests import postgres
from tests.relay.conftest import UNLIMITED, until
from tests.relay.keeping.conftest import (
    MISSING,
    OK,
    USAGE,
    WRONG,
    Admin,
    Board,
    blobs,
    check_consistent,
    check_private,
    rows,
)
from tests.relay.keeping.everything import of_directory, of_postgres, one, sql
from tests.relay.keeping.test_doctor import bad, found
from tests.relay.keeping.test_export import lines, of
from tests.relay.keeping.test_restore import seen

pytestmark = pytest.mark.sqlite  # and of Postgres, by itself

CHECKS = [
    "relay", "access", "leftovers", "disk", "server", "form", "database", "orphans", "counters", "unread", "clock",
    "ids", "index", "files", "strays",
]  # fmt: skip


@pytest.fixture
def url(full: Board) -> str:
    """A Postgres with everything; nothing of it is in the directory any more but contents of files."""
    made = postgres.new_schema()
    move(str(full.path), made, Progress(quiet=True), home=str(full.path))
    os.rename(full.path / "agentchat.db", full.path.parent / "before.db")
    for left in full.path.glob("*.db*"):
        left.unlink()
    return made


@pytest.fixture
def before(full: Board, url: str) -> dict[str, list[Any]]:
    return of_postgres(url)


def index(url: str) -> None:
    """Have the full-text index made."""
    store = Postgres(url, index_pause=0.0)
    try:
        until(lambda: one(url, "SELECT id = (SELECT max(id) FROM messages) FROM fulltext_progress"))
    finally:
        store.close()
    until(lambda: one(url, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'agentchat'") == 0)


# Backup and restore


def test_a_backup_is_the_same_whatever_the_engine(
    full: Board, url: str, before: dict[str, list[Any]], tmp_path: Path, admin: Admin
):
    target, again, other = tmp_path / "b", tmp_path / "again", postgres.new_schema()
    ran = admin("backup", target, "--store", url, "--data", full.path)
    assert ran.code == OK, ran
    assert "Backed up" in ran.out
    assert of_directory(target) == before
    check_private(target)
    assert sorted(os.listdir(target)) == ["agentchat.db", "backup.json", "blobs"]
    assert json.loads((target / "backup.json").read_text())["counts"]["messages"] == len(before["messages"])

    assert admin("restore", target, "--data", again).code == OK
    assert of_directory(again) == before
    check_consistent(again)

    ran = admin("restore", target, "--data", tmp_path / "new", "--store", other)
    assert ran.code == OK, ran
    assert f"agentchat serve --data {tmp_path / 'new'} --store URL" in ran.out
    assert of_postgres(other) == before
    assert set(blobs(tmp_path / "new")) == set(blobs(target))
    assert seen(tmp_path / "new", full, UNLIMITED._replace(store=other)) == seen(again, full)


def test_a_backup_of_sqlite_fills_a_postgres(board: Board, tmp_path: Path, admin: Admin):
    other, target = postgres.new_schema(), tmp_path / "b"
    assert admin("backup", target, "--data", board.path).code == OK
    told = admin("restore", target, "--data", tmp_path / "new", "--store", other, "--files", tmp_path / "f", "--json")
    assert told.code == OK, told
    assert told.json["files"] == str(tmp_path / "f")
    assert "test_" in told.json["store"]
    assert of_postgres(other) == of_directory(board.path)
    assert {file.name for file in (tmp_path / "f").glob("[0-9]*/??/*")} == {f.name for f in blobs(board.path).values()}


def test_the_settings_of_the_directory_count(full: Board, url: str, tmp_path: Path, admin: Admin):
    shutil.move(full.path / "blobs", tmp_path / "shared")
    (full.path / "relay.toml").write_text(f'store = "{url}"\nfiles = "../shared"\n')
    assert admin("backup", tmp_path / "b", "--data", full.path).code == OK
    check_consistent(tmp_path / "b")
    assert admin("export", "main", "--data", full.path).code == OK
    assert admin("doctor", "--data", full.path, "--json").json["store"]


def test_a_backup_is_one_state_while_relays_write(full: Board, url: str, tmp_path: Path, admin: Admin):
    settings, stop, sent = UNLIMITED._replace(store=url), threading.Event(), 0
    with running(str(full.path), settings=settings) as relay, Client(relay.url, full.keys["ann"]) as ann:

        def write() -> None:
            nonlocal sent
            while not stop.is_set():
                ann.send_message("general", f"meanwhile {sent}")
                sent += 1

        thread = threading.Thread(target=write)
        thread.start()
        try:
            until(lambda: sent > 3)
            first = sent
            ran = admin("backup", tmp_path / "b", "--store", url, "--data", full.path)
        finally:
            stop.set()
            thread.join()
    assert ran.code == OK, ran
    check_consistent(tmp_path / "b")
    ((there,),) = rows(tmp_path / "b", "SELECT count(*) FROM messages WHERE content LIKE 'meanwhile %'")
    assert first <= there <= sent, "what was acknowledged before is in it"
    assert admin("restore", tmp_path / "b", "--data", tmp_path / "again").code == OK
    assert bad(admin("doctor", "--data", tmp_path / "again", "--json")) == ["index"], "made at the start"


def test_a_restore_into_a_full_schema_is_refused(full: Board, url: str, tmp_path: Path, admin: Admin):
    target = tmp_path / "b"
    assert admin("backup", target, "--store", url, "--data", full.path).code == OK
    before = of_postgres(url)
    ran = admin("restore", target, "--store", url, "--data", tmp_path / "new")
    assert (ran.code, "is not empty" in ran.err) == (WRONG, True)
    assert of_postgres(url) == before
    assert not (tmp_path / "new").exists()


def test_a_damaged_backup_leaves_nothing(full: Board, url: str, tmp_path: Path, admin: Admin):
    target, other = tmp_path / "b", postgres.new_schema()
    assert admin("backup", target, "--store", url, "--data", full.path).code == OK
    with (target / "agentchat.db").open("r+b") as file:
        file.seek(5000)
        file.write(b"\x55" * 10)
    ran = admin("restore", target, "--store", other, "--data", tmp_path / "new")
    assert (ran.code, "SHA-256" in ran.err) == (WRONG, True)
    assert not any(of_postgres(other)[name] for name in ("spaces", "messages"))


def test_lost_contents_are_named(full: Board, url: str, tmp_path: Path, admin: Admin):
    ran = admin("backup", tmp_path / "b", "--store", url, "--data", tmp_path / "another")
    assert ran.code == WRONG
    assert "missing" in ran.err
    other = postgres.new_schema()
    ran = admin("restore", tmp_path / "b", "--store", other, "--data", tmp_path / "new")
    assert ran.code == WRONG
    assert of_postgres(other) == of_postgres(url), "the rest is restored"


def test_a_backup_of_an_older_version_is_brought_up_to_date(
    tmp_path: Path, admin: Admin, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "relay"
    path.mkdir(mode=0o700)
    monkeypatch.setattr(migrating, "migrations", lambda engine: migrations(engine)[:1])
    with contextlib.closing(sqlite3.connect(path / "agentchat.db", isolation_level=None)) as connection:
        migrate(connection, "sqlite")
        connection.execute("INSERT INTO spaces (name, created_at) VALUES ('old', 1)")
    monkeypatch.setattr(migrating, "migrations", migrations)
    other = postgres.new_schema()
    assert admin("backup", tmp_path / "b", "--data", path).code == OK
    ran = admin("restore", tmp_path / "b", "--store", other, "--data", tmp_path / "new")
    assert ran.code == OK, ran
    assert one(other, "SELECT retention FROM spaces WHERE name = 'old'") == 0


# Export


def test_an_export_is_the_same_whatever_the_engine(full: Board, url: str, tmp_path: Path, admin: Admin):
    os.makedirs(tmp_path / "sqlite")
    shutil.copy(tmp_path / "before.db", tmp_path / "sqlite" / "agentchat.db")
    file = tmp_path / "main.jsonl"
    theirs, mine = (
        admin("export", "main", *words).out for words in (("--data", tmp_path / "sqlite"), ("--store", url))
    )
    assert lines(mine)[1:] == lines(theirs)[1:]
    assert of(lines(mine), "message")
    assert admin("export", "main", "--store", url, "--out", file).code == OK
    assert lines(file.read_text())[1:] == lines(mine)[1:]
    ran = admin("export", "mein", "--store", url)
    assert (ran.code, "Did you mean main?" in ran.err) == (MISSING, True)


def test_nothing_of_a_temporary_copy_is_left(
    full: Board, url: str, tmp_path: Path, admin: Admin, monkeypatch: pytest.MonkeyPatch
):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(place))
    modes = []
    make = scratch.folder

    @contextlib.contextmanager
    def folder(needed: int) -> Any:
        with make(needed) as path:
            yield path
            modes.append([os.stat(path).st_mode & 0o777, *(f.stat().st_mode & 0o777 for f in Path(path).iterdir())])

    monkeypatch.setattr(scratch, "folder", folder)
    assert admin("export", "main", "--store", url).code == OK
    assert admin("export", "none", "--store", url).code == MISSING
    assert list(place.iterdir()) == []
    assert modes[0] == [0o700, 0o600]


def test_a_temporary_copy_needs_room(full: Board, url: str, admin: Admin, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]
    ran = admin("export", "main", "--store", url)
    assert (ran.code, "TMPDIR" in ran.err) == (WRONG, True)


@pytest.mark.parametrize("words", [("backup", "{new}"), ("doctor",), ("export", "main"), ("restore", "{backup}")])
def test_wrong_words(full: Board, tmp_path: Path, admin: Admin, words: tuple[str, ...]):
    where = {"new": tmp_path / "new", "backup": tmp_path / "b"}
    assert admin("backup", where["backup"], "--data", full.path).code == OK
    given = [word.format(**where) for word in words]
    for store, code in (("mysql://x/y", USAGE), ("postgresql://nobody@127.0.0.1:1/x", USAGE)):
        ran = admin(*given, "--store", store, "--data", tmp_path / "d")
        assert ran.code == code, ran
        assert not (tmp_path / "new").exists()
        assert not (tmp_path / "d").exists()
    if words[0] != "restore":
        ran = admin(*given, "--store", postgres.new_schema(), "--data", tmp_path / "d")
        assert ran.code == WRONG
        assert "no relay in" in ran.err + ran.out


def test_files_go_with_a_store(board: Board, tmp_path: Path, admin: Admin):
    ran = admin("restore", tmp_path, "--data", tmp_path / "new", "--files", tmp_path / "f")
    assert (ran.code, "--store" in ran.err) == (USAGE, True)


# Doctor


def test_a_sound_one(full: Board, url: str, admin: Admin):
    index(url)
    ran = admin("doctor", "--store", url, "--data", full.path, "--json")
    assert ran.code == OK, ran
    assert [finding["check"] for finding in ran.json["findings"]] == CHECKS
    assert bad(ran) == []
    assert "agentchat.db" not in ran.out
    assert ran.json["running"] is False
    ran = admin("doctor", "--store", url, "--data", full.path, "--quick", "--repair")
    assert "0 problems, 0 warnings." in ran.out


DAMAGE: dict[str, tuple[str, str, str]] = {
    "orphans": (
        "INSERT INTO memberships (agent_id, channel_id, joined_at, read_at, read_chats, moved_at)"
        " VALUES (77, 1, 1, 0, 0, 1);"
        "INSERT INTO inbox (public_id, agent_id, kind, message_id, created_at) VALUES ('x', 1, 'mention', 7777, 1);"
        "INSERT INTO pins VALUES (7777, 1, 1, 1)",
        "orphans",
        "memberships",
    ),
    "number": ("UPDATE channels SET number = number + 3 WHERE name = 'general'", "counters", "#main:general"),
    "latest": ("UPDATE channels SET latest_id = 1 WHERE name = 'general'", "counters", "general"),
    "unread": ("UPDATE memberships SET read_chats = 1000, own_above = 5 WHERE agent_id = 2", "unread", "members"),
    "ids": ("SELECT setval('agents_id_seq', 1); SELECT setval('inbox_id_seq', 1)", "ids", "agents, inbox"),
    "not indexed": ("DELETE FROM fulltext WHERE id IN (SELECT id FROM fulltext LIMIT 2)", "index", "2 messages"),
    "nobody's words": ("INSERT INTO fulltext VALUES (7777, 'x')", "index", "1 entries"),
    "future index": ("UPDATE fulltext_progress SET id = 7777", "index", "ahead"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_mended(full: Board, url: str, admin: Admin, name: str):
    index(url)
    damage, check, text = DAMAGE[name]
    before = of_postgres(url)
    with sql(url) as connection:
        connection.execute(damage.encode())
    words = ("doctor", "--store", url, "--data", full.path, "--json")
    ran = admin(*words)
    assert set(bad(ran)) == {check}
    assert text in found(ran, check)[0]["text"]
    assert "doctor --repair" in str(found(ran, check))
    assert ran.code == (WRONG if found(ran, check)[0]["level"] == "problem" else OK)

    epoch = one(url, "SELECT epoch FROM epochs")
    mended = admin(*words, "--repair")
    assert mended.code == OK, mended
    assert all(finding["repaired"] for finding in found(mended, check))
    assert mended.json["repaired"] == len(found(mended, check)) > 0
    assert one(url, "SELECT epoch FROM epochs") > epoch
    assert bad(admin(*words)) == []
    if check != "unread":  # which may be counted otherwise, and as rightly
        assert of_postgres(url) == before
    _goes_on(full, url)
    assert bad(admin(*words)) == []


def _goes_on(full: Board, url: str) -> None:
    settings = UNLIMITED._replace(store=url)
    with running(str(full.path), settings=settings) as relay, Client(relay.url, full.keys["ann"]) as ann:
        id = ann.send_message("general", "@bob going on")["message"]["id"]
        assert ann.read_messages("general", limit=1)["messages"][0]["id"] == id
        until(lambda: ann.search_messages("going")["results"][:1] != [])
    until(lambda: one(url, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'agentchat'") == 0)


def test_where_a_relay_runs_there_is_only_looking(full: Board, url: str, admin: Admin):
    with sql(url) as connection:
        connection.execute("UPDATE channels SET number = number + 3")
    store = Postgres(url)
    words = ("doctor", "--store", url, "--data", full.path, "--json", "--repair")
    try:
        until(lambda: one(url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'") > 0)
        ran = admin(*words)
    finally:
        store.close()
    assert ran.code == WRONG
    assert found(ran, "relay")[0]["advice"] == "Stop it and try again."
    assert ran.json["repaired"] == 0
    assert ran.json["running"] is True


def test_the_role_of_a_relay_may_look_and_mend_and_back_up(full: Board, url: str, admin: Admin):
    index(url)
    before, role = of_postgres(url), f"serving_{secrets.token_hex(4)}"
    with sql(url) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN".encode())
    migrated(url, after=False, role=role)
    words = ("doctor", "--store", url.replace("postgres@", f"{role}@"), "--data", full.path, "--json")
    ran = admin(*words)
    assert bad(ran) == []
    assert "may not see" in ran.out
    with sql(url) as connection:
        connection.execute("UPDATE channels SET chats = chats + 5 WHERE name = 'tech-web'")
    assert admin(*words, "--repair").json["repaired"] == 1
    assert of_postgres(url) == before
    assert admin("backup", full.path.parent / "b", *words[1:]).code == OK


def test_all_repairs_are_kept_or_none(full: Board, url: str, admin: Admin):
    with sql(url) as connection:
        connection.execute("UPDATE channels SET chats = chats + 5 WHERE name = 'tech-web'")
        connection.execute("UPDATE memberships SET read_chats = 1000 WHERE agent_id = 2")
        body = "BEGIN RAISE insufficient_privilege; END"
        connection.execute(f"CREATE FUNCTION refuse() RETURNS TRIGGER LANGUAGE plpgsql AS $$ {body} $$".encode())
        connection.execute("CREATE TRIGGER refuse BEFORE UPDATE ON memberships EXECUTE FUNCTION refuse()")
    before = of_postgres(url)
    ran = admin("doctor", "--store", url, "--data", full.path, "--repair")
    assert ran.code == WRONG
    assert "All repairs were taken back" in ran.err
    assert "a role that owns" in ran.err
    assert of_postgres(url) == before


def test_what_people_wrote_is_never_removed(full: Board, url: str, admin: Admin):
    with sql(url) as connection:
        connection.execute("UPDATE messages SET author_id = 777 WHERE id = 1")
    before = of_postgres(url)
    ran = admin("doctor", "--store", url, "--data", full.path, "--json", "--repair")
    assert ran.code == WRONG
    assert "--store URL" in found(ran, "orphans")[0]["advice"]
    assert of_postgres(url) == before


def test_contents_beside_it(full: Board, url: str, admin: Admin):
    stray = full.path / "blobs" / "1" / "ab" / ("ab" * 32)
    stray.parent.mkdir(exist_ok=True, mode=0o700)
    stray.write_bytes(b"of another relay, perhaps")
    stray.chmod(0o600)
    os.utime(stray, (1, 1))
    for file in blobs(full.path).values():
        if file != stray:
            file.unlink()
            break
    ran = admin("doctor", "--store", url, "--data", full.path, "--json", "--repair")
    assert "missing" in found(ran, "files")[0]["text"]
    assert "another relay" in found(ran, "strays")[0]["advice"]
    assert stray.exists()


def test_settings_and_forms(full: Board, url: str, admin: Admin):
    def look(store: str = url) -> Any:
        return admin("doctor", "--store", store, "--data", full.path, "--json")

    hasty = look(f"{url}%20-c%20synchronous_commit%3Doff")
    assert "synchronous_commit = off" in found(hasty, "server")[0]["text"]
    assert hasty.code == OK
    with sql(url) as connection:
        connection.execute("INSERT INTO migrations VALUES (99, 'post_of_the_future', 1)")
        newer = look()
        connection.execute("DELETE FROM migrations WHERE number = 99 OR name = 'pre_fulltext'")
        older = look()
    assert (newer.code, found(newer, "form")[0]["level"]) == (WRONG, "problem")
    assert "agentchat admin migrate" in found(older, "form")[0]["advice"]
    assert "orphans" not in older.out
    nobody = look(postgres.new_schema())
    assert (nobody.code, "no relay" in found(nobody, "form")[0]["text"]) == (WRONG, True)


def test_without_a_directory(full: Board, url: str, tmp_path: Path, admin: Admin):
    index(url)
    ran = admin("doctor", "--store", url, "--data", tmp_path / "none", "--json")
    assert bad(ran) == ["files"]
    assert not (tmp_path / "none").exists()
