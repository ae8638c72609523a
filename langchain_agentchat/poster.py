"""Sends statuses from a thread of its own, so that no run ever waits for the relay.

Waiting statuses are few and stay few: a status that is overtaken before it was sent gives way to the next one of its
run, and over the limit the oldest "started" and "resumed" are dropped, then the oldest others are folded into counts.
Both are told with the next post. The thread ends when there is nothing to do, and starts again by itself.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakSet

from agentchat._arguments import json_text
from agentchat._exchange import new_idempotency_key
from agentchat.contract import SHORT_CHANNELS
from agentchat.errors import AgentChatError, NotFound
from agentchat.text import visible

from .stories import Status, Story

_LOG = logging.getLogger("agentchat.status")
_IDLE_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_HOLD = 0.1  # a short run is one post, and a beginning that proves to be a resumption is none
_LAST_PAUSE = 0.1  # between attempts at the end of the program
_MOST_FOLDED = 20
_LONGEST_NOTE = 2_000
_ORDINARY = (32_000, 4_096)  # what other channels carry: characters of content and of metadata
_ROOM = 30  # characters of metadata around the facts

Redact = Callable[[str], str]


class Stats(NamedTuple):
    """What became of the statuses so far. `merged` were overtaken by a later one of the same run before being sent."""

    posted: int
    merged: int
    dropped: int
    pending: int


class _Post(NamedTuple):
    """What is sent, the same at every attempt: repeated with its key, it takes effect once."""

    key: str
    text: str
    parent: str | None
    facts: dict[str, Any]
    untold: int
    folded: Counter[str]


class _Pending:
    """A status on its way."""

    __slots__ = ("due", "post", "status")

    def __init__(self, status: Status) -> None:
        self.status = status
        self.due = time.monotonic() + _HOLD
        self.post: _Post | None = None  # made at the first attempt


class Poster:
    """A bounded queue and the thread that empties it."""

    def __init__(
        self, client: Any, channel: str, *, redact: Redact | None, max_pending: int, drain_seconds: float
    ) -> None:
        self._client = client
        self._channel = channel
        self._longest, self._most_facts = SHORT_CHANNELS.get(channel[:7], _ORDINARY)
        self._redact = redact
        self._max_pending = max_pending
        self._drain_seconds = drain_seconds
        self._start_over()
        self._posted = self._merged = self._dropped = 0
        _ALL.add(self)

    def _start_over(self) -> None:
        """An empty queue without a thread: at first, and in a forked child, whose parent sends what waited."""
        # Re-entrant: an abandoned stream reports its end from the garbage collector, at any line of ours.
        self._changed = threading.Condition(threading.RLock())
        self._queue: OrderedDict[_Pending, None] = OrderedDict()
        self._passing: dict[Story, _Pending] = {}  # what is queued, not tried, and may be overtaken or dropped
        self._thread: threading.Thread | None = None
        self._sending = False
        self._flushing = 0
        self._away = False  # the relay, and it was said
        self._untold = 0  # dropped and not told yet
        self._folded: Counter[str] = Counter()
        self._stop_at: float | None = None

    @property
    def lock(self) -> threading.Condition:
        """Held while events are noted. A forked child has another one."""
        return self._changed

    def put(self, status: Status) -> None:
        """Queue a status. Takes microseconds and never raises for the relay's sake."""
        with self._changed:
            if (waiting := self._passing.pop(status.story, None)) is not None:
                notes = filter(None, (waiting.status.note, status.note))
                waiting.status = status._replace(note="\n".join(notes) or None)
                self._merged += 1
            else:
                if len(self._queue) >= self._max_pending:
                    self._make_room()
                waiting = _Pending(status)
                self._queue[waiting] = None
            if status.droppable:
                self._passing[status.story] = waiting
            self._stop_at = None  # whoever closed the handler and uses it again wants this posted
            if self._thread is None:
                self._start_thread()
            self._changed.notify_all()

    def _make_room(self) -> None:
        story = next(iter(self._passing), None)
        if story is not None:
            victim = self._passing.pop(story)
            self._untold += 1
            self._dropped += 1
        else:
            queued = list(self._queue)
            victim = next((one for one in queued if one.post is None), queued[0])
            told = f"{victim.status.story.name} {victim.status.state}"
            self._folded[told if told in self._folded or len(self._folded) < _MOST_FOLDED else "other runs"] += 1
            self._merged += 1
        self._queue.pop(victim, None)

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._run, name="agentchat-status", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is ending: `drain` sends what is left
            self._thread = None

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while (one := self._next()) is not None:
            again = self._send(one)
            with self._changed:
                self._sending = False
                if again:
                    self._queue[one] = None
                    self._queue.move_to_end(one, last=False)
                    if not self._changed.wait_for(lambda: self._stop_at is not None, pause):
                        pause = min(pause * 2, _LONGEST_PAUSE)
                    else:
                        self._changed.wait(_LAST_PAUSE)
                else:
                    pause = _FIRST_PAUSE
                self._changed.notify_all()

    def _next(self) -> _Pending | None:
        """The next status to send, or None when the thread is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stop_at is not None, _IDLE_SECONDS)
            while self._queue and not self._is_late():
                one = next(iter(self._queue))
                held = one.due - time.monotonic() if one.status.droppable and one.post is None else 0.0
                if held > 0 and self._stop_at is None and not self._flushing:
                    self._changed.wait(held)
                    continue
                del self._queue[one]
                story = one.status.story
                if self._passing.get(story) is one:
                    del self._passing[story]
                if one.post is not None or not story.given_up:
                    self._sending = True
                    return one
                self._merged += 1
            self._thread = self._stop_at = None
            self._changed.notify_all()
            return None

    def _is_late(self) -> bool:
        return self._stop_at is not None and time.monotonic() >= self._stop_at

    def _send(self, one: _Pending) -> bool:
        """Post a status; true if it must be tried again."""
        try:
            story, post = one.status.story, one.post or self._written(one.status)
            one.post = post
            try:
                sent = self._sent(post)
            except NotFound:
                if post.parent is None:
                    raise
                story.first_post = None  # the channel kept it no longer: this opens another thread
                one.post = post = post._replace(key=new_idempotency_key(), parent=None)
                sent = self._sent(post)
            story.first_post = story.first_post or sent["message"]["id"]
            with self._changed:
                self._away = False
                self._posted += 1
                self._untold -= post.untold
                self._folded -= post.folded
        except AgentChatError as error:
            if error.retryable:
                self._wait_for_relay(error)
                return True
            self.lost(f"{type(error).__name__}: {error.message}")
        except BaseException as error:  # whatever a client of the caller's raises, even to cancel what is not its own
            self.lost(type(error).__name__)
        return False

    def _sent(self, post: _Post) -> Any:
        client = self._client
        if hasattr(client, "with_options"):
            client = client.with_options(idempotency_key=post.key, **self._patience())
        return client.send_message(
            self._channel, post.text, parent_message_id=post.parent, metadata=post.facts, kind="status"
        )

    def _written(self, status: Status) -> _Post:
        with self._changed:
            untold, folded = self._untold, Counter(self._folded)
        lines = [status.text]
        if folded:
            told = ", ".join(f"{name} x{count}" for name, count in folded.most_common())
            lines.append(f"(before this, not posted one by one: {told})")
        if untold:
            lines.append(f"({untold} earlier status post{'' if untold == 1 else 's'} dropped)")
        if status.note:
            lines.append(self._redacted(status.note))
        facts = dict(status.facts)
        if len(json_text(facts)) > self._most_facts - _ROOM:
            facts = {name: facts[name] for name in ("run_id", "state")}
        text = visible("\n".join(lines))
        text = text if len(text) <= self._longest else text[: self._longest - 1] + "…"
        key, parent = new_idempotency_key(), status.story.first_post
        return _Post(key, text, parent, {"agentchat_status": facts}, untold, folded)

    def _patience(self) -> dict[str, Any]:
        """At the end of the program, no attempt takes longer than what is left of its budget."""
        if self._stop_at is None:
            return {}
        left = max(self._stop_at - time.monotonic(), 0.05)
        return {"timeout": left, "deadline": left}

    def _redacted(self, content: str) -> str:
        """The beginning of what was said; cut after the hook, which must see a secret whole to know it (`preview`)."""
        try:
            shown = content if self._redact is None else self._redact(content)
            if not isinstance(shown, str):
                raise TypeError("redact must return a text")
            return shown[:_LONGEST_NOTE] + ("…" if len(shown) > _LONGEST_NOTE else "")
        except BaseException as error:  # rather nothing than what was meant to be hidden
            _LOG.warning("The redact hook failed with %s; the content was left out.", type(error).__name__)
            return "(content left out: the redact hook failed)"

    def lost(self, why: str) -> None:
        """Count a status that will not be posted. What it said is not logged."""
        with self._changed:
            self._dropped += 1
            self._untold += 1
        _LOG.warning("A status could not be posted to #%s: %s", self._channel, why)

    @property
    def stats(self) -> Stats:
        with self._changed:
            return Stats(self._posted, self._merged, self._dropped, len(self._queue) + self._sending)

    def _wait_for_relay(self, error: AgentChatError) -> None:
        if not self._away:  # once, however long it takes
            _LOG.warning("Statuses for #%s wait for the relay: %s", self._channel, error.message)
        self._away = True

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until nothing is queued; false if the time ran out before."""
        with self._changed:
            self._flushing += 1
            self._stop_at = None
            if self._queue and self._thread is None:  # `close` ran out of time
                self._start_thread()
            self._changed.notify_all()
            try:
                return self._changed.wait_for(self._is_idle, timeout if self._thread else 0)
            finally:
                self._flushing -= 1

    def _is_idle(self) -> bool:
        return not (self._queue or self._sending)

    def close(self) -> None:
        """Send what is left within the budget, and end the thread. Later statuses start it again."""
        self._join(self._stop())

    def _stop(self) -> float:
        with self._changed:
            self._stop_at = stop_at = time.monotonic() + self._drain_seconds
            self._changed.notify_all()
        return stop_at

    def _join(self, stop_at: float) -> None:
        with self._changed:
            left = stop_at + _LAST_PAUSE - time.monotonic()
            self._changed.wait_for(lambda: self._thread is None, max(left, 0.0))
            threadless = self._thread is None and bool(self._queue) and time.monotonic() < stop_at
            if threadless:
                self._stop_at = stop_at
        if threadless:  # at the interpreter's end no thread can be started
            self._run()
        with self._changed:
            if not self._is_idle():
                left_over = len(self._queue) + self._sending
                _LOG.warning("%s statuses for #%s were not posted in time.", left_over, self._channel)


_ALL: WeakSet[Poster] = WeakSet()


@atexit.register
def _close_all() -> None:
    posters = list(_ALL)
    stopping = [(poster, poster._stop()) for poster in posters]  # all of them first: they share one budget
    for poster, stop_at in stopping:
        poster._join(stop_at)


def _forget_all() -> None:
    for poster in list(_ALL):
        poster._start_over()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
