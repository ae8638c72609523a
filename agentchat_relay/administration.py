"""What an operator can do, declared like the contract of agents: `agentchat admin` and its routes follow from it."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from agentchat._operation import Declared, Form, Limit, Operation, operation
from agentchat.contract import Id, LockName, Name

_MACHINE = Form("^[a-z0-9][a-z0-9-]{0,49}$", "1 to 50 of a-z, 0-9 and '-', starting with a letter or digit")
_HEX = Form("^[0-9a-f]{64}$", "64 hex digits, as printed by: agentchat machine init")
_SPACE = Form("^[a-z0-9][a-z0-9-]{0,49}$", "1 to 50 of a-z, 0-9 and '-', starting with a letter or digit")

Machine = Annotated[str, _MACHINE]
Space = Annotated[str, _SPACE, "Space the name belongs to."]
_DAYS = Limit(0, 36_500)
Kind = Literal["agent", "person"]
Role = Literal["admin", "reviewer"]


class MachineRow(TypedDict):
    name: str
    space: str
    active: bool
    public_key: NotRequired[str]
    agents: NotRequired[int]
    created_at: NotRequired[str]


class MachineList(TypedDict):
    machines: list[MachineRow]


class AgentRow(TypedDict):
    name: str
    space: str
    kind: str
    roles: list[str]
    active: bool
    machine: str | None
    has_key: bool
    created_at: str
    last_seen_at: str | None
    retired_at: str | None


class AgentRows(TypedDict):
    agents: list[AgentRow]


class Token(TypedDict):
    name: str
    space: str
    key: str
    replaced: bool


class Deleted(TypedDict):
    name: str
    messages_now_by: str


class SpaceRow(TypedDict):
    name: str
    agents: int
    channels: int
    retention: int
    created_at: str


class SpaceList(TypedDict):
    spaces: list[SpaceRow]


class ChannelRow(TypedDict):
    name: str
    space: str
    messages: int
    retention: int
    own_retention: bool
    vanish_after: int | None
    created_at: str
    last_at: str | None


class ChannelRows(TypedDict):
    channels: list[ChannelRow]


class LetterRow(TypedDict):
    """A dead letter, without its text. `reason`: deliveries (given out too often) or retired."""

    item_id: str
    kind: str
    sender: str
    channel: str
    deliveries: int
    created_at: str
    ended_at: str
    reason: str


class LetterRows(TypedDict):
    letters: list[LetterRow]


class RequeuedLetter(TypedDict):
    item_id: str
    agent: str


class LockRow(TypedDict):
    """What an agent holds, or waits for: `until` is when that is over."""

    id: str
    names: list[str]
    shared: bool
    state: str
    holder: str
    fence: int | None
    since: str
    until: str | None
    reason: str | None


class LockRows(TypedDict):
    """First come first."""

    locks: list[LockRow]


class AuditRow(TypedDict):
    """One transition of something that agents hand to each other. `actor` is null where the relay did it."""

    number: int
    at: str
    kind: str
    id: str
    version: int
    action: str
    actor: str | None
    before: str | None
    after: str
    fence: int
    note: str | None


class Audit(TypedDict):
    """Oldest first. `after` is where to go on, and `has_more` that newer ones are there already. `has_older` is that
    the newest were asked for and older ones are left out: `after` 0 begins with the oldest."""

    transitions: list[AuditRow]
    after: int
    has_more: bool
    has_older: bool


class RelayStats(TypedDict):
    version: str
    spaces: int
    machines: int
    database_bytes: int
    index_bytes: int


class SpaceStats(TypedDict):
    name: str
    agents: int
    channels: int
    messages: int
    files: int
    file_bytes: int
    open_inbox: int
    oldest_message_at: str | None
    newest_message_at: str | None


class Stats(TypedDict):
    relay: RelayStats
    spaces: list[SpaceStats]


class Administration:
    """What the admin credential may do."""

    @operation("POST", "/api/v2/admin/machines", writes=True)
    def machine_add(
        self,
        name: Annotated[Machine, "Name of the machine."],
        public_key: Annotated[str, _HEX, "Its public key, 64 hex digits."],
        *,
        space: Annotated[str, _SPACE, "Space its agents live in."] = "main",
    ) -> MachineRow:
        """Admit a machine, or give it another key: it may register agents of its own."""
        raise NotImplementedError

    @operation("GET", "/api/v2/admin/machines")
    def machine_list(self) -> MachineList:
        """List the machines."""
        raise NotImplementedError

    @operation("POST", "/api/v2/admin/machines/revoke", writes=True)
    def machine_revoke(self, name: Annotated[Machine, "Name of the machine."]) -> MachineRow:
        """Shut a machine out. The keys of its agents stop working at once."""
        raise NotImplementedError

    @operation("POST", "/api/v2/admin/agents/token", writes=True)
    def agent_token(
        self,
        name: Annotated[Name, "Name of the agent."],
        *,
        kind: Annotated[Kind | None, "What a new agent is; default agent."] = None,
        space: Space = "main",
    ) -> Token:
        """Make an agent, or replace the key of one, and print its key."""
        raise NotImplementedError

    @operation("GET", "/api/v2/admin/agents")
    def agent_list(self, *, space: Annotated[str | None, _SPACE, "Only this space."] = None) -> AgentRows:
        """List the agents."""
        raise NotImplementedError

    @operation("POST", "/api/v2/admin/agents/grant", writes=True)
    def agent_grant(
        self,
        name: Annotated[Name, "Name of the agent."],
        role: Annotated[Role, "The role."],
        *,
        revoke: Annotated[bool, "Take the role away instead."] = False,
        space: Space = "main",
    ) -> AgentRow:
        """Give an agent or person a role."""
        raise NotImplementedError

    @operation("POST", "/api/v2/admin/agents/deactivate", writes=True)
    def agent_deactivate(self, name: Annotated[Name, "Name of the agent."], *, space: Space = "main") -> AgentRow:
        """Switch an agent off: its key stops working at once."""
        raise NotImplementedError

    @operation("POST", "/api/v2/admin/agents/update", writes=True)
    def agent_update(
        self,
        name: Annotated[Name, "Name of the agent."],
        *,
        kind: Annotated[Kind | None, "What it is."] = None,
        active: Annotated[bool | None, "Whether its key works."] = None,
        space: Space = "main",
    ) -> AgentRow:
        """Change what an agent is, or switch it on again."""
        raise NotImplementedError

    @operation("POST", "/api/v2/admin/agents/delete", writes=True)
    def agent_delete(
        self,
        name: Annotated[Name, "Name of the agent."],
        *,
        space: Space = "main",
    ) -> Deleted:
        """Delete an agent: its key, card, inbox and memberships. Its messages stay, under a name that says so."""
        raise NotImplementedError

    @operation("POST", "/api/v2/admin/spaces", writes=True)
    def space_add(
        self,
        name: Annotated[str, _SPACE, "Name of the space."],
        *,
        retention: Annotated[int, "Days that messages and files are kept; 0: for ever.", _DAYS] = 0,
    ) -> SpaceRow:
        """Make a space: agents, channels and files in it are invisible to all others."""
        raise NotImplementedError

    @operation("POST", "/api/v2/admin/spaces/update", writes=True)
    def space_update(
        self,
        name: Annotated[str, _SPACE, "Name of the space."],
        *,
        retention: Annotated[int | None, "Days that messages and files are kept; 0: for ever.", _DAYS] = None,
    ) -> SpaceRow:
        """Change how long a space keeps its messages and files. What is older is deleted within minutes."""
        raise NotImplementedError

    @operation("GET", "/api/v2/admin/spaces")
    def space_list(self) -> SpaceList:
        """List the spaces."""
        raise NotImplementedError

    # Channels

    @operation("GET", "/api/v2/admin/channels")
    def channel_list(self, *, space: Space = "main") -> ChannelRows:
        """List the channels of a space, and how long each keeps its messages and files."""
        raise NotImplementedError

    @operation("POST", "/api/v2/admin/channels/update", writes=True)
    def channel_update(
        self,
        name: Annotated[Name, "Name of the channel, without '#'."],
        *,
        retention: Annotated[int | None, "Days that messages and files are kept; 0: for ever.", _DAYS] = None,
        as_space: Annotated[bool, "Keep them as long as the space does."] = False,
        vanish_after: Annotated[
            int | None,
            "Seconds after which its posts are gone at the latest; 0: they are kept. While it is empty.",
            Limit(0, 2_592_000),
        ] = None,
        space: Space = "main",
    ) -> ChannelRow:
        """Change how long a channel keeps its messages and files, or make it an ephemeral one. What is older is deleted
        within minutes."""
        raise NotImplementedError

    # Dead letters

    @operation("GET", "/api/v2/admin/letters")
    def letter_list(self, name: Annotated[Name, "Name of the agent."], *, space: Space = "main") -> LetterRows:
        """List an agent's last dead letters: what it was given too often and never acknowledged. No texts."""
        raise NotImplementedError

    @operation("POST", "/api/v2/admin/letters/requeue", writes=True)
    def letter_requeue(
        self,
        name: Annotated[Name, "Name of the agent."],
        item_id: Annotated[Id, "Id of the item."],
        *,
        space: Space = "main",
    ) -> RequeuedLetter:
        """Put a dead letter back into the agent's inbox."""
        raise NotImplementedError

    # What agents handed to each other

    @operation("GET", "/api/v2/admin/audit")
    def audit(
        self,
        *,
        id: Annotated[Id | None, "Only of the task, lock or whatever has this id."] = None,
        actor: Annotated[Name | None, "Only what this agent did."] = None,
        after: Annotated[
            int | None,
            "Only what came after this number, 0: from the beginning; default the newest.",
            Limit(0, 2**53 - 1),
        ] = None,
        limit: Annotated[int, "How many.", Limit(1, 1000)] = 100,
        space: Space = "main",
    ) -> Audit:
        """Show who moved which task, lock and the like, when, from which state to which. --json, --after: export it."""
        raise NotImplementedError

    @operation("GET", "/api/v2/admin/locks")
    def lock_list(
        self,
        *,
        name: Annotated[LockName | None, "Only what overlaps with this."] = None,
        limit: Annotated[int, "How many.", Limit(1, 1000)] = 100,
        space: Space = "main",
    ) -> LockRows:
        """List who holds which locks, or waits for them."""
        raise NotImplementedError

    @operation("POST", "/api/v2/admin/locks/break", writes=True)
    def lock_break(
        self,
        id: Annotated[Id, "Id of the lock."],
        *,
        reason: Annotated[str | None, "Why; its holder is told.", Limit(0, 500)] = None,
        space: Space = "main",
    ) -> LockRow:
        """Take a lock from its holder, who is told. Who waits for it gets it."""
        raise NotImplementedError

    # All of it

    @operation("GET", "/api/v2/admin/stats")
    def stats(self) -> Stats:
        """Tell how much there is: of agents, channels, messages, files and waiting items in each space, and on disk."""
        raise NotImplementedError


ADMINISTRATION: dict[str, Operation[..., Any]] = {
    name: entry.operation for name, entry in vars(Administration).items() if isinstance(entry, Declared)
}
