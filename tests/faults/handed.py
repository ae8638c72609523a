"""What the journals of a tasks round and the relay's histories at its end say, put side by side for the checker.

It shares nothing with the relay or the clients, so that it cannot share their mistakes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tests.faults.calls import SECOND, SLACK, Call, brief, by_key, micros
from tests.faults.journal import Attempt
from tests.faults.transitions import Begun, Had, Line, Row, lease_at, line_of

ACTIONS = {
    "create_task": "create",
    "claim_task": "claim",
    "decline_task": "decline",
    "report_progress": "progress",
    "return_task": "return",
    "complete_task": "complete",
    "fail_task": "fail",
    "offer_task": "offer",
    "cancel_task": "cancel",
}
NOTES = {"decline": "reason", "progress": "note", "return": "reason", "fail": "reason", "cancel": "reason"}


class End(NamedTuple):
    """What the relay tells at the end of a round."""

    tasks: Mapping[str, Row]  # with their histories, by id
    events: Sequence[Row]
    messages: Sequence[Row]
    audit: Sequence[Row] | None  # of relays
    at: int


class Shown(NamedTuple):
    """A task as somebody was shown it, which was so at some time between two."""

    task: Row
    since: int
    until: int
    who: str

    def __str__(self) -> str:
        told = self.task
        return f"{self.who} was shown task {brief(told['id'])}, version {told['version']}, {told['state']}"


class Histories:
    """Calls and transitions, by task."""

    def __init__(self, attempts: Iterable[Attempt], end: End) -> None:
        self.calls = [Call(found) for found in by_key(attempts)]
        self.changes = [call for call in self.calls if call.name in ACTIONS]
        self.lines = {id: [line_of(id, row) for row in told["history"]] for id, told in end.tasks.items()}
        self._ids = {told["task"]["title"]: id for id, told in end.tasks.items()}
        self.about: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            if id := self.task_of(call):
                self.about[id].append(call)
        self.made: dict[tuple[str, int], Call] = {}  # by whom a transition was made, where that is certain
        self.twice: list[tuple[Line, Call, Call]] = []
        for call in self.changes:
            line = self.made_by(call)
            if line is not None and self.made.setdefault(line[:2], call) is not call:
                self.twice.append((line, self.made[line[:2]], call))

    def task_of(self, call: Call) -> str | None:
        if call.name == "create_task":
            return self._ids.get(call.arguments["title"])
        return call.arguments.get("task_id")

    def at(self, task: str, version: int) -> Line | None:
        lines = self.lines.get(task, ())
        return lines[version - 1] if 0 < version <= len(lines) else None

    def made_by(self, call: Call) -> Line | None:
        """The transition that a call is told to have made."""
        if not has_moved(call):
            return None
        assert call.answer
        version = 1 if call.name == "create_task" else call.answer["task"]["version"]
        line = self.at(call.answer["task"]["id"], version)
        return line if line and (line.action, line.actor) == (ACTIONS[call.name], call.who) else None

    def unknown(self, line: Line) -> Iterator[Call]:
        """Calls that nobody answered, and that may have made this transition."""
        for call in self.about[line.id]:
            if ACTIONS.get(call.name) == line.action and call.who == line.actor and call.is_unknown:
                note = call.arguments.get(NOTES.get(line.action, ""))
                if note == line.note and call.began_at - SLACK <= line.at:
                    yield call

    # Who has it

    def claim(self, line: Line) -> Line | None:
        """By which somebody had it before this transition."""
        lines = self.lines[line.id][: line.version - 1]
        return next((other for other in reversed(lines) if other.action == "claim"), None)

    def renewals(self, claim: Line) -> Iterator[tuple[Call, Had | None]]:
        """Calls that may have changed this claim's lease, and how if that is known."""
        for call in self.about[claim.id]:
            if call.name != "renew_task" or call.who != claim.actor:
                continue
            if call.answer:
                if call.answer["task"]["fence"] == claim.fence:
                    until = micros(call.answer["task"]["lease_until"])
                    yield call, Had(until - call.arguments["lease"] * SECOND, until)
            elif call.is_unknown and call.arguments.get("fence") in (None, claim.fence):
                yield call, None

    def lease(self, claim: Line, at: int, without: Call | None = None) -> tuple[int, int | None]:
        """Until when it lasts, seen from that time: at least, and at most, or None if nobody can say."""
        return lease_at(self._begun(claim), self.renewals(claim), at, without)

    def _begun(self, claim: Line) -> Begun:
        call = self.made.get(claim[:2])
        if call is not None and call.answer and call.answer["task"]["lease_until"]:
            return Begun([Had(claim.at, micros(call.answer["task"]["lease_until"]))])
        leases = {call.arguments["lease"] * SECOND for call in self.unknown(claim)}
        if len(leases) == 1:
            return Begun([Had(claim.at, claim.at + lease) for lease in leases])
        return Begun([], [claim.at + lease for lease in leases], True)

    def targets(self, task: str) -> list[str | None]:
        """To whom it was offered from each version on; '?' if nobody can say."""
        found: list[str | None] = []
        for line in self.lines[task]:
            call = self.made.get(line[:2])
            if line.action in ("create", "offer"):
                calls = [call] if call else [*self.unknown(line)]
                names = {call.arguments.get("target_agent") for call in calls}
                found.append(names.pop() if len(names) == 1 else "?")
            else:
                found.append(found[-1] if found else "?")
        return found

    def between(self, task: str, since: int, until: int) -> Iterator[Line]:
        """The transitions that made it what it may have been in that time."""
        lines = self.lines[task]
        for line, following in zip(lines, [*lines[1:], None], strict=True):
            if line.at <= until and (following is None or following.at >= since):
                yield line

    # What was shown

    def shown(self) -> Iterator[Shown]:
        for call in self.calls:
            for attempt in call.attempts:
                # What is told again may have been so since the call began.
                since = attempt.began_at if call.name == "create_task" or attempt.refusal else call.began_at
                tasks = []
                if attempt.answer:
                    tasks = [attempt.answer["task"]] if "task" in attempt.answer else attempt.answer["tasks"]
                elif attempt.details and "current" in attempt.details:
                    tasks = [attempt.details["current"]]
                for task in tasks:
                    yield Shown(task, since - SLACK, attempt.ended_at or 0, attempt.who)


