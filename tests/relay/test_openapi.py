"""The relay's description of itself: whole, valid, and what the relay really does."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from agentchat import __version__
from agentchat._arguments import check
from agentchat._exchange import ENVELOPE
from agentchat._operation import Limit, Operation, Parameter, operation
from agentchat.contract import OPERATIONS, Admission
from agentchat.errors import CODES, InvalidArguments
from agentchat.identity import signed_bytes
from agentchat.types import FileLink
from agentchat_relay.administration import ADMINISTRATION
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.http import byhand
from agentchat_relay.http.app import routes
from agentchat_relay.http.openapi import document
from agentchat_relay.http.reply import NOTICE
from agentchat_relay.settings import Settings
from tests.relay.conftest import UNLIMITED, fresh
from tests.relay.wires import Answer, Wire

pytestmark = pytest.mark.usefixtures("impatient")
DOCUMENT = document()
DECLARED: dict[str, Operation[..., Any]] = {**OPERATIONS, "register": Admission.register, **ADMINISTRATION}
# An operation whose path has a constant query is described together with the one it varies.
VARIANTS = {name for name, each in DECLARED.items() if "?" in each.path}
VERBS = {"get", "put", "post", "delete", "patch"}


def described(found: dict[str, Any] = DOCUMENT) -> dict[str, dict[str, Any]]:
    """Every operation of the document by its name, with `verb` and `path`."""
    return {
        each["operationId"]: {"verb": verb.upper(), "path": path, **each}
        for path, item in found["paths"].items()
        for verb, each in item.items()
    }


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """What stands where a reference points to."""
    if "$ref" not in schema:
        return schema
    place: Any = DOCUMENT
    for step in schema["$ref"].removeprefix("#/").split("/"):
        place = place[step]
    return place


def parameters_of(each: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {found["name"]: found for found in map(resolved, each.get("parameters", []))}


def body_of(each: dict[str, Any]) -> dict[str, Any]:
    return each["requestBody"]["content"]["application/json"]["schema"] if "requestBody" in each else {}


def schema_of(each: dict[str, Any], parameter: Parameter) -> dict[str, Any]:
    """Where an argument is described."""
    if parameter.wire[-1] in parameters_of(each):
        return parameters_of(each)[parameter.wire[-1]]["schema"]
    place = body_of(each)
    for step in parameter.wire:
        place = place["properties"][step]
    return place


def walk(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(schema, dict):
        yield schema
        for inner in schema.values():
            yield from walk(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from walk(inner)


def validator(schema: dict[str, Any], root: dict[str, Any] = DOCUMENT) -> Draft202012Validator:
    """Checks against a schema of the document."""
    resource = Resource(contents=root, specification=DRAFT202012)
    inside = json.loads(re.sub(r'"\$ref": "#', '"$ref": "urn:document#', json.dumps(schema)))
    return Draft202012Validator(inside, registry=Registry().with_resource("urn:document", resource))


# Whole


def different(handlers: Any, found: dict[str, Any]) -> set[tuple[str, str]]:
    """Routes that are served or described, not both."""
    return set(handlers) ^ {(each["verb"], each["path"]) for each in described(found).values()}


@pytest.fixture(scope="module")
def live() -> Iterator[Embedded]:
    with running(settings=UNLIMITED) as relay:
        yield relay


def test_every_route_is_described_and_every_described_route_exists(live: Embedded) -> None:
    assert live.relay is not None
    handlers = routes(live.relay.parts)
    assert different(handlers, DOCUMENT) == set()
    assert different({**handlers, ("GET", "/new"): None}, DOCUMENT) == {("GET", "/new")}
    assert different(list(handlers)[1:], DOCUMENT) == {next(iter(handlers))}


def test_every_operation_stands_under_its_own_name() -> None:
    by_hand = {route.name for route in byhand.ROUTES}
    assert {*described()} == {*DECLARED} - VARIANTS | by_hand
    assert by_hand & {*DECLARED} == set()
    count = sum(len(item) for item in DOCUMENT["paths"].values())
    assert count == len(described()), "an operationId is there twice"
    for name in DECLARED.keys() - VARIANTS:
        each = described()[name]
        assert (each["verb"], each["path"]) == (DECLARED[name].verb, DECLARED[name].path)
        assert each["description"] == DECLARED[name].description


def test_an_operation_that_is_declared_is_described_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class More:
        @operation("POST", "/api/v2/admin/owls/{owl}", writes=True)
        def owl_feed(
            self, owl: Annotated[str, "Which."], *, mice: Annotated[int, "How many.", Limit(1, 9)]
        ) -> FileLink:
            """Feed an owl."""
            raise NotImplementedError

    monkeypatch.setitem(ADMINISTRATION, "owl_feed", More.owl_feed)
    found = described(document())["owl_feed"]
    assert (found["verb"], found["path"], found["tags"]) == ("POST", "/api/v2/admin/owls/{owl}", ["admin owls"])
    assert [(each["name"], each["in"]) for each in found["parameters"]] == [("owl", "path")]
    assert body_of(found)["properties"]["mice"]["maximum"] == 9
    assert body_of(found)["required"] == ["mice"]
    assert "owl_feed" not in described()


def test_everything_has_a_text() -> None:
    for name, each in described().items():
        assert each["description"].strip() and each["summary"] and each["tags"], name
        for parameter in parameters_of(each).values():
            assert parameter["description"].strip(), (name, parameter["name"])
        for member, schema in body_of(each).get("properties", {}).items():
            assert schema["description"].strip(), (name, member)
        for status, answer in each["responses"].items():
            assert resolved(answer)["description"].strip(), (name, status)
    for kind in ("schemas", "parameters", "headers", "securitySchemes", "responses"):
        for name, found in DOCUMENT["components"][kind].items():
            assert found["description"].strip(), name
    assert not any(re.search(r"\n|  ", schema["description"]) for schema in DOCUMENT["components"]["schemas"].values())


def test_who_may_call_what() -> None:
    security = {name: each["security"] for name, each in described().items()}
    assert all(security[name] == [{"agentKey": []}] for name in OPERATIONS.keys() - VARIANTS)
    assert all(security[name] == [{"adminCredential": []}] for name in ADMINISTRATION)
    assert security["register"] == security["health"] == security["openapi"] == []


def test_every_argument_is_there_as_declared() -> None:
    for name in DECLARED.keys() - VARIANTS:
        each, declared = described()[name], DECLARED[name].parameters.values()
        for parameter in declared:
            schema = schema_of(each, parameter)
            assert schema["type"] == parameter.kind
            assert schema.get("default") == parameter.default
            assert parameter.description in schema.get("description", "") or (
                parameter.description in parameters_of(each)[parameter.wire[-1]]["description"]
            )
        keyed = "idempotency-key" in parameters_of(each)
        assert keyed is (name in OPERATIONS and (DECLARED[name].writes or "mark_read" in DECLARED[name].parameters))
        outside = {parameter["name"] for parameter in each.get("parameters", []) if "name" in parameter} - {"url"}
        members = {member for schema in walk(body_of(each)) for member in schema.get("properties", {})}
        assert outside | members == {step for parameter in declared for step in parameter.wire}


def candidates(parameter: Parameter) -> Iterator[Any]:
    """Values at and beyond the edges of what is allowed."""
    yield from (None, True, 7, -1, "", " ", "x", "mac-ann", "A b", "x" * 101, [], [7], ["A b"], {}, {"a": 1})
    yield from ("01890000-0000-7000-8000-000000000000", "2026-01-31T12:00:00Z", "a" * 64, "0" * 32)
    yield from parameter.choices
    if parameter.limit is not None and parameter.limit.high < 100_000:
        for size in (parameter.limit.low - 1, parameter.limit.low, parameter.limit.high, parameter.limit.high + 1):
            yield size
            yield "x" * size
            yield ["01890000-0000-7000-8000-000000000000"] * size if size < 1000 else []


def accepts(declared: Operation[..., Any], parameter: Parameter, value: Any) -> bool:
    try:
        check(declared, {parameter.name: value})
    except InvalidArguments as refused:
        return parameter.name not in refused.details["arguments"]
    return True


@pytest.mark.parametrize("name", sorted(DECLARED.keys() - VARIANTS))
def test_a_schema_allows_what_the_argument_check_allows(name: str) -> None:
    for parameter in DECLARED[name].parameters.values():
        schema = validator(schema_of(described()[name], parameter))
        for value in candidates(parameter):
            if value is None or (parameter.kind == "object" and isinstance(value, dict)):
                continue  # null is absent, and no schema can count the characters of an object
            allowed = accepts(DECLARED[name], parameter, value)
            assert schema.is_valid(value) is allowed, (parameter.name, value)


# Valid


def closed(required: str, optional: str = "", **more: Any) -> dict[str, Any]:
    """A schema of objects with these members and no others."""
    members = {name: more.get(name, {}) for name in [*required.split(), *optional.split()]}
    return {"type": "object", "properties": members, "required": required.split(), "additionalProperties": False}


TEXT = {"type": "string", "minLength": 1}
REFERENCE = closed("$ref", **{"$ref": {"type": "string", "pattern": "^#/components/"}})
SCHEMA = {"type": "object"}  # checked as JSON Schema besides
CONTENT = {"type": "object", "additionalProperties": closed("schema", schema=SCHEMA), "minProperties": 1}
HEADER = closed("schema description required", schema=SCHEMA, description=TEXT)
PARAMETER = closed("name in schema description", "required", schema=SCHEMA, description=TEXT) | {
    "oneOf": [
        {"properties": {"in": {"const": "path"}, "required": {"const": True}}, "required": ["required"]},
        {"properties": {"in": {"enum": ["query", "header"]}}},
    ]
}
LINK = closed("operationId description", "parameters requestBody", parameters={"type": "object"})
RESPONSE = closed(
    "description content",
    "headers links",
    description=TEXT,
    content=CONTENT,
    headers={"additionalProperties": REFERENCE},
    links={"additionalProperties": LINK},
)
OPERATION = closed(
    "operationId summary description tags security responses",
    "parameters requestBody",
    operationId={"type": "string", "pattern": "^[a-z_]+$"},
    parameters={"type": "array", "minItems": 1, "items": {"oneOf": [REFERENCE, PARAMETER]}},
    requestBody=closed("required content", content=CONTENT),
    responses={
        "type": "object",
        "required": ["200"],
        "patternProperties": {"^[1-5][0-9][0-9]$": {"oneOf": [REFERENCE, RESPONSE]}},
        "additionalProperties": False,
    },
)
SPECIFICATION = closed(
    "openapi info servers tags paths components",
    openapi={"const": "3.1.0"},
    info=closed("title version description"),
    servers={"type": "array", "items": closed("url", url=TEXT)},
    tags={"type": "array", "items": closed("name", name=TEXT), "uniqueItems": True},
    paths={
        "type": "object",
        "patternProperties": {"^/[^?#]*$": {"propertyNames": {"enum": [*VERBS]}, "additionalProperties": OPERATION}},
        "additionalProperties": False,
    },
    components=closed(
        "securitySchemes headers parameters responses schemas",
        headers={"additionalProperties": HEADER},
        parameters={"additionalProperties": PARAMETER},
        responses={"additionalProperties": RESPONSE},
        schemas={"propertyNames": {"pattern": "^[a-zA-Z0-9._-]+$"}, "additionalProperties": SCHEMA},
    ),
)


def test_the_document_is_openapi() -> None:
    """As far as this relay uses it; make test-matrix asks the specification's own schema."""
    Draft202012Validator.check_schema(SPECIFICATION)
    Draft202012Validator(SPECIFICATION).validate(DOCUMENT)
    assert DOCUMENT["info"]["version"] == __version__
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    tags = {tag for each in described().values() for tag in each["tags"]}
    assert {tag["name"] for tag in DOCUMENT["tags"]} == tags
    for each in described().values():
        in_path = {found["name"] for found in parameters_of(each).values() if found["in"] == "path"}
        assert in_path == {*re.findall(r"\{(\w+)\}", each["path"])}
        assert all(name in DOCUMENT["components"]["securitySchemes"] for way in each["security"] for name in way)


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    schemas = [*DOCUMENT["components"]["schemas"].values()]
    for found in walk(DOCUMENT):
        if "$ref" in found:
            assert resolved(found)
        if isinstance(found.get("schema"), dict):
            schemas.append(found["schema"])
    for schema in schemas:
        Draft202012Validator.check_schema(schema)
        assert all(name in inner["properties"] for inner in walk(schema) for name in inner.get("required", ()))


