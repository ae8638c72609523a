"""What the checkers of campaigns about things that go from state to state share: lines of a log, leases, and rules that
hold of all kinds. It shares nothing with the relay or the clients, so that it cannot share their mistakes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from tests.faults.calls import SECOND, SLACK, Call, brief, micros

Row = Mapping[str, Any]
NEAR = SECOND // 10  # by which two readings of one clock may differ
LATEST = 5 * SECOND  # until the relay has made explicit what is over


class Way(NamedTuple):
    """What a transition may come after, and leads to; and how its event is called."""

    before: tuple[str | None, ...]
    after: str
    event: str


Ways = Mapping[str, Way]


class Line(NamedTuple):
    """A transition, as the relay tells it."""

    id: str
    version: int
    action: str
    actor: str | None
    before: str | None
    after: str
    fence: int
    note: str | None
    at: int
    kind: str = "task"

    def __str__(self) -> str:
        return f"{self.kind} {brief(self.id)}, version {self.version}, {self.action} by {self.actor or 'the relay'}"


def line_of(id: str, row: Row, kind: str = "task") -> Line:
    named = (row[name] for name in ("version", "action", "actor", "before", "after", "fence", "note"))
    return Line(id, *named, micros(row["at"]), kind)


class Had(NamedTuple):
    """What is known of a lease from one moment on."""

    at: int
    until: int


class Begun(NamedTuple):
    """What is known of a lease when it begins: what was told of it, or how long it may have been; and whether it may
    have been anything."""

    known: Sequence[Had]
    lowest: Sequence[int] = ()
    is_open: bool = False


Renewals = Iterable[tuple[Call, Had | None]]  # by whom, and what came of it if that is known


def lease_at(begun: Begun, renewals: Renewals, at: int, without: Call | None = None) -> tuple[int, int | None]:
    """Until when it lasts, seen from that time: at least, and at most, or None if nobody can say."""
    known, lowest, is_open = [*begun.known], [*begun.lowest], begun.is_open
    for call, had in renewals:
        if call is without:
            continue
        if had is not None:
            known.append(had)
        elif call.began_at - SLACK <= at:
            lowest.append(call.began_at - SLACK + call.arguments["lease"] * SECOND)
            is_open = True
    earlier = [had for had in known if had.at <= at]
    if not earlier:  # of what nobody was told of, or is told to be later
        return min(lowest, default=0), None
    last = max(earlier)
    # What one transaction did at the same time may have come before it or after it.
    before = max((had for had in known if had.at < at), default=last)
    highest = max(last.until, before.until)
    return min([last.until, before.until, *lowest]), None if is_open else highest


# Rules of every kind


def goes_on(ways: Ways, lines: Sequence[Line]) -> Iterator[str]:
    """Versions grow by one, each transition begins where the last one ended, and is one that there is."""
    if [line.version for line in lines] != [*range(1, len(lines) + 1)]:
        yield f"{lines[0].kind} {brief(lines[0].id)}: its versions are {[line.version for line in lines]}"
    for line in lines:
        way = ways.get(line.action)
        if way is None or line.before not in way.before or line.after != way.after:
            yield f"{line}: there is no way from {line.before} to {line.after}"
    for one, other in pairwise(lines):
        if one.after != other.before:
            yield f"{other}: begins in {other.before}, and the one before ended in {one.after}"
        if other.at < one.at - NEAR:
            yield f"{other}: is older than the one before it"


def events_tell(kind: str, ways: Ways, histories: Mapping[str, Sequence[Line]], events: Iterable[Row]) -> Iterator[str]:
    """Of each transition one, in order, and nothing else."""
    by_thing: dict[str, list[Row]] = defaultdict(list)
    for event in events:
        by_thing[event["subject"]].append(event)
    for id, lines in histories.items():
        expected = [(f"{kind}.{ways[line.action].event}", line.actor) for line in lines if line.action in ways]
        found = [(event["kind"], event["actor"]) for event in by_thing[id]]
        if found != expected:
            missing = [*(Counter(expected) - Counter(found))]
            yield f"{kind} {brief(id)}: its events tell otherwise; missing {missing}, too many " + str(
                [*(Counter(found) - Counter(expected))]
            )
            continue
        for event, line in zip(by_thing[id], lines, strict=False):
            data = event["data"] or {}
            if [data.get(name) for name in ("version", "action", "before", "after", "note")] != [
                line.version, line.action, line.before, line.after, line.note,
            ]:  # fmt: skip
                yield f"{line}: its event tells otherwise"
