"""A build of the relay that breaks one promise about tasks, so that a campaign can show that it would notice.

python -m tests.faults.tasks_build BROKEN --data DIR …    # otherwise like agentchat serve

Several names have commas between them.

    fence     the number of a claim is not looked at
    owner     whoever had a task once may still do with it what its owner may
    guard     a transition goes by what the process saw of the task a while ago, and nothing else is looked at
    version   transitions are not counted in the task
    deadline  deadlines are never over
    eternal   leases are never over
    hasty     leases are over a second too soon
    claims    idempotency keys of claims are not looked at
    dedupe    no idempotency keys are looked at; of relays
    silent    no event tells of claims
    mute      no message tells of results
    session   whoever claims what another session of the agent has is told that it is his
    twice     what is done can be done again

    hurried   breaks nothing, but sweeps ten times a second, from the start
    wire      breaks nothing, but one in fifty round trips to Postgres loses the connection, before or after
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from agentchat import cli
from agentchat_relay import relay
from agentchat_relay.service.operations import SERVICES
from agentchat_relay.service.work import machine, tasks, telling
from agentchat_relay.service.work.machine import Machine, Move, Thing, Who
from tests.faults import delivery_build
from tests.faults.editing import edit
from tests.faults.relay_build import routes_without_keys

OLD = 0.6  # seconds that a task is remembered where nothing guards it
HASTE = 900_000  # microseconds
_LEASE = "AND (work.lease_until IS NULL OR work.lease_until > :now)"
_VERSION = "(SELECT coalesce(max(x.version), 0) + 1 FROM work_log x WHERE x.work_id = :work_id)"
_COUNTED = ("insert_work_log", ":version", _VERSION)  # by the log's own, which would refuse two of one number
# Statement, what stands in it, and what stands there instead.
EDITS = {
    "guard": [("move_work", "AND version = :version AND state = :before", ""), ("move_work", _LEASE, ""), _COUNTED],
    "version": [
        ("move_work", "version = version + 1", "version = version"),
        ("move_work", "AND version = :version", ""),
        ("end_work_in_time", "version = version + 1", "version = version"),
        ("end_work_in_time", "AND version = :version", ""),
        _COUNTED,
    ],
    "deadline": [
        ("move_work", "deadline_at > :now", "1 = 1"),
        ("renew_work", "deadline_at > :now", "1 = 1"),
        ("work_due", "deadline_at <= :now", "1 = 0"),
        ("next_work_due", "deadline_at IS NOT NULL AND ended_at IS NULL", "1 = 0"),
    ],
    "eternal": [
        ("move_work", _LEASE, ""),
        ("renew_work", "lease_until > :now", "lease_until IS NOT NULL"),
        ("work_due", "lease_until <= :now", "1 = 0"),
        ("next_work_due", "WHERE lease_until IS NOT NULL", "WHERE 1 = 0"),
    ],
    "hasty": [
        ("end_work_in_time", "work.lease_until <= :now", f"work.lease_until <= :now + {HASTE}"),
        ("work_due", "lease_until <= :now", f"lease_until <= :now + {HASTE}"),
    ],
}  # fmt: skip


def judge_times_by(changed: Callable[[Thing], Thing]) -> None:
    """What is due goes by something else than the task's times."""
    due = machine.due
    machine.due = lambda kind, thing, now: due(kind, thing | changed(thing), now)


def remember_old_things() -> None:
    """What was found a while ago counts for as long."""
    known: dict[str, tuple[float, Thing]] = {}
    find = machine.find

    def found(tx: Any, call: Any, kind: Machine, public_id: str) -> Thing:
        thing = find(tx, call, kind, public_id)
        at, old = known.setdefault(public_id, (time.monotonic(), thing))
        if not tx.writes or time.monotonic() - at > OLD:
            known.pop(public_id)
            return thing
        return old

    machine.find = found


def believe_former_owners() -> None:
    check = machine.check_actor

    def believing(tx: Any, call: Any, kind: Machine, move: Move, seen: Thing, fence: int | None = None) -> None:
        if not (move.by is Who.OWNER and machine._had(tx, kind, seen, call.agent.id)):
            check(tx, call, kind, move, seen, fence)

    machine.check_actor = believing


def ignore_fences() -> None:
    check = machine.check_actor
    machine.check_actor = lambda tx, call, kind, move, seen, fence=None: check(tx, call, kind, move, seen)


def tell_nothing_of(event: str) -> None:
    tell = machine._tell

    def quiet(tx: Any, kind: Machine, what: str, *more: Any) -> None:
        if what != event:
            tell(tx, kind, what, *more)

    machine._tell = quiet


def post_no_results() -> None:
    tell = telling.tell

    def quiet(tx: Any, call: Any, thing: Thing, event: str, *more: Any) -> telling.Told:
        if event == "completed":
            return telling.Told(thing["message_id"], thing["message"])
        return tell(tx, call, thing, event, *more)

    telling.tell = quiet


def have_by_any_session() -> None:
    is_done_by = machine._is_done_by
    machine._is_done_by = lambda call, kind, move, seen: is_done_by(
        call._replace(session=seen["session"]), kind, move, seen
    )


def do_again() -> None:
    find = Machine.move

    def move(kind: Machine, action: str) -> Move:
        found = find(kind, action)
        return found._replace(before=(*found.before, found.after)) if action == "complete" else found

    Machine.move = move  # type: ignore[method-assign]


def make(broken: str) -> None:
    """Break what is in this process."""
    for name in broken.split(","):
        for statement, old, new in EDITS.get(name, []):
            edit(statement, old, new)
        match name:
            case "fence":
                ignore_fences()
            case "owner":
                believe_former_owners()
            case "guard":
                remember_old_things()
            case "deadline":
                judge_times_by(lambda thing: {"deadline_at": None})
            case "eternal":
                judge_times_by(lambda thing: {"lease_until": None})
            case "hasty":
                judge_times_by(lambda thing: {"lease_until": thing["lease_until"] and thing["lease_until"] - HASTE})
            case "claims":
                entry = SERVICES["claim_task"]
                SERVICES["claim_task"] = entry._replace(service=tasks.claim_task)
            case "dedupe":
                relay.serve = functools.partial(relay.serve, make_routes=routes_without_keys)
            case "silent":
                tell_nothing_of("claimed")
            case "mute":
                post_no_results()
            case "session":
                have_by_any_session()
            case "twice":
                do_again()
            case "hurried" | "wire":
                delivery_build.make(name)


def main(broken: str, arguments: Sequence[str]) -> int:
    make(broken)
    return cli.main(["serve", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
