"""What must hold when keys are revoked, signals come, disks fill and starts fail: for those calls, and afterwards."""

from __future__ import annotations

import gc
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client
from agentchat.errors import AgentChatError, Conflict, StorageFull, Unauthorized
from agentchat_relay import chores
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration, upkeep
from agentchat_relay.store.seam import Lane
from agentchat_relay.store.sqlite.engine import Sqlite
from tests.relay.conftest import UNLIMITED, until

DEADLINE = 60.0


class Faults:
    """Which statements of which thread fail, how often yet, and how."""

    def __init__(self) -> None:
        self._planned: list[tuple[str, str, Exception]] = []
        self._left: Counter[tuple[str, str]] = Counter()
        self.met: Counter[str] = Counter()

    def plan(self, thread: str, beginning: str, error: Exception, times: int = 1 << 30) -> None:
        self._left[thread, beginning] = times
        self._planned.append((thread, beginning, error))

    def clear(self) -> None:
        self._planned.clear()
        self._left.clear()

    def meet(self, sql: str) -> None:
        for thread, beginning, error in list(self._planned):
            mine = threading.current_thread().name == thread and sql.lstrip().startswith(beginning)
            if mine and self._left[thread, beginning] > 0:
                self._left[thread, beginning] -= 1
                self.met[beginning] += 1
                raise error

    def connect(self, path: str) -> sqlite3.Connection:
        faults = self

        class Faulty(sqlite3.Connection):
            def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
                faults.meet(sql)
                return super().execute(sql, *values)

        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30, factory=Faulty)
        connection.row_factory = sqlite3.Row
        return connection


FULL = sqlite3.OperationalError("database or disk is full")
BROKEN_DISK = sqlite3.OperationalError("disk I/O error")
MALFORMED = sqlite3.DatabaseError("database disk image is malformed")


# Keys


