"""The two clients are one client in two colours: same operations, same requests, same results, same refusals."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from agentchat import Client, errors
from agentchat._exchange import Request, Response
from agentchat.contract import OPERATIONS
from langchain_agentchat import AsyncClient
from tests.clients.conftest import BOARD, OK, SENT, Connect
from tests.conftest import KEY
from tests.servers import AT, CANNED, CLAIM_ID, ID, OTHER_ID, FakeRelay, Scripted, Seen, replies

ARGUMENTS: dict[str, dict[str, Any]] = {
    "check_board": {},
    "list_channels": {"type": "global"},
    "read_messages": {"channel": "general", "limit": 5, "before": AT, "cursor": "c", "mark_read": True},
    "get_message": {"message_id": ID, "offset": 3},
    "read_thread": {"message_id": ID, "limit": 9},
    "search_messages": {"query": '"two words" -né & =+%', "channel": "general"},
    "send_message": {"channel": "general", "content": "héllo\n@mac-bob", "parent_message_id": ID, "metadata": {"a": 1}},
    "send_direct_message": {
        "target_agent": "mac-bob",
        "content": "héllo",
        "parent_message_id": ID,
        "scope": "repo:github.com/org/proj",
    },
    "send_to_many": {
        "recipients": ["mac-bob", "reviewers"],
        "content": "héllo",
        "urgent": True,
        "expires_in": 60,
        "ephemeral": True,
    },
    "list_sent": {"limit": 5, "cursor": "c"},
    "list_groups": {"group": "reviewers"},
    "join_group": {"group": "reviewers"},
    "leave_group": {"group": "reviewers"},
    "pin_message": {"message_id": ID},
    "unpin_message": {"message_id": ID},
    "list_pinned_messages": {"channel": "general"},
    "check_mentions": {"unread": False, "limit": 3},
    "mark_mentions_read": {"mention_ids": [ID, OTHER_ID]},
    "check_inbox": {"limit": 5},
    "peek_inbox": {"limit": 5, "cursor": "c"},
    "claim_items": {"limit": 5, "lease": 60, "acknowledge": True},
    "acknowledge_items": {"claim_id": CLAIM_ID, "item_ids": [OTHER_ID]},
    "return_items": {"claim_id": CLAIM_ID, "delay": 5},
    "renew_claim": {"claim_id": CLAIM_ID, "lease": 60},
    "list_dead_letters": {"limit": 5},
    "requeue_items": {"item_ids": [OTHER_ID]},
    "get_receipts": {"message_id": ID},
    "list_events": {"since": 3, "channel": "general", "kind": "message.created,inbox", "mine": True, "wait": 5},
    "wait_for_reply": {"message_id": ID, "wait": 5},
    "wait_for_message": {"channel": "general", "from_agent": "mac-bob", "after": ID, "wait": 5},
    "get_briefing": {},
    "create_task": {
        "title": "Read the réport",
        "channel": "general",
        "target_agent": "mac-bob",
        "body": "All\nof it",
        "capability_tags": ["python"],
        "context": "héllo",
        "result_schema": {"type": "object"},
        "deadline_in": 60,
        "urgent": True,
        "scope": "repo:github.com/org/proj",
    },
    "list_tasks": {
        "status": "open",
        "capability": "python",
        "mine": "created",
        "channel": "general",
        "limit": 5,
        "cursor": "c",
    },
    "check_work": {"since": AT},
    "get_task": {"task_id": ID},
    "read_task_context": {"task_id": ID, "offset": 3},
    "claim_task": {"task_id": ID, "lease": 60},
    "decline_task": {"task_id": ID, "reason": "No time"},
    "renew_task": {"task_id": ID, "fence": 1, "lease": 60},
    "report_progress": {"task_id": ID, "note": "Half of it", "fence": 1},
    "return_task": {"task_id": ID, "reason": "No time", "fence": 1},
    "complete_task": {"task_id": ID, "result": "Réad", "fence": 1},
    "fail_task": {"task_id": ID, "reason": "No time", "fence": 1},
    "cancel_task": {"task_id": ID, "reason": "Not needed"},
    "offer_task": {"task_id": ID, "target_agent": "mac-bob"},
    "acquire_lock": {"names": ["src/é/**"], "shared": True, "lease": 60, "wait": 0, "reason": "Moving it"},
    "list_locks": {"name": "src/**", "mine": True, "limit": 5, "cursor": "c"},
    "renew_lock": {"lock_id": ID, "fence": 7, "lease": 60},
    "release_lock": {"lock_id": ID, "fence": 7},
    "send_interrupt": {"target_agent": "mac-bob", "reason": "Lóok", "expires_in": 60},
    "list_interrupts": {"sent": True, "pause_id": ID, "state": "acknowledged", "limit": 5, "cursor": "c"},
    "get_interrupt": {"interrupt_id": ID},
    "acknowledge_interrupt": {"interrupt_id": ID, "note": "On it"},
    "withdraw_interrupt": {"interrupt_id": ID, "note": "Never mind"},
    "pause_agents": {"reason": "It moves", "channel": "general", "group": "reviewers", "expires_in": 60},
    "list_pauses": {},
    "resume_agents": {"pause_id": ID, "note": "It moved"},
    "request_approval": {
        "tool_name": "deploy",
        "arguments": '{"to": "prod", "é": 1}',
        "reason": "It is tested",
        "expires_in": 60,
        "urgent": True,
    },
    "list_approvals": {"mine": True, "state": "denied", "limit": 5, "cursor": "c"},
    "get_approval": {"approval_id": ID, "wait": 5},
    "decide_approval": {"approval_id": ID, "verdict": "edit", "message": "Not that far", "arguments": '{"to": "test"}'},
    "dismiss_approval": {"approval_id": ID},
    "withdraw_approval": {"approval_id": ID, "reason": "Never mind"},
    "mark_channel_read": {"channel": "general", "through": AT},
    "list_readers": {"channel": "general"},
    "upload_file": {"channel": "general", "filename": "a.txt", "content": "aGVsbG8=", "encoding": "base64"},
    "download_file": {"path": "general/1-a b.txt"},
    "get_file_url": {"path": "general/1-a.txt"},
    "list_files": {"folder": "general"},
    "find_agents": {"capability": "python", "active_within": "1h", "role": "reviewer", "name": "mac"},
    "set_card": {"role": "reviewer", "capabilities": ["python"], "plan": "api"},
}


async def asynchronously(url: str, operation: str, /, **arguments: Any) -> Any:
    async with AsyncClient(url, KEY, session="same") as client:
        return await getattr(client, operation)(**arguments)


def comparable(seen: Seen) -> tuple[Any, ...]:
    """A request without what differs from call to call, or is the HTTP library's own."""
    headers = {name: value for name, value in seen.headers.items() if name not in ("connection", "idempotency-key")}
    return seen.method, seen.target, headers, seen.body


