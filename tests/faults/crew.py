"""Processes that work side by side on relays, or in a directory without one, what strikes them all, and a round's pace.

What the campaigns share in which those who do the work are killed as well.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.faults import postgres_campaign
from tests.faults.actor import PATIENCE
from tests.faults.database import Database
from tests.faults.fleet import Fleet, SharingRelay
from tests.faults.journal import Attempt, read
from tests.faults.relay_process import LONGEST_START, ROOT, token

LONGEST = 30.0  # seconds in mid-flight, on a machine that has much else to do
STARTS = 3  # of a relay, before it counts as one that cannot


class TestedRelay(SharingRelay):
    def start(self) -> None:
        """Where everything is slow, it may stand still for longer than Postgres lets it, and gives up. Whoever keeps a
        relay up starts it again."""
        for _ in range(STARTS - 1):
            try:
                return super().start()
            except RuntimeError:
                if "cannot reach its database" not in self.log()[-1000:]:
                    raise
                self.close()
        return super().start()

    def _reap(self, process: subprocess.Popen[str]) -> int:
        """It has its time to end."""
        late = threading.Timer(LONGEST_START, process.kill)
        late.start()
        try:
            return super()._reap(process)
        finally:
            late.cancel()


class TestedFleet(Fleet):
    crew = 4, 6
    worker_build = ""

    def __init__(self, kind: type[TestedRelay], store: str | None, place: Path, broken: str | None = None) -> None:
        self.kind = kind
        super().__init__(store, place, broken)

    def new_key(self, name: str) -> str:
        """Asked for until it is given: the wire to Postgres may be a bad one."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return token(self.url, self.relays[0].data, name)
            except httpx.HTTPError as error:
                if time.monotonic() >= deadline:
                    raise RuntimeError(f"no key for {name}: {error}") from error


class NoFleet(TestedFleet):
    """A directory that everybody shares, without a relay: those who work in it are what is broken and struck."""

    crew = 20, 20

    def __init__(self, place: Path, build: str | None) -> None:
        self.relays = []
        self.worker_build = build or ""
        self._place = place

    @property
    def urls(self) -> list[str]:
        return [f"local:{self._place / 'shared'}"]

    @property
    def url(self) -> str:
        return self.urls[0]

    def start(self, relays: object = None) -> None:
        """There is nothing to start."""

    def new_key(self, name: str) -> str:
        return name

    def complaints(self) -> Iterator[str]:
        log = self._place / "workers.log"
        told = log.read_text() if log.exists() else ""
        if "Traceback" in told:
            yield f"the log of the workers: {told[told.index('Traceback') :][:3000]}"

    def close(self) -> None:
        """There is nothing to end."""


# Who works


class Seat(NamedTuple):
    """For one of them: whose key it has, and whatever else it is told."""

    key: str
    more: Mapping[str, Any]


class Crew:
    """Processes of one module. Each seat has a session, and those who sat in it, one after the other."""

    def __init__(self, fleet: TestedFleet, module: str, seats: Sequence[Seat], home: Path, luck: random.Random) -> None:
        self._build, self._urls, self._module = fleet.worker_build, fleet.urls, module
        self._seats, self._home, self._luck = seats, home, luck
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._sessions: dict[int, str] = {}
        self._journals: dict[int, Path] = {}
        self._started = 0

    def start(self) -> None:
        for place in range(len(self._seats)):
            self._sit(place, f"session-{place}", None)
        deadline = time.monotonic() + LONGEST_START
        while not all(journal.stat().st_size for journal in self._journals.values()) and time.monotonic() < deadline:
            time.sleep(0.05)  # twenty need a while

    def kill(self) -> None:
        """One of them, and let another have its place."""
        place = self._luck.choice([*self._processes])
        self._end(self._processes[place])
        self._follow(place)

    def kill_all(self) -> None:
        for process in self._processes.values():
            process.kill()
        for place, process in [*self._processes.items()]:
            self._end(process)
            self._follow(place)

    def _follow(self, place: int) -> None:
        """In the same session or in a new one."""
        session, attempts = self._sessions[place], read([self._journals[place]])
        cut_off = attempts[-1] if attempts and attempts[-1].is_unknown else None
        fate = self._luck.choice(["repeat", "repeat", "same", "new"])
        if fate == "new":
            session = f"session-{place}-{self._started}"
        self._sit(place, session, cut_off if fate == "repeat" else None)

    def journals(self) -> list[Path]:
        return sorted(self._home.glob("worker-*"))

    def stop(self) -> None:
        """They finish what they are about."""
        for process in self._processes.values():
            assert process.stdin
            process.stdin.close()
        for process in self._processes.values():
            try:
                process.wait(2 * LONGEST_START)
            except subprocess.TimeoutExpired:
                self._end(process)
        ended = {process.returncode for process in self._processes.values()}
        if ended - {0}:
            raise RuntimeError(f"workers ended with {sorted(ended)}: {(self._home / 'workers.log').read_text()[-500:]}")

    def close(self) -> None:
        for process in self._processes.values():
            self._end(process)

    def _sit(self, place: int, session: str, cut_off: Attempt | None) -> None:
        self._started += 1
        journal = self._home / f"worker-{self._started}"
        journal.touch()  # it may be killed before it gets that far
        seat = self._seats[place]
        options = {
            "urls": self._urls, "key": seat.key, "who": f"worker{self._started}", "session": session,
            "journal": str(journal), "seed": self._luck.random(), "build": self._build,
            "interrupted": cut_off and {"call": cut_off.call, "key": cut_off.key, "arguments": cut_off.arguments},
            **seat.more,
        }  # fmt: skip
        command = [sys.executable, "-m", self._module, json.dumps(options)]
        with (self._home / "workers.log").open("ab") as log:
            self._processes[place] = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=log)
        self._sessions[place], self._journals[place] = session, journal

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        assert process.stdin
        process.stdin.close()


