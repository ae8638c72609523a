"""The tables of an interrupt's moves and of a pause's, walked: every state, every action, everybody who could try it.
What comes back, and what is told of it, must be what the table says by the one rule of all state machines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from agentchat import Client
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration
from agentchat_relay.service.work import kinds
from agentchat_relay.service.work.interrupt import INTERRUPT
from agentchat_relay.service.work.machine import Machine, Who, found
from agentchat_relay.service.work.pause import PAUSE

from .conftest import UNLIMITED, Clock, raw, settle_all
from .walking import IDEMPOTENT, Tried, check

OVERDUE = "overdue"  # expired by the clock, and the relay has not made it so
MACHINES = {machine.kind: machine for machine in (INTERRUPT, PAUSE)}
STATES = {
    kind: [machine.begins, *dict.fromkeys(move.after for move in machine.moves), OVERDUE]
    for kind, machine in MACHINES.items()
}
MAY = {Who.CREATOR: {"creator"}, Who.TARGET: {"target"}, Who.LEADER: {"creator", "leader"}, Who.RELAY: set[str]()}
SEE = {INTERRUPT.kind: {"creator", "target"}, PAUSE.kind: {"creator", "target", "leader", "other"}}
NOBODYS = "01a22a7e-0000-7000-8000-000000000000"


class People(NamedTuple):
    creator: Client  # a person
    target: Client
    leader: Client  # an agent with the role admin
    other: Client
    stranger: Client  # of another space, a person there


class Place(NamedTuple):
    relay: Embedded
    people: People
    clock: Clock

    def shown(self, machine: Machine, id: str) -> Any:
        """A thing, as it travels by now."""
        return self.relay.ask(lambda tx: machine.shown(found(tx, 1, machine.kind, id), tx.now))

    def log(self, id: str) -> list[Any]:
        rows: list[Any] = self.relay.ask(lambda tx: administration.audit(tx, id=id))["transitions"]
        return rows


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """A relay of these tests' own: its clock is moved, and it makes nothing explicit by itself."""
    with pytest.MonkeyPatch.context() as patch, running(settings=UNLIMITED) as relay:
        patch.setattr(kinds, "due", lambda tx: kinds.Due(0, None))
        relay.space("else")
        persons, spaces = dict.fromkeys(("creator", "stranger"), "person"), {"stranger": "else"}
        keys = [relay.token(name, space=spaces.get(name, "main"), kind=persons.get(name)) for name in People._fields]
        relay.ask(lambda tx: administration.agent_grant(tx, name="leader", role="admin"))
        people = People(
            *(Client(relay.url, key, agent=name, retries=0) for name, key in zip(People._fields, keys, strict=True))
        )
        people.target.join_group("builders")
        yield Place(relay, people, Clock(patch))
        for client in people:
            client.close()


def made(place: Place, machine: Machine, state: str) -> str:
    """The id of one in a state."""
    creator, target, *_ = place.people
    if machine is INTERRUPT:
        id = creator.send_interrupt("target", "stop", expires_in=60)["interrupt"]["id"]
    else:
        id = creator.pause_agents("stop", group="builders", expires_in=60)["pause"]["id"]
    match state:
        case "acknowledged":
            target.acknowledge_interrupt(id)
        case "withdrawn":
            creator.withdraw_interrupt(id)
        case "resumed":
            creator.resume_agents(id)
        case "expired" | "overdue":
            place.clock.ahead += 61
    if state == "expired":
        settle_all(place.relay)
    return id


def expected(machine: Machine, action: str, who: str, state: str) -> int | str:
    move = machine.move(action)
    if who not in SEE[machine.kind]:
        return 404
    if who not in MAY[move.by]:
        return 403
    if state == move.after:
        return IDEMPOTENT
    return 200 if state in move.before else 409


def path_of(machine: Machine, id: str, action: str) -> str:
    return f"/api/v2/{machine.kind}s/{id}/{action}"


@pytest.mark.parametrize(("kind", "state"), [(kind, state) for kind in MACHINES for state in STATES[kind]])
def test_every_action_of_everybody(place: Place, kind: str, state: str) -> None:
    machine, people, id = MACHINES[kind], place.people, ""
    actions = [move.action for move in machine.moves if move.by is not Who.RELAY]
    now_in = "expired" if state == OVERDUE else state
    for action, (who, client) in itertools.product(actions, people._asdict().items()):
        id = id or made(place, machine, state)  # what was refused has changed nothing
        before, lines = place.shown(machine, id), place.log(id)
        assert before["state"] == now_in
        position = people.creator.list_events()["position"]
        status, answer = raw(client, "POST", path_of(machine, id, action), {"note": f"by {who}"})
        after = place.shown(machine, id)
        told = {
            name: [event for event in one.list_events(since=position, kind=kind)["events"] if event["subject"] == id]
            for name, one in people._asdict().items()
            if name != "stranger"
        }
        wanted = expected(machine, action, who, now_in)
        check(
            Tried(machine, action, client.agent, now_in, before, after, status, answer, told["creator"]),
            wanted,
            unchanged=before.keys() - ({"ended_at"} if state == OVERDUE else set()),  # which is whenever one looks
        )
        seen_by = {name for name, events in told.items() if events}
        assert seen_by == (SEE[kind] if wanted == 200 else set()), str(told)
        assert place.log(id)[: len(lines)] == lines
        if wanted == 200:
            assert (after["version"], after["note"]) == (before["version"] + 1, f"by {who}")
            assert after["ended_at"] is not None
            (line,) = place.log(id)[len(lines) :]
            assert (line["action"], line["actor"], line["version"]) == (action, client.agent, after["version"])
            id = ""
        else:
            assert len(place.log(id)) == len(lines)


@pytest.mark.parametrize("kind", MACHINES)
def test_what_the_relay_does_nobody_else_can(place: Place, kind: str) -> None:
    machine = MACHINES[kind]
    id = made(place, machine, machine.begins)
    for move in machine.moves:
        if move.by is Who.RELAY:
            for client in place.people:
                assert raw(client, "POST", path_of(machine, id, move.action), {})[0] == 404
    assert place.shown(machine, id)["version"] == 1


@pytest.mark.parametrize("kind", MACHINES)
def test_what_is_not_there(place: Place, kind: str) -> None:
    """Nor is an interrupt a pause."""
    machine, (other,) = MACHINES[kind], [one for one in MACHINES.values() if one.kind != kind]
    elses = made(place, other, other.begins)
    for move in machine.moves:
        if move.by is not Who.RELAY:
            for client, id in itertools.product(place.people, (NOBODYS, elses)):
                status, answer = raw(client, "POST", path_of(machine, id, move.action), {})
                assert (status, answer["error"]) == (404, f"There is no {kind} {id}.")
            assert raw(place.people.creator, "POST", path_of(machine, "junk", move.action), {})[0] == 400
    assert place.shown(other, elses)["version"] == 1
