"""Interrupts, pauses, approvals, tasks and locks at once, on a clock that stands until it is moved, with crashes in
between. A model that knows nothing of the relay's tables says what each step must come to, and what waits for whom.
"""

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
from agentchat_relay.service import administration
from agentchat_relay.service.call import Agent, Call
from agentchat_relay.service.operations import SERVICES
from agentchat_relay.service.work import kinds
from agentchat_relay.store.seam import Lane

from .conftest import fresh
from .test_inbox_model import SECOND, Crash, Crashing, StandingClock

LATE, FORBIDDEN, UNKNOWN = (409, "conflict"), (403, "forbidden"), (404, "not_found")
ENOUGH = (429, "agent_limit")
AGENTS = (0, 1, 2)  # the last one is a person
PERSON = 2
STATUS = {
    "conflict": 409, "stale_fence": 409, "forbidden": 403, "not_found": 404, "bad_request": 400, "agent_limit": 429,
}  # fmt: skip
VERDICTS = {"allow": "allowed", "deny": "denied", "edit": "edited", "respond": "answered"}
which = st.integers(0, 30)
agents = st.sampled_from(AGENTS)
seconds = st.sampled_from([1, 60, 600])
_due = kinds.due
crashes = st.none() | st.integers(0, 12)


@dataclass
class Thing:
    """One of any kind. `told` are those in whose inboxes it waits, `by` who decided it."""

    id: str
    kind: str
    maker: int
    state: str
    deadline: int
    target: int | None = None
    pause: Thing | None = None
    purpose: str = "attention"
    told: set[int] = field(default_factory=set)
    dismissed: set[int] = field(default_factory=set)
    by: int | None = None
    lease: int | None = None
    fence: int = 0
    name: str = ""
    versions: int = 1


