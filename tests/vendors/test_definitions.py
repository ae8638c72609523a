"""Every file of tool_definitions/ against the vendors' own types, and each of these checks against broken shapes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from jsonschema import validate as validate_json

from agentchat.contract import OPERATIONS
from tests.servers import ID

pytestmark = pytest.mark.vendors

FOLDER = Path(__file__).parents[2] / "tool_definitions"
Check = Callable[[Any], Any]


def definitions(file: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((FOLDER / f"{file}.json").read_text())
    if file.startswith("gemini"):
        [tool] = loaded
        return list(tool["functionDeclarations"])
    return loaded


# The SDKs are imported inside functions, so that the plain environment can collect this module and leave it out.


def openai_chat() -> Check:
    from openai.types.chat import ChatCompletionFunctionToolParam
    from pydantic import TypeAdapter

    return TypeAdapter(ChatCompletionFunctionToolParam).validate_python


def openai_responses() -> Check:
    from openai.types.responses import FunctionToolParam
    from pydantic import TypeAdapter

    return TypeAdapter(FunctionToolParam).validate_python


def anthropic() -> Check:
    from anthropic.types import ToolParam
    from pydantic import TypeAdapter

    return TypeAdapter(ToolParam).validate_python


def gemini() -> Check:
    from google.genai.types import FunctionDeclaration

    return FunctionDeclaration.model_validate


def mcp() -> Check:
    from mcp.types import Tool

    return Tool.model_validate


CHECKS: dict[str, Callable[[], Check]] = {
    "openai": openai_chat,
    "openai_responses": openai_responses,
    "anthropic": anthropic,
    "gemini": gemini,
    "gemini_json_schema": gemini,
    "mcp": mcp,
}
each_file = pytest.mark.parametrize("file", CHECKS)


def test_every_file_of_definitions_is_checked_here() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {*CHECKS, "presets"}


@each_file
def test_the_vendors_types_accept_every_definition_and_lose_nothing_of_it(file: str) -> None:
    check = CHECKS[file]()
    for definition in definitions(file):
        accepted = check(definition)
        if not isinstance(accepted, dict):
            accepted = accepted.model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert accepted == definition


@each_file
def test_every_operation_is_defined_once_under_a_name_all_vendors_take(file: str) -> None:
    names = [definition.get("function", definition)["name"] for definition in definitions(file)]
    assert names == [f"agentchat_{name}" for name in OPERATIONS]
    assert all(name.replace("_", "").isalnum() and name.isascii() and len(name) <= 64 for name in names)


# What each check must reject


def _without(*path: str) -> Callable[[Any], None]:
    def mutate(definition: Any) -> None:
        *outer, last = path
        for name in outer:
            definition = definition[name]
        del definition[last]

    return mutate


def _with(*path: Any) -> Callable[[Any], None]:
    def mutate(definition: Any) -> None:
        *outer, last, value = path
        for name in outer:
            definition = definition[name]
        definition[last] = value

    return mutate


def _channel(name: str, value: Any) -> Callable[[Any], None]:
    return _with("parameters", "properties", "channel", name, value)


BROKEN: dict[str, dict[str, Callable[[Any], None]]] = {
    "openai": {
        "no name": _without("function", "name"),
        "no type": _without("type"),
        "no function": _without("function"),
        "name is no text": _with("function", "name", 5),
        "strict is no boolean": _with("function", "strict", "very"),
    },
    "openai_responses": {
        "no name": _without("name"),
        "no parameters": _without("parameters"),
        "no strict": _without("strict"),
        "other type": _with("type", "functions"),
    },
    "anthropic": {
        "no name": _without("name"),
        "no schema": _without("input_schema"),
        "schema is no object": _with("input_schema", "text"),
    },
    "gemini": {
        "type list": _channel("type", ["string", "null"]),
        "$ref": _channel("$ref", "#/x"),
        "const": _channel("const", "x"),
        "exclusiveMinimum": _channel("exclusiveMinimum", 1),
        "unknown member": _with("input_schema", {}),
    },
    "gemini_json_schema": {
        "misspelt member": _with("parametersJSONSchemas", {}),
        "name is no text": _with("name", 5),
    },
    "mcp": {
        "no name": _without("name"),
        "no schema": _without("inputSchema"),
        "hint is no boolean": _with("annotations", "readOnlyHint", "perhaps"),
    },
}


@pytest.mark.parametrize(("file", "fault"), [(file, fault) for file, faults in BROKEN.items() for fault in faults])
def test_a_broken_definition_is_rejected(file: str, fault: str) -> None:
    definition = _named(file, "read_messages")
    check = CHECKS[file]()
    check(definition)
    BROKEN[file][fault](definition)
    # Which exception a vendor's type raises is its own affair: pydantic's, or an AttributeError of its code.
    with pytest.raises((ValueError, AttributeError)):
        check(definition)


SWAPPED = [
    ("openai", "openai_responses"),
    ("openai", "anthropic"),
    ("openai_responses", "openai"),
    ("anthropic", "openai"),
    ("anthropic", "mcp"),
    ("gemini", "openai"),
    ("gemini", "anthropic"),
    ("mcp", "gemini"),
]


@pytest.mark.parametrize(("file", "other"), SWAPPED)
def test_another_vendors_shape_is_rejected(file: str, other: str) -> None:
    with pytest.raises(ValueError, match="validation error"):
        CHECKS[file]()(_named(other, "read_messages"))


def _named(file: str, name: str) -> Any:
    [found] = [tool for tool in definitions(file) if tool.get("function", tool)["name"] == f"agentchat_{name}"]
    return copy.deepcopy(found)


# The schemas themselves

SCHEMA_OF: dict[str, Callable[[Any], Any]] = {
    "openai": lambda definition: definition["function"]["parameters"],
    "openai_responses": lambda definition: definition["parameters"],
    "anthropic": lambda definition: definition["input_schema"],
    "gemini_json_schema": lambda definition: definition["parametersJsonSchema"],
    "mcp": lambda definition: definition["inputSchema"],
}
STRICT_WORDS = {"type", "properties", "required", "additionalProperties", "description", "enum", "items", "anyOf"}


# Strict models send every argument, absent ones as null.
EXAMPLES: dict[str, dict[str, Any]] = {
    "check_board": {},
    "read_messages": {"channel": "general", "limit": 20, "before": None, "include_status": None},
    "send_message": {"channel": "general", "content": "hello", "parent_message_id": ID, "urgent": None},
    "mark_mentions_read": {"mention_ids": [ID]},
    "upload_file": {
        "channel": "general",
        "filename": "a.txt",
        "content": "x",
        "encoding": "base64",
        "content_type": None,
        "post_message": None,
    },
    "create_task": {
        "title": "Read the report",
        "channel": "general",
        "target_agent": None,
        "body": None,
        "capability_tags": ["python"],
        "context": None,
        "deadline_in": 3600,
        "urgent": None,
    },
    "complete_task": {"task_id": ID, "result": "It is read.", "fence": 1},
    "acquire_lock": {"names": ["src/**"], "shared": None, "lease": 60, "wait": None, "reason": "Moving it"},
    "send_interrupt": {"target_agent": "mac-bob", "reason": "Look at this", "expires_in": None},
    "request_approval": {
        "tool_name": "deploy",
        "arguments": '{"to": "prod"}',
        "reason": None,
        "expires_in": 3600,
        "urgent": None,
    },
    "decide_approval": {
        "approval_id": ID,
        "verdict": "edit",
        "message": None,
        "arguments": '{"to": "test"}',
    },
}


@pytest.mark.parametrize("file", SCHEMA_OF)
def test_every_schema_is_valid_json_schema(file: str) -> None:
    for definition in definitions(file):
        Draft202012Validator.check_schema(SCHEMA_OF[file](definition))


@pytest.mark.parametrize("file", SCHEMA_OF)
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_schema_takes_a_good_call_and_no_bad_one(file: str, name: str) -> None:
    schema = SCHEMA_OF[file](_named(file, name))
    example = EXAMPLES[name]
    if file == "mcp":
        example = {argument: value for argument, value in example.items() if value is not None}
    validate_json(example, schema)
    bad = [{**example, "surprise": 1}, *({**example, argument: {}} for argument in example)]
    bad += [{a: v for a, v in example.items() if a != missing} for missing in schema["required"]]
    for arguments in bad:
        with pytest.raises(ValidationError):
            validate_json(arguments, schema)


def strict_faults(schema: Any) -> list[str]:
    """What strict modes refuse (see the vendor's guide): open objects, optional properties, unknown words."""
    if isinstance(schema, list):
        return [fault for item in schema for fault in strict_faults(item)]
    if not isinstance(schema, dict):
        return []
    faults = [f"word {word}" for word in schema.keys() - STRICT_WORDS]
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            faults.append("open object")
        if schema.get("required") != list(schema.get("properties", {})):
            faults.append("optional property")
    for inner in (*schema.get("properties", {}).values(), schema.get("items"), schema.get("anyOf")):
        faults += strict_faults(inner)
    return faults


@pytest.mark.parametrize("file", ["openai", "openai_responses", "anthropic", "gemini_json_schema"])
def test_schemas_meant_for_strict_modes_hold_nothing_these_refuse(file: str) -> None:
    for definition in definitions(file):
        assert strict_faults(SCHEMA_OF[file](definition)) == []


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"type": "object", "properties": {}, "required": []}, "open object"),
        (
            {"type": "object", "properties": {"a": {}}, "required": [], "additionalProperties": False},
            "optional property",
        ),
        ({"anyOf": [{"type": "string", "default": ""}]}, "word default"),
        ({"type": "array", "items": {"$ref": "#"}}, "word $ref"),
    ],
)
def test_the_strict_check_finds_what_strict_modes_refuse(schema: Any, fault: str) -> None:
    assert strict_faults(schema) == [fault]


def test_mcp_annotations_say_what_reads_and_what_writes() -> None:
    for definition, operation in zip(definitions("mcp"), OPERATIONS.values(), strict=True):
        hints = CHECKS["mcp"]()(definition).annotations
        assert hints.read_only_hint == (not operation.writes)
        assert hints.destructive_hint is False
        assert hints.idempotent_hint is (operation.idempotent if operation.writes else None)
        assert hints.open_world_hint is True


def test_the_file_for_mcp_is_what_tools_list_answers() -> None:
    from mcp.types import ListToolsResult

    tools = definitions("mcp")
    listed = ListToolsResult.model_validate({"tools": tools})
    assert listed.model_dump(mode="json", by_alias=True, exclude_unset=True)["tools"] == tools
