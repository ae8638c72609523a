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
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

from ._exchange import Request, Response
from ._http1 import MAX_HEAD, read_head, request_bytes
from ._proxy import proxy_authorization, proxy_for
from .errors import AgentChatError, ConnectionFailed, NotConfigured, ProtocolError, TimedOut

if TYPE_CHECKING:
    from ssl import SSLContext

    from ._streaming import StdlibStream

MAX_RESPONSE_BYTES = 32 * 1024 * 1024
_IDLE_CONNECTIONS = 8
_CHUNK = 65_536


class Transport(Protocol):
    """What a sync client sends through. Raises NetworkError when no whole answer came back.

    With a method `stream(request)` as well, which gives an answer to be read while it comes (`status`, `headers`,
    `read(seconds)`, `close()`), events are streamed; without it they are asked for. With `begin(request)`, which gives
    a call under way (`response()`, `close()`), whoever asks for them can give up at once.
    """

    def send(self, request: Request) -> Response: ...
    def close(self) -> None: ...


class StdlibTransport:
    """Keep-alive connections to one relay, or to its proxy."""

    def __init__(
        self, url: str, *, ssl_context: SSLContext | None = None, max_response_bytes: int = MAX_RESPONSE_BYTES
    ) -> None:
        self._idle: deque[_Connection] = deque()
        parts = urlsplit(url)
        self._https = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._https else 80)
        self._netloc = parts.netloc
        self._prefix = parts.path
        self._ssl_context = ssl_context
        self._max_bytes = max_response_bytes
        self._fields = f"host: {parts.netloc}\r\naccept-encoding: identity\r\n"
        self._proxy = proxy_for(url)
        if self._proxy and not self._https:  # a proxy for plain http is told the whole URL
            self._prefix = url
            self._fields += proxy_authorization(self._proxy)
        self._process = os.getpid()

    def send(self, request: Request) -> Response:
        deadline = time.monotonic() + request.timeout
        connection: _Connection | None = None
        try:
            connection = self._taken() or _Connection(self._connected(deadline), self._fields)
            response = connection.exchange(self._prefix, request, deadline, self._max_bytes)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, AgentChatError) or not isinstance(error, Exception):
                raise
            raise _as_ours(error, request, self._netloc) from error
        if connection.reusable and len(self._idle) < _IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.close()
        return response

    def stream(self, request: Request) -> StdlibStream:
        """An answer to be read while it comes, on a connection of its own."""
        from ._streaming import StdlibStream

        deadline = time.monotonic() + request.timeout
        sock: socket.socket | None = None
        try:
            sock = self._connected(deadline)
            sock.settimeout(_left(deadline))
            sock.sendall(request_bytes(request, self._prefix, self._fields))
            return StdlibStream(sock, request, self._netloc, deadline)
        except BaseException as error:
            if sock is not None:
                sock.close()
            if isinstance(error, AgentChatError) or not isinstance(error, Exception):
                raise
            raise _as_ours(error, request, self._netloc) from error

    def close(self) -> None:
        while (connection := self._popped()) is not None:
            connection.close()

    def __del__(self) -> None:
        # A forgotten client is no leak: its idle connections go with it.
        self.close()

    def _taken(self) -> _Connection | None:
        """An idle connection that still stands."""
        if self._process != os.getpid():
            self.close()  # closes the child's copies; the parent's connections stay as they are
            self._process = os.getpid()
        while (connection := self._popped()) is not None and connection.is_stale():
            connection.close()
        return connection

    def _popped(self) -> _Connection | None:
        try:
            return self._idle.pop()
        except IndexError:  # another thread may have taken the last one
            return None

    def _connected(self, deadline: float) -> socket.socket:
        """A new connection, through the proxy and with TLS where the URL asks for it."""
        if self._proxy:
            proxy = urlsplit(self._proxy)
            sock = _dial(proxy.hostname or "", proxy.port or 80, deadline)
        else:
            sock = _dial(self._host, self._port, deadline)
        if not self._https:
            return sock
        try:
            if self._proxy:
                self._open_tunnel(sock, deadline)
            if self._ssl_context is None:
                from ssl import create_default_context

                self._ssl_context = create_default_context()  # the system's trust store, or SSL_CERT_FILE
            sock.settimeout(_left(deadline))
            return self._ssl_context.wrap_socket(sock, server_hostname=self._host)
        except BaseException:
            sock.close()
            raise

    def _open_tunnel(self, sock: socket.socket, deadline: float) -> None:
        target = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        fields = f"host: {target}\r\n" + proxy_authorization(self._proxy or "")
        sock.settimeout(_left(deadline))
        sock.sendall(f"CONNECT {target} HTTP/1.1\r\n{fields}\r\n".encode("latin-1"))
        head = _receive_head(b"", sock, deadline).partition(b"\r\n")[0].split(b" ", 2)
        if head[1:2] in ([b"403"], [b"407"]):
            raise NotConfigured(
                f"The proxy refused to connect to {target} (status {head[1].decode()}); check its user name."
            )
        if head[1:2] != [b"200"] or not head[0].startswith(b"HTTP/1."):
            raise ConnectionRefusedError(0, f"the proxy refused ({b' '.join(head[1:])[:100].decode('latin-1')})")


