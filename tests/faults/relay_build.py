"""A build of the relay that breaks one promise, so that a campaign can show that it would notice.

python -m tests.faults.relay_build BROKEN --data DIR --port PORT …    # otherwise like agentchat serve

    fsync     the store does not sync its commits
    dedupe    idempotency keys are not looked at
    early     posts are answered before their commit, which a slow disk delays
    eio       a commit whose fsync failed counts as done
    enospc    a commit that the disk had no room for counts as done
    clock     a message gets the clock's time, whatever the one before it has
    onward    the store goes on after a checkpoint that could not be synced

    eager     what is half as old as it must be is purged, ten times a second

    copy      breaks nothing, but does its chores ten times a second, as hurried does
    hurried   breaks nothing, but does its chores ten times a second, and brings the database up to date twenty times
"""

from __future__ import annotations

import functools
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from agentchat import cli
from agentchat_relay import chores, relay
from agentchat_relay.http.app import Handler, routes
from agentchat_relay.http.parts import Parts
from agentchat_relay.http.reply import Reply
from agentchat_relay.http.request import Request
from agentchat_relay.service import retention
from agentchat_relay.store import opening
from agentchat_relay.store.lane import Waiting
from agentchat_relay.store.seam import Lane, Outcome, Place
from agentchat_relay.store.sqlite import engine as sqlite
from agentchat_relay.store.sqlite.engine import Sqlite
from agentchat_relay.store.sqlite.transaction import WriteTransaction

SLOW = 0.02  # seconds that a commit takes longer


def routes_without_keys(parts: Parts) -> dict[tuple[str, str], Handler]:
    return {route: _without_key(handler) for route, handler in routes(parts).items()}


def _without_key(handler: Handler) -> Handler:
    async def handle(request: Request) -> Reply:
        request.headers.pop(b"idempotency-key", None)
        return await handler(request)

    return handle


class SlowCommits(sqlite3.Connection):
    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            time.sleep(SLOW)
        return super().execute(sql, *values)


def slow(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30, factory=SlowCommits)
    connection.row_factory = sqlite3.Row
    return connection


class Careless(sqlite3.Connection):
    """Takes a commit that failed in a certain way for one that did not."""

    ignored = ""

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        try:
            return super().execute(sql, *values)
        except sqlite3.OperationalError as error:
            if sql != "COMMIT" or error.sqlite_errorname != self.ignored:
                raise
            return super().execute("ROLLBACK" if self.in_transaction else "SELECT 1")


def careless(error: str) -> Callable[[str], sqlite3.Connection]:
    factory = type("Careless", (Careless,), {"ignored": error})

    def connect(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30, factory=factory)
        connection.row_factory = sqlite3.Row
        return connection

    return connect


class EarlySqlite(Sqlite):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        deliver_early(self)


def deliver_early(store: Any) -> None:
    """Let a store deliver the outcome of a post as soon as there is one."""
    attempt = store._groups._attempt

    def early(waiting: Waiting, alone: bool) -> Outcome:
        _, result, error = outcome = attempt(waiting, alone)
        if waiting.lane != Lane.APPEND:
            return outcome
        store._deliver([outcome])
        return _nobody, result, error

    store._groups._attempt = early


def _nobody(result: Any, error: BaseException | None) -> None:
    """Whom the outcome is delivered to a second time."""


def place_by_the_clock(self: WriteTransaction, channel_id: int, *, chat: bool) -> Place:
    self.standing(channel_id)
    self._channels[channel_id].at = 0
    return _place(self, channel_id, chat=chat)


_place = WriteTransaction.place
HURRY = 0.05  # seconds between two checkpoints


def main(broken: str, arguments: Sequence[str]) -> int:
    options: dict[str, dict[str, Any]] = {
        "fsync": {"synchronous": "OFF"},
        "dedupe": {"make_routes": routes_without_keys},
        "early": {"connect": slow},
        "eio": {"connect": careless("SQLITE_IOERR_FSYNC")},
        "enospc": {"connect": careless("SQLITE_FULL")},
        "onward": {"give_up": lambda error: None},
    }
    if broken == "early":
        opening.Sqlite = EarlySqlite
    if broken == "clock":
        WriteTransaction.place = place_by_the_clock
    if broken == "eager":
        retention.DAY //= 2
    if broken in ("onward", "hurried"):
        sqlite._BETWEEN_CHECKPOINTS = HURRY
    if broken in ("eager", "copy", "hurried"):
        chores._BETWEEN = 2 * HURRY
    relay.serve = functools.partial(relay.serve, **options.get(broken, {}))
    return cli.main(["serve", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