class Work(RuleBasedStateMachine):
    live: Embedded
    clock: StandingClock
    remembered = 0

    def __init__(self) -> None:
        super().__init__()
        assert self.live.relay is not None
        self.store = self.live.relay.store
        self.space = fresh("world")
        self.live.space(self.space)
        for name, kind in (("ann", "agent"), ("bob", "agent"), ("mira", "person")):
            self.live.ask(
                lambda tx, name=name, kind=kind: administration.agent_token(tx, name=name, kind=kind, space=self.space)
            )
        self.agents = [self._agent(name) for name in ("ann", "bob", "mira")]
        self.reviewers: set[int] = set()
        self.things: list[Thing] = []
        self.keys = 0

    def _agent(self, name: str) -> Agent:
        def look(tx: Any) -> Agent:
            space = tx.the("space_by_name", name=self.space)["id"]
            row = tx.the("agent_by_name", space_id=space, name=name)
            return Agent(row["id"], row["public_id"], name, space, row["kind"] == "person")

        return self.store.ask(Lane.READ, look)

    def do(self, who: int, name: str, crash: int | None = None, **arguments: Any) -> Any:
        """Under a new key: the answer, or the refusal. What crashed left nothing behind."""
        self.keys += 1
        call = Call(self.agents[who], f"key-{self.keys}", name.encode(), "one")
        service = SERVICES[name].service
        if crash is not None:
            with suppress(Crash, AgentChatError):
                self.store.ask(Lane.WRITE, lambda tx: service(Crashing(tx, crash), call, **arguments))
        try:
            answer = self.store.ask(Lane.WRITE, lambda tx: service(tx, call, **arguments))
            assert self.store.ask(Lane.WRITE, lambda tx: service(tx, call, **arguments)) == answer, "a repeat"
            return answer
        except AgentChatError as error:
            if (current := error.details.get("current")) is not None:
                thing = next(one for one in self.things if one.id == current["id"])
                assert current["state"] == self.state(thing)
            return STATUS[error.code], error.code

    def ask(self, who: int, name: str, **arguments: Any) -> Any:
        return self.store.ask(Lane.READ, lambda tx: SERVICES[name].service(tx, Call(self.agents[who]), **arguments))

    # The model

    def state(self, thing: Thing) -> str:
        """By the clock. What a pause has told ends with it only once the relay has seen that."""
        if thing.kind == "lock":
            return "lapsed" if thing.state == "held" and (thing.lease or 0) <= self.clock.at else thing.state
        is_open = thing.state in ("pending", "paused", "open", "claimed")
        if is_open and thing.deadline <= self.clock.at:
            return "expired"
        if thing.state == "claimed" and (thing.lease or 0) <= self.clock.at:
            return "open"
        return thing.state

    def pick(self, kind: str, number: int) -> Thing | None:
        found = [thing for thing in self.things if thing.kind == kind]
        return found[number % len(found)] if found else None

    def settle(self, thing: Thing) -> None:
        """What is over by the clock becomes explicit, with what follows."""
        if thing.state == "claimed" and (thing.lease or 0) <= self.clock.at and (thing.lease or 0) < thing.deadline:
            thing.state, thing.by, thing.lease = "open", None, None
            thing.versions += 1
        state = self.state(thing)
        if state == thing.state:
            return
        thing.state = state
        thing.versions += 1
        thing.told = set()
        if thing.kind == "pause":
            self._release(thing)

    def _release(self, pause: Thing) -> None:
        for part in [one for one in self.things if one.pause is pause and one.purpose == "pause"]:
            if self.state(part) == "pending":
                self._end(part, "withdrawn")
            elif part.state == "acknowledged":
                target = part.target
                assert target is not None
                self._listed(pause.maker, target, pause, "resume", self.clock.at + 86_400 * SECOND)

    def _listed(self, maker: int, target: int, pause: Thing, purpose: str, until: int) -> None:
        """An interrupt that the relay made; its id is found where it waits."""
        known = {thing.id for thing in self.things}
        found = [one for one in self.ask(target, "list_interrupts")["interrupts"] if one["id"] not in known]
        [new] = [one for one in found if (one["purpose"], one["pause_id"]) == (purpose, pause.id)]
        thing = Thing(new["id"], "interrupt", maker, "pending", until, target, pause, purpose, {target})
        self.things.append(thing)

    def _end(self, thing: Thing, state: str) -> None:
        thing.state, thing.told = state, set()
        thing.versions += 1

    def sees(self, thing: Thing, who: int) -> bool:
        if thing.kind in ("lock", "pause"):
            return True
        if thing.kind == "approval" and who in self.reviewers:
            return True
        return who in (thing.maker, thing.target, thing.by)

    def step(
        self, thing: Thing, told: Any, who: int, may: bool, before: tuple[str, ...], to: str, *, again: bool = True
    ) -> bool:
        """Check what a step came to; whether it was taken."""
        state = self.state(thing)
        if not self.sees(thing, who):
            assert told == UNKNOWN
        elif not may:
            assert told == FORBIDDEN
        elif state == to and again:
            assert told["idempotent"] is True
        elif state not in before:
            assert told == LATE, (told, state)
        else:
            assert (told["idempotent"], told[thing.kind]["state"]) == (False, to), told
            self.settle(thing)
            self._end(thing, to)
            return True
        return False

    @initialize(who=agents, reviewers=st.sets(agents), lasts=seconds)
    def begin(self, who: int, reviewers: set[int], lasts: int) -> None:
        """One of each is there, so that short stories tell something, too."""
        for reviewer in sorted(reviewers):
            self.role(reviewer, False)
        self.request(who, lasts, None)
        self.interrupt(PERSON, who % 2, lasts, None)
        self.pause(PERSON, lasts, None)

    # Interrupts and pauses

    @rule(who=agents, to=agents, lasts=seconds, crash=crashes)
    def interrupt(self, who: int, to: int, lasts: int, crash: int | None) -> None:
        name = self.agents[to].name
        told = self.do(who, "send_interrupt", crash, target_agent=name, reason="stop", expires_in=lasts)
        if who == to:
            assert told == (400, "bad_request")
            return
        sent = [one for one in self.things if (one.kind, one.maker, one.target) == ("interrupt", who, to)]
        if sum(one.pause is None and self.state(one) == "pending" for one in sent) >= 5:
            assert told == ENOUGH, "they come before everything else"
            return
        until = self.clock.at + lasts * SECOND
        self.things.append(Thing(told["interrupt"]["id"], "interrupt", who, "pending", until, to, told={to}))

    @rule(number=which, who=agents, crash=crashes)
    def acknowledge(self, number: int, who: int, crash: int | None) -> None:
        if (thing := self.pick("interrupt", number)) is not None:
            told = self.do(who, "acknowledge_interrupt", crash, interrupt_id=thing.id)
            self.step(thing, told, who, who == thing.target, ("pending",), "acknowledged")

    @rule(number=which, who=agents, crash=crashes)
    def withdraw(self, number: int, who: int, crash: int | None) -> None:
        if (thing := self.pick("interrupt", number)) is not None:
            told = self.do(who, "withdraw_interrupt", crash, interrupt_id=thing.id)
            self.step(thing, told, who, who == thing.maker, ("pending",), "withdrawn")

    @rule(who=agents, lasts=seconds, crash=crashes)
    def pause(self, who: int, lasts: int, crash: int | None) -> None:
        told = self.do(who, "pause_agents", crash, reason="drill", group="all", expires_in=lasts)
        if who != PERSON:
            assert told == FORBIDDEN
            return
        assert told["pause"]["told"] == 2
        pause = Thing(told["pause"]["id"], "pause", who, "paused", self.clock.at + lasts * SECOND)
        self.things.append(pause)
        for target in (0, 1):
            self._listed(who, target, pause, "pause", pause.deadline)

    @rule(number=which, who=agents, crash=crashes)
    def resume(self, number: int, who: int, crash: int | None) -> None:
        if (thing := self.pick("pause", number)) is not None:
            told = self.do(who, "resume_agents", crash, pause_id=thing.id)
            if self.step(thing, told, who, who == PERSON, ("paused",), "resumed"):
                self._release(thing)

    # Approvals

    @rule(who=agents, lasts=seconds, crash=crashes)
    def request(self, who: int, lasts: int, crash: int | None) -> None:
        told = self.do(who, "request_approval", crash, tool_name="deploy", arguments='{"a": 1}', expires_in=lasts)
        reviewers = self.reviewers - {who}
        assert told["reviewers"] == len(reviewers)
        until = self.clock.at + lasts * SECOND
        self.things.append(Thing(told["approval"]["id"], "approval", who, "pending", until, told=reviewers))

    @rule(number=which, who=agents, verdict=st.sampled_from(sorted(VERDICTS)), crash=crashes)
    def decide(self, number: int, who: int, verdict: str, crash: int | None) -> None:
        if (thing := self.pick("approval", number)) is None:
            return
        more = {"edit": {"arguments": "{}"}, "respond": {"message": "no need"}}.get(verdict, {})
        told = self.do(who, "decide_approval", crash, approval_id=thing.id, verdict=verdict, **more)
        may = who in self.reviewers and who != thing.maker
        if self.step(thing, told, who, may, ("pending",), VERDICTS[verdict]):
            assert told["yours"] is True
            thing.by = who
        elif isinstance(told, dict):
            assert told["yours"] is (thing.by == who), "the first verdict counts"

    @rule(number=which, who=agents, crash=crashes)
    def dismiss(self, number: int, who: int, crash: int | None) -> None:
        if (thing := self.pick("approval", number)) is None:
            return
        told = self.do(who, "dismiss_approval", crash, approval_id=thing.id)
        state, others = self.state(thing), thing.told - {who}
        may = who in self.reviewers and who != thing.maker
        if may and state == "pending" and who in thing.dismissed:
            assert told["idempotent"] is True
            thing.told = others
        elif self.step(thing, told, who, may, ("pending",), "pending", again=False):
            thing.told = others
            thing.dismissed.add(who)

    @rule(number=which, who=agents, crash=crashes)
    def take_back(self, number: int, who: int, crash: int | None) -> None:
        if (thing := self.pick("approval", number)) is not None:
            told = self.do(who, "withdraw_approval", crash, approval_id=thing.id)
            self.step(thing, told, who, who == thing.maker, ("pending",), "withdrawn")

    @rule(who=agents, revoke=st.booleans())
    def role(self, who: int, revoke: bool) -> None:
        self.live.ask(
            lambda tx: administration.agent_grant(
                tx, name=self.agents[who].name, role="reviewer", revoke=revoke, space=self.space
            )
        )
        if (who in self.reviewers) is not revoke:
            return  # nothing changes
        self.reviewers = self.reviewers - {who} if revoke else self.reviewers | {who}
        for thing in self.things:
            if thing.kind == "approval" and thing.maker != who and self.state(thing) == "pending":
                thing.told = thing.told - {who} if revoke else thing.told | {who}

    # Tasks and locks, beside them

    @rule(who=agents, to=agents, lasts=seconds, crash=crashes)
    def task(self, who: int, to: int, lasts: int, crash: int | None) -> None:
        name = self.agents[to].name
        made = self.do(who, "create_task", crash, title="count", target_agent=name, deadline_in=lasts)["task"]
        self.things.append(Thing(made["id"], "task", who, "open", self.clock.at + lasts * SECOND, to))

    @rule(number=which, who=agents, lease=seconds, crash=crashes)
    def claim(self, number: int, who: int, lease: int, crash: int | None) -> None:
        if (thing := self.pick("task", number)) is not None:
            told = self.do(who, "claim_task", crash, task_id=thing.id, lease=lease)
            if self.step(thing, told, who, who == thing.target, ("open",), "claimed"):
                thing.by, thing.lease, thing.fence = who, self.clock.at + lease * SECOND, thing.fence + 1
                assert told["task"]["fence"] == thing.fence

    @rule(who=agents, name=st.sampled_from(["src/**", "src/a", "docs"]), lease=seconds, crash=crashes)
    def lock(self, who: int, name: str, lease: int, crash: int | None) -> None:
        told = self.do(who, "acquire_lock", crash, names=[name], lease=lease)
        held = [one for one in self.things if one.kind == "lock" and self.state(one) == "held"]
        if any(one.name == name or {one.name, name} == {"src/**", "src/a"} for one in held):
            assert told == LATE
            return
        fences = [one.fence for one in self.things if one.kind == "lock"]
        assert told["lock"]["fence"] > max(fences, default=0)
        for one in self.things:
            if one.kind == "lock" and (one.name == name or {one.name, name} == {"src/**", "src/a"}):
                self.settle(one)
        thing = Thing(told["lock"]["id"], "lock", who, "held", 0, lease=self.clock.at + lease * SECOND, name=name)
        thing.fence = told["lock"]["fence"]
        self.things.append(thing)

    # Time

    @rule(lasts=st.sampled_from([0, 1, 30, 61, 601]))
    def wait(self, lasts: int) -> None:
        self.clock.at += lasts * SECOND

    @rule()
    def make_explicit(self) -> None:
        """What the relay does by itself, in the order in which it was due."""
        while self.store.ask(Lane.WRITE, kinds.settle):
            pass
        for thing in [one for one in self.things if one.kind != "pause"]:
            self.settle(thing)
        for thing in [one for one in self.things if one.kind == "pause"]:
            self.settle(thing)

    # What holds after each step

    @invariant()
    def each_is_shown_as_it_is(self) -> None:
        for thing in self.things:
            if thing.kind == "lock":
                continue
            asked = {f"{thing.kind}_id": thing.id}
            if thing.kind == "pause":
                live = {one["id"] for one in self.ask(0, "list_pauses")["pauses"]}
                assert (thing.id in live) == (self.state(thing) == "paused")
                continue
            shown = self.ask(thing.maker, f"get_{thing.kind}", **asked)
            assert (shown[thing.kind]["state"], shown[thing.kind]["version"]) == (self.state(thing), thing.versions)
            versions = [line["version"] for line in shown["history"]]
            assert versions == list(range(max(1, thing.versions - 49), thing.versions + 1)), "each once"
            for who in AGENTS:
                assert self._can_see(who, thing, asked) == self.sees(thing, who)

    def _can_see(self, who: int, thing: Thing, asked: dict[str, str]) -> bool:
        try:
            self.ask(who, f"get_{thing.kind}", **asked)
        except AgentChatError as error:
            assert error.code == "not_found"
            return False
        return True

    @invariant()
    def what_waits_is_what_has_to_be_answered(self) -> None:
        """Interrupts before everything else; and of both kinds those that are pending, for whoever was told."""
        for who in AGENTS:
            items = self.ask(who, "peek_inbox", limit=200)["items"]
            kinds_of = [item["kind"] == "interrupt" for item in items]
            assert kinds_of == sorted(kinds_of, reverse=True)
            waiting = [item["work"]["id"] for item in items if item.get("work", {}).get("state") == "pending"]
            wanted = [one.id for one in self.things if who in one.told and self.state(one) == "pending"]
            assert sorted(waiting) == sorted(wanted)

    @invariant()
    def what_the_writer_remembers_is_so(self) -> None:
        def look(tx: Any) -> int:
            known = tx.tallies.get("work", {})
            for thing in known.values():
                names = {name: thing[name] for name in ("public_id", "space_id", "kind")}
                row = dict(tx.the("work_by_id", **names))
                assert {name: thing[name] for name in row} == row
            return len(known)

        Work.remembered += self.store.ask(Lane.WRITE, look)

    @invariant()
    def the_relay_wakes_in_time(self) -> None:
        """For the first of what has a time, whatever kind it is."""
        times = [time for one in self.things if (time := self._due(one)) is not None]
        due = self.store.ask(Lane.READ, _due)
        if times:
            assert due.at is not None
            assert due.at <= min(times)

    def _due(self, thing: Thing) -> int | None:
        if thing.kind == "lock":
            return thing.lease if thing.state == "held" else None
        return thing.deadline if thing.state in ("pending", "paused", "open", "claimed") else None


@pytest.mark.hypothesis
def test_all_kinds_at_once(live: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "due", lambda tx: kinds.Due(0, None))  # the relay makes nothing explicit by itself
    Work.live, Work.clock = live, StandingClock(monkeypatch)
    run_state_machine_as_test(
        Work,
        settings=settings(
            max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    assert Work.remembered > 100
