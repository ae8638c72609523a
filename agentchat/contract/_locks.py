"""Locks: names that an agent has to itself, or shares, for a while."""

from __future__ import annotations

from typing import Annotated

from .. import types
from .._operation import Form, Limit, Waits, operation
from ._forms import TEXT_FORM, Cursor, Id

_STEP = r"[^\x00-\x20*/]+"  # the relay refuses what else is blank or unseen
LOCK_NAME = Form(
    rf"^(/?\*\*|/?{_STEP}(/{_STEP})*(/\*\*)?)$",
    "1 to 200 printable characters without blanks: an exact name like src/a.py, or src/** for all below src; no other "
    "'*', no empty step",
    is_mended=False,
)

LockName = Annotated[str, LOCK_NAME]
LockId = Annotated[Id, "Id of the lock."]
Fence = Annotated[int | None, "fence of your lock: refuses you if it is no longer that one.", Limit(1, 2**53 - 1)]
Lease = Annotated[int, "Seconds until it is free by itself. renew_lock begins them anew.", Limit(1, 86_400)]


class LockOperations:
    """Leases on names. A name is what agents agree on: a path, a service, a step of a deployment."""

    @operation("POST", "/api/v2/locks", writes=True)
    def acquire_lock(
        self,
        names: Annotated[
            list[LockName], "What to lock, all or nothing; src/** is src and everything below.", Limit(1, 20)
        ],
        *,
        shared: Annotated[
            bool, "true: others may share it, as readers do; nobody may have it alone meanwhile."
        ] = False,
        lease: Lease = 300,
        wait: Annotated[int, "Seconds to wait for it if somebody has it.", Limit(0, 600), Waits()] = 0,
        reason: Annotated[str | None, "What for; others see it.", TEXT_FORM, Limit(1, 200)] = None,
    ) -> types.Acquired:
        """Lock names, so that nobody else works on them. Whoever has them already is named in the refusal."""
        raise NotImplementedError

    @operation("GET", "/api/v2/locks")
    def list_locks(
        self,
        *,
        name: Annotated[LockName | None, "Only what overlaps with this."] = None,
        mine: Annotated[bool, "true: only your own."] = False,
        limit: Annotated[int, "How many.", Limit(1, 200)] = 50,
        cursor: Annotated[Cursor | None, "The cursor at the end of an earlier page."] = None,
    ) -> types.LockList:
        """List who holds what or waits for it, until when and why; first come first."""
        raise NotImplementedError

    @operation("POST", "/api/v2/locks/{lock_id}/renew", writes=True)
    def renew_lock(self, lock_id: LockId, *, fence: Fence = None, lease: Lease = 300) -> types.LockChange:
        """Keep a lock for longer: the lease begins anew."""
        raise NotImplementedError

    @operation("POST", "/api/v2/locks/{lock_id}/release", writes=True, idempotent=True)
    def release_lock(self, lock_id: LockId, *, fence: Fence = None) -> types.LockChange:
        """Give back a lock of yours, or stop waiting for it. Who waits for it gets it."""
        raise NotImplementedError
