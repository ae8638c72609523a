"""One conversation, over every operation there is, on a relay and without one: the same answers, byte by byte."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentchat import AgentChatError, Client
from agentchat._exchange import Request, Response
from agentchat.contract import OPERATIONS
from agentchat_relay.embedded import running
from tests.relay.conftest import UNLIMITED, raw

pytestmark = pytest.mark.sqlite

NOBODY = "01a22a7e-0000-7000-8000-000000000000"
ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(
    rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{6}\+00:00|Z \(\d+ s from now\))|(?<!\d)1\d{12}(?!\d)"
)  # the last one in paths of files
CURSOR = re.compile(rb'(cursor":"|cursor=)(?!junk)[^" ]+')
Make = Callable[[str], Client]


class Told(NamedTuple):
    """What was asked, and the answer. Which ids and times those are is left out, and which are the same is not."""

    asked: str
    status: int
    headers: str
    body: bytes


class Recording:
    """A transport that remembers what came."""

    def __init__(self, inner: Any, told: list[tuple[Request, Response]]) -> None:
        self._inner, self._told = inner, told

    def send(self, request: Request) -> Response:
        answer: Response = self._inner.send(request)
        self._told.append((request, answer))
        return answer

    def close(self) -> None:
        self._inner.close()


def converse(make: Make) -> set[str]:
    """Three agents use whatever there is, also wrongly; the names of the operations."""
    used = set[str]()

    def ask(client: Client, operation: str, *args: Any, **given: Any) -> Any:
        used.add(operation)
        with suppress(AgentChatError):
            return getattr(client, operation)(*args, **given)
        return {}

    def come(name: str) -> Client:
        """Where there are no keys, an agent is there from its first call on."""
        client = make(name)
        ask(client, "check_board")
        ask(client, "read_messages", "general")
        return client

    ann, bob, cleo = come("mac-ann"), come("mac-bob"), come("mac-cleo")
    ask(ann, "set_card", role="reviewer", capabilities=["Python", "sql"], about="Reads code")
    ask(ann, "find_agents", capability="python")
    ask(ann, "find_agents", role="nobody")
    first = ask(ann, "send_message", "general", "hello @mac-bob and @mac-nobody", metadata={"n": [1, "ü"]})["message"][
        "id"
    ]
    reply = ask(bob, "send_message", "general", "hello back", parent_message_id=first)["message"]["id"]
    ask(bob, "send_message", "project-x", "a new channel with needle")
    ask(bob, "send_direct_message", "mac-cleo", "for you alone", urgent=True)
    ask(bob, "send_direct_message", "mac-clea", "misspelt")
    ask(bob, "send_message", "general", "again", parent_message_id=NOBODY)
    keyed = ann.with_options(idempotency_key="one-key")
    for text in ("once", "once", "another"):
        ask(keyed, "send_message", "general", text)
    ask(cleo, "list_channels")
    ask(cleo, "check_board")
    page = ask(cleo, "read_messages", "general", limit=2)
    ask(cleo, "read_messages", "general", limit=2, cursor=page["previous_cursor"])
    ask(cleo, "read_messages", "general", cursor="junk")
    ask(cleo, "read_messages", "generl")
    ask(cleo, "get_message", first)
    ask(cleo, "get_message", NOBODY)
    ask(cleo, "read_thread", first)
    ask(cleo, "search_messages", "needle")
    ask(cleo, "search_messages", "hello -back")
    ask(ann, "pin_message", first)
    ask(ann, "list_pinned_messages", "general")
    ask(ann, "unpin_message", first)
    mentions = ask(bob, "check_mentions")["mentions"]
    ask(bob, "mark_mentions_read", [mentions[0]["mention_id"]])
    ask(bob, "get_receipts", first)
    ask(ann, "get_receipts", first)
    ask(ann, "mark_channel_read", "general")
    ask(ann, "list_readers", "general")
    for number in range(3):
        ask(ann, "send_direct_message", "mac-bob", f"task {number}")
    ask(bob, "peek_inbox")
    ask(bob, "check_inbox", limit=1)
    ask(bob, "check_inbox", limit=1)
    claim = ask(bob, "claim_items", limit=2, lease=300)
    if claim.get("claim_id"):
        ask(bob, "renew_claim", claim["claim_id"], lease=200)
        ask(bob, "return_items", claim["claim_id"])
        ask(bob, "acknowledge_items", claim["claim_id"])
    ask(bob, "acknowledge_items", NOBODY)
    ask(bob, "renew_claim", NOBODY)
    ask(bob, "return_items", NOBODY)
    ask(bob, "list_dead_letters")
    ask(bob, "requeue_items", [NOBODY])
    for one in (bob, cleo):
        ask(one, "join_group", "crew")
    ask(cleo, "join_group", "mac-ann")
    asked = ask(ann, "send_direct_message", "crew", "who is in?", urgent=True)["message"]["id"]
    ask(bob, "send_direct_message", "mac-ann", "me", parent_message_id=asked)
    ask(ann, "wait_for_reply", asked, wait=0)
    ask(ann, "send_to_many", ["mac-cleo", "crew", "all"], "for all of you")
    ask(ann, "send_to_many", ["mac-cleo", "mac-nobody"], "for none of you")
    ask(ann, "send_direct_message", "mac-cleo", "for whoever is there", scope="repo:host/org/proj")
    ask(ann, "list_sent", limit=2)
    ask(cleo, "peek_inbox")
    ask(cleo.with_options(scopes=["repo:host/org/proj/deep"]), "peek_inbox")
    ask(cleo, "list_groups", group="crew")
    ask(cleo, "leave_group", "crew")
    ask(ann, "send_direct_message", "mac-cleo", "read and gone", ephemeral=True)
    ask(ann, "send_message", "war-room", "also gone", vanish_after=3600)
    hand_over(ask, ann, bob, cleo)
    lock_out(ask, ann, bob, cleo)
    stop(ask, ann, bob, cleo)
    ask_for_approval(ask, ann, bob)
    ask(cleo, "find_agents", presence="online")
    ask(cleo, "get_briefing")
    position = ask(cleo, "list_events", since=0, limit=500)["position"]
    ask(cleo, "list_events", since=position + 100)
    ask(cleo, "list_events", since=3, mine=True, kind="inbox")
    ask(ann, "wait_for_reply", first, wait=0)
    ask(ann, "wait_for_message", channel="general", after=reply, wait=0)
    ask(ann, "wait_for_message", from_agent="mac-nobody", wait=0)
    path = ask(ann, "upload_file", "general", "notes ü.txt", "some text")["file"]["path"]
    ask(ann, "upload_file", "direct-messages", "a.txt", "some text")
    ask(bob, "list_files", "general")
    ask(bob, "download_file", path)
    ask(bob, "download_file", "general/1-nothing.txt")
    task = ask(ann, "create_task", "by action", channel="general")["task"]["id"]
    for verb, way, body in (
        *(("POST", f"/api/v2/tasks/{task}", body) for body in (
            {"action": "claim"}, {"action": "complete", "result": "done"}, {"action": "cancel"}, {"action": "obey"}, {},
        )), ("GET", "/api/v2/tasks?for_me=1", None), ("GET", "/api/v2/tasks?for_me=no", None),
        ("GET", "/api/v2/nowhere", None), ("PUT", "/api/v2/board", b"{}"), ("POST", "/api/v2/messages", b"{"),
        ("POST", "/api/v2/messages", {"channel": "No", "content": ""}), ("POST", "/api/v2/messages", b"[" * 5000),
        ("GET", f"/api/v2/messages/{NOBODY}%2F..", None), ("GET", "/api/v2/search?query=%22", None),
        ("GET", "/health", None), ("POST", "/api/v2/messages", {"channel": "general", "content": "x" * 2_000_000}),
    ):  # fmt: skip
        raw(ann, verb, way, body)
    return used


def hand_over(ask: Callable[..., Any], ann: Client, bob: Client, cleo: Client) -> None:
    """Tasks go through every state, also by whom they do not belong to."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

    def task(client: Client, title: str, **given: Any) -> str:
        return str(ask(client, "create_task", title, **given).get("task", {}).get("id", NOBODY))

    first = task(ann, "add it up", channel="general", capability_tags=["sql"], context="1 and 2", result_schema=schema)
    ask(ann, "create_task", "for nobody")
    ask(ann, "create_task", "for one who is not there", target_agent="mac-nobody")
    ask(ann, "create_task", "for a group", target_agent="crew")
    ask(ann, "create_task", "no schema", channel="general", result_schema={"type": "number of things"})
    ask(ann, "create_task", "too free a schema", channel="general", result_schema={"pattern": "(a+)+"})
    keyed = ann.with_options(idempotency_key="one-task")
    for title in ("once", "once", "another"):
        ask(keyed, "create_task", title, channel="general")
    for id in (first, NOBODY):
        ask(bob, "get_task", id)
        ask(bob, "read_task_context", id, offset=2)
    ask(bob, "complete_task", first, "too early")
    ask(bob, "claim_task", first, lease=3600)
    ask(bob, "claim_task", first)
    ask(cleo, "claim_task", first)
    ask(cleo, "renew_task", first)
    ask(bob, "renew_task", first, fence=1, lease=7200)
    ask(bob, "renew_task", first, fence=9)
    ask(bob, "report_progress", first, "half of it")
    ask(bob, "return_task", first, reason="no time")
    ask(cleo, "claim_task", first, lease=3600)
    ask(bob, "complete_task", first, '{"n": 3}', fence=1)
    for result in ("three", '{"n": "three"}', '{"n": 3}', '{"n": 3}'):
        ask(cleo, "complete_task", first, result, fence=2)
    ask(cleo, "cancel_task", first)
    second = task(ann, "read it", target_agent="mac-bob", urgent=True, deadline_in=3600, scope="repo:host/org/proj")
    ask(cleo, "get_task", second)
    ask(bob, "check_work")
    ask(bob, "decline_task", second, "no time")
    ask(ann, "check_work")
    ask(bob, "offer_task", second, "mac-cleo")
    ask(ann, "offer_task", second, "mac-cleo")
    ask(cleo, "claim_task", second, lease=3600)
    ask(cleo, "fail_task", second, "it is not there")
    third = task(ann, "not needed", channel="project-x")
    ask(bob, "decline_task", third, "not mine")
    ask(bob, "cancel_task", third, reason="not mine")
    for _ in range(2):
        ask(ann, "cancel_task", third, reason="done by hand")
    page = ask(cleo, "list_tasks", limit=2)
    ask(cleo, "list_tasks", limit=2, cursor=page["next_cursor"])
    ask(cleo, "list_tasks", cursor="junk")
    for given in ({"status": "cancelled"}, {"capability": "sql"}, {"mine": "claimed"}, {"channel": "nowhere"}):
        ask(cleo, "list_tasks", **given)
    ask(ann, "check_work", since="2026-01-31T12:00:00Z")
    ask(ann, "get_task", first)
    ask(bob, "peek_inbox")


