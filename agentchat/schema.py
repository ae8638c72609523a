"""Operations as JSON Schema, and as each vendor's tool definition.

One form serves strict and non-strict use: flat objects, every property required, optional ones nullable, nothing a
strict mode refuses (no default, $ref, pattern, length). What the schema cannot say stands in the description and is
enforced by the argument check. MCP clients validate with the schema themselves, so theirs says everything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

from ._arguments import nearest
from ._operation import Operation, Parameter
from .contract import OPERATIONS, PRESETS
from .errors import InvalidArguments

Dialect = Literal["openai", "openai_responses", "anthropic", "gemini", "gemini_json_schema", "mcp"]
Schema = dict[str, Any]
PREFIX = "agentchat_"


def tools(
    dialect: Dialect,
    *,
    preset: str = "standard",
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    prefix: str = PREFIX,
) -> list[Schema]:
    """Tool definitions, ready to be passed as the vendor SDK's `tools`."""
    if dialect not in _DIALECTS:
        raise InvalidArguments(f"There is no dialect {dialect!r}; there are: {', '.join(_DIALECTS)}.")
    names = select(preset, include=include, exclude=exclude, prefix=prefix)
    definitions = [_DIALECTS[dialect](prefix + name, OPERATIONS[name]) for name in names]
    return [{"functionDeclarations": definitions}] if dialect.startswith("gemini") else definitions


def select(
    preset: str = "standard", *, include: Iterable[str] = (), exclude: Iterable[str] = (), prefix: str = PREFIX
) -> tuple[str, ...]:
    """The names of a preset's operations, with some more or fewer. Prefixed names are understood."""
    if not re.fullmatch("[a-zA-Z0-9_-]{0,32}", prefix):
        raise InvalidArguments(f"The prefix {prefix[:50]!r} must be at most 32 of a-z, A-Z, 0-9, '_' and '-'.")
    if preset not in PRESETS:
        raise InvalidArguments(f"There is no preset {preset!r}; there are: {', '.join(PRESETS)}.")
    wanted = {*PRESETS[preset], *bare_names(include, prefix)} - bare_names(exclude, prefix)
    return tuple(name for name in OPERATIONS if name in wanted)


def bare_names(names: Iterable[str], prefix: str = PREFIX) -> set[str]:
    """The operations some tools' names stand for; a single name is one, not its letters."""
    return {bare_name(name, prefix) for name in ([names] if isinstance(names, str) else names)}


def bare_name(name: str, prefix: str = PREFIX) -> str:
    """The operation a tool's name stands for."""
    bare = name.removeprefix(prefix)
    if bare in OPERATIONS:
        return bare
    near = nearest(bare, OPERATIONS)
    raise InvalidArguments(f"There is no tool {name[:100]!r}" + (f"; did you mean {prefix}{near}?" if near else "."))


def for_models(operation: Operation[..., Any]) -> list[Parameter]:
    """The parameters a model may set."""
    return [parameter for parameter in operation.parameters.values() if not parameter.client_only]


def described(parameter: Parameter) -> str:
    """The parameter's text with its limits and default."""
    notes = []
    if parameter.limit is not None:
        low, high = parameter.limit
        match parameter.kind:
            case "integer":
                notes.append(f"{low} to {high}")
            case "string":
                notes.append(f"up to {high} characters")
            case _:
                notes.append(f"up to {high}")
    if not parameter.required and parameter.default is not None:
        notes.append(f"default {json.dumps(parameter.default)}".replace('"', ""))
    text = parameter.description
    return f"{text.removesuffix('.')} ({', '.join(notes)})." if notes else text


def json_schema(operation: Operation[..., Any]) -> Schema:
    """Everything the argument check enforces on a model's arguments, as JSON Schema."""
    parameters = for_models(operation)
    return {
        "type": "object",
        "properties": {parameter.name: _full(parameter) for parameter in parameters},
        "required": [parameter.name for parameter in parameters if parameter.required],
        "additionalProperties": False,
    }


_BOUNDS = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems"), "integer": ("minimum", "maximum")}


def _full(parameter: Parameter) -> Schema:
    schema = {**_plain(parameter), "description": described(parameter)}
    if parameter.limit is not None and parameter.kind in _BOUNDS:
        schema.update(zip(_BOUNDS[parameter.kind], parameter.limit, strict=True))
    if parameter.form is not None:
        schema["pattern"] = parameter.form.pattern
    if parameter.item_form is not None:
        schema["items"] = {"type": "string", "pattern": parameter.item_form.pattern}
    return schema


def _plain(parameter: Parameter) -> Schema:
    schema: Schema = {"type": parameter.kind}
    if parameter.choices:
        schema["enum"] = list(parameter.choices)
    if parameter.kind == "array":
        schema["items"] = {"type": "string"}
    return schema


def _strict(operation: Operation[..., Any]) -> Schema:
    parameters = for_models(operation)
    return {
        "type": "object",
        "properties": {parameter.name: _nullable(parameter) for parameter in parameters},
        "required": [parameter.name for parameter in parameters],
        "additionalProperties": False,
    }


def _nullable(parameter: Parameter) -> Schema:
    schema = _plain(parameter)
    if not parameter.required:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "description": described(parameter)}


def _gemini_schema(operation: Operation[..., Any]) -> Schema:
    """The vendor's own subset of OpenAPI: upper-case types, `nullable`, no additionalProperties."""
    parameters = for_models(operation)
    properties = {}
    for parameter in parameters:
        schema = _plain(parameter)
        schema["type"] = schema["type"].upper()
        if "items" in schema:
            schema["items"] = {"type": "STRING"}
        if not parameter.required:
            schema["nullable"] = True
        properties[parameter.name] = {**schema, "description": described(parameter)}
    return {
        "type": "OBJECT",
        "properties": properties,
        "required": [parameter.name for parameter in parameters if parameter.required],
    }


def _openai_responses(name: str, operation: Operation[..., Any]) -> Schema:
    return {
        "type": "function",
        "name": name,
        "description": operation.description,
        "parameters": _strict(operation),
        "strict": True,
    }


def _openai(name: str, operation: Operation[..., Any]) -> Schema:
    function = _openai_responses(name, operation)
    return {"type": function.pop("type"), "function": function}


def _anthropic(name: str, operation: Operation[..., Any]) -> Schema:
    return {"name": name, "description": operation.description, "input_schema": _strict(operation)}


def _gemini(name: str, operation: Operation[..., Any]) -> Schema:
    definition: Schema = {"name": name, "description": operation.description}
    if for_models(operation):  # the service refuses an object without properties
        definition["parameters"] = _gemini_schema(operation)
    return definition


def _gemini_json_schema(name: str, operation: Operation[..., Any]) -> Schema:
    return {"name": name, "description": operation.description, "parametersJsonSchema": _strict(operation)}


def _mcp(name: str, operation: Operation[..., Any]) -> Schema:
    annotations: Schema = {"readOnlyHint": not operation.writes, "destructiveHint": False, "openWorldHint": True}
    if operation.writes:
        annotations["idempotentHint"] = operation.idempotent  # by itself: a host that repeats a call sends no key
    return {
        "name": name,
        "title": operation.name.replace("_", " ").capitalize(),
        "description": operation.description,
        "inputSchema": json_schema(operation),
        "annotations": annotations,
    }


_DIALECTS: dict[str, Callable[[str, Operation[..., Any]], Schema]] = {
    "openai": _openai,
    "openai_responses": _openai_responses,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "gemini_json_schema": _gemini_json_schema,
    "mcp": _mcp,
}
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
