"""Ephemeral messages on Postgres: out of the tables' files, and what happens where several relays serve."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

import psycopg
import pytest

from agentchat import Client, errors
from agentchat_relay import chores
from agentchat_relay.embedded import running
from agentchat_relay.settings import Settings
from agentchat_relay.store.postgres.connection import connect
from agentchat_relay.store.postgres.engine import vacuum
from tests import postgres
from tests.relay.conftest import until


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.server() as made:
        yield made


def settings_of(url: str) -> Settings:
    return Settings(store=url, agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)


def is_gone(client: Client, message_id: str) -> bool:
    with contextlib.suppress(errors.NotFound):
        client.get_message(message_id)
        return False
    return True


def test_the_tables_files_lose_what_vanished(server: postgres.Server, monkeypatch: pytest.MonkeyPatch):
    """Once they are vacuumed and new rows have taken its place. Nothing of it is in an index or another table."""
    monkeypatch.setattr(chores, "_BETWEEN_VACUUMS", 0.1)
    words = [f"w{secrets.token_hex(12)}" for _ in range(40)]
    with running(settings=settings_of(server.url)) as relay, contextlib.ExitStack() as stack:
        ann, bob = (stack.enter_context(Client(relay.url, relay.token(name))) for name in ("ann", "bob"))
        ids = []
        for word in words:
            ann.send_message("room", "a post that stays")
            ids.append(ann.send_direct_message("bob", word, ephemeral=True)["message"]["id"])
        assert ann.search_messages(words[0])["results"] == []
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            assert files_with(server, words) == {file_of(connection, "messages")}
            while bob.claim_items(limit=50, acknowledge=True)["items"]:
                pass
            until(lambda: all(is_gone(ann, id) for id in ids))

            def is_clean() -> bool:
                for _ in range(20):
                    ann.send_message("room", "one more post that stays")
                connection.execute("CHECKPOINT")
                return not files_with(server, words)

            until(is_clean, 60)


def files_with(server: postgres.Server, words: list[str]) -> set[str]:
    """Files of tables and indexes in which any of these words stands."""
    found = set()
    for file in [*(server.data / "base").rglob("*")]:
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            content = file.read_bytes()
            if any(word.encode() in content for word in words):
                found.add(str(file.relative_to(server.data)))
    return found


def file_of(connection: psycopg.Connection, table: str) -> str:
    (path,) = connection.execute("SELECT pg_relation_filepath(%s)", (table,)).fetchone() or ("",)
    return str(path)


def test_a_vacuum_that_may_not_be_says_so(server: postgres.Server):
    with psycopg.connect(server.url, autocommit=True) as owner:
        owner.execute("CREATE SCHEMA foreign_tables")
        owner.execute("CREATE TABLE foreign_tables.messages (id INT)")
        owner.execute("CREATE TABLE foreign_tables.files (id INT)")
        owner.execute("CREATE ROLE onlooker LOGIN")
        owner.execute("GRANT USAGE ON SCHEMA foreign_tables TO onlooker")
    for user, wanted in (("postgres", 0), ("onlooker", 2)):
        url = f"{server.url_of(user)}?options=-c%20search_path%3Dforeign_tables"
        with contextlib.closing(connect(url)) as connection:
            assert len(vacuum(connection)) == wanted


def test_another_relay_sees_to_it(server: postgres.Server):
    """Sent here, acknowledged there; two relays that both want to remove it do so once."""
    url = postgres.in_schema(server.url, "two_relays")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA two_relays")
    with contextlib.ExitStack() as stack:
        one, two = (stack.enter_context(running(settings=settings_of(url))) for _ in range(2))
        ann = stack.enter_context(Client(one.url, one.token("ann")))
        bob = stack.enter_context(Client(two.url, two.token("bob")))
        ids = [ann.send_direct_message("bob", "short", ephemeral=True)["message"]["id"] for _ in range(30)]
        for _ in ids:
            bob.claim_items(limit=1, acknowledge=True)
        until(lambda: all(is_gone(ann, id) for id in ids))
        kinds = [event["kind"] for event in ann.list_events(since=0, limit=500)["events"]]
        assert kinds.count("message.vanished") == len(ids)
        rows = one.ask(lambda tx: tx.all("list_channels", space_id=1))
        assert next((row["number"], row["purged"]) for row in rows if row["name"] == "direct-messages") == (30, 30)
