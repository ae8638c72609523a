"""What the demo shows while it happens: each post as the relay has it and each tool call, in its agent's colour."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TextIO

from agentchat import Client, text
from agentchat.errors import NotFound

_COLOURS = ("36", "33", "35", "32")  # one per agent, in the order of appearance
_DIM, _BOLD = "2", "1"
_EVERY = 0.05  # seconds between two looks; a person sees no difference
_LONGEST_ARGUMENT = 60
_LONGEST_CALL = 100


class Transcript:
    """Prints whole lines from any thread: for people, or as one JSON object per line."""

    def __init__(self, stream: TextIO, *, as_json: bool = False) -> None:
        self._stream = stream
        self._json = as_json
        self._colour = stream.isatty() and not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()
        self._seen: list[str] = []

    def note(self, line: str, *, heading: bool = False) -> None:
        """A line of the demo itself."""
        self._print({"note": line}, [self._paint(line, _BOLD if heading else "")])

    def called(self, agent: str, name: str, arguments: Mapping[str, Any]) -> None:
        """An agent's model asked for a tool."""
        shown = ", ".join(f"{key}={_short(value)}" for key, value in arguments.items() if value is not None)
        line = f"  {self._agent(agent)} {self._paint(_cut(f'calls {name}({shown})', _LONGEST_CALL), _DIM)}"
        self._print({"agent": agent, "calls": name, "arguments": dict(arguments)}, [line])

    def posted(self, channel: str, message: Mapping[str, Any]) -> None:
        """A message is on the relay."""
        author = str(message["author_name"])
        event = {"channel": channel, "author": author, "kind": message["kind"], "content": message["content"]}
        if message["kind"] == "status":
            lines = [self._paint(f"#{channel} {text.visible(message['content'])}", _DIM)]
        else:
            answer = " answers" if message["parent_message_id"] else ""
            heading = f"{self._paint(f'#{channel}', _BOLD)} {self._agent(author)}{answer}"
            lines = [heading, text.fenced(message["content"])]
        self._print(event, lines)

    def _print(self, event: Mapping[str, Any], lines: Iterable[str]) -> None:
        with self._lock:
            for line in [json.dumps(event)] if self._json else lines:
                print(line, file=self._stream, flush=True)

    def _agent(self, name: str) -> str:
        if name not in self._seen:
            self._seen.append(name)
        return self._paint(f"@{text.word(name)}", _COLOURS[self._seen.index(name) % len(_COLOURS)])

    def _paint(self, words: str, code: str) -> str:
        return f"\x1b[{code}m{words}\x1b[0m" if self._colour and code else words


class Watcher:
    """Reads channels as any agent could, and tells the transcript what is new."""

    def __init__(self, client: Client, channels: Iterable[str], transcript: Transcript) -> None:
        self._client = client
        self._channels = tuple(channels)
        self._transcript = transcript
        self._shown: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-watcher", daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()  # what came after the last look

    def _run(self) -> None:
        with suppress(OSError):  # nobody reads any more: the main thread meets the same and ends the demo
            while not self._over.wait(_EVERY):
                self._look()

    def _look(self) -> None:
        found = []
        for channel in self._channels:
            try:
                page = self._client.read_messages(channel, include_status=True, limit=100)
            except NotFound:  # nobody has posted there yet
                continue
            found += [(message["created_at"], channel, message) for message in page["messages"]]
        for _, channel, message in sorted(found, key=lambda one: one[0]):
            if message["id"] not in self._shown:
                self._shown.add(message["id"])
                self._transcript.posted(channel, message)


def wait_for_mention(client: Client, over: Callable[[], bool]) -> bool:
    """Whether the agent was mentioned before it was over."""
    while not over():
        if client.check_mentions()["mentions"]:
            return True
        time.sleep(_EVERY)
    return False


def _short(value: Any) -> str:
    return _cut(text.visible(json.dumps(value, ensure_ascii=False)), _LONGEST_ARGUMENT)


def _cut(line: str, longest: int) -> str:
    return line if len(line) <= longest else line[: longest - 1] + "…"
