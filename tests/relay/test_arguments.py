"""The decoder made from a declaration accepts nothing that the contract's own check refuses, and reads it the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat.contract import OPERATIONS
from agentchat.errors import CallerError
from agentchat_relay.http.arguments import Arguments
from agentchat_relay.http.request import read_json

pytestmark = pytest.mark.sqlite

QUICK = [
    "send_message", "send_direct_message", "mark_mentions_read", "mark_channel_read", "list_files", "upload_file",
    "acknowledge_items", "return_items", "renew_claim", "requeue_items", "send_to_many", "join_group", "leave_group",
    "create_task", "acquire_lock", "send_interrupt", "pause_agents", "request_approval",
]  # fmt: skip
ID = "0198f2c0-0000-7000-8000-000000000001"
TEXTS = st.one_of(
    st.sampled_from(
        ["general", "g", "a" * 100, "a" * 101, "A", "general\n", " general", "", " ", "\xa0", "x", "chat", "status",
         "Chat", ID, ID.upper(), ID + "\n", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z\n", "utf-8", "base64",
         "true", "0", "\0", "a\0b"]
    ),
    st.text(max_size=20),
)  # fmt: skip
VALUES = st.one_of(
    TEXTS,
    st.sampled_from([100, 101, 32000, 32001]).map(lambda characters: "x" * characters),
    st.sampled_from([32000, 32001]).map(lambda characters: "\U0001f600" * characters),
    st.none(),
    st.booleans(),
    st.integers(-5, 300),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.lists(TEXTS, max_size=4),
    st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=5), st.none()), max_size=3),
)


def slowly(arguments: Arguments, body: bytes) -> Any:
    """What the check makes of a body; None if it refuses."""
    try:
        return arguments.checked(read_json(body), {})
    except CallerError:
        return None


def test_these_operations_are_read_quickly() -> None:
    assert {name for name in OPERATIONS if Arguments(OPERATIONS[name])._decode is not None} == set(QUICK)


@pytest.mark.parametrize("name", QUICK)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_what_is_read_quickly_is_what_the_check_reads(name: str, data: st.DataObject) -> None:
    operation = OPERATIONS[name]
    members = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(operation.parameters, VALUES)))
    unknown = data.draw(st.dictionaries(st.text(max_size=8), VALUES, max_size=1))
    body = json.dumps({**unknown, **members}, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
    arguments = Arguments(operation)
    quick = arguments.quickly(body)
    if quick is not None:
        assert quick == slowly(arguments, body)


@pytest.mark.parametrize(
    "body",
    [
        {"channel": "general", "content": "hello"},
        {"channel": "general", "content": "hello", "parent_message_id": None, "metadata": None},
        {
            "channel": "general",
            "content": "hello\n@mac-bob \U0001f600",
            "parent_message_id": ID,
            "metadata": {"a": [1]},
        },
        {"channel": "ab", "content": "x" * 32000, "kind": "status", "unknown": {}},
    ],
)
def test_usual_bodies_are_read_quickly(body: dict[str, Any]) -> None:
    arguments = Arguments(OPERATIONS["send_message"])
    encoded = json.dumps(body).encode()
    assert arguments.quickly(encoded) == slowly(arguments, encoded) is not None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'{"channel": "general"}', b'{"channel":"general","content":"\\u0000x"}']
)
def test_what_is_not_usual_is_left_to_the_check(body: bytes) -> None:
    assert Arguments(OPERATIONS["send_message"]).quickly(body) is None
