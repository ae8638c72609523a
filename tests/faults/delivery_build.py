"""A build of the relay that breaks one promise of delivery, so that a campaign can show that it would notice.

python -m tests.faults.delivery_build BROKEN --data DIR …    # otherwise like agentchat serve

Several names have commas between them.

    lease     what is in somebody's hand is given out as well
    order     the newest is given out first, and urgency counts for nothing
    shuffle   the right items are given out, told in the wrong order
    dedupe    idempotency keys are not looked at
    late      an acknowledgement counts, whoever has got the item since; of claims that the same process gave out
    deaf      acknowledgements are answered, and have no effect
    endless   deliveries are not counted, so that nothing ever dies
    stale     what has expired is given out
    mute      a repeated claim is told of no items
    brief     leases are renewed without any effect
    hasty     what is returned for later is given out at once
    tireless  dead letters are given out three times more
    reaper    what expires in somebody's hand is ended, in a hurry

    blind     what a process remembers counts, whatever others have written since; of processes without a relay

    hurried   breaks nothing, but sweeps ten times a second, from the start
    wire      breaks nothing, but one in fifty round trips to Postgres loses the connection, before or after
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

from agentchat import cli
from agentchat.errors import Conflict
from agentchat_relay import chores, relay
from agentchat_relay.service import inbox
from agentchat_relay.store.postgres import transaction
from agentchat_relay.store.sqlite.transaction import WriteTransaction
from tests.faults.editing import add, edit
from tests.faults.postgres_build import over_a_bad_wire
from tests.faults.relay_build import routes_without_keys

# Statement, what stands in it, and what stands there instead.
EDITS = {
    "brief": [("renew_claim", "WHERE claim_id", "WHERE 1 = 0 AND claim_id")],
    "hasty": [("return_claimed", "lease_until = :lease_until", "lease_until = NULL")],
    "tireless": [
        ("tired_items", ">= :most", ">= :most + 3"),
        ("all_tired_items", ">= :most", ">= :most + 3"),
    ],
    "reaper": [("expired_items", "i.lease_until <= :now", "1 = 1")],
    "lease": [("claim_items", "x.lease_until <= :now", "1 = 1")],
    "order": [
        ("claim_items", "ORDER BY urgent DESC, id", "ORDER BY id DESC"),
        ("claim_items", "ORDER BY i.urgent DESC, i.id", "ORDER BY i.id DESC"),
        ("claim_items", "ORDER BY x.urgent, x.scope, x.id", "ORDER BY x.id DESC"),
    ],
    "shuffle": [("claimed_items", "ORDER BY i.urgent DESC, i.id", "ORDER BY i.urgent, i.id DESC")],
    "late": [("acknowledge_claimed", "AND claim_id = :claim_id", "")],
    "deaf": [("acknowledge_claimed", "WHERE id", "WHERE 1 = 0 AND id")],
    "endless": [("claim_items", "THEN 0 ELSE 1", "THEN 0 ELSE 0")],
    "stale": [("claim_items", "x.expires_at > :now", "1 = 1")],
}  # fmt: skip
_ANYBODYS = "SELECT id, public_id, kind, deliveries, done_at, outcome FROM inbox WHERE public_id = :public_id"


def believe_old_claims() -> None:
    """Whoever once got an item may acknowledge it."""
    given: dict[str, list[str]] = {}
    claimed, held = inbox._claimed, inbox._held
    add("anybodys", _ANYBODYS)

    def remembering(tx: Any, call: Any, claim_id: str) -> Any:
        items, more = claimed(tx, call, claim_id)
        given.setdefault(claim_id, [item["item_id"] for item in items])
        return items, more

    def still_held(tx: Any, call: Any, claim_id: str, item_ids: Sequence[str] | None) -> Any:
        try:
            return held(tx, call, claim_id, item_ids)
        except Conflict:
            if not given.get(claim_id):
                raise
            return [tx.one("anybodys", public_id=id) for id in item_ids or given[claim_id]]

    inbox._claimed, inbox._held = remembering, still_held


def make(broken: str) -> None:
    """Break what is in this process."""
    for name in broken.split(","):
        for statement, old, new in EDITS.get(name, []):
            edit(statement, old, new)
        match name:
            case "dedupe":
                relay.serve = functools.partial(relay.serve, make_routes=routes_without_keys)
            case "late":
                believe_old_claims()
            case "mute":
                inbox.told_again.__code__ = (lambda tx, call, answer: answer).__code__
            case "hurried" | "reaper":
                chores._BETWEEN, chores._AT_FIRST = 0.1, 0.0
            case "wire":
                transaction.control = over_a_bad_wire(0.02)
            case "blind":
                WriteTransaction._look_again = lambda tx: None  # type: ignore[method-assign]


def main(broken: str, arguments: Sequence[str]) -> int:
    make(broken)
    return cli.main(["serve", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
