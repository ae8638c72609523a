"""The store under groups of good and bad calls, in order, and what it finds; the same on every engine."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat.errors import Conflict, Unavailable
from agentchat_relay.service import repeats
from agentchat_relay.service.call import Call
from agentchat_relay.store.query import read_query
from agentchat_relay.store.seam import Lane, NeedsWrite, place_of
from agentchat_relay.wire import new_id
from tests.relay import database
from tests.relay.peek import DEADLINE, REFUSAL, Function, Peek, Told, failing, space, then, threads

numbers = count(1)


@pytest.fixture
def peek(tmp_path: Path) -> Iterator[Peek]:
    made = Peek(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peek]:
    made = Peek(tmp_path_factory.mktemp("store"))
    yield made
    made.close()


# Groups


TRANSACTIONS = "SELECT count(DISTINCT created_at) FROM events"  # each has a time of its own


def test_what_waits_together_is_committed_together(peek: Peek):
    ((before,),) = peek.on_disk(TRANSACTIONS)
    told = peek.together(*((Lane.APPEND, peek.post(f"{number}")) for number in range(100)))
    assert all(error is None for _, error in told)
    ((after,),) = peek.on_disk(TRANSACTIONS)
    assert after - before <= 2  # theirs, and perhaps the one that kept the writer busy
    assert peek.contents() == [f"{number}" for number in range(100)]
    peek.check_numbers()


CRASH = ValueError("unexpected")
STRANGE = [sqlite3.OperationalError("strange"), psycopg.DataError("strange")]


@pytest.mark.parametrize("error", [REFUSAL, CRASH, *STRANGE, RecursionError()], ids=repr)
@pytest.mark.parametrize("lane", [Lane.APPEND, Lane.WRITE])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_a_failing_call_leaves_nothing_and_disturbs_nobody(
    peek: Peek, error: Exception, lane: Lane, late: bool, alone: bool
):
    bad = then(peek.post("bad") if lane == Lane.APPEND else space("bad"), error) if late else failing(error)
    good = [(Lane.APPEND, peek.post(f"{number}")) for number in range(4)] + [(Lane.WRITE, space("good"))]
    if alone:
        with pytest.raises(type(error)):
            peek.ask(lane, bad)
        good_told = [(peek.ask(one, call), None) for one, call in good]
    else:
        told = peek.together(*good[:2], (lane, bad), *good[2:])
        assert told[2] == (None, error)
        good_told = told[:2] + told[3:]
    assert all(one[1] is None for one in good_told)
    assert peek.contents() == [f"{number}" for number in range(4)]
    assert peek.spaces() == {"main", "good"}
    assert peek.ask(Lane.APPEND, peek.post("after"))["message"]
    peek.check_numbers()


def test_a_broken_rule_of_the_database_is_its_callers_alone(peek: Peek):
    told = peek.together(
        (Lane.WRITE, space("one")),
        (Lane.WRITE, space("main")),
        (Lane.APPEND, peek.post("x")),
        (Lane.WRITE, space("two")),
    )
    assert [error is None for _, error in told] == [True, False, True, True]
    assert isinstance(told[1][1], database.BrokenRule)
    assert peek.spaces() == {"main", "one", "two"}
    assert peek.contents() == ["x"]


def test_a_rule_broken_only_at_the_commit_is_its_callers_alone(peek: Peek):
    """What is appended meets the database after the call has returned."""

    def bad(tx: Any) -> str:
        row = {"public_id": new_id(tx.now), "agent_id": None, "kind": "mention", "message_id": None, "created_at": 1}
        tx.later("insert_item", **row, urgent=0, expires_at=None, scope="", vanishing=0)
        return "looks good"

    good = [(Lane.APPEND, peek.post(f"{number}")) for number in range(4)]
    told = peek.together(*good[:2], (Lane.APPEND, bad), *good[2:])
    assert [error is None for _, error in told] == [True, True, False, True, True]
    assert peek.contents() == [f"{number}" for number in range(4)]
    peek.check_numbers()


def test_an_error_that_is_returned_keeps_what_was_written(peek: Peek):
    conflict = Conflict("no, but noted")

    def call(tx: Any) -> Conflict:
        space("noted")(tx)
        return conflict

    assert peek.together((Lane.APPEND, peek.post("x")), (Lane.WRITE, call))[1] == (conflict, None)
    assert peek.spaces() == {"main", "noted"}


KINDS = [
    "post",
    "late",
    "late crash",
    "early",
    "early crash",
    "space",
    "space late",
    "space crash",
    "twice",
    "returned",
]


@settings(max_examples=60, deadline=None)
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=30))
def test_any_group_ends_as_if_each_were_alone(shared: Peek, kinds: list[str]):
    group = f"group-{next(numbers)}"
    calls: list[tuple[Lane, Function]] = []
    kept, made, expected = shared.contents(), shared.spaces(), []
    for number, kind in enumerate(kinds):
        name = f"{group}-{number}"
        post = shared.post(name)
        error = None if kind in ("post", "space", "returned") else CRASH if "crash" in kind else REFUSAL
        call: dict[str, tuple[Lane, Function]] = {
            "post": (Lane.APPEND, post),
            "late": (Lane.APPEND, then(post, REFUSAL)),
            "late crash": (Lane.APPEND, then(post, CRASH)),
            "early": (Lane.APPEND, failing(REFUSAL)),
            "early crash": (Lane.APPEND, failing(CRASH)),
            "space": (Lane.WRITE, space(name)),
            "space late": (Lane.WRITE, then(space(name), REFUSAL)),
            "space crash": (Lane.WRITE, then(space(name), CRASH)),
            "twice": (Lane.WRITE, then(post, REFUSAL)),
            "returned": (Lane.WRITE, lambda tx, post=post: (post(tx), REFUSAL)[1]),
        }
        calls.append(call[kind])
        expected.append(error)
        kept += [name] if kind in ("post", "returned") else []
        made |= {name} if kind == "space" else set()
    told = shared.together(*calls)
    assert [error for _, error in told] == expected
    assert shared.contents() == kept
    assert shared.spaces() == made
    shared.check_numbers()


@pytest.mark.parametrize("lane", [Lane.WRITE, Lane.APPEND])
def test_of_an_agents_answers_the_newest_are_kept(peek: Peek, monkeypatch: pytest.MonkeyPatch, lane: Lane):
    monkeypatch.setattr(repeats, "_MOST_ANSWERS", 5)
    monkeypatch.setattr(repeats, "_NOW_AND_THEN", 1)
    told: list[int] = []

    def mark(tx: Any, call: Call) -> int:
        told.append(tx.steps)
        return len(told)

    def called(number: int) -> Function:
        call = Call(peek.agent, f"k{number}", b"the same")
        return lambda tx: repeats.once(mark)(tx, call)

    for turn in range(3):
        peek.together(*((lane, called(number)) for number in range(turn * 10, turn * 10 + 10)))
    kept = [row[0] for row in peek.on_disk("SELECT key FROM answers ORDER BY id")]
    assert kept[-5:] == [f"k{number}" for number in range(25, 30)]
    assert len(kept) <= 5 + 10, "a few more, of the last group"
    assert [result for result, _ in peek.together((lane, called(29)), (lane, called(0)), (lane, called(29)))] == [
        30,
        31,
        30,
    ]


def test_a_key_has_one_effect_also_within_a_group(peek: Peek):
    told = peek.together(*((Lane.APPEND, peek.post("once", key="k")) for _ in range(20)))
    assert len({bytes(result["message"]) for result, _ in told}) == 1
    assert peek.contents() == ["once"]
    told = peek.together((Lane.APPEND, peek.post("twice", key="k")), (Lane.APPEND, peek.post("other", key="j")))
    assert isinstance(told[0][1], Conflict) and told[1][1] is None
    assert peek.contents() == ["once", "other"]


# Order of things


def test_an_outcome_is_told_after_its_commit(peek: Peek):
    seen: list[bool] = []
    over = threading.Semaphore(0)

    def listener(name: str) -> Callable[[Any, BaseException | None], None]:
        def done(result: Any, error: BaseException | None) -> None:
            seen.append(name in peek.contents() or name in peek.spaces())
            over.release()

        return done

    for number in range(50):
        lane, call = (Lane.APPEND, peek.post(f"n{number}")) if number % 2 else (Lane.WRITE, space(f"n{number}"))
        peek.store.submit(lane, call, listener(f"n{number}"))
    for _ in range(50):
        assert over.acquire(timeout=DEADLINE)
    assert seen == [True] * 50


def test_a_read_sees_what_was_acknowledged_before(peek: Peek):
    for number in range(100):
        peek.ask(Lane.WRITE, space(f"s{number}"))
        names = [row["name"] for row in peek.ask(Lane.READ, lambda tx: tx.all("list_spaces"))]
        assert f"s{number}" in names


def test_a_search_sees_what_was_acknowledged_before(peek: Peek):
    for number in range(50):
        peek.ask(Lane.APPEND, peek.post(f"needle{number} in the hay"))
        assert found(peek, f"needle{number}") == [f"needle{number} in the hay"]


def found(peek: Peek, text: str) -> list[str]:
    places = [place_of(space_id=peek.agent.space_id)]
    rows = peek.ask(Lane.SEARCH, lambda tx: tx.search(read_query(text), places=places, limit=1000).rows)
    return [row["content"] for row in rows]


@pytest.mark.parametrize("lane", [Lane.READ, Lane.SEARCH])
def test_a_read_that_turns_out_to_write_is_run_again_where_it_may(peek: Peek, lane: Lane):
    runs = []

    def call(tx: Any) -> str:
        runs.append(tx.writes)
        if not tx.writes:
            raise NeedsWrite
        space("joined")(tx)
        return "done"

    assert peek.ask(lane, call) == "done"
    assert runs == [False, True]
    assert "joined" in peek.spaces()


def test_a_read_cannot_write_and_its_fault_is_its_own(peek: Peek):
    with pytest.raises(AttributeError):
        peek.ask(Lane.READ, space("sneaked"))
    with pytest.raises(ValueError, match="unexpected"):
        peek.ask(Lane.READ, failing(CRASH))
    assert peek.ask(Lane.READ, lambda tx: len(tx.all("list_spaces"))) == 1
    assert peek.spaces() == {"main"}


def test_a_read_is_one_snapshot_that_waits_for_no_write(peek: Peek):
    def call(tx: Any) -> tuple[int, int]:
        before = len(tx.all("list_spaces"))
        peek.ask(Lane.WRITE, space("meanwhile"))
        return before, len(tx.all("list_spaces"))

    assert peek.ask(Lane.READ, call) == (1, 1)
    assert peek.spaces() == {"main", "meanwhile"}


def test_another_process_may_write_too(peek: Peek):
    """Counters and names are kept in memory, but not beyond somebody else's commit."""
    peek.ask(Lane.APPEND, peek.post("one"))
    database.ask(peek.directory, "UPDATE channels SET number = 41, chats = 41 WHERE name = 'general'")
    database.ask(peek.directory, "UPDATE spaces SET position = 1000")
    columns = "channel_id, number, chats, created_at, author_id, kind, content"
    theirs = "channel_id, 41, 41, created_at, author_id, kind, 'theirs'"
    sql = f"INSERT INTO messages (id, public_id, {columns}) SELECT 500, 'x', {theirs} FROM messages"
    database.ask(peek.directory, sql)
    peek.ask(Lane.APPEND, peek.post("two"))
    assert peek.on_disk("SELECT id, number FROM messages WHERE content = 'two'") == [(501, 42)]
    assert peek.on_disk("SELECT max(position) FROM events") == [(1001,)]


