"""For `scale.py`: a real relay process: how long it takes to start, what it takes, and what it holds."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import _load
import _measure as measure
import relay
from _scale_sends import SEND_RATE
from _scale_sizes import Copies, Directories, Extent, progress, short, turned
from agentchat import Client

MIB = 1 << 20


def served(directories: Directories, extent: Extent) -> dict[str, Any]:
    copies = Copies(directories)
    taken: dict[int, list[dict[str, float]]] = {size: [] for size in (0, *extent.sizes)}
    with ExitStack() as stack:
        generators = {size: relay.Generator(os.path.join(directories.path(size), "people.json")) for size in taken}
        for generator in generators.values():
            stack.callback(generator.stop)
        for turn in range(extent.rounds):
            for size in turned(tuple(taken), turn):
                path = copies.path(size)
                taken[size].append(_served(path, generators[size], extent))
            progress("served", turn + 1, extent.rounds)
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
            progress("sends for memory", tenth, 10)
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
