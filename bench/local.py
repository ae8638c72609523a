"""Local mode against bare SQLite transactions of the same rows: sends and claims a second, and a first message.

    python bench/local.py [--tiny] [--json]

One to sixteen processes share a directory and send, or claim and acknowledge in one call, as fast as they can, one call
at a time each. The bare ones do in `sqlite3` what ends up on disk for that: the rows, the counters, synchronous=FULL, a
turn by the same lock; and with SQLite's own waiting instead ("unfair"). All take turns, round by round. Fairness is the
share of the slowest process in what the fastest did. The cold case is a process that imports and sends one message,
against an interpreter that does nothing, by the clock.
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import _measure as measure
from agentchat import Client
from agentchat_relay.local import LocalTransport
from agentchat_relay.store.sqlite.neighbours import Turn

ROOT = Path(__file__).resolve().parent.parent
TEXT = "a message of a usual length, " * 4
KINDS = ("local", "bare", "unfair")


class Sizes(NamedTuple):
    rounds: int = 5
    seconds: float = 2.0
    processes: tuple[int, ...] = (1, 2, 4, 8, 16)
    cold: int = 10


FULL, TINY = Sizes(), Sizes(rounds=1, seconds=0.2, processes=(1, 2), cold=1)


# What one process does


def local(path: str, me: int) -> Iterator[Any]:
    """First a function that sends, then one that claims."""
    url = f"local:{path}"
    with Client(url, agent=f"mac-{me}x-inbox", transport=LocalTransport(url)) as inbox:
        inbox.check_board()
    with Client(url, agent=f"mac-{me}x", transport=LocalTransport(url)) as client:
        yield lambda: client.send_direct_message(f"mac-{me}x-inbox", TEXT)
    with Client(url, agent=f"mac-{me}x-inbox", transport=LocalTransport(url)) as inbox:
        yield lambda: inbox.claim_items(limit=1, acknowledge=True)


SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE channels (id INTEGER PRIMARY KEY, number INTEGER, at INTEGER);
CREATE TABLE spaces (id INTEGER PRIMARY KEY, position INTEGER);
CREATE TABLE messages (id INTEGER PRIMARY KEY, public_id TEXT UNIQUE, channel INTEGER, author INTEGER,
    recipient INTEGER, content TEXT, number INTEGER, at INTEGER, key TEXT, digest BLOB);
CREATE UNIQUE INDEX keys ON messages (author, key);
CREATE INDEX places ON messages (channel, at);
CREATE TABLE inbox (id INTEGER PRIMARY KEY, public_id TEXT UNIQUE, agent INTEGER, message INTEGER, done INTEGER,
    claim TEXT, lease INTEGER, deliveries INTEGER);
CREATE INDEX waiting ON inbox (agent, id) WHERE done IS NULL;
CREATE TABLE events (space INTEGER, position INTEGER, kind TEXT, actor INTEGER, subject TEXT, audience INTEGER,
    at INTEGER, hash BLOB, PRIMARY KEY (space, position)) WITHOUT ROWID;
CREATE TABLE answers (id INTEGER PRIMARY KEY, agent INTEGER, key TEXT, digest BLOB, answer TEXT, at INTEGER);
CREATE UNIQUE INDEX repeats ON answers (agent, key);
INSERT INTO channels VALUES (1, 0, 0);
INSERT INTO spaces VALUES (1, 0);
"""


def bare(path: str, me: int, *, fair: bool = True) -> Iterator[Any]:
    turn = Turn(path) if fair else nullcontext()
    with closing(sqlite3.connect(f"{path}/bare.db", isolation_level=None, timeout=60)) as database:
        database.execute("PRAGMA synchronous = FULL")
        run = database.execute

        def event(kind: str, subject: str, at: int) -> None:
            (position,) = run("UPDATE spaces SET position = position + 1 RETURNING position").fetchone()
            run("INSERT INTO events VALUES (1, ?, ?, ?, ?, ?, ?, ?)", (position, kind, me, subject, me, at, bytes(16)))

        @contextmanager
        def transaction() -> Iterator[int]:
            with turn:
                run("BEGIN IMMEDIATE")
                yield time.time_ns() // 1000
                run("COMMIT")

        def send() -> None:
            with transaction() as at:
                id, item, key = os.urandom(16).hex(), os.urandom(16).hex(), os.urandom(16).hex()
                run("SELECT id FROM messages WHERE author = ? AND key = ?", (me, key)).fetchone()
                (number,) = run("UPDATE channels SET number = number + 1, at = ? RETURNING number", (at,)).fetchone()
                row = run(
                    "INSERT INTO messages VALUES (NULL, ?, 1, ?, ?, ?, ?, ?, ?, ?)",
                    (id, me, me, TEXT, number, at, key, bytes(16)),
                ).lastrowid
                run("INSERT INTO inbox VALUES (NULL, ?, ?, ?, NULL, NULL, NULL, 0)", (item, me, row))
                event("message.created", id, at)
                event("inbox.added", item, at)

        def claim() -> None:
            with transaction() as at:
                key, claim_id = os.urandom(16).hex(), os.urandom(16).hex()
                run("SELECT answer FROM answers WHERE agent = ? AND key = ?", (me, key)).fetchone()
                row = run(
                    "SELECT i.id, i.public_id, m.content FROM inbox i JOIN messages m ON m.id = i.message "
                    "WHERE i.agent = ? AND i.done IS NULL ORDER BY i.id LIMIT 1", (me,),
                ).fetchone()  # fmt: skip
                if row is not None:
                    run("UPDATE inbox SET claim = ?, deliveries = 1, done = ? WHERE id = ?", (claim_id, at, row[0]))
                    event("inbox.acknowledged", row[1], at)
                run("INSERT INTO answers VALUES (NULL, ?, ?, ?, ?, ?)", (me, key, bytes(16), claim_id, at))

        yield send
        yield claim


