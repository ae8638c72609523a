"""The thread that posts: what it merges, drops, repeats and leaves behind, over real relays and real processes."""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat import Client
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration, retention
from agentchat_relay.store.seam import Writing
from langchain_agentchat import poster as poster_module
from langchain_agentchat.poster import Poster
from langchain_agentchat.runs import Status, Story
from tests.conftest import KEY
from tests.langchain_agentchat import scripted
from tests.langchain_agentchat.conftest import fresh, until
from tests.langchain_agentchat.scripted import MESSAGES, PATIENCE, SECRET, Board, Gate, secret
from tests.servers import FakeRelay, Scripted, answer, enveloped, message, refusing

board, gate, hanging = scripted.board, scripted.gate, scripted.hanging  # fixtures


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between attempts; how long they are is no behaviour these tests look at."""
    monkeypatch.setattr(poster_module, "_FIRST_PAUSE", 0.02)


def told(story: Story | str, state: Any = "done", note: str | None = None) -> Status:
    story = Story(story) if isinstance(story, str) else story
    return Status(story, state, f"{story.name}: {state}", {"name": story.name, "state": state}, note)


def contents(board: Board) -> list[str]:
    return [post["content"] for post in board.posts()]


@contextmanager
def held(poster: Poster, gate: Gate) -> Iterator[None]:
    """The poster's thread is busy with a first post; what is put meanwhile waits in the queue."""
    gate.opened.clear()
    sent = len(gate.keys())
    poster.put(told("plug"))
    until(lambda: len(gate.keys()) > sent)
    yield
    gate.opened.set()
    assert poster.flush(PATIENCE)


# Posting


def test_a_story_is_a_first_post_and_its_replies(board: Board):
    poster = board.poster()
    one, other = Story("one"), Story("other")
    for story, state in ((one, "started"), (other, "started"), (one, "waiting"), (other, "done"), (one, "done")):
        poster.put(told(story, state))
        board.flush()
    assert board.stories() == [["one: started", "one: waiting", "one: done"], ["other: started", "other: done"]]
    assert poster.stats == (5, 0, 0, 0)
    assert [post["metadata"]["agentchat_status"]["state"] for post in board.posts()][-1] == "done"


def test_statuses_count_as_unread_for_nobody_and_mention_nobody(board: Board, live: Embedded):
    bob, poster = fresh("bob"), board.poster()
    poster.put(told("first"))
    board.flush()
    with Client(live.url, live.token(bob), retries=0) as client:
        client.read_messages(board.channel)  # joins
        poster.put(told(f"@{bob}", note=f"@{bob} @all look"))
        board.flush()
        assert client.check_mentions()["mentions"] == []
        (channel,) = [row for row in client.check_board()["channels"] if row["channel"] == board.channel]
        assert channel["unread"] == 0
    assert contents(board)[1] == f"@{bob}: done\n@{bob} @all look"


@pytest.mark.parametrize("states", [("started", "waiting"), ("started", "done"), ("resumed", "failed")])
def test_an_unsent_status_gives_way_to_the_next_of_its_story(board: Board, gate: Gate, states: tuple[str, str]):
    poster = board.poster(url=gate.url)
    story = Story("run")
    with held(poster, gate):
        poster.put(told(story, states[0]))
        poster.put(told("other"))
        poster.put(told(story, states[1]))
        assert poster.stats == (0, 1, 0, 3)
    assert contents(board) == ["plug: done", f"run: {states[1]}", "other: done"]
    assert poster.stats == (3, 1, 0, 0)


@pytest.mark.parametrize("states", [("waiting", "resumed"), ("waiting", "done"), ("failed", "resumed")])
def test_a_state_where_a_run_rests_gives_way_to_nothing(board: Board, gate: Gate, states: tuple[str, str]):
    poster = board.poster(url=gate.url)
    story = Story("run")
    with held(poster, gate):
        for state in states:
            poster.put(told(story, state))
    assert contents(board) == ["plug: done", *(f"run: {state}" for state in states)]


def test_a_status_that_is_being_sent_is_not_replaced(board: Board, gate: Gate):
    poster = board.poster(url=gate.url)
    story = Story("run")
    gate.opened.clear()
    poster.put(told(story, "started"))
    until(gate.keys)
    poster.put(told(story, "done"))
    gate.opened.set()
    assert board.stories() == [["run: started", "run: done"]]


