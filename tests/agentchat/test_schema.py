"""Tool definitions: strict enough for every vendor, chosen by preset, and equal to the files in the repository."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import agentchat
from agentchat import schema
from agentchat._operation import Operation
from agentchat.contract import OPERATIONS, PRESETS
from agentchat.errors import InvalidArguments

Schema = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
DEFINITIONS = ROOT / "tool_definitions"
SEED = (
    "check_board", "list_channels", "read_messages", "send_message", "search_messages", "check_mentions",
    "mark_mentions_read", "send_direct_message", "upload_file", "download_file",
)  # fmt: skip
CORE = (*SEED[:5], "check_inbox", "send_direct_message")
TASKS = (
    "create_task", "list_tasks", "check_work", "get_task", "read_task_context", "claim_task", "decline_task",
    "renew_task", "report_progress", "return_task", "complete_task", "fail_task", "cancel_task", "offer_task",
)  # fmt: skip
LOCKS = ("acquire_lock", "list_locks", "renew_lock", "release_lock")
INTERRUPTS = (
    "send_interrupt", "list_interrupts", "get_interrupt", "acknowledge_interrupt", "withdraw_interrupt",
    "pause_agents", "list_pauses", "resume_agents",
)  # fmt: skip
APPROVALS = (
    "request_approval", "list_approvals", "get_approval", "decide_approval", "dismiss_approval", "withdraw_approval",
)  # fmt: skip
WRITES = {
    "send_message", "mark_mentions_read", "send_direct_message", "upload_file", "mark_channel_read", "set_card",
    "pin_message", "unpin_message", "check_inbox", "claim_items", "acknowledge_items", "return_items", "renew_claim",
    "requeue_items", "send_to_many", "join_group", "leave_group", "create_task", "claim_task", "decline_task",
    "renew_task", "report_progress", "return_task", "complete_task", "fail_task", "cancel_task", "offer_task",
    "acquire_lock", "renew_lock", "release_lock", "send_interrupt", "acknowledge_interrupt", "withdraw_interrupt",
    "pause_agents", "resume_agents", "request_approval", "decide_approval", "dismiss_approval", "withdraw_approval",
}  # fmt: skip
# Where each dialect keeps the schema of the arguments.
PLACES = {
    "openai": ("function", "parameters"),
    "openai_responses": ("parameters",),
    "anthropic": ("input_schema",),
    "gemini": ("parameters",),
    "gemini_json_schema": ("parametersJsonSchema",),
    "mcp": ("inputSchema",),
}
STRICT = ("openai", "openai_responses", "anthropic", "gemini_json_schema")
STRICT_KEYWORDS = {"type", "properties", "required", "additionalProperties", "description", "enum", "items", "anyOf"}
GEMINI_KEYWORDS = {"type", "properties", "required", "description", "enum", "items", "nullable"}


def definitions(dialect: Any) -> list[Schema]:
    """Every tool of a dialect, in the order of the contract."""
    found = schema.tools(dialect, preset="all")
    if dialect.startswith("gemini"):
        assert [list(tool) for tool in found] == [["functionDeclarations"]]
        found = found[0]["functionDeclarations"]
    assert len(found) == len(OPERATIONS)
    return found


def described(dialect: str, tool: Schema) -> Schema:
    """The part of a definition that holds name and description."""
    inner: Schema = tool["function"] if dialect == "openai" else tool
    return inner


def parameters(dialect: str, tool: Schema) -> Schema | None:
    found: Any = tool
    for member in PLACES[dialect]:
        found = found.get(member)
    return found


def tools_of(*dialects: str) -> list[Any]:
    """(dialect, operation, tool) for every operation."""
    return [
        pytest.param(dialect, operation, tool, id=f"{dialect}-{operation.name}")
        for dialect in dialects
        for operation, tool in zip(OPERATIONS.values(), definitions(dialect), strict=True)
    ]


def subschemas(value: Schema) -> Iterator[Schema]:
    yield value
    for inner in [*value.get("properties", {}).values(), *value.get("anyOf", [])]:
        yield from subschemas(inner)
    if "items" in value:
        yield from subschemas(value["items"])


def visible(operation: Operation[..., Any]) -> list[str]:
    return [parameter.name for parameter in operation.parameters.values() if not parameter.client_only]


# Every dialect


@pytest.mark.parametrize(("dialect", "operation", "tool"), tools_of(*PLACES))
def test_every_tool_is_named_described_and_holds_what_a_model_may_set(
    dialect: str, operation: Operation[..., Any], tool: Schema
) -> None:
    about = described(dialect, tool)
    assert about["name"] == f"agentchat_{operation.name}"
    assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", about["name"])
    assert about["description"] == operation.description
    arguments = parameters(dialect, tool) or {"properties": {}}
    assert list(arguments["properties"]) == visible(operation)
    for name, property_ in arguments["properties"].items():
        assert property_["description"].startswith(operation.parameters[name].description.removesuffix("."))
        choices = [choice for inner in subschemas(property_) for choice in inner.get("enum", [])]
        assert choices == list(operation.parameters[name].choices)


@pytest.mark.parametrize(("dialect", "operation", "tool"), tools_of(*STRICT, "mcp"))
def test_every_schema_is_a_valid_schema(dialect: str, operation: Operation[..., Any], tool: Schema) -> None:
    found = parameters(dialect, tool)
    assert found is not None
    Draft202012Validator.check_schema(found)


@pytest.mark.parametrize(
    ("operation", "parameter", "text"),
    [
        ("read_messages", "limit", "How many (1 to 200, default 20)."),
        ("send_message", "content", "Text. '@agent-name' notifies that agent (up to 32000 characters)."),
        ("mark_mentions_read", "mention_ids", "Mention ids listed by check_mentions (up to 100)."),
        ("check_mentions", "unread", "false lists read ones too (default true)."),
        ("upload_file", "encoding", "base64 for binary files (default utf-8)."),
        ("list_channels", "type", "Only this type."),
    ],
)
def test_limits_and_defaults_stand_in_the_description(operation: str, parameter: str, text: str) -> None:
    assert schema.described(OPERATIONS[operation].parameters[parameter]) == text


# The strict form


@pytest.mark.parametrize(("dialect", "operation", "tool"), tools_of(*STRICT))
def test_the_strict_form_holds_nothing_a_strict_mode_refuses(
    dialect: str, operation: Operation[..., Any], tool: Schema
) -> None:
    top = parameters(dialect, tool)
    assert top is not None
    assert set(top) == {"type", "properties", "required", "additionalProperties"}
    assert top["type"] == "object"
    for inner in subschemas(top):
        assert set(inner) <= STRICT_KEYWORDS
        assert isinstance(inner.get("type", ""), str), "no lists of types"
        if inner.get("type") == "object":
            assert inner["additionalProperties"] is False
            assert inner["required"] == list(inner["properties"])
        if inner.get("type") == "array":
            assert inner["items"]["type"] == "string"
        assert all(isinstance(choice, str) for choice in inner.get("enum", []))


@pytest.mark.parametrize(("dialect", "operation", "tool"), tools_of(*STRICT))
def test_the_strict_form_takes_null_for_optional_arguments_only(
    dialect: str, operation: Operation[..., Any], tool: Schema
) -> None:
    top = parameters(dialect, tool)
    assert top is not None
    for name, property_ in top["properties"].items():
        optional = not operation.parameters[name].required
        assert Draft202012Validator(property_).is_valid(None) is optional
        assert [member["type"] for member in property_.get("anyOf", [])][1:] == (["null"] if optional else [])


def test_the_dialects_wrap_one_strict_form_each_in_its_own_way() -> None:
    position = list(OPERATIONS).index("get_message")
    chat, responses, anthropic, gemini = (definitions(dialect)[position] for dialect in STRICT)
    strict = responses["parameters"]
    name, description = "agentchat_get_message", OPERATIONS["get_message"].description
    named = {"name": name, "description": description}
    assert responses == {"type": "function", **named, "parameters": strict, "strict": True}
    assert chat == {"type": "function", "function": {**named, "parameters": strict, "strict": True}}
    assert anthropic == {**named, "input_schema": strict}
    assert gemini == {**named, "parametersJsonSchema": strict}
    assert strict["properties"]["message_id"] == {"type": "string", "description": "Id of the message."}


# Gemini's own form


@pytest.mark.parametrize(("dialect", "operation", "tool"), tools_of("gemini"))
def test_the_gemini_form_keeps_to_the_vendors_subset(
    dialect: str, operation: Operation[..., Any], tool: Schema
) -> None:
    top = parameters(dialect, tool)
    assert (top is not None) == bool(visible(operation)), "the service refuses an object without properties"
    for inner in subschemas(top) if top else ():
        assert set(inner) <= GEMINI_KEYWORDS
        assert inner["type"] in {"OBJECT", "STRING", "INTEGER", "BOOLEAN", "ARRAY"}
        assert inner["type"] != "ARRAY" or inner["items"] == {"type": "STRING"}
    for name, property_ in top["properties"].items() if top else ():
        required = operation.parameters[name].required
        assert property_.get("nullable", False) is not required
        assert (name in top["required"]) is required


# MCP


@pytest.mark.parametrize(("dialect", "operation", "tool"), tools_of("mcp"))
def test_mcp_annotations_say_what_a_tool_does(dialect: str, operation: Operation[..., Any], tool: Schema) -> None:
    assert set(tool) == {"name", "title", "description", "inputSchema", "annotations"}
    assert tool["title"] == operation.name.replace("_", " ").capitalize()
    harmless = {"destructiveHint": False, "openWorldHint": True}
    if operation.name in WRITES:
        assert tool["annotations"] == {"readOnlyHint": False, "idempotentHint": operation.idempotent, **harmless}
    else:
        assert tool["annotations"] == {"readOnlyHint": True, **harmless}


def test_mcp_schemas_say_every_rule_of_the_check() -> None:
    assert schema.json_schema(OPERATIONS["mark_mentions_read"]) == {
        "type": "object",
        "properties": {
            "mention_ids": {
                "type": "array",
                "items": {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
                "description": "Mention ids listed by check_mentions (up to 100).",
                "minItems": 1,
                "maxItems": 100,
            }
        },
        "required": ["mention_ids"],
        "additionalProperties": False,
    }
    search = schema.json_schema(OPERATIONS["search_messages"])["properties"]["query"]
    assert (search["minLength"], search["maxLength"], search["pattern"]) == (1, 500, r"[^ \t\r\n]")
    limit = schema.json_schema(OPERATIONS["read_messages"])["properties"]["limit"]
    assert (limit["type"], limit["minimum"], limit["maximum"]) == ("integer", 1, 200)


# Presets and choosing


def test_the_presets_are_the_decided_ones() -> None:
    decided = {"core": CORE, "standard": SEED, "tasks": TASKS, "locks": LOCKS}
    decided |= {"interrupts": INTERRUPTS, "approvals": APPROVALS}
    assert {**decided, "all": tuple(OPERATIONS)} == PRESETS


def test_core_fits_into_4000_bytes_of_minified_openai_json() -> None:
    minified = json.dumps(schema.tools("openai", preset="core"), separators=(",", ":"), ensure_ascii=False)
    assert len(minified.encode()) <= 4000


def test_the_default_is_the_standard_preset_under_our_prefix() -> None:
    names = [tool["name"] for tool in agentchat.tools("anthropic")]
    assert sorted(names) == sorted(f"agentchat_{name}" for name in SEED)


def test_include_and_exclude_change_a_preset_and_understand_prefixed_names() -> None:
    chosen = schema.select("core", include=["agentchat_get_message", "set_card"], exclude=["agentchat_send_message"])
    assert set(chosen) == {*CORE, "get_message", "set_card"} - {"send_message"}
    assert list(chosen) == [name for name in OPERATIONS if name in chosen], "in the order of the contract"
    assert schema.select("core", include=["set_card"], exclude=["set_card"]) == schema.select("core")


@pytest.mark.parametrize("prefix", ["", "relay_"])
def test_the_prefix_is_the_callers(prefix: str) -> None:
    tools = schema.tools("openai_responses", preset="core", include=[f"{prefix}set_card"], prefix=prefix)
    assert [tool["name"] for tool in tools] == [prefix + name for name in schema.select("core", include=["set_card"])]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            {"preset": "cores"},
            "There is no preset 'cores'; there are: core, standard, tasks, locks, interrupts, approvals, all.",
        ),
        ({"include": ["get_mesage"]}, "There is no tool 'get_mesage'; did you mean agentchat_get_message?"),
        ({"exclude": ["agentchat_setcard"]}, "There is no tool 'agentchat_setcard'; did you mean agentchat_set_card?"),
        ({"include": ["zzz"]}, "There is no tool 'zzz'."),
        ({"include": ["z" * 1000]}, f"There is no tool {'z' * 100!r}."),
    ],
)
def test_a_wrong_choice_is_refused_with_what_there_is(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        schema.tools("openai", **choice)
    assert caught.value.message == message


def test_an_unknown_dialect_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        InvalidArguments, match="no dialect 'openapi'; there are: openai, openai_responses, anthropic, "
    ):
        schema.tools("openapi")  # type: ignore[arg-type]
    assert tuple(PLACES) == schema.DIALECTS


def test_a_custom_prefix_is_understood_in_a_name() -> None:
    assert schema.bare_name("relay_get_message", "relay_") == "get_message"
    with pytest.raises(InvalidArguments, match="did you mean relay_get_message"):
        schema.bare_name("relay_get_messag", "relay_")


# The files


@pytest.mark.parametrize("dialect", PLACES)
def test_each_file_holds_what_tools_gives(dialect: Any) -> None:
    assert json.loads((DEFINITIONS / f"{dialect}.json").read_bytes()) == agentchat.tools(dialect, preset="all")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_json_selects_from_the_files_what_tools_selects(preset: str) -> None:
    listed = json.loads((DEFINITIONS / "presets.json").read_bytes())
    assert list(listed) == list(PRESETS)
    chosen = [tool for tool in json.loads((DEFINITIONS / "mcp.json").read_bytes()) if tool["name"] in listed[preset]]
    assert chosen == agentchat.tools("mcp", preset=preset)


def run_definitions(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts" / "definitions.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_files_are_up_to_date() -> None:
    done = run_definitions(ROOT, "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_check_tells_stale_missing_and_foreign_files_and_a_run_mends_them(tmp_path: Path) -> None:
    folder = tmp_path / "tool_definitions"
    shutil.copytree(DEFINITIONS, folder)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "definitions.py", tmp_path / "scripts")
    (folder / "openai.json").write_text("[]\n")
    (folder / "mcp.json").unlink()
    (folder / "old.json").write_text("[]\n")

    told = run_definitions(tmp_path, "--check")
    assert told.returncode == 1
    assert told.stderr == "tool_definitions: openai.json, mcp.json, old.json out of date; run: make definitions\n"
    assert (folder / "openai.json").read_text() == "[]\n", "--check changes nothing"

    assert run_definitions(tmp_path).returncode == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in DEFINITIONS.iterdir()
    }
    assert run_definitions(tmp_path, "--check").returncode == 0
