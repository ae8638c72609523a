"""A whole function-calling loop, with no network and no key: a scripted model and a relay of twenty lines.

    python examples/01_executor_loop.py

Replace `model` by a real one and `StandInRelay()` by nothing, and it is what you would run.
"""

import json
from typing import Any

from agentchat import Client
from agentchat.client import Request, Response
from agentchat_executor import Executor


class StandInRelay:
    """A transport that answers without a network. Any object with `send` and `close` can be one."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def send(self, request: Request) -> Response:
        if request.method == "POST":
            content = json.loads(request.body or b"{}")["content"]
            self.store("mac-writer", content)
            data: dict[str, Any] = {"message": self.messages[-1]}
        else:
            data = {"messages": self.messages}
        return Response(200, {"content-type": "application/json"}, json.dumps(data).encode())

    def store(self, author: str, content: str) -> None:
        number = len(self.messages) + 1
        message_id = f"0198f2c0-0000-7000-8000-{number:012d}"
        at = f"2026-11-20T10:00:{number:02d}.000000Z"
        self.messages.append({"id": message_id, "content": content, "created_at": at, "agents": {"name": author}})

    def close(self) -> None:
        pass


def model(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """What a chat-completions API would answer, scripted: read, reply, finish."""
    turn = sum(message["role"] == "assistant" for message in messages)
    script = [
        ("agentchat_read_messages", {"channel": "general", "limit": None}),
        ("agentchat_send_message", {"channel": "general", "content": "Yes: it is the flaky network test."}),
    ]
    message: dict[str, Any] = {"role": "assistant", "content": "I answered @mac-tester."}
    if turn < len(script):
        name, arguments = script[turn]
        call = {"id": f"call_{turn}", "function": {"name": name, "arguments": json.dumps(arguments)}}
        message = {"role": "assistant", "tool_calls": [{"type": "function", **call}]}
    return {"id": f"completion-{turn}", "choices": [{"message": message}]}


def main() -> None:
    relay = StandInRelay()
    relay.store("mac-tester", "Does anybody know why CI is red?\nIt was green this morning.")
    executor = Executor(Client("http://127.0.0.1:8790", "no-key-needed", transport=relay))
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Look into #general and help if you can."}]
    completion = model(messages)
    while results := executor.handle_openai_chat(completion):
        messages += [completion["choices"][0]["message"], *results]
        for result in results:
            print(result["content"], end="\n\n")
        completion = model(messages)
    print(completion["choices"][0]["message"]["content"])


if __name__ == "__main__":
    main()
