"""How often is too often: the buckets by themselves under a virtual clock, and what callers see of them."""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import secrets
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from agentchat import Client
from agentchat._exchange import KEY_HEADER
from agentchat.errors import RateLimited
from agentchat.identity import signed_bytes
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.http.limits import Buckets, Window
from agentchat_relay.settings import Settings
from langchain_agentchat import AsyncClient

UNLIMITED = Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def refusal(buckets: Buckets, who: object) -> RateLimited | None:
    try:
        buckets.take(who)
    except RateLimited as error:
        return error
    return None


# Buckets


def test_a_burst_is_ten_seconds_worth():
    clock = Clock()
    buckets = Buckets(2.0, 0, clock=clock)
    assert sum(refusal(buckets, "a") is None for _ in range(100)) == 20
    clock.now += 0.5
    assert [refusal(buckets, "a") is None for _ in range(2)] == [True, False]
    clock.now += 1e6
    assert sum(refusal(buckets, "a") is None for _ in range(100)) == 20


def test_zero_is_no_limit():
    buckets = Buckets(0, 0, clock=Clock())
    assert all(refusal(buckets, "a") is None for _ in range(10_000))


def test_a_refusal_says_how_long_to_wait_and_is_retried_by_clients():
    clock = Clock()
    buckets = Buckets(0.5, 0, clock=clock)
    for _ in range(5):
        buckets.take("a")
    error = refusal(buckets, "a")
    assert error is not None and error.code == "rate_limited" and error.retryable
    assert error.retry_after == pytest.approx(2.0)
    clock.now += 1.0
    assert refusal(buckets, "a").retry_after == pytest.approx(1.0)  # type: ignore[union-attr]


CALLS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 3, allow_subnormal=False)), max_size=120)
RATES = st.sampled_from([0.1, 0.25, 0.5, 1.0, 2.0, 3.7, 10.0])


def played(each: float, all: float, calls: list[tuple[str, float]]) -> list[tuple[str, float, bool]]:
    """Who called when, and whether he was let through."""
    clock = Clock()
    buckets, found = Buckets(each, all, clock=clock), []
    for who, pause in calls:
        clock.now += pause
        found.append((who, clock.now, refusal(buckets, who) is None))
    return found


@given(each=RATES, all=st.just(0.0) | RATES, calls=CALLS)
def test_nobody_gets_more_than_burst_and_rate(each: float, all: float, calls: list[tuple[str, float]]):
    history = played(each, all, calls)
    for rate, seen in [*((each, {who}) for who in "abc"), (all, set("abc"))]:
        passed = [when for who, when, taken in history if taken and who in seen]
        for start in range(len(passed) if rate else 0):
            for end in range(start, len(passed)):
                assert end - start + 1 <= rate * 10 + (passed[end] - passed[start]) * rate + 1e-6


@given(each=RATES, all=st.just(0.0) | RATES, calls=CALLS)
def test_refused_calls_take_nothing(each: float, all: float, calls: list[tuple[str, float]]):
    """Without them, everybody else is answered as before."""
    history = played(each, all, calls)
    rest, before = [], 1000.0
    for who, when, taken in history:
        if taken:
            rest.append((who, when - before))
            before = when
    assert all_taken(each, all, rest)


def all_taken(each: float, all: float, calls: list[tuple[str, float]]) -> bool:
    clock = Clock()
    # A hair more, because the clock is put together from other differences than before.
    buckets = Buckets(each, all, clock=clock)
    for who, pause in calls:
        clock.now += pause + 1e-9
        if refusal(buckets, who) is not None:
            return False
    return True


@given(each=RATES, calls=CALLS)
def test_one_agent_never_throttles_another(each: float, calls: list[tuple[str, float]]):
    history = played(each, 0, calls)
    for one in "abc":
        clock = Clock()
        alone = Buckets(each, 0, clock=clock)
        for who, when, taken in history:
            clock.now = when
            if who == one:
                assert (refusal(alone, one) is None) == taken


