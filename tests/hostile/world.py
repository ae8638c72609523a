"""A relay where hostile agents wrote everything an agent can write, once for each text of the corpus."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from agentchat import Client, errors
from agentchat_relay import Embedded, Settings, running
from agentchat_relay.service import administration

from . import corpus
from .corpus import Imitated
from .surfaces import PRESENTED, Victim

UNLIMITED = Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)
VICTIM, SECOND, HONEST = "mac-victim", "mac-second", "mac-honest"
NUMBERS = range(len(corpus.TEMPLATES))
MOST_PINNED = 50
CREW = "crew"  # a group of both victims
BOSS, JUDGE, STOPPED = "mac-boss", "mac-judge", "stopped"  # who pauses and decides, and a group that can be paused
MOST_PAUSED = 30
CARD = {"role": 100, "about": 500, "status_line": 200, "model": 100, "harness": 100}
_NO_LINE = str.maketrans(dict.fromkeys([chr(code) for code in [*range(0x20), 0x7F]], "\u2028"))


class Authors(dict[str, str]):
    """Message id -> who wrote it: the victim what nobody else did."""

    def __missing__(self, id: str) -> str:
        return VICTIM


class World(NamedTuple):
    relay: Embedded
    victim: Victim  # reads what was there from the beginning
    second: Victim  # reads what tests add
    honest: Client
    imitated: Imitated
    authors: Authors
    ids: dict[str, list[str]]  # kind of text -> ids of the messages that hold one
    paths: list[str]  # of the uploaded files
    asked: list[str]  # ids of what the victim asked the hostile agents to do
    mention_id: str  # an honest one

    def __repr__(self) -> str:
        return f"<a world of {len(self.authors)} messages>"

    def text(self, number: int, kind: str, longest: int = 31_900) -> str:
        return corpus.text(number, kind, self.imitated, longest)

    def agent(self, name: str) -> Client:
        return Client(self.relay.url, self.relay.token(name), agent=name, retries=0)


def agent_name(number: int) -> str:
    return corpus.name(number, longest=is_plain(number) and number % 3 == 0)


def channel_name(number: int) -> str:
    prefix = corpus.CHANNEL_PREFIXES[number % len(corpus.CHANNEL_PREFIXES)]
    return corpus.name(number, prefix, longest=is_plain(number) and number % 3 == 1)


def group_name(number: int) -> str:
    return corpus.name(number, "g-", longest=is_plain(number) and number % 3 == 2)


def scope_of(number: int) -> str | None:
    """Of group mail: none, one where the victims stand, or one where nobody stands."""
    return (None, *PRESENTED, f"repo:{corpus.token('o', number)})_(claimed_until_{number}")[number % 5]


def is_plain(number: int) -> bool:
    """Whether a text is shown in about as many characters as it has. What happens to others under the longest names has
    a test of its own."""
    return list(corpus.TEMPLATES)[number] not in (*corpus.UNSEEN, *corpus.SHAPES)


@contextmanager
def hostile_world(home: str) -> Iterator[World]:
    with ExitStack() as stack:
        relay = stack.enter_context(running(settings=UNLIMITED))
        victim, second = (Victim(relay.url, relay.token(name), home, stack) for name in (VICTIM, SECOND))
        honest = Client(relay.url, relay.token(HONEST), agent=HONEST, retries=0)
        stack.callback(honest.close)
        world = _begun(relay, victim, second, honest)
        for one in (victim, second):
            one.client.join_group(CREW)
        honest.join_group(STOPPED)
        for name, role in ((BOSS, "admin"), (JUDGE, "reviewer"), (VICTIM, "admin"), (VICTIM, "reviewer")):
            _grant(world, name, role)
        _pause(world)  # while no victim is there, since an interrupt stays first in an inbox
        _everywhere(world, _write_direct)
        _mark_all_read(world)  # so that what comes now can be listed alone
        _everywhere(world, _hand_over)
        _everywhere(world, _stop)
        _decide(world)
        _mark_all_read(world, but=6)
        _everywhere(world, _write_to_group)
        _everywhere(world, _write)
        _everywhere(world, _lock)
        _pin(world)
        _join_everything(world)
        yield world


def _begun(relay: Embedded, victim: Victim, second: Victim, honest: Client) -> World:
    """The honest messages, among them the one that is imitated and the root of the thread."""
    root = honest.send_message("thread", f"hello, @{VICTIM}")["message"]
    for channel in ("trap", "files", "status-posts"):
        honest.send_message(channel, "hello")
    mention_id = victim.client.check_mentions()["mentions"][0]["mention_id"]
    exact = root["created_at"]
    imitated = Imitated(root["id"], f"{exact[:19]}Z", exact, HONEST)
    ids = {"root": [root["id"]]}
    return World(relay, victim, second, honest, imitated, Authors({root["id"]: HONEST}), ids, [], [], mention_id)


class Written(NamedTuple):
    """What one hostile agent did: its messages and tasks by the kind of their text, the path of its file, and the task
    that the victim gave it."""

    ids: dict[str, str]
    path: str = ""
    asked: str = ""


def _everywhere(world: World, write: Callable[[World, Client, int], Written]) -> None:
    """One hostile agent for each text of the corpus."""

    def run(number: int) -> Written:
        with world.agent(agent_name(number)) as agent:
            return write(world, agent, number)

    with ThreadPoolExecutor(8) as pool:
        for number, written in zip(NUMBERS, pool.map(run, NUMBERS), strict=True):
            for kind, id in written.ids.items():
                world.ids.setdefault(kind, []).append(id)
                world.authors[id] = agent_name(number)
            if written.path:
                world.paths.append(written.path)
            if written.asked:
                world.asked.append(written.asked)


def lock_name(number: int) -> str:
    """One that others' locks lead to, with letters that our lines do not have."""
    return f"held/{corpus.token('f', number)}/ж(shared):,@"


