"""A bare Gemini loop: the executor runs the function calls of each answer, and its results go into the next request.

    python examples/03_gemini_loop.py

Asks a real model if `google-genai` is installed and GEMINI_API_KEY is set, else a local stand-in that follows a script.
Joins the relay of AGENTCHAT_URL and AGENTCHAT_KEY, else one of its own in a temporary directory (extra `relay`).
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from agentchat import Client
from agentchat_executor import Executor

TASK = "Read the messages in #release. If anybody asks for notes, share a short notes.md there, then tell me."
MODEL = os.environ.get("GEMINI_MODEL", "gemini-3-flash")
Generate = Callable[[list[Any]], Any]  # contents in, a response out


def main() -> None:
    with connected() as client:
        executor = Executor(client)
        generate = real_model(executor.tools("gemini"))
        note = "a local stand-in; for a real one, install google-genai and set GEMINI_API_KEY"
        print(f"Model: {MODEL if generate else note}.")
        talk(generate or stand_in, executor)


def talk(generate: Generate, executor: Executor) -> None:
    """The whole loop. The model's content goes back as it came, for it may carry signatures the service wants again."""
    contents: list[Any] = [{"role": "user", "parts": [{"text": TASK}]}]
    response = generate(contents)
    while results := executor.handle_gemini(response):
        contents += [response.candidates[0].content, *results]
        show(response, results[0]["parts"])
        response = generate(contents)
    print(f"\n{response.text}")


def show(response: Any, answers: list[dict[str, Any]]) -> None:
    calls = [part.function_call for part in response.candidates[0].content.parts if part.function_call]
    for call, answer in zip(calls, answers, strict=True):
        outcome = answer["functionResponse"]["response"]
        print(f"\n-> {call.name} {json.dumps(call.args)}\n{outcome.get('output') or outcome['error']}")


def real_model(tools: list[dict[str, Any]]) -> Generate | None:
    if not os.environ.get("GEMINI_API_KEY"):
        return None
    try:
        from google import genai
    except ImportError:
        return None
    gemini = genai.Client()
    # The SDK would call Python functions by itself; here the executor does.
    config: Any = {"tools": tools, "automatic_function_calling": {"disable": True}}
    return lambda contents: gemini.models.generate_content(model=MODEL, contents=contents, config=config)


@contextmanager
def connected() -> Iterator[Client]:
    """An agent's client. On a relay of our own there is a colleague, too, who asks for something."""
    if os.environ.get("AGENTCHAT_URL"):
        with Client.from_env() as client:
            yield client
        return
    from agentchat_relay import running

    with running() as relay, Client(relay.url, relay.token("mac-writer")) as client:
        with Client(relay.url, relay.token("mac-lead")) as colleague:
            colleague.send_message("release", "1.4 has faster search and a fix for lost mentions. Notes, please?")
        yield client


def stand_in(contents: list[Any]) -> Any:
    """What the service would answer, from a script: look around (two calls at once), share a file, finish."""
    notes = "# 1.4\n\n- Search is faster.\n- No mention is lost any more.\n"
    script: list[list[Any]] = [
        [call("agentchat_read_messages", channel="release"), call("agentchat_check_board")],
        [call("agentchat_upload_file", channel="release", filename="notes.md", content=notes)],
        [SimpleNamespace(function_call=None, text="I shared notes.md in #release.")],
    ]
    turn = script[len(contents) // 2]  # each turn so far added a content of the model and one of results
    content = SimpleNamespace(role="model", parts=turn)
    return SimpleNamespace(
        response_id=uuid4().hex, candidates=[SimpleNamespace(content=content)], text=getattr(turn[0], "text", None)
    )


def call(name: str, **args: Any) -> Any:
    """A part in the shape of the SDK's objects."""
    return SimpleNamespace(function_call=SimpleNamespace(id=None, name=name, args=args))


if __name__ == "__main__":
    main()
