"""HTTP/1.1 as bytes: what we write is read back by the standard library's server, and what we read quickly is what
`http.client` reads from the same bytes."""

from __future__ import annotations

import io
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat._exchange import Request, build_request
from agentchat._http1 import Head, read_head, request_bytes
from agentchat.contract import Contract

# Writing


class Reader(BaseHTTPRequestHandler):
    """The standard library's reading side, without a server."""

    def __init__(self, raw: bytes) -> None:
        self.rfile = io.BytesIO(raw)
        self.raw_requestline = self.rfile.readline()
        assert self.parse_request()


NAMES = st.from_regex("x-[a-z0-9-]{1,12}", fullmatch=True)
VALUES = st.from_regex("[!-~]([ -~\xc0-\xff]{0,20}[!-~])?", fullmatch=True)
PATHS = st.text().map(lambda text: build_request(Contract.search_messages, {"query": text}, {}, 1.0).path)


@given(
    method=st.sampled_from(["GET", "POST", "PUT"]),
    prefix=st.sampled_from(["", "/relay", "/a/b%20c", "http://relay.test:8790/relay"]),
    path=PATHS,
    headers=st.dictionaries(NAMES, VALUES, max_size=5),
    body=st.none() | st.binary(max_size=300) | st.sampled_from([b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]),
)
def test_a_request_is_read_back_as_it_was(
    method: str, prefix: str, path: str, headers: dict[str, str], body: bytes | None
):
    raw = request_bytes(Request(method, path, headers, body, 1.0), prefix, "host: relay.test\r\nx: y\r\n")
    reader = Reader(raw)
    length = {} if body is None else {"content-length": str(len(body))}
    assert (reader.command, reader.path, reader.request_version) == (method, prefix + path, "HTTP/1.1")
    assert reader.headers.items() == [*{"host": "relay.test", "x": "y", **headers, **length}.items()]
    assert reader.rfile.read() == (body or b"")


# Reading


