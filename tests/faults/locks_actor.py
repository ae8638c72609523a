"""Whoever wants locks in the locks campaign: processes that go on until their standard input ends or they are killed.

    python -m tests.faults.locks_actor '{"urls": [...], "key": ..., "who": ..., ...}'

Where agents share a directory without a relay, each of these processes is one of those that do; `build` says what is
broken in it. `who` is the agent. Each request has its key for a reason, so that a lock is known by what asked for it.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.faults.actor import PATIENCE, Answer, Habitual, until_input_ends

WANTED = (
    ["src/**"], ["src/a"], ["src/a"], ["src/a/b"], ["src/a/b", "docs"], ["src/a/**"], ["docs"], ["src", "docs/**"],
    ["srcs", "src/a"], ["src/b"], ["docs/x", "src/b"], ["**"],
)  # fmt: skip
# How often what happens; what is done with a lock; and how often of ten times a call is made twice, or a lock shared.
HABITS = {
    "take": 12, "meddle": 3, "withdraw": 1,
    "give_back": 6, "forget": 2, "be_late": 3, "renew_first": 4, "take_more": 2, "take_again": 1,
    "repeat": 2, "share": 3, "wait": 6,
}  # fmt: skip


class Locker(Habitual):
    """One session of an agent."""

    habits = HABITS

    def act(self) -> None:
        self.one_of("take", "meddle", "withdraw")()

    def _take(self) -> None:
        self.deal(self._acquire(self._luck.choice(WANTED)))

    def _acquire(self, names: list[str]) -> Answer | None:
        key = self.new_key()
        more: dict[str, Any] = {"names": names, "lease": self._luck.choice([1, 1, 2]), "reason": key}
        more |= {"shared": True} if self.often("share") else {}
        more |= {"wait": self._luck.choice([1, 2, 2, 4])} if self.often("wait") else {}
        return self._twice("acquire_lock", key, more)

    def _twice(self, call: str, key: str, arguments: dict[str, Any]) -> Answer | None:
        """By some, and once too few by others."""
        patience = 0.0 if self._luck.random() < 0.2 else PATIENCE
        answer = self.ask(call, key=key, patience=patience, **arguments)
        return self.ask(call, key=key, **arguments) if self.often("repeat") else answer

    def _meddle(self) -> None:
        """With what others have or wait for, or another session of this agent."""
        name, mine = self._luck.choice(
            [(None, True), (None, True), (self._luck.choice(WANTED)[0], False), (None, False)]
        )
        found = self.ask("list_locks", name=name, mine=mine)
        if found and found["locks"]:
            self._use(self._luck.choice(found["locks"]), "release_lock", "renew_lock")

    def _withdraw(self) -> None:
        """What a session of this agent waits for, perhaps one that is gone."""
        found = self.ask("list_locks", mine=True)
        waiting = [lock for lock in found["locks"] if lock["state"] == "waiting"] if found else []
        for lock in waiting[:1]:
            self._twice("release_lock", self.new_key(), {"lock_id": lock["id"]})

    def _use(self, lock: Mapping[str, Any], *calls: str) -> None:
        """With its fence or without, or with an old one."""
        call = self._luck.choice(calls)
        more: dict[str, Any] = {"lease": self._luck.choice([1, 2])} if call == "renew_lock" else {}
        if self._luck.random() < 0.5:
            more["fence"] = max((lock["fence"] or 1) - self._luck.choice([0, 0, 0, 1]), 1)
        self._twice(call, self.new_key(), {"lock_id": lock["id"], **more})

    # With a lock

    def deal(self, change: Answer | None) -> None:
        if change is not None and change.get("lock") and change["lock"]["state"] == "held":
            acts = ("give_back", "forget", "be_late", "renew_first", "take_more", "take_again")
            self.one_of(*acts)(change["lock"])

    def _give_back(self, lock: Mapping[str, Any]) -> None:
        self._over.wait(self._luck.uniform(0, 0.4))
        self._use(lock, "release_lock")

    def _forget(self, lock: Mapping[str, Any]) -> None:
        """Nothing happens until the lease is over."""

    def _be_late(self, lock: Mapping[str, Any]) -> None:
        self._over.wait(self._luck.uniform(0.8, 2.5))
        self._use(lock, "release_lock", "renew_lock")

    def _renew_first(self, lock: Mapping[str, Any]) -> None:
        for _ in range(self._luck.choice([1, 1, 2])):
            self._over.wait(self._luck.uniform(0.2, 1.1))
            self._use(lock, "renew_lock")
        self._over.wait(self._luck.uniform(0.2, 1.5))
        self._use(lock, "release_lock")

    def _take_more(self, lock: Mapping[str, Any]) -> None:
        self._acquire(self._luck.choice(WANTED))
        self._give_back(lock)

    def _take_again(self, lock: Mapping[str, Any]) -> None:
        """It has that already, and is told so."""
        self._acquire(lock["names"])
        self._give_back(lock)


def main(told: str) -> None:
    options = json.loads(told)
    if options["build"]:
        from tests.faults import locks_build

        locks_build.make(options["build"])
    locker = Locker(
        options["urls"], options["key"], options["who"], options["session"], Path(options["journal"]),
        random.Random(options["seed"]), until_input_ends(),
    )  # fmt: skip
    locker.run(options["habits"], options["interrupted"])
    locker.close()


if __name__ == "__main__":
    main(sys.argv[1])
