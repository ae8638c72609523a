"""Progress: a moving line on a terminal, a line now and then elsewhere, nothing where nobody asked for it."""

from __future__ import annotations

import io
import os
import sys

import pytest

from agentchat_relay.keeping import progress, snapshot
from agentchat_relay.keeping.progress import Progress, size
from agentchat_relay.store import fulltext
from agentchat_relay.store.sqlite import index
from tests.relay.keeping.conftest import OK, WRONG, Admin, Board

pytestmark = pytest.mark.sqlite

CLEAR = "\r\x1b[K"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_OFTEN", 0.0)
    monkeypatch.setattr(progress, "_SELDOM", 0.0)


def work(told: Progress) -> None:
    with told.part("Copying", 2048, size) as at:
        at(1024)
        at(2048)


def test_on_a_terminal_one_line_moves_and_goes(at_once: None, monkeypatch: pytest.MonkeyPatch):
    told = f"{CLEAR}Copying: 50 %, 1.0 KiB of 2.0 KiB{CLEAR}Copying: 100 %, 2.0 KiB of 2.0 KiB{CLEAR}"
    shows, writes = os.openpty()
    with open(shows, "rb") as screen, open(writes, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        work(Progress())
        monkeypatch.undo()
        assert screen.read(len(told)).decode() == told


def test_elsewhere_there_are_lines(at_once: None, capsys: pytest.CaptureFixture[str]):
    work(Progress())
    assert capsys.readouterr().err == "Copying: 50 %, 1.0 KiB of 2.0 KiB\nCopying: 100 %, 2.0 KiB of 2.0 KiB\n"


def test_now_and_then_only(capsys: pytest.CaptureFixture[str]):
    work(Progress())
    assert capsys.readouterr().err == "", "that took no ten seconds"


def test_without_a_total_it_tells_the_time(at_once: None, capsys: pytest.CaptureFixture[str]):
    with Progress().part("Checking") as at:
        at(0)
    assert capsys.readouterr().err == "Checking: 0 s\n"


def test_a_quiet_one(at_once: None, capsys: pytest.CaptureFixture[str]):
    work(Progress(quiet=True))
    assert capsys.readouterr().err == ""


def test_nobody_listens(at_once: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", None)
    work(Progress())
    monkeypatch.setattr(sys, "stderr", Broken())
    work(Progress())


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (("backup", "TARGET"), ["Copying the database", "Copying files", "Reading the copy"]),
        (
            ("doctor",),
            [
                "Checking the database",
                "Looking for rows that hang in the air",
                "Counting messages",
                "Checking files",
                "Looking for contents that nobody names",
                "Checking the search index",
            ],
        ),
        (("export", "main", "--out", "TARGET"), ["Exporting main"]),
    ],
)
def test_every_command_tells_how_far_it_is(
    board: Board,
    admin: Admin,
    at_once: None,
    command: tuple[str, ...],
    parts: list[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(snapshot, "_STEPS", 100)  # the directory is small
    words = [str(board.path.parent / "target") if word == "TARGET" else word for word in command]
    ran = admin(*words, "--data", board.path)
    assert ran.code == OK
    assert list(dict.fromkeys(line.partition(":")[0] for line in ran.err.splitlines())) == parts
    quiet = admin(*words, "--data", board.path, "--json")
    assert quiet.code in (OK, WRONG), "the target is there"
    assert "%" not in quiet.err


def test_a_rebuilt_index_and_a_restore_tell_how_far_they_are(
    board: Board, admin: Admin, at_once: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(index, "_CHUNK", 2)
    monkeypatch.setattr(fulltext, "_LONGEST_CATCH_UP", 0.0)
    (board.path / "search.db").unlink()
    assert "Making the search index: " in admin("doctor", "--repair", "--data", board.path).err
    target = board.path.parent / "target"
    assert admin("backup", target, "--data", board.path).code == OK
    ran = admin("restore", target, "--data", board.path.parent / "again")
    assert ran.code == OK
    assert ran.err.startswith("Copying the database: 100 %")
