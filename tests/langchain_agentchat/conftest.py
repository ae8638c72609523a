"""What the tests of the tools share: a real relay, a scene on it with arguments that work, and both ways of calling."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import BaseTool

from agentchat import Client
from agentchat.contract import OPERATIONS
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration
from agentchat_relay.settings import Settings
from langchain_agentchat import AsyncClient
from langchain_agentchat.colours import aclose
from tests.conftest import KEY
from tests.servers import Peer, Scripted, Seen, answer

_numbers = itertools.count(1)


def fresh(prefix: str = "mac") -> str:
    """A name nobody has."""
    return f"{prefix}-{next(_numbers)}t"


@pytest.fixture(scope="session")
def live() -> Iterator[Embedded]:
    """A relay without rate limits. Tests share it, so they use names of their own (`fresh`)."""
    with running(settings=Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)) as relay:
        yield relay


# A scene


class Scene(NamedTuple):
    """An agent, a colleague, and what the colleague left for it: a message with a mention, a pin, a file, a group."""

    relay: Embedded
    key: str
    peer_key: str
    me: str
    peer: str
    channel: str
    message_id: str
    mention_id: str
    path: str
    group: str

    def client(self, kind: Any = Client, url: str | None = None, **options: Any) -> Any:
        """A client of this agent."""
        return kind(url or self.relay.url, self.key, agent=self.me, **{"retries": 0, **options})

    def stored(self) -> list[str]:
        """The texts of the channel's messages by this agent."""
        with self.client() as client:
            page = client.read_messages(self.channel, limit=200, include_status=True)
        return [each["content"] for each in page["messages"] if each["author_name"] == self.me]

    def arguments(self) -> dict[str, dict[str, Any]]:
        """For every operation arguments that work, as often as one likes."""
        message = {"message_id": self.message_id}
        return _Arguments(
            self,
            {
                "check_board": {},
                "list_channels": {},
                "read_messages": {"channel": self.channel, "limit": 10},
                "get_message": message,
                "read_thread": message,
                "search_messages": {"query": f"zebra {self.channel}"},
                "send_message": {"channel": self.channel, "content": "done", "parent_message_id": self.message_id},
                "send_direct_message": {"target_agent": self.peer, "content": "between us"},
                "send_to_many": {"recipients": [self.peer, self.group], "content": "between us"},
                "list_sent": {"limit": 5},
                "list_groups": {"group": self.group},
                "join_group": {"group": self.group},
                "leave_group": {"group": self.group},
                "pin_message": message,
                "unpin_message": message,
                "list_pinned_messages": {"channel": self.channel},
                "check_mentions": {"unread": False},
                "mark_mentions_read": {"mention_ids": [self.mention_id]},
                "check_inbox": {},
                "peek_inbox": {},
                "claim_items": {"limit": 1},
                "list_dead_letters": {},
                "list_events": {"since": 0},
                "wait_for_reply": {**message, "wait": 0},
                "wait_for_message": {"channel": self.channel, "wait": 0},
                "get_briefing": {},
                "create_task": {"title": "catch the zebra", "channel": self.channel, "capability_tags": ["running"]},
                "list_tasks": {"channel": self.channel},
                "check_work": {},
                "list_locks": {},
                "list_interrupts": {},
                "list_pauses": {},
                "request_approval": {"tool_name": "catch", "arguments": '{"what": "a zebra"}'},
                "list_approvals": {},
                "mark_channel_read": {"channel": self.channel},
                "list_readers": {"channel": self.channel},
                "upload_file": {"channel": self.channel, "filename": "note.md", "content": "# note"},
                "download_file": {"path": self.path},
                "get_file_url": {"path": self.path},
                "list_files": {"folder": self.channel},
                "find_agents": {"name": self.peer},
                "set_card": {"role": "tester", "capabilities": ["testing"]},
            },
        )

    def all_arguments(self) -> dict[str, dict[str, Any]]:
        """The same at once, for those who may not wait for them or use each once."""
        arguments = self.arguments()
        return {name: arguments[name] for name in OPERATIONS}

    def claimed(self) -> str:
        """A claim of this agent that holds something."""
        with self.client() as mine, Client(self.relay.url, self.peer_key) as theirs:
            theirs.send_direct_message(self.me, "for your inbox")
            claim_id = mine.claim_items(limit=100, lease=3600)["claim_id"]
        assert claim_id
        return claim_id

    def dead(self) -> list[str]:
        """Items that were given out too often."""
        with self.client() as mine:
            while not (letters := mine.list_dead_letters()["items"]):
                mine.return_items(self.claimed())
        return [letter["item_id"] for letter in letters]

    def task(self) -> str:
        """A task that the colleague offers to this agent, with a context."""
        with Client(self.relay.url, self.peer_key) as theirs:
            task = theirs.create_task("catch the zebra", target_agent=self.me, context="It is in the garden.")
        return task["task"]["id"]

    def held(self) -> str:
        """One that this agent has."""
        with self.client() as mine:
            return mine.claim_task(self.task())["task"]["id"]

    def asked(self) -> str:
        """One that this agent asks for."""
        with self.client() as mine:
            return mine.create_task("count the zebras", channel=self.channel)["task"]["id"]

    def lock(self) -> dict[str, Any]:
        """One that this agent holds."""
        with self.client() as mine:
            lock = mine.acquire_lock([fresh("zebras")])["lock"]
        return {"lock_id": lock["id"], "fence": lock["fence"]}

    def interrupt(self) -> str:
        """One for this agent."""
        with Client(self.relay.url, self.peer_key) as theirs:
            make_room(theirs)
            return theirs.send_interrupt(self.me, "a zebra, behind you")["interrupt"]["id"]

    def interrupting(self) -> dict[str, Any]:
        with self.client() as mine:
            make_room(mine)
        return {"target_agent": self.peer, "reason": "a zebra, behind you"}

    def own_interrupt(self) -> str:
        """One of this agent."""
        with self.client() as mine:
            return mine.send_interrupt(**self.interrupting())["interrupt"]["id"]

    def pausing(self) -> dict[str, Any]:
        """For a pause. Those of other scenes are over: a space has room for so many."""
        self.grant("admin")
        with self.client() as mine:
            for pause in mine.list_pauses()["pauses"]:
                if pause["paused_by"] != self.me:
                    mine.resume_agents(pause["id"])
        return {"reason": "zebras cross", "group": self.group, "expires_in": 600}

    def pause(self) -> str:
        """One that this agent may end."""
        pausing = self.pausing()
        with self.client() as mine:
            return mine.pause_agents(**pausing)["pause"]["id"]

    def approval(self) -> str:
        """One that this agent may decide."""
        self.grant("reviewer")
        with Client(self.relay.url, self.peer_key) as theirs:
            return theirs.request_approval("catch", '{"what": "a zebra"}')["approval"]["id"]

    def own_approval(self) -> str:
        """One that this agent asked for."""
        with self.client() as mine:
            return mine.request_approval("catch", '{"what": "a zebra"}')["approval"]["id"]

    def grant(self, role: str) -> None:
        self.relay.ask(lambda tx: administration.agent_grant(tx, name=self.me, role=role))

    def sent(self) -> str:
        """A message of this agent."""
        with self.client() as mine:
            return mine.send_direct_message(self.peer, "did you get it?")["message"]["id"]


