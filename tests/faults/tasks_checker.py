"""Decides whether tasks kept their promises, from two records alone: what those who make them and do them were told
during a round, and what the relay tells at its end. Plain data goes in, sentences come out.

Each rule says only what is certain: an answer that was lost may have moved the task that its call was about, at any
time after it began.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

from tests.faults.calls import SECOND, SLACK, Call, brief, micros
from tests.faults.handed import ACTIONS, NOTES, End, Histories, Shown, has_moved
from tests.faults.journal import Attempt
from tests.faults.transitions import LATEST, NEAR, Row, Way, events_tell, goes_on

WAYS = {
    "create": Way((None,), "open", "created"),
    "claim": Way(("open",), "claimed", "claimed"),
    "decline": Way(("open",), "declined", "declined"),
    "progress": Way(("claimed",), "claimed", "progressed"),
    "return": Way(("claimed",), "open", "returned"),
    "complete": Way(("claimed",), "done", "completed"),
    "fail": Way(("claimed",), "failed", "failed"),
    "offer": Way(("open", "declined"), "open", "offered"),
    "cancel": Way(("open", "claimed", "declined"), "cancelled", "cancelled"),
    "lapse": Way(("claimed",), "open", "lapsed"),
    "expire": Way(("open", "claimed", "declined"), "expired", "expired"),
}
ENDS = ("done", "failed", "cancelled", "expired")
OWNERS = ("progress", "return", "complete", "fail")
CREATORS = ("create", "offer", "cancel")
RELAYS = ("lapse", "expire")


def violations(attempts: Iterable[Attempt], end: End) -> list[str]:
    told = Histories(attempts, end)
    return [complaint for rule in RULES for complaint in rule(told, end)]


# What a history is


def from_step_to_step(told: Histories, end: End) -> Iterator[str]:
    """From its creation on, and each claim has the next number."""
    for id, lines in told.lines.items():
        yield from goes_on(WAYS, lines)
        if not lines or lines[0].action != "create" or lines[0].fence:
            yield f"task {brief(id)}: its history does not begin with its creation"
        for one, other in pairwise(lines):
            if other.fence != one.fence + (other.action == "claim"):
                yield f"{other}: its fence is {other.fence} after {one.fence}"
        if sum(line.after in ENDS for line in lines) > 1:
            yield f"task {brief(id)}: it ended {sum(line.after in ENDS for line in lines)} times"


def moved_by_who_may(told: Histories, end: End) -> Iterator[str]:
    for id, lines in told.lines.items():
        creator, targets = end.tasks[id]["task"]["creator"], told.targets(id)
        for line in lines:
            target = targets[line.version - 2] if line.version > 1 else None
            if (line.actor is None) != (line.action in RELAYS):
                yield f"{line}: not by who may"
            elif line.action in CREATORS and line.actor != creator:
                yield f"{line}: not by who made it"
            elif line.action == "claim" and target not in (None, "?", line.actor):
                yield f"{line}: it was offered to {target} alone"
            elif line.action == "decline" and target not in ("?", line.actor):
                yield f"{line}: it was offered to {target}"
            elif line.action in OWNERS:
                claim = told.claim(line)
                if claim is None or claim.actor != line.actor:
                    yield f"{line}: {claim.actor if claim else 'nobody'} had it"


# What was asked for


def as_acknowledged(told: Histories, end: End) -> Iterator[str]:
    """Whatever was acknowledged is in the history, as it was told, and once."""
    for call in told.changes:
        if not has_moved(call):
            continue
        assert call.answer
        task, line = call.answer["task"], told.made_by(call)
        what = f"{call.who}: {call.name} of task {brief(task['id'])}, version {task['version']}"
        if task["id"] not in end.tasks:
            yield f"{what}: acknowledged, and the task is lost"
        elif line is None:
            yield f"{what}: acknowledged, and lost"
        elif call.name != "create_task":
            if (task["state"], task["fence"]) != (line.after, line.fence):
                yield f"{what}: told to be {task['state']} with fence {task['fence']}; {line}"
            if line.note != call.arguments.get(NOTES.get(line.action, "")):
                yield f"{what}: another note stands there"
            if not call.began_at - SLACK <= line.at <= (call.ended_at or 0) + NEAR:
                yield f"{what}: at another time than it was made"
    for line, one, other in told.twice:
        yield f"{line}: acknowledged to two calls, {one.key} and {other.key}"


def asked_for(told: Histories, end: End) -> Iterator[str]:
    """Nothing happened that nobody asked for, and nothing twice."""
    titles = Counter(found["task"]["title"] for found in end.tasks.values())
    yield from (f"{title[-20:]}: made {times} times" for title, times in titles.items() if times > 1)
    for lines in told.lines.values():
        notes = Counter((line.action, line.note) for line in lines if line.action in NOTES and line.note)
        yield from (f"{lines[0]}: {note!r} happened {times} times" for note, times in notes.items() if times > 1)
        used: dict[tuple[str, str | None], int] = defaultdict(int)
        for line in lines:
            if line.actor is None or told.made.get(line[:2]):
                continue
            used[line.action, line.actor] += 1 if line.action not in NOTES else 0
            if len([*told.unknown(line)]) < max(used[line.action, line.actor], 1):
                yield f"{line}: nobody asked for it"


def told_again(told: Histories, end: End) -> Iterator[str]:
    """A repeat under one key has no further effect, and is told the same."""
    for call in told.calls:
        if call.name not in ACTIONS and call.name != "renew_task":
            continue
        for one, other in pairwise([attempt for attempt in call.attempts if not attempt.is_unknown]):
            if one.answer and other.refusal:
                yield f"{call.who}: {call.name} was acknowledged, and its repeat refused with {other.refusal}"
            elif one.answer and other.answer and call.name == "create_task":
                if one.answer["task"]["id"] != other.answer["task"]["id"]:
                    yield f"{call.who}: a repeated create_task made another task"
            elif one.answer and other.answer and one.answer != other.answer:
                yield f"{call.who}: a repeated {call.name} was told something else"


def done_already(told: Histories, end: End) -> Iterator[str]:
    """Who is told that there was nothing to be done had done it."""
    for call in told.changes:
        if not call.answer or not call.answer["idempotent"]:
            continue
        task, action = call.answer["task"], ACTIONS[call.name]
        what = f"{call.who}: {call.name} of task {brief(task['id'])} was told that it was done already"
        if action in ("create", "offer", "progress", "return") or task["state"] != WAYS[action].after:
            yield f"{what}, and it is {task['state']}"
        elif action in ("claim", "complete", "fail") and task["claimant"] != call.who:
            yield f"{what}, and {task['claimant']} has it"
        elif action == "claim":
            claim = _claim_of(told, task)
            if claim is not None and claim.session != call.session:
                yield f"{what}, and another session has it"


def _claim_of(told: Histories, task: Row) -> Call | None:
    """By which it is had, if that is certain."""
    lines = told.lines.get(task["id"], ())[: task["version"]]
    claim = next((line for line in reversed(lines) if line.action == "claim"), None)
    return told.made.get(claim[:2]) if claim else None


# Whose it is, and for how long


def fences_hold(told: Histories, end: End) -> Iterator[str]:
    """Who brings the number of an earlier claim changes nothing."""
    for id, calls in told.about.items():
        by_note = {line.note: line for line in told.lines.get(id, ()) if line.note}
        for call in calls:
            line = told.made_by(call) or by_note.get(call.arguments.get(NOTES.get(ACTIONS.get(call.name, ""), "")))
            fence = call.answer["task"]["fence"] if call.name == "renew_task" and call.answer else line and line.fence
            if fence is not None and call.arguments.get("fence", fence) != fence:
                yield f"{call.who}: {call.name} of task {brief(id)} with fence {call.arguments['fence']}, not {fence}"


def leases_hold(told: Histories, end: End) -> Iterator[str]:
    """Nobody loses it before the lease is over, or does anything with it after."""
    for id, lines in told.lines.items():
        deadline = _deadline(end, id)
        for line in lines:
            if line.action not in (*OWNERS, *RELAYS) or line.before != "claimed":
                continue
            if (claim := told.claim(line)) is None:
                continue
            least, most = told.lease(claim, line.at)
            if line.action in OWNERS and most is not None and line.at >= most:
                yield f"{line}: its lease was over"
            if line.action == "lapse" and line.at < least:
                yield f"{line}: {(least - line.at) / SECOND:.2f} s too soon"
            if line.action == "lapse" and deadline is not None and least >= deadline:
                yield f"{line}: its deadline was over first"
            if line.action == "expire" and deadline is not None and most is not None and most < deadline:
                yield f"{line}: its lease was over first"


def renewed_in_time(told: Histories, end: End) -> Iterator[str]:
    """Only who has it renews it."""
    for id, lines in told.lines.items():
        deadline, claims = _deadline(end, id), [line for line in lines if line.action == "claim"]
        for call in told.about[id]:
            if call.name == "renew_task" and call.answer:
                fence = call.answer["task"]["fence"]
                if call.who not in [claim.actor for claim in claims if claim.fence == fence]:
                    yield f"{call.who}: renewed task {brief(id)} with fence {fence}, which somebody else had"
        for claim in claims:
            later = (line for line in lines[claim.version :] if line.after != "claimed")
            lost = next(later, None)
            for call, had in told.renewals(claim):
                if had is None:
                    continue
                most = told.lease(claim, had.at, without=call)[1]
                if had.at < claim.at or (lost is not None and had.at > lost.at):
                    yield f"{call.who}: renewed task {brief(id)}, which it did not have then: {claim}"
                elif most is not None and had.at >= most:
                    yield f"{call.who}: renewed task {brief(id)} after its lease: {claim}"
                elif deadline is not None and had.at >= deadline:
                    yield f"{call.who}: renewed task {brief(id)} after its deadline"


def in_time(told: Histories, end: End) -> Iterator[str]:
    """Nothing is done after the deadline, and nothing expires before."""
    for id, lines in told.lines.items():
        deadline = _deadline(end, id)
        asked = [call.arguments for call in told.about[id] if call.name == "create_task"]
        created = micros(end.tasks[id]["task"]["created_at"])
        if asked and asked[0].get("deadline_in", 0) * SECOND != (deadline or created) - created:
            yield f"task {brief(id)}: its deadline is not what was asked for"
        for line in lines:
            if line.action == "expire" and (deadline is None or line.at < deadline):
                yield f"{line}: before its deadline"
            elif line.action not in RELAYS and deadline is not None and line.at >= deadline:
                yield f"{line}: after its deadline"
    for shown in told.shown():
        until = _deadline(end, shown.task["id"])
        if shown.task["state"] == "expired" and (until is None or shown.until < until - NEAR):
            yield f"{shown}: before its deadline"


def _deadline(end: End, id: str) -> int | None:
    found = end.tasks.get(id)
    return None if found is None or found["task"]["deadline_at"] is None else micros(found["task"]["deadline_at"])


# What was shown


def shown_as_it_was(told: Histories, end: End) -> Iterator[str]:
    """Whoever was shown a task was shown what it was then, by its history and the clock."""
    for shown in told.shown():
        complaint = _misshown(told, shown)
        if complaint:
            yield f"{shown}: {complaint}"


def _misshown(told: Histories, shown: Shown) -> str | None:
    task = shown.task
    line = told.at(task["id"], task["version"])
    if line is None:
        return "there is no such version"
    following = told.lines[task["id"]][line.version :]
    if line.at > shown.until + NEAR:
        return "before it was so"
    if following and following[0].at < shown.since:
        return f"it was {following[0].after} since {(shown.since + SLACK - following[0].at) / SECOND:.1f} s"
    if task["fence"] != line.fence:
        return f"with fence {task['fence']}, not {line.fence}"
    came = {"open": [["lapse"]], "expired": [["expire"], ["lapse", "expire"]]}
    if task["state"] != line.after:
        actions = [other.action for other in following[:2]]
        if not any(actions[: len(way)] == way for way in came.get(task["state"], [])):
            return f"it was {line.after}, and then came {actions}"
    claim = told.claim(line._replace(version=line.version + 1))
    owner = claim and claim.actor
    if task.get("channel", "") is None and shown.who not in (
        task["creator"],
        task["target"],
        owner,
    ):  # had it, and is late
        return None if task["claimant"] is None else f"as {task['claimant']}'s, which is theirs to know"
    if task["state"] in ("claimed", "done", "failed") and task["claimant"] != owner:
        return f"as {task['claimant']}'s"
    if task["state"] in ("open", "declined") and task["claimant"] is not None:
        return f"as {task['claimant']}'s, and nobody had it"
    return None


def refused_for_a_reason(told: Histories, end: End) -> Iterator[str]:
    for call in told.calls:
        for attempt in call.refusals:
            what = f"{call.who}: {call.name} of task {brief(told.task_of(call))} was refused with {attempt.refusal}"
            complaint = _unreasonable(told, end, call, attempt)
            if complaint is not None:
                yield f"{what}: {complaint}"


def _unreasonable(told: Histories, end: End, call: Call, attempt: Attempt) -> str | None:
    id, action = told.task_of(call), ACTIONS.get(call.name, "progress")
    if id not in end.tasks or call.name not in (*ACTIONS, "renew_task"):
        return "of that there is none"
    if attempt.refusal in ("conflict", "stale_fence"):
        current = (attempt.details or {}).get("current")
        if not current or current["id"] != id:
            return "not shown the task"
        is_late = attempt.refusal == "conflict"
        return _not_late(told, call, action, current) if is_late else _not_stale(told, call, action, current)
    window = attempt.began_at - SLACK, attempt.ended_at or 0
    had = [line for line in told.lines[id] if line.action == "claim" and line.actor == call.who]
    had_before = any(line.at < window[0] for line in had)
    task, targets = end.tasks[id]["task"], told.targets(id)
    offered = {targets[line.version - 1] for line in told.between(id, *window)}
    if attempt.refusal == "not_found":
        is_seen = task["channel"] is not None or call.who == task["creator"] or had_before or offered == {call.who}
        return "it could be seen" if is_seen else None
    if attempt.refusal != "forbidden":
        return "for no reason that there is"
    if action in CREATORS:
        return "it is the creator's" if call.who == task["creator"] else None
    if action in OWNERS:
        return "it was the caller's before" if had_before else None
    may = {call.who} if action == "decline" else {call.who, None}
    return "it was offered to the caller" if offered <= may else None


def _not_late(told: Histories, call: Call, action: str, current: Row) -> str | None:
    way, state = WAYS[action], current["state"]
    if state in way.before:
        return f"it was {state}"
    if action in ("decline", "complete", "fail", "cancel") and state == way.after and call.name != "renew_task":
        return "it was done already"
    if action == "claim" and state == "claimed" and current["claimant"] == call.who:
        claim = _claim_of(told, current)
        if claim is not None and claim.session == call.session:
            return "the caller has it"
    return None


def _not_stale(told: Histories, call: Call, action: str, current: Row) -> str | None:
    if action not in OWNERS:
        return "it has no fence"
    is_right = call.arguments.get("fence") in (None, current["fence"])
    if current["claimant"] == call.who and is_right:
        return "the caller has it, and its fence"
    had = told.lines[current["id"]][: current["version"]]
    if not any(line.action == "claim" and line.actor == call.who for line in had):
        return "the caller never had it"
    return None


# How it ends


def ends_once(told: Histories, end: End) -> Iterator[str]:
    """Each task is what its history ends with, with the result of the one who completed it."""
    for id, lines in told.lines.items():
        task, last, name = end.tasks[id]["task"], lines[-1], f"task {brief(id)}"
        if (task["state"], task["version"], task["fence"]) != (last.after, last.version, last.fence):
            yield f"{name}: {task['state']}, version {task['version']}, fence {task['fence']}; {last}, {last.after}"
        deadline, claim = _deadline(end, id), told.claim(last._replace(version=last.version + 1))
        if last.after not in ENDS and deadline is not None and deadline + LATEST < end.at:
            yield f"{name}: it never expired"
        if last.after == "claimed" and claim is not None:
            most = told.lease(claim, end.at)[1]
            if most is not None and most + LATEST < end.at:
                yield f"{name}: its lease never lapsed"
        done = [line for line in lines if line.action == "complete"]
        if not done:
            if task["result"] is not None or task["result_message_id"] is not None:
                yield f"{name}: it has a result, and is {task['state']}"
            continue
        call = told.made.get(done[-1][:2])
        results = {call.arguments["result"] for call in ([call] if call else told.unknown(done[-1]))}
        if task["result"] not in results:
            yield f"{name}: its result is not what {done[-1].actor} sent"


def events_tell_the_same(told: Histories, end: End) -> Iterator[str]:
    yield from events_tell("task", WAYS, told.lines, end.events)


def messages_tell_of_it(told: Histories, end: End) -> Iterator[str]:
    """One of each offer, and of each thing that somebody did with it."""
    posted: dict[str, list[Row]] = defaultdict(list)
    for message in end.messages:
        posted[message["task"]].append(message)
    for id, lines in told.lines.items():
        task = end.tasks[id]["task"]
        happened = Counter({"offer": "created"}.get(line.action, WAYS[line.action].event) for line in lines)
        found = Counter(message["event"] for message in posted[id])
        for event in ("created", "declined", "returned", "completed", "failed", "cancelled"):
            if found[event] != happened[event]:
                yield f"task {brief(id)}: {found[event]} messages tell that it was {event}, not {happened[event]}"
        if found["expired"] < happened["expired"]:
            yield f"task {brief(id)}: no message tells that it expired"
        ids = {event: [row["id"] for row in posted[id] if row["event"] == event] for event in ("created", "completed")}
        if task["message_id"] not in ids["created"][:1]:
            yield f"task {brief(id)}: another message announced it"
        if [task["result_message_id"]] != (ids["completed"] or [None]):
            yield f"task {brief(id)}: its result stands in another message"
        for message in posted[id]:
            if message["event"] == "completed" and not message["content"].endswith(str(task["result"])):
                yield f"task {brief(id)}: the message of its result does not have it"


def audit_tells_the_same(told: Histories, end: End) -> Iterator[str]:
    if end.audit is None:
        return
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in end.audit:
        rows[row["id"]].append(row)
    for id, lines in told.lines.items():
        names = ("version", "action", "actor", "before", "after", "fence", "note")
        audited = [(*(row[name] for name in names), micros(row["at"])) for row in rows.pop(id, [])]
        if audited != [line[1:-1] for line in lines]:
            yield f"task {brief(id)}: the audit tells otherwise"
    yield from (f"task {brief(id)}: only the audit knows it" for id in rows)


RULES = (
    from_step_to_step, moved_by_who_may, as_acknowledged, asked_for, told_again, done_already, fences_hold, leases_hold,
    renewed_in_time, in_time, shown_as_it_was, refused_for_a_reason, ends_once, events_tell_the_same,
    messages_tell_of_it, audit_tells_the_same,
)  # fmt: skip
