"""Sockets that behave badly: each gets an answer or an end, costs nothing afterwards, and disturbs nobody else."""

from __future__ import annotations

import gc
import json
import os
import re
import resource
import secrets
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest

from agentchat import Client
from agentchat._exchange import KEY_HEADER
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.settings import Settings
from agentchat_relay.store.seam import Lane

UNLIMITED = Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)
MIB = 1 << 20
DEADLINE = 30.0


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> str:
        return str(json.loads(self.body)["data"]["message"]["content"])


class Peer:
    """A client's end of one connection, byte by byte."""

    def __init__(self, url: str, receive_buffer: int | None = None) -> None:
        parts = urlsplit(url)
        self.sock = socket.socket()
        self.sock.settimeout(DEADLINE)
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect((parts.hostname, parts.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self.sock.makefile("rb")

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.sock.sendall(piece)

    def answer(self) -> Answer:
        """The next answer; the connection may hold more."""
        line = self._reader.readline()
        if not line:
            raise ConnectionResetError("the relay hung up")
        status = int(line.split()[1])
        headers: dict[str, str] = {}
        while (line := self._reader.readline().strip()) != b"":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = b"" if status == 100 else self._reader.read(int(headers.get("content-length", 0)))
        return Answer(status, headers, body)

    def rest(self) -> bytes:
        """What still comes until the relay hangs up; a reset is an end too."""
        found = b""
        with suppress(ConnectionError):
            while piece := self._reader.read1(65536):  # type: ignore[union-attr]
                found += piece
        return found

    def half_close(self) -> None:
        with suppress(OSError):  # the relay may have hung up already
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST: what is on its way is lost."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._reader.close()
        self.sock.close()


Connect = Callable[[], Peer]


@pytest.fixture(scope="module")
def live() -> Iterator[Embedded]:
    with running(settings=UNLIMITED) as relay:
        yield relay


@pytest.fixture
def connect(live: Embedded) -> Iterator[Connect]:
    made: list[Peer] = []

    def make() -> Peer:
        made.append(Peer(live.url))
        return made[-1]

    yield make
    for peer in made:
        peer.close()


@pytest.fixture(scope="module")
def key(live: Embedded) -> str:
    return live.token("mac-socket")


@pytest.fixture(scope="module")
def client(live: Embedded) -> Iterator[Client]:
    """Somebody who is not to notice anything."""
    with Client(live.url, live.token("mac-bystander"), retries=0) as made:
        yield made


def posting(key: str, text: str, *more: str, channel: str = "general") -> tuple[bytes, bytes]:
    """Head and body of a send."""
    body = json.dumps({"channel": channel, "content": text}).encode()
    return head_of("POST /api/v2/messages HTTP/1.1", key, f"Content-Length: {len(body)}", *more), body


def head_of(*lines_and_key: str) -> bytes:
    line, key, *more = lines_and_key
    return "\r\n".join([line, "Host: relay", f"{KEY_HEADER}: {key}", *more, "", ""]).encode()


def reading(key: str, *more: str) -> bytes:
    return head_of("GET /api/v2/board HTTP/1.1", key, *more)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.01)


def stored(client: Client, text: str, channel: str = "general") -> int:
    page = client.read_messages(channel, limit=200)
    return sum(message["content"] == text for message in page["messages"])


def descriptors() -> int:
    """All but those of the relay's database, which it opens when it needs them."""
    gc.collect()
    theirs = sum(type(one) is psycopg.Connection and not one.closed for one in gc.get_objects())
    return len(os.listdir("/proc/self/fd")) - theirs


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """The relay runs in this process, so its descriptors are ours."""
    before = descriptors()
    yield
    wait_until(lambda: descriptors() <= before)


# Slow


def test_a_body_byte_by_byte(connect: Connect, key: str, client: Client):
    peer, (head, body) = connect(), posting(key, "slow and steady")
    peer.send(head)
    for byte in body:
        peer.send(bytes([byte]))
    assert peer.answer().message == "slow and steady"
    assert stored(client, "slow and steady") == 1


def test_a_whole_request_byte_by_byte(connect: Connect, key: str):
    peer, (head, body) = connect(), posting(key, "slower")
    for byte in head + body:
        peer.send(bytes([byte]))
    assert peer.answer().message == "slower"
    peer.send(reading(key))
    assert peer.answer().status == 200


def test_half_a_request_holds_nobody_up(live: Embedded, key: str, client: Client):
    head, body = posting(key, "never whole")
    halves = [b"", b"G", b"GET ", b"GET /api/v2/board HTTP/1.1\r\n", head[:-2], head, head + body[:10]]
    client.check_board()
    with no_descriptor_left():
        peers = [Peer(live.url) for _ in halves * 10]
        for peer, half in zip(peers, halves * 10, strict=True):
            peer.send(half)
        for number in range(20):
            assert client.send_message("general", f"meanwhile {number}")["message"]["content"] == f"meanwhile {number}"
        for peer in peers:
            peer.close()
    assert stored(client, "never whole") == 0


# Half-closed and closed


@pytest.mark.parametrize("request_of", ["get", "send", "health", "unknown"])
def test_whoever_has_sent_all_he_wants_still_gets_his_answer(connect: Connect, key: str, request_of: str):
    whole, status = {
        "get": (reading(key), 200),
        "send": (b"".join(posting(key, "my last word")), 200),
        "health": (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        "unknown": (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    }[request_of]
    peer = connect()
    peer.send(whole)
    peer.half_close()
    assert peer.answer().status == status
    assert peer.rest() == b""


def test_a_half_closed_client_waits_for_a_slow_write(live: Embedded, connect: Connect, key: str):
    gate = threading.Event()
    live_store_waits_for(live, gate)
    peer = connect()
    try:
        peer.send(b"".join(posting(key, "after the gate")))
        peer.half_close()
        loop_has_turned(live)
    finally:
        gate.set()
    assert peer.answer().message == "after the gate"


def live_store_waits_for(live: Embedded, gate: threading.Event) -> None:
    """Keep the writer busy until the gate opens."""
    assert live.relay is not None
    busy = threading.Event()

    def wait(tx: Any) -> None:
        busy.set()
        gate.wait(DEADLINE)

    live.relay.store.submit(Lane.WRITE, wait, lambda result, error: None)
    assert busy.wait(DEADLINE)


def loop_has_turned(live: Embedded) -> None:
    """Whatever had arrived at the relay before has been looked at."""
    peer = Peer(live.url)
    for _ in range(5):
        peer.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert peer.answer().status == 200
    peer.close()


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
def test_a_write_under_way_is_stored_though_its_client_hangs_up(
    live: Embedded, key: str, client: Client, leave: Callable[[Peer], None]
):
    text = f"my last will {secrets.token_hex(4)}"
    first = Peer(live.url)
    first.send(reading(key))  # from here on the relay knows the key without asking the store
    assert first.answer().status == 200
    gate = threading.Event()
    live_store_waits_for(live, gate)
    try:
        peer = Peer(live.url)
        peer.send(b"".join(posting(key, text)))
        loop_has_turned(live)
        leave(peer)
        loop_has_turned(live)
    finally:
        gate.set()
    wait_until(lambda: stored(client, text) == 1)
    first.close()


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset, Peer.half_close])
def test_half_a_body_is_not_stored(live: Embedded, key: str, client: Client, leave: Callable[[Peer], None]):
    client.check_board()
    with no_descriptor_left():
        for _ in range(20):
            peer, (head, body) = Peer(live.url), posting(key, "half of it")
            peer.send(head, body[:-1])
            leave(peer)
            if leave is Peer.half_close:
                assert not peer.rest().startswith(b"HTTP/1.1 2")
            peer.close()
    assert stored(client, "half of it") == 0


def test_clients_that_do_not_wait_for_their_answers_leave_nothing_behind(live: Embedded, key: str, client: Client):
    client.check_board()
    with no_descriptor_left():
        for number in range(200):
            peer = Peer(live.url)
            peer.send(b"".join(posting(key, f"gone {number}")) if number % 2 else reading(key))
            (peer.reset if number % 3 else peer.close)()
    assert client.check_board()["channels"]


# Many on one connection


def test_pipelined_requests_are_answered_in_order(connect: Connect, key: str, client: Client):
    peer, channel = connect(), "pipelined"
    requests = []
    for number in range(20):
        requests.append(b"".join(posting(key, f"{number}", channel=channel)))
        requests.append(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" if number % 2 else reading(key))
    peer.send(b"".join(requests))
    for number in range(20):
        assert peer.answer().message == f"{number}"
        assert peer.answer().status == (404 if number % 2 else 200)
    kept = [message["content"] for message in client.read_messages(channel, limit=200)["messages"]]
    assert kept == [f"{number}" for number in range(20)]


def test_pipelined_requests_and_no_more_of_them_are_answered_to_the_last(connect: Connect, key: str):
    peer = connect()
    peer.send(reading(key) * 9 + reading(key, "Connection: close"))
    assert [peer.answer().status for _ in range(10)] == [200] * 10
    assert peer.rest() == b""


def test_an_endless_pipeline_is_not_kept_in_memory(tmp_path: Path):
    """A stranger who asks without ever reading an answer is not read for ever."""
    asking = b"GET /health HTTP/1.1\r\nHost: relay\r\n\r\n"
    with (
        relay_process(tmp_path) as (url, process),
        closing(Peer(url, receive_buffer=4096)) as peer,
        closing(Peer(url)) as other,
    ):
        before = resident(process)
        peer.sock.settimeout(5.0)
        sent, bulk = 0, asking * 2000
        with suppress(ConnectionError, TimeoutError):
            while sent < 12 * MIB:
                sent += peer.sock.send(bulk[sent % len(bulk) :])
        other.send(asking)
        assert other.answer().status == 200
        assert resident(process) - before < 200 * MIB


@contextmanager
def relay_process(directory: Path) -> Iterator[tuple[str, int]]:
    """A relay of its own process: its address and its process id."""
    command = [sys.executable, "-m", "agentchat", "serve", "--data", str(directory), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            ready = re.search(r"ready on (http://[^,\s]+)", process.stdout.readline())
            assert ready is not None
            yield ready[1], process.pid
        finally:
            process.kill()


def resident(process: int) -> int:
    """The most memory a process had so far, in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def test_thousands_of_requests_on_one_connection(connect: Connect, key: str):
    peer, before = connect(), descriptors()
    for number in range(3000):
        peer.send(b"".join(posting(key, f"{number}", channel="kept-alive")) if number % 5 == 0 else reading(key))
        assert peer.answer().status == 200
    assert descriptors() <= before


@pytest.mark.parametrize("more", [("HTTP/1.1", "Connection: close"), ("HTTP/1.0", "X-Nothing: 1")])
def test_a_client_that_wants_no_more_is_hung_up_on(connect: Connect, key: str, more: tuple[str, str]):
    peer = connect()
    peer.send(head_of(f"GET /api/v2/board {more[0]}", key, more[1]))
    assert peer.answer().status == 200
    assert peer.rest() == b""


# Many connections


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_a_thousand_idle_connections(live: Embedded, key: str, client: Client):
    """A third has asked before, a third has sent half a head, a third has said nothing."""
    client.check_board()
    with no_descriptor_left():
        peers = [Peer(live.url) for _ in range(1000)]
        for peer in peers[::3]:
            peer.send(reading(key))
        for peer in peers[1::3]:
            peer.send(b"GET /api/v2/boa")
        assert all(peer.answer().status == 200 for peer in peers[::3])
        assert descriptors() >= 2000
        for number in range(50):
            client.send_message("crowded", f"in the crowd {number}")
        peer = Peer(live.url)
        peer.send(b"".join(posting(key, "one more")))
        assert peer.answer().message == "one more"
        for number, idle in enumerate(peers[::3]):
            idle.send(b"".join(posting(key, f"awake {number}", channel="crowded")))
        assert [idle.answer().message for idle in peers[::3]] == [f"awake {number}" for number in range(334)]
        for number, one in enumerate([peer, *peers]):
            (one.close if number % 2 else one.reset)()
    assert client.send_message("crowded", "alone again")["message"]["content"] == "alone again"


def test_a_relay_stops_whatever_is_connected(tmp_path: Any):
    before = descriptors()
    with running(str(tmp_path), settings=UNLIMITED) as relay:
        key = relay.token("mac-left")
        peers = [Peer(relay.url) for _ in range(30)]
        for peer in peers[::3]:
            peer.send(reading(key))
            assert peer.answer().status == 200
        for peer in peers[1::3]:
            peer.send(b"GET /heal")
    assert all(peer.rest() == b"" for peer in peers)
    for peer in peers:
        peer.close()
    wait_until(lambda: descriptors() <= before)


# Expect: 100-continue


def test_a_body_is_asked_for(connect: Connect, key: str):
    peer, (head, body) = connect(), posting(key, "may I?", "Expect: 100-continue")
    peer.send(head)
    assert peer.answer().status == 100
    peer.send(body)
    assert peer.answer().message == "may I?"
    peer.send(reading(key))
    assert peer.answer().status == 200


def test_a_body_that_was_not_waited_for(connect: Connect, key: str):
    peer, (head, body) = connect(), posting(key, "I could not wait", "Expect: 100-continue")
    peer.send(head + body)
    answer = peer.answer()
    assert (peer.answer() if answer.status == 100 else answer).message == "I could not wait"


def test_a_stranger_is_not_asked_for_his_body(connect: Connect):
    peer, (head, _) = connect(), posting("0" * 64, "let me in", "Expect: 100-continue")
    peer.send(head)
    assert peer.answer().status == 401


# Chunked bodies


def chunked(body: bytes, size: int, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
    return framed + b"0\r\n" + trailer + b"\r\n"


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("extension", [b"", b";name=value"])
@pytest.mark.parametrize("trailer", [b"", b"X-Checksum: 5\r\n"])
def test_a_chunked_body(connect: Connect, key: str, size: int, extension: bytes, trailer: bytes):
    peer, (_, body) = connect(), posting(key, f"in chunks of {size}")
    head = head_of("POST /api/v2/messages HTTP/1.1", key, "Transfer-Encoding: chunked")
    peer.send(head, chunked(body, size, extension, trailer))
    assert peer.answer().message == f"in chunks of {size}"
    peer.send(reading(key))
    assert peer.answer().status == 200


@pytest.mark.parametrize(
    "framing", [b"zz\r\nabc", b"-1\r\n", b"5\r\nabcdefgh\r\n0\r\n\r\n", b"fffffffffffffffffff\r\n{}"]
)
def test_a_broken_chunk_ends_the_connection(connect: Connect, key: str, client: Client, framing: bytes):
    peer = connect()
    peer.send(head_of("POST /api/v2/messages HTTP/1.1", key, "Transfer-Encoding: chunked"), framing)
    peer.half_close()
    assert not peer.rest().startswith(b"HTTP/1.1 2")
    assert client.check_board()["channels"]


LENGTHS = [
    ("Content-Length: 5", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: chunked", "Content-Length: 5"),
    ("Content-Length: 5", "Content-Length: 6"),
    ("Content-Length: +5",),
    ("Content-Length: -5",),
    ("Content-Length: 5, 6",),
    ("Content-Length: five",),
    ("Content-Length: 99999999999999999999999999",),
    ("Transfer-Encoding: chunked, identity",),
    ("Transfer-Encoding: xchunked",),
]


@pytest.mark.parametrize("lengths", LENGTHS, ids=range(len(LENGTHS)))
def test_a_length_that_can_be_read_in_two_ways_smuggles_nothing_in(
    connect: Connect, key: str, client: Client, lengths: tuple[str, ...]
):
    peer, text = connect(), f"smuggled {secrets.token_hex(4)}"
    hidden = b"".join(posting(key, text))
    peer.send(head_of("POST /api/v2/messages HTTP/1.1", key, *lengths), b"0\r\n\r\n" + hidden)
    peer.half_close()
    assert b"smuggled" not in peer.rest()
    assert stored(client, text) == 0


# What is not HTTP

HELLO = ssl.MemoryBIO()
with suppress(ssl.SSLWantReadError):
    ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), HELLO, server_hostname="relay").do_handshake()

GARBAGE = {
    "TLS": HELLO.read(),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\x12\4\0\0\0\0\0" + b"\0" * 18,
    "zeros": b"\0" * 5000,
    "binary": bytes(range(256)) * 20,
    "text": b"hello relay, are you there?\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "SMTP": b"EHLO relay\r\n",
    "unknown version": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "unknown method": b"HELLO / HTTP/1.1\r\nHost: x\r\n\r\n",
    "lower-case method": b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT relay:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "raw bytes in the path": b"GET /\xff\xfe\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "UTF-8 in the path": "GET /größe HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "no path": b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    "a NUL in a header": b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
    "a blank in a header's name": b"GET / HTTP/1.1\r\nHo st: x\r\n\r\n",
    "bad address": b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "bad port": b"GET http://x:99999999/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_gets_a_4xx_or_an_end(connect: Connect, client: Client, kind: str):
    peer = connect()
    with suppress(ConnectionError):  # it may have hung up before all was sent
        peer.send(GARBAGE[kind])
        peer.half_close()
    told = peer.rest()
    assert told == b"" or told.startswith(b"HTTP/1.1 4"), told
    assert client.check_board()["channels"]


def test_tls_on_a_plain_port_fails_at_once(live: Embedded):
    parts = urlsplit(live.url)
    with (
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=DEADLINE) as sock,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        ssl.create_default_context().wrap_socket(sock, server_hostname="relay")


@pytest.mark.parametrize("kind", ["one header", "many headers", "a long target"])
def test_a_head_without_end_is_cut_off(connect: Connect, client: Client, kind: str):
    """A stranger must not fill the relay's memory with it."""
    peer, sent = connect(), 0
    piece = {"one header": b"a" * 65536, "many headers": b"X-A: b\r\n" * 8192, "a long target": b"a" * 65536}[kind]
    with suppress(ConnectionError):
        peer.send(b"GET /health" + (b"" if kind == "a long target" else b" HTTP/1.1\r\nX-Long: "))
        while sent < 32 * MIB:
            peer.send(piece)
            sent += len(piece)
    assert sent < 32 * MIB
    assert client.check_board()["channels"]


def test_an_upgrade_is_not_taken(connect: Connect, key: str):
    for protocol in ("websocket", "h2c"):
        peer = connect()
        peer.send(reading(key, "Connection: Upgrade", f"Upgrade: {protocol}", "Sec-WebSocket-Version: 13"))
        assert peer.answer().status in (200, 400, 426)
