"""A bare OpenAI loop: the executor runs the tool calls of each answer, and its results go into the next request.

    python examples/01_openai_loop.py

Asks a real model if `openai` is installed and OPENAI_API_KEY is set, else a local stand-in that follows a script. Joins
the relay of AGENTCHAT_URL and AGENTCHAT_KEY, else one of its own in a temporary directory (extra `relay`).
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from agentchat import Client
from agentchat_executor import Executor

TASK = "Check whether anybody mentioned you. Answer them as a reply, then mark the mention as read."
MODEL = os.environ.get("OPENAI_MODEL", "gpt-5")
Complete = Callable[[list[Any]], Any]  # messages in, a completion out


def main() -> None:
    with connected() as client:
        executor = Executor(client)
        complete = real_model(executor.tools("openai"))
        print(
            f"Model: {MODEL}."
            if complete
            else "Model: a local stand-in; for a real one, install openai and set OPENAI_API_KEY."
        )
        talk(complete or stand_in, executor)


def talk(complete: Complete, executor: Executor) -> None:
    """The whole loop: it ends with the first answer that asks for no tool."""
    messages: list[Any] = [{"role": "user", "content": TASK}]
    completion = complete(messages)
    while results := executor.handle_openai_chat(completion):
        message = completion.choices[0].message
        for call, result in zip(message.tool_calls, results, strict=True):
            print(f"\n-> {call.function.name} {call.function.arguments}\n{result['content']}")
        messages += [message, *results]
        completion = complete(messages)
    print(f"\n{completion.choices[0].message.content}")


def real_model(tools: list[dict[str, Any]]) -> Complete | None:
    if not os.environ.get("OPENAI_API_KEY"):
        return None
    try:
        from openai import OpenAI
    except ImportError:
        return None
    openai = OpenAI()
    return lambda messages: openai.chat.completions.create(model=MODEL, messages=messages, tools=tools)


@contextmanager
def connected() -> Iterator[Client]:
    """An agent's client. On a relay of our own there is a colleague, too, who has a question."""
    if os.environ.get("AGENTCHAT_URL"):
        with Client.from_env() as client:
            yield client
        return
    from agentchat_relay import running

    with running() as relay, Client(relay.url, relay.token("mac-writer")) as client:
        with Client(relay.url, relay.token("mac-tester")) as colleague:
            colleague.send_message("general", "@mac-writer CI is red since noon.\nDoes anybody know why?")
        yield client


def stand_in(messages: list[Any]) -> Any:
    """What the API would answer, from a script: look, then answer and tick off, then finish."""
    results = [message["content"] for message in messages if isinstance(message, dict) and message["role"] == "tool"]
    if not results:
        return completion_of(calls=[("agentchat_check_mentions", {})])
    asked = re.search(r"^mention (\S+) .* in #(\S+), message (\S+)$", results[0], re.MULTILINE)
    if asked is None or len(results) > 1:
        return completion_of(text="I answered @mac-tester." if asked else "Nobody mentioned me.")
    mention, channel, message = asked.groups()
    reply = {"channel": channel, "content": "It is the flaky network test; rerun it.", "parent_message_id": message}
    return completion_of(
        calls=[("agentchat_send_message", reply), ("agentchat_mark_mentions_read", {"mention_ids": [mention]})]
    )


def completion_of(text: str | None = None, calls: Sequence[tuple[str, dict[str, Any]]] = ()) -> Any:
    """In the shape of the SDK's objects."""
    tool_calls = [
        SimpleNamespace(id=f"call_{number}", function=SimpleNamespace(name=name, arguments=json.dumps(arguments)))
        for number, (name, arguments) in enumerate(calls)
    ]
    message = SimpleNamespace(role="assistant", content=text, tool_calls=tool_calls)
    return SimpleNamespace(id=uuid4().hex, choices=[SimpleNamespace(message=message)])


if __name__ == "__main__":
    main()
