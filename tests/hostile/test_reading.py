"""Hostile texts through every operation and every surface, over a real relay: nothing escapes its fence."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import subprocess
import termios
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat.contract import OPERATIONS
from tests.relay.conftest import raw

from . import corpus, oracle
from .corpus import BREAKS, HALVES, TEMPLATES, token
from .oracle import GRAMMARS, is_fenced, problems
from .surfaces import BOUNDED, PRESENTED, UNBOUNDED, Surface, Victim, command_line, words
from .world import (
    CREW,
    HONEST,
    MOST_PAUSED,
    MOST_PINNED,
    NUMBERS,
    SECOND,
    STOPPED,
    VICTIM,
    World,
    agent_name,
    channel_name,
    group_name,
    lock_name,
    scope_of,
)

Arguments = dict[str, Any]
Calls = Callable[[World], list[Any]]


def _every_search(world: World) -> list[Arguments]:
    groups = [NUMBERS[start : start + 8] for start in range(0, len(NUMBERS), 8)]
    return [{"query": " or ".join(token("t", number) for number in group)} for group in groups]


class Inbox:
    """The victim's claims: one to acknowledge and one to hold, again and again; what is returned is claimed anew."""

    def __init__(self, world: World) -> None:
        self.client = world.victim.client
        self.held = [self.claim(), self.claim()]
        self.sent = [
            self.client.send_direct_message(name, "did you get it?")["message"]["id"] for name in (SECOND, CREW)
        ]  # fmt: skip

    def claim(self) -> str:
        for one in self.client.list_interrupts()["interrupts"]:  # which would come before everything, for ever
            self.client.acknowledge_interrupt(one["id"])
        claim_id = self.client.claim_items(limit=1, lease=3600)["claim_id"]
        assert claim_id
        return claim_id

    def dead(self) -> str:
        while not (letters := self.client.list_dead_letters()["items"]):
            self.client.return_items(self.claim())
        return letters[0]["item_id"]


_inboxes: dict[str, Inbox] = {}


def inbox(world: World) -> Inbox:
    if world.victim.url not in _inboxes:
        _inboxes[world.victim.url] = Inbox(world)
    return _inboxes[world.victim.url]


class Work:
    """Tasks that the victim does something with, each with a hostile title. What it says of one has the same number,
    since both stand in one message."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._client = world.victim.client
        self._number = next(_tasks) % len(NUMBERS)

    def offered(self, **more: Any) -> Arguments:
        """By an honest agent that copied what it read, to whoever is first."""
        world = self._world
        task = world.honest.create_task(
            world.text(self._number, "w", 200), channel="offers", body=world.text(self._number, "b", 8000),
            context="hello", result_schema={"description": "a number"},
        )["task"]  # fmt: skip
        world.authors[task["id"]] = world.authors[task["message_id"]] = HONEST
        return {"task_id": task["id"], **more}

    def offered_to_victim(self) -> Arguments:
        """By a hostile one."""
        return {"task_id": self._world.ids["l"][self._number]} | self.saying("reason")

    def held(self, **more: Any) -> Arguments:
        offered = self.offered(**more)
        self._client.claim_task(offered["task_id"])
        return offered

    def lock(self, **more: Any) -> Arguments:
        """What the victim locks, with a reason that it has read somewhere."""
        reason = self._world.text(self._number, "e", 200)
        lock = self._client.acquire_lock([self.free()], reason=reason)["lock"]
        return {"lock_id": lock["id"], **more}

    def free(self) -> str:
        """A name that nobody has, with room for it among the victim's."""
        mine = self._client.list_locks(mine=True, limit=200)["locks"]
        for one in mine if len(mine) > 100 else ():
            self._client.release_lock(one["id"])
        return f"own/{next(_tasks)}"

    def asked(self, **more: Any) -> Arguments:
        return {"task_id": self._client.create_task("do this", channel="asked")["task"]["id"], **more}

    def stopped(self) -> Arguments:
        """By an honest agent that copied what it read."""
        world = self._world
        stop = world.honest.send_interrupt(VICTIM, world.text(self._number, "i", 2000))["interrupt"]
        world.authors[stop["id"]] = world.authors[stop["message_id"]] = HONEST
        return {"interrupt_id": stop["id"]}

    def room(self) -> str:
        """Somebody whom the victim may interrupt."""
        for one in self._client.list_interrupts(sent=True, state="pending", limit=200)["interrupts"]:
            self._client.withdraw_interrupt(one["id"])
        return HONEST

    def stopping(self) -> Arguments:
        reason = self._world.text(self._number, "e", 2000)
        return {"interrupt_id": self._client.send_interrupt(self.room(), reason)["interrupt"]["id"]}

    def pausing(self) -> Arguments:
        """With room for it: so many may be on in a space."""
        for one in self._client.list_pauses()["pauses"]:
            if one["name"] == STOPPED:
                self._client.resume_agents(one["id"])
        return {"group": STOPPED} | self.saying("reason")

    def paused(self) -> Arguments:
        return {"pause_id": self._client.pause_agents(**self.pausing())["pause"]["id"]} | self.saying("note")

    def asking(self, number: int) -> Arguments:
        for one in self._client.list_approvals(mine=True, state="pending", limit=200)["approvals"]:
            self._client.withdraw_approval(one["id"])
        texts = {"arguments": json.dumps({"where": self._world.text(number, "e", 500)})}
        return {"tool_name": f"go-{token('e', number)}", **texts, "reason": self._world.text(number, "e", 500)}

    def asked_for_approval(self) -> Arguments:
        return {"approval_id": self._client.request_approval(**self.asking(self._number))["approval"]["id"]}

    def to_be_decided(self, **more: Any) -> Arguments:
        """By an honest agent that copied what it read; who wrote the message about it, the relay says."""
        world = self._world
        text = world.text(self._number, "z", 500)
        asked = world.honest.request_approval("go", json.dumps({"where": text}), reason=text)["approval"]
        world.authors[asked["id"]] = HONEST
        for message in self._client.read_messages("direct-messages", limit=5)["messages"]:
            world.authors.setdefault(message["id"], message["author_name"])
        return {"approval_id": asked["id"], **more}

    def saying(self, name: str) -> Arguments:
        return {name: self._world.text(self._number, "e", 500)}


