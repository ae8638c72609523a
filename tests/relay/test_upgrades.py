"""A database that any released version left behind, opened by this one: nothing is lost, whenever the upgrade ends.

`upgrades/NNNN.sql` and `.json` are such databases, with what was asked of them then and what the answers were. How to
make the next one stands in `upgrades/record.py`. A migration that was released never changes: its hash is in RELEASED,
and whoever releases one adds it there.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
import zlib
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentchat import Client
from agentchat.errors import NotConfigured, StorageFull
from agentchat.identity import registration
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.store.sqlite.engine import Sqlite, connect
from agentchat_relay.wire import now
from tests.faults.weather import Weather
from tests.relay.upgrades.record import BOX, UNLIMITED, Answer, Request, ask

pytestmark = pytest.mark.sqlite

HERE = Path(__file__).parent / "upgrades"
DUMPS = sorted(path.stem for path in HERE.glob("*.sql"))
NOTHING = "nothing"  # a directory in which no relay ever was
RELEASED = {
    "0001_first.sql": "8b92404609012f78302f5c57f38a2217ccd446a407c0a3378feba65f90f98f96",
    "0002_keeping.sql": "807de3aaac88fcd89c83c3e41f2ebd24c4da66dc8cfc98e24c57259f58b023dd",
    "0003_delivery.sql": "82456838caa9e811ebd7da76bad1aa1ea6685b1dbf692dcaa89967206f7ecba6",
    "0004_mail.sql": "57745518ac2dfa35004aa83a9138e440f2cd6791f7ff4070d39b54983a87917e",
    "0005_work.sql": "d051ac78b6c6ef7790f2f30e88a3285c7073e239f2b2cf38cc0898d05dfd7f23",
    "0006_pauses.sql": "988f3c662258d1de6ed4e47a8b53c796e41eec953e0239945f16b77146698ef3",
}
PATIENCE = 60.0
# Tables whose rows a running relay takes away at once.
PASSING = {"dropped_blobs", "fan_outs", "unindexed", "sqlite_sequence", "work_names", "spreads"}
Rows = dict[str, list[tuple[Any, ...]]]
# What the contract leaves open, or the clock decides.
OPEN = {"last_seen_at", "next_cursor", "presence", "previous_cursor", "rank"}


# Databases


def lay(name: str, path: Path, *, index: bool = True) -> dict[str, Any]:
    """The directory as it was left; returns what was asked of it then."""
    path.mkdir(mode=0o700)
    if name == NOTHING:
        return {}
    described: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text("utf-8"))
    for file, content in described["files"].items():
        if index or file != "search.db":
            (path / file).parent.mkdir(parents=True, exist_ok=True)
            (path / file).write_bytes(zlib.decompress(b64decode(content)))
    with closing(sqlite3.connect(path / "agentchat.db", isolation_level=None)) as database:
        database.executescript((HERE / f"{name}.sql").read_text("utf-8"))
        database.execute("PRAGMA journal_mode = WAL")
        times = [("answers", "created_at"), ("events", "created_at"), ("nonces", "used_at")]
        times += [("turns", "at")] if name >= "0004" else []
        for table, column in times:
            database.execute(f"UPDATE {table} SET {column} = ?", (now(),))  # else they would be swept
    return described


@contextmanager
def looked_at(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{path}/agentchat.db?mode=rw", uri=True)) as database:
        yield database


def schema(path: Path) -> set[tuple[str, ...]]:
    """Tables, columns, indexes and triggers, however they are spelt."""
    found: set[tuple[str, ...]] = set()
    with looked_at(path) as database:
        for kind, name, table, sql in database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"):
            found.add((kind, name, table, " ".join((sql or "").split())))
            if kind == "table":
                found |= {("column", name, *map(str, row)) for row in database.execute(f"PRAGMA table_xinfo({name})")}
    return found


def rows(path: Path, *, columns: dict[str, list[str]] | None = None) -> Rows:
    """Everything that is stored, of these columns or of all; the time of a migration is that of the upgrade."""
    wanted = columns_of(path) if columns is None else columns
    if not wanted:
        return {}
    with looked_at(path) as database:
        return {
            table: sorted(database.execute(f"SELECT {', '.join(names)} FROM {table}"), key=repr)
            for table, names in wanted.items()
        }


def columns_of(path: Path) -> dict[str, list[str]]:
    if not (path / "agentchat.db").exists():
        return {}
    with looked_at(path) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {table: [row[1] for row in database.execute(f"PRAGMA table_info({table})")] for table in tables}
    found["migrations"].remove("at")
    return {table: [f'"{name}"' for name in names] for table, names in found.items()}


def upgrade(path: Path) -> None:
    Sqlite(path).close()


@pytest.fixture(scope="module")
def fresh_schema(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, ...]]:
    path = tmp_path_factory.mktemp("fresh")
    upgrade(path)
    return schema(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay"


# What is there afterwards


@pytest.mark.parametrize("name", DUMPS)
def test_every_row_stays_and_the_schema_is_that_of_a_new_database(
    name: str, path: Path, fresh_schema: set[tuple[str, ...]]
) -> None:
    lay(name, path)
    columns = columns_of(path)
    before = rows(path, columns=columns)
    assert all(before[table] for table in before.keys() - PASSING), "each table has rows that could be lost"
    upgrade(path)
    after = rows(path, columns=columns)
    done = before.pop("migrations")
    assert after.pop("migrations")[: len(done)] == done
    assert after == before
    assert schema(path) == fresh_schema


@pytest.mark.parametrize("index", [True, False], ids=["its index", "index lost"])
@pytest.mark.parametrize("name", DUMPS)
def test_everything_is_seen_as_it_was(name: str, index: bool, path: Path) -> None:
    described = lay(name, path, index=index)
    with running(str(path), settings=UNLIMITED) as relay:
        for asked, told in described["questions"]:
            request, then = Request(*asked), Answer(*told)
            same(then, ask(relay.url, described["credentials"], request), f"{request}")


@pytest.mark.parametrize("name", DUMPS)
def test_repeated_calls_answer_as_they_did_and_do_nothing(name: str, path: Path) -> None:
    described = lay(name, path)
    with running(str(path), settings=UNLIMITED) as relay:
        columns = {table: names for table, names in columns_of(path).items() if table != "agents"}  # who was seen last
        before = rows(path, columns=columns)
        assert len(described["repeats"]) > 20
        for asked, told in described["repeats"]:
            request, then = Request(*asked), Answer(*told)
            same(then, ask(relay.url, described["credentials"], request), f"{request}")
        assert rows(path, columns=columns) == before


@pytest.mark.parametrize("name", DUMPS)
def test_life_goes_on(name: str, path: Path) -> None:
    described = lay(name, path)
    with running(str(path), settings=UNLIMITED) as relay, clients(relay, described) as (ann, bob):
        before = {row["channel"]: row["unread"] for row in bob.check_board()["channels"]}
        waiting = len(bob.check_mentions(limit=100)["mentions"])
        old = ann.read_messages("project-api")["messages"][-1]
        sent = ann.send_message("project-api", "@mac-bob xylophone", parent_message_id=old["id"])["message"]
        direct = ann.send_direct_message("mac-bob", "xylophone too")["message"]
        after = {row["channel"]: row["unread"] for row in bob.check_board()["channels"]}
        assert after["project-api"] == before["project-api"] + 1
        assert after["direct-messages"] == before["direct-messages"] + 1
        found = bob.check_mentions(limit=100)["mentions"]
        assert len(found) == waiting + 2
        assert [row["message_id"] for row in found[:2]] == [direct["id"], sent["id"]]
        bob.mark_mentions_read([row["mention_id"] for row in found])
        assert bob.check_mentions()["mentions"] == []
        assert {hit["id"] for hit in bob.search_messages("xylophone")["results"]} == {sent["id"], direct["id"]}
        assert bob.read_thread(sent["id"])["messages"][-1]["id"] == sent["id"]
        bob.mark_channel_read("project-api")
        assert {row["channel"]: row["unread"] for row in bob.check_board()["channels"]}["project-api"] == 0
        for _ in range(2):
            ann.pin_message(sent["id"])
        assert sent["id"] in [row["id"] for row in bob.list_pinned_messages("project-api")["messages"]]
        file = ann.upload_file("project-api", "new.md", "# New")["file"]
        assert bob.download_file(file["path"])["content"] == b"# New"
        assert ann.send_message("new-channel", "first")["message"]["channel_name"] == "new-channel"
        registers(relay, described)


def registers(relay: Embedded, described: dict[str, Any]) -> None:
    """A machine of old gives its agent another key, and a new one its first."""
    machine = Ed25519PrivateKey.from_private_bytes(BOX)
    for agent, key in (("box-api", "1" * 64), ("box-new", "2" * 64)):
        body = registration("box", agent, key, machine)
        assert ask(relay.url, {}, Request("", "POST", "/api/v2/register", body)).status == 200
        assert ask(relay.url, {"new": key}, Request("new", "GET", "/api/v2/board")).status == 200
    assert ask(relay.url, described["credentials"], Request("main/box-api", "GET", "/api/v2/board")).status == 401


@contextmanager
def clients(relay: Embedded, described: dict[str, Any]) -> Iterator[tuple[Client, Client]]:
    keys = described["credentials"]
    with Client(relay.url, keys["main/mac-ann"]) as ann, Client(relay.url, keys["main/mac-bob"]) as bob:
        yield ann, bob


def same(then: Answer, answer: Answer, where: str) -> None:
    """The answer holds whatever it held then; more is allowed."""
    assert answer.status == then.status, where
    if then.status != 200:
        assert answer.body["code"] == then.body["code"], where
        return
    holds(then.body, answer.body, where)


def holds(then: Any, answer: Any, where: str) -> None:
    if isinstance(then, dict):
        for name, value in then.items():
            if name not in OPEN:
                holds(value, answer[name], f"{where}.{name}")
    elif isinstance(then, list):
        assert len(answer) == len(then), where
        for place, (old, new) in enumerate(zip(settled(then), settled(answer), strict=True)):
            holds(old, new, f"{where}[{place}]")
    else:
        assert answer == then, where


def settled(values: list[Any]) -> list[Any]:
    """Hits and agents in an order that neither a better ranking nor who was seen last can change."""
    if values and isinstance(values[0], dict) and values[0].keys() & {"rank", "last_seen_at"}:
        return sorted(values, key=lambda value: str(value.get("id") or value["name"]))
    return values


# Interrupted


class Striker:
    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.relay.upgrades.strike"]
        self._process = subprocess.Popen(
            command, cwd=HERE.parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def opens(self, path: Path, *, statements: int | None = None, seconds: float | None = None) -> int:
        """How many statements it took, -1 if it did not come to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"directory": str(path), "statements": statements, "seconds": seconds}
        print(json.dumps(job), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="module")
