"""The relay campaign passes, and would not if the relay lost, repeated or reordered anything; every rule of its
checker complains of what it is for, and of nothing else."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import relay_campaign
from tests.faults.histories import (
    DIRECT,
    FOREVER,
    Followed,
    Item,
    Kept,
    Mark,
    Pin,
    Position,
    Post,
    Row,
    Seen,
    Told,
    Upload,
    brief,
    violations,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.campaign
def test_rounds_pass() -> None:
    command = [sys.executable, "-m", "tests.faults.relay_campaign", "--rounds", "3", "--seed", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    assert (summary["rounds"], summary["failed rounds"]) == (3, [])
    assert sum(summary["strikes"].values()) >= 6
    assert summary["strikes"]["cut"] >= 3
    assert summary["messages"] > 300
    assert 0 < summary["acknowledged"] < summary["writes"]


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("broken", "complaint"), [("fsync", ", lost"), ("dedupe", ": stored 2 times"), ("early", ", lost")]
)
def test_a_broken_relay_fails_the_campaign(
    broken: str, complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []

    def judged(told: Told, kept: Kept) -> list[str]:
        found.extend(complaints := violations(told, kept))
        return complaints

    monkeypatch.setattr(relay_campaign, "violations", judged)
    assert relay_campaign.main(["--seed", "1", "--rounds", "2", "--broken", broken]) == 1
    assert any(line.endswith(complaint) for line in found)
    printed = capsys.readouterr()
    assert "again: --seed 1 --round " in printed.err
    table = dict(row.rsplit(maxsplit=1) for row in printed.out.splitlines())
    assert table["rounds"] == "2"
    assert int(table["failed rounds"]) > 0


def test_the_strikes_follow_from_the_seed() -> None:
    plans = [relay_campaign.planned(random.Random(f"{seed}/0")) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert 1 <= len(plans[0]) <= 3


# The checker. One history in which everything is right, and one change for each thing that can be wrong.

A, B, C, D, E = (f"00000000-0000-7000-8000-00000000000{letter}" for letter in "abcde")
TIMES = [f"2026-01-31T12:00:0{second}.000000+00:00" for second in range(10)]
HI = Row(A, "general", "ann", "@bob hi", TIMES[1])
RE = Row(B, "general", "bob", "re", TIMES[2], parent=A)
FILE = Row(C, "general", "ann", "Shared a file", TIMES[3], files=("general/1-f",))
STATUS = Row(D, "general", "ann", "busy", TIMES[4], kind="status")
PRIVATE = Row(E, DIRECT, "ann", "@bob psst", TIMES[5])
ROWS = [HI, RE, FILE, STATUS]
HI_SENT = Post("ann", "general", "@bob hi", 1.0, 2.0, key="k", notifies=("bob",), id=A, at=TIMES[1])
RE_SENT = Post("bob", "general", "re", 3.0, 4.0, parent=A, id=B, at=TIMES[2])
UPLOADED = Upload("ann", "general", "f", b"bytes", announced=True, key="u", path="general/1-f")


def right() -> tuple[Told, Kept]:
    """Ann says hi to Bob, who answers and reads on; she uploads a file, sets a status, and writes to him in private."""
    told = Told(
        posts=[
            HI_SENT,
            HI_SENT._replace(began=2.1, ended=2.2),  # a repeat
            RE_SENT,
            Post("ann", "general", "busy", 5.0, 6.0, kind="status", id=D, at=TIMES[4]),
            Post("ann", DIRECT, "@bob psst", 7.0, notifies=("bob",)),  # nobody heard what came of it
            Post("ann", "general", "never arrived", 8.0),
            Post("ann", "general", "other text, same key", 8.0, key="k", error="idempotency_mismatch"),
        ],
        uploads=[UPLOADED, UPLOADED, Upload("ann", "general", "g", b"", announced=True)],
        marks=[Mark("bob", ("item-1",), done=True), Mark("bob", ("item-2",), done=False)],
        positions=[Position("bob", "general", TIMES[1], 4.0, 5.0, asked=TIMES[1])],
        pins=[Pin(A, True, done=True), Pin(B, True, done=True), Pin(B, False, done=False)],
        followed=[Followed("bob", "general", [*ROWS]), Followed("ann", DIRECT, [PRIVATE])],
        refused=[],
    )
    rows = [HI._replace(pinned=True), *ROWS[1:]]
    kept = Kept(
        channels={"general": rows},
        direct={"ann": [PRIVATE], "bob": [PRIVATE], "cleo": []},
        alone={row.id: row for row in rows},
        items={"ann": [], "bob": [Item("item-1", A, read=True), Item("item-2", E, read=False)]},
        unread={"ann": set(), "bob": {"item-2"}},
        readers={"general": {"ann": TIMES[0], "bob": TIMES[2]}},
        board={
            "ann": {"general": Seen(1, C), DIRECT: Seen(0, E)},
            "bob": {"general": Seen(1, C), DIRECT: Seen(1, E)},
        },
        pinned={"general": [A]},
        files={"general": [("f", "general/1-f")]},
        contents={"general/1-f": b"bytes"},
        found={"@bob hi": [A], "never arrived": []},
    )
    return told, kept


def test_the_checker_accepts_what_was_promised() -> None:
    assert violations(*right()) == []


Change = Callable[[Told, Kept], object]


def sent(post: Post) -> Change:
    return lambda told, kept: told.posts.append(post)


def stored(row: Row) -> Change:
    return lambda told, kept: kept.channels["general"].append(row)


def replaced(index: int, row: Row) -> Change:
    return lambda told, kept: kept.channels["general"].__setitem__(index, row)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        # refusals
        (sent(Post("ann", "general", "x", 9.0, error="internal_error")), "x: refused with internal_error"),
        (sent(Post("ann", "general", "x", 9.0, error="idempotency_mismatch")), "x: refused with idempotency_mismatch"),
        (
            sent(Post("bob", "general", "re", 9.0, key="z", error="idempotency_mismatch")),
            "re: refused with idempotency_mismatch",
        ),
        (
            lambda told, kept: told.uploads.append(Upload("ann", "general", "h", b"", False, error="not_found")),
            "the upload of h: refused with not_found",
        ),
        (lambda told, kept: told.refused.append("a read was refused"), "a read was refused"),
        # acknowledged
        (sent(Post("ann", "general", "x", 9.0, 9.5, id="gone", at=TIMES[6])), "x: acknowledged as gone, lost"),
        (
            lambda told, kept: told.posts.__setitem__(2, RE_SENT._replace(at=TIMES[3])),
            f"re: acknowledged as {('bob', 'general', 're', TIMES[3], A, 'chat')}, "
            f"stored as {('bob', 'general', 're', TIMES[2], A, 'chat')}",
        ),
        (lambda told, kept: kept.alone.pop(B), f"re: asked for by its id it is None, on its page {RE}"),
        # once
        (stored(RE._replace(id="again", at=TIMES[6])), "re: stored 2 times"),
        (stored(Row("x", "general", "bob", "x", TIMES[6])), "x: in #general by bob, but nobody sent it"),
        # order
        (
            lambda told, kept: kept.channels["general"].reverse(),
            f"#general: re of {TIMES[2]} comes after Shared a file of {TIMES[3]}",
        ),
        (stored(RE._replace(at=TIMES[2])), f"#general: re of {TIMES[2]} comes after busy of {TIMES[4]}"),
        (stored(Row(B, "general", "bob", "x", TIMES[6])), f"{B}: given to 2 messages"),
        # real_time
        (
            lambda told, kept: told.posts.__setitem__(2, RE_SENT._replace(began=0.1, ended=0.5)),
            "#general: re was acknowledged before @bob hi was sent, but comes after it",
        ),
        # keys
        (sent(HI_SENT._replace(id=B)), f"key k of ann: acknowledged as {A} and {B}"),
        (stored(Row("x", "general", "ann", "other text, same key", TIMES[6])), "key k of ann: 2 effects"),
        (
            lambda told, kept: told.uploads.append(UPLOADED._replace(path="general/2-f")),
            "key u of ann: 2 paths",
        ),
        # replies
        (replaced(0, HI._replace(id="other")), f"re: answers {A}, which is not there before it"),
        # followers
        (lambda told, kept: told.followed[0].rows.pop(1), "the cursor of bob in #general skipped re"),
        (
            lambda told, kept: told.followed[0].rows.append(RE),
            f"the cursor of bob in #general showed {B} 2 times",
        ),
        (lambda told, kept: told.followed[0].rows.reverse(), "the cursor of bob in #general showed another order"),
        (
            lambda told, kept: told.followed[1].rows.append(RE),
            f"the cursor of ann in #{DIRECT} showed re, which is not there",
        ),
        # direct
        (
            lambda told, kept: kept.direct["cleo"].append(PRIVATE),
            "@bob psst: seen by ['ann', 'bob', 'cleo'], meant for ['ann', 'bob']",
        ),
        (lambda told, kept: kept.direct["bob"].clear(), "@bob psst: seen by ['ann'], meant for ['ann', 'bob']"),
        # mentions
        (lambda told, kept: kept.items["bob"].pop(0), f"bob was not told of {A}"),
        (lambda told, kept: kept.items["bob"].pop(0), "bob marked item-1 as read, and it is gone"),
        (
            lambda told, kept: kept.items["ann"].append(Item("x", B, read=True)),
            f"ann was told of {B}, which does not name it",
        ),
        (lambda told, kept: kept.items["ann"].append(Item("x", B, read=True)), "ann never marked x, and it is read"),
        (lambda told, kept: kept.items["bob"].append(Item("x", A, read=False)), f"bob was told 2 times of {A}"),
        (
            lambda told, kept: kept.items["bob"].__setitem__(0, Item("item-1", A, read=False)),
            "bob marked item-1 as read, and it is unread",
        ),
        (
            lambda told, kept: kept.unread["bob"].clear(),
            "bob: the list of what is unread is another than that of all",
        ),
        # positions
        (
            lambda told, kept: kept.readers["general"].__setitem__("bob", TIMES[0]),
            f"bob in #general: its cursor went back from {TIMES[1]} to {TIMES[0]}",
        ),
        (
            lambda told, kept: told.positions.append(Position("bob", "general", TIMES[0], 5.5, 6.0)),
            f"bob in #general: its cursor went back from {TIMES[1]} to {TIMES[0]}",
        ),
        (
            lambda told, kept: told.positions.append(Position("bob", "general", TIMES[1], 4.0, 6.0, asked=TIMES[2])),
            f"bob read #general to {TIMES[2]}, the answer says {TIMES[1]}",
        ),
        (
            lambda told, kept: told.positions.append(Position("cleo", "general", TIMES[1], 4.0, 6.0)),
            "cleo has read #general, and is no reader of it",
        ),
        # board
        (
            lambda told, kept: kept.board["bob"].__setitem__("general", Seen(2, C)),
            f"bob: the board says {Seen(2, C)} of #general, {Seen(1, C)} is true",
        ),
        (
            lambda told, kept: kept.board["ann"].__setitem__("general", Seen(1, D)),
            f"ann: the board says {Seen(1, D)} of #general, {Seen(1, C)} is true",
        ),
        (
            lambda told, kept: kept.board["bob"].__setitem__(DIRECT, Seen(0, E)),
            f"bob: the board says {Seen(0, E)} of #{DIRECT}, {Seen(1, E)} is true",
        ),
        (lambda told, kept: kept.board["bob"].pop("general"), "bob posted in #general, which is not on its board"),
        # files
        (lambda told, kept: kept.files["general"].append(("f", "general/2-f")), "f: stored 2 times"),
        (
            lambda told, kept: kept.files["general"].append(("x", "general/x")),
            "x: in #general, but nobody uploaded it",
        ),
        (
            lambda told, kept: kept.contents.__setitem__("general/1-f", b"byte"),
            "f: other bytes than were uploaded",
        ),
        (replaced(2, FILE._replace(files=())), "f: announced 0 times"),
        (
            stored(FILE._replace(id="x", at=TIMES[6], files=("general/x",))),
            "general/x: announced, and not there",
        ),
        (lambda told, kept: kept.files["general"].clear(), "f: acknowledged as general/1-f, lost"),
        # pins
        (lambda told, kept: kept.pinned["general"].clear(), "@bob hi: pinned is False, and cannot be"),
        (lambda told, kept: kept.pinned["general"].append(C), "Shared a file: pinned is True, and cannot be"),
        (
            replaced(1, RE._replace(pinned=True)),
            "re: its page says pinned is True, the list of pins says otherwise",
        ),
        # searches
        (
            lambda told, kept: kept.found.__setitem__("@bob hi", []),
            f"@bob hi: a search for it finds [], it is {[A]}",
        ),
        (
            lambda told, kept: kept.found.__setitem__("never arrived", [B]),
            f"never arrived: a search for it finds {[B]}, it is []",
        ),
    ],
)
def test_the_checker_complains_of(change: Change, complaint: str) -> None:
    told, kept = right()
    change(told, kept)
    assert complaint in violations(told, kept)


def test_a_refusal_with_a_reason_is_excused_if_it_had_no_effect() -> None:
    told, kept = right()
    told = told._replace(excused=frozenset({"storage_full"}))
    told.posts.append(Post("ann", "general", "no room", 9.0, error="storage_full"))
    told.uploads.append(Upload("ann", "general", "h", b"", False, error="storage_full"))
    assert violations(told, kept) == []
    told.posts.append(Post("ann", "general", "no reason", 9.0, error="internal_error"))
    stored(Row("x", "general", "ann", "no room", TIMES[6]))(told, kept)
    complaints = violations(told, kept)
    assert "no reason: refused with internal_error" in complaints
    assert "no room: refused with storage_full, and it is there" in complaints


def purged() -> tuple[Told, Kept]:
    """What is older than the second message had its time."""
    told, kept = right()
    kept.channels["general"][:2] = [kept.alone.setdefault(B, RE)._replace(parent=None)]
    kept.alone[B] = kept.channels["general"][0]
    del kept.alone[A], kept.items["bob"][0]
    kept.pinned["general"].clear()
    kept.found["@bob hi"].clear()
    return told._replace(kept_from={"general": TIMES[2]}), kept


def test_what_had_its_time_may_be_gone_with_all_its_traces() -> None:
    assert violations(*purged()) == []


def test_what_is_gone_leaves_no_trace() -> None:
    told, kept = purged()
    kept.alone[A] = HI
    kept.items["bob"].append(Item("item-1", A, read=True))
    kept.found["@bob hi"].append(A)
    complaints = violations(told, kept)
    assert "@bob hi: gone from its page, and there by its id" in complaints
    assert f"bob was told of {A}, which does not name it" in complaints
    assert f"@bob hi: a search for it finds {[A]}, it is []" in complaints


def test_what_is_young_must_be_there() -> None:
    told, kept = purged()
    complaints = violations(told._replace(kept_from={"general": TIMES[1]}), kept)
    assert f"@bob hi: acknowledged as {A}, lost" in complaints
    assert "the cursor of bob in #general showed @bob hi, which is not there" in complaints
    told.uploads.append(Upload("ann", "general", "old", b"x", False, path="general/1-old"))  # of 1970
    assert violations(told, kept) == []


def test_either_outcome_of_an_unanswered_pin_is_right() -> None:
    told, kept = right()
    kept.pinned["general"].append(B)
    kept.channels["general"][1] = kept.alone[B] = RE._replace(pinned=True)
    assert violations(told, kept) == []


def test_calls_at_the_same_time_have_no_order() -> None:
    """Bob's answer may end before a repeat of Ann's message does, and a slow look at the cursor may show an old one."""
    told, kept = right()
    told.posts.insert(0, HI_SENT._replace(began=0.5, ended=FOREVER, id=None, at=None))
    told.posts[3] = RE_SENT._replace(began=0.6, ended=0.7)
    told.positions.append(Position("bob", "general", TIMES[0], 4.9, 6.0))
    assert violations(told, kept) == []


def test_a_long_text_is_named_by_its_ends() -> None:
    assert brief("x" * 60) == "x" * 60
    assert brief("a" * 20 + "b" * 1000 + "c" * 30) == "a" * 20 + "…" + "c" * 30
