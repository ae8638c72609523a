"""The tasks campaign passes, and would not if a task broke one of its promises; every rule of its checker complains of
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

from tests.faults import tasks_campaign
from tests.faults.calls import SECOND
from tests.faults.crew import TIMES
from tests.faults.engines import ENGINES
from tests.faults.handed import End
from tests.faults.journal import Attempt
from tests.faults.tasks_checker import violations

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.campaign
@pytest.mark.parametrize(("engine", "rounds"), [("sqlite", 2), ("postgres", 1), ("local", 1)])
def test_rounds_pass(engine: str, rounds: int) -> None:
    command = [sys.executable, "-m", "tests.faults.tasks_campaign", "--seed", "1", "--json"]
    command += ["--engine", engine, "--rounds", str(rounds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    assert (summary[f"rounds on {engine}"], summary["failed rounds"]) == (rounds, [])
    assert summary["strikes"]["kill a worker"] >= rounds
    assert sum(summary["strikes"].values()) >= 4 * rounds
    assert summary["tasks"] > 15 * rounds
    assert summary["transitions, claim"] > 8 * rounds
    assert summary["refused, conflict"] > 0


SHORT = tasks_campaign.Shape(tasks=15, deadlines=(None,), least=2, most=2, longest_end=4)
LATE = SHORT._replace(tasks=25, habits={"be_late": 20, "renew_first": 20, "finish": 0, "meddle": 1})
FENCED = {"renew_first": 15, "join": 15, "forget": 8, "be_late": 12, "finish": 1, "meddle": 8}
# What complains of each control, and how its rounds are, so that one of them is enough almost always.
CONTROLS = {
    "fence": (", not ", SHORT._replace(tasks=45, habits=FENCED)),
    "owner": (" had it", LATE),
    "guard": (", and the one before ended in ", SHORT),
    "version": (": acknowledged, and lost", SHORT),
    "deadline": (": after its deadline", SHORT._replace(deadlines=(1,))),
    "eternal": (": its lease never lapsed", SHORT._replace(longest_end=8, habits={"forget": 20})),
    "hasty": (" s too soon", SHORT._replace(habits={"forget": 10})),
    "claims": (": a repeated claim_task was told something else", SHORT._replace(habits={"repeat": 8})),
    "dedupe": (": made 2 times", SHORT._replace(habits={"repeat": 5})),
    "silent": ("missing [('task.claimed', ", SHORT),
    "mute": (": 0 messages tell that it was completed", SHORT),
    "session": (", and another session has it", SHORT._replace(tasks=20, habits={"join": 8, "renew_first": 15})),
    "twice": (": there is no way from done to done", SHORT._replace(habits={"again": 8, "finish": 15})),
}


@pytest.fixture(scope="module")
def played() -> Iterator[dict[str, Future[list[str]]]]:
    """By control, what a few rounds found. They mostly wait, so some are played at a time."""

    def play(broken: str) -> list[str]:
        found: list[str] = []
        complaint, shape = CONTROLS[broken]
        for number in range(6):
            if not any(complaint in line for line in found):
                found += tasks_campaign.run_round(1, number, "sqlite", broken=broken, shape=shape).violations
        return found

    with ThreadPoolExecutor(3) as pool:
        yield {broken: pool.submit(play, broken) for broken in CONTROLS}


@pytest.mark.campaign
@pytest.mark.parametrize("broken", tasks_campaign.CONTROLS)
def test_a_broken_relay_fails_the_campaign(broken: str, played: dict[str, Future[list[str]]]) -> None:
    found = played[broken].result()
    assert any(CONTROLS[broken][0] in line for line in found), found[:10]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_strikes_follow_from_the_seed(engine: str) -> None:
    plans = [tasks_campaign.planned(random.Random(f"{seed}/0"), engine) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    usual = tasks_campaign.USUAL
    assert usual.least <= len(plans[0]) / TIMES[engine] <= usual.most


# The checker. A history in which everything is right, built step by step, and changes for what can be wrong.


def iso(at: int) -> str:
    return datetime.fromtimestamp(at // SECOND, UTC).replace(microsecond=at % SECOND).isoformat(timespec="microseconds")


WAYS = {  # state after, event, argument that is the note
    "claim": ("claimed", "claimed", None),
    "decline": ("declined", "declined", "reason"),
    "progress": ("claimed", "progressed", "note"),
    "return": ("open", "returned", "reason"),
    "complete": ("done", "completed", None),
    "fail": ("failed", "failed", "reason"),
    "offer": ("open", "offered", None),
    "cancel": ("cancelled", "cancelled", "reason"),
    "lapse": ("open", "lapsed", None),
    "expire": ("expired", "expired", None),
}


class Story:
    """Calls one after the other, a second each unless it is said otherwise; and how it ends."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.now = 1_000 * SECOND
        self.tasks: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []

    def call(
        self, name: str, who: str, answer: dict[str, Any] | None, *, refusal: str | None = None,
        current: dict[str, Any] | None = None, key: str = "", session: str = "s", **arguments: Any,
    ) -> None:  # fmt: skip
        began, ended = self.now, self.now + SECOND // 10
        attempt = Attempt(
            who, session, name, key or f"key-{len(self.attempts)}", arguments, began / SECOND, began, answer=answer,
            refusal=refusal, details=current and {"current": current},
        )  # fmt: skip
        if not attempt.is_unknown:
            attempt = attempt._replace(ended=ended / SECOND, ended_at=ended)
        self.attempts.append(attempt)
        self.now += SECOND

    def moved(self, id: str, action: str, who: str | None, note: str | None = None, **changes: Any) -> dict[str, Any]:
        """The task after a transition. It happens now."""
        told = self.tasks[id]
        task, before = told["task"], told["task"]["state"]
        after, event, _ = WAYS[action]
        task.update(state=after, version=task["version"] + 1, fence=task["fence"] + (action == "claim"), **changes)
        if after == "open":
            task.update(claimant=None, lease_until=None)
        self._note(id, action, event, who, before, after, note)
        return deepcopy(task)

    def _note(
        self, id: str, action: str, event: str, who: str | None, before: str | None, after: str, note: str | None
    ) -> None:
        task = self.tasks[id]["task"]
        line = {"version": task["version"], "action": action, "before": before, "after": after, "note": note}
        self.tasks[id]["history"].append({**line, "actor": who, "fence": task["fence"], "at": iso(self.now)})
        self.events.append({"kind": f"task.{event}", "subject": id, "actor": who, "data": line})
        event = "created" if event == "offered" else event
        message = {"id": f"m{len(self.messages)}", "task": id, "event": event, "content": f"T\n\n{task['result']}"}
        self.messages.append(message)
        if event == "completed":
            task["result_message_id"] = message["id"]

    # What is done

    def create(self, id: str, *, target: str | None = None, lost: bool = False, deadline: int = 0) -> None:
        made = {
            "id": id, "title": f"title {id}", "state": "open", "version": 1, "fence": 0, "creator": "ann",
            "channel": None if target else "work", "target": target, "claimant": None, "result": None,
            "message_id": f"m{len(self.messages)}", "result_message_id": None, "created_at": iso(self.now),
            "deadline_at": iso(self.now + deadline * SECOND) if deadline else None, "lease_until": None,
        }  # fmt: skip
        self.tasks[id] = {"task": made, "history": []}
        self._note(id, "create", "created", "ann", None, "open", None)
        answer = None if lost else {"task": deepcopy(made), "idempotent": False}
        more: dict[str, Any] = {"deadline_in": deadline} if deadline else {}
        more |= {"target_agent": target} if target else {"channel": "work"}
        self.call("create_task", "ann", answer, title=made["title"], **more)

    def claim(self, id: str, who: str, *, lease: int = 60, lost: bool = False, **more: Any) -> None:
        task = self.moved(id, "claim", who, claimant=who, lease_until=iso(self.now + lease * SECOND))
        answer = None if lost else {"task": task, "idempotent": False}
        self.call("claim_task", who, answer, task_id=id, lease=lease, **more)

    def act(self, name: str, id: str, who: str, *, lost: bool = False, key: str = "", **arguments: Any) -> None:
        action = {"report_progress": "progress"}.get(name, name.removesuffix("_task"))
        words = {"complete": "result", "offer": "target_agent"}.get(action) or WAYS[action][2] or ""
        arguments = {words: f"{name} {len(self.attempts)}", **arguments}
        changes: dict[str, Any] = {"result": arguments["result"]} if action == "complete" else {}
        changes |= {"target": arguments["target_agent"]} if action == "offer" else {}
        task = self.moved(id, action, who, arguments[words] if WAYS[action][2] else None, **changes)
        answer = None if lost else {"task": task, "idempotent": False}
        self.call(name, who, answer, key=key, task_id=id, **arguments)

    def renew(self, id: str, who: str, *, lease: int = 60, **more: Any) -> None:
        task = self.tasks[id]["task"]
        task["lease_until"] = iso(self.now + lease * SECOND)
        self.call(
            "renew_task", who, {"task": deepcopy(task), "idempotent": False}, task_id=id, lease=lease, **more
        )  # fmt: skip

    def refuse(self, name: str, id: str, who: str, refusal: str, **more: Any) -> None:
        current = deepcopy(self.tasks[id]["task"]) if refusal in ("conflict", "stale_fence") else None
        self.call(name, who, None, refusal=refusal, current=current, task_id=id, **more)

    def again(self, name: str, id: str, who: str, **more: Any) -> None:
        self.call(name, who, {"task": deepcopy(self.tasks[id]["task"]), "idempotent": True}, task_id=id, **more)

    def show(self, id: str, who: str = "eve", **otherwise: Any) -> None:
        self.call("list_tasks", who, {"tasks": [deepcopy(self.tasks[id]["task"]) | otherwise]})

    def told(self) -> list[str]:
        audit = [row | {"id": id} for id, told in self.tasks.items() for row in deepcopy(told["history"])]
        return violations(self.attempts, End(self.tasks, self.events, self.messages, audit, self.now))


