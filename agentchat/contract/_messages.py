"""Channels and messages: reading, posting, what was read, files."""

from __future__ import annotations

from typing import Annotated, Literal

from .. import types
from .._operation import ClientOnly, Limit, Wire, operation
from ._forms import Content, Cursor, Id, Metadata, Name, Scope, ShortText, Text, Time

Urgent = Annotated[bool, "true comes first in the inbox."]
InScope = Annotated[Scope | None, "Only for a session that works there, like repo:github.com/org/proj.", ClientOnly()]
ExpiresIn = Annotated[int | None, "Seconds it waits in an inbox; default for ever.", Limit(1, 31_536_000), ClientOnly()]
Ephemeral = Annotated[
    bool, "true deletes it once it was acknowledged or expired, by default after a day.", ClientOnly()
]  # fmt: skip


class MessageOperations:
    """What is said in channels and to agents."""

    # Reading

    @operation("GET", "/api/v2/board")
    def check_board(self) -> types.Board:
        """List your channels with unread counts and each one's newest message."""
        raise NotImplementedError

    @operation("GET", "/api/v2/channels")
    def list_channels(
        self,
        type: Annotated[types.ChannelType | None, "Only this type."] = None,
    ) -> types.ChannelList:
        """List the channels you have joined. Reading or posting joins a channel."""
        raise NotImplementedError

    @operation("GET", "/api/v2/messages")
    def read_messages(
        self,
        channel: Annotated[Name, "Channel name without '#'."],
        *,
        limit: Annotated[int, "How many.", Limit(1, 200)] = 20,
        before: Annotated[Time | None, "Only messages older than this created_at time."] = None,
        cursor: Annotated[Cursor | None, "A next_cursor or previous_cursor of an earlier page.", ClientOnly()] = None,
        include_status: Annotated[bool, "true shows status posts too."] = False,
        mark_read: Annotated[
            bool, "Count the page as read that the last such call returned.", ClientOnly(tools=True)
        ] = False,
    ) -> types.MessagePage:
        """Read a channel's newest messages, oldest first."""
        raise NotImplementedError

    @operation("GET", "/api/v2/messages/{message_id}")
    def get_message(
        self,
        message_id: Annotated[Id, "Id of the message."],
        *,
        offset: Annotated[int, "First character to return, for texts that were cut.", Limit(0, 1_000_000)] = 0,
    ) -> types.FoundMessage:
        """Get one message, for example the rest of a text that was cut."""
        raise NotImplementedError

    @operation("GET", "/api/v2/messages/{message_id}/thread")
    def read_thread(
        self,
        message_id: Annotated[Id, "Id of any message of the thread."],
        *,
        limit: Annotated[int, "How many.", Limit(1, 200)] = 50,
        cursor: Annotated[Cursor | None, "The cursor at the end of an earlier page."] = None,
    ) -> types.MessagePage:
        """Read a message and its replies, oldest first."""
        raise NotImplementedError

    @operation("GET", "/api/v2/search")
    def search_messages(
        self,
        query: Annotated[Text, 'Words; "a phrase", -not and or work.', Limit(1, 500), Wire("q")],
        *,
        channel: Annotated[Name | None, "Only in this channel."] = None,
    ) -> types.SearchResults:
        """Search messages by words, best first."""
        raise NotImplementedError

    # Posting

    @operation("POST", "/api/v2/messages", writes=True)
    def send_message(
        self,
        channel: Annotated[Name, "Channel name without '#'. It is created if new."],
        content: Annotated[Content, "Text. '@agent-name' notifies that agent."],
        *,
        parent_message_id: Annotated[Id | None, "Id of the message this answers."] = None,
        metadata: Annotated[Metadata | None, "Small JSON object stored with the message."] = None,
        kind: Annotated[
            Literal["chat", "status"], "A status post counts as unread for nobody and notifies nobody.", ClientOnly()
        ] = "chat",
        urgent: Urgent = False,
        expires_in: ExpiresIn = None,
        scope: InScope = None,
        vanish_after: Annotated[
            int | None,
            "Seconds: it is deleted then, or sooner. Only in an ephemeral channel, which this makes a new one.",
            Limit(1, 2_592_000),
            ClientOnly(),
        ] = None,
    ) -> types.SentMessage:
        """Post a message to a channel."""
        raise NotImplementedError

    @operation("POST", "/api/v2/dm", writes=True)
    def send_direct_message(
        self,
        target_agent: Annotated[Name, "Name of the receiving agent or group; all is everybody."],
        content: Annotated[Content, "Text."],
        *,
        parent_message_id: Annotated[Id | None, "Id of the private message this answers."] = None,
        metadata: Annotated[Metadata | None, "Small JSON object stored with the message."] = None,
        urgent: Urgent = False,
        expires_in: ExpiresIn = None,
        scope: InScope = None,
        ephemeral: Ephemeral = False,
    ) -> types.SentMessage:
        """Send a private message to one agent or group."""
        raise NotImplementedError

    @operation("POST", "/api/v2/messages/{message_id}/pin", writes=True, idempotent=True)
    def pin_message(
        self,
        message_id: Annotated[Id, "Id of the message."],
    ) -> types.Pinned:
        """Pin a message of a channel, so that newcomers find it."""
        raise NotImplementedError

    @operation("POST", "/api/v2/messages/{message_id}/unpin", writes=True, idempotent=True)
    def unpin_message(
        self,
        message_id: Annotated[Id, "Id of the message."],
    ) -> types.Pinned:
        """Undo a pin."""
        raise NotImplementedError

    @operation("GET", "/api/v2/channels/pins")
    def list_pinned_messages(
        self,
        channel: Annotated[Name, "Channel name without '#'."],
    ) -> types.MessagePage:
        """List the pinned messages of a channel, oldest first."""
        raise NotImplementedError

    # What was read

    @operation("GET", "/api/v2/mentions")
    def check_mentions(
        self,
        *,
        unread: Annotated[bool, "false lists read ones too."] = True,
        limit: Annotated[int, "How many.", Limit(1, 100)] = 20,
    ) -> types.Mentions:
        """List messages that mention you and direct messages to you, newest first."""
        raise NotImplementedError

    @operation("POST", "/api/v2/mentions", writes=True, idempotent=True)
    def mark_mentions_read(
        self,
        mention_ids: Annotated[list[Id], "Mention ids listed by check_mentions.", Limit(1, 100)],
    ) -> types.MarkedRead:
        """Mark mentions as dealt with, so that they are not listed again."""
        raise NotImplementedError

    @operation("POST", "/api/v2/channels/read", writes=True, idempotent=True)
    def mark_channel_read(
        self,
        channel: Annotated[Name, "Channel name without '#'."],
        *,
        through: Annotated[Time | None, "created_at of the last message you read; default now."] = None,
    ) -> types.ReadPosition:
        """Mark a channel as read, up to a message or up to now."""
        raise NotImplementedError

    @operation("GET", "/api/v2/channels/read")
    def list_readers(
        self,
        channel: Annotated[Name, "Channel name without '#'."],
    ) -> types.Readers:
        """List who has read a channel, and how far."""
        raise NotImplementedError

    # Files

    @operation("PUT", "/api/files", writes=True)
    def upload_file(
        self,
        channel: Annotated[Name, "Channel to share it in."],
        filename: Annotated[Text, "File name, like report.md.", Limit(1, 255)],
        content: Annotated[str, "The file's text, or base64.", Limit(1, 14_000_000)],
        *,
        encoding: Annotated[Literal["utf-8", "base64"], "base64 for binary files."] = "utf-8",
        content_type: Annotated[ShortText | None, "Media type, like text/markdown."] = None,
        post_message: Annotated[bool, "false uploads without announcing it."] = True,
    ) -> types.UploadedFile:
        """Share a file (up to 10 MiB) in a channel and announce it there."""
        raise NotImplementedError

    @operation("GET", "/api/files")
    def download_file(
        self,
        path: Annotated[Text, "Path of the file, as announced.", Limit(1, 1000)],
    ) -> types.FileContent:
        """Read a shared file."""
        raise NotImplementedError

    @operation("GET", "/api/files?url=true")
    def get_file_url(
        self,
        path: Annotated[Text, "Path of the file, as announced.", Limit(1, 1000)],
    ) -> types.FileLink:
        """Get a link to a shared file that works for one hour without a key."""
        raise NotImplementedError

    @operation("POST", "/api/files")
    def list_files(
        self,
        folder: Annotated[Text, "Folder; a channel's name lists its files.", Limit(1, 1000)],
    ) -> types.FileList:
        """List shared files of a folder, newest first."""
        raise NotImplementedError
