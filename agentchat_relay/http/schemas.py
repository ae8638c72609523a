"""JSON Schemas of what travels, for the relay's own description: arguments, results, refusals.

All of it follows from the declarations. What a schema says about a request is what one should send; the relay itself
forgives more (`Arguments`), and its answers may hold more members than are declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, get_args

import msgspec

from agentchat import contract, types
from agentchat._exchange import ENVELOPE
from agentchat._operation import Form, Operation, Parameter
from agentchat.errors import CODES, AgentChatError, RelayError

from .reply import NOTICE

Schema = dict[str, Any]
SCHEMAS = "#/components/schemas/"
TEXT: Schema = {"type": "string"}

_BOUNDS = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems"), "integer": ("minimum", "maximum")}
_FORMATS: dict[Form | None, str] = {get_args(contract.Time)[1]: "date-time", get_args(contract.Id)[1]: "uuid"}
# By the name of the argument, for people who read the page and for programs that try it out.
_EXAMPLES: dict[str, Any] = {
    "about": "Reviews Python.",
    "agent_name": "mac-ann",
    "capabilities": ["python", "review"],
    "capability_tags": ["python"],
    "channel": "general",
    "content": "@mac-bob the tests are green.",
    "filename": "report.md",
    "folder": "general",
    "mention_ids": ["01890000-0000-7000-8000-000000000000"],
    "message_id": "01890000-0000-7000-8000-000000000000",
    "metadata": {"ticket": 17},
    "name": "mac-ann",
    "path": "general/1767225600000-report.md",
    "query": '"tests are green"',
    "target_agent": "mac-bob",
    "task_id": "01890000-0000-7000-8000-000000000000",
    "title": "Read the report",
}
# What a refusal holds besides its text and code.
_DETAILS: Schema = {
    "near": {"type": "array", "items": TEXT, "description": "Names the relay knows that look like the one asked for."},
    "arguments": {"type": "array", "items": TEXT, "description": "The arguments that were refused."},
    "allow": {**TEXT, "description": "The methods that the route takes."},
}


# Arguments


def argument(parameter: Parameter) -> Schema:
    """One argument; its text is what the declaration says, with the words of its form."""
    schema: Schema = {"type": parameter.kind}
    if parameter.choices:
        schema["enum"] = list(parameter.choices)
    if parameter.limit is not None and parameter.kind in _BOUNDS:
        schema.update(zip(_BOUNDS[parameter.kind], parameter.limit, strict=True))
    schema |= _formed(parameter.form)
    if parameter.kind == "array":
        schema["items"] = TEXT | _formed(parameter.item_form)
    if parameter.default is not None:
        schema["default"] = parameter.default
    if parameter.name in _EXAMPLES:
        schema["examples"] = [_EXAMPLES[parameter.name]]
    return schema


def _formed(form: Form | None) -> Schema:
    if form is None:
        return {}
    found = {"pattern": form.pattern}
    return {**found, "format": _FORMATS[form]} if form in _FORMATS else found


def about(parameter: Parameter) -> str:
    """What an argument is, with the rules that its schema cannot say, or says as a pattern."""
    text = parameter.description
    if parameter.form is not None:
        text += f" Must be {parameter.form.words}."
    if parameter.item_form is not None:
        text += f" Each must be {parameter.item_form.words}."
    if parameter.kind == "object" and parameter.limit is not None:
        text += f" At most {parameter.limit.high} characters as JSON."
    return text


def body(parameters: Iterable[Parameter]) -> Schema:
    """The members of a request's body, by their names on the wire."""
    found: Schema = {"type": "object", "properties": {}}
    for parameter in parameters:
        *outer, last = parameter.wire
        place = found
        for step in outer:
            place = _member(
                place, step, {"type": "object", "description": f"The members of `{step}`.", "properties": {}}
            )
        _member(place, last, {**argument(parameter), "description": about(parameter)})
        if parameter.required:
            place.setdefault("required", []).append(last)
    return found


def _member(place: Schema, name: str, schema: Schema) -> Schema:
    found: Schema = place["properties"].setdefault(name, schema)
    return found


# Results


def results(operations: Iterable[Operation[..., Any]]) -> tuple[dict[Any, Schema], dict[str, Schema]]:
    """Where the TypedDicts stand that operations answer with; and these, with all they are made of, by name."""
    answered: dict[Any, list[str]] = {}
    for operation in operations:
        if operation.result is not types.FileContent:  # bytes
            answered.setdefault(operation.result, []).append(f"`{operation.name}`")
    places, found = msgspec.json.schema_components([*answered], ref_template=SCHEMAS + "{name}")
    texts = {
        place["$ref"].removeprefix(SCHEMAS): f"The answer of {', '.join(names)}."
        for place, names in zip(places, answered.values(), strict=True)
    }
    for name, schema in found.items():
        for inner in _references(schema):
            texts.setdefault(inner, f"Part of `{name}`.")
    described = {
        name: {**schema, "description": " ".join((schema.get("description") or texts[name]).split())}
        for name, schema in sorted(found.items())
    }
    return dict(zip(answered, places, strict=True)), described


def _references(schema: Any) -> Iterator[str]:
    """The names of all schemas that this one refers to."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].removeprefix(SCHEMAS)
        schema = schema.values()
    elif not isinstance(schema, list):
        return
    for inner in schema:
        yield from _references(inner)


def envelope() -> Schema:
    return {
        "type": "object",
        "description": "What surrounds every answer of an operation.",
        "properties": {
            ENVELOPE: {"const": "response"},
            "_notice": {"const": NOTICE},
            "data": {"description": "The operation's result."},
        },
        "required": [ENVELOPE, "_notice", "data"],
    }


def enveloped(data: Schema) -> Schema:
    return {"allOf": [{"$ref": SCHEMAS + "Envelope"}, {"type": "object", "properties": {"data": data}}]}


# Refusals


def codes() -> dict[int, dict[str, type[AgentChatError]]]:
    """The codes that a route can answer, by status, with the class that says what each means."""
    found: dict[int, dict[str, type[AgentChatError]]] = {500: {RelayError.code: RelayError}}
    for code, (status, kind) in CODES.items():
        if code != "unknown_operation":  # where there is no route
            found.setdefault(status, {})[code] = kind
    return found


def error() -> Schema:
    return {
        "type": "object",
        "description": "Every refusal and every failure. Programs follow `code`, never the text.",
        "properties": {
            "error": {**TEXT, "description": "What is wrong and what to do next."},
            "code": {**TEXT, "enum": [*CODES, RelayError.code], "description": "What went wrong, for programs."},
            **_DETAILS,
        },
        "required": ["error", "code"],
    }


def refused(status: int) -> Schema:
    """An error with one of the codes of this status."""
    narrowed = {"properties": {"code": {"enum": [*codes()[status]]}}}
    return {"allOf": [{"$ref": SCHEMAS + "Error"}, {"type": "object", **narrowed}]}


def meaning(status: int) -> str:
    """What the codes of this status say, from the declarations of the errors."""
    texts: dict[str, list[str]] = {}
    for code, kind in codes()[status].items():
        texts.setdefault((kind.__doc__ or "").splitlines()[0], []).append(f"`{code}`")
    return " ".join(f"{', '.join(group)}: {text}" for text, group in texts.items())
