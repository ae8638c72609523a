"""Following the log of events, without I/O: bytes of an event stream in any cut become blocks, blocks become events.

`Parser` knows the format (server-sent events, as browsers read them) and nothing of us. `follow` is a generator that
decides: where to begin, when to connect again and after which pause, what is an error. Like `exchange` it yields what
must be done next, and the drivers of both colours do it. An event is handed out once: what the relay sends again after
a reconnect is known by its position.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple, cast

from ._exchange import NeedKey, Options, Request, Response, Step, pause_after, refusal
from ._exchange import _random as random_jitter
from .errors import AgentChatError, ConnectionFailed, NetworkError, ProtocolError, Unauthorized
from .types import Event, EventPage

MAX_BLOCK = 4 * 1024 * 1024
SILENCE = 60.0  # the relay gives a sign of life every 15 seconds
_LONGEST_PAUSE = 30.0
_STEADY = 10.0  # a stream that lived so long begins the pauses anew
_LONGEST_REFUSAL = 1024 * 1024
_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


class Block(NamedTuple):
    """What stood between two blank lines. Without `data` it is no event; `id` is the last one that was seen."""

    event: str
    data: str | None
    id: str | None


class Parser:
    """Blocks from bytes, cut anywhere. What a stream ends in the middle of is no block."""

    def __init__(self, max_block: int = MAX_BLOCK) -> None:
        self._max_block = max_block
        self._line: list[bytes] = []  # pieces of a line that is not whole yet
        self._sizes = [0, 0]  # of the block's whole lines, and of those pieces
        self._after_return = False
        self._at_start = True
        self._id: str | None = None
        self._named = False
        self._event = ""
        self._data: list[str] | None = None
        self.retry: int | None = None
        """Milliseconds that the sender wants a reader to wait before it connects again."""

    def feed(self, received: bytes) -> list[Block]:
        """The blocks that are whole now."""
        if self._after_return and received:  # that line has ended with its carriage return
            received = received.removeprefix(b"\n")
            self._after_return = False
        if not received:
            return []
        self._after_return = received.endswith(b"\r")
        *ended, rest = _LINE_END.split(received)
        blocks: list[Block] = []
        for piece in ended:
            line = b"".join([*self._line, piece])
            self._line, self._sizes[1] = [], 0
            if (block := self._read(line)) is not None:
                blocks.append(block)
        if rest:
            self._line.append(rest)
            self._grow(1, len(rest))
        return blocks

    def _grow(self, what: int, size: int) -> None:
        self._sizes[what] += size
        if sum(self._sizes) > self._max_block:
            raise ProtocolError(f"An event has more than {self._max_block} bytes, the most that are read.")

    def _read(self, line: bytes) -> Block | None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._ended()
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name in ("data", "event", "id"):  # what else there may be is not kept, and may go on for ever
            self._grow(0, len(line))
        if name == "data":
            self._data = self._data or []
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id, self._named = value, True
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value[:9])
        return None

    def _ended(self) -> Block | None:
        data = None if self._data is None else "\n".join(self._data)
        block = Block(self._event or "message", data, self._id)
        said = self._named or data is not None
        self._event, self._data, self._named, self._sizes[0] = "", None, False, 0
        return block if said else None


# Following


class Open(NamedTuple):
    """Open a stream with this request; send a `Response` without a body, or the `NetworkError`."""

    request: Request


class Read(NamedTuple):
    """Send what comes next on the open stream, b"" at its end, or the `NetworkError`."""

    seconds: float


class Deliver(NamedTuple):
    """Hand out an event, then send None."""

    event: Event


class Lost(NamedTuple):
    """The stream is lost: close what is left of it and wait, then send None."""

    seconds: float
    why: AgentChatError


FollowStep = Step | Open | Read | Deliver | Lost
FollowSteps = Generator[FollowStep, Any, None]


class Place:
    """Where a reader is: the position of the last event that was handed out, or further where nothing was for it."""

    def __init__(self, position: int | None) -> None:
        self.position = position
        self.moved = False

    def move(self, position: int) -> None:
        """Go on from elsewhere: what is open does not lead there."""
        self.position, self.moved = position, True

    def reaches(self, position: object) -> bool:
        """Go forward to a position, unless it was reached before."""
        if type(position) is not int or position <= (-1 if self.position is None else self.position):
            return False
        self.position = position
        return True


def _nothing() -> Generator[Step, Any, None]:
    yield from ()


class Following(NamedTuple):
    """What following needs of a client: how a stream is asked for, and how a page is where there are no streams; and
    what is to be done before the first stream, as before the first call."""

    place: Place
    build: Callable[[str | None, float, int | None], Request]
    poll: Callable[[int | None], Generator[Step, Any, EventPage]]
    options: Options
    streams: bool = True
    join: Callable[[], Generator[Step, Any, None]] = _nothing
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random_jitter


def follow(reader: Following) -> FollowSteps:
    """All the steps of following the log, without an end: it raises what a new connection would not mend."""
    attempt, renewed, key = 0, False, ""
    while True:
        begun = reader.clock()
        error: AgentChatError
        try:
            if reader.streams:
                yield from reader.join()
                key = (yield NeedKey(None, reader.options.deadline)) or ""
                yield from _streamed(reader, key or None)
            else:
                yield from _polled(reader)
            reader.place.moved, attempt = False, 0
            continue
        except AgentChatError as refused:
            error = refused
        lived = reader.clock() - begun
        attempt, renewed = 0 if lived > _STEADY else attempt, renewed and lived < SILENCE
        if reader.streams and isinstance(error, Unauthorized) and not renewed:
            renewed = True
            fresh: str | None = yield NeedKey(key, reader.options.deadline)
            if fresh is None or fresh == key:
                raise error
            continue
        if not error.retryable:
            raise error
        yield Lost(pause_after(error, attempt, reader.jitter(), _LONGEST_PAUSE), error)
        attempt += 1


def _streamed(reader: Following, key: str | None) -> FollowSteps:
    """One stream, until the reader is moved. However it ends otherwise, that is an error."""
    answer = yield Open(reader.build(key, reader.options.timeout, reader.place.position))
    if isinstance(answer, NetworkError):
        raise answer
    response: Response = answer
    if response.status != 200:
        raise (yield from _refused(reader, response))
    if not (response.headers.get("content-type") or "").startswith("text/event-stream"):
        raise ProtocolError("The relay's answer is no stream of events; is the URL really an AgentChat relay?")
    parser = Parser()
    try:
        while True:
            received: bytes | NetworkError = yield Read(SILENCE)
            if isinstance(received, NetworkError):
                raise received
            if not received:
                raise ConnectionFailed("The stream of events was cut off.")
            for block in parser.feed(received):
                yield from _told(block, reader.place)
                if reader.place.moved:
                    return
    except NetworkError as lost:
        if lost.retry_after is None and parser.retry is not None:
            lost.retry_after = parser.retry / 1000
        raise


def _refused(reader: Following, response: Response) -> Generator[FollowStep, Any, AgentChatError]:
    body = b""
    while len(body) < _LONGEST_REFUSAL:
        received: bytes | NetworkError = yield Read(reader.options.timeout)
        if isinstance(received, NetworkError) or not received:
            break
        body += received
    return refusal(response.status, response.headers, body)


def _told(block: Block, place: Place) -> FollowSteps:
    """What a block says: an event, how far the log is looked through, or that the stream ends."""
    if block.event == "end":
        raise _end(block.data)
    if block.data is not None:
        if block.event != "message":
            return
        event = _json(block.data)
        position = event.get("position", False)
        is_live = position is None  # of the moment: it is in no log, and so is no place to go on from
        if not is_live and type(position) is not int:
            raise ProtocolError("An event of the relay does not follow the contract: it has no position.")
        if is_live or place.reaches(position):
            yield Deliver(cast("Event", event))
    elif block.id is not None and block.id.isascii() and block.id.isdigit():
        place.reaches(int(block.id[:19]))


def _end(data: str | None) -> AgentChatError:
    reason = _json(data).get("reason")
    if reason == "unauthorized":
        return Unauthorized("The relay ended the stream: it does not know this key any more.")
    told = {"slow": "this reader was too far behind", "stopping": "the relay stops"}.get(str(reason), "for no reason")
    return ConnectionFailed(f"The relay ended the stream: {told}.")


def _json(data: str | None) -> Mapping[str, Any]:
    try:
        found = json.loads(data or "")
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def _polled(reader: Following) -> FollowSteps:
    """Pages one after another, until the reader is moved."""
    while True:
        page: EventPage = yield from reader.poll(reader.place.position)
        for event in page["events"]:
            if reader.place.reaches(event.get("position")):
                yield Deliver(event)
            if reader.place.moved:
                return
        reader.place.reaches(page["position"])
