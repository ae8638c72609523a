"""What every session of a relay insists on, unless the URL says otherwise."""

from __future__ import annotations

import select
from contextlib import closing
from typing import Any

import psycopg
import pytest

from agentchat_relay.store.groups import NoDatabase
from agentchat_relay.store.postgres.connection import connect as connect_to
from agentchat_relay.store.postgres.connection import control, is_lost
from agentchat_relay.store.postgres.engine import Postgres
from agentchat_relay.store.seam import Lane
from tests import postgres

TIMES = "SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout')"


def test_a_session_that_stands_still_is_ended_by_postgres() -> None:
    with closing(connect_to(postgres.new_schema())) as connection:
        assert control(connection, TIMES) == [("10s", "20s")]


def test_what_the_url_says_wins() -> None:
    url = postgres.new_schema(idle_in_transaction_session_timeout="500ms")
    with closing(connect_to(url)) as connection:
        assert control(connection, TIMES) == [("500ms", "20s")]
        assert control(connection, "SELECT current_schema() LIKE 'test_%'") == [("t",)]


@pytest.mark.parametrize("command", ["COMMIT", "BEGIN; SELECT 1"])
def test_a_lost_connection_is_an_operational_error(command: str) -> None:
    """As with psycopg's own statements: the writer has to know that nobody can say what came of its commit."""
    url = postgres.new_schema()
    with closing(connect_to(url)) as connection, psycopg.connect(url, autocommit=True) as other:
        control(connection, "BEGIN; CREATE TABLE written (id BIGINT)")
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            control(connection, command)
        assert is_lost(connection)


@pytest.mark.parametrize("lane", [Lane.READ, Lane.WRITE])
def test_a_call_that_stood_still_may_be_tried_again(lane: Lane) -> None:
    """Its session was ended meanwhile, and what it says then is a code of the caller's own doing."""

    def stand_still(tx: Any) -> None:
        select.select([tx._connection.pgconn.socket], [], [])  # until Postgres says that it is over
        tx.one("space_by_name", name="main")

    with closing(Postgres(postgres.new_schema(idle_in_transaction_session_timeout="100ms"), readers=1)) as store:
        with pytest.raises(NoDatabase):
            store.ask(lane, stand_still)
        assert store.ask(lane, lambda tx: tx.all("space_ids")) == []
