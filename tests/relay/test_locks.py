"""Locks over the wire: who gets what, who is refused and told what, who waits for whom, and what ends by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client, _exchange, cli, types
from agentchat._operation import Waits
from agentchat.contract import OPERATIONS
from agentchat.errors import (
    BadRequest,
    CallerError,
    Conflict,
    Forbidden,
    InvalidArguments,
    LimitReached,
    NotFound,
)
from agentchat.text import NOTICE, explain
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration
from agentchat_relay.service.call import Agent, Call
from agentchat_relay.service.work import kinds, locks

from .conftest import UNLIMITED, Clock, MakeAgent, fresh, raw, settle_all, until


def lock(client: Client, *names: str, **more: Any) -> types.Lock:
    return client.acquire_lock([*names], **more)["lock"]


def refused(client: Client, *names: str, **more: Any) -> Conflict:
    with pytest.raises(Conflict) as caught:
        client.acquire_lock([*names], **more)
    assert caught.value.code == "conflict"
    return caught.value


def state(client: Client, id: str) -> list[str]:
    """Of one that is live, as it is listed."""
    return [one["state"] for one in client.list_locks(limit=200)["locks"] if one["id"] == id]


def agent_called(tx: Any, name: str) -> Agent:
    row = tx.the("agent_by_name", space_id=1, name=name)
    return Agent(row["id"], row["public_id"], name, 1)


@pytest.fixture
def root() -> str:
    return fresh("repo")


class Waiting:
    """Calls on threads of their own."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(20)

    def __call__(self, client: Client, *names: str, wait: int = 30, **more: Any) -> Future[types.Lock]:
        """Once its request is there."""
        before = {one["id"] for one in client.list_locks(mine=True, limit=200)["locks"]}
        found = self._pool.submit(lock, client, *names, wait=wait, **more)
        until(lambda: {one["id"] for one in client.list_locks(mine=True, limit=200)["locks"]} != before)
        return found

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture
def waiting() -> Any:
    pool = Waiting()
    yield pool
    pool.close()


# Having it


def test_who_comes_second_is_told_whose_it_is(agent: MakeAgent, root: str) -> None:
    ann, bob = agent(), agent()
    mine = lock(ann, f"{root}/src/**", reason='moving "files"\nabout')
    assert (mine["state"], mine["holder"], mine["shared"]) == ("held", ann.agent, False)
    error = refused(bob, f"{root}/src/a.py", f"{root}/else")
    assert error.current == mine
    assert error.details["holders"] == [mine]
    told = explain(error)
    assert f"@{ann.agent} holds {root}/src/** until {(mine['lease_until'] or '')[:19]}Z (300 s from now)" in told
    assert "wait=60" in told
    assert told.split("\n")[1:] == [f"The holder's reason. {NOTICE}", '| moving "files"', "| about"]
    assert "moving" not in error.message
    assert lock(bob, f"{root}/else")["state"] == "held", "nothing of what was refused was locked"


@pytest.mark.parametrize(
    ("held", "wanted", "is_refused"),
    [
        ("src/a", "src/a", True),
        ("src/a", "src/ab", False),
        ("src/a", "src", False),
        ("src/a", "src/a/b", False),
        ("src/**", "src", True),
        ("src/**", "src/a/b", True),
        ("src/**", "srcs", False),
        ("src/**", "src0", False),
        ("src/**", "src-/x", False),
        ("src/a", "src/**", True),
        ("src", "src/**", True),
        ("src/a/**", "src/**", True),
        ("src/a/**", "src/ab/**", False),
        ("src/**", "src/a/**", True),
        ("src/été", "src/e\u0301te\u0301", True),
        ("src/[id]", "src/x", False),
        ("src/\U0001f600", "src/**", True),
    ],
)
def test_names_are_compared_in_whole_steps(
    agent: MakeAgent, root: str, held: str, wanted: str, is_refused: bool
) -> None:
    ann, bob = agent(), agent()
    lock(ann, f"{root}/{held}")
    if is_refused:
        refused(bob, f"{root}/{wanted}")
    else:
        lock(bob, f"{root}/{wanted}")