def make_room(sender: Client) -> None:
    """For another interrupt: only few of one agent may be pending."""
    for pending in sender.list_interrupts(sent=True, state="pending")["interrupts"]:
        sender.withdraw_interrupt(pending["id"])


class _Arguments(dict[str, dict[str, Any]]):
    """Those that can be used once are made when they are asked for."""

    def __init__(self, scene: Scene, ready: dict[str, dict[str, Any]]) -> None:
        super().__init__(ready)
        self._scene = scene

    def __missing__(self, name: str) -> dict[str, Any]:
        match name:
            case "acknowledge_items" | "return_items" | "renew_claim":
                return {"claim_id": self._scene.claimed()}
            case "requeue_items":
                return {"item_ids": self._scene.dead()}
            case "get_task" | "read_task_context" | "claim_task":
                return {"task_id": self._scene.task()}
            case "decline_task":
                return {"task_id": self._scene.task(), "reason": "I fear zebras"}
            case "renew_task" | "return_task":
                return {"task_id": self._scene.held(), "fence": 1}
            case "report_progress":
                return {"task_id": self._scene.held(), "note": "I see it"}
            case "complete_task":
                return {"task_id": self._scene.held(), "result": "caught"}
            case "fail_task":
                return {"task_id": self._scene.held(), "reason": "it got away"}
            case "cancel_task":
                return {"task_id": self._scene.asked()}
            case "offer_task":
                return {"task_id": self._scene.asked(), "target_agent": self._scene.peer}
            case "acquire_lock":
                return {"names": [fresh("zebras")], "wait": 0}
            case "renew_lock" | "release_lock":
                return self._scene.lock()
            case "get_interrupt" | "acknowledge_interrupt":
                return {"interrupt_id": self._scene.interrupt()}
            case "send_interrupt":
                return self._scene.interrupting()
            case "withdraw_interrupt":
                return {"interrupt_id": self._scene.own_interrupt()}
            case "pause_agents":
                return self._scene.pausing()
            case "resume_agents":
                return {"pause_id": self._scene.pause()}
            case "decide_approval":
                return {"approval_id": self._scene.approval(), "verdict": "allow"}
            case "dismiss_approval":
                return {"approval_id": self._scene.approval()}
            case "withdraw_approval":
                return {"approval_id": self._scene.own_approval()}
            case "get_approval":
                return {"approval_id": self._scene.own_approval(), "wait": 0}
            case "get_receipts":
                return {"message_id": self._scene.sent()}
        raise KeyError(name)