def test_every_error_code_stands_under_its_status_and_nothing_described_is_left_over() -> None:
    for name, found in DOCUMENT["components"]["responses"].items():
        schema = found["content"]["application/json"]["schema"]
        for code, (status, _) in CODES.items():
            fits = f"error{status}" == name and code != "unknown_operation"
            assert validator(schema).is_valid({"error": "x", "code": code}) is fits, (name, code)
    text = json.dumps(DOCUMENT)
    for kind in ("schemas", "responses", "parameters", "headers"):
        assert [name for name in DOCUMENT["components"][kind] if f'"#/components/{kind}/{name}"' not in text] == []


def test_examples_fit_what_they_are_examples_of() -> None:
    examples = [(schema, example) for schema in walk(DOCUMENT) for example in schema.get("examples", ())]
    assert len(examples) > 20
    for schema, example in examples:
        validator(schema).validate(example)


def result_of(each: dict[str, Any]) -> dict[str, Any]:
    schema = each["responses"]["200"]["content"]["application/json"]["schema"]
    if "allOf" in schema:
        assert schema["allOf"][0] == {"$ref": "#/components/schemas/Envelope"}
        return schema["allOf"][1]
    return resolved(schema)


def stands(schema: dict[str, Any], pointer: str) -> bool:
    """Whether the schema knows the place that the pointer names."""
    for step in pointer.removeprefix("/").split("/"):
        schema = resolved(schema)
        schema = schema["items"] if step.isdigit() else schema["properties"].get(step)
        if schema is None:
            return False
    return True


