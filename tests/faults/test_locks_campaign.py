"""The locks campaign passes, and would not if a lock broke one of its promises; every rule of its checker complains of
what it is for."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.faults import locks_campaign
from tests.faults.calls import SECOND
from tests.faults.crew import TIMES
from tests.faults.engines import ENGINES
from tests.faults.journal import Attempt
from tests.faults.leased import End, overlap
from tests.faults.locks_checker import WAYS, violations

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.campaign
@pytest.mark.parametrize(("engine", "rounds"), [("sqlite", 2), ("postgres", 1), ("local", 1)])
def test_rounds_pass(engine: str, rounds: int) -> None:
    command = [sys.executable, "-m", "tests.faults.locks_campaign", "--seed", "1", "--json"]
    command += ["--engine", engine, "--rounds", str(rounds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    assert (summary[f"rounds on {engine}"], summary["failed rounds"]) == (rounds, [])
    assert summary["strikes"]["kill a worker"] >= rounds
    assert sum(summary["strikes"].values()) >= 4 * rounds
    assert summary["locks"] > 15 * rounds
    assert summary["transitions, grant"] > 8 * rounds
    assert summary["refused, conflict"] > 0


SHORT = locks_campaign.Shape(requests=40, least=2, most=2, longest_end=8)
# What complains of each control, and how its rounds are, so that one of them is enough almost always.
CONTROLS = {
    "overlap": (" is held", SHORT),
    "shared": (" is held", SHORT._replace(habits={"share": 5})),
    "fence": (" came after ", SHORT),
    "queue": (": it overtook ", SHORT),
    "stuck": (": it was free, and not granted", SHORT),
    "hasty": (" s too soon", SHORT._replace(habits={"forget": 10})),
    "brief": (" s too soon", SHORT._replace(habits={"renew_first": 30})),
    "eternal": (": its lease was never over", SHORT._replace(habits={"forget": 10})),
    "guard": (": it is mac-", SHORT._replace(habits={"meddle": 12})),
    "late": (": there is no way from lapsed to released", SHORT._replace(habits={"be_late": 20})),
    "vain": (": it had waited for it, and it is expired", SHORT._replace(habits={"wait": 10, "share": 0})),
    "dedupe": (": a repeated acquire_lock made another lock", SHORT._replace(habits={"repeat": 8})),
    "silent": ("missing [('lock.granted', ", SHORT),
}


@pytest.fixture(scope="module")
def played() -> Iterator[dict[str, Future[list[str]]]]:
    """By control, what a few rounds found. They mostly wait, so some are played at a time."""

    def play(broken: str) -> list[str]:
        found: list[str] = []
        complaint, shape = CONTROLS[broken]
        for number in range(6):
            if not any(complaint in line for line in found):
                found += locks_campaign.run_round(1, number, "sqlite", broken=broken, shape=shape).violations
        return found

    with ThreadPoolExecutor(3) as pool:
        yield {broken: pool.submit(play, broken) for broken in CONTROLS}


@pytest.mark.campaign
@pytest.mark.parametrize("broken", locks_campaign.CONTROLS)
def test_a_broken_relay_fails_the_campaign(broken: str, played: dict[str, Future[list[str]]]) -> None:
    found = played[broken].result()
    assert any(CONTROLS[broken][0] in line for line in found), found[:10]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_strikes_follow_from_the_seed(engine: str) -> None:
    plans = [locks_campaign.planned(random.Random(f"{seed}/0"), engine) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    usual = locks_campaign.USUAL
    assert usual.least <= len(plans[0]) / TIMES[engine] <= usual.most


@pytest.mark.parametrize(
    ("one", "other", "is_so"),
    [
        ("a", "a", True), ("a", "ab", False), ("a", "a/b", False), ("a/**", "a", True), ("a/**", "a/b/c", True),
        ("a/**", "ab", False), ("a/**", "a/b/**", True), ("a/b/**", "a", False), ("**", "x/y", True),
        ("a/b/**", "a/c/**", False), ("**", "**", True),
    ],
)  # fmt: skip
def test_the_checker_knows_by_itself_what_overlaps(one: str, other: str, is_so: bool) -> None:
    assert overlap(one, other) == overlap(other, one) == is_so


# The checker. A log in which everything is right, built step by step, and changes for what can be wrong.


def iso(at: int) -> str:
    return datetime.fromtimestamp(at // SECOND, UTC).replace(microsecond=at % SECOND).isoformat(timespec="microseconds")


class Story:
    """Calls one after the other, a second each unless it is said otherwise; and how it ends."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.now = 1_000 * SECOND
        self.locks: dict[str, dict[str, Any]] = {}
        self.audit: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.fence = 0

    def call(
        self, call: str, who: str, answer: dict[str, Any] | None = None, /, *, refusal: str | None = None,
        key: str = "", details: dict[str, Any] | None = None, session: str = "s", **arguments: Any,
    ) -> None:  # fmt: skip
        attempt = Attempt(
            who, session, call, key or f"key-{len(self.attempts)}", arguments, self.now / SECOND, self.now,
            answer=deepcopy(answer), refusal=refusal, details=deepcopy(details),
        )  # fmt: skip
        if not attempt.is_unknown:
            attempt = attempt._replace(ended=self.now / SECOND + 0.1, ended_at=self.now + SECOND // 10)
        self.attempts.append(attempt)
        self.now += SECOND

    def moved(self, id: str, action: str, who: str | None = None, note: str | None = None) -> dict[str, Any]:
        """The lock after a transition. It happens now."""
        lock, after = self.locks[id], WAYS[action].after
        before = lock["state"] if lock["version"] else None
        lock.update(state=after, version=lock["version"] + 1, lease_until=None, waits_until=None)
        if action == "grant":
            self.fence += 1
            lock.update(fence=self.fence, lease_until=iso(self.now + lock["lease"] * SECOND))
        if action == "create":
            lock["waits_until"] = iso(self.now + lock["wait"] * SECOND)
        line = {"version": lock["version"], "action": action, "before": before, "after": after, "note": note}
        whole = {**line, "id": id, "kind": "lock", "actor": who, "fence": lock["fence"] or 0, "at": iso(self.now)}
        self.audit.append(whole)
        event = {"kind": f"lock.{WAYS[action].event}", "subject": id, "actor": who, "at": iso(self.now)}
        self.events.append({**event, "data": {**line, "lock": lock}})
        return lock

    # What is done

    def acquire(
        self, id: str, who: str, *names: str, lease: int = 60, wait: int = 0, waits: bool = False, lost: bool = False,
        shared: bool = False, session: str = "s",
    ) -> None:  # fmt: skip
        key = f"asks for {id}"
        self.locks[id] = {
            "id": id, "names": [*names], "shared": shared, "state": None, "version": 0, "fence": None, "holder": who,
            "reason": key, "created_at": iso(self.now), "lease": lease, "wait": wait,
        }  # fmt: skip
        lock = self.moved(id, "create" if waits else "grant", who)
        arguments: dict[str, Any] = {"names": [*names], "lease": lease, "reason": key, "wait": wait, "shared": shared}
        answer = None if lost else {"lock": lock, "holders": []}
        self.call("acquire_lock", who, answer, key=key, session=session, **arguments)

    def again(self, id: str, **more: Any) -> None:
        """The request once more, under its key."""
        call = next(attempt for attempt in self.attempts if attempt.arguments.get("reason") == f"asks for {id}")
        answer = None if more else {"lock": self.locks[id], "holders": []}
        self.call("acquire_lock", call.who, answer, key=call.key, **more, **call.arguments)

    def refused(
        self, who: str, *names: str, by: list[str], wait: int = 0, session: str = "t", **otherwise: Any
    ) -> None:
        holders = [self.locks[id] | otherwise for id in by]
        details = {"current": [*holders, self.locks["a"]][0], "holders": holders}
        more: dict[str, Any] = {"names": [*names], "lease": 1, "wait": wait}
        self.call("acquire_lock", who, refusal="conflict", details=details, session=session, **more)

    def release(self, id: str, who: str, *, lost: bool = False, done: bool = False, **more: Any) -> None:
        if not done:
            self.moved(id, "withdraw" if self.locks[id]["state"] == "waiting" else "release", who)
        answer = None if lost else {"lock": self.locks[id], "idempotent": done}
        self.call("release_lock", who, answer, lock_id=id, **more)

    def renew(self, id: str, who: str, *, lease: int = 60, **more: Any) -> None:
        self.locks[id]["lease_until"] = iso(self.now + lease * SECOND)
        answer = {"lock": self.locks[id], "idempotent": False}
        self.call("renew_lock", who, answer, lock_id=id, lease=lease, **more)

    def refuse(self, name: str, id: str, who: str, refusal: str, **more: Any) -> None:
        details = None if refusal == "forbidden" else {"current": self.locks[id]}
        self.call(name, who, refusal=refusal, details=details, lock_id=id, **more)

    def show(self, id: str, who: str = "eve", **otherwise: Any) -> None:
        """In a list of all that is on its first name."""
        name = self.locks[id]["names"][0]
        live = [one for one in self.locks.values() if one["state"] in ("held", "waiting") or one["id"] == id]
        found = [one for one in live if any(overlap(name, other) for other in one["names"])]
        self.listed(*(one | (otherwise if one["id"] == id else {}) for one in found), who=who, name=name)

    def listed(self, *locks: dict[str, Any], who: str = "eve", **arguments: Any) -> None:
        self.call("list_locks", who, {"locks": [*locks]}, **arguments)

    def told(self) -> list[str]:
        return violations(self.attempts, End(self.locks, self.events, self.audit, self.now))


def good() -> Story:
    """Each kind of thing that is right."""
    story = Story()
    story.acquire("a", "ann", "src/**")
    story.again("a")
    story.show("a")
    story.acquire("b", "bob", "docs", "src2", shared=True)
    story.acquire("c", "cy", "docs", shared=True)
    story.refused("bob", "src/x", by=["a"])
    story.refused("ann", "src/x", by=["a"], wait=5, session="s")
    story.refuse("release_lock", "a", "bob", "forbidden")
    story.refuse("release_lock", "a", "ann", "stale_fence", fence=7)
    story.acquire("d", "bob", "src/a", wait=30, waits=True)
    story.acquire("e", "cy", "src/a", wait=4, waits=True)
    story.acquire("f", "cy", "src/b", wait=600, waits=True)
    story.release("f", "cy")
    story.release("f", "cy", done=True)
    story.now += 3 * SECOND
    story.show("e", state="expired", waits_until=None)
    story.moved("e", "expire")
    own = {"current": deepcopy(story.locks["e"]), "holders": [deepcopy(story.locks["a"])]}
    story.again("e", refusal="conflict", details=own)
    story.renew("a", "ann", lease=4, fence=1)
    story.moved("a", "release", "ann")
    story.moved("d", "grant", "bob")
    story.call("release_lock", "ann", {"lock": story.locks["a"], "idempotent": False}, lock_id="a")
    story.again("d")
    story.call("break_lock", "operator", {"id": "d"}, lock_id="d", reason="operator-1")
    story.now -= SECOND
    story.moved("d", "break", None, "by the operator: operator-1")
    story.refuse("renew_lock", "d", "bob", "stale_fence", lease=1)
    story.refuse("renew_lock", "f", "cy", "conflict", lease=1)
    story.acquire("g", "ann", "src", lease=2)
    story.now += 2 * SECOND
    story.show("g", state="lapsed", lease_until=None)
    story.moved("g", "lapse")
    story.refuse("release_lock", "g", "ann", "stale_fence", fence=story.locks["g"]["fence"])
    story.release("b", "bob")
    story.release("c", "cy")
    return story


def test_what_is_right_passes() -> None:
    assert good().told() == []


def test_what_is_right_passes_without_an_audit() -> None:
    story = good()
    for event in story.events:
        event["data"]["lock"] = deepcopy(story.locks[event["subject"]])
    assert violations(story.attempts, End(story.locks, story.events, None, story.now)) == []


def hole(story: Story) -> None:
    story.audit.remove(next(row for row in story.audit if row["id"] == "d"))


def no_way(story: Story) -> None:
    story.moved("b", "lapse")


def another_fence(story: Story) -> None:
    story.audit[-1]["fence"] = 77


def same_fence(story: Story) -> None:
    story.fence = 1
    story.acquire("x", "ann", "x")


def had_by_two(story: Story) -> None:
    story.acquire("x", "ann", "x/**")
    story.acquire("y", "bob", "x/a/b", "z")


def had_alone_and_shared(story: Story) -> None:
    story.acquire("x", "ann", "x", shared=True)
    story.acquire("y", "bob", "x")


def told_to_two(story: Story) -> None:
    """Whatever the log says: it has the release of the first too early, and nobody asked for it in time."""
    story.acquire("x", "ann", "x/**")
    at = len(story.audit)
    story.acquire("y", "bob", "x/a")
    story.now += 10 * SECOND
    story.release("x", "ann")
    story.audit.insert(at, story.audit.pop())


def overtaken(story: Story) -> None:
    story.acquire("x", "ann", "x/a")
    story.acquire("y", "bob", "x/**", wait=60, waits=True)
    story.acquire("z", "cy", "x/b", shared=True)


def not_let_in(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.acquire("y", "bob", "x", wait=60, waits=True)
    story.release("x", "ann")
    story.acquire("z", "ann", "z")


def lost_lock(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.audit.pop()
    story.events.pop()
    del story.locks["x"]


def lost_release(story: Story) -> None:
    story.acquire("x", "ann", "x")
    released = {"lock": story.locks["x"] | {"state": "released", "version": 2}, "idempotent": False}
    story.call("release_lock", "ann", released, lock_id="x")


def one_for_two(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.release("x", "ann")
    story.attempts.append(story.attempts[-1]._replace(key="another"))


def lost_break(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.call("break_lock", "operator", {"id": "x"}, lock_id="x", reason="operator-2")


def made_twice(story: Story) -> None:
    story.acquire("x", "ann", "x", lease=1)
    story.moved("x", "lapse")
    story.acquire("y", "ann", "x")
    story.locks["y"]["reason"] = "asks for x"
    story.attempts[-1] = story.attempts[-1]._replace(key="asks for x", answer={"lock": deepcopy(story.locks["y"])})


def other_names(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.attempts[-1].arguments["names"].append("y")


def waits_unasked(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.acquire("y", "bob", "x", waits=True)


def unasked_release(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.moved("x", "release", "ann")


def unasked_break(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.moved("x", "break", None, "by the operator: nothing")


def unasked(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.attempts.pop()


def refused_and_there(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.acquire("y", "bob", "y", lost=True)
    story.again("y", refusal="conflict", details={"current": deepcopy(story.locks["x"]), "holders": []})


def released_by_another(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.release("x", "bob")


def old_fence(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.release("x", "ann", fence=1)


def renewed_by_another(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.renew("x", "bob")


def done_otherwise(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.release("x", "ann", done=True)


def told_otherwise(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.renew("x", "ann", key="same")
    story.renew("x", "ann", key="same")


def refused_again(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.again("x", refusal="conflict", details={"current": deepcopy(story.locks["x"]), "holders": []})


def lapsed_at_once(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.moved("x", "lapse")


def lapsed_though_renewed(story: Story) -> None:
    story.acquire("x", "ann", "x", lease=3)
    story.renew("x", "ann")
    story.now += 3 * SECOND
    story.moved("x", "lapse")


def released_late(story: Story) -> None:
    story.acquire("x", "ann", "x", lease=2)
    story.now += 2 * SECOND
    story.release("x", "ann")


def renewed_late(story: Story) -> None:
    story.acquire("x", "ann", "x", lease=2)
    story.now += 2 * SECOND
    story.renew("x", "ann")


def renewed_when_gone(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.release("x", "ann")
    story.renew("x", "ann")


def expired_at_once(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.acquire("y", "bob", "x", wait=60, waits=True)
    story.moved("y", "expire")


def granted_late(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.acquire("y", "bob", "x", wait=3, waits=True)
    story.now += 4 * SECOND
    story.release("x", "ann")
    story.now -= SECOND
    story.moved("y", "grant", "bob")


def held_for_ever(story: Story) -> None:
    story.acquire("x", "ann", "x", lease=2)
    story.now += 20 * SECOND


def waits_for_ever(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.acquire("y", "bob", "x", wait=2, waits=True)
    story.now += 20 * SECOND


def another_state(story: Story) -> None:
    story.locks["c"]["state"] = "lapsed"


def shown_too_old(story: Story) -> None:
    story.acquire("x", "ann", "x")
    before = deepcopy(story.locks["x"])
    story.release("x", "ann")
    story.now += 5 * SECOND
    story.listed(before)


def shown_as_anothers(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.show("x", holder="bob")


def shown_lapsed(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.show("x", state="lapsed", lease_until=None)


def shown_after_its_time(story: Story) -> None:
    story.acquire("x", "ann", "x", lease=2)
    story.now += 4 * SECOND
    story.show("x")
    story.moved("x", "lapse")


def shown_with_another_lease(story: Story) -> None:
    story.acquire("x", "ann", "x", lease=2)
    story.show("x", lease_until=iso(story.now + 60 * SECOND))


def listed_too_little(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.now += 2 * SECOND
    story.listed(name="x")


def listed_too_much(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.listed(story.locks["x"], name="xs/**")


def listed_of_others(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.listed(story.locks["x"], who="bob", mine=True)


def listed_in_disorder(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.acquire("y", "ann", "y")
    story.listed(story.locks["y"], story.locks["x"])


def refused_by_nobody(story: Story) -> None:
    story.refused("bob", "x", by=[])


def refused_by_who_is_not_in_the_way(story: Story) -> None:
    story.acquire("x", "ann", "x/a")
    story.refused("bob", "x", by=["x"])


def refused_by_what_ended(story: Story) -> None:
    story.refused("bob", "src", by=["a"], state="held", version=1, lease_until=iso(story.now + SECOND), fence=1)


def refused_instead_of_waiting(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.refused("bob", "x", by=["x"], wait=30)


def refused_and_granted(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.acquire("y", "bob", "x", wait=2, waits=True, lost=True)
    expired = deepcopy(story.locks["y"]) | {"state": "expired", "waits_until": None}
    story.moved("x", "release", "ann")
    story.moved("y", "grant", "bob")
    story.again("y", refusal="conflict", details={"current": expired, "holders": []})


def withdrawn_and_told_so(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.acquire("y", "bob", "x", wait=60, waits=True, lost=True)
    story.release("y", "bob")
    story.again("y")


def refused_its_holder(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.refuse("release_lock", "x", "ann", "stale_fence", fence=story.fence)


def stale_to_a_stranger(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.refuse("release_lock", "x", "bob", "stale_fence", fence=1)


def stale_without_a_grant(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.acquire("y", "bob", "x", wait=60, waits=True)
    story.refuse("release_lock", "y", "bob", "stale_fence", fence=1)


def forbidden_to_its_holder(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.refuse("renew_lock", "x", "ann", "forbidden", lease=1)


def refused_what_is_held(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.refuse("renew_lock", "x", "ann", "conflict", lease=1)


def fault(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.refuse("renew_lock", "x", "ann", "internal_error", lease=1)


def break_refused(story: Story) -> None:
    story.acquire("x", "ann", "x")
    story.now += SECOND
    story.call("break_lock", "operator", refusal="conflict", lock_id="x", reason="operator-2")


def no_event(story: Story) -> None:
    story.events.pop()


def events_in_disorder(story: Story) -> None:
    story.events[-1], story.events[-2] = story.events[-2], story.events[-1]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (hole, "its versions are [2, 3]"),
        (no_way, "there is no way from released to lapsed"),
        (another_fence, "its fence is 77, not {"),
        (same_fence, "its fence 2 came after "),
        (had_by_two, "lock x of ann on x/** is held"),
        (had_alone_and_shared, "lock x of ann on x, shared, is held"),
        (told_to_two, "were told to be held for 9.90 s at once"),
        (overtaken, "it overtook lock y of bob on x/**"),
        (not_let_in, "lock y of bob on x: it was free, and not granted"),
        (lost_lock, "acquire_lock, lock x: acknowledged, and lost"),
        (lost_release, "release_lock of lock x: acknowledged, and not in the log"),
        (one_for_two, "acknowledged to two calls"),
        (lost_break, "it was broken, and the log does not say so"),
        (withdrawn_and_told_so, "acquire_lock, lock y: it was withdrawn, and not refused"),
        (made_twice, "one call made 2 locks"),
        (made_twice, "a repeated acquire_lock made another lock"),
        (other_names, "asked for were (['x', 'y'], False)"),
        (waits_unasked, "it waits, and was not to"),
        (unasked, "lock x of ann on x: nobody asked for it"),
        (unasked_release, "release by ann: nobody asked for it"),
        (unasked_break, "break by the relay: nobody asked for it"),
        (refused_and_there, "refused with conflict, and it is there"),
        (released_by_another, "release by bob: it is ann's"),
        (released_by_another, "bob: release_lock of lock x: it is ann's"),
        (old_fence, "with fence 1, not "),
        (renewed_by_another, "bob: renew_lock of lock x: it is ann's"),
        (done_otherwise, "told that it was done already, and it is held"),
        (told_otherwise, "a repeated renew_lock was told something else"),
        (refused_again, "was acknowledged, and its repeat refused"),
        (lapsed_at_once, "59.00 s too soon"),
        (lapsed_though_renewed, "s too soon"),
        (released_late, "release by ann: its lease was over"),
        (renewed_late, "after its lease"),
        (renewed_when_gone, "which it did not have then"),
        (expired_at_once, "s before its wait was over"),
        (granted_late, "grant by bob: its wait was over"),
        (held_for_ever, "its lease was never over"),
        (waits_for_ever, "its wait was never over"),
        (another_state, "lock c of cy on docs, shared,: lapsed, version 2"),
        (shown_too_old, "it was released since"),
        (shown_as_anothers, "with other names, or another's"),
        (shown_lapsed, "before its lease was over"),
        (shown_after_its_time, "its time was over at"),
        (shown_with_another_lease, "which nobody gave it"),
        (listed_too_little, "eve: lock x of ann on x is not listed"),
        (listed_too_much, "lock x of ann on x is listed, and was not asked for"),
        (listed_of_others, "lock x of ann on x is listed, and was not asked for"),
        (listed_in_disorder, "a list is not in the order in which they came"),
        (refused_by_nobody, "nobody was in the way"),
        (refused_by_who_is_not_in_the_way, "lock x of ann on x/a is not in the way"),
        (refused_by_what_ended, "it was released since"),
        (refused_instead_of_waiting, "it was to wait"),
        (refused_and_granted, "it had waited for it, and it is expired"),
        (refused_its_holder, "the caller has it, and its fence"),
        (stale_to_a_stranger, "refused with stale_fence: it is ann's"),
        (stale_without_a_grant, "the caller never had it"),
        (forbidden_to_its_holder, "it is the caller's"),
        (refused_what_is_held, "it was held"),
        (fault, "refused with internal_error: for no reason that there is"),
        (break_refused, "break_lock of lock x was refused with conflict: it was held"),
        (no_event, "its events tell otherwise"),
        (events_in_disorder, "the events tell it in another order"),
    ],
)
def test_the_checker_complains_of(wrong: Callable[[Story], None], complaint: str) -> None:
    story = good()
    wrong(story)
    assert any(complaint in line for line in story.told()), story.told()


# What an answer that was lost excuses


def lost_but_done(story: Story) -> None:
    story.acquire("x", "ann", "x", lost=True)
    story.release("x", "ann", lost=True)


def lost_renewal(story: Story) -> None:
    """It may have made the lease shorter, or longer."""
    story.acquire("x", "ann", "x")
    story.call("renew_lock", "ann", lock_id="x", lease=1)
    story.now += 2 * SECOND
    story.moved("x", "lapse")
    story.acquire("y", "bob", "x", lease=1)
    story.call("renew_lock", "bob", lock_id="y", lease=60)
    story.now += 30 * SECOND
    story.release("y", "bob")


def released_before_it_was_answered(story: Story) -> None:
    """Somebody else of the agent gave it back; what its holder was told is older."""
    story.acquire("x", "ann", "x")
    story.call("release_lock", "ann", lock_id="x", session="other")
    story.moved("x", "release", "ann")
    story.acquire("y", "bob", "x")


def ended_in_the_same_moment(story: Story) -> None:
    """What one transaction did has one time."""
    story.acquire("x", "ann", "x", lease=2)
    renewed = story.now
    story.renew("x", "ann", lease=2)
    story.now = renewed
    story.release("x", "ann")


def free_when_its_wait_was_over(story: Story) -> None:
    """Before the relay had made that explicit."""
    story.acquire("x", "ann", "x")
    story.acquire("y", "bob", "x", wait=2, waits=True)
    story.now += 2 * SECOND
    story.release("x", "ann")
    story.moved("y", "expire")


def stored_later(story: Story) -> None:
    """A reader did not see the renewal yet, nor that it was given back in time."""
    story.acquire("x", "ann", "x", lease=1)
    old = deepcopy(story.locks["x"]) | {"state": "lapsed", "lease_until": None}
    story.now -= SECOND // 2
    story.renew("x", "ann", lease=1)
    story.now -= SECOND // 2
    story.call("list_locks", "eve", {"locks": [old]}, name="x")
    story.now -= SECOND
    story.release("x", "ann")


def granted_and_over(story: Story) -> None:
    """While somebody listed locks for long, it was waited for, then held, and then its lease was over."""
    story.acquire("x", "ann", "x")
    story.acquire("y", "bob", "x", lease=1, wait=60, waits=True)
    began = story.now
    story.release("x", "ann")
    story.now = began
    story.moved("y", "grant", "bob")
    story.listed(name="x")
    listed = story.attempts[-1]
    story.attempts[-1] = listed._replace(ended=listed.ended + 2, ended_at=(listed.ended_at or 0) + 2 * SECOND)
    story.now += 2 * SECOND
    story.moved("y", "lapse")


@pytest.mark.parametrize(
    "right",
    [
        granted_and_over,
        lost_but_done,
        lost_renewal,
        released_before_it_was_answered,
        ended_in_the_same_moment,
        free_when_its_wait_was_over,
        stored_later,
    ],
)
def test_the_checker_does_not_complain_of(right: Callable[[Story], None]) -> None:
    story = good()
    right(story)
    assert story.told() == []
