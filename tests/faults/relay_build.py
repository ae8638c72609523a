"""A build of the relay that breaks one promise, so that the campaign can show that it would notice.

python -m tests.faults.relay_build BROKEN --data DIR --port PORT …    # otherwise like agentchat serve

    fsync    the store does not sync its commits
    dedupe   idempotency keys are not looked at
    early    posts are answered before their commit, which a slow disk delays
"""

from __future__ import annotations

import functools
import sqlite3
import sys
import time
from collections.abc import Sequence
from typing import Any

from agentchat_relay import relay
from agentchat_relay.cli import serve
from agentchat_relay.http.app import Handler, routes
from agentchat_relay.http.parts import Parts
from agentchat_relay.http.reply import Reply
from agentchat_relay.http.request import Request
from agentchat_relay.store.lane import Waiting
from agentchat_relay.store.seam import Lane, Outcome
from agentchat_relay.store.sqlite import Sqlite

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


class EarlySqlite(Sqlite):
    """Delivers the outcome of a post as soon as there is one."""

    def _attempt(self, waiting: Waiting, alone: bool) -> Outcome:
        _, result, error = outcome = super()._attempt(waiting, alone)
        if waiting.lane != Lane.APPEND:
            return outcome
        self._deliver([outcome])
        return _nobody, result, error


def _nobody(result: Any, error: BaseException | None) -> None:
    """Whom the outcome is delivered to a second time."""


def main(broken: str, arguments: Sequence[str]) -> int:
    options: dict[str, dict[str, Any]] = {
        "fsync": {"synchronous": "OFF"},
        "dedupe": {"make_routes": routes_without_keys},
        "early": {"connect": slow},
    }
    if broken == "early":
        relay.Sqlite = EarlySqlite
    relay.serve = functools.partial(relay.serve, **options[broken])
    return serve.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