def striker() -> Iterator[Striker]:
    made = Striker()
    yield made
    made.close()


class Course(NamedTuple):
    """How an upgrade goes when nobody interrupts it."""

    laid: Path
    statements: int
    seconds: float
    stages: list[set[tuple[str, ...]]]  # the schemas on disk, one after the other
    before: Rows
    columns: dict[str, list[str]]  # those there were before
    after: Rows


@pytest.fixture(scope="module", params=[NOTHING, *DUMPS])
def course(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, striker: Striker) -> Course:
    folder = tmp_path_factory.mktemp("course")
    laid, whole, timed = folder / "laid", folder / "whole", folder / "timed"
    lay(request.param, laid)
    columns = columns_of(laid)
    shutil.copytree(laid, whole)
    stages: list[set[tuple[str, ...]]] = []

    def watch(statement: str) -> None:
        if (found := schema(whole)) not in stages:
            stages.append(found)

    def watched(file: str) -> sqlite3.Connection:
        connection = connect(file)
        if file.endswith("agentchat.db"):
            connection.set_trace_callback(watch)
        return connection

    Sqlite(whole, connect=watched).close()
    shutil.copytree(laid, timed)
    began = time.monotonic()
    statements = striker.opens(timed)
    seconds = time.monotonic() - began
    before = rows(laid, columns=columns)
    return Course(laid, statements, seconds, stages, before, columns, rows(whole))


