"""Each vendor's shapes without its SDK: what counts as a call, and the exact JSON that goes back.

Responses come twice: as plain dicts of the vendor's JSON, and as objects with attributes as the SDKs make them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat.client import Client
from agentchat.errors import InvalidArguments
from agentchat_executor import Executor
from agentchat_executor.vendors import ANTHROPIC, GEMINI, OPENAI_CHAT, OPENAI_RESPONSES, Vendor
from tests.conftest import KEY
from tests.servers import ID, FakeRelay

POST = '{"channel": "general", "content": "hello"}'
SENT = f"Sent as message {ID}."
UNKNOWN = "Error (bad_request): There is no tool agentchat_send_mesage; did you mean agentchat_send_message?"
NO_INPUT = (
    "Error (bad_request): send_message: there is no argument 'input'; it takes: channel, content, "
    "parent_message_id, urgent; channel is required: Channel name without '#'. It is created if new; "
    "content is required: Text. '@agent-name' notifies that agent."
)


@pytest.fixture
def executor(relay: FakeRelay) -> Iterator[Executor]:
    with Client(relay.url, KEY, retries=0) as client:
        yield Executor(client, preset="core", exclude=NOT_USED)


NOT_USED = (
    "list_channels", "read_messages", "search_messages", "send_direct_message", "check_inbox",
)  # fmt: skip


def as_object(json: Any) -> Any:
    """JSON as an SDK holds it: members are attributes; arguments and inputs stay plain."""
    if isinstance(json, list):
        return [as_object(item) for item in json]
    if not isinstance(json, dict):
        return json
    plain = ("input", "args", "arguments")
    return SimpleNamespace(**{name: value if name in plain else as_object(value) for name, value in json.items()})


both_forms = pytest.mark.parametrize("form", [lambda json: json, as_object], ids=["dicts", "objects"])


# OpenAI Chat Completions


def _function(id: str | None, name: str, arguments: Any) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


ASKED = {
    "role": "assistant",
    "content": None,
    "refusal": None,
    "tool_calls": [
        _function("call_1", "agentchat_send_message", POST),
        _function("call_2", "agentchat_send_mesage", "{}"),
        {"id": "call_3", "type": "custom", "custom": {"name": "agentchat_send_message", "input": "hello"}},
    ],
}
COMPLETION = {"id": "chatcmpl-1", "object": "chat.completion", "choices": [{"index": 0, "message": ASKED}]}


@both_forms
@pytest.mark.parametrize("response", [COMPLETION, ASKED], ids=["completion", "message"])
def test_openai_chat_answers_each_call_with_a_tool_message(executor: Executor, form: Any, response: Any) -> None:
    assert executor.handle_openai_chat(form(response)) == [
        {"role": "tool", "tool_call_id": "call_1", "content": SENT},
        {"role": "tool", "tool_call_id": "call_2", "content": UNKNOWN},
        {"role": "tool", "tool_call_id": "call_3", "content": NO_INPUT},
    ]


# OpenAI Responses

CALLED = {"type": "function_call", "status": "completed"}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "output": [
        {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "x"},
        {
            "id": "fc_1",
            "type": "function_call",
            "call_id": "call_1",
            "name": "agentchat_send_message",
            "arguments": POST,
        },
        {"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Wait."}]},
        {"id": "ws_1", "type": "web_search_call", "status": "completed", "name": "agentchat_check_board"},
        {"id": "fc_2", **CALLED, "call_id": "call_2", "name": "agentchat_send_mesage", "arguments": ""},
    ],
}


@both_forms
def test_openai_responses_answers_each_function_call_by_its_call_id(executor: Executor, form: Any) -> None:
    assert executor.handle_openai_responses(form(RESPONSE)) == [
        {"type": "function_call_output", "call_id": "call_1", "output": SENT},
        {"type": "function_call_output", "call_id": "call_2", "output": UNKNOWN},
    ]


# Anthropic

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "stop_reason": "tool_use",
    "content": [
        {"type": "thinking", "thinking": "…", "signature": "x"},
        {"type": "text", "text": "I will post."},
        {
            "type": "tool_use",
            "id": "toolu_1",
            "name": "agentchat_send_message",
            "input": {"channel": "general", "content": "hello", "parent_message_id": None},
        },
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
        {"type": "tool_use", "id": "toolu_2", "name": "agentchat_send_mesage", "input": {}},
    ],
}


@both_forms
def test_anthropic_gets_all_results_in_one_user_message(executor: Executor, form: Any) -> None:
    assert executor.handle_anthropic(form(MESSAGE)) == [
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": SENT, "is_error": False},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": UNKNOWN, "is_error": True},
            ],
        }
    ]


# Gemini

GEMINI_ARGS = {"channel": "general", "content": "hello"}


def _content(function_call: str) -> dict[str, Any]:
    return {
        "role": "model",
        "parts": [
            {"text": "I will post.", "thought": True},
            {function_call: {"id": "fc_1", "name": "agentchat_send_message", "args": GEMINI_ARGS}},
            {function_call: {"name": "agentchat_send_mesage", "args": {}}},
            {function_call: {"name": "agentchat_check_board", "args": None}},
        ],
    }


GEMINI_FORMS = {
    "camelCase": {"responseId": "r1", "candidates": [{"content": _content("functionCall"), "finishReason": "STOP"}]},
    "snake_case": {
        "response_id": "r1",
        "candidates": [{"content": _content("function_call"), "finish_reason": "STOP"}],
    },
    "candidate": {"content": _content("functionCall")},
    "content": _content("function_call"),
}


@both_forms
@pytest.mark.parametrize("response", GEMINI_FORMS.values(), ids=GEMINI_FORMS)
def test_gemini_gets_all_results_in_one_content_and_ids_only_where_it_sent_them(
    executor: Executor, form: Any, response: Any
) -> None:
    [content] = executor.handle_gemini(form(response))
    board = content["parts"].pop()["functionResponse"]
    assert content == {
        "role": "user",
        "parts": [
            {"functionResponse": {"id": "fc_1", "name": "agentchat_send_message", "response": {"output": SENT}}},
            {"functionResponse": {"name": "agentchat_send_mesage", "response": {"error": UNKNOWN}}},
        ],
    }
    assert list(board) == ["name", "response"]
    assert board["response"]["output"].startswith("1 channel.")


@pytest.mark.parametrize("spelling", ["camelCase", "snake_case"])
def test_gemini_responses_have_ids_that_make_writes_repeatable(
    executor: Executor, relay: FakeRelay, spelling: str
) -> None:
    for _ in range(2):
        executor.handle_gemini(GEMINI_FORMS[spelling])
    first, second = (seen.headers["idempotency-key"] for seen in relay.seen if seen.method == "POST")
    assert first == second


def test_custom_tool_calls_are_answered_in_their_own_form() -> None:
    """They are never ours: plain text is no arguments. `others` gets it as `input`."""
    asked = {"type": "custom_tool_call", "call_id": "call_1", "name": "run_sql", "input": "select 1"}
    executor = Executor(None, others=lambda name, arguments: f"{name} {arguments['input']}")
    assert executor.handle_openai_responses({"id": "r", "output": [asked]}) == [
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "run_sql select 1"}
    ]


# All of them

Handle = Callable[[Executor, Any], list[dict[str, Any]]]
HANDLES: dict[str, tuple[Handle, Vendor]] = {
    "openai_chat": (Executor.handle_openai_chat, OPENAI_CHAT),
    "openai_responses": (Executor.handle_openai_responses, OPENAI_RESPONSES),
    "anthropic": (Executor.handle_anthropic, ANTHROPIC),
    "gemini": (Executor.handle_gemini, GEMINI),
}
each_vendor = pytest.mark.parametrize(("handle", "vendor"), HANDLES.values(), ids=HANDLES)

WITHOUT_CALLS: list[tuple[str, dict[str, Any]]] = [
    ("openai_chat", {"id": "x", "choices": [{"message": {"role": "assistant", "content": "hi", "tool_calls": None}}]}),
    ("openai_chat", {"role": "assistant", "content": "hi"}),
    ("openai_chat", {"id": "x", "choices": []}),
    ("openai_responses", {"id": "x", "output": [{"type": "message", "content": [{"type": "output_text"}]}]}),
    ("anthropic", {"id": "x", "content": [{"type": "text", "text": "hi"}]}),
    ("anthropic", {"id": "x", "content": []}),
    ("gemini", {"candidates": [{"content": {"role": "model", "parts": [{"text": "hi"}]}}]}),
    ("gemini", {"candidates": [{"content": None, "finishReason": "SAFETY"}]}),
    ("gemini", {"candidates": None, "promptFeedback": {"blockReason": "SAFETY"}}),
]


@both_forms
@pytest.mark.parametrize(("name", "response"), WITHOUT_CALLS)
def test_a_response_without_calls_needs_no_answer(executor: Executor, form: Any, name: str, response: Any) -> None:
    assert HANDLES[name][0](executor, form(response)) == []


@each_vendor
@pytest.mark.parametrize("response", [{}, {"id": "x"}, None, "text", 5, [], ["choices", "output", "content", "parts"]])
def test_what_is_no_response_of_the_vendor_is_refused(
    executor: Executor, handle: Handle, vendor: Vendor, response: Any
) -> None:
    """An empty answer would look as if the model had not asked for a tool."""
    with pytest.raises(InvalidArguments, match="This is no "):
        handle(executor, response)


def ask(vendor: Vendor, calls: list[Any]) -> Any:
    """A response of the vendor in which these are the calls."""
    if vendor is OPENAI_CHAT:
        return {"id": "r", "choices": [{"message": {"tool_calls": calls}}]}
    if vendor is GEMINI:
        return {"responseId": "r", "candidates": [{"content": {"parts": [{"functionCall": call} for call in calls]}}]}
    kind = "tool_use" if vendor is ANTHROPIC else "function_call"
    member = "content" if vendor is ANTHROPIC else "output"
    return {"id": "r", member: [{**call, "type": kind} for call in calls]}


def answers(vendor: Vendor, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per call."""
    if vendor in (OPENAI_CHAT, OPENAI_RESPONSES):
        return messages
    assert len(messages) <= 1
    return [entry for message in messages for entry in message["parts" if vendor is GEMINI else "content"]]