def test_two_stars_are_everything(live: Embedded, agent: MakeAgent) -> None:
    live.space("lone")
    name = fresh("alone")
    ann, bob = agent(space="lone"), agent(space="lone")
    whole = lock(ann, "**")
    for other in (name, f"/{name}", "/**", f"{name}/**"):
        refused(bob, other)
    ann.release_lock(whole["id"])
    lock(bob, f"/{name}")
    refused(ann, "**")
    refused(ann, "/**")
    lock(ann, f"{name}/**")


@pytest.mark.parametrize(
    "name", ["", "a b", "a//b", "a/", "*", "a/*", "a/**/b", "**/a", "a**", "a/**/", "//", "a\tb"]
)  # fmt: skip
def test_what_is_no_name_is_refused(agent: MakeAgent, name: str) -> None:
    ann = agent()
    with pytest.raises(InvalidArguments, match="names item 1"):
        ann.acquire_lock([name])
    assert raw(ann, "POST", "/api/v2/locks", {"names": [name]})[0] == 400


@pytest.mark.parametrize(
    "name", ["./a", "a/../b", "a/.", "..", "x" * 201, "a\u200bb", "a\u202eb", "a\u2028b", "a\xa0b"]
)
def test_nor_what_would_be_another_name_for_it(agent: MakeAgent, name: str) -> None:
    with pytest.raises(BadRequest, match="names"):
        agent().acquire_lock([name])


def test_those_who_share_do_so_together(agent: MakeAgent, root: str) -> None:
    ann, bob, cy = agent(), agent(), agent()
    first = lock(ann, f"{root}/**", shared=True)
    second = lock(bob, f"{root}/x", shared=True)
    assert (second["fence"] or 0) > (first["fence"] or 0)
    error = refused(cy, f"{root}/x")
    assert [holder["holder"] for holder in error.details["holders"]] == [ann.agent, bob.agent]
    assert "shared, until" in error.message and "; 1 more is in the way" in error.message


def test_the_same_key_locks_once(agent: MakeAgent, root: str) -> None:
    ann = agent()
    keyed = ann.with_options(idempotency_key="k1")
    first = lock(keyed, root)
    assert lock(keyed, root) == first
    with pytest.raises(Conflict) as caught:
        keyed.acquire_lock([root], shared=True)
    assert caught.value.code == "idempotency_mismatch"
    ann.release_lock(first["id"])
    assert lock(keyed, root)["state"] == "released", "it does not come back by it"
    assert lock(ann, root, root)["names"] == [root]


def test_nobody_waits_for_itself(live: Embedded, agent: MakeAgent, root: str, waiting: Waiting) -> None:
    ann = agent()
    mine = lock(ann, root)
    error = refused(ann, f"{root}/**", wait=60)
    assert error.message.startswith(f"You hold {root} until ")
    assert f"lock {mine['id']} with fence {mine['fence']}" in error.message
    other = Client(live.url, ann.credential.held, agent=ann.agent, retries=0)
    found = waiting(other, root)
    assert refused(ann.with_options(), root).current == mine
    assert ann.release_lock(mine["id"])["lock"]["state"] == "released"
    assert found.result(20)["state"] == "held"
    other.close()


def test_nobody_waits_behind_who_waits_for_it(agent: MakeAgent, root: str, waiting: Waiting) -> None:
    ann, bob, cy = agent(), agent(), agent()
    mine = lock(ann, f"{root}/a", shared=True)
    again = lock(ann, f"{root}/a", shared=True)
    writer = waiting(bob, f"{root}/**")
    error = refused(ann, f"{root}/a", shared=True, wait=60)
    assert error.message.startswith(f"You hold {root}/a, shared, until ")
    assert [one["id"] for one in error.details["holders"]] == [mine["id"], again["id"]]
    late = waiting(ann, f"{root}/b", shared=True)
    for one in (mine, again):
        ann.release_lock(one["id"])
    bob.release_lock(writer.result(20)["id"])
    assert late.result(20)["state"] == "held", "it had nothing of that"
    lock(cy, f"{root}/c")
    assert refused(ann, f"{root}/**", shared=True).current == cy.list_locks(name=f"{root}/c")["locks"][0]


