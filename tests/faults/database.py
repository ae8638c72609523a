"""The Postgres of a round: what happens to it, and what it holds at the end, asked in plain SQL."""

from __future__ import annotations

import random
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg

from tests import postgres
from tests.faults.histories import Kept

# A session that stands still for long loses its turn, one that waits for long gives up: both within a round.
LIMITS = {"idle_in_transaction_session_timeout": "400ms", "lock_timeout": "1500ms"}
_RELAYS = "FROM pg_stat_activity WHERE application_name = 'agentchat'"
_TURN = "SELECT pg_advisory_xact_lock(hashtextextended('agentchat ' || current_schema(), 0))"
# What its log may say of sessions that were struck, or waited in vain.
_EXPECTED = re.compile("canceling statement due to (lock|statement) timeout|terminating")


class Database:
    """A schema of its own on a server that nobody else uses meanwhile."""

    def __init__(self, server: postgres.Server) -> None:
        self._server = server
        self._logged = len(server.log())
        self.url = postgres.new_schema(server.url, **LIMITS)

    # What happens to it

    def restart(self) -> None:
        """In order: its sessions are ended, what they were about is undone."""
        self._server.stop(signal.SIGINT)

    def crash(self) -> None:
        """All its processes end at once; the next start recovers from its log."""
        self._server.stop(signal.SIGQUIT)

    def start(self) -> None:
        self._server.start()

    def end_sessions(self, luck: random.Random) -> None:
        """Some of the relays', whatever they are doing."""
        share = luck.choice([0.2, 0.5, 1.0])
        with self._connect() as connection:
            found = connection.execute(f"SELECT pid {_RELAYS} ORDER BY backend_start").fetchall()
            for (pid,) in found:
                if luck.random() < share:
                    connection.execute("SELECT pg_terminate_backend(%s)", [pid])

    def end_writer(self) -> bool:
        """The session that has its turn, in mid-transaction."""
        with self._connect() as connection:
            found = connection.execute(
                "SELECT pg_terminate_backend(a.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
                "WHERE l.locktype = 'advisory' AND l.granted AND a.application_name = 'agentchat'"
            ).fetchall()
        return bool(found)

    def hold_turn(self, seconds: float, over: threading.Event) -> None:
        """Nobody writes meanwhile."""
        with suppress(psycopg.errors.LockNotAvailable), self._connect() as connection:
            connection.execute("SET idle_in_transaction_session_timeout = 0")
            with connection.transaction():
                connection.execute(_TURN)
                over.wait(seconds)

    # What it holds

    def complaints(self, kept: Kept) -> Iterator[str]:
        """Rows that cannot be, and faults that its log tells of."""
        with self._connect() as connection:
            for what, sql in RULES.items():
                if rows := connection.execute(sql).fetchall():
                    yield f"the database: {what}: {rows[:3]}"
            stored = {row[0] for row in connection.execute("SELECT public_id FROM messages")}
        shown = {row.id for row in kept.rows()}
        yield from (f"{id}: a row of the database that no relay shows" for id in stored - shown)
        yield from (f"{id}: shown by a relay, and no row of the database" for id in shown - stored)
        yield from self.faults()

    def faults(self) -> Iterator[str]:
        for line in self._server.log()[self._logged :].splitlines():
            if " ERROR: " in line.replace("  ", " ") and not _EXPECTED.search(line):
                yield f"the log of Postgres: {line}"

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.url, autocommit=True, application_name="campaign")


