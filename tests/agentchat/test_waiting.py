"""Waiting, without I/O: which requests a wait is made of, driven by hand with a clock of its own."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentchat import Client, errors
from agentchat._exchange import NeedKey, Options, Pause, Request, Response, build_request
from agentchat._waiting import wait_steps
from agentchat.contract import OPERATIONS, Contract
from tests.servers import CLAIM_ID, ID, event, inbox, item, message

WAITING = {"wait_for_reply": {"message_id": ID}, "wait_for_message": {}, "list_events": {}}


class Wait:
    """Drives one wait against a relay that knows when the message comes. Only its answers and pauses take time."""

    def __init__(self, operation: Any = Contract.wait_for_message, *, comes: float = 1e9, lost: Any = (), **given: Any):
        self.now, self.started = 1000.0, 1000.0
        self.comes, self.lost = 1000.0 + comes, list(lost)
        self.early: float | None = None
        self.requests: list[dict[str, str]] = []
        self.timeouts: list[float] = []
        self.positions: list[int] = []
        self.pauses: list[float] = []
        self.operation = operation

        def build(key: str | None, timeout: float, asked: Any) -> Request:
            return build_request(operation, asked, {}, timeout)

        options = Options(timeout=10, deadline=45, retries=3)
        self._steps = wait_steps(operation, given, build, options, clock=lambda: self.now)

    def run(self) -> Any:
        answer: Any = None
        while True:
            try:
                step = self._steps.send(answer)
            except StopIteration as done:
                return done.value
            answer = self._do(step)

    def _do(self, step: Any) -> Any:
        if isinstance(step, NeedKey):
            return "key"
        if isinstance(step, Pause):
            self.pauses.append(step.seconds)
            self.now += step.seconds
            return None
        asked = {name: values[0] for name, values in parse_qs(urlsplit(step.path).query).items()}
        self.requests.append(asked)
        self.timeouts.append(step.timeout)
        wait = int(asked["wait"])
        if self.lost and wait:
            self.now += min(self.lost.pop(0), wait)
            return errors.ConnectionFailed()
        until = self.now + (wait if self.early is None else min(self.early, wait))
        came = self.comes <= until
        self.now = max(self.now, self.comes) if came else until
        return Response(200, {}, json.dumps(self._answer(came, wait)).encode())

    def _answer(self, came: bool, wait: int) -> dict[str, Any]:
        self.positions.append(100 + len(self.requests))
        data = {"position": self.positions[-1], "timed_out": bool(wait) and not came}
        if self.operation is Contract.list_events:
            return {**data, "events": [event()] if came else [], "has_more": False}
        return {**data, "message": message() if came else None}

    @property
    def waits(self) -> list[int]:
        return [int(asked["wait"]) for asked in self.requests]

    @property
    def took(self) -> float:
        return self.now - self.started


@pytest.mark.parametrize("name", WAITING)
def test_a_wait_that_ends_takes_its_time_in_requests_of_at_most_50_seconds(name: str):
    wait = Wait(OPERATIONS[name], **WAITING[name], wait=120)
    result = wait.run()
    assert result["timed_out"] is True
    assert wait.waits == [0, 50, 50, 20]
    assert wait.took == 120
    assert wait.timeouts == [10, 60, 60, 30], "each request may take its wait and the ordinary time"
    assert [asked.get("since") for asked in wait.requests] == [None, *map(str, wait.positions[:-1])]


@pytest.mark.parametrize("name", ["wait_for_reply", "wait_for_message"])
def test_without_a_number_it_waits_a_minute(name: str):
    wait = Wait(OPERATIONS[name], **WAITING[name])
    wait.run()
    assert (wait.took, wait.waits) == (60, [0, 50, 10])


def test_what_is_there_already_is_one_request_that_does_not_wait():
    wait = Wait(comes=0)
    assert wait.run()["message"]["id"] == ID
    assert (wait.waits, wait.took) == ([0], 0)


def test_a_wait_from_a_position_on_needs_no_first_look():
    wait = Wait(wait=60, since=7)
    wait.run()
    assert (wait.waits, wait.requests[0]["since"]) == ([50, 10], "7")


@given(comes=st.floats(0, 590), total=st.integers(1, 600))
def test_what_comes_in_time_is_returned_when_it_comes(comes: float, total: int):
    wait = Wait(comes=comes, wait=total)
    result = wait.run()
    assert (result["message"] is not None) == (comes <= total + 0.5) or abs(comes - total) < 0.6
    assert wait.took <= total + 0.5
    assert all(part <= 50 for part in wait.waits)


@given(lost=st.lists(st.floats(0, 40), min_size=1, max_size=2), total=st.integers(50, 300))
def test_a_lost_connection_neither_shortens_a_wait_nor_doubles_it(lost: list[float], total: int):
    wait = Wait(wait=total, lost=lost)
    assert wait.run()["timed_out"] is True
    assert total - 0.5 <= wait.took <= total + 0.6 + sum(wait.pauses)
    assert all(asked.get("since") for asked in wait.requests[1:]), "nothing is missed meanwhile"


def test_the_deadline_of_a_request_that_waits_is_that_much_later():
    """A connection that is lost after 49 of 50 seconds is worth another try."""
    wait = Wait(wait=50, lost=[49])
    wait.run()
    assert wait.waits[:2] == [0, 50]
    assert len(wait.requests) == 3


@given(away=st.lists(st.floats(0, 1), min_size=5, max_size=30))
def test_a_relay_that_is_away_ends_no_wait_that_met_it(away: list[float]):
    wait = Wait(wait=300, lost=away)
    assert wait.run()["timed_out"] is True
    assert 299.5 <= wait.took <= 300.6
    assert max(wait.pauses) <= 5


def test_a_relay_that_never_waits_is_not_asked_in_a_tight_loop():
    wait = Wait(wait=30)
    wait.early = 0.0
    wait.run()
    assert len(wait.requests) <= 32
    assert wait.took == pytest.approx(30, abs=1)


def test_an_answer_that_is_neither_is_given_back_as_it_is():
    wait = Wait(wait=100, since=1)
    wait._answer = lambda came, part: {"message": None, "position": 3, "timed_out": False}  # type: ignore[method-assign]
    assert wait.run() == {"message": None, "position": 3, "timed_out": False}
    assert len(wait.requests) == 1


def test_listing_without_a_wait_and_a_wait_of_nothing_are_single_ordinary_requests():
    client = Client("http://127.0.0.1:1", "secret")
    for operation, given_ in ((Contract.list_events, {}), (Contract.wait_for_message, {"wait": 0})):
        steps = client._steps(operation, given_)
        steps.send(None)
        request = steps.send("secret")
        assert request.timeout == 10


def test_a_failure_of_the_caller_ends_a_wait_at_once():
    wait = Wait(wait=100)
    refused = Response(404, {}, b'{"error": "no", "code": "not_found"}')
    wait._do = lambda step: "key" if isinstance(step, NeedKey) else refused  # type: ignore[method-assign]
    with pytest.raises(errors.NotFound):
        wait.run()


# What a client remembers of its inbox


def checked(client: Client, claim: str | None = CLAIM_ID, **arguments: Any) -> Any:
    """The body of a call of check_inbox that is answered with this claim."""
    steps = client._steps(Contract.check_inbox, arguments)
    steps.send(None)
    request = steps.send("secret")
    answer = inbox(item(), claim_id=claim) if claim else inbox()
    with pytest.raises(StopIteration):
        steps.send(Response(200, {}, json.dumps(answer).encode()))
    return json.loads(request.body)


@pytest.fixture
def client() -> Client:
    return Client("http://127.0.0.1:1", "secret")


def test_a_check_names_the_claim_of_the_answer_before(client: Client):
    assert [checked(client, claim) for claim in (CLAIM_ID, ID, None, ID)] == [
        {},
        {"seen": CLAIM_ID},
        {"seen": ID},
        {},
    ]


def test_what_the_caller_names_counts(client: Client):
    checked(client)
    assert checked(client, seen=ID) == {"seen": ID}


def test_copies_and_the_other_colour_remember_together(client: Client):
    from langchain_agentchat import AsyncClient

    checked(client.with_options(timeout=3))
    assert AsyncClient.like(client)._session is client._session
    assert checked(client.with_options(retries=1)) == {"seen": CLAIM_ID}


def test_another_session_has_received_nothing(client: Client):
    checked(client)
    assert checked(client.with_options(session="other")) == {}
    assert checked(client) == {"seen": CLAIM_ID}


def test_a_forked_child_has_received_nothing(client: Client, monkeypatch: pytest.MonkeyPatch):
    checked(client)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert checked(client) == {}


def test_a_call_that_is_made_again_under_its_key_names_the_same_claim(client: Client):
    """As LangGraph does when it runs a node again: the relay would refuse the key with another body."""
    checked(client, CLAIM_ID)
    again = client.with_options(idempotency_key="once")
    assert checked(again, ID) == {"seen": CLAIM_ID}
    assert checked(again, ID) == {"seen": CLAIM_ID}
    assert checked(client) == {"seen": ID}


def test_retries_of_a_check_keep_what_they_name(client: Client):
    checked(client)
    steps = client._steps(Contract.check_inbox, {})
    steps.send(None)
    first = steps.send("secret")
    assert isinstance(steps.send(errors.ConnectionFailed()), Pause)
    assert steps.send(None).body == first.body


def test_a_claim_that_the_relay_refuses_is_not_named_again(client: Client):
    checked(client)
    steps = client._steps(Contract.check_inbox, {})
    steps.send(None)
    steps.send("secret")
    with pytest.raises(errors.Conflict):
        steps.send(Response(409, {}, b'{"error": "gone", "code": "conflict"}'))
    assert checked(client) == {}


def test_only_so_many_keys_are_remembered(client: Client):
    for _ in range(200):
        checked(client)
    assert len(client._session._sent) <= 32