_tasks = itertools.count()


def work(call: Callable[[Work], Arguments]) -> Calls:
    return lambda world: [lambda: call(Work(world))]


def fresh(arguments: Any) -> Arguments:
    """Those of a call that can be made once are made for each call."""
    made: Arguments = arguments() if callable(arguments) else arguments
    return made


def stopped_at(world: World) -> str:
    """When the first interrupts were sent."""
    return world.victim.client.get_interrupt(world.ids["i"][0])["interrupt"]["created_at"]


def sent_at(world: World, message_id: str) -> str:
    return world.victim.client.get_message(message_id)["message"]["created_at"]


# Operation -> the calls that bring every hostile text there is for it.
READS: dict[str, Calls] = {
    "check_board": lambda world: [{}],
    "list_channels": lambda world: [{}],
    "read_messages": lambda world: [
        {"channel": "trap", "limit": 200},
        {"channel": "direct-messages", "limit": 200},
        {"channel": "direct-messages", "limit": 200, "before": sent_at(world, world.ids["q"][0])},
        {"channel": "direct-messages", "limit": 200, "before": stopped_at(world)},
        {"channel": "status-posts", "limit": 200, "include_status": True},
        {"channel": "files", "limit": 200},
    ],
    "get_message": lambda world: [{"message_id": id} for id in [*world.ids["t"], *world.ids["g"]]],
    "read_thread": lambda world: [{"message_id": world.imitated.id, "limit": 200}],
    "search_messages": _every_search,
    "list_pinned_messages": lambda world: [{"channel": "trap"}, {"channel": "thread"}],
    "check_mentions": lambda world: [{"limit": 100}, {"unread": False, "limit": 100}],
    "list_readers": lambda world: [{"channel": "trap"}, {"channel": channel_name(1)}],
    "list_files": lambda world: [{"folder": "files"}],
    "download_file": lambda world: [{"path": path} for path in world.paths],
    "get_file_url": lambda world: [{"path": path} for path in world.paths[:5]],
    "find_agents": lambda world: [{}, {"name": token("n", 1)}, {"capability": "tag-1"}],
    "peek_inbox": lambda world: [{"limit": 100}],
    "list_sent": lambda world: [{}, {"limit": 1}],
    "list_groups": lambda world: [{}, {"group": CREW}, *({"group": group_name(number)} for number in NUMBERS[:3])],
    "list_dead_letters": lambda world: [{}],
    "get_receipts": lambda world: [{"message_id": id} for id in inbox(world).sent],
    "list_events": lambda world: [{"since": 0, "limit": 500}],
    "wait_for_reply": lambda world: [{"message_id": world.imitated.id, "wait": 0}],
    "wait_for_message": lambda world: [{"channel": "trap", "after": id, "wait": 0} for id in world.ids["t"][:40]],
    "get_briefing": lambda world: [{}],
    "list_tasks": lambda world: [
        *({"channel": channel, "limit": 200} for channel in ("tasks", "offers", "asked")),
        *({"capability": f"tag-{number}"} for number in NUMBERS[::5]),
    ],
    "check_work": lambda world: [{}],
    "get_task": lambda world: [{"task_id": id} for id in [*world.ids["w"], *world.ids["l"], *world.asked]],
    "list_locks": lambda world: [
        *({"name": f"{lock_name(number)}/x"} for number in NUMBERS),
        {"name": "held/**", "limit": 200},
    ],
    "read_task_context": lambda world: [{"task_id": id} for id in world.ids["w"]],
    "list_interrupts": lambda world: [
        {"state": "acknowledged", "limit": 200},
        {},
        {"sent": True, "limit": 200},
    ],
    "get_interrupt": lambda world: [{"interrupt_id": id} for id in world.ids["i"]],
    "list_pauses": lambda world: [{}],
    "list_approvals": lambda world: [{"limit": 200}, {"mine": True}, {"state": "denied"}, *LISTED_VERDICTS],
    "get_approval": lambda world: [{"approval_id": id} for id in [*world.ids["z"], *world.ids["u"]]],
}
# The victim writes what it has read: the answers must not hold it either.
WRITES: dict[str, Calls] = {
    "send_message": lambda world: [
        {"channel": "echoes", "content": f"@{token('e', number)}-nobody {world.text(number, 'e', 500)}"}
        for number in NUMBERS[::8]
    ],
    "send_direct_message": lambda world: [{"target_agent": HONEST, "content": world.text(3, "e")}],
    "send_to_many": lambda world: [{"recipients": [HONEST, group_name(1)], "content": world.text(1, "e")}],
    "join_group": lambda world: [{"group": group_name(number)} for number in NUMBERS[:4]],
    "leave_group": lambda world: [{"group": group_name(number)} for number in NUMBERS[:4]],
    "pin_message": lambda world: [{"message_id": world.ids["root"][0]}],
    "unpin_message": lambda world: [{"message_id": world.ids["root"][0]}],
    "mark_mentions_read": lambda world: [{"mention_ids": [world.mention_id]}],
    "mark_channel_read": lambda world: [{"channel": channel_name(number)} for number in NUMBERS[:4]],
    "upload_file": lambda world: [
        {"channel": "echoes", "filename": world.text(number, "e", 99), "content": world.text(number, "e", 500)}
        for number in NUMBERS[::12]
    ],
    "check_inbox": lambda world: [{"limit": 1}],
    "claim_items": lambda world: [{"limit": 1, "lease": 3600}],
    "acknowledge_items": lambda world: [{"claim_id": inbox(world).held[0]}],
    "renew_claim": lambda world: [{"claim_id": inbox(world).held[1], "lease": 3600}],
    "return_items": lambda world: [lambda: {"claim_id": inbox(world).claim()}],
    "requeue_items": lambda world: [lambda: {"item_ids": [inbox(world).dead()]}],
    "create_task": lambda world: [
        {
            "title": world.text(number, "e", 200),
            "channel": "echoes",
            "body": world.text(number, "e", 500),
            "context": world.text(number, "e", 500),
            "urgent": True,
        }
        for number in NUMBERS[::8]
    ],
    "claim_task": work(lambda work: work.offered()),
    "decline_task": work(lambda work: work.offered_to_victim()),
    "renew_task": work(lambda work: work.held(fence=1)),
    "report_progress": work(lambda work: work.held(**work.saying("note"))),
    "return_task": work(lambda work: work.held(**work.saying("reason"))),
    "complete_task": work(lambda work: work.held(result='"done"')),
    "fail_task": work(lambda work: work.held(**work.saying("reason"))),
    "cancel_task": work(lambda work: work.asked(**work.saying("reason"))),
    "offer_task": lambda world: [
        lambda number=number: Work(world).asked(target_agent=agent_name(number)) for number in NUMBERS[::30]
    ],
    "acquire_lock": lambda world: [
        lambda number=number: {
            "names": [f"{Work(world).free()}/{token('e', number)}"],
            "reason": world.text(number, "e", 200),
        }
        for number in NUMBERS[::8]
    ],
    "renew_lock": work(lambda work: work.lock(lease=600)),
    "release_lock": work(lambda work: work.lock()),
    "send_interrupt": work(lambda work: {"target_agent": work.room()} | work.saying("reason")),
    "acknowledge_interrupt": work(lambda work: work.stopped() | work.saying("note")),
    "withdraw_interrupt": work(lambda work: work.stopping() | work.saying("note")),
    "pause_agents": work(lambda work: work.pausing()),
    "resume_agents": work(lambda work: work.paused()),
    "request_approval": lambda world: [lambda number=number: Work(world).asking(number) for number in NUMBERS[::30]],
    "decide_approval": work(lambda work: work.to_be_decided(verdict="deny") | work.saying("message")),
    "dismiss_approval": work(lambda work: work.to_be_decided()),
    "withdraw_approval": work(lambda work: work.asked_for_approval() | work.saying("reason")),
    "set_card": lambda world: [{"role": "reviewer", "about": f"{token('e', 900)}\u2028{token('e', 900)}"}],
}
LISTED_VERDICTS = [{"mine": True, "state": one, "limit": 200} for one in ("allowed", "edited", "denied", "answered")]
CALLS: dict[str, Calls] = {**READS, **WRITES}