# Who strikes


KINDS = {
    "sqlite": {"kill a worker": 5, "kill": 2, "stop": 1},
    "postgres": {"kill a worker": 5, "strike": 4},
    "local": {"kill a worker": 15, "kill": 1},
}


TIMES = {"sqlite": 1, "postgres": 1, "local": 3}  # as many strikes: there are more to strike


class Blow(NamedTuple):
    """What happens when so much was done."""

    after: int
    kind: str
    strike: postgres_campaign.Strike


def blows(luck: random.Random, engine: str, total: int, least: int, most: int) -> list[Blow]:
    """From `least` to `most` blows, while something is done `total` times."""
    times = luck.randint(least, most) * TIMES[engine]
    moments = sorted(luck.randrange(2, total) for _ in range(times))
    kinds = KINDS[engine]
    strikes = postgres_campaign.planned(random.Random(luck.random()))
    found = [
        Blow(moment, luck.choices([*kinds], [*kinds.values()])[0], luck.choice(strikes)) for moment in moments
    ]  # fmt: skip
    first = found[0]._replace(kind="kill a worker")
    last = found[-1]._replace(kind="strike" if engine == "postgres" else "kill")
    return [first, *found[1:-1], last]


class Striker:
    """Strikes workers, relays, and the database if there is one."""

    def __init__(self, fleet: Fleet, crew: Crew, database: Database | None, over: threading.Event) -> None:
        self._fleet, self._crew = fleet, crew
        self._shared = postgres_campaign.Striker(fleet, database, over) if database else None
        self._done: Counter[str] = Counter()

    @property
    def done(self) -> Counter[str]:
        return self._done + self._shared.done if self._shared else self._done

    @property
    def engine(self) -> str:
        return "postgres" if self._shared else "sqlite" if self._fleet.relays else "local"

    def strike(self, blow: Blow) -> None:
        if blow.kind == "kill a worker":
            self._crew.kill()
        elif self._shared is not None:
            self._shared.strike(blow.strike)
            return
        else:
            self.relay(blow.kind)
        self._done[blow.kind] += 1

    def everything(self) -> None:
        if self._shared is not None:
            self._shared.everything()
        else:
            self.relay("kill")
            self._done["kill"] += 1

    def relay(self, kind: str) -> None:
        """Where there is none, all who do without it."""
        if not self._fleet.relays:
            self._crew.kill_all()
            return
        (relay,) = self._fleet.relays
        {"kill": relay.kill, "stop": relay.stop}[kind]()
        relay.start()


# The pace


class Pace:
    """How many calls of a name were begun, by the journals."""

    def __init__(self, crew: Crew, call: str) -> None:
        self._crew, self._until = crew, time.monotonic() + LONGEST
        self._begun = re.compile(f'"call": "{call}", "key": "([^"]+)"')

    def wait(self, calls: int) -> None:
        while self._made() < calls and time.monotonic() < self._until:
            time.sleep(0.05)

    def _made(self) -> int:
        return len({key for journal in self._crew.journals() for key in self._begun.findall(journal.read_text())})


def mid_flight(crew: Crew, striker: Striker, plan: Sequence[Blow], call: str, total: int) -> None:
    """Blow after blow while that call is made so many times, and then everything at once."""
    crew.start()
    pace = Pace(crew, call)
    for blow in plan:
        pace.wait(blow.after)
        striker.strike(blow)
    pace.wait(total)
    striker.everything()
    crew.stop()