def test_links_lead_from_what_is_answered_to_what_is_asked_for() -> None:
    count = 0
    for name, each in described().items():
        for link in each["responses"]["200"].get("links", {}).values():
            target = described()[link["operationId"]]
            inside = link.get("requestBody", {})
            assert link.get("parameters", {}).keys() <= parameters_of(target).keys(), name
            assert inside.keys() <= body_of(target).get("properties", {}).keys(), name
            for member, place in inside.items():
                assert isinstance(place, list) is (body_of(target)["properties"][member]["type"] == "array"), name
            for place in [*link.get("parameters", {}).values(), *inside.values()]:
                place = place[0] if isinstance(place, list) else place
                source, _, pointer = place.partition("#")
                if source == "$response.body":
                    assert stands(result_of(each), pointer), (name, place)
                elif source == "$request.body":
                    assert stands(body_of(each), pointer), (name, place)
                else:
                    assert source.removeprefix("$request.query.") in parameters_of(each), (name, place)
                count += 1
    assert count > 25
    assert {source for source, _, _ in byhand.LINKS} <= described().keys()


# Served


def test_it_is_served_to_anybody_and_says_where_the_relay_is(live: Embedded) -> None:
    wire = Wire(live.url)
    first, second = wire.send("GET", "/openapi.json"), wire.send("GET", "/openapi.json")
    assert (first.status, first.headers["content-type"]) == (200, "application/json")
    assert first.body == second.body
    assert first.json() == document(live.url)
    wire.close()