def good() -> Story:
    """Each kind of thing that is right."""
    story = Story()
    story.create("a")
    story.claim("a", "bob", key="claimed")
    story.attempts.append(story.attempts[-1])  # told again
    story.refuse("claim_task", "a", "cy", "conflict")
    story.refuse("complete_task", "a", "cy", "forbidden")
    story.again("claim_task", "a", "bob")
    story.refuse("claim_task", "a", "bob", "conflict", session="other")
    story.act("report_progress", "a", "bob", fence=1)
    story.renew("a", "bob", lease=2)
    story.now += 2 * SECOND
    story.show("a", state="open", claimant=None)
    story.moved("a", "lapse", None)
    story.refuse("complete_task", "a", "bob", "stale_fence", fence=1, result="late")
    story.claim("a", "cy", lease=60)
    story.refuse("report_progress", "a", "bob", "stale_fence", note="late")
    story.act("return_task", "a", "cy")
    story.claim("a", "cy")
    story.refuse("complete_task", "a", "cy", "stale_fence", fence=2, result="old")
    story.act("complete_task", "a", "cy", fence=3)
    story.again("complete_task", "a", "cy")
    story.create("b", target="bob", deadline=30)
    story.refuse("claim_task", "b", "cy", "not_found")
    story.refuse("decline_task", "a", "bob", "forbidden")
    story.act("decline_task", "b", "bob")
    story.refuse("offer_task", "a", "bob", "forbidden")
    story.act("offer_task", "b", "ann", target_agent="cy")
    story.claim("b", "cy", lease=60)
    story.now += 40 * SECOND
    story.show("b", "ann", state="expired")
    story.moved("b", "expire", None)
    story.create("c", deadline=600)
    story.act("cancel_task", "c", "ann")
    story.create("d")
    story.claim("d", "bob")
    story.act("fail_task", "d", "bob")
    return story


