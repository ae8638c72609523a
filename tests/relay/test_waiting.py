"""Waiting for an answer, or the next message: what is there is found, what comes wakes, nothing is missed between."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client, _exchange
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration, waiting
from tests.clients.conftest import Connect
from tests.relay.conftest import fresh, until
from tests.relay.test_events import Agent
from tests.relay.test_events import waiting as how_many_wait


@pytest.fixture
def make(live: Embedded) -> Iterator[Callable[..., Agent]]:
    made: list[Agent] = []

    def one(**more: Any) -> Agent:
        made.append(Agent(live, **more))
        return made[-1]

    yield one
    for agent in made:
        agent.close()


@pytest.fixture
def ann(make: Callable[..., Agent]) -> Agent:
    return make()


@pytest.fixture
def bob(make: Callable[..., Agent]) -> Agent:
    return make()


def reply(agent: Agent, message: Any, wait: int = 0, since: int | None = None) -> Any:
    query = f"wait={wait}" + ("" if since is None else f"&since={since}")
    return agent.wire.send("GET", f"/api/v2/messages/{message['id']}/reply?{query}").data


def following(agent: Agent, wait: int = 0, **query: Any) -> Any:
    named = "&".join(f"{name}={value}" for name, value in query.items())
    return agent.wire.send("GET", f"/api/v2/next?wait={wait}&{named}").data


@contextmanager
def under_way(live: Embedded, call: Callable[[], Any]) -> Iterator[Future[Any]]:
    """A call that waits already."""
    assert how_many_wait(live) == 0
    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(call)
        until(lambda: how_many_wait(live) == 1 or result.done())
        assert not result.done(), result.result()
        yield result
        result.result(60)


def text(awaited: Any) -> str | None:
    assert awaited["timed_out"] is (awaited["message"] is None)
    return None if awaited["message"] is None else str(awaited["message"]["content"])


def post(agent: Agent, room: str, content: str, parent: Any = None, **more: Any) -> Any:
    parent_id = None if parent is None else parent["id"]
    return agent.client.send_message(room, content, parent_message_id=parent_id, **more)["message"]


# An answer


def test_an_answer_that_is_there_is_found_at_once(ann: Agent, bob: Agent):
    room = fresh("room")
    question = post(ann, room, "who?")
    assert text(reply(ann, question)) is None
    post(ann, room, "my own", question)
    post(bob, room, "status", question, kind="status")
    post(bob, room, "beside it")
    assert text(reply(ann, question)) is None
    first = post(bob, room, "me", question)
    second = post(bob, room, "and me", first)
    found = reply(ann, question, 50)
    assert found["message"] == first
    again = reply(ann, question, 50, since=found["position"])
    assert again["message"] == second, "the thread goes on"
    assert text(reply(ann, question, 0, since=again["position"])) is None
    assert reply(bob, first)["message"] is None, "what it said itself is no answer"
    post(ann, room, "thanks", second)
    assert text(reply(bob, second)) == "thanks"
    assert text(reply(bob, first)) is None, "in the thread, but to another"


def test_an_answer_wakes(live: Embedded, ann: Agent, bob: Agent):
    room = fresh("room")
    question = post(ann, room, "who?")
    with under_way(live, lambda: reply(ann, question, 50)) as result:
        post(bob, room, "something else")
        post(bob, room, "me", question)
        assert text(result.result(60)) == "me"
    with under_way(live, lambda: reply(ann, question, 50, since=ann.position())) as result:
        post(bob, room, "me again", question)
        assert text(result.result(60)) == "me again"


def test_a_direct_message_is_answered_by_the_other(live: Embedded, make: Callable[..., Agent], ann: Agent, bob: Agent):
    other = make()
    bob.client.send_direct_message(ann.name, "before")
    question = ann.client.send_direct_message(bob.name, "who?")["message"]
    other.client.send_direct_message(ann.name, "from another")
    assert text(reply(ann, question)) is None
    with under_way(live, lambda: reply(ann, question, 50)) as result:
        other.client.send_direct_message(ann.name, "from another")
        bob.client.send_direct_message(ann.name, "me")
        assert text(result.result(60)) == f"@{ann.name} me"
    assert text(reply(ann, question)) == f"@{ann.name} me"
    assert text(reply(bob, question)) is None
    ann.client.send_direct_message(bob.name, "and?")
    assert text(reply(bob, question)) == f"@{bob.name} and?", "whoever got it waits for its author"
    assert other.wire.refused("GET", f"/api/v2/messages/{question['id']}/reply") == (404, "not_found")


def test_an_answer_to_nothing(live: Embedded, make: Callable[..., Agent], ann: Agent):
    space = fresh("space")
    live.space(space)
    there = make(space=space)
    message = post(ann, "general", "hello")
    for agent, id in ((ann, "01890000-0000-7000-8000-000000000000"), (there, message["id"])):
        assert agent.wire.refused("GET", f"/api/v2/messages/{id}/reply?wait=0") == (404, "not_found")
    newest = ann.position()
    assert ann.wire.refused("GET", f"/api/v2/messages/{message['id']}/reply?since={newest + 100}") == (
        410, "position_expired",
    )  # fmt: skip


# The next message


def test_the_next_message_of_a_channel(live: Embedded, make: Callable[..., Agent], ann: Agent, bob: Agent):
    room, other = fresh("room"), make()
    begin = post(ann, room, "begin")
    assert text(following(ann, channel=room)) is None
    with under_way(live, lambda: following(ann, 50, channel=room)) as result:
        post(ann, room, "my own")
        post(bob, room, "status", kind="status")
        post(bob, fresh("room"), "elsewhere")
        first = post(bob, room, "first")
        assert result.result(60)["message"] == first
    second, third = post(other, room, "second"), post(bob, room, "third")
    assert following(ann, channel=room, since=result.result()["position"])["message"] == second
    assert following(ann, channel=room, after=begin["id"])["message"] == first
    assert following(ann, channel=room, after=first["id"])["message"] == second
    assert following(ann, channel=room, after=second["id"])["message"] == third
    assert text(following(ann, channel=room, after=third["id"])) is None
    assert following(ann, channel=room, after=first["id"], from_agent=bob.name)["message"] == third
    assert text(following(ann, channel=room, after=first["id"], from_agent=ann.name)) is None
    elsewhere = post(bob, "general", "elsewhere")
    fourth = post(bob, room, "fourth")
    assert following(ann, channel=room, after=elsewhere["id"])["message"] == fourth
    with under_way(live, lambda: following(ann, 50, channel=room, from_agent=other.name)) as result:
        post(bob, room, "not from whom it is waited for")
        post(other, room, "from them")
        assert text(result.result(60)) == "from them"


def test_the_next_message_that_notifies(live: Embedded, make: Callable[..., Agent], ann: Agent, bob: Agent):
    other = make()
    with under_way(live, lambda: following(ann, 50)) as result:
        post(bob, "general", "for nobody")
        bob.client.send_direct_message(other.name, "for another")
        mention = post(bob, "general", f"for @{ann.name}")
        assert result.result(60)["message"] == mention
    direct = bob.client.send_direct_message(ann.name, "directly")["message"]
    assert following(ann, after=mention["id"])["message"] == direct
    assert following(ann, since=result.result()["position"])["message"] == direct
    assert text(following(ann)) is None
    with under_way(live, lambda: following(ann, 50, from_agent=other.name)) as result:
        post(bob, "general", f"for @{ann.name}")
        other.client.send_direct_message(ann.name, "from them")
        assert text(result.result(60)) == f"@{ann.name} from them"
    assert text(following(ann, after=direct["id"], from_agent=other.name)) == f"@{ann.name} from them"


def test_direct_messages_are_a_channel_of_ones_own(live: Embedded, ann: Agent, bob: Agent):
    with under_way(live, lambda: following(ann, 50, channel="direct-messages")) as result:
        ann.client.send_direct_message(bob.name, "mine")
        theirs = bob.client.send_direct_message(ann.name, "theirs")["message"]
        assert result.result(60)["message"] == theirs
    later = bob.client.send_direct_message(ann.name, "later")["message"]
    assert following(ann, channel="direct-messages", after=theirs["id"])["message"] == later


def test_direct_messages_to_a_group_are_there_too_and_those_for_elsewhere_are_not(
    live: Embedded, make: Callable[..., Agent], ann: Agent, bob: Agent
):
    here = ann.client.with_options(scopes=["thread:5"])
    group = fresh("group")
    for agent in (ann, bob):
        agent.client.join_group(group)

    def came(since: int) -> str | None:
        found = here.wait_for_message(channel="direct-messages", wait=0, since=since)["message"]
        return found and found["content"]

    start = ann.position()
    bob.client.send_direct_message(ann.name, "for elsewhere", scope="thread:99")
    bob.client.send_message("general", f"@{ann.name} in public")
    assert came(start) is None
    with under_way(live, lambda: following(ann, 50, channel="direct-messages")) as result:
        bob.client.send_direct_message(group, "for all of us")
        assert "for all of us" in text(result.result(60))
    assert "for all of us" in (came(start) or "")


def test_what_comes_of_a_task_or_an_interrupt_wakes_who_waits(
    live: Embedded, make: Callable[..., Agent], ann: Agent, bob: Agent
):
    task, other = (ann.client.create_task(title, target_agent=bob.name)["task"] for title in ("sow", "reap"))
    for id in (task["id"], other["id"]):
        bob.client.claim_task(id)
    with under_way(live, lambda: reply(ann, {"id": task["message_id"]}, 50)) as result:
        bob.client.complete_task(other["id"], "reaped")
        bob.client.complete_task(task["id"], "sown")
        assert text(result.result(60)) == "Task done: sow\n\nsown"
    interrupt = ann.client.send_interrupt(bob.name, "stop")["interrupt"]
    with under_way(live, lambda: reply(ann, {"id": interrupt["message_id"]}, 50)) as result:
        bob.client.send_direct_message(ann.name, "of something else")
        bob.client.acknowledge_interrupt(interrupt["id"], note="stopped")
        assert text(result.result(60)) == "Interrupt acknowledged: stop\n\nstopped"


def test_names_that_are_nobodys(ann: Agent, bob: Agent):
    assert ann.wire.refused("GET", "/api/v2/next?channel=no-such-room&wait=0") == (404, "not_found")
    answer = ann.wire.send("GET", f"/api/v2/next?from_agent={bob.name}y&wait=0")
    assert answer.status == 404
    assert bob.name in json.dumps(answer.json()) or answer.json()["near"]
    assert ann.wire.refused("GET", "/api/v2/next?wait=0&after=01890000-0000-7000-8000-000000000000") == (
        404, "not_found",
    )  # fmt: skip
    group = fresh("group")
    bob.client.join_group(group)
    answer = ann.wire.send("GET", f"/api/v2/next?from_agent={group}&wait=0")
    assert answer.status == 400
    assert "is a group" in json.dumps(answer.json())


# Both


def test_a_wait_that_is_over_names_where_to_go_on(live: Embedded, ann: Agent, bob: Agent):
    room = fresh("room")
    question = post(ann, room, "who?")
    began = time.monotonic()
    with under_way(live, lambda: following(ann, 1, channel=room)) as result:
        post(bob, "general", "elsewhere")
    over = result.result()
    assert text(over) is None
    assert 0.9 < time.monotonic() - began < 20
    post(bob, room, "in between", question)
    assert text(following(ann, 50, channel=room, since=over["position"])) == "in between"
    assert text(reply(ann, question, 50, since=over["position"])) == "in between"


def test_a_long_log_is_looked_through_in_pieces(
    live: Embedded, ann: Agent, bob: Agent, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(waiting, "_PIECE", 3)
    room = fresh("room")
    question = post(ann, room, "who?")
    begin = ann.position()
    for number in range(10):
        post(bob, "general", str(number))
    answer = post(bob, room, "me", question)
    assert reply(ann, question, since=begin)["message"] == answer
    assert following(ann, channel=room, since=begin)["message"] == answer
    at, seen = begin, list[Any]()
    while (found := following(ann, since=at, channel="general"))["message"]:
        seen.append(found["message"]["content"])
        at = found["position"]
    assert seen == [str(number) for number in range(10)]


def test_an_answer_long_ago_is_found_too(ann: Agent, bob: Agent, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(waiting, "_LONG_AGO", 2)
    question = post(ann, "general", "who?")
    answer = post(bob, "general", "me", question)
    for number in range(3):
        post(bob, "general", str(number))
    assert reply(ann, question)["message"] == answer


def test_a_revoked_key_ends_a_wait(live: Embedded, ann: Agent):
    assert how_many_wait(live) == 0
    with ThreadPoolExecutor(1) as threads:
        refused = threads.submit(lambda: ann.wire.refused("GET", "/api/v2/next?wait=50"))
        until(lambda: how_many_wait(live) == 1)
        live.ask(lambda tx: administration.agent_deactivate(tx, name=ann.name))
        assert refused.result(30) == (401, "unauthorized")


def test_two_that_talk_by_waiting(live: Embedded, ann: Agent, bob: Agent):
    """Each answers the other's last message, and nobody ever misses one."""
    room, rounds = fresh("room"), 25
    first = post(ann, room, "0")

    def talk(agent: Agent, after: Any) -> list[str]:
        heard = []
        for _ in range(rounds):
            message = following(agent, 50, channel=room, after=after)["message"]
            heard.append(message["content"])
            after = message["id"]
            post(agent, room, str(int(message["content"]) + 1))
        return heard

    with ThreadPoolExecutor(2) as threads:
        odd = threads.submit(talk, ann, first["id"])
        even = [str(number) for number in range(0, 2 * rounds, 2)]
        begin = ann.client.send_message(fresh("room"), "begin")["message"]["id"]
        assert begin
        heard_by_bob = threads.submit(_from_the_beginning, bob, room, rounds)
        assert heard_by_bob.result(120) == even
        assert odd.result(120) == [str(number) for number in range(1, 2 * rounds, 2)]


