"""The campaign passes, and would not if a message were stored twice; its relay and its checker do what they say."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentchat import Client
from agentchat._exchange import Request, Response
from agentchat.client import ClientOptions
from agentchat.errors import Conflict
from tests.faults import campaign
from tests.faults.checker import Row, Sent, violations
from tests.faults.faulty_relay import FAULTS, FaultyRelay
from tests.servers import FakeRelay

ROOT = Path(__file__).resolve().parents[2]

Sender = Callable[[str, list[str], ClientOptions], list[Sent]]

# What a client may call an answer of a relay that cannot be trusted: not repeated, since waiting mends nothing.
UNREADABLE = {"garbage", "wrong content-length"}


def test_two_rounds_pass() -> None:
    command = [sys.executable, "-m", "tests.faults.campaign", "--rounds", "2", "--seed", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    assert (summary["rounds"], summary["failed rounds"], summary["killed processes"]) == (2, [], 2)
    assert 0 < summary["acknowledged"] < summary["sends"]
    assert summary["retried requests"] > 0
    assert len(summary["faults"]) > len(FAULTS) / 2


@pytest.mark.parametrize("broken", ["dedupe", "key"])
def test_a_broken_relay_or_client_fails_the_campaign_and_names_the_round(
    broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without deduplication, or with a new key for each attempt, retries store messages twice."""
    assert campaign.main(["--seed", "1", "--round", "1", "--broken", broken]) == 1
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("round 1 failed: ")
    assert " times" in line
    assert line.endswith("again: --seed 1 --round 1")
    table = dict(row.rsplit(maxsplit=1) for row in printed.out.splitlines())
    assert (table["rounds"], table["failed rounds"]) == ("1", "1")
    assert {"sends", "acknowledged", "retried requests", "faults"} <= table.keys()


def test_a_round_in_which_the_relay_itself_fails_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaultyRelay, "store", lambda *_: 1 / 0)
    found = campaign.run_round(1, 2).violations
    assert "the relay itself failed: ZeroDivisionError('division by zero')" in found
    assert "nothing was acknowledged, or nothing went wrong: the round proves nothing" in found


# The checker

A, B = "00000000-0000-7000-8000-00000000000a", "00000000-0000-7000-8000-00000000000b"


def test_the_checker_accepts_what_was_promised() -> None:
    """Acknowledged once, even by two processes; without an acknowledgement stored once or not at all."""
    history = [Sent("a", A), Sent("a", A), Sent("b", error="TimedOut timed_out"), Sent("c", error="Unavailable x")]
    assert violations(["a", "b", "c"], history, [Row(A, "a"), Row(B, "b")]) == []


@pytest.mark.parametrize(
    ("history", "stored", "complaints"),
    [
        ([Sent("a", A)], [], [f"a: acknowledged as {A}, stored as nothing"]),
        ([Sent("a", A)], [Row(B, "a")], [f"a: acknowledged as {A}, stored as {B}"]),
        (
            [Sent("a", A)],
            [Row(A, "a"), Row(B, "a")],
            ["a: stored 2 times", f"a: acknowledged as {A}, stored as {A} and {B}"],
        ),
        ([Sent("a", error="TimedOut")], [Row(A, "a"), Row(B, "a")], ["a: stored 2 times"]),
        ([Sent("a", A), Sent("a", B)], [Row(A, "a")], [f"a: acknowledged as {B}, stored as {A}"]),
        ([Sent("a", A)], [Row(A, "a"), Row(B, "x")], ["x: stored, but nobody sent it"]),
        ([Sent("a", A)], [Row(A, "a"), Row(A, "x")], ["x: stored, but nobody sent it", f"{A}: given to 2 messages"]),
        ([], [Row(A, "a")], ["a: no sender told its outcome"]),
        ([Sent("a", error="OSError()", ours=False)], [], ["a: OSError() is no AgentChatError"]),
        ([Sent("a", error="Conflict idempotency_mismatch")], [], ["a: its key came with two bodies"]),
    ],
)
def test_the_checker_complains_of(history: list[Sent], stored: list[Row], complaints: list[str]) -> None:
    assert violations(["a"], history, stored) == complaints


# The relay


def test_the_relay_stores_a_key_once_and_gives_the_same_answer_again() -> None:
    with FaultyRelay("seed", faulty=False) as relay, Client(relay.url, campaign.KEY) as client:
        keyed = client.with_options(idempotency_key="k")
        assert keyed.send_message("general", "one") == keyed.send_message("general", "one")
        with pytest.raises(Conflict) as refused:
            keyed.send_message("general", "two")
        client.send_message("general", "one")
    assert refused.value.code == "idempotency_mismatch"
    assert [row.content for row in relay.rows] == ["one", "one"]
    assert len({row.id for row in relay.rows}) == 2


def test_the_relay_stores_no_request_that_arrived_in_part() -> None:
    with FaultyRelay("seed", faulty=False) as relay, socket.create_connection(relay.address) as client:
        client.sendall(b'POST /api/v2/messages HTTP/1.1\r\ncontent-length: 18\r\n\r\n{"content": "a"}')
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert (relay.rows, relay.bugs) == ([], [])


class _OneFault(FaultyRelay):
    """Goes wrong in one way at each message's first attempt, and then no more."""

    def __init__(self, name: str) -> None:
        super().__init__("seed", faulty=False)
        self.name = name

    def fault(self, attempt: int, luck: random.Random) -> str | None:
        return self.name if attempt == 1 else None


def _sync(url: str, contents: list[str], options: ClientOptions) -> list[Sent]:
    with Client(url, campaign.KEY, **options) as client:
        return [campaign.send(client, content) for content in contents]


def _async(url: str, contents: list[str], options: ClientOptions) -> list[Sent]:
    history: list[Sent] = []
    asyncio.run(campaign.send_all(url, [[content] for content in contents], history.append, **options))
    return history


@pytest.mark.parametrize("sender", [_sync, _async])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_message_survives_a_single_fault_of_any_kind(fault: str, sender: Sender) -> None:
    contents = [f"message {number}" for number in range(4)]
    slow = fault == "slower than the time-out"
    with _OneFault(fault) as relay:
        history = sender(relay.url, contents, {"timeout": 0.3 if slow else 10, "retries": 5})
    assert relay.bugs == []
    assert relay.faults == {fault: len(contents)}
    assert violations(contents, history, relay.rows) == []
    if fault not in UNREADABLE:
        assert all(sent.id for sent in history)
    if fault not in UNREADABLE and not slow:
        assert {*relay.attempts.values()} == {1 if fault == "closed after the answer" else 2}


def test_a_raw_error_of_a_library_is_told_from_ours(relay: FakeRelay) -> None:
    class Raw:
        def send(self, request: Request) -> Response:
            raise OSError("raw")

        def close(self) -> None: ...

    with Client(relay.url, campaign.KEY, transport=Raw()) as client:
        assert campaign.send(client, "a") == Sent("a", error="OSError('raw')", ours=False)
        assert campaign.send(client, "") == Sent("", error="InvalidArguments bad_request")


def test_the_same_seed_brings_the_same_faults() -> None:
    seen = []
    for seed in ("1", "1", "2"):
        outcomes: list[Sent] = []
        with FaultyRelay(seed) as relay:
            for number in range(12):
                outcomes += _sync(relay.url, [f"message {number}"], {"timeout": 1, "retries": 0})
        seen.append((relay.faults, outcomes, relay.rows))
    assert seen[0] == seen[1] != seen[2]
