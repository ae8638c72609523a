"""What the writer moved last, so that the next move need not look for it.

Nobody else can have written meanwhile: tallies are dropped as soon as somebody did. What has ended is not kept, since
it may be deleted, and hardly anybody asks again.
"""

from __future__ import annotations

from typing import Any

from ...store.seam import Writing

Thing = dict[str, Any]  # one of a kind: its row, and the names of those in it

_MOST = 2000
_LARGEST = 4000  # characters of text


def recall(tx: Writing, public_id: str) -> Thing | None:
    found: Thing | None = _known(tx).get(public_id)
    return found


def remember(tx: Writing, thing: Thing) -> Thing:
    """As it is from now on; the same. Nobody may change it in place."""
    known = _known(tx)
    known.pop(thing["public_id"], None)
    size = sum(len(thing[name] or "") for name in ("body", "details", "tags"))
    if thing["ended_at"] is None and size <= _LARGEST:
        if len(known) >= _MOST:
            del known[next(iter(known))]
        known[thing["public_id"]] = thing
    return thing


def _known(tx: Writing) -> dict[str, Thing]:
    known: dict[str, Thing] = tx.tallies.setdefault("work", {})
    return known
