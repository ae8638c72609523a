"""The log of events as something to iterate over on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from agentchat._events import Deliver, FollowStep, Lost, Open, Read
from agentchat._exchange import NeedKey, Pause, Request, Response
from agentchat._following import Follower
from agentchat.errors import ConnectionFailed, NetworkError
from agentchat.types import Event


class AsyncEvents(Follower):
    """The relay's events as they happen, one after another, without an end.

    async with client.events(channel="general") as events:
        async for event in events:
            print(event["kind"], event["position"])

    It connects again by itself. A task that waits for the next one may be cancelled: nothing is lost.
    """

    def __init__(self, client: Any, given: Mapping[str, Any]) -> None:
        super().__init__(client, given)
        self._stream: Any = None
        self._asking: asyncio.Future[Response] | None = None
        self._closing = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        answer: Any = None
        while not self._closed:
            step = self._next_step(answer)
            if isinstance(step, Deliver):
                self._step = None
                return step.event
            answer = await self._done(step)
            self._step = None
        await self._drop()
        raise StopAsyncIteration

    async def _done(self, step: FollowStep) -> Any:
        if isinstance(step, NeedKey):
            credential = self._client.credential
            return (step.refused is None and credential.held) or await asyncio.to_thread(
                credential.obtain, step.refused, step.timeout
            )
        if isinstance(step, Open):
            return await self._opened(step.request)
        if isinstance(step, Read):
            return await self._received(step.seconds)
        if isinstance(step, Request):
            return await self._asked(step)
        if isinstance(step, Lost):
            await self._drop()
            self._tell(step)
        if isinstance(step, Lost | Pause):
            with suppress(TimeoutError):
                async with asyncio.timeout(step.seconds):
                    await self._closing.wait()
        return None

    async def _asked(self, request: Request) -> Response | NetworkError:
        """What was asked for, unless it is closed meanwhile."""
        asking: asyncio.Future[Response] = asyncio.ensure_future(self._client._transport.send(request))
        self._asking = asking
        try:
            return await asking
        except NetworkError as error:
            return error
        except asyncio.CancelledError:
            reader = asyncio.current_task()
            if not self._closed or (reader is not None and reader.cancelling()):
                raise
            return ConnectionFailed("The stream of events was closed.")
        finally:
            self._asking = None

    async def _opened(self, request: Request) -> Response | NetworkError:
        await self._drop()
        try:
            self._stream = await self._client._transport.stream(request)
        except NetworkError as error:
            return error
        return Response(self._stream.status, self._stream.headers, b"")

    async def _received(self, seconds: float) -> bytes | NetworkError:
        if self._stream is None:
            return ConnectionFailed("The stream of events was closed.")
        try:
            received: bytes = await self._stream.read(seconds)
        except NetworkError as error:
            return error
        except BaseException:
            await self._drop()  # what may have been received is lost, and asked for again
            raise
        return received

    async def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def close(self) -> None:
        """End it: who waits for the next event gets none."""
        self._closed = True
        self._closing.set()
        if self._asking is not None:
            self._asking.cancel()
        await self._drop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
