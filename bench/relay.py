"""What a relay does in a second, against what the parts it stands on could do: every row is a ratio in one run.

    python bench/relay.py [--tiny] [--json] [--only noop|sends|floor|disk|mixed|upkeep|reads]

The cells (one server under one load) take turns, round by round, so that a busy neighbour slows all. Server and load
generator are processes of their own, on one core each ("unpinned": wherever the kernel puts them). "By CPU" is the
same ratio of CPU alone, which holds while others use the cores; how much they used is told, and so is a control: a bare
SQLite writer that no change of ours touches. Linux only, for it reads /proc. Data goes to TMPDIR, which should be a
real disk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import _load
import _measure as measure
from agentchat._exchange import new_idempotency_key
from agentchat.errors import Unavailable
from agentchat_relay.directory import Directory
from agentchat_relay.http.reply import enveloped
from agentchat_relay.service import administration, agents, board, channels, messages, pages, upkeep
from agentchat_relay.service.call import Agent, Call
from agentchat_relay.store.seam import Lane, Store
from agentchat_relay.store.sqlite.engine import Sqlite


class Sizes(NamedTuple):
    rounds: int = 7
    seconds: float = 1.4
    warm_up: float = 0.3
    seeded: int = 20_000  # messages that are there before
    groups: int = 60  # of sends, for the CPU of the writer
    reads: int = 400


TINY = Sizes(rounds=1, seconds=0.15, warm_up=0.05, seeded=3_000, groups=5, reads=20)
AGENTS, CHANNELS, BOARD, GROUP = 100, 50, 200, 64
CONNECTIONS = (1, 16, 64, 256)
CORES = sorted(os.sched_getaffinity(0))
FIRST, SECOND = CORES[:1], CORES[-1:]
MOST_GENERATOR, MOST_OTHERS = 0.85, 0.1  # cores
HERE = Path(__file__).parent
Round = dict[str, Any]  # figures by cell


class Cell(NamedTuple):
    """A server under a load."""

    server: str
    connections: int = 64
    mixed: bool = False
    pinned: bool = True


HTTP: dict[str, Cell] = {
    "raw @64": Cell("raw"),
    "no-op @64": Cell("no-op"),
    "sends @64": Cell("relay"),
    "mixed @64": Cell("relay", mixed=True),
    "no-op @64 unpinned": Cell("no-op", pinned=False),
    "sends @64 unpinned": Cell("relay", pinned=False),
    "sends @64, all purged": Cell("purging"),
    # A pair that sees nothing else, so that their databases grow alike.
    "FULL @64": Cell("full"),
    "NORMAL @64": Cell("normal"),
    "no-op @1": Cell("no-op", 1),
    "sends @1": Cell("relay", 1),
    "no-op @16": Cell("no-op", 16),
    "sends @16": Cell("relay", 16),
    "no-op @256": Cell("no-op", 256),
    "sends @256": Cell("relay", 256),
}
VARIANT = {"full": "relay"}  # other servers are called what they are
CPU = ("writer", "page of 50", "board of 200", "control")


class Row(NamedTuple):
    """A ratio of wall-clock figures and, where there is one, the same by CPU alone: what it would be if the server
    were never kept waiting. Trust the latter while others use the cores."""

    group: str
    name: str
    goal: str
    needs: tuple[str, ...]
    value: Callable[[Round], float]
    by_cpu: Callable[[Round], float] | None = None


def quotient(mine: str, base: str, figure: str, group: str, name: str = "", goal: str = "") -> Row:
    """One figure of two cells."""
    name = name or f"{mine} / {base}"
    return Row(group, name, goal, (mine, base), lambda found: found[mine][figure] / found[base][figure])


def rates(mine: str, base: str, group: str, goal: str = "") -> Row:
    row = quotient(mine, base, "rate", group, goal=goal)
    return row._replace(by_cpu=lambda found: found[base]["cpu"] / found[mine]["cpu"])


def tail(cell: str, goal: str = "") -> Row:
    return Row("sends", f"{cell}: p99 / p50", goal, (cell,), lambda found: found[cell]["p99"] / found[cell]["p50"])


def floor(found: Round) -> float:
    """CPU of a send that costs no more than a no-op and the writer's part."""
    return float(found["no-op @64"]["cpu"] + found["writer"]["cpu"])


