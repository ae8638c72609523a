"""Writers of several processes take turns: one order for all, nothing that anybody sees too early, nobody who is waited
for without end; and a connection that is lost costs nothing that was promised.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat import Client
from agentchat.errors import Unavailable
from agentchat_relay.embedded import running
from agentchat_relay.store.seam import Lane
from agentchat_relay.wire import new_id, now
from tests import postgres
from tests.relay import database
from tests.relay.conftest import UNLIMITED, until
from tests.relay.peek import DEADLINE, REFUSAL, Function, Peek, failing, space

_groups = count(1)


@pytest.fixture
def schema() -> str:
    return postgres.new_schema()


@pytest.fixture
def peek(schema: str) -> Iterator[Peek]:
    with peek_at(schema) as made:
        yield made


def peek_at(url: str, **options: Any) -> closing[Peek]:
    return closing(Peek(url, **options))


def called(url: str, **settings: str) -> str:
    """The URL with a name for its connections, by which they can be found, and with settings of their sessions."""
    options = quote("".join(f" -c {name}={value}" for name, value in settings.items()))
    return f"{url}{options}&application_name=suite-{uuid.uuid4().hex[:12]}"


def end_connections(url: str, which: str = "true") -> int:
    """End the connections of a URL that has a name, and wait until they are ended; how many that were."""
    name = url.rpartition("=")[2]
    with psycopg.connect(postgres.url(), autocommit=True) as operator:
        sql = "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE application_name = %s AND "
        return sum(ended for (ended,) in operator.execute(sql + which, (name,)).fetchall())  # type: ignore[arg-type]


class Turn:
    """Another process, which writes what a relay would, and does not come to an end."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, cursor_factory=psycopg.RawCursor)
        self._connection.execute(database.TURN)

    def ask(self, sql: str, *values: Any) -> Any:
        return self._connection.execute(sql, values).fetchone()

    def post(self, text: str) -> None:
        """A message in #general, and its event, at the next places."""
        (channel, number, chats, at, space_id) = self.ask(
            "UPDATE channels SET number = number + 1, chats = chats + 1, last_at = $1 WHERE name = 'general' "
            "RETURNING id, number, chats, last_at, space_id",
            now(),
        )
        (id, author) = self.ask("SELECT coalesce(max(id), 0) + 1, (SELECT min(id) FROM agents) FROM messages")
        self._connection.execute("UPDATE channels SET latest_id = $1 WHERE id = $2", (id, channel))
        self._connection.execute(
            "INSERT INTO messages (id, public_id, channel_id, number, chats, created_at, author_id, kind, content) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, 'chat', $8)",
            (id, new_id(at), channel, number, chats, at, author, text),
        )
        (position,) = self.ask("UPDATE spaces SET position = position + 1 WHERE id = $1 RETURNING position", space_id)
        self._connection.execute(
            "INSERT INTO events (space_id, position, kind, subject, created_at, hash) VALUES ($1, $2, 'x', '', $3, '')",
            (space_id, position, at),
        )

    def end(self, how: str) -> None:
        self._connection.execute(how)
        self._connection.close()


