"""Rounds in which messages have their time and are purged, backups are taken, and both are killed, during load.

Time passes by days (`weather`): the relay's machine sleeps. One channel keeps its messages for ten of them. At the end
what is younger than that must be there, what is older must be gone, with all its traces. Every backup that ended well
is restored and looked at by the same checker: what was acknowledged before it began must be in it, what was done
afterwards may be, and nothing else.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from agentchat import Client
from tests.faults import damaged
from tests.faults.collecting import collect, follow
from tests.faults.collecting import whole as whole_list
from tests.faults.histories import DIRECT, FOREVER, Pin, Post, Told, Upload, violations
from tests.faults.load import AGENTS, AUDITOR, CALLS, NEWCOMER, SENDERS, SHARED, Pace, Sender, join
from tests.faults.managed import ManagedRelay, whole
from tests.faults.relay_campaign import Beginning
from tests.faults.relay_process import ROOT, token

KEEPING, PURGED = SHARED
DAYS = 10
DAY = 86_400.0
MOST_RESTORED = 2  # backups of a round that are looked at
KINDS = {"days": 5, "backup": 3, "killed backup": 2, "strike": 2, "jump": 1}
LONGEST = 60.0
_COPY = """
import os, shutil, sys
source, target = sys.argv[1:]
os.mkdir(target)
shutil.copy(os.path.join(source, "agentchat.db"), target)
shutil.copytree(os.path.join(source, "blobs"), os.path.join(target, "blobs"))
"""


class KeepingSender(Sender):
    """Knows that what had its time may be gone. Contents of its files are often those of others."""

    choices: Mapping[str, int] = {**Sender.choices, "glance": 2}
    readable = (KEEPING,)  # there the cursor must go as far as it was told

    def __init__(self, *arguments: Any, kept_from: Callable[[], str], pool: list[bytes]) -> None:
        super().__init__(*arguments)
        self._kept_from, self._pool = kept_from, pool

    def glance(self) -> None:
        with self._reading():
            self._client.read_messages(PURGED, limit=10, mark_read=True)

    def _send(self, post: Post, call: Any = None) -> None:
        super()._send(post, call)
        if post.key and post.channel == PURGED:  # once the message is gone, its key is a new one
            self._keyed.pop()

    def _put(self, upload: Upload) -> None:
        super()._put(upload)
        self._uploads = [upload for upload in self._uploads if upload.channel != PURGED]

    def _record(self, post: Post) -> None:
        if post.error == "not_found" and post.parent:
            self._missed(post.parent)
        super()._record(post)

    def _record_pin(self, pin: Pin) -> None:
        if pin.error == "not_found":
            self._missed(pin.message)
        super()._record_pin(pin)

    def _missed(self, id: str) -> None:
        (post,) = {post for post in self._posted if post.id == id}
        if post.channel != PURGED or (post.at or "") >= (kept_from := self._kept_from()):
            self.told.refused.append(
                f"{id} was not found, though it is of {post.at}, and all from {kept_from} on is kept"
            )

    def _content(self) -> bytes:
        return self._luck.choice(self._pool) if self._luck.random() < 0.6 else super()._content()


class Done(NamedTuple):
    """How much of what was told was told when a backup began."""

    posts: int
    uploads: int
    marks: int
    positions: int
    pins: int


def done(told: Told) -> Done:
    return Done(len(told.posts), len(told.uploads), len(told.marks), len(told.positions), len(told.pins))


def as_of(told: Told, then: Done, kept_from: str) -> Told:
    """The same, when nobody knows what came of any later call."""
    return told._replace(
        posts=[
            *told.posts[: then.posts],
            *(post._replace(id=None, at=None, error=None, ended=FOREVER) for post in told.posts[then.posts :]),
        ],
        uploads=[
            *told.uploads[: then.uploads],
            *(upload._replace(path=None, error=None) for upload in told.uploads[then.uploads :]),
        ],
        marks=[
            *told.marks[: then.marks],
            *(mark._replace(done=False, error=None) for mark in told.marks[then.marks :]),
        ],
        positions=told.positions[: then.positions],
        pins=[*told.pins[: then.pins], *(pin._replace(done=False, error=None) for pin in told.pins[then.pins :])],
        followed=[],
        refused=[],
        kept_from={PURGED: kept_from},
    )  # fmt: skip


class Backup:
    """One run of `agentchat admin backup`, which may be killed."""

    def __init__(self, data: Path, target: Path, then: Done, broken: str | None) -> None:
        self.target, self.then, self.kept_from = target, then, ""
        self._copies = broken == "copy"
        command = (
            ["-c", _COPY, str(data), str(target)]
            if self._copies
            else ["-m", "agentchat", "admin", "--data", str(data), "backup", str(target), "--json"]
        )
        self._process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.was_killed = False

    def kill(self) -> None:
        if self._process.poll() is None:
            self.was_killed = True
            self._process.kill()

    def wait(self, kept_from: Callable[[], str]) -> Iterator[str]:
        _, said = self._process.communicate(timeout=LONGEST)
        self.kept_from = kept_from()
        if self._process.returncode != 0 and not self.was_killed:
            yield f"a backup ended with {self._process.returncode}: {said[-500:]}"

    def is_there(self) -> bool:
        return self.target.exists()

    def restored(self, path: Path) -> Iterator[str]:
        if self._copies:
            shutil.copytree(self.target, path)
            return
        command = [sys.executable, "-m", "agentchat", "admin", "--data", str(path), "restore", str(self.target)]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST, check=False)
        if ran.returncode != 0:
            yield f"restoring a backup ended with {ran.returncode}: {ran.stderr[-500:]}"


class Keeping:
    """One round."""

    def __init__(self, relay: ManagedRelay, beginning: Beginning, luck: random.Random, place: Path) -> None:
        self._relay, self._beginning, self._luck, self._place = relay, beginning, luck, place
        self.told = Told([*beginning.posts], [], [], [], [], [], [], frozenset({"not_found"}))
        self.keys: dict[str, str] = {}
        self.strikes, self.counts = Counter[str](), Counter[str]()
        self.broken: str | None = None
        self._backups: list[Backup] = []

    def kept_from(self) -> str:
        """The time of the oldest message that must be there."""
        now = time.time() + self._relay.weather.slept
        return datetime.fromtimestamp(now - DAYS * DAY, UTC).isoformat(timespec="microseconds")

    def run(self) -> Iterator[str]:
        """What is wrong with it."""
        relay, data = self._relay, self._relay.power.data
        relay.must_start()
        self.keys = {**self._beginning.keys, NEWCOMER: token(relay.url, data, NEWCOMER)}
        join(relay.url, self.keys[NEWCOMER])
        keep(relay.url, data, PURGED, DAYS)
        yield from self._mid_flight()
        yield from self._purged()
        self.told = self.told._replace(kept_from={PURGED: self.kept_from()})
        kept = collect(relay.url, self.keys, self.told, self._luck)
        yield from violations(self.told, kept)
        self.counts["purged messages"] = len({post.id for post in self.told.posts if post.id}) - len(kept.alone)
        relay.strike("stop", self._luck)
        yield from whole(data)
        yield from relay.complaints
        yield from relay.uncaught()
        there = [backup for backup in self._backups if backup.is_there()]
        self.counts["backups"] = len(there)
        self.counts["killed backups"] = sum(backup.was_killed for backup in self._backups)
        for number, backup in enumerate(self._luck.sample(there, min(MOST_RESTORED, len(there)))):
            yield from (f"backup of {backup.then}: {complaint}" for complaint in self._restored(number, backup))

    def _mid_flight(self) -> Iterator[str]:
        relay, luck, names = self._relay, self._luck, [*AGENTS, NEWCOMER]
        pool = [luck.randbytes(luck.choice([10, 5000])) for _ in range(3)]
        senders = [
            KeepingSender(
                relay, self.told, random.Random(luck.random()), number, name := names[number % len(names)],
                self.keys[name], kept_from=self.kept_from, pool=pool,
            )
            for number in range(SENDERS)
        ]  # fmt: skip
        moments = sorted(luck.sample(range(SENDERS * CALLS * 9 // 10), luck.randint(6, 12)))
        limits, over, pace = [luck.randint(1, 50) for _ in range(3)], threading.Event(), Pace()
        with ThreadPoolExecutor(SENDERS + 3) as threads:
            lists = [(AUDITOR, KEEPING), (AUDITOR, PURGED), (AGENTS[0], DIRECT)]
            following = [
                threads.submit(follow, relay, name, self.keys[name], channel, limit, over)
                for (name, channel), limit in zip(lists, limits, strict=True)
            ]
            acting = [threads.submit(sender.run, pace, over) for sender in senders]
            try:
                for moment in moments:
                    pace.wait(moment)
                    self._turn(luck.choices([*KINDS], [*KINDS.values()])[0], pace, moment)
                for sender in acting:
                    sender.result()
                for backup in self._backups:
                    yield from backup.wait(self.kept_from)
                self._strike("torn cut")
            finally:
                over.set()
                relay.up.set()  # whoever still waits finds out what is the matter
            self.told.followed.extend(follower.result() for follower in following)

    def _turn(self, kind: str, pace: Pace, moment: int) -> None:
        relay, luck = self._relay, self._luck
        match kind:
            case "days":
                days = luck.uniform(0.5, 8)
                self.counts["days"] += round(days)
                relay.weather.sleep(days=days)
            case "jump":
                self.counts["jumps of the clock"] += 1
                relay.weather.clock(days=luck.choice([-400, 400]))
                pace.wait(moment + 20)
                relay.weather.clock()
            case "backup":
                self._back_up()
            case "killed backup":
                killed = self._back_up()
                threading.Timer(luck.uniform(0.1, 0.8), killed.kill).start()
                if luck.random() < 0.5:  # the next one takes its place
                    killed._process.wait()
                    if not killed.is_there():
                        self._back_up(killed.target)
            case _:
                self._strike(luck.choice(["cut", "torn cut", "kill", "stop"]))

    def _back_up(self, target: Path | None = None) -> Backup:
        target = target or self._place / f"backup-{len(self._backups)}"
        backup = Backup(self._relay.power.data, target, done(self.told), self.broken)
        self._backups.append(backup)
        return backup

    def _strike(self, kind: str) -> None:
        if "cut" in kind:  # the power is everybody's
            for backup in self._backups:
                backup.kill()
                backup._process.wait()
        if self._relay.strike(kind, self._luck):
            self.strikes[kind] += 1
        self._relay.must_start()

    def _purged(self) -> Iterator[str]:
        """What is older goes, soon after the relay is sure of its clock."""
        with closing(Client(self._relay.url, self.keys[AUDITOR])) as auditor:
            for _ in range(3):
                self._relay.weather.sleep(hours=2)
                deadline = time.monotonic() + LONGEST / 12
                while time.monotonic() < deadline:
                    horizon = self.kept_from()
                    old = [row for row in whole_list(auditor, PURGED, 200) if row.at < horizon]
                    if not old:
                        return
                    time.sleep(0.05)
        yield f"{len(old)} messages of #{PURGED} are older than {horizon}, and not purged"

    def _restored(self, number: int, backup: Backup) -> Iterator[str]:
        path = self._place / f"restored-{number}"
        yield from backup.restored(path)
        with damaged.served(path) as end:
            if end.url is None:
                yield f"a relay on it ended with {end.code}: {end.said[-500:]}"
                return
            told = as_of(self.told, backup.then, backup.kept_from)
            yield from violations(told, collect(end.url, self.keys, told, self._luck))
        yield from whole(path)


def keep(url: str, data: Path, channel: str, days: int) -> None:
    answer = httpx.post(
        f"{url}/api/v2/admin/channels/update",
        json={"name": channel, "retention": days},
        headers={"authorization": f"Bearer {(data / 'admin.key').read_text().strip()}"},
        trust_env=False,
    )
    answer.raise_for_status()
