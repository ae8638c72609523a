"""Locks as they travel."""

from typing import TypedDict


class Lock(TypedDict):
    """`state` is waiting, held, released, lapsed (its lease was over), broken (by an admin), expired (its wait was
    over) or withdrawn. `fence` is null until it is granted; of locks on one name, who got it later has the higher one.
    `reason` is the holder's, `break_reason` the admin's. `version` grows with every transition.
    """

    id: str
    names: list[str]
    shared: bool
    state: str
    version: int
    fence: int | None
    holder: str
    held_by: str
    reason: str | None
    break_reason: str | None
    created_at: str
    granted_at: str | None
    lease_until: str | None
    waits_until: str | None
    ended_at: str | None


class Acquired(TypedDict):
    """`holders` are in the way while it waits, those who hold it first."""

    lock: Lock
    holders: list[Lock]


class LockChange(TypedDict):
    """`idempotent`: the caller had done that already, and nothing happened."""

    lock: Lock
    idempotent: bool


class LockList(TypedDict):
    """First come first."""

    locks: list[Lock]
    next_cursor: str | None
    has_more: bool
