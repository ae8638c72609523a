"""A search means the same on both engines: what FTS5 of SQLite finds is what Postgres finds, but for what is named."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentchat_relay.store.postgres.words import tsquery, vector, within
from agentchat_relay.store.query import read_query
from agentchat_relay.store.sqlite import index as sqlite
from tests.postgres import url
from tests.relay.postgres.conftest import Place, follow
from tests.relay.test_search import QUERIES, SILENT, SYNTAX, TEXTS

Find = Callable[[str], list[int]]


@contextmanager
def in_sqlite(texts: Sequence[str]) -> Iterator[Find]:
    """Ids from 1, as the relay's own index finds them."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in sqlite._SCHEMA.split(";\n"):
            connection.execute(statement)
        rows = [(id, text, "s1 c1") for id, text in enumerate(texts, 1)]
        connection.executemany("INSERT INTO fulltext (rowid, content, place) VALUES (?, ?, ?)", rows)

        def find(text: str) -> list[int]:
            found = sqlite.match(read_query(text), ["s1"])
            return [id for (id,) in connection.execute("SELECT rowid FROM fulltext WHERE fulltext MATCH ?", (found,))]

        yield find


@pytest.fixture(scope="module")
def postgres() -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url(), autocommit=True) as connection:
        yield connection


def in_postgres(connection: psycopg.Connection[Any], texts: Sequence[str], text: str) -> list[int]:
    """The same without tables."""
    vectors = [vector(id, content, ["s1", "c1"]) for id, content in enumerate(texts, 1)]
    wanted = f"{within(['s1'])} & {tsquery(read_query(text))}"
    sql = """
    SELECT id FROM unnest(%s::text[]::tsvector[]) WITH ORDINALITY AS message (words, id) WHERE words @@ %s::tsquery
    ORDER BY id
    """
    return [id for (id,) in connection.execute(sql, (vectors, wanted))]


@pytest.fixture(scope="module")
def library() -> Iterator[tuple[Find, Find]]:
    """The texts of the suite that every relay is held to, in both engines."""
    place = Place()
    place.post(*TEXTS.values())
    index = place.index()
    follow(index)

    def find(text: str) -> list[int]:
        return sorted(row["id"] for row in index.search(read_query(text), ["s1"], 100).rows)

    with in_sqlite([*TEXTS.values()]) as find_in_sqlite:
        yield find_in_sqlite, find
    place.close()


@pytest.mark.parametrize(("text", "expected"), QUERIES, ids=[text for text, _ in QUERIES])
def test_a_query_means_what_people_mean(library: tuple[Find, Find], text: str, expected: set[str]):
    ids = [id for id, name in enumerate(TEXTS, 1) if name in expected]
    assert [find(text) for find in library] == [ids, ids]


@pytest.mark.parametrize("text", [text for text in [*SYNTAX, *SILENT] if read_query(text)])
def test_odd_queries_find_the_same(library: tuple[Find, Find], text: str):
    in_one, in_other = (find(text) for find in library)
    assert in_one == in_other


WORDS = st.sampled_from([
    "run", "running", "runs", "Runner", "deploy", "deployed", "DEPLOYMENT", "a", "the", "or", "-or", "cats", "cat",
    "fix-2-b", "v1.2.3", "1e5", "été", "e\u0301té", "Größe", "grosse", "größer", "世界", "世", "Привет", "привет",
    "हिन्दी", "İstanbul", "istanbul", "ﬁnale", "jo@example.org", "a_b", "it's",
])  # fmt: skip
ODD = st.text(st.characters(max_codepoint=0x24F, exclude_characters="\0\u01e0\u01e1"), max_size=12)
CONTENTS = st.lists(st.lists(WORDS | ODD, max_size=8).map(" ".join), min_size=1, max_size=5)
TERMS = (
    WORDS | WORDS.map("-{}".format) | st.lists(WORDS, min_size=1, max_size=3).map(lambda words: f'"{" ".join(words)}"')
)
ASKED = st.lists(TERMS | st.just("or") | ODD, min_size=1, max_size=6).map(" ".join)


@settings(max_examples=400, deadline=None)
@given(texts=CONTENTS, asked=ASKED)
@example(texts=["a b a b c", "a b"], asked='"b a b"')
@example(texts=["été", "e\u0301te\u0301", "ete"], asked="été")
def test_any_query_finds_the_same_in_any_texts(postgres: psycopg.Connection[Any], texts: list[str], asked: str):
    if read_query(asked):
        with in_sqlite(texts) as find:
            assert in_postgres(postgres, texts, asked) == find(asked)


# What differs


def both(postgres: psycopg.Connection[Any], text: str, asked: str) -> tuple[bool, bool]:
    """Whether the text is found in SQLite, and in Postgres."""
    with in_sqlite([text]) as find:
        return bool(find(asked)), bool(in_postgres(postgres, [text], asked))


def test_a_sign_that_is_newer_than_2012_parts_words(postgres: psycopg.Connection[Any]):
    assert both(postgres, "deploy done🤖", "done") == (False, True)
    assert both(postgres, "deploy done ✅", "done") == (True, True)


def test_a_phrase_behind_hundreds_of_its_word_is_not_found(postgres: psycopg.Connection[Any]):
    text = "ping ok " * 300 + "ping pong"
    assert both(postgres, text, '"ping pong"') == (True, False)
    assert both(postgres, text, "ping pong") == (True, True)
    assert both(postgres, "ping ok " * 200 + "ping pong", '"ping pong"') == (True, True)


def test_huge_words_are_told_apart_by_their_beginning(postgres: psycopg.Connection[Any]):
    assert both(postgres, "x" * 500 + "yes", "x" * 500 + "no") == (False, True)
    assert both(postgres, "x" * 499 + "yes", "x" * 499 + "no") == (False, False)