def is_whole(path: Path, course: Course) -> None:
    """What the interrupted upgrade left is one of the stages with all rows in it, and the next start completes it. A
    copy is looked at: to look is to recover."""
    look = path.with_name("look")
    shutil.rmtree(look, ignore_errors=True)
    shutil.copytree(path, look)
    if not (look / "agentchat.db").exists():
        assert not course.before
    elif (found := schema(look)) != set():
        assert found in course.stages
        kept = rows(look, columns=course.columns)
        assert {**kept, "migrations": []} == {**course.before, "migrations": []}
    upgrade(path)
    assert schema(path) == course.stages[-1]
    assert rows(path) == course.after


def test_an_upgrade_that_ends_after_any_statement_is_completed(
    course: Course, striker: Striker, path: Path, fresh_schema: set[tuple[str, ...]]
) -> None:
    assert course.stages[-1] == fresh_schema
    assert course.statements > 10
    # Where nothing is, less can get lost; and what a later version goes through as well, is struck there.
    step = 4 if not course.before else 1 if len(course.stages) <= 2 else 3
    for statements in range(random.randrange(step), course.statements, step):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(course.laid, path)
        assert striker.opens(path, statements=statements) == -1, statements
        is_whole(path, course)


def test_an_upgrade_that_is_killed_at_any_moment_is_completed(course: Course, striker: Striker, path: Path) -> None:
    for _ in range(8):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(course.laid, path)
        for _ in range(random.randrange(1, 4)):
            striker.opens(path, seconds=random.uniform(0, course.seconds))
        is_whole(path, course)


