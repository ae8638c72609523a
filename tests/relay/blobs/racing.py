"""One of several processes that upload and remove the same few contents: `racing.py ROOT DATABASE SEED ROUNDS [bare]`.

Rows are in SQLite, as in a store: an upload's row is committed after its content was placed, a removal looks at the
rows. `bare` does without a guard. It ends with 1 as soon as a row names a content that is not there.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import threading
from contextlib import closing

from agentchat.errors import NotFound
from agentchat_relay.blobs.directory import DirectoryBlobs
from agentchat_relay.blobs.guards import InProcess
from agentchat_relay.blobs.seam import Blobs, Guard, Hold

HOLDS_NOTHING: Hold = InProcess().share()


class Bare(Guard):
    """Everybody may do anything."""

    def share(self) -> Hold:
        return HOLDS_NOTHING

    def alone(self) -> Hold | None:
        return HOLDS_NOTHING

    def close(self) -> None:
        pass


def connect(database: str) -> sqlite3.Connection:
    rows = sqlite3.connect(database, timeout=60, isolation_level=None)
    rows.execute("PRAGMA synchronous = OFF")
    rows.execute("CREATE TABLE IF NOT EXISTS files (hash TEXT, uploader TEXT)")
    return rows


def upload(blobs: Blobs, rows: sqlite3.Connection, content: bytes, uploader: str) -> str:
    with blobs.writer(1) as writer:
        writer.write(content)
        sha256 = writer.finish()
    rows.execute("INSERT INTO files VALUES (?, ?)", (sha256, uploader))
    writer.hold.release()
    return sha256


def is_named(rows: sqlite3.Connection, sha256: str) -> bool:
    return rows.execute("SELECT 1 FROM files WHERE hash = ?", (sha256,)).fetchone() is not None


def race(root: str, database: str, uploader: str, seed: int, rounds: int, *, bare: bool) -> None:
    """Only whoever made a row deletes it, so that every content is there as long as its row is."""
    chance = random.Random(seed)
    blobs = DirectoryBlobs(root)
    if bare:
        blobs._guard = Bare()
    with closing(connect(database)) as rows:
        for _ in range(rounds):
            sha256 = upload(blobs, rows, b"content %d" % chance.randrange(3), uploader)
            blobs.open(1, sha256).close()
            rows.execute("DELETE FROM files WHERE hash = ? AND uploader = ?", (sha256, uploader))
            blobs.drop(1, sha256, lambda: is_named(rows, sha256))  # noqa: B023 - called at once
    blobs.close()


def main() -> int:
    root, database, seed, rounds, *bare = sys.argv[1:]
    lost: list[NotFound] = []

    def guarded(number: int) -> None:
        try:
            race(root, database, f"{seed}.{number}", int(seed) * 100 + number, int(rounds), bare=bool(bare))
        except NotFound as error:
            lost.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main())
