"""Two relays on one Postgres are one relay: whatever is done through one of them is so through the other at once."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from agentchat import Client
from agentchat.errors import Conflict, NotFound, Unauthorized
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration
from tests import postgres
from tests.relay import database
from tests.relay.conftest import UNLIMITED, fresh, until
from tests.relay.peek import DEADLINE, Peek
from tests.relay.test_state_machine import Agents


class Two(NamedTuple):
    relays: tuple[Embedded, Embedded]
    url: str

    def clients(self, name: str, key: str) -> tuple[Client, Client]:
        first, second = (Client(relay.url, key, agent=name, retries=0) for relay in self.relays)
        return first, second


@pytest.fixture(scope="module")
def two() -> Iterator[Two]:
    url = postgres.new_schema()
    with ExitStack() as stack:
        first, second = (stack.enter_context(running(settings=UNLIMITED._replace(store=url))) for _ in range(2))
        yield Two((first, second), url)


class Both:
    """A client that asks the one relay and the other by turns."""

    def __init__(self, *clients: Client) -> None:
        self._clients = clients
        self._turns = itertools.cycle(clients)

    def __getattr__(self, name: str) -> Any:
        return getattr(next(self._turns), name)

    def with_options(self, **options: Any) -> Both:
        return Both(*(client.with_options(**options) for client in self._clients))

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.mark.hypothesis
def test_every_agent_sees_what_the_model_says_through_either_relay(two: Two) -> None:
    """Names, memberships and counters that one relay remembers are never those of before the other's last write."""

    class OnTwoRelays(Agents):
        def client(self, name: str, key: str) -> Any:
            return Both(*two.clients(name, key))

    OnTwoRelays.live = two.relays[0]
    run_state_machine_as_test(
        OnTwoRelays,
        settings=settings(
            max_examples=20, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """The results of calls that begin together."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        gate.wait(DEADLINE)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


# Writing at the same time


def test_what_two_relays_write_together_has_one_order(two: Two):
    """Several agents through both relays, in channels that none of them made before."""
    space, channels = fresh("space"), [fresh("room") for _ in range(3)]
    two.relays[0].space(space)
    names = [fresh("mac") for _ in range(3)]
    pairs = [two.clients(name, two.relays[0].token(name, space=space)) for name in names]
    watcher = two.clients(fresh("mac"), two.relays[1].token("mac-watcher", space=space))

    def work(client: Client, agent: int, relay: int) -> Callable[[], None]:
        def run() -> None:
            for number in range(25):
                channel = channels[(number + agent + relay) % 3]
                client.send_message(channel, f"{agent} {relay} {number} @{names[(agent + 1) % 3]}")

        return run

    at_once(*(work(pair[relay], agent, relay) for agent, pair in enumerate(pairs) for relay in range(2)))
    written: dict[str, list[str]] = {channel: [] for channel in channels}
    for channel in channels:
        one, other = (client.read_messages(channel, limit=200)["messages"] for client in watcher)
        assert one == other
        times = [row["created_at"] for row in one]
        assert times == sorted(set(times))
        written[channel] = [row["content"] for row in one]
    assert sum(len(texts) for texts in written.values()) == 150
    for agent in range(3):
        for relay in range(2):
            own = [[text for text in texts if text.startswith(f"{agent} {relay} ")] for texts in written.values()]
            assert sum(map(len, own)) == 25
            assert all(texts == sorted(texts, key=lambda text: int(text.split()[2])) for texts in own)
        for channel in channels:  # as each thread sent them
            numbers = [
                [int(text.split()[2]) for text in written[channel] if text.startswith(f"{agent} {r} ")] for r in (0, 1)
            ]
            assert numbers == [sorted(each) for each in numbers]
    for agent, pair in enumerate(pairs):
        for client in pair:
            lines = {line["channel"]: line["unread"] for line in client.check_board()["channels"] if line["joined"]}
            for channel, texts in written.items():  # each joined with its first message
                own = [text.startswith(f"{agent} ") for text in texts]
                assert lines[channel] == own[own.index(True) :].count(False)
        told = pair[agent % 2].check_mentions(limit=100)
        assert len(told["mentions"]) == 50
    for pair in [*pairs, watcher]:
        for client in pair:
            client.close()
    peek = Peek(two.url)
    peek.check_numbers()
    peek.close()


def test_names_that_come_and_go_are_known_everywhere(two: Two):
    """Each relay remembers ids of names, and forgets them when the other one makes them wrong."""
    ann = two.clients(name := fresh("mac"), two.relays[0].token(name))
    for number in range(12):
        here, there = (0, 1) if number % 2 else (1, 0)
        bob, room = fresh("bob"), fresh("room")
        with pytest.raises(NotFound):
            ann[there].send_direct_message(bob, "nobody yet")
        key = two.relays[here].token(bob)
        first = ann[there].send_direct_message(bob, "hello")["message"]["id"]
        ann[here].send_message(room, f"made here for @{bob}")
        ann[there].send_message(room, f"and known there to @{bob}")
        with Client(two.relays[there].url, key, retries=0) as client:
            assert len(client.check_mentions()["mentions"]) == 3
            assert client.read_messages("direct-messages")["messages"][0]["id"] == first
        two.relays[here].ask(lambda tx, bob=bob: administration.agent_delete(tx, name=bob))
        with pytest.raises((NotFound, Conflict)):
            ann[there].send_direct_message(bob, "gone")
        assert ann[there].send_message(room, f"@{bob}?")["unmatched_mentions"] == [bob]
        two.relays[there].token(bob)
        assert ann[here].send_message(room, f"@{bob}!")["unmatched_mentions"] == []
    for client in ann:
        client.close()


# Keys


def test_a_revoked_key_is_refused_by_the_other_relay_at_its_next_request(two: Two):
    names = [fresh("mac") for _ in range(2)]
    for number in range(40):
        here, there = (0, 1) if number % 2 else (1, 0)
        name = names[number // 2 % 2]
        pair = two.clients(name, two.relays[here].token(name))
        assert pair[there].check_board()["channels"]
        assert pair[here].send_message("general", "works")["message"]["id"]
        two.relays[here].ask(lambda tx, name=name: administration.agent_deactivate(tx, name=name))
        with pytest.raises(Unauthorized):
            pair[there].check_board() if number % 3 else pair[there].send_message("general", "still here")
        with pytest.raises(Unauthorized):
            pair[here].send_message("general", "still here")
        two.relays[there].ask(lambda tx, name=name: administration.agent_update(tx, name=name, active=True))
        assert pair[here].send_message("general", "back")["message"]["id"]
        assert pair[there].check_board()["channels"]
        new = two.clients(name, two.relays[there].token(name))
        with pytest.raises(Unauthorized):
            pair[here].check_board()
        assert new[here].check_board()["channels"]
        for client in (*pair, *new):
            client.close()


def test_nothing_is_written_under_a_key_once_it_is_revoked(two: Two):
    """While requests come as fast as they can, through the relay that was not told."""
    name = fresh("mac")
    for number in range(8):
        key = two.relays[0].token(name)
        sent: list[str] = []

        def send(key: str = key, sent: list[str] = sent, number: int = number) -> None:
            with Client(two.relays[1].url, key, retries=0) as client, pytest.raises(Unauthorized):
                while True:
                    sent.append(client.send_message("general", f"{name} {number} {len(sent)}")["message"]["content"])

        thread = threading.Thread(target=send)
        thread.start()
        until(lambda sent=sent: len(sent) >= 5)
        two.relays[0].ask(lambda tx: administration.agent_deactivate(tx, name=name))
        ((last,),) = database.ask(two.url, "SELECT max(id) FROM messages")
        thread.join(DEADLINE)
        assert database.ask(two.url, "SELECT id FROM messages WHERE id > ?", last) == []
        two.relays[0].ask(lambda tx: administration.agent_update(tx, name=name, active=True))


# Idempotency keys


def test_a_key_has_one_effect_whichever_relays_it_reaches(two: Two):
    ann, bob = fresh("mac"), fresh("mac")
    clients = two.clients(ann, two.relays[0].token(ann))
    two.relays[1].token(bob)
    calls: dict[str, Callable[[Client, int], Any]] = {
        "send_message": lambda client, n: client.send_message("general", f"{ann} once {n}"),
        "a channel made by it": lambda client, n: client.send_message(f"{ann}-{n}", f"{ann} once {n}"),
        "send_direct_message": lambda client, n: client.send_direct_message(bob, f"{ann} once {n}"),
        "set_card": lambda client, n: client.set_card(about=f"{ann} once {n}"),
    }
    for number in range(10):
        for what, call in calls.items():
            key = f"{what} {number}".replace(" ", "-")
            keyed = [client.with_options(idempotency_key=key) for client in clients for _ in range(2)]
            answers = at_once(*(partial(call, client, number) for client in keyed))
            assert len({json.dumps(answer, sort_keys=True) for answer in answers}) == 1, what
        kept = database.ask(two.url, "SELECT count(*) FROM messages WHERE content LIKE ?", f"%{ann} once {number}")
        assert kept == [(3,)]
    with pytest.raises(Conflict):
        clients[1].with_options(idempotency_key="send_message-0").send_message("general", "something else")
    for client in clients:
        client.close()


def test_who_waits_at_one_relay_gets_what_is_given_back_at_the_other(two: Two) -> None:
    """In its turn, by either relay; and no two of many at once ever have the same."""
    names = [fresh("locker") for _ in range(3)]
    people = [two.clients(name, two.relays[0].token(name)) for name in names]
    root = fresh("repo")
    mine = people[0][0].acquire_lock([f"{root}/**"])["lock"]
    with ThreadPoolExecutor(4) as pool:
        waiting = []
        for number, clients in enumerate(people[1:], 1):
            waiting.append(pool.submit(clients[1].acquire_lock, [f"{root}/a"], wait=60))
            until(lambda wanted=number: len(people[0][0].list_locks(name=root + "/a")["locks"]) == wanted + 1)
        people[0][0].release_lock(mine["id"], fence=mine["fence"])
        first = waiting[0].result(30)["lock"]
        assert not waiting[1].done()
        people[1][0].release_lock(first["id"])
        second = waiting[1].result(30)["lock"]
    assert mine["fence"] < first["fence"] < second["fence"]

    def take(client: Client) -> str | int | None:
        try:
            return client.acquire_lock([f"{root}/once"])["lock"]["id"]
        except Conflict:
            return None

    outcomes = at_once(*(partial(take, client) for clients in people for client in clients))
    assert len([found for found in outcomes if found]) == 1
    for clients in people:
        for client in clients:
            client.close()
