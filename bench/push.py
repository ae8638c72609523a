"""From a send to everybody who reads, against a bare ASGI application that steps `send` with the same bytes.

    python bench/push.py [--tiny] [--json]

Relay and application run in processes of their own on one core, the readers in another one on the other core. They
take turns, round by round. CPU is that of the server by the kernel's own count, for each event that one reader was
handed: "all" of it, or the "delivery" without what the same send costs while nobody reads. Send to receive begins
before the sender's request is written, and ends when a reader's socket has the event. With one reader it is compared
with two round trips of the application, made in the same rounds: one that does nothing, and one that appends what was
posted to a SQLite (WAL, synchronous=FULL), since a relay tells nobody of what is not on disk. Memory is what the
server's own (anonymous) memory grew by while idle streams were opened, on a server that had none before. Linux only.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import _measure as measure
from relay import FIRST, SECOND, Server, seed
from relay import Sizes as Seeded

HERE = Path(__file__).parent
_ALONE = 50  # sends while nobody reads
TEXT = "a message of a usual length, " * 4


class Sizes(NamedTuple):
    rounds: int
    events: dict[int, int]  # readers -> events in a round; the first has the memory measured


FULL = Sizes(7, {5000: 8, 1000: 30, 100: 100, 1: 150})
TINY = Sizes(1, {20: 3, 1: 3})
Figures = dict[str, float]


class Readers:
    def __init__(self) -> None:
        command = [sys.executable, str(HERE / "_readers.py"), json.dumps(SECOND)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, do: str, group: str, **more: Any) -> Any:
        assert self._process.stdin is not None
        print(json.dumps({"do": do, "group": group, **more}), file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the readers failed; their reason stands above")
        return json.loads(line)

    def stop(self) -> None:
        self._process.communicate()


class Side:
    """A server, and how one of its events is brought about."""

    def __init__(self, name: str, server: Server, key: str) -> None:
        self.name, self.server, self.key = name, server, key
        self.path, self.body = "/api/v2/messages", json.dumps({"channel": "project-1", "content": TEXT}).encode()
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    @property
    def request(self) -> str:
        """What a reader asks."""
        lines = ["GET /api/v2/events HTTP/1.1", "host: x", "accept: text/event-stream", f"x-agent-api-key: {self.key}"]
        return "\r\n".join([*lines, "", ""])

    def send(self, path: str = "") -> tuple[float, float]:
        """When it was sent, and when it was answered."""
        began = time.monotonic()
        self._connection.request("POST", path or self.path, self.body, {"x-agent-api-key": self.key})
        answer = self._connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"{self.name} refused: {answer.read()!r}")
        answer.read()
        return began, time.monotonic()

    def cpu(self) -> float:
        """Seconds, of all threads."""
        folder = Path(f"/proc/{self.server.process.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in folder.iterdir()) / 1e9

    def memory(self) -> int:
        """Bytes of its own."""
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024


class Bench:
    def __init__(self, folder: str, stack: ExitStack) -> None:
        os.sched_setaffinity(0, FIRST)
        path = os.path.join(folder, "relay")
        people = seed(path, Seeded(seeded=64))
        self.readers = Readers()
        stack.callback(self.readers.stop)
        key = next(iter(people["keys"].values()))
        self.sides = {}
        for name in ("relay", "stepping"):
            server = Server(name, path)
            stack.callback(server.stop)
            self.sides[name] = Side(name, server, key)
        os.sched_setaffinity(0, SECOND)  # where it waits while readers read
        self._learn()

    def _learn(self) -> None:
        """The bytes of one event, for the application to step."""
        relay, stepping = self.sides["relay"], self.sides["stepping"]
        self._open(relay, 1)
        relay.send()
        block = self.readers.ask("block", "relay")
        self.readers.ask("close", "relay")
        stepping.path, stepping.body = "/step", block.encode()

    def _open(self, side: Side, count: int) -> None:
        self.readers.ask("open", side.name, port=side.server.port, request=side.request, count=count)

    def cell(self, count: int, events: int, rounds: int) -> list[dict[str, Figures]]:
        """Both sides with so many readers, by turns; the first round warms up."""
        memory, self._alone = {}, dict[str, float]()
        for name, side in self.sides.items():
            spent = side.cpu()
            for _ in range(_ALONE):
                side.send()
            self._alone[name] = (side.cpu() - spent) / _ALONE
            before = side.memory()
            self._open(side, count)
            time.sleep(0.5)
            memory[name] = (side.memory() - before) / count
        found = []
        for _ in range(rounds + 1):
            taken = {
                name: {**self._round(side, count, events), "memory": memory[name]} for name, side in self.sides.items()
            }
            if count == 1:
                taken["trips"] = {"bare": self._trip("/nothing", events), "durable": self._trip("/append", events)}
            found.append(taken)
        for name in self.sides:
            self.readers.ask("close", name)
        time.sleep(0.3)
        return found[1:]

    def _round(self, side: Side, count: int, events: int) -> Figures:
        late: list[float] = []
        answered: list[float] = []
        before = side.cpu()
        for _ in range(events):
            self.readers.ask("take", side.name, events=1)
            sent, answer = side.send()
            late += [time_of - sent for time_of in self.readers.answer()]
            answered.append(answer - sent)
        cpu = (side.cpu() - before) / (events * count)
        cuts = statistics.quantiles(late, n=100)
        return {
            "all": cpu * 1e6,
            "cpu": (cpu - self._alone[side.name] / count) * 1e6,
            "p50": cuts[49] * 1e3,
            "p99": cuts[98] * 1e3,
            "answer": statistics.median(answered) * 1e3,
        }

    def _trip(self, path: str, count: int) -> float:
        """The median of so many round trips, in ms."""
        times = [self.sides["stepping"].send(path) for _ in range(count)]
        return statistics.median(after - before for before, after in times) * 1e3


def ratios(found: dict[int, list[dict[str, Figures]]]) -> dict[str, tuple[list[float], str]]:
    """By name: round by round, and the goal."""
    told: dict[str, tuple[list[float], str]] = {}
    for count, rounds in found.items():
        if count > 1:
            goal = "<= 1.1" if count == 1000 else ""
            by_cpu = [each["relay"]["cpu"] / each["stepping"]["cpu"] for each in rounds]
            told[f"{count} readers: CPU of a delivery / stepping"] = by_cpu, goal
            told[f"{count} readers: all CPU / stepping"] = (
                [each["relay"]["all"] / each["stepping"]["all"] for each in rounds],
                "",
            )
            told[f"{count} readers: p50 / stepping"] = (
                [each["relay"]["p50"] / each["stepping"]["p50"] for each in rounds],
                "",
            )
    one = [each["relay"] for each in found[1]]
    for trip, goal in (("bare", "<= 2"), ("durable", "")):
        told[f"1 reader: send to receive / {trip} round trip"] = (
            [each["relay"]["p50"] / each["trips"][trip] for each in found[1]], goal,
        )  # fmt: skip
    told["1 reader: send to receive / the send's own answer"] = [each["p50"] / each["answer"] for each in one], ""
    return told


def main() -> None:
    options = measure.options(__doc__ or "")
    sizes = TINY if options.tiny else FULL
    with ExitStack() as stack:
        bench = Bench(stack.enter_context(tempfile.TemporaryDirectory(prefix="agentchat-bench-")), stack)
        found = {count: bench.cell(count, events, sizes.rounds) for count, events in sizes.events.items()}
    told, most = ratios(found), next(iter(sizes.events))
    idle = {name: found[most][0][name]["memory"] / 1024 for name in ("relay", "stepping")}
    if options.json:
        measure.printed({
            "ratios": {name: measure.summary(values) for name, (values, _) in told.items()},
            "goals": {name: goal for name, (_, goal) in told.items() if goal},
            "KiB of an idle stream": idle,
            "rounds": found,
        })  # fmt: skip
        return
    rows = [(name, measure.spread(values), goal) for name, (values, goal) in told.items()]
    rows += [
        (f"KiB of an idle stream, {most} of them; stepping {idle['stepping']:.1f}", f"{idle['relay']:.1f}", "<= 12")
    ]
    measure.table([("ratio", "median (middle half)", "goal"), *rows])
    print()
    heads = ("readers", "server", "CPU us of a delivery", "all of it", "p50 ms", "p99 ms", "answer ms")
    names = ("cpu", "all", "p50", "p99", "answer")
    measure.table([heads] + [
        (str(count), side, *(measure.spread([each[side][name] for each in rounds]) for name in names))
        for count, rounds in found.items() for side in ("relay", "stepping")
    ])  # fmt: skip
    bare, durable = (measure.spread([each["trips"][trip] for each in found[1]]) for trip in ("bare", "durable"))
    print(f"\nA bare round trip: {bare} ms; a durable one: {durable} ms.")


if __name__ == "__main__":
    main()
