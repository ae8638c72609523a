"""Locks on a clock that stands until it is moved: asked for, waited for, kept, lost and given back in any order, with
crashes in between. A model of plain lists, which compares names step by step, says what each must come to."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from agentchat.errors import AgentChatError
from agentchat_relay.embedded import Embedded
from agentchat_relay.service import administration
from agentchat_relay.service.call import Agent, Call
from agentchat_relay.service.operations import SERVICES
from agentchat_relay.service.work import kinds, locks
from agentchat_relay.store.seam import Lane

from . import database
from .conftest import fresh
from .test_inbox_model import SECOND, Crash, Crashing, StandingClock

PATHS = ("a/b", "a/b/c", "ab", "a/**", "a/b/**", "**", "a/bc", "z/y", "**", "a")
LIVE = ("waiting", "held")
PEOPLE = 4
who = st.integers(0, PEOPLE - 1)
which = st.integers(0, 30)
sessions = st.sampled_from(["one", "two"])
crashes = st.none() | st.integers(0, 6)
leases = st.sampled_from([1, 300, 3600])
STALE, LATE = (409, "stale_fence"), (409, "conflict")
FORBIDDEN = (403, "forbidden")


@dataclass
class Model:
    id: str
    owner: int
    session: str
    names: list[str]
    shared: bool
    lease: int
    state: str
    until: int = 0  # of the lease
    deadline: int = 0
    fence: int = 0
    version: int = 1

    def conflicts(self, names: list[str], shared: bool) -> bool:
        return not (self.shared and shared) and any(overlap(mine, one) for mine in self.names for one in names)


def overlap(one: str, other: str) -> bool:
    """Step by step."""
    a, b = one.split("/"), other.split("/")
    while a and b:
        if a[0] == "**" or b[0] == "**":
            return True
        if a.pop(0) != b.pop(0):
            return False
    return (not a and not b) or [*a, *b] == ["**"]


class Locks(RuleBasedStateMachine):
    live: Embedded
    clock: StandingClock

    def __init__(self) -> None:
        super().__init__()
        store = self.live.relay and self.live.relay.store
        assert store is not None
        self.store, self.root = store, fresh("root")
        names = [fresh("locker") for _ in range(PEOPLE)]
        for name in names:
            self.live.token(name)
        self.agents = [self._agent(name) for name in names]
        self.locks: list[Model] = []
        self.keys = 0

    def _agent(self, name: str) -> Agent:
        def look(tx: Any) -> Agent:
            row = tx.the("agent_by_name", space_id=1, name=name)
            return Agent(row["id"], row["public_id"], name, 1)

        return self.store.ask(Lane.READ, look)

    def do(self, owner: int, name: str, session: str, crash: int | None = None, **arguments: Any) -> Any:
        """Under a new key, perhaps after a crash, and then again; or the refusal's status and code."""
        self.keys += 1
        call, service = Call(self.agents[owner], f"key-{self.keys}", name.encode(), session), SERVICES[name].service
        if crash is not None:
            with suppress(Crash, AgentChatError):
                self.store.ask(Lane.WRITE, lambda tx: service(Crashing(tx, crash), call, **arguments))
        try:
            answer = self.store.ask(Lane.WRITE, lambda tx: service(tx, call, **arguments))
        except AgentChatError as error:
            assert "current" in error.details or error.code == "forbidden"
            return {"forbidden": 403}.get(error.code, 409), error.code, error
        assert self.store.ask(Lane.WRITE, lambda tx: service(tx, call, **arguments)) == answer
        return answer

    # The model

    def _by_clock(self, lock: Model) -> str:
        if lock.state == "held" and lock.until <= self.clock.at:
            return "lapsed"
        return "expired" if lock.state == "waiting" and lock.deadline <= self.clock.at else lock.state

    def _end(self, lock: Model, state: str) -> None:
        lock.state, lock.version = state, lock.version + 1
        for number, one in enumerate(self.locks):
            if one.state == "waiting" and one.deadline > self.clock.at and not self._is_behind(one, number):
                one.state, one.until, one.version = "held", self.clock.at + one.lease * SECOND, one.version + 1

    def _is_behind(self, lock: Model, number: int) -> bool:
        """Whether somebody is in the way: as it is written down, since what the clock ended lets others in itself."""
        return any(
            other.state in LIVE
            and other.conflicts(lock.names, lock.shared)
            and (place < number or other.state == "held")
            for place, other in enumerate(self.locks)
            if other is not lock
        )

    def _is_waited_for(self, number: int, by: list[Model]) -> bool:
        later = [other for other in self.locks[number + 1 :] if other in by and other.state == "waiting"]
        return any(other.conflicts(self.locks[number].names, self.locks[number].shared) for other in later)

    def _settle(self, found: list[Model]) -> None:
        for lock in found:
            if (state := self._by_clock(lock)) != lock.state:
                self._end(lock, state)

    def _pick(self, number: int) -> Model:
        """One of those that may be live."""
        recent = self.locks[-8:]
        return recent[number % len(recent)]

    # Steps

    @rule(
        owner=who, session=sessions, paths=st.lists(st.sampled_from(PATHS), min_size=1, max_size=2),
        shared=st.booleans(), lease=leases, wait=st.sampled_from([0, 5, 60, 600, 600]), crash=crashes,
    )  # fmt: skip
    def acquire(
        self, owner: int, session: str, paths: list[str], shared: bool, lease: int, wait: int, crash: int | None
    ) -> None:
        names = [f"{self.root}/{path}" for path in paths]
        told = self.do(
            owner, "acquire_lock", session, crash, names=names, shared=shared, lease=lease, wait=wait, reason="because"
        )  # fmt: skip
        found = [lock for lock in self.locks if lock.state in LIVE and lock.conflicts(names, shared)]
        in_the_way = [lock for lock in found if self._by_clock(lock) in LIVE]
        mine = [
            lock.id
            for number, lock in enumerate(self.locks)
            if (lock.owner, lock.session) == (owner, session)
            and self._by_clock(lock) in LIVE
            and lock.conflicts(names, False)
            and (lock in in_the_way or self._is_waited_for(number, in_the_way))
        ]
        if in_the_way and (not wait or mine):
            assert told[:2] == LATE
            in_the_way.sort(key=lambda lock: lock.state != "held")
            holders = [holder["id"] for holder in told[2].details["holders"]]
            assert holders == (mine or [lock.id for lock in in_the_way])[:10]
            return
        self._settle(found)
        lock = told["lock"]
        new = Model(lock["id"], owner, session, list(dict.fromkeys(names)), shared, lease, lock["state"])
        if in_the_way:
            assert lock["state"] == "waiting"
            new.deadline = self.clock.at + wait * SECOND
        else:
            assert lock["state"] == "held"
            new.until = self.clock.at + lease * SECOND
        self.locks.append(new)

    @rule(seconds=st.sampled_from([0, 1, 4, 6, 61, 301]))
    def wait(self, seconds: int) -> None:
        self.clock.at += seconds * SECOND

    @precondition(lambda self: self.locks)
    @rule(number=which, other=st.none() | who, fence=st.sampled_from([0, 0, 0, 1, -1]), session=sessions, crash=crashes)
    def release(self, number: int, other: int | None, fence: int, session: str, crash: int | None) -> None:
        lock, given = self._given(number, fence)
        owner = lock.owner if other is None else other
        told = self.do(owner, "release_lock", session, crash, lock_id=lock.id, fence=given)
        now_in = self._by_clock(lock)
        if owner != lock.owner:
            assert told[:2] == FORBIDDEN
        elif lock.fence and (now_in in ("lapsed", "broken") or given not in (None, lock.fence)):
            assert told[:2] == STALE
        elif now_in in ("released", "withdrawn") and (given is None or now_in == "released"):
            assert told["idempotent"] is True
        elif now_in == "held" or (now_in == "waiting" and given is None):
            assert told["idempotent"] is False
            self._end(lock, {"held": "released", "waiting": "withdrawn"}[now_in])
            assert told["lock"]["state"] == lock.state
        else:
            assert told[:2] == LATE

    @precondition(lambda self: self.locks)
    @rule(number=which, other=st.none() | who, fence=st.sampled_from([0, 1, -1]), lease=leases)
    def renew(self, number: int, other: int | None, fence: int, lease: int) -> None:
        lock, given = self._given(number, fence)
        owner = lock.owner if other is None else other
        told = self.do(owner, "renew_lock", "one", lock_id=lock.id, fence=given, lease=lease)
        now_in = self._by_clock(lock)
        if owner != lock.owner:
            assert told[:2] == FORBIDDEN
        elif lock.fence and (now_in in ("lapsed", "broken") or given not in (None, lock.fence)):
            assert told[:2] == STALE
        elif now_in == "held":
            lock.until = self.clock.at + lease * SECOND
        else:
            assert told[:2] == LATE

    def _given(self, number: int, fence: int) -> tuple[Model, int | None]:
        """0: no fence; 1: the right one; -1: the one before."""
        lock = self._pick(number)
        return lock, None if not fence else max(1, lock.fence + (fence - 1) // 2)

    @precondition(lambda self: self.locks)
    @rule(number=which)
    def break_it(self, number: int) -> None:
        lock = self._pick(number)
        try:
            self.store.ask(Lane.WRITE, lambda tx: administration.lock_break(tx, id=lock.id, reason="enough"))
        except AgentChatError as error:
            assert error.code == "conflict" and self._by_clock(lock) not in ("held", "broken")
        else:
            if lock.state != "broken":
                assert self._by_clock(lock) == "held"
                self._end(lock, "broken")

    @rule()
    def make_explicit(self) -> None:
        """What the relay does by itself."""
        while self.store.ask(Lane.WRITE, kinds.settle):
            pass
        self._settle(self.locks)

    # What holds after each step

    @invariant()
    def each_is_as_it_should_be(self) -> None:
        newest, new = max((lock.fence for lock in self.locks), default=0), list[int]()
        for lock in self.locks:
            shown = self.store.ask(
                Lane.READ, lambda tx, at=lock.id: locks.look(tx, Call(self.agents[0]), at).lock
            )  # fmt: skip
            assert (shown["state"], shown["lease_until"] or 0) == (
                self._by_clock(lock), lock.until if self._by_clock(lock) == "held" else 0,
            )  # fmt: skip
            assert self.store.ask(Lane.READ, lambda tx, at=shown["id"]: len(
                tx.all("work_history", work_id=at, after=0, limit=99))) == lock.version  # fmt: skip
            if lock.state not in ("waiting", "expired", "withdrawn") and not lock.fence:
                lock.fence = shown["fence"]
                new.append(lock.fence)
            assert shown["fence"] == lock.fence
        assert len({*new}) == len(new) and all(fence > newest for fence in new), "fences grow"

    @invariant()
    def nobody_has_what_another_has(self) -> None:
        held = [lock for lock in self.locks if self._by_clock(lock) == "held"]
        for number, lock in enumerate(held):
            assert not any(lock.conflicts(other.names, other.shared) for other in held[:number])

    @invariant()
    def they_are_found_by_what_they_are_on(self) -> None:
        for path in {*PATHS}:
            name = f"{self.root}/{path}"
            told = self.store.ask(
                Lane.READ, lambda tx, at=name: SERVICES["list_locks"].service(tx, Call(self.agents[0]), name=at)
            )  # fmt: skip
            wanted = [
                lock.id
                for lock in self.locks
                if self._by_clock(lock) in LIVE and any(overlap(name, one) for one in lock.names)
            ]
            assert [lock["id"] for lock in told["locks"]] == wanted


@pytest.fixture(scope="module")
def clock() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield StandingClock(patch)


@pytest.mark.hypothesis
def test_locks(live: Embedded, clock: StandingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "due", lambda tx: kinds.Due(0, None))
    Locks.live, Locks.clock = live, clock
    run_state_machine_as_test(
        Locks,
        settings=settings(
            max_examples=database.examples(25), stateful_step_count=40, deadline=None,
            suppress_health_check=[*HealthCheck]
        ),
    )  # fmt: skip
