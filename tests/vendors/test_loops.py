"""Two whole turns per vendor through its real SDK: a recording server asks for tools, the executor answers, it ends.

Each conversation is a generator, so that the sync and the async SDK hold the same one: it yields a request's arguments
and gets the SDK's response, or yields a response and gets the executor's results.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import pytest

from agentchat.client import Client
from agentchat_executor import AsyncExecutor, Executor
from langchain_agentchat import AsyncClient
from tests.conftest import KEY
from tests.servers import FakeRelay, Peer, Scripted, answer

pytestmark = pytest.mark.vendors

QUESTION = "Anything new? Post a summary."
BROKEN = '{"channel": "general", "content": "hel'
# What every first answer asks for, and what each call must come to. Arguments that are no text cannot be broken, but
# they can be missing.
CALLS: list[tuple[str, Any, str]] = [
    ("agentchat_read_messages", {"channel": "general", "limit": None, "before": None}, "1 message, oldest first."),
    ("agentchat_check_board", {}, "1 channel."),
    ("agentchat_send_message", BROKEN, "Error (bad_request): The arguments are no valid JSON"),
    ("agentchat_send_message", {}, "Error (bad_request): send_message: channel is required"),
    ("get_weather", {"city": "Wien"}, "Error (bad_request): There is no tool get_weather"),
    ("agentchat_send_message", {"channel": "general", "content": "hello", "parent_message_id": None}, "Sent as"),
]
NO_TEXT = [call for call in CALLS if call[1] != BROKEN]

Json = dict[str, Any]
Steps = Generator[Any, Any, str]


class Vendor(NamedTuple):
    dialect: Any
    calls: list[tuple[str, Any, str]]
    asked: list[Json]
    """The model's first turn, as it must be sent back."""
    answers: Callable[[list[str]], list[Json]]
    """The results' texts as they must be sent."""
    first: Json
    last: Json
    request: Callable[[list[Any], list[Any]], Json]
    """The arguments of the SDK's method, from the tools and the conversation."""
    turn: Callable[[Any], list[Any]]
    text: Callable[[Any], str]


def talk(vendor: Vendor, tools: list[Any]) -> Steps:
    """A conversation as a program of a user's holds it."""
    asked = {"parts": [{"text": QUESTION}]} if vendor.dialect == "gemini" else {"content": QUESTION}
    said: list[Any] = [{"role": "user", **asked}]
    while True:
        response = yield vendor.request(tools, said)
        results = yield response
        if not results:
            return vendor.text(response)
        said = [*said, *vendor.turn(response), *results]


# OpenAI Chat Completions


def _completion(message: Json) -> Json:
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "message": message}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def _function(name: str, arguments: Any) -> Json:
    return {"name": name, "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments)}


CHAT_TURN: Json = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": f"call_{n}", "type": "function", "function": _function(name, arguments)}
        for n, (name, arguments, _) in enumerate(CALLS)
    ],
}
OPENAI_CHAT = Vendor(
    "openai",
    CALLS,
    [CHAT_TURN],
    lambda texts: [{"role": "tool", "tool_call_id": f"call_{n}", "content": text} for n, text in enumerate(texts)],
    _completion(CHAT_TURN),
    _completion({"role": "assistant", "content": "Done."}),
    lambda tools, said: {"model": "m", "messages": said, "tools": tools},
    lambda completion: [completion.choices[0].message],
    lambda completion: completion.choices[0].message.content,
)


# OpenAI Responses


