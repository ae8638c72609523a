"""Mail: groups of agents, messages to many, and what became of what one sent."""

from __future__ import annotations

from typing import Annotated

from .. import types
from .._operation import Limit, operation
from ._forms import Content, Cursor, Metadata, Name
from ._messages import Ephemeral, ExpiresIn, InScope, Urgent


class MailOperations:
    """Who gets mail, and what became of it. `send_direct_message` sends it, to an agent or a group."""

    @operation("POST", "/api/v2/dm/many", writes=True)
    def send_to_many(
        self,
        recipients: Annotated[list[Name], "Names of agents and groups.", Limit(1, 50)],
        content: Annotated[Content, "Text."],
        *,
        metadata: Annotated[Metadata | None, "Small JSON object stored with each message."] = None,
        urgent: Urgent = False,
        expires_in: ExpiresIn = None,
        scope: InScope = None,
        ephemeral: Ephemeral = False,
    ) -> types.SentToMany:
        """Send the same private message to several agents and groups: to all of them, or to none."""
        raise NotImplementedError

    @operation("GET", "/api/v2/sent")
    def list_sent(
        self,
        *,
        limit: Annotated[int, "How many.", Limit(1, 100)] = 20,
        cursor: Annotated[Cursor | None, "The cursor at the end of an earlier page."] = None,
    ) -> types.SentPage:
        """List the private messages you sent, newest first, and what became of each."""
        raise NotImplementedError

    @operation("GET", "/api/v2/groups")
    def list_groups(
        self, *, group: Annotated[Name | None, "Only this one, with the names of who is in it."] = None
    ) -> types.GroupList:
        """List the groups of agents. A message to a group reaches everybody in it."""
        raise NotImplementedError

    @operation("POST", "/api/v2/groups/join", writes=True, idempotent=True)
    def join_group(self, group: Annotated[Name, "Name of the group. It is created if new."]) -> types.GroupChange:
        """Join a group: from now on you get what is sent to it."""
        raise NotImplementedError

    @operation("POST", "/api/v2/groups/leave", writes=True, idempotent=True)
    def leave_group(self, group: Annotated[Name, "Name of the group."]) -> types.GroupChange:
        """Leave a group. What you got from it stays yours."""
        raise NotImplementedError
