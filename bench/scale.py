"""What a call costs in a relay of 10 thousand, 100 thousand and a million messages, and what such a relay weighs.

    python bench/scale.py [--tiny] [--json] [--sizes N,N,…] [--rounds N] [--keep DIR] [--only PART …]

    reads    board, pages, inbox, searches: CPU of the lane's thread per call, without HTTP
    sends    the writer's and the index's CPU per message, without HTTP, against a relay without messages
    served   a real relay process: how long it takes to start, what it holds, what it takes from 64 connections
    memory   of a real relay process: per idle connection, after as many sends as the largest size, after reading them

Every size is made by the service itself (`_scale.py`; a million takes minutes: `--keep` keeps what was made) and
warmed up. Sizes take turns, round by round; `control` is a loop over memory that no change of ours touches. Linux only,
for it reads /proc. Data goes to TMPDIR, which should be a real disk with room for twice 1.5 GB.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import resource
import shutil
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import _load
import _measure as measure
import _scale
import relay
from agentchat import Client
from agentchat_relay.http.reply import enveloped
from agentchat_relay.service import channels, mentions, pages, search
from agentchat_relay.service.call import Agent, Call
from agentchat_relay.store.seam import Lane
from agentchat_relay.store.sqlite.engine import Sqlite
from agentchat_relay.wire import Cursor

PARTS = ("reads", "sends", "served", "memory")
PAGE = 50
GROWTH, SEND_RATE, PAGE_US, SEARCH_US = 1.3, 0.85, 60, 1000  # the goals
BEGINS_ANEW = 20_000  # what is smaller is copied anew for each round of sends, so that it stays small
MIB = 1 << 20


class Extent(NamedTuple):
    """How much of everything."""

    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    rounds: int = 7
    calls: int = 60  # of each kind in a round
    groups: int = 30  # of sends in a round
    seconds: float = 1.2
    warm_up: float = 0.4
    connections: int = 1000  # idle ones, twice
    read: int = 100_000  # messages read at last, more than the cache holds
    team: _scale.Team = _scale.Team()


TINY = Extent(
    sizes=(300, 1000, 3000), rounds=1, calls=5, groups=3, seconds=0.15, warm_up=0.05, connections=50, read=1000,
    team=_scale.SMALL,
)  # fmt: skip
Round = dict[str, list[measure.Sample]]  # by case and size


# What is asked


class Ask:
    """A call of the service, answered as it would travel."""

    def __init__(self, service: Callable[..., Any], agent: Agent, **arguments: Any) -> None:
        self._service, self._call, self._arguments = service, Call(agent), arguments

    def result(self, tx: Any) -> Any:
        return self._service(tx, self._call, **self._arguments)

    def __call__(self, tx: Any) -> Any:
        return enveloped(self.result(tx))


class Sized:
    """A directory of ours, and what there is to ask it for. Everybody asks in turns."""

    def __init__(self, path: str, size: int) -> None:
        self.size = size
        self.made = _scale.Made(path)
        self.store = self.made.store
        self._places = self._old_places()

    def _agent(self, number: int) -> Agent:
        return self.made.agents[number % len(self.made.agents)]

    def _busy(self, number: int) -> str:
        return self.made.names[number % self.made.busy]

    def _quiet(self, number: int) -> str:
        return self.made.names[self.made.busy + number % (len(self.made.names) - self.made.busy)]

    def _old_places(self) -> list[tuple[str, str]]:
        """Channels and cursors, a page apart from each other: whoever reads from these reads nothing twice."""
        found = []
        with closing(sqlite3.connect(f"file:{self.made.path}/agentchat.db?mode=ro", uri=True)) as database:
            for name in self.made.names[: self.made.busy]:
                id, public_id = database.execute(
                    "SELECT id, public_id FROM channels WHERE name = ?", (name,)
                ).fetchone()
                sql = "SELECT created_at FROM messages WHERE channel_id = ? AND kind <> 'status' ORDER BY created_at"
                times = [row[0] for row in database.execute(sql, (id,))]
                older = times[PAGE : 1 - PAGE : PAGE] or times[len(times) // 2 :][:1]
                found += [(name, str(Cursor(public_id, at))) for at in older]
        return found

    def board(self, calls: int) -> list[Ask]:
        return [Ask(channels.check_board, self._agent(n)) for n in range(calls)]

    def newest_page(self, calls: int) -> list[Ask]:
        return [Ask(pages.read_messages, self._agent(n), channel=self._busy(n), limit=PAGE) for n in range(calls)]

    def old_page(self, calls: int) -> list[Ask]:
        apart = self._places[:: max(len(self._places) // calls, 1)][:calls]
        return [
            Ask(pages.read_messages, self._agent(n), channel=name, cursor=cursor, limit=PAGE)
            for n, (name, cursor) in enumerate(apart)
        ]

    def inbox(self, calls: int) -> list[Ask]:
        return [Ask(mentions.check_mentions, self._agent(n)) for n in range(calls)]

    def everywhere(self, query: str, calls: int) -> list[Ask]:
        return [Ask(search.search_messages, self._agent(n), query=query) for n in range(calls)]

    def busy_channel(self, query: str, calls: int) -> list[Ask]:
        return [
            Ask(search.search_messages, self._agent(n), query=query, channel=self._busy(n)) for n in range(calls)
        ]  # fmt: skip

    def quiet_channel(self, query: str, calls: int) -> list[Ask]:
        return [
            Ask(search.search_messages, self._agent(n), query=query, channel=self._quiet(n)) for n in range(calls)
        ]  # fmt: skip


class Case(NamedTuple):
    name: str
    lane: Lane
    asks: Callable[[Sized, int], list[Ask]]
    most: int | None = None  # us of CPU at the largest size: the goal
    is_first: bool = False  # nobody has read any of it before; else the same calls were made once before
    one_in: int = 1  # of the calls of a round


def _searches() -> Iterator[Case]:
    words = {
        "rare word": _scale.RARE_WORD,
        "7 % word": _scale.SOME,
        "common word": _scale.COMMON,
        "two common words": f"{_scale.COMMON} {_scale.SECOND}",
    }
    for where in (Sized.everywhere, Sized.busy_channel, Sized.quiet_channel):
        for what, query in words.items():
            name = f"search {where.__name__.replace('_', ' ')}: {what}"
            yield Case(name, Lane.SEARCH, _for(where, query), SEARCH_US)
    phrase = f'"{_scale.SECOND} {_scale.COMMON}"'  # of two words that never stand in this order
    yield Case(
        "search everywhere: phrase nobody wrote", Lane.SEARCH, _for(Sized.everywhere, phrase), SEARCH_US, one_in=10
    )


def _for(where: Callable[[Sized, str, int], list[Ask]], query: str) -> Callable[[Sized, int], list[Ask]]:
    return lambda at, calls: where(at, query, calls)


CASES = [
    Case("board of all channels", Lane.READ, Sized.board),
    Case("page of 50, newest", Lane.READ, Sized.newest_page, PAGE_US),
    Case("page of 50, old, first time", Lane.READ, Sized.old_page, is_first=True),
    Case("inbox", Lane.READ, Sized.inbox),
    *_searches(),
]


def timed(store: Sqlite, lane: Lane, calls: Sequence[Callable[[Any], Any]], size: int = 1) -> list[measure.Sample]:
    """CPU and wall time in us per call, on the lane's own thread, in groups of `size`. The last call of a group submits
    the next group, so that the lane finds a whole one; the submitting is not counted."""
    samples: list[measure.Sample] = []
    failures: list[BaseException] = []
    over = threading.Event()
    left = iter(calls)
    waiting = 0
    began = measure.Sample(0, 0)

    def feed(result: Any, error: BaseException | None) -> None:
        nonlocal waiting, began
        group = list(itertools.islice(left, size))
        waiting = len(group)
        for call in group:
            store.submit(lane, call, done)
        began = measure.Sample(time.thread_time(), time.perf_counter())
        if not group:
            over.set()

    def done(result: Any, error: BaseException | None) -> None:
        nonlocal waiting
        waiting -= 1
        if error is not None:
            failures.append(error)
        if not waiting:
            cpu, wall = time.thread_time() - began.cpu, time.perf_counter() - began.wall
            samples.append(measure.Sample(cpu / size * 1e6, wall / size * 1e6))
            feed(None, None)

    store.submit(lane, lambda tx: None, feed)
    over.wait()
    if failures:
        raise failures[0]
    return samples


def controlled(calls: int) -> list[measure.Sample]:
    cpu, wall = time.thread_time(), time.perf_counter()
    measure.control(calls)
    return [measure.Sample((time.thread_time() - cpu) / calls * 1e6, (time.perf_counter() - wall) / calls * 1e6)]


def mean(samples: list[measure.Sample]) -> float:
    return statistics.fmean(sample.cpu for sample in samples)


# The directories


class Directories:
    """Where the sizes are; 0 is a relay that has everybody and every channel, but no message."""

    def __init__(self, folder: str, keep: str | None, extent: Extent) -> None:
        self._folder, self._extent = folder, extent
        self._kept = keep or os.path.join(folder, "made")
        self._copies = itertools.count()

    def path(self, size: int) -> str:
        path = os.path.join(self._kept, f"{size}-{self._extent.team.agents}")
        if not os.path.exists(path):
            os.makedirs(self._kept, exist_ok=True)
            shutil.rmtree(path + ".part", ignore_errors=True)  # of an earlier run that was interrupted
            _scale.build(path, size, self._extent.team)
        return path

    def copy(self, size: int) -> str:
        """To be written to."""
        return shutil.copytree(self.path(size), os.path.join(self._folder, f"copy-{next(self._copies)}"))


def bytes_per_message(path: str, size: int) -> dict[str, float]:
    return {name: os.path.getsize(os.path.join(path, name)) / size for name in ("agentchat.db", "search.db")}


# The parts


def reads(directories: Directories, extent: Extent) -> dict[str, Any]:
    with ExitStack() as stack:
        at = [Sized(directories.path(size), size) for size in extent.sizes]
        for one in at:
            stack.callback(one.made.close)
        rounds = [_reads(at, turn, extent) for turn in range(extent.rounds + 1)][1:]  # the first warms up
        rows = {case.name: {one.size: _rows(one, case) for one in at} for case in CASES}
    found: dict[str, Any] = {}
    for case in CASES:
        taken = {one.size: [found[f"{case.name} {one.size}"] for found in rounds] for one in at}
        found[case.name] = {
            "rows": rows[case.name],
            "cpu": {size: _median(each, 0) for size, each in taken.items()},
            "wall p50": {size: _median(each, 1) for size, each in taken.items()},
            "wall p99": {size: _p99(each) for size, each in taken.items()},
            "growth": {
                f"{large}/{small}": [mean(b) / mean(a) for a, b in zip(taken[small], taken[large], strict=True)]
                for small, large in itertools.pairwise(extent.sizes)
            },
        }
    control = [mean(found["control"]) for found in rounds]
    sizes = {one.size: bytes_per_message(one.made.path, one.size) for one in at}
    return {"cases": found, "control": control, "bytes per message": sizes}


def _reads(at: Sequence[Sized], turn: int, extent: Extent) -> Round:
    taken: Round = {"control": controlled(50)}
    for case in CASES:
        for one in (*at[turn % len(at) :], *at[: turn % len(at)]):
            asks = case.asks(one, max(extent.calls // case.one_in, 2))
            if case.is_first:
                one.store.ask(Lane.WRITE, lambda tx: tx.forget())  # what is encoded
            else:
                timed(one.store, case.lane, asks)
            taken[f"{case.name} {one.size}"] = timed(one.store, case.lane, asks)
    _progress("reads", turn, extent.rounds)
    return taken


def _rows(one: Sized, case: Case) -> int:
    found = one.store.ask(case.lane, case.asks(one, 1)[0].result)
    return max(len(value) for value in found.values() if isinstance(value, list))


def _median(rounds: Sequence[list[measure.Sample]], column: int) -> float:
    return statistics.median(sample[column] for taken in rounds for sample in taken)


def _p99(rounds: Sequence[list[measure.Sample]]) -> float:
    return statistics.quantiles((sample.wall for taken in rounds for sample in taken), n=100)[98]


def sends(directories: Directories, extent: Extent) -> dict[str, Any]:
    """A relay without messages first, then the sizes."""
    copies: dict[int, str] = {}
    taken: dict[int, list[dict[str, float]]] = {size: [] for size in (0, *extent.sizes)}
    control = []
    for turn in range(extent.rounds):
        control.append(mean(controlled(50)))
        for size in _turned((0, *extent.sizes), turn):
            made = _scale.Made(_for_sends(directories, copies, size))
            try:
                taken[size].append(_sends(made, turn, extent))
            finally:
                made.close()
        _progress("sends", turn + 1, extent.rounds)
    return {"sizes": taken, "control": control}


def _sends(made: _scale.Made, turn: int, extent: Extent) -> dict[str, float]:
    calls = made.author(turn).calls()
    _scale.send(made.store, calls, 5 * relay.GROUP)  # a new process knows nobody yet
    relay.indexed(made.store)
    indexing = made.store.ask(Lane.SEARCH, lambda tx: time.thread_time())
    count = extent.groups * relay.GROUP
    samples = timed(made.store, Lane.APPEND, list(itertools.islice(calls, count)), relay.GROUP)
    relay.indexed(made.store)
    indexing = made.store.ask(Lane.SEARCH, lambda tx: time.thread_time()) - indexing
    return {
        "writer": mean(samples),
        "wall": statistics.fmean(sample.wall for sample in samples),
        "index": indexing / count * 1e6,
    }


def _for_sends(directories: Directories, copies: dict[int, str], size: int) -> str:
    if size > BEGINS_ANEW and size in copies:
        return copies[size]
    if size in copies:
        shutil.rmtree(copies[size])
    copies[size] = directories.copy(size)
    return copies[size]


def served(directories: Directories, extent: Extent) -> dict[str, Any]:
    copies: dict[int, str] = {}
    taken: dict[int, list[dict[str, float]]] = {size: [] for size in (0, *extent.sizes)}
    with ExitStack() as stack:
        generators = {size: relay.Generator(os.path.join(directories.path(size), "people.json")) for size in taken}
        for generator in generators.values():
            stack.callback(generator.stop)
        for turn in range(extent.rounds):
            for size in _turned(tuple(taken), turn):
                path = _for_sends(directories, copies, size)
                taken[size].append(_served(path, generators[size], extent))
            _progress("served", turn + 1, extent.rounds)
    return {"sizes": taken}


def _served(path: str, generator: relay.Generator, extent: Extent) -> dict[str, float]:
    began = time.perf_counter()
    server = relay.Server("relay", path)  # which waits for it
    try:
        started = time.perf_counter() - began
        figures = {
            "start": started,
            "start CPU": _load.usage(server.process.pid).server,
            "RSS": _rss(server.process.pid),
        }
        server.pin(relay.FIRST)
        figures |= generator.run(
            {
                "ports": [server.port],
                "servers": [server.process.pid],
                "cores": relay.SECOND,
                "connections": 64,
                "load": "sends",
                "warm_up": extent.warm_up,
                "seconds": extent.seconds,
            }
        )
        figures["WAL"] = os.path.getsize(os.path.join(path, "agentchat.db-wal"))
        return figures
    finally:
        server.stop()


def _rss(process: int) -> float:
    """In MiB."""
    with open(f"/proc/{process}/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["VmRSS"].split()[0]) / 1024


def memory(directories: Directories, extent: Extent) -> dict[str, Any]:
    path = directories.copy(0)
    people: _load.People = json.loads(Path(path, "people.json").read_text())
    server = relay.Server("relay", path)
    process = server.process.pid
    try:
        found: dict[str, Any] = {"at rest": _rss(process)}
        found["KiB per idle connection"] = _idle(server, extent.connections, next(iter(people["keys"].values())))
        found["before sends"] = _rss(process)
        found["by sends"] = dict(_million(server, os.path.join(path, "people.json"), extent))
        found["messages read"] = _read_all(server, people, extent.read)
        found["after reading"] = _rss(process)
        return found
    finally:
        server.stop()


def _idle(server: relay.Server, count: int, key: str) -> list[float]:
    """Of the first connections, then of as many more. Each has asked for something and stays."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    made = []
    weights = [_rss(server.process.pid)]
    for _ in range(2):
        for _ in range(count):
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request("GET", "/api/v2/mentions", headers={"x-agent-api-key": key})
            answer = connection.getresponse()
            assert answer.status == 200, answer.status
            answer.read()
            made.append(connection)
        weights.append(_rss(server.process.pid))
    for connection in made:
        connection.close()
    return [(late - early) * 1024 / count for early, late in itertools.pairwise(weights)]