def test_merged_statuses_keep_what_was_said(board: Board, gate: Gate):
    poster = board.poster(url=gate.url)
    story = Story("run")
    with held(poster, gate):
        poster.put(told(story, "started", "inputs: a"))
        poster.put(told(story, "done", "outputs: b"))
    assert contents(board)[1] == "run: done\ninputs: a\noutputs: b"


def test_puts_from_many_threads_all_arrive(board: Board):
    poster = board.poster()

    def work(worker: int) -> None:
        for n in range(10):
            story = Story(f"run-{worker}-{n}")
            poster.put(told(story, "started"))
            poster.put(told(story, "done"))

    workers = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    stories = board.stories()
    assert {story[-1] for story in stories} == {f"run-{worker}-{n}: done" for worker in range(8) for n in range(10)}
    assert len(stories) == 80
    posted, merged, dropped, pending = poster.stats
    assert (posted + merged, dropped, pending) == (160, 0, 0)


# Bounds


def test_over_the_limit_the_oldest_beginnings_are_dropped_and_counted(board: Board, gate: Gate):
    poster = board.poster(url=gate.url, max_pending=3)
    with held(poster, gate):
        for n in range(5):
            poster.put(told(f"run-{n}", "started"))
        assert poster.stats == (0, 0, 2, 4)
    assert contents(board) == [
        "plug: done",
        "run-2: started\n(2 earlier status posts dropped)",
        "run-3: started",
        "run-4: started",
    ]


def test_ends_are_folded_into_counts_and_never_dropped(board: Board, gate: Gate):
    poster = board.poster(url=gate.url, max_pending=2)
    with held(poster, gate):
        for name in ("a", "a", "b", "c"):
            poster.put(told(name))
        poster.put(told("d", "failed"))
        assert poster.stats == (0, 3, 0, 3)
    assert contents(board) == [
        "plug: done",
        "c: done\n(before this, not posted one by one: a done x2, b done x1)",
        "d: failed",
    ]


def test_a_beginning_goes_before_an_older_end(board: Board, gate: Gate):
    poster = board.poster(url=gate.url, max_pending=2)
    with held(poster, gate):
        for name, state in (("a", "done"), ("b", "started"), ("c", "done")):
            poster.put(told(name, state))
    assert contents(board) == ["plug: done", "a: done\n(1 earlier status post dropped)", "c: done"]


def test_counts_of_ever_new_names_stay_bounded(board: Board, gate: Gate):
    poster = board.poster(url=gate.url, max_pending=1)
    with held(poster, gate):
        for n in range(201):
            poster.put(told(f"run-{n}"))
    last = contents(board)[-1]
    assert last.startswith("run-200: done\n")
    counts = [int(count) for count in re.findall(r" x(\d+)", last)]
    assert sum(counts) == 200
    assert "other runs x180" in last
    assert len(counts) == 21


def test_nothing_is_lost_uncounted_whatever_is_put(live: Embedded, gate: Gate):
    states = st.sampled_from(["started", "waiting", "resumed", "done", "failed"])

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 3), states), max_size=25), st.integers(1, 4))
    def holds(puts: list[tuple[int, str]], limit: int) -> None:
        board = Board(live)
        poster = board.poster(url=gate.url, max_pending=limit)
        stories = [Story(f"run-{n}") for n in range(4)]
        with held(poster, gate):
            for n, state in puts:
                poster.put(told(stories[n], state))
                assert poster.stats.pending <= limit + 1  # and the one in flight
        posts = contents(board)
        posted, merged, dropped, pending = poster.stats
        assert (posted, pending) == (len(posts), 0)
        assert posted + merged + dropped == len(puts) + 1
        text = "\n".join(posts)
        assert sum(int(count) for count in re.findall(r"\((\d+) earlier", text)) == dropped
        arrived = Counter(post.splitlines()[0].replace(":", "") for post in posts)
        for folded, count in re.findall(r"(run-\d \w+) x(\d+)", text):
            arrived[folded] += int(count)
        ends = Counter(f"run-{n} {state}" for n, state in puts if state not in ("started", "resumed"))
        assert {name: arrived[name] for name in ends} == ends
        board.close()

    holds()


# Repeating


