"""Moves between the engines: every row, and everything agents see; all of it or nothing."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client, errors
from agentchat_relay.directory import Directory
from agentchat_relay.embedded import running
from agentchat_relay.keeping.carrying import carry, sqlite
from agentchat_relay.keeping.carrying.tables import CARRIED
from agentchat_relay.keeping.move import move
from agentchat_relay.keeping.progress import Progress
from agentchat_relay.keeping.server import connected
from agentchat_relay.store.postgres.engine import Postgres, migrated
from tests import postgres
from tests.relay.conftest import UNLIMITED, until
from tests.relay.keeping.conftest import (
    OK,
    TAKEN,
    USAGE,
    WRONG,
    Admin,
    Board,
    check_consistent,
    check_private,
    database,
    finish,
    rows,
    start,
    strike,
)
from tests.relay.keeping.everything import KEY, KEYED, PIN_KEY, names, of_directory, of_postgres, one, sql
from tests.relay.keeping.test_restore import seen

pytestmark = pytest.mark.sqlite  # and of Postgres, by itself


@pytest.fixture
def url() -> str:
    return postgres.new_schema()


@pytest.fixture
def moved(full: Board, url: str, admin: Admin) -> str:
    """The URL of everything, in a Postgres."""
    ran = admin("move", full.path, url)
    assert ran.code == OK, ran
    return url


def nothing(url: str) -> bool:
    return not any(of_postgres(url)[name] for name in CARRIED if name != "marks")


# There and back


def test_every_row_there_and_back(full: Board, url: str, tmp_path: Path, admin: Admin):
    before = of_directory(full.path)
    assert all(before.values()), "a row of every kind is to be moved"
    told = admin("move", full.path, url, "--json").json
    assert of_postgres(url) == before
    assert {name: table["rows"] for name, table in told["tables"].items()} == {n: len(r) for n, r in before.items()}
    again = admin("move", url, tmp_path / "again", "--data", full.path, "--json").json
    assert again["tables"] == told["tables"], "the same hashes"
    assert of_directory(tmp_path / "again") == before
    assert of_directory(full.path) == before, "the source is as it was"
    check_consistent(tmp_path / "again")
    check_private(tmp_path / "again")
    assert names(tmp_path / "again") == ["agentchat.db", "blobs", "lock"]


def test_agents_see_the_same(full: Board, moved: str, tmp_path: Path, admin: Admin):
    assert admin("move", moved, tmp_path / "again", "--data", full.path).code == OK
    before = seen(full.path, full)
    assert seen(full.path, full, UNLIMITED._replace(store=moved)) == before
    assert seen(tmp_path / "again", full) == before
    assert before["files"] == full.files


def test_what_was_done_before_is_known(full: Board, moved: str):
    (id,) = rows(full.path, "SELECT public_id FROM messages WHERE content = ?", KEYED)[0]
    highest = rows(full.path, "SELECT value FROM marks")[0][0]
    assert highest > rows(full.path, "SELECT max(id) FROM messages")[0][0], "the newest is gone"
    secret = Directory(full.path).admin_secret()
    with running(str(full.path), settings=UNLIMITED._replace(store=moved)) as relay, contextlib.ExitStack() as stack:
        ann = stack.enter_context(Client(relay.url, full.keys["ann"], retries=0))
        keyed, pinning = (ann.with_options(idempotency_key=key) for key in (KEY, PIN_KEY))
        assert keyed.send_message("general", KEYED)["message"]["id"] == id
        pinning.pin_message(id)
        with pytest.raises(errors.Conflict):
            keyed.send_message("general", "another")
        ann.send_message("general", "the first one here")
        relay.token("newcomer")
        assert relay.directory.admin_secret() == secret
    assert one(moved, "SELECT max(id) FROM messages") == highest + 1
    assert one(moved, "SELECT max(id) FROM agents") == len(rows(full.path, "SELECT 1 FROM agents")) + 1


def test_from_one_postgres_to_another(full: Board, moved: str, url: str, admin: Admin):
    other = postgres.new_schema()
    assert admin("move", moved, other).code == OK
    assert of_postgres(other) == of_postgres(moved)


def test_it_says_how_to_go_on_and_no_password(full: Board, tmp_path: Path, url: str, admin: Admin):
    secret = url.replace("postgres@", "postgres:hunter2@")
    ran = admin("move", full.path, secret)
    assert f"agentchat serve --data {full.path} --store URL" in ran.out
    assert "stayed where they are" in ran.out
    ran = admin("move", secret, tmp_path / "again", "--data", full.path)
    assert f"agentchat serve --data {tmp_path / 'again'}" in ran.out
    assert "were copied" in ran.out
    ran = admin("move", secret, tmp_path / "elsewhere", "--files", "s3://bucket/files")
    assert "stay in s3://bucket/files" in ran.out
    assert not (tmp_path / "elsewhere" / "blobs").exists()
    ran = admin("move", full.path, secret)
    assert "hunter2" not in ran.err + ran.out


def test_contents_that_are_not_there_are_named(full: Board, moved: str, tmp_path: Path, admin: Admin):
    ran = admin("move", moved, tmp_path / "again", "--data", tmp_path / "another")
    assert ran.code == WRONG
    assert "--data DIR" in ran.err
    assert of_directory(tmp_path / "again") == of_directory(full.path)


# Targets


def test_what_the_first_start_of_a_relay_made_gives_way(full: Board, url: str, admin: Admin, tmp_path: Path):
    with running(str(tmp_path / "first"), settings=UNLIMITED._replace(store=url)):
        pass
    assert one(url, "SELECT count(*) FROM channels") > 0
    assert admin("move", full.path, url).code == OK
    assert of_postgres(url) == of_directory(full.path)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO spaces (name, created_at) VALUES ('a', 1), ('b', 1)",
        "INSERT INTO agents (public_id, space_id, name, created_at) VALUES ('x', 1, 'x', 1)",
        "INSERT INTO channels (public_id, space_id, name, type, created_at, created_by) VALUES ('x', 1, 'x', 'p', 1, 1)"
        "; INSERT INTO spaces (name, created_at) VALUES ('a', 1)",
        "UPDATE marks SET value = 7",
    ],
)
def test_a_schema_that_somebody_lives_in_is_refused(full: Board, url: str, admin: Admin, statement: str):
    migrated(url, after=False, role=None)
    with sql(url) as connection:
        connection.execute(statement.encode())
    before = of_postgres(url)
    ran = admin("move", full.path, url)
    assert ran.code == WRONG
    assert "is not empty" in ran.err
    assert of_postgres(url) == before


def test_a_directory_that_somebody_lives_in_is_refused(full: Board, moved: str, tmp_path: Path, admin: Admin):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").touch()
    for target in (full.path, tmp_path / "taken"):
        there = sorted(tmp_path.rglob("*"))
        ran = admin("move", moved, target)
        assert ran.code == WRONG
        assert "is not empty" in ran.err
        assert sorted(tmp_path.rglob("*")) == there


@pytest.mark.parametrize(
    ("does", "told"),
    [("new.content := new.content || '!'; RETURN new", "some differ"), ("RETURN NULL", "instead of")],
)
def test_what_comes_out_otherwise_is_not_kept(full: Board, url: str, admin: Admin, does: str, told: str):
    migrated(url, after=False, role=None)
    with sql(url) as connection:
        body = f"BEGIN IF new.content = '{KEYED}' THEN {does}; END IF; RETURN new; END"
        connection.execute(f"CREATE FUNCTION spoil() RETURNS TRIGGER LANGUAGE plpgsql AS $$ {body} $$".encode())
        connection.execute("CREATE TRIGGER spoil BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION spoil()")
    ran = admin("move", full.path, url)
    assert ran.code == WRONG
    assert "The table messages came out" in ran.err
    assert told in ran.err
    assert nothing(url)


def test_a_text_that_postgres_cannot_hold_is_named(full: Board, url: str, admin: Admin):
    with database(full.path) as connection:
        connection.execute("UPDATE messages SET content = 'a' || char(0) || 'b' WHERE id = 1")
    ran = admin("move", full.path, url)
    assert ran.code == WRONG
    assert "messages, id 1:" in ran.err
    assert nothing(url)


# Sources


def test_a_directory_in_use_is_refused(full: Board, url: str, admin: Admin):
    with running(str(full.path), settings=UNLIMITED):
        for words in ((), ("--anyway",)):
            ran = admin("move", full.path, url, *words)
            assert ran.code == TAKEN
            assert "is in use" in ran.err


def test_a_postgres_with_a_relay_on_it_is_refused_unless_anyway(full: Board, moved: str, tmp_path: Path, admin: Admin):
    words = ("move", moved, tmp_path / "again", "--data", full.path)
    with contextlib.closing(Postgres(moved)):
        until(lambda: relays(moved) == 1)
        ran = admin(*words)
        assert (ran.code, "in use by a process of a relay" in ran.err) == (WRONG, True)
        assert not (tmp_path / "again").exists()
        assert admin(*words, "--anyway").code == OK
    assert of_directory(tmp_path / "again") == of_directory(full.path)


class Starting(Progress):
    """A relay starts once everything was copied."""

    def __init__(self, url: str, stack: contextlib.ExitStack) -> None:
        super().__init__(quiet=True)
        self._url, self._stack = url, stack

    def part(self, what: str, *more: Any) -> Any:
        if what == "Reading them back":
            self._stack.enter_context(contextlib.closing(Postgres(self._url)))
            until(lambda: relays(self._url) == 1)
        return super().part(what, *more)


def test_a_relay_that_starts_meanwhile_undoes_it(full: Board, moved: str, tmp_path: Path):
    other = postgres.new_schema()
    for target in (other, str(tmp_path / "again")):
        with contextlib.ExitStack() as stack, pytest.raises(errors.AgentChatError, match="in use by a process"):
            move(moved, target, Starting(moved, stack), home=str(full.path))
        until(lambda: relays(moved) == 0)
    assert nothing(other)
    assert not (tmp_path / "again").exists()


def test_a_relay_on_another_schema_does_not_matter(full: Board, moved: str, tmp_path: Path, admin: Admin):
    other = postgres.new_schema()
    with contextlib.closing(Postgres(other)):
        until(lambda: relays(other) == 1)
        assert admin("move", moved, tmp_path / "again", "--data", full.path).code == OK


def relays(url: str) -> int:
    with connected(url, "Looking") as server:
        return server.relays()


def _older(path: Path) -> None:
    with database(path) as connection:
        connection.execute("DELETE FROM migrations WHERE number = (SELECT max(number) FROM migrations)")


def test_an_older_form_is_refused(full: Board, moved: str, tmp_path: Path, admin: Admin):
    with sql(moved) as connection:
        connection.execute("DELETE FROM migrations WHERE name = 'pre_fulltext'")
    ran = admin("move", moved, tmp_path / "again")
    assert (ran.code, "admin migrate" in ran.err) == (WRONG, True)
    assert not (tmp_path / "again").exists()
    _older(full.path)
    ran = admin("move", full.path, postgres.new_schema())
    assert (ran.code, "earlier version" in ran.err) == (WRONG, True)


# Typed by hand


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("move",), USAGE, "SOURCE"),
        (("move", "{dir}"), USAGE, "TARGET"),
        (("move", "{dir}", ""), USAGE, ""),
        (("move", "{dir}", "{dir}"), USAGE, "the same"),
        (("move", "{dir}", "{dir}/../relay/"), USAGE, "the same"),
        (("move", "{url}", "{url}"), USAGE, "the same"),
        (("move", "{dir}", "mysql://there/x"), USAGE, "postgresql://"),
        (("move", "{dir}", "postgresql://nobody@127.0.0.1:1/x"), USAGE, "cannot be reached"),
        (("move", "postgresql://nobody@127.0.0.1:1/x", "{new}"), USAGE, "cannot be reached"),
        (("move", "{dir}", "{url}", "--store", "{url}"), USAGE, "--store"),
        (("move", "{new}", "{url}"), WRONG, "no relay in"),
        (("move", "{url}", "{new}"), WRONG, "no relay in"),
        (("move", "{url}x", "{new}"), USAGE, "schema"),
        (("move", "{dir}", "{url}x"), USAGE, "schema"),
    ],
)
def test_wrong_words(
    board: Board, url: str, tmp_path: Path, admin: Admin, words: tuple[str, ...], code: int, told: str
):
    new = tmp_path / "new"
    ran = admin(*(word.format(dir=board.path, url=url, new=new) for word in words))
    assert ran.code == code, ran
    assert told in ran.err
    assert not new.exists()


# Interruptions


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets the reading of a table fail in its middle."""

    def fail(name: str) -> None:
        read = sqlite.State.batches

        def batches(self: Any, table: Any) -> Any:
            yield from read(self, table)
            if table.name == name:
                raise OSError(5, "Input/output error")

        monkeypatch.setattr(sqlite.State, "batches", batches)

    return fail


