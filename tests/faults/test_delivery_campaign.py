"""The delivery campaign passes, and would not if an inbox broke one of its promises; every rule of its checker
complains of what it is for."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.faults import delivery_campaign
from tests.faults.calls import SECOND
from tests.faults.crew import TIMES
from tests.faults.delivery_checker import End, violations
from tests.faults.engines import ENGINES
from tests.faults.journal import Attempt, Journal, read

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.campaign
@pytest.mark.parametrize(("engine", "rounds"), [("sqlite", 2), ("postgres", 1), ("local", 1)])
def test_rounds_pass(engine: str, rounds: int) -> None:
    command = [sys.executable, "-m", "tests.faults.delivery_campaign", "--seed", "1", "--json"]
    command += ["--engine", engine, "--rounds", str(rounds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    assert (summary[f"rounds on {engine}"], summary["failed rounds"]) == (rounds, [])
    assert summary["strikes"]["kill a worker"] >= rounds
    assert sum(summary["strikes"].values()) >= 4 * rounds
    assert summary["messages"] > 50 * rounds
    assert summary["items given out"] > summary["acknowledgements"] > 10 * rounds


SHORT = delivery_campaign.Shape(sends=10, expiries=(None,), least=2, most=2, longest_drain=3)
# What complains of each control, and how its rounds are, so that one of them is enough almost always.
LOCAL = {"blind"}  # what can be broken only where there is no relay
CONTROLS = {
    "lease": (": given out in a lease: ", SHORT),
    "order": (": passed over by claim ", SHORT),
    "shuffle": (" came after ", SHORT),
    "dedupe": (": stored 2 times", SHORT),
    "late": (", too late after ", SHORT._replace(sends=20, habits={"be_late": 30, "check": 0, "take": 0})),
    "deaf": (": acknowledged, and then ", SHORT._replace(habits={"finish": 20, "check": 0})),
    "endless": (": two are the same: ", SHORT),
    "stale": (": given out after it expired", SHORT._replace(expiries=(1, 2), habits={"forget": 10})),
    "mute": (", who repeated its claim", SHORT._replace(habits={"repeat": 10})),
    "brief": (": given out in a lease: ", SHORT._replace(sends=15, habits={"renew_first": 15})),
    "hasty": (": given out before its delay was over", SHORT._replace(sends=15, habits={"share_out": 15})),
    "tireless": (
        ": given out once more: ",
        SHORT._replace(sends=30, longest_drain=8, habits={"forget": 30, "take": 0, "check": 0}),
    ),
    "blind": ("UNIQUE constraint failed", SHORT),
    "reaper": (": expired in somebody's hand", SHORT._replace(sends=15, expiries=(1, 2), habits={"be_late": 10})),
}


@pytest.fixture(scope="module")
def played() -> Iterator[dict[str, Future[list[str]]]]:
    """By control, what a few rounds found. They mostly wait, so some are played at a time."""

    def play(broken: str) -> list[str]:
        found: list[str] = []
        complaint, shape = CONTROLS[broken]
        for number in range(3):
            if not any(complaint in line for line in found):
                engine = "local" if broken in LOCAL else "sqlite"
                found += delivery_campaign.run_round(1, number, engine, broken=broken, shape=shape).violations
        return found

    with ThreadPoolExecutor(3) as pool:
        yield {broken: pool.submit(play, broken) for broken in CONTROLS}


@pytest.mark.campaign
@pytest.mark.parametrize("broken", delivery_campaign.CONTROLS)
def test_a_broken_relay_fails_the_campaign(broken: str, played: dict[str, Future[list[str]]]) -> None:
    found = played[broken].result()
    assert any(CONTROLS[broken][0] in line for line in found), found[:10]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_strikes_follow_from_the_seed(engine: str) -> None:
    plans = [delivery_campaign.planned(random.Random(f"{seed}/0"), engine) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    strikes = len(plans[0]) / TIMES[engine]
    assert delivery_campaign.USUAL.least <= strikes <= delivery_campaign.USUAL.most


def test_a_journal_ends_with_what_was_cut_off(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    first, second = (Attempt("w", "s", "claim_items", key, {"limit": 1}, 1.0, 1) for key in ("one", "two"))
    journal.begun(first)
    journal.ended("one", {"items": []}, None)
    journal.begun(second)
    journal.close()
    with (tmp_path / "journal").open("a") as file:
        file.write('{"ended": {"key": "two", "ans')
    answered, cut_off = read([tmp_path / "journal"])
    assert (answered.answer, answered.is_unknown) == ({"items": []}, False)
    assert cut_off == second


# The checker. A history in which everything is right, built step by step, and changes for what can be wrong.


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


class Story:
    """Calls one after the other, a second each unless it is said otherwise; and how it ends."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.now = 1000.0
        self.items: dict[str, dict[str, Any]] = {}
        self.receipts: dict[str, dict[str, Any]] = {}

    def call(
        self, name: str, answer: Mapping[str, Any] | None, *, refusal: str | None = None, key: str = "",
        session: str = "s", lasts: float = 0.1, **arguments: Any,
    ) -> None:  # fmt: skip
        key = key or f"key-{len(self.attempts)}"
        began, ended = self.now, self.now + lasts
        attempt = Attempt(
            "w", session, name, key, arguments, began, int(began * SECOND), answer=answer, refusal=refusal
        )
        if not attempt.is_unknown:
            attempt = attempt._replace(ended=ended, ended_at=int(ended * SECOND))
        self.attempts.append(attempt)
        self.now += 1

    def send(self, id: str, **more: Any) -> None:
        expires = more.get("expires_in")
        self.items[id] = {
            "item_id": f"item-{id}", "message_id": id, "kind": "direct", "content": f"@bob {id}",
            "urgent": bool(more.get("urgent")), "channel": "direct", "timestamp": iso(self.now),
            "expires_at": iso(self.now + expires) if expires else None,
        }  # fmt: skip
        self.receipts[id] = {"state": "stored", "deliveries": 0, "ended_at": None}
        self.call("send_direct_message", {"message": {"id": id}}, target_agent="bob", content=id, **more)

    def claim(
        self, claim: str | None, *ids: str, lease: int = 2, check: bool = False, number: int | None = None, **more: Any
    ) -> None:
        for id in ids:
            self.receipts[id]["deliveries"] = number or self.receipts[id]["deliveries"] + 1
        items = [{**self.items[id], "deliveries": self.receipts[id]["deliveries"]} for id in ids]
        until = iso(self.now + 0.05 + (300 if check else lease)) if claim else None
        answer = {"items": items, "claim_id": claim, "lease_until": until, "acknowledged": 0}
        arguments = {"limit": 10} | ({} if check else {"lease": lease})
        self.call("check_inbox" if check else "claim_items", answer, **(arguments | more))

    def acknowledge(self, claim: str, *ids: str, **more: Any) -> None:
        for id in ids:
            self.end(id, "acknowledged")
        named = [f"item-{id}" for id in ids]
        self.call("acknowledge_items", {"claim_id": claim, "items": len(ids)}, claim_id=claim, item_ids=named, **more)

    def give_back(self, claim: str, *ids: str, **more: Any) -> None:
        named = [f"item-{id}" for id in ids]
        self.call("return_items", {"claim_id": claim, "items": len(ids)}, claim_id=claim, item_ids=named, **more)

    def end(self, id: str, state: str) -> None:
        self.receipts[id].update(state=state, ended_at=iso(self.now))

    def told(self) -> list[str]:
        lists: dict[str, list[Any]] = {"stored": [], "claimed": [], "dead": [], "acknowledged": [], "expired": []}
        for id, receipt in self.receipts.items():
            lists[receipt["state"]].append({**self.items[id], "deliveries": receipt["deliveries"]})
        messages = {id: item["content"] for id, item in self.items.items()}
        receipts = {id: [receipt] for id, receipt in self.receipts.items()}
        return violations(self.attempts, End(messages, receipts, lists["dead"], lists["stored"] + lists["claimed"]))


