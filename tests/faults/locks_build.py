"""A build of the relay that breaks one promise about locks, so that a campaign can show that it would notice.

python -m tests.faults.locks_build BROKEN --data DIR …    # otherwise like agentchat serve

Several names have commas between them.

    overlap   only the very same name overlaps, and no prefix leads to anything
    shared    who shares a name is in nobody's way
    fence     the number of a grant does not grow
    queue     who only waits is in nobody's way
    stuck     what ends lets nobody in
    hasty     leases are over a second too soon
    brief     renewals are answered, and have no effect
    eternal   leases are never over
    guard     anybody may do with a lock what its holder may
    late      who lost a lock may give it back
    vain      who waits is told by a reader that it was in vain; and grants take a while
    dedupe    no idempotency keys are looked at
    silent    no event tells of grants

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
from agentchat_relay.http import locks as routes
from agentchat_relay.service.operations import SERVICES
from agentchat_relay.service.work import lock, locks, machine, names
from agentchat_relay.service.work.lock import HELD, LAPSED
from agentchat_relay.service.work.machine import Machine, Move
from agentchat_relay.service.work.names import Sought
from tests.faults import tasks_build
from tests.faults.editing import edit

SLOW = 0.4  # seconds
SHARED_WITH_TASKS = ("hasty", "eternal", "hurried", "wire")
# Statement, what stands in it, and what stands there instead.
EDITS = {
    "shared": [("overlapping", "n.is_shared IN (0, :mode)", "n.is_shared IN (0, :mode * 0)")],
    "fence": [("next_fence", "fences.fence + 1", "fences.fence")],
    "brief": [
        (
            "renew_work", "SET lease_until = :lease_until",
            "SET lease_until = CASE WHEN 1 = 0 THEN :lease_until ELSE lease_until END",
        ),
    ],
}  # fmt: skip


def look_for_the_same_only() -> None:
    names.sought = lambda keys: Sought([key.stored for key in keys], [])
    names.overlap = lambda one, other: one == other


def overlook_who_waits() -> None:
    is_live = locks._is_live
    locks._is_live = lambda tx, row: row["state"] == HELD and is_live(tx, row)


def let_nobody_in() -> None:
    locks._let_in = lambda tx, ended: tx.run("delete_names", work_id=ended["id"])  # type: ignore[assignment]


def believe_anybody() -> None:
    machine.check_actor = lambda tx, call, machine, move, seen, fence=None: None


def take_back_what_is_lost() -> None:
    """Whoever had it gives it back, as if it were still his."""
    check, find = machine.check_actor, Machine.move

    def believing(tx: Any, call: Any, machine: Machine, move: Move, seen: Any, fence: int | None = None) -> None:
        if not (move.action == "release" and seen["state"] == LAPSED and seen["owner_id"] == call.agent.id):
            check(tx, call, machine, move, seen, fence)

    def move(self: Machine, action: str) -> Move:
        found = find(self, action)
        return found._replace(before=(HELD, LAPSED)) if self is lock.LOCK and action == "release" else found

    machine.check_actor = believing
    Machine.move = move  # type: ignore[method-assign]


def believe_every_lease() -> None:
    locks._is_live = lambda tx, row: bool(row["lease_until"] or row["deadline_at"] > tx.now)


def believe_readers() -> None:
    grant = locks._grant

    def slowly(tx: Any, space_id: int, public_id: str, wanted: Any) -> None:
        grant(tx, space_id, public_id, wanted)
        time.sleep(SLOW)

    locks._grant = slowly
    vars(routes)["Refused"] = NotImplementedError  # what nobody raises, so that it catches nothing


def overlook_keys() -> None:
    for name in ("acquire_lock", "renew_lock", "release_lock"):
        entry = SERVICES[name]
        SERVICES[name] = entry._replace(service=functools.partial(_without_key, entry.service))


def _without_key(service: Callable[..., Any], tx: Any, call: Any, **arguments: Any) -> Any:
    return service(tx, call._replace(key=None), **arguments)


def make(broken: str) -> None:
    """Break what is in this process."""
    for name in broken.split(","):
        for statement, old, new in EDITS.get(name, []):
            edit(statement, old, new)
        if name in SHARED_WITH_TASKS:
            tasks_build.make(name)
        match name:
            case "overlap":
                look_for_the_same_only()
            case "queue":
                overlook_who_waits()
            case "stuck":
                let_nobody_in()
            case "guard":
                believe_anybody()
            case "late":
                take_back_what_is_lost()
            case "eternal":
                believe_every_lease()
            case "vain":
                believe_readers()
            case "dedupe":
                overlook_keys()
            case "silent":
                tasks_build.tell_nothing_of("granted")


def main(broken: str, arguments: Sequence[str]) -> int:
    make(broken)
    return cli.main(["serve", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