def test_behind_a_proxy_it_names_the_public_address() -> None:
    with running(settings=Settings(public_url="https://chat.example/relay/")) as relay:
        wire = Wire(relay.url)
        assert wire.send("GET", "/openapi.json").json()["servers"] == [{"url": "https://chat.example/relay"}]
        wire.close()


# What the relay really answers


KNOWN_MACHINE = Ed25519PrivateKey.from_private_bytes(b"m" * 32)
PUBLIC_KEY = KNOWN_MACHINE.public_key().public_bytes_raw().hex()


class World:
    """A relay with something in it, and whom to ask as."""

    def __init__(self, live: Embedded) -> None:
        self.live = live
        self.wire = Wire(live.url)
        self.keys = {
            "agentKey": {"x-agent-api-key": live.token("mac-described")},
            "adminCredential": {"authorization": f"Bearer {live.directory.admin_secret()}"},
        }
        for role in ("admin", "reviewer"):
            self.call("agent_grant", {"name": "mac-described", "role": role})
        live.token("mac-bob")
        sent = self.call("send_message", {"channel": "described", "content": "@mac-described @mac-bob hello"})
        self.other = Wire(live.url, **{"x-agent-api-key": live.token("mac-other")})
        self.other.send("POST", "/api/v2/messages", {"channel": "described", "content": "@mac-described hello"})
        self.other.send("POST", "/api/v2/groups/join", {"group": "crew"})
        file = {"channel": "described", "filename": "a.txt", "content": "hello"}
        stored = self.call("upload_file", file).json()
        mentions = self.call("check_mentions", {}).data["mentions"]
        link = self.call("download_file", {"path": stored["file"]["path"], "url": True}).json()["signed_url"]
        self.known: dict[str, Any] = {
            "action": "claim",
            "arguments": "{}",
            "admin_secret": live.directory.admin_secret(),
            "channel": "described",
            "content": "hello",
            "filename": "b.txt",
            "folder": "described",
            "group": "crew",
            "machine_name": "laptop",
            "mention_ids": [mentions[0]["mention_id"]],
            "message_id": sent.data["message"]["id"],
            "note": "half of it",
            "path": stored["file"]["path"],
            "public_key": PUBLIC_KEY,
            "query": "hello",
            "reason": "no time",
            "recipients": ["mac-bob", "crew"],
            "result": "read",
            "role": "reviewer",
            "target_agent": "mac-bob",
            "title": "read it",
            "tool_name": "deploy",
            "token": urlsplit(link).path.rpartition("/")[2],
            "verdict": "allow",
        }

    def call(self, name: str, arguments: dict[str, Any], *, credential: bool = True, **more: str) -> Answer:
        """One request as the document says it is sent."""
        each = described()[name]
        query = {}
        path = each["path"]
        arguments = dict(arguments)
        for parameter in parameters_of(each).values():
            given = arguments.pop(parameter["name"], None)
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", quote(str(given), safe=""))
            elif given is not None:
                query[parameter["name"]] = json.dumps(given) if isinstance(given, bool) else given
        schemes = [scheme for way in each["security"] for scheme in way]
        headers = {name: value for scheme in schemes for name, value in self.keys[scheme].items()}
        body = arguments if "requestBody" in each else None
        target = path + (f"?{urlencode(query)}" if query else "")
        return self.wire.send(each["verb"], target, body, **(headers if credential else {}), **more)

    def arguments(self, name: str) -> dict[str, Any]:
        """What an operation is called with: what it requires, and what it cannot do without."""
        if name == "register":
            return registration()
        each = described()[name]
        required = [found["name"] for found in parameters_of(each).values() if found.get("required")]
        required += body_of(each).get("required", [])
        mine = {"name", "claim_id", "item_id", "item_ids", "task_id", "lock_id", "names", "id"}
        mine |= {"interrupt_id", "pause_id", "approval_id"}
        found = {name: self.known[WIRE_NAMES.get(name, name)] for name in required if name not in mine}
        if "claim_id" in required:
            found["claim_id"] = self.claim()["claim_id"]
        if "item_id" in required:
            found["item_id"] = self.dead_letter()
        if "item_ids" in required:
            found["item_ids"] = [self.dead_letter()]
        if "task_id" in required:
            found["task_id"] = self.task(name)
        if "names" in required:
            found["names"] = [fresh("lock")]
        if name == "lock_break" or "lock_id" in required:
            made = self.call("acquire_lock", {"names": [fresh("lock")], "reason": "described"})
            found["id" if name == "lock_break" else "lock_id"] = made.data["lock"]["id"]
        if "interrupt_id" in required:
            found["interrupt_id"] = self.interrupt(name)
        if "pause_id" in required:
            found["pause_id"] = self.call("pause_agents", {"reason": "stop", "group": "crew"}).data["pause"]["id"]
        if "approval_id" in required:
            found["approval_id"] = self.approval(name)
        if "name" in required:
            found["name"] = NAMES.get(name.partition("_")[0], "mac-described")
        return {**found, **BESIDES.get(name, {})}

    def claim(self) -> dict[str, Any]:
        """Of a new item, the first in the inbox once no interrupt comes before it."""
        for one in self.call("list_interrupts", {}).data["interrupts"]:
            assert self.call("acknowledge_interrupt", {"interrupt_id": one["id"]}).status == 200
        sent = {"target_agent": "mac-described", "content": "claim me", "urgent": True}
        assert self.other.send("POST", "/api/v2/dm", sent).status == 200
        found: dict[str, Any] = self.call("claim_items", {"limit": 1}).data
        return found

    def task(self, name: str) -> str:
        """One that the operation can be called with: its creator's, its owner's, or one that is offered."""
        given: dict[str, Any] = {"title": "read it", "context": "all of it"}
        if name in ("cancel_task", "offer_task"):
            created = self.call("create_task", {**given, "channel": "described"})
        else:
            created = self.other.send("POST", "/api/v2/tasks", {**given, "target_agent": "mac-described"})
        task_id = str(created.data["task"]["id"])
        if name in ("renew_task", "report_progress", "return_task", "complete_task", "fail_task"):
            assert self.call("claim_task", {"task_id": task_id}).status == 200
        return task_id

    def interrupt(self, name: str) -> str:
        """One for the caller, or of the caller's own."""
        if name == "withdraw_interrupt":
            sent = self.call("send_interrupt", {"target_agent": "mac-other", "reason": "stop"})
        else:
            given = {"target_agent": "mac-described", "reason": "stop"}
            sent = self.other.send("POST", "/api/v2/interrupts", given)
        return str(sent.data["interrupt"]["id"])

    def approval(self, name: str) -> str:
        """One that the caller can decide, or asked for."""
        given = {"tool_name": "deploy", "arguments": '{"to": "prod"}'}
        if name == "withdraw_approval":
            asked = self.call("request_approval", given)
        else:
            asked = self.other.send("POST", "/api/v2/approvals", given)
        return str(asked.data["approval"]["id"])

    def dead_letter(self) -> str:
        claim = self.claim()
        while not self.call("return_items", {"claim_id": claim["claim_id"]}).data["dead"]:
            claim = self.call("claim_items", {"limit": 1}).data
        return str(claim["items"][0]["item_id"])