def good() -> Story:
    """Each kind of thing that is right."""
    story = Story()
    story.send("a")
    story.send("b", urgent=True)
    story.send("c")
    story.send("d")
    story.send("e", expires_in=600)
    story.claim("c1", "b", "a", limit=2)
    story.claim("c2", "c", limit=1, lease=1)
    story.acknowledge("c1", "b")
    story.give_back("c1", "a")
    story.claim("c3", "a", "c", limit=2, lease=20)  # the lease of c2 is over
    story.call("acknowledge_items", None, refusal="conflict", claim_id="c2", item_ids=["item-c"])
    story.acknowledge("c3", "a", "c")
    story.claim("c4", "d", "e", check=True)
    story.claim("c5", "d", "e", check=True, number=1)  # the same session again
    story.call("check_inbox", {"items": [], "claim_id": None, "lease_until": None, "acknowledged": 2}, seen="c5")
    story.end("d", "acknowledged")
    story.end("e", "acknowledged")
    return story


def test_what_is_right_passes() -> None:
    assert good().told() == []


def given_in_a_lease(story: Story) -> None:
    story.send("x")
    story.claim("x1", "x", lease=60)
    story.claim("x2", "x", session="other")


def renewed_and_given(story: Story) -> None:
    story.send("x")
    story.claim("x1", "x", lease=1)
    story.call("renew_claim", {"lease_until": iso(story.now + 60), "items": 1}, claim_id="x1", lease=60)
    story.now += 10
    story.claim("x2", "x")


