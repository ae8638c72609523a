"""An upgrade without a pause: what runs before, what runs after, who may do it, and several who do it at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest

from agentchat.cli import main
from agentchat.errors import NotConfigured
from agentchat_relay.service import upkeep
from agentchat_relay.store import statements
from agentchat_relay.store.postgres import migrate
from agentchat_relay.store.postgres.engine import Postgres
from agentchat_relay.store.seam import Lane
from tests import postgres

OURS = statements.migrations("postgres")
BEFORE = (90, "pre_more", "CREATE TABLE more (a BIGINT);\nINSERT INTO more VALUES (1);")
AFTER = (91, "post_less", "ALTER TABLE more DROP COLUMN a;")
BROKEN = (92, "pre_broken", "CREATE TABLE half (a BIGINT);\nSELECT 1 / 0;")


def known(patch: pytest.MonkeyPatch, *more: tuple[int, str, str]) -> None:
    """A version with these migrations besides."""
    patch.setattr(migrate, "migrations", lambda engine: [*OURS, *more])


def done(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM migrations ORDER BY number")]


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        asked = "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"
        return {row[0] for row in connection.execute(asked)}


def names(*steps: Sequence[Any]) -> list[str]:
    return [step[1] for step in (*OURS, *steps)]


def test_every_migration_says_when_it_runs() -> None:
    assert all(name.startswith(("pre_", "post_")) for _, name, _ in OURS)


def test_a_new_schema_gets_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, BEFORE, AFTER)
    url = postgres.new_schema()
    Postgres(url).close()
    assert done(url) == names(BEFORE, AFTER)


def test_a_relay_does_what_comes_before_and_leaves_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres.new_schema()
    with closing(Postgres(url)) as old:
        known(monkeypatch, BEFORE, AFTER)
        with caplog.at_level(logging.INFO), closing(Postgres(url)) as new:
            assert done(url) == names(BEFORE)
            assert "0091_post_less" in caplog.text and "agentchat admin migrate" in caplog.text
            assert old.ask(Lane.WRITE, upkeep.seed) and not new.ask(Lane.WRITE, upkeep.seed), "they work side by side"
    assert main(["admin", "migrate", "--store", url]) == 0
    assert "0091_post_less" in capsys.readouterr().out, "it is still to come"
    assert main(["admin", "migrate", "--store", url, "--after", "--json"]) == 0
    assert '"0091_post_less"' in capsys.readouterr().out
    assert done(url) == names(BEFORE, AFTER)
    assert main(["admin", "migrate", "--store", url, "--after"]) == 0
    assert "Nothing was due." in capsys.readouterr().out


def test_an_older_version_goes_on_until_it_no_longer_can(monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgres.new_schema()
    with monkeypatch.context() as newer:
        known(newer, BEFORE, AFTER)
        assert main(["admin", "migrate", "--store", url]) == 0
    with pytest.raises(NotConfigured, match=r"post_less.*Install that version"):
        Postgres(url)
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM migrations WHERE name = 'post_less'")
    Postgres(url).close()


def test_one_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    url = postgres.new_schema()
    known(monkeypatch, BEFORE, BROKEN)
    assert main(["admin", "migrate", "--store", url]) == 2
    assert "division by zero" in capsys.readouterr().err
    assert done(url) == names(BEFORE)
    assert "more" in tables(url) and "half" not in tables(url)
    known(monkeypatch, BEFORE, (92, "pre_broken", "CREATE TABLE half (a BIGINT)"))
    assert main(["admin", "migrate", "--store", url]) == 0
    assert "half" in tables(url)


@pytest.mark.parametrize("is_new", [True, False])
def test_many_that_start_at_once_do_it_once(monkeypatch: pytest.MonkeyPatch, is_new: bool) -> None:
    url = postgres.new_schema()
    if not is_new:
        Postgres(url).close()
    known(monkeypatch, BEFORE)
    with ThreadPoolExecutor(6) as pool:
        for store in pool.map(lambda _: Postgres(url), range(6)):
            store.close()
    assert done(url) == names(BEFORE)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM more").fetchone() == (1,)