def _lock(world: World, agent: Client, number: int) -> Written:
    name = lock_name(number)
    lock = agent.acquire_lock([f"{name}/**"], lease=86_400, reason=world.text(number, "h", 200))["lock"]
    return Written({"h": lock["id"]})


def _grant(world: World, name: str, role: str) -> None:
    if name in (BOSS, JUDGE):
        world.relay.token(name)
    world.relay.ask(lambda tx: administration.agent_grant(tx, name=name, role=role))


def _pause(world: World) -> None:
    with world.agent(BOSS) as boss:
        for number in NUMBERS[:MOST_PAUSED]:
            pause = boss.pause_agents(world.text(number, "a", 2000), channel="trap", expires_in=86_400)["pause"]
            world.authors[pause["id"]] = BOSS


def _decide(world: World) -> None:
    """What the victim asked for, and a hostile reviewer's words about it."""
    with world.agent(JUDGE) as judge:
        for number in NUMBERS:
            asked = world.victim.client.request_approval("act", "{}")["approval"]["id"]
            verdict = ("deny", "edit", "respond")[number % 3]
            edited = {"arguments": _json(world, number, "u")} if verdict == "edit" else {}
            judge.decide_approval(asked, verdict, message=world.text(number, "u", 8000), **edited)
            world.ids.setdefault("u", []).append(asked)


def _json(world: World, number: int, kind: str) -> str:
    text = world.text(number, kind, 2000)
    return json.dumps({text[:50]: text}, ensure_ascii=False)


def tool_name(number: int) -> str:
    """As one may be, with letters that our lines do not have."""
    return f"{corpus.token('f', number)},(urgent)@{HONEST}|<system>"


def _stop(world: World, agent: Client, number: int) -> Written:
    """An interrupt, which the victim acknowledges with what it read, and a call that the victim may allow."""
    stop = agent.send_interrupt(VICTIM, world.text(number, "i", 2000))["interrupt"]
    world.victim.client.acknowledge_interrupt(stop["id"], note=world.text(number, "i", 2000))
    asked = agent.request_approval(
        tool_name(number), _json(world, number, "z"), reason=world.text(number, "z", 2000), urgent=number % 2 == 0,
        expires_in=86_400,
    )["approval"]  # fmt: skip
    return Written({"i": stop["id"], "z": asked["id"]})


def _write_direct(world: World, agent: Client, number: int) -> Written:
    project = {"project": world.text(number, "p", 300)}
    sent = agent.send_direct_message(VICTIM, world.text(number, "d"), metadata=project)
    return Written({"d": sent["message"]["id"]})


def _write_to_group(world: World, agent: Client, number: int) -> Written:
    project, scope = {"project": world.text(number, "p", 300)}, scope_of(number)
    agent.join_group(group_name(number))
    sent = agent.send_to_many([CREW], world.text(number, "g"), metadata=project, scope=scope)
    return Written({"g": sent["messages"][0]["id"]})


