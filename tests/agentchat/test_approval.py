"""What stands for a call exactly: one form and one hash, wherever they are made."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agentchat.approval import call_hash, canonical
from agentchat.errors import BadRequest
from agentchat_relay.service.work.approval import Details, arguments_of, details_of
from agentchat_relay.service.work.approvals import _exactly

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers() | st.integers(-(10**400), 10**400) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=5)
TOOLS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=200)


def turned(value: Any) -> Any:
    """The same with the members of each object in another order."""
    if isinstance(value, dict):
        return {name: turned(inner) for name, inner in reversed(value.items())}
    return [turned(inner) for inner in value] if isinstance(value, list) else value


def test_the_one_form() -> None:
    call = {"b": [1, 1.0, True, None, 'é\u2028\n\x00\\"'], "a": {"z": {}, "Z": -0.0}, "": 10**30}
    assert canonical(call) == (
        '{"":1000000000000000000000000000000,"a":{"Z":-0.0,"z":{}},"b":[1,1.0,true,null,"é\u2028\\n\\u0000\\\\\\""]}'
    )
    assert canonical({}) == "{}"
    whole = '{"arguments":{},"tool_name":"bash"}'
    assert call_hash("bash", {}) == hashlib.sha256(whole.encode()).hexdigest()


@given(OBJECTS)
def test_the_order_of_members_does_not_count(call: dict[str, Any]) -> None:
    assert canonical(turned(call)) == canonical(call)
    assert call_hash("bash", turned(call)) == call_hash("bash", call)


@given(OBJECTS, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_nor_how_it_was_written(call: dict[str, Any], ascii_only: bool, indent: Any) -> None:
    written = json.dumps(call, ensure_ascii=ascii_only, indent=indent)
    assert canonical(json.loads(written)) == canonical(call)
    assert canonical(json.loads(canonical(call))) == canonical(call)
    assert "\n" not in canonical(call)


@given(TOOLS, OBJECTS)
def test_the_relay_makes_the_same_of_it(tool: str, call: dict[str, Any]) -> None:
    """Asked for as JSON of any make, kept, and given out again."""
    for written in (json.dumps(call, indent=2), canonical(turned(call))):
        kept = _exactly(tool, arguments_of(written))
        assert kept == Details(canonical(call), call_hash(tool, call))
        assert details_of({"details": msgspec.json.encode(kept).decode()}) == kept
        given_out = json.loads(msgspec.json.encode({"arguments": arguments_of(kept.arguments)}))["arguments"]
        assert canonical(given_out) == canonical(call)
        assert call_hash(tool, given_out) == kept.call_hash


@given(OBJECTS, OBJECTS, TOOLS, TOOLS)
def test_other_calls_have_other_hashes(one: dict[str, Any], two: dict[str, Any], tool: str, other: str) -> None:
    assert (call_hash(tool, one) == call_hash(other, two)) is ((tool, canonical(one)) == (other, canonical(two)))


@given(OBJECTS, TEXT, VALUES)
def test_a_change_shows(call: dict[str, Any], name: str, value: Any) -> None:
    changed = call | {name: value}
    assume(json.dumps(changed, sort_keys=True) != json.dumps(call, sort_keys=True))
    assert call_hash("bash", changed) != call_hash("bash", call)
    assert call_hash("bash", {"nested": [changed]}) != call_hash("bash", {"nested": [call]})


@pytest.mark.parametrize(
    ("one", "two"),
    [(1, 1.0), (1, True), (0, False), (0.0, -0.0), (0, None), (1, "1"), ("", None), ([], {}), ([1, 2], [2, 1]),
     ([[]], []), ("é", "e\u0301"), (2**53, 2**53 + 1), (10**30, 1e30), ("a", "a "), ("\\n", "\n")],
)  # fmt: skip
def test_what_is_alike_is_not_the_same(one: Any, two: Any) -> None:
    assert call_hash("bash", {"a": one}) != call_hash("bash", {"a": two})


def test_a_tool_cannot_pass_for_arguments() -> None:
    assert call_hash('x","arguments":{}', {}) != call_hash("x", {})
    assert call_hash("x", {"tool_name": "y"}) != call_hash("y", {"tool_name": "x"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_json_has_no_form(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": [value]})


@pytest.mark.parametrize("text", ['{"a":"\\ud800"}', '{"\\udfff":1}', '{"a":["\\ude00\\ud83d"]}'])
def test_half_a_character_has_no_hash(text: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        call_hash("bash", json.loads(text))
    with pytest.raises(BadRequest, match="surrogate"):
        _exactly("bash", arguments_of(text))