def test_a_lost_answer_is_repeated_with_the_same_key_and_takes_effect_once(board: Board, gate: Gate):
    poster = board.poster(url=gate.url)
    story = Story("run")
    gate.losses = 3
    poster.put(told(story, "waiting"))
    poster.put(told(story, "done"))
    assert board.stories() == [["run: waiting", "run: done"]]
    keys = gate.keys()
    assert len(keys) == 5
    assert len(set(keys[:4])) == 1
    assert keys[4] != keys[0]
    assert poster.stats == (2, 0, 0, 0)


def test_what_happens_between_two_attempts_does_not_change_the_post(board: Board, gate: Gate):
    """The relay holds the first attempt already: another text under its key would be refused."""
    poster = board.poster(url=gate.url, max_pending=2)
    story = Story("run")
    gate.losses = 1
    gate.opened.clear()
    poster.put(told(story, "waiting"))
    until(gate.keys)
    for n in range(4):
        poster.put(told(f"other-{n}", "started"))
    gate.opened.set()
    board.flush()
    poster.put(told(story, "done"))
    assert board.stories() == [
        ["run: waiting", "run: done"],
        ["other-2: started\n(2 earlier status posts dropped)"],
        ["other-3: started"],
    ]
    assert poster.stats == (4, 0, 2, 0)


def test_a_redaction_that_changes_its_mind_does_not_change_the_post(board: Board, gate: Gate):
    versions = iter("abc")
    poster = board.poster(url=gate.url, redact=lambda text: text + next(versions))
    gate.losses = 1
    poster.put(told("run", note="outputs: "))
    assert contents(board) == ["run: done\noutputs: a"]
    assert poster.stats == (1, 0, 0, 0)


def test_a_status_that_was_tried_is_not_replaced(board: Board, gate: Gate, monkeypatch: pytest.MonkeyPatch):
    """Its first attempt may be on the relay."""
    monkeypatch.setattr(poster_module, "_FIRST_PAUSE", 60.0)
    poster = board.poster(url=gate.url, drain_seconds=PATIENCE)
    story = Story("run")
    gate.losses = 1
    poster.put(told(story, "started"))
    until(lambda: poster._queue and gate.losses == 0)  # back in the queue, until the second attempt
    poster.put(told(story, "done"))
    poster.close()  # which does not wait for a minute
    assert board.stories() == [["run: started", "run: done"]]


def test_a_relay_that_comes_back_gets_everything(board: Board, relay: FakeRelay):
    """FakeRelay first says 503, then serves."""
    client = Client(relay.url, KEY, retries=0)
    poster = Poster(client, "status", redact=None, max_pending=10, drain_seconds=2.0)
    down = threading.Event()
    relay.override["POST", MESSAGES] = lambda seen: (
        answer(enveloped({"message": message(), "unmatched_mentions": []}))
        if down.is_set()
        else answer({"error": "starting", "code": "unavailable"}, status=503)
    )
    poster.put(told("one"))
    poster.put(told("two"))
    until(lambda: len(relay.calls(MESSAGES)) >= 2)
    assert poster.stats == (0, 0, 0, 2)
    down.set()
    assert poster.flush(PATIENCE)
    assert [call.json()["content"] for call in relay.calls(MESSAGES)][-1] == "two: done"
    assert poster.stats == (2, 0, 0, 0)
    poster.close()
    client.close()


# Refusals


def test_a_refused_post_is_counted_logged_and_told_with_the_next(
    board: Board, relay: FakeRelay, caplog: pytest.LogCaptureFixture
):
    client = Client(relay.url, KEY, retries=0)
    poster = Poster(client, "status", redact=None, max_pending=10, drain_seconds=2.0)
    relay.override["POST", MESSAGES] = answer({"error": "No", "code": "forbidden"}, status=403)
    for name in ("one", "two"):
        poster.put(told(name, note=secret("note")))
        assert poster.flush(PATIENCE)
    assert poster.stats == (0, 0, 2, 0)
    del relay.override["POST", MESSAGES]
    poster.put(told("three"))
    assert poster.flush(PATIENCE)
    sent = [call.json() for call in relay.calls(MESSAGES)]
    assert len({call.headers["idempotency-key"] for call in relay.calls(MESSAGES)}) == 3, "nothing is repeated"
    assert sent[-1]["content"] == "three: done\n(2 earlier status posts dropped)"
    assert poster.stats == (1, 0, 2, 0)
    assert [record.name for record in caplog.records] == ["agentchat.status"] * 2
    assert "#status" in caplog.text
    assert SECRET not in caplog.text
    poster.close()
    client.close()