def test_it_is_the_holders_alone(live: Embedded, agent: MakeAgent, root: str) -> None:
    live.space("else")
    ann, bob, eve = agent(), agent(), agent(space="else")
    mine = lock(ann, root)
    for act in (bob.release_lock, bob.renew_lock):
        with pytest.raises(Forbidden):
            act(mine["id"])
    for act in (eve.release_lock, eve.renew_lock):
        with pytest.raises(NotFound, match="There is no lock"):
            act(mine["id"])
    assert eve.list_locks()["locks"] == []
    lock(eve, root)
    assert [one["id"] for one in bob.list_locks(name=root)["locks"]] == [mine["id"]]
    released = ann.release_lock(mine["id"], fence=mine["fence"])
    assert (released["lock"]["state"], released["idempotent"]) == ("released", False)
    assert ann.release_lock(mine["id"])["idempotent"] is True
    with pytest.raises(Conflict, match="This lock is released; to renew it, it must be held"):
        ann.renew_lock(mine["id"])


def test_a_fence_is_of_one_lock(agent: MakeAgent, root: str) -> None:
    ann = agent()
    first, second = lock(ann, root), lock(ann, f"{root}x")
    with pytest.raises(Conflict) as caught:
        ann.release_lock(second["id"], fence=first["fence"])
    assert caught.value.code == "stale_fence"
    assert caught.value.current == second
    assert ann.renew_lock(second["id"], fence=second["fence"], lease=3600)["idempotent"] is False


# Waiting for it


def test_who_waits_gets_it_at_once(agent: MakeAgent, root: str, waiting: Waiting) -> None:
    ann, bob = agent(), agent()
    mine = lock(ann, f"{root}/**")
    found = waiting(bob, f"{root}/a", lease=77)
    (own,) = bob.list_locks(mine=True)["locks"]
    assert (own["state"], own["fence"], own["lease_until"]) == ("waiting", None, None)
    began = time.monotonic()
    ann.release_lock(mine["id"])
    got = found.result(20)
    assert time.monotonic() - began < 5
    assert (got["id"], got["state"], got["waits_until"]) == (own["id"], "held", None)
    assert (got["fence"] or 0) > (mine["fence"] or 0)


def test_nobody_overtakes(agent: MakeAgent, root: str, waiting: Waiting) -> None:
    ann, bob, cy, dan = agent(), agent(), agent(), agent()
    reading = lock(ann, f"{root}/a", shared=True)
    writer = waiting(bob, f"{root}/**")
    error = refused(cy, f"{root}/a", shared=True)
    assert [holder["holder"] for holder in error.details["holders"]] == [bob.agent]
    assert f"@{bob.agent} waits for {root}/** until" in error.message
    late = waiting(cy, f"{root}/b", shared=True)
    later = waiting(dan, f"{root}/b", shared=True)
    ann.release_lock(reading["id"])
    wrote = writer.result(20)
    assert not late.done() and not later.done()
    bob.release_lock(wrote["id"])
    assert (late.result(20)["fence"] or 0) < (later.result(20)["fence"] or 0)


def test_a_wait_that_is_over(agent: MakeAgent, root: str, waiting: Waiting) -> None:
    ann, bob = agent(), agent()
    mine = lock(ann, root)
    began = time.monotonic()
    error = refused(bob, root, wait=1)
    assert 0.9 < time.monotonic() - began < 10
    assert "Nothing was locked; your wait is over." in error.message
    assert (error.current or {})["state"] == "expired"
    assert error.details["holders"] == [mine]
    assert bob.list_locks(mine=True)["locks"] == []