def test_closing_finishes_what_was_submitted(tmp_path: Path):
    before, peek = threads(), Peek(tmp_path)
    told: list[Told] = []
    for number in range(300):
        peek.store.submit(Lane.APPEND, peek.post(f"{number}"), lambda *one: told.append(one))
    peek.close()
    assert len(told) == 300 and all(error is None for _, error in told)
    assert peek.contents() == [f"{number}" for number in range(300)]
    for lane in Lane:
        with pytest.raises(Unavailable):
            peek.store.submit(lane, peek.post("late"), lambda result, error: None)
    assert threads() == before


# Searches

WORDS = ["zebra", "quartz", "kiwi", "fjord"]
CORPUS = [" ".join(words) for words in ([a, b, c] for a in WORDS for b in WORDS for c in [*WORDS, ""])]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peek]:
    made = Peek(tmp_path_factory.mktemp("corpus"))
    for text in CORPUS:
        made.ask(Lane.APPEND, made.post(text))
    yield made
    made.close()


TERMS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=2)


@settings(deadline=None)
@given(wanted=st.lists(st.lists(TERMS, min_size=1, max_size=2), max_size=2), unwanted=st.lists(TERMS, max_size=2))
def test_a_search_finds_what_a_plain_look_finds(corpus: Peek, wanted: list[list[list[str]]], unwanted: list[list[str]]):
    text = " or ".join(" ".join(f'"{" ".join(term)}"' for term in terms) for terms in wanted)
    text += "".join(f' -"{" ".join(term)}"' for term in unwanted)

    def holds(content: str, term: Sequence[str]) -> bool:
        return f" {' '.join(term)} " in f" {content} "

    expected = [
        content.strip()
        for content in CORPUS
        if (any(all(holds(content, term) for term in terms) for terms in wanted) or not wanted)
        and not any(holds(content, term) for term in unwanted)
    ]
    if wanted or unwanted:
        assert sorted(found(corpus, text)) == sorted(expected)