def make_scene(relay: Embedded) -> Scene:
    me, peer, channel, group = fresh("me"), fresh("peer"), fresh("project"), fresh("group")
    key, peer_key = relay.token(me), relay.token(peer)
    with Client(relay.url, key, agent=me) as mine, Client(relay.url, peer_key, agent=peer) as theirs:
        message_id = theirs.send_message(channel, f"@{me} a zebra is loose in {channel}")["message"]["id"]
        theirs.pin_message(message_id)
        theirs.join_group(group)
        path = theirs.upload_file(channel, "plan.txt", "catch it", post_message=False)["file"]["path"]
        mention_id = mine.check_mentions()["mentions"][0]["mention_id"]
        until(lambda: mine.search_messages(f"zebra {channel}")["results"])  # the index follows behind the send
    return Scene(relay, key, peer_key, me, peer, channel, message_id, mention_id, path, group)


@pytest.fixture
def scene(live: Embedded) -> Scene:
    return make_scene(live)


def until(holds: Callable[[], object], seconds: float = 20) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


# Colours


class Colour:
    """One way of calling tools: `invoke`, or `ainvoke` on a loop of its own. Clients of it have the same colour."""

    def __init__(self, asynchronous: bool, runner: asyncio.Runner) -> None:
        self.asynchronous = asynchronous
        self.kind: Any = AsyncClient if asynchronous else Client
        self.runner = runner
        self.opened: list[Any] = []

    def client(self, url: str, key: str = KEY, **options: Any) -> Any:
        """A client of this colour, which tries once unless told otherwise."""
        return self.keep(self.kind(url, key, **{"retries": 0, **options}))

    def of(self, scene: Scene, **options: Any) -> Any:
        return self.keep(scene.client(self.kind, **options))

    def keep(self, client: Any) -> Any:
        """Close the client, and its twin, after the test."""
        self.opened.append(client)
        return client

    def run(self, runnable: Any, *args: Any, **kwargs: Any) -> Any:
        """Invoke any runnable in this colour."""
        if self.asynchronous:
            return self.runner.run(runnable.ainvoke(*args, **kwargs))
        return runnable.invoke(*args, **kwargs)

    def call(self, tool: BaseTool, arguments: Any = None, config: Any = None, *, id: str = "call_1") -> ToolMessage:
        """What a model gets that calls the tool."""
        message = self.run(tool, tool_call(tool, arguments, id=id), config)
        assert isinstance(message, ToolMessage)
        return message

    def close(self) -> None:
        for client in self.opened:
            self.runner.run(closing(client))


async def closing(client: Any) -> None:
    pending = client.close()
    if isinstance(pending, Awaitable):
        await pending
    await aclose(client)


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Iterator[Colour]:
    with asyncio.Runner() as runner:
        made = Colour(request.param == "async", runner)
        yield made
        made.close()


def tool_call(tool: BaseTool | str, arguments: Any = None, *, id: str = "call_1") -> dict[str, Any]:
    """What a model asks for."""
    name = tool if isinstance(tool, str) else tool.name
    return {"name": name, "args": {} if arguments is None else arguments, "id": id, "type": "tool_call"}


# A relay that can be watched, and a model with a script


class Front(Scripted):
    """Stands before a real relay and passes every call on. `spoil` may keep an answer from the caller."""

    def __init__(self, url: str) -> None:
        self._netloc = urlsplit(url).netloc
        self.spoil: Callable[[Seen], bytes | None] = lambda seen: None
        super().__init__(self._pass_on)

    def _pass_on(self, peer: Peer) -> None:
        relay = http.client.HTTPConnection(self._netloc, timeout=30)
        try:
            while (seen := peer.read()) is not None:
                headers = {name: value for name, value in seen.headers.items() if name != "host"}
                relay.request(seen.method, seen.target, seen.body or None, headers)
                response = relay.getresponse()
                body = response.read()
                sent = answer(body=body, status=response.status, headers=dict(response.getheaders()))
                peer.send(self.spoil(seen) or sent)
        finally:
            relay.close()

    def keys_of(self, path: str = "/api/v2/messages") -> list[str | None]:
        """The idempotency keys of the calls so far."""
        return [seen.headers.get("idempotency-key") for seen in self.seen if seen.path == path]


@pytest.fixture
def front(live: Embedded) -> Iterator[Front]:
    with Front(live.url) as server:
        yield server


class ScriptedModel(GenericFakeChatModel):
    """Says its lines one after another, whatever it is asked, and remembers what it was shown."""

    shown: list[list[BaseMessage]]

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        self.shown.append(list(messages))
        return super()._generate(messages, *args, **kwargs)


def says(*turns: list[dict[str, Any]] | str) -> ScriptedModel:
    """A model that makes these tool calls, or says these words, turn by turn."""
    lines = [AIMessage(turn) if isinstance(turn, str) else AIMessage("", tool_calls=turn) for turn in turns]
    return ScriptedModel(messages=iter(lines), shown=[])