def test_who_gets_it_at_the_last_moment_is_told_so(
    live: Embedded, agent: MakeAgent, root: str, waiting: Waiting
) -> None:
    """What grants it begins in time, and is stored when the wait is over."""
    ann, bob = agent(), agent()
    mine = lock(ann, root)
    found = waiting(bob, root, wait=2)

    def release(tx: Any) -> None:
        locks.release_lock(tx, Call(agent_called(tx, ann.agent or "")), lock_id=mine["id"])
        time.sleep(2.3)

    live.ask(release)
    assert found.result(20)["state"] == "held"
    assert [one["holder"] for one in bob.list_locks(name=root)["locks"]] == [bob.agent]


def test_who_dies_waiting_leaves_nothing(asleep: None, live: Embedded, agent: MakeAgent, root: str) -> None:
    ann, bob, cy = agent(), agent(), agent()
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        mine = lock(ann, root, lease=3600)
        patch.setattr(OPERATIONS["acquire_lock"].parameters["wait"], "waits", Waits(0))
        status, told = raw(bob, "POST", "/api/v2/locks", {"names": [root], "wait": 1}, **{"idempotency-key": "dead"})
        if status == 200:  # the relay waits for a piece, after which its time is over
            assert told["data"]["lock"]["state"] == "waiting"
        clock.ahead += 2
        assert bob.list_locks(mine=True)["locks"] == []
        settle_all(live)
        ann.release_lock(mine["id"])
        assert lock(cy, root)["state"] == "held"


def test_a_wait_goes_on_in_pieces(waiting: Waiting) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OPERATIONS["acquire_lock"].parameters["wait"], "waits", Waits(1))
        with running(settings=UNLIMITED) as relay:
            ann, bob = (Client(relay.url, relay.token(name), agent=name) for name in ("ann", "bob"))
            mine = lock(ann, "a")
            found = waiting(bob, "a", wait=30)
            status, told = raw(bob, "GET", "/api/v2/locks?mine=true")
            assert status == 200 and len(told["data"]["locks"]) == 1
            time.sleep(2.5)
            assert not found.done()
            ann.release_lock(mine["id"])
            assert found.result(20)["state"] == "held"
            assert len(bob.list_locks(mine=True)["locks"]) == 1, "all pieces are one request"
            ann.close()
            bob.close()


def test_who_waits_may_stop(agent: MakeAgent, root: str, waiting: Waiting) -> None:
    ann, bob, cy = agent(), agent(), agent()
    lock(ann, f"{root}/a", shared=True)
    found = waiting(bob, f"{root}/**")
    behind = waiting(cy, f"{root}/a", shared=True)
    (own,) = bob.list_locks(mine=True)["locks"]
    done = bob.release_lock(own["id"])
    assert (done["lock"]["state"], done["idempotent"]) == ("withdrawn", False)
    with pytest.raises(Conflict, match="taken back by release_lock while it waited") as caught:
        found.result(20)
    assert ((caught.value.current or {})["state"], caught.value.details["holders"]) == ("withdrawn", [])
    assert behind.result(20)["state"] == "held", "nobody is before it any more"
    assert bob.release_lock(own["id"])["idempotent"] is True


