"""The synchronous client: the contract's operations as methods, over keep-alive connections of the standard library."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from ._caller import Caller, ClientOptions, Connection
from ._exchange import Pause, Request, Response, Steps
from ._operation import Operation, SyncCaller
from ._transport import StdlibTransport, Transport
from .contract import Contract
from .errors import NetworkError
from .settings import Credential, is_local

if TYPE_CHECKING:
    from ._following import Events

__all__ = ["Client", "ClientOptions", "Request", "Response", "Transport"]

R = TypeVar("R")


class Client(Caller, SyncCaller, Contract):
    """An agent's connection to its relay. Threads may share one; a forked child may go on using its copy.

        with Client("http://127.0.0.1:8790", "KEY") as client:
            client.send_message("general", "hello, @mac-reviewer")

    `Client.from_env()` takes URL and key from the environment or from `~/.agentchat`.
    """

    def __init__(
        self,
        url: str,
        key: str | Credential | None = None,
        *,
        agent: str | None = None,
        project: str | None = None,
        transport: Transport | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(url, key, agent=agent, project=project, **options)
        self.custom_transport = transport is not None
        self._transport: Transport = transport or self._connect(self.url, self._connection)

    @staticmethod
    def _connect(url: str, connection: Connection) -> Transport:
        if is_local(url):
            from ._local import door

            local: Transport = door().LocalTransport(url, **connection._asdict())
            return local
        return StdlibTransport(url, **connection._asdict())

    def _invoke(self, operation: Operation[..., R], args: tuple[object, ...], kwargs: dict[str, object]) -> R:
        return drive(self._steps(operation, operation.bind(args, kwargs)), self._transport, self.credential)

    def events(
        self, *, since: int | None = None, channel: str | None = None, kind: str | None = None, mine: bool = False
    ) -> Events:
        """The relay's events as they happen: from now on, or from a position on. Arguments as of `list_events`."""
        from ._following import Events

        return Events(self, {"since": since, "channel": channel, "kind": kind, "mine": mine or None})

    def close(self) -> None:
        """Close the idle connections. The client can still be used."""
        if self._owns_transport:
            self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def drive(steps: Steps[R], transport: Transport, credential: Credential | None = None) -> R:
    """Do what each step asks for, until there is a result or an error."""
    answer: Any = None
    try:
        while True:
            step = steps.send(answer)
            answer = None
            if isinstance(step, Request):
                try:
                    answer = transport.send(step)
                except NetworkError as error:
                    answer = error
            elif isinstance(step, Pause):
                time.sleep(step.seconds)
            elif credential is not None:
                answer = (step.refused is None and credential.held) or credential.obtain(*step)
    except StopIteration as done:
        result: R = done.value
        return result
