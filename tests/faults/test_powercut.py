"""The simulated power cut keeps what was synced and loses the rest, for SQLite and for plain files."""

from __future__ import annotations

import random
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import pytest

from tests.faults.powercut import PowerCut, commits
from tests.faults.powercut.commits import body, connect

COMMITS = commits.__file__


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests, so that the library is compiled once."""
    return tmp_path_factory.mktemp("scratch")


@contextmanager
def child(power: PowerCut, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Python in the data directory, under the simulator; never outlives the test."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=power.data, env=power.environment(), stdin=pipe, stdout=pipe, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def printed_until_cut(power: PowerCut, lines: int, *arguments: str) -> list[int]:
    """The numbers a child printed before the power went, which was at least so many lines after its start."""
    with child(power, *arguments) as process:
        assert process.stdout
        printed = [int(line) for line in islice(process.stdout, lines)]
        power.cut(process)
        printed += [int(line) for line in process.stdout]
    assert len(printed) >= lines, "the child ended by itself"
    return printed


# SQLite


def stored(data: Path) -> list[int]:
    """The ids in the database, which must be whole. Read in a copy: recovery after a crash writes."""
    copy = shutil.copytree(data, data.with_name("copy"))
    try:
        with closing(sqlite3.connect(copy / "rows.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows = connection.execute("SELECT id, body FROM rows ORDER BY id").fetchall()
    finally:
        shutil.rmtree(copy)
    assert rows == [(identifier, body(identifier)) for identifier in range(1, len(rows) + 1)]
    return [identifier for identifier, _ in rows]


@pytest.mark.parametrize(("synchronous", "may_lose"), [("FULL", False), ("NORMAL", True)])
def test_sqlite_with_checkpoints(synchronous: str, may_lose: bool, data: Path, scratch: Path) -> None:
    """Every acknowledged row survives with FULL, and a consistent past with NORMAL; each round starts on the last."""
    connect(str(data / "rows.db")).close()
    power = PowerCut(data, scratch)
    before: list[int] = []
    lost = 0
    for seed in range(15):
        lines = random.Random(seed).randint(1, 120)
        printed = printed_until_cut(power, lines, COMMITS, "rows.db", synchronous, "10")
        checkpointed = (data / "rows.db").stat().st_size
        after = stored(data)
        assert {*before} <= {*after}
        lost += len({*printed} - {*after})
        before = after
    assert checkpointed > 100_000
    assert bool(lost) is may_lose


@pytest.mark.parametrize(("synchronous", "durable"), [("FULL", True), ("NORMAL", False), ("OFF", False)])
def test_sqlite_without_checkpoints(synchronous: str, durable: bool, data: Path, scratch: Path) -> None:
    """Only FULL syncs at each commit."""
    connect(str(data / "rows.db")).close()
    power = PowerCut(data, scratch)
    printed = printed_until_cut(power, 20, COMMITS, "rows.db", synchronous, "0")
    assert {*printed} & {*stored(data)} == ({*printed} if durable else set())


def test_sqlite_creates_a_durable_database(data: Path, scratch: Path) -> None:
    power = PowerCut(data, scratch)
    printed = printed_until_cut(power, 1, COMMITS, "rows.db", "FULL", "1000")
    assert {*printed} <= {*stored(data)}


# Plain files

PRELUDE = """
import os, sys

def write(path, text, mode="w", sync=True):
    with open(path, mode) as file:
        file.write(text)
        file.flush()
        if sync:
            os.fsync(file.fileno())

def sync(path="."):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)