def before_its_delay(story: Story) -> None:
    story.send("x")
    story.claim("x1", "x", lease=1)
    story.give_back("x1", "x", delay=60)
    story.claim("x2", "x")


def won_twice(story: Story) -> None:
    story.send("x")
    story.claim("x1", "x", lease=1)
    story.now += 2
    story.claim("x2", "x", lease=1)
    story.acknowledge("x2", "x")
    story.acknowledge("x1", "x")


def given_again(story: Story) -> None:
    story.send("x")
    story.claim("x1", "x", lease=1)
    story.acknowledge("x1", "x")
    story.now += 5
    story.claim("x2", "x")


def refused(story: Story) -> None:
    story.send("x")
    story.claim("x1", "x", lease=60)
    story.call("acknowledge_items", None, refusal="conflict", claim_id="x1", item_ids=["item-x"])


def told_in_disorder(story: Story) -> None:
    story.send("x")
    story.send("y", urgent=True)
    story.claim("x1", "x", "y")


def passed_over(story: Story) -> None:
    story.send("x")
    story.send("y")
    story.claim("x1", "y", limit=1)
    story.claim("x2", "x", limit=1)


def missed(story: Story) -> None:
    story.send("x")
    story.now += 1  # a transaction may be a little older than the calls in it
    story.claim(None)
    story.claim("x2", "x")


def counted_badly(story: Story) -> None:
    story.send("x")
    for number in (1, 1):
        story.claim(f"x{story.now}", "x", lease=1, number=number)
        story.now += 3


def given_six_times(story: Story) -> None:
    story.send("x")
    for _ in range(6):
        story.claim(f"x{story.now}", "x", lease=1)
        story.now += 3


def dead_too_soon(story: Story) -> None:
    story.send("x")
    story.claim("x1", "x", lease=1)
    story.now += 3
    story.end("x", "dead")


def dead_in_a_hand(story: Story) -> None:
    story.send("x")
    for _ in range(4):
        story.claim(f"x{story.now}", "x", lease=1)
        story.now += 3
    story.claim("last", "x", lease=60)
    story.end("x", "dead")


def given_too_late(story: Story) -> None:
    story.send("x", expires_in=3)
    story.now += 5
    story.claim("x1", "x")


def expired_for_nothing(story: Story) -> None:
    story.send("x")
    story.end("x", "expired")


def nobodys_end(story: Story) -> None:
    story.send("x")
    story.end("x", "acknowledged")


def acknowledged_and_open(story: Story) -> None:
    story.send("x")
    story.claim("x1", "x")
    story.acknowledge("x1", "x")
    story.receipts["x"].update(state="stored", ended_at=None)


def lost(story: Story) -> None:
    story.send("x")
    del story.items["x"], story.receipts["x"]


def doubled(story: Story) -> None:
    story.send("x")
    story.items["z"], story.receipts["z"] = {**story.items["x"], "message_id": "z"}, {**story.receipts["x"]}


def two_ids(story: Story) -> None:
    story.send("x", key="same")
    story.send("y", key="same")


def told_others(story: Story) -> None:
    story.send("x")
    story.claim("x1", "x", key="same")
    story.attempts.append(story.attempts[-1]._replace(answer={**(story.attempts[-1].answer or {}), "items": []}))


def another_claim(story: Story) -> None:
    story.send("x")
    story.claim("x1", "x", key="same")
    story.claim(None, key="same")