@given(each=RATES, all=st.just(0.0) | RATES, calls=CALLS)
def test_whoever_waits_as_told_gets_through(each: float, all: float, calls: list[tuple[str, float]]):
    clock = Clock()
    buckets = Buckets(each, all, clock=clock)
    for who, pause in calls:
        clock.now += pause
        if (error := refusal(buckets, who)) is not None:
            assert error.retry_after is not None and error.retry_after > 0
            # The header carries whole seconds, rounded up. Both limits may have to be waited for.
            for _ in range(2):
                clock.now += math.ceil(error.retry_after)
                again = refusal(buckets, who)
                if again is None:
                    break
            assert again is None


@given(rate=st.floats(0.001, 1e6))
@example(rate=0.05)
@example(rate=0.01)
def test_any_rate_lets_something_through(rate: float):
    """Three calls a minute are a rate as good as any: the bucket must hold at least one."""
    for each, all in ((rate, 0.0), (0.0, rate), (rate, rate)):
        clock = Clock()
        buckets = Buckets(each, all, clock=clock)
        taken = 0
        for _ in range(5):
            taken += refusal(buckets, "a") is None
            clock.now += math.ceil(1 / rate)
        assert taken >= 4


def test_a_hundred_thousand_callers_are_counted_and_forgotten():
    clock = Clock()
    buckets = Buckets(1.0, 0, clock=clock)
    for who in range(100_000):
        buckets.take(who)
    clock.now += 100
    for who in range(100_000, 200_000):
        buckets.take(who)
    busy = [refusal(buckets, "busy") is None for _ in range(12)]
    assert busy == [True] * 10 + [False] * 2


# Windows


def test_a_window_slides():
    clock = Clock()
    window = Window(3, 60, clock=clock)
    for _ in range(3):
        window.check("a")
        window.count("a")
        clock.now += 10
    with pytest.raises(RateLimited) as caught:
        window.check("a")
    assert caught.value.retry_after == pytest.approx(30)
    window.check("b")
    clock.now += 30
    window.check("a")
    window.count("a")
    with pytest.raises(RateLimited) as caught:
        window.check("a")
    assert caught.value.retry_after == pytest.approx(10)


@given(most=st.integers(1, 5), calls=CALLS)
@example(most=1, calls=[("a", 21.80830318899404), ("a", 0.0)])
def test_a_window_never_holds_more(most: int, calls: list[tuple[str, float]]):
    clock = Clock()
    window, counted = Window(most, 7.0, clock=clock), []
    for who, pause in calls:
        clock.now += pause
        wait = window.wait(who)
        recent = [when for one, when in counted if one == who and clock.now - when < 7.0]
        assert (wait > 0) == (len(recent) >= most)
        if wait:
            assert wait <= 7.0
        else:
            window.count(who)
            counted.append((who, clock.now))


# What callers see


class Wire:
    """A connection that says who it is."""

    def __init__(self, url: str, **headers: str) -> None:
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        self._headers = headers

    def send(self, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, str | None, Any]:
        """Status, Retry-After and the answer."""
        text = body if body is None or isinstance(body, bytes) else json.dumps(body)
        self.connection.request(method, target, body=text, headers={**self._headers, **headers})
        response = self.connection.getresponse()
        return response.status, response.headers["retry-after"], json.loads(response.read())

    def read(self) -> int:
        return self.send("GET", "/api/v2/channels")[0]

    def write(self) -> int:
        return self.send("POST", "/api/v2/messages", {"channel": "general", "content": "x"})[0]

    def close(self) -> None:
        self.connection.close()


@contextmanager
def relay_with(**limits: Any) -> Iterator[Embedded]:
    with running(settings=UNLIMITED._replace(**limits)) as relay:
        yield relay


@contextmanager
def agents(relay: Embedded, count: int = 1) -> Iterator[list[Wire]]:
    with ExitStack() as stack:
        keys = [relay.token(f"mac-{number}a") for number in range(count)]
        yield [stack.enter_context(closing(Wire(relay.url, **{KEY_HEADER: key}))) for key in keys]


def check_refused(told: tuple[int, str | None, Any]) -> None:
    status, retry_after, body = told
    assert (status, body["code"]) == (429, "rate_limited")
    assert body["error"]
    assert retry_after is not None and int(retry_after) >= 1


