"""The index in Postgres: what gets in and out, whoever is at work on it, and that a search finds the newest in time."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from agentchat.errors import Unavailable
from agentchat_relay.store import fulltext
from agentchat_relay.store.cache import Shared
from agentchat_relay.store.fulltext import FullText
from agentchat_relay.store.lane import Waiting, tell
from agentchat_relay.store.postgres import index as under_test
from agentchat_relay.store.postgres.faults import as_ours
from agentchat_relay.store.postgres.fulltext import SearchTable
from agentchat_relay.store.postgres.index import Index
from agentchat_relay.store.query import read_query
from agentchat_relay.store.seam import Hits, Lane, Reading
from tests.relay.conftest import until
from tests.relay.postgres.conftest import Place, follow

PATIENCE = 20


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not cut a search short."""
    for name in ("_LONGEST_SEARCH", "_LONGEST_LOOK"):
        monkeypatch.setattr(under_test, name, 30.0)


def search(index: Index, text: str, *places: str, limit: int = 200) -> Hits:
    return index.search(read_query(text), [*places] or ["s1"], limit)


def found(index: Index, text: str, *places: str, limit: int = 200) -> list[int]:
    hits = search(index, text, *places, limit=limit)
    assert hits.is_complete
    return sorted(row["id"] for row in hits.rows)


# What gets in


def test_a_message_is_found_where_it_was_said(place: Place, index: Index):
    (here,) = place.post("a tapir", channel=3)
    (elsewhere,) = place.post("a tapir", channel=12)  # of the second space
    (direct,) = place.post("a tapir", to=7)
    place.post("a tapir", kind="status")
    follow(index)
    assert found(index, "tapirs") == [here]
    assert found(index, "tapir", "s2") == [elsewhere]
    assert found(index, "tapir", "s1", "d7") == [here, direct]
    assert found(index, "tapir", "s1", "d1") == [here, direct]
    assert found(index, "tapir", "s1", "d2") == [here]
    assert found(index, "tapir", "c3") == [here]
    assert found(index, "tapir", "c4") == []
    (row,) = search(index, "tapir", "c3").rows
    assert row == {
        "id": here, "public_id": f"message-{here}", "content": "a tapir", "created_at": 0, "channel_id": "channel-3",
        "channel_name": "room3", "author_id": "agent-1", "author_name": "agent1",
    }  # fmt: skip


def test_places_and_blocks_are_no_words(place: Place, index: Index):
    place.post("a tapir")
    follow(index)
    for text in ("s1", ".s1", "c1", "9_0", ".9_0", '".9_0"', "'.s1'", "."):
        assert found(index, f"tapir {text}") == ([1] if not read_query(text) else [])


