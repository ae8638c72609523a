"""The store under groups of good and bad calls, full disks and broken files; and the small pure parts beside it."""

from __future__ import annotations

import os
import random
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentchat import Client
from agentchat.errors import AgentChatError, BadRequest, Conflict, NotConfigured, StorageFull, Unavailable
from agentchat_relay.embedded import running
from agentchat_relay.service import administration, agents, messages, upkeep
from agentchat_relay.service.call import Agent, Call
from agentchat_relay.settings import Settings
from agentchat_relay.store.query import read_query
from agentchat_relay.store.seam import Lane, NeedsWrite, Store, place_of
from agentchat_relay.store.sqlite.engine import Sqlite, connect
from agentchat_relay.store.sqlite.index import match
from agentchat_relay.wire import Cursor, iso, micros, new_id, read_cursor

UNLIMITED = Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)
DEADLINE = 60.0
numbers = count(1)
Function = Callable[[Any], Any]
Told = tuple[Any, BaseException | None]


class Peek:
    """A store in a directory, an agent in it, and an eye on what is on disk."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.commits = 0
        make = options.pop("connect", connect)

        def watched(path: str) -> Any:
            connection = make(path)
            if path.endswith("agentchat.db"):
                connection.set_trace_callback(self._see)
            return connection

        self.store: Store = Sqlite(directory, connect=watched, **options)
        self.store.ask(Lane.WRITE, upkeep.seed)
        key = self.store.ask(Lane.WRITE, lambda tx: administration.agent_token(tx, name="mac-store"))["key"]
        found = self.store.ask(Lane.READ, lambda tx: agents.with_key(tx, sha256(key.encode()).hexdigest()))
        self.agent: Agent = found[0]

    def _see(self, statement: str) -> None:
        self.commits += statement == "COMMIT"

    def post(self, text: str, channel: str = "general", key: str | None = None) -> Function:
        call = Call(self.agent, key, sha256(text.encode()).digest()[:16] if key else None)
        return lambda tx: messages.send_message(tx, call, channel=channel, content=text)

    def ask(self, lane: Lane, call: Function) -> Any:
        return self.store.ask(lane, call)

    def on_disk(self, sql: str, *values: Any) -> list[Any]:
        """What another process would see."""
        with closing(sqlite3.connect(self.directory / "agentchat.db")) as connection:
            return connection.execute(sql, values).fetchall()

    def contents(self, channel: str = "general") -> list[str]:
        sql = "SELECT content FROM messages WHERE channel_id = (SELECT id FROM channels WHERE name = ?) ORDER BY id"
        return [row[0] for row in self.on_disk(sql, channel)]

    def spaces(self) -> set[str]:
        return {row[0] for row in self.on_disk("SELECT name FROM spaces")}

    def check_numbers(self) -> None:
        """Nothing that was refused has left a hole."""
        for channel, number, chats in self.on_disk("SELECT id, number, chats FROM channels"):
            sql = "SELECT number, chats, created_at FROM messages WHERE channel_id = ? ORDER BY id"
            rows = self.on_disk(sql, channel)
            assert [row[0] for row in rows] == list(range(1, number + 1))
            assert [row[1] for row in rows] == list(range(1, chats + 1))
            assert all(one[2] < other[2] for one, other in pairwise(rows))
        for space, position in self.on_disk("SELECT id, position FROM spaces"):
            positions = self.on_disk("SELECT position FROM events WHERE space_id = ? ORDER BY position", space)
            assert [row[0] for row in positions] == list(range(1, position + 1))

    def together(self, *calls: tuple[Lane, Function]) -> list[Told]:
        """The outcomes of calls that wait for the writer at the same time."""
        gate, busy, over = threading.Event(), threading.Event(), threading.Semaphore(0)
        told: dict[int, Told] = {}

        def block(tx: Any) -> None:
            busy.set()
            gate.wait(DEADLINE)

        def listener(number: int) -> Callable[[Any, BaseException | None], None]:
            def done(result: Any, error: BaseException | None) -> None:
                assert number not in told, "told twice"
                told[number] = result, error
                over.release()

            return done

        self.store.submit(Lane.WRITE, block, lambda result, error: None)
        assert busy.wait(DEADLINE)
        for number, (lane, call) in enumerate(calls):
            self.store.submit(lane, call, listener(number))
        gate.set()
        for _ in calls:
            assert over.acquire(timeout=DEADLINE)
        return [told[number] for number in range(len(calls))]


@pytest.fixture
def peek(tmp_path: Path) -> Iterator[Peek]:
    made = Peek(tmp_path)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peek]:
    made = Peek(tmp_path_factory.mktemp("store"))
    yield made
    made.store.close()


def space(name: str) -> Function:
    return lambda tx: tx.run("insert_space", name=name, created_at=tx.now)


def then(first: Function, error: Exception) -> Function:
    """A call that has written something when it fails."""

    def call(tx: Any) -> None:
        first(tx)
        raise error

    return call


def failing(error: Exception) -> Function:
    def call(tx: Any) -> None:
        raise error

    return call


# Groups


def test_what_waits_together_is_committed_together(peek: Peek):
    before = peek.commits
    told = peek.together(*((Lane.APPEND, peek.post(f"{number}")) for number in range(100)))
    assert all(error is None for _, error in told)
    assert peek.commits - before <= 3  # the one that kept the writer busy, and theirs
    assert peek.contents() == [f"{number}" for number in range(100)]
    peek.check_numbers()


REFUSAL, CRASH = BadRequest("refused"), ValueError("unexpected")


@pytest.mark.parametrize("error", [REFUSAL, CRASH, sqlite3.OperationalError("strange"), RecursionError()], ids=repr)
@pytest.mark.parametrize("lane", [Lane.APPEND, Lane.WRITE])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_a_failing_call_leaves_nothing_and_disturbs_nobody(
    peek: Peek, error: Exception, lane: Lane, late: bool, alone: bool
):
    bad = then(peek.post("bad") if lane == Lane.APPEND else space("bad"), error) if late else failing(error)
    good = [(Lane.APPEND, peek.post(f"{number}")) for number in range(4)] + [(Lane.WRITE, space("good"))]
    if alone:
        with pytest.raises(type(error)):
            peek.ask(lane, bad)
        good_told = [(peek.ask(one, call), None) for one, call in good]
    else:
        told = peek.together(*good[:2], (lane, bad), *good[2:])
        assert told[2] == (None, error)
        good_told = told[:2] + told[3:]
    assert all(one[1] is None for one in good_told)
    assert peek.contents() == [f"{number}" for number in range(4)]
    assert peek.spaces() == {"main", "good"}
    assert peek.ask(Lane.APPEND, peek.post("after"))["message"]
    peek.check_numbers()


def test_a_broken_rule_of_the_database_is_its_callers_alone(peek: Peek):
    told = peek.together(
        (Lane.WRITE, space("one")),
        (Lane.WRITE, space("main")),
        (Lane.APPEND, peek.post("x")),
        (Lane.WRITE, space("two")),
    )
    assert [type(error) for _, error in told] == [type(None), sqlite3.IntegrityError, type(None), type(None)]
    assert peek.spaces() == {"main", "one", "two"}
    assert peek.contents() == ["x"]


def test_a_rule_broken_only_at_the_commit_is_its_callers_alone(peek: Peek):
    """What is appended meets the database after the call has returned."""

    def bad(tx: Any) -> str:
        row = {"public_id": new_id(tx.now), "agent_id": None, "kind": "mention", "message_id": None, "created_at": 1}
        tx.later("insert_item", **row)
        return "looks good"

    good = [(Lane.APPEND, peek.post(f"{number}")) for number in range(4)]
    told = peek.together(*good[:2], (Lane.APPEND, bad), *good[2:])
    assert [error is None for _, error in told] == [True, True, False, True, True]
    assert peek.contents() == [f"{number}" for number in range(4)]
    peek.check_numbers()


def test_an_error_that_is_returned_keeps_what_was_written(peek: Peek):
    conflict = Conflict("no, but noted")

    def call(tx: Any) -> Conflict:
        space("noted")(tx)
        return conflict

    assert peek.together((Lane.APPEND, peek.post("x")), (Lane.WRITE, call))[1] == (conflict, None)
    assert peek.spaces() == {"main", "noted"}


KINDS = [
    "post",
    "late",
    "late crash",
    "early",
    "early crash",
    "space",
    "space late",
    "space crash",
    "twice",
    "returned",
]


@settings(max_examples=60, deadline=None)
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=30))
def test_any_group_ends_as_if_each_were_alone(shared: Peek, kinds: list[str]):
    group = f"group-{next(numbers)}"
    calls: list[tuple[Lane, Function]] = []
    kept, made, expected = shared.contents(), shared.spaces(), []
    for number, kind in enumerate(kinds):
        name = f"{group}-{number}"
        post = shared.post(name)
        error = None if kind in ("post", "space", "returned") else CRASH if "crash" in kind else REFUSAL
        call: dict[str, tuple[Lane, Function]] = {
            "post": (Lane.APPEND, post),
            "late": (Lane.APPEND, then(post, REFUSAL)),
            "late crash": (Lane.APPEND, then(post, CRASH)),
            "early": (Lane.APPEND, failing(REFUSAL)),
            "early crash": (Lane.APPEND, failing(CRASH)),
            "space": (Lane.WRITE, space(name)),
            "space late": (Lane.WRITE, then(space(name), REFUSAL)),
            "space crash": (Lane.WRITE, then(space(name), CRASH)),
            "twice": (Lane.WRITE, then(post, REFUSAL)),
            "returned": (Lane.WRITE, lambda tx, post=post: (post(tx), REFUSAL)[1]),
        }
        calls.append(call[kind])
        expected.append(error)
        kept += [name] if kind in ("post", "returned") else []
        made |= {name} if kind == "space" else set()
    told = shared.together(*calls)
    assert [error for _, error in told] == expected
    assert shared.contents() == kept
    assert shared.spaces() == made
    shared.check_numbers()


def test_a_key_has_one_effect_also_within_a_group(peek: Peek):
    told = peek.together(*((Lane.APPEND, peek.post("once", key="k")) for _ in range(20)))
    assert len({bytes(result["message"]) for result, _ in told}) == 1
    assert peek.contents() == ["once"]
    told = peek.together((Lane.APPEND, peek.post("twice", key="k")), (Lane.APPEND, peek.post("other", key="j")))
    assert isinstance(told[0][1], Conflict) and told[1][1] is None
    assert peek.contents() == ["once", "other"]


# Order of things


def test_an_outcome_is_told_after_its_commit(peek: Peek):
    seen: list[bool] = []
    over = threading.Semaphore(0)

    def listener(name: str) -> Callable[[Any, BaseException | None], None]:
        def done(result: Any, error: BaseException | None) -> None:
            seen.append(name in peek.contents() or name in peek.spaces())
            over.release()

        return done

    for number in range(50):
        lane, call = (Lane.APPEND, peek.post(f"n{number}")) if number % 2 else (Lane.WRITE, space(f"n{number}"))
        peek.store.submit(lane, call, listener(f"n{number}"))
    for _ in range(50):
        assert over.acquire(timeout=DEADLINE)
    assert seen == [True] * 50


def test_a_read_sees_what_was_acknowledged_before(peek: Peek):
    for number in range(100):
        peek.ask(Lane.WRITE, space(f"s{number}"))
        names = [row["name"] for row in peek.ask(Lane.READ, lambda tx: tx.all("list_spaces"))]
        assert f"s{number}" in names


def test_a_search_sees_what_was_acknowledged_before(peek: Peek):
    for number in range(50):
        peek.ask(Lane.APPEND, peek.post(f"needle{number} in the hay"))
        assert found(peek, f"needle{number}") == [f"needle{number} in the hay"]


def found(peek: Peek, text: str) -> list[str]:
    places = [place_of(space_id=peek.agent.space_id)]
    rows = peek.ask(Lane.SEARCH, lambda tx: tx.search(read_query(text), places=places, limit=1000).rows)
    return [row["content"] for row in rows]


@pytest.mark.parametrize("lane", [Lane.READ, Lane.SEARCH])
def test_a_read_that_turns_out_to_write_is_run_again_where_it_may(peek: Peek, lane: Lane):
    runs = []

    def call(tx: Any) -> str:
        runs.append(tx.writes)
        if not tx.writes:
            raise NeedsWrite
        space("joined")(tx)
        return "done"

    assert peek.ask(lane, call) == "done"
    assert runs == [False, True]
    assert "joined" in peek.spaces()


def test_a_read_cannot_write_and_its_fault_is_its_own(peek: Peek):
    with pytest.raises(AttributeError):
        peek.ask(Lane.READ, space("sneaked"))
    with pytest.raises(ValueError, match="unexpected"):
        peek.ask(Lane.READ, failing(CRASH))
    assert peek.ask(Lane.READ, lambda tx: len(tx.all("list_spaces"))) == 1
    assert peek.spaces() == {"main"}


def test_a_read_is_one_snapshot_that_waits_for_no_write(peek: Peek):
    def call(tx: Any) -> tuple[int, int]:
        before = len(tx.all("list_spaces"))
        peek.ask(Lane.WRITE, space("meanwhile"))
        return before, len(tx.all("list_spaces"))

    assert peek.ask(Lane.READ, call) == (1, 1)
    assert peek.spaces() == {"main", "meanwhile"}


def test_another_process_may_write_too(peek: Peek):
    """Counters and names are kept in memory, but not beyond somebody else's commit."""
    peek.ask(Lane.APPEND, peek.post("one"))
    with closing(sqlite3.connect(peek.directory / "agentchat.db", isolation_level=None)) as other:
        other.execute("UPDATE channels SET number = 41, chats = 41 WHERE name = 'general'")
        other.execute("UPDATE spaces SET position = 1000")
        columns = "channel_id, number, chats, created_at, author_id, kind, content"
        theirs = "channel_id, 41, 41, created_at, author_id, kind, 'theirs'"
        other.execute(f"INSERT INTO messages (id, public_id, {columns}) SELECT 500, 'x', {theirs} FROM messages")
    peek.ask(Lane.APPEND, peek.post("two"))
    assert peek.on_disk("SELECT id, number FROM messages WHERE content = 'two'") == [(501, 42)]
    assert peek.on_disk("SELECT max(position) FROM events") == [(1001,)]


