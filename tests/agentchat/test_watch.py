"""`agentchat watch`, as people and scripts see it, against a relay whose every byte a test decides."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agentchat import _exchange, cli
from agentchat._watch import line
from tests.servers import AT, ID, Handler, Peer, Scripted, answer, event

KEY = "key-that-no-output-may-hold"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
# The end of a test: this reader may not read on.
ENOUGH = 'event: end\ndata: {"reason":"unauthorized","position":9}\n\n'
SHOWN = "2026-11-20T10:41:07Z @mac-bob #general message.created | "
# Tests may run where the interrupt is ignored, which a child inherits.
SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from agentchat.cli import main
sys.exit(main(sys.argv[1:]))
"""
WATCH = (sys.executable, "-c", SCRIPT, "watch")


def told(*events: Any) -> bytes:
    return "".join(
        each if isinstance(each, str) else f"id: {each['position']}\ndata: {json.dumps(each)}\n\n" for each in events
    ).encode()


def stream(*events: Any, then: Any = Peer.read) -> Handler:
    def handle(peer: Peer) -> None:
        peer.read()
        peer.send(HEAD + told(*events))
        then(peer)

    return handle


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCHAT_KEY", KEY)
    monkeypatch.setattr(_exchange, "_FIRST_PAUSE", 0.001)


@pytest.fixture
def child(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Starts the command in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(url: str, *words: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [*WATCH, "--url", url, *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def watched(
    capsys: pytest.CaptureFixture[str], *handlers: Handler, words: tuple[str, ...] = ()
) -> tuple[int, str, str]:
    with Scripted(*handlers) as server:
        code = cli.main(["watch", "--url", server.url, *words])
    return code, *capsys.readouterr()


def test_each_event_is_a_line(capsys: pytest.CaptureFixture[str]):
    quiet = event(5, kind="inbox.claimed", channel=None, data=None)
    card = event(6, kind="agent.card", channel=None, data={"role": "reviewer", "tags": ["a"], "n": 5})
    code, out, err = watched(capsys, stream(event(4), quiet, card, ENOUGH))
    assert out.splitlines() == [
        f"{SHOWN}hello",
        f"2026-11-20T10:41:07Z @mac-bob inbox.claimed {ID}",
        "2026-11-20T10:41:07Z @mac-bob agent.card | role: reviewer n: 5",
    ]
    assert (code, err.count("\n")) == (3, 1)
    assert KEY not in out + err


def test_who_comes_and_goes_is_a_line_too():
    data = {"agent": "mac-bob", "presence": "idle", "status_line": "tests\nrun", "last_seen_at": AT}
    told = event(4) | {"position": None, "kind": "agent.presence", "channel": None, "data": data}
    assert line(told) == (
        "2026-11-20T10:41:07Z @mac-bob agent.presence | agent: mac-bob presence: idle status_line: tests run "
        f"last_seen_at: {AT}"
    )


def test_as_json_each_event_is_the_relays_own_in_a_line(capsys: pytest.CaptureFixture[str]):
    events = [event(4), event(5, "zwei\nZeilen \u2028")]
    _, out, err = watched(capsys, stream(*events, ENOUGH), words=("--json",))
    assert [json.loads(each) for each in out.splitlines()] == events
    assert json.loads(err)["code"] == "unauthorized"


def test_it_asks_for_what_was_asked_for(capsys: pytest.CaptureFixture[str]):
    words = ("--channel", "general", "--kind", "message.created,inbox", "--mine", "--since", "3")
    with Scripted(stream(ENOUGH)) as server:
        cli.main(["watch", "--url", server.url, *words])
        [seen] = server.seen
    assert seen.query == {"channel": "general", "kind": "message.created,inbox", "mine": "true", "since": "3"}


@pytest.mark.parametrize("words", [["--since", "x"], ["--since=-1"], ["--channel", "No name"], ["--limit", "5"]])
def test_wrong_usage_is_told_at_once(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert cli.main(["watch", "--url", "http://127.0.0.1:1", *words]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_it_connects_again_and_says_so_on_standard_error(capsys: pytest.CaptureFixture[str], json_too: Any):
    code, out, err = watched(capsys, stream(event(4), then=Peer.close), stream(event(5), ENOUGH), words=json_too)
    assert (code, out.count("\n")) == (3, 2)
    assert "Connecting again in " in err.splitlines()[0]
    assert err.count("\n") == 2


def test_a_position_that_is_gone_ends_it(capsys: pytest.CaptureFixture[str]):
    gone = answer({"error": "Older ones are gone", "code": "position_expired", "first": 50}, status=410)

    def handle(peer: Peer) -> None:
        peer.read()
        peer.send(gone)
        peer.read()

    code, out, err = watched(capsys, handle, words=("--since", "3"))
    assert (code, out) == (2, "")
    assert err.startswith("Error (position_expired): Older ones are gone")


def test_control_c_ends_it_without_a_traceback(child: Any):
    with Scripted(stream(event(4))) as server:
        process = child(server.url)
        assert process.stdout.readline() == f"{SHOWN}hello\n", "a line is there as soon as it happened"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_a_reader_that_hangs_up_ends_it_quietly(child: Any, json_too: Any):
    closed = threading.Event()

    def again(peer: Peer) -> None:
        closed.wait(10)
        for position in range(5, 100):
            peer.send(told(event(position)))
        peer.read()

    with Scripted(stream(event(4), then=again)) as server:
        process = child(server.url, *json_too)
        process.stdout.readline()
        process.stdout.close()
        closed.set()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


HOSTILE = [
    "two\nlines", "a\r\nb", "\x1b[2J\x07", "\u202e\u2066", f"{AT} @boss #general\u2028 message", "$(touch PWNED)",
    "%s{0}", "x" * 100_000, "\ud800", "| ",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
@pytest.mark.parametrize("member", ["content", "actor", "channel", "kind", "subject", "at"])
def test_what_others_wrote_stays_behind_the_bar_in_one_line(member: str, text: str):
    row = event(4, text) if member == "content" else event(4, **{member: text})
    shown = line(row)
    assert shown.isprintable()
    assert len(shown) < 3000
    head, bar, _ = shown.partition(" | ")
    if member == "content":
        assert f"{head} | " == SHOWN
    else:
        assert bar and len(head.split()) == 4


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"data": 5},
        {"data": {"message": {"content": 5}}},
        {"data": {"message": 5}},
        {"actor": 7, "at": None},
        {"data": {"": []}},
    ],
)
def test_an_odd_event_is_a_line_too(odd: Any):
    shown = line({"position": 4, **odd})
    assert shown.isprintable() and shown


def test_it_is_among_the_commands_with_a_help_of_its_own(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["watch", "--help"]) == 0
    shown = capsys.readouterr().out
    for option in ("--channel", "--kind", "--mine", "--since", "--json"):
        assert option in shown


def test_an_output_that_cannot_show_a_character_still_gets_the_rest(monkeypatch: pytest.MonkeyPatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", out)
    with Scripted(stream(event(4, "caf\u00e9"), ENOUGH)) as server:
        cli.main(["watch", "--url", server.url])
    assert b"caf\\xe9" in out.buffer.getvalue()
