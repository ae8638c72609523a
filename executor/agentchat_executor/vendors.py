"""Each vendor's shapes: tool calls out of a response, results into the next request.

Responses may be the SDK's objects or plain dicts of the same JSON. Results come back as plain dicts, which every SDK
takes as they are. A list of calls is paired with a list of results of the same length and order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .execution import Call, Result

Message = dict[str, Any]


class Vendor(NamedTuple):
    calls: Callable[[Any], list[Call]]
    results: Callable[[Sequence[Call], Sequence[Result]], list[Message]]


def _get(thing: Any, *names: str) -> Any:
    """A member of a dict or an SDK object, under the first of its spellings that is there."""
    for name in names:
        value = thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
        if value is not None:
            return value
    return None


def _list(thing: Any, *names: str) -> list[Any]:
    value = _get(thing, *names)
    return list(value) if isinstance(value, list | tuple) else []


def _text(thing: Any, *names: str) -> str | None:
    value = _get(thing, *names)
    return value if isinstance(value, str) and value else None


# OpenAI Chat Completions: a completion, or its message


def _openai_calls(response: Any) -> list[Call]:
    choices = _list(response, "choices")
    message = _get(choices[0], "message") if choices else response
    calls = []
    for call in _list(message, "tool_calls"):
        # Calls of type `custom` carry plain text; they too must be answered, or the next request is refused.
        function = _get(call, "function", "custom")
        calls.append(
            Call(
                _text(function, "name") or "",
                _get(function, "arguments", "input"),
                _text(call, "id"),
                _text(response, "id") if choices else None,
            )
        )
    return calls


def _openai_results(calls: Sequence[Call], results: Sequence[Result]) -> list[Message]:
    return [
        {"role": "tool", "tool_call_id": call.id or "", "content": result.text}
        for call, result in zip(calls, results, strict=True)
    ]


# OpenAI Responses: a response


def _responses_calls(response: Any) -> list[Call]:
    return [
        Call(_text(item, "name") or "", _get(item, "arguments"), _text(item, "call_id"), _text(response, "id"))
        for item in _list(response, "output")
        if _get(item, "type") == "function_call"
    ]


def _responses_results(calls: Sequence[Call], results: Sequence[Result]) -> list[Message]:
    return [
        {"type": "function_call_output", "call_id": call.id or "", "output": result.text}
        for call, result in zip(calls, results, strict=True)
    ]


# Anthropic Messages: a message


def _anthropic_calls(response: Any) -> list[Call]:
    return [
        Call(_text(block, "name") or "", _get(block, "input"), _text(block, "id"), _text(response, "id"))
        for block in _list(response, "content")
        if _get(block, "type") == "tool_use"
    ]


def _anthropic_results(calls: Sequence[Call], results: Sequence[Result]) -> list[Message]:
    content = [
        {"type": "tool_result", "tool_use_id": call.id or "", "content": result.text, "is_error": not result.ok}
        for call, result in zip(calls, results, strict=True)
    ]
    return [{"role": "user", "content": content}] if content else []


# Gemini: a response, a candidate, or its content. Ids may be missing.


def _gemini_calls(response: Any) -> list[Call]:
    candidates = _list(response, "candidates")
    candidate = candidates[0] if candidates else response
    content = _get(candidate, "content") or candidate
    calls = []
    for part in _list(content, "parts"):
        if (call := _get(part, "function_call", "functionCall")) is not None:
            response_id = _text(response, "response_id", "responseId")
            calls.append(Call(_text(call, "name") or "", _get(call, "args"), _text(call, "id"), response_id))
    return calls


def _gemini_results(calls: Sequence[Call], results: Sequence[Result]) -> list[Message]:
    parts = []
    for call, result in zip(calls, results, strict=True):
        answer: Message = {"name": call.name, "response": {"output" if result.ok else "error": result.text}}
        parts.append({"functionResponse": {"id": call.id, **answer} if call.id else answer})
    return [{"role": "user", "parts": parts}] if parts else []


OPENAI_CHAT = Vendor(_openai_calls, _openai_results)
OPENAI_RESPONSES = Vendor(_responses_calls, _responses_results)
ANTHROPIC = Vendor(_anthropic_calls, _anthropic_results)
GEMINI = Vendor(_gemini_calls, _gemini_results)