# Each finds nothing if all is well.
RULES = {
    "numbers of a channel have holes, or its times do not grow": """
        SELECT * FROM (
            SELECT channel_id, number, chats, id, created_at,
                lag(number, 1, 0::bigint) OVER w AS before, lag(created_at, 1, 0::bigint) OVER w AS at,
                lag(id, 1, 0::bigint) OVER w AS id_before, count(*) FILTER (WHERE kind <> 'status') OVER w AS counted
            FROM messages WINDOW w AS (PARTITION BY channel_id ORDER BY number)
        ) AS walked
        WHERE number <> before + 1 OR created_at <= at OR id <= id_before OR chats <> counted""",
    "a channel's counters are wrong": """
        SELECT c.name, c.number, c.chats, c.last_at, c.latest_id, m.* FROM channels c LEFT JOIN (
            SELECT channel_id, max(number) AS n, count(*) FILTER (WHERE kind <> 'status') AS said,
                max(created_at) AS newest, max(id) FILTER (WHERE kind <> 'status') AS latest
            FROM messages GROUP BY channel_id
        ) AS m ON m.channel_id = c.id
        WHERE (c.number, c.chats, c.last_at) <> (coalesce(n, 0), coalesce(said, 0), coalesce(newest, 0))
            OR c.latest_id IS DISTINCT FROM m.latest""",
    "positions of events have holes": """
        SELECT s.name, s.position, count(e.position), min(e.position), max(e.position)
        FROM spaces s LEFT JOIN events e ON e.space_id = s.id GROUP BY s.id
        HAVING s.position <> count(e.position) OR s.position <> coalesce(max(e.position), 0)""",
    "a message without its one event, or an event without its message": """
        SELECT m.public_id, e.subject FROM messages m
        FULL JOIN (SELECT * FROM events WHERE kind = 'message.created') AS e ON e.subject = m.public_id
        GROUP BY 1, 2 HAVING count(*) <> 1 OR m.public_id IS NULL OR e.subject IS NULL""",
    "an item of an inbox without its one event, or the other way round": """
        SELECT i.public_id, e.subject FROM inbox i
        FULL JOIN (SELECT * FROM events WHERE kind = 'inbox.added') AS e ON e.subject = i.public_id
        GROUP BY 1, 2 HAVING count(*) <> 1 OR i.public_id IS NULL OR e.subject IS NULL""",
    "events stand in another order than their messages": """
        SELECT * FROM (
            SELECT e.position, m.id, lag(m.id, 1, 0::bigint) OVER w AS before
            FROM events e JOIN messages m ON m.public_id = e.subject WHERE e.kind = 'message.created'
            WINDOW w AS (PARTITION BY e.space_id ORDER BY e.position)
        ) AS walked WHERE id <= before""",
    "a read cursor counts wrong": """
        SELECT c.name, b.* FROM memberships b JOIN channels c ON c.id = b.channel_id,
            LATERAL (
                SELECT count(*) FILTER (WHERE created_at <= b.read_at) AS read,
                    count(*) FILTER (WHERE created_at > b.read_at AND author_id = b.agent_id) AS own
                FROM messages m WHERE m.channel_id = b.channel_id AND m.kind <> 'status'
            ) AS counted
        WHERE c.name <> 'direct-messages' AND b.read_at > 0
            AND (b.read_chats, b.own_above) <> (counted.read, counted.own)""",
    "one key has two effects": """
        SELECT agent, key FROM (
            SELECT author_id AS agent, key FROM messages UNION ALL SELECT author_id, key FROM files
            UNION ALL SELECT agent_id, key FROM answers
        ) AS effects WHERE key IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1""",
    "a row hangs in the air": """
        SELECT 'message', m.id FROM messages m LEFT JOIN channels c ON c.id = m.channel_id
            LEFT JOIN agents a ON a.id = m.author_id LEFT JOIN messages p ON p.id = m.parent_id
        WHERE c.id IS NULL OR a.id IS NULL OR (m.parent_id IS NOT NULL AND (p.id IS NULL OR p.id >= m.id))
        UNION ALL SELECT 'pin', p.message_id FROM pins p LEFT JOIN messages m ON m.id = p.message_id
            WHERE m.channel_id IS DISTINCT FROM p.channel_id
        UNION ALL SELECT 'inbox', i.id FROM inbox i LEFT JOIN messages m ON m.id = i.message_id WHERE m.id IS NULL""",
}