def _from_the_beginning(agent: Agent, room: str, rounds: int) -> list[str]:
    heard, at = [], 0
    for _ in range(rounds):
        found = following(agent, 50, channel=room, since=at)
        heard.append(found["message"]["content"])
        at = found["position"]
        post(agent, room, str(int(heard[-1]) + 1))
    return heard


@pytest.mark.parametrize("name", ["get_approval", "wait_for_message"])
def test_a_wait_outlasts_a_relay_that_is_started_anew(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch, name: str
):
    lost: list[Any] = []
    monkeypatch.setattr(_exchange, "pause_after", lambda error, *_: lost.append(error) or 0.01)
    path = str(tmp_path / "relay")
    with running(path) as relay, ThreadPoolExecutor(1) as threads:
        ann = Client(relay.url, relay.token("ann"), agent="ann")
        bob = connect(relay.url, relay.token("bob"), agent="bob", retries=1)
        relay.ask(lambda tx: administration.agent_grant(tx, name="ann", role="reviewer", space="main"))
        asked = bob("request_approval", "deploy", "{}")["approval"]["id"]
        given = {"get_approval": {"approval_id": asked}, "wait_for_message": {"channel": "general"}}[name]
        result = threads.submit(bob, name, **given, wait=60)
        until(lambda: how_many_wait(relay) == 1)
        relay.close()
        until(lambda: len(lost) > 20 or result.done())
        with running(path, port=int(relay.url.rpartition(":")[2])):
            ann.decide_approval(asked, "allow")
            ann.send_message("general", "hi")
            if name == "get_approval":
                assert result.result(20)["approval"]["state"] == "allowed"
            else:
                assert result.result(20)["message"]["content"] == "hi"
    ann.close()
