"""Words, stems and notation: the same words as FTS5 of SQLite makes, and nothing of a text can be an operator."""

from __future__ import annotations

import random
import sqlite3
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pydoc_data.topics import topics

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentchat_relay.store.postgres import stem as stem_parts
from agentchat_relay.store.postgres import words as word_parts
from agentchat_relay.store.postgres.stem import stem
from agentchat_relay.store.postgres.words import loosely, tsquery, vector, windows, within, words
from agentchat_relay.store.query import read_query


def fts5(texts: Sequence[str], tokenizer: str = "porter unicode61 remove_diacritics 2") -> Iterator[list[str]]:
    """The words that SQLite makes of texts."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE VIRTUAL TABLE found USING fts5(text, content = '', tokenize = '{tokenizer}')")
        connection.execute("CREATE VIRTUAL TABLE instances USING fts5vocab(found, 'instance')")
        connection.executemany("INSERT INTO found (rowid, text) VALUES (?, ?)", enumerate(texts))
        made: list[dict[int, str]] = [{} for _ in texts]
        for word, text, at in connection.execute("SELECT term, doc, offset FROM instances"):
            made[text][at] = word
    for places in made:
        yield [places[at] for at in sorted(places)]


SUFFIXES = [*(suffix for suffix, _ in (*stem_parts._DERIVED, *stem_parts._QUALIFIED)), *stem_parts._LAST]
SUFFIXES += ["sses", "ies", "s", "ss", "eed", "ed", "ing", "at", "bl", "iz", "e", "ll", "y", "ied", "us", "ence"]


def made_up(count: int) -> Iterator[str]:
    chance = random.Random(7)
    for _ in range(count):
        start = "".join(chance.choice("aeiouybcdlstwxzßпа") for _ in range(chance.randint(0, 5)))
        yield start + "".join(chance.choice(SUFFIXES) for _ in range(chance.randint(0, 3)))


def test_a_word_has_the_stem_that_sqlite_gives_it():
    found = sorted({word for text in (*topics.values(), *made_up(20_000)) for word in words_as_they_are(text)})
    assert len(found) > 15_000
    stems = [made for (made,) in fts5(found)]
    assert [(word, stem(word)) for word in found] == list(zip(found, stems, strict=True))


def words_as_they_are(text: str) -> list[str]:
    return "".join(character if character.isalpha() else " " for character in text.lower()).split()


LATER_DEFINED = {0x1E0, 0x1E1}  # ǡ, which FTS5 takes for a letter without a mark


def test_a_character_means_what_it_means_to_sqlite():
    """Those that Unicode had in 2002, and has not changed its mind about: FTS5 has the state of 2012."""
    known = [
        chr(code)
        for code in range(1, sys.maxunicode)
        if (category := unicodedata.category(chr(code))) == unicodedata.ucd_3_2_0.category(chr(code))
        and category not in ("Cn", "Cs")
        and code not in LATER_DEFINED
        and (category != "Co" or code < 0xE100)  # of the private ones some are enough
    ]
    texts = [f"q{character}z {character}" for character in known]
    assert len(known) > 80_000
    different = [
        (text, made, words(text))
        for text, made in zip(texts, fts5(texts), strict=True)
        if made != words(text)
    ]  # fmt: skip
    assert different == []


MIXED = st.text("aeis 1é́ßЖ世ि-.'\"\\:&|!<>()", max_size=40) | st.text(
    st.characters(max_codepoint=0x24F, exclude_characters="\0\u01e0\u01e1"), max_size=60
)


@settings(deadline=None)
@given(MIXED)
@example("état ́x x́y İstanbul STRASSE Straße ﬁnale")
@example("1e5 v1.2.3 a-b jo@example.org 192.168.0.1 src/app_main.py")
def test_a_text_is_split_as_sqlite_splits_it(text: str):
    assert [words(text)] == list(fts5([text]))


def test_what_differs_from_sqlite_in_characters():
    texts = ["done🤖 it", "Ϳ ϳ", "Ǡ"]
    assert list(fts5(texts)) == [["done🤖", "it"], ["Ϳ", "ϳ"], ["ǡ"]]
    assert [words(text) for text in texts] == [["done", "it"], ["ϳ", "ϳ"], ["a"]]


def test_no_text_fills_the_memory():
    words("".join(map(chr, range(0x30000))))
    assert len(word_parts._PLAIN) <= word_parts._MOST_KNOWN + 1


def test_a_message_is_filed_by_words_places_and_blocks():
    made = vector(5000, "It's the cats' cat", ["s1", "c12"])
    assert made.split() == [
        "'.s1'", "'.c12'", "'.9_9'", "'.11_2'", "'.13_0'", "'.15_0'", "'.17_0'", "'.19_0'", "'.21_0'",
        "'it':1", "'s':2", "'the':3", "'cat':4", "'cat':5",
    ]  # fmt: skip


QUERIES = [
    ("parser", "(('parser'))", "(('parser'))"),
    ("new parsers or mouse", "(('new' & 'parser') | ('mous'))", "(('new' & 'parser') | ('mous'))"),
    ('"new parser" -fix-2-b', "(('new' <-> 'parser')) & !('fix' <-> '2' <-> 'b')", "(('new' & 'parser'))"),
    ("-a", "!('a')", "!('a')"),
    ("it's'", "(('it' <-> 's'))", "(('it' & 's'))"),
]


@pytest.mark.parametrize(("text", "exactly", "somehow"), QUERIES)
def test_a_query_in_the_notation_of_postgres(text: str, exactly: str, somehow: str):
    assert tsquery(read_query(text)) == exactly
    assert loosely(read_query(text)) == somehow
    assert within(["s1", "d2"]) == "('.s1' | '.d2')"


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("ab -\"orOR'*:()&|!<>\\\0\n", max_size=60))
def test_nothing_of_a_query_is_an_operator(text: str):
    query = read_query(text)
    terms = [*query.excluded, *(term for terms in query.alternatives for term in terms)]
    for bare in (tsquery(query), loosely(query)):
        for word in {word for term in terms for word in words(term.text)}:
            bare = bare.replace(f"'{word}'", "_")
        assert set(bare) <= set("_ &|!()<->")


@settings(deadline=None)
@given(st.integers(0, 1 << 26) | st.integers(0, 5000))
@example(0)
@example(1)
def test_windows_hold_every_message_once_the_newest_first(newest: int):
    above = newest + 1
    for window in windows(newest):
        assert 0 < window.last - window.first + 1 <= 5
        assert window.last == (above - 1) >> window.shift
        above = window.first << window.shift
    assert above == 0 or newest == above - 1 == 0


def test_the_first_window_is_never_too_small():
    for newest in range(4096, 12_000):
        (first,) = islice(windows(newest), 1)
        assert newest - (first.first << first.shift) >= 512


@settings(deadline=None)
@given(st.integers(1, 1 << 26), st.integers(0, 10))
def test_a_window_is_its_two_halves(newest: int, number: int):
    window = [*windows(newest)][-1 - number :][0]
    while halves := window.halves():
        older, newer = halves
        assert window.first << window.shift == older.first << older.shift
        assert older.last + 1 << older.shift == newer.first << newer.shift
        assert newer.last + 1 << newer.shift == window.last + 1 << window.shift
        window = halves[number % 2]
    assert window == (9, window.first, window.first)


def test_a_window_in_the_notation_of_postgres():
    assert [str(window) for window in islice(windows(5000), 2)] == ["('.9_8' | '.9_9')", "('.11_0' | '.11_1')"]
