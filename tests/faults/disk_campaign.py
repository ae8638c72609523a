"""Does a relay keep its promises while its disk is full, broken or read-only, its clock jumps, and its files rot?

    python -m tests.faults.disk_campaign --rounds 200 --seed 1 [--json]
    python -m tests.faults.disk_campaign --seed 1 --round 17            # that one again
    python -m tests.faults.disk_campaign --rounds 5 --broken eio        # a control: rounds must fail

Two kinds of rounds. In a storm agents write, read, search, upload and download, and write down what they were told,
while spells of bad weather come over the disk and the clock of the running relay (`weather/`), which is struck in some
of them, and started again in the same weather if it can be. Each answer must fit its weather, the relay must recover
when it clears, and after a last power cut the checker (`histories.py`) compares what the agents were told with what the
relay tells. In a damaged start something happens to the files of a directory whose history is known: the relay started
on it refuses, heals, or serves nothing but the truth (`damaged.py`).

The agents' choices, the weather and the damage follow from seed and round; what they hit is up to the machine.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from agentchat import AgentChatError, Client, errors
from tests.faults import spells
from tests.faults.histories import Post, Told, Upload, violations
from tests.faults.machine import Machine
from tests.faults.relay_campaign import (
    AGENTS,
    AUDITOR,
    CALLS,
    DIRECT,
    LONGEST_START,
    NEWCOMER,
    PATIENCE,
    SENDERS,
    SHARED,
    Beginning,
    Pace,
    RelayProcess,
    Sender,
    collect,
    follow,
    join,
    token,
    unknown,
)
from tests.faults.spells import CLOCK, DOWN, Answer, Spell, Times, Witness
from tests.faults.weather import Weather

PROBER = "mac-prober"  # asks whether the relay is well again
CONTROLS = ("eio", "enospc", "clock", "onward")
GAVE_UP = "nothing acknowledged gets lost"
# What the log says where nobody caught a fault.
UNCAUGHT = ("Traceback", "ends by a fault", "none can be raised", "Exception in thread")


class ManagedRelay(RelayProcess):
    """A relay in the weather, under a service manager: if it ends by itself it is started again."""

    options: tuple[str, ...] = ()

    def __init__(self, data: Path, scratch: Path, build: str | None) -> None:
        super().__init__(data, scratch, build)
        self.weather, self.times = Weather(data, scratch), Times()
        self.complaints: list[str] = []
        self.ends: Counter[str] = Counter()
        self._fair = threading.Event()
        self._fair.set()
        self._turn = threading.RLock()
        self._down: spells.Span | None = None

    def environment(self) -> dict[str, str]:
        return self.weather.environment(super().environment())

    def try_to_start(self) -> bool:
        """It may refuse, cleanly."""
        with self._turn:
            before = len(self.log())
            process = self.launch()
            if self.is_ready(process):
                self._is_up(process)
                return True
            self._reap(process)
            said = self.log()[before:].strip()
            if process.returncode in (0, None) or process.returncode < 0 or not said.startswith("Error ("):
                self.complaints.append(f"it did not start, and ended with {process.returncode}: {said[-300:]}")
            self.ends["refused to start"] += 1
            return False

    def must_start(self) -> None:
        if not self.try_to_start():
            raise RuntimeError(f"the relay did not start in fair weather: {self.log()[-500:]}")

    def strike(self, kind: str, luck: random.Random) -> bool:
        """Whether there was a relay to be struck."""
        with self._turn:
            if self._process is None:
                return False
            self._is_down()
            {"cut": self.cut, "torn cut": partial(self.cut, luck), "kill": self.kill, "stop": self.stop}[kind]()
            return True

    def storms(self) -> None:
        self._fair.clear()

    def clears(self) -> None:
        self.weather.clear()
        self._fair.set()

    def close(self) -> None:
        with self._turn:
            super().close()
        self._fair.set()

    def _is_up(self, process: subprocess.Popen[str]) -> None:
        if self._down is not None:
            self.times.end(self._down)
            self._down = None
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    def _is_down(self, before: float = 0.0) -> None:
        self.up.clear()
        if self._down is None:
            self._down = self.times.begin(DOWN, before)

    def _watch(self, process: subprocess.Popen[str]) -> None:
        code = process.wait()
        with self._turn:
            if self._process is not process:  # somebody struck it
                return
            self._is_down(before=1.0)
            self._reap(process)
            if code != 1 or GAVE_UP not in self.log():
                self.complaints.append(f"the relay ended by itself with {code}: {self.log()[-500:]}")
            self.ends["gave up"] += 1
        while not self.try_to_start():
            if not self._fair.wait(LONGEST_START):
                self.complaints.append("the relay did not come back")
                return


class WeatherSender(Sender):
    """Also searches and downloads, and knows what a full disk may answer."""

    choices = {**Sender.choices, "search": 3, "download": 2}

    def __init__(self, relay: ManagedRelay, *arguments: Any, witness: Witness) -> None:
        super().__init__(relay, *arguments, transport=witness)
        self._witness = witness
        self._began = 0.0
        self._stored: list[tuple[str, bytes]] = []

    def search(self) -> None:
        """What was acknowledged before can be found."""
        if self._posted:
            post = self._luck.choice(self._posted)
            with self._reading():
                found = [hit["id"] for hit in self._client.search_messages(post.text.split()[-1])["results"]]
                if found != [post.id]:
                    self.told.refused.append(f"a search for {post.text.split()[-1]} found {found}, not {post.id}")

    def download(self) -> None:
        if self._stored:
            path, content = self._luck.choice(self._stored)
            with self._reading():
                if self._client.download_file(path)["content"] != content:
                    self.told.refused.append(f"{path}: other bytes than were uploaded")

    def _put(self, upload: Upload) -> None:
        self._began = time.monotonic()
        super()._put(upload)
        last = self.told.uploads[-1]
        if last.path:
            self._stored.append((last.path, last.content))
        elif self._may_be_done(last.error):
            self.told.uploads[-1] = last._replace(error=None)

    def _record(self, post: Post) -> None:
        self._began = post.began
        super()._record(post._replace(error=None) if self._may_be_done(post.error) else post)

    def _did(self, call: Any) -> tuple[bool, str | None]:
        self._began = time.monotonic()
        done, error = super()._did(call)
        return done, None if self._may_be_done(error) else error

    def _may_be_done(self, error: str | None) -> bool:
        """A refusal for want of room, after an attempt of which nobody knows what came of it."""
        return error == "storage_full" and self._witness.attempts_since(self._began) > 1

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Reading a channel for the first time joins it, which a full disk refuses."""
        try:
            yield
        except errors.StorageFull:
            pass
        except AgentChatError as error:
            if not unknown(error):
                self.told.refused.append(f"{self._name} reads: refused with {error.code}")


