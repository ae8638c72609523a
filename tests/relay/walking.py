"""What all walks of a table of moves share: how an attempt must have ended, by the one rule of all state machines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from agentchat_relay.service.work.machine import Machine

IDEMPOTENT, STALE = "idempotent", "stale"


class Tried(NamedTuple):
    """Who tried what, and what came of it."""

    machine: Machine
    action: str
    actor: str | None
    state: str  # in which it was by the clock
    before: Any  # the thing, as it travels
    after: Any
    status: int
    answer: Any
    told: list[Any]  # events about it which somebody caused

    def __str__(self) -> str:
        return f"{self.actor} {self.action} in {self.state}: {self.answer}"


def check(tried: Tried, wanted: int | str, *, unchanged: Iterable[str]) -> None:
    """`wanted` is a status, or IDEMPOTENT, or STALE; `unchanged` are members that no refusal may change."""
    status, answer, before, after = tried.status, tried.answer, tried.before, tried.after
    what = str(tried)
    if wanted == 200:
        _check_move(tried, what)
        return
    assert tried.told == [], what
    assert {name: after[name] for name in unchanged} == {name: before[name] for name in unchanged}, what
    if wanted == IDEMPOTENT:
        assert (status, answer["data"]["idempotent"]) == (200, True), what
        assert answer["data"][tried.machine.kind]["version"] == before["version"], what
    elif wanted == STALE:
        assert (status, answer["code"]) == (409, "stale_fence"), what
    else:
        assert status == wanted, what
        if wanted == 409:
            assert (answer["code"], answer["current"]["state"]) == ("conflict", after["state"]), what


def _check_move(tried: Tried, what: str) -> None:
    """One version more, or two if the relay had to take a move of its own before, and one event."""
    move, answer, after = tried.machine.move(tried.action), tried.answer, tried.after
    assert tried.status == 200, what
    assert answer["data"]["idempotent"] is False, what
    assert answer["data"][tried.machine.kind]["state"] == after["state"] == move.after, what
    assert after["version"] > tried.before["version"], what
    events = [(event["kind"], event["actor"]) for event in tried.told]
    assert events == [(f"{tried.machine.kind}.{move.event}", tried.actor)], what
    data = tried.told[0]["data"]
    assert data["version"] == after["version"], what
    assert (data["before"], data["after"]) == (tried.state, move.after), what
