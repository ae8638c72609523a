"""Who may do what: every credential against every route the relay has, and keys that stop working at once."""

from __future__ import annotations

import base64
import hashlib
import http.client
import itertools
import json
import logging
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentchat import Client
from agentchat.contract import OPERATIONS, Admission
from agentchat.identity import registration
from agentchat_relay.administration import ADMINISTRATION
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.http.app import routes
from tests.relay import database
from tests.relay.conftest import UNLIMITED, fresh

pytestmark = pytest.mark.usefixtures("impatient")
Route = tuple[str, str]
MACHINE, PRIVATE = "box", Ed25519PrivateKey.generate()
REGISTER: Route = ("POST", Admission.register.path)
REGISTER_MACHINE: Route = ("POST", "/api/v2/admin/register-machine")
SIGNED: Route = ("GET", "/api/files/signed/{token}")
_numbers = itertools.count(1)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.content)
        return found


def ask(relay: Embedded, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """One request, from an address of its own unless one is given (the relay trusts this machine as its proxy)."""
    number = next(_numbers)
    sent = {"x-forwarded-for": f"10.7.{number // 250}.{number % 250 + 1}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection(relay.url.removeprefix("http://"), timeout=30)
    with closing(connection):
        connection.request(method, path, None if body is None else json.dumps(body).encode(), sent)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def settled(relay: Embedded, verb: str, **arguments: Any) -> dict[str, Any]:
    """An operator's call over HTTP."""
    secret = relay.directory.admin_secret()
    answer = ask(relay, "POST", f"/api/v2/admin/{verb}", arguments, authorization=f"Bearer {secret}")
    assert answer.status == 200, answer
    data: dict[str, Any] = answer.body["data"]
    return data


@pytest.fixture(scope="module")
def gate() -> Iterator[Embedded]:
    with running(settings=UNLIMITED._replace(trusted_proxies=("127.0.0.1",), most_agents=10_000)) as relay:
        public = PRIVATE.public_key().public_bytes_raw().hex()
        settled(relay, "machines", name=MACHINE, public_key=public)
        yield relay


class Place:
    """What valid requests refer to: a channel with a message, a file, a group, and agents to be administered."""

    def __init__(self, relay: Embedded) -> None:
        self.relay = relay
        self.owner = fresh("owner")
        with Client(relay.url, relay.token(self.owner), retries=0) as client:
            self.message = client.send_message("general", "hello")["message"]["id"]
            self.path = client.upload_file("general", "a.txt", "content")["file"]["path"]
            self.task = client.create_task("read it", channel="general", context="all of it")["task"]["id"]
            self.lock = client.acquire_lock([fresh("lock")], lease=86_400)["lock"]["id"]
            self.interrupt = client.send_interrupt(self.target(), "stop")["interrupt"]["id"]
            client.join_group(group := fresh("group"))
            self.group = group
            self.link = client.get_file_url(self.path)["signed_url"].removeprefix(relay.url)
        with Client(relay.url, relay.token(fresh("leader"), kind="person"), retries=0) as client:
            self.pause = client.pause_agents("stop", group=group)["pause"]["id"]

    def open_task(self) -> str:
        """One that nobody has."""
        with Client(self.relay.url, self.relay.token(fresh("creator")), retries=0) as client:
            return client.create_task("read it", channel="general")["task"]["id"]

    def other_lock(self) -> str:
        """One that may be broken."""
        with Client(self.relay.url, self.relay.token(fresh("locker")), retries=0) as client:
            return client.acquire_lock([fresh("lock")])["lock"]["id"]

    def open_approval(self) -> str:
        """One that nobody decided."""
        with Client(self.relay.url, self.relay.token(fresh("asker")), retries=0) as client:
            return client.request_approval("deploy", '{"to": "prod"}')["approval"]["id"]

    def target(self) -> str:
        """An agent that may be changed or deleted."""
        self.relay.token(name := fresh("target"))
        return name


@pytest.fixture(scope="module")
def place(gate: Embedded) -> Place:
    return Place(gate)


# A request that a rightful caller would get 200 for: path (with its query) and body.
Request = tuple[str, Any]
VALID: dict[str, Callable[[Place], Request]] = {
    "check_board": lambda place: ("/api/v2/board", None),
    "list_channels": lambda place: ("/api/v2/channels", None),
    "read_messages": lambda place: ("/api/v2/messages?channel=general", None),
    "get_message": lambda place: (f"/api/v2/messages/{place.message}", None),
    "read_thread": lambda place: (f"/api/v2/messages/{place.message}/thread", None),
    "search_messages": lambda place: ("/api/v2/search?q=hello", None),
    "send_message": lambda place: ("/api/v2/messages", {"channel": "general", "content": "x"}),
    "send_direct_message": lambda place: ("/api/v2/dm", {"target_agent": place.owner, "content": "x"}),
    "send_to_many": lambda place: ("/api/v2/dm/many", {"recipients": [place.owner, place.group], "content": "x"}),
    "list_sent": lambda place: ("/api/v2/sent", None),
    "list_groups": lambda place: (f"/api/v2/groups?group={place.group}", None),
    "join_group": lambda place: ("/api/v2/groups/join", {"group": place.group}),
    "leave_group": lambda place: ("/api/v2/groups/leave", {"group": place.group}),
    "pin_message": lambda place: (f"/api/v2/messages/{place.message}/pin", {}),
    "unpin_message": lambda place: (f"/api/v2/messages/{place.message}/unpin", {}),
    "list_pinned_messages": lambda place: ("/api/v2/channels/pins?channel=general", None),
    "check_mentions": lambda place: ("/api/v2/mentions", None),
    "mark_mentions_read": lambda place: ("/api/v2/mentions", {"mention_ids": [place.message]}),
    "check_inbox": lambda place: ("/api/v2/inbox/check", {}),
    "peek_inbox": lambda place: ("/api/v2/inbox", None),
    "claim_items": lambda place: ("/api/v2/inbox/claim", {}),
    "acknowledge_items": lambda place: ("/api/v2/inbox/acknowledge", {"claim_id": place.message}),
    "return_items": lambda place: ("/api/v2/inbox/return", {"claim_id": place.message}),
    "renew_claim": lambda place: ("/api/v2/inbox/renew", {"claim_id": place.message}),
    "list_dead_letters": lambda place: ("/api/v2/inbox/dead", None),
    "requeue_items": lambda place: ("/api/v2/inbox/requeue", {"item_ids": [place.message]}),
    "get_receipts": lambda place: (f"/api/v2/messages/{place.message}/receipts", None),
    "list_events": lambda place: ("/api/v2/events", None),
    "wait_for_reply": lambda place: (f"/api/v2/messages/{place.message}/reply?wait=0", None),
    "wait_for_message": lambda place: ("/api/v2/next?wait=0", None),
    "get_briefing": lambda place: ("/api/v2/briefing", None),
    "create_task": lambda place: ("/api/v2/tasks", {"title": "read it", "channel": "general"}),
    "list_tasks": lambda place: ("/api/v2/tasks?channel=general", None),
    "list_tasks for_me": lambda place: ("/api/v2/tasks?for_me=1", None),
    "check_work": lambda place: ("/api/v2/work", None),
    "get_task": lambda place: (f"/api/v2/tasks/{place.task}", None),
    "read_task_context": lambda place: (f"/api/v2/tasks/{place.task}/context", None),
    "claim_task": lambda place: (f"/api/v2/tasks/{place.open_task()}/claim", {}),
    "decline_task": lambda place: (f"/api/v2/tasks/{place.task}/decline", {"reason": "x"}),
    "renew_task": lambda place: (f"/api/v2/tasks/{place.task}/renew", {}),
    "report_progress": lambda place: (f"/api/v2/tasks/{place.task}/progress", {"note": "x"}),
    "return_task": lambda place: (f"/api/v2/tasks/{place.task}/return", {}),
    "complete_task": lambda place: (f"/api/v2/tasks/{place.task}/complete", {"result": "x"}),
    "fail_task": lambda place: (f"/api/v2/tasks/{place.task}/fail", {"reason": "x"}),
    "cancel_task": lambda place: (f"/api/v2/tasks/{place.task}/cancel", {}),
    "offer_task": lambda place: (f"/api/v2/tasks/{place.task}/offer", {"target_agent": place.owner}),
    "acquire_lock": lambda place: ("/api/v2/locks", {"names": [fresh("lock")]}),
    "list_locks": lambda place: ("/api/v2/locks", None),
    "renew_lock": lambda place: (f"/api/v2/locks/{place.lock}/renew", {}),
    "release_lock": lambda place: (f"/api/v2/locks/{place.lock}/release", {}),
    "send_interrupt": lambda place: ("/api/v2/interrupts", {"target_agent": place.owner, "reason": "x"}),
    "list_interrupts": lambda place: ("/api/v2/interrupts", None),
    "list_interrupts of a pause": lambda place: (f"/api/v2/interrupts?pause_id={place.pause}", None),
    "get_interrupt": lambda place: (f"/api/v2/interrupts/{place.interrupt}", None),
    "acknowledge_interrupt": lambda place: (f"/api/v2/interrupts/{place.interrupt}/acknowledge", {}),
    "withdraw_interrupt": lambda place: (f"/api/v2/interrupts/{place.interrupt}/withdraw", {}),
    "pause_agents": lambda place: ("/api/v2/pauses", {"reason": "x", "group": place.group}),
    "list_pauses": lambda place: ("/api/v2/pauses", None),
    "resume_agents": lambda place: (f"/api/v2/pauses/{place.pause}/resume", {}),
    "request_approval": lambda place: ("/api/v2/approvals", {"tool_name": "deploy", "arguments": "{}"}),
    "list_approvals": lambda place: ("/api/v2/approvals", None),
    "get_approval": lambda place: (f"/api/v2/approvals/{place.open_approval()}?wait=0", None),
    "decide_approval": lambda place: (f"/api/v2/approvals/{place.open_approval()}/decide", {"verdict": "allow"}),
    "dismiss_approval": lambda place: (f"/api/v2/approvals/{place.open_approval()}/dismiss", {}),
    "withdraw_approval": lambda place: (f"/api/v2/approvals/{place.open_approval()}/withdraw", {}),
    "act_on_task": lambda place: (f"/api/v2/tasks/{place.open_task()}", {"action": "claim"}),
    "mark_channel_read": lambda place: ("/api/v2/channels/read", {"channel": "general"}),
    "list_readers": lambda place: ("/api/v2/channels/read?channel=general", None),
    "upload_file": lambda place: ("/api/files", {"channel": "general", "filename": "b.txt", "content": "x"}),
    "download_file": lambda place: (f"/api/files?path={place.path}", None),
    "get_file_url": lambda place: (f"/api/files?url=true&path={place.path}", None),
    "list_files": lambda place: ("/api/files", {"folder": "general"}),
    "find_agents": lambda place: ("/api/v2/agents", None),
    "set_card": lambda place: ("/api/v2/agents/card", {"card": {"role": "tester"}}),
    "machine_add": lambda place: ("/api/v2/admin/machines", {"name": fresh("box"), "public_key": "0" * 64}),
    "machine_list": lambda place: ("/api/v2/admin/machines", None),
    "machine_revoke": lambda place: ("/api/v2/admin/machines/revoke", {"name": _new_machine(place.relay)[0]}),
    "agent_token": lambda place: ("/api/v2/admin/agents/token", {"name": fresh()}),
    "agent_list": lambda place: ("/api/v2/admin/agents", None),
    "agent_grant": lambda place: ("/api/v2/admin/agents/grant", {"name": place.target(), "role": "reviewer"}),
    "agent_deactivate": lambda place: ("/api/v2/admin/agents/deactivate", {"name": place.target()}),
    "agent_update": lambda place: ("/api/v2/admin/agents/update", {"name": place.target(), "kind": "person"}),
    "agent_delete": lambda place: ("/api/v2/admin/agents/delete", {"name": place.target()}),
    "space_add": lambda place: ("/api/v2/admin/spaces", {"name": fresh("space")}),
    "space_update": lambda place: ("/api/v2/admin/spaces/update", {"name": "main", "retention": 0}),
    "space_list": lambda place: ("/api/v2/admin/spaces", None),
    "channel_list": lambda place: ("/api/v2/admin/channels", None),
    "channel_update": lambda place: ("/api/v2/admin/channels/update", {"name": "general", "as_space": True}),
    "letter_list": lambda place: (f"/api/v2/admin/letters?name={place.owner}", None),
    "letter_requeue": lambda place: ("/api/v2/admin/letters/requeue", {"name": place.owner, "item_id": place.message}),
    "audit": lambda place: (f"/api/v2/admin/audit?id={place.task}", None),
    "lock_list": lambda place: ("/api/v2/admin/locks", None),
    "lock_break": lambda place: ("/api/v2/admin/locks/break", {"id": place.other_lock()}),
    "stats": lambda place: ("/api/v2/admin/stats", None),
    "metrics": lambda place: ("/metrics", None),
    "openapi": lambda place: ("/openapi.json", None),
    "root": lambda place: ("/", None),
    "health": lambda place: ("/health", None),
    "signed link": lambda place: (place.link, None),
    "register": lambda place: (REGISTER[1], _signed(place.relay)),
    "register_machine": lambda place: (
        REGISTER_MACHINE[1],
        {"machine_name": fresh("box"), "public_key": "0" * 64, "admin_secret": place.relay.directory.admin_secret()},
    ),
}


# What a rightful caller is told instead of 200, since a claim, an item, a task or a message is its owner's alone; and
# what those are told who may lead or review.
REFUSED = {
    "acknowledge_items": 409, "return_items": 409, "renew_claim": 409, "requeue_items": 404, "get_receipts": 403,
    "letter_requeue": 404, "decline_task": 403, "renew_task": 409, "report_progress": 409, "return_task": 409,
    "complete_task": 409, "fail_task": 409, "cancel_task": 403, "offer_task": 403,
    "renew_lock": 403, "release_lock": 403, "get_interrupt": 404, "acknowledge_interrupt": 404,
    "withdraw_interrupt": 404, "list_interrupts of a pause": 403, "pause_agents": 403, "resume_agents": 403,
    "get_approval": 404, "decide_approval": 404, "dismiss_approval": 404, "withdraw_approval": 404,
}  # fmt: skip
LEADS = {"list_interrupts of a pause": 200, "pause_agents": 200, "resume_agents": 200}
REVIEWS = {"get_approval": 200, "decide_approval": 200, "dismiss_approval": 200, "withdraw_approval": 403}


def _new_machine(relay: Embedded) -> tuple[str, Ed25519PrivateKey]:
    private, box = Ed25519PrivateKey.generate(), fresh("box")
    settled(relay, "machines", name=box, public_key=private.public_key().public_bytes_raw().hex())
    return box, private


def _signed(relay: Embedded) -> dict[str, str]:
    """A registration of a machine that has registered nobody yet: each may do so five times a minute."""
    box, private = _new_machine(relay)
    return registration(box, f"{box}-a", secrets.token_hex(32), private)


OPEN = {"root": ("GET", "/"), "health": ("GET", "/health"), "openapi": ("GET", "/openapi.json"), "signed link": SIGNED}
OF_BODY = {"register": REGISTER, "register_machine": REGISTER_MACHINE}  # the body carries what admits it
OF_AGENTS = {name: (operation.verb, operation.path.partition("?")[0]) for name, operation in OPERATIONS.items()}
OF_AGENTS["list_tasks for_me"] = ("GET", "/api/v2/tasks")  # what other clients ask for besides
OF_AGENTS["list_interrupts of a pause"] = ("GET", "/api/v2/interrupts")
OF_AGENTS["act_on_task"] = ("POST", "/api/v2/tasks/{task_id}")
OF_OPERATORS = {name: (operation.verb, operation.path) for name, operation in ADMINISTRATION.items()}
OF_OPERATORS["metrics"] = ("GET", "/metrics")  # this relay has a proxy, so that its own address proves nothing
ALL: dict[str, Route] = {**OPEN, **OF_BODY, **OF_AGENTS, **OF_OPERATORS}


def test_every_route_of_the_relay_is_in_the_matrix(gate: Embedded) -> None:
    assert gate.relay is not None
    assert set(routes(gate.relay.parts)) == set(ALL.values())
    assert set(VALID) == set(ALL)


# The credentials. Each gives the headers of a request, whose routes they open, and what it is told besides others.

Headers = dict[str, str]


class Credential(NamedTuple):
    headers: Callable[[Place], Headers]
    opens: dict[str, Route]
    told: Mapping[str, int] = MappingProxyType({})


def _agent(*roles: str, kind: str = "agent") -> Callable[[Place], Headers]:
    def headers(place: Place) -> Headers:
        key = place.relay.token(name := fresh(), kind=kind)
        for role in roles:
            settled(place.relay, "agents/grant", name=name, role=role)
        return {"x-agent-api-key": key}

    return headers


def _deactivated(place: Place) -> Headers:
    key = place.relay.token(name := fresh())
    settled(place.relay, "agents/deactivate", name=name)
    return {"x-agent-api-key": key}


def _replaced(place: Place) -> Headers:
    key = place.relay.token(name := fresh())
    place.relay.token(name)
    return {"x-agent-api-key": key}


def _deleted(place: Place) -> Headers:
    key = place.relay.token(name := fresh())
    settled(place.relay, "agents/delete", name=name)
    return {"x-agent-api-key": key}


def _of_revoked_machine(place: Place) -> Headers:
    box, _, key = _registered(place.relay)
    settled(place.relay, "machines/revoke", name=box)
    return {"x-agent-api-key": key}


def _registered(relay: Embedded) -> tuple[str, Ed25519PrivateKey, str]:
    """A machine of its own, and the key of its agent `<machine>-a`."""
    (box, private), key = _new_machine(relay), secrets.token_hex(32)
    assert ask(relay, *REGISTER, registration(box, f"{box}-a", key, private)).status == 200
    return box, private, key


def _bearer(place: Place) -> Headers:
    return {"authorization": f"Bearer {place.relay.directory.admin_secret()}"}


def _signature(place: Place) -> Headers:
    return {"x-agent-api-key": registration(MACHINE, fresh(), "k" * 64, PRIVATE)["signature"]}


def _key_as_bearer(place: Place) -> Headers:
    return {"authorization": f"Bearer {place.relay.token(fresh())}"}


CREDENTIALS: dict[str, Credential] = {
    "none": Credential(lambda place: {}, {}),
    "an agent's key": Credential(_agent(), OF_AGENTS),
    "a person's key": Credential(_agent(kind="person"), OF_AGENTS, LEADS),
    "a reviewer's key": Credential(_agent("reviewer"), OF_AGENTS, REVIEWS),
    "the key of an agent with the role admin": Credential(_agent("admin"), OF_AGENTS, LEADS),
    "the key of an agent with both roles": Credential(_agent("admin", "reviewer"), OF_AGENTS, LEADS | REVIEWS),
    "an empty key": Credential(lambda place: {"x-agent-api-key": ""}, {}),
    "a wrong key": Credential(lambda place: {"x-agent-api-key": secrets.token_hex(32)}, {}),
    "a key of odd bytes": Credential(lambda place: {"x-agent-api-key": "ü' OR 1=1 --"}, {}),
    "a very long key": Credential(lambda place: {"x-agent-api-key": "k" * 8000}, {}),
    "a deactivated agent's key": Credential(_deactivated, {}),
    "a replaced key": Credential(_replaced, {}),
    "a deleted agent's key": Credential(_deleted, {}),
    "the key of an agent whose machine was revoked": Credential(_of_revoked_machine, {}),
    "an agent's key as bearer": Credential(_key_as_bearer, {}),
    "the admin credential": Credential(_bearer, OF_OPERATORS),
    "the admin credential, other case": Credential(
        lambda place: {"authorization": _bearer(place)["authorization"].replace("Bearer", "bearer")}, OF_OPERATORS
    ),
    "the admin credential as key": Credential(
        lambda place: {"x-agent-api-key": place.relay.directory.admin_secret()}, {}
    ),
    "the admin credential as basic": Credential(
        lambda place: {
            "authorization": "Basic " + base64.b64encode(place.relay.directory.admin_secret().encode()).decode()
        },
        {},
    ),
    "a bearer of nothing": Credential(lambda place: {"authorization": "Bearer "}, {}),
    "a wrong bearer": Credential(lambda place: {"authorization": "Bearer " + "0" * 64}, {}),
    "a bearer of odd bytes": Credential(lambda place: {"authorization": "Bearer ü€".encode().decode("latin-1")}, {}),
    "a machine's signature": Credential(_signature, {}),
    "a machine's public key": Credential(
        lambda place: {"x-agent-api-key": PRIVATE.public_key().public_bytes_raw().hex()}, {}
    ),
    "a signed link's token": Credential(lambda place: {"x-agent-api-key": place.link.rpartition("/")[2]}, {}),
    "both an agent's key and the admin credential": Credential(
        lambda place: {**_agent()(place), **_bearer(place)}, {**OF_AGENTS, **OF_OPERATORS}
    ),
}


@pytest.mark.parametrize("kind", CREDENTIALS)
def test_a_credential_opens_its_routes_and_no_other(gate: Embedded, place: Place, kind: str) -> None:
    credential = CREDENTIALS[kind]
    headers = credential.headers(place)
    secrets_in = [word for value in headers.values() for word in value.split() if len(word) > 6]
    opened = {**OPEN, **OF_BODY, **credential.opens}
    told = {**REFUSED, **credential.told}
    wanted = {name: told.get(name, 200) if name in opened else 401 for name in ALL}
    found = {}
    for name, (method, _) in ALL.items():
        path, body = VALID[name](place)
        answer = ask(gate, method, path, body, **headers)
        found[name] = answer.status
        if answer.status == 401:
            assert set(answer.body) >= {"error", "code"}, "errors are never enveloped"
            assert answer.body["code"] == "unauthorized"
            assert not any(secret in answer.content.decode() for secret in secrets_in)
    assert found == wanted


def test_a_refused_call_changes_nothing(gate: Embedded, place: Place) -> None:
    def state() -> dict[str, list[Any]]:
        counts = {"allowances", "attempts"}  # of calls, the refused ones too
        return {table: database.ask(gate, f"SELECT * FROM {table}") for table in {*database.tables(gate)} - counts}

    requests = [(method, *VALID[name](place)) for name, (method, _) in {**OF_AGENTS, **OF_OPERATORS}.items()]
    before = state()
    for headers in ({}, {"x-agent-api-key": "0" * 64}, {"authorization": "Bearer " + "0" * 64}):
        assert {ask(gate, *request, **headers).status for request in requests} == {401}
    assert state() == before


@pytest.mark.parametrize("name", [*OF_AGENTS, *OF_OPERATORS])
def test_the_credential_is_checked_before_the_arguments(gate: Embedded, name: str) -> None:
    method, path = ALL[name]
    path = re.sub(r"\{\w+\}", "no-uuid", path)
    answer = ask(gate, method, path, {"channel": 5})
    assert answer.status == 401


def test_a_file_path_that_climbs_is_400_before_the_key_is_looked_at(gate: Embedded) -> None:
    for path in ("../x", "/etc/passwd", "general/../../x", "general%00x"):
        assert ask(gate, "GET", f"/api/files?path={path}").status == 400


@pytest.mark.parametrize("name", ALL)
def test_a_route_takes_its_own_methods_only(gate: Embedded, place: Place, name: str) -> None:
    path, _ = VALID[name](place)
    known = {method for method, route in ALL.values() if route == ALL[name][1]}
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH"} - known:
        answer = ask(gate, method, path, {})
        assert answer.status == 405
        assert set(answer.headers["allow"].split(", ")) >= known
        assert answer.body["code"] == "unknown_operation"


@pytest.mark.parametrize("path", ["/api/v2", "/api/v2/task", "/api/v2/works", "/mcp", "/admin", "/api/v2/board/", "//"])
def test_unknown_routes_are_404_for_everybody(gate: Embedded, place: Place, path: str) -> None:
    for headers in ({}, _agent()(place), _bearer(place)):
        answer = ask(gate, "GET", path, **headers)
        assert (answer.status, answer.body["code"]) == (404, "unknown_operation")


# Identity comes from the key


def test_what_a_body_or_header_says_about_the_caller_is_not_believed(gate: Embedded) -> None:
    victim = fresh()
    gate.token(victim)
    key = gate.token(name := fresh())
    claims = {"from": victim, "author": victim, "author_name": victim, "agent": victim, "agent_name": victim}
    claims |= {"author_agent_id": victim, "space": "other", "roles": "admin"}
    answer = ask(
        gate, "POST", "/api/v2/messages", {"channel": "general", "content": "x", **claims}, x_agent_api_key=key,
        x_agent_name=victim, x_agent_session=victim,
    )  # fmt: skip
    assert answer.body["data"]["message"]["author_name"] == name


def test_the_raw_bytes_of_a_key_are_no_key(gate: Embedded) -> None:
    """What is hashed is the text; neither its bytes, nor its hash, nor another spelling of it is accepted."""
    key = gate.token(fresh())
    assert ask(gate, "GET", "/api/v2/board", x_agent_api_key=key).status == 200
    raw = "".join(chr(byte) for byte in bytes.fromhex(key) if 32 < byte != 127)  # as far as a header can carry them
    for other in (hashlib.sha256(key.encode()).hexdigest(), key[:-1], key + "0", f"0{key}", key.upper() + key, raw):
        assert ask(gate, "GET", "/api/v2/board", x_agent_api_key=other).status == 401


# Signed links


@pytest.mark.parametrize("change", ["first", "last", "shorter", "longer", "other"])
def test_a_link_that_was_changed_opens_nothing(gate: Embedded, place: Place, change: str) -> None:
    prefix, _, token = place.link.rpartition("/")
    swap = {"A": "B"}.get
    changed = {
        "first": swap(token[0], "A") + token[1:],
        "last": token[:-1] + swap(token[-1], "A"),
        "shorter": token[:-4],
        "longer": token + "AAAA",
        "other": "A" * len(token),
    }[change]
    for headers in ({}, _agent()(place), _bearer(place)):
        answer = ask(gate, "GET", f"{prefix}/{changed}", **headers)
        assert (answer.status, answer.body["code"]) == (403, "forbidden")


def test_a_link_opens_its_file_only(gate: Embedded, place: Place) -> None:
    answer = ask(gate, "GET", place.link)
    assert (answer.status, answer.content) == (200, b"content")
    token = place.link.rpartition("/")[2]
    for path in (f"/api/files?path={place.path}&token={token}", f"/api/v2/messages?channel=general&token={token}"):
        assert ask(gate, "GET", path).status == 401


# Keys that stop working at once


def admin_elsewhere(relay: Embedded, *words: str) -> None:
    """`agentchat admin` in a process of its own."""
    store = ("--store", url) if (url := database.url_of(relay)) else ()
    command = [sys.executable, "-m", "agentchat", "admin", "--data", relay.directory.path, *store, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done


BY_COMMAND = ["agent deactivate", "agent update --no-active", "agent token", "agent delete", "machine revoke"]
BY_HTTP = ["agents/deactivate", "agents/token", "agents/delete", "machines/revoke"]


@pytest.mark.parametrize("how", [*BY_COMMAND, *BY_HTTP, "registration"])
def test_a_revoked_key_fails_on_the_very_next_request(gate: Embedded, how: str) -> None:
    box, private, key = _registered(gate)
    name = box if how.startswith("machine") else f"{box}-a"
    connection = http.client.HTTPConnection(gate.url.removeprefix("http://"), timeout=30)
    with closing(connection):

        def board() -> int:
            connection.request("GET", "/api/v2/board", headers={"x-agent-api-key": key})
            response = connection.getresponse()
            response.read()
            return response.status

        assert [board() for _ in range(3)] == [200] * 3, "the key is well known to the relay by now"
        if how in BY_COMMAND:
            admin_elsewhere(gate, *how.split(), name)
        elif how in BY_HTTP:
            settled(gate, how, name=name)
        else:
            assert ask(gate, *REGISTER, registration(box, name, secrets.token_hex(32), private)).status == 200
        assert [board() for _ in range(2)] == [401] * 2, "on the very connection that was open"


def test_a_key_that_is_given_back_works_at_once(gate: Embedded) -> None:
    key = gate.token(name := fresh())
    for active in (False, True, False, True):
        settled(gate, "agents/update", name=name, active=active)
        assert ask(gate, "GET", "/api/v2/board", x_agent_api_key=key).status == (200 if active else 401)


def test_roles_and_kinds_do_not_disturb_a_key(gate: Embedded) -> None:
    key = gate.token(name := fresh())
    for role, revoke in (("admin", False), ("reviewer", False), ("admin", True)):
        settled(gate, "agents/grant", name=name, role=role, revoke=revoke)
        assert ask(gate, "GET", "/api/v2/board", x_agent_api_key=key).status == 200


# The admin credential


def test_wrong_admin_credentials_are_limited_by_address(gate: Embedded) -> None:
    address = {"x_forwarded_for": "10.200.0.1"}
    wrong = [
        ask(gate, "GET", "/api/v2/admin/agents", authorization="Bearer " + secrets.token_hex(32), **address)
        for _ in range(14)
    ]
    assert [answer.status for answer in wrong[:10]] == [401] * 10
    assert {answer.status for answer in wrong[10:]} == {429}
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in wrong[10:])
    secret = gate.directory.admin_secret()
    other = ask(gate, "GET", "/api/v2/admin/agents", authorization=f"Bearer {secret}", x_forwarded_for="10.200.0.2")
    assert other.status == 200, "another address is not concerned"


def test_both_doors_of_the_operator_share_one_count(gate: Embedded) -> None:
    address = {"x_forwarded_for": "10.200.0.3"}
    body = {"machine_name": "any", "public_key": "0" * 64, "admin_secret": "wrong"}
    for _ in range(5):
        assert ask(gate, "GET", "/api/v2/admin/spaces", authorization="Bearer wrong", **address).status == 401
        assert ask(gate, *REGISTER_MACHINE, body, **address).status == 403
    assert ask(gate, "GET", "/api/v2/admin/spaces", authorization="Bearer wrong", **address).status == 429
    assert ask(gate, *REGISTER_MACHINE, body, **address).status == 429


def test_right_credentials_and_missing_ones_are_no_attempts(gate: Embedded, place: Place) -> None:
    address = {"x_forwarded_for": "10.200.0.4"}
    for _ in range(30):
        assert ask(gate, "GET", "/api/v2/admin/spaces", **address).status == 401
        assert ask(gate, "GET", "/api/v2/admin/spaces", **_bearer(place), **address).status == 200


def test_a_rotated_credential_works_at_once_and_the_old_one_no_more() -> None:
    with running(settings=UNLIMITED._replace(trusted_proxies=("127.0.0.1",))) as relay:
        for _ in range(2):
            old = relay.directory.admin_secret()
            admin_elsewhere(relay, "credential", "rotate")
            new = relay.directory.admin_secret()
            assert new != old
            for secret, status in ((old, 401), (new, 200), (old, 401), (new, 200)):
                assert ask(relay, "GET", "/api/v2/admin/spaces", authorization=f"Bearer {secret}").status == status


# A fault is no refusal, and nothing secret is ever written down


def test_a_fault_while_a_key_is_looked_up_is_never_401(caplog: pytest.LogCaptureFixture) -> None:
    """401 would make every client register again; and what is logged about the fault shows no key."""
    with running(settings=UNLIMITED._replace(trusted_proxies=("127.0.0.1",))) as relay:
        key = relay.token("mac-ann")
        private = Ed25519PrivateKey.generate()
        settled(relay, "machines", name=MACHINE, public_key=private.public_key().public_bytes_raw().hex())
        body = registration(MACHINE, "mac-bob", secrets.token_hex(32), private)
        with caplog.at_level(logging.DEBUG):
            database.ask(relay, "ALTER TABLE agents RENAME TO hidden")
            board = ask(relay, "GET", "/api/v2/board", x_agent_api_key=key)
            unknown = ask(relay, "GET", "/api/v2/board", x_agent_api_key="0" * 64)
            registering = ask(relay, *REGISTER, body)
            database.ask(relay, "ALTER TABLE hidden RENAME TO agents")
        for answer in (board, unknown, registering):
            assert 500 <= answer.status < 600, answer
            assert set(answer.body) == {"error", "code"}
            assert "hidden" not in answer.body["error"]
            assert "agents" not in answer.body["error"]
        assert ask(relay, "GET", "/api/v2/board", x_agent_api_key=key).status == 200
        assert caplog.records, "the operator is told"
        if board.status == 500:  # for whatever else a fault means, the log has a line now and then
            assert board.headers["x-request-id"] in caplog.text, "and can find the request"
        for secret in (key, body["signature"], body["derived_key_hash"], relay.directory.admin_secret()):
            assert secret not in caplog.text


def test_no_secret_is_in_any_log_or_refusal(gate: Embedded, place: Place, caplog: pytest.LogCaptureFixture) -> None:
    key = gate.token(name := fresh())
    dead = gate.token(gone := fresh())
    settled(gate, "agents/deactivate", name=gone)
    secret, signed = gate.directory.admin_secret(), _signed(gate)
    forged = {**signed, "agent_name": fresh()}
    with caplog.at_level(logging.DEBUG):
        answers = [
            ask(gate, "GET", "/api/v2/board", x_agent_api_key=dead),
            ask(gate, "POST", "/api/v2/messages", {"channel": "general"}, x_agent_api_key=key),
            ask(gate, "POST", "/api/v2/messages", {"channel": key, "content": 5}, x_agent_api_key=dead),
            ask(gate, "GET", "/nowhere", x_agent_api_key=key),
            ask(gate, "PATCH", "/api/v2/board", x_agent_api_key=key),
            ask(gate, "GET", "/api/v2/admin/agents", authorization=f"Bearer {key}"),
            ask(gate, "POST", "/api/v2/admin/agents/grant", {"name": name}, authorization=f"Bearer {secret}"),
            ask(gate, *REGISTER_MACHINE, {"machine_name": "m", "public_key": "x", "admin_secret": secret}),
            ask(gate, *REGISTER_MACHINE, {"machine_name": "m", "public_key": "0" * 64, "admin_secret": key}),
            ask(gate, *REGISTER, forged),
        ]
        listed = ask(gate, "GET", "/api/v2/admin/agents", authorization=f"Bearer {secret}")
        found = ask(gate, "GET", "/api/v2/agents", x_agent_api_key=key)
    assert {answer.status for answer in answers} <= {400, 401, 403, 404, 405}
    told = caplog.text + "".join(answer.content.decode() for answer in (*answers, listed, found))
    for hidden in (key, dead, secret, signed["signature"], signed["derived_key_hash"]):
        assert hidden not in told


def test_no_key_is_stored_as_it_is(gate: Embedded) -> None:
    key = gate.token(fresh())
    with Client(gate.url, key, retries=0) as client:
        client.send_message("general", "hello")
    secret = gate.directory.admin_secret().encode()
    stored = str([database.ask(gate, f"SELECT * FROM {table}") for table in database.tables(gate)])
    assert sha256(key.encode()).hexdigest() in stored
    assert key not in stored and secret.decode() not in stored
    for file in Path(gate.directory.path).rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert key.encode() not in content, file
            assert secret not in content or file.name == "admin.key", file