class Round(NamedTuple):
    kind: str
    calls: int
    acknowledged: int
    unanswered: int
    refused: int  # for want of room
    messages: int
    spells: Counter[str]
    strikes: Counter[str]
    ends: Counter[str]
    faults: Counter[str]
    starts: Counter[str]  # damaged ones
    recovery: float  # seconds, the slowest
    violations: list[str]


def nothing(kind: str) -> Round:
    return Round(kind, 0, 0, 0, 0, 0, Counter(), Counter(), Counter(), Counter(), Counter(), 0.0, [])


# Storms


class Storm:
    """One round."""

    def __init__(self, relay: ManagedRelay, beginning: Beginning, luck: random.Random) -> None:
        self._relay, self._beginning, self._luck = relay, beginning, luck
        self.told = Told([*beginning.posts], [], [], [], [], [], [], frozenset({"storage_full"}))
        self.keys: dict[str, str] = {}
        self.spells, self.strikes = Counter[str](), Counter[str]()
        self.recovery = 0.0
        self._answers: list[list[Answer]] = []
        self._probes = 0

    def run(self) -> Iterator[str]:
        """What is wrong with it."""
        relay, luck = self._relay, self._luck
        relay.must_start()
        data = relay.power.data
        self.keys = {**self._beginning.keys, **{name: token(relay.url, data, name) for name in (NEWCOMER, PROBER)}}
        for name in (NEWCOMER, PROBER):
            join(relay.url, self.keys[name])
        machine = Machine(relay.url, data)
        self._mid_flight(machine)
        yield from self._presence()
        yield from machine.complaints
        yield from relay.complaints
        for answers in self._answers:
            yield from spells.misfits(answers, relay.times)
        kept = collect(relay.url, self.keys, self.told, luck)
        yield from violations(self.told, kept)
        relay.strike("stop", luck)
        yield from whole(data)
        yield from (f"the relay's log: {relay.log()[-300:]}" for sign in UNCAUGHT if sign in relay.log())

    def _witness(self) -> Witness:
        self._answers.append([])
        return Witness(self._relay.url, self._answers[-1])

    def _mid_flight(self, machine: Machine) -> None:
        relay, luck, names = self._relay, self._luck, [*AGENTS, NEWCOMER]
        senders = [
            WeatherSender(
                relay, self.told, random.Random(luck.random()), number, name := names[number % len(names)],
                self.keys[name], witness=self._witness(),
            )
            for number in range(SENDERS)
        ]  # fmt: skip
        plan, limits = spells.planned(luck, SENDERS * CALLS), [luck.randint(1, 50) for _ in range(3)]
        over, pace = threading.Event(), Pace()
        with ThreadPoolExecutor(SENDERS + 3) as pool:
            lists = [(AUDITOR, SHARED[0]), (AUDITOR, SHARED[1]), (AGENTS[0], DIRECT)]
            following = [
                pool.submit(follow, relay, name, self.keys[name], channel, limit, over)
                for (name, channel), limit in zip(lists, limits, strict=True)
            ]
            acting = [pool.submit(sender.run, pace, over) for sender in senders]
            try:
                for spell in plan:
                    pace.wait(spell.after)
                    self._cast(spell, pace, machine)
                for sender in acting:
                    sender.result()
                self._strike("torn cut")
                relay.must_start()
            finally:
                over.set()
                relay.clears()
                relay.up.set()  # whoever still waits finds out what is the matter
            self.told.followed.extend(follower.result() for follower in following)

    def _cast(self, spell: Spell, pace: Pace, machine: Machine) -> None:
        relay, luck = self._relay, random.Random(spell.seed)
        self.spells[spell.kind] += 1
        with relay.times.during(spell.kind):
            relay.storms()
            spells.begin(relay.weather, spell.kind, luck)
            if spell.kind == CLOCK:
                machine.register(relay.weather.ahead)
            pace.wait((spell.after + spell.through) // 2)
            if spell.strike:
                self._strike(spell.strike)
                if not (spell.in_it and relay.try_to_start()):
                    relay.clears()
                    relay.must_start()
            pace.wait(spell.through)
            if spell.kind == CLOCK and luck.random() < 0.7:
                relay.weather.clock()
            relay.clears()
            self.recovery = max(self.recovery, spells.recovery(self._probe))
        machine.register(relay.weather.ahead)

    def _strike(self, kind: str) -> None:
        if self._relay.strike(kind, self._luck):
            self.strikes[kind] += 1

    def _probe(self) -> bool:
        """A post goes through, and can be read, searched and counted."""
        self._probes += 1
        post = Post(PROBER, SHARED[0], f"the probe probe{self._probes}", time.monotonic())
        with closing(Client(self._relay.url, self.keys[PROBER], agent=PROBER, retries=0, deadline=PATIENCE)) as client:
            try:
                message = client.send_message(post.channel, post.text)["message"]
                self.told.posts.append(
                    post._replace(ended=time.monotonic(), id=message["id"], at=message["created_at"])
                )
                return any(
                    hit["id"] == message["id"] for hit in client.search_messages(f"probe{self._probes}")["results"]
                )
            except AgentChatError as error:
                self.told.posts.append(post._replace(error=None if unknown(error) else error.code))
                time.sleep(0.02)
                return False

    def _presence(self) -> Iterator[str]:
        """Whoever calls now is seen now, by the clock of now."""
        relay = self._relay
        for name, key in self.keys.items():
            with closing(Client(relay.url, key, agent=name)) as client:
                client.check_board()
        now = time.time() + relay.weather.ahead
        with closing(Client(relay.url, self.keys[AUDITOR])) as auditor:
            listed = {
                agent["name"]: agent["last_seen_at"] for agent in auditor.find_agents(active_within="15m")["agents"]
            }
        for name in self.keys:
            seen = listed.get(name)
            if seen is None or abs(seconds(seen) - now) > 600:
                yield f"{name} called just now and was seen at {seen}, {relay.weather.ahead:+.0f} s from the true time"


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def whole(data: Path) -> Iterator[str]:
    """What SQLite finds wrong with the database of a relay that was stopped, and what the doctor does."""
    with closing(sqlite3.connect(data / "agentchat.db")) as connection:
        for (told,) in connection.execute("PRAGMA integrity_check"):
            if told != "ok":
                yield f"agentchat.db: {told}"
    found: list[Finding] = []
    examine(str(data), Progress(quiet=True), found.append)
    yield from (f"the doctor: {finding['text']}" for finding in found if finding["level"] == "problem")


def storm(seed: str, home: Path, beginning: Beginning, broken: str | None) -> Round:
    luck = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="round-", dir=home) as place:
        data, scratch = Path(place, "data"), Path(place, "scratch")
        shutil.copytree(beginning.data, data)
        scratch.mkdir()
        for library in beginning.library.parent.glob("*.so"):
            shutil.copy(library, scratch)
        relay = ManagedRelay(data, scratch, broken or luck.choice([None, "hurried"]))
        round_ = Storm(relay, beginning, luck)
        found: list[str] = []
        try:
            found += round_.run()
        except (AgentChatError, RuntimeError) as error:
            found.append(f"the round ended early: {type(error).__name__} {error}")
        finally:
            relay.close()
            faults = relay.weather.times()
            relay.weather.close()
    return judged(round_, relay, faults, found)