def work(kind: str, path: str, me: int) -> None:
    """Told by lines: how many seconds; it answers with how often. Each line is the next thing to do."""
    for act in {"local": local, "bare": bare}[kind](path, me) if kind != "unfair" else bare(path, me, fair=False):
        act()
        print("ready", flush=True)
        until = time.monotonic() + float(sys.stdin.readline())
        done = 0
        while time.monotonic() < until:
            act()
            done += 1
        print(done, flush=True)


# What is measured of them


def played(kind: str, count: int, seconds: float) -> dict[str, dict[str, float]]:
    """A second's sends and claims of all together, and how even."""
    with tempfile.TemporaryDirectory(prefix="agentchat-bench-") as path:
        if kind != "local":
            with closing(sqlite3.connect(f"{path}/bare.db")) as database:
                database.executescript(SCHEMA)
        command = [sys.executable, __file__, kind, path]
        workers = [
            subprocess.Popen(
                [*command, str(me)], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for me in range(count)
        ]
        found = {act: _phase(workers, span) for act, span in (("send", seconds), ("claim", seconds / 2))}
        for worker in workers:
            worker.communicate()
            if worker.returncode:
                raise SystemExit("a process failed; its reason stands above")
    return found


def _phase(workers: list[subprocess.Popen[str]], seconds: float) -> dict[str, float]:
    for worker in workers:
        assert worker.stdout is not None
        if worker.stdout.readline() != "ready\n":
            raise SystemExit("a process failed; its reason stands above")
    for worker in workers:
        print(seconds, file=worker.stdin, flush=True)
    counts = [int(worker.stdout.readline()) for worker in workers if worker.stdout]
    return {"per second": sum(counts) / seconds, "fairness": min(counts) / max(*counts, 1)}


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "executor"), str(ROOT / "bench")])
    return {**os.environ, "PYTHONPATH": path}


COLD = """
from agentchat import Client
from agentchat_relay.local import LocalTransport
with Client({url!r}, agent="mac-cold", transport=LocalTransport({url!r})) as client:
    client.send_message("general", "hello")
"""


def cold(count: int) -> dict[str, list[float]]:
    """Milliseconds by the clock of whole processes."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="agentchat-bench-") as path:
        for turn in range(count + 1):
            cases = {
                "nothing": "pass",
                "import agentchat": "import agentchat; agentchat.Client",
                "a message": COLD.format(url=f"local:{path}/old"),
                "a message in a new directory": COLD.format(url=f"local:{path}/new{turn}"),
            }
            for name, code in cases.items():
                began = time.perf_counter()
                subprocess.run([sys.executable, "-c", code], env=environment(), check=True)
                if turn:  # the first one writes bytecode, and makes the old directory
                    found.setdefault(name, []).append((time.perf_counter() - began) * 1e3)
    return found


def main() -> None:
    options = measure.options(__doc__ or "")
    sizes = TINY if options.tiny else FULL
    rounds: list[dict[int, dict[str, Any]]] = []
    for turn in range(sizes.rounds):
        measure._progress(turn + 1, sizes.rounds)
        rounds.append(
            {count: {kind: played(kind, count, sizes.seconds) for kind in KINDS} for count in sizes.processes}
        )
    starts = cold(sizes.cold)
    ratios = {
        f"{act}, {count} processes: local / bare": [
            found[count]["local"][act]["per second"] / found[count]["bare"][act]["per second"] for found in rounds
        ]
        for act in ("send", "claim")
        for count in sizes.processes
    }
    first = [mine / none for mine, none in zip(starts["a message"], starts["nothing"], strict=True)]
    ratios["cold process with a message / one that does nothing"] = first
    if options.json:
        measure.printed({
            "ratios": {name: measure.summary(values) for name, values in ratios.items()},
            "ms of cold processes": {name: statistics.median(values) for name, values in starts.items()},
            "rounds": json.loads(json.dumps(rounds)),
        })  # fmt: skip
        return
    measure.table(
        [("ratio", "median (middle half)"), *((name, measure.spread(values)) for name, values in ratios.items())]
    )
    print()
    rows = [("processes", "act", *(f"{kind} a second" for kind in KINDS), *(f"{kind} fairness" for kind in KINDS))]
    for count in sizes.processes:
        for act in ("send", "claim"):
            figures = [
                measure.spread([found[count][kind][act][figure] for found in rounds])
                for figure in ("per second", "fairness") for kind in KINDS
            ]  # fmt: skip
            rows.append((str(count), act, *figures))
    measure.table(rows)
    print()
    measure.table([("cold process", "ms"), *((name, measure.spread(values)) for name, values in starts.items())])


if __name__ == "__main__":
    if len(sys.argv) == 4:
        work(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        main()
