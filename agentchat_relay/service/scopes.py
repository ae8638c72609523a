"""Scopes: where in the world an item is for. Only a session that stands there, or further in, is given it.

A scope is a kind and a path, like `repo:github.com/org/proj`. A session says where it stands; an item is for it if its
scope is one of those or leads to one, whole steps of the path at a time. In the inbox each scope is a lane of its own,
as is each degree of urgency, so that what waits for others is never looked through. Scopes route; they protect nothing
(one agent's sessions from each other least of all).
"""

from __future__ import annotations

import re

import msgspec

from agentchat.contract import LONGEST_SCOPE, MOST_PLACES, SCOPE_FORM
from agentchat.errors import BadRequest

from ..store.seam import Reading
from .call import Call
from .notices import FIRST

_MOST_PRESENTED = 8
_MOST_LISTED = 50
_is_scope = re.compile(SCOPE_FORM.pattern).fullmatch


def read(presented: str) -> tuple[str, ...]:
    """The scopes whose items a session may be given: those that it presents, between commas, and what leads to them."""
    named = [scope for part in presented.split(",") if (scope := part.strip())]
    if len(named) > _MOST_PRESENTED:
        raise BadRequest(f"A session presents at most {_MOST_PRESENTED} scopes, got {len(named)}.")
    found: dict[str, None] = {}
    for scope in named:
        if len(scope) > LONGEST_SCOPE or _is_scope(scope) is None:
            raise BadRequest(f"{scope[:60]!a} is no scope: it must be {SCOPE_FORM.words}.")
        found.update(dict.fromkeys(_leading_to(scope)))
    if len(found) > MOST_PLACES:
        raise BadRequest(f"The scopes of a session may lead through at most {MOST_PLACES} places, got {len(found)}.")
    return tuple(found)


def _leading_to(scope: str) -> list[str]:
    steps = scope.split("/")
    return ["/".join(steps[:number]) for number in range(1, len(steps) + 1)]


def lanes(call: Call) -> str:
    """The lanes of the caller's inbox that this session is given from, urgent ones first, for statements. What comes
    before all others has no scope."""
    usual = [f"{urgent}{scope}" for urgent in (1, 0) for scope in ("", *call.scopes)]
    return _encoded([f"{FIRST}", *usual])


def presented(call: Call) -> str:
    """The same without urgency."""
    return _encoded(["", *call.scopes])


def waiting_elsewhere(tx: Reading, call: Call) -> list[str]:
    """Scopes in which something waits that this session is not given."""
    rows = tx.all("scopes_waiting", agent_id=call.agent.id, now=tx.now, limit=_MOST_LISTED)
    return [row["scope"] for row in rows if row["scope"] not in call.scopes]


def _encoded(texts: list[str]) -> str:
    return msgspec.json.encode(texts).decode()
