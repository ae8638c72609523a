"""Agents that act, and write down what they were told. Their choices come from their luck."""

from __future__ import annotations

import base64
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from agentchat import AgentChatError, Client, errors, types
from agentchat.client import Transport
from tests.faults.histories import DIRECT, Mark, Pin, Position, Post, Told, Upload
from tests.faults.relay_process import LONGEST_START

AGENTS = ("mac-ann", "mac-bob", "mac-cleo", "mac-dan")
NEWCOMER = "mac-eve"  # gets its key from the relay of the round
AUDITOR = "mac-auditor"
SHARED = ("general", "busy")  # channels of everybody
SENDERS, CALLS = 8, 40  # threads, and calls that each of them makes
PATIENCE = 20.0  # seconds for one call and its retries
Call = Post | Upload | Mark | Pin


class Reached(Protocol):
    """What agents talk to; `up` is set while anybody answers."""

    @property
    def url(self) -> str: ...
    @property
    def up(self) -> threading.Event: ...


def join(url: str, key: str) -> None:
    with Client(url, key, retries=20) as client:
        for channel in SHARED:
            client.read_messages(channel)


def unknown(error: AgentChatError) -> bool:
    """Whether nobody can say what came of a call."""
    return isinstance(error, errors.NetworkError | errors.Unavailable)


def answered(post: Post, call: Callable[[str, str], types.SentMessage]) -> Post:
    """The post with what came of it."""
    try:
        message = call(post.channel, post.text)["message"]
    except AgentChatError as error:
        return post._replace(error=None if unknown(error) else error.code)
    return post._replace(ended=time.monotonic(), id=message["id"], at=message["created_at"])


