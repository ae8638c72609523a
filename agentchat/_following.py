"""The log of events as something to iterate over. `_events.py` decides what happens next; this does it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

from ._arguments import check
from ._events import Deliver, Following, FollowStep, FollowSteps, Lost, Open, Place, Read, follow
from ._exchange import NeedKey, Pause, Request, Response
from .contract import Contract
from .errors import AgentChatError, ConnectionFailed, InvalidArguments, NetworkError
from .types import Event

_WAIT = 50  # of one request, where the transport has no streams


class Follower:
    """What the events of both colours are before any I/O.

    A step that was interrupted (by Ctrl-C, by a cancelled task) is done again with the next call, so that an
    interrupted reader loses nothing.
    """

    def __init__(self, client: Any, given: Mapping[str, Any]) -> None:
        self._arguments = check(Contract.list_events, given)
        self._client = client
        self._place = Place(self._arguments.pop("since", None))
        self._steps: FollowSteps | None = None
        self._step: FollowStep | None = None
        self._closed = False
        self.on_reconnect: Callable[[AgentChatError, float], object] | None = None
        """Called with the reason and the seconds until the next try, whenever the stream is lost."""

    @property
    def position(self) -> int | None:
        """Where to go on from: everything up to here was handed out, or was not for this reader. None before the
        relay has said anything. Set it to read on from elsewhere."""
        return self._place.position

    @position.setter
    def position(self, position: int) -> None:
        if type(position) is not int or position < 0:
            raise InvalidArguments(f"position must be an integer of at least 0, got {position!r}.")
        self._place.move(position)

    def _next_step(self, answer: Any) -> FollowStep:
        """The step to do: the one that was interrupted, else the one after this answer."""
        if self._step is not None:
            return self._step
        if self._steps is None:
            self._steps, answer = follow(self._reader()), None
        try:
            self._step = self._steps.send(answer)
        except BaseException:  # the next call begins anew, at the same position
            self._steps = None
            raise
        return self._step

    def _reader(self) -> Following:
        self._place.moved = False
        streams = hasattr(self._client._transport, "stream")
        return Following(self._place, self._build, self._poll, self._client._options, streams, self._client._join)

    def _build(self, key: str | None, timeout: float, position: int | None) -> Request:
        request: Request = self._client._request(
            Contract.list_events, self._from(position), key, timeout, accept="text/event-stream"
        )
        return request

    def _poll(self, position: int | None) -> Any:
        return self._client._steps(Contract.list_events, {**self._from(position), "wait": _WAIT})

    def _from(self, position: int | None) -> dict[str, Any]:
        return self._arguments if position is None else {**self._arguments, "since": position}

    def _tell(self, lost: Lost) -> None:
        if self.on_reconnect is not None:
            self.on_reconnect(lost.why, lost.seconds)


class Events(Follower):
    """The relay's events as they happen, one after another, without an end.

        with client.events(channel="general") as events:
            for event in events:
                print(event["kind"], event["position"])

    It connects again by itself. `close()` may be called from another thread.
    """

    def __init__(self, client: Any, given: Mapping[str, Any]) -> None:
        super().__init__(client, given)
        self._stream: Any = None
        self._closing = threading.Event()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        answer: Any = None
        while not self._closed:
            step = self._next_step(answer)
            if isinstance(step, Deliver):
                self._step = None
                return step.event
            answer = self._done(step)
            self._step = None
        self._drop()
        raise StopIteration

    def _done(self, step: FollowStep) -> Any:
        if isinstance(step, NeedKey):
            credential = self._client.credential
            return (step.refused is None and credential.held) or credential.obtain(*step)
        if isinstance(step, Open):
            return self._opened(step.request)
        if isinstance(step, Read):
            return self._received(step.seconds)
        if isinstance(step, Request):
            return self._asked(step)
        if isinstance(step, Lost):
            self._drop()
            self._tell(step)
        if isinstance(step, Lost | Pause):
            self._closing.wait(step.seconds)
        return None

    def _asked(self, request: Request) -> Response | NetworkError:
        """What was asked for. `close()` ends it where the transport can give up."""
        transport = self._client._transport
        try:
            if not hasattr(transport, "begin"):
                sent: Response = transport.send(request)
                return sent
            begun = self._stream = transport.begin(request)
            if self._closed:  # before it was there to be closed
                begun.close()
            answer: Response = begun.response()
            return answer
        except NetworkError as error:
            return error
        finally:
            self._stream = None

    def _opened(self, request: Request) -> Response | NetworkError:
        self._drop()
        try:
            self._stream = self._client._transport.stream(request)
        except NetworkError as error:
            return error
        return Response(self._stream.status, self._stream.headers, b"")

    def _received(self, seconds: float) -> bytes | NetworkError:
        if self._stream is None:
            return ConnectionFailed("The stream of events was closed.")
        try:
            received: bytes = self._stream.read(seconds)
        except NetworkError as error:
            return error
        except BaseException as error:
            if self._closed and isinstance(error, Exception):  # it was closed while it was read
                return ConnectionFailed("The stream of events was closed.")
            self._drop()  # what may have been received is lost, and asked for again
            raise
        return received

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def close(self) -> None:
        """End it: whoever waits for the next event gets none."""
        self._closed = True
        self._closing.set()
        self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_closing"):
            self.close()