def _million(server: relay.Server, people: str, extent: Extent) -> Iterator[tuple[int, float]]:
    """Memory after each tenth of the sends."""
    generator = relay.Generator(people)
    try:
        sent, wanted = 0, extent.sizes[-1]
        for tenth in range(1, 11):
            while sent < wanted * tenth // 10:
                seconds = min(5.0, extent.seconds * 4)
                figures = generator.run(
                    {
                        "ports": [server.port],
                        "servers": [server.process.pid],
                        "cores": relay.CORES,
                        "connections": 64,
                        "load": "sends",
                        "warm_up": 0.0,
                        "seconds": seconds,
                    }
                )
                sent += int(figures["rate"] * seconds)
            _progress("sends for memory", tenth, 10)
            yield sent, _rss(server.process.pid)
    finally:
        generator.stop()


def _read_all(server: relay.Server, people: _load.People, most: int) -> int:
    """Page by page, from the newest, one channel after the other."""
    read = 0
    with Client(f"http://127.0.0.1:{server.port}", next(iter(people["keys"].values()))) as client:
        for channel in people["channels"]:
            cursor: str | None = None
            while read < most:
                page = client.read_messages(channel, limit=200, cursor=cursor)
                read += len(page["messages"])
                cursor = page["previous_cursor"]
                if not page["has_more"]:
                    break
    return read


