"""The shapes that travel on the wire, as TypedDicts: what the relay sends is what you hold.

Only members that every relay of the contract sends are required; the others may be absent.
"""

from typing import Any, Literal, NotRequired, TypedDict

from ._agents import Agent as Agent
from ._agents import AgentList as AgentList
from ._agents import Card as Card
from ._agents import CardSet as CardSet
from ._agents import Presence as Presence
from ._agents import Registered as Registered
from ._approvals import Approval as Approval
from ._approvals import ApprovalChange as ApprovalChange
from ._approvals import ApprovalDetails as ApprovalDetails
from ._approvals import ApprovalList as ApprovalList
from ._files import FileContent as FileContent
from ._files import FileLink as FileLink
from ._files import FileList as FileList
from ._files import StoredFile as StoredFile
from ._files import UploadedFile as UploadedFile
from ._interrupts import CountedPause as CountedPause
from ._interrupts import Interrupt as Interrupt
from ._interrupts import InterruptChange as InterruptChange
from ._interrupts import InterruptDetails as InterruptDetails
from ._interrupts import InterruptList as InterruptList
from ._interrupts import Pause as Pause
from ._interrupts import PauseChange as PauseChange
from ._interrupts import PauseList as PauseList
from ._interrupts import SeenInterrupt as SeenInterrupt
from ._locks import Acquired as Acquired
from ._locks import Lock as Lock
from ._locks import LockChange as LockChange
from ._locks import LockList as LockList
from ._mail import Group as Group
from ._mail import GroupChange as GroupChange
from ._mail import GroupList as GroupList
from ._mail import MarkedRead as MarkedRead
from ._mail import SentPage as SentPage
from ._mail import SentRow as SentRow
from ._tasks import Task as Task
from ._tasks import TaskChange as TaskChange
from ._tasks import TaskContext as TaskContext
from ._tasks import TaskDetails as TaskDetails
from ._tasks import TaskList as TaskList
from ._tasks import Transition as Transition

ChannelType = Literal["project", "technology", "environment", "global"]


class Named(TypedDict):
    """An agent, as rows refer to it."""

    name: str
    id: NotRequired[str]


class LatestMessage(TypedDict):
    id: str
    content: str
    created_at: str
    agents: Named | None


class BoardChannel(TypedDict):
    """`vanish_after` only of an ephemeral channel: the seconds after which its posts are gone at the latest."""

    channel: str
    type: str
    unread: int
    joined: bool
    latest: LatestMessage | None
    channel_id: NotRequired[str]
    federation_scope: NotRequired[str]
    vanish_after: NotRequired[int]


class Board(TypedDict):
    channels: list[BoardChannel]


class Channel(TypedDict):
    id: str
    name: str
    type: str
    description: str | None
    metadata: dict[str, Any] | None
    created_by: str | None
    archived: bool
    created_at: str
    federation_scope: NotRequired[str]
    vanish_after: NotRequired[int]


class ChannelList(TypedDict):
    channels: list[Channel]


class Message(TypedDict):
    """`vanishes_at` only of an ephemeral one: when it is gone at the latest. `vanished` only in the answer to a
    repeated call, if it is gone by then."""

    id: str
    channel_id: str
    author_agent_id: str
    content: str
    metadata: dict[str, Any] | None
    parent_message_id: str | None
    pinned: bool
    created_at: str
    agents: NotRequired[Named | None]
    author_name: NotRequired[str]
    author_display: NotRequired[str | None]
    channel_name: NotRequired[str]
    kind: NotRequired[str]
    vanishes_at: NotRequired[str]
    vanished: NotRequired[bool]


class MessagePage(TypedDict):
    """Messages, oldest first. From AgentChat relays only: `previous_cursor` leads to older ones, `next_cursor` to newer
    ones, also to those that do not exist yet; `has_more` says whether there are more the way this page was read."""

    messages: list[Message]
    channelId: NotRequired[str]
    next_cursor: NotRequired[str | None]
    previous_cursor: NotRequired[str | None]
    has_more: NotRequired[bool]
    vanish_after: NotRequired[int]


class SentMessage(TypedDict):
    message: Message
    pending: NotRequired[bool]
    unmatched_mentions: NotRequired[list[str]]


class SentToMany(TypedDict):
    """A message for each recipient, agents first. `pending` while members of a large group are still being told."""

    messages: list[Message]
    pending: NotRequired[bool]


class FoundMessage(TypedDict):
    """One message; `content` begins at `offset` of a text of `total_chars` characters."""

    message: Message
    offset: NotRequired[int]
    total_chars: NotRequired[int]


class Pinned(TypedDict):
    message_id: str
    pinned: bool


class SearchHit(TypedDict):
    id: str
    channel_id: str
    channel_name: str
    author_agent_id: str
    author_name: str
    content: str
    created_at: str
    rank: float


class SearchResults(TypedDict):
    query: str
    results: list[SearchHit]
    has_more: NotRequired[bool]


class Mention(TypedDict):
    mention_id: str
    message_id: str
    channel: str
    from_project: str | None
    content: str
    timestamp: str
    read: bool


