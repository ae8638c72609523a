"""Tasks on a clock that stands until it is moved: made, claimed, lost, ended and come too late for in any order, with
crashes in between. A model that knows nothing of the relay's table says what each step must come to."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from agentchat.errors import AgentChatError
from agentchat_relay.embedded import Embedded
from agentchat_relay.service.call import Agent, Call
from agentchat_relay.service.operations import SERVICES
from agentchat_relay.service.work import kinds
from agentchat_relay.store.seam import Lane

from . import database
from .conftest import fresh
from .test_inbox_model import SECOND, Crash, Crashing, StandingClock

WORKERS = (0, 1)
STATUS = {
    "open": ("open",), "claimed": ("claimed",), "done": ("done",),
    "cancelled": ("declined", "failed", "cancelled", "expired"),
}  # fmt: skip
OVER = ("done", "failed", "cancelled", "expired")
which = st.integers(0, 30)
workers = st.sampled_from(WORKERS)
sessions = st.sampled_from(["one", "two"])
leases = st.sampled_from([1, 60, 300])
crashes = st.none() | st.integers(0, 9)
fences = st.sampled_from(["none", "right", "old"])
STALE = (409, "stale_fence")
LATE, FORBIDDEN, UNKNOWN = (409, "conflict"), (403, "forbidden"), (404, "not_found")


@dataclass
class Model:
    id: str
    target: int | None
    is_private: bool
    deadline: int | None
    state: str = "open"
    owner: int | None = None
    session: str | None = None
    until: int = 0
    fence: int = 0
    result: str | None = None
    had: set[int] = field(default_factory=set)  # who claimed it once
    history: list[tuple[str, str | None, str]] = field(default_factory=list)
    told: dict[int, int] = field(default_factory=dict)  # the fence that a worker got last


EVENTS = {
    "create": "created",
    "claim": "claimed",
    "decline": "declined",
    "progress": "progressed",
    "return": "returned",
    "complete": "completed",
    "fail": "failed",
    "offer": "offered",
    "cancel": "cancelled",
    "lapse": "lapsed",
    "expire": "expired",
}


class Tasks(RuleBasedStateMachine):
    live: Embedded
    clock: StandingClock

    def __init__(self) -> None:
        super().__init__()
        store = self.live.relay and self.live.relay.store
        assert store is not None
        self.store = store
        names = [fresh("boss"), fresh("worker"), fresh("worker")]
        for name in names:
            self.live.token(name)
        self.boss, *self.workers = (self._agent(name) for name in names)
        self.tasks: list[Model] = []
        self.begun = self.store.ask(Lane.READ, lambda tx: tx.the("space_position", id=1)["position"])
        self.keys = 0
        self.channel = fresh("work")

    def _agent(self, name: str) -> Agent:
        def look(tx: Any) -> Agent:
            row = tx.the("agent_by_name", space_id=1, name=name)
            return Agent(row["id"], row["public_id"], name, 1)

        return self.store.ask(Lane.READ, look)

    def do(
        self, who: Agent, name: str, *, crash: int | None = None, session: str | None = None, **arguments: Any
    ) -> Any:
        """Under a new key. What crashed left nothing behind, and is done by whoever asks again; a repeat is told the
        same, but for what happened since."""
        self.keys += 1
        call = Call(who, f"key-{self.keys}", name.encode(), session)
        service = SERVICES[name].service
        if crash is not None:
            with suppress(Crash, AgentChatError):
                self.store.ask(Lane.WRITE, lambda tx: service(Crashing(tx, crash), call, **arguments))
        answer = self.store.ask(Lane.WRITE, lambda tx: service(tx, call, **arguments))
        assert self.store.ask(Lane.WRITE, lambda tx: service(tx, call, **arguments)) == answer
        return answer

    def outcome(self, who: Agent, name: str, **arguments: Any) -> Any:
        """The answer, or the refusal's status and code."""
        try:
            return self.do(who, name, **arguments)
        except AgentChatError as error:
            status = {"conflict": 409, "stale_fence": 409, "forbidden": 403, "not_found": 404, "bad_request": 400}
            if status[error.code] == 409:
                shown = error.details["current"]
                task = next(one for one in self.tasks if one.id == shown["id"])
                assert shown["state"] == self._by_clock(task)
            return status[error.code], error.code

    # The model

    def _by_clock(self, task: Model) -> str:
        if task.state not in OVER and task.deadline is not None and task.deadline <= self.clock.at:
            return "expired"
        return "open" if task.state == "claimed" and task.until <= self.clock.at else task.state

    def _settle(self, task: Model) -> None:
        """What is over becomes explicit, before somebody moves it."""
        if self._is_lost(task):
            task.history.append(("lapse", None, "open"))
            task.state, task.owner, task.session = "open", None, None
        if self._by_clock(task) != task.state:
            task.history.append(("expire", None, "expired"))
            task.state = "expired"

    def _is_lost(self, task: Model) -> bool:
        """Its lease was over, and before its deadline."""
        is_over = task.state == "claimed" and task.until <= self.clock.at
        return is_over and (task.deadline is None or task.until < task.deadline)

    def _owner(self, task: Model) -> int | None:
        return None if self._is_lost(task) else task.owner

    def _sees(self, task: Model, worker: int) -> bool:
        return not task.is_private or worker in (task.target, task.owner) or worker in task.had

    def _owner_refusal(self, task: Model, worker: int, fence: int | None) -> tuple[int, str] | None:
        if not self._sees(task, worker):
            return UNKNOWN
        owner = self._owner(task)
        if worker in task.had and (owner != worker or fence not in (None, task.fence)):
            return STALE
        return None if owner in (None, worker) else FORBIDDEN

    def _pick(self, number: int) -> Model | None:
        return self.tasks[number % len(self.tasks)] if self.tasks else None

    def _moved(self, task: Model, action: str, by: int | None, to: str) -> None:
        """`by` -1 is the boss."""
        task.history.append((action, self.boss.name if by == -1 else self.workers[by or 0].name, to))
        task.state = to

    # Steps

    @initialize(news=st.lists(st.tuples(st.none() | workers, st.sampled_from([None, 100])), min_size=2, max_size=3))
    def begin(self, news: list[tuple[int | None, int | None]]) -> None:
        for target, seconds in news:
            self.create(target, seconds, None)

    @rule(to=st.none() | workers, seconds=st.sampled_from([None, None, 100, 1000]), crash=crashes)
    def create(self, to: int | None, seconds: int | None, crash: int | None) -> None:
        where = {"channel": self.channel} if to is None else {"target_agent": self.workers[to].name}
        made = self.do(self.boss, "create_task", crash=crash, title="count", deadline_in=seconds, **where)["task"]
        deadline = None if seconds is None else self.clock.at + seconds * SECOND
        task = Model(made["id"], to, to is not None, deadline)
        task.history.append(("create", self.boss.name, "open"))
        self.tasks.append(task)

    @rule(seconds=st.sampled_from([0, 1, 59, 61, 99, 301, 1001]))
    def wait(self, seconds: int) -> None:
        self.clock.at += seconds * SECOND

    @rule(number=which, worker=workers, session=sessions, lease=leases, crash=crashes)
    def claim(self, number: int, worker: int, session: str, lease: int, crash: int | None) -> None:
        if (task := self._pick(number)) is None:
            return
        told = self.outcome(
            self.workers[worker], "claim_task", crash=crash, session=session, task_id=task.id, lease=lease
        )  # fmt: skip
        if not self._sees(task, worker):
            assert told == UNKNOWN
        elif task.target not in (None, worker):
            assert told == FORBIDDEN
        elif self._by_clock(task) == "open":
            self._settle(task)
            assert (told["idempotent"], told["task"]["state"], told["task"]["fence"]) == (
                False,
                "claimed",
                task.fence + 1,
            )
            self._moved(task, "claim", worker, "claimed")
            task.owner, task.session, task.fence = worker, session, task.fence + 1
            task.until = self.clock.at + lease * SECOND
            task.had.add(worker)
            task.told[worker] = task.fence
        elif self._by_clock(task) == "claimed" and (task.owner, task.session) == (worker, session):
            assert (told["idempotent"], told["task"]["fence"]) == (True, task.fence)
        else:
            assert told == LATE

    @rule(number=which, worker=workers, crash=crashes)
    def decline(self, number: int, worker: int, crash: int | None) -> None:
        if (task := self._pick(number)) is None:
            return
        told = self.outcome(self.workers[worker], "decline_task", crash=crash, task_id=task.id, reason="no")
        if not self._sees(task, worker):
            assert told == UNKNOWN
        elif task.target != worker:
            assert told == FORBIDDEN
        elif self._by_clock(task) == "declined":
            assert told["idempotent"] is True
        elif self._by_clock(task) == "open":
            self._settle(task)
            assert told["task"]["state"] == "declined"
            self._moved(task, "decline", worker, "declined")
        else:
            assert told == LATE

    @rule(number=which, worker=workers, fence=fences, lease=leases)
    def renew(self, number: int, worker: int, fence: str, lease: int) -> None:
        if (task := self._pick(number)) is None:
            return
        given = self._fence(task, fence)
        told = self.outcome(self.workers[worker], "renew_task", task_id=task.id, fence=given, lease=lease)
        if (refusal := self._owner_refusal(task, worker, given)) is not None:
            assert told == refusal
        elif self._by_clock(task) != "claimed":
            assert told == LATE
        else:
            task.until = self.clock.at + lease * SECOND
            assert told["task"]["version"] == len(task.history)

    @rule(
        number=which, worker=workers, fence=fences, crash=crashes,
        action=st.sampled_from(["progress", "return", "complete", "complete", "fail"]),
    )  # fmt: skip
    def use(self, number: int, worker: int, fence: str, crash: int | None, action: str) -> None:
        if (task := self._pick(number)) is None:
            return
        given, name = self._fence(task, fence), {"progress": "report_progress"}.get(action, f"{action}_task")
        more = {"progress": {"note": "half"}, "complete": {"result": f"by {worker}"}, "fail": {"reason": "no"}}
        told = self.outcome(
            self.workers[worker], name, crash=crash, task_id=task.id, fence=given, **more.get(action, {})
        )  # fmt: skip
        to = {"progress": "claimed", "return": "open", "complete": "done", "fail": "failed"}[action]
        now_in = self._by_clock(task)
        if (refusal := self._owner_refusal(task, worker, given)) is not None:
            assert told == refusal
        elif now_in == to and to in OVER:
            assert (told["idempotent"], told["task"]["result"]) == (True, task.result)
        elif now_in != "claimed":
            assert told == LATE
        else:
            assert (told["idempotent"], told["task"]["state"]) == (False, to)
            self._moved(task, action, worker, to)
            task.result = f"by {worker}" if action == "complete" else task.result
            if to == "open":
                task.owner = task.session = None

    def _fence(self, task: Model, which: str) -> int | None:
        return {"none": None, "right": max(task.fence, 1), "old": max(task.fence - 1, 1)}[which]

    @rule(number=which, to=workers, crash=crashes)
    def offer(self, number: int, to: int, crash: int | None) -> None:
        if (task := self._pick(number)) is None:
            return
        told = self.outcome(
            self.boss, "offer_task", crash=crash, task_id=task.id, target_agent=self.workers[to].name
        )  # fmt: skip
        if self._by_clock(task) in ("open", "declined"):
            self._settle(task)
            assert told["task"]["target"] == self.workers[to].name
            self._moved(task, "offer", -1, "open")
            task.target = to
            task.owner = task.session = None
        else:
            assert told == LATE

    @rule(number=which, crash=crashes)
    def cancel(self, number: int, crash: int | None) -> None:
        if (task := self._pick(number)) is None:
            return
        told = self.outcome(self.boss, "cancel_task", crash=crash, task_id=task.id)
        now_in = self._by_clock(task)
        if now_in == "cancelled":
            assert told["idempotent"] is True
        elif now_in in OVER:
            assert told == LATE
        else:
            self._settle(task)
            assert told["task"]["state"] == "cancelled"
            self._moved(task, "cancel", -1, "cancelled")

    @rule()
    def make_explicit(self) -> None:
        """What the relay does by itself."""
        while self.store.ask(Lane.WRITE, kinds.settle):
            pass
        for task in self.tasks:
            self._settle(task)

    # What holds after each step

    @invariant()
    def each_is_shown_as_it_is(self) -> None:
        for task in self.tasks:
            told = self.store.ask(
                Lane.READ, lambda tx, at=task.id: SERVICES["get_task"].service(tx, Call(self.boss), task_id=at)
            )  # fmt: skip
            shown, state = told["task"], self._by_clock(task)
            owner = None if (at := self._owner(task)) is None else self.workers[at].name
            assert (shown["state"], shown["fence"], shown["claimant"], shown["result"]) == (
                state, task.fence, owner, task.result,
            )  # fmt: skip
            assert shown["version"] == len(task.history), "each transition is one version"
            lines = [(line["action"], line["actor"], line["after"]) for line in told["history"]]
            assert lines == task.history[-50:]

    @invariant()
    def work_is_found_where_it_is(self) -> None:
        for worker, agent in enumerate(self.workers):
            work = self.store.ask(Lane.READ, lambda tx, who=agent: SERVICES["check_work"].service(tx, Call(who)))
            mine = {task.id for task in self.tasks if task.owner == worker and self._by_clock(task) == "claimed"}
            assert {task["id"] for task in work["mine_claimed"]} == mine
            offered = {task.id for task in self.tasks if task.target == worker and self._is_open(task)}
            assert {task["id"] for task in work["offered_to_me"]} == offered
            anybody = {task.id for task in self.tasks if task.target is None and self._is_open(task)}
            assert {task["id"] for task in work["open_matching"] if task["channel"] == self.channel} == anybody

        failed = {task.id for task in self.tasks if self._by_clock(task) in ("failed", "expired")}
        work = self.store.ask(Lane.READ, lambda tx: SERVICES["check_work"].service(tx, Call(self.boss)))
        assert {task["id"] for task in work["failed_for_me"]} == failed

    @invariant()
    def each_is_listed_as_what_it_is(self) -> None:
        """Whoever asks for those of a status gets these, wherever they are looked for."""

        def listed(who: Agent, **which: Any) -> set[str]:
            service = SERVICES["list_tasks"].service
            return {
                task["id"] for task in self.store.ask(Lane.READ, lambda tx: service(tx, Call(who), **which))["tasks"]
            }

        everywhere = {task.id for task in self.tasks}
        for status, states in STATUS.items():
            these = {task.id: task for task in self.tasks if self._by_clock(task) in states}
            assert listed(self.boss, status=status) & everywhere == set(these)
            assert listed(self.boss, status=status, mine="created") == set(these)
            public = {id for id, task in these.items() if not task.is_private}
            if everywhere - {task.id for task in self.tasks if task.is_private}:
                assert listed(self.boss, status=status, channel=self.channel) == public
            for worker, agent in enumerate(self.workers):
                mine = {id for id, task in these.items() if self._owner(task) == worker}
                assert listed(agent, status=status, mine="claimed") == mine

    def _is_open(self, task: Model) -> bool:
        """What lapsed is open again, whether or not the relay has looked."""
        return self._by_clock(task) == "open"

    def teardown(self) -> None:
        """The log of events tells the same, once each and in order."""
        rows = self.store.ask(
            Lane.READ, lambda tx: tx.all("events_after", space_id=1, position=self.begun, limit=1 << 40)
        )  # fmt: skip
        for task in self.tasks:
            told = [row["kind"] for row in rows if row["subject"].partition("#")[0] == task.id]
            assert told == [f"task.{EVENTS[action]}" for action, _, _ in task.history]


@pytest.mark.hypothesis
def test_tasks(live: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "due", lambda tx: kinds.Due(0, None))  # the relay makes nothing explicit by itself
    Tasks.live, Tasks.clock = live, StandingClock(monkeypatch)
    run_state_machine_as_test(
        Tasks,
        settings=settings(
            max_examples=database.examples(25), stateful_step_count=40, deadline=None,
            suppress_health_check=[*HealthCheck],
        ),
    )  # fmt: skip
