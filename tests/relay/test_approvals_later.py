"""What time does to approvals: silence means no, who comes later is told, and who asked may wait for the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest

from agentchat import Client
from agentchat._operation import Waits
from agentchat.contract import OPERATIONS
from agentchat.errors import CallerError, InvalidArguments
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.push.push import Push
from agentchat_relay.service import administration, retirement

from . import reviewing
from .conftest import UNLIMITED, Clock, fresh, until
from .reviewing import House, actions, asked, contents, dies, items, late, pending
from .sharing import Shared
from .test_events import waiting as how_many_wait

asleep, house = reviewing.asleep, reviewing.house  # fixtures

DAY = 86_400.0


# Silence


def test_silence_means_no_though_nobody_has_looked(asleep: None, house: House, clock: Clock) -> None:
    ann, rob = house.agent(), house.reviewer()
    id = asked(ann, expires_in=60)["id"]
    clock.ahead += 59
    assert ann.get_approval(id)["approval"]["verdict"] is None
    clock.ahead += 2
    current = ann.get_approval(id)
    approval = current["approval"]
    assert (approval["state"], approval["verdict"], approval["decided_by"]) == ("expired", "deny", None)
    assert (approval["allowed_hash"], current["allowed_arguments"]) == (None, None)
    assert items(rob) == [] == pending(rob)
    for verdict in ("allow", "deny"):
        assert late(rob.decide_approval, id, verdict)["state"] == "expired"
    assert late(rob.dismiss_approval, id)["state"] == "expired"
    assert late(ann.withdraw_approval, id)["state"] == "expired"
    assert [one["id"] for one in ann.list_approvals(mine=True, state="expired")["approvals"]] == [id]
    assert [one["id"] for one in rob.list_approvals(state="expired")["approvals"]] == [id]
    assert ann.list_approvals(mine=True, state="pending")["approvals"] == []


def test_silence_is_told(asleep: None, house: House, clock: Clock) -> None:
    ann, rob, rae = house.agent(), house.reviewer(), house.reviewer()
    id = asked(ann, expires_in=60)["id"]
    rae.dismiss_approval(id)
    clock.ahead += 61
    position = ann.list_events()["position"]
    house.settle()
    (item,) = items(ann)
    assert item["content"] == "Nobody decided on your call of bash, so it is denied."
    assert (item["kind"], item["expires_at"]) == ("approval", None)
    assert item["work"] == {"id": id, "kind": "approval", "state": "expired"}
    assert items(rob) == items(rae) == []
    assert actions(ann, id) == ["create", "dismiss", "expire"]
    (event,) = ann.list_events(since=position, kind="approval")["events"]
    assert (event["kind"], event["actor"], event["subject"]) == ("approval.expired", None, id)
    house.settle()
    assert len(items(ann)) == 1
    assert late(rob.decide_approval, id, "allow")["verdict"] == "deny"


def test_silence_ends_what_had_no_deadline_any_more(asleep: None, house: House, clock: Clock) -> None:
    """As a dead letter that was brought back."""
    ann, rob = house.agent(), house.reviewer()
    asked(ann, expires_in=60)
    (item,) = items(rob)
    dies(rob)
    clock.ahead += 61
    rob.requeue_items([item["item_id"]])
    assert [item["expires_at"] for item in items(rob)] == [None]
    house.settle()
    assert items(rob) == []


def test_the_relay_looks_by_itself(house: House, clock: Clock) -> None:
    ann = house.agent()
    id = asked(ann, expires_in=3600)["id"]
    clock.ahead += 3601
    ann.send_message("elsewhere", "something stirs")
    until(lambda: actions(ann, id)[-1] == "expire")


@pytest.mark.parametrize("seconds", [0, 604_801])
def test_how_long_it_can_wait_is_bounded(house: House, seconds: int) -> None:
    with pytest.raises(InvalidArguments, match="expires_in"):
        asked(house.agent(), expires_in=seconds)


# Who comes later


def test_a_new_reviewer_finds_what_waits(house: House, asleep: None, clock: Clock) -> None:
    ann, rob, new = house.agent(), house.reviewer(), house.agent()
    asked(ann, {"n": 0}, expires_in=10)
    first, second, decided = (asked(ann, {"n": number}, urgent=number == 2, expires_in=600) for number in (1, 2, 3))
    own = asked(new)
    rob.decide_approval(decided["id"], "allow")
    clock.ahead += 11
    house.grant(new)
    found = items(new)
    assert [item["work"]["id"] for item in found] == [second["id"], first["id"]], "what is urgent comes first"
    assert [item["content"] for item in found] == [
        'Approval wanted: bash\n\n{"n":2}', 'Approval wanted: bash\n\n{"n":1}',
    ]  # fmt: skip
    assert [item["expires_at"] for item in found] == [second["deadline_at"], first["deadline_at"]]
    assert [item["from"] for item in found] == [ann.agent] * 2
    house.grant(new)
    assert items(new) == found, "nobody is told twice"
    assert pending(new) == [second["id"], first["id"]]
    assert own["id"] in pending(rob)
    assert new.decide_approval(first["id"], "deny")["yours"] is True
    rob.decide_approval(second["id"], "deny")
    assert items(new) == []


def test_a_role_that_was_there_tells_nothing_again(house: House) -> None:
    ann, rob = house.agent(), house.reviewer()
    asked(ann)
    rob.acknowledge_items(rob.claim_items()["claim_id"] or "")
    house.grant(rob)
    house.grant(rob, "admin")
    assert items(rob) == []
    assert len(pending(rob)) == 1


def test_who_loses_the_role_need_not_look(house: House) -> None:
    ann, rob, rae = house.agent(), house.reviewer(), house.reviewer()
    bob = house.agent()
    id = asked(ann)["id"]
    bob.send_direct_message(rob.agent or "", "how are you?")
    own = asked(rob)["id"]
    rae.decide_approval(own, "allow")
    house.revoke(rob)
    assert contents(rob) == [f"@{rob.agent} how are you?", "Your call of bash is allowed."], (
        "only what waits for its verdict"
    )
    assert len(items(rae)) == 1
    house.grant(rob)
    assert [item["work"]["id"] for item in items(rob) if "work" in item] == [own, id]


def test_who_was_out_of_use_finds_what_waits(house: House) -> None:
    ann, rob = house.agent(), house.reviewer()
    before = asked(ann)["id"]

    def update(active: bool) -> None:
        live, name = house.live, rob.agent or ""
        live.ask(lambda tx: administration.agent_update(tx, name=name, active=active, space=house.space))

    update(False)
    made = ann.request_approval("bash", "{}")
    assert made["reviewers"] == 0
    update(True)
    update(True)
    assert [item["work"]["id"] for item in items(rob)] == [before, made["approval"]["id"]]


# Retirement


@pytest.fixture
def days(clock: Clock) -> Iterator[Callable[..., int]]:
    """Who was not seen for a month is retired, and what waits for them given back: when a test says so."""

    def retire(house: House, *, give_back: bool = True) -> int:
        retired = int(house.live.ask(lambda tx: retirement.retire(tx, tx.now, days=30)))
        while give_back and house.live.ask(lambda tx: retirement.give_back(tx, tx.now)):
            pass
        return retired

    yield retire


@pytest.mark.parametrize("give_back", [False, True])
def test_who_comes_back_finds_what_waits(asleep: None, clock: Clock, days: Callable[..., int], give_back: bool) -> None:
    with running(settings=UNLIMITED) as relay:
        relay.space("house")
        house = House(relay, "house")
        names = [fresh(), fresh()]
        ann, rob = (house.agent(name).with_options() for name in names)
        for client in (ann, rob):
            client.check_board()
        relay.ask(lambda tx: administration.agent_grant(tx, name=names[1], role="reviewer", space=house.space))
        clock.ahead += 29 * DAY
        first = asked(ann, expires_in=604_800)["id"]
        clock.ahead += 2 * DAY
        assert days(house, give_back=give_back) == 1
        made = ann.request_approval("bash", "{}", expires_in=604_800)
        assert made["reviewers"] == 0, "who is retired is not asked"
        before = len(items(ann))
        for _ in range(2):
            assert [item["work"]["id"] for item in items(rob)] == [first, made["approval"]["id"]]
        assert len(items(ann)) == before
        assert rob.decide_approval(first, "allow")["yours"] is True
        ann.close()
        rob.close()


# Waiting for a verdict


@contextmanager
def under_way(live: Embedded, *calls: Callable[[], Any]) -> Iterator[list[Future[Any]]]:
    """Calls that wait already."""
    assert how_many_wait(live) == 0
    with ThreadPoolExecutor(len(calls)) as threads:
        results = [threads.submit(call) for call in calls]
        until(lambda: how_many_wait(live) == len(calls) or any(result.done() for result in results))
        assert not [result.result() for result in results if result.done()]
        yield results
        for result in results:
            result.result(60)


@pytest.mark.parametrize("verdict", ["allow", "deny", "edit", "respond", "withdraw"])
def test_a_verdict_ends_a_wait_at_once(house: House, verdict: str) -> None:
    ann, rob, rae = house.agent(), house.reviewer(), house.reviewer()
    id, other = asked(ann)["id"], asked(ann)["id"]
    with under_way(
        house.live, lambda: ann.get_approval(id, wait=120), lambda: rae.get_approval(id, wait=120)
    ) as results:  # fmt: skip
        rob.dismiss_approval(id)
        rob.decide_approval(other, "allow")
        began = time.monotonic()
        assert not any(result.done() for result in results)
        if verdict == "withdraw":
            decided = ann.withdraw_approval(id)["approval"]
        else:
            more = {"edit": {"arguments": "{}"}, "respond": {"message": "x"}}.get(verdict, {})
            decided = rob.decide_approval(id, verdict, **more)["approval"]  # type: ignore[arg-type]
        assert [result.result(60)["approval"] for result in results] == [decided, decided]
        assert time.monotonic() - began < 20
    assert ann.get_approval(id, wait=120)["approval"] == decided, "what is over needs no waiting"


def test_a_wait_that_is_over(house: House) -> None:
    ann, rob = house.agent(), house.reviewer()
    id = asked(ann)["id"]
    began = time.monotonic()
    details = rob.get_approval(id, wait=1)
    assert 0.5 <= time.monotonic() - began < 15
    assert details == ann.get_approval(id)
    assert (details["approval"]["state"], details["allowed_arguments"]) == ("pending", None)


def test_a_wait_ends_when_the_deadline_is_over(house: House) -> None:
    ann, rob = house.agent(), house.reviewer()
    id = asked(ann, expires_in=1)["id"]
    began = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        results = [threads.submit(client.get_approval, id, wait=45) for client in (ann, rob)]
        assert [result.result(60)["approval"]["verdict"] for result in results] == ["deny", "deny"]
    assert time.monotonic() - began < 20


def test_a_wait_needs_no_chore_to_see_the_deadline(asleep: None, house: House) -> None:
    ann = house.agent()
    id = asked(ann, expires_in=1)["id"]
    began = time.monotonic()
    assert ann.get_approval(id, wait=45)["approval"]["state"] == "expired"
    assert time.monotonic() - began < 20
    assert actions(ann, id) == ["create"]


def test_a_wait_goes_on_in_pieces(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[float] = []
    wait = Push.wait

    async def counted(self: Push, *about: Any) -> bool:
        pieces.append(time.monotonic())
        return await wait(self, *about)

    monkeypatch.setattr(Push, "wait", counted)
    monkeypatch.setattr(OPERATIONS["get_approval"].parameters["wait"], "waits", Waits(1))
    ann, rob = house.agent(), house.reviewer()
    id = asked(ann)["id"]
    with under_way(house.live, lambda: ann.get_approval(id, wait=60)) as (result,):
        until(lambda: len(pieces) == 2)
        assert not result.done()
        rob.decide_approval(id, "allow")
        assert result.result(20)["approval"]["state"] == "allowed"


# Who is deleted


def delete(house: House, client: Client) -> None:
    house.live.ask(lambda tx: administration.agent_delete(tx, name=client.agent or "", space=house.space))


def test_a_reviewer_that_is_deleted_leaves_its_verdict(house: House) -> None:
    ann, rob, rae = house.agent(), house.reviewer(), house.reviewer()
    first, second = asked(ann)["id"], asked(ann)["id"]
    rob.decide_approval(first, "allow")
    rob.dismiss_approval(second)
    delete(house, rob)
    approval = ann.get_approval(first)["approval"]
    assert (approval["state"], (approval["decided_by"] or "")[:7]) == ("allowed", "deleted")
    assert rae.decide_approval(second, "allow")["reviewers"] == 1
    if not isinstance(house.live, Shared):  # without a relay whoever says its name is a new one
        with pytest.raises(CallerError):
            rob.list_approvals()


def test_what_a_deleted_agent_asked_for_disturbs_nobody(house: House, asleep: None, clock: Clock) -> None:
    ann, rob, new = house.agent(), house.reviewer(), house.agent()
    first, second, third = (asked(ann, expires_in=60)["id"] for _ in range(3))
    delete(house, ann)
    assert rob.decide_approval(first, "allow")["approval"]["state"] == "allowed"
    rob.dismiss_approval(second)
    house.grant(new)
    clock.ahead += 61
    house.settle()
    for id in (second, third):
        assert rob.get_approval(id)["approval"]["state"] == "expired"
    assert items(rob) == items(new) == []


# Without a relay


@pytest.mark.sqlite
def test_agents_of_a_directory_ask_each_other() -> None:
    with closing(Shared()) as shared:
        keys = [shared.token(name) for name in ("ann", "rob", "rae")]
        ann, rob, rae = (Client(shared.url, key, agent=key) for key in keys)
        for name in ("rob", "rae"):
            shared.ask(lambda tx, name=name: administration.agent_grant(tx, name=name, role="reviewer"))
        id = asked(ann)["id"]
        with ThreadPoolExecutor(2) as threads:
            results = [threads.submit(client.get_approval, id, wait=60) for client in (ann, rae)]
            assert rob.decide_approval(id, "allow")["yours"] is True
            assert [result.result(60)["approval"]["state"] for result in results] == ["allowed"] * 2
        assert (len(items(ann)), items(rob), items(rae)) == (1, [], [])
        silent = asked(ann, expires_in=1)["id"]
        assert ann.get_approval(silent, wait=45)["approval"]["verdict"] == "deny"
        for client in (ann, rob, rae):
            client.close()