"""


def cut_after(power: PowerCut, steps: str) -> dict[str, str]:
    """The files, with their content, that are left of `config` holding `old` and of what the steps did."""
    with child(power, "-c", PRELUDE + steps + "\nprint('done', flush=True)\nsys.stdin.read()") as process:
        assert process.stdout
        assert process.stdout.readline() == "done\n"
        power.cut(process)
    found = (path for path in power.data.rglob("*") if path.is_file())
    return {path.relative_to(power.data).as_posix(): path.read_text() for path in found}


OLD = {"config": "old"}


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        # A new file
        ("write('a', 'new', sync=False)", OLD),
        ("write('a', 'new')", OLD),
        ("write('a', 'new', sync=False); sync()", {**OLD, "a": ""}),
        ("write('a', 'new'); sync()", {**OLD, "a": "new"}),
        ("write('a', 'new'); sync(); write('a', 'more', 'a', sync=False)", {**OLD, "a": "new"}),
        ("write('a', 'new'); sync(); write('a', 'more', 'a')", {**OLD, "a": "newmore"}),
        ("os.mkdir('d'); write('d/a', 'new'); sync('d')", OLD),
        ("os.mkdir('d'); write('d/a', 'new'); sync('d'); sync()", {**OLD, "d/a": "new"}),
        # An old one
        ("write('config', 'new', sync=False)", OLD),
        ("write('config', 'new')", {"config": "new"}),
        ("os.truncate('config', 1)", OLD),
        ("os.truncate('config', 1); sync('config')", {"config": "o"}),
        ("os.truncate('config', 1); os.truncate('config', 3); sync('config')", {"config": "o\0\0"}),
        ("os.remove('config')", OLD),
        ("os.remove('config'); sync()", {}),
        # The usual replacement, complete and with one of its three steps missing
        ("write('tmp', 'new'); os.replace('tmp', 'config'); sync()", {"config": "new"}),
        ("write('tmp', 'new'); os.replace('tmp', 'config')", OLD),
        ("write('tmp', 'new', sync=False); os.replace('tmp', 'config'); sync()", {"config": ""}),
        ("write('tmp', 'new'); sync()", {**OLD, "tmp": "new"}),
        # The number of a removed file's inode is used again, and the removed file's content must not come back
        (
            "write('a', 'old'); number = os.stat('a').st_ino; os.remove('a'); write('b', 'new', sync=False); sync()",
            {**OLD, "b": ""},
        ),
    ],
)
def test_files(steps: str, left: dict[str, str], data: Path, scratch: Path) -> None:
    (data / "config").write_text("old")
    assert cut_after(PowerCut(data, scratch), steps) == left


def test_what_is_there_at_the_start_is_durable(data: Path, scratch: Path) -> None:
    (data / "d" / "e").mkdir(parents=True)
    (data / "d" / "e" / "key").write_text("old")
    (data / "d" / "e" / "key").chmod(0o600)
    (data / "d").chmod(0o700)
    power = PowerCut(data, scratch)
    assert cut_after(power, "write('d/a', 'new'); sync('d')") == {"d/e/key": "old", "d/a": "new"}
    assert cut_after(power, "write('d/a', 'newer', sync=False)") == {"d/e/key": "old", "d/a": "new"}
    assert [stat.S_IMODE((data / path).stat().st_mode) for path in ("d", "d/e/key")] == [0o700, 0o600]


REPLACE = """
for number in range(1, 1_000_000):
    write("tmp", str(number) * 50_000)
    os.replace("tmp", "config")
    sync()
    print(number, flush=True)
"""


def test_a_replacement_is_atomic(data: Path, scratch: Path) -> None:
    (data / "config").write_text("0")
    power = PowerCut(data, scratch)
    for seed in range(5):
        printed = printed_until_cut(power, random.Random(seed).randint(1, 60), "-c", PRELUDE + REPLACE)
        assert (data / "config").read_text() in [str(number) * 50_000 for number in (printed[-1], printed[-1] + 1)]


# Two processes with two threads each; every file and directory is synced once per change, so no later sync mends it.
TOGETHER = """
import threading

def fill(directory):
    os.mkdir(directory)
    for number in range(40):
        write(f"{directory}/{number}", f"{directory} {number}" * 10_000)
        sync(directory)

child = os.fork()
names = "ab" if child else "cd"
threads = [threading.Thread(target=fill, args=(name,)) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
sync()
"""


def test_threads_and_processes_sync_at_the_same_time(data: Path, scratch: Path) -> None:
    expected = {f"{name}/{number}": f"{name} {number}" * 10_000 for name in "abcd" for number in range(40)}
    assert cut_after(PowerCut(data, scratch), TOGETHER) == expected


def test_syncing_keeps_the_locks_of_the_process(data: Path, scratch: Path) -> None:
    """To open a file again and close it would drop them, and SQLite would let two writers in."""
    (data / "locked").write_text("old")
    power = PowerCut(data, scratch)
    lock = "import fcntl\nfile = open('locked', 'r+')\nfcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
    with child(power, "-c", PRELUDE + lock + "os.fsync(file)\nprint('done', flush=True)\nsys.stdin.read()") as owner:
        assert owner.stdout
        assert owner.stdout.readline() == "done\n"
        with child(power, "-c", PRELUDE + f"try:\n    exec({lock!r})\nexcept OSError:\n    print('refused')") as other:
            assert other.communicate()[0] == "refused\n"