def _turned(sizes: tuple[int, ...], turn: int) -> tuple[int, ...]:
    """Nobody always follows the same one."""
    return (*sizes[turn % len(sizes) :], *sizes[: turn % len(sizes)])


def _progress(part: str, turn: int, rounds: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{part} {turn}/{rounds} ", end="\n" if turn == rounds else "", file=sys.stderr, flush=True)


# What is told


def short(size: int) -> str:
    if size >= 1_000_000:
        return f"{size / 1_000_000:g}M"
    return f"{size / 1000:g}k" if size >= 1000 else str(size or "no messages")


def control(found: dict[str, Any]) -> str:
    return f"Control (memory): {measure.spread(found['control'])} us."


def tell_reads(found: dict[str, Any], extent: Extent) -> None:
    sizes, largest = extent.sizes, extent.sizes[-1]
    pairs = [(f"{large}/{small}", f"{short(large)} / {short(small)}") for small, large in itertools.pairwise(sizes)]
    rows: list[tuple[str, ...]] = [
        ("CPU us per call", "rows", *map(short, sizes), *(head for _, head in pairs), "goals", "wall us p50, p99")
    ]
    for case in CASES:
        one = found["cases"][case.name]
        goal = f"<= {GROWTH}" + (f"; <= {case.most} us" if case.most else "")
        wall = f"{one['wall p50'][largest]:.0f}, {one['wall p99'][largest]:.0f}"
        cpu = [f"{one['cpu'][size]:.0f}" for size in sizes]
        growth = [measure.spread(one["growth"][key]) for key, _ in pairs]
        rows.append((case.name, str(one["rows"][largest]), *cpu, *growth, goal, wall))
    measure.table(rows)
    print("CPU: medians of calls; growth: of the mean CPU, round by round.", control(found), end="\n\n")
    measure.table(
        [("bytes per message", "agentchat.db", "search.db")]
        + [(short(size), *(f"{n:.0f}" for n in each.values())) for size, each in found["bytes per message"].items()]
    )


def tell_sends(found: dict[str, Any], extent: Extent) -> None:
    rows: list[tuple[str, ...]] = [
        ("sends without HTTP", "writer, CPU us", "index, CPU us", "fresh / this (CPU)", "goal")
    ]
    for size, taken in found["sizes"].items():
        shares = [fresh["writer"] / mine["writer"] for fresh, mine in zip(found["sizes"][0], taken, strict=True)]
        goal = f">= {SEND_RATE}" if size == extent.sizes[-1] else ""
        middle = [measure.spread([one[name] for one in taken]) for name in ("writer", "index")]
        rows.append((short(size), *middle, measure.spread(shares), goal))
    measure.table(rows)
    print(control(found))


def tell_served(found: dict[str, Any], extent: Extent) -> None:
    rows: list[tuple[str, ...]] = [
        ("a relay process", "start s", "its CPU s", "RSS MiB", "sends/s @64", "p50, p99 ms", "CPU us", "rate / fresh",
         "by CPU", "goal", "WAL MiB", "others")
    ]  # fmt: skip
    for size, taken in found["sizes"].items():
        pairs = list(zip(found["sizes"][0], taken, strict=True))
        names = ("start", "start CPU", "RSS", "rate", "p50", "p99", "cpu", "WAL", "others_share")
        start, its, rss, rate, p50, p99, cpu, wal, others = (
            statistics.median(one[name] for one in taken) for name in names
        )
        rows.append(
            (
                short(size), f"{start:.2f}", f"{its:.2f}", f"{rss:.0f}", f"{rate:.0f}", f"{p50:.1f}, {p99:.1f}",
                f"{cpu:.0f}", measure.spread([mine["rate"] / fresh["rate"] for fresh, mine in pairs]),
                measure.spread([fresh["cpu"] / mine["cpu"] for fresh, mine in pairs]),
                f">= {SEND_RATE}" if size == extent.sizes[-1] else "", f"{wal / MIB:.0f}", f"{others:.2f}",
            )
        )  # fmt: skip
    measure.table(rows)
    print("others: cores used by anybody else; above 0.1 believe what is by CPU.")


def tell_memory(found: dict[str, Any], extent: Extent) -> None:
    first, second = found["KiB per idle connection"]
    rows = [
        ("RSS of a relay process", "MiB"),
        ("at rest, without messages", f"{found['at rest']:.0f}"),
        *((f"after {sent} sends", f"{rss:.0f}") for sent, rss in found["by sends"].items()),
        (f"after reading {found['messages read']} of them", f"{found['after reading']:.0f}"),
    ]
    measure.table(rows)
    n = extent.connections
    print(f"An idle connection: {first:.1f} KiB for the first {n}, {second:.1f} KiB for {n} more.")


TELL = {"reads": tell_reads, "sends": tell_sends, "served": tell_served, "memory": tell_memory}
RUN = {"reads": reads, "sends": sends, "served": served, "memory": memory}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="prove that it runs; the figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--sizes", help="numbers of messages, smallest first (default: 10000,100000,1000000)")
    parser.add_argument("--rounds", type=int, help="how often everything takes its turn (default: 7)")
    parser.add_argument("--keep", metavar="DIR", help="where directories that were made stay, to be used again")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, metavar="PART", help=", ".join(PARTS))
    return parser.parse_args()


def main() -> None:
    chosen = options()
    extent = TINY if chosen.tiny else Extent()
    if chosen.sizes:
        extent = extent._replace(sizes=tuple(int(size) for size in chosen.sizes.split(",")))
    if chosen.rounds:
        extent = extent._replace(rounds=chosen.rounds)
    os.sched_setaffinity(0, relay.FIRST)  # and so every thread and process that starts from here
    found = {}
    with tempfile.TemporaryDirectory(prefix="agentchat-bench-") as folder:
        directories = Directories(folder, chosen.keep, extent)
        for part in PARTS:
            if part in chosen.only:
                found[part] = RUN[part](directories, extent)
                if not chosen.json:
                    TELL[part](found[part], extent)
                    print(flush=True)
    if chosen.json:
        measure.printed(found)


if __name__ == "__main__":
    main()
