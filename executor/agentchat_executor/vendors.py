"""Each vendor's shapes: tool calls out of a response, results into the next request.

Responses may be the SDK's objects or plain dicts of the same JSON. Results come back as plain dicts, which every SDK
takes as they are. A list of calls is paired with a list of results of the same length and order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from agentchat.errors import InvalidArguments

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


def _expect(response: Any, what: str, *names: str) -> None:
    """Refuse what cannot be such a response: an empty answer would look as if no tool had been asked for."""
    found = [name for name in names if name in response] if isinstance(response, Mapping) else None
    if found == [] or (found is None and not any(hasattr(response, name) for name in names)):
        raise InvalidArguments(f"This is no {what}: it has none of {', '.join(names)}.")


# OpenAI Chat Completions: a completion, or its message


def _openai_calls(response: Any) -> list[Call]:
    _expect(response, "Chat Completions response or message", "choices", "tool_calls", "role")
    choices = _list(response, "choices")
    message = _get(choices[0], "message") if choices else response
    response_id = _text(response, "id") if choices else None
    calls = []
    for position, call in enumerate(_list(message, "tool_calls")):
        function, custom = _get(call, "function"), False
        if function is None and (function := _get(call, "custom")) is not None:
            custom = True
        arguments = {"input": _get(function, "input")} if custom else _get(function, "arguments")
        name = _text(function, "name") or ""
        calls.append(Call(name, arguments, _text(call, "id"), response_id, position, custom))
    return calls


def _openai_results(calls: Sequence[Call], results: Sequence[Result]) -> list[Message]:
    return [
        {"role": "tool", "tool_call_id": call.id or "", "content": result.text}
        for call, result in zip(calls, results, strict=True)
    ]


# OpenAI Responses: a response


def _responses_calls(response: Any) -> list[Call]:
    _expect(response, "response of the Responses API", "output")
    calls = []
    for position, item in enumerate(_list(response, "output")):
        if (kind := _get(item, "type")) in ("function_call", "custom_tool_call"):
            custom = kind == "custom_tool_call"
            arguments = {"input": _get(item, "input")} if custom else _get(item, "arguments")
            name, call_id = _text(item, "name") or "", _text(item, "call_id")
            calls.append(Call(name, arguments, call_id, _text(response, "id"), position, custom))
    return calls


def _responses_results(calls: Sequence[Call], results: Sequence[Result]) -> list[Message]:
    return [
        {
            "type": "custom_tool_call_output" if call.custom else "function_call_output",
            "call_id": call.id or "",
            "output": result.text,
        }
        for call, result in zip(calls, results, strict=True)
    ]


# Anthropic Messages: a message


def _anthropic_calls(response: Any) -> list[Call]:
    _expect(response, "Messages response", "content")
    return [
        Call(_text(block, "name") or "", _get(block, "input"), _text(block, "id"), _text(response, "id"), position)
        for position, block in enumerate(_list(response, "content"))
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
    blocked = ("prompt_feedback", "promptFeedback")  # then there are no candidates
    _expect(response, "GenerateContent response or content", "candidates", "content", "parts", *blocked)
    candidates = _list(response, "candidates")
    candidate = candidates[0] if candidates else response
    content = _get(candidate, "content") or candidate
    response_id = _text(response, "response_id", "responseId")
    calls = []
    for position, part in enumerate(_list(content, "parts")):
        if (call := _get(part, "function_call", "functionCall")) is not None:
            name, arguments = _text(call, "name") or "", _get(call, "args")
            calls.append(Call(name, arguments, _text(call, "id"), response_id, position))
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
