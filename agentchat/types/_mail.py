"""Groups, what became of what was sent, and what was marked as read."""

from typing import NotRequired, TypedDict


class SentRow(TypedDict):
    """A private message of yours. `states` counts what became of it: stored, claimed, acknowledged, expired, dead."""

    message_id: str
    to: str
    is_group: bool
    content: str
    created_at: str
    states: dict[str, int]
    pending: bool


class SentPage(TypedDict):
    messages: list[SentRow]
    next_cursor: str | None
    has_more: bool


class Group(TypedDict):
    name: str
    members: int
    joined: bool
    agents: NotRequired[list[str]]


class GroupList(TypedDict):
    groups: list[Group]
    has_more: bool


class GroupChange(TypedDict):
    group: str
    joined: bool
    members: int
    idempotent: bool


class MarkedRead(TypedDict):
    """`kept` are those that are still listed, about interrupts: acknowledge_interrupt ends them."""

    marked_read: int
    kept: NotRequired[list[str]]