WIRE_NAMES = {"q": "query"}
NAMES = {"machine": "laptop", "space": "elsewhere", "agent": "mac-bob", "channel": "described"}
BESIDES: dict[str, dict[str, Any]] = {
    "agent_update": {"kind": "person"},
    "channel_update": {"retention": 7},
    "pause_agents": {"group": "crew"},
    "create_task": {"channel": "described", "result_schema": {"type": "object"}, "deadline_in": 3600},
    "set_card": {"card": {"role": "tester", "capabilities": ["python"]}},
    "space_update": {"retention": 7},
}
FIRST, LAST = ("machine_add", "space_add"), ("agent_deactivate", "agent_delete", "machine_revoke")


def registration() -> dict[str, Any]:
    """What the machine `laptop` signs."""
    texts = {
        "machine_name": "laptop",
        "agent_name": "laptop-new",
        "derived_key_hash": hashlib.sha256(b"new").hexdigest(),
        "timestamp": datetime.now(UTC).isoformat(),
        "nonce": "0" * 32,
    }
    signature = KNOWN_MACHINE.sign(signed_bytes(*texts.values()))
    return {**texts, "signature": b64encode(signature).decode()}


def check_answer(name: str, answer: Answer) -> None:
    """That an answer is as described."""
    found = described()[name]["responses"].get(str(answer.status))
    assert found is not None, (name, answer.status, answer.body[:500])
    found = resolved(found)
    assert found.get("headers", {}).keys() <= answer.headers.keys()
    assert answer.headers.keys() & {"x-request-id", "retry-after"} <= found.get("headers", {}).keys()
    told = answer.headers["content-type"]
    media_type, content = next(iter(found["content"].items())) if told not in found["content"] else (
        told, found["content"][told]
    )  # fmt: skip
    if media_type == "application/json":
        assert told == media_type
        validator(content["schema"]).validate(answer.json())
    else:
        assert media_type in ("*/*", told.partition(";")[0])


