"""For `postgres.py`: a Postgres of its own, relays that share it, and the CPU of all of them.

What a database spends is what all its processes spend, those that have ended counted with them.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import _load
import relay
from agentchat import Client
from agentchat.errors import Unavailable
from agentchat_relay.store.postgres.engine import Postgres
from tests.postgres import Server, new_schema

# As a small database in earnest has it, but for the place of its data.
SETTINGS = {"max_connections": "200", "shared_buffers": "256MB", "autovacuum_naptime": "60s"}
FLEETS = {"SQLite": 1, "Postgres x1": 1, "Postgres x2": 2, "Postgres x3": 3}
LATE = 60.0  # seconds


class Spent(NamedTuple):
    """CPU seconds so far, and what the relays counted: calls that wrote, and the commits they shared."""

    relays: float
    database: float
    calls: float
    commits: float


def database_cpu(postmaster: int) -> float:
    """CPU seconds of all its processes so far. The kernel adds those of a child that has ended to its parent's."""
    fields = _fields(postmaster)
    total = sum(map(int, fields[11:15])) / _load.HZ
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):  # it has just ended
                if int(_fields(int(name))[1]) == postmaster:
                    total += process_cpu(int(name))
    return total


def _fields(process: int) -> list[str]:
    with open(f"/proc/{process}/stat") as file:
        return file.read().rpartition(")")[2].split()


def process_cpu(process: int) -> float:
    """CPU seconds of a process with one thread, more exactly than in ticks of a clock."""
    with open(f"/proc/{process}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


class Fleet:
    """One or more relays of one database."""

    def __init__(self, folder: str, name: str, url: str, people: _load.People, stack: ExitStack) -> None:
        self.servers: list[relay.Server] = []
        for number in range(FLEETS[name]):
            path = os.path.join(folder, f"{name}-{number}")
            self.servers.append(relay.Server("relay", path, url))
            stack.callback(self.servers[-1].stop)
            self.servers[-1].pin(relay.CORES)
        self.ports = [server.port for server in self.servers]
        self.pids = [server.process.pid for server in self.servers]
        self.key = next(iter(people["keys"].values()))
        self._client = Client(f"http://127.0.0.1:{self.ports[0]}", key=self.key)
        stack.callback(self._client.close)

    def settle(self) -> None:
        """Wait until everything that was sent can be found."""
        deadline = time.monotonic() + LATE
        while True:
            try:
                self._client.search_messages("nobody-wrote-this")
                return
            except Unavailable:
                if time.monotonic() > deadline:
                    raise

    def spent(self, database: Server | None) -> Spent:
        calls, commits = map(sum, zip(*map(_groups, self.ports), strict=True))
        of_database = 0.0 if database is None else database_cpu(database.pid)
        return Spent(sum(map(_load.spent, self.pids)), of_database, calls, commits)


def _groups(port: int) -> tuple[float, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        page = answer.read().decode()
    sums = {name: float(value) for name, value in re.findall(r"^agentchat_commit_group_calls_(\w+) (\S+)$", page, re.M)}
    return sums["sum"], sums["count"]


class Fleets:
    """Every engine with every number of relays, each with a database of its own that holds the same."""

    def __init__(self, folder: str, database: Server, names: list[str], seeded: int, stack: ExitStack) -> None:
        self._database = database
        self._fleets: dict[str, Fleet] = {}
        self._generators: dict[str, relay.Generator] = {}
        for name in names:
            is_sqlite = name == "SQLite"
            url = "" if is_sqlite else new_schema(database.url)
            people = self._people(os.path.join(folder, f"{name}-0"), url, seeded)
            told = os.path.join(folder, f"{name}.json")
            Path(told).write_text(json.dumps(people))
            self._fleets[name] = Fleet(folder, name, url, people, stack)
            self._generators[name] = relay.Generator(told)
            stack.callback(self._generators[name].stop)

    def ports(self, name: str) -> list[int]:
        return self._fleets[name].ports

    def key(self, name: str) -> str:
        """Of an agent that a fleet knows."""
        return self._fleets[name].key

    @staticmethod
    def _people(path: str, url: str, seeded: int) -> _load.People:
        if not url:
            return relay.seed(path, relay.Sizes(seeded=seeded))
        store = Postgres(url)
        try:
            return relay.filled(store, seeded)
        finally:
            store.close()

    def run(self, name: str, load: str, connections: int, warm_up: float, seconds: float) -> dict[str, float]:
        """One load on one fleet. CPU counts until all of it is searchable, and so does the index."""
        fleet, database = self._fleets[name], None if name == "SQLite" else self._database
        before = fleet.spent(database)
        job = {
            "ports": fleet.ports,
            "servers": fleet.pids,
            "cores": relay.CORES,
            "connections": connections,
            "load": load,
            "warm_up": warm_up,
            "seconds": seconds,
        }
        found = self._generators[name].run(job)  # type: ignore[arg-type]
        fleet.settle()
        spent = Spent(*(late - early for early, late in zip(before, fleet.spent(database), strict=True)))
        each = 1e6 / found["answered"]
        return found | {
            "relay": spent.relays * each,
            "database": spent.database * each,
            "cpu": (spent.relays + spent.database) * each,
            "group": spent.calls / max(spent.commits, 1),
        }
