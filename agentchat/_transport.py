"""Requests over keep-alive connections of the standard library.

Connections wait in a small pool; a thread takes one, uses it and puts it back, so that threads share a transport
without locks (a deque's ends are atomic). A forked child starts with an empty pool: it must not talk over its
parent's sockets. Redirects are never followed, since the key would travel with them.
"""

from __future__ import annotations

import io
import os
import select
import socket
import time
from collections import deque
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

from ._exchange import Request, Response
from ._http1 import MAX_HEAD, read_head, request_bytes
from .errors import ConnectionFailed, NotConfigured, ProtocolError, TimedOut
from .settings import is_loopback

if TYPE_CHECKING:
    from ssl import SSLContext

MAX_RESPONSE_BYTES = 32 * 1024 * 1024
_IDLE_CONNECTIONS = 8
_CHUNK = 65_536


class Transport(Protocol):
    """What a sync client sends through. Raises NetworkError when no whole answer came back."""

    def send(self, request: Request) -> Response: ...
    def close(self) -> None: ...


class StdlibTransport:
    """Keep-alive connections to one relay, or to its proxy."""

    def __init__(
        self, url: str, *, ssl_context: SSLContext | None = None, max_response_bytes: int = MAX_RESPONSE_BYTES
    ) -> None:
        self._idle: deque[_Connection] = deque(maxlen=_IDLE_CONNECTIONS)
        parts = urlsplit(url)
        self._https = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._netloc = parts.netloc
        self._prefix = parts.path
        self._ssl_context = ssl_context
        self._max_bytes = max_response_bytes
        self._proxy = proxy_for(url)
        if self._proxy and not self._https:
            self._prefix = url  # a proxy for plain http is told the whole URL
        self._process = os.getpid()

    def send(self, request: Request) -> Response:
        deadline = time.monotonic() + request.timeout
        connection = self._take(request.timeout)
        try:
            response = connection.exchange(self._prefix, request, deadline, self._max_bytes)
        except BaseException as error:
            connection.close()
            if isinstance(error, Exception):
                raise _as_ours(error, request, self._netloc) from error
            raise
        if connection.reusable:
            self._idle.append(connection)
        return response

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def __del__(self) -> None:
        # A forgotten client is no leak: its idle connections go with it.
        self.close()

    def _take(self, timeout: float) -> _Connection:
        if self._process != os.getpid():
            self._idle = deque(maxlen=_IDLE_CONNECTIONS)
            self._process = os.getpid()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._connection(timeout)
            if not connection.is_stale():
                return connection
            connection.close()

    def _connection(self, timeout: float) -> _Connection:
        host, port = self._host, self._port
        fields = f"host: {self._netloc}\r\naccept-encoding: identity\r\n"
        if self._proxy:
            proxy = urlsplit(self._proxy)
            host, port = proxy.hostname or "", proxy.port or 80
            if not self._https:
                fields += "".join(f"{name}: {value}\r\n" for name, value in _proxy_authorization(self._proxy).items())
        if not self._https:
            return _Connection(HTTPConnection(host, port, timeout=timeout), fields)
        connection = HTTPSConnection(host, port, timeout=timeout, context=self._ssl_context)
        if self._proxy:
            connection.set_tunnel(self._host, self._port or 443, headers=_proxy_authorization(self._proxy))
        return _Connection(connection, fields)


