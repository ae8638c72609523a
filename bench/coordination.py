"""What coordination costs: a whole hand-off against plain sends, and a task that 64 sessions want at once.

    python bench/coordination.py [--tiny] [--json]

A relay of its own process, and requests as our client makes them over raw connections, each with its next one when the
last was answered. A hand-off is three requests: create_task for one agent, claim_task by it, complete_task. A plain
send is send_direct_message to the same agent. They take turns in batches of a fixed time, on the same connections; a
ratio is one hand-off over one send, by the clock (with so many connections at work) and by the relay's CPU. For the
contended claim a task is offered in a channel and 64 connections claim it at once, against 64 plain sends at once:
until the last one is answered. Exactly one of them wins, or the bench fails.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

import _load
import _measure as measure
from agentchat._exchange import new_idempotency_key
from agentchat_relay.service import administration, upkeep
from agentchat_relay.store.opening import open_store
from agentchat_relay.store.seam import Lane

RELAY = Path(__file__).with_name("_relay.py")
TEXT = "a message of a usual length, " * 8
WANTED = 64
_ID = re.compile(rb'"task":\{"id":"([0-9a-f-]{36})"')


class Sizes(NamedTuple):
    rounds: int = 9
    seconds: float = 1.5  # of a batch
    connections: tuple[int, ...] = (1, 16, 64)
    claims: int = 12  # contended tasks in a round


FULL, TINY = Sizes(), Sizes(1, 0.2, (1, 4), 2)


class Wire:
    """One connection that asks and waits for the answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, key: str, target: str, session: str, **arguments: object) -> tuple[int, bytes]:
        body = json.dumps(arguments, separators=(",", ":")).encode()
        self._writer.write(
            (
                f"POST {target} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                f"x-agent-api-key: {key}\r\nx-agent-session: {session}\r\nidempotency-key: {new_idempotency_key()}\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            ).encode()
            + body
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        start = head.index(b"\r\ncontent-length: ") + 18
        answer = await self._reader.readexactly(int(head[start : head.index(b"\r\n", start)]))
        return int(head[9:12]), answer

    async def told(self, key: str, target: str, **arguments: object) -> bytes:
        status, answer = await self.ask(key, target, "one", **arguments)
        if status != 200:
            raise RuntimeError(f"{target}: {status} {answer!r}")
        return answer


class Batch(NamedTuple):
    """Of one thing done again and again: microseconds each, by the clock and of the relay's CPU, and its median ms."""

    wall: float
    cpu: float
    p50: float


class Bench:
    def __init__(self, wires: list[Wire], keys: dict[str, str], process: int) -> None:
        self.wires, self.keys, self.process = wires, keys, process

    async def send(self, wire: Wire) -> None:
        await wire.told(self.keys["ann"], "/api/v2/dm", target_agent="bob", content=TEXT)

    async def hand_off(self, wire: Wire) -> None:
        ann, bob = self.keys["ann"], self.keys["bob"]
        made = await wire.told(ann, "/api/v2/tasks", title="count the beans", body=TEXT, target_agent="bob")
        path = f"/api/v2/tasks/{_id_of(made)}"
        await wire.told(bob, f"{path}/claim")
        await wire.told(bob, f"{path}/complete", result=TEXT, fence=1)

    async def batch(self, act: Callable[[Wire], Awaitable[None]], connections: int, seconds: float) -> Batch:
        times: list[float] = []
        until = time.perf_counter() + seconds

        async def work(wire: Wire) -> None:
            while not times or time.perf_counter() < until:
                began = time.perf_counter()
                await act(wire)
                times.append(time.perf_counter() - began)

        before, began = _load.spent(self.process), time.perf_counter()
        await asyncio.gather(*(work(wire) for wire in self.wires[:connections]))
        wall = (time.perf_counter() - began) / len(times) * 1e6
        cpu = (_load.spent(self.process) - before) / len(times) * 1e6
        return Batch(wall, max(cpu, 1.0), statistics.median(times) * 1e3)

    async def contended(self) -> tuple[float, float]:
        """Seconds until all have an answer: of those who claim one task, of those who send."""
        made = await self.wires[0].told(self.keys["ann"], "/api/v2/tasks", title="count", channel="work")
        path = f"/api/v2/tasks/{_id_of(made)}/claim"
        began = time.perf_counter()
        answers = await asyncio.gather(
            *(wire.ask(self.keys["bob"], path, f"session-{number}") for number, wire in enumerate(self.wires))
        )
        claims = time.perf_counter() - began
        winners = [status for status, _ in answers if status == 200]
        if len(winners) != 1 or {status for status, _ in answers} != {200, 409}:
            raise RuntimeError(f"{len(winners)} sessions have the task: {answers}")
        began = time.perf_counter()
        await asyncio.gather(*map(self.send, self.wires))
        return claims, time.perf_counter() - began


def _id_of(answer: bytes) -> str:
    found = _ID.search(answer)
    if found is None:
        raise RuntimeError(f"no task: {answer!r}")
    return found[1].decode()


class Round(NamedTuple):
    sends: dict[int, Batch]
    hand_offs: dict[int, Batch]
    claims: list[float]  # over sends, each taken at once


async def rounds(bench: Bench, sizes: Sizes) -> list[Round]:
    found = []
    for turn in range(sizes.rounds + 1):  # the first one warms up
        measure._progress(turn, sizes.rounds)
        one = Round({}, {}, [])
        for connections in sizes.connections:
            one.sends[connections] = await bench.batch(bench.send, connections, sizes.seconds)
            one.hand_offs[connections] = await bench.batch(bench.hand_off, connections, sizes.seconds)
        for _ in range(sizes.claims):
            claims, sends = await bench.contended()
            one.claims.append(claims / sends)
        found.append(one)
    return found[1:]


def _token(name: str) -> Callable[[Any], Any]:
    return lambda tx: administration.agent_token(tx, name=name)


@contextmanager
def relay() -> Iterator[tuple[int, int, dict[str, str]]]:
    """Its port, its process, and the keys of those who talk."""
    with tempfile.TemporaryDirectory() as path:
        store = open_store("", path)
        try:
            store.ask(Lane.WRITE, upkeep.seed)
            keys = {name: str(store.ask(Lane.WRITE, _token(name))["key"]) for name in ("ann", "bob")}
        finally:
            store.close()
        process = subprocess.Popen(
            [sys.executable, str(RELAY), "relay", path], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout
            yield int(process.stdout.readline()), process.pid, keys
        finally:
            process.kill()
            process.wait()


async def measured(sizes: Sizes) -> list[Round]:
    with relay() as (port, process, keys):
        wires = [Wire(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)) for _ in range(WANTED)]
        return await rounds(Bench(wires, keys, process), sizes)


def main() -> None:
    options = measure.options(__doc__ or "")
    sizes = TINY if options.tiny else FULL
    found = asyncio.Runner(loop_factory=uvloop.new_event_loop).run(measured(sizes))
    ratios: dict[str, list[float]] = {}
    for number in sizes.connections:
        for name in ("wall", "cpu"):
            ratios[f"hand-off / send, {name}, {number} at once"] = [
                getattr(one.hand_offs[number], name) / getattr(one.sends[number], name) for one in found
            ]
    ratios[f"{WANTED} claims of one task / {WANTED} sends"] = [statistics.median(one.claims) for one in found]
    if options.json:
        print(json.dumps({name: measure.summary(values) for name, values in ratios.items()}, indent=2))
        return
    measure.table([("", "median (middle half)"), *((name, measure.spread(values)) for name, values in ratios.items())])
    print()
    rows = [("at once", "hand-offs a second", "p50 ms", "relay's CPU us", "sends a second", "p50 ms", "relay's CPU us")]
    for number in sizes.connections:
        hand_offs = _cells([one.hand_offs[number] for one in found])
        rows.append((str(number), *hand_offs, *_cells([one.sends[number] for one in found])))
    measure.table(rows)


def _cells(batches: list[Batch]) -> tuple[str, str, str]:
    wall, cpu, p50 = (statistics.median(values) for values in zip(*batches, strict=True))
    return f"{1e6 / wall:.0f}", f"{p50:.2f}", f"{cpu:.0f}"


if __name__ == "__main__":
    main()
