"""Whoever acts in a campaign of several processes: calls with a key, each attempt written down and made anywhere."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from agentchat import AgentChatError, Client, errors
from tests.faults.journal import Attempt, Journal, micros

TIMEOUT = 1.5  # seconds for one attempt
PATIENCE = 12.0  # for a call and its repeats
Answer = Mapping[str, Any]


def client_of(url: str, key: str, **options: Any) -> Client:
    """Where there is no relay, a key is a name."""
    return Client(url, key, agent=key if url.startswith("local:") else None, **options)


def until_input_ends() -> threading.Event:
    """Set when whoever started this process closes its standard input, or ends."""
    over = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=watch, daemon=True).start()
    return over


class Actor:
    """Makes calls. One that got no answer is made again under its key, at any relay, until its patience is over."""

    def __init__(
        self, urls: Sequence[str], key: str, who: str, session: str, journal: Path, luck: random.Random,
        over: threading.Event,
    ) -> None:  # fmt: skip
        self._clients = self.clients_of(urls, key, session)
        self.who, self._session, self._luck, self._over = who, session, luck, over
        self._journal = Journal(journal)
        self._calls = 0

    def clients_of(self, urls: Sequence[str], key: str, session: str) -> list[Client]:
        return [client_of(url, key, retries=0, timeout=TIMEOUT, session=session) for url in urls]

    def ask(self, call: str, *, key: str | None = None, patience: float = PATIENCE, **arguments: Any) -> Answer | None:
        """The answer; None if there was none, or a refusal."""
        key = key or self.new_key()
        deadline = time.monotonic() + patience
        while True:
            is_unknown, answer = self._attempt(call, key, arguments)
            if not is_unknown or time.monotonic() >= deadline:
                return answer
            time.sleep(0.02 + 0.2 * self._luck.random())

    def new_key(self) -> str:
        self._calls += 1
        return f"{self.who}-{self._calls}-{self._luck.getrandbits(40):x}"

    def close(self) -> None:
        self._journal.close()
        for client in self._clients:
            client.close()

    def clients_for(self, call: str) -> Sequence[Client]:
        return self._clients

    def noted(self, call: str, answer: Answer) -> Answer:
        """What of an answer is written down."""
        return answer

    def _attempt(self, call: str, key: str, arguments: dict[str, Any]) -> tuple[bool, Answer | None]:
        client = self._luck.choice(self.clients_for(call))
        # Named anew, the session remembers no claim: what is acknowledged stands in the journal.
        client = client.with_options(idempotency_key=key, session=self._session)
        self._journal.begun(Attempt(self.who, self._session, call, key, arguments, time.monotonic(), micros()))
        try:
            answer: Answer = getattr(client, call)(**arguments)
        except (errors.NetworkError, errors.Unavailable):
            self._journal.ended(key, None, None)
            return True, None
        except AgentChatError as error:
            self._journal.ended(key, None, error.code, error.details or None)
            return False, None
        self._journal.ended(key, self.noted(call, answer), None)
        return False, answer


class Habitual(Actor):
    """Acts again and again until it is over, by habits: how often what happens, or of ten times whether."""

    pause = 0.1  # seconds at most
    habits: Mapping[str, int] = {}  # the usual ones

    def run(self, habits: Mapping[str, int], interrupted: Mapping[str, Any] | None) -> None:
        """`habits` are other than the usual ones; `interrupted` is a call in which the session's last process was
        killed: it is made again."""
        self._habits = {**self.habits, **habits}
        if interrupted is not None:
            self.deal(self.ask(interrupted["call"], key=interrupted["key"], **interrupted["arguments"]))
        while not self._over.is_set():
            self.act()
            self._over.wait(self.pause * self._luck.random())

    def act(self) -> None:
        raise NotImplementedError

    def deal(self, change: Answer | None) -> None:
        """With what came of a call."""

    def one_of(self, *acts: str) -> Callable[..., None]:
        act = self._luck.choices(acts, [self._habits[act] for act in acts])[0]
        return cast("Callable[..., None]", getattr(self, f"_{act}"))

    def often(self, habit: str) -> bool:
        return 10 * self._luck.random() < self._habits[habit]
