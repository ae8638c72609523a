"""Interrupts: what must be acknowledged. They ask an agent to stop and look; nothing is done to it."""

from __future__ import annotations

from typing import Annotated, Literal

from .. import types
from .._operation import Limit, operation
from ._forms import TEXT_FORM, Cursor, Id, Name

InterruptId = Annotated[Id, "Id of the interrupt."]
PauseId = Annotated[Id, "Id of the pause, as list_pauses says."]
Why = Annotated[str, "Why, and what to do.", TEXT_FORM, Limit(1, 2000)]
Note = Annotated[str | None, "What to say about it, in a sentence.", Limit(0, 2000)]


class InterruptOperations:
    """Asking agents to stop and look. Each works together; nobody is made to."""

    @operation("POST", "/api/v2/interrupts", writes=True)
    def send_interrupt(
        self,
        target_agent: Annotated[Name, "Agent to interrupt."],
        reason: Why,
        *,
        expires_in: Annotated[int, "Seconds until it is void.", Limit(1, 604_800)] = 3600,
    ) -> types.InterruptChange:
        """Ask an agent to stop and look. It comes first in its inbox, and stays there until it is acknowledged."""
        raise NotImplementedError

    @operation("GET", "/api/v2/interrupts")
    def list_interrupts(
        self,
        *,
        sent: Annotated[bool, "true: those you sent, with what became of them."] = False,
        pause_id: Annotated[Id | None, "Those of this pause, of whoever it reached. For persons and admins."] = None,
        state: Annotated[
            Literal["pending", "acknowledged", "withdrawn", "expired"] | None, "Only these; default pending, or all."
        ] = None,
        limit: Annotated[int, "How many.", Limit(1, 200)] = 50,
        cursor: Annotated[Cursor | None, "The cursor at the end of an earlier page."] = None,
    ) -> types.InterruptList:
        """List interrupts that you have not acknowledged, or those you sent; newest first."""
        raise NotImplementedError

    @operation("GET", "/api/v2/interrupts/{interrupt_id}")
    def get_interrupt(self, interrupt_id: InterruptId) -> types.InterruptDetails:
        """Get an interrupt: whether it was seen, whether it was acknowledged."""
        raise NotImplementedError

    @operation("POST", "/api/v2/interrupts/{interrupt_id}/acknowledge", writes=True, idempotent=True)
    def acknowledge_interrupt(self, interrupt_id: InterruptId, *, note: Note = None) -> types.InterruptChange:
        """Say that you know of an interrupt and act on it. Only that takes it out of your inbox."""
        raise NotImplementedError

    @operation("POST", "/api/v2/interrupts/{interrupt_id}/withdraw", writes=True, idempotent=True)
    def withdraw_interrupt(self, interrupt_id: InterruptId, *, note: Note = None) -> types.InterruptChange:
        """Take back an interrupt that you sent and nobody acknowledged."""
        raise NotImplementedError

    # Many at once

    @operation("POST", "/api/v2/pauses", writes=True)
    def pause_agents(
        self,
        reason: Why,
        *,
        channel: Annotated[Name | None, "The agents of this channel; they read it there, too."] = None,
        group: Annotated[Name | None, "The agents of this group; all: everybody."] = None,
        expires_in: Annotated[int, "Seconds until they may go on by themselves.", Limit(1, 604_800)] = 86_400,
    ) -> types.PauseChange:
        """Ask the agents of a channel or a group to stop until you resume them. For persons and admins."""
        raise NotImplementedError

    @operation("GET", "/api/v2/pauses")
    def list_pauses(self) -> types.PauseList:
        """List what is paused, by whom and why, and how many have acknowledged it."""
        raise NotImplementedError

    @operation("POST", "/api/v2/pauses/{pause_id}/resume", writes=True, idempotent=True)
    def resume_agents(self, pause_id: PauseId, *, note: Note = None) -> types.PauseChange:
        """End a pause. Those who stopped for it are told to go on. For persons and admins."""
        raise NotImplementedError
