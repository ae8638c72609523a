"""What the writer moved last, so that the next move need not look for it.

Nobody else can have written meanwhile: tallies are dropped as soon as somebody did. What has ended is not kept, since
it may be deleted, and hardly anybody asks again.
"""

from __future__ import annotations

from typing import Any

from ...store.seam import Writing

Kept = dict[str, Any]

_MOST = 2000
_LARGEST = 4000  # characters of text


def recall(tx: Writing, public_id: str) -> Kept | None:
    found: Kept | None = _known(tx).get(public_id)
    return found


def remember(tx: Writing, thing: Kept) -> Kept:
    """As it is from now on; the same. Nobody may change it in place."""
    known = _known(tx)
    known.pop(thing["public_id"], None)
    size = len(thing["body"] or "") + len(thing["details"] or "")
    if thing["ended_at"] is None and size <= _LARGEST:
        if len(known) >= _MOST:
            del known[next(iter(known))]
        known[thing["public_id"]] = thing
    return thing


def _known(tx: Writing) -> dict[str, Kept]:
    known: dict[str, Kept] = tx.tallies.setdefault("work", {})
    return known
