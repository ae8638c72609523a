"""A result must fit the schema of who asked for it, and neither of the two may hurt the relay."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from agentchat.errors import BadRequest
from agentchat_relay.service.work.results import check_result, check_schema

from .conftest import MakeAgent, raw

COUNT = {"type": "object", "required": ["beans"], "properties": {"beans": {"type": "integer", "minimum": 0}}}


def test_a_result_must_fit(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    task = ann.create_task("count", target_agent=bob.agent, result_schema=COUNT)["task"]
    assert task["result_schema"] == COUNT
    bob.claim_task(task["id"])
    for wrong, told in (
        ("many", "must be JSON"),
        ("[]", r"at \$: \[\] is not of type 'object'"),
        ("{}", r"at \$: 'beans' is a required property"),
        ('{"beans": -1}', r"at \$\.beans: -1 is less than the minimum of 0"),
    ):
        with pytest.raises(BadRequest, match=told):
            bob.complete_task(task["id"], wrong)
    assert bob.get_task(task["id"])["task"]["state"] == "claimed"
    assert bob.complete_task(task["id"], '{"beans": 42}')["task"]["state"] == "done"


def test_who_may_not_complete_it_is_told_that(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    task = ann.create_task("count", target_agent=bob.agent, result_schema=COUNT)["task"]
    assert raw(ann, "POST", f"/api/v2/tasks/{task['id']}/complete", {"result": "many"})[0] == 409
    bob.claim_task(task["id"])
    assert raw(ann, "POST", f"/api/v2/tasks/{task['id']}/complete", {"result": "many"})[0] == 403


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "number", "pattern": "^a*$"}, "pattern is not taken"),
        ({"patternProperties": {"^a": {}}}, "patternProperties is not taken"),
        ({"properties": {"a": {"format": "regex"}}}, r"result_schema\.properties\.a: format is not taken"),
        ({"$ref": "https://example.org/schema"}, r"\$ref must stay within"),
        ({"$ref": "other.json#/a"}, r"\$ref must stay within"),
        ({"$ref": "#/$defs/nothing"}, "leads to no schema"),
        ({"$defs": {"a": [1]}, "$ref": "#/$defs/a/0"}, "leads to no schema"),
        ({"const": {"pattern": "(a+)+$"}, "$ref": "#/const"}, "pattern is not taken"),
        ({"enum": [{"$ref": "#/enum/1"}, {"format": "x"}], "$ref": "#/enum/0"}, "format is not taken"),
        ({"items": {"$dynamicRef": "#a"}}, r"\$dynamicRef is not taken"),
        ({"$id": "file:///etc/passwd"}, r"\$id is not taken"),
        ({"type": "beans"}, "is no JSON Schema: at"),
        ({"minimum": "three"}, "is no JSON Schema"),
        ({"enum": ["x" * 100] * 200}, "at most 16384"),
    ],
)
def test_schemas_that_are_refused(agent: MakeAgent, schema: dict[str, Any], told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        check_schema(schema)
    status, answer = raw(agent(), "POST", "/api/v2/tasks", {"title": "x", "channel": "work", "result_schema": schema})
    assert status == 400, answer


def test_names_of_members_are_no_keywords() -> None:
    schema = {
        "properties": {"pattern": {"type": "string"}, "$id": {}},
        "const": {"pattern": 1},
        "enum": [{"$ref": "x"}],
    }
    check_schema(schema)


def test_what_is_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(200):
        schema = {"not": schema}
    with pytest.raises(BadRequest, match="nested deeper"):
        check_schema(schema)


EXPLODING = {
    "$defs": {
        f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} if level < 40 else True for level in range(41)
    },
    "$ref": "#/$defs/d0",
}
MANY = {"items": {"anyOf": [{"const": number} for number in range(500)] + [{"const": "x"}]}}


@pytest.mark.parametrize(
    ("schema", "result"),
    [(EXPLODING, "1"), (MANY, json.dumps(["x"] * 6000))],
    ids=["exploding", "many"],
)
def test_a_schema_cannot_take_the_relay_with_it(schema: dict[str, Any], result: str) -> None:
    check_schema(schema)
    with pytest.raises(BadRequest, match="in time"):  # it would take hours
        check_result(schema, result)


def test_on_a_busy_machine_what_fits_takes_longer_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two looks at the clock others had the processor for an hour."""
    hours = count()
    monkeypatch.setattr(time, "monotonic", lambda: next(hours) * 3600.0)
    check_result(COUNT, '{"beans": 42}')
    with pytest.raises(BadRequest, match="less than the minimum"):
        check_result(COUNT, '{"beans": -1}')


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [True, {"$ref": "#/$defs/a"}]}}},
        {"properties": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"dependentSchemas": {"x": {"if": {"$ref": "#/$defs/a"}}}}}},
    ],
)
def test_a_schema_that_never_ends_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="refers to itself"):
        check_schema(schema)