def test_the_lag_is_told(place: Place, index: Index, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(under_test, "_CHUNK", 4)
    place.post(*["tapir"] * 10)
    assert [index.step(wait=False) for _ in range(4)] == [6, 2, 0, 0]
    place.post("tapir")
    assert index.lag == 0
    follow(index)
    assert index.lag == 0
    assert len(place.indexed()) == 11


def test_a_search_right_after_a_commit_finds_it(place: Place, index: Index):
    for number in range(30):
        (sent,) = place.post(f"tapir{number} in the hay")
        follow(index)
        assert found(index, f"tapir{number}") == [sent]


def test_long_and_odd_texts_get_in(place: Place, index: Index):
    texts = [
        "x" * 32_000 + " tapir",
        "y " * 15_997 + "tapir",
        " ".join(map(str, range(5500))) + " tapir",
        "世" * 31_990 + " tapir",
        "\U00010400" * 31_990 + " tapir",
        "'\\:& | !<-> ''' tapir",
        "\x01\x7f\u2028\ufeff tapir",
        "é\u0301" * 15_990 + " tapir",
        " ".join(chr(code) for code in range(1, 0x3000)) + " tapir",
        "",
    ]
    ids = place.post(*texts)
    follow(index)
    assert place.indexed() == ids
    assert found(index, "tapir") == ids[:-1]
    assert found(index, '"y tapir"') == []  # of a word's places the first 256 are kept
    assert found(index, '"5499 tapir"') == [ids[2]]
    assert found(index, "x" * 500) == [ids[0]]


def test_what_cannot_be_indexed_keeps_nothing_else_out(
    place: Place, index: Index, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    made = under_test.vector
    spoiled = {2: "'", 4: f"'{'x' * 5000}':1", 5: "'x':0"}
    monkeypatch.setattr(under_test, "vector", lambda n, *rest: spoiled.get(n) or made(n, *rest))
    place.post(*["a tapir"] * 6)
    follow(index)
    assert found(index, "tapir") == [1, 3, 6]
    assert caplog.text.count("cannot be indexed") == 3
    place.post("a tapir")
    follow(index)
    assert found(index, "tapir") == [1, 3, 6, 7]


def test_a_message_of_no_channel_holds_nothing_up(place: Place, index: Index):
    place.post("a tapir")
    place.post("a tapir", channel=99)
    follow(index)
    assert found(index, "tapir") == [1]


def test_an_index_is_made_again_when_its_progress_is_set_back(place: Place, index: Index):
    ids = place.post("a tapir", "an okapi")
    follow(index)
    place.sql("UPDATE fulltext SET words = 'junk'")
    assert found(index, "okapi") == []
    place.sql("UPDATE fulltext_progress SET id = 0")
    follow(index)
    assert found(index, "okapi") == ids[1:]


# What gets out


def test_deleted_messages_are_forgotten_at_once(place: Place, index: Index):
    place.post("a tapir", "two tapirs", "an okapi")
    follow(index)
    place.sql("DELETE FROM messages WHERE id IN (1, 3)")
    assert place.indexed() == [2]
    assert found(index, "tapir or okapi") == [2]
    (newest,) = place.post("an okapi again")
    follow(index)
    assert found(index, "tapir or okapi") == [2, newest]


def test_messages_deleted_before_they_were_indexed_never_get_in(place: Place, index: Index):
    place.post("a tapir", "two tapirs", "three tapirs")
    place.sql("DELETE FROM messages WHERE id >= 2")
    follow(index)
    assert place.indexed() == [1]


def test_a_role_that_owns_nothing_can_index_search_and_delete(place: Place, index: Index):
    role = f"guest_{place.one('SELECT current_schema()')}"
    place.sql(f"CREATE ROLE {role}")
    place.sql(f"GRANT USAGE ON SCHEMA {place.one('SELECT current_schema()')} TO {role}")
    place.sql(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON messages, channels, agents, fulltext, fulltext_progress TO {role}"
    )
    index._link.get().execute(f"SET ROLE {role}".encode())
    place.post("a tapir", "an okapi")
    follow(index)
    assert found(index, "tapir") == [1]
    index._link.get().execute("DELETE FROM messages WHERE id = 1")
    assert found(index, "tapir or okapi") == [2]


# Several at once


def wait_until_blocked(place: Place, connection: psycopg.Connection[Any]) -> None:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    until(lambda: place.one(sql, connection.info.backend_pid) == 1)


def test_relays_index_together(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(under_test, "_CHUNK", 7)
    texts = [f"tapir{number % 10}" for number in range(500)]
    place.post(*texts[:250])
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(follow, place.index()) for _ in range(4)]
        place.post(*texts[250:])
        for future in running:
            future.result(PATIENCE)
    last = place.index()
    follow(last)
    assert place.indexed() == [*range(1, 501)]
    assert found(last, "tapir3") == [*range(4, 500, 10)]


def test_of_several_relays_one_adds_while_the_others_look_on(place: Place, index: Index):
    """Small chunks cost more than large ones. Whoever searches adds what is missing all the same."""
    other = place.index()
    place.post("a tapir")
    assert (index.step(wait=False), other.step(wait=False)) == (0, 0)
    place.post("a tapir")
    assert index.step(wait=False) == 0
    place.post("a tapir")
    assert other.step(wait=False) == 1  # for index has just been at it
    assert other.step(wait=False) == 0  # but seems to have ended
    place.post("a tapir")
    assert index.step(wait=True) == 0


def test_while_much_is_missing_there_is_no_pause(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(under_test, "_CHUNK", 3)
    monkeypatch.setattr("agentchat_relay.store.postgres.fulltext._LONGEST_PASS", PATIENCE)
    table = SearchTable(place.link(), Shared(), lambda waiting: None)
    place.post(*["a tapir"] * 20)
    assert table.follow(0) == 2
    assert table.follow(0) == 0


def test_one_relay_waits_for_another_only_if_it_must(place: Place, index: Index, monkeypatch: pytest.MonkeyPatch):
    place.post("a tapir")
    with psycopg.connect(place.url) as other:
        other.execute("SELECT FROM fulltext_progress FOR UPDATE")
        assert index.step(wait=False) == 1
        assert place.indexed() == []
        monkeypatch.setattr(under_test, "_LONGEST_WAIT", 20)
        assert index.step(wait=True) == 1  # it was long enough
        monkeypatch.setattr(under_test, "_LONGEST_WAIT", 20_000)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(index.step, wait=True)
            wait_until_blocked(place, index._link.get())
            other.execute("INSERT INTO fulltext VALUES (1, '''tapir'':1 ''.s1''')")
            other.execute("UPDATE fulltext_progress SET id = 1")
            other.commit()
            assert waiting.result(PATIENCE) == 0
    assert found(index, "tapir") == [1]


def test_a_message_that_is_deleted_while_it_is_indexed_is_forgotten(
    place: Place, index: Index, monkeypatch: pytest.MonkeyPatch
):
    """The indexer has read it and is about to add it."""
    place.post("a tapir", "an okapi")
    insert = under_test._insert
    with psycopg.connect(place.url, autocommit=True) as other, ThreadPoolExecutor(1) as pool:
        deleting: list[Future[Any]] = []

        def between(*arguments: Any) -> None:
            deleting.append(pool.submit(other.execute, "DELETE FROM messages WHERE id = 1"))
            wait_until_blocked(place, other)
            insert(*arguments)

        monkeypatch.setattr(under_test, "_insert", between)
        assert index.step(wait=True) == 0
        deleting[0].result(PATIENCE)
    assert place.indexed() == [2]


def test_a_message_whose_deletion_is_under_way_is_not_added(place: Place, index: Index):
    place.post("a tapir", "an okapi")
    with psycopg.connect(place.url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("DELETE FROM messages WHERE id = 1")
        assert index.step(wait=False) == 2
        waiting = pool.submit(index.step, wait=True)
        wait_until_blocked(place, index._link.get())
        other.commit()
        assert waiting.result(PATIENCE) == 0
    assert place.indexed() == [2]


def test_deleting_old_messages_waits_for_no_indexer(place: Place, index: Index):
    place.post("a tapir")
    follow(index)
    with psycopg.connect(place.url) as other:
        other.execute("SELECT FROM fulltext_progress FOR UPDATE")
        place.sql("SET lock_timeout = '1s'")
        place.sql("DELETE FROM messages WHERE id = 1")
    assert place.indexed() == []


def test_messages_come_are_indexed_and_go_at_once(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(under_test, "_CHUNK", 5)
    chance = random.Random(3)
    over = threading.Event()

    def work(index: Index) -> None:
        while not over.is_set():
            index.step(wait=bool(chance.getrandbits(1)))

    def delete(connection: psycopg.Connection[Any]) -> None:
        while not over.is_set():
            connection.execute("DELETE FROM messages WHERE id % 3 = 0")

    with psycopg.connect(place.url, autocommit=True) as other, ThreadPoolExecutor(3) as pool:
        running = [pool.submit(work, place.index()) for _ in range(2)] + [pool.submit(delete, other)]
        for number in range(300):
            place.post(f"tapir {number}")
        over.set()
        for future in running:
            future.result(PATIENCE)
    place.sql("DELETE FROM messages WHERE id % 3 = 0")
    last = place.index()
    follow(last)
    assert place.indexed() == [id for id in range(1, 301) if id % 3]


def test_a_lost_connection_is_made_anew(place: Place, index: Index):
    place.post("a tapir")
    follow(index)
    for _ in range(2):
        pid = index._link.get().info.backend_pid
        assert place.one("SELECT pg_terminate_backend(%s, 10000)", pid)
        place.post("a tapir")
        follow(index)
    assert found(index, "tapir") == [1, 2, 3]


# The newest, in time


def many(place: Place, texts: Iterable[tuple[int, str]]) -> None:
    """Messages of the first channel, by id."""
    sql = "COPY messages (id, public_id, channel_id, number, chats, created_at, author_id, kind, content) FROM STDIN"
    with place.own.cursor().copy(sql) as copy:
        for id, text in texts:
            copy.write_row((id, f"message-{id}", 1 + id % 3, 0, 0, 0, 1, "chat", text))


KINDS: dict[str, Callable[[int], bool]] = {
    "all": lambda n: True,
    "most": lambda n: n % 10 != 4,
    "some": lambda n: n % 14 == 5,
    "few": lambda n: n % 1000 == 7,
    "old": lambda n: n < 2000 and n % 2 == 0,
    "none": lambda n: False,
}


@pytest.fixture(scope="module")
def crowd() -> Iterable[tuple[Place, Index]]:
    """12,000 messages, with a gap in their ids as retention leaves it."""
    place = Place()
    ids = [*range(1, 6001), *range(60_000, 66_000)]
    many(place, ((id, " ".join(word for word, holds in KINDS.items() if holds(id))) for id in ids))
    index = place.index()
    follow(index)
    yield place, index
    place.close()


WANTED: list[tuple[str, Callable[[int], bool]]] = [
    *KINDS.items(),
    ("all most", KINDS["most"]),
    ("few some", lambda n: KINDS["few"](n) and KINDS["some"](n)),
    ("few or old", lambda n: KINDS["few"](n) or KINDS["old"](n)),
    ('"all most"', KINDS["most"]),
    ('"most all"', KINDS["none"]),
    ("-most", lambda n: not KINDS["most"](n)),
    ("all -most", lambda n: not KINDS["most"](n)),
    ("old -most", lambda n: KINDS["old"](n) and not KINDS["most"](n)),
]


@pytest.mark.parametrize(("text", "holds"), WANTED, ids=[text for text, _ in WANTED])
@pytest.mark.parametrize("limit", [1, 100, 200, 20_000])
def test_the_newest_are_found(crowd: tuple[Place, Index], text: str, holds: Callable[[int], bool], limit: int):
    _, index = crowd
    every = [id for id in range(65_999, 0, -1) if (id <= 6000 or id >= 60_000) and holds(id)]
    assert found(index, text, limit=limit) == sorted(every[:limit])
    in_channel = [id for id in every if id % 3 == 1]
    assert found(index, text, "c2", limit=limit) == sorted(in_channel[:limit])
    assert found(index, text, "c7", limit=limit) == []


def test_a_search_ends_in_time_and_says_so(crowd: tuple[Place, Index], monkeypatch: pytest.MonkeyPatch):
    _, index = crowd
    monkeypatch.setattr(under_test, "_LONGEST_SEARCH", -1.0)
    assert search(index, "few") == Hits([], False)


def test_what_was_found_before_the_time_was_up_is_the_answer(
    crowd: tuple[Place, Index], monkeypatch: pytest.MonkeyPatch
):
    """The second window takes for ever: Postgres ends it, and the transaction goes on."""
    _, index = crowd
    monkeypatch.setattr(under_test, "_LONGEST_SEARCH", 0.3)
    asleep = "SELECT 1 FROM pg_sleep(60) WHERE ($1::text, $2::text, $3::bigint, $4::bigint) IS NOT NULL"
    monkeypatch.setattr(under_test, "_FIND", asleep)
    connection = index._link.get()
    with connection.transaction():
        hits = search(index, "some")
        assert connection.execute("SELECT current_setting('statement_timeout') AS limit").fetchone() == {"limit": "30s"}
    assert not hits.is_complete
    assert sorted(row["id"] for row in hits.rows) == [id for id in range(65_744, 66_000) if KINDS["some"](id)]


def test_a_part_that_takes_too_long_is_halved(crowd: tuple[Place, Index], monkeypatch: pytest.MonkeyPatch):
    """As if only the smallest parts were quick enough."""
    _, index = crowd
    slow = "(SELECT 1 FROM pg_sleep(CASE WHEN $1::tsquery::text LIKE '%.9\\_%' THEN 0 ELSE 60 END)) AS nap"
    monkeypatch.setattr(under_test, "_FIND", f"SELECT found.id FROM {slow}, ({under_test._FIND}) AS found")
    monkeypatch.setattr(under_test, "_LONGEST_SEARCH", 60.0)
    monkeypatch.setattr(under_test, "_LONGEST_LOOK", 0.02)
    every = [n for n in range(65_999, 61_000, -1) if KINDS["some"](n)]
    assert found(index, "some", limit=len(every)) == sorted(every)


# On its thread


def no_writer(waiting: Waiting) -> None:
    raise AssertionError("nothing writes here")


class Asker:
    """A lane as a store has it."""

    def __init__(self, place: Place) -> None:
        self.link = place.link()
        self.table = SearchTable(self.link, Shared(), no_writer)
        self.fulltext = FullText(self.table, tell, as_ours, 0.0)
        self.fulltext.lane.start()

    def ask(self, text: str) -> Future[list[int]]:
        future: Future[list[int]] = Future()

        def done(result: Any, error: BaseException | None) -> None:
            future.set_exception(error) if error else future.set_result(result)

        def call(tx: Reading) -> list[int]:
            return sorted(row["id"] for row in tx.search(read_query(text), places=["s1"], limit=100).rows)

        self.fulltext.lane.submit(Waiting(Lane.SEARCH, call, done))
        return future


@pytest.fixture
def asker(place: Place) -> Iterable[Asker]:
    made = Asker(place)
    yield made
    made.fulltext.lane.close()


def test_a_search_sees_what_was_committed_before(place: Place, asker: Asker):
    for number in range(20):
        (sent,) = place.post(f"tapir{number}")
        assert asker.ask(f"tapir{number}").result(PATIENCE) == [sent]


def test_the_index_follows_by_itself(place: Place, asker: Asker, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(under_test, "_CHUNK", 3)
    place.post(*["tapir"] * 10)
    asker.fulltext.written()
    until(lambda: len(place.indexed()) == 10)
    until(lambda: asker.table.index.lag == 0)


def test_a_search_waits_so_long_and_no_longer(place: Place, asker: Asker, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fulltext, "_LONGEST_CATCH_UP", 0.001)
    monkeypatch.setattr(under_test, "_LONGEST_WAIT", 1)
    with psycopg.connect(place.url) as other:
        other.execute("SELECT FROM fulltext_progress FOR UPDATE")
        place.post("tapir")
        with pytest.raises(Unavailable, match="1 messages to go") as caught:
            asker.ask("tapir").result(PATIENCE)
        assert caught.value.retry_after == 2
    monkeypatch.setattr(under_test, "_LONGEST_WAIT", 10_000)
    assert asker.ask("tapir").result(PATIENCE) == [1]


def test_what_is_indexed_can_be_searched_though_nothing_can_be_added(
    place: Place, asker: Asker, caplog: pytest.LogCaptureFixture
):
    place.post("tapir")
    assert asker.ask("tapir").result(PATIENCE) == [1]
    place.post("tapir")
    connection = asker.link.get()
    connection.execute("SET default_transaction_read_only = on")
    assert asker.ask("tapir").result(PATIENCE) == [1]
    assert asker.ask("tapir").result(PATIENCE) == [1]
    assert caplog.text.count("cannot grow") == 1
    connection.execute("SET default_transaction_read_only = off")
    assert asker.ask("tapir").result(PATIENCE) == [1, 2]