def test_writes_of_one_agent():
    with relay_with(agent_writes=0.3) as relay, agents(relay, 2) as (one, other):
        assert [one.write() for _ in range(5)] == [200] * 3 + [429] * 2
        check_refused(one.send("POST", "/api/v2/messages", {"channel": "general", "content": "x"}))
        assert [one.read() for _ in range(20)] == [200] * 20
        assert [other.write() for _ in range(5)] == [200] * 3 + [429] * 2


def test_reads_of_one_agent():
    with relay_with(agent_reads=0.3) as relay, agents(relay, 2) as (one, other):
        assert [one.read() for _ in range(5)] == [200] * 3 + [429] * 2
        check_refused(one.send("GET", "/api/v2/board"))
        assert [one.write() for _ in range(20)] == [200] * 20
        assert [other.read() for _ in range(5)] == [200] * 3 + [429] * 2


def test_writes_of_all():
    with relay_with(all_writes=0.3) as relay, agents(relay, 3) as (one, two, three):
        assert [one.write(), two.write(), one.write(), three.write(), two.write()] == [200, 200, 200, 429, 429]
        check_refused(three.send("POST", "/api/v2/dm", {"target_agent": "mac-0a", "content": "x"}))
        assert [three.read() for _ in range(20)] == [200] * 20


def test_reads_of_all():
    with relay_with(all_reads=0.3) as relay, agents(relay, 3) as (one, two, three):
        assert [one.read(), two.read(), one.read(), three.read(), two.read()] == [200, 200, 200, 429, 429]
        assert [three.write() for _ in range(20)] == [200] * 20


def test_whoever_was_refused_for_all_has_lost_nothing_of_his_own():
    with relay_with(all_writes=0.2, agent_writes=0.2) as relay, agents(relay, 2) as (one, other):
        assert [one.write(), one.write(), other.write(), other.write()] == [200, 200, 429, 429]
        waits = {other.send("POST", "/api/v2/messages", {"channel": "general", "content": "x"})[1] for _ in range(100)}
        assert all(wait is not None and int(wait) <= 5 for wait in waits)


def test_refused_calls_take_nothing_and_the_wait_does_not_grow():
    with relay_with(agent_writes=1.0) as relay, agents(relay) as (one,):
        body = {"channel": "general", "content": "x"}
        statuses = [one.write() for _ in range(10)]
        assert statuses == [200] * 10
        deadline, refused = time.monotonic() + 30, 0
        while True:
            told = one.send("POST", "/api/v2/messages", body)
            if told[0] == 200:
                break
            assert told[:2] == (429, "1")
            refused += 1
            assert time.monotonic() < deadline
        assert refused > 5


def test_what_reads_and_what_writes_is_declared_not_read_off_the_verb():
    with relay_with(agent_writes=0.1) as relay, agents(relay) as (one,):
        upload = {"channel": "general", "filename": "a", "content": "x"}
        status, _, told = one.send("PUT", "/api/files", upload)
        assert status == 200
        check_refused(one.send("PUT", "/api/files", upload))
        assert one.send("POST", "/api/files", {"folder": "general"})[0] == 200
        assert one.send("GET", f"/api/files?path={told['file']['path']}&url=true")[0] == 200
        check_refused(one.send("POST", "/api/v2/channels/read", {"channel": "general"}))
        check_refused(one.send("POST", "/api/v2/agents/card", {"card": {"role": "x"}}))
    with relay_with(agent_reads=0.1) as relay, agents(relay) as (one,):
        assert one.send("POST", "/api/files", {"folder": "general"})[0] == 200
        check_refused(one.send("POST", "/api/files", {"folder": "general"}))
        check_refused(one.send("GET", "/api/files?path=general/x"))
        assert one.write() == 200


def test_first_who_then_how_often_then_what():
    """The contract's order of checks: a stranger counts for nobody, and whoever is over the limit hears of that."""
    with relay_with(agent_writes=0.2) as relay, agents(relay) as (one,), closing(Wire(relay.url)) as stranger:
        assert [stranger.write() for _ in range(50)] == [401] * 50
        assert one.send("POST", "/api/v2/messages", b"[")[0] == 400  # it counts
        assert one.write() == 200
        check_refused(one.send("POST", "/api/v2/messages", b"["))
        check_refused(one.send("PUT", "/api/files", b"["))


