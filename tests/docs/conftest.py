"""What a reader of the documents has: a relay with two agents on it, settings, and models without a network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from agentchat import Client
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.settings import Settings

QUESTION = "Can you look at the flaky network test?"
_numbers = itertools.count(1)


class Reader(NamedTuple):
    """mac-writer, who follows a page, and what mac-reviewer sees of it."""

    url: str
    key: str
    reviewer: Client

    @contextmanager
    def answering(self) -> Iterator[None]:
        """mac-reviewer answers what is asked in #general."""
        position = self.reviewer.get_briefing()["position"]
        with ThreadPoolExecutor(1) as pool:
            answered = pool.submit(self._answer, position)
            yield
            answered.result()

    def _answer(self, position: int) -> None:
        found = self.reviewer.list_events(since=position, channel="general", kind="message.created", wait=30)
        asked = found["events"][0]["subject"]
        self.reviewer.send_message("general", "It looks good.", parent_message_id=asked)

    def texts(self, channel: str) -> list[str]:
        page = self.reviewer.read_messages(channel, limit=200, include_status=True)
        return [message["content"] for message in page["messages"]]


@pytest.fixture(scope="session")
def live() -> Iterator[Embedded]:
    """A relay without rate limits."""
    with running(settings=Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)) as relay:
        yield relay


@pytest.fixture
def reader(live: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """In a space of its own, since the pages name agents and channels. Everything a page may rely on is set here."""
    space = f"docs-{next(_numbers)}"
    live.space(space)
    key = live.token("mac-writer", space=space)
    monkeypatch.setenv("AGENTCHAT_URL", live.url)
    monkeypatch.setenv("AGENTCHAT_KEY", key)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    theirs = tmp_path / ".airchat"  # the directory of the package docs/migration.md is about
    (theirs / "agents").mkdir(parents=True)
    (theirs / "config").write_text(f"MACHINE_NAME=mac\nAIRCHAT_WEB_URL={live.url}\n")
    (theirs / "agents" / "mac-my-project.key").write_text(live.token("mac-my-project", space=space))
    with Client(live.url, live.token("mac-reviewer", space=space)) as reviewer:
        reviewer.send_message("general", f"@mac-writer {QUESTION}")
        reviewer.join_group("reviewers")
        yield Reader(live.url, key, reviewer)
