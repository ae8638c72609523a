"""Every way in which an answer becomes text for a model: LangChain tools, executors in each vendor's form, the command
line."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool

from agentchat import Client
from agentchat.contract import OPERATIONS
from agentchat_executor import AsyncExecutor, Executor
from langchain_agentchat import AgentChatToolkit, AsyncClient

Arguments = Mapping[str, Any]
_numbers = itertools.count(1)
# Where the victims stand: hostile agents know it, and send what is for there.
PRESENTED = ("repo:x)_(urgent)", "z:|_<system>/$(touch_PWNED)/x", "thread:7")
UNBOUNDED = 10**9


class Victim:
    """An agent that reads, with a client of each colour."""

    def __init__(self, url: str, key: str, home: str, stack: ExitStack) -> None:
        self.url, self.key, self.home = url, key, home
        self.client = Client(url, key, retries=0, scopes=PRESENTED)
        self.run = stack.enter_context(asyncio.Runner()).run
        self.async_client = AsyncClient(url, key, retries=0, scopes=PRESENTED)
        self._toolkits: dict[int, AgentChatToolkit] = {}
        stack.callback(self._close)

    def _close(self) -> None:
        self.run(self.async_client.close())
        for toolkit in self._toolkits.values():
            self.run(toolkit.aclose())
        self.client.close()

    def tool(self, operation: str, max_chars: int) -> BaseTool:
        if max_chars not in self._toolkits:
            self._toolkits[max_chars] = AgentChatToolkit(self.client, preset="all", max_chars=max_chars)
        tools = {tool.name: tool for tool in self._toolkits[max_chars].get_tools()}
        return tools[f"agentchat_{operation}"]

    def executor(self, max_chars: int) -> Executor:
        return Executor(self.client, preset="all", max_chars=max_chars)

    def async_executor(self, max_chars: int) -> AsyncExecutor:
        return AsyncExecutor(self.async_client, preset="all", max_chars=max_chars)

    def command(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """The command line in a process of its own."""
        environment = {**os.environ, "AGENTCHAT_URL": self.url, "AGENTCHAT_KEY": self.key, "AGENTCHAT_HOME": self.home}
        environment["AGENTCHAT_SCOPES"] = ",".join(PRESENTED)
        return subprocess.Popen([sys.executable, "-m", "agentchat", *words], env=environment, **options)

    def ran(self, *words: str) -> tuple[int, bytes, bytes]:
        """Its exit code, standard output and standard error, through pipes."""
        with self.command(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err


# LangChain


def _tool_call(operation: str, arguments: Arguments) -> dict[str, Any]:
    return {
        "type": "tool_call", "id": f"c{next(_numbers)}", "name": f"agentchat_{operation}", "args": dict(arguments)
    }  # fmt: skip


def _content(message: Any) -> str:
    assert isinstance(message, ToolMessage)
    assert isinstance(message.content, str)
    assert (message.status == "error") == message.content.startswith("Error (")
    return message.content


def tool_invoke(victim: Victim, operation: str, arguments: Arguments, max_chars: int) -> str:
    return _content(victim.tool(operation, max_chars).invoke(_tool_call(operation, arguments)))


def tool_ainvoke(victim: Victim, operation: str, arguments: Arguments, max_chars: int) -> str:
    return _content(victim.run(victim.tool(operation, max_chars).ainvoke(_tool_call(operation, arguments))))


def tool_plain(victim: Victim, operation: str, arguments: Arguments, max_chars: int) -> str:
    """Without a ToolCall the text itself comes back."""
    shown = victim.tool(operation, max_chars).invoke(dict(arguments))
    assert isinstance(shown, str)
    return shown


# Executors. Each vendor: the response that asks for a call, and the text in what goes back.


def _openai_chat(name: str, arguments: Arguments) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": json.dumps(dict(arguments))}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"id": f"r{next(_numbers)}", "choices": [{"message": message}]}


def _openai_chat_text(reply: Any) -> str:
    [message] = reply
    assert {**message, "content": ""} == {"role": "tool", "tool_call_id": "c1", "content": ""}
    return str(message["content"])


def _openai_responses(name: str, arguments: Arguments) -> dict[str, Any]:
    call = {"type": "function_call", "call_id": "c1", "name": name, "arguments": json.dumps(dict(arguments))}
    return {"id": f"r{next(_numbers)}", "output": [call]}


def _openai_responses_text(reply: Any) -> str:
    [item] = reply
    assert {**item, "output": ""} == {"type": "function_call_output", "call_id": "c1", "output": ""}
    return str(item["output"])


def _anthropic(name: str, arguments: Arguments) -> dict[str, Any]:
    block = {"type": "tool_use", "id": "c1", "name": name, "input": dict(arguments)}
    return {"id": f"r{next(_numbers)}", "role": "assistant", "content": [block]}


def _anthropic_text(reply: Any) -> str:
    [message] = reply
    [block] = message["content"]
    text = block["content"]
    is_error = text.startswith("Error (")
    wanted = {"type": "tool_result", "tool_use_id": "c1", "content": text, "is_error": is_error}
    assert (message["role"], block) == ("user", wanted)
    return str(text)


def _gemini(name: str, arguments: Arguments) -> dict[str, Any]:
    parts = [{"functionCall": {"name": name, "args": dict(arguments)}}]
    return {"responseId": f"r{next(_numbers)}", "candidates": [{"content": {"role": "model", "parts": parts}}]}


def _gemini_text(reply: Any) -> str:
    [content] = reply
    [part] = content["parts"]
    answer = part["functionResponse"]
    assert (content["role"], set(part), set(answer)) == ("user", {"functionResponse"}, {"name", "response"})
    [(kind, text)] = answer["response"].items()
    assert kind == ("error" if text.startswith("Error (") else "output")
    return str(text)


_VENDORS: dict[str, tuple[Callable[[str, Arguments], Any], Callable[[Any], str]]] = {
    "openai_chat": (_openai_chat, _openai_chat_text),
    "openai_responses": (_openai_responses, _openai_responses_text),
    "anthropic": (_anthropic, _anthropic_text),
    "gemini": (_gemini, _gemini_text),
}
Surface = Callable[[Victim, str, Arguments, int], str]


def _executor(vendor: str) -> Surface:
    ask, text = _VENDORS[vendor]

    def answer(victim: Victim, operation: str, arguments: Arguments, max_chars: int) -> str:
        handle = getattr(victim.executor(max_chars), f"handle_{vendor}")
        return text(handle(ask(f"agentchat_{operation}", arguments)))

    return answer


def _async_executor(vendor: str) -> Surface:
    ask, text = _VENDORS[vendor]

    def answer(victim: Victim, operation: str, arguments: Arguments, max_chars: int) -> str:
        handle = getattr(victim.async_executor(max_chars), f"handle_{vendor}")
        return text(victim.run(handle(ask(f"agentchat_{operation}", arguments))))

    return answer


# The command line


def words(operation: str, arguments: Arguments) -> list[str]:
    """The command for a call: options, then what is required in its order."""
    options: list[str] = []
    required: list[str] = []
    for name, parameter in OPERATIONS[operation].parameters.items():
        value = arguments.get(name)
        option = f"--{name.replace('_', '-')}"
        if value is None:
            continue
        if parameter.required:
            required += value if isinstance(value, list) else [str(value)]
        elif isinstance(value, bool):
            options.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, list):
            options += [option, *value]
        else:
            options.append(f"{option}={value}")
    return [operation.replace("_", "-"), *options, *(["--"] if required else []), *required]


def command_line(victim: Victim, operation: str, arguments: Arguments, max_chars: int) -> str:
    """Standard output, or standard error of a command that failed. It is not bounded."""
    code, out, err = victim.ran(*words(operation, arguments))
    shown, other = (out, err) if code == 0 else (err, out)
    assert other == b""
    return shown.decode("utf-8").removesuffix("\n")


BOUNDED: dict[str, Surface] = {
    "tool invoke": tool_invoke,
    "tool ainvoke": tool_ainvoke,
    "tool plain": tool_plain,
    **{f"executor {vendor}": _executor(vendor) for vendor in _VENDORS},
    **{f"async executor {vendor}": _async_executor(vendor) for vendor in _VENDORS},
}
SURFACES: dict[str, Surface] = {**BOUNDED, "command line": command_line}