WORDS = (
    "id", "call_id", "name", "arguments", "input", "args", "function", "custom", "type", "choices", "message", "output",
    "tool_calls", "content", "candidates", "parts", "functionCall", "function_call", "responseId", "response_id",
)  # fmt: skip
VALUES = (
    "function",
    "function_call",
    "tool_use",
    "agentchat_check_board",
    "check_board",
    "",
    "{}",
    "{",
    "[]",
    "\ud800",
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(VALUES)
json_values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(), inner, max_size=4),
    max_leaves=15,
)
call_likes = st.dictionaries(st.sampled_from(WORDS), json_values, max_size=6)


@each_vendor
@settings(max_examples=60, deadline=None)
@given(response=json_values)
def test_json_of_any_shape_is_answered_call_by_call_or_refused(handle: Handle, vendor: Vendor, response: Any) -> None:
    executor = Executor(None, preset="core", exclude=["check_board"])
    try:
        expected = len(vendor.calls(response))
    except InvalidArguments:
        with pytest.raises(InvalidArguments):
            handle(executor, response)
        return
    assert len(answers(vendor, handle(executor, response))) == expected


@each_vendor
@settings(max_examples=60, deadline=None)
@given(calls=st.lists(call_likes, max_size=4))
def test_every_call_however_odd_gets_an_answer(handle: Handle, vendor: Vendor, calls: list[Any]) -> None:
    executor = Executor(None, preset="core", exclude=["check_board"])
    entries = answers(vendor, handle(executor, ask(vendor, calls)))
    assert len(entries) == len(calls)
    key = {OPENAI_CHAT: "tool_call_id", OPENAI_RESPONSES: "call_id", ANTHROPIC: "tool_use_id"}.get(vendor)
    if key is not None:
        source = "call_id" if vendor is OPENAI_RESPONSES else "id"
        ids = [call.get(source) for call in calls]
        assert [entry[key] for entry in entries] == [given if isinstance(given, str) else "" for given in ids]
