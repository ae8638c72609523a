"""The simulated weather does what it says: to writes, fsyncs, reads and names, and to the clock; and only below its
directory. A failed fsync loses what was dirty, and a torn power cut keeps any sectors."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.powercut import PowerCut
from tests.faults.weather import BLOBS, EVERYWHERE, LOG, Weather

PRELUDE = """
import errno, os, sys, time

def tried(call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]

def opened(name):
    return os.open(name, os.O_RDWR | os.O_CREAT, 0o600)

def said(*what):
    print(*what, flush=True)

"""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests, so that the libraries are compiled once."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def weather(data: Path, scratch: Path) -> Iterator[Weather]:
    with closing(Weather(data, scratch)) as weather:
        yield weather


def said_by(weather: Weather, data: Path, steps: str) -> list[str]:
    """What a child in the data directory prints, in lines."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + steps], cwd=data, env=weather.environment(os.environ), capture_output=True,
        text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_fair_weather_changes_nothing(weather: Weather, data: Path) -> None:
    steps = "file = opened('agentchat.db'); said(os.write(file, b'x' * 10), os.pread(file, 20, 0)); os.fsync(file)"
    assert said_by(weather, data, steps) == ["10 b'xxxxxxxxxx'"]
    assert weather.times() == {}


def test_a_full_disk_takes_what_fits_and_what_needs_no_room(weather: Weather, data: Path) -> None:
    weather.full(room=15)
    steps = """
file = opened('agentchat.db')
said(tried(os.write, file, b'a' * 10), tried(os.write, file, b'b' * 10), tried(os.write, file, b'c' * 10))
said(tried(os.pwrite, file, b'd' * 15, 0), tried(os.pwrite, file, b'e' * 10, 10), tried(os.pwrite, file, b'f', 15))
said(os.pread(file, 100, 0))
said(os.write(os.open('../elsewhere', os.O_WRONLY | os.O_CREAT), b'x' * 1000))
"""
    assert said_by(weather, data, steps) == ["10 5 ENOSPC", "15 5 ENOSPC", "b'ddddddddddeeeee'", "1000"]
    assert weather.times() == {"full": 4}


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("writes", "os.write(file, b'x')"),
        ("writes", "os.pwrite(file, b'x', 0)"),
        ("writes", "os.ftruncate(file, 0)"),
        ("syncs", "os.fsync(file)"),
        ("syncs", "os.fdatasync(file)"),
        ("reads", "os.read(file, 1)"),
        ("reads", "os.pread(file, 1, 0)"),
        ("reads", "os.open(path, os.O_RDONLY)"),
        ("names", "os.open(path, os.O_RDWR)"),
        ("names", "os.open(path + '2', os.O_WRONLY | os.O_CREAT)"),
        ("names", "os.unlink(path)"),
        ("names", "os.rename(path, path + '2')"),
        ("names", "os.mkdir(path + '2')"),
        ("names", "os.chmod(path, 0o600)"),
    ],
)
def test_a_kind_of_call_fails_so_many_times(kind: str, call: str, weather: Weather, data: Path) -> None:
    (data / "agentchat.db").write_bytes(b"old")
    steps = f"""
path = os.path.abspath('agentchat.db')
file = opened(path)
said('open'); sys.stdin.readline()
said(tried(lambda: {call}), tried(lambda: {call}), tried(lambda: {call}) not in ('EIO', 'EROFS'))
"""
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + steps], cwd=data, env=weather.environment(os.environ), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as child:  # fmt: skip
        assert child.stdout
        assert child.stdout.readline() == "open\n"
        weather.failing(kind, errno.EROFS, times=2)
        assert child.communicate("\n")[0] == "EROFS EROFS True\n"
    assert weather.times() == {kind: 2}


def test_other_places_are_spared(weather: Weather, data: Path) -> None:
    (data / "blobs" / "1").mkdir(parents=True)
    weather.failing("syncs", errno.EIO, BLOBS)
    steps = """
for name in ("agentchat.db", "agentchat.db-wal", "search.db", "blobs/1/a", "admin.key"):
    said(tried(os.fsync, opened(name)))
said(tried(os.fsync, os.open("blobs", os.O_RDONLY)))
"""
    assert said_by(weather, data, steps) == ["None", "None", "None", "EIO", "None", "None"]


def test_a_read_only_disk_can_be_read(weather: Weather, data: Path) -> None:
    (data / "agentchat.db").write_text("old")
    weather.read_only()
    steps = """
path = os.path.abspath('agentchat.db')
said(open(path).read(), tried(open, path, 'a'), tried(os.mkdir, path + '2'))
"""
    assert said_by(weather, data, steps) == ["old EROFS EROFS"]


@pytest.mark.parametrize("ahead", [{"hours": 2.5}, {"days": -400}, {"days": 365 * 5}, {"seconds": -0.25}])
def test_the_clock_jumps_and_the_steady_one_does_not(ahead: dict[str, float], weather: Weather, data: Path) -> None:
    weather.clock(**ahead)
    (line,) = said_by(weather, data, "said(time.time_ns(), time.monotonic_ns(), time.time())")
    wall, steady, as_float = line.split()
    found = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time_ns(), time.monotonic_ns())"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    passed = int(found[1]) - int(steady)
    assert abs((int(wall) + passed - int(found[0])) / 1e9 - weather.ahead) < 5
    assert abs(float(as_float) - int(wall) / 1e9) < 5