class Received:
    """A socket that has received these bytes."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._raw)


def as_http_client_reads(head: bytes, rest: bytes = b"") -> HTTPResponse:
    response = HTTPResponse(Received(head + b"\r\n\r\n" + rest), method="GET")  # type: ignore[arg-type]
    response.begin()
    return response


def same(head: bytes, ours: Head) -> None:
    """What we read is what `http.client` reads, the body included."""
    body = b"\xff" * min(ours.length, 1000)
    theirs = as_http_client_reads(head, body + b"HTTP/1.1 500 Of the next answer\r\n\r\n")
    assert (ours.status, ours.length, ours.reusable) == (theirs.status, theirs.length, not theirs.will_close)
    assert ours.headers.keys() == {name.lower() for name in theirs.headers}
    for name, value in ours.headers.items():
        assert value == theirs.headers[name].strip(" \t")
        assert ours.headers.get(name) == value and name == name.lower()
    if ours.length <= 1000:
        assert theirs.read() == body


FIRST = [b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 500", b"HTTP/1.1 429 \xff\x00 \t!", b"HTTP/1.1 299 "]
ODD_FIRST = [
    b"", b"HTTP/1.0 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1  200 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 99", b"HTTP/2 200", b" HTTP/1.1 200 OK", b"http/1.1 200 OK",
    b"HTTP/1.1 200OK", b"HTTP/1.1\t200 OK", b"HTTP/1.1 \xd9\xa2\xd9\xa0\xd9\xa0 OK", b"HTTP/1.1 200 O\nK", b"ICY 200",
    b"HTTP/1.1 600 Odd", b"HTTP/1.1 -20 Odd", b"HTTP/1.10 200 OK", b"HTTP/1.1 200\x0bOK", b"HTTP/1.1 200 O\rK",
]  # fmt: skip
ODD_LINES = [
    b"content-length: 5", b"Content-Length:5", b"content-length: 0x5", b"content-length: 5,5", b"content-length:",
    b"transfer-encoding: chunked", b"Transfer-Encoding: identity", b"transfer-encoding : chunked", b"\tfolded",
    b"content-length : 5", b" content-length: 5", b"content-length: +5", b"content-length: -5", b"content-length: 5 5",
    "content-length: \u0665".encode(), b"content-length: \xb2", b"content-length: 1_0", b"content-length\x00: 5",
    b"content-length: 5\n", b"x: a\ntransfer-encoding: chunked", b"x: a\rtransfer-encoding: chunked", b"x: \x00",
    b"content-length: 1234567890123456", b"connection: close", b"Connection: keep-alive, Close", b"connection: \xe9",
    b"no colon", b": no name", b"\xe9: x", b"x y: z", b"", b"x", b"From me: x", b"From: me", b"content-length",
]  # fmt: skip
LINES = st.sampled_from(ODD_LINES) | st.binary(max_size=20)
TEXT = st.text(st.characters(max_codepoint=255, exclude_characters="\0\r\n"), max_size=10)
NICE_LINES = st.builds(
    lambda name, space, value: name + b":" + space + value.encode("latin-1") + space,
    st.sampled_from([b"x", b"X-Y", b"content-type", b"Retry-After", b"!#$%&'*+.^_`|~", b"Connection", b"set-cookie"]),
    st.sampled_from([b"", b" ", b"\t ", b"  "]),
    TEXT,
)
LENGTHS = [b"Content-Length: 7", b"content-length:007\t", b"content-length: 0", b"CONTENT-LENGTH:  12 "]


@given(st.binary(max_size=100) | st.lists(LINES | NICE_LINES | st.sampled_from([*FIRST, *ODD_FIRST])).map(b"\r\n".join))
def test_any_bytes_are_read_as_an_ordinary_head_or_left_alone(head: bytes):
    result = read_head(head)
    assert result is None or isinstance(result, Head)


@given(
    first=st.sampled_from([*FIRST, *ODD_FIRST]) | st.sampled_from(FIRST),
    lines=st.lists(NICE_LINES, max_size=4),
    length=st.sampled_from(LENGTHS),
    odd=st.lists(LINES, max_size=1),
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=400)
def test_what_is_read_quickly_is_what_the_standard_library_reads(
    first: bytes, lines: list[bytes], length: bytes, odd: list[bytes], random: Random
):
    fields = [*lines, length, *odd]
    random.shuffle(fields)
    head = b"\r\n".join([first, *fields])
    if (ours := read_head(head)) is not None:
        same(head, ours)


@given(
    first=st.sampled_from(FIRST),
    lines=st.dictionaries(NAMES, VALUES, max_size=5),
    length=st.integers(0, 10**15 - 1),
    connection=st.sampled_from(["", "\r\nConnection: keep-alive", "\r\nconnection: Close"]),
)
def test_an_ordinary_head_is_read_quickly(first: bytes, lines: dict[str, str], length: int, connection: str):
    fields = "".join(f"\r\n{name.title()}: {value}" for name, value in lines.items())
    head = first + f"{fields}\r\nContent-Length: {length}{connection}".encode("latin-1")
    ours = read_head(head)
    assert ours is not None
    assert (ours.status, ours.length, ours.reusable) == (int(first[9:12]), length, "Close" not in connection)
    assert lines.items() <= ours.headers.items()
    same(head, ours)


@pytest.mark.parametrize("fields", [1, 2, 90, 99, 100, 101, 1000])
def test_no_more_fields_are_read_than_the_standard_library_allows(fields: int):
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 0" + b"\r\nx: y" * (fields - 1)
    ours = read_head(head)
    assert ours is not None or fields > 90
    if ours is not None:
        same(head, ours)


def left(*lines: bytes) -> Any:
    return pytest.param(b"\r\n".join([b"HTTP/1.1 200 OK", *lines]), id=repr(b"|".join(lines)))


@pytest.mark.parametrize(
    "head",
    [
        left(),
        left(b"content-length: 5", b"content-length: 5"),
        left(b"content-length: 5", b"Content-Length: 6"),
        left(b"content-length: 5, 6"),
        left(b"content-length: 5", b"transfer-encoding: chunked"),
        left(b"Transfer-Encoding: \x0bchunked", b"content-length: 5"),
        left(b"content-length: 5", b"Connection: keep-alive", b"connection: close"),
        left(b"x: a", b" folded", b"content-length: 5"),
        left(b"content-length: 5", b"\tfolded"),
        left(b"content-length: 5\nx: y"),
        left(b"content-length: 5", b"x: a\ntransfer-encoding: chunked"),
        left(b"content-length: \xb2"),
        left(b"content-length: 5\rx: y"),
        left(b"content-length: 5", b"x: \x00"),
        left(b"content-length : 5"),
        left(b" content-length: 5"),
        left(b"content-length: 5", b"no colon"),
        left(b"content-length: 5", b""),
        *(left(b"content-length: " + text) for text in (b"", b"-1", b"+5", b"0x5", b"5.0", b"1_0", b"5 5", b"9" * 16)),
        *(left(b"content-length: " + text.encode()) for text in ("\u0665", "\u00b2", "\uff15")),
        *(pytest.param(first + b"\r\ncontent-length: 5", id=repr(first)) for first in ODD_FIRST),
    ],
)  # fmt: skip
def test_an_unusual_head_is_left_to_the_standard_library(head: bytes):
    assert read_head(head) is None
