"""An answer that is read while it comes, on a connection of its own. `http.client` reads it, in whatever form."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from http.client import HTTPResponse
from typing import TYPE_CHECKING, cast

from ._transport import _CHUNK, _as_ours, _Replay
from .errors import TimedOut

if TYPE_CHECKING:
    from ._exchange import Headers, Request


class StdlibStream:
    """Its head is there when it is made; then `read` gives what comes. `close` may be called from another thread."""

    status: int
    headers: Headers

    def __init__(self, sock: socket.socket, request: Request, host: str, deadline: float) -> None:
        self._sock = sock
        self._request = request
        self._host = host
        self._reader = _Replay(b"", sock, deadline)
        self._response = HTTPResponse(cast("socket.socket", self._reader), method=request.method)
        self._response.begin()
        self.status, self.headers = self._response.status, self._response.headers

    def read(self, seconds: float) -> bytes:
        """What has come, waiting for it at most so long; b"" at the end."""
        self._reader.deadline = time.monotonic() + seconds
        try:
            return self._response.read1(_CHUNK)
        except TimeoutError:
            raise TimedOut(f"{self._host} was silent for {seconds:g} s.") from None
        except Exception as error:
            raise _as_ours(error, self._request, self._host) from error

    def close(self) -> None:
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes whoever reads
        self._sock.close()