class Pace:
    """How far a round is, for whoever strikes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls, self._running = 0, SENDERS

    def step(self) -> None:
        with self._changed:
            self._calls += 1
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def wait(self, calls: int, unless: Callable[[], bool] = lambda: False) -> None:
        """Until so many calls were made, or nobody makes any more."""
        with self._changed:
            while self._calls < calls and self._running and not unless():
                self._changed.wait(0.1)


class Sender:
    """A thread of one agent. Its choices come from its luck."""

    choices: Mapping[str, int] = {
        "post": 5, "post_with_key": 6, "repeat": 4, "misuse_key": 1, "mention": 3, "tell": 3, "reply": 2,
        "post_status": 1, "post_in_new_channel": 1, "mark": 3, "read": 3, "pin": 2, "upload": 2, "repeat_upload": 1,
    }  # fmt: skip
    readable: Sequence[str] = SHARED
    calls = CALLS
    timeout = 10.0  # seconds for one attempt

    def __init__(
        self, relay: Reached, told: Told, luck: random.Random, number: int, name: str, key: str,
        transport: Transport | None = None,
    ) -> None:  # fmt: skip
        self.told = told
        self._relay, self._luck, self._number, self._name = relay, luck, number, name
        self._client = Client(
            relay.url, key, agent=name, retries=luck.choice([0, 0, 3, 8]), deadline=PATIENCE, timeout=self.timeout,
            transport=transport,
        )  # fmt: skip
        self._keyed: list[tuple[Post, Callable[..., types.SentMessage]]] = []
        self._uploads: list[Upload] = []
        self._posted: list[Post] = []  # acknowledged, in shared channels
        self._channels = [*SHARED]
        self._words = 0

    def run(self, pace: Pace, over: threading.Event) -> None:
        with self._client:
            try:
                for act in self._luck.choices([*self.choices], [*self.choices.values()], k=self.calls):
                    self._relay.up.wait(LONGEST_START)
                    if over.is_set():
                        return
                    getattr(self, act)()
                    pace.step()
            finally:
                pace.end()

    # Posting

    def post(self) -> None:
        self._send(self._new())

    def post_status(self) -> None:
        post = self._new()._replace(kind="status")
        self._send(post, partial(self._client.send_message, kind="status"))

    def mention(self) -> None:
        other = self._other()
        self._send(self._new(f"@{other} ")._replace(notifies=(other,)))

    def tell(self) -> None:
        other = self._other()
        post = self._new(f"@{other} ", DIRECT)._replace(notifies=(other,), key=self._key())
        told = self._client.with_options(idempotency_key=post.key)

        def call(channel: str, text: str) -> types.SentMessage:
            return told.send_direct_message(other, text.removeprefix(f"@{other} "))

        self._send(post, call)

    def reply(self) -> None:
        if self._posted:
            answered = self._luck.choice(self._posted)
            post = self._new(channel=answered.channel)._replace(parent=answered.id)
            self._send(post, partial(self._client.send_message, parent_message_id=answered.id))

    def post_in_new_channel(self) -> None:
        self._channels.append(f"made-{self._number}-{self._words}")
        self._send(self._new(channel=self._channels[-1]))

    def post_with_key(self) -> None:
        post = self._new()._replace(key=self._key())
        self._send(post, self._client.with_options(idempotency_key=post.key).send_message)

    def repeat(self) -> None:
        """A call with a key, made again; the relay may have been struck in between."""
        if self._keyed:
            post, call = self._luck.choice(self._keyed)
            self._send(post, call)

    def misuse_key(self) -> None:
        """A key that is known to have had its effect, with another text."""
        mine = {post.key for post in self._keyed_and_acknowledged()}
        if mine:
            post = self._new()._replace(key=self._luck.choice(sorted(filter(None, mine))))
            self._record(answered(post, self._client.with_options(idempotency_key=post.key).send_message))

    def _keyed_and_acknowledged(self) -> list[Post]:
        keys = {post.key for post, _ in self._keyed}
        return [post for post in self.told.posts if post.author == self._name and post.id and post.key in keys]

    def _send(self, post: Post, call: Callable[..., types.SentMessage] | None = None) -> None:
        call = call or self._client.send_message
        post = answered(post._replace(began=time.monotonic()), call)
        self._record(post)
        if post.key:
            self._keyed.append((post._replace(id=None, at=None, error=None, ended=Post._field_defaults["ended"]), call))
        if post.id and post.channel in SHARED and post.kind == "chat":
            self._posted.append(post)

    def _record(self, post: Post) -> None:
        self.told.posts.append(post)

    def _new(self, prefix: str = "", channel: str | None = None) -> Post:
        """A text nobody used, of any length, that ends with a word of its own."""
        padding = "so " * self._luck.choice([0, 3, 30, 1000])
        channel = channel or self._luck.choice(self._channels)
        return Post(self._name, channel, f"{prefix}{padding}{self._word()}", time.monotonic())

    def _word(self) -> str:
        self._words += 1
        return f"sender{self._number}word{self._words}"

    def _key(self) -> str:
        return f"key-of-{self._number}-{self._words}"

    def _other(self) -> str:
        return self._luck.choice([name for name in (*AGENTS, NEWCOMER) if name != self._name])

    # Reading, and saying so

    def mark(self) -> None:
        """Some of the mentions that are unread."""
        with self._reading():
            listed = self._client.check_mentions(limit=100)["mentions"]
            some = tuple(item["mention_id"] for item in listed if self._luck.random() < 0.6)
            if some:
                done, error = self._did(lambda: self._client.mark_mentions_read(list(some)))
                self.told.marks.append(Mark(self._name, some, done, error))

    def read(self) -> None:
        """A page of a channel, then the cursor moves to one of its messages, or to the end."""
        channel, began = self._luck.choice(self.readable), time.monotonic()
        with self._reading():
            page = self._client.read_messages(channel, limit=10, mark_read=self._luck.random() < 0.5)["messages"]
            if not page:
                return
            through = self._luck.choice([None, *(message["created_at"] for message in page)])
            asked = through or page[-1]["created_at"]
            answer = self._client.mark_channel_read(channel, through=through)["read_through"]
            self._saw(channel, answer, began, asked)
            began = time.monotonic()
            for reader in self._client.list_readers(channel)["readers"]:
                if reader["agent_name"] == self._name:
                    self._saw(channel, reader["read_through"], began)

    def _saw(self, channel: str, through: str, began: float, asked: str = "") -> None:
        self.told.positions.append(Position(self._name, channel, through, began, time.monotonic(), asked))

    # Pins and files

    def pin(self) -> None:
        """One of its own messages, which nobody else pins or unpins."""
        if self._posted:
            message, pinned = self._luck.choice(self._posted).id, self._luck.random() < 0.7
            assert message
            call = self._client.pin_message if pinned else self._client.unpin_message
            self._record_pin(Pin(message, pinned, *self._did(lambda: call(message))))

    def upload(self) -> None:
        name, content = f"{self._word()}.bin", self._content()
        key = self._key() if self._luck.random() < 0.7 else None
        self._put(Upload(self._name, self._luck.choice(SHARED), name, content, self._luck.random() < 0.7, key))

    def _content(self) -> bytes:
        return self._luck.randbytes(self._luck.choice([0, 10, 5000, 200_000]) + 1)

    def repeat_upload(self) -> None:
        if self._uploads:
            self._put(self._luck.choice(self._uploads))

    def _put(self, upload: Upload) -> None:
        client = self._client.with_options(idempotency_key=upload.key) if upload.key else self._client
        if upload.key:
            self._uploads.append(upload)
        try:
            file = client.upload_file(
                upload.channel,
                upload.name,
                base64.b64encode(upload.content).decode(),
                encoding="base64",
                post_message=upload.announced,
            )["file"]
        except AgentChatError as error:
            self._record_upload(upload._replace(error=None if unknown(error) else error.code))
        else:
            self._record_upload(upload._replace(path=file["path"]))

    def _record_pin(self, pin: Pin) -> None:
        self.told.pins.append(pin)

    def _record_upload(self, upload: Upload) -> None:
        self.told.uploads.append(upload)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Calls that read may get no answer, since nobody needs to know their effect, but they are not refused."""
        try:
            yield
        except AgentChatError as error:
            if not unknown(error):
                self.told.refused.append(f"{self._name} reads: refused with {error.code}")

    def _did(self, call: Callable[[], object]) -> tuple[bool, str | None]:
        """Whether it was acknowledged, and with which code it was refused."""
        try:
            call()
        except AgentChatError as error:
            return False, None if unknown(error) else error.code
        return True, None


def calls_of(told: Told) -> list[Call]:
    return [*told.posts, *told.uploads, *told.marks, *told.pins]


def is_acknowledged(call: Call) -> bool:
    match call:
        case Post():
            return call.id is not None
        case Upload():
            return call.path is not None
        case _:
            return call.done


def refused_calls(told: Told) -> list[str]:
    """What a round without an end can still say."""
    codes = Counter(call.error for call in calls_of(told) if call.error)
    return [f"{times} calls were refused with {code}" for code, times in codes.items()]