def test_a_long_chain_of_references_is_refused() -> None:
    defs: dict[str, Any] = {f"d{number}": {"$ref": f"#/$defs/d{number + 1}"} for number in range(300)}
    with pytest.raises(BadRequest, match="behind each other"):
        check_schema({"$defs": defs | {"d300": True}, "$ref": "#/$defs/d0"})


TREE = {
    "$defs": {"tree": {"required": ["x"], "properties": {"x": {"type": "integer"}, "next": {"$ref": "#/$defs/tree"}}}},
    "$ref": "#/$defs/tree",
}


@pytest.mark.parametrize(
    ("levels", "told"), [(60, "is not of type"), (64, "nested deeper than 64"), (900, "nested deep")]
)
def test_a_schema_may_refer_to_itself_for_what_is_inside(levels: int, told: str) -> None:
    check_schema(TREE)
    check_result(TREE, '{"x":1,"next":' * 20 + '{"x":2}' + "}" * 20)
    with pytest.raises(BadRequest, match=told):
        check_result(TREE, '{"x":1,"next":' * levels + '{"x":"a"}' + "}" * levels)


def from_a_deep_stack(levels: int) -> None:
    if levels:
        from_a_deep_stack(levels - 1)
    else:
        check_result(TREE, '{"x":1,"next":' * 60 + '{"x":"a"}' + "}" * 60)


def test_what_goes_too_deep_is_refused_wherever_the_stack_ends() -> None:
    """In jsonschema's code, or in that of a library in Rust, which panics. On a thread, whose stack is our own."""

    def told(levels: int) -> str:
        with pytest.raises(BadRequest) as caught:
            from_a_deep_stack(levels)
        return str(caught.value)

    with ThreadPoolExecutor(1) as thread:
        found = [thread.submit(told, levels).result() for levels in range(0, 800, 7)]
    assert not [
        text for text in found if not re.search("does not fit|too deep|in time", text)
    ]  # a panic takes its time


def test_a_number_that_is_too_large_is_the_results_fault() -> None:
    schema = {"type": "number", "multipleOf": 0.01}
    check_schema(schema)
    with pytest.raises(BadRequest, match="number that is too large"):
        check_result(schema, "1" * 400)


def test_many_items_are_unique_in_no_time() -> None:
    """Each compared with each would take minutes."""
    schema = {"uniqueItems": True}
    items = [{"number": number} for number in range(1500)]
    check_result(schema, json.dumps(items))
    with pytest.raises(BadRequest, match="not unique"):
        check_result(schema, json.dumps([*items, {"number": 7.0}]))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2, allow_nan=False) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
schemas = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["object", "array", "string", "integer", "number", "null"]),
        "required": st.lists(st.sampled_from("ab"), unique=True, max_size=2),
        "properties": st.dictionaries(
            st.sampled_from("ab"), st.sampled_from([{"type": "integer"}, {}, False]), max_size=2
        ),
        "items": st.sampled_from([{"type": "string"}, {"minimum": 1}]),
        "enum": st.lists(json_values, min_size=1, max_size=3),
        "minimum": st.integers(-2, 2),
        "maxLength": st.integers(0, 2),
        "uniqueItems": st.just(True),
        "not": st.sampled_from([{"type": "null"}, {"const": 1}]),
    },
)


@given(schemas, json_values)
def test_it_says_what_the_library_says(schema: dict[str, Any], value: object) -> None:
    """Tamed, it judges as it did before."""
    fits = Draft202012Validator(schema).is_valid(value)
    try:
        check_result(schema, json.dumps(value))
    except BadRequest:
        assert not fits
    else:
        assert fits