class _Connection:
    """One connection and whether it may be used again. `http.client` reads the answers that are not ordinary."""

    def __init__(self, sock: socket.socket, fields: str) -> None:
        self._sock = sock
        self._fields = fields
        self.reusable = False

    def exchange(self, prefix: str, request: Request, deadline: float, max_bytes: int) -> Response:
        self.reusable = False
        sock = self._sock
        sock.settimeout(_left(deadline))
        sock.sendall(request_bytes(request, prefix, self._fields))
        received = _receive_head(b"", sock, deadline)
        end = received.find(b"\r\n\r\n")
        while end > 0 and received.startswith(b"HTTP/1.1 1"):  # an interim answer: the real one follows
            received = _receive_head(received[end + 4 :], sock, deadline)
            end = received.find(b"\r\n\r\n")
        head = read_head(received[:end]) if end > 0 else None
        if head is None:
            return self._unusual(received, request, deadline, max_bytes)
        if head.length > max_bytes:
            raise ProtocolError(f"The answer has {head.length} bytes; at most {max_bytes} are read.")
        body = received[end + 4 :]
        if len(body) < head.length:
            body = _receive_all(body, head.length, sock, deadline)
        self.reusable = head.reusable and len(body) == head.length
        return Response(head.status, head.headers, body[: head.length])

    def _unusual(self, received: bytes, request: Request, deadline: float, max_bytes: int) -> Response:
        reader = _Replay(received, self._sock, deadline)
        with HTTPResponse(cast("socket.socket", reader), method=request.method) as response:
            try:
                response.begin()
                if response.length is not None and response.length <= max_bytes:
                    body = response.read()
                else:
                    body = response.read(max_bytes + 1)
            except IncompleteRead as error:
                if reader.ended:
                    raise
                raise HTTPException("a chunk without a length") from error
            if len(body) > max_bytes:
                raise ProtocolError(f"The answer has more than {max_bytes} bytes, the most that are read.")
            return Response(response.status, response.headers, body)

    def is_stale(self) -> bool:
        """Whether the relay hung up (or sent something unasked) while the connection was idle."""
        if self._sock.fileno() < 0:
            return True
        if not hasattr(select, "poll"):
            return bool(select.select([self._sock], [], [], 0)[0])
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        self._sock.close()


class _Replay(io.RawIOBase):
    """A socket's reading side for `http.client`: bytes received before, then the socket until the deadline."""

    def __init__(self, received: bytes, sock: socket.socket, deadline: float) -> None:
        self._received = received
        self._sock = sock
        self.deadline = deadline
        self.ended = False

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, _CHUNK)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._received:
            taken = self._received[: len(buffer)]
            self._received = self._received[len(taken) :]
        else:
            self._sock.settimeout(_left(self.deadline))
            taken = self._sock.recv(min(len(buffer), _CHUNK))
            self.ended = not taken
        buffer[: len(taken)] = taken
        return len(taken)


def _left(deadline: float) -> float:
    """Seconds until the deadline, however slowly the bytes drip in; a time-out when it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _dial(host: str, port: int, deadline: float) -> socket.socket:
    """A TCP connection to the first of the host's addresses that answers. (Looking the name up cannot be bounded.)"""
    last: OSError | None = None
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise ConnectionRefusedError(0, "no host can have that name") from None
    for position, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_left(deadline) / (len(addresses) - position))  # a silent address leaves time for the next
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):
                raise
            last = error
    raise last or ConnectionRefusedError(0, "the name has no address")


def _receive(sock: socket.socket, deadline: float) -> bytes:
    sock.settimeout(_left(deadline))
    received = sock.recv(_CHUNK)
    if not received:
        raise ConnectionResetError("closed in the middle of an answer")
    return received


def _receive_head(received: bytes, sock: socket.socket, deadline: float) -> bytes:
    """Bytes up to at least the blank line that ends a head, even if its lines end as they should not."""
    while b"\n\r\n" not in received and b"\n\n" not in received:
        if len(received) > MAX_HEAD:
            raise ProtocolError(f"The answer's head has more than {MAX_HEAD} bytes.")
        received += _receive(sock, deadline)
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
        hung_up = ConnectionFailed(f"{host} hung up before {call} was answered whole.")
        hung_up.reached = True
        return hung_up
    if type(error).__name__ == "SSLCertVerificationError":
        return NotConfigured(f"{host}'s certificate is not trusted ({error}); set SSL_CERT_FILE or pass ssl_context=.")
    if isinstance(error, OSError):
        return ConnectionFailed(f"Cannot reach {host} for {call}: {error.strerror or error}.")
    if isinstance(error, HTTPException | ValueError):
        return ProtocolError(f"{host} did not answer {call} with HTTP.")
    return error
