"""For `postgres.py`: how soon listeners in other processes hear of a commit, and how many commits a second may tell.

Postgres has one lock for the whole server that every commit with a NOTIFY holds while it is written to disk. Our
writers take turns anyway, one schema's among themselves; what shares a server shares that lock.

As a program, `_notify.py URL CHANNEL COUNT`, it listens, and prints a line for each notification: space's position and
time.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

import psycopg

import _measure as measure
import relay
from agentchat_relay.store.postgres.connection import Link, connect, control
from agentchat_relay.store.postgres.engine import Postgres
from agentchat_relay.store.postgres.listener import Heard, Listener
from agentchat_relay.store.seam import Lane
from tests.postgres import Server, in_schema, new_schema

PROCESSES = 4  # at most, of listeners
SLOW_DISK = quote(" -c commit_delay=2000 -c commit_siblings=0")
ROWS = 64  # of a group
_INSERT = "INSERT INTO told (content) SELECT repeat('x', 250) FROM generate_series(1, {})"


class Extent(NamedTuple):
    listeners: tuple[int, ...] = (1, 4, 16)
    commits: int = 400
    rounds: int = 5
    seconds: float = 1.0


TINY = Extent(listeners=(1,), commits=5, rounds=1, seconds=0.1)


def measured(database: Server, extent: Extent) -> dict[str, Any]:
    return {
        "latency": {str(count): _latency(database, count, extent.commits) for count in extent.listeners},
        "rates": _rates(database, extent),
    }


# How soon


def _latency(database: Server, count: int, commits: int) -> dict[str, list[float]]:
    """In ms, from the COMMIT on its way: until its answer is there, and until each listener was told."""
    url = new_schema(database.url)
    store = Postgres(url, index_pause=60.0)
    processes = min(count, PROCESSES)
    command = [sys.executable, __file__, url, store._channel, str(count // processes)]
    pipe = subprocess.PIPE
    listening = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(processes)]
    try:
        lanes = relay.Lanes(store, relay.filled(store, 0))
        for process in listening:
            assert process.stdout is not None
            process.stdout.readline()  # it listens
        begun, answered = _commits(store, lanes, commits)
        time.sleep(0.5)
        told: dict[int, list[float]] = defaultdict(list)
        for process in listening:
            for line in process.communicate("\n")[0].splitlines():
                position, at = line.split()
                told[int(position)].append(float(at))
    finally:
        for process in listening:
            process.kill()
            process.communicate()
        store.close()
    return {
        "answered": [(answered[position] - at) * 1e3 for position, at in begun.items()],
        "told": [(late - at) * 1e3 for position, at in begun.items() for late in told[position]],
    }


def _commits(store: Postgres, lanes: relay.Lanes, commits: int) -> tuple[dict[int, float], dict[int, float]]:
    """When each commit went on its way and when it was answered, by the position that it tells."""
    transaction: Any = store._transaction
    begun: dict[int, float] = {}
    answered: dict[int, float] = {}
    commit = transaction.commit

    def timed() -> bool:
        transaction.flush()
        position = max(transaction._reached.values(), default=0)
        begun[position] = time.perf_counter()
        result: bool = commit()
        answered[position] = time.perf_counter()
        return result

    transaction.commit = timed
    for _ in range(commits):
        store.ask(Lane.APPEND, lanes.send())
        time.sleep(0.001)
    del transaction.commit
    return begun, answered


def listen(url: str, channel: str, count: int) -> None:
    found: list[tuple[int, float]] = []

    def told(news: Heard) -> None:
        at = time.perf_counter()
        if news.extent is None:  # which only looking brings
            found.extend((position, at) for position in news.positions.values())

    listeners = [Listener(Link(lambda: connect(url)), channel, told) for _ in range(count)]
    for listener in listeners:
        listener.start()
    time.sleep(0.5)
    print("ready", flush=True)
    sys.stdin.readline()
    for listener in listeners:
        listener.close()
    for position, at in found:
        print(position, at)


# How many


class Case(NamedTuple):
    """Writers that commit as fast as they can."""

    writers: int
    rows: int = ROWS
    places: str = "schema"  # one schema that they take turns in, or schemas or databases, one for each
    tells: bool = True
    is_slow: bool = False
    takes_turns: bool = True


CASES = {
    "1 writer": Case(1),
    "2 writers in turns": Case(2),
    "3 writers in turns": Case(3),
    "3 schemas": Case(3, places="schemas"),
    "3 schemas, silent": Case(3, places="schemas", tells=False),
    "3 databases": Case(3, places="databases"),
    "3 databases, silent": Case(3, places="databases", tells=False),
    "a row each, 16 writers": Case(16, rows=1, takes_turns=False),
    "a row each, 16 writers, silent": Case(16, rows=1, takes_turns=False, tells=False),
}
SLOW = {f"{name}, +2 ms": case._replace(is_slow=True) for name, case in CASES.items()}


def _rates(database: Server, extent: Extent) -> list[dict[str, dict[str, float]]]:
    import _postgres

    places = _places(database)
    cases = CASES | SLOW
    found = []
    for _ in range(extent.rounds):
        taken: dict[str, dict[str, float]] = {}
        for name, case in cases.items():
            before = _postgres.database_cpu(database.pid)
            commits, seconds = _race(places, case, extent.seconds)
            spent = _postgres.database_cpu(database.pid) - before
            taken[name] = {"commits": commits / seconds, "cpu": spent / max(commits, 1) * 1e6}
        found.append(taken)
    return found


def _places(database: Server) -> dict[str, list[str]]:
    """Three schemas of one database, and three databases."""
    urls = []
    with psycopg.connect(database.url, autocommit=True) as connection:
        for number in range(3):
            connection.execute(f"CREATE DATABASE bench_{number}")
            urls.append(f"{database.url.rpartition('/')[0]}/bench_{number}")
    places = {
        "databases": [in_schema(url, "public") for url in urls],
        "schemas": [new_schema(database.url) for _ in urls],
    }
    for url in (*places["databases"], *places["schemas"]):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE told (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content TEXT)")
    return places | {"schema": places["schemas"][:1]}


def _race(places: dict[str, list[str]], case: Case, seconds: float) -> tuple[int, float]:
    """How many commits there were in how many seconds, with a listener in each place."""
    urls = places[case.places]
    counts = [0] * case.writers
    over = threading.Event()
    start = threading.Barrier(case.writers + 1)

    def write(number: int) -> None:
        place = number % len(urls)
        with connect(urls[place] + (SLOW_DISK if case.is_slow else "")) as connection:
            parts = ["BEGIN", _INSERT.format(case.rows), "COMMIT"]
            if case.takes_turns:
                parts.insert(1, f"SELECT pg_advisory_xact_lock({place + 1})")
            if case.tells:
                parts.insert(-1, f"SELECT pg_notify('bench_{place}', 'x')")
            sql = ";".join(parts)
            control(connection, sql)
            start.wait()
            while not over.is_set():
                control(connection, sql)
                counts[number] += 1

    with ExitStack() as stack:
        for place, url in enumerate(urls):
            stack.enter_context(_listening(url, f"bench_{place}"))
        threads = [threading.Thread(target=write, args=(number,)) for number in range(case.writers)]
        for thread in threads:
            thread.start()
        start.wait()
        began, before = time.perf_counter(), sum(counts)
        time.sleep(seconds)
        done, spent = sum(counts) - before, time.perf_counter() - began
        over.set()
        for thread in threads:
            thread.join()
    return done, spent


@contextmanager
def _listening(url: str, channel: str) -> Iterator[None]:
    over = threading.Event()
    with connect(url) as connection:
        control(connection, f"LISTEN {channel}")

        def read() -> None:
            while not over.is_set():
                for _ in connection.notifies(timeout=0.05):
                    pass

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


# What is told


def percentiles(times: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98]


def told(result: dict[str, Any]) -> None:
    rows: list[tuple[str, ...]] = [("a commit on its way, ms", "answered p50", "p99", "told p50", "p99")]
    for count, found in result["latency"].items():
        figures = (f"{value:.2f}" for name in ("answered", "told") for value in percentiles(found[name]))
        rows.append((f"{count} listeners", *figures))
    measure.table(rows)
    print()
    rounds = result["rates"]
    rows = [("commits/s", "this disk", "+2 ms", "us of database CPU per commit")]
    for name in CASES:
        slow = f"{name}, +2 ms"
        columns = (_shown(rounds, name, "commits"), _shown(rounds, slow, "commits"), _shown(rounds, name, "cpu"))
        rows.append((name, *columns))
    measure.table(rows)
    print(f"Groups of {ROWS} rows unless it says otherwise; silent: without NOTIFY.", end="\n\n")


def _shown(rounds: list[dict[str, Any]], name: str, figure: str) -> str:
    return relay.shown(rounds, name, figure)


if __name__ == "__main__":
    listen(sys.argv[1], sys.argv[2], int(sys.argv[3]))