def lock_out(ask: Callable[..., Any], ann: Client, bob: Client, cleo: Client) -> None:
    """Locks are held, refused, waited for, given back, and lost."""

    def lock(client: Client, *names: str, **given: Any) -> str:
        return str(ask(client, "acquire_lock", [*names], **given).get("lock", {}).get("id", NOBODY))

    keyed = ann.with_options(idempotency_key="one-lock")
    first, again = (lock(keyed, "src/**", reason="moving") for _ in range(2))
    assert first == again
    lock(keyed, "src/**", shared=True)
    for names in (["src/a", "docs"], ["src", "src"], ["a b"], ["a/../b"], []):
        lock(bob, *names)
    lock(ann, "**", wait=5)
    lock(bob, "src/a", wait=1)
    for client in (bob, cleo):
        lock(client, "docs/x", shared=True, lease=3600)
    page = ask(cleo, "list_locks", limit=2)
    ask(cleo, "list_locks", limit=2, cursor=page["next_cursor"])
    for given in ({"name": "src/a"}, {"name": "docs/**", "mine": True}, {"name": "a b"}, {"cursor": "junk"}):
        ask(cleo, "list_locks", **given)
    ask(ann, "renew_lock", first, lease=3600)
    ask(ann, "renew_lock", first, fence=999)
    ask(bob, "renew_lock", first)
    for client, id in ((bob, first), (ann, NOBODY), (ann, first), (ann, first)):
        ask(client, "release_lock", id)
    ask(ann, "renew_lock", first)
    lock(bob, "src/a")