def test_a_slow_rate_is_a_rate():
    with relay_with(agent_writes=0.05) as relay, agents(relay) as (one,):
        assert [one.write(), one.write()] == [200, 429]


@pytest.mark.parametrize("threads", [8])
def test_a_crowd_gets_exactly_the_burst(threads: int):
    """One agent on many connections is one agent."""
    with relay_with(agent_writes=0.5) as relay:
        key = relay.token("mac-crowd")
        statuses: list[int] = []

        def work() -> None:
            with closing(Wire(relay.url, **{KEY_HEADER: key})) as wire:
                statuses.extend(wire.write() for _ in range(5))

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        # Half a call more for every second this took.
        assert 5 <= statuses.count(200) < 40
        assert set(statuses) == {200, 429}


def test_clients_wait_as_told_and_go_on():
    with relay_with(agent_writes=5.0) as relay:
        with Client(relay.url, relay.token("mac-sync")) as client:
            for number in range(56):
                client.send_message("sync", f"{number}")
            kept = [message["content"] for message in client.read_messages("sync", limit=200)["messages"]]
        assert kept == [f"{number}" for number in range(56)]

        async def run() -> list[str]:
            async with AsyncClient(relay.url, relay.token("mac-async")) as client:
                await asyncio.gather(*(client.send_message("async", f"{number}") for number in range(54)))
                page = await client.read_messages("async", limit=200)
                return sorted(message["content"] for message in page["messages"])

        assert asyncio.run(run()) == sorted(f"{number}" for number in range(54))


def test_a_client_that_does_not_retry_is_told_how_long():
    with (
        relay_with(agent_writes=0.1) as relay,
        Client(relay.url, relay.token("mac-once"), retries=0) as client,
    ):
        client.send_message("general", "x")
        with pytest.raises(RateLimited) as caught:
            client.send_message("general", "y")
        assert caught.value.retry_after is not None and 1 <= caught.value.retry_after <= 10


# Addresses

REGISTER, REGISTER_MACHINE = "/api/v2/register", "/api/v2/admin/register-machine"


def junk_from(wire: Wire, count: int, **headers: str) -> list[int]:
    found = []
    for _ in range(count):
        told = wire.send("POST", REGISTER, b"{}", **headers)
        found.append(told[0])
        if told[0] == 429:
            check_refused(told)
    return found


FORWARDED = ["X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP", "Forwarded", "True-Client-IP", "X-Client-IP"]


@pytest.mark.parametrize("name", FORWARDED)
def test_a_strangers_word_about_his_address_is_not_believed(name: str):
    with relay_with() as relay, closing(Wire(relay.url)) as wire:
        statuses = [junk_from(wire, 1, **{name: f"10.0.0.{number}"})[0] for number in range(30)]
        assert statuses[0] == 400 and statuses[-1] == 429
        assert junk_from(wire, 1) == [429]


def test_a_configured_proxy_is_believed():
    with relay_with(trusted_proxies=("127.0.0.1",)) as relay, closing(Wire(relay.url)) as wire:
        assert junk_from(wire, 30, **{"X-Forwarded-For": "10.0.0.1"})[-1] == 429
        assert junk_from(wire, 1, **{"X-Forwarded-For": "10.0.0.2"}) == [400]
        # What comes before the proxy's own word was said by the stranger.
        for lie in ("10.0.0.9, 10.0.0.1", "10.0.0.8 ,10.0.0.1", "junk, 10.0.0.1", "127.0.0.1, 10.0.0.1", ",10.0.0.1"):
            assert junk_from(wire, 1, **{"X-Forwarded-For": lie}) == [429], lie
        assert junk_from(wire, 1, **{"X-Forwarded-For": "10.0.0.3, 127.0.0.1"}) == [400]
        assert junk_from(wire, 1, **{"X-Forwarded-For": "2001:db8::1"}) == [400]
        assert junk_from(wire, 30, **{"X-Forwarded-For": "2001:0DB8:0:0::1"})[-1] == 429  # another spelling of it
        assert junk_from(wire, 1, **{"X-Forwarded-For": "2001:db8::1"}) == [429]


