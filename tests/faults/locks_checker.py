"""Decides whether locks kept their promises, from two records alone: what those who wanted them were told during a
round, and the log that is read at its end. Plain data goes in, sentences come out.

Each rule says only what is certain: an answer that was lost may have given back or renewed the lock that its call was
about, at any time after it began. The order of the log is that in which things happened.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise
from typing import NamedTuple

from tests.faults.calls import SECOND, SLACK, Call, brief, micros
from tests.faults.journal import FOREVER, Attempt
from tests.faults.leased import FINAL, GIVES_BACK, End, Lock, Locks, Shown, overlap, snapshots
from tests.faults.transitions import LATEST, NEAR, Line, Way, events_tell, goes_on

WAYS = {
    "create": Way((None,), "waiting", "created"),
    "grant": Way((None, "waiting"), "held", "granted"),
    "release": Way(("held",), "released", "released"),
    "withdraw": Way(("waiting",), "withdrawn", "withdrawn"),
    "break": Way(("held",), "broken", "broken"),
    "lapse": Way(("held",), "lapsed", "lapsed"),
    "expire": Way(("waiting",), "expired", "expired"),
}
NOBODYS = ("break", "lapse", "expire")
BY_CLOCK = {"lapsed": "lapse", "expired": "expire"}
IN_VAIN = ("expired", "withdrawn")
CHANGES = ("renew_lock", "release_lock")


def violations(attempts: Iterable[Attempt], end: End) -> list[str]:
    told = Locks(attempts, end)
    return [complaint for rule in RULES for complaint in rule(told, end)]


# What the log is


def from_step_to_step(told: Locks, end: End) -> Iterator[str]:
    """From its request on. A grant gives a fence, which stays."""
    for id, lines in told.lines.items():
        yield from goes_on(WAYS, lines)
        if id not in told.locks:
            yield f"lock {brief(id)}: only the log knows it"
        for line in lines:
            fences = {other.fence for other in lines[: line.version] if other.action == "grant"} or {0}
            if line.fence not in fences:
                yield f"{line}: its fence is {line.fence}, not {fences}"
    yield from (f"lock {brief(id)}: the log does not know it" for id in end.locks.keys() - told.lines.keys())


def fences_grow(told: Locks, end: End) -> Iterator[str]:
    """In the order of grants, whatever was locked."""
    for one, other in pairwise(line for line in told.log if line.action == "grant"):
        if other.fence <= one.fence:
            yield f"{other}: its fence {other.fence} came after {one.fence}"


def moved_by_who_may(told: Locks, end: End) -> Iterator[str]:
    for lock in told.locks.values():
        for line in lock.lines:
            if line.actor != (None if line.action in NOBODYS else lock.holder):
                yield f"{line}: it is {lock.holder}'s"


# Who has what


def never_at_once(told: Locks, end: End) -> Iterator[str]:
    """Two that conflict, by the log."""
    for line, lock, _, held in told.walk():
        if line.action == "grant":
            yield from (f"{line}: {other} is held" for other in held if other.is_in_the_way_of(lock))


class Belief(NamedTuple):
    """What somebody was told to have, for as long as nobody can have ended it."""

    lock: Lock
    since: int
    until: int


def nobody_believes_it_at_once(told: Locks, end: End) -> Iterator[str]:
    """The same by what everybody was told, whatever the log says."""
    for one, other in combinations(sorted(_beliefs(told), key=lambda belief: belief.since), 2):
        both = min(one.until, other.until) - max(one.since, other.since)
        if both > NEAR and one.lock.is_in_the_way_of(other.lock):
            yield f"{one.lock} and {other.lock} were told to be held for {both / SECOND:.2f} s at once"


def _beliefs(told: Locks) -> Iterator[Belief]:
    for call in told.calls:
        for attempt in call.answered:
            shown = (attempt.answer or {}).get("lock") if call.name in ("acquire_lock", "renew_lock") else None
            if shown and shown["state"] == "held" and shown["id"] in told.locks:
                until = min([micros(shown["lease_until"]), *_soonest_ends(told, shown["id"], call, attempt)])
                yield Belief(told.locks[shown["id"]], attempt.ended_at or 0, until)


def _soonest_ends(told: Locks, id: str, mine: Call, attempt: Attempt) -> Iterator[int]:
    """When other calls that had an effect, or may have had one, can have ended it."""
    for call in told.about[id]:
        if call is mine or not call.may_have_effect or (call.ended < attempt.began and call.name == "renew_lock"):
            continue
        yield call.began_at - SLACK + (call.arguments["lease"] * SECOND if call.name == "renew_lock" else 0)


def nobody_overtakes(told: Locks, end: End) -> Iterator[str]:
    """One that came before, and wants what conflicts."""
    for line, lock, waiting, _ in told.walk():
        for other in waiting if line.action == "grant" else ():
            if other.number < lock.number and other.is_in_the_way_of(lock):
                yield f"{line}: it overtook {other}"


def whose_turn_it_is_gets_it(told: Locks, end: End) -> Iterator[str]:
    """As soon as nobody is in the way: in the very transaction. When its wait is over it gets nothing any more."""
    free: dict[str, int] = {}
    now = 0
    for line, _, waiting, held in told.walk():
        for other in waiting:
            earlier = [one for one in waiting if one.number < other.number]
            if any(one.is_in_the_way_of(other) for one in (*held, *earlier)):
                free.pop(other.id, None)
            elif min(line.at, other.wait_until or line.at) - free.setdefault(other.id, now) > NEAR:
                yield f"{other}: it was free, and not granted"
                free[other.id] = end.at  # told once
        now = line.at


# What was asked for


def as_acknowledged(told: Locks, end: End) -> Iterator[str]:
    """Whatever was acknowledged is in the log, as it was told, and once."""
    for call in told.calls:
        for attempt in call.answered[:1]:
            if call.name == "acquire_lock":
                yield from _acquired(told, call, attempt)
            elif call.name in CHANGES:
                yield from _changed(told, call, attempt)
            elif call.name == "break_lock":
                lock = told.locks.get(call.arguments["lock_id"])
                if lock is None or lock.last.action != "break":
                    yield f"lock {brief(call.arguments['lock_id'])}: it was broken, and the log does not say so"
    for line, one, other in told.twice:
        yield f"{line}: acknowledged to two calls, {one.key} and {other.key}"


def _acquired(told: Locks, call: Call, attempt: Attempt) -> Iterator[str]:
    assert attempt.answer
    shown = attempt.answer["lock"]
    lock, what = told.locks.get(shown["id"]), f"{call.who}: acquire_lock, lock {brief(shown['id'])}"
    if lock is None:
        yield f"{what}: acknowledged, and lost"
    elif lock.call is not call:
        yield f"{what}: told of another call's lock"
    elif shown["state"] in IN_VAIN:
        yield f"{what}: it was {shown['state']}, and not refused"


def _changed(told: Locks, call: Call, attempt: Attempt) -> Iterator[str]:
    assert attempt.answer
    shown = attempt.answer["lock"]
    lock, what = told.locks.get(shown["id"]), f"{call.who}: {call.name} of lock {brief(shown['id'])}"
    if lock is None:
        yield f"{what}: acknowledged, and lost"
        return
    if lock.holder != call.who:
        yield f"{what}: it is {lock.holder}'s"
    if call.arguments.get("fence") not in (None, lock.fence):
        yield f"{what} with fence {call.arguments['fence']}, not {lock.fence}"
    line, latest = told.made_by(call), (attempt.ended_at or 0) + NEAR
    if call.name == "renew_lock":
        at = micros(shown["lease_until"]) - call.arguments["lease"] * SECOND
        if not call.began_at - SLACK <= at <= latest:
            yield f"{what}: with another lease than was asked for"
    elif line is not None and not call.began_at - SLACK <= line.at <= latest:
        yield f"{what}: at another time than it was made"
    elif line is None and not attempt.answer["idempotent"]:
        yield f"{what}: acknowledged, and not in the log"
    elif attempt.answer["idempotent"] and shown["state"] not in ("released", "withdrawn"):
        yield f"{what}: told that it was done already, and it is {shown['state']}"


def asked_for(told: Locks, end: End) -> Iterator[str]:
    """Nothing happened that nobody asked for, and nothing twice."""
    locks = Counter(lock.told["reason"] for lock in told.locks.values())
    yield from (f"{reason}: one call made {times} locks" for reason, times in locks.items() if times > 1)
    for lock in told.locks.values():
        if lock.call is None or lock.call.who != lock.holder:
            yield f"{lock}: nobody asked for it"
        else:
            yield from _as_asked(lock, lock.call)
        for line in lock.lines:
            if line.action in GIVES_BACK and not told.made.get((line.id, line.version)):
                if not any(call.who == line.actor for call in told.unknown(line, "release_lock")):
                    yield f"{line}: nobody asked for it"
            elif line.action == "break":
                notes = [f"by the operator: {call.arguments['reason']}" for call in _breaking(told, line)]
                if line.note not in notes:
                    yield f"{line}: nobody asked for it"


def _as_asked(lock: Lock, call: Call) -> Iterator[str]:
    wanted = [*dict.fromkeys(call.arguments["names"])], call.arguments.get("shared", False)
    if (lock.names, lock.shared) != wanted:
        yield f"{lock}: asked for were {wanted}"
    if lock.lines[0].action == "create" and not call.arguments.get("wait"):
        yield f"{lock}: it waits, and was not to"
    if lock.lines[0].at < call.began_at - SLACK:
        yield f"{lock}: is older than its request"
    for attempt in call.refusals:
        own = (attempt.details or {}).get("current") or {}
        if own.get("id") != lock.id and lock.lines[0].at < attempt.began_at - NEAR:
            yield f"{lock}: refused with {attempt.refusal}, and it is there"


def _breaking(told: Locks, line: Line) -> list[Call]:
    found = [call for call in told.about[line.id] if call.name == "break_lock" and call.may_have_effect]
    return [call for call in found if call.began_at - SLACK <= line.at]


def told_again(told: Locks, end: End) -> Iterator[str]:
    """A repeat under one key has no further effect, and is told the same; of a lock, how it is by then."""
    for call in told.calls:
        for one, other in pairwise([attempt for attempt in call.attempts if not attempt.is_unknown]):
            if not one.answer or call.name not in ("acquire_lock", *CHANGES):
                continue
            waited = call.name == "acquire_lock" and one.answer["lock"]["state"] == "waiting"
            if other.refusal and not waited:
                yield f"{call.who}: {call.name} was acknowledged, and its repeat refused with {other.refusal}"
            elif other.answer and call.name == "acquire_lock":
                if one.answer["lock"]["id"] != other.answer["lock"]["id"]:
                    yield f"{call.who}: a repeated acquire_lock made another lock"
            elif other.answer and one.answer != other.answer:
                yield f"{call.who}: a repeated {call.name} was told something else"


# For how long


def leases_hold(told: Locks, end: End) -> Iterator[str]:
    """Nobody loses a lock before its lease is over, or does anything with it after."""
    for lock in told.locks.values():
        least, most = told.lease(lock, lock.last.at)
        if lock.last.action == "lapse" and lock.last.at < least:
            yield f"{lock.last}: {(least - lock.last.at) / SECOND:.2f} s too soon"
        if lock.last.action in ("release", "break") and most is not None and lock.last.at >= most:
            yield f"{lock.last}: its lease was over"
        for call, had in told.renewals(lock):
            if had is None:
                continue
            most = told.lease(lock, had.at, without=call)[1]
            is_over = lock.last.after in FINAL and had.at > lock.last.at
            if lock.grant is None or had.at < lock.grant.at or is_over:
                yield f"{call.who}: renewed {lock}, which it did not have then"
            elif most is not None and had.at >= most:
                yield f"{call.who}: renewed {lock} after its lease"


def waits_hold(told: Locks, end: End) -> Iterator[str]:
    for lock in told.locks.values():
        for line in lock.lines[1:]:
            if lock.wait_until is None or line.before != "waiting":
                continue
            if line.action == "expire" and line.at < lock.wait_until:
                yield f"{line}: {(lock.wait_until - line.at) / SECOND:.2f} s before its wait was over"
            elif line.action != "expire" and line.at >= lock.wait_until:
                yield f"{line}: its wait was over"


def nothing_stays(told: Locks, end: End) -> Iterator[str]:
    """At the end each is what its log ends with, and none is held or waited for beyond its time."""
    for lock in told.locks.values():
        last, shown = lock.last, lock.told
        if (shown["state"], shown["version"], shown["fence"] or 0) != (last.after, last.version, last.fence):
            yield f"{lock}: {shown['state']}, version {shown['version']}, fence {shown['fence']}; {last}"
        until = lock.wait_until if last.after == "waiting" else told.lease(lock, end.at)[1]
        if last.after in ("waiting", "held") and until is not None and until + LATEST < end.at:
            yield f"{lock}: its {'wait' if last.after == 'waiting' else 'lease'} was never over"


# What was shown


def shown_as_it_was(told: Locks, end: End) -> Iterator[str]:
    """Whoever was shown a lock was shown what it was then, by the log and the clock. What is over by the clock may have
    moved on in time, and not have been stored yet."""
    for shown in told.shown():
        lock = told.locks.get(shown.lock["id"])
        complaint = "there is none" if lock is None else _misshown(told, lock, shown)
        if complaint:
            yield f"{shown}: {complaint}"


def _misshown(told: Locks, lock: Lock, shown: Shown) -> str | None:
    row, version, state = shown.lock, shown.lock["version"], shown.lock["state"]
    if any(row[name] != lock.told[name] for name in ("names", "shared", "holder", "reason", "created_at")):
        return "with other names, or another's"
    if not 0 < version <= len(lock.lines):
        return "there is no such version"
    line, following = lock.lines[version - 1], lock.lines[version:]
    if line.at > shown.until + NEAR:
        return "before it was so"
    if following and following[0].at < shown.since:
        return f"it was {following[0].after} since {(shown.since + SLACK - following[0].at) / SECOND:.1f} s"
    if (row["fence"] or 0) != line.fence:
        return f"with fence {row['fence']}, not {line.fence}"
    if state != line.after and (
        WAYS[BY_CLOCK.get(state, "create")].before != (line.after,)
        or [other.action for other in following if other.at > shown.until][:1] not in ([], [BY_CLOCK[state]])
    ):
        return f"it was {line.after}, and then {[other.after for other in following]}"
    return _mistimed(told, lock, shown)


def _mistimed(told: Locks, lock: Lock, shown: Shown) -> str | None:
    row, state = shown.lock, shown.lock["state"]
    until = row["lease_until"] if state == "held" else row["waits_until"] if state == "waiting" else None
    if state in ("held", "waiting") and (until is None or micros(until) <= shown.since):
        return f"its time was over at {until}"
    if state == "lapsed" and shown.until < _least(told, lock, shown) - NEAR:
        return "before its lease was over"
    if state == "expired" and lock.wait_until is not None and shown.until < lock.wait_until - NEAR:
        return "before its wait was over"
    if state == "waiting" and lock.wait_until is not None and micros(until) != lock.wait_until:
        return f"as waiting until {until}"
    if state == "held" and lock.call is not None and lock.grant is not None:
        renewals = [*told.renewals(lock)]
        known = {had.until for _, had in renewals if had} | {lock.grant.at + lock.call.arguments["lease"] * SECOND}
        if micros(until) not in known and all(had for _, had in renewals):
            return f"with a lease until {until}, which nobody gave it"
    return None


def _least(told: Locks, lock: Lock, shown: Shown) -> int:
    """A reader does not see what was renewed in time, and is not stored yet."""
    return min(told.lease(lock, at)[0] for at in (shown.since, shown.until))


def lists_are_whole(told: Locks, end: End) -> Iterator[str]:
    """Whatever was live all the while is listed, first come first, and nothing else than was asked for."""
    for call in told.calls:
        for attempt in call.answered if call.name == "list_locks" else ():
            assert attempt.answer
            found = [told.locks[row["id"]] for row in attempt.answer["locks"] if row["id"] in told.locks]
            if [lock.number for lock in found] != sorted(lock.number for lock in found):
                yield f"{call.who}: a list is not in the order in which they came"
            for lock in told.locks.values():
                is_wanted = _is_wanted(call, lock)
                if lock in found and not is_wanted:
                    yield f"{call.who}: {lock} is listed, and was not asked for"
                elif is_wanted and lock not in found and _is_live_all_the_while(told, lock, attempt):
                    yield f"{call.who}: {lock} is not listed"


def _is_wanted(call: Call, lock: Lock) -> bool:
    name, mine = call.arguments.get("name"), call.arguments.get("mine")
    return (name is None or any(overlap(name, one) for one in lock.names)) and (not mine or lock.holder == call.who)


def _is_live_all_the_while(told: Locks, lock: Lock, attempt: Attempt) -> bool:
    shown = Shown(lock.told, attempt.began_at - SLACK, (attempt.ended_at or 0) + NEAR, attempt.who)
    if lock.lines[0].at > shown.since or (lock.last.after in FINAL and lock.last.at <= shown.until):
        return False
    granted = FOREVER if lock.grant is None else lock.grant.at
    if granted > shown.since and (lock.wait_until is None or lock.wait_until <= shown.until):
        return False  # of a grant that was not stored yet
    return granted > shown.until or _least(told, lock, shown._replace(since=max(shown.since, granted))) > shown.until


# What was refused


def refused_for_a_reason(told: Locks, end: End) -> Iterator[str]:
    for call in told.calls:
        for attempt in call.refusals:
            find = {"acquire_lock": _not_in_the_way, "break_lock": _not_held}.get(call.name, _not_lost)
            complaint = find(told, call, attempt)
            if complaint is not None:
                of = f" of lock {brief(call.arguments['lock_id'])}" if "lock_id" in call.arguments else ""
                yield f"{call.who}: {call.name}{of} was refused with {attempt.refusal}: {complaint}"


def _not_in_the_way(told: Locks, call: Call, attempt: Attempt) -> str | None:
    """Those in the way were shown, so they were live then: see `shown_as_it_was`."""
    details = attempt.details or {}
    current, holders = details.get("current"), details.get("holders", ())
    if attempt.refusal != "conflict" or current is None:
        return "for no reason that there is"
    for shown in holders:
        other = told.locks.get(shown["id"])
        if shown["state"] not in ("held", "waiting") or other is None or other.call is call:
            return f"lock {brief(shown['id'])} is in nobody's way"
        is_own = other.call is not None and (other.call.who, other.call.session) == (call.who, call.session)
        if not other.conflicts(call.arguments["names"], call.arguments.get("shared", False) and not is_own):
            return f"{other} is not in the way"
    if current["reason"] == call.key:
        own = told.locks.get(current["id"])
        return None if own and own.grant is None else f"it had waited for it, and it is {current['state']}"
    if not holders:
        return "nobody was in the way"
    owner = told.locks[holders[0]["id"]].call
    if call.arguments.get("wait") and (owner is None or (owner.who, owner.session) != (call.who, call.session)):
        return "it was to wait"
    return None


def _not_lost(told: Locks, call: Call, attempt: Attempt) -> str | None:
    lock, shown = told.locks.get(call.arguments["lock_id"]), snapshots(attempt)
    if lock is None:
        return "there is none"
    if attempt.refusal == "forbidden":
        return "it is the caller's" if lock.holder == call.who else None
    if attempt.refusal not in ("conflict", "stale_fence") or not shown or shown[0]["id"] != lock.id:
        return "for no reason that there is"
    state, fence = shown[0]["state"], call.arguments.get("fence")
    is_lost = state in ("lapsed", "broken") or fence not in (None, lock.fence)
    if lock.holder != call.who:
        return f"it is {lock.holder}'s"
    if attempt.refusal == "stale_fence":
        if lock.grant is None or lock.grant.at > (attempt.ended_at or 0) + NEAR:
            return "the caller never had it"
        return None if is_lost else "the caller has it, and its fence"
    if state in ("held", "lapsed", "broken") or (call.name == "release_lock" and state == "released"):
        return f"it was {state}"
    if call.name == "release_lock" and state in ("waiting", "withdrawn") and fence is None:
        return f"it was {state}"
    return None


def _not_held(told: Locks, call: Call, attempt: Attempt) -> str | None:
    """By the log, for which the lease may have been over already."""
    lock = told.locks.get(call.arguments["lock_id"])
    if lock is None or attempt.refusal != "conflict":
        return "for no reason that there is"
    least = told.lease(lock, attempt.began_at)[0]
    was_held = lock.grant is not None and lock.grant.at < attempt.began_at - NEAR
    is_held = lock.last.after == "held" or lock.last.at > (attempt.ended_at or FOREVER) + NEAR
    return "it was held" if was_held and is_held and (attempt.ended_at or FOREVER) + NEAR < least else None


# Events


def events_tell_the_same(told: Locks, end: End) -> Iterator[str]:
    yield from events_tell("lock", WAYS, told.lines, end.events)
    versions: dict[str, int] = defaultdict(int)
    order = []
    for event in end.events:
        versions[event["subject"]] += 1
        order.append((event["subject"], versions[event["subject"]]))
    if len(order) == len(told.log) and order != [(line.id, line.version) for line in told.log]:
        yield "the events tell it in another order"


RULES = (
    from_step_to_step, fences_grow, moved_by_who_may, never_at_once, nobody_believes_it_at_once, nobody_overtakes,
    whose_turn_it_is_gets_it, as_acknowledged, asked_for, told_again, leases_hold, waits_hold, nothing_stays,
    shown_as_it_was, lists_are_whole, refused_for_a_reason, events_tell_the_same,
)  # fmt: skip
