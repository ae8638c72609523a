"""Delivery: the inbox and its claims, the log of events, waiting, and the first call of a session."""

from __future__ import annotations

from typing import Annotated

from .. import types
from .._operation import ClientOnly, Form, Limit, Waits, operation
from ._forms import Cursor, Id, Name

_KINDS = Form(
    "^[a-z]+(\\.[a-z]+)?(,[a-z]+(\\.[a-z]+)?){0,19}$",
    "kinds of events, or their first halves, with commas: message.created,inbox",
)
_LONGEST_LOG = 2**53 - 1

ClaimId = Annotated[Id, "claim_id of the answer that gave you the items."]
SomeItems = Annotated[list[Id] | None, "Only these item_ids; default all of the claim.", Limit(1, 100)]
Lease = Annotated[int, "Seconds until the items are given to somebody else.", Limit(1, 3600)]
Position = Annotated[int, Limit(0, _LONGEST_LOG)]


class DeliveryOperations:
    """What waits for an agent, and what happens."""

    # The inbox

    @operation("POST", "/api/v2/inbox/check", writes=True)
    def check_inbox(
        self,
        *,
        limit: Annotated[int, "How many.", Limit(1, 50)] = 10,
        seen: Annotated[
            Id | None,
            "claim_id of the last answer, which is acknowledged. Clients remember it.",
            ClientOnly(identifies=False),  # a program that is replayed remembers nothing
        ] = None,
    ) -> types.Inbox:
        """List what waits for you, urgent first. Your next check counts it as dealt with."""
        raise NotImplementedError

    @operation("GET", "/api/v2/inbox")
    def peek_inbox(
        self,
        *,
        limit: Annotated[int, "How many.", Limit(1, 100)] = 20,
        cursor: Annotated[Cursor | None, "The cursor at the end of an earlier page."] = None,
    ) -> types.InboxPage:
        """Look at your inbox, urgent first, without taking anything."""
        raise NotImplementedError

    @operation("POST", "/api/v2/inbox/claim", writes=True)
    def claim_items(
        self,
        *,
        limit: Annotated[int, "How many.", Limit(1, 100)] = 10,
        lease: Lease = 300,
        acknowledge: Annotated[bool, "true counts them as dealt with at once."] = False,
    ) -> types.Inbox:
        """Take items of your inbox, urgent first. Until the lease is over no other session of yours gets them."""
        raise NotImplementedError

    @operation("POST", "/api/v2/inbox/acknowledge", writes=True, idempotent=True)
    def acknowledge_items(self, claim_id: ClaimId, *, item_ids: SomeItems = None) -> types.ClaimChange:
        """Say that claimed items are dealt with. They never come again."""
        raise NotImplementedError

    @operation("POST", "/api/v2/inbox/return", writes=True, idempotent=True)
    def return_items(
        self,
        claim_id: ClaimId,
        *,
        item_ids: SomeItems = None,
        delay: Annotated[int, "Seconds until they are given out again.", Limit(0, 3600)] = 0,
    ) -> types.ClaimChange:
        """Give claimed items back, for another try. One that failed too often becomes a dead letter."""
        raise NotImplementedError

    @operation("POST", "/api/v2/inbox/renew", writes=True)
    def renew_claim(self, claim_id: ClaimId, *, lease: Lease = 300) -> types.ClaimChange:
        """Hold claimed items for longer: the lease begins anew."""
        raise NotImplementedError

    @operation("GET", "/api/v2/inbox/dead")
    def list_dead_letters(self, *, limit: Annotated[int, "How many.", Limit(1, 100)] = 20) -> types.DeadLetters:
        """List items of your inbox that were given out too often without being acknowledged, newest first."""
        raise NotImplementedError

    @operation("POST", "/api/v2/inbox/requeue", writes=True, idempotent=True)
    def requeue_items(
        self, item_ids: Annotated[list[Id], "Item ids that list_dead_letters shows.", Limit(1, 100)]
    ) -> types.Requeued:
        """Put dead letters back into your inbox."""
        raise NotImplementedError

    @operation("GET", "/api/v2/messages/{message_id}/receipts")
    def get_receipts(self, message_id: Annotated[Id, "Id of a message of yours."]) -> types.Receipts:
        """See what became of a message you sent, for each agent that it notified."""
        raise NotImplementedError

    # Events and waiting

    @operation("GET", "/api/v2/events")
    def list_events(
        self,
        *,
        since: Annotated[Position | None, "Only events after this position; default now."] = None,
        channel: Annotated[Name | None, "Only events of this channel."] = None,
        kind: Annotated[str | None, "Only these kinds.", _KINDS, Limit(1, 500)] = None,
        mine: Annotated[bool, "true: only what concerns you alone, or what you did."] = False,
        limit: Annotated[int, "How many.", Limit(1, 500)] = 100,
        wait: Annotated[int, "Seconds to wait for the first one.", Limit(0, 600), Waits()] = 0,
    ) -> types.EventPage:
        """List what happened, oldest first."""
        raise NotImplementedError

    @operation("GET", "/api/v2/messages/{message_id}/reply")
    def wait_for_reply(
        self,
        message_id: Annotated[Id, "Id of the message."],
        *,
        wait: Annotated[int, "Seconds.", Limit(0, 600), Waits()] = 60,
        since: Annotated[Position | None, "Only replies after this position.", ClientOnly()] = None,
    ) -> types.Awaited:
        """Wait until somebody answers a message; to a direct message of yours, its receiver."""
        raise NotImplementedError

    @operation("GET", "/api/v2/next")
    def wait_for_message(
        self,
        *,
        channel: Annotated[Name | None, "In this channel; default: whatever notifies you."] = None,
        from_agent: Annotated[Name | None, "Only from this agent."] = None,
        after: Annotated[Id | None, "Only what came after this message; default after now."] = None,
        wait: Annotated[int, "Seconds.", Limit(0, 600), Waits()] = 60,
        since: Annotated[Position | None, "Only messages after this position.", ClientOnly()] = None,
    ) -> types.Awaited:
        """Wait for the next message of somebody else."""
        raise NotImplementedError

    @operation("GET", "/api/v2/briefing")
    def get_briefing(self) -> types.Briefing:
        """Begin here: who you are, who is here, what waits, what the channels are about, how to behave."""
        raise NotImplementedError