def test_a_story_whose_first_post_was_refused_begins_with_its_next(board: Board, relay: FakeRelay):
    client = Client(relay.url, KEY, retries=0)
    poster = Poster(client, "status", redact=None, max_pending=10, drain_seconds=2.0)
    relay.override["POST", MESSAGES] = answer({"error": "No", "code": "forbidden"}, status=403)
    story = Story("run")
    poster.put(told(story, "waiting"))
    assert poster.flush(PATIENCE)
    del relay.override["POST", MESSAGES]
    for state in ("waiting", "done"):
        poster.put(told(story, state))
    assert poster.flush(PATIENCE)
    parents = [call.json().get("parent_message_id") for call in relay.calls(MESSAGES)]
    assert parents[:2] == [None, None]
    assert parents[2] is not None
    poster.close()
    client.close()


def test_a_story_whose_posts_have_expired_opens_another_thread(board: Board, live: Embedded):
    poster, story = board.poster(), Story("run")
    poster.put(told(story, "waiting"))
    board.flush()
    live.ask(lambda tx: administration.channel_update(tx, name=board.channel, retention=1))

    def purge(tx: Writing) -> int:
        at = tx.now + 2 * retention.DAY
        return sum(retention.purge(tx, channel_id, at) for channel_id in retention.due(tx, at))

    live.ask(purge)
    live.ask(retention.finish)
    assert contents(board) == []
    for state in ("waiting", "done"):
        poster.put(told(story, state))
    assert board.story() == ["run: waiting", "run: done"]
    assert poster.stats == (3, 0, 0, 0)


class Failing:
    """A client of somebody else, whose first send raises."""

    def __init__(self, client: Any, error: BaseException) -> None:
        self._client = client
        self._error: BaseException | None = error

    def send_message(self, *args: Any, **options: Any) -> Any:
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._client.send_message(*args, **options)


