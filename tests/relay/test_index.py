"""search.db stays quick: it becomes one piece again, a search takes so long and no longer, an old form is made anew."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agentchat import Client
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.store.sqlite import index
from tests.relay.conftest import UNLIMITED, until

pytestmark = pytest.mark.sqlite


@contextmanager
def place(path: Path) -> Iterator[tuple[Embedded, Client]]:
    with running(str(path), settings=UNLIMITED) as relay, Client(relay.url, relay.token("ann"), retries=0) as ann:
        yield relay, ann


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path / "search.db")) as connection:
        return connection.execute(sql).fetchall()


def found(client: Client, words: str) -> set[str]:
    return {hit["content"] for hit in client.search_messages(words)["results"]}


def test_it_becomes_one_piece_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index, "_LEAST_MERGE", 40)
    monkeypatch.setattr(index, "_SLICE", 1)
    with place(tmp_path) as (_, ann):
        for number in range(39):
            ann.send_message("room", f"tapir {number}")
            ann.search_messages("tapir")  # each search indexes what is new, as a piece of its own
        pieces = "SELECT count(DISTINCT segid) FROM fulltext_idx"
        before = rows(tmp_path, pieces)[0][0]
        assert before > 1
        assert rows(tmp_path, "SELECT merged FROM progress") == [(0,)]
        ann.send_message("room", "tapir 39")
        until(lambda: rows(tmp_path, "SELECT merged FROM progress") == [(40,)])
        assert rows(tmp_path, pieces) == [(1,)]
        assert found(ann, "tapir") == {f"tapir {number}" for number in range(40)}
        assert rows(tmp_path, "SELECT id FROM progress") == [(40,)]


def test_a_merge_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with place(tmp_path) as (_, ann):
        for number in range(30):
            ann.send_message("room", f"tapir {number}")
            ann.search_messages("tapir")
    with closing(sqlite3.connect(tmp_path / "search.db")) as connection, connection:
        connection.execute("INSERT INTO fulltext (fulltext, rank) VALUES ('merge', -1)")
    monkeypatch.setattr(index, "_LEAST_MERGE", 10)
    with place(tmp_path) as (_, ann):
        until(lambda: rows(tmp_path, "SELECT merged FROM progress") == [(30,)])
        assert len(found(ann, "tapir")) == 30
    with closing(sqlite3.connect(tmp_path / "search.db")) as connection:
        connection.execute("INSERT INTO fulltext (fulltext) VALUES ('integrity-check')")


def test_a_search_ends_in_time_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with place(tmp_path) as (_, ann):
        for number in range(300):
            ann.send_message("room", f"okapi okapi {number % 10}")
        assert len(ann.search_messages("okapi")["results"]) == 50
        monkeypatch.setattr(index, "_LONGEST_SEARCH", -1.0)
        cut = ann.search_messages('"okapi 7"')
        assert cut["has_more"] is True
        assert len(cut["results"]) < 30
        monkeypatch.undo()
        whole = ann.search_messages('"okapi 7"')
        assert [hit["content"] for hit in whole["results"]] == ["okapi okapi 7"] * 30
        assert whole["has_more"] is False


def test_an_index_of_an_older_form_is_made_anew(tmp_path: Path):
    with place(tmp_path) as (_, ann):
        ann.send_message("room", "the quokka")
        assert found(ann, "quokka") == {"the quokka"}
    os.remove(tmp_path / "search.db")
    with closing(sqlite3.connect(tmp_path / "search.db")) as connection, connection:
        connection.executescript(
            "CREATE TABLE progress (only INTEGER PRIMARY KEY, id INTEGER NOT NULL, public_id TEXT);"
            "CREATE VIRTUAL TABLE fulltext USING fts5(content, place, content = '', columnsize = 0);"
            "INSERT INTO progress VALUES (1, 1, 'whatever')"
        )
    with place(tmp_path) as (_, ann):
        assert found(ann, "quokka") == {"the quokka"}
    assert rows(tmp_path, "PRAGMA user_version") == [(index._FORM,)]
    assert rows(tmp_path, "SELECT v FROM fulltext_config WHERE k = 'pgsz'") == [(1000,)]


def test_an_index_that_is_ahead_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The newest messages are gone: an older database was put there, or its log was lost."""
    with place(tmp_path) as (_, ann):
        ann.send_message("room", "one")
    older = (tmp_path / "agentchat.db").read_bytes()
    with place(tmp_path) as (_, ann):
        ann.send_message("room", "two")
        ann.search_messages("two")
    (tmp_path / "agentchat.db").write_bytes(older)
    with place(tmp_path) as (_, ann):
        assert found(ann, "one or two") == {"one"}
    assert "older than search.db" in caplog.text
