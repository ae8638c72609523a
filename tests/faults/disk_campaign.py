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
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from agentchat import AgentChatError, Client, errors
from agentchat_relay.keeping.doctor import examine
from agentchat_relay.keeping.progress import Progress
from agentchat_relay.keeping.visit import Finding
from tests.faults import damage_rounds, damaged, powercut, rounds, spells, weather
from tests.faults.damaged import World
from tests.faults.histories import DIRECT, Post, Told, Upload, violations
from tests.faults.machine import Machine
from tests.faults.relay_campaign import (
    AGENTS,
    AT_A_TIME,
    AUDITOR,
    CALLS,
    LONGEST_START,
    NEWCOMER,
    PATIENCE,
    SENDERS,
    SHARED,
    Beginning,
    Call,
    Pace,
    RelayProcess,
    Sender,
    answered,
    begin,
    collect,
    follow,
    is_acknowledged,
    join,
    token,
    unknown,
)
from tests.faults.spells import CHECKPOINT, CLOCK, DOWN, FSYNC, FULL, Answer, Spell, Times, Witness
from tests.faults.weather import Weather

PROBER = "mac-prober"  # asks whether the relay is well again
CONTROLS = {
    "eio": FSYNC,
    "enospc": FULL,
    "clock": CLOCK,
    "onward": CHECKPOINT,
}  # builds, and the weather that shows them
GAVE_UP = "nothing acknowledged gets lost"
STARTS = 4  # in a round of damaged starts
# What the log says where nobody caught a fault.
UNCAUGHT = ("Traceback", "ends by a fault", "none can be raised", "Exception in thread")


class ManagedRelay(RelayProcess):
    """A relay in the weather, under a service manager: if it ends by itself it is started again."""

    limits = ("--agent-reads", "500")  # otherwise those of everybody: a clock that jumps must not use them up

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
            if self._process is not None:  # the service manager was faster
                return True
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

    def is_stuck(self) -> bool:
        """Whether it waits for fair weather."""
        return self._process is None

    def must_start(self) -> None:
        if not self.try_to_start():
            raise RuntimeError(f"the relay did not start in fair weather: {self.log()[-500:]}")

    def strike(self, kind: str, luck: random.Random) -> bool:
        """Whether there was a relay to be struck."""
        with self._turn:
            if self._process is None or self._process.poll() is not None:
                return False
            self._is_down()
            {"cut": self.cut, "torn cut": partial(self.cut, luck), "kill": self.kill, "stop": self.stop}[kind]()
            return True

    def stop(self) -> None:
        """A disk that fails while the relay stops may make it give up."""
        process = self._struck(signal.SIGTERM)
        late = threading.Timer(PATIENCE, process.kill)
        late.start()
        code = self._reap(process)
        late.cancel()
        if code != 0 and not (code == 1 and GAVE_UP in self.log()):
            self.complaints.append(f"it ended with {code} after SIGTERM: {self.log()[-500:]}")

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

    choices: Mapping[str, int] = {**Sender.choices, "search": 3, "download": 2}

    def __init__(self, relay: ManagedRelay, *arguments: Any, witness: Witness) -> None:
        super().__init__(relay, *arguments, transport=witness)
        self._witness, self._times = witness, relay.times
        self._began = 0.0
        self._stored: list[tuple[str, bytes]] = []

    def search(self) -> None:
        """What was acknowledged before can be found; of what the index has no room for, as much as it has."""
        if self._posted:
            post, began = self._luck.choice(self._posted), time.monotonic()
            with self._reading():
                found = [hit["id"] for hit in self._client.search_messages(post.text.split()[-1])["results"]]
                weather = self._times.meeting(began, time.monotonic())
                if found != [post.id] and (found or not weather & spells.DISK.keys()):
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


