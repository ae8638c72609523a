"""The disk campaign passes, and would not if the relay acknowledged what the disk did not keep, trusted its clock,
purged what is young, or went on after a checkpoint that the disk did not keep."""

from __future__ import annotations

import errno
import json
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults import spells
from tests.faults.disk_campaign import Ground, run_round
from tests.faults.keeping_rounds import Done, as_of
from tests.faults.powercut import PowerCut
from tests.faults.spells import CLOCK, DOWN, FULL, LONGEST_ANSWER, Answer, Span, Times, misfits
from tests.faults.test_relay_campaign import HI_SENT, RE_SENT, right
from tests.faults.weather import DATABASE, Weather, checkpoints

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.campaign
def test_rounds_pass() -> None:
    """One of each kind."""
    command = [sys.executable, "-m", "tests.faults.disk_campaign", "--rounds", "3", "--seed", "4", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    assert (summary["rounds"], summary["failed rounds"]) == (3, [])
    assert [summary[kind] for kind in ("storm", "keeping", "damaged starts")] == [1, 1, 1]
    assert sum(summary["spells of weather"].values()) >= 2
    assert sum(summary["starts on damaged directories"].values()) == 4
    assert 0 < summary["acknowledged"] < summary["writes"]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("broken", "complaint"),
    [("eio", ", lost"), ("enospc", ", lost"), ("clock", " comes after "), ("eager", "though it is of|, lost")],
)
def test_a_broken_relay_fails_its_round(broken: str, complaint: str, ground: Ground) -> None:
    """One that purges too early is found by whoever answers or pins what is gone, or else by reading at the end."""
    found: list[str] = []
    for number in range(3):  # what a strike hits is up to the machine
        found += run_round(3, number, ground, broken).violations
        if any(re.search(complaint, line) for line in found):
            return
    raise AssertionError(found[:5])


# What the store does after an fsync that failed


@pytest.fixture
def weather(tmp_path: Path) -> Iterator[Weather]:
    (tmp_path / "data").mkdir()
    with closing(Weather(tmp_path / "data", tmp_path)) as weather:
        yield weather


@pytest.mark.parametrize("how", ["ends", "onward"])
def test_nothing_acknowledged_is_lost_when_a_checkpoint_cannot_be_synced(
    how: str, weather: Weather, tmp_path: Path
) -> None:
    """The store ends its process, so that the next one writes all of the log again. If it went on, as SQLite does,
    the disk would never see what the kernel took for written, and the log that has it would begin anew."""
    power = PowerCut(tmp_path / "data", tmp_path)
    with subprocess.Popen(
        [sys.executable, checkpoints.__file__, str(power.data), how], cwd=ROOT, text=True,
        env=weather.environment({**power.environment(), "PYTHONPATH": str(ROOT)}),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as store:  # fmt: skip
        assert store.stdout and store.stdin and store.stderr
        acknowledged = [*iter(lambda: store.stdout.readline().strip(), "ready")]
        weather.failing("syncs", errno.EIO, DATABASE, times=1)
        store.stdin.write("\n")
        store.stdin.flush()
        acknowledged += [*iter(lambda: store.stdout.readline().strip(), "done" if how == "onward" else "")]
        power.cut(store)
        assert store.returncode == (1 if how == "ends" else -9)
        assert ("nothing acknowledged gets lost" in store.stderr.read()) is (how == "ends")
    assert weather.times() == {"syncs": 1}
    assert ({*acknowledged} <= agents(power.data)) is (how == "ends")


def agents(data: Path) -> set[str]:
    """Those who are stored; nobody if the database is not whole."""
    with closing(sqlite3.connect(data / "agentchat.db")) as connection:
        try:
            if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                return set()
            return {name for (name,) in connection.execute("SELECT name FROM agents")}
        except sqlite3.DatabaseError:
            return set()


# Which answers fit which weather


def test_the_spells_follow_from_the_seed_and_do_not_overlap() -> None:
    plans = [spells.planned(random.Random(seed), 320) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    for plan in plans:
        moments = [moment for spell in plan for moment in (spell.after, spell.through)]
        assert moments == sorted(moments)
    assert {spell.kind for spell in spells.planned(random.Random(1), 320, CLOCK)} == {CLOCK}


@pytest.mark.parametrize(
    ("status", "code", "fits"),
    [
        (200, "", {"fair", FULL, "read-only disk", CLOCK, DOWN}),
        (409, "idempotency_mismatch", {"fair", FULL, "read-only disk", CLOCK, DOWN}),
        (503, "unavailable", {FULL, "read-only disk", DOWN}),
        (507, "storage_full", {FULL}),
        (None, "ConnectionFailed", {DOWN}),
        (500, "internal_error", set()),
        (503, "internal_error", set()),
        (401, "unauthorized", set()),
        (404, "not_found", set()),
        (429, "rate_limited", set()),
    ],
)
def test_an_answer_fits_its_weather(status: int | None, code: str, fits: set[str]) -> None:
    for weather in ("fair", FULL, "read-only disk", CLOCK, DOWN):
        times = Times()
        times._spans += [] if weather == "fair" else [Span(weather, 5.0)]
        found = [*misfits([Answer(6.0, 6.1, "POST /x", status, code)], times)]
        assert (found == []) is (weather in fits), found


def test_weather_counts_while_it_lasts_and_nobody_waits_for_ever() -> None:
    times = Times()
    span = Span(FULL, 5.0)
    span.ended = 6.0
    times._spans.append(span)
    for began, ended, fits in [(4.0, 4.9, False), (4.0, 5.1, True), (5.9, 7.0, True), (6.1, 7.0, False)]:
        assert ([*misfits([Answer(began, ended, "POST /x", 507, "storage_full")], times)] == []) is fits
    (complaint,) = misfits([Answer(10.0, 11.0 + LONGEST_ANSWER, "POST /x", 200, "")], times)
    assert "answered after" in complaint


def test_of_a_backup_only_what_was_told_before_it_is_demanded() -> None:
    told, _ = right()
    then = as_of(told, Done(posts=2, uploads=1, marks=1, positions=0, pins=2), "2026")
    assert then.posts[:2] == [HI_SENT, told.posts[1]]
    assert then.posts[2] == RE_SENT._replace(id=None, at=None, ended=float("inf"))
    assert [upload.path for upload in then.uploads] == ["general/1-f", None, None]
    assert [mark.done for mark in then.marks] == [True, False]
    assert [pin.done for pin in then.pins] == [True, True, False]
    assert (then.positions, then.followed) == ([], [])
