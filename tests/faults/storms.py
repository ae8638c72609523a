"""Rounds in which agents act while bad weather comes over the disk and the clock of their relay."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from agentchat import AgentChatError, Client, errors
from agentchat_relay.keeping import snapshot
from tests.faults import spells
from tests.faults.collecting import collect, follow
from tests.faults.histories import DIRECT, Post, Told, Upload, violations
from tests.faults.load import (
    AGENTS,
    AUDITOR,
    CALLS,
    NEWCOMER,
    PATIENCE,
    SENDERS,
    SHARED,
    Pace,
    Sender,
    answered,
    join,
    unknown,
)
from tests.faults.machine import Machine
from tests.faults.managed import ManagedRelay, whole
from tests.faults.relay_campaign import Beginning
from tests.faults.relay_process import token
from tests.faults.spells import CLOCK, Answer, Spell, Witness

PROBER = "mac-prober"  # asks whether the relay is well again


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

    def _record_upload(self, upload: Upload) -> None:
        if upload.path:
            self._stored.append((upload.path, upload.content))
        super()._record_upload(upload._replace(error=None) if self._may_be_done(upload.error) else upload)

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
            with closing(snapshot.connect(str(data / "agentchat.db"))) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
                over.wait(luck.uniform(0.0, 0.1))
        except sqlite3.Error:  # there is no database right now
            pass
        over.wait(luck.uniform(0.0, 0.1))


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
        yield from relay.uncaught()

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
        """A post goes through, and a search finds it."""
        self._probes += 1
        post = Post(PROBER, SHARED[0], f"the probe probe{self._probes}", time.monotonic())
        with closing(Client(self._relay.url, self.keys[PROBER], agent=PROBER, retries=0, deadline=PATIENCE)) as client:
            try:
                message = client.send_message(post.channel, post.text)["message"]
                post = post._replace(ended=time.monotonic(), id=message["id"], at=message["created_at"])
                return [hit["id"] for hit in client.search_messages(f"probe{self._probes}")["results"]] == [post.id]
            except AgentChatError as error:
                post = post if post.id or unknown(error) else post._replace(error=error.code)
                time.sleep(0.02)
                return False
            finally:
                self.told.posts.append(post)

    def _presence(self) -> Iterator[str]:
        """Whoever posts now is seen now, by the clock of now."""
        relay = self._relay
        for name, key in self.keys.items():
            post = Post(name, "roll-call", f"{name} is here", time.monotonic(), kind="status")
            with closing(Client(relay.url, key, agent=name)) as client:
                self.told.posts.append(answered(post, partial(client.send_message, kind="status")))
        now = time.time() + relay.weather.ahead
        with closing(Client(relay.url, self.keys[AUDITOR])) as auditor:
            active = auditor.find_agents(active_within="15m")["agents"]
        listed = {agent["name"]: agent["last_seen_at"] for agent in active}
        for name in self.keys:
            seen = listed.get(name)
            if seen is None or abs(seconds(seen) - now) > 600:
                yield f"{name} posted just now and was seen at {seen}, {relay.weather.ahead:+.0f} s from the true time"


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
