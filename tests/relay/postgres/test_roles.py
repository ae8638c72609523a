"""A relay whose role owns nothing: it can serve, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from agentchat import Client
from agentchat.cli import main
from agentchat_relay.embedded import running
from agentchat_relay.store.postgres import roles
from tests import postgres
from tests.relay.conftest import UNLIMITED, until

ROLE, OTHERS = "relay_of_tests", "others_of_tests"


@pytest.fixture(scope="module")
def place() -> Iterator[dict[str, str]]:
    """A schema with tables, as its owner and as a relay see it; and one of another application."""
    owner, other = postgres.new_schema(), postgres.new_schema()
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(f"DROP ROLE IF EXISTS {ROLE}")
        connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'relay'")
    with psycopg.connect(other, autocommit=True) as connection:
        connection.execute("CREATE TABLE salaries AS SELECT 1 AS amount")
    assert main(["admin", "migrate", "--store", owner, "--grant", ROLE]) == 0
    yield {"owner": owner, "relay": postgres.as_role(owner, ROLE), "other": postgres.schema_of(other)}
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")


def refused(url: str, statement: str) -> bool:
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            return True
    return False


def test_it_serves(place: dict[str, str], tmp_path: Any) -> None:
    settings = UNLIMITED._replace(store=place["relay"], agent_writes=50.0)
    with running(str(tmp_path), settings=settings) as relay, Client(relay.url, relay.token("ann")) as ann:
        relay.token("bob")
        sent = ann.send_message("room", "A tapir for @bob")["message"]
        assert [hit["id"] for hit in ann.search_messages("tapir")["results"]] == [sent["id"]]
        ann.pin_message(sent["id"])
        ann.unpin_message(sent["id"])
        ann.upload_file("room", "a.txt", "a")
        ann.mark_channel_read("room")
        ann.set_card(role="reviewer")
        with Client(relay.url, relay.token("bob")) as bob:
            (mention,) = bob.check_mentions()["mentions"]
            bob.mark_mentions_read([mention["mention_id"]])
        assert main(["admin", "--store", place["relay"], "agent", "delete", "bob"]) == 0
        assert main(["admin", "--store", place["relay"], "stats"]) == 0


@pytest.mark.parametrize("table", [*roles.GRANTS, *roles.SEQUENCES])
def test_it_cannot_change_the_form_of_anything(place: dict[str, str], table: str) -> None:
    kind = "SEQUENCE" if table in roles.SEQUENCES else "TABLE"
    assert refused(place["relay"], f"ALTER {kind} {table} RENAME TO mine")
    assert refused(place["relay"], f"DROP {kind} {table}")
    assert kind == "SEQUENCE" or refused(place["relay"], f"TRUNCATE {table}")


def test_ephemeral_messages_vanish(place: dict[str, str], tmp_path: Any) -> None:
    settings = UNLIMITED._replace(store=place["relay"])
    with running(str(tmp_path), settings=settings) as relay, Client(relay.url, relay.token("ann")) as ann:
        with Client(relay.url, relay.token("cid")) as cid:
            sent = ann.send_direct_message("cid", "a zebra in secret", ephemeral=True)["message"]["id"]
            assert cid.claim_items(acknowledge=True)["items"][0]["message_id"] == sent
        with psycopg.connect(place["owner"], autocommit=True) as connection:
            until(lambda: not connection.execute("SELECT 1 FROM messages WHERE content LIKE '%zebra%'").fetchall())
    with psycopg.connect(place["relay"]) as connection:
        assert connection.info.server_version >= 170_000
        for table in roles.VACUUMED:
            asked = f"SELECT has_table_privilege('{table}', 'MAINTAIN')"
            assert connection.execute(asked.encode()).fetchone() == (True,)
    for statement in (
        "UPDATE messages SET content = 'something else' WHERE vanishes_at < 0",
        "UPDATE messages SET content = ''",
        "UPDATE messages SET content = '', vanishes_at = -1 WHERE vanishes_at IS NULL",
        "UPDATE messages SET author_id = 1, vanishes_at = -1 WHERE vanishes_at < 0",
    ):
        assert refused(place["relay"], statement), statement


def test_it_cannot_change_what_was_said_or_done(place: dict[str, str]) -> None:
    with psycopg.connect(place["owner"]) as connection:
        assert connection.execute("SELECT 1 FROM messages WHERE vanishes_at IS NULL").fetchall()
    for statement in (
        "UPDATE messages SET content = 'something else'",
        "UPDATE events SET kind = 'x'",
        "UPDATE files SET hash = ''",
        "DELETE FROM migrations",
        "INSERT INTO migrations VALUES (99, 'x', 0)",
        "DELETE FROM agents",
        "DELETE FROM secrets",
        "CREATE TABLE mine (a INTEGER)",
        "CREATE FUNCTION mine() RETURNS INTEGER LANGUAGE sql AS 'SELECT 1'",
    ):
        assert refused(place["relay"], statement), statement


def test_it_sees_nothing_of_others(place: dict[str, str]) -> None:
    assert refused(place["relay"], f"SELECT * FROM {place['other']}.salaries")
    assert refused(place["relay"], "SELECT * FROM pg_authid")


def test_every_table_was_thought_of(place: dict[str, str]) -> None:
    asked = "SELECT relname, relkind = 'S' FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
    with psycopg.connect(place["owner"]) as connection:
        found = connection.execute(f"{asked} AND relkind IN ('r', 'S')".encode()).fetchall()
    assert {name for name, is_sequence in found if not is_sequence} == set(roles.GRANTS)
    assert {name for name, is_sequence in found if is_sequence and not name.endswith("_id_seq")} == set(roles.SEQUENCES)


def test_who_may_not_make_the_tables_is_told_how(tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:
    empty = postgres.new_schema()
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(f"DROP ROLE IF EXISTS {OTHERS}")
        connection.execute(f"CREATE ROLE {OTHERS} LOGIN")
        connection.execute(
            "DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO " + OTHERS + "', current_schema()); END $$"
        )
    try:
        # In a process of its own: a relay sets up the log of its whole process.
        command = [sys.executable, "-m", "agentchat", "serve", "--data", str(tmp_path), "--port", "0"]
        command += ["--store", postgres.as_role(empty, OTHERS)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert "agentchat admin migrate --store" in done.stderr
        assert main(["admin", "migrate", "--store", empty, "--grant", "nobody here"]) == 2
        assert "nobody here" in capfd.readouterr().err
    finally:
        with psycopg.connect(empty, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {OTHERS}; DROP ROLE {OTHERS}")