ROWS = [
    rates("no-op @64", "raw @64", "noop", ">= 0.85"),
    *(rates(f"sends @{n}", f"no-op @{n}", "sends", ">= 0.42" if n == 64 else "") for n in CONNECTIONS),
    rates("sends @64 unpinned", "no-op @64 unpinned", "sends", ">= 0.35"),
    tail("sends @64", "<= 2.5"),
    tail("sends @64 unpinned"),
    Row(
        "floor", "sends @64 / additive floor", ">= 0.85", ("sends @64", "no-op @64", "writer"),
        lambda found: found["sends @64"]["rate"] * floor(found) / 1e6,
        lambda found: floor(found) / found["sends @64"]["cpu"],
    ),
    rates("FULL @64", "NORMAL @64", "disk", ">= 0.9"),
    quotient("mixed @64", "sends @64", "p50", "mixed", "80 % reads: p50 of sends / sends only", "<= 1"),
    rates("sends @64, all purged", "sends @64", "upkeep"),
    quotient("sends @64, all purged", "sends @64", "p50", "upkeep", "while all is purged: p50 of sends / without"),
    quotient("sends @64, all purged", "sends @64", "p99", "upkeep", "while all is purged: p99 of sends / without"),
    Row("reads", "page of 50: us of CPU", "<= 60", ("page of 50",), lambda found: found["page of 50"]["cpu"]),
    quotient("page of 50", "control", "cpu", "reads"),
    quotient("board of 200", "control", "cpu", "reads"),
]  # fmt: skip


# What everybody works on


def seed(path: str, sizes: Sizes) -> _load.People:
    """A directory with agents, channels and messages, with everything indexed."""
    directory = Directory(path)
    directory.hold("a bench")
    store = Sqlite(path)
    try:
        return filled(store, sizes.seeded)
    finally:
        store.close()
        directory.release()


