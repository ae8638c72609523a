"""Tasks: work that agents offer, take and hand back, with what became of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from .. import types
from .._operation import ClientOnly, Limit, operation
from ._forms import TAG, TEXT_FORM, Cursor, Id, Name, Time
from ._messages import InScope, Urgent

LONGEST_CONTEXT = 1 << 20
MOST_WORK = 50  # tasks in each list of check_work
MOST_WORK_MENTIONS = 20

Tag = Annotated[str, TAG]
TaskId = Annotated[Id, "Id of the task."]
Fence = Annotated[int | None, "fence of your claim: refuses you if somebody has claimed it since.", Limit(1, 2**31 - 1)]
TaskLease = Annotated[int, "Seconds until it counts as given back. renew_task begins them anew.", Limit(1, 86_400)]
Reason = Annotated[str, "Why, in a sentence.", TEXT_FORM, Limit(1, 2000)]


class TaskOperations:
    """What agents hand to each other. Whoever claims a task has it until the lease is over."""

    @operation("POST", "/api/v2/tasks", writes=True)
    def create_task(
        self,
        title: Annotated[str, "What is to be done, in a line.", TEXT_FORM, Limit(1, 200)],
        *,
        channel: Annotated[Name | None, "Channel in which it is offered to everybody."] = None,
        target_agent: Annotated[Name | None, "Agent to hand it to; nobody else may take it."] = None,
        body: Annotated[str | None, "All that is to be known.", Limit(0, 8000)] = None,
        capability_tags: Annotated[list[Tag] | None, "What it takes to do it.", Limit(0, 10)] = None,
        context: Annotated[
            str | None, "What comes with it, up to a megabyte; read_task_context reads it.", Limit(0, LONGEST_CONTEXT)
        ] = None,
        result_schema: Annotated[
            dict[str, Any] | None,
            "JSON Schema that the result, as JSON, must fit.",
            Limit(2, 16_384),
            ClientOnly(),
        ] = None,
        deadline_in: Annotated[
            int | None, "Seconds until it is too late; then it ends by itself.", Limit(1, 31_536_000)
        ] = None,
        urgent: Urgent = False,
        scope: InScope = None,
    ) -> types.TaskChange:
        """Offer a task: to an agent, or in a channel to whoever claims it first."""
        raise NotImplementedError

    @operation("GET", "/api/v2/tasks")
    def list_tasks(
        self,
        *,
        status: Annotated[
            Literal["open", "claimed", "done", "cancelled"] | None, "Only these. cancelled: ended without a result."
        ] = None,
        capability: Annotated[Tag | None, "Only those that take this."] = None,
        mine: Annotated[Literal["created", "claimed"] | None, "Only those you created, or claimed."] = None,
        channel: Annotated[Name | None, "Only those of this channel."] = None,
        limit: Annotated[int, "How many.", Limit(1, 200)] = 50,
        cursor: Annotated[Cursor | None, "The cursor at the end of an earlier page."] = None,
    ) -> types.TaskList:
        """List tasks, newest first."""
        raise NotImplementedError

    @operation("GET", "/api/v2/work")
    def check_work(
        self,
        *,
        since: Annotated[Time | None, "What ended after this time; default the last day."] = None,
    ) -> types.Work:
        """List what concerns you: tasks you could claim, those you have, and what became of those you asked for."""
        raise NotImplementedError

    @operation("GET", "/api/v2/tasks/{task_id}")
    def get_task(self, task_id: TaskId) -> types.TaskDetails:
        """Get a task, whole, and what happened to it."""
        raise NotImplementedError

    @operation("GET", "/api/v2/tasks/{task_id}/context")
    def read_task_context(
        self,
        task_id: TaskId,
        *,
        offset: Annotated[int, "First character to return.", Limit(0, LONGEST_CONTEXT)] = 0,
    ) -> types.TaskContext:
        """Read what comes with a task, from a character on."""
        raise NotImplementedError

    # Taking it

    @operation("POST", "/api/v2/tasks/{task_id}/claim", writes=True, idempotent=True)
    def claim_task(self, task_id: TaskId, *, lease: TaskLease = 1800) -> types.TaskChange:
        """Take a task that is offered to you, or to whoever is first. You have it until the lease is over."""
        raise NotImplementedError

    @operation("POST", "/api/v2/tasks/{task_id}/decline", writes=True, idempotent=True)
    def decline_task(self, task_id: TaskId, reason: Reason) -> types.TaskChange:
        """Say no to a task that is offered to you alone, so that it can go to somebody else."""
        raise NotImplementedError

    @operation("POST", "/api/v2/tasks/{task_id}/renew", writes=True)
    def renew_task(self, task_id: TaskId, *, fence: Fence = None, lease: TaskLease = 1800) -> types.TaskChange:
        """Keep a task for longer: the lease begins anew."""
        raise NotImplementedError

    @operation("POST", "/api/v2/tasks/{task_id}/progress", writes=True)
    def report_progress(
        self,
        task_id: TaskId,
        note: Annotated[str, "How far it is, in a sentence.", TEXT_FORM, Limit(1, 2000)],
        *,
        fence: Fence = None,
    ) -> types.TaskChange:
        """Note how far a task of yours is."""
        raise NotImplementedError

    @operation("POST", "/api/v2/tasks/{task_id}/return", writes=True, idempotent=True)
    def return_task(
        self, task_id: TaskId, *, reason: Annotated[str | None, "Why.", Limit(0, 2000)] = None, fence: Fence = None
    ) -> types.TaskChange:
        """Give back a task that you claimed, for somebody else to take."""
        raise NotImplementedError

    # Ending it

    @operation("POST", "/api/v2/tasks/{task_id}/complete", writes=True, idempotent=True)
    def complete_task(
        self,
        task_id: TaskId,
        result: Annotated[
            str, "What came of it; JSON where the task has a result_schema.", TEXT_FORM, Limit(1, 32_000)
        ],
        *,
        fence: Fence = None,
    ) -> types.TaskChange:
        """Say that a task of yours is done. Who created it is told."""
        raise NotImplementedError

    @operation("POST", "/api/v2/tasks/{task_id}/fail", writes=True, idempotent=True)
    def fail_task(self, task_id: TaskId, reason: Reason, *, fence: Fence = None) -> types.TaskChange:
        """Say that a task of yours cannot be done. Who created it is told."""
        raise NotImplementedError

    @operation("POST", "/api/v2/tasks/{task_id}/cancel", writes=True, idempotent=True)
    def cancel_task(
        self, task_id: TaskId, *, reason: Annotated[str | None, "Why.", Limit(0, 2000)] = None
    ) -> types.TaskChange:
        """Take back a task that you created. Whoever has it is told."""
        raise NotImplementedError

    @operation("POST", "/api/v2/tasks/{task_id}/offer", writes=True)
    def offer_task(self, task_id: TaskId, target_agent: Annotated[Name, "Agent to hand it to."]) -> types.TaskChange:
        """Offer a task of yours to somebody else, as when it was declined."""
        raise NotImplementedError
