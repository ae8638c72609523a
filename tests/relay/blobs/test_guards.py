"""Guards: many may share, one may be alone, and nothing that a process leaves behind keeps anybody out."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agentchat.errors import Unavailable
from agentchat_relay.blobs.guards import InProcess, LockFile, kept
from agentchat_relay.blobs.seam import Guard
from agentchat_relay.store.postgres.guard import AdvisoryLock
from tests import postgres

pytestmark = pytest.mark.sqlite

PATIENCE = 30.0
NUMBER = 0x0AC7


def connect() -> psycopg.Connection[Any]:
    return psycopg.connect(postgres.url())


# Two users of one guard, and of two, as different processes have.
PAIRS: dict[str, Callable[[str], list[Guard]]] = {
    "in process": lambda root: [InProcess()] * 2,
    "lock file": lambda root: [LockFile(root)] * 2,
    "two lock files": lambda root: [LockFile(root), LockFile(root)],
    "advisory lock": lambda root: [AdvisoryLock(connect, NUMBER)] * 2,
    "two advisory locks": lambda root: [AdvisoryLock(connect, NUMBER), AdvisoryLock(connect, NUMBER)],
}


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Guard]]:
    made = PAIRS[request.param](str(tmp_path))
    yield made
    for guard in made:
        guard.close()


def test_many_share_and_nobody_is_alone_then(pair: list[Guard]):
    first, second = pair
    holds = [first.share(), first.share(), second.share()]
    for hold in holds:
        assert first.alone() is None
        assert second.alone() is None
        hold.sure()
        hold.release()
        hold.release()
        hold.sure()  # it was held without a gap
    for guard in pair:
        alone = guard.alone()
        assert alone is not None
        alone.sure()
        alone.release()


def test_one_is_alone(pair: list[Guard]):
    first, second = pair
    alone = first.alone()
    assert alone is not None
    assert first.alone() is None
    assert second.alone() is None
    alone.release()
    alone.release()
    again = second.alone()
    assert again is not None
    again.release()


def test_whoever_shares_waits_for_the_one_who_is_alone(pair: list[Guard]):
    first, second = pair
    alone = first.alone()
    assert alone is not None
    order: list[str] = []

    def share(guard: Guard) -> None:
        hold = guard.share()
        order.append("shared")
        hold.release()

    threads = [threading.Thread(target=share, args=(guard,), daemon=True) for guard in (first, second, first)]
    for thread in threads:
        thread.start()
    threads[-1].join(0.1)
    order.append("released")
    alone.release()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == ["released", "shared", "shared", "shared"]


def test_a_backup_and_uploads_share(tmp_path: Path):
    guard = LockFile(str(tmp_path))
    with kept(str(tmp_path)):
        hold = guard.share()
        hold.release()
        assert guard.alone() is None
    alone = guard.alone()
    assert alone is not None
    alone.release()


_HOLDS = """
import sys
from agentchat_relay.blobs.guards import LockFile
guard = LockFile(sys.argv[1])
hold = getattr(guard, sys.argv[2])()
print("holds", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["share", "alone"])
def test_what_a_killed_process_held_is_free(tmp_path: Path, how: str):
    guard = LockFile(str(tmp_path))
    command = [sys.executable, "-c", _HOLDS, str(tmp_path), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        assert guard.alone() is None
        process.kill()
    alone = guard.alone()
    assert alone is not None
    alone.release()


def test_a_lock_file_leaves_no_descriptor_open(tmp_path: Path):
    guard = LockFile(str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    holds = [guard.share() for _ in range(10)]
    assert guard.alone() is None
    for hold in holds:
        hold.release()
    assert len(os.listdir("/proc/self/fd")) == before


# Postgres


def end_sessions() -> None:
    """As a restart or a failover does."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s", [NUMBER]
        )


@pytest.fixture
def locks() -> Iterator[tuple[AdvisoryLock, AdvisoryLock]]:
    """Of two processes."""
    first, second = AdvisoryLock(connect, NUMBER), AdvisoryLock(connect, NUMBER)
    yield first, second
    first.close()
    second.close()


def test_an_upload_whose_session_was_lost_is_told_so(locks: tuple[AdvisoryLock, AdvisoryLock]):
    first, second = locks
    holds = [first.share(), first.share()]
    end_sessions()
    alone = second.alone()
    assert alone is not None, "somebody else may remove what they stored"
    alone.release()
    for hold in holds:
        with pytest.raises(Unavailable, match="try again"):
            hold.sure()
    # Others begin anew, whether those have let go or not.
    fresh = first.share()
    for hold in holds:
        hold.release()
    fresh.sure()
    assert second.alone() is None
    fresh.release()
    for hold in holds:
        with pytest.raises(Unavailable):
            hold.sure()
    alone = second.alone()
    assert alone is not None
    alone.release()


def test_a_session_lost_after_the_release_makes_doubtful_what_was_held(locks: tuple[AdvisoryLock, AdvisoryLock]):
    """The row may have been committed after the loss: nobody can tell any more."""
    hold, other = locks[0].share(), locks[0].share()
    hold.release()
    end_sessions()
    with pytest.raises(Unavailable):
        hold.sure()
    other.release()


def test_a_session_that_was_lost_while_idle_is_replaced(locks: tuple[AdvisoryLock, AdvisoryLock]):
    for acquire in (locks[0].share, locks[0].alone):
        hold = acquire()
        assert hold is not None
        end_sessions()
        hold.release()
        again = acquire()
        assert again is not None
        again.sure()
        again.release()


def test_whoever_is_alone_learns_of_the_loss_before_removing(locks: tuple[AdvisoryLock, AdvisoryLock]):
    alone = locks[0].alone()
    assert alone is not None
    end_sessions()
    with pytest.raises(Unavailable):
        alone.sure()
    alone.release()
    hold = locks[0].share()
    hold.sure()
    hold.release()


def test_without_a_database_nothing_is_held():
    def nowhere() -> psycopg.Connection[Any]:
        return psycopg.connect("postgresql://127.0.0.1:1/none", connect_timeout=2)

    guard = AdvisoryLock(nowhere, NUMBER)
    for acquire in (guard.share, guard.alone, guard.share):
        with pytest.raises(Unavailable):
            acquire()
    guard.close()