def test_a_machine_that_slept_finds_both_its_clocks_ahead(weather: Weather, data: Path) -> None:
    weather.sleep(days=3)
    weather.sleep(days=4)
    weather.clock(hours=-5)
    (line,) = said_by(weather, data, "said(time.clock_gettime(time.CLOCK_BOOTTIME), time.time())")
    boot, wall = map(float, line.split())
    assert abs(boot - time.clock_gettime(time.CLOCK_BOOTTIME) - 7 * 86_400) < 60
    assert abs(wall - time.time() - 7 * 86_400 + 5 * 3600) < 60
    assert (weather.slept, weather.ahead) == (7 * 86_400, 7 * 86_400 - 5 * 3600)
    weather.sleep(days=1)
    assert weather.ahead == weather.slept == 8 * 86_400


def left(data: Path, weather: Weather, power: PowerCut, steps: str, torn: random.Random | None = None) -> bytes:
    """What is left of `file` after those steps and a power cut."""
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + steps + "\nsaid('done'); sys.stdin.read()"], cwd=data, text=True,
        env=weather.environment(power.environment()), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as child:  # fmt: skip
        assert child.stdout
        assert child.stdout.readline() == "done\n"
        power.cut(child, torn=torn)
    return (data / "file").read_bytes()


PAGES = b"".join(bytes([97 + number]) * 4096 for number in range(4))
FAILED = """
file = opened('file')
os.pwrite(file, b'N' * 10, 4096); os.pwrite(file, b'N' * 10, 8192)
said(tried(os.fsync, file))
"""


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        ("", ""),
        ("os.fsync(file)", ""),  # it succeeds, and that is the trap
        ("os.pwrite(file, b'N' * 10, 8192); os.fsync(file)", "c"),
        ("os.pwrite(file, b'N', 4096); os.pwrite(file, b'N', 8192); os.fsync(file)", "bc"),
        ("os.pwrite(file, b'N', 8192)", ""),
        ("os.pwrite(file, b'N' * 10, 0); os.fsync(file)", "a"),
    ],
)
def test_what_was_dirty_when_an_fsync_failed_is_lost(
    steps: str, kept: str, weather: Weather, data: Path, scratch: Path
) -> None:
    (data / "file").write_bytes(PAGES)
    power = PowerCut(data, scratch)
    weather.failing("syncs", errno.EIO, times=1)
    found = left(data, weather, power, FAILED.replace("said", "assert 'EIO' == ") + steps)
    assert len(found) == len(PAGES)
    assert "".join(chr(97 + number) for number in range(4) if found[number * 4096 : number * 4096 + 1] == b"N") == kept


def test_what_was_lost_stays_lost_in_the_next_process(weather: Weather, data: Path, scratch: Path) -> None:
    (data / "file").write_bytes(PAGES)
    power = PowerCut(data, scratch)
    weather.failing("syncs", errno.EIO, times=1)
    environment = weather.environment(power.environment())
    for steps in (FAILED, "os.fsync(opened('file'))"):
        subprocess.run([sys.executable, "-c", PRELUDE + steps], cwd=data, env=environment, check=True, stdout=-3)
    assert left(data, weather, power, "os.fsync(opened('file'))") == PAGES


def test_a_torn_cut_keeps_any_sectors_of_what_was_not_synced(weather: Weather, data: Path, scratch: Path) -> None:
    """Each old or new as a whole; the length is the old one or the new one."""
    seen, sizes = set(), set()
    for seed in range(6):
        (data / "file").write_bytes(PAGES)
        power = PowerCut(data, scratch)
        found = left(data, weather, power, "os.pwrite(opened('file'), b'N' * 20480, 0)", random.Random(seed))
        sizes.add(len(found))
        for at in range(0, len(PAGES), 512):
            assert found[at : at + 512] in (PAGES[at : at + 512], b"N" * 512)
            seen.add(found[at : at + 512] == b"N" * 512)
        assert {*found[len(PAGES) :]} <= {0, ord("N")}
    assert seen == {True, False}
    assert sizes == {16384, 20480}


def test_a_torn_cut_writes_nothing_where_a_file_was_cut_off(weather: Weather, data: Path, scratch: Path) -> None:
    """A log that was emptied is empty, or the old one as a whole. With holes it would end before the database does."""
    seen = set()
    for seed in range(8):
        (data / "file").write_bytes(PAGES)
        power = PowerCut(data, scratch)
        seen.add(left(data, weather, power, "os.ftruncate(opened('file'), 0)", random.Random(seed)))
    assert seen == {b"", PAGES}


def test_the_log_and_the_database_are_told_apart(weather: Weather, data: Path) -> None:
    weather.failing("writes", errno.EIO, LOG)
    assert said_by(weather, data, "said(tried(os.write, opened('agentchat.db'), b'x'))") == ["1"]
    assert said_by(weather, data, "said(tried(os.write, opened('agentchat.db-wal'), b'x'))") == ["EIO"]
    weather.failing("writes", errno.EIO, EVERYWHERE & ~LOG)
    assert said_by(weather, data, "said(tried(os.write, opened('agentchat.db-wal'), b'x'))") == ["1"]