class _Connection:
    """One connection and whether it may be used again. `http.client` makes it and reads what is not ordinary."""

    def __init__(self, http: HTTPConnection, fields: str) -> None:
        self._http = http
        self._fields = fields
        self._sock: socket.socket | None = None
        self.reusable = False

    def exchange(self, prefix: str, request: Request, deadline: float, max_bytes: int) -> Response:
        self.reusable = False
        sock = self._sock
        if sock is None:
            self._http.connect()
            sock = self._sock = cast("socket.socket", self._http.sock)
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        sock.sendall(request_bytes(request, prefix, self._fields))
        received = sock.recv(_CHUNK)  # its time-out is set above; further reads look at the clock again
        while (end := received.find(b"\r\n\r\n")) < 0:
            if len(received) > MAX_HEAD:
                raise ProtocolError(f"The answer's head has more than {MAX_HEAD} bytes.")
            received += _receive(sock, deadline)
        head = read_head(received[:end])
        if head is None:
            return self._unusual(received, sock, request, deadline, max_bytes)
        if head.length > max_bytes:
            raise ProtocolError(f"The answer has {head.length} bytes; at most {max_bytes} are read.")
        body = received[end + 4 :]
        if len(body) < head.length:
            body = _receive_all(body, head.length, sock, deadline)
        self.reusable = head.reusable and len(body) == head.length
        return Response(head.status, head.headers, body[: head.length])

    def _unusual(
        self, received: bytes, sock: socket.socket, request: Request, deadline: float, max_bytes: int
    ) -> Response:
        reader = cast("socket.socket", _Replay(received, sock, deadline))
        with HTTPResponse(reader, method=request.method) as response:
            response.begin()
            if response.length is not None and response.length <= max_bytes:
                body = response.read()
            else:
                body = response.read(max_bytes + 1)
            if len(body) > max_bytes:
                raise ProtocolError(f"The answer has more than {max_bytes} bytes, the most that are read.")
            return Response(response.status, response.headers, body)

    def is_stale(self) -> bool:
        """Whether the relay hung up (or sent something unasked) while the connection was idle."""
        sock = self._sock
        if sock is None or sock.fileno() < 0:
            return True
        if not hasattr(select, "poll"):
            return bool(select.select([sock], [], [], 0)[0])
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        self._sock = None
        self._http.close()


class _Replay(io.RawIOBase):
    """A socket's reading side for `http.client`: bytes received before, then the socket until the deadline."""

    def __init__(self, received: bytes, sock: socket.socket, deadline: float) -> None:
        self._received = received
        self._sock = sock
        self._deadline = deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, _CHUNK)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._received:
            taken = self._received[: len(buffer)]
            self._received = self._received[len(taken) :]
        else:
            self._sock.settimeout(_left(self._deadline))
            taken = self._sock.recv(min(len(buffer), _CHUNK))
        buffer[: len(taken)] = taken
        return len(taken)


def _left(deadline: float) -> float:
    """Seconds until the deadline, however slowly the bytes drip in; a time-out when it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _receive(sock: socket.socket, deadline: float) -> bytes:
    sock.settimeout(_left(deadline))
    received = sock.recv(_CHUNK)
    if not received:
        raise ConnectionResetError("closed in the middle of an answer")
    return received


def _receive_all(start: bytes, length: int, sock: socket.socket, deadline: float) -> bytes:
    parts, missing = [start], length - len(start)
    while missing > 0:
        parts.append(_receive(sock, deadline))
        missing -= len(parts[-1])
    return b"".join(parts)


def _as_ours(error: Exception, request: Request, host: str) -> Exception:
    """The library's error as one of ours; what was sent stays out of the text."""
    call = f"{request.method} {request.path.partition('?')[0]}"
    if isinstance(error, TimeoutError):
        return TimedOut(f"No answer from {host} to {call} within {request.timeout:g} s.")
    if isinstance(error, ConnectionResetError | BrokenPipeError | IncompleteRead):
        return ConnectionFailed(f"{host} closed the connection before {call} was answered whole.")
    if type(error).__name__ == "SSLCertVerificationError":
        return NotConfigured(f"{host}'s certificate is not trusted ({error}); set SSL_CERT_FILE or pass ssl_context=.")
    if isinstance(error, OSError):
        return ConnectionFailed(f"Cannot reach {host} for {call}: {error.strerror or error}.")
    if isinstance(error, HTTPException | ValueError):
        return ProtocolError(f"{host} did not answer {call} with HTTP.")
    return error


def proxy_for(url: str) -> str | None:
    """The environment's proxy for a relay's URL. A relay on this machine is always reached directly."""
    parts = urlsplit(url)
    if is_loopback(parts.hostname) or not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass

    proxies = getproxies_environment()
    if proxy_bypass(parts.netloc):
        return None
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and urlsplit(proxy if "://" in proxy else f"http://{proxy}").scheme != "http":
        raise NotConfigured(
            f"The environment's proxy {urlsplit(proxy).scheme}://… is not supported; use an http:// proxy."
        )
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _proxy_authorization(proxy: str) -> dict[str, str]:
    from base64 import b64encode
    from urllib.parse import unquote

    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": "Basic " + b64encode(pair.encode()).decode()}