def test_closing_finishes_what_was_submitted(tmp_path: Path):
    before, peek = threads(), Peek(tmp_path)
    told: list[Told] = []
    for number in range(300):
        peek.store.submit(Lane.APPEND, peek.post(f"{number}"), lambda *one: told.append(one))
    peek.store.close()
    assert len(told) == 300 and all(error is None for _, error in told)
    assert peek.contents() == [f"{number}" for number in range(300)]
    for lane in Lane:
        with pytest.raises(Unavailable):
            peek.store.submit(lane, peek.post("late"), lambda result, error: None)
    assert threads() == before


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("agentchat-")]


# Migrations


def schema(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()


@pytest.fixture(scope="module")
def whole_schema(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    directory = tmp_path_factory.mktemp("schema")
    Sqlite(directory).close()
    return schema(directory / "agentchat.db")


def test_a_file_of_a_newer_relay_is_refused_and_left_alone(tmp_path: Path):
    Sqlite(tmp_path).close()
    path = tmp_path / "agentchat.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO migrations VALUES (9999, 'from_the_future', 1)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    there, before = path.read_bytes(), threads()
    with pytest.raises(NotConfigured, match="newer version"):
        Sqlite(tmp_path)
    assert threads() == before
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute("SELECT max(number) FROM migrations").fetchone() == (9999,)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.read_bytes()[100:] == there[100:]


class Fragile(sqlite3.Connection):
    """Fails at the n-th statement that creates or inserts something."""

    left = 0

    def execute(self, sql: str, *values: Any) -> Any:  # type: ignore[override]
        if re.match(r"\s*(CREATE|INSERT)", sql):
            Fragile.left -= 1
            if Fragile.left == 0:
                raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *values)


def fragile(path: str) -> Any:
    return sqlite3.connect(path, factory=Fragile, isolation_level=None, check_same_thread=False)


@pytest.mark.parametrize("at", [1, 2, 3, 10, 20, 30])
def test_an_interrupted_migration_is_made_again(tmp_path: Path, whole_schema: list[Any], at: int):
    Fragile.left, before = at, threads()
    with pytest.raises(Unavailable, match="I/O"):
        Sqlite(tmp_path, connect=fragile)
    assert threads() == before
    assert len(schema(tmp_path / "agentchat.db")) <= 1  # the table of migrations at most
    Sqlite(tmp_path).close()
    assert schema(tmp_path / "agentchat.db") == whole_schema


def test_a_file_that_is_no_database_is_not_overwritten(tmp_path: Path):
    before = threads()
    (tmp_path / "agentchat.db").write_bytes(b"precious notes of somebody\n" * 200)
    with pytest.raises((AgentChatError, sqlite3.DatabaseError)):
        Sqlite(tmp_path)
    assert (tmp_path / "agentchat.db").read_bytes() == b"precious notes of somebody\n" * 200
    assert threads() == before


# The search index


@contextmanager
def relay_at(path: Path, **more: Any) -> Iterator[Client]:
    with (
        running(str(path), settings=UNLIMITED, **more) as relay,
        Client(relay.url, relay.token("mac-search"), retries=5) as client,
    ):
        yield client


def filled(path: Path, count: int, word: str) -> None:
    with relay_at(path) as client:
        for number in range(count):
            client.send_message("general", f"{word} number{number}")


def remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def spoil_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for at in range(4096 * 2, len(content)):
        content[at] = at * 7 % 256
    path.write_bytes(content)


def other_schema(path: Path) -> None:
    remove(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE fulltext (other TEXT)")
        connection.execute("CREATE TABLE progress (other TEXT)")


SPOILED: dict[str, Callable[[Path], object]] = {
    "deleted": remove,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"this is no database\n" * 500),
    "random": lambda path: path.write_bytes(random.Random(5).randbytes(50_000)),
    "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "first page only": lambda path: path.write_bytes(path.read_bytes()[:4096]),
    "junk in the middle": spoil_middle,
    "another schema": other_schema,
    "stray log": lambda path: path.with_name("search.db-wal").write_bytes(b"junk" * 2000),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_spoiled_index_is_made_again(tmp_path: Path, kind: str):
    filled(tmp_path, 60, "needle")
    SPOILED[kind](tmp_path / "search.db")
    check_index(tmp_path)


def check_index(path: Path) -> None:
    with relay_at(path) as client:
        assert len(client.search_messages("needle")["results"]) == 50
        for number in (0, 31, 59):
            contents = [hit["content"] for hit in client.search_messages(f"number{number} needle")["results"]]
            assert contents == [f"needle number{number}"]
        client.send_message("general", "needle newest")
        assert len(client.search_messages("newest")["results"]) == 1
        assert client.search_messages("straw")["results"] == []


@pytest.mark.parametrize("count", [1, 60, 90])
def test_the_index_of_another_database_is_made_again(tmp_path: Path, count: int):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    filled(ours, 60, "needle")
    filled(theirs, count, "straw")
    remove(ours / "search.db")
    shutil.copy(theirs / "search.db", ours / "search.db")
    check_index(ours)


def test_an_index_that_lags_behind_catches_up(tmp_path: Path):
    filled(tmp_path, 30, "needle")
    old = (tmp_path / "search.db").read_bytes()
    with relay_at(tmp_path) as client:
        for number in range(30, 60):
            client.send_message("general", f"needle number{number}")
    remove(tmp_path / "search.db")
    (tmp_path / "search.db").write_bytes(old)
    check_index(tmp_path)


# Full disks


class Disk:
    """Databases that cannot grow beyond so many pages, until there is room again."""

    def __init__(self, name: str, pages: int) -> None:
        self._name = name
        self._pages = pages
        self._connections: list[Any] = []

    def connect(self, path: str) -> Any:
        connection = connect(path)
        if os.path.basename(path) == self._name:
            connection.execute(f"PRAGMA max_page_count = {self._pages}")
            self._connections.append(connection)
        return connection

    def grow(self, tx: Any) -> None:
        """A call for WRITE, so that nobody else writes meanwhile."""
        for connection in self._connections:
            connection.execute("PRAGMA max_page_count = 1000000")


def test_a_full_disk_loses_nothing_and_gets_well_again(tmp_path: Path):
    Peek(tmp_path).store.close()
    disk = Disk("agentchat.db", (tmp_path / "agentchat.db").stat().st_size // 4096 + 40)
    peek = Peek(tmp_path, connect=disk.connect)
    kept: list[str] = []
    refused = 0
    while refused < 10:
        text = f"{len(kept)}:{refused} " + "x" * 2000
        try:
            peek.ask(Lane.APPEND, peek.post(text))
            kept.append(text)
        except StorageFull:
            refused += 1
    assert len(kept) > 5
    assert peek.contents() == kept
    peek.check_numbers()
    texts = [f"together {number} " + "y" * 2000 for number in range(30)]
    told = peek.together(*((Lane.APPEND, peek.post(text)) for text in texts))
    assert {type(error) for _, error in told} <= {type(None), StorageFull}
    assert any(isinstance(error, StorageFull) for _, error in told)
    kept += [text for text, (_, error) in zip(texts, told, strict=True) if error is None]
    assert peek.contents() == kept
    assert len(peek.ask(Lane.READ, lambda tx: tx.all("list_spaces"))) == 1
    peek.ask(Lane.WRITE, disk.grow)
    told = peek.together(*((Lane.APPEND, peek.post(text)) for text in texts))
    assert all(error is None for _, error in told)
    assert peek.contents() == kept + texts
    peek.check_numbers()
    peek.store.close()


def test_callers_of_a_full_relay_are_told_so(tmp_path: Path):
    filled(tmp_path, 1, "x")
    disk, sent = Disk("agentchat.db", (tmp_path / "agentchat.db").stat().st_size // 4096 + 20), 1
    with (
        running(str(tmp_path), settings=UNLIMITED, connect=disk.connect) as relay,
        Client(relay.url, relay.token("mac-full"), retries=0) as client,
    ):
        with pytest.raises(StorageFull) as caught:
            while True:
                client.send_message("general", f"{sent} " + "x" * 5000)
                sent += 1
        assert caught.value.status == 507
        assert sent > 3
        assert len(client.read_messages("general", limit=200)["messages"]) == sent
        relay.ask(disk.grow)
        client.send_message("general", "well again")
        assert len(client.read_messages("general", limit=200)["messages"]) == sent + 1


def test_an_index_that_cannot_grow_stops_no_message(tmp_path: Path):
    disk = Disk("search.db", 30)
    with relay_at(tmp_path, connect=disk.connect) as client:
        luck = random.Random(3)
        for _ in range(150):
            client.send_message("general", " ".join(f"{luck.getrandbits(40):x}" for _ in range(300)))
        with suppress(Unavailable, StorageFull):
            assert client.with_options(retries=0).search_messages("nothing")["results"] == []
        assert len(client.read_messages("general", limit=200)["messages"]) == 150


# Queries

QUERY_TEXTS = st.text(max_size=60) | st.text(alphabet="ab -\"orOR'*:()^+{}~\\\0\n", max_size=60)


@given(text=QUERY_TEXTS)
@example(text='"')
@example(text="-")
@example(text="or or OR")
@example(text='-"a b" or -c')
@example(text="NEAR(a b) * col:x ^y {z}")
def test_any_text_is_a_query(text: str):
    query = read_query(text)
    for term in [*query.excluded, *(term for terms in query.alternatives for term in terms)]:
        assert term.words
        assert all(word == word.lower() and re.fullmatch(r"[^\W_]+", word) for word in term.words)
    assert all(query.alternatives)
    assert set(query.words) == {word for terms in query.alternatives for term in terms for word in term.words}
    if not re.search(r"[^\W_]", text):
        assert not query


@given(text=QUERY_TEXTS)
def test_the_engine_takes_any_query(text: str):
    query = read_query(text)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE fulltext USING fts5(content, place, tokenize = 'porter unicode61')")
        connection.execute("INSERT INTO fulltext VALUES ('a b ab or', 's1')")
        if query:
            connection.execute(
                "SELECT rowid FROM fulltext WHERE fulltext MATCH ?", (match(query, ["s1", "d2"]),)
            ).fetchall()


MEANT = [
    ("one two", [["one", "two"]], []), ("one OR two or three four", [["one"], ["two"], ["three", "four"]], []),
    ('"one two" three', [["one two", "three"]], []), ('"one two', [["one two"]], []), ("the of", [["the", "of"]], []),
    ("one -two -three", [["one"]], ["two", "three"]), ('one -"two three"', [["one"]], ["two three"]),
    ("fix-2-b", [["fix 2 b"]], []), ("[test-1795164630963-6c9r7e]", [["test 1795164630963 6c9r7e"]], []),
    ("the one of it", [["one"]], []), ("one - two", [["one", "two"]], []), ("or one or", [["one"]], []),
    ("ÜBER Größe", [["über", "größe"]], []), ("!!! ??? -", [], []), ("-one", [], ["one"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "alternatives", "excluded"), MEANT)
def test_what_people_mean(text: str, alternatives: list[list[str]], excluded: list[str]):
    query = read_query(text)
    assert [[" ".join(term.words) for term in terms] for terms in query.alternatives] == alternatives
    assert [" ".join(term.words) for term in query.excluded] == excluded


WORDS = ["zebra", "quartz", "kiwi", "fjord"]
CORPUS = [" ".join(words) for words in ([a, b, c] for a in WORDS for b in WORDS for c in [*WORDS, ""])]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peek]:
    made = Peek(tmp_path_factory.mktemp("corpus"))
    for text in CORPUS:
        made.ask(Lane.APPEND, made.post(text))
    yield made
    made.store.close()


TERMS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=2)


@settings(deadline=None)
@given(wanted=st.lists(st.lists(TERMS, min_size=1, max_size=2), max_size=2), unwanted=st.lists(TERMS, max_size=2))
def test_a_search_finds_what_a_plain_look_finds(corpus: Peek, wanted: list[list[list[str]]], unwanted: list[list[str]]):
    text = " or ".join(" ".join(f'"{" ".join(term)}"' for term in terms) for terms in wanted)
    text += "".join(f' -"{" ".join(term)}"' for term in unwanted)

    def holds(content: str, term: Sequence[str]) -> bool:
        return f" {' '.join(term)} " in f" {content} "

    expected = [
        content.strip()
        for content in CORPUS
        if (any(all(holds(content, term) for term in terms) for terms in wanted) or not wanted)
        and not any(holds(content, term) for term in unwanted)
    ]
    if wanted or unwanted:
        assert sorted(found(corpus, text)) == sorted(expected)


# Ids, times, cursors

MOMENTS = st.integers(0, 253_402_300_799_999_999)  # to the end of the year 9999
UUID7 = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@given(at=MOMENTS)
def test_an_id_is_a_uuid_of_version_7(at: int):
    id = new_id(at)
    assert UUID7.fullmatch(id)
    assert int(id.replace("-", "")[:12], 16) == at // 1000


@given(at=MOMENTS, later=st.integers(1, 10**12))
def test_ids_sort_as_their_times(at: int, later: int):
    assert new_id(at) < new_id(at + later)


def test_ids_of_one_moment_differ():
    assert len({new_id(1_790_000_000_000_000) for _ in range(10_000)}) == 10_000


@given(at=MOMENTS)
@example(at=0)
@example(at=999_999)
@example(at=59_999_999)
def test_times_travel_there_and_back(at: int):
    text = iso(at)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", text)
    assert micros(text, "x") == micros(text.replace("+00:00", "Z"), "x") == micros(text.replace("+", " "), "x") == at


def test_times_as_others_write_them():
    for text in ("01Z", "01", "01+00:00", "01.000000Z", "01.0000009Z"):
        assert micros(f"1970-01-01T00:00:{text}", "x") == 1_000_000, text
    assert micros("1970-01-01T02:00:01+02:00", "x") == micros(" 1970-01-01T00:00:01Z ", "x") == 1_000_000
    assert micros("1969-12-31T23:59:59.5Z", "x") == -500_000


@given(text=st.text(max_size=40))
@example(text="0001-01-01T00:00:00+14:00")
@example(text="9999-12-31T23:59:59-14:00")
def test_any_text_is_a_time_or_a_clear_refusal(text: str):
    try:
        assert isinstance(micros(text, "before"), int)
    except BadRequest as error:
        assert "before" in error.message and error.message.isascii()


PLACES = st.from_regex(r"[a-z][0-9]{1,12}", fullmatch=True)


@given(place=PLACES, at=st.integers(0, 2**62 - 1), newer=st.booleans())
def test_a_cursor_travels_there_and_back(place: str, at: int, newer: bool):
    text = str(Cursor(place, at, newer))
    assert re.fullmatch("[A-Za-z0-9_-]+", text)
    assert read_cursor(text, place) == (place, at, newer)


@given(place=PLACES, other=PLACES, at=st.integers(0, 2**62 - 1))
def test_a_cursor_of_another_list_is_refused(place: str, other: str, at: int):
    if place != other:
        with pytest.raises(BadRequest) as caught:
            read_cursor(str(Cursor(place, at)), other)
        assert caught.value.code == "bad_cursor"


@given(text=st.text(max_size=60) | st.text(alphabet="ABCabc012_-=/+", max_size=60))
@example(text="")
@example(text="YzUvLTEvMA")  # before the beginning of time
@example(text="YzUvZmZmZmZmZmZmZmZmZmZmZi8w")  # after its end
def test_any_other_text_is_no_cursor(text: str):
    with pytest.raises(BadRequest) as caught:
        read_cursor(text, "c5")
    assert caught.value.code == "bad_cursor"
