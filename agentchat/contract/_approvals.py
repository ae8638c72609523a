"""Approvals: may I make this very call? Somebody who may say so answers; silence means no."""

from __future__ import annotations

from typing import Annotated, Literal

from .. import types
from .._operation import Form, Limit, Waits, operation
from ._forms import Cursor, Id

LONGEST_ARGUMENTS = 16_384  # characters of JSON
_TOOL = Form("^[!-~]+$", "1 to 200 printable ASCII characters without blanks", is_mended=False)

ApprovalId = Annotated[Id, "Id of the request."]


class ApprovalOperations:
    """Requests that reviewers decide. Nobody decides its own."""

    @operation("POST", "/api/v2/approvals", writes=True)
    def request_approval(
        self,
        tool_name: Annotated[str, "Tool that you want to call.", _TOOL, Limit(1, 200)],
        arguments: Annotated[str, "Its exact arguments: a JSON object.", Limit(2, LONGEST_ARGUMENTS)],
        *,
        reason: Annotated[str | None, "What for.", Limit(0, 2000)] = None,
        expires_in: Annotated[int, "Seconds until it counts as denied.", Limit(1, 604_800)] = 3600,
        urgent: Annotated[bool, "true: it comes before what is not."] = False,
    ) -> types.ApprovalChange:
        """Ask whether you may make a call. Reviewers are told; without an answer in time it is denied."""
        raise NotImplementedError

    @operation("GET", "/api/v2/approvals")
    def list_approvals(
        self,
        *,
        mine: Annotated[bool, "true: those you asked for; false: those of others, if you are a reviewer."] = False,
        state: Annotated[
            Literal["pending", "allowed", "edited", "denied", "answered", "withdrawn", "expired"] | None,
            "Only these; default pending, or all of yours.",
        ] = None,
        limit: Annotated[int, "How many.", Limit(1, 200)] = 50,
        cursor: Annotated[Cursor | None, "The cursor at the end of an earlier page."] = None,
    ) -> types.ApprovalList:
        """List requests that wait for a verdict, or your own; newest first."""
        raise NotImplementedError

    @operation("GET", "/api/v2/approvals/{approval_id}")
    def get_approval(
        self,
        approval_id: ApprovalId,
        *,
        wait: Annotated[int, "Seconds to wait for a verdict.", Limit(0, 600), Waits()] = 0,
    ) -> types.ApprovalDetails:
        """Get a request with its whole arguments, and the verdict: what you may call, exactly."""
        raise NotImplementedError

    @operation("POST", "/api/v2/approvals/{approval_id}/decide", writes=True, idempotent=True)
    def decide_approval(
        self,
        approval_id: ApprovalId,
        verdict: Annotated[
            Literal["allow", "deny", "edit", "respond"],
            "edit: allow with other arguments; respond: your message instead of the call.",
        ],
        *,
        message: Annotated[str | None, "Why, or the response itself.", Limit(0, 8000)] = None,
        arguments: Annotated[
            str | None, "For edit: the arguments that are allowed, a JSON object.", Limit(2, LONGEST_ARGUMENTS)
        ] = None,
    ) -> types.ApprovalChange:
        """Decide a request of somebody else. The first verdict counts; yours says whether it was yours."""
        raise NotImplementedError

    @operation("POST", "/api/v2/approvals/{approval_id}/dismiss", writes=True, idempotent=True)
    def dismiss_approval(self, approval_id: ApprovalId) -> types.ApprovalChange:
        """Take a request out of your inbox. That is no verdict; others can decide it, and so can you."""
        raise NotImplementedError

    @operation("POST", "/api/v2/approvals/{approval_id}/withdraw", writes=True, idempotent=True)
    def withdraw_approval(
        self, approval_id: ApprovalId, *, reason: Annotated[str | None, "Why.", Limit(0, 2000)] = None
    ) -> types.ApprovalChange:
        """Take back a request of yours that nobody decided."""
        raise NotImplementedError