# Which kinds of texts an operation has to show; pins and mentions are a case of their own.
SHOWN = {
    "check_board": "qn",
    "list_channels": "n",
    "read_messages": "tmdgsn",
    "get_message": "tg",
    "read_thread": "rn",
    "search_messages": "tn",
    "check_mentions": "mn",
    "list_readers": "n",
    "list_groups": "n",
    "list_files": "f",
    "download_file": "c",
    "find_agents": "kn",
    "list_tasks": "w",
    "get_task": "wbj",
    "read_task_context": "x",
    "list_locks": "fh",
    "list_interrupts": "i",
    "get_interrupt": "i",
    "list_approvals": "fzu",
    "get_approval": "fzu",
}


def test_every_operation_of_the_contract_is_attacked() -> None:
    """A new operation needs a call that brings hostile text, and a grammar that says what its answer may be."""
    assert set(CALLS) == set(GRAMMARS) == set(OPERATIONS)
    assert {name for name, operation in OPERATIONS.items() if not operation.writes} == set(READS)


def test_what_the_hostile_agents_wrote_is_there(world: World) -> None:
    assert len(world.paths) == len(world.asked) == len(NUMBERS)
    assert {kind: len(ids) for kind, ids in world.ids.items()} == {
        "root": 1,
        **dict.fromkeys("qtrsdmgwlhizu", len(NUMBERS)),
    }
    for named in (agent_name, channel_name, group_name):
        assert corpus.LONGEST_NAME in {len(named(number)) for number in NUMBERS}


