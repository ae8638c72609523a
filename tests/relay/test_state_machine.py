"""Agents do anything in any order, over real sockets; a model of lists and sets says what each of them must see."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from agentchat import Client, types
from agentchat.errors import Conflict, NotFound
from agentchat_relay.embedded import Embedded

from . import database
from .conftest import fresh

DIRECT = "direct-messages"
CHANNELS = ("general", "project-one")  # the first exists, the other is made by whoever posts
BEGINNING, END = "", "9999-12-31T23:59:59+00:00"  # times are text that sorts
NAMES = ("mac-ann", "mac-bob", "mac-cleo")

someone = st.integers(0, len(NAMES) - 1)
somewhere = st.sampled_from(CHANNELS)
limits = st.integers(1, 6)
which = st.integers(0, 15)  # one of what there is


@dataclass
class Message:
    id: str
    author: str
    text: str
    at: str
    kind: str = "chat"
    parent: Message | None = None
    pinned: bool = False

    @property
    def root(self) -> Message:
        return self if self.parent is None else self.parent.root


@dataclass
class Item:
    """What waits for an agent: a mention, or a direct message."""

    message: Message
    channel: str
    read: bool = False


@dataclass
class Member:
    """How far an agent has read a channel, and what the last read with mark_read showed."""

    position: str
    shown: str = BEGINNING
    told: str = BEGINNING  # what the relay last said of the position


@dataclass
class Agent:
    name: str
    client: Client
    member: dict[str, Member] = field(default_factory=dict)  # channels, in order of joining
    inbox: list[Item] = field(default_factory=list)
    direct: list[Message] = field(default_factory=list)
    following: dict[str, tuple[str | None, list[str]]] = field(default_factory=dict)  # cursor, and ids it showed


class Agents(RuleBasedStateMachine):
    """A space of its own for each run. `live` is the relay that all runs share."""

    live: Embedded

    @initialize()
    def begin(self) -> None:
        self.space = fresh("space")
        self.live.space(self.space)
        self.agents: list[Agent] = []
        self.channels: dict[str, list[Message]] = {"general": []}
        self.keys: list[tuple[Client, Callable[[], types.SentMessage], Message]] = []  # calls made with a key
        self.numbers = itertools.count(1)
        self.join()
        self.join()
        for number in range(4):  # something to begin with, by two agents in both channels
            self.send(number % 2, CHANNELS[0], None, False, True)
            self.send(number % 2, CHANNELS[1], 1 - number % 2, number == 3, False)
            self.reply(1 - number % 2, CHANNELS[number % 2], number)

    @precondition(lambda self: len(self.agents) < len(NAMES))
    @rule()
    def join(self) -> None:
        name = NAMES[len(self.agents)]
        self.agents.append(Agent(name, self.client(name, self.live.token(name, space=self.space))))

    def client(self, name: str, key: str) -> Client:
        return Client(self.live.url, key, agent=name, retries=0)

    # Posting

    @rule(who=someone, channel=somewhere, named=st.none() | someone, status=st.booleans(), keyed=st.booleans())
    def send(self, who: int, channel: str, named: int | None, status: bool, keyed: bool) -> None:
        agent = self.agent(who)
        name = None if named is None else NAMES[named]
        text = self.text("" if name is None else f"@{name} @{name}, ")
        key = f"key-{next(self.numbers)}"
        client = agent.client.with_options(idempotency_key=key) if keyed else agent.client

        def call() -> types.SentMessage:
            return client.send_message(channel, text, kind="status" if status else "chat")

        sent = call()
        message = self.posted(agent, channel, text, sent, kind="status" if status else "chat")
        known = {other.name for other in self.agents}
        expected = [name] if name is not None and name not in known and not status else []
        assert sent["unmatched_mentions"] == expected
        for other in self.agents:
            if other.name == name and other is not agent and not status:
                other.inbox.append(Item(message, channel))
        if keyed:
            self.keys.append((client, call, message))

    @rule(who=someone, channel=somewhere, answered=which)
    def reply(self, who: int, channel: str, answered: int) -> None:
        if messages := self.channels.get(channel):
            agent, parent, text = self.agent(who), messages[answered % len(messages)], self.text()
            if parent.kind != "chat":  # nobody reads answers to it
                with pytest.raises(Conflict):
                    agent.client.send_message(channel, text, parent_message_id=parent.id)
                return
            sent = agent.client.send_message(channel, text, parent_message_id=parent.id)
            self.posted(agent, channel, text, sent, parent=parent)

    @rule(who=someone, to=someone, keyed=st.booleans())
    def tell(self, who: int, to: int, keyed: bool) -> None:
        agent, other, text = self.agent(who), self.agent(to), self.text()
        client = agent.client.with_options(idempotency_key=f"key-{next(self.numbers)}") if keyed else agent.client

        def call() -> types.SentMessage:
            return client.send_direct_message(other.name, text)

        sent = call()["message"]
        message = Message(sent["id"], agent.name, f"@{other.name} {text}", sent["created_at"])
        self.agrees(sent, message)
        agent.member.setdefault(DIRECT, Member(END))
        agent.direct.append(message)
        if other is not agent:
            other.member.setdefault(DIRECT, Member(END))
            other.direct.append(message)
            other.inbox.append(Item(message, DIRECT))
        if keyed:
            self.keys.append((client, call, message))

    @precondition(lambda self: self.keys)
    @rule(one=which)
    def repeat(self, one: int) -> None:
        """Nothing happens, and the answer is the same: that of a message nobody has pinned yet."""
        _, call, message = self.keys[one % len(self.keys)]
        self.agrees(call()["message"], replace(message, pinned=False))

    @precondition(lambda self: self.keys)
    @rule(one=which)
    def misuse_key(self, one: int) -> None:
        client = self.keys[one % len(self.keys)][0]
        with pytest.raises(Conflict) as refused:
            client.send_message("general", self.text())
        assert refused.value.code == "idempotency_mismatch"

    @rule(who=someone, channel=somewhere, one=which, pinned=st.booleans())
    def pin(self, who: int, channel: str, one: int, pinned: bool) -> None:
        if messages := self.channels.get(channel):
            client, message = self.agent(who).client, messages[one % len(messages)]
            answer = (client.pin_message if pinned else client.unpin_message)(message.id)
            assert answer == {"message_id": message.id, "pinned": pinned}
            message.pinned = pinned
            listed = client.list_pinned_messages(channel)["messages"]
            self.agree(listed, [message for message in messages if message.pinned])

    # Reading

    @rule(
        who=someone, channel=somewhere, limit=limits, older=st.none() | which, status=st.booleans(), mark=st.booleans()
    )
    def read(self, who: int, channel: str, limit: int, older: int | None, status: bool, mark: bool) -> None:
        agent = self.agent(who)
        if channel not in self.channels:
            with pytest.raises(NotFound):
                agent.client.read_messages(channel)
            return
        messages = self.channels[channel]
        before = messages[older % len(messages)].at if messages and older is not None else None
        page = agent.client.read_messages(channel, limit=limit, before=before, include_status=status, mark_read=mark)
        shown = [
            message
            for message in messages
            if (status or message.kind == "chat") and (before is None or message.at < before)
        ]
        self.agree(page["messages"], shown[-limit:])
        assert page["has_more"] == (len(shown) > limit)
        member = self.joined(agent, channel)
        if mark:
            member.position = max(member.position, member.shown)
            member.shown = max([member.shown, *(message.at for message in shown[-limit:])])

    @rule(who=someone, channel=somewhere, limit=limits, status=st.booleans())
    def leaf_through(self, who: int, channel: str, limit: int, status: bool) -> None:
        """By cursors from the newest page to the oldest and back again: nothing is skipped, nothing comes twice."""
        if channel not in self.channels:
            return
        agent = self.agent(who)
        expected = [message for message in self.channels[channel] if status or message.kind == "chat"]
        self.joined(agent, channel)
        self._leaf_through(agent, channel, limit, status, expected)

    def _leaf_through(self, agent: Agent, channel: str, limit: int, status: bool, expected: list[Message]) -> None:
        rows: list[Any] = []
        cursor, more = None, True
        while more:
            page = agent.client.read_messages(channel, limit=limit, cursor=cursor, include_status=status)
            rows, cursor, more = [*page["messages"], *rows], page["previous_cursor"], page["has_more"]
        self.agree(rows, expected)
        rows, cursor, more = page["messages"], page["next_cursor"], True
        while more:
            page = agent.client.read_messages(channel, limit=limit, cursor=cursor, include_status=status)
            rows, cursor, more = [*rows, *page["messages"]], page["next_cursor"], page["has_more"]
        self.agree(rows, expected)

    @rule(who=someone, channel=somewhere, limit=limits)
    def follow(self, who: int, channel: str, limit: int) -> None:
        """A cursor that is kept from call to call shows what came in between."""
        if channel not in self.channels:
            return
        agent, chats = self.agent(who), self.chats(channel)
        self.joined(agent, channel)
        cursor, seen = agent.following.get(channel, (None, []))
        page = agent.client.read_messages(channel, limit=limit, cursor=cursor)
        due = chats[len(seen) :][:limit] if cursor else chats[-limit:]
        self.agree(page["messages"], due)
        skipped = [] if cursor else [message.id for message in chats[:-limit]]
        agent.following[channel] = page["next_cursor"], [*seen, *skipped, *(message.id for message in due)]

    @rule(who=someone, limit=limits)
    def read_direct_messages(self, who: int, limit: int) -> None:
        agent = self.agent(who)
        if DIRECT in agent.member:
            self._leaf_through(agent, DIRECT, limit, False, agent.direct)

    @rule(who=someone, channel=somewhere, one=which, limit=limits)
    def read_thread(self, who: int, channel: str, one: int, limit: int) -> None:
        if messages := self.channels.get(channel):
            message, client = messages[one % len(messages)], self.agent(who).client
            found = client.get_message(message.id)
            self.agrees(found["message"], message)
            assert (found["offset"], found["total_chars"]) == (0, len(message.text))
            rows: list[Any] = []
            cursor, more = None, True
            while more:
                page = client.read_thread(message.id, limit=limit, cursor=cursor)
                rows, cursor, more = [*rows, *page["messages"]], page["next_cursor"], page["has_more"]
            self.agree(rows, [other for other in messages if other.root is message.root])

    # What was read

    @rule(who=someone, channel=somewhere, through=which | st.none())
    def mark_channel_read(self, who: int, channel: str, through: int | None) -> None:
        agent = self.agent(who)
        if channel not in self.channels:
            with pytest.raises(NotFound):
                agent.client.mark_channel_read(channel)
            return
        messages = self.channels[channel]
        at = messages[through % len(messages)].at if messages and through is not None else None
        answer = agent.client.mark_channel_read(channel, through=at)
        member = self.joined(agent, channel)
        member.position = max([member.position, at or "", *(m.at for m in messages if at is None)])
        self.stands_at(agent, channel, answer["read_through"])

    @rule(who=someone, channel=somewhere)
    def list_readers(self, who: int, channel: str) -> None:
        if channel not in self.channels:
            return
        readers = self.agent(who).client.list_readers(channel)["readers"]
        members = {agent.name: agent for agent in self.agents if channel in agent.member}
        assert sorted(reader["agent_name"] for reader in readers) == sorted(members)
        for reader in readers:
            self.stands_at(members[reader["agent_name"]], channel, reader["read_through"])

    def stands_at(self, agent: Agent, channel: str, told: str) -> None:
        """The relay says a time that parts what others said as the model's does, and never goes back."""
        member = agent.member[channel]
        for message in self.chats(channel):
            if message.author != agent.name:
                assert (message.at <= told) == (message.at <= member.position), (message, told, member)
        assert told >= member.told
        member.told = told

    @rule(who=someone, unread=st.booleans(), limit=limits)
    def check_mentions(self, who: int, unread: bool, limit: int) -> None:
        agent = self.agent(who)
        listed = agent.client.check_mentions(unread=unread, limit=limit)["mentions"]
        expected = [item for item in reversed(agent.inbox) if not (unread and item.read)][:limit]
        assert [(row["message_id"], row["channel"], row["from"], row["content"], row["read"]) for row in listed] == [
            (item.message.id, item.channel, item.message.author, item.message.text, item.read) for item in expected
        ]

    @rule(who=someone, by=someone, chosen=st.sets(st.integers(0, 5), min_size=1))
    def mark_mentions_read(self, who: int, by: int, chosen: set[int]) -> None:
        """Marked by their owner they are read; marked by somebody else nothing happens."""
        agent, marker = self.agent(who), self.agent(by)
        listed = agent.client.check_mentions(unread=False, limit=100)["mentions"]
        some = [row for number, row in enumerate(listed) if number in chosen]
        if some:
            answer = marker.client.mark_mentions_read([row["mention_id"] for row in some])
            assert answer == {"marked_read": len(some)}
        if marker is agent:
            ids = {row["message_id"] for row in some}
            for item in agent.inbox:
                item.read = item.read or item.message.id in ids

    @rule(who=someone)
    def check_board(self, who: int) -> None:
        self.board_agrees(self.agent(who))

    def board_agrees(self, agent: Agent) -> None:
        lines = agent.client.check_board()["channels"]
        told = [
            (line["channel"], line["unread"], line["latest"] and line["latest"]["id"])
            for line in lines
            if line["joined"]
        ]
        assert told == [(name, self.unread(agent, name), self.latest(agent, name)) for name in agent.member]
        others = {line["channel"]: line["unread"] for line in lines if not line["joined"]}
        assert others == dict.fromkeys((self.channels.keys() | {"global"}) - agent.member.keys(), 0)

    def teardown(self) -> None:
        for agent in self.agents:
            self.board_agrees(agent)
            agent.client.close()

    # The model

    def agent(self, number: int) -> Agent:
        return self.agents[number % len(self.agents)]

    def text(self, prefix: str = "") -> str:
        return f"{prefix}text {next(self.numbers)}"

    def chats(self, channel: str) -> list[Message]:
        return [message for message in self.channels[channel] if message.kind == "chat"]

    def joined(self, agent: Agent, channel: str) -> Member:
        """Whoever joins has read what is there."""
        if channel not in agent.member:
            agent.member[channel] = Member(max((m.at for m in self.channels[channel]), default=BEGINNING))
        return agent.member[channel]

    def posted(self, agent: Agent, channel: str, text: str, sent: types.SentMessage, **more: Any) -> Message:
        messages = self.channels.setdefault(channel, [])
        self.joined(agent, channel)
        message = Message(sent["message"]["id"], agent.name, text, sent["message"]["created_at"], **more)
        assert message.at > max((other.at for other in messages), default=BEGINNING)
        self.agrees(sent["message"], message)
        messages.append(message)
        return message

    def unread(self, agent: Agent, channel: str) -> int:
        if channel == DIRECT:
            return sum(item.channel == DIRECT and not item.read for item in agent.inbox)
        position = agent.member[channel].position
        return sum(message.author != agent.name and message.at > position for message in self.chats(channel))

    def latest(self, agent: Agent, channel: str) -> str | None:
        messages = agent.direct if channel == DIRECT else self.chats(channel)
        return messages[-1].id if messages else None

    def agrees(self, row: types.Message, message: Message) -> None:
        found = (row["id"], row["author_name"], row["content"], row["created_at"], row["kind"], row["pinned"])
        assert found == (message.id, message.author, message.text, message.at, message.kind, message.pinned)
        assert row["parent_message_id"] == (message.parent.id if message.parent else None)

    def agree(self, rows: list[Any], messages: list[Message]) -> None:
        assert [row["id"] for row in rows] == [message.id for message in messages]
        for row, message in zip(rows, messages, strict=True):
            self.agrees(row, message)


@pytest.mark.hypothesis
def test_every_agent_sees_what_the_model_says(live: Embedded) -> None:
    class OnThisRelay(Agents):
        pass

    OnThisRelay.live = live
    run_state_machine_as_test(
        OnThisRelay,
        settings=settings(
            max_examples=database.examples(75),
            stateful_step_count=100,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
