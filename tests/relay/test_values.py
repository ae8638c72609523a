"""The small pure parts: queries as people write them, ids, times, cursors."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentchat.errors import BadRequest
from agentchat_relay.store.query import read_query
from agentchat_relay.wire import Cursor, iso, micros, new_id, read_cursor

pytestmark = pytest.mark.sqlite


# Queries

QUERY_TEXTS = st.text(max_size=60) | st.text(alphabet="ab -\"orOR'*:()^+{}~\\\0\n", max_size=60)


@given(text=QUERY_TEXTS)
@example(text='"')
@example(text="-")
@example(text="or or OR")
@example(text='-"a b" or -c')
@example(text="NEAR(a b) * col:x ^y {z}")
def test_any_text_is_a_query(text: str):
    query = read_query(text)
    for term in [*query.excluded, *(term for terms in query.alternatives for term in terms)]:
        assert term.words
        assert all(word == word.lower() and re.fullmatch(r"[^\W_]+", word) for word in term.words)
    assert all(query.alternatives)
    assert set(query.words) == {word for terms in query.alternatives for term in terms for word in term.words}
    if not re.search(r"[^\W_]", text):
        assert not query


MEANT = [
    ("one two", [["one", "two"]], []), ("one OR two or three four", [["one"], ["two"], ["three", "four"]], []),
    ('"one two" three', [["one two", "three"]], []), ('"one two', [["one two"]], []), ("the of", [["the", "of"]], []),
    ("one -two -three", [["one"]], ["two", "three"]), ('one -"two three"', [["one"]], ["two three"]),
    ("fix-2-b", [["fix 2 b"]], []), ("[test-1795164630963-6c9r7e]", [["test 1795164630963 6c9r7e"]], []),
    ("the one of it", [["one"]], []), ("one - two", [["one", "two"]], []), ("or one or", [["one"]], []),
    ("ÜBER Größe", [["über", "größe"]], []), ("!!! ??? -", [], []), ("-one", [], ["one"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "alternatives", "excluded"), MEANT)
def test_what_people_mean(text: str, alternatives: list[list[str]], excluded: list[str]):
    query = read_query(text)
    assert [[" ".join(term.words) for term in terms] for terms in query.alternatives] == alternatives
    assert [" ".join(term.words) for term in query.excluded] == excluded


# Ids, times, cursors

MOMENTS = st.integers(0, 253_402_300_799_999_999)  # to the end of the year 9999
UUID7 = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@given(at=MOMENTS)
def test_an_id_is_a_uuid_of_version_7(at: int):
    id = new_id(at)
    assert UUID7.fullmatch(id)
    assert int(id.replace("-", "")[:12], 16) == at // 1000


@given(at=MOMENTS, later=st.integers(1, 10**12))
def test_ids_sort_as_their_times(at: int, later: int):
    assert new_id(at) < new_id(at + later)


def test_ids_of_one_moment_differ():
    assert len({new_id(1_790_000_000_000_000) for _ in range(10_000)}) == 10_000


@given(at=MOMENTS)
@example(at=0)
@example(at=999_999)
@example(at=59_999_999)
def test_times_travel_there_and_back(at: int):
    text = iso(at)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", text)
    assert micros(text, "x") == micros(text.replace("+00:00", "Z"), "x") == micros(text.replace("+", " "), "x") == at


def test_times_as_others_write_them():
    for text in ("01Z", "01", "01+00:00", "01.000000Z", "01.0000009Z"):
        assert micros(f"1970-01-01T00:00:{text}", "x") == 1_000_000, text
    assert micros("1970-01-01T02:00:01+02:00", "x") == micros(" 1970-01-01T00:00:01Z ", "x") == 1_000_000
    assert micros("1969-12-31T23:59:59.5Z", "x") == -500_000


@given(text=st.text(max_size=40))
@example(text="0001-01-01T00:00:00+14:00")
@example(text="9999-12-31T23:59:59-14:00")
def test_any_text_is_a_time_or_a_clear_refusal(text: str):
    try:
        assert isinstance(micros(text, "before"), int)
    except BadRequest as error:
        assert "before" in error.message and error.message.isascii()


PLACES = st.from_regex(r"[a-z][0-9]{1,12}", fullmatch=True)


@given(place=PLACES, at=st.integers(0, 2**62 - 1), newer=st.booleans())
def test_a_cursor_travels_there_and_back(place: str, at: int, newer: bool):
    text = str(Cursor(place, at, newer))
    assert re.fullmatch("[A-Za-z0-9_-]+", text)
    assert read_cursor(text, place) == (place, at, newer)


@given(place=PLACES, other=PLACES, at=st.integers(0, 2**62 - 1))
def test_a_cursor_of_another_list_is_refused(place: str, other: str, at: int):
    if place != other:
        with pytest.raises(BadRequest) as caught:
            read_cursor(str(Cursor(place, at)), other)
        assert caught.value.code == "bad_cursor"


@given(text=st.text(max_size=60) | st.text(alphabet="ABCabc012_-=/+", max_size=60))
@example(text="")
@example(text="YzUvLTEvMA")  # before the beginning of time
@example(text="YzUvZmZmZmZmZmZmZmZmZmZmZi8w")  # after its end
def test_any_other_text_is_no_cursor(text: str):
    with pytest.raises(BadRequest) as caught:
        read_cursor(text, "c5")
    assert caught.value.code == "bad_cursor"