class HeldLookup:
    """Holds back the outcome of the first READ that is submitted, until it is let go."""

    def __init__(self, relay: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
        assert relay.relay is not None
        self.came, self._going = threading.Event(), threading.Event()
        self._store, self._loop, self._first = relay.relay.store, relay._loop, True
        self._submit = self._store.submit
        monkeypatch.setattr(self._store, "submit", self.submit)

    def submit(self, lane: Lane, call: Any, done: Any) -> None:
        if lane == Lane.READ and self._first:
            self._first = False
            self._submit(lane, call, lambda *outcome: self._hold(done, outcome))
        else:
            self._submit(lane, call, done)

    def _hold(self, done: Any, outcome: tuple[Any, Any]) -> None:
        def later() -> None:
            self._going.wait(DEADLINE)
            self._loop.call_soon_threadsafe(done, *outcome)

        threading.Thread(target=later).start()
        self.came.set()

    def let_go(self) -> None:
        self._going.set()


@pytest.mark.parametrize("how", ["deactivated", "a new key"])
@pytest.mark.parametrize("others_call", [True, False])
def test_a_key_revoked_during_its_first_lookup_stays_revoked(
    how: str, others_call: bool, monkeypatch: pytest.MonkeyPatch
):
    with running(settings=UNLIMITED) as relay:
        old, other = relay.token("victim"), relay.token("other")
        with Client(relay.url, old, retries=0) as victim, Client(relay.url, other, retries=0) as others:
            others.check_board()
            held = HeldLookup(relay, monkeypatch)
            told: list[Any] = []
            overlapping = threading.Thread(target=lambda: told.append(outcome_of(victim.check_board)))
            overlapping.start()
            assert held.came.wait(DEADLINE)
            if how == "deactivated":
                relay.ask(lambda tx: administration.agent_deactivate(tx, name="victim"))
            else:
                assert relay.token("victim") != old
            if others_call:  # which is when a relay learns that keys changed
                others.check_board()
            held.let_go()
            overlapping.join(DEADLINE)
            assert len(told) == 1
            for _ in range(3):
                with pytest.raises(Unauthorized):
                    victim.check_board()
                others.check_board()
            with pytest.raises(Unauthorized):
                victim.send_message("general", "still here")


def outcome_of(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except AgentChatError as error:
        return error


# Signals


@contextmanager
def served(path: Path, *before: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [*before, sys.executable, "-m", "agentchat", "serve", "--data", str(path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"ready on (http://\S+),", process.stdout.readline())
            assert found is not None
            yield process, found[1]
        finally:
            process.kill()
            process.communicate()


def ends(process: subprocess.Popen[str], seconds: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None


def reached(url: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    with suppress(OSError), closing(socket.create_connection((host, int(port)), 5)):
        return True
    return False


@pytest.mark.sqlite
def test_a_relay_that_was_told_to_ignore_hangups_does(tmp_path: Path):
    with served(tmp_path / "relay", "sh", "-c", 'trap "" HUP; exec "$@"', "sh") as (process, url):
        process.send_signal(signal.SIGHUP)
        assert not ends(process, 1.0)  # the other ends sooner, see below
        assert reached(url)
        process.terminate()
        assert ends(process, DEADLINE)
        assert process.returncode == 0


@pytest.mark.sqlite
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_relay_cleanly(tmp_path: Path, number: signal.Signals):
    with served(tmp_path / "relay") as (process, url):
        process.send_signal(number)
        assert ends(process, DEADLINE)
        assert process.returncode == 0
        assert not reached(url)
    assert not (tmp_path / "relay" / "agentchat.db-wal").exists()  # the store was closed
    with running(str(tmp_path / "relay")):
        pass


# Upkeep


@pytest.mark.sqlite
def test_sweeping_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    faults, swept = Faults(), threading.Semaphore(0)
    sweep = upkeep.sweep

    def counting(tx: Any, at: int) -> int:
        found = sweep(tx, at)
        swept.release()
        return found

    monkeypatch.setattr(chores, "_BETWEEN", 0.01)
    monkeypatch.setattr(chores, "_AT_FIRST", 0.0)
    monkeypatch.setattr(upkeep, "sweep", counting)
    with running(connect=faults.connect) as relay:
        assert swept.acquire(timeout=DEADLINE)
        for error in (FULL, BROKEN_DISK):
            faults.plan("agentchat-writer", "DELETE FROM nonces", error, times=2)
            until(lambda: faults.met["DELETE FROM nonces"] >= 2)
            faults.clear()
            while swept.acquire(blocking=False):
                pass
            for _ in range(3):
                assert swept.acquire(timeout=DEADLINE)
            faults.met.clear()
        with Client(relay.url, relay.token("ann")) as client:
            client.send_message("general", "it serves, too")
    assert "The chore sweep failed" in caplog.text


# The search index


def contents(client: Client, word: str) -> list[str]:
    return sorted(hit["content"] for hit in client.search_messages(word)["results"])


@pytest.mark.sqlite
@pytest.mark.parametrize("breaks", ["searching", "indexing"])
def test_an_index_that_breaks_while_the_disk_is_full_answers_and_heals(breaks: str):
    faults, thread = Faults(), "agentchat-search"
    with running(settings=UNLIMITED, connect=faults.connect) as relay, Client(
        relay.url, relay.token("ann"), retries=0, timeout=10
    ) as client:  # fmt: skip
        client.send_message("general", "walrus one")
        assert contents(client, "walrus") == ["walrus one"]
        faults.plan(thread, "PRAGMA journal_mode", FULL)
        faults.plan(thread, "SELECT m.id" if breaks == "searching" else "INSERT INTO fulltext", MALFORMED)
        for number in range(4):
            client.send_message("general", f"walrus more {number}")
            with pytest.raises(AgentChatError) as caught:
                client.search_messages("walrus")
            assert caught.value.status in (500, 503, 507), "an answer of the relay's, in time"
            assert client.read_messages("general", limit=1)["messages"][0]["content"] == f"walrus more {number}"
        assert faults.met["PRAGMA journal_mode"] >= 1
        faults.clear()
        client.send_message("general", "walrus last")
        expected = sorted(["walrus one", "walrus last", *(f"walrus more {number}" for number in range(4))])
        assert healed(client) == expected


def healed(client: Client) -> list[str]:
    """What is found once searching works: whoever was told to try again may have to, but not often."""
    for _ in range(5):
        with suppress(AgentChatError):
            return contents(client, "walrus")
    return contents(client, "walrus")


# Starts that fail


class Held:
    """The threads and descriptors of this process."""

    def __init__(self) -> None:
        gc.collect()
        self.threads = {thread.name for thread in threading.enumerate() if thread.name.startswith("agentchat")}
        self.files = len(os.listdir("/dev/fd"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and (self.threads, self.files) == (other.threads, other.files)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{sorted(self.threads)}, {self.files} files"


def test_a_port_that_is_taken_leaves_the_directory_free(tmp_path: Path):
    path = str(tmp_path / "relay")
    with running(path):  # what is opened only once in a process is open
        pass
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before = Held()
        for _ in range(3):
            with pytest.raises(Conflict, match="Cannot listen"), running(path, port=taken.getsockname()[1]):
                pass
        assert Held() == before
    with running(path) as relay, Client(relay.url, relay.token("ann")) as client:
        client.check_board()


@pytest.mark.parametrize("spoilt", ["blobs", pytest.param("agentchat.db", marks=pytest.mark.sqlite), "link.key"])
def test_a_start_that_fails_keeps_no_thread_and_no_file(tmp_path: Path, spoilt: str):
    with running():
        pass
    path = tmp_path / "relay"
    path.mkdir(mode=0o700)
    (path / spoilt).write_bytes(b"\xff" * 8192 if spoilt == "agentchat.db" else b"\xff")
    (path / spoilt).chmod(0o600)
    before = Held()
    for _ in range(3):
        with pytest.raises(AgentChatError), running(str(path)):
            pass
    assert Held() == before
    (path / spoilt).unlink()
    with running(str(path)) as relay, Client(relay.url, relay.token("ann")) as client:
        client.check_board()
    assert Held() == before


# Rolling back


class Asked:
    """The outcomes of calls that a lane takes as one group, once it is let `go`."""

    def __init__(self, store: Sqlite, lane: Lane, calls: list[Callable[[Any], Any]]) -> None:
        self.outcomes: dict[int, tuple[Any, BaseException | None]] = {}
        self._told = threading.Semaphore(0)
        held, going = threading.Event(), threading.Event()

        def hold(tx: Any) -> None:
            held.set()
            going.wait(DEADLINE)

        store.submit(lane, hold, lambda result, error: None)
        assert held.wait(DEADLINE)
        for number, call in enumerate(calls):
            store.submit(lane, call, self._done(number))
        self.go = going.set
        self._calls = len(calls)

    def _done(self, number: int) -> Callable[[Any, BaseException | None], None]:
        def done(result: Any, error: BaseException | None) -> None:
            assert number not in self.outcomes
            self.outcomes[number] = (result, error)
            self._told.release()

        return done

    def wait(self) -> None:
        for _ in range(self._calls):
            assert self._told.acquire(timeout=DEADLINE), f"outcomes of {sorted(self.outcomes)} only"


@contextmanager
def faulty_store(path: Path) -> Iterator[tuple[Sqlite, Faults]]:
    faults = Faults()
    store = Sqlite(path, connect=faults.connect)
    try:
        store.ask(Lane.WRITE, upkeep.seed)
        yield store, faults
    finally:
        faults.clear()
        store.close()


def add_space(number: int) -> Callable[[Any], Any]:
    return lambda tx: administration.space_add(tx, name=f"space-{number}")


def spaces(store: Sqlite) -> set[str]:
    found = store.ask(Lane.READ, administration.space_list)["spaces"]
    return {row["name"] for row in found} - {"main"}


@pytest.mark.sqlite
@pytest.mark.parametrize("commits", [1, 3])
@pytest.mark.parametrize("rollbacks", [1, 2, 5])
def test_a_rollback_that_fails_takes_no_outcome_with_it(tmp_path: Path, commits: int, rollbacks: int):
    with faulty_store(tmp_path) as (store, faults):
        asked = Asked(store, Lane.WRITE, [add_space(number) for number in range(8)])
        faults.plan("agentchat-writer", "COMMIT", FULL, times=commits + 1)  # one is of the call that held the writer
        faults.plan("agentchat-writer", "ROLLBACK", BROKEN_DISK, times=rollbacks)
        asked.go()
        asked.wait()
        assert faults.met["ROLLBACK"] == rollbacks
        done = {f"space-{number}" for number, (_, error) in asked.outcomes.items() if error is None}
        assert spaces(store) == done  # what was told is what is stored
        assert done, "those that came after the fault were done"
        refused = [error for _, error in asked.outcomes.values() if error is not None]
        assert all(isinstance(error, Exception) for error in refused)
        faults.clear()
        store.ask(Lane.WRITE, add_space(99))
        assert spaces(store) == done | {"space-99"}


@pytest.mark.sqlite
def test_one_rollback_that_fails_costs_one_call_at_most(tmp_path: Path):
    with faulty_store(tmp_path) as (store, faults):

        def broken(tx: Any) -> None:
            administration.space_add(tx, name="of the broken one")
            faults.plan("agentchat-writer", "ROLLBACK", BROKEN_DISK, times=1)
            raise StorageFull("this one")

        asked = Asked(store, Lane.APPEND, [add_space(0), add_space(1), broken, add_space(3), add_space(4)])
        asked.go()
        asked.wait()
        failed = {number for number, (_, error) in asked.outcomes.items() if error is not None}
        assert 2 in failed
        assert len(failed) <= 3  # itself, and whoever came upon the transaction that was left open: twice at most
        assert spaces(store) == {f"space-{number}" for number in asked.outcomes if number not in failed}


@pytest.mark.sqlite
def test_a_reader_whose_rollback_fails_loses_no_outcome(tmp_path: Path):
    with faulty_store(tmp_path) as (store, faults):
        asked = Asked(store, Lane.READ, [administration.space_list for _ in range(5)])
        faults.plan("agentchat-reader", "ROLLBACK", BROKEN_DISK, times=2)
        asked.go()
        asked.wait()
        assert all(error is None for _, error in asked.outcomes.values())
        assert faults.met["ROLLBACK"] == 2
        store.ask(Lane.WRITE, add_space(1))
        assert spaces(store) == {"space-1"}  # not an old snapshot