# Every operation on every surface


def escapes(
    world: World, surface: Surface, operation: str, calls: Iterable[Any], *bounds: int, by: Victim | None = None
) -> list[str]:
    """What is wrong with the answers, each with the call it came from."""
    found = []
    for made in calls:
        for max_chars in bounds:
            arguments = fresh(made)
            shown = surface(by or world.victim, operation, arguments, max_chars)
            assert not shown.startswith("Error ("), (arguments, shown)
            wrong = problems(operation, shown, max_chars, world.authors)
            found += [f"{operation} {arguments}: {problem}" for problem in wrong]
    return found


@pytest.mark.parametrize("surface", BOUNDED)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_nothing_escapes_its_fence(world: World, operation: str, surface: str) -> None:
    calls = CALLS[operation](world)
    assert escapes(world, BOUNDED[surface], operation, calls[:: len(calls) // 12 + 1], 1000, 20_000) == []


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "download_file"])
def test_nothing_escapes_its_fence_on_the_command_line(world: World, operation: str) -> None:
    """Downloads have their own tests below."""
    calls = CALLS[operation](world)
    assert escapes(world, command_line, operation, calls[:: len(calls) // 4 + 1], UNBOUNDED) == []


@pytest.mark.parametrize("operation", READS)
def test_nothing_escapes_in_any_answer_however_long(world: World, operation: str) -> None:
    assert escapes(world, BOUNDED["tool invoke"], operation, CALLS[operation](world), 1000, 1001, 10**6) == []


@pytest.mark.parametrize("operation", SHOWN)
def test_every_hostile_text_was_really_shown(world: World, operation: str) -> None:
    """Otherwise the tests above would prove nothing."""
    calls = CALLS[operation](world)
    shown = "\n".join(BOUNDED["executor openai_chat"](world.victim, operation, call, 10**7) for call in calls)
    missing = [token(kind, number) for kind in SHOWN[operation] for number in NUMBERS]
    assert [found for found in missing if found not in shown] == []


@pytest.mark.parametrize("surface", BOUNDED)
def test_no_reason_escapes_a_refusal(world: World, surface: str) -> None:
    for number in NUMBERS:
        for max_chars in (1000, 20_000):
            wanted = {"names": [f"{lock_name(number)}/x"]}
            shown = BOUNDED[surface](world.victim, "acquire_lock", wanted, max_chars)
            assert shown.startswith(f"Error (conflict): @{agent_name(number)} holds held/"), shown
            assert (token("h", number) in shown) or max_chars == 1000
            assert problems("acquire_lock", shown, max_chars, world.authors) == []


def test_how_tasks_ended_was_really_shown(world: World) -> None:
    """Reasons of those declined and failed, notes of progress, and results of those done."""
    calls: list[Arguments] = [{"task_id": id} for id in world.asked]
    shown = "".join(BOUNDED["executor openai_chat"](world.victim, "get_task", call, 10**7) for call in calls)
    missing = [*(token("y", number) for number in NUMBERS), *(token("v", number) for number in NUMBERS[2::3])]
    assert [found for found in missing if found not in shown] == []
    work = BOUNDED["tool invoke"](world.victim, "check_work", {}, 10**7)
    assert len(set(re.findall("zw[0-9]{3}x", work))) >= 50 and len(set(re.findall("zv[0-9]{3}x", work))) > 20
    waiting = BOUNDED["tool invoke"](world.victim, "peek_inbox", {"limit": 100}, 10**7)
    assert {"(task", "open)"} < set(waiting.split()) and len(set(re.findall("z[wyv][0-9]{3}x", waiting))) > 10


def test_pauses_and_requests_that_wait_were_really_shown(world: World) -> None:
    pauses = [BOUNDED["tool invoke"](world.victim, name, {}, 10**7) for name in ("list_pauses", "get_briefing")]
    missing = [token("a", number) for number in NUMBERS[:MOST_PAUSED]]
    assert [found for found in missing if found not in pauses[0]] == []
    assert re.search("\npaused:\n.*by @mac-boss .*\n\\| ", pauses[1])
    waiting = BOUNDED["executor gemini"](world.victim, "peek_inbox", {"limit": 100}, 10**7)
    assert {"(approval", "pending)"} < set(waiting.split()) and len(set(re.findall("z[zu][0-9]{3}x", waiting))) > 10


@pytest.mark.parametrize("surface", ["tool invoke", "executor gemini"])
def test_interrupts_come_first_and_say_so(world: World, surface: str) -> None:
    stop = Work(world).stopped()
    for operation, arguments in (("peek_inbox", {}), ("check_inbox", {"limit": 1}), ("list_interrupts", {})):
        shown = BOUNDED[surface](world.victim, operation, arguments, 20_000)
        assert re.search("zi[0-9]{3}x", shown)
        assert problems(operation, shown, 20_000, world.authors) == []
    assert "acknowledge_interrupt" in shown
    world.victim.client.acknowledge_interrupt(**stop)


def test_every_project_was_really_shown(world: World) -> None:
    calls: list[Arguments] = [{"limit": 100}]
    while cursor := world.victim.client.peek_inbox(**calls[-1])["next_cursor"]:
        calls.append({"limit": 100, "cursor": cursor})
    shown = "".join(command_line(world.victim, "peek_inbox", call, UNBOUNDED) for call in calls)
    assert shown.count(" from project ") >= len(NUMBERS)


@pytest.mark.parametrize("surface", ["executor gemini", "tool invoke"])
def test_mail_to_a_group_was_really_shown_with_its_scope_if_it_was_for_here(world: World, surface: str) -> None:
    shown = BOUNDED[surface](world.second, "peek_inbox", {"limit": 100}, 10**7)
    missing = [number for number in NUMBERS if number % 5 != 4 and token("g", number) not in shown]
    assert missing == []
    assert [scope for scope in PRESENTED if f" (for {scope})" not in shown] == []
    foreign = [token("g", number) for number in NUMBERS if number % 5 == 4]
    assert [found for found in foreign if found in shown] == []
    assert str(scope_of(4)) in shown.split("\n")[0]
    assert problems("peek_inbox", shown, 10**7, world.authors) == []


def test_every_pinned_text_was_really_shown(world: World) -> None:
    calls = CALLS["list_pinned_messages"](world)
    shown = "".join(BOUNDED["executor gemini"](world.victim, "list_pinned_messages", call, 10**7) for call in calls)
    pinned = [token("t" if number < MOST_PINNED else "r", number) for number in NUMBERS]
    assert [found for found in pinned if found not in shown] == []


# Wherever the text is cut

AROUND_A_BREAK = [
    "{t} " + ("ab\n" * 9_000),
    "{t} " + ("abc\r\n" * 6_000),
    "{t}" + ("\r\n" * 9_000) + "{t}",
    "{t}" + ("\n| x" * 7_000),
    "{t}" + ("\n{id} {at} @{who}" * 400),
    "{t}" + ("\u2028\u202e\n" * 7_000),
    "{t}" + ("\U000e0041\n" * 7_000),
]
CUT_READS: dict[str, Callable[[str, str], Arguments]] = {
    "check_board": lambda channel, message: {},
    "read_messages": lambda channel, message: {"channel": channel},
    "get_message": lambda channel, message: {"message_id": message},
    "read_thread": lambda channel, message: {"message_id": message},
    "search_messages": lambda channel, message: {"query": "cuttable", "channel": channel},
    "list_pinned_messages": lambda channel, message: {"channel": channel},
    "check_mentions": lambda channel, message: {"limit": 5},
}


@pytest.fixture(scope="module")
def cut_in(world: World) -> list[tuple[str, str]]:
    """Channels of one long message each, that mentions the second victim and is pinned."""
    made = []
    with world.agent("cutter") as agent:
        for number, template in enumerate(AROUND_A_BREAK):
            channel = f"cut-{number}"
            content = corpus.filled(f"cuttable @{SECOND} {template}", token("q", 800 + number), world.imitated)
            id = agent.send_message(channel, content[:32_000])["message"]["id"]
            agent.pin_message(id)
            world.authors[id] = "cutter"
            made.append((channel, id))
    return made


@pytest.mark.parametrize("operation", CUT_READS)
def test_the_cut_may_fall_on_any_character(world: World, cut_in: list[tuple[str, str]], operation: str) -> None:
    calls = [CUT_READS[operation](channel, id) for channel, id in cut_in]
    surface = BOUNDED["executor anthropic"]
    assert escapes(world, surface, operation, calls, *range(1000, 1030), by=world.second) == []
    shown = surface(world.second, operation, calls[0], 1000)
    assert "(cut after" in shown or "left out" in shown


def test_a_file_may_be_cut_at_any_character(world: World) -> None:
    calls = []
    for number, template in enumerate(AROUND_A_BREAK):
        content = corpus.filled(template, token("c", 800 + number), world.imitated)
        calls.append({"path": world.honest.upload_file("files-to-cut", "a.txt", content)["file"]["path"]})
    surface = BOUNDED["tool plain"]
    assert escapes(world, surface, "download_file", calls, *range(1000, 1030), by=world.second) == []
    assert "(cut after" in surface(world.second, "download_file", calls[0], 1000)


@pytest.mark.parametrize("label", ["breaks in turn", "many forged lines", "growing lines", "long unseen", "controls"])
def test_the_rest_of_a_text_may_begin_anywhere(world: World, label: str) -> None:
    """Also between a carriage return and its line feed, or in the middle of a forged line."""
    id = world.ids["t"][list(TEMPLATES).index(label)]
    calls = [{"message_id": id, "offset": offset} for offset in range(60)]
    assert escapes(world, BOUNDED["tool invoke"], "get_message", calls, 1000, 1001) == []


def test_the_longest_names_around_a_text_that_grows_when_shown(world: World) -> None:
    """Names, channel and project of 100 characters, and a text of which each character is shown as nine: what was cut
    must still be told, by a line of ours that is whole."""
    author, channel = "a" * 100, "c" * 100
    with world.agent(author) as agent:
        content = "\U000e0041" * 500 + f" @{SECOND}"
        sent = agent.send_message(channel, content, metadata={"project": "p" * 100})["message"]
    world.authors[sent["id"]] = author
    for surface in ("tool invoke", "executor openai_chat"):
        calls = [{"limit": 1}, {"limit": 1, "unread": False}]
        assert escapes(world, BOUNDED[surface], "check_mentions", calls, *range(1000, 1100), by=world.second) == []


# Characters nobody sees

# Without NUL and surrogates, which no message holds, without ordinary line ends, and without what joins letters.
HIDDEN = [
    character
    for character in map(chr, [*range(1, 0xD800), *range(0xE000, 0x110000)])
    if oracle.UNSEEN.match(character) and character not in "\t\r" + oracle.JOINERS
]


def _came_through(world: World, contents: Iterable[str]) -> set[str]:
    """What nobody sees, in the answers about messages with these contents."""
    came: set[str] = set()
    with world.agent("hider") as agent:
        for content in contents:
            id = agent.send_message("hidden", content)["message"]["id"]
            shown = BOUNDED["tool invoke"](world.second, "get_message", {"message_id": id}, 10**5)
            came |= set(oracle.UNSEEN.findall(shown))
    return came


def test_no_character_that_nobody_sees_comes_through(world: World) -> None:
    between = [f"a{character}b" for character in HIDDEN]
    came = _came_through(world, ["".join(between[start : start + 1000]) for start in range(0, len(between), 1000)])
    assert [f"U+{ord(character):04X}" for character in sorted(came)] == []


@pytest.mark.parametrize("joiner", oracle.JOINERS, ids=ascii)
def test_what_joins_letters_is_made_visible_where_it_joins_nothing(world: World, joiner: str) -> None:
    """Between ASCII letters, or many in a row, joiners are drawn as nothing and can spell anything."""
    assert _came_through(world, [f"a{joiner}b", f"{joiner * 3}x", f"ignore {joiner * 2} this"]) == set()


def test_what_joins_letters_stays_where_people_need_it(world: World) -> None:
    texts = ["👩\u200d💻 ❤\ufe0f 🏳\ufe0f\u200d🌈", "می\u200cخواهم", "क्\u200dष", "1\ufe0f\u20e3"]
    with world.agent("writer") as agent:
        ids = [agent.send_message("people", content)["message"]["id"] for content in texts]
    shown = [BOUNDED["tool invoke"](world.second, "get_message", {"message_id": id}, 20_000) for id in ids]
    assert [text.split("\n")[-1] for text in shown] == [f"| {content}" for content in texts]


NOT_PLAIN = ["проект", "демо\u0336\u0336", "שלום", "ＡＢ", "a\u0338", "│id", "a\U0001d173b", "👩", "a\u200db"]


def test_a_project_in_our_line_is_plain_ascii(world: World) -> None:
    """Other letters reorder the line, strike it through, or look like its marks."""
    broken = []
    with world.agent("projector") as agent:
        for project in NOT_PLAIN:
            agent.send_direct_message(SECOND, "hello", metadata={"project": project})
            shown = BOUNDED["tool invoke"](world.second, "check_mentions", {"limit": 1}, 20_000)
            broken += [line for line in shown.split("\n") if not is_fenced(line) and not re.fullmatch("[ -~]+", line)]
    assert broken == []


def test_a_tool_or_argument_in_our_line_is_plain_ascii(world: World) -> None:
    """Which a model may have copied from what it read."""
    told = []
    for name in NOT_PLAIN:
        told += [
            world.second.executor(20_000).execute(name, {}).text,
            BOUNDED["executor gemini"](world.second, "list_channels", {name: "x"}, 20_000),
            BOUNDED["tool invoke"](world.second, "list_channels", {name: "x"}, 20_000),
        ]
    assert all(text.startswith("Error (bad_request): ") for text in told)
    assert [text for text in told if not re.fullmatch("[ -~\n…]+", text)] == []


# Failures


def test_near_names_are_names_and_nothing_else(world: World) -> None:
    asked: dict[str, list[Arguments]] = {
        "read_messages": [{"channel": channel_name(number)[:-1]} for number in NUMBERS],
        "list_readers": [{"channel": channel_name(number)[:90] + "x"} for number in NUMBERS],
        "send_direct_message": [{"target_agent": agent_name(number)[:-1], "content": "x"} for number in NUMBERS],
    }
    broken, near = [], set()
    for surface in ("tool invoke", "async executor anthropic"):
        for operation, calls in asked.items():
            for arguments in calls:
                shown = BOUNDED[surface](world.second, operation, arguments, 20_000)
                assert shown.startswith("Error (not_found): ")
                broken += problems(operation, shown, 4000, world.authors)
                near |= set(re.findall(f"Did you mean #?({oracle.NAME})[?]", shown))
    assert broken == []
    assert len(near) > len(NUMBERS), "hostile names were among them"


def test_near_names_on_the_command_line(world: World) -> None:
    code, out, err = world.second.ran("read-messages", channel_name(1)[:-1])
    assert (code, out) == (4, b"")
    assert channel_name(1) in err.decode()
    assert problems("read_messages", err.decode().removesuffix("\n"), 4000, world.authors) == []


# What is posted as it is, which is no mistake.
POSTED = {(name, "content") for name in ("send_message", "send_direct_message", "send_to_many", "upload_file")}
POSTED |= {("create_task", "title"), ("create_task", "body"), ("create_task", "context")}
POSTED |= {("report_progress", "note"), ("complete_task", "result")}
POSTED |= {("send_interrupt", "reason"), ("pause_agents", "reason"), ("request_approval", "reason")}
POSTED |= {(f"{name}_interrupt", "note") for name in ("acknowledge", "withdraw")} | {("resume_agents", "note")}
POSTED |= {("decide_approval", "message"), ("withdraw_approval", "reason")}
POSTED |= {(f"{name}_task", "reason") for name in ("decline", "return", "fail", "cancel")}


def copied(world: World, operation: str) -> Iterator[Arguments]:
    """Calls in which a model copies what it read: into one argument, or as an argument's name."""
    good = fresh(CALLS[operation](world)[0])
    for number in NUMBERS[:: 1 if operation in ("read_messages", "download_file", "find_agents") else 7]:
        hostile = world.text(number, "e", 400)
        for name, parameter in OPERATIONS[operation].parameters.items():
            if not parameter.client_only and (operation, name) not in POSTED:
                yield {**good, name: [hostile] if parameter.kind == "array" else hostile}
        yield {**good, hostile: "x"}


@pytest.mark.parametrize("surface", ["tool invoke", "executor openai_responses"])
def test_a_call_with_hostile_arguments_fails_in_plain_words(world: World, surface: str) -> None:
    broken, failed = [], 0
    for operation in OPERATIONS:
        for arguments in copied(world, operation):
            shown = BOUNDED[surface](world.victim, operation, arguments, 20_000)
            broken += [
                f"{operation} {arguments}: {found}" for found in problems(operation, shown, 20_000, world.authors)
            ]
            failed += shown.startswith("Error (")
    assert broken == []
    assert failed > 500


@pytest.mark.parametrize("half", HALVES)
def test_half_a_surrogate_pair_is_refused(world: World, half: str) -> None:
    """In every text an agent can send. Our clients do not write such JSON, so it goes over the wire as it is."""
    inner = corpus.filled(half, token("q", 700), world.imitated)
    bodies = [
        ("POST", "/api/v2/messages", f'{{"channel": "halves", "content": "x {inner}"}}'),
        ("POST", "/api/v2/messages", f'{{"channel": "halves", "content": "x", "metadata": {{"project": "{inner}"}}}}'),
        ("POST", "/api/v2/messages", f'{{"channel": "halves", "content": "x", "metadata": {{"{inner}": "project"}}}}'),
        ("POST", "/api/v2/dm", f'{{"target_agent": "{SECOND}", "content": "{inner}"}}'),
        ("POST", "/api/v2/agents/card", f'{{"card": {{"role": "{inner}"}}}}'),
        ("POST", "/api/v2/tasks", f'{{"channel": "halves", "title": "{inner}"}}'),
        ("POST", "/api/v2/tasks", f'{{"channel": "halves", "title": "x", "context": "{inner}"}}'),
        ("POST", "/api/v2/tasks", f'{{"channel": "halves", "title": "x", "result_schema": {{"title": "{inner}"}}}}'),
        ("POST", "/api/v2/interrupts", f'{{"target_agent": "{SECOND}", "reason": "{inner}"}}'),
        ("POST", "/api/v2/approvals", f'{{"tool_name": "x", "arguments": "{{}}", "reason": "{inner}"}}'),
        ("POST", "/api/v2/approvals", f'{{"tool_name": "x", "arguments": "{{\\"a\\": \\"{inner}\\"}}"}}'),
        ("PUT", "/api/files", f'{{"channel": "halves", "filename": "{inner}", "content": "x"}}'),
        ("PUT", "/api/files", f'{{"channel": "halves", "filename": "x", "content": "{inner}"}}'),
    ]
    with world.agent("half-hearted") as agent:
        agent.send_message("halves", "hello")
        statuses = [raw(agent, verb, path, body.encode())[0] for verb, path, body in bodies]
        held = agent.read_messages("halves")["messages"]
    assert statuses == [400] * len(bodies)
    assert {message["content"] for message in held} == {"hello"}


def test_nul_is_refused_in_a_message_and_makes_a_file_binary(world: World) -> None:
    with world.agent("nul-sender") as agent:
        assert raw(agent, "POST", "/api/v2/messages", b'{"channel": "nul", "content": "a\\u0000b"}')[0] == 400
        path = agent.upload_file("nul", "a.txt", "| a\0\n| b")["file"]["path"]
    shown = BOUNDED["tool invoke"](world.second, "download_file", {"path": path}, 20_000)
    assert problems("download_file", shown, 20_000, world.authors) == []
    assert shown.startswith("A binary file (")


# The command line's downloads


@pytest.mark.parametrize("label", ["screen", "c1 screen", "breaks in turn", "forged message", "overrides", "chatml"])
def test_a_terminal_gets_a_downloaded_file_fenced(world: World, label: str) -> None:
    path = world.paths[list(TEMPLATES).index(label)]
    shown = _on_a_terminal(world.victim, words("download_file", {"path": path}))
    assert problems("download_file", shown, UNBOUNDED, world.authors) == []
    assert any(is_fenced(line) for line in shown.split("\n"))


def _on_a_terminal(victim: Victim, command: list[str]) -> str:
    leader, follower = pty.openpty()
    attributes = termios.tcgetattr(follower)
    attributes[1] &= ~termios.OPOST  # no carriage returns of the terminal's own
    termios.tcsetattr(follower, termios.TCSANOW, attributes)
    with open(leader, "rb", buffering=0) as terminal:
        with victim.command(*command, stdout=follower, stderr=subprocess.PIPE) as process:
            os.close(follower)
            shown = b"".join(_pieces(terminal.fileno()))
            _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, b"")
    return shown.decode("utf-8").removesuffix("\n")


def _pieces(terminal: int) -> Iterator[bytes]:
    """What is written to a terminal until nobody holds its other end, which Linux tells by an error."""
    try:
        while piece := os.read(terminal, 65536):
            yield piece
    except OSError:
        return


def test_a_pipe_gets_the_files_bytes_and_nothing_of_ours(world: World) -> None:
    """What is saved must be the file itself."""
    number = list(TEMPLATES).index("breaks in turn")
    assert world.victim.ran("download-file", world.paths[number]) == (0, world.text(number, "c").encode(), b"")


# Any text

pieces = (
    st.sampled_from(
        [*BREAKS.values(), "| ", "|", "\t", "\xa0", "\u3000", "<U+000A>", "(cut after 40 of 50 characters)"]
    )
    | st.sampled_from(["\x1b[2J", "\u202e", "\u2066", "\u200b", "\U000e0061", "\U000e0100", "\x85", "\x7f", "\u0336"])
    | st.sampled_from(["{id} {at} @{who}", "1 message.", "Content:", "#general: 1 unread, no messages", corpus.NOTICE])
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
)


@settings(max_examples=100, deadline=None)
@given(
    piece=st.lists(pieces, min_size=1, max_size=8).map("".join),
    times=st.sampled_from([1, 1, 1, 40, 2000]),
    surface=st.sampled_from(["tool invoke", "executor openai_chat", "async executor gemini"]),
    max_chars=st.integers(1000, 4000),
    offset=st.integers(0, 2000),
)
def test_no_text_escapes_wherever_it_is_cut(
    world: World, piece: str, times: int, surface: str, max_chars: int, offset: int
) -> None:
    content = corpus.filled("zq777x" + piece * times, "", world.imitated)[:31_900]
    with world.agent("random-author") as agent:
        sent = agent.send_message("random", f"@{SECOND} {content}")["message"]
        path = agent.upload_file("random-files", f"zf777x{content[6:200]}", content, post_message=False)["file"]["path"]
    world.authors[sent["id"]] = "random-author"
    calls: list[tuple[str, Arguments]] = [
        ("check_board", {}),
        ("read_messages", {"channel": "random", "limit": 1}),
        ("get_message", {"message_id": sent["id"], "offset": offset}),
        ("read_thread", {"message_id": sent["id"]}),
        ("search_messages", {"query": "zq777x", "channel": "random"}),
        ("check_mentions", {"limit": 1}),
        ("list_files", {"folder": "random-files"}),
        ("download_file", {"path": path}),
    ]
    for operation, arguments in calls:
        assert escapes(world, BOUNDED[surface], operation, [arguments], max_chars, by=world.second) == []
