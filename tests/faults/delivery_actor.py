"""Whoever receives in the delivery campaign: a process that works on an inbox until its standard input ends or it is
killed.

    python -m tests.faults.delivery_actor '{"urls": [...], "key": ..., "who": ..., ...}'

Where agents share a directory without a relay, each of these processes is one of those that do; `build` says what is
broken in it, and `author` who it is when it sends something, as it does then.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from agentchat import Client
from tests.faults.actor import PATIENCE, Actor, Answer, until_input_ends

RECEIVER = "mac-receiver"
POISON = "poison"  # a word of texts that nobody acknowledges
# How often workers do what: first with the inbox, then with what they got, and of ten claims so many are made twice.
HABITS = {
    "claim": 5, "take": 1, "check": 3,
    "finish": 5, "share_out": 3, "forget": 1, "be_late": 2, "renew_first": 2, "bring_back": 1,
    "repeat": 1, "write": 0,
}  # fmt: skip


class Worker(Actor):
    """One session of the receiving agent."""

    _seen: str | None = None
    _habits: Mapping[str, int] = HABITS
    _authors: Sequence[Client] = ()

    def write_as(self, author: str, urls: Sequence[str]) -> None:
        """Whose name is under what it sends."""
        self._authors = self.clients_of(urls, author, self._session)

    def clients_for(self, call: str) -> Sequence[Client]:
        return (call.startswith("send_") and self._authors) or super().clients_for(call)

    def close(self) -> None:
        super().close()
        for client in self._authors:
            client.close()

    def run(self, habits: Mapping[str, int], interrupted: Mapping[str, Any] | None) -> None:
        """`interrupted` is a call that the session's last process was killed in: it is made again."""
        self._habits = {**HABITS, **habits}
        if interrupted is not None:
            answer = self.ask(interrupted["call"], key=interrupted["key"], **interrupted["arguments"])
            self._deal(answer)
        while not self._over.is_set():
            self._one_of("claim", "take", "check", "write")()
            self._over.wait(0.1 * self._luck.random())

    def _one_of(self, *acts: str) -> Callable[..., None]:
        act = self._luck.choices(acts, [self._habits[act] for act in acts])[0]
        return cast("Callable[..., None]", getattr(self, f"_{act}"))

    def _claim(self) -> None:
        key = self.new_key()
        arguments = {"limit": self._luck.choice([1, 2, 3, 5, 10]), "lease": self._luck.choice([1, 1, 2])}
        claimed = self.ask("claim_items", key=key, patience=self._some_patience(), **arguments)
        if 10 * self._luck.random() < self._habits["repeat"]:
            claimed = self.ask("claim_items", key=key, **arguments)
        self._deal(claimed)

    def _write(self) -> None:
        key = self.new_key()
        self.ask("send_direct_message", key=key, target_agent=RECEIVER, content=f"written by {key}")

    def _take(self) -> None:
        """Dealt with at once, with whatever of it is poison."""
        self.ask("claim_items", limit=self._luck.choice([1, 2]), lease=1, acknowledge=True)

    def _check(self) -> None:
        seen = {"seen": self._seen} if self._seen and self._luck.random() < 0.7 else {}
        limit = self._luck.choice([1, 3, 5])
        checked = self.ask("check_inbox", patience=self._some_patience(), limit=limit, **seen)
        if checked is not None and checked["claim_id"]:
            self._seen = checked["claim_id"]
            if self._luck.random() < 0.3:
                self._deal(checked)

    def _some_patience(self) -> float:
        """Some lose an answer for ever."""
        return 0.0 if self._luck.random() < 0.3 else PATIENCE

    def _deal(self, claimed: Answer | None) -> None:
        if claimed is None or not isinstance(claimed.get("items"), list) or claimed["lease_until"] is None:
            return  # refused, or no claim at all, or dealt with already
        claim, items = claimed["claim_id"], claimed["items"]
        good = [item["item_id"] for item in items if POISON not in item["content"]]
        act = self._one_of("finish", "share_out", "forget", "be_late", "renew_first", "bring_back")
        act(claim, good, len(items))

    def _finish(self, claim: str, good: list[str], count: int) -> None:
        """Acknowledge what is good, in one of two ways, sometimes twice."""
        if len(good) == count and self._luck.random() < 0.5:
            self.ask("acknowledge_items", claim_id=claim)
        elif good:
            key = self.new_key()
            for _ in range(self._luck.choice([1, 1, 1, 2])):
                self.ask("acknowledge_items", key=key, claim_id=claim, item_ids=good)
        if len(good) < count and self._luck.random() < 0.7:
            self.ask("return_items", claim_id=claim)

    def _share_out(self, claim: str, good: list[str], count: int) -> None:
        """Some are dealt with, others given back, perhaps for later."""
        done = [item for item in good if self._luck.random() < 0.6]
        back = [item for item in good if item not in done]
        delay = {"delay": 2} if self._luck.random() < 0.4 else {}
        if back:
            self.ask("return_items", claim_id=claim, item_ids=back, **delay)
        if done:
            self.ask("acknowledge_items", claim_id=claim, item_ids=done)

    def _forget(self, claim: str, good: list[str], count: int) -> None:
        """Nothing happens until the lease is over."""

    def _be_late(self, claim: str, good: list[str], count: int) -> None:
        self._over.wait(self._luck.uniform(1, 2.5))
        named = {"item_ids": good} if good and self._luck.random() < 0.7 else {}
        if good:
            self.ask("acknowledge_items", claim_id=claim, **named)

    def _renew_first(self, claim: str, good: list[str], count: int) -> None:
        self._over.wait(self._luck.uniform(0.2, 1.1))
        self.ask("renew_claim", claim_id=claim, lease=self._luck.choice([1, 2]))
        self._over.wait(self._luck.uniform(0.2, 1.5))
        self._finish(claim, good, count)

    def _bring_back(self, claim: str, good: list[str], count: int) -> None:
        self.ask("return_items", claim_id=claim)


def main(told: str) -> None:
    options = json.loads(told)
    if options["build"]:
        from tests.faults import delivery_build

        delivery_build.make(options["build"])
    worker = Worker(
        options["urls"], options["key"], options["who"], options["session"], Path(options["journal"]),
        random.Random(options["seed"]), until_input_ends(),
    )  # fmt: skip
    if options["author"]:
        worker.write_as(options["author"], options["urls"])
    worker.run(options["habits"], options["interrupted"])
    worker.close()


if __name__ == "__main__":
    main(sys.argv[1])