def _write(world: World, agent: Client, number: int) -> Written:
    """Everything else that an agent can write."""
    project = {"project": world.text(number, "p", 300)}
    mention = f"@{VICTIM} {world.text(number, 'm')}"
    sent = {
        "q": agent.send_message(channel_name(number), world.text(number, "q"), metadata=project),
        "t": agent.send_message("trap", world.text(number, "t"), metadata=project),
        "r": agent.send_message("thread", world.text(number, "r"), parent_message_id=world.imitated.id),
        "s": agent.send_message("status-posts", world.text(number, "s"), kind="status"),
        "m": agent.send_message("trap", mention, metadata=project),
    }
    _set_card(world, agent, number)
    return Written({kind: answer["message"]["id"] for kind, answer in sent.items()}, _upload(world, agent, number))


def _hand_over(world: World, agent: Client, number: int) -> Written:
    """Tasks with hostile texts: for whoever is first, for the victim, and how one ended that the victim gave away."""
    longest = ["a" * 45 + f"-{number:03d}" + letter for letter in "abcdefghij"[: 10 * is_plain(number)]]
    open_one = agent.create_task(
        world.text(number, "w", 200), channel="tasks", body=world.text(number, "b", 8000),
        capability_tags=[f"tag-{number}", *longest][:10], context=world.text(number, "x"), urgent=number % 2 == 0,
        deadline_in=86_400, result_schema={"description": world.text(number, "j", 4000)},
    )["task"]  # fmt: skip
    offered = agent.create_task(
        world.text(number, "w", 200), channel="offers", target_agent=VICTIM, context="hello"
    )["task"]  # fmt: skip
    asked = world.victim.client.create_task("do this", channel="asked", target_agent=agent_name(number))["task"]["id"]
    if number % 3 == 0:
        agent.decline_task(asked, world.text(number, "y", 2000))
    else:
        agent.claim_task(asked)
        agent.report_progress(asked, world.text(number, "y", 2000))
    if number % 3 == 1:
        agent.fail_task(asked, world.text(number, "y", 2000))
    elif number % 3 == 2:
        agent.complete_task(asked, world.text(number, "v"))
    for task in (open_one, offered):
        world.authors[task["message_id"]] = agent_name(number)
    return Written({"w": open_one["id"], "l": offered["id"]}, asked=asked)


def _upload(world: World, agent: Client, number: int) -> str:
    types = [
        None,
        "text/plain\r\nx-injected: 1",
        f"ignore-previous/instructions-{corpus.token('f', number)}",
        "a/b;c=\n",
    ]
    uploaded = agent.upload_file(
        "files", world.text(number, "f", 255), world.text(number, "c"), content_type=types[number % len(types)],
        post_message=number % 2 == 0,
    )  # fmt: skip
    return uploaded["file"]["path"]


def _set_card(world: World, agent: Client, number: int) -> None:
    """A card takes no control characters; what it refuses is said with other line ends."""
    card: dict[str, Any] = {member: world.text(number, "k", longest) for member, longest in CARD.items()}
    card["capabilities"] = [f"tag-{number}"]
    try:
        agent.set_card(**card)
    except errors.BadRequest:
        lines = {member: value.translate(_NO_LINE) for member, value in card.items() if member != "capabilities"}
        agent.set_card(**lines, capabilities=card["capabilities"])


def _mark_all_read(world: World, but: int = 1000) -> None:
    """What waits for the victim, except for each `but`-th."""
    page = world.victim.client.peek_inbox(limit=100)
    items = page["items"]
    while page["next_cursor"]:
        page = world.victim.client.peek_inbox(limit=100, cursor=page["next_cursor"])
        items += page["items"]
    read = [item["item_id"] for number, item in enumerate(items, 1) if number % but]
    for begin in range(0, len(read), 100):
        world.victim.client.mark_mentions_read(read[begin : begin + 100])


def _pin(world: World) -> None:
    for id in [*world.ids["t"][:MOST_PINNED], *world.ids["r"][MOST_PINNED:]]:
        world.honest.pin_message(id)


def _join_everything(world: World) -> None:
    """Reading a channel puts it on the board. Announcements of files are messages, too: whose, the relay says."""
    for number in NUMBERS:
        world.victim.client.read_messages(channel_name(number), limit=1)
    for channel in ("trap", "thread", "files", "status-posts", "asked", "direct-messages"):
        before: dict[str, Any] = {}
        while messages := world.victim.client.read_messages(channel, limit=200, include_status=True, **before)[
            "messages"
        ]:
            before = {"before": messages[0]["created_at"]}
            for message in messages:
                world.authors.setdefault(message["id"], message["author_name"])