def has_moved(call: Call) -> bool:
    """Whether it is certain to have made a transition."""
    return call.name in ACTIONS and bool(call.answer) and not (call.answer or {})["idempotent"]


def figures_of(attempts: Sequence[Attempt], end: End) -> Counter[str]:
    told = Histories(attempts, end)
    lines = [line for lines in told.lines.values() for line in lines]
    refused = Counter(attempt.refusal for call in told.calls for attempt in call.refusals)
    asked = [call for call in told.calls if call.name in ACTIONS or call.name == "renew_task"]
    moves = Counter(line.action for line in lines)
    return Counter(
        {
            "changes asked for": len(asked),
            "acknowledged": sum(bool(call.answered) for call in asked),
            "told again": sum(max(len(call.answered) - 1, 0) for call in asked),
            "nothing to be done": sum(bool(call.answer and call.answer["idempotent"]) for call in asked),
            **{f"refused, {code}": times for code, times in sorted(refused.items()) if code},
            "attempts without an answer": sum(attempt.is_unknown for attempt in attempts),
            "calls never answered": sum(call.is_unknown for call in asked),
            "tasks": len(end.tasks),
            "transitions": len(lines),
            **{f"transitions, {action}": times for action, times in sorted(moves.items())},
            "renewals": sum(call.name == "renew_task" and bool(call.answer) for call in told.calls),
            "tasks shown": sum(1 for _ in told.shown()),
        }
    )