def test_every_operation_is_tried_here():
    assert ARGUMENTS.keys() == OPERATIONS.keys()


@pytest.mark.parametrize("name", OPERATIONS)
def test_both_clients_send_the_same_request_and_return_the_same_result(relay: FakeRelay, name: str):
    with Client(relay.url, KEY, session="same") as client:
        first = getattr(client, name)(**ARGUMENTS[name])
    second = asyncio.run(asynchronously(relay.url, name, **ARGUMENTS[name]))
    assert first == second
    assert first == CANNED.get((OPERATIONS[name].verb, relay.seen[0].path), first)
    assert comparable(relay.seen[0]) == comparable(relay.seen[1])
    assert relay.seen[0].headers["x-agent-api-key"] == KEY


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_write_has_an_idempotency_key_of_its_own_and_no_read_but_the_one_that_marks(
    connect: Connect, relay: FakeRelay, name: str
):
    driver = connect(relay.url)
    for _ in range(2):
        driver(name, **ARGUMENTS[name])
    keys = {seen.headers.get("idempotency-key") for seen in relay.seen}
    keyed = OPERATIONS[name].writes or "mark_read" in ARGUMENTS[name]
    assert (len(keys) == 2 and None not in keys) if keyed else keys == {None}


def test_both_clients_have_the_same_public_names():
    def names(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert names(Client) == names(AsyncClient) >= OPERATIONS.keys()


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_method_shows_the_signature_and_text_of_its_declaration(connect: Connect, name: str):
    declared = inspect.signature(OPERATIONS[name].function)
    method = getattr(connect("http://127.0.0.1:1").client, name)
    assert list(inspect.signature(method).parameters.values()) == list(declared.parameters.values())[1:]
    assert inspect.signature(method).return_annotation == declared.return_annotation
    assert (method.__name__, method.__doc__) == (name, OPERATIONS[name].function.__doc__)


@pytest.mark.parametrize("name", ["__init__", "from_env", "from_config", "with_options", "close"])
def test_both_clients_are_made_in_the_same_way(name: str):
    first, second = (inspect.signature(getattr(kind, name)).parameters for kind in (Client, AsyncClient))
    assert list(first) == list(second)
    assert [(each.kind, each.default) for each in first.values()] == [
        (each.kind, each.default) for each in second.values()
    ]


@pytest.mark.parametrize(
    ("args", "arguments"),
    [
        *(((), {}), (("general",), {}), (("general", "a", "b"), {}), (("general", "a"), {"channel": "x"})),
        *((("A B", "x"), {}), (("general", "hello"), {"colour": "red"}), (("general", 5), {})),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(connect: Connect, args: Any, arguments: dict[str, Any]):
    with Scripted(replies(SENT)) as server:
        with pytest.raises((TypeError, errors.InvalidArguments)):
            connect(server.url)("send_message", *args, **arguments)
        assert server.connections == 0


BAD_URLS = ["", "x", "ftp://h", "http://", "http://h:0", "http://h:99999", "http://u:p@h", "http://h?a=b", "http://h#a",
            "http://a b", "http://h\r\nx: y", "//h", "http:h", "http://[::1", "http://h:x"]  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_bad_url_is_refused_at_once(connect: Connect, url: str):
    with pytest.raises(errors.NotConfigured):
        connect(url)


@pytest.mark.parametrize("key", [None, "", " ", "two words", "line\nbreak", "clé", "k" * 513])
def test_a_missing_or_malformed_key_is_refused_at_once_and_not_shown(connect: Connect, key: str | None):
    with pytest.raises(errors.NotConfigured) as caught:
        connect("http://127.0.0.1:1", key)
    assert len(key or "") < 2 or str(key) not in str(caught.value)


BAD_OPTIONS = [{"timeout": 0}, {"timeout": float("nan")}, {"deadline": -1}, {"deadline": "5"}, {"retries": -1},
               {"retries": 1.5}, {"session": "a b"}, {"session": "a\r\nb: c"}, {"session": "s" * 129}]  # fmt: skip


@pytest.mark.parametrize("option", BAD_OPTIONS, ids=str)
def test_a_bad_option_is_refused_at_once(connect: Connect, option: dict[str, Any]):
    driver = connect("http://127.0.0.1:1")
    with pytest.raises(errors.InvalidArguments):
        driver.with_options(**option)
    with pytest.raises(errors.InvalidArguments):
        connect("http://127.0.0.1:1", **option)


def test_a_misspelt_option_is_refused_by_name(connect: Connect):
    with pytest.raises((TypeError, errors.InvalidArguments), match="timout"):
        connect("http://127.0.0.1:1", timout=5)


@pytest.mark.parametrize(
    "url", ["http://relay.test", "http://192.0.2.1:8790/x", "http://[2001:db8::1]", "http://0.0.0.0"]
)
def test_a_key_over_plain_http_to_another_machine_is_warned_about_where_the_client_is_made(connect: Connect, url: str):
    with pytest.warns(UserWarning, match="travels unencrypted") as caught:
        connect(url)
    assert caught[0].filename.endswith("conftest.py")


@pytest.mark.parametrize("url", ["http://localhost:1", "http://127.9.9.9", "http://[::1]:1/x", "https://relay.test"])
def test_no_warning_where_nobody_can_listen(connect: Connect, url: str):
    """Warnings are errors in this suite."""
    assert connect(url).client.url == url


def test_with_options_changes_the_copy_only(connect: Connect):
    with Scripted(replies(SENT)) as server:
        driver = connect(server.url, session="one")
        other = driver.with_options(idempotency_key="mine", session="two")
        for each in (driver, other, driver, other):
            each("send_message", "general", "hello")
        first, second, third, fourth = (seen.headers for seen in server.seen)
    assert [headers["x-agent-session"] for headers in (first, second, third, fourth)] == ["one", "two"] * 2
    assert second["idempotency-key"] == fourth["idempotency-key"] == "mine"
    assert len({first["idempotency-key"], third["idempotency-key"], "mine"}) == 3


def test_with_options_changes_how_long_and_how_hard_the_copy_tries(connect: Connect):
    with Scripted(replies(OK)) as server:
        server.handlers = (lambda peer: peer.reset(),)
        driver = connect(server.url)
        driver.fails(errors.ConnectionFailed)
        driver.with_options(retries=2).fails(errors.ConnectionFailed)
        driver.fails(errors.ConnectionFailed)
        assert server.connections == 1 + 3 + 1


def test_each_client_has_a_session_label_of_its_own(connect: Connect):
    with Scripted(replies(OK)) as server:
        clients = connect(server.url), connect(server.url)
        for client in (*clients, *clients):
            client()
        labels = [seen.headers["x-agent-session"] for seen in server.seen]
    assert len(set(labels)) == 2
    assert labels[:2] == labels[2:]


def test_the_copies_of_a_client_are_one_session(connect: Connect):
    """Whichever of them is used first: an executor makes a copy for each write."""
    with Scripted(replies(OK)) as server:
        driver = connect(server.url)
        for client in (driver.with_options(timeout=1.0), driver.with_options(retries=1), driver):
            client()
        assert len({seen.headers["x-agent-session"] for seen in server.seen}) == 1


@pytest.mark.parametrize("metadata", [None, {"a": 1}, {"project": "mine"}])
@pytest.mark.parametrize("operation", ["send_message", "send_direct_message"])
def test_the_project_is_added_to_the_metadata_of_messages(connect: Connect, operation: str, metadata: Any):
    with Scripted(replies(SENT)) as server:
        given = copy.deepcopy(metadata)
        connect(server.url, project="demo")(operation, "general", "hello", metadata=given)
        assert server.seen[0].json()["metadata"] == {"project": "demo", **(metadata or {})}
        assert given == metadata


def test_no_text_of_a_client_shows_its_key_and_it_cannot_be_pickled_or_copied(connect: Connect):
    client = connect("http://127.0.0.1:1", agent="mac-demo").client
    assert KEY not in f"{client!r}{client}{vars(client)}{client.send_message}{client.credential!r}"
    assert "mac-demo" in repr(client)
    assert "127.0.0.1:1" in repr(client)
    for refused in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="from_env"):
            refused(client)


def test_a_transport_of_ones_own_is_used_and_its_failures_are_retried(connect: Connect):
    requests: list[Request] = []

    def send(request: Request) -> Response:
        requests.append(request)
        if len(requests) == 1:
            raise errors.ConnectionFailed
        return Response(200, {}, b'{"channels": []}')

    async def send_async(request: Request) -> Response:
        return send(request)

    async def close_async() -> None: ...

    own = SimpleNamespace(send=send, close=list)
    if isinstance(connect("http://127.0.0.1:1").client, AsyncClient):
        own = SimpleNamespace(send=send_async, close=close_async)
    assert connect("http://127.0.0.1:1", transport=own, retries=1)() == BOARD
    assert [(request.method, request.path) for request in requests] == [("GET", "/api/v2/board")] * 2


def test_metadata_that_fills_its_limit_is_sent_without_the_project(connect: Connect):
    full = {"a": "x" * (4096 - len('{"a":""}'))}
    with Scripted(replies(SENT)) as server:
        connect(server.url, project="demo")("send_message", "general", "hello", metadata=full)
        assert server.seen[0].json()["metadata"] == full
