"""What the journals of a locks round and the log at its end say, put side by side for the checker.

It shares nothing with the relay or the clients, so that it cannot share their mistakes: which names overlap is written
down here anew, step by step.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from tests.faults.calls import SECOND, SLACK, Call, brief, by_key, micros
from tests.faults.journal import Attempt
from tests.faults.transitions import Begun, Had, Line, Row, lease_at, line_of

FINAL = ("released", "lapsed", "broken", "expired", "withdrawn")
GIVES_BACK = ("release", "withdraw")


def overlap(one: str, other: str) -> bool:
    """`**` as the last step is what is before it, and all below."""
    steps, others = one.split("/"), other.split("/")
    for mine, theirs in zip(steps, others, strict=False):
        if "**" in (mine, theirs):
            return True
        if mine != theirs:
            return False
    longer, shorter = (steps, others) if len(steps) > len(others) else (others, steps)
    return longer[len(shorter) :] in ([], ["**"])


class End(NamedTuple):
    """What is told at the end of a round: of each lock what it is then, who did what, and what happened."""

    locks: dict[str, Any]
    events: Sequence[Row]
    audit: Sequence[Row] | None  # of relays
    at: int


class Lock:
    """One that was asked for, and what became of it."""

    def __init__(self, id: str, told: Row, lines: Sequence[Line], call: Call | None, number: int) -> None:
        self.id, self.told, self.lines, self.call = id, told, lines, call
        self.names, self.shared, self.holder = told["names"], told["shared"], told["holder"]
        self.number = number  # in the order in which they came
        self.grant = next((line for line in lines if line.action == "grant"), None)
        self.last = lines[-1]

    def __str__(self) -> str:
        shared = ", shared," if self.shared else ""
        return f"lock {brief(self.id)} of {self.holder} on {' '.join(self.names)}{shared}"

    def conflicts(self, names: Iterable[str], shared: bool) -> bool:
        return not (self.shared and shared) and any(overlap(mine, one) for mine in self.names for one in names)

    def is_in_the_way_of(self, other: Lock) -> bool:
        return self is not other and self.conflicts(other.names, other.shared)

    @property
    def fence(self) -> int:
        return self.grant.fence if self.grant else 0

    @cached_property
    def wait_until(self) -> int | None:
        """Of one that had to wait, if it is known who asked."""
        is_asked = self.call is not None and self.lines[0].action == "create"
        return self.lines[0].at + self.call.arguments.get("wait", 0) * SECOND if is_asked and self.call else None


class Locks:
    """Calls, locks, and the log of all of them."""

    def __init__(self, attempts: Iterable[Attempt], end: End) -> None:
        self.calls = [Call(found) for found in by_key(attempts)]
        self.asked = {call.key: call for call in self.calls if call.name == "acquire_lock"}
        self.about: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            if id := call.arguments.get("lock_id"):
                self.about[id].append(call)
        self.log = _log(end)
        lines: dict[str, list[Line]] = defaultdict(list)
        for line in self.log:
            lines[line.id].append(line)
        self.lines = dict(lines)
        self.locks = {
            id: Lock(id, end.locks[id], found, self.asked.get(end.locks[id]["reason"]), number)
            for number, (id, found) in enumerate(self.lines.items())
            if id in end.locks
        }
        self.made: dict[tuple[str, int], Call] = {}  # by whom something was given back, where that is certain
        self.twice: list[tuple[Line, Call, Call]] = []
        for call in self.calls:
            line = self.made_by(call)
            if line is not None and self.made.setdefault((line.id, line.version), call) is not call:
                self.twice.append((line, self.made[line.id, line.version], call))

    def made_by(self, call: Call) -> Line | None:
        """The transition by which a call is told to have given something back."""
        if call.name != "release_lock" or not call.answer or call.answer["idempotent"]:
            return None
        lines, version = self.lines.get(call.answer["lock"]["id"], []), call.answer["lock"]["version"]
        line = lines[version - 1] if 0 < version <= len(lines) else None
        return line if line and line.action in GIVES_BACK and line.actor == call.who else None

    def unknown(self, line: Line, name: str) -> Iterator[Call]:
        """Calls that nobody answered, and that may have made this transition."""
        for call in self.about[line.id]:
            if call.name == name and call.is_unknown and call.began_at - SLACK <= line.at:
                yield call

    def renewals(self, lock: Lock) -> Iterator[tuple[Call, Had | None]]:
        """Calls that may have changed a lease, and how if that is known."""
        for call in self.about[lock.id]:
            if call.name != "renew_lock":
                continue
            if call.answer:
                until = micros(call.answer["lock"]["lease_until"])
                yield call, Had(until - call.arguments["lease"] * SECOND, until)
            elif call.is_unknown and call.who == lock.holder and call.arguments.get("fence") in (None, lock.fence):
                yield call, None

    def lease(self, lock: Lock, at: int, without: Call | None = None) -> tuple[int, int | None]:
        """Until when it lasts, seen from that time: at least, and at most, or None if nobody can say."""
        begun = Begun([], [], True)
        if lock.grant and lock.call:
            begun = Begun([Had(lock.grant.at, lock.grant.at + lock.call.arguments["lease"] * SECOND)])
        return lease_at(begun, self.renewals(lock), at, without)

    def walk(self) -> Iterator[tuple[Line, Lock, list[Lock], list[Lock]]]:
        """Each transition of a lock, and what was waited for and held before it, in the order of the log."""
        waiting: dict[str, Lock] = {}
        held: dict[str, Lock] = {}
        for line in self.log:
            if (lock := self.locks.get(line.id)) is None:
                continue
            yield line, lock, [*waiting.values()], [*held.values()]
            waiting.pop(line.id, None)
            held.pop(line.id, None)
            if line.after in ("waiting", "held"):
                (waiting if line.after == "waiting" else held)[line.id] = lock

    def shown(self) -> Iterator[Shown]:
        for call in self.calls:
            for attempt in call.attempts:
                # What is told again may have been so since the call began.
                is_kept = call.name in ("renew_lock", "release_lock") and attempt.answer is not None
                since = call.began_at if is_kept else attempt.began_at
                for lock in snapshots(attempt):
                    yield Shown(lock, since - SLACK, attempt.ended_at or 0, attempt.who)


class Shown(NamedTuple):
    """A lock as somebody was shown it, which was so at some time between two."""

    lock: Row
    since: int
    until: int
    who: str

    def __str__(self) -> str:
        told = self.lock
        return f"{self.who} was shown lock {brief(told['id'])}, version {told['version']}, {told['state']}"


def snapshots(attempt: Attempt) -> list[Row]:
    told = attempt.answer or attempt.details or {}
    single = [told[name] for name in ("lock", "current") if told.get(name) and "names" in told[name]]
    return [*single, *told.get("holders", []), *told.get("locks", [])] if attempt.call != "break_lock" else []


def _log(end: End) -> list[Line]:
    """By the audit, or where there is no relay by the events, which name no fences but that of the lock."""
    if end.audit is not None:
        return [line_of(row["id"], row, "lock") for row in end.audit if row["kind"] == "lock"]
    found = []
    for event in end.events:
        data = event["data"] or {}
        fence = 0 if data["action"] in ("create", "expire", "withdraw") else data["lock"]["fence"]
        found.append(line_of(event["subject"], {**event, **data, "fence": fence}, "lock"))
    return found


def figures_of(attempts: Sequence[Attempt], end: End) -> Counter[str]:
    told = Locks(attempts, end)
    refused = Counter(attempt.refusal for call in told.calls for attempt in call.refusals)
    asked = [call for call in told.calls if call.name != "list_locks"]
    moves = Counter(line.action for line in told.log)
    return Counter(
        {
            "changes asked for": len(asked),
            "acknowledged": sum(bool(call.answered) for call in asked),
            "told again": sum(max(len(call.answered) - 1, 0) for call in asked),
            **{f"refused, {code}": times for code, times in sorted(refused.items()) if code},
            "attempts without an answer": sum(attempt.is_unknown for attempt in attempts),
            "calls never answered": sum(call.is_unknown for call in asked),
            "locks": len(told.locks),
            "transitions": len(told.log),
            **{f"transitions, {action}": times for action, times in sorted(moves.items())},
            "renewals": sum(call.name == "renew_lock" and bool(call.answer) for call in told.calls),
            "locks shown": sum(1 for _ in told.shown()),
        }
    )
