"""HTTP/1.1 as bytes, without I/O: a request in one piece, and the head of the usual answer.

An ordinary answer (status 200 and up, a Content-Length, nothing folded or repeated that matters) is read here, which
costs a fraction of `http.client`'s header parsing. For anything else `read_head` answers None and the transport lets
`http.client` read the same bytes, so that odd servers are the well-kept library's business.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ._exchange import Request

MAX_HEAD = 65_536
_STATUS = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [^\r\n]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
_BODILESS = (204, 304)


class Head(NamedTuple):
    status: int
    headers: dict[str, str]
    length: int
    reusable: bool


def request_bytes(request: Request, prefix: str, fields: str) -> bytes:
    """The whole request. `prefix` stands before the path, `fields` are header lines every request has."""
    lines = [f"{request.method} {prefix}{request.path} HTTP/1.1\r\n{fields}"]
    lines += [f"{name}: {value}\r\n" for name, value in request.headers.items()]
    if request.body is None:
        lines.append("\r\n")
        return "".join(lines).encode("latin-1")
    lines.append(f"content-length: {len(request.body)}\r\n\r\n")
    return "".join(lines).encode("latin-1") + request.body


def read_head(head: bytes) -> Head | None:
    """An ordinary answer's head (without the blank line), or None if it is not ordinary."""
    first, *lines = head.split(b"\r\n")
    status_line = _STATUS.fullmatch(first)
    if status_line is None or len(lines) >= 100:
        return None
    headers: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return None
        name = field[1].decode("ascii").lower()
        if name in headers:
            if name in ("content-length", "connection"):
                return None
            continue  # the first one counts, as with http.client
        headers[name] = field[2].decode("latin-1")
    status, length = int(status_line[1]), headers.get("content-length", "")
    if "transfer-encoding" in headers or status in _BODILESS or not (length.isascii() and length.isdigit()):
        return None
    if len(length) > 15:
        return None
    reusable = "close" not in headers.get("connection", "").lower()
    return Head(status, headers, int(length), reusable)
