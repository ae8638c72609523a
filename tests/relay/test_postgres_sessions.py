"""Connections to Postgres: what every session insists on, unless the URL says otherwise."""

from __future__ import annotations

from contextlib import closing

from agentchat_relay.store.postgres.connection import connect as connect_to
from agentchat_relay.store.postgres.connection import control
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