def read_long(data: Path, luck: random.Random, over: threading.Event) -> None:
    """As a backup reads: one snapshot for a while, again and again, in the way of the checkpoints."""
    while not over.is_set():
        try:
            with closing(
                sqlite3.connect(f"file:{data}/agentchat.db?mode=ro", uri=True, isolation_level=None)
            ) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
                over.wait(luck.uniform(0.0, 0.1))
        except sqlite3.Error:  # there is no database right now
            pass
        over.wait(luck.uniform(0.0, 0.1))


class Round(NamedTuple):
    kind: str
    violations: list[str]
    counts: Mapping[str, int] = {}
    spells: Mapping[str, int] = {}
    strikes: Mapping[str, int] = {}
    ends: Mapping[str, int] = {}  # of relays that nobody struck
    faults: Mapping[str, int] = {}  # calls of the system that failed
    starts: Mapping[str, int] = {}  # on damaged directories
    recovery: float = 0.0  # seconds, the slowest


# Storms


class Storm:
    """One round."""

    def __init__(self, relay: ManagedRelay, beginning: Beginning, luck: random.Random, only: str | None = None) -> None:
        self._only = only
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
        plan, limits = spells.planned(luck, SENDERS * CALLS, self._only), [luck.randint(1, 50) for _ in range(3)]
        over, pace = threading.Event(), Pace()
        with ThreadPoolExecutor(SENDERS + 4) as pool:
            lists = [(AUDITOR, SHARED[0]), (AUDITOR, SHARED[1]), (AGENTS[0], DIRECT)]
            following = [
                pool.submit(follow, relay, name, self.keys[name], channel, limit, over)
                for (name, channel), limit in zip(lists, limits, strict=True)
            ]
            acting = [pool.submit(sender.run, pace, over) for sender in senders]
            reading = pool.submit(read_long, relay.power.data, random.Random(luck.random()), over)
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
            reading.result()

    def _cast(self, spell: Spell, pace: Pace, machine: Machine) -> None:
        relay, luck = self._relay, random.Random(spell.seed)
        self.spells[spell.kind] += 1
        with relay.times.during(spell.kind):
            relay.storms()
            spells.begin(relay.weather, spell.kind, luck)
            if spell.kind == CLOCK:
                machine.register(relay.weather.ahead)
            pace.wait((spell.after + spell.through) // 2, unless=relay.is_stuck)
            if spell.strike:
                self._strike(spell.strike)
                if not (spell.in_it and relay.try_to_start()):
                    relay.clears()
                    relay.must_start()
            pace.wait(spell.through, unless=relay.is_stuck)
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
                if post.id is None:
                    self.told.posts.append(post._replace(error=None if unknown(error) else error.code))
                time.sleep(0.02)
                return False

    def _presence(self) -> Iterator[str]:
        """Whoever posts now is seen now, by the clock of now."""
        relay = self._relay
        for name, key in self.keys.items():
            post = Post(name, "roll-call", f"{name} is here", time.monotonic(), kind="status")
            with closing(Client(relay.url, key, agent=name)) as client:
                self.told.posts.append(answered(post, partial(client.send_message, kind="status")))
        now = time.time() + relay.weather.ahead
        with closing(Client(relay.url, self.keys[AUDITOR])) as auditor:
            listed = {
                agent["name"]: agent["last_seen_at"] for agent in auditor.find_agents(active_within="15m")["agents"]
            }
        for name in self.keys:
            seen = listed.get(name)
            if seen is None or abs(seconds(seen) - now) > 600:
                yield f"{name} posted just now and was seen at {seen}, {relay.weather.ahead:+.0f} s from the true time"


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


def storm(luck: random.Random, home: Path, beginning: Beginning, broken: str | None) -> Round:
    with tempfile.TemporaryDirectory(prefix="round-", dir=home) as place:
        data, scratch = Path(place, "data"), Path(place, "scratch")
        shutil.copytree(beginning.data, data)
        scratch.mkdir()
        for library in beginning.library.parent.glob("*.so"):
            shutil.copy(library, scratch)
        relay = ManagedRelay(data, scratch, broken or luck.choice([None, "hurried"]))
        played = Storm(relay, beginning, luck, CONTROLS.get(broken or ""))
        found: list[str] = []
        try:
            for complaint in played.run():
                found.append(complaint)
        except (AgentChatError, RuntimeError) as error:
            found += [f"the round ended early: {type(error).__name__} {error}", *relay.complaints]
        finally:
            relay.close()
            faults = relay.weather.times()
            relay.weather.close()
    return judged(played, relay, faults, found)


def judged(played: Storm, relay: ManagedRelay, faults: Counter[str], found: list[str]) -> Round:
    calls: list[Call] = [*played.told.posts, *played.told.uploads, *played.told.marks, *played.told.pins]
    acknowledged = sum(map(is_acknowledged, calls))
    if not (acknowledged and played.spells):
        found.append("nothing was acknowledged, or there was no weather: the round proves nothing")
    return Round(
        "storm",
        found,
        counts={
            "writes": len(calls),
            "acknowledged": acknowledged,
            "unanswered": sum(not is_acknowledged(call) and call.error is None for call in calls),
            "refused for want of room": sum(call.error == "storage_full" for call in calls),
        },
        spells=played.spells,
        strikes=played.strikes,
        ends=relay.ends,
        faults=faults,
        recovery=played.recovery,
    )


# The campaign


class Ground(NamedTuple):
    """What all rounds of a campaign begin with."""

    home: Path
    beginning: Beginning
    stopped: World
    killed: World


def prepared(home: Path) -> Ground:
    beginning = begin(home)
    powercut.build(beginning.library.parent, weather.SOURCE)
    for name in ("stopped", "killed"):
        (home / name).mkdir()
    return Ground(home, beginning, damaged.stopped(home / "stopped"), damaged.killed(home / "killed"))


def run_round(seed: int, number: int, ground: Ground, broken: str | None = None) -> Round:
    """Two of three are storms; a broken relay has nothing else, since starts are not what it breaks."""
    luck = random.Random(f"{seed}/{number}")
    if luck.random() < 2 / 3 or broken:
        return storm(luck, ground.home, ground.beginning, broken)
    starts: Counter[str] = Counter()
    complaints: list[str] = []
    with tempfile.TemporaryDirectory(prefix="round-", dir=ground.home) as place:
        for number in range(STARTS):
            start = damage_rounds.start(ground.stopped, ground.killed, Path(place, str(number)), luck)
            starts[start.outcome] += 1
            complaints += start.complaints
    return Round("damaged starts", complaints, starts=starts)


def campaign(seed: int, numbers: Sequence[int], broken: str | None) -> Iterator[Round]:
    """The rounds, each failed one told in one line."""
    with tempfile.TemporaryDirectory(prefix="agentchat-faults-") as place:
        ground = prepared(Path(place))
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            results = pool.map(lambda number: run_round(seed, number, ground, broken), numbers)
            yield from rounds.told(seed, numbers, results)


def summary_of(seed: int, numbers: Sequence[int], results: Sequence[Round]) -> dict[str, Any]:
    def total(member: str) -> dict[str, int]:
        return dict(sorted(sum((Counter(getattr(result, member)) for result in results), Counter[str]()).items()))

    return {
        "seed": seed,
        "rounds": len(results),
        "failed rounds": rounds.failed(numbers, results),
        **total("counts"),
        "spells of weather": total("spells"),
        "calls of the system that failed": total("faults"),
        "strikes": total("strikes"),
        "ends by itself": total("ends"),
        "damaged starts": total("starts"),
        "slowest recovery, ms": round(1000 * max((result.recovery for result in results), default=0.0)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    def run(seed: int, numbers: Sequence[int], broken: str | None) -> dict[str, Any]:
        return summary_of(seed, numbers, list(campaign(seed, numbers, broken)))

    return rounds.main("tests.faults.disk_campaign", __doc__ or "", [*CONTROLS], run, arguments)


if __name__ == "__main__":
    sys.exit(main())
