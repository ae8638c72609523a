"""Work that outlives its messages: a channel may keep them for a shorter time than it takes somebody to deal with it.

Such a message is written anew before it goes, and whatever waits in inboxes waits on with the new one: the same items,
claimed or not, in the same order.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...store.seam import Row, Writing
from .. import channels, messages
from . import machine, telling
from .kinds import KINDS


def write_anew(tx: Writing, kind: str, message_id: int) -> bool:
    """Whether that was done, since what items of this kind are about is not over."""
    if kind not in KINDS:
        return False
    old = tx.the("message_to_go", id=message_id)
    public_id = msgspec.json.decode(old["metadata"])[f"{kind}_id"]
    if tx.one("work_state", public_id=public_id) is None:
        return False
    thing = machine.found(tx, old["space_id"], kind, public_id)
    if machine.by_clock(KINDS[kind], thing, tx.now)["ended_at"] is not None:
        return False
    new = _again(tx, old)
    tx.run("move_items", message_id=new.id, old_id=message_id)
    machine.announced_anew(tx, thing, message_id, new.id, new.row["public_id"])
    return True


def _again(tx: Writing, old: Row) -> messages.New:
    author, root_id = telling.caller(tx, old["author_id"]), old["root_id"]
    parent: dict[str, Any] | None = None
    if root_id is not None:  # by which it is found; it may be gone
        parent = {"id": root_id, "public_id": None, "root_id": None, "depth": 0}
    return messages.append(
        tx, author, channels.find(tx, author, old["channel"]), old["content"], kind="system", parent=parent,
        recipient=old["recipient_id"], metadata=old["metadata"],
    )  # fmt: skip
