"""The loop guard: agents may not answer each other without end; people may."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentchat import Client
from agentchat.errors import Conflict, NotFound
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import groups, loops
from agentchat_relay.settings import Loops
from tests.relay.conftest import UNLIMITED, Clock, fresh, until

LOOPS = Loops(depth=4, turns=6, pause=600)
Make = Callable[..., Client]


@pytest.fixture(scope="module")
def guarded() -> Iterator[Embedded]:
    with running(settings=UNLIMITED._replace(loops=LOOPS)) as relay:
        yield relay


@pytest.fixture
def make(guarded: Embedded) -> Make:
    def made(kind: str = "agent") -> Client:
        name = fresh()
        return Client(guarded.url, guarded.token(name, kind=kind), agent=name, retries=0)

    return made


def refused(call: Callable[[], Any]) -> Conflict:
    with pytest.raises(Conflict) as caught:
        call()
    assert caught.value.code == "loop_guard"
    return caught.value


def ping_pong(one: Client, other: Client, times: int) -> None:
    for number in range(times):
        speaker, hearer = (one, other) if number % 2 == 0 else (other, one)
        speaker.send_direct_message(hearer.agent or "", str(number))


def test_two_agents_stop_after_so_many_turns(make: Make, clock: Clock) -> None:
    ann, bob, cleo = make(), make(), make()
    ping_pong(ann, bob, LOOPS.turns)
    error = refused(lambda: ann.send_direct_message(bob.agent or "", "and"))
    assert error.details["reason"] == "turns" and error.details["limit"] == LOOPS.turns
    assert "6 times" in error.message and "10 minutes" in error.message
    for _ in range(3):
        bob.send_direct_message(ann.agent or "", "who had the last word may add to it")
    refused(lambda: ann.send_message("general", f"@{bob.agent} by another way"))
    refused(lambda: ann.send_to_many([cleo.agent or "", bob.agent or ""], "and another"))
    assert cleo.peek_inbox()["items"] == []
    ann.send_direct_message(cleo.agent or "", "somebody else is no loop")
    ann.send_message("general", "nor is what names nobody")
    clock.ahead += LOOPS.pause + 1
    ping_pong(ann, bob, LOOPS.turns)
    refused(lambda: ann.send_direct_message(bob.agent or "", "and"))


def test_a_person_lets_two_who_were_stopped_go_on() -> None:
    """On a relay of its own, whose clock never went back."""
    with running(settings=UNLIMITED._replace(loops=LOOPS)) as relay:
        ann, bob, mira = (
            Client(relay.url, relay.token(name, kind=kind), agent=name, retries=0)
            for name, kind in (("ann", "agent"), ("bob", "agent"), ("mira", "person"))
        )
        mira.send_direct_message("ann", "Begin.")
        ping_pong(ann, bob, LOOPS.turns)
        error = refused(lambda: ann.send_direct_message("bob", "and"))
        assert "You and @bob have" in error.message
        mira.send_message("general", "of nobody")
        refused(lambda: ann.send_direct_message("bob", "and"))
        mira.send_message("general", "@bob Go on.")
        ping_pong(ann, bob, LOOPS.turns)
        refused(lambda: ann.send_direct_message("bob", "and"))
        mira.send_direct_message("ann", "Go on.")
        ping_pong(ann, bob, LOOPS.turns)


def test_a_persons_word_counts_though_it_vanished(make: Make) -> None:
    ann, bob, mira = make(), make(), make("person")
    ping_pong(ann, bob, LOOPS.turns)
    sent = mira.send_direct_message(ann.agent or "", "Go on.", ephemeral=True)["message"]["id"]
    ann.claim_items(limit=50, acknowledge=True)
    until(lambda: mira.list_sent()["messages"] == [])
    with pytest.raises(NotFound):
        ann.get_message(sent)
    ping_pong(ann, bob, LOOPS.turns)
    refused(lambda: ann.send_direct_message(bob.agent or "", "and"))


def test_a_persons_word_counts_whatever_came_after_it(make: Make) -> None:
    ann, bob, cleo, mira = make(), make(), make(), make("person")
    ping_pong(ann, bob, LOOPS.turns)
    mira.send_message("general", f"@{bob.agent} Go on.")
    for number in range(60):
        cleo.send_direct_message(bob.agent or "", f"report {number}")
    ping_pong(ann, bob, LOOPS.turns)
    refused(lambda: ann.send_direct_message(bob.agent or "", "and"))


@pytest.mark.parametrize("reads_first", [False, True])
def test_a_persons_word_counts_once_a_large_group_is_told(
    make: Make, guarded: Embedded, monkeypatch: pytest.MonkeyPatch, reads_first: bool
) -> None:
    monkeypatch.setattr(groups, "_AT_ONCE", 1)
    fan_out = groups.fan_out
    monkeypatch.setattr(groups, "fan_out", lambda tx: 0)
    ann, bob, mira, group = make(), make(), make("person"), fresh("group")
    for one in (ann, bob):
        one.join_group(group)
    assert mira.send_direct_message(group, "Go on.")["pending"]
    ping_pong(ann, bob, LOOPS.turns)
    refused(lambda: ann.send_direct_message(bob.agent or "", "and"))
    if reads_first:
        bob.read_messages("direct-messages")
    else:
        while guarded.ask(fan_out):
            pass
    ping_pong(ann, bob, LOOPS.turns)
    refused(lambda: ann.send_direct_message(bob.agent or "", "and"))


@pytest.mark.parametrize(
    ("pause", "words"), [(600, "10 minutes"), (60, "1 minute"), (90, "90 seconds"), (1, "1 second")]
)
def test_the_pause_is_told_in_words(pause: int, words: str) -> None:
    assert loops._worded(pause) == words


def test_what_was_refused_can_be_sent_later_under_the_same_key(make: Make, clock: Clock) -> None:
    ann, bob = make(), make()
    ping_pong(ann, bob, LOOPS.turns)
    keyed = ann.with_options(idempotency_key=fresh("key"))
    refused(lambda: keyed.send_direct_message(bob.agent or "", "and"))
    clock.ahead += LOOPS.pause + 1
    assert keyed.send_direct_message(bob.agent or "", "and") == keyed.send_direct_message(bob.agent or "", "and")


def test_a_repeated_call_is_no_turn(make: Make) -> None:
    ann, bob = make(), make()
    for number in range(LOOPS.turns):
        speaker, hearer = (ann, bob) if number % 2 == 0 else (bob, ann)
        keyed = speaker.with_options(idempotency_key=fresh("key"))
        assert keyed.send_direct_message(hearer.agent or "", "x") == keyed.send_direct_message(hearer.agent or "", "x")
    refused(lambda: ann.send_direct_message(bob.agent or "", "and"))


def test_a_person_is_never_refused(make: Make) -> None:
    person, agent = make("person"), make()
    ping_pong(person, agent, 5 * LOOPS.turns)
    root = agent.send_message("general", "a thread")["message"]
    for _ in range(3):
        for _ in range(LOOPS.depth):
            root = agent.send_message("general", "on", parent_message_id=root["id"])["message"]
        too_deep = root
        refused(lambda parent=too_deep: agent.send_message("general", "on", parent_message_id=parent["id"]))
        root = person.send_message("general", "go on", parent_message_id=root["id"])["message"]


def test_a_thread_of_agents_ends(make: Make) -> None:
    agents = [make() for _ in range(LOOPS.depth + 2)]
    root = agents[0].send_message("general", "?")["message"]
    for one in agents[1:-1]:
        root = one.send_message("general", "!", parent_message_id=root["id"])["message"]
    error = refused(lambda: agents[-1].send_message("general", "!", parent_message_id=root["id"]))
    assert error.details["reason"] == "depth" and "person" in error.message
    agents[-1].send_message("general", "a new thought, @" + (agents[0].agent or ""))


def test_private_threads_end_as_well(make: Make) -> None:
    agents = [make() for _ in range(2)]
    sent = agents[0].send_direct_message(agents[1].agent or "", "?")["message"]
    for _ in range(LOOPS.depth):
        sent = agents[0].send_direct_message(agents[1].agent or "", "!", parent_message_id=sent["id"])["message"]
    error = refused(lambda: agents[0].send_direct_message(agents[1].agent or "", "!", parent_message_id=sent["id"]))
    assert error.details["reason"] == "depth"


def test_programs_are_not_answered(make: Make) -> None:
    ann, bob, person = make(), make(), make("person")
    status = ann.send_message("general", "step 3", kind="status")["message"]
    error = refused(lambda: bob.send_message("general", "well done", parent_message_id=status["id"]))
    assert error.details["reason"] == "automated"
    assert person.send_message("general", "well done", parent_message_id=status["id"])
    for _ in range(3 * LOOPS.depth):  # a run reports below what it reported
        status = ann.send_message("general", "more", parent_message_id=status["id"], kind="status")["message"]


def test_one_way_mail_is_no_loop(make: Make) -> None:
    ann, bob = make(), make()
    for _ in range(5 * LOOPS.turns):
        ann.send_direct_message(bob.agent or "", "report")


def test_zero_is_no_limit() -> None:
    with running(settings=UNLIMITED._replace(loops=Loops(0, 0, 0))) as relay:
        ann, bob = (Client(relay.url, relay.token(name), agent=name, retries=0) for name in ("mac-ann", "mac-bob"))
        ping_pong(ann, bob, 200)
        root = ann.send_message("general", "?")["message"]
        for _ in range(100):
            root = bob.send_message("general", "!", parent_message_id=root["id"])["message"]


def test_turns_outlive_the_relay(tmp_path: Any) -> None:
    settings = UNLIMITED._replace(loops=LOOPS)
    keys: dict[str, str] = {}
    for round in range(LOOPS.turns + 1):
        with running(str(tmp_path / "data"), settings=settings) as relay:
            for name in ("mac-ann", "mac-bob"):
                if name not in keys:
                    keys[name] = relay.token(name)
            speaker, hearer = ("mac-ann", "mac-bob") if round % 2 == 0 else ("mac-bob", "mac-ann")
            client = Client(relay.url, keys[speaker], retries=0)
            if round < LOOPS.turns:
                client.send_direct_message(hearer, "x")
            else:
                refused(lambda to=hearer, by=client: by.send_direct_message(to, "x"))