@pytest.fixture(scope="module")
def world(live: Embedded) -> Iterator[World]:
    made = World(live)
    yield made
    made.wire.close()
    made.other.close()


def test_every_operation_answers_as_described(world: World) -> None:
    between = sorted(described().keys() - {*FIRST, *LAST})
    for name in (*FIRST, *between, *LAST):
        answer = world.call(name, world.arguments(name))
        assert answer.status == 200, (name, answer.body[:500])
        check_answer(name, answer)


@pytest.mark.parametrize("name", [name for name, each in described().items() if each["security"]])
def test_without_a_credential_an_operation_refuses_as_described(world: World, name: str) -> None:
    answer = world.call(name, world.arguments(name), credential=False, x_forwarded_for="192.0.2.1")
    assert answer.status == 401
    check_answer(name, answer)


def takes_texts(each: dict[str, Any]) -> bool:
    """Whether it can be asked wrongly: a number or boolean of a query that cannot be read counts as absent."""
    kinds = {found["schema"]["type"] for found in parameters_of(each).values() if found["in"] == "query"}
    return bool("requestBody" in each or kinds - {"integer", "boolean"})


@pytest.mark.parametrize("name", [name for name, each in described().items() if takes_texts(each)])
def test_wrong_arguments_are_refused_as_described(world: World, name: str) -> None:
    each = described()[name]
    wrong = {found["name"]: "." for found in parameters_of(each).values() if found["in"] == "path"}
    wrong |= {found["name"]: "." for found in parameters_of(each).values() if not found.get("required")}
    members = body_of(each).get("properties", {})
    wrong |= {member: "x" if schema["type"] == "integer" else 7 for member, schema in members.items()}
    answer = world.call(name, wrong)
    assert answer.status == 400, answer.body[:500]
    check_answer(name, answer)


