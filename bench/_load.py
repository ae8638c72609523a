"""A load generator in a process of its own: connections that send their next request when the last one was answered.

A closed loop over raw sockets, so that it takes little of what it measures. Each line on stdin is a job, each line on
stdout its figures (`Job`, `Figures`). Requests are those of our client, with keys made as it makes them.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import random
import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict, cast

import uvloop

from agentchat._exchange import new_idempotency_key

WORDS_OF_A_TEXT = 37
TEXTS = 1000
ONE_IN_MENTIONS = 3
ONE_IN_SENDS = 5  # of the mixed load; the rest are reads
LONGEST_WAIT = 20.0
HZ = os.sysconf("SC_CLK_TCK")


class People(TypedDict):
    """Who sends where: agents by name with their keys, and channels."""

    keys: dict[str, str]
    channels: list[str]


class Job(TypedDict):
    ports: list[int]  # of one or more servers, which get connections in turns
    servers: list[int]  # process ids
    cores: list[int]
    connections: int
    load: Literal["sends", "mixed", "marks"]
    warm_up: float
    seconds: float


class Figures(TypedDict):
    """Rates per second, latencies in ms, CPU in us per request, shares in cores."""

    answered: int  # all there were, also while it warmed up
    rate: float
    p50: float  # of sends, and of marks
    p99: float
    reads_p50: float
    reads_p99: float
    cpu: float
    server_share: float
    generator_share: float
    others_share: float


class Usage(NamedTuple):
    """Seconds so far: by the clock, of the server's CPU, of this process's, of everybody's (with what was stolen)."""

    clock: float
    server: float
    own: float
    all: float


def usage(*servers: int) -> Usage:
    return Usage(time.perf_counter(), sum(map(spent, servers)), time.process_time(), machine())