def waiting_for_a_turn(schema: str) -> int:
    """How many processes wait for the lock of this schema."""
    sql = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objsubid = 1
    AND (CAST(classid AS BIGINT) << 32) | CAST(objid AS BIGINT) = hashtextextended('agentchat ' || current_schema(), 0)
    """
    return int(database.ask(schema, sql.strip())[0][0])


# A turn that takes long


@pytest.mark.parametrize("how", ["COMMIT", "ROLLBACK"])
def test_nothing_is_seen_before_what_comes_before_it(schema: str, how: str):
    with (
        running(settings=UNLIMITED._replace(store=schema)) as relay,
        Client(relay.url, relay.token("mac-ann"), retries=0) as ann,
        Client(relay.url, relay.token("mac-bob"), retries=0) as bob,
    ):
        ann.send_message("general", "first")
        cursor = bob.read_messages("general")["next_cursor"]
        ((events,),) = database.ask(schema, "SELECT max(position) FROM events")
        turn = Turn(schema)
        turn.post("theirs")
        senders = [threading.Thread(target=ann.send_message, args=("general", f"ours {n}")) for n in range(3)]
        for sender in senders:
            sender.start()
        until(lambda: waiting_for_a_turn(schema) == 1)
        page = bob.read_messages("general", cursor=cursor)
        assert page["messages"] == []
        assert [message["content"] for message in bob.read_messages("general")["messages"]] == ["first"]
        assert database.ask(schema, "SELECT max(position) FROM events") == [(events,)]
        assert all(sender.is_alive() for sender in senders)
        turn.end(how)
        for sender in senders:
            sender.join(DEADLINE)
        found = [message["content"] for message in bob.read_messages("general", cursor=page["next_cursor"])["messages"]]
        theirs = ["theirs"] if how == "COMMIT" else []
        assert found[: len(theirs)] == theirs
        assert sorted(found[len(theirs) :]) == [f"ours {n}" for n in range(3)]
    check_numbers(schema)


def check_numbers(schema: str) -> None:
    with peek_at(schema) as peek:
        peek.check_numbers()


def test_whoever_does_nothing_with_its_turn_loses_it(schema: str):
    """As a process that was stopped, or whose machine is gone."""
    stopped, going = threading.Event(), threading.Event()
    told: list[Any] = []

    def stop(tx: Any) -> None:
        space("never")(tx)
        stopped.set()
        going.wait(DEADLINE)

    with (
        peek_at(called(schema, idle_in_transaction_session_timeout="300ms")) as slow,
        peek_at(schema) as other,
    ):
        slow.store.submit(Lane.WRITE, stop, lambda *outcome: told.append(outcome))
        assert stopped.wait(DEADLINE)
        other.ask(Lane.APPEND, other.post("goes on"))
        assert other.contents() == ["goes on"]
        assert told == []
        going.set()
        until(lambda: bool(told))
        assert isinstance(told[0][1], Unavailable)
        assert other.spaces() == {"main"}
        slow.ask(Lane.APPEND, slow.post("me too"))
        assert other.contents() == ["goes on", "me too"]
        other.check_numbers()


def test_a_long_read_is_in_nobodys_way(peek: Peek):
    """Neither of a write nor of other reads, though it keeps one of the readers busy."""
    began, going, over = threading.Event(), threading.Event(), threading.Event()

    def long(tx: Any) -> Any:
        began.set()
        going.wait(DEADLINE)
        return [row["name"] for row in tx.all("list_spaces")]

    told: list[Any] = []
    peek.store.submit(Lane.READ, long, lambda *outcome: (told.append(outcome), over.set()))
    assert began.wait(DEADLINE)
    for number in range(20):
        peek.ask(Lane.WRITE, space(f"s{number}"))
        assert len(peek.ask(Lane.READ, lambda tx: tx.all("list_spaces"))) == 2 + number
    going.set()
    assert over.wait(DEADLINE)
    assert told == [(["main"], None)]


# Connections that are lost


def test_the_end_of_idle_connections_is_nobodys_business(schema: str):
    url = called(schema)
    with peek_at(url) as peek:
        for number in range(10):
            assert end_connections(url) >= 1
            peek.ask(Lane.APPEND, peek.post(f"{number}"))
            assert end_connections(url) >= 1
            assert len(peek.ask(Lane.READ, lambda tx: tx.all("list_spaces"))) == 1
        assert peek.contents() == [f"{number}" for number in range(10)]
        peek.check_numbers()


KINDS = ["post", "space", "refused", "cut short", "cut at the end"]


@pytest.fixture(scope="module")
def fragile() -> Iterator[tuple[Peek, str]]:
    url = called(postgres.new_schema())
    with peek_at(url) as made:
        yield made, url


@settings(max_examples=15, deadline=None)
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=8))
def test_what_was_told_is_so_wherever_the_connection_is_lost(fragile: tuple[Peek, str], kinds: list[str]):
    peek, url = fragile
    group, kept, made = next(_groups), peek.contents(), peek.spaces()

    def cut(then: Callable[[Any], object]) -> Function:
        """Ends the transaction's connection the first time it is run."""
        runs = count()

        def call(tx: Any) -> None:
            tx.the("newest_message")
            if next(runs) == 0:
                assert end_connections(url, f"pid = {tx._connection.info.backend_pid}") == 1
            then(tx)

        return call

    calls: list[tuple[Lane, Function]] = []
    for number, kind in enumerate(kinds):
        name = f"{group}-{number}"
        post = peek.post(name, key=name)
        call: dict[str, tuple[Lane, Function]] = {
            "post": (Lane.APPEND, post),
            "space": (Lane.WRITE, space(name)),
            "refused": (Lane.APPEND, failing(REFUSAL)),
            "cut short": (Lane.WRITE, cut(space(name))),
            "cut at the end": (Lane.WRITE, cut(lambda tx: None)),
        }
        calls.append(call[kind])
    told = peek.together(*calls)
    for number, (kind, (_, error)) in enumerate(zip(kinds, told, strict=True)):
        assert error is None or error is REFUSAL or isinstance(error, Unavailable), (kind, error)
        name = f"{group}-{number}"
        kept += [name] if kind == "post" and error is None else []
        made |= {name} if kind in ("space", "cut short") and error is None else set()
    assert peek.contents() == kept
    assert peek.spaces() == made
    for number, kind in enumerate(kinds):  # whoever was told to try again does, with the same key
        if kind == "post":
            peek.ask(Lane.APPEND, peek.post(f"{group}-{number}", key=f"{group}-{number}"))
    assert sorted(peek.contents()) == sorted({*kept, *(f"{group}-{n}" for n, k in enumerate(kinds) if k == "post")})
    peek.check_numbers()


def forget(tx: Any) -> None:
    tx.forget()


def test_news_that_was_lost_comes_late(schema: str):
    url = called(schema)
    with peek_at(url) as deaf, peek_at(schema) as other:
        for _ in range(3):
            until(lambda: deaf.store.epoch == other.store.epoch)
            until(lambda: end_connections(url) > 0)
            other.ask(Lane.WRITE, forget)
        until(lambda: deaf.store.epoch == other.store.epoch)


def test_news_is_quick(schema: str):
    """Much quicker, nearly always, than somebody who only looks every few seconds could have them."""
    slow = 0
    with peek_at(schema) as one, peek_at(schema) as other:
        for number in range(40):
            teller, told = (one, other) if number % 2 else (other, one)
            teller.ask(Lane.WRITE, forget)
            began = time.monotonic()
            until(lambda told=told, teller=teller: told.store.epoch == teller.store.epoch)
            slow += time.monotonic() - began > 1
    assert slow < 10


def test_news_come_to_a_relay_that_holds_a_thousand_streams(schema: str, caplog: pytest.LogCaptureFixture):
    with ExitStack() as stack:
        for _ in range(1100):  # which leave no low descriptor for a connection that is made anew
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        one, other = stack.enter_context(peek_at(schema)), stack.enter_context(peek_at(schema))
        other.ask(Lane.WRITE, forget)
        until(lambda: one.store.epoch == other.store.epoch)
    assert "Listening" not in caplog.text
