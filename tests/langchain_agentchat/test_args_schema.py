"""Three judges of a model's arguments must agree: our own check, the pydantic model, and the JSON schema.

They are compared on arbitrary arguments. Where JSON Schema differs by its nature, `as_json_schema_sees_it` and
`JsonSchema` below say so, and tests of their own pin each difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError, validators
from pydantic import ValidationError as PydanticError

from agentchat import schema
from agentchat._arguments import check
from agentchat._operation import Operation, Parameter
from agentchat.contract import OPERATIONS
from agentchat.errors import InvalidArguments
from langchain_agentchat import args_schema
from tests.servers import AT, ID

Arguments = dict[str, Any]
AnyOperation = Operation[..., Any]
REFUSED = object()


# The judges


def ours(operation: AnyOperation, arguments: Arguments) -> object:
    try:
        return check(operation, arguments, for_model=True)
    except InvalidArguments:
        return REFUSED


def pydantics(operation: AnyOperation, arguments: Arguments) -> object:
    try:
        return args_schema(operation).model_validate(arguments).model_dump(exclude_none=True)
    except PydanticError:
        return REFUSED


def pattern_as_ecma_reads_it(_: Any, pattern: str, instance: object, schema: object) -> Iterator[ValidationError]:
    """JSON Schema's patterns are ECMA's, whose `$` is the very end; Python's lets a newline follow."""
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


JsonSchema = validators.extend(Draft202012Validator, {"pattern": pattern_as_ecma_reads_it})


def json_schema_accepts(operation: AnyOperation, arguments: Arguments) -> bool:
    return bool(JsonSchema(schema.json_schema(operation)).is_valid(arguments))


def strict_form_accepts(operation: AnyOperation, arguments: Arguments) -> bool:
    (tool,) = schema.tools("anthropic", preset="all", exclude=set(OPERATIONS) - {operation.name})
    return bool(JsonSchema(tool["input_schema"]).is_valid(arguments))


def as_json_schema_sees_it(operation: AnyOperation, arguments: Arguments) -> Arguments:
    """To us null means absent, to JSON Schema it is a value: the nulls of what a model may set are taken out."""
    visible = {parameter.name for parameter in schema.for_models(operation)}
    return {name: value for name, value in arguments.items() if value is not None or name not in visible}


def holds_half_a_pair(value: object) -> bool:
    """Half of a surrogate pair is no text to us and to pydantic; JSON Schema does not say what text is."""
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return any(holds_half_a_pair(inner) for pair in value.items() for inner in pair)
    return isinstance(value, list) and any(map(holds_half_a_pair, value))


# Arguments

texts = st.text(st.characters(), max_size=12)  # with halves of surrogate pairs
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
words = st.sampled_from(
    ["general", "mac-bob", "a", "a" * 50, "a" * 100, "a" * 101, ID, AT, ID.upper(), "", " \n", "½x"]
)
spoilt = st.builds(
    "{}{}{}".format, st.sampled_from(["", " ", "#", "\n"]), words, st.sampled_from(["", " ", "\n", "\u2028", "\ud800"])
)


def near(parameter: Parameter) -> st.SearchStrategy[Any]:
    """Values that fit the parameter, and values that just do not."""
    low, high = parameter.limit or (0, 50)
    match parameter.kind:
        case "integer":
            edges = st.sampled_from([low - 1, low, high, high + 1, 10**30, -(10**30)])
            return edges | st.integers(low, high) | st.floats(low, high) | st.integers(low, high).map(float)
        case "boolean":
            return st.booleans() | st.sampled_from([0, 1, "true", "false", 1.0])
        case "array":
            item = st.sampled_from([ID, "review", "a-1"]) | words | spoilt
            return st.lists(item, max_size=3) | st.integers(max(low - 1, 0), high + 1).map(lambda size: [ID] * size)
        case _:
            sizes = st.sampled_from([size for size in (low - 1, low, high, high + 1) if 0 <= size <= 40_000])
            choices = [*parameter.choices, *(choice.upper() for choice in parameter.choices)]
            return words | spoilt | texts | sizes.map("a".__mul__) | st.sampled_from(choices or ["x"])


def arguments_of(operation: AnyOperation) -> st.SearchStrategy[Arguments]:
    """Mostly whole and near to fitting, with a null, junk or a name too many here and there."""
    fields = {name: near(parameter) for name, parameter in operation.parameters.items()}
    required = {name: fields[name] for name, parameter in operation.parameters.items() if parameter.required}
    whole = st.fixed_dictionaries(required, optional={n: s | st.none() for n, s in fields.items() if n not in required})
    loose = st.fixed_dictionaries({}, optional={name: values | json_values for name, values in fields.items()})
    return (
        whole
        | loose
        | st.tuples(whole, st.dictionaries(texts, json_values, max_size=2)).map(lambda two: {**two[0], **two[1]})
    )