def _response(output: list[Json]) -> Json:
    return {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": output, "tools": []}


RESPONSES_TURN: list[Json] = [
    {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "opaque"},
    *(
        {"id": f"fc_{n}", "type": "function_call", "call_id": f"call_{n}", **_function(name, arguments)}
        for n, (name, arguments, _) in enumerate(CALLS)
    ),
]
RESPONSES_TEXT = [{"type": "output_text", "text": "Done.", "annotations": []}]
OPENAI_RESPONSES = Vendor(
    "openai_responses",
    CALLS,
    RESPONSES_TURN,
    lambda texts: [
        {"type": "function_call_output", "call_id": f"call_{n}", "output": text} for n, text in enumerate(texts)
    ],
    _response(RESPONSES_TURN),
    _response([{"id": "msg_1", "type": "message", "role": "assistant", "content": RESPONSES_TEXT}]),
    lambda tools, said: {"model": "m", "input": said, "tools": tools, "store": False},
    lambda response: response.output,
    lambda response: response.output_text,
)


# Anthropic


def _message(content: list[Json]) -> Json:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use"}
    return {**head, "content": content, "usage": {"input_tokens": 1, "output_tokens": 1}}


def _tool_result(number: int, text: str) -> Json:
    failed = text.startswith("Error")
    return {"type": "tool_result", "tool_use_id": f"call_{number}", "content": text, "is_error": failed}


ANTHROPIC_TURN: list[Json] = [
    {"type": "text", "text": "I will look."},
    *(
        {"type": "tool_use", "id": f"call_{n}", "name": name, "input": arguments}
        for n, (name, arguments, _) in enumerate(NO_TEXT)
    ),
]
ANTHROPIC = Vendor(
    "anthropic",
    NO_TEXT,
    [{"role": "assistant", "content": ANTHROPIC_TURN}],
    lambda texts: [{"role": "user", "content": [_tool_result(n, text) for n, text in enumerate(texts)]}],
    _message(ANTHROPIC_TURN),
    _message([{"type": "text", "text": "Done."}]),
    lambda tools, said: {"model": "m", "max_tokens": 100, "messages": said, "tools": tools},
    lambda message: [{"role": "assistant", "content": message.content}],
    lambda message: message.content[0].text,
)


# Gemini, which leaves out some ids and signs its thoughts


def _generated(content: Json) -> Json:
    return {"responseId": "r1", "candidates": [{"content": content, "finishReason": "STOP", "index": 0}]}


def _id(number: int) -> Json:
    return {} if number % 2 else {"id": f"call_{number}"}


def _function_response(number: int, text: str) -> Json:
    outcome = "error" if text.startswith("Error") else "output"
    answered = {"name": NO_TEXT[number][0], "response": {outcome: text}}
    return {"functionResponse": {**_id(number), **answered}}


GEMINI_TURN: Json = {
    "role": "model",
    "parts": [
        {"functionCall": {**_id(n), "name": name, "args": arguments}, **({} if n else {"thoughtSignature": "b3BhcXVl"})}
        for n, (name, arguments, _) in enumerate(NO_TEXT)
    ],
}
GEMINI = Vendor(
    "gemini",
    NO_TEXT,
    [GEMINI_TURN],
    lambda texts: [{"role": "user", "parts": [_function_response(n, text) for n, text in enumerate(texts)]}],
    _generated(GEMINI_TURN),
    _generated({"role": "model", "parts": [{"text": "Done."}]}),
    lambda tools, said: {"model": "m", "contents": said, "config": {"tools": tools}},
    lambda response: [response.candidates[0].content],
    lambda response: response.text,
)

VENDORS = {
    "openai_chat": OPENAI_CHAT,
    "openai_responses": OPENAI_RESPONSES,
    "anthropic": ANTHROPIC,
    "gemini": GEMINI,
}


# The SDKs are imported inside functions, so that the plain environment can collect this module and leave it out.


@contextmanager
def sync_sdk(vendor: str, url: str) -> Iterator[Callable[..., Any]]:
    """The SDK's method that asks the model."""
    if vendor.startswith("openai"):
        from openai import OpenAI

        with OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as openai:
            yield openai.chat.completions.create if vendor == "openai_chat" else openai.responses.create
    elif vendor == "anthropic":
        from anthropic import Anthropic

        with Anthropic(base_url=url, api_key="k", max_retries=0) as anthropic:
            yield anthropic.messages.create
    else:
        from google import genai

        with genai.Client(api_key="k", http_options=genai.types.HttpOptions(base_url=url)) as client:
            yield client.models.generate_content


@asynccontextmanager
async def async_sdk(vendor: str, url: str) -> AsyncIterator[Callable[..., Any]]:
    if vendor.startswith("openai"):
        from openai import AsyncOpenAI

        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as openai:
            yield openai.chat.completions.create if vendor == "openai_chat" else openai.responses.create
    elif vendor == "anthropic":
        from anthropic import AsyncAnthropic

        async with AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as anthropic:
            yield anthropic.messages.create
    else:
        from google import genai

        async with genai.Client(api_key="k", http_options=genai.types.HttpOptions(base_url=url)).aio as client:
            yield client.models.generate_content


def run(steps: Steps, ask: Callable[..., Any], handle: Callable[[Any], Any]) -> str:
    outcome = None
    while True:
        try:
            step = steps.send(outcome)
        except StopIteration as done:
            return str(done.value)
        outcome = ask(**step) if isinstance(step, dict) else handle(step)


async def run_async(steps: Steps, ask: Callable[..., Any], handle: Callable[[Any], Any]) -> str:
    outcome = None
    while True:
        try:
            step = steps.send(outcome)
        except StopIteration as done:
            return str(done.value)
        outcome = await (ask(**step) if isinstance(step, dict) else handle(step))


@pytest.fixture
def server(vendor: str) -> Iterator[Scripted]:
    """A vendor's service that asks for tools once, and then is content. It counts over all connections."""
    answers = iter([answer(VENDORS[vendor].first), answer(VENDORS[vendor].last)])

    def handle(peer: Peer) -> None:
        while peer.read() is not None:
            peer.send(next(answers))

    with Scripted(handle) as scripted:
        yield scripted


def check(vendor: Vendor, server: Scripted, relay: FakeRelay, tools: list[Any]) -> None:
    """Both recorded requests, and what reached the relay."""
    reads, [posted] = relay.seen[:-1], relay.seen[-1:]
    assert {seen.path: seen.query for seen in reads} == {
        "/api/v2/messages": {"channel": "general", "mark_read": "true"},
        "/api/v2/board": {},
    }
    assert (posted.method, posted.json()) == ("POST", {"channel": "general", "content": "hello"})
    with Client(relay.url, KEY) as client:
        texts = [Executor(client).execute(name, arguments).text for name, arguments, _ in vendor.calls]
    assert [start for text, (_, _, start) in zip(texts, vendor.calls, strict=True) if not text.startswith(start)] == []
    first, second = (seen.json() for seen in server.seen)
    assert first["tools"] == second["tools"] == tools
    [said] = (second[member] for member in ("messages", "input", "contents") if member in second)
    assert said[1:] == [*vendor.asked, *vendor.answers(texts)]


every_vendor = pytest.mark.parametrize("vendor", VENDORS)


@every_vendor
def test_a_sync_sdk_and_executor_hold_a_conversation_of_two_turns(
    vendor: str, server: Scripted, relay: FakeRelay
) -> None:
    with Client(relay.url, KEY) as client, sync_sdk(vendor, server.url) as ask:
        executor = Executor(client)
        tools = executor.tools(VENDORS[vendor].dialect)
        text = run(talk(VENDORS[vendor], tools), ask, getattr(executor, f"handle_{vendor}"))
    assert text == "Done."
    check(VENDORS[vendor], server, relay, tools)


@every_vendor
async def test_an_async_sdk_and_executor_hold_the_same_conversation(
    vendor: str, server: Scripted, relay: FakeRelay
) -> None:
    async with AsyncClient(relay.url, KEY) as client, async_sdk(vendor, server.url) as ask:
        executor = AsyncExecutor(client)
        tools = executor.tools(VENDORS[vendor].dialect)
        text = await run_async(talk(VENDORS[vendor], tools), ask, getattr(executor, f"handle_{vendor}"))
    assert text == "Done."
    check(VENDORS[vendor], server, relay, tools)


@every_vendor
def test_a_response_of_an_sdk_handled_twice_sends_the_same_key(vendor: str, server: Scripted, relay: FakeRelay) -> None:
    with Client(relay.url, KEY) as client, sync_sdk(vendor, server.url) as ask:
        handle = getattr(Executor(client), f"handle_{vendor}")
        steps = talk(VENDORS[vendor], [])
        response = ask(**next(steps))
        handle(response)
        handle(response)
    first, second = (seen.headers["idempotency-key"] for seen in relay.seen if seen.method == "POST")
    assert first == second


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_mcp_client_lists_and_calls_our_tools_through_an_mcp_server(relay: FakeRelay, mode: str) -> None:
    """Twenty lines are a whole MCP server over the executor."""
    from mcp.client.client import Client as McpClient
    from mcp.server import Server
    from mcp.types import CallToolResult, ListToolsResult

    async with AsyncClient(relay.url, KEY) as client:
        executor = AsyncExecutor(client)

        async def list_tools(*_: Any) -> Any:
            return ListToolsResult.model_validate({"tools": executor.tools("mcp")})

        async def call_tool(_: Any, params: Any) -> Any:
            result = await executor.execute(params.name, params.arguments)
            content = [{"type": "text", "text": result.text}]
            return CallToolResult.model_validate({"content": content, "isError": not result.ok})

        server = Server("agentchat", on_list_tools=list_tools, on_call_tool=call_tool)
        async with McpClient(server, mode=mode) as mcp:
            listed = (await mcp.list_tools()).tools
            good = await mcp.call_tool("agentchat_check_board", {})
            bad = await mcp.call_tool("agentchat_read_messages", {"channel": "general", "limit": 1000})
    assert [tool.model_dump(mode="json", by_alias=True, exclude_unset=True) for tool in listed] == executor.tools("mcp")
    assert (good.is_error, good.content[0].text[:10]) == (False, "1 channel.")
    assert (bad.is_error, "limit must be from 1 to 200" in bad.content[0].text) == (True, True)
