"""Every route over a real socket: whatever comes in, a clear answer goes out, and never one that blames the relay."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat._exchange import IDEMPOTENCY_HEADER, KEY_HEADER
from agentchat._operation import Operation, Parameter
from agentchat.contract import OPERATIONS, Admission
from agentchat.contract._forms import NAME_FORM
from agentchat.contract._locks import LOCK_NAME
from agentchat.identity import signed_bytes
from agentchat_relay.administration import ADMINISTRATION
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.settings import Settings
from tests.relay.conftest import fresh
from tests.relay.things import claimed, dead_letter, filled, lock_of, path_of
from tests.relay.wires import Answer, Wire, check_all_headers, check_headers, check_refusal

pytestmark = pytest.mark.usefixtures("impatient")
UNLIMITED = Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)
ID = "01890000-0000-7000-8000-000000000000"  # of nothing
MIB = 1 << 20


@pytest.fixture(scope="module")
def live() -> Iterator[Embedded]:
    with running(settings=UNLIMITED) as relay:
        yield relay


@pytest.fixture(scope="module")
def world(live: Embedded) -> Iterator[SimpleNamespace]:
    """Two agents, an operator and a stranger, each with a connection; a message and a file."""
    made = SimpleNamespace(url=live.url)
    made.agent = Wire(live.url, **{KEY_HEADER: live.token("mac-http")})
    made.token = live.token
    made.other = Wire(live.url, **{KEY_HEADER: live.token("mac-other")})
    made.operator = Wire(live.url, authorization=f"Bearer {live.directory.admin_secret()}")
    made.stranger = Wire(live.url)
    made.secret = live.directory.admin_secret()
    for role in ("admin", "reviewer"):
        granted = {"name": "mac-http", "role": role}
        assert made.operator.send("POST", "/api/v2/admin/agents/grant", granted).status == 200
    made.other.send("POST", "/api/v2/groups/join", {"group": "crew"})
    sent = made.other.send("POST", "/api/v2/messages", {"channel": "general", "content": "hello @mac-http"})
    made.message = sent.data["message"]["id"]
    upload = made.agent.send("PUT", "/api/files", {"channel": "general", "filename": "a.txt", "content": "abc"})
    made.own = made.agent.send("POST", "/api/v2/messages", {"channel": "general", "content": "mine"}).data["message"][
        "id"
    ]
    made.path = upload.json()["file"]["path"]
    yield made
    for wire in (made.agent, made.other, made.operator, made.stranger):
        wire.close()


@pytest.fixture
def touchy() -> Iterator[Embedded]:
    """A relay for tests that use up the attempts of this address."""
    with running(settings=UNLIMITED) as relay:
        yield relay


@pytest.fixture
def caller(live: Embedded) -> Iterator[Wire]:
    """A new agent."""
    wire = Wire(live.url, **{KEY_HEADER: live.token(f"mac-{secrets.token_hex(4)}")})
    yield wire
    wire.close()


# Every route that takes JSON, from the contract

REGISTER, REGISTER_MACHINE = "/api/v2/register", "/api/v2/admin/register-machine"
ACT_ON_TASK = "/api/v2/tasks/{task_id}"
TAKING_JSON = {
    **{name: one for name, one in (OPERATIONS | ADMINISTRATION).items() if one.verb != "GET"},
    "register": Admission.register,
}
QUERIES = {name: one for name, one in (OPERATIONS | ADMINISTRATION).items() if one.verb == "GET"}
ALL = {**OPERATIONS, **ADMINISTRATION, "register": Admission.register}


def wire_for(world: SimpleNamespace, name: str) -> Wire:
    return world.operator if name in ADMINISTRATION else world.stranger if name == "register" else world.agent


def value_of(world: SimpleNamespace, parameter: Parameter) -> Any:
    """A value that fits."""
    known = {
        "target_agent": "mac-other",
        "recipients": ["mac-other"],
        "path": world.path,
        "folder": "general",
        "public_key": "0" * 64,
        "arguments": '{"to": "prod"}',
    }
    if parameter.name == "names":
        return [fresh("lock")]
    if parameter.name == "id" and parameter.required:
        return lock_of(world.agent)
    if parameter.name in known:
        return known[parameter.name]
    if parameter.name == "name" and parameter.form == NAME_FORM:
        world.token(name := f"mac-{secrets.token_hex(4)}")
        return name
    if parameter.name == "claim_id":
        return claimed(world)["claim_id"]
    if parameter.name == "item_ids" and parameter.required:
        return [dead_letter(world)]
    if parameter.choices:
        return parameter.choices[0]
    match parameter.kind:
        case "integer":
            return parameter.limit.low if parameter.limit else 1
        case "boolean":
            return True
        case "array":
            return [ID] if "0-9a-f" in str(parameter.item_form) else ["tag"]
        case "object":
            return {"a": 1}
    pattern = parameter.form.pattern if parameter.form else ""
    if "T[0-9]" in pattern:
        return datetime.now(UTC).isoformat()
    if "{32}" in pattern or "{64}" in pattern:
        return "0" * (32 if "{32}" in pattern else 64)
    return ID if "{12}" in pattern else "general"


def body_of(operation: Operation[..., Any], values: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name, value in values.items():
        *outer, last = operation.parameters[name].wire
        target = body
        for step in outer:
            target = target.setdefault(step, {})
        target[last] = value
    return body


def query_of(operation: Operation[..., Any], values: dict[str, Any]) -> str:
    fixed = operation.path.partition("?")[2]
    members = urlencode({operation.parameters[name].wire[-1]: value for name, value in values.items()})
    return "&".join(part for part in (fixed, members) if part)


def required(world: SimpleNamespace, operation: Operation[..., Any]) -> dict[str, Any]:
    found = {
        name: value_of(world, one)
        for name, one in operation.parameters.items()
        if one.required and f"{{{name}}}" not in operation.path
    }
    besides = {"create_task": {"channel": "general"}, "pause_agents": {"group": "crew", "expires_in": 5}}
    return {**found, **besides.get(operation.name, {})}


# JSON of every wrong shape

DEEP = 100_000
MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n",
    "array": b"[]",
    "array of objects": b'[{"channel": "general", "content": "x"}]',
    "string": b'"text"',
    "number": b"5",
    "negative zero": b"-0",
    "true": b"true",
    "null": b"null",
    "nested arrays": b"[" * DEEP + b"]" * DEEP,
    "nested arrays, open": b"[" * DEEP,
    "nested objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "nested in a member": b'{"channel":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "nested unknown member": b'{"unknown":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "NaN": b"NaN",
    "NaN inside": b'{"channel": NaN}',
    "infinity": b'{"channel": -Infinity}',
    "invalid UTF-8": b'{"channel": "\xff\xfe", "content": "x"}',
    "invalid UTF-8 name": b'{"\xc3\x28": 1}',
    "overlong UTF-8": b'{"channel": "\xc0\xaf"}',
    "raw surrogate": b'{"channel": "\xed\xa0\x80"}',
    "lone high surrogate": b'{"channel": "\\ud800"}',
    "lone low surrogate": b'{"channel": "\\udc00", "name": "\\udc00", "content": "\\udc00"}',
    "swapped surrogates": b'{"channel": "\\udc00\\ud800"}',
    "raw NUL": b'{"channel": "a\x00b"}',
    "only NUL": b"\x00" * 100,
    "raw newline": b'{"channel": "a\nb"}',
    "byte order mark": b'\xef\xbb\xbf{"channel": "general"}',
    "UTF-16": '{"channel": "general"}'.encode("utf-16"),
    "UTF-32": '{"channel": "general"}'.encode("utf-32"),
    "trailing comma": b'{"channel": "general",}',
    "single quotes": b"{'channel': 'general'}",
    "unquoted name": b"{channel: 1}",
    "number as name": b'{1: "general"}',
    "truncated": b'{"channel": "general", "conte',
    "open string": b'{"channel": "' + b"a" * 10_000,
    "open escape": b'{"channel": "\\u12',
    "two documents": b'{"unknown": 1} {"unknown": 2}',
    "comment": b'{"unknown": 1} // no',
    "form": b"channel=general&content=x",
    "huge exponent": b'{"channel": 1e99999}',
    "huge integer": b'{"channel": ' + b"9" * 5000 + b"}",
    "huge fraction": b'{"channel": 0.' + b"1" * 50_000 + b"}",
    "leading zero": b'{"channel": 01}',
    "plus sign": b'{"channel": +1}',
    "duplicate members, all wrong": b'{"channel": 1, "channel": [], "name": 1, "name": []}',
}

OBJECTS = {"huge exponent", "huge integer", "huge fraction", "duplicate members, all wrong"}


@pytest.mark.parametrize("name", TAKING_JSON)
def test_malformed_json(world: SimpleNamespace, name: str):
    operation = TAKING_JSON[name]
    wire = wire_for(world, name)
    for kind, body in MALFORMED.items():
        if kind in OBJECTS and not any(parameter.required for parameter in operation.parameters.values()):
            assert wire.send(operation.verb, operation.path, body).status in (200, 400)  # it is right, or set_card's
            continue
        found = wire.refused(operation.verb, filled(operation.path, ID), body)
        # A pin needs nothing of its body but that it is an object; a registration that came too often may say so.
        allowed = {(400, "bad_request")} | ({(404, "not_found")} if kind in OBJECTS else set())
        assert found in allowed | ({(429, "rate_limited")} if name == "register" else set()), kind


def test_malformed_json_from_a_new_machine(world: SimpleNamespace):
    for body in MALFORMED.values():
        assert world.stranger.refused("POST", REGISTER_MACHINE, body) == (400, "bad_request")


def test_a_body_without_content_type_or_with_a_wrong_one_is_read(caller: Wire):
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "", "application/json; charset=latin-1"):
        sent = caller.send(
            "POST", "/api/v2/messages", {"channel": "general", "content": "ü"}, content_type=content_type
        )
        assert sent.data["message"]["content"] == "ü"


def test_of_duplicate_members_one_counts_or_none(caller: Wire):
    body = b'{"content": "first", "channel": "general", "content": "last"}'
    answer = caller.send("POST", "/api/v2/messages", body)
    if answer.status != 400:
        assert answer.data["message"]["content"] == "last"


WRONG: dict[str, list[Any]] = {
    "string": [5, 0, -1.5, True, False, [], {}, ["general"], {"a": 1}, 10**30, "", "a\0b", "\ud800"],
    "integer": [[], {}, True, 1.5, [1]],
    "boolean": [[], {}, 5, 1.5, [True]],
    "array": ["x", 5, {}, True, [5], [None], [[]], [{}], [], [""], ["\0"]],
    "object": ["x", 5, [], True, "{}", {"a": "x" * 20_000}],
}
# A card may say that it has no capabilities, a file may hold any character, and what need not be said may be empty.
RIGHT: list[tuple[str, str, Any]] = [
    ("set_card", "capabilities", []), ("upload_file", "content", "a\0b"), ("create_task", "capability_tags", []),
    ("create_task", "body", ""), ("create_task", "context", ""), ("return_task", "reason", ""),
    ("cancel_task", "reason", ""), ("lock_break", "reason", ""), ("acknowledge_interrupt", "note", ""),
    ("withdraw_interrupt", "note", ""), ("resume_agents", "note", ""), ("request_approval", "reason", ""),
    ("decide_approval", "message", ""), ("withdraw_approval", "reason", ""),
]  # fmt: skip
# Shown in test_files.py: the contract takes anything for these.
LENIENT = {"post_message", "encoding", "content_type"}


@pytest.mark.parametrize("name", TAKING_JSON)
def test_a_wrong_type_for_every_parameter(world: SimpleNamespace, name: str):
    operation = TAKING_JSON[name]
    wire, path, good = wire_for(world, name), path_of(world, operation), required(world, operation)
    for parameter in operation.parameters.values():
        if f"{{{parameter.name}}}" in operation.path or parameter.name in LENIENT:
            continue
        for wrong in WRONG[parameter.kind]:
            if (name, parameter.name, wrong) in RIGHT:
                continue
            body = body_of(operation, {**good, parameter.name: wrong})
            status, _ = wire.refused(operation.verb, path, body)
            assert status == 400 or (name == "register" and status == 429), (parameter.name, wrong)
        if parameter.required:
            for absent in ({**good, parameter.name: None}, {k: v for k, v in good.items() if k != parameter.name}):
                status, _ = wire.refused(operation.verb, path, body_of(operation, absent))
                assert status == 400 or (name == "register" and status == 429), parameter.name


@pytest.mark.parametrize("card", [5, "x", [], True, {}, {"unknown": 1}, None])
def test_a_card_is_an_object_with_a_member(caller: Wire, card: Any):
    assert caller.refused("POST", "/api/v2/agents/card", {"card": card}) == (400, "bad_request")


@pytest.mark.parametrize("name", QUERIES)
def test_a_wrong_query_for_every_parameter(world: SimpleNamespace, name: str):
    operation, wire = QUERIES[name], wire_for(world, name)
    good, path = required(world, operation), path_of(world, operation)
    for parameter in operation.parameters.values():
        if f"{{{parameter.name}}}" in operation.path or parameter.kind != "string":
            continue
        wrong = ["a\0b", "x" * 2000]
        wrong += ["Not Of The Form", "\n"] if parameter.form and parameter.form.pattern.startswith("^") else []
        wrong += ["ü"] if len(wrong) > 2 and parameter.form != LOCK_NAME else []
        for value in wrong + (["nonsense"] if parameter.choices else []):
            query = urlencode({operation.parameters[n].wire[-1]: v for n, v in {**good, parameter.name: value}.items()})
            assert wire.refused("GET", f"{path}?{query}")[0] in (400, 404), (parameter.name, value[:20])
        if parameter.required:
            rest = urlencode({n: v for n, v in good.items() if n != parameter.name})
            assert wire.refused("GET", f"{path}?{rest}") == (400, "bad_request")


@pytest.mark.parametrize(
    "segment", ["x", "%00", "%FF", "%2e%2e", "..", ID.upper(), ID + "x", "%ED%A0%80", "a" * 5000, "%0a"]
)
def test_a_segment_that_is_no_id(world: SimpleNamespace, segment: str):
    for operation in OPERATIONS.values():
        if "_id}" in operation.path:
            target = filled(operation.path, segment)
            status, _ = world.agent.refused(operation.verb, target, None if operation.verb == "GET" else b"{}")
            assert status in (400, 404, 405)


# Anything at all

TEXTS = st.text(st.characters(), max_size=30)  # with lone surrogates
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
ANY_JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)


@pytest.mark.parametrize("name", TAKING_JSON)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_json_gets_a_clear_answer(world: SimpleNamespace, name: str, data: st.DataObject):
    """Some members of the declaration with any value, some with one that fits; sometimes no object at all."""
    operation, wire = TAKING_JSON[name], wire_for(world, name)
    values = {}
    for parameter in operation.parameters.values():
        fits = value_of(world, parameter)
        values[parameter.name] = data.draw(st.just(fits) | ANY_JSON, label=parameter.name)
    body: Any = data.draw(st.just(body_of(operation, values)) | ANY_JSON)
    answer = wire.send(operation.verb, path_of(world, operation), body)
    assert answer.status == 200 or (400 <= answer.status < 500 and check_refusal(answer)), answer.body


@pytest.mark.parametrize("name", QUERIES)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_query_gets_a_clear_answer(world: SimpleNamespace, name: str, data: st.DataObject):
    operation, wire = QUERIES[name], wire_for(world, name)
    names = [*(one.wire[-1] for one in operation.parameters.values()), "unknown"]
    anything = st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=20)
    fits = {one.wire[-1]: str(value_of(world, one)).encode() for one in operation.parameters.values()}
    values = {one: data.draw(st.just(fits.get(one, b"x")) | anything, label=one) for one in names}
    answer = wire.send("GET", f"{path_of(world, operation)}?{urlencode(values)}")
    assert answer.status == 200 or (400 <= answer.status < 500 and check_refusal(answer)), answer.body


@settings(max_examples=60, deadline=None)
@given(metadata=st.dictionaries(TEXTS, ANY_JSON, max_size=4), content=TEXTS)
def test_what_was_accepted_comes_back(world: SimpleNamespace, metadata: dict[str, Any], content: str):
    sent = world.agent.send(
        "POST", "/api/v2/messages", {"channel": "general", "content": content, "metadata": metadata}
    )
    if sent.status != 200:
        assert sent.status == 400, sent.body
        return
    message = sent.data["message"]
    read = world.other.send("GET", f"/api/v2/messages/{message['id']}").data["message"]
    assert read["content"] == message["content"] == content.strip()
    assert read["metadata"] == message["metadata"] == metadata


@pytest.mark.parametrize(
    "number", [2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**30, 10**300, 1e300, -0.0, 5e-324]
)
def test_numbers_of_any_size_in_metadata(caller: Wire, number: float):
    """Kept as they are, or refused: but not changed, and no failure."""
    answer = caller.send("POST", "/api/v2/messages", {"channel": "general", "content": "x", "metadata": {"n": number}})
    if answer.status != 400:
        assert answer.data["message"]["metadata"] == {"n": number}
        keyed = {"channel": "general", "content": "x", "metadata": {"n": number}}
        assert caller.send("POST", "/api/v2/messages", keyed, idempotency_key="one").status == 200


@pytest.mark.parametrize("depth", [1, 50, 200, 490, 900, 999, 1000, 1500, 2000])
def test_metadata_of_any_depth(caller: Wire, depth: int):
    metadata = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    body = b'{"channel": "general", "content": "deep @mac-other", "metadata": %b}' % metadata
    answer = caller.send("POST", "/api/v2/messages", body)
    assert answer.status in (200, 400)
    assert caller.send("GET", "/api/v2/messages?channel=general").status == 200


# Bodies that are too large


def test_the_longest_message_in_its_longest_spelling_fits(caller: Wire):
    body = json.dumps({"channel": "general", "content": "😀" * 32000, "metadata": {"a": "\x01" * 600}}).encode()
    assert caller.send("POST", "/api/v2/messages", body).status == 200


@pytest.mark.parametrize("name", [name for name, one in TAKING_JSON.items() if one.path != "/api/files"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit(world: SimpleNamespace, name: str, chunked: bool):
    operation, wire = TAKING_JSON[name], wire_for(world, name)
    whole = b'{"a": "' + b"a" * (8 if name == "create_task" else 2) * MIB + b'"}'  # a task's context is long
    body: Any = (whole[at : at + 65536] for at in range(0, len(whole), 65536)) if chunked else whole
    path = path_of(world, operation)
    wire.connection.request(operation.verb, path, body=body, headers=wire._headers, encode_chunked=chunked)
    answer = Answer.of(wire.connection.getresponse())
    check_headers(answer)
    assert (answer.status, check_refusal(answer)) == (413, "too_large")
    # The connection goes on, or it was closed in good order and is opened anew.
    if answer.headers.get("connection") == "close":
        assert wire.connection.sock is None
    assert wire.send("GET", "/health").status == 200


def test_a_body_that_claims_to_be_huge_is_refused_before_it_came(world: SimpleNamespace, caller: Wire):
    """The rest of it is not waited for: the answer is there after the first two megabytes."""
    parts = urlsplit(world.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30) as sock:
        head = f"POST /api/v2/messages HTTP/1.1\r\nHost: x\r\n{KEY_HEADER}: {caller._headers[KEY_HEADER]}\r\n"
        sock.sendall(head.encode() + b"Content-Length: 1000000000000\r\n\r\n" + b"x" * 2 * MIB)
        assert sock.recv(100).startswith(b"HTTP/1.1 413")


# Routes

UNKNOWN = [
    "/api", "/api/", "/api/v2", "/api/v2/", "/api/v2/task", "/api/v2/works", "/api/v2/notes", "/api/v2/usage/report",
    "/api/v2/gossip", "/api/v1/board", "/api/v2/boards", "/api/v2/board/", "/API/V2/BOARD", "//api/v2/board",
    "/api/v2//board", "/api/v2/board/..", "/api/v2/./board", "/api/v2/board%00", "/api/v2/board%20", "/api/v2/board;x",
    "/api/v2/messages/a/b", "/api/v2/messages//thread", "/.well-known/security.txt", "/favicon.ico", "/index.html",
    "/..", "/%2e%2e/%2e%2e/etc/passwd", "/api/files/../../admin.key", "/api/files/signed", "/api/files/signed/",
    "/health/", "/%", "/%zz", "/%ff%fe", "/%ED%A0%80", "/" + "a" * 30_000, "/" + "%00" * 5000, "/nothing?a",
    "/api/v2/messages/%2F/pin",
    "/api/v2/admin", "/api/v2/admin/", "/mcp", "/{message_id}", "/api/v2/messages/{message_id}/pins",
    "/api/v2/tasks/{task_id}/pin", "/api/v2/locks/{lock_id}", "/api/v2/locks/{lock_id}/break",
]  # fmt: skip


@pytest.mark.parametrize("path", UNKNOWN, ids=lambda path: path[:40])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_an_unknown_route(world: SimpleNamespace, path: str, method: str):
    for wire in (world.stranger, world.agent):
        assert wire.refused(method, path, None if method == "GET" else b"{}") == (404, "unknown_operation")


def known_routes() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"/": {"GET"}, "/health": {"GET"}, REGISTER_MACHINE: {"POST"}, ACT_ON_TASK: {"POST"}}
    for operation in ALL.values():
        found.setdefault(operation.path.partition("?")[0], set()).add(operation.verb)
    return found


@pytest.mark.parametrize("path", known_routes())
def test_a_wrong_method(world: SimpleNamespace, path: str):
    taken = known_routes()[path]
    for method in (
        {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - taken - ({"HEAD"} if "GET" in taken else set())
    ):
        answer = world.agent.send(method, filled(path, ID), b"{}" if method == "POST" else None)
        assert answer.status == 405, (method, path)
        assert taken <= {name.strip() for name in answer.headers["allow"].split(",")}
        assert method not in answer.headers["allow"].split(", ")
        if method != "HEAD":
            check_refusal(answer)


@pytest.mark.parametrize("name", ["/", "/health", *QUERIES])
def test_head_is_get_without_the_body(world: SimpleNamespace, name: str):
    wire, target = world.stranger, name
    if name in QUERIES:
        wire, operation = wire_for(world, name), QUERIES[name]
        target = f"{path_of(world, operation)}?{query_of(operation, required(world, operation))}"
    got, head = wire.send("GET", target), wire.send("HEAD", target)
    assert (got.status, head.status, head.body) == (200, 200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert wire.send("GET", "/health").status == 200  # nothing of a body was left on the connection
    failed = world.stranger.send("HEAD", "/api/v2/board")
    assert (failed.status, failed.body) == (401, b"")


def test_root_and_health(world: SimpleNamespace):
    assert world.stranger.send("GET", "/").status == 200
    health = world.stranger.send("GET", "/health?probe=1").json()
    assert health["status"] == "ok" and health["version"] and health["contract"]


def test_other_spellings_of_a_target(world: SimpleNamespace):
    for target in (
        "/api/v2/board?",
        "/api/v2/board?#",
        "/api/v2/%62oard",
        f"{world.url}/api/v2/board",
        "/api/v2/board?%",
    ):
        assert world.agent.send("GET", target).status == 200, target
    query = "&".join(f"a{number}=1" for number in range(2000))
    assert world.agent.refused("GET", f"/api/v2/board?{query}") == (400, "bad_request")


def test_every_refusal_has_an_id_of_its_own_and_nothing_can_run_in_a_browser(world: SimpleNamespace):
    refusals = [("GET", "/nothing"), ("DELETE", "/"), ("GET", "/api/v2/messages"), ("PUT", "/api/files")]
    answers = [world.agent.send(*call, b"[") for call in refusals * 20]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 80
    for answer in answers:
        check_all_headers(answer)
    for target in ("/", "/health", "/api/v2/board"):  # JSON that is not guessed at to be something else
        answer = world.agent.send("GET", target)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.headers["x-content-type-options"] == "nosniff"
    content = world.agent.send("GET", f"/api/files?path={world.path}")
    assert content.status == 200
    assert "sandbox" in content.headers["content-security-policy"]
    assert content.headers["content-disposition"].startswith("attachment")


def test_a_fault_of_the_relay_is_a_500_that_says_nothing_of_its_inside():
    """Never a 401, which would make every client register again."""
    from agentchat_relay.http.app import routes

    async def fails(request: object) -> Any:
        raise LookupError("the secret word")

    def faulty(parts: Any) -> Any:
        return {**routes(parts), ("GET", "/fails"): fails}

    with running(settings=UNLIMITED, make_routes=faulty) as relay:
        wire = Wire(relay.url)
        answer = wire.send("GET", "/fails")
        assert answer.status == 500
        assert answer.json().keys() == {"error", "code"}
        assert b"secret" not in answer.body
        assert wire.send("GET", "/health").status == 200
        wire.close()


# Who is calling


@pytest.mark.parametrize("name", OPERATIONS)
def test_without_a_key_or_with_junk_for_one(world: SimpleNamespace, name: str):
    operation = OPERATIONS[name]
    body = None if operation.verb == "GET" else b"{}"
    for key in ("", " ", "0" * 64, "x" * 8000, "\xff\xfe", "null", world.secret):
        told = world.stranger.refused(operation.verb, path_of(world, operation), body, **{KEY_HEADER: key})
        assert told == (401, "unauthorized"), key[:20]
    assert world.stranger.refused(operation.verb, path_of(world, operation), body) == (401, "unauthorized")


def test_admin_routes_without_the_credential_or_with_junk_for_it(touchy: Embedded):
    wire, last = Wire(touchy.url), (0, "")
    for operation in ADMINISTRATION.values():
        body = None if operation.verb == "GET" else b"{}"
        for value in (
            "",
            "Bearer",
            "Bearer ",
            "Bearer \xff",
            "Bearer x",
            "Basic YTpi",
            touchy.directory.admin_secret(),
        ):
            last = wire.refused(operation.verb, operation.path, body, authorization=value)
            assert last in {(401, "unauthorized"), (429, "rate_limited")}, (operation, value)
        assert wire.refused(operation.verb, operation.path, body) == (401, "unauthorized")
    assert wire.refused("GET", "/api/v2/admin/agents", authorization="Bearer x") == (429, "rate_limited")
    assert wire.send("GET", "/health").status == 200
    wire.close()


def test_an_agents_key_opens_no_admin_route_and_the_operators_no_other(world: SimpleNamespace):
    for operation in ADMINISTRATION.values():
        assert world.agent.refused(operation.verb, operation.path, b"{}")[0] == 401
    for operation in OPERATIONS.values():
        path = path_of(world, operation)
        assert world.operator.refused(operation.verb, path, None if operation.verb == "GET" else b"{}")[0] == 401


def test_the_body_is_not_looked_at_before_the_key(world: SimpleNamespace):
    for body in (b"", b"[", b"x" * 2 * MIB):
        assert world.stranger.refused("POST", "/api/v2/messages", body) == (401, "unauthorized")


# What is answered


@pytest.mark.parametrize("name", OPERATIONS)
def test_only_operations_of_version_2_are_enveloped(world: SimpleNamespace, name: str):
    operation = OPERATIONS[name]
    values, target = required(world, operation), path_of(world, operation)
    if name == "set_card":
        values = {"role": "tester"}
    body = None if operation.verb == "GET" else body_of(operation, values)
    if operation.verb == "GET":
        target += f"?{query_of(operation, values)}"
    answer = world.agent.send(operation.verb, target, body)
    assert answer.status == 200, answer.body
    if name == "download_file":
        assert answer.body == b"abc"
    elif operation.path.startswith("/api/files"):
        assert set(operation.result.__required_keys__) <= answer.json().keys()
        assert not answer.json().keys() & {"_airchat", "_notice", "data"}
    else:
        assert answer.json().keys() == {"_airchat", "_notice", "data"}
        assert answer.json()["_airchat"] == "response"
        assert isinstance(answer.json()["_notice"], str)
        assert set(operation.result.__required_keys__) <= answer.data.keys()


def test_registering_is_not_enveloped(touchy: Embedded):
    key, wire = Ed25519PrivateKey.generate(), Wire(touchy.url)
    machine = {"machine_name": "http-machine", "public_key": key.public_key().public_bytes_raw().hex()}
    added = wire.send("POST", REGISTER_MACHINE, {**machine, "admin_secret": touchy.directory.admin_secret()})
    assert added.json() == {"machine_name": "http-machine", "registered": True}
    agent_key = secrets.token_hex(32)
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = ("http-machine", "http-machine-a", sha256(agent_key.encode()).hexdigest(), stamp, secrets.token_hex(16))
    names = ("machine_name", "agent_name", "derived_key_hash", "timestamp", "nonce")
    signature = b64encode(key.sign(signed_bytes(*fields))).decode()
    body = {**dict(zip(names, fields, strict=True)), "signature": signature, "card": None, "unknown": [1]}
    assert wire.send("POST", REGISTER, body).json().keys() == {"agent_id", "agent_name"}
    assert wire.send("GET", "/api/v2/board", **{KEY_HEADER: agent_key}).status == 200
    assert wire.refused("POST", REGISTER, body) == (409, "conflict")  # the nonce was used
    wire.close()


# Lenient


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "download_file"])
def test_unknown_members_are_ignored_and_null_is_absent(world: SimpleNamespace, name: str):
    operation = OPERATIONS[name]
    values = required(world, operation) if name != "set_card" else {"role": "tester"}
    extra = {"unknown": [1, {"a": None}], "from": "mac-other", "agent": "mac-other", "space": "other", "id": 5}
    target = path_of(world, operation)
    if operation.verb == "GET":
        assert world.agent.send("GET", f"{target}?{query_of(operation, values)}&{urlencode(extra)}").status == 200
        return
    absent = [one for one in operation.parameters.values() if not one.required and one.name not in values]
    nulls = {one.name: None for one in absent if len(one.wire) == 1}
    answer = world.agent.send(operation.verb, target, {**body_of(operation, values), **nulls, **extra})
    assert answer.status == 200, answer.body


def test_nobody_says_who_he_is(world: SimpleNamespace, caller: Wire):
    lies = {
        "from": "mac-other",
        "agent": "mac-other",
        "author_name": "mac-other",
        "author_agent_id": ID,
        "by": "mac-other",
    }
    message = caller.send("POST", "/api/v2/messages", {"channel": "general", "content": "me", **lies}).data["message"]
    assert message["author_name"] != "mac-other" and message["author_agent_id"] != ID


def test_booleans_in_any_case(live: Embedded):
    name = f"mac-{secrets.token_hex(4)}"
    reader, writer = (Wire(live.url, **{KEY_HEADER: live.token(one)}) for one in (name, f"{name}-w"))
    writer.send("POST", "/api/v2/messages", {"channel": "general", "content": f"@{name}"})
    (mention,) = reader.send("GET", "/api/v2/mentions").data["mentions"]
    read = reader.send("POST", "/api/v2/mentions", {"mention_ids": [mention["mention_id"]]})
    assert read.data == {"marked_read": 1}
    for off in ("false", "False", "FALSE", "fAlse", "%20false"):
        assert len(reader.send("GET", f"/api/v2/mentions?unread={off}").data["mentions"]) == 1, off
    for on in ("true", "True", "TRUE", "", "junk", "None"):
        assert reader.send("GET", f"/api/v2/mentions?unread={on}").data["mentions"] == [], on
    assert reader.send("GET", "/api/v2/mentions").data["mentions"] == []
    writer.send("POST", "/api/v2/messages", {"channel": f"{name}-c", "content": "working", "kind": "status"})
    for value, expected in (("TRUE", 1), ("True", 1), ("true", 1), ("FALSE", 0), ("junk", 0)):
        found = reader.send("GET", f"/api/v2/messages?channel={name}-c&include_status={value}").data["messages"]
        assert len(found) == expected, value
    reader.close()
    writer.close()


def test_limits_are_clamped_and_junk_is_the_default(caller: Wire):
    channel = f"limits-{secrets.token_hex(4)}"
    for number in range(25):
        caller.send("POST", "/api/v2/messages", {"channel": channel, "content": f"{number}"})
    expected = {
        "1": 1, "3": 3, "0": 20, "junk": 20, "": 20, "1e1": 20, "-5": 1, "+2": 2, "999": 25, "9" * 400: 25,
    }  # fmt: skip
    for limit, count in expected.items():
        found = caller.send("GET", f"/api/v2/messages?channel={channel}&limit={quote(limit)}").data["messages"]
        assert len(found) == count, limit
    found = caller.send("GET", f"/api/v2/messages?channel={channel}").data["messages"]
    assert [one["content"] for one in found] == [f"{number}" for number in range(5, 25)]


# Idempotency keys

PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


@pytest.mark.parametrize("key", ["k", PRINTABLE, "k" * 128, "0", '"quoted"'], ids=range(5))
def test_a_write_repeated_with_its_key_has_one_effect(caller: Wire, key: str):
    body = {"channel": "general", "content": f"once {key}"}
    first = caller.send("POST", "/api/v2/messages", body, idempotency_key=key)
    again = caller.send("POST", "/api/v2/messages", body, idempotency_key=key)
    assert again.data == first.data
    other = caller.refused("POST", "/api/v2/messages", {**body, "content": "twice"}, idempotency_key=key)
    assert other == (409, "idempotency_mismatch")
    assert caller.refused("POST", "/api/v2/agents/card", {"card": {"role": "x"}}, idempotency_key=key)[0] == 409


@pytest.mark.parametrize("key", ["", "k" * 129, "k" * 8000, "ä", "a\tb", "\x7f", "\xa0", "a\x01b"], ids=range(8))
@pytest.mark.parametrize("name", [name for name, one in OPERATIONS.items() if one.writes])
def test_a_key_that_is_none(world: SimpleNamespace, name: str, key: str):
    operation = OPERATIONS[name]
    values = required(world, operation) if name != "set_card" else {"role": "tester"}
    parts = urlsplit(world.url)
    body = json.dumps(body_of(operation, values)).encode()
    head = [
        f"{operation.verb} {path_of(world, operation)} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}",
        f"{KEY_HEADER}: {world.agent._headers[KEY_HEADER]}", f"{IDEMPOTENCY_HEADER}: {key}", "Connection: close",
    ]  # fmt: skip
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30) as sock:
        sock.sendall("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert response.status == 400
        response.close()


# Every 429 says how long


def test_a_limit_that_waiting_does_not_lift_says_retry_after_too(caller: Wire):
    """(`Wire.send` looks at the header of every 429.)"""
    prefix = secrets.token_hex(4)
    for number in range(20):
        assert caller.send("POST", "/api/v2/messages", {"channel": f"{prefix}-{number}", "content": "x"}).status == 200
    refused = caller.refused("POST", "/api/v2/messages", {"channel": f"{prefix}-20", "content": "x"})
    assert refused == (429, "channel_limit")


def test_junk_of_one_address_is_refused_with_retry_after(touchy: Embedded):
    wire = Wire(touchy.url)
    answers = [wire.refused("POST", REGISTER, b"{}") for _ in range(30)]
    assert set(answers) == {(400, "bad_request"), (429, "rate_limited")} and answers[-1][0] == 429
    wrong = {"machine_name": "x", "public_key": "0" * 64, "admin_secret": "wrong"}
    answers = [wire.refused("POST", REGISTER_MACHINE, wrong) for _ in range(30)]
    assert set(answers) == {(403, "forbidden"), (429, "rate_limited")} and answers[-1][0] == 429
    wire.close()