def test_what_is_right_passes() -> None:
    assert good().told() == []


def hole(story: Story) -> None:
    story.tasks["d"]["history"].pop(1)


def jump(story: Story) -> None:
    story.tasks["d"]["history"][1]["before"] = "declined"


def no_way(story: Story) -> None:
    story.tasks["d"]["history"][2].update(action="decline")


def same_fence(story: Story) -> None:
    for row in story.tasks["d"]["history"]:
        row["fence"] = 0


def ended_twice(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.act("complete_task", "x", "bob")
    story.act("fail_task", "x", "bob")


def taken_by_another(story: Story) -> None:
    story.create("x", target="bob")
    story.claim("x", "cy")


def completed_by_another(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.act("complete_task", "x", "cy")


def cancelled_by_another(story: Story) -> None:
    story.create("x")
    story.act("cancel_task", "x", "bob")


def lost_task(story: Story) -> None:
    story.create("x")
    del story.tasks["x"]


def lost_claim(story: Story) -> None:
    story.create("x")
    before = deepcopy(story.tasks["x"])
    story.claim("x", "bob")
    story.tasks["x"] = before


def one_for_two(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.attempts.append(story.attempts[-1]._replace(key="another"))


def unasked(story: Story) -> None:
    story.create("x")
    story.moved("x", "claim", "bob", claimant="bob")


def refused_and_done(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.act("return_task", "x", "bob")
    story.attempts[-1] = story.attempts[-1]._replace(
        answer=None, refusal="conflict", details={"current": story.tasks["x"]["task"]}
    )


def happened_twice(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    for _ in range(2):
        story.act("report_progress", "x", "bob", note="half", key="same")


def made_twice(story: Story) -> None:
    story.create("x")
    story.create("y")
    story.tasks["y"]["task"]["title"] = "title x"


def lost_claim_counts_once(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob", lost=True, lease=1)
    story.now += 3 * SECOND
    story.moved("x", "lapse", None)
    story.moved("x", "claim", "bob", claimant="bob")


def told_otherwise(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob", key="same")
    story.act("return_task", "x", "bob")
    story.claim("x", "bob", key="same")


def refused_again(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob", key="same")
    story.refuse("claim_task", "x", "bob", "conflict", key="same", lease=60)


def had_by_another_session(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.again("claim_task", "x", "bob", session="other")


def done_by_another(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.act("complete_task", "x", "bob")
    story.again("complete_task", "x", "cy")


def old_fence(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.act("return_task", "x", "bob")
    story.claim("x", "bob")
    story.act("complete_task", "x", "bob", fence=1)


def old_fence_renews(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.act("return_task", "x", "bob")
    story.claim("x", "bob")
    story.renew("x", "bob", fence=1)


def renewed_by_another(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.renew("x", "cy")


def lapsed_at_once(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.moved("x", "lapse", None)


def lapsed_though_renewed(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob", lease=3)
    story.renew("x", "bob", lease=60)
    story.now += 5 * SECOND
    story.moved("x", "lapse", None)


def done_after_its_lease(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob", lease=2)
    story.now += 5 * SECOND
    story.act("complete_task", "x", "bob")


def renewed_after_its_lease(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob", lease=2)
    story.now += 5 * SECOND
    story.renew("x", "bob")


def never_lapsed(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob", lease=2)
    story.now += 20 * SECOND


def _handed_on(story: Story) -> None:
    story.create("x", target="bob")
    story.claim("x", "bob")
    story.act("return_task", "x", "bob")
    story.act("offer_task", "x", "ann", target_agent="cy")
    story.claim("x", "cy")


def shown_whose_it_is_now(story: Story) -> None:
    _handed_on(story)
    story.show("x", "bob")


def late_and_told_no_more(story: Story) -> None:
    _handed_on(story)
    story.show("x", "bob", claimant=None, target=None)


def never_expired(story: Story) -> None:
    story.create("x", deadline=3)
    story.now += 20 * SECOND


def claimed_after_its_deadline(story: Story) -> None:
    story.create("x", deadline=3)
    story.now += 5 * SECOND
    story.claim("x", "bob")


def expired_too_soon(story: Story) -> None:
    story.create("x", deadline=30)
    story.moved("x", "expire", None)


def refused_as_expired(story: Story) -> None:
    story.create("x", deadline=30)
    current = deepcopy(story.tasks["x"]["task"]) | {"state": "expired"}
    story.call("claim_task", "bob", None, refusal="conflict", current=current, task_id="x", lease=1)
    story.now += 40 * SECOND
    story.moved("x", "expire", None)


def lapsed_after_its_deadline(story: Story) -> None:
    story.create("x", deadline=3)
    story.claim("x", "bob", lease=5)
    story.now += 10 * SECOND
    story.moved("x", "lapse", None)
    story.moved("x", "expire", None)


def another_deadline(story: Story) -> None:
    story.create("x", deadline=30)
    story.tasks["x"]["task"]["deadline_at"] = None


def shown_too_old(story: Story) -> None:
    story.create("x")
    before = deepcopy(story.tasks["x"]["task"])
    story.claim("x", "bob")
    story.now += 5 * SECOND
    story.call("list_tasks", "eve", {"tasks": [before]})


def shown_open(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.show("x", state="open", claimant=None)
    story.act("complete_task", "x", "bob")


def shown_as_anothers(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.show("x", claimant="cy")


def refused_what_is_open(story: Story) -> None:
    story.create("x")
    story.refuse("claim_task", "x", "bob", "conflict", lease=1)


def refused_its_owner(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.refuse("complete_task", "x", "bob", "stale_fence", fence=1, result="it")


def forbidden_to_its_target(story: Story) -> None:
    story.create("x", target="bob")
    story.now += 5 * SECOND
    story.refuse("claim_task", "x", "bob", "forbidden", lease=1)


def forbidden_to_a_former_owner(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.act("return_task", "x", "bob")
    story.claim("x", "cy")
    story.now += 5 * SECOND
    story.refuse("complete_task", "x", "bob", "forbidden", result="it")


def hidden(story: Story) -> None:
    story.create("x")
    story.refuse("claim_task", "x", "bob", "not_found", lease=1)


def no_snapshot(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.call("claim_task", "cy", None, refusal="conflict", task_id="x", lease=1)


def fault(story: Story) -> None:
    story.create("x")
    story.refuse("claim_task", "x", "bob", "internal_error", lease=1)


def another_result(story: Story) -> None:
    story.create("x")
    story.claim("x", "bob")
    story.act("complete_task", "x", "bob")
    story.tasks["x"]["task"]["result"] = "T"


def another_state(story: Story) -> None:
    story.tasks["d"]["task"]["state"] = "open"


def no_event(story: Story) -> None:
    story.events.pop()


def events_in_disorder(story: Story) -> None:
    story.events[-1], story.events[-2] = story.events[-2], story.events[-1]


def no_result_message(story: Story) -> None:
    story.messages = [row for row in story.messages if row["event"] != "completed"]


def announced_twice(story: Story) -> None:
    story.messages.append(story.messages[0])


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (hole, "its versions are [1, 3]"),
        (jump, "there is no way from declined to claimed"),
        (jump, "begins in declined, and the one before ended in open"),
        (no_way, "decline by bob: there is no way from claimed to failed"),
        (same_fence, "its fence is 0 after 0"),
        (ended_twice, "it ended 2 times"),
        (taken_by_another, "it was offered to bob alone"),
        (completed_by_another, "complete by cy: bob had it"),
        (cancelled_by_another, "not by who made it"),
        (lost_task, "acknowledged, and the task is lost"),
        (lost_claim, "acknowledged, and lost"),
        (one_for_two, "acknowledged to two calls"),
        (unasked, "nobody asked for it"),
        (refused_and_done, "nobody asked for it"),
        (lost_claim_counts_once, "nobody asked for it"),
        (happened_twice, "happened 2 times"),
        (happened_twice, "a repeated report_progress was told something else"),
        (made_twice, "made 2 times"),
        (told_otherwise, "a repeated claim_task was told something else"),
        (refused_again, "was acknowledged, and its repeat refused"),
        (had_by_another_session, "and another session has it"),
        (done_by_another, "and bob has it"),
        (old_fence, "complete_task of task x with fence 1, not 2"),
        (old_fence_renews, "renew_task of task x with fence 1, not 2"),
        (renewed_by_another, "which somebody else had"),
        (lapsed_at_once, "s too soon"),
        (lapsed_though_renewed, "s too soon"),
        (done_after_its_lease, "its lease was over"),
        (renewed_after_its_lease, "after its lease"),
        (never_lapsed, "its lease never lapsed"),
        (never_expired, "it never expired"),
        (claimed_after_its_deadline, "after its deadline"),
        (expired_too_soon, "before its deadline"),
        (refused_as_expired, "was shown task x, version 1, expired: before its deadline"),
        (lapsed_after_its_deadline, "its deadline was over first"),
        (another_deadline, "its deadline is not what was asked for"),
        (shown_too_old, "it was claimed since"),
        (shown_open, "it was claimed, and then came ['complete']"),
        (shown_as_anothers, "as cy's"),
        (shown_whose_it_is_now, "as cy's, which is theirs to know"),
        (refused_what_is_open, "it was open"),
        (refused_its_owner, "the caller has it, and its fence"),
        (forbidden_to_its_target, "it was offered to the caller"),
        (forbidden_to_a_former_owner, "it was the caller's before"),
        (hidden, "it could be seen"),
        (no_snapshot, "not shown the task"),
        (fault, "refused with internal_error"),
        (another_result, "its result is not what bob sent"),
        (another_state, "open, version 3"),
        (no_event, "its events tell otherwise"),
        (events_in_disorder, "its events tell otherwise"),
        (no_result_message, "0 messages tell that it was completed"),
        (no_result_message, "its result stands in another message"),
        (announced_twice, "2 messages tell that it was created"),
    ],
)
def test_the_checker_complains_of(wrong: Callable[[Story], None], complaint: str) -> None:
    story = good()
    wrong(story)
    assert any(complaint in line for line in story.told()), story.told()


# What an answer that was lost excuses


def lost_but_done(story: Story) -> None:
    story.create("x", lost=True)
    story.claim("x", "bob", lost=True)
    story.act("complete_task", "x", "bob", lost=True)


def lost_renewal(story: Story) -> None:
    """It may have made the lease shorter, or longer."""
    story.create("x")
    story.claim("x", "bob", lease=60)
    story.call("renew_task", "bob", None, task_id="x", lease=1)
    story.now += 3 * SECOND
    story.moved("x", "lapse", None)
    story.claim("x", "bob", lease=1)
    story.call("renew_task", "bob", None, task_id="x", lease=60)
    story.now += 30 * SECOND
    story.act("complete_task", "x", "bob")


def lost_offer(story: Story) -> None:
    """Nobody knows to whom it was offered."""
    story.create("x", target="bob")
    story.call("offer_task", "ann", None, task_id="x", target_agent="cy")
    story.act("offer_task", "x", "ann", target_agent="dan", lost=True)
    story.claim("x", "dan")


def ended_in_the_same_moment(story: Story) -> None:
    """What one transaction did has one time."""
    story.create("x")
    story.claim("x", "bob", lease=2)
    renewed = story.now
    story.renew("x", "bob", lease=2)
    story.now = renewed
    story.act("complete_task", "x", "bob")


def lapsed_and_expired_at_once(story: Story) -> None:
    story.create("x", deadline=10)
    story.claim("x", "bob", lease=2)
    story.now += 20 * SECOND
    story.moved("x", "lapse", None)
    story.moved("x", "expire", None)
    story.show("x")


@pytest.mark.parametrize(
    "right",
    [
        late_and_told_no_more,
        lost_but_done,
        lost_renewal,
        lost_offer,
        ended_in_the_same_moment,
        lapsed_and_expired_at_once,
    ],
)
def test_the_checker_does_not_complain_of(right: Callable[[Story], None]) -> None:
    story = good()
    right(story)
    assert story.told() == []
