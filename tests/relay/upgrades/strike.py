"""Opens stores, and ends in the middle of it. It forks for each, so that one costs milliseconds, not an interpreter.

A line on stdin is a job: a directory, and when the process that opens the store there comes to its end: after so many
statements (of any of its connections), or killed from outside after so many seconds; with neither it goes through. The
answer is a line with the number of statements, -1 if it did not come to tell.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import time
from typing import Any, TypedDict

from agentchat_relay.store.sqlite.engine import Sqlite


class Job(TypedDict):
    directory: str
    statements: int | None
    seconds: float | None


class Counting(sqlite3.Connection):
    """Ends the process, as a power switch would, once enough was executed."""

    left: int | None = None
    executed = 0

    def execute(self, *arguments: Any) -> sqlite3.Cursor:  # type: ignore[override]
        if Counting.executed == Counting.left:
            os._exit(9)
        Counting.executed += 1
        return super().execute(*arguments)


def connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30, factory=Counting)
    connection.row_factory = sqlite3.Row
    return connection


def opened(job: Job, answer: int) -> None:
    """In the child."""
    Counting.left = job["statements"]
    Sqlite(job["directory"], connect=connect).close()
    os.write(answer, b"%d" % Counting.executed)


def struck(job: Job) -> int:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            opened(job, writing)
        finally:
            os._exit(1)
    os.close(writing)
    if job["seconds"] is not None:
        time.sleep(job["seconds"])  # any moment will do
        os.kill(child, signal.SIGKILL)
    with open(reading, "rb") as pipe:
        executed = int(pipe.read() or -1)
    os.waitpid(child, 0)
    return executed


if __name__ == "__main__":
    for line in sys.stdin:
        print(struck(json.loads(line)), flush=True)
