"""The asynchronous client: the contract's operations as coroutines. The only module that knows httpx."""

from __future__ import annotations

import asyncio
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, Unpack

import httpx

from agentchat import _waiting as _waiting  # which is else loaded with the first wait, and here that is on a loop
from agentchat._caller import Caller, ClientOptions, Connection
from agentchat._exchange import Pause, Request, Response, Steps
from agentchat._local import door
from agentchat._operation import AsyncCaller, Operation
from agentchat._proxy import proxy_for
from agentchat._transport import MAX_RESPONSE_BYTES
from agentchat.contract import Contract
from agentchat.errors import AgentChatError, ConnectionFailed, NetworkError, NotConfigured, ProtocolError, TimedOut
from agentchat.settings import Credential, is_local

from .events import AsyncEvents

if TYPE_CHECKING:
    from ssl import SSLContext

R = TypeVar("R")


class AsyncTransport(Protocol):
    """What an async client sends through. Raises NetworkError when no whole answer came back."""

    async def send(self, request: Request) -> Response: ...
    async def close(self) -> None: ...


class AsyncClient(Caller, AsyncCaller, Contract):
    """An agent's connection to its relay. Event loops may share one; each gets connections of its own.

    async with AsyncClient.from_env() as client:
        await client.send_message("general", "hello, @mac-reviewer")
    """

    def __init__(
        self,
        url: str,
        key: str | Credential | None = None,
        *,
        agent: str | None = None,
        project: str | None = None,
        transport: AsyncTransport | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(url, key, agent=agent, project=project, **options)
        self.custom_transport = transport is not None
        self._transport: AsyncTransport = transport or self._connect(self.url, self._connection)

    @staticmethod
    def _connect(url: str, connection: Connection) -> AsyncTransport:
        if is_local(url):
            local: AsyncTransport = door().AsyncLocalTransport(url, **connection._asdict())
            return local
        return HttpxTransport(url, **connection._asdict())

    async def _invoke(self, operation: Operation[..., R], args: tuple[object, ...], kwargs: dict[str, object]) -> R:
        return await drive(self._steps(operation, operation.bind(args, kwargs)), self._transport, self.credential)

    def events(
        self, *, since: int | None = None, channel: str | None = None, kind: str | None = None, mine: bool = False
    ) -> AsyncEvents:
        """The relay's events as they happen: from now on, or from a position on. Arguments as of `list_events`."""
        return AsyncEvents(self, {"since": since, "channel": channel, "kind": kind, "mine": mine or None})

    async def close(self) -> None:
        """Close the connections. The client can still be used."""
        if self._owns_transport:
            await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def drive(steps: Steps[R], transport: AsyncTransport, credential: Credential) -> R:
    """Do what each step asks for, until there is a result or an error."""
    answer: Any = None
    try:
        while True:
            step = steps.send(answer)
            answer = None
            if isinstance(step, Request):
                try:
                    answer = await transport.send(step)
                except NetworkError as error:
                    answer = error
            elif isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            else:
                # Obtaining a key reads files and may register: never on the loop.
                answer = (step.refused is None and credential.held) or await asyncio.to_thread(credential.obtain, *step)
    except StopIteration as done:
        result: R = done.value
        return result


class HttpxTransport:
    """Keep-alive connections to one relay, or to its proxy. A new event loop gets connections of its own."""

    def __init__(
        self, url: str, *, ssl_context: SSLContext | None = None, max_response_bytes: int = MAX_RESPONSE_BYTES
    ) -> None:
        self._url = url
        self._max_bytes = max_response_bytes
        self._ssl_context = ssl_context
        self._proxy = proxy_for(url)
        self._pools: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}

    async def send(self, request: Request) -> Response:
        http = self._client()
        try:
            async with asyncio.timeout(request.timeout):
                return await self._send(http, request)
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise _as_ours(error, request, self._url) from error

    async def stream(self, request: Request) -> HttpxStream:
        """An answer to be read while it comes. Nobody else uses its connection until it is closed."""
        http = self._client()
        try:
            async with asyncio.timeout(request.timeout):
                response = await http.send(self._built(http, request), stream=True)
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise _as_ours(error, request, self._url) from error
        return HttpxStream(response, request, self._url)

    def _built(self, http: httpx.AsyncClient, request: Request) -> httpx.Request:
        return http.build_request(
            request.method,
            self._url + request.path,
            headers={**request.headers, "accept-encoding": "identity"},
            content=request.body,
            # The caller's clock bounds the whole. Connecting ends a little earlier by httpx's own, which then closes
            # the socket; cancelled in a handshake, it would leave that to the garbage collector.
            timeout=httpx.Timeout(None, connect=request.timeout * 0.9),
        )

    async def _send(self, http: httpx.AsyncClient, request: Request) -> Response:
        body = bytearray()
        response = await http.send(self._built(http, request), stream=True)
        try:
            announced = response.headers.get("content-length", "")
            if announced.isdigit() and int(announced[:18]) > self._max_bytes:
                raise ProtocolError(f"The answer has {announced[:18]} bytes; at most {self._max_bytes} are read.")
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > self._max_bytes:
                    raise ProtocolError(f"The answer has more than {self._max_bytes} bytes, the most that are read.")
            return Response(response.status_code, response.headers, bytes(body))
        finally:
            await response.aclose()

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        http = self._pools.get(loop)
        if http is None:
            for ended in [other for other in list(self._pools) if other.is_closed()]:
                self._pools.pop(ended, None)
            if self._ssl_context is None and self._url.startswith("https:"):
                from ssl import create_default_context

                self._ssl_context = create_default_context()  # the system's trust store, as the sync client has it
            # The environment is read by our own rules, so that both clients go the same way. The pool is unbounded,
            # since a request waits for its connection only as long as its time-out. No cookies are kept.
            http = self._pools[loop] = httpx.AsyncClient(
                verify=False if self._ssl_context is None else self._ssl_context,
                proxy=self._proxy,
                trust_env=False,
                follow_redirects=False,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            )
        return http

    async def close(self) -> None:
        """Close this loop's connections; those of other loops end with them."""
        http = self._pools.pop(asyncio.get_running_loop(), None)
        if http is not None:
            await http.aclose()