def test_another_proxy_than_the_configured_one_is_not_believed():
    with relay_with(trusted_proxies=("192.0.2.7",)) as relay, closing(Wire(relay.url)) as wire:
        statuses = [junk_from(wire, 1, **{"X-Forwarded-For": f"10.0.0.{number}"})[0] for number in range(30)]
        assert statuses[-1] == 429


def registration(key: Ed25519PrivateKey, machine: str, agent: str) -> dict[str, str]:
    stamp = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    hashed = sha256(secrets.token_hex(32).encode()).hexdigest()
    fields = (machine, agent, hashed, stamp, secrets.token_hex(16))
    names = ("machine_name", "agent_name", "derived_key_hash", "timestamp", "nonce")
    return {**dict(zip(names, fields, strict=True)), "signature": b64encode(key.sign(signed_bytes(*fields))).decode()}


@contextmanager
def relay_with_machine(**limits: Any) -> Iterator[tuple[Embedded, Wire, Ed25519PrivateKey]]:
    key = Ed25519PrivateKey.generate()
    with relay_with(**limits) as relay, closing(Wire(relay.url)) as wire:
        machine = {"machine_name": "honest", "public_key": key.public_key().public_bytes_raw().hex()}
        assert (
            wire.send("POST", REGISTER_MACHINE, {**machine, "admin_secret": relay.directory.admin_secret()})[0] == 200
        )
        yield relay, wire, key


def test_junk_does_not_lock_an_honest_machine_out():
    """Not from the same address, and not in the machine's name."""
    with relay_with_machine(trusted_proxies=("127.0.0.1",)) as (_, wire, key):
        forger = Ed25519PrivateKey.generate()
        for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
            for _ in range(20):
                told = wire.send(
                    "POST", REGISTER, registration(forger, "honest", "honest-a"), **{"X-Forwarded-For": address}
                )
                assert told[0] in (403, 429)
        for address in ("10.0.0.1", "10.0.0.4"):
            told = wire.send("POST", REGISTER, registration(key, "honest", "honest-a"), **{"X-Forwarded-For": address})
            assert told[0] == 200, told


def test_a_machine_registers_five_times_a_minute():
    with relay_with_machine() as (_, wire, key):
        told = [wire.send("POST", REGISTER, registration(key, "honest", f"honest-{number}")) for number in range(7)]
        assert [status for status, _, _ in told] == [200] * 5 + [429] * 2
        check_refused(told[-1])
        assert 1 <= int(told[-1][1] or 0) <= 60


def test_the_agent_cap_is_another_429():
    with relay_with_machine(most_agents=2) as (_, wire, key):
        told = [wire.send("POST", REGISTER, registration(key, "honest", f"honest-{number}")) for number in range(3)]
        assert [status for status, _, _ in told] == [200, 200, 429]
        assert told[-1][2]["code"] == "agent_limit" and told[-1][1]
        assert wire.send("POST", REGISTER, registration(key, "honest", "honest-0"))[0] == 200


def test_guessing_the_admin_credential_is_slow_and_locks_no_other_address_out():
    with relay_with(trusted_proxies=("127.0.0.1",)) as relay, closing(Wire(relay.url)) as wire:
        guessing = {"X-Forwarded-For": "10.0.0.1"}
        guesses = [
            wire.send("GET", "/api/v2/admin/agents", **guessing, Authorization=f"Bearer {secrets.token_hex(32)}")
            for _ in range(30)
        ]
        assert guesses[0][0] == 401
        check_refused(guesses[-1])
        check_refused(wire.send("POST", REGISTER_MACHINE, machine_with("wrong"), **guessing))
        right = f"Bearer {relay.directory.admin_secret()}"
        assert (
            wire.send("GET", "/api/v2/admin/agents", **{"X-Forwarded-For": "10.0.0.2"}, Authorization=right)[0] == 200
        )


def machine_with(secret: str) -> dict[str, str]:
    return {"machine_name": "x", "public_key": "0" * 64, "admin_secret": secret}
