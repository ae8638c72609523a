"""Approvals as they travel."""

from typing import Any, TypedDict

from ._tasks import Transition


class Approval(TypedDict):
    """`state` is pending, allowed, edited (allowed with other arguments), denied, answered (there is a message instead
    of a call), withdrawn, or expired, which is denied as well. `verdict` is the same as a word to act on: allow, edit,
    deny, respond, or null. `call_hash` stands for the tool and its exact arguments, `allowed_hash` for what may be
    called. `preview` is the begin of the arguments as JSON, `arguments_size` how long that is.
    """

    id: str
    tool_name: str
    preview: str
    arguments_size: int
    call_hash: str
    reason: str | None
    state: str
    verdict: str | None
    allowed_hash: str | None
    message: str | None
    version: int
    requester: str
    requested_by: str
    decided_by: str | None
    message_id: str | None
    urgent: bool
    created_at: str
    deadline_at: str
    ended_at: str | None


class ApprovalChange(TypedDict):
    """`idempotent`: nothing happened, since that was so already; `yours`: the verdict is the caller's. `reviewers` is
    how many could decide it now."""

    approval: Approval
    idempotent: bool
    yours: bool
    reviewers: int


class ApprovalList(TypedDict):
    approvals: list[Approval]
    next_cursor: str | None
    has_more: bool


class ApprovalDetails(TypedDict):
    """`arguments` are those of the request, `allowed_arguments` those that may be called with, or null."""

    approval: Approval
    arguments: dict[str, Any]
    allowed_arguments: dict[str, Any] | None
    history: list[Transition]
