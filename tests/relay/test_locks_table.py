"""The table of a lock's moves, walked: every state, every action, the holder and somebody else."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from agentchat import Client
from agentchat.errors import CallerError
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration
from agentchat_relay.service.call import Call
from agentchat_relay.service.work import kinds, locks

from .conftest import UNLIMITED, Clock, fresh
from .test_locks import agent_called, lock


class Actors(NamedTuple):
    holder: Client
    other: Client
    blocker: Client  # has what the holder wants, where it is to wait


STATES = ("waiting", "held", "released", "lapsed", "broken", "expired", "withdrawn")


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Embedded, Actors, Clock]]:
    """A relay of these tests' own: its clock is moved, and it makes nothing explicit by itself."""
    with pytest.MonkeyPatch.context() as patch, running(settings=UNLIMITED) as relay:
        patch.setattr(kinds, "due", lambda tx: kinds.Due(0, None))
        clock = Clock(patch)
        actors = Actors(*(Client(relay.url, relay.token(name), agent=name, retries=0) for name in Actors._fields))
        yield relay, actors, clock
        for client in actors:
            client.close()


def _brought_to(stage: tuple[Embedded, Actors, Clock], state: str) -> tuple[str, int | None]:
    """A lock in a state, and its fence."""
    relay, (holder, _, blocker), clock = stage
    name = fresh("staged")
    if state in ("waiting", "expired", "withdrawn"):
        lock(blocker, name, lease=86_400)
        caller = Call(relay.ask(lambda tx: agent_called(tx, "holder")), session=holder._session.label())
        made = relay.ask(lambda tx: locks.acquire_lock(tx, caller, names=[name], wait=60))["lock"]
        if state == "expired":
            clock.ahead += 61
        elif state == "withdrawn":
            holder.release_lock(made["id"])
        return made["id"], None
    made = lock(holder, name, lease=60)
    if state == "released":
        holder.release_lock(made["id"])
    elif state == "broken":
        relay.ask(lambda tx: administration.lock_break(tx, id=made["id"]))
    elif state == "lapsed":
        clock.ahead += 61
    return made["id"], made["fence"]


def _expected(action: str, state: str, is_holder: bool, fence: str) -> int | str:
    """What the one rule says: a status, `idempotent` or `stale`."""
    if action == "break":
        return {"held": 200, "broken": "idempotent"}.get(state, 409)
    if not is_holder:
        return 403
    had = state in ("held", "released", "lapsed", "broken")
    if state in ("lapsed", "broken") or (had and fence == "wrong"):
        return "stale"
    if action == "renew":
        return 200 if state == "held" else 409
    if state in ("waiting", "withdrawn") and fence == "none":
        return 200 if state == "waiting" else "idempotent"
    return {"held": 200, "released": "idempotent"}.get(state, 409)


@pytest.mark.parametrize("state", STATES)
def test_every_action_of_everybody(stage: tuple[Embedded, Actors, Clock], state: str) -> None:
    relay, actors, _ = stage
    cases = [
        *itertools.product(("release", "renew"), (True, False), ("none", "right", "wrong")),
        ("break", False, "none"),
    ]
    for action, is_holder, which in cases:
        id, fence = _brought_to(stage, state)
        before = relay.ask(lambda tx, at=id: locks.look(tx, Call(agent_called(tx, "other")), at).lock)
        position = actors.other.list_events()["position"]
        given = {"none": None, "right": fence or 1, "wrong": (fence or 1) + 1}[which]
        client = actors.holder if is_holder else actors.other
        try:
            if action == "break":
                got = "ok" if relay.ask(lambda tx, at=id: administration.lock_break(tx, id=at)) else ""
            else:
                answer = (client.release_lock if action == "release" else client.renew_lock)(id, fence=given)
                got = "idempotent" if answer["idempotent"] else "ok"
        except CallerError as error:
            got = "stale" if error.code == "stale_fence" else str(error.status or 409)
        told = [e for e in actors.other.list_events(since=position, kind="lock")["events"] if e["subject"] == id]
        what = f"{action} by {'the holder' if is_holder else 'another'} with fence {which} in {state}"
        wanted = _expected(action, state, is_holder, which)
        if wanted == "idempotent" and action == "break":
            wanted = 200  # an operator is told how it is
            assert told == [], what
        elif wanted == 200:
            assert len(told) == (action != "renew"), f"{what}: {told}"
        else:
            assert told == [], f"{what}: {told}"
        assert got == ("ok" if wanted == 200 else str(wanted)), what
        after = relay.ask(lambda tx, at=id: locks.look(tx, Call(agent_called(tx, "other")), at).lock)
        assert after["version"] - before["version"] == len(told), what