@pytest.mark.parametrize(
    "error",
    [ValueError(secret("text")), TypeError(), RecursionError(), OSError(secret("path")), asyncio.CancelledError()],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_send_raises_costs_one_post_only(
    board: Board, caplog: pytest.LogCaptureFixture, error: BaseException
):
    poster = board.poster(Failing(board.client(), error))
    for name in ("one", "two"):
        poster.put(told(name))
        board.flush()
    assert contents(board) == ["two: done\n(1 earlier status post dropped)"]
    assert poster.stats == (1, 0, 1, 0)
    assert SECRET not in caplog.text
    assert type(error).__name__ in caplog.text


@pytest.mark.parametrize("answered", [None, {}, {"message": {}}, {"message": None}])
def test_an_odd_answer_costs_no_later_post(board: Board, answered: Any):
    client = board.client()

    class Odd:
        calls = 0

        def send_message(self, *args: Any, **options: Any) -> Any:
            self.calls += 1
            return answered if self.calls == 1 else client.send_message(*args, **options)

    poster = board.poster(Odd())
    for name in ("one", "two"):
        poster.put(told(name))
    (post,) = contents(board)
    assert post.startswith("two: done")


# Content


def test_content_is_redacted_and_nothing_else(board: Board):
    poster = board.poster(redact=lambda text: text.upper())
    poster.put(told("run", note="outputs: b"))
    poster.put(told("other"))
    assert contents(board) == ["run: done\nOUTPUTS: B", "other: done"]


def test_content_is_left_out_if_redaction_fails(board: Board, caplog: pytest.LogCaptureFixture):
    def fail(text: str) -> str:
        raise ValueError(text)

    board.poster(redact=fail).put(told("run", note=secret("note")))
    (post,) = contents(board)
    assert post.startswith("run: done\n")
    assert "left out" in post
    assert SECRET not in post + caplog.text


def test_redaction_runs_on_the_thread_that_posts(board: Board):
    threads = []
    board.poster(redact=lambda text: threads.append(threading.current_thread()) or text).put(told("run", note="x"))
    board.flush()
    assert threading.main_thread() not in threads
    assert len(threads) == 1


def test_long_content_is_cut_after_redaction(board: Board):
    board.poster(redact=lambda text: text * 10_000).put(told("run", note="0123456789"))
    (post,) = contents(board)
    assert 1_000 < len(post) < 5_000


@pytest.mark.parametrize("odd", ["\ud800", "\x00", "\x1b[31m", "\u2028", "é" * 5000, "𝕏" * 5000], ids=ascii)
def test_odd_characters_cost_no_post(board: Board, odd: str):
    for poster in (board.poster(), board.poster(redact=lambda text: text + odd)):
        poster.put(told("run", note="outputs: " + odd))
    assert [post.splitlines()[0] for post in contents(board)] == ["run: done"] * 2


# Waiting, closing, threads


def test_a_relay_that_hangs_holds_up_nobody(hanging: Scripted, live: Embedded):
    board = Board(live)
    client = board.client(hanging.url, timeout=60)
    poster = Poster(client, "status", redact=None, max_pending=10, drain_seconds=0.1)
    began = time.monotonic()
    poster.put(told("plug"))
    until(lambda: hanging.seen)
    for n in range(100):
        poster.put(told(f"run-{n}"))
    assert not poster.flush(0.1)
    poster.close()
    assert poster.stats.pending == 11
    assert time.monotonic() - began < 30, "less than the client's own time-out"
    assert [seen.path for seen in hanging.seen] == [MESSAGES]


def test_close_sends_what_is_left(board: Board, gate: Gate):
    poster = board.poster(url=gate.url, drain_seconds=PATIENCE)
    gate.losses = 2
    for n in range(5):
        poster.put(told(f"run-{n}"))
    poster.close()
    assert poster.stats == (5, 0, 0, 0)
    assert contents(board) == [f"run-{n}: done" for n in range(5)]


def test_a_closed_poster_can_be_used_again(board: Board):
    poster = board.poster()
    poster.close()
    for name in ("one", "two"):
        poster.put(told(name))
        poster.close()
        poster.close()
    assert contents(board) == ["one: done", "two: done"]


def test_what_close_could_not_send_is_sent_by_a_later_flush(board: Board, gate: Gate):
    poster = board.poster(url=gate.url, drain_seconds=0.1)
    gate.losses = 1_000_000
    poster.put(told("run"))
    poster.close()
    assert poster.stats.pending == 1
    gate.losses = 0
    assert poster.flush(PATIENCE)
    assert contents(board) == ["run: done"]


def own_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    return [thread for thread in set(threading.enumerate()) - before if thread.name == "agentchat-status"]


def test_an_idle_thread_ends_and_starts_again(board: Board, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(poster_module, "_IDLE_SECONDS", 0.02)
    before = set(threading.enumerate())
    poster = board.poster()
    assert own_threads(before) == [], "there is none before there is something to do"
    for name in ("one", "two", "three"):
        poster.put(told(name))
        assert all(thread.daemon for thread in own_threads(before))
        board.flush()
        until(lambda: not own_threads(before))
    assert contents(board) == ["one: done", "two: done", "three: done"]


def test_many_posters_leave_no_threads(board: Board):
    before = set(threading.enumerate())
    posters = [board.poster(board.client()) for _ in range(30)]
    for n, poster in enumerate(posters):
        poster.put(told(f"run-{n}"))
    assert 0 < len(own_threads(before)) <= 30
    for poster in posters:
        poster.close()
    assert own_threads(before) == []
    assert len(contents(board)) == 30


def test_a_forgotten_poster_still_posts_and_is_freed(live: Embedded, gate: Gate, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(poster_module, "_IDLE_SECONDS", 0.02)
    board = Board(live)
    gate.opened.clear()
    poster = Poster(board.client(gate.url), board.channel, redact=None, max_pending=10, drain_seconds=2.0)
    poster.put(told("one"))
    poster.put(told("two"))
    until(gate.keys)
    left = weakref.ref(poster)
    del poster
    gc.collect()
    gate.opened.set()
    until(lambda: len(board.found()) == 2)
    until(lambda: gc.collect() is not None and left() is None)


# Processes

PRELUDE = """
import atexit, os, sys, time
ended = []
atexit.register(lambda: ended and print(time.monotonic() - ended[0]))  # the last to run
url, key, channel, drain = sys.argv[1:]
from agentchat import Client
from langchain_agentchat.poster import Poster
from langchain_agentchat.runs import Status, Story
client = Client(url, key, retries=0)
def new_poster():
    return Poster(client, channel, redact=None, max_pending=100, drain_seconds=float(drain))
def told(name):
    return Status(Story(name), "done", f"{name}: done", {"name": name, "state": "done"}, None)
poster = new_poster()
"""


def process(board: Board, script: str, *, url: str | None = None, drain: float = PATIENCE) -> subprocess.Popen[str]:
    arguments = [url or board.relay.url, board.key, board.channel, str(drain)]
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, *arguments],
        env=scripted.environ(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("ending", "code"),
    [("", 0), ("sys.exit(3)", 3), ("raise RuntimeError('x')", 1), ("raise KeyboardInterrupt", -2)],
    ids=["end", "exit", "exception", "interrupt"],
)
def test_what_was_queued_just_before_the_end_is_sent(board: Board, ending: str, code: int):
    child = process(board, f"poster.put(told('one')); poster.put(told('two'))\n{ending}")
    child.communicate(timeout=60)
    assert child.returncode == code
    assert contents(board) == ["one: done", "two: done"]


def test_a_poster_that_was_forgotten_is_drained_too(board: Board):
    child = process(board, "poster.put(told('one'))\ndel poster")
    child.communicate(timeout=60)
    assert contents(board) == ["one: done"]


def test_a_status_of_the_end_itself_is_sent(board: Board):
    """Handlers of `atexit` that were registered later run earlier."""
    child = process(board, "poster.put(told('one'))\nposter.flush()\natexit.register(poster.put, told('two'))")
    child.communicate(timeout=60)
    assert contents(board) == ["one: done", "two: done"]


def test_the_end_waits_for_a_short_outage(board: Board, gate: Gate):
    gate.losses = 2
    child = process(board, "poster.put(told('one'))", url=gate.url)
    child.communicate(timeout=60)
    assert contents(board) == ["one: done"]
    assert len(set(gate.keys())) == 1
    assert len(gate.keys()) == 3


@pytest.mark.parametrize("posters", [1, 60])
def test_a_relay_that_hangs_does_not_hold_up_the_end(board: Board, hanging: Scripted, posters: int):
    """All posters together have one budget. The clock runs from the script's last line to the end."""
    script = f"""
posters = [new_poster() for _ in range({posters})]
for each in posters:
    each.put(told("run"))
    each.put(told("other"))
ended.append(time.monotonic())
"""
    child = process(board, script, url=hanging.url, drain=1.0)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert float(out) < 4, "the budget is one second"


NO_THREADS = """
import threading
def refuse(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
poster.put(told("one"))
poster.put(told("two"))
ended.append(time.monotonic())
"""


def test_without_threads_the_end_sends_by_itself(board: Board):
    """At the interpreter's end, or over the system's limit, none can be started."""
    child = process(board, NO_THREADS)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert contents(board) == ["one: done", "two: done"]


def test_without_threads_a_relay_that_hangs_does_not_hold_up_the_end(board: Board, hanging: Scripted):
    child = process(board, NO_THREADS, url=hanging.url, drain=1.0)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert float(out) < 4, "the budget is one second"


FORK = """
poster.put(told("plug"))
sys.stdin.readline()  # when it is on its way
poster.put(told("parent"))
pid = os.fork()
if pid == 0:
    assert poster.stats.pending == 0
    poster.put(told("child"))
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
sys.stdin.readline()
poster.put(told("later"))
"""


def test_a_forked_child_starts_anew_and_the_parent_sends_what_waited_once(board: Board, gate: Gate):
    gate.holds = b"plug"
    gate.opened.clear()
    child = process(board, FORK, url=gate.url)
    assert child.stdin is not None
    assert child.stdout is not None
    until(gate.keys)
    child.stdin.write("go\n")
    child.stdin.flush()
    assert child.stdout.readline() == "7\n", "the child's exit code"
    assert "parent: done" not in contents(board)
    gate.opened.set()
    child.communicate("go\n", timeout=60)
    assert child.returncode == 0
    assert sorted(contents(board)) == ["child: done", "later: done", "parent: done", "plug: done"]
    assert len(gate.keys()) == 4


def test_a_relay_that_was_restarted_gets_what_waited(tmp_path: Any, unused: Callable[[], int]):
    port = unused()
    with running(str(tmp_path), port=port) as first:
        board = Board(first)
        poster = board.poster()
        poster.put(told("one"))
        board.flush()
    poster.put(told("two"))
    with running(str(tmp_path), port=port) as second:
        board.relay = second
        assert contents(board) == ["one: done", "two: done"]
        board.close()


@pytest.fixture
def unused() -> Callable[[], int]:
    def find() -> int:
        with refusing() as url:
            return int(url.rpartition(":")[2])

    return find