def filled(store: Store, seeded: int) -> _load.People:
    store.ask(Lane.WRITE, upkeep.seed)
    names = [f"bench-{number}" for number in range(AGENTS)]
    keys = {name: str(store.ask(Lane.WRITE, token(name))["key"]) for name in names}
    people: _load.People = {"keys": keys, "channels": [f"project-{number}" for number in range(CHANNELS)]}
    store.ask(Lane.WRITE, lambda tx: make_channels(tx, agent_of(tx, keys[names[0]])))
    lanes = Lanes(store, people)
    if seeded >= GROUP:
        lanes.cpu(Lane.APPEND, lanes.send, groups=seeded // GROUP)
    indexed(store)
    return people


def indexed(store: Store) -> None:
    """Wait until the index has everything."""
    while True:
        try:
            return store.ask(Lane.SEARCH, lambda tx: None)
        except Unavailable as late:
            time.sleep(late.retry_after or 1)


def token(name: str) -> Callable[[Any], Any]:
    return lambda tx: administration.agent_token(tx, name=name)


def agent_of(tx: Any, key: str) -> Agent:
    found = agents.with_key(tx, hashlib.sha256(key.encode()).hexdigest())
    assert found is not None
    return found[0]


def make_channels(tx: Any, reader: Agent) -> None:
    """All channels, with the first agent in each of them. Posting will make the others join."""
    for number in range(BOARD):
        made = channels.create(tx, reader.space_id, f"project-{number}", by=None)
        channels.join(tx, reader.id, made)


# CPU of the store's lanes, without HTTP


class Asked:
    """A call whose key is known beforehand, as that of a request."""

    def __init__(self, call: Call, run: Callable[[Any], Any]) -> None:
        self.key = None if call.key is None else (call.key, call.agent.id)
        self._run = run

    def __call__(self, tx: Any) -> Any:
        return self._run(tx)


class Lanes:
    """Calls in groups of a certain size, and what they cost the lane's thread."""

    def __init__(self, store: Store, people: _load.People, *, keyed: bool = True) -> None:
        self._store, self._keyed = store, keyed
        self._agents: list[Agent] = store.ask(
            Lane.READ, lambda tx: [agent_of(tx, key) for key in people["keys"].values()]
        )
        self._texts = _load.texts(list(people["keys"]))
        self._channels = people["channels"]
        self._count = 0

    def send(self) -> Callable[[Any], Any]:
        self._count += 1
        count = self._count
        agent = self._agents[count * 7 % AGENTS]
        call = Call(agent, new_idempotency_key(), os.urandom(16)) if self._keyed else Call(agent)
        channel, content = self._channels[count * 11 % CHANNELS], self._texts[count % len(self._texts)]
        return Asked(
            call,
            lambda tx: messages.send_message(tx, call, channel=channel, content=content, metadata={"project": "bench"}),
        )

    def page(self) -> Callable[[Any], Any]:
        self._count += 1
        channel = self._channels[self._count % CHANNELS]
        call = Call(self._agents[0])
        return lambda tx: enveloped(pages.read_messages(tx, call, channel=channel, limit=50))

    def board(self) -> Callable[[Any], Any]:
        call = Call(self._agents[0])
        return lambda tx: enveloped(board.check_board(tx, call))

    def cpu(
        self, lane: Lane, make: Callable[[], Callable[[Any], Any]], *, groups: int, size: int = GROUP
    ) -> dict[str, float]:
        """CPU in us per call. The last call of a group submits the next one, on the lane's own thread, so that the
        lane always finds a whole group; what the submitting costs is taken off."""
        over = threading.Event()
        failures: list[BaseException] = []
        left, waiting, feeding, began, spent = groups, 0, 0.0, 0.0, 0.0

        def feed() -> None:
            nonlocal waiting, feeding, left
            before = time.thread_time()
            left -= 1
            waiting = size
            for _ in range(size):
                self._store.submit(lane, make(), done)
            feeding += time.thread_time() - before

        def first(result: Any, error: BaseException | None) -> None:
            nonlocal began
            began = time.thread_time()
            feed()

        def done(result: Any, error: BaseException | None) -> None:
            nonlocal waiting, spent
            waiting -= 1
            if error is not None:
                failures.append(error)
            if not waiting and left and not failures:
                feed()
            elif not waiting:
                spent = time.thread_time() - began - feeding
                over.set()

        self._store.submit(lane, lambda tx: None, first)
        over.wait()
        if failures:
            raise failures[0]
        return {"cpu": spent / (groups * size) * 1e6}


class Control:
    """A bare SQLite writer: rows in groups, each group on disk. The machine's mood, in us per row."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, key TEXT UNIQUE, content TEXT)")
        self._texts = _load.texts(["nobody"])

    def cpu(self, groups: int) -> dict[str, float]:
        cpu, wall = time.thread_time(), time.perf_counter()
        for group in range(groups):
            self._connection.execute("BEGIN IMMEDIATE")
            for number in range(GROUP):
                text = self._texts[(group * GROUP + number) % len(self._texts)]
                row = (new_idempotency_key(), text)
                self._connection.execute("INSERT INTO rows (key, content) VALUES (?, ?)", row)
            self._connection.execute("COMMIT")
        cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
        return {"cpu": cpu / (groups * GROUP) * 1e6, "wall": wall / (groups * GROUP) * 1e6}


# Processes


class Server:
    def __init__(self, variant: str, path: str, store: str = "") -> None:
        command = [sys.executable, str(HERE / "_relay.py"), variant, path, "--store", store]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def pin(self, cores: Sequence[int]) -> None:
        """All its threads; they and those to come stay there."""
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            os.sched_setaffinity(int(thread), cores)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Generator:
    def __init__(self, people: str) -> None:
        command = [sys.executable, str(HERE / "_load.py"), people]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, job: _load.Job) -> dict[str, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(job), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("the load generator failed; its reason stands above")
        found: dict[str, float] = json.loads(answer)
        return found

    def stop(self) -> None:
        self.process.communicate()


class Bench:
    """Everything a run needs, open."""

    def __init__(self, folder: str, sizes: Sizes, cells: Sequence[str], stack: ExitStack) -> None:
        self._sizes = sizes
        template, people = os.path.join(folder, "template"), os.path.join(folder, "people.json")
        os.sched_setaffinity(0, FIRST)  # and so every process and thread that starts from here
        found = seed(template, sizes)
        Path(people).write_text(json.dumps(found))
        self._generator = Generator(people)
        stack.callback(self._generator.stop)
        self._servers: dict[str, Server] = {}
        for name in dict.fromkeys(HTTP[cell].server for cell in cells if cell in HTTP):
            path = shutil.copytree(template, os.path.join(folder, name))
            self._servers[name] = Server(VARIANT.get(name, name), path)
            stack.callback(self._servers[name].stop)
        store = Sqlite(shutil.copytree(template, os.path.join(folder, "lanes")))
        stack.callback(store.close)
        self._lanes = Lanes(store, found)
        self._control = Control(os.path.join(folder, "control.db"))

    def take(self, cell: str) -> dict[str, float]:
        """One cell, once."""
        lanes, sizes = self._lanes, self._sizes
        match cell:
            case "writer":
                return lanes.cpu(Lane.APPEND, lanes.send, groups=sizes.groups)
            case "page of 50":
                lanes.cpu(Lane.READ, lanes.page, groups=CHANNELS, size=1)  # the writer left messages nobody has read
                return lanes.cpu(Lane.READ, lanes.page, groups=sizes.reads, size=1)
            case "board of 200":
                return lanes.cpu(Lane.READ, lanes.board, groups=sizes.reads // 10, size=1)
            case "control":
                return self._control.cpu(sizes.groups)
        server = self._servers[HTTP[cell].server]
        server.pin(FIRST if HTTP[cell].pinned else CORES)
        return self._generator.run(
            {
                "ports": [server.port],
                "servers": [server.process.pid],
                "cores": SECOND if HTTP[cell].pinned else CORES,
                "connections": HTTP[cell].connections,
                "load": "mixed" if HTTP[cell].mixed else "sends",
                "warm_up": sizes.warm_up,
                "seconds": sizes.seconds,
            }
        )


@contextmanager
def opened(sizes: Sizes, cells: Sequence[str]) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="agentchat-bench-") as folder, ExitStack() as stack:
        yield Bench(folder, sizes, cells, stack)


def in_turns(bench: Bench, cells: Sequence[str], rounds: int) -> list[Round]:
    found = []
    for turn in range(rounds):
        order = [*cells[turn % len(cells) :], *cells[: turn % len(cells)]]  # nobody always follows the same one
        found.append({cell: bench.take(cell) for cell in order})
        if sys.stderr.isatty():
            print(f"\rround {turn + 1}/{rounds}", end="\n" if turn + 1 == rounds else "", file=sys.stderr, flush=True)
    return found


# What is told


def told(rows: Sequence[Row], cells: Sequence[str], rounds: Sequence[Round]) -> None:
    measure.table(
        [("ratio", "median (middle half)", "by CPU", "goal")]
        + [(row.name, of(row.value, rounds), of(row.by_cpu, rounds) if row.by_cpu else "", row.goal) for row in rows]
    )
    print()
    if loads := [cell for cell in cells if cell in HTTP]:
        heads = ("under load", "per s", "p50 ms", "p99 ms", "CPU us", "server", "generator", "others")
        names = ("rate", "p50", "p99", "cpu", "server_share", "generator_share", "others_share")
        measure.table([heads] + [(cell, *(shown(rounds, cell, name) for name in names)) for cell in loads])
        print("server, generator, others: cores used.", *remarks(rounds, loads), end="\n\n")
    measure.table([("without HTTP", "CPU us")] + [(cell, shown(rounds, cell, "cpu")) for cell in cells if cell in CPU])


def remarks(rounds: Sequence[Round], loads: Sequence[str]) -> Iterator[str]:
    """What to know before a figure is believed."""
    bound = [cell for cell in loads if middle(rounds, cell, "generator_share") > MOST_GENERATOR]
    yield f"The generator was the limit of: {', '.join(bound)}." if bound else "The generator was no limit."
    others = statistics.median(found[cell]["others_share"] for found in rounds for cell in loads)
    if others > MOST_OTHERS:
        yield f"Others used {others:.2f} cores: believe only what is by CPU, and run again."


def of(value: Callable[[Round], float], rounds: Sequence[Round]) -> str:
    return measure.spread([value(found) for found in rounds])


def middle(rounds: Sequence[Round], cell: str, name: str) -> float:
    return float(statistics.median(found[cell][name] for found in rounds))


def shown(rounds: Sequence[Round], cell: str, name: str) -> str:
    """Three digits, which is more than most spreads allow."""
    found = measure.summary([figures[cell][name] for figures in rounds])
    low, median, high = (
        f"{value / 1000:.3g}k" if value >= 1000 else f"{value:.3g}"
        for value in (found["low"], found["median"], found["high"])
    )
    return median if low == high else f"{median} ({low}-{high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="prove that it runs; the figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--only", choices=list(dict.fromkeys(row.group for row in ROWS)), help="these rows only")
    options = parser.parse_args()
    sizes = TINY if options.tiny else Sizes()
    rows = [row for row in ROWS if options.only in (None, row.group)]
    needed = {"control", *(cell for row in rows for cell in row.needs)}
    cells = [cell for cell in (*HTTP, *CPU) if cell in needed]
    with opened(sizes, cells) as bench:
        rounds = in_turns(bench, cells, sizes.rounds)
    if options.json:
        ratios = {row.name: measure.summary([row.value(found) for found in rounds]) for row in rows}
        by_cpu = {row.name: measure.summary([row.by_cpu(found) for found in rounds]) for row in rows if row.by_cpu}
        goals = {row.name: row.goal for row in rows if row.goal}
        measure.printed({"ratios": ratios, "by CPU": by_cpu, "goals": goals, "rounds": rounds})
    else:
        told(rows, cells, rounds)


if __name__ == "__main__":
    main()