def stop(ask: Callable[..., Any], ann: Client, bob: Client, cleo: Client) -> None:
    """Interrupts are sent, seen, acknowledged and taken back, also by whom they do not concern."""

    def send(**given: Any) -> str:
        return str(ask(ann, "send_interrupt", "mac-bob", "look", **given).get("interrupt", {}).get("id", NOBODY))

    first, second = send(), send(expires_in=60)
    for target in ("mac-ann", "mac-nobdy", "crew"):
        ask(ann, "send_interrupt", target, "look")
    keyed = ann.with_options(idempotency_key="one-interrupt")
    for reason in ("once", "once", "another"):
        ask(keyed, "send_interrupt", "mac-cleo", reason)
    ask(cleo, "get_interrupt", first)
    ask(bob, "peek_inbox", limit=2)
    claim = ask(bob, "claim_items", limit=1)
    ask(bob, "acknowledge_items", claim["claim_id"])
    ask(ann, "get_interrupt", first)
    for client in (cleo, ann, bob, bob):
        ask(client, "acknowledge_interrupt", first, note="on it")
    for client, id in ((bob, second), (ann, first), (ann, second), (ann, second), (ann, NOBODY)):
        ask(client, "withdraw_interrupt", id)
    page = ask(ann, "list_interrupts", sent=True, limit=1)
    ask(ann, "list_interrupts", sent=True, limit=1, cursor=page["next_cursor"])
    for given in ({}, {"state": "acknowledged"}, {"cursor": "junk"}, {"pause_id": NOBODY}):
        ask(bob, "list_interrupts", **given)
    for given in ({"group": "crew"}, {}, {"group": "crew", "channel": "general"}):
        ask(ann, "pause_agents", "it moves", **given)
    ask(ann, "list_pauses")
    ask(ann, "resume_agents", NOBODY)


