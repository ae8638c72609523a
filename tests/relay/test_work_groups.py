"""What calls about one thing know of each other when the relay takes them along in one transaction, in which the log is
written down last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentchat.errors import Conflict
from agentchat_relay.service.call import Call
from agentchat_relay.service.operations import SERVICES
from agentchat_relay.service.work import locks
from agentchat_relay.store.seam import Lane
from tests.relay.peek import Function, Peek, Told


class House(Peek):
    """Sessions of one agent that call by the names of operations."""

    def call(
        self, name: str, session: str = "first", key: str | None = None, **arguments: Any
    ) -> tuple[Lane, Function]:
        entry, digest = SERVICES[name], repr(arguments).encode()[:16] if key else None
        call = Call(self.agent, key, digest, session)
        return entry.lane, lambda tx: entry.service(tx, call, **arguments)

    def do(self, name: str, session: str = "first", **arguments: Any) -> Any:
        return self.ask(*self.call(name, session, **arguments))

    def break_lock(self, lock_id: str) -> tuple[Lane, Function]:
        return Lane.APPEND, lambda tx: locks.break_lock(tx, self.agent.space_id, lock_id, None)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def code(told: Told) -> str:
    assert isinstance(told[1], Conflict)
    return told[1].code


def test_who_was_let_in_a_moment_ago_needs_the_right_fence(house: House) -> None:
    first = house.do("acquire_lock", names=["src/**"])["lock"]
    second = house.do("acquire_lock", "second", names=["src/a"], wait=60)["lock"]
    assert second["state"] == "waiting"
    given_back, wrong, renewed = house.together(
        house.call("release_lock", lock_id=first["id"]),
        house.call("release_lock", "second", lock_id=second["id"], fence=1),
        house.call("renew_lock", "second", lock_id=second["id"], fence=2),
    )
    assert given_back[0]["lock"]["state"] == "released"
    assert code(wrong) == "stale_fence"
    assert renewed[0]["lock"]["state"] == "held"


def test_who_was_let_in_and_lost_it_at_once_is_told_to_stop(house: House) -> None:
    first = house.do("acquire_lock", names=["src/**"])["lock"]
    second = house.do("acquire_lock", "second", names=["src/a"], wait=60)["lock"]
    _, broken, late = house.together(
        house.call("release_lock", lock_id=first["id"]),
        house.break_lock(second["id"]),
        house.call("renew_lock", "second", lock_id=second["id"]),
    )
    assert broken[0]["state"] == "broken"
    assert code(late) == "stale_fence"


def test_a_repeat_is_told_the_same_though_something_was_written_down_between(house: House) -> None:
    task = house.do("create_task", title="count", channel="work")["task"]
    claimed, *done = house.together(
        house.call("claim_task", task_id=task["id"], key="claim"),
        house.call("complete_task", task_id=task["id"], result="42", key="complete"),
        house.call("complete_task", task_id=task["id"], result="42", key="complete"),
    )
    assert claimed[0]["task"]["state"] == "claimed"
    assert [error for _, error in done] == [None, None]
    assert done[0][0] == done[1][0]
    assert done[0][0]["idempotent"] is False