# The comparison


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_check_the_model_and_the_schema_agree_on_any_arguments(name: str, data: st.DataObject) -> None:
    operation = OPERATIONS[name]
    arguments = data.draw(arguments_of(operation))
    verdict = ours(operation, arguments)
    assert pydantics(operation, arguments) == verdict
    if holds_half_a_pair(arguments):
        assert verdict is REFUSED
    else:
        assert json_schema_accepts(operation, as_json_schema_sees_it(operation, arguments)) == (verdict is not REFUSED)


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_what_the_check_accepts_fits_the_strict_form_with_nulls_for_the_rest(name: str, data: st.DataObject) -> None:
    operation = OPERATIONS[name]
    verdict = ours(operation, data.draw(arguments_of(operation)))
    if isinstance(verdict, dict):
        nulls = {parameter.name: None for parameter in schema.for_models(operation)}
        assert strict_form_accepts(operation, {**nulls, **verdict})


LIMITED = [
    pytest.param(operation, parameter, id=f"{operation.name}-{parameter.name}")
    for operation in OPERATIONS.values()
    for parameter in schema.for_models(operation)
    if parameter.limit
]
LISTS_OF_IDS = {"mention_ids", "item_ids"}
FITTING: Arguments = {
    "channel": "general",
    "content": "x",
    "filename": "a.txt",
    "message_id": ID,
    "claim_id": ID,
    "target_agent": "mac-bob",
    "recipients": ["mac-bob", "reviewers"],
    "task_id": ID,
    "lock_id": ID,
    "interrupt_id": ID,
    "pause_id": ID,
    "approval_id": ID,
    "tool_name": "deploy",
    "arguments": "{}",
    "verdict": "allow",
    "names": ["src/**", "docs"],
    "title": "Read the report",
    "note": "x",
    "reason": "x",
    "result": "x",
}


def of_size(parameter: Parameter, size: int) -> Any:
    if parameter.kind == "integer":
        return size
    item = ID if parameter.name in LISTS_OF_IDS else "ab"
    return [item] * size if parameter.kind == "array" else "a" * size


@pytest.mark.parametrize(("operation", "parameter"), LIMITED)
def test_all_three_draw_each_limit_at_the_same_place(operation: AnyOperation, parameter: Parameter) -> None:
    low, high = parameter.limit or (0, 0)
    others = {other.name: FITTING.get(other.name) for other in operation.parameters.values() if other.required}
    for size in (low - 1, low, high, high + 1):
        if size < 0 and parameter.kind != "integer":
            continue
        arguments = {**others, parameter.name: of_size(parameter, size)}
        fits = low <= size <= high
        assert (ours(operation, arguments) is not REFUSED) is fits
        assert (pydantics(operation, arguments) is not REFUSED) is fits
        assert json_schema_accepts(operation, arguments) is fits


# The differences


@pytest.mark.parametrize("name", OPERATIONS)
def test_json_schema_alone_takes_null_for_a_value(name: str) -> None:
    operation = OPERATIONS[name]
    others = {other.name: FITTING.get(other.name, "x") for other in operation.parameters.values() if other.required}
    others |= {name: [ID] for name in LISTS_OF_IDS & others.keys()}
    for parameter in schema.for_models(operation):
        if not parameter.required:
            arguments = {**others, parameter.name: None}
            assert ours(operation, arguments) == pydantics(operation, arguments) == others
            assert not json_schema_accepts(operation, arguments)


def test_json_schema_alone_lets_half_of_a_surrogate_pair_pass() -> None:
    arguments = {"query": "half \ud83d"}
    operation = OPERATIONS["search_messages"]
    assert ours(operation, arguments) is pydantics(operation, arguments) is REFUSED
    assert json_schema_accepts(operation, arguments)


def test_python_alone_lets_a_newline_follow_the_end_of_a_pattern() -> None:
    arguments = {"channel": "general\n"}
    operation = OPERATIONS["list_readers"]
    assert ours(operation, arguments) is pydantics(operation, arguments) is REFUSED
    assert not json_schema_accepts(operation, arguments)
    assert Draft202012Validator(schema.json_schema(operation)).is_valid(arguments)


def test_a_float_that_is_an_integer_is_one_to_all_three() -> None:
    arguments = {"channel": "general", "limit": 5.0}
    operation = OPERATIONS["read_messages"]
    assert ours(operation, arguments) == pydantics(operation, arguments) == {"channel": "general", "limit": 5}
    assert json_schema_accepts(operation, arguments)


# The model


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_models_schema_names_and_describes_what_a_model_may_set(name: str) -> None:
    operation = OPERATIONS[name]
    model = args_schema(operation)
    assert model is args_schema(operation)
    assert model.__name__ == name.title().replace("_", "")
    told = model.model_json_schema()
    assert told["additionalProperties"] is False
    assert {field: told["properties"][field]["description"] for field in told["properties"]} == {
        parameter.name: schema.described(parameter) for parameter in schema.for_models(operation)
    }
    assert told.get("required", []) == [
        parameter.name for parameter in schema.for_models(operation) if parameter.required
    ]


@pytest.mark.parametrize("name", ["metadata", "cursor", "mark_read"])
def test_the_model_refuses_what_is_for_clients_only(name: str) -> None:
    for operation in OPERATIONS.values():
        if (parameter := operation.parameters.get(name)) and parameter.client_only:
            with pytest.raises(PydanticError, match=name):
                args_schema(operation).model_validate({name: None})