def fault(story: Story) -> None:
    story.call("claim_items", None, refusal="internal_error", limit=1, lease=1)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (given_in_a_lease, "given out in a lease"),
        (renewed_and_given, "given out in a lease"),
        (before_its_delay, "given out before its delay was over"),
        (won_twice, "acknowledged by 2 claims"),
        (won_twice, "too late after"),
        (given_again, "given out after it was acknowledged"),
        (refused, "refused without a reason"),
        (fault, "refused with internal_error"),
        (told_in_disorder, "came after"),
        (passed_over, "passed over by claim"),
        (missed, "missed by a claim"),
        (counted_badly, "two are the same"),
        (given_six_times, "given out once more"),
        (dead_too_soon, "dead after 1 deliveries"),
        (dead_in_a_hand, "dead in somebody's hand"),
        (given_too_late, "given out after it expired"),
        (expired_for_nothing, "expired, without a time"),
        (nobodys_end, "acknowledged by nobody"),
        (acknowledged_and_open, "acknowledged, and then stored"),
        (lost, "acknowledged, and lost"),
        (doubled, "stored 2 times"),
        (two_ids, "told under 2 ids"),
        (told_others, "who repeated its claim"),
        (another_claim, "made another claim"),
    ],
)
def test_the_checker_complains_of(wrong: Callable[[Story], None], complaint: str) -> None:
    story = good()
    wrong(story)
    assert any(complaint in line for line in story.told()), story.told()


# What an answer that was lost excuses


def lost_claim_hides_a_delivery(story: Story) -> None:
    story.send("x")
    story.call("claim_items", None, limit=1, lease=1)
    story.now += 5
    story.claim("x2", "x", number=2)


def lost_claim_took_it(story: Story) -> None:
    story.send("x")
    story.claim("x1", "x", lease=1)
    story.now += 3
    story.call("claim_items", None, limit=1, lease=1)
    story.call("acknowledge_items", None, refusal="conflict", claim_id="x1", item_ids=["item-x"])
    story.receipts["x"]["deliveries"] = 2


def lost_check_took_one_of_two(story: Story) -> None:
    """The same session is given it again, which counts as no delivery."""
    story.send("x")
    story.send("y")
    story.claim("x1", "x", "y", lease=1)
    story.now += 3
    story.call("check_inbox", None, session="t", limit=1)
    story.call("acknowledge_items", {"claim_id": "x1", "items": 1}, claim_id="x1")
    story.end("y", "acknowledged")
    story.claim("x2", "x", check=True, session="t")


def lost_check_took_it(story: Story) -> None:
    """Whoever is refused for that sees it only by what the session is given again, later."""
    story.send("x")
    story.claim("x1", "x", lease=1)
    story.now += 3
    story.call("check_inbox", None, session="t", limit=1)
    story.call("acknowledge_items", None, refusal="conflict", claim_id="x1", item_ids=["item-x"])
    story.claim("x2", "x", number=2, check=True, session="t")


def lost_return(story: Story) -> None:
    story.send("x")
    story.claim("x1", "x", lease=60)
    story.call("return_items", None, claim_id="x1")
    story.claim("x2", "x")


def renewed_at_the_same_time(story: Story) -> None:
    """What one transaction did may have come in either order."""
    story.send("x")
    story.claim("x1", "x", lease=1)
    story.now += 2
    renewed = iso(story.now + 1.05 + 60)
    story.call("renew_claim", {"lease_until": renewed, "items": 1}, claim_id="x1", lease=60, lasts=3)
    story.claim("x2", "x")


def late_but_alone(story: Story) -> None:
    story.send("x")
    story.claim("x1", "x", lease=1)
    story.now += 30
    story.acknowledge("x1", "x")


def five_and_dead(story: Story) -> None:
    story.send("x")
    for _ in range(5):
        story.claim(f"x{story.now}", "x", lease=1)
        story.now += 3
    story.end("x", "dead")


def told_again_without_what_was_taken(story: Story) -> None:
    story.send("x")
    story.claim("x1", "x", lease=1, key="same")
    first = story.attempts[-1]
    story.now += 3
    story.claim("x2", "x", lease=60)
    again = first._replace(began=story.now, ended=story.now + 0.1, answer={**(first.answer or {}), "items": []})
    story.attempts.append(again)


@pytest.mark.parametrize(
    "right",
    [
        lost_claim_hides_a_delivery, lost_claim_took_it, lost_check_took_one_of_two, lost_check_took_it,
        lost_return,
        renewed_at_the_same_time, late_but_alone, five_and_dead, told_again_without_what_was_taken,
    ],
)  # fmt: skip
def test_the_checker_does_not_complain_of(right: Callable[[Story], None]) -> None:
    story = good()
    right(story)
    assert story.told() == []