@pytest.mark.parametrize("name", [name for name, each in OPERATIONS.items() if each.writes])
def test_a_key_that_was_used_is_refused_as_described(world: World, name: str) -> None:
    world.call("mark_channel_read", {"channel": "described"}, idempotency_key="used")
    again = {**world.arguments(name), "channel": "general"} if name == "mark_channel_read" else world.arguments(name)
    answer = world.call(name, again, idempotency_key="used")
    assert (answer.status, answer.json()["code"]) == (409, "idempotency_mismatch")
    check_answer(name, answer)


def test_a_call_too_many_is_refused_as_described() -> None:
    with running(settings=Settings(agent_reads=0.001)) as relay:
        wire = Wire(relay.url, **{"x-agent-api-key": relay.token("mac-often")})
        answers = [wire.send("GET", "/api/v2/board") for _ in range(2)]
        wire.close()
    assert [answer.status for answer in answers] == [200, 429]
    for answer in answers:
        check_answer("check_board", answer)


def test_an_answer_that_is_not_as_described_is_noticed() -> None:
    schema = described()["send_message"]["responses"]["200"]["content"]["application/json"]["schema"]
    message = dict.fromkeys(("id", "channel_id", "author_agent_id", "content", "created_at"), "x")
    whole = {**message, "metadata": None, "parent_message_id": None, "pinned": False}
    envelope = {ENVELOPE: "response", "_notice": NOTICE}
    assert validator(schema).is_valid({**envelope, "data": {"message": whole}})
    assert not validator(schema).is_valid({**envelope, "data": {"message": message}})
    assert not validator(schema).is_valid({**envelope, "data": {"message": {**whole, "pinned": 0}}})
    assert not validator(schema).is_valid({"data": {"message": whole}})