def test_a_request_that_was_taken_back_is_no_success_for_a_shell(
    live: Embedded, agent: MakeAgent, root: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = agent(), agent()
    lock(ann, root)
    monkeypatch.setenv("AGENTCHAT_URL", live.url)
    monkeypatch.setenv("AGENTCHAT_KEY", bob.credential.held or "")
    monkeypatch.setenv("AGENTCHAT_AGENT", bob.agent or "")
    with ThreadPoolExecutor(1) as pool:
        code = pool.submit(cli.main, ["acquire-lock", root, "--wait", "30"])
        until(lambda: bool(bob.list_locks(mine=True)["locks"]))
        bob.release_lock(bob.list_locks(mine=True)["locks"][0]["id"])
        assert code.result(20) == 5
    told = capsys.readouterr()
    assert (told.out, "Nothing was locked." in told.err) == ("", True)


def test_the_clients_of_either_colour_wait(either: Any, agent: MakeAgent, root: str) -> None:
    ann = agent()
    mine = lock(ann, root)
    timer = threading.Timer(0.5, lambda: ann.release_lock(mine["id"]))
    timer.start()
    assert either("acquire_lock", [root], wait=20)["lock"]["state"] == "held"
    timer.join()


# What ends by itself


def test_who_comes_too_late_is_told(asleep: None, live: Embedded, agent: MakeAgent, clock: Clock, root: str) -> None:
    ann, bob = agent(), agent()
    mine = lock(ann, root, lease=60)
    clock.ahead += 61
    assert ann.list_locks(mine=True)["locks"] == [], "over is over, though nobody has looked"
    for act in (ann.release_lock, ann.renew_lock):
        with pytest.raises(Conflict) as caught:
            act(mine["id"], fence=mine["fence"])
        assert caught.value.code == "stale_fence"
        assert (caught.value.current or {})["state"] == "lapsed"
    theirs = lock(bob, root)
    assert (theirs["fence"] or 0) > (mine["fence"] or 0)
    told = [e["kind"] for e in bob.list_events(since=0, kind="lock", limit=500)["events"] if _is_on(e, root)]
    assert told == ["lock.granted", "lock.lapsed", "lock.granted"], "what was over is told first"


def _is_on(event: Any, root: str) -> bool:
    return bool(event["data"] and event["data"]["lock"]["names"][0].startswith(root))


def test_renewing_keeps_it(asleep: None, agent: MakeAgent, clock: Clock, root: str) -> None:
    ann, bob = agent(), agent()
    mine = lock(ann, root, lease=60)
    clock.ahead += 50
    kept = ann.renew_lock(mine["id"], fence=mine["fence"], lease=60)["lock"]
    assert kept["version"] == mine["version"]
    clock.ahead += 50
    refused(bob, root)


def test_the_relay_looks_by_itself(live: Embedded, agent: MakeAgent, clock: Clock, root: str, waiting: Waiting) -> None:
    ann, bob = agent(), agent()
    lock(ann, root, lease=60)
    found = waiting(bob, root, wait=600)
    clock.ahead += 61
    lock(ann, f"{root}x")  # whatever is committed stirs it
    assert found.result(20)["state"] == "held"


def test_what_ended_is_kept_for_a_while(
    asleep: None, live: Embedded, agent: MakeAgent, clock: Clock, root: str
) -> None:
    ann = agent()
    mine = lock(ann, root)
    ann.release_lock(mine["id"])

    held = lock(ann, root)

    def there(tx: Any, id: str) -> bool:
        return tx.one("work_state", public_id=id) is not None

    live.ask(lambda tx: kinds.purge(tx, tx.now + 29 * 86_400_000_000))
    assert live.ask(lambda tx: there(tx, mine["id"]))
    live.ask(lambda tx: kinds.purge(tx, tx.now + 31 * 86_400_000_000))
    assert not live.ask(lambda tx: there(tx, mine["id"])), "though the space keeps for ever"
    assert live.ask(lambda tx: there(tx, held["id"]))


# Looking, and the operator


def test_lists_of_locks(agent: MakeAgent, root: str, waiting: Waiting) -> None:
    ann, bob = agent(), agent()
    made = [lock(ann, f"{root}/{number}") for number in range(5)]
    found = waiting(bob, f"{root}/0", reason="later")
    assert [one["id"] for one in ann.list_locks(mine=True)["locks"]] == [one["id"] for one in made]
    first = bob.list_locks(name=f"{root}/**", limit=4)
    assert [one["id"] for one in first["locks"]] == [one["id"] for one in made[:4]]
    rest = bob.list_locks(name=f"{root}/**", limit=4, cursor=first["next_cursor"])
    assert [(one["holder"], one["state"]) for one in rest["locks"]] == [(ann.agent, "held"), (bob.agent, "waiting")]
    assert (rest["has_more"], rest["next_cursor"]) == (False, None)
    assert [one["holder"] for one in bob.list_locks(name=f"{root}/0", mine=True)["locks"]] == [bob.agent]
    ids = [one["id"] for one in bob.list_locks(limit=200)["locks"]]
    assert {one["id"] for one in made} <= {*ids}
    ann.release_lock(made[0]["id"])
    found.result(20)


def test_everybody_is_told(agent: MakeAgent, root: str) -> None:
    ann, eve = agent(), agent()
    position = eve.list_events()["position"]
    mine = lock(ann, root)
    ann.release_lock(mine["id"])
    told = eve.list_events(since=position, kind="lock")["events"]
    assert [(event["kind"], event["actor"], event["subject"]) for event in told] == [
        ("lock.granted", ann.agent, mine["id"]),
        ("lock.released", ann.agent, mine["id"]),
    ]
    assert told[0]["data"]["lock"]["id"] == mine["id"]
    assert [event["data"]["after"] for event in told] == ["held", "released"]


def test_an_operator_breaks_it(live: Embedded, agent: MakeAgent, root: str, waiting: Waiting) -> None:
    ann, bob = agent(), agent()
    mine = lock(ann, root, reason="deploying")
    found = waiting(bob, root)
    listed = live.ask(lambda tx: administration.lock_list(tx, name=root))["locks"]
    assert [(row["holder"], row["state"], row["reason"]) for row in listed] == [
        (ann.agent, "held", "deploying"),
        (bob.agent, "waiting", None),
    ]
    broken = live.ask(lambda tx: administration.lock_break(tx, id=mine["id"], reason="it hangs"))
    assert (broken["state"], broken["id"]) == ("broken", mine["id"])
    assert found.result(20)["state"] == "held"
    (item,) = ann.peek_inbox()["items"]
    assert (item["kind"], item["urgent"], item["content"]) == (
        "lock", True, f"The operator broke your lock on {root}\n\nit hangs",
    )  # fmt: skip
    assert item["work"] == {"id": mine["id"], "kind": "lock", "state": "broken"}
    assert ann.get_message(item["message_id"])["message"]["kind"] == "system"
    rows = live.ask(lambda tx: administration.audit(tx, id=mine["id"]))["transitions"]
    assert [(row["action"], row["actor"], row["after"], row["note"]) for row in rows] == [
        ("grant", ann.agent, "held", None),
        ("break", None, "broken", "by the operator: it hangs"),
    ]
    with pytest.raises(Conflict) as caught:
        ann.renew_lock(mine["id"])
    assert caught.value.code == "stale_fence"
    assert (caught.value.current or {})["break_reason"] == "it hangs"
    assert live.ask(lambda tx: administration.lock_break(tx, id=mine["id"]))["state"] == "broken"
    bob.release_lock(found.result()["id"])
    with pytest.raises(Conflict, match="it must be held"):
        live.ask(lambda tx: administration.lock_break(tx, id=found.result()["id"]))
    with pytest.raises(NotFound):
        live.ask(lambda tx: administration.lock_break(tx, id=mine["id"][:-1] + "x"))


def test_what_a_deleted_agent_had_is_for_others(live: Embedded, agent: MakeAgent, root: str, waiting: Waiting) -> None:
    ann, bob, cy = agent(), agent(), agent()
    mine = lock(bob, f"{root}/a", lease=86_400)
    id = ann.create_task("count", channel=fresh("work"))["task"]["id"]
    bob.claim_task(id, lease=86_400)
    asked = waiting(cy, f"{root}/a")
    live.ask(lambda tx: administration.agent_delete(tx, name=bob.agent or ""))
    assert asked.result(30)["state"] == "held"
    assert (asked.result(30)["fence"] or 0) > (mine["fence"] or 0)
    assert cy.claim_task(id)["task"]["fence"] == 2


def _revoke(tx: Any, name: str) -> None:
    administration.machine_add(tx, name=f"of-{name}", public_key="0" * 64)
    machine = tx.the("machine_by_name", name=f"of-{name}")["id"]
    tx.run("set_key", id=agent_called(tx, name).id, key_hash=None, machine_id=machine)
    administration.machine_revoke(tx, name=f"of-{name}")


GONE: dict[str, Callable[[Any, str], Any]] = {
    "deleted": lambda tx, name: administration.agent_delete(tx, name=name),
    "deactivated": lambda tx, name: administration.agent_deactivate(tx, name=name),
    "its machine is revoked": _revoke,
}


@pytest.mark.parametrize("gone", GONE)
def test_who_is_gone_is_granted_nothing(
    live: Embedded, agent: MakeAgent, root: str, waiting: Waiting, gone: str
) -> None:
    ann, bob, cy = agent(), agent(), agent()
    mine = lock(ann, f"{root}/a", shared=True)
    asked = waiting(bob, f"{root}/a", wait=600, lease=86_400)
    behind = waiting(cy, f"{root}/a", shared=True)
    live.ask(lambda tx: GONE[gone](tx, bob.agent or ""))
    assert behind.result(20)["state"] == "held", "nobody is before it any more"
    with pytest.raises(CallerError):
        asked.result(20)
    ann.release_lock(mine["id"])
    assert [one["holder"] for one in cy.list_locks(name=f"{root}/a")["locks"]] == [cy.agent]


def test_what_is_over_with_the_agent_lets_others_in(
    live: Embedded, agent: MakeAgent, root: str, waiting: Waiting
) -> None:
    """It has one name and waits for the other, and somebody wants both."""
    ann, bob, cy = agent(), agent(), agent()
    mine = lock(ann, f"{root}/a")
    lock(bob, f"{root}/b", lease=86_400)
    waiting(bob, f"{root}/a", wait=600, lease=86_400)
    behind = waiting(cy, f"{root}/**")
    live.ask(lambda tx: administration.agent_delete(tx, name=bob.agent or ""))
    ann.release_lock(mine["id"])
    assert behind.result(20)["state"] == "held"


def test_there_is_a_limit(agent: MakeAgent, root: str, monkeypatch: pytest.MonkeyPatch, waiting: Waiting) -> None:
    ann, bob = agent(), agent()
    monkeypatch.setattr(locks, "MOST_LIVE", 2)
    monkeypatch.setattr(locks, "MOST_WAITING", 0)
    lock(bob, f"{root}/x")
    with pytest.raises(LimitReached, match="wait for 0 locks"):
        lock(ann, f"{root}/x", wait=5)
    first = lock(ann, f"{root}/1")
    lock(ann, f"{root}/2")
    with pytest.raises(LimitReached, match="You have 2 locks"):
        lock(ann, f"{root}/3")
    ann.release_lock(first["id"])
    lock(ann, f"{root}/3")


# Many at once


def test_many_at_once(live: Embedded, agent: MakeAgent, root: str) -> None:
    """Whatever they ask for, and however they end it: never do two have what conflicts, and fences grow by name."""
    people = [agent() for _ in range(8)]
    paths = [f"{root}/{path}" for path in ("a", "a/b", "a/**", "b", "**")]
    position = people[0].list_events()["position"]
    failures: list[BaseException] = []

    def work(number: int, client: Client) -> None:
        for turn in range(12):
            name, shared = paths[(number * 7 + turn * 3) % len(paths)], (number + turn) % 3 == 0
            try:
                got = lock(client, name, shared=shared, wait=(0, 30)[turn % 2], lease=60)
                assert got["state"] == "held"
                client.release_lock(got["id"], fence=got["fence"])
            except Conflict as error:
                if turn % 2 or error.code != "conflict":
                    failures.append(error)
            except (CallerError, AssertionError) as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=each) for each in enumerate(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    _check_log(people[0], position, root)
    assert people[0].list_locks(name=f"{root}/**")["locks"] == []


def _check_log(client: Client, position: int, root: str) -> None:
    """The log of events tells who had what when."""
    events: list[Any] = []
    while True:
        page = client.list_events(since=position, kind="lock", limit=500)
        events += [event for event in page["events"] if _is_on(event, root)]
        if page["position"] == position:
            break
        position = page["position"]
    held: dict[str, Any] = {}
    waits: dict[str, Any] = {}
    fence = 0
    for event in events:
        one = event["data"]["lock"]
        if event["kind"] == "lock.created":
            waits[one["id"]] = one
        elif event["kind"] == "lock.granted":
            earlier = list(waits)[: list(waits).index(one["id"])] if one["id"] in waits else list(waits)
            for other in [*held.values(), *(waits[id] for id in earlier)]:
                assert not _conflict(one, other), (event, other)
            waits.pop(one["id"], None)
            held[one["id"]] = one
            assert one["fence"] > fence
            fence = one["fence"]
        elif event["kind"] == "lock.released":
            del held[one["id"]]
    assert fence and not held and not waits


def _conflict(one: Any, other: Any) -> bool:
    if one["shared"] and other["shared"]:
        return False
    return any(_overlap(a.split("/"), b.split("/")) for a in one["names"] for b in other["names"])


def _overlap(a: list[str], b: list[str]) -> bool:
    if a[-1] == "**" and b[: len(a) - 1] == a[:-1]:
        return True
    return a == b or (b[-1] == "**" and a[: len(b) - 1] == b[:-1])


def test_who_waits_outlives_the_relay(tmp_path: Path) -> None:
    path = str(tmp_path / "relay")
    with running(path, settings=UNLIMITED) as relay:
        ann, bob = (Client(relay.url, relay.token(name), agent=name, retries=0) for name in ("ann", "bob"))
        mine = lock(ann, "a")
        keyed = {"idempotency-key": "k", "x-agent-session": "one"}
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(raw, bob, "POST", "/api/v2/locks", {"names": ["a"], "wait": 300}, **keyed)
            until(lambda: len(ann.list_locks()["locks"]) == 2)
            relay.close()
            status, told = asked.result(30)
        assert (status, told["data"]["lock"]["state"]) == (200, "waiting"), "whoever waits is answered before the end"
    with running(path, settings=UNLIMITED) as relay:
        ann, bob = (Client(relay.url, client.credential.held, agent=client.agent) for client in (ann, bob))
        ann.release_lock(mine["id"], fence=mine["fence"])
        status, told = raw(bob, "POST", "/api/v2/locks", {"names": ["a"], "wait": 300}, **keyed)
        assert (status, told["data"]["lock"]["state"]) == (200, "held")
        assert told["data"]["lock"]["fence"] > (mine["fence"] or 0)
        assert len(ann.list_locks()["locks"]) == 1, "the same call is the same request"


def test_nobody_loses_its_place_while_the_relay_is_started_anew(
    tmp_path: Path, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Any] = []
    monkeypatch.setattr(_exchange, "pause_after", lambda error, *_: lost.append(error) or 0.01)
    path = str(tmp_path / "relay")
    with running(path, settings=UNLIMITED) as relay:
        ann, bob, cy = (Client(relay.url, relay.token(name), agent=name) for name in ("ann", "bob", "cy"))
        mine = lock(ann, "a")
        first, second = waiting(bob, "a", wait=60), waiting(cy, "a", wait=60)
    until(lambda: len(lost) > 20 or first.done() or second.done())
    with running(path, settings=UNLIMITED, port=int(relay.url.rpartition(":")[2])):
        ann.release_lock(mine["id"], fence=mine["fence"])
        theirs = first.result(20)
        assert theirs["state"] == "held" and not second.done()
        assert len(ann.list_locks()["locks"]) == 2, "all that a client asks is one request"
        bob.release_lock(theirs["id"], fence=theirs["fence"])
        assert second.result(20)["state"] == "held"
        for client in (ann, bob, cy):
            client.close()
