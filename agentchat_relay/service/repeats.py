"""One effect per idempotency key (promise P2).

An operation that creates a row keeps key and digest on that row, and its answer is told again from it. Every other
operation keeps its answer beside the key, for a while. A key belongs to its agent; the same key with another operation
or other arguments is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import msgspec

from agentchat.errors import Conflict

from ..store.seam import Row, Writing
from .call import Call

KEEP_DAYS = 7
_MOST_ANSWERS = 10_000  # of one agent, or a few more
_NOW_AND_THEN = 100  # in one microsecond of so many
Service = Callable[..., Any]


def earlier(tx: Writing, call: Call) -> Row | None:
    """What this agent did under this key before, if it was this very call."""
    if call.key is None:
        return None
    tx.settle(_kept_under(call.agent.id, call.key))
    row = tx.one("repeat", key=call.key, agent_id=call.agent.id)
    if row is not None and row["digest"] != call.digest:
        raise Conflict(
            "This idempotency key came with another call before, and nothing was changed; a new call needs a new key.",
            code="idempotency_mismatch",
        )
    return row


def mark(tx: Writing, agent_id: int, key: str | None) -> None:
    """Something is kept under this key that is not written down yet."""
    if key is not None:
        tx.mark(_kept_under(agent_id, key))


def _kept_under(agent_id: int, key: str) -> object:
    return key, agent_id


def once(
    service: Service,
    kept: Callable[[Any], Any] = lambda answer: answer,
    told_again: Callable[[Writing, Call, Any], Any] = lambda tx, call, answer: answer,
) -> Service:
    """The service function, told to act once per key. `kept` is what of an answer is kept, `told_again` what a repeat
    is told of that."""

    @wraps(service)
    def run(tx: Writing, call: Call, **arguments: Any) -> Any:
        if (row := earlier(tx, call)) is not None:
            return told_again(tx, call, msgspec.json.decode(row["answer"]))
        answer = service(tx, call, **arguments)
        if call.key is not None and not isinstance(answer, Exception):
            keep(tx, call.agent.id, call.key, call.digest, msgspec.json.encode(kept(answer)).decode())
        return answer

    return run


def keep(tx: Writing, agent_id: int, key: str, digest: bytes | None, answer: str) -> None:
    """For a repeat of a call that left no row, or none any more."""
    mark(tx, agent_id, key)
    tx.later("insert_answer", agent_id=agent_id, key=key, digest=digest, answer=answer, created_at=tx.now)
    if tx.now % _NOW_AND_THEN == 0:
        tx.run("bound_answers", agent_id=agent_id, keep=_MOST_ANSWERS)