def ask_for_approval(ask: Callable[..., Any], ann: Client, bob: Client) -> None:
    """Requests that nobody can decide: a role is an operator's to give."""
    asked = ask(ann, "request_approval", "deploy", '{"to": "prod", "n": 1.50}', reason="it is tested", urgent=True)
    keyed = ann.with_options(idempotency_key="one-approval")
    for tool in ("once", "once", "another"):
        ask(keyed, "request_approval", tool, "{}")
    for arguments in ("[]", "{", '{"a": NaN}', "7 "):
        ask(ann, "request_approval", "deploy", arguments)
    id = asked["approval"]["id"]
    for client in (ann, bob):
        ask(client, "get_approval", id)
        ask(client, "decide_approval", id, "allow")
        ask(client, "dismiss_approval", id)
        ask(client, "list_approvals")
    ask(ann, "get_approval", id, wait=1)
    ask(ann, "decide_approval", id, "respond")
    page = ask(ann, "list_approvals", mine=True, limit=1)
    ask(ann, "list_approvals", mine=True, limit=1, cursor=page["next_cursor"])
    for client, one in ((bob, id), (ann, id), (ann, id), (ann, NOBODY)):
        ask(client, "withdraw_approval", one, reason="never mind")
    ask(ann, "list_approvals", mine=True, state="withdrawn")


def played(make: Callable[[str, list[tuple[Request, Response]]], Client]) -> tuple[set[str], list[Told]]:
    with ExitStack() as stack:
        records: list[tuple[Request, Response]] = []
        used = converse(lambda name: stack.enter_context(make(name, records)))
    names: dict[bytes, bytes] = {}

    def plain(text: bytes) -> bytes:
        text = ID.sub(lambda found: names.setdefault(found[0], b"<id %d>" % len(names)), text)
        return CURSOR.sub(rb"\1<cursor>", TIME.sub(b"<time>", text))

    told = []
    for request, answer in records:
        asked = f"{request.method} {request.path} {(request.body or b'')[:300].decode()}"
        kept = " ".join(
            str(answer.headers.get(name)) for name in ("content-type", "content-disposition", "retry-after")
        )
        told.append(
            Told(plain(asked.encode()).decode(), answer.status, plain(kept.encode()).decode(), plain(answer.body))
        )
    return used, told


def test_the_same_conversation_is_the_same_without_a_relay(tmp_path: Path) -> None:
    def recorded(client: Client, records: list[tuple[Request, Response]]) -> Client:
        client._transport = Recording(client._transport, records)
        return client

    with running(str(tmp_path / "served"), settings=UNLIMITED) as relay:
        used, served = played(
            lambda name, records: recorded(
                Client(relay.url, relay.token(name), agent=name, retries=0, session=name), records
            )
        )
    url = f"local:{tmp_path / 'shared'}"
    _, local = played(lambda name, records: recorded(Client(url, agent=name, retries=0, session=name), records))
    assert used >= OPERATIONS.keys() - {"get_file_url"}, "every operation there is"
    assert len(served) == len(local) > 70
    for theirs, ours in zip(served, local, strict=True):
        if "/api/v2/briefing" in ours.asked:
            assert b',"provenance":"local"' in ours.body, "names are taken on trust here, and nowhere else"
            ours = ours._replace(body=ours.body.replace(b',"provenance":"local"', b""))
        assert ours == theirs
    assert {told.status for told in local} >= {200, 400, 404, 405, 409, 410, 413}
