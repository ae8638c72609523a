"""Whoever makes tasks and whoever does them in the tasks campaign: processes that go on until their standard input ends
or they are killed.

    python -m tests.faults.tasks_actor '{"role": "worker", "urls": [...], "key": ..., "who": ..., ...}'

Where agents share a directory without a relay, each of these processes is one of those that do; `build` says what is
broken in it. `who` is the agent, `team` are all agents that take tasks.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faults.actor import PATIENCE, Answer, Habitual, until_input_ends

CHANNEL = "work"
READS = ("check_work", "list_tasks")
# How often what happens: what creators do; what workers do; what they do with a task they got; and how often of ten
# times a call is made twice, an offer is declined, another session's task is looked after, what is done is done again.
HABITS = {
    "create": 6, "offer": 2, "cancel": 1,
    "look": 8, "meddle": 2,
    "finish": 6, "fail": 1, "bring_back": 1, "forget": 2, "be_late": 3, "renew_first": 3, "tell_first": 2,
    "repeat": 2, "refuse": 3, "join": 2, "again": 2,
}  # fmt: skip
REMEMBERED = ("id", "version", "state", "fence", "claimant", "result")  # of tasks that were read


class Hand(Habitual):
    """Whoever has to do with tasks."""

    habits = HABITS

    def join(self, team: Sequence[str], deadlines: Sequence[int | None]) -> None:
        self._team, self._deadlines = team, deadlines

    def noted(self, call: str, answer: Answer) -> Answer:
        if call not in READS:
            return answer
        return {"tasks": [{name: task[name] for name in REMEMBERED} for task in listed(answer)]}

    def tell(self, call: str, task: str, **more: Any) -> Answer | None:
        """A change, made twice by some, and once too few by others."""
        key = self.new_key()
        words: dict[str, Any] = {name: f"{name} {key}" for name in WORDS.get(call, ())}
        patience = 0.0 if self._luck.random() < 0.2 else PATIENCE
        answer = self.ask(call, key=key, patience=patience, task_id=task, **words, **more)
        if self.often("repeat"):
            return self.ask(call, key=key, task_id=task, **words, **more)
        return answer


WORDS = {  # by which each call is known in a history
    "decline_task": ("reason",),
    "report_progress": ("note",),
    "return_task": ("reason",),
    "complete_task": ("result",),
    "fail_task": ("reason",),
    "cancel_task": ("reason",),
}


def listed(answer: Answer) -> list[Mapping[str, Any]]:
    """All tasks that an answer tells of."""
    lists = [rows for name, rows in answer.items() if isinstance(rows, list) and name != "mentions"]
    return [task for rows in lists for task in rows]


class Creator(Hand):
    pause = 0.5

    def act(self) -> None:
        self.one_of("create", "create", "offer", "cancel")()

    def _create(self) -> None:
        key = self.new_key()
        more: dict[str, Any] = {"urgent": True} if self._luck.random() < 0.2 else {}
        if self._luck.random() < 0.5:
            more["channel"] = CHANNEL
            more |= {"capability_tags": ["count"]} if self._luck.random() < 0.5 else {}
        else:
            more["target_agent"] = self._luck.choice(self._team)
        if (deadline := self._luck.choice(self._deadlines)) is not None:
            more["deadline_in"] = deadline
        more["body"] = "so " * self._luck.choice([0, 0, 20, 1500])
        arguments = {"title": f"task {key}", **more}
        self.ask("create_task", key=key, patience=self._luck.choice([0, 12, 12]), **arguments)
        if self.often("repeat"):
            self.ask("create_task", key=key, **arguments)

    def _offer(self) -> None:
        """What was declined; or anything, to somebody else."""
        work = self.ask("check_work")
        declined = [] if work is None else work["declined_for_me"]
        for task in declined[:2] or self._some("open")[:1]:
            self.tell("offer_task", task["id"], target_agent=self._luck.choice(self._team))

    def _cancel(self) -> None:
        for task in self._some(self._luck.choice(["open", "claimed", "claimed", "done"]))[:1]:
            self.tell("cancel_task", task["id"])

    def _some(self, status: str) -> list[Mapping[str, Any]]:
        found = self.ask("list_tasks", mine="created", status=status, limit=10)
        return self._luck.sample(found["tasks"], len(found["tasks"])) if found else []


class Worker(Hand):
    """One session of an agent that takes tasks."""

    def act(self) -> None:
        self.one_of("look", "meddle")()

    def _look(self) -> None:
        """Most go for the same one: the newest, or what somebody had before."""
        if self._luck.random() < 0.6:
            found = self.ask("check_work")
            tasks = [] if found is None else [*found["offered_to_me"], *found["open_matching"]]
            mine = [] if found is None else found["mine_claimed"]
        else:
            found = self.ask("list_tasks", status="open", limit=20)
            tasks, mine = [] if found is None else found["tasks"], []
        if mine and self.often("join"):
            self._join_in(self._luck.choice(mine))
        elif tasks:
            lost = max(tasks, key=lambda task: task["fence"])
            self._take(self._luck.choice([tasks[0], tasks[0], lost, lost, self._luck.choice(tasks)]))

    def _take(self, task: Mapping[str, Any]) -> None:
        if task["target"] == self.who and self.often("refuse"):
            self.tell("decline_task", task["id"])
        else:
            self.deal(self.tell("claim_task", task["id"], lease=self._luck.choice([1, 1, 2])))

    def _join_in(self, task: Mapping[str, Any]) -> None:
        """Another session of the agent has it, perhaps."""
        if self._luck.random() < 0.5:
            self.tell("claim_task", task["id"], lease=1)
        else:
            self._use(task, "renew_task", "report_progress", "complete_task", "return_task")

    def _meddle(self) -> None:
        """With whatever is not this agent's, or not any more."""
        found = self.ask("list_tasks", limit=20, status=self._luck.choice(["claimed", "claimed", "open", "done"]))
        if found and found["tasks"]:
            self._use(
                self._luck.choice(found["tasks"]), "claim_task", "complete_task", "report_progress", "decline_task",
                "cancel_task", "renew_task",
            )  # fmt: skip

    def _use(self, task: Mapping[str, Any], *calls: str) -> None:
        """With its fence or without, or with an old one."""
        call = self._luck.choice(calls)
        more: dict[str, Any] = {"lease": self._luck.choice([1, 2])} if call in ("claim_task", "renew_task") else {}
        if call in FENCED and task["fence"] and self._luck.random() < 0.5:
            more["fence"] = max(task["fence"] - self._luck.choice([0, 0, 0, 1]), 1)
        self.tell(call, task["id"], **more)

    # With a task that was claimed

    def deal(self, change: Answer | None) -> None:
        if change is not None and change.get("task") and change["task"]["state"] == "claimed":
            acts = ("finish", "fail", "bring_back", "forget", "be_late", "renew_first", "tell_first")
            self.one_of(*acts)(change["task"])

    def _finish(self, task: Mapping[str, Any]) -> None:
        self._use(task, "complete_task")
        if self.often("again"):
            self._use(task, "complete_task", "complete_task", "fail_task", "report_progress")

    def _fail(self, task: Mapping[str, Any]) -> None:
        self._use(task, "fail_task")

    def _bring_back(self, task: Mapping[str, Any]) -> None:
        self._use(task, "return_task")

    def _forget(self, task: Mapping[str, Any]) -> None:
        """Nothing happens until the lease is over."""

    def _be_late(self, task: Mapping[str, Any]) -> None:
        self._over.wait(self._luck.uniform(1, 3))
        self._use(task, "complete_task", "complete_task", "report_progress", "renew_task", "return_task", "fail_task")

    def _renew_first(self, task: Mapping[str, Any]) -> None:
        for _ in range(self._luck.choice([1, 1, 2])):
            self._over.wait(self._luck.uniform(0.2, 1.1))
            self._use(task, "renew_task")
        self._over.wait(self._luck.uniform(0.2, 1.5))
        self._finish(task)

    def _tell_first(self, task: Mapping[str, Any]) -> None:
        self._use(task, "report_progress")
        self._over.wait(self._luck.uniform(0, 0.5))
        self._finish(task)


FENCED = ("renew_task", "report_progress", "return_task", "complete_task", "fail_task")


def main(told: str) -> None:
    options = json.loads(told)
    if options["build"]:
        from tests.faults import tasks_build

        tasks_build.make(options["build"])
    hand = {"creator": Creator, "worker": Worker}[options["role"]](
        options["urls"], options["key"], options["who"], options["session"], Path(options["journal"]),
        random.Random(options["seed"]), until_input_ends(),
    )  # fmt: skip
    hand.join(options["team"], options["deadlines"])
    hand.run(options["habits"], options["interrupted"])
    hand.close()


if __name__ == "__main__":
    main(sys.argv[1])