# `from` is a keyword, so this one member is written in the functional form.
_From = TypedDict("_From", {"from": str})


class ReceivedMention(Mention, _From):
    """A mention of this agent, with its sender under `from`."""


class Mentions(TypedDict):
    mentions: list[ReceivedMention]
    has_more: NotRequired[bool]


class ItemOfWork(TypedDict):
    """What an item is about that has a state, which may have changed since: `gone` if it was purged."""

    id: str
    kind: str
    state: str


class WaitingItem(TypedDict):
    """Something that waits in an inbox. `deliveries` counts how often it was given out; `claimed_until` is there while
    somebody holds it, `ephemeral` if its message is deleted once everybody has dealt with it. One of kind `returned` is
    about a message of your own, and `undelivered_to` names who was retired and did not get it."""

    item_id: str
    kind: str
    urgent: bool
    deliveries: int
    message_id: str | None
    channel: str | None
    from_project: str | None
    content: str
    timestamp: str
    expires_at: str | None
    claimed_until: NotRequired[str]
    scope: NotRequired[str]
    ephemeral: NotRequired[bool]
    undelivered_to: NotRequired[list[str]]
    work: NotRequired[ItemOfWork]


class InboxItem(WaitingItem, _From):
    """An item of this agent's inbox, with its sender under `from`."""


class Inbox(TypedDict):
    """Items that were given out, and until when. Without any there is no claim."""

    items: list[InboxItem]
    claim_id: str | None
    lease_until: str | None
    has_more: bool
    acknowledged: int


class InboxPage(TypedDict):
    """`scopes` are those in which something waits that a session must present them for."""

    items: list[InboxItem]
    next_cursor: str | None
    has_more: bool
    scopes: NotRequired[list[str]]


class ClaimChange(TypedDict):
    """How many items it concerned; `idempotent` when all of them were so already. `kept` are those that wait on, about
    interrupts: only who acknowledges the interrupt is done with one."""

    claim_id: str
    items: int
    idempotent: bool
    lease_until: NotRequired[str]
    dead: NotRequired[int]
    kept: NotRequired[list[str]]


class DeadLetter(InboxItem):
    """`reason` is `deliveries`, given out too often, or `retired`: you were, and are back."""

    ended_at: str
    reason: str


class DeadLetters(TypedDict):
    items: list[DeadLetter]
    has_more: bool


class Requeued(TypedDict):
    requeued: int


class Receipt(TypedDict):
    """What became of a message for one agent: `state` is stored, claimed, acknowledged, expired or dead; `reason` why
    it is dead, `deliveries` or `retired`."""

    agent_name: str
    kind: str
    state: str
    deliveries: int
    stored_at: str
    claimed_at: str | None
    ended_at: str | None
    scope: NotRequired[str]
    reason: NotRequired[str]


class Receipts(TypedDict):
    message_id: str
    receipts: list[Receipt]


class Event(TypedDict):
    """One committed change. `data` is what it was about, if that is still there: see docs/events.md for each kind.
    Presence has no position: it is told to those who stream it, and is in no log."""

    position: int | None
    kind: str
    at: str
    actor: str | None
    channel: str | None
    subject: str
    data: dict[str, Any] | None


class EventPage(TypedDict):
    """`position` is where to go on from, be there events or not."""

    events: list[Event]
    position: int
    has_more: bool
    timed_out: bool


class Awaited(TypedDict):
    """The message that was waited for, or none and where to go on waiting from."""

    message: Message | None
    position: int
    timed_out: bool


class Work(TypedDict):
    """What concerns an agent: what it could claim, what it has, and what became of what it asked for.
    At most the newest 50 tasks of each, and 20 mentions."""

    mentions: list[ReceivedMention]
    offered_to_me: list[Task]
    open_matching: list[Task]
    mine_claimed: list[Task]
    completed_for_me: list[Task]
    failed_for_me: list[Task]
    declined_for_me: list[Task]


class ReadPosition(TypedDict):
    channel: str
    read_through: str


class Reader(TypedDict):
    agent_name: str
    read_through: str
    updated_at: str


class Readers(TypedDict):
    channel: str
    readers: list[Reader]


class Waiting(TypedDict):
    """How much waits for this session; of more than a hundred, about a hundred are counted."""

    urgent: int
    mentions: int
    direct: int
    groups: NotRequired[int]
    tasks: NotRequired[int]
    interrupts: NotRequired[int]
    approvals: NotRequired[int]
    returned: NotRequired[int]
    oldest_at: str | None


class BriefedChannel(TypedDict):
    channel: str
    unread: int
    joined: bool
    description: str | None
    latest_at: str | None


class Briefing(TypedDict):
    """The begin of a session. `help` says how to behave here; `position` is where events stand, `pauses` are those of
    the caller's channels and groups. `provenance` is `local` where no key stands behind a name: then it is who its
    process says it is."""

    agent: str
    kind: str
    roles: list[str]
    space: str
    now: str
    position: int
    inbox: Waiting
    agents: list[Agent]
    channels: list[BriefedChannel]
    pauses: NotRequired[list[Pause]]
    help: str
    provenance: NotRequired[str]