@pytest.mark.parametrize("table", ["spaces", "messages", "dropped_blobs"])
def test_a_fault_in_the_middle_leaves_nothing(
    full: Board, url: str, tmp_path: Path, failing: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, table: str
):
    failing(table)
    for target in (url, str(tmp_path / "again")):
        with pytest.raises((errors.AgentChatError, OSError)):
            move(str(full.path), target, Progress(quiet=True), home=str(full.path))
    assert nothing(url)
    assert not (tmp_path / "again").exists()
    monkeypatch.undo()
    assert move(str(full.path), url, Progress(quiet=True), home=str(full.path))["tables"]


@pytest.fixture
def many(full: Board) -> Board:
    """So many rows that a kill finds a move at work."""
    with database(full.path) as connection:
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) INSERT INTO answers"
            " (id, agent_id, key, digest, answer, created_at)"
            " SELECT i, 1, i, zeroblob(16), hex(randomblob(500)), i FROM n"
        )
    return full


def test_killed_on_its_way_into_postgres_nothing_is_there(many: Board, url: str, admin: Admin):
    migrated(url, after=False, role=None)
    with sql(url) as connection:

        def at_work() -> bool:
            query = (
                "SELECT count(*) FROM pg_stat_progress_copy"
                " WHERE relid = to_regclass('answers') AND tuples_processed > 0"
            )
            return connection.execute(query.encode()).fetchone() != (0,)

        assert strike(start("move", many.path, url), at_work)
    assert nothing(url)
    assert Directory(many.path).holder() is None
    assert admin("move", many.path, url).code == OK
    assert of_postgres(url) == of_directory(many.path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_on_its_way_into_a_directory_it_is_no_relay(
    many: Board, url: str, tmp_path: Path, admin: Admin, number: signal.Signals
):
    assert admin("move", many.path, url).code == OK
    again, words = tmp_path / "again", ("--data", many.path)
    partial = again / "agentchat.db.partial"
    process = start("move", url, again, *words)
    strike(process, lambda: partial.exists() and partial.stat().st_size > 1_000_000, number)
    assert process.returncode != 0
    assert not Directory(again).is_there()
    assert again.exists() is (number == signal.SIGKILL)
    ran = finish(start("move", url, again, *words))
    assert ran.code == OK, ran
    assert ("begun again" in ran.out) is (number == signal.SIGKILL)
    assert of_directory(again) == of_directory(many.path)
    check_consistent(again)
    check_private(again)


def test_batches_do_not_show(full: Board, url: str, admin: Admin, monkeypatch: pytest.MonkeyPatch):
    """A hash is over rows, however they came."""
    told = admin("move", full.path, url, "--json").json["tables"]
    for module in (carry, sqlite):
        monkeypatch.setattr(module, "BATCH", 3)
    assert admin("move", full.path, postgres.new_schema(), "--json").json["tables"] == told