def spent(process: int) -> float:
    """CPU seconds."""
    with open(f"/proc/{process}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / HZ


def machine() -> float:
    """CPU seconds spent by anybody on this machine."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _waiting, *rest = map(int, file.readline().split()[1:9])
    return (user + nice + system + sum(rest)) / HZ


# Texts and requests


def texts(names: list[str]) -> list[str]:
    """English of a usual length, a third of it with a mention. The prose is the interpreter's own documentation."""
    from pydoc_data.topics import topics

    words = re.findall(r"[A-Za-z][A-Za-z'-]*[a-z]", " ".join(topics.values()))
    chance = random.Random(1)
    found = []
    for number in range(TEXTS):
        start = chance.randrange(len(words) - WORDS_OF_A_TEXT)
        text = words[start : start + WORDS_OF_A_TEXT]
        if number % ONE_IN_MENTIONS == 0:
            text[chance.randrange(len(text))] = f"@{chance.choice(names)}"
        found.append(" ".join(text))
    return found


class Template(NamedTuple):
    """A request; the idempotency key of a send goes between the two parts."""

    is_send: bool
    before: bytes
    after: bytes = b""


def sends(people: People) -> Iterator[Template]:
    chance = random.Random(2)
    names = list(people["keys"])
    for text in itertools.cycle(texts(names)):
        arguments = {"channel": chance.choice(people["channels"]), "content": text, "metadata": {"project": "bench"}}
        yield _posted("/api/v2/messages", people["keys"][chance.choice(names)], arguments)


def reads(people: People) -> Iterator[Template]:
    """Boards, pages and mentions in turns."""
    chance = random.Random(3)
    keys = list(people["keys"].values())
    while True:
        page = f"/api/v2/messages?channel={chance.choice(people['channels'])}&limit=50"
        for target in ("/api/v2/board", page, "/api/v2/mentions"):
            yield Template(False, _head("GET", target, chance.choice(keys)) + b"\r\n")


def marks(people: People) -> Iterator[Template]:
    """Channels marked as read: writes that stand alone."""
    chance = random.Random(5)
    keys = list(people["keys"].values())
    while True:
        yield _posted("/api/v2/channels/read", chance.choice(keys), {"channel": chance.choice(people["channels"])})


def _posted(target: str, key: str, arguments: Mapping[str, object]) -> Template:
    body = json.dumps(arguments, separators=(",", ":")).encode()
    before = _head("POST", target, key)
    before += b"content-type: application/json\r\ncontent-length: %d\r\nidempotency-key: " % len(body)
    return Template(True, before, b"\r\n\r\n" + body)


def _head(verb: str, target: str, key: str) -> bytes:
    return (
        f"{verb} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept-encoding: identity\r\naccept: application/json\r\n"
        f"user-agent: agentchat\r\nx-agent-session: f4a5b19292413bdb\r\nx-agent-api-key: {key}\r\n"
    ).encode()


def mixed(people: People) -> Iterator[Template]:
    sending, reading, chance = sends(people), reads(people), random.Random(4)
    while True:
        yield next(sending if chance.randrange(ONE_IN_SENDS) == 0 else reading)


# The load


class Run:
    """One job under way: where requests come from, and how long each kind took."""

    def __init__(self, templates: Iterator[Template]) -> None:
        self.templates = templates
        self.over = False
        self.failure: str | None = None
        self.answered = 0
        self.times: dict[bool, list[float]] = {True: [], False: []}

    def fail(self, reason: str) -> None:
        self.failure = self.failure or reason


class Connection(asyncio.Protocol):
    def __init__(self, run: Run) -> None:
        self._run = run
        self._head = b""  # what came of an answer whose head is not whole
        self._missing = 0  # bytes of an answer's body
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._run.over:
            self._run.fail(f"the server hung up: {error}")
        self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            self._head = b""
            if data[9:12] != b"200":
                self._run.fail(data.decode("latin-1"))
            start = data.index(b"\r\ncontent-length: ", 0, end + 2) + 18
            self._missing = end + 4 + int(data[start : data.index(b"\r\n", start)]) - len(data)
        if not self._missing:
            self._run.answered += 1
            self._run.times[self._is_send].append(time.perf_counter() - self._sent)
            self._send()

    def _send(self) -> None:
        if self._run.over or self._run.failure:
            self._transport.close()
            return
        self._is_send, before, after = next(self._run.templates)
        self._sent = time.perf_counter()
        self._transport.write(before + new_idempotency_key().encode() + after if after else before)


async def measured(job: Job, templates: Iterator[Template]) -> Figures:
    run = Run(templates)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: run.fail(str(context.get("exception"))))
    made = [
        await loop.create_connection(lambda: Connection(run), "127.0.0.1", port)
        for port in itertools.islice(itertools.cycle(job["ports"]), job["connections"])
    ]
    await asyncio.sleep(job["warm_up"])
    run.times = {True: [], False: []}
    before = usage(*job["servers"])
    after = before
    # A crowded machine may need longer for the two answers without which there is no figure.
    while not run.failure and (len(run.times[True]) < 2 or after.server == before.server):
        await asyncio.sleep(job["seconds"])
        after = usage(*job["servers"])
        if after.clock - before.clock > LONGEST_WAIT:
            run.fail("the server hardly answers")
    times, run.over = run.times, True
    run.times = {True: [], False: []}
    _, unanswered = await asyncio.wait([connection.lost for _, connection in made], timeout=LONGEST_WAIT)
    if unanswered:
        run.fail(f"{len(unanswered)} connections got no answer")
    if run.failure:
        raise RuntimeError(run.failure)
    return _figures(times[True], times[False], run.answered, before, after)


def _figures(sends: list[float], reads: list[float], answered: int, before: Usage, after: Usage) -> Figures:
    spent = Usage(*(late - early for early, late in zip(before, after, strict=True)))
    requests = len(sends) + len(reads)
    (p50, p99), (reads_p50, reads_p99) = _percentiles(sends), _percentiles(reads)
    return {
        "answered": answered,
        "rate": requests / spent.clock,
        "p50": p50,
        "p99": p99,
        "reads_p50": reads_p50,
        "reads_p99": reads_p99,
        "cpu": spent.server / requests * 1e6,
        "server_share": spent.server / spent.clock,
        "generator_share": spent.own / spent.clock,
        "others_share": max(0.0, spent.all - spent.server - spent.own) / spent.clock,
    }


def _percentiles(times: list[float]) -> tuple[float, float]:
    """In ms."""
    if len(times) < 2:  # reads, where there are none
        return 0.0, 0.0
    cuts = statistics.quantiles(times, n=100)
    return cuts[49] * 1e3, cuts[98] * 1e3


def main() -> None:
    people: People = json.loads(Path(sys.argv[1]).read_text())
    # Built before anything is measured; only the keys of sends are made on the way.
    loads = {
        name: itertools.cycle(list(itertools.islice(templates(people), 3 * TEXTS)))
        for name, templates in {"sends": sends, "mixed": mixed, "marks": marks}.items()
    }
    gc.freeze()
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            job: Job = json.loads(line)
            os.sched_setaffinity(0, job["cores"])
            print(json.dumps(runner.run(measured(job, loads[job["load"]]))), flush=True)


if __name__ == "__main__":
    main()
