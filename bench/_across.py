"""For `postgres.py`: how soon a stream has what was sent, at the relay that was asked and at another."""

from __future__ import annotations

import os
import select
import socket
import time
from contextlib import ExitStack
from typing import NamedTuple

import _measure as measure
import _postgres
from agentchat import Client
from agentchat._exchange import KEY_HEADER
from tests.postgres import Server

_EVENT = b"\ndata: "
_PATIENCE = 30.0


class Extent(NamedTuple):
    sends: int = 300
    seeded: int = 1000


TINY = Extent(sends=5, seeded=10)


class Stream:
    """Messages of a relay, as they come."""

    def __init__(self, port: int, key: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        fields = ["host: x", "accept: text/event-stream", f"{KEY_HEADER}: {key}", "", ""]
        self.socket.sendall("\r\n".join(["GET /api/v2/events?kind=message.created HTTP/1.1", *fields]).encode())
        begun = b""
        while b"id: " not in begun:
            begun += self.socket.recv(65536)

    def has_come(self) -> bool:
        return _EVENT in self.socket.recv(1 << 16)


def measured(database: Server, extent: Extent, folder: str) -> dict[str, list[float]]:
    """Milliseconds from before the call: until it was answered, until the stream here and there had it."""
    with ExitStack() as stack:
        os.makedirs(folder)
        fleets = _postgres.Fleets(folder, database, ["Postgres x2"], extent.seeded, stack)
        ports, key = fleets.ports("Postgres x2"), fleets.key("Postgres x2")
        streams = {Stream(port, key): name for port, name in zip(ports, ("here", "there"), strict=True)}
        for stream in streams:
            stack.callback(stream.socket.close)
        found: dict[str, list[float]] = {"answer": [], "here": [], "there": []}
        with Client(f"http://127.0.0.1:{ports[0]}", key) as client:
            for number in range(extent.sends):
                began = time.perf_counter()
                client.send_message("general", f"number {number}")
                found["answer"].append((time.perf_counter() - began) * 1000)
                for name, at in _waited(streams).items():
                    found[name].append((at - began) * 1000)
        return found


def _waited(streams: dict[Stream, str]) -> dict[str, float]:
    """When each of them had the next message."""
    times: dict[str, float] = {}
    while len(times) < len(streams):
        ready, _, _ = select.select([stream.socket for stream in streams], [], [], _PATIENCE)
        if not ready:
            raise SystemExit("a stream did not get what was sent")
        for stream, name in streams.items():
            if stream.socket in ready and stream.has_come():
                times.setdefault(name, time.perf_counter())
    return times


def told(found: dict[str, list[float]]) -> None:
    rows = [("from a send until", "p50 ms", "p99 ms", "over its answer")]
    for name in ("answer", "here", "there"):
        times = sorted(found[name])
        over = [late / answer for late, answer in zip(found[name], found["answer"], strict=True)]
        p99 = times[min(len(times) - 1, len(times) * 99 // 100)]
        rows.append((name, f"{times[len(times) // 2]:.2f}", f"{p99:.2f}", measure.spread(over)))
    measure.table(rows)
    print("here: a stream of the relay that was asked. there: of another relay of the same database.", end="\n\n")