class HttpxStream:
    """Its head is there when it is made; then `read` gives what comes."""

    def __init__(self, response: httpx.Response, request: Request, url: str) -> None:
        self.status, self.headers = response.status_code, response.headers
        self._response = response
        self._chunks = response.aiter_raw()
        self._request, self._url = request, url

    async def read(self, seconds: float) -> bytes:
        """What has come, waiting for it at most so long; b"" at the end."""
        try:
            async with asyncio.timeout(seconds):
                return await anext(self._chunks, b"")
        except TimeoutError as error:
            raise TimedOut(f"{self._url} was silent for {seconds:g} s.") from error
        except httpx.StreamError:  # closed by another task meanwhile
            raise ConnectionFailed("The stream was closed.") from None
        except httpx.HTTPError as error:
            raise _as_ours(error, self._request, self._url) from error

    async def close(self) -> None:
        await self._response.aclose()


def _as_ours(error: Exception, request: Request, url: str) -> AgentChatError:
    """httpx's error as one of ours; what was sent stays out of the text."""
    call = f"{request.method} {request.path.partition('?')[0]}"
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return TimedOut(f"No answer from {url} to {call} within {request.timeout:g} s.")
    if isinstance(error, httpx.RemoteProtocolError):
        if "disconnect" in str(error) or "peer closed" in str(error):
            hung_up = ConnectionFailed(f"{url} closed the connection before {call} was answered whole.")
            hung_up.reached = True
            return hung_up
        return ProtocolError(f"{url} did not answer {call} with HTTP.")
    if isinstance(error, httpx.TransportError):
        if (untrusted := _untrusted(error)) is not None:
            return NotConfigured(
                f"{url}'s certificate is not trusted ({untrusted}); set SSL_CERT_FILE or pass ssl_context=."
            )
        failed = ConnectionFailed(f"Cannot reach {url} for {call}: {error}.")
        failed.reached = isinstance(error, httpx.ReadError | httpx.WriteError)
        return failed
    return ProtocolError(f"{url} did not answer {call} with HTTP that can be read.")


def _untrusted(error: BaseException | None) -> BaseException | None:
    """The refused certificate among an error's causes."""
    while error is not None and type(error).__name__ != "SSLCertVerificationError":
        error = error.__cause__ or error.__context__
    return error
