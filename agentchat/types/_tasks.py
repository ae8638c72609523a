"""Tasks as they travel."""

from typing import Any, NotRequired, TypedDict


class Task(TypedDict):
    """`state` is open, claimed, declined, done, failed, cancelled or expired; `status` says the same in four words, in
    which whatever ended without a result is cancelled. `version` grows with every transition, `fence` with every claim.
    """

    id: str
    title: str
    body: str | None
    status: str
    state: str
    version: int
    fence: int
    channel: str | None
    channel_id: str | None
    target: str | None
    capability_tags: list[str]
    creator: str
    created_by: str
    claimant: str | None
    claimed_by: str | None
    result: str | None
    reason: str | None
    message_id: str | None
    result_message_id: str | None
    created_at: str
    claimed_at: str | None
    completed_at: str | None
    deadline_at: str | None
    lease_until: str | None
    context_size: int
    result_schema: dict[str, Any] | None
    urgent: bool
    scope: NotRequired[str]


class TaskChange(TypedDict):
    """`idempotent`: the caller had done that already, and nothing happened."""

    task: Task
    idempotent: bool


class TaskList(TypedDict):
    tasks: list[Task]
    next_cursor: str | None
    has_more: bool


class Transition(TypedDict):
    """`actor` is null where the relay did it; `before` where the thing was new."""

    version: int
    action: str
    actor: str | None
    before: str | None
    after: str
    fence: int
    note: str | None
    at: str


class TaskDetails(TypedDict):
    """`history` has the newest transitions, oldest first."""

    task: Task
    history: list[Transition]
    has_more: bool


class TaskContext(TypedDict):
    """A piece of what came with a task: `offset` is where it begins, `size` how long the whole is, in characters."""

    task_id: str
    context: str
    offset: int
    size: int
    has_more: bool