def test_an_upgrade_for_which_there_is_no_room_says_so_and_is_made_later(course: Course, path: Path) -> None:
    """Wherever the room ends: each time there is a page more, or a few where nothing is to be lost."""
    pages, step = 1, 5
    if course.before:
        with looked_at(course.laid) as database:
            pages, step = database.execute("PRAGMA page_count").fetchone()[0], 1
    for most in itertools.count(pages, step):

        def cramped(file: str, most: int = most) -> sqlite3.Connection:
            connection = connect(file)
            if file.endswith("agentchat.db"):
                connection.execute(f"PRAGMA max_page_count = {most}")
            return connection

        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(course.laid, path)
        try:
            Sqlite(path, connect=cramped).close()
        except StorageFull as error:
            assert "is full. Make room, then start again." in error.message
            is_whole(path, course)
        else:
            assert most > pages or len(course.stages) == 1, "there was something to make room for"
            break


@pytest.mark.parametrize("name", DUMPS[:-1])
def test_a_full_disk_ends_the_command_with_words_and_a_code(name: str, path: Path, tmp_path: Path) -> None:
    described = lay(name, path)
    weather = Weather(path, tmp_path)
    command = [sys.executable, "-m", "agentchat", "serve", "--data", str(path), "--port", "0"]
    for room in (36_000, 60_000):  # more than it takes to open the database, less than the upgrade takes
        weather.full(room)
        done = subprocess.run(
            command, env=weather.environment(os.environ), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 1, done
        assert "is full. Make room, then start again." in done.stderr
        assert "Traceback" not in done.stderr
    weather.close()
    with running(str(path), settings=UNLIMITED) as relay:
        for asked, told in described["questions"][:20]:
            same(Answer(*told), ask(relay.url, described["credentials"], Request(*asked)), str(asked))


# What is refused, and what may never change


@pytest.mark.parametrize("name", DUMPS)
def test_a_database_of_a_newer_version_is_refused_and_left_alone(name: str, path: Path) -> None:
    lay(name, path)
    with closing(sqlite3.connect(path / "agentchat.db", isolation_level=None)) as database:
        database.execute("INSERT INTO migrations VALUES (9999, 'from_the_future', 1)")
    before = schema(path), rows(path)
    with pytest.raises(NotConfigured, match="its migration 9999 is unknown"):
        upgrade(path)
    assert (schema(path), rows(path)) == before


def test_a_migration_that_was_released_never_changes() -> None:
    """Its database is out there. What is to be different is a new migration, which is added here when it is released,
    with a dump of what it leaves."""
    folder = files("agentchat_relay.store").joinpath("migrations", "sqlite")
    found = {
        file.name: sha256(file.read_bytes()).hexdigest() for file in folder.iterdir() if file.name.endswith(".sql")
    }
    assert {name: found.get(name) for name in RELEASED} == RELEASED
    assert all(name > max(RELEASED) for name in found.keys() - RELEASED.keys()), "a number that is taken"
    assert sorted(name.partition("_")[0] for name in RELEASED) == DUMPS
