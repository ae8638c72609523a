"""Events over real sockets, in both colours, from a relay whose every byte a test decides."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentchat import Client, _events, _exchange, errors
from agentchat._exchange import Request, Response
from langchain_agentchat import AsyncClient
from tests.clients.conftest import Connect, Driver
from tests.conftest import KEY
from tests.servers import Handler, Peer, Scripted, answer, enveloped, event

CHUNKED, PLAIN, LENGTHY = "chunked", "plain", "http/1.0"
FORMS = (CHUNKED, PLAIN, LENGTHY)


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_exchange, "_FIRST_PAUSE", 0.001)


def head(form: str = PLAIN) -> bytes:
    version, field = {
        CHUNKED: ("1.1", "transfer-encoding: chunked"),
        PLAIN: ("1.1", "connection: close"),
        LENGTHY: ("1.0", "x-a: b"),
    }[form]
    return f"HTTP/{version} 200 OK\r\nContent-Type: text/event-stream\r\n{field}\r\n\r\n".encode()


def told(*positions: int | str) -> bytes:
    return "".join(
        at if isinstance(at, str) else f"id: {at}\ndata: {json.dumps(event(at))}\n\n" for at in positions
    ).encode()


def streams(*parts: bytes, form: str = PLAIN, then: Callable[[Peer], object] = Peer.read) -> Handler:
    """A stream of these parts; then it waits until the client hangs up, or does something else."""

    def handle(peer: Peer) -> None:
        if peer.read() is None:
            return
        peer.send(head(form))
        for part in parts:
            peer.send(b"%x\r\n%s\r\n" % (len(part), part) if form == CHUNKED and part else part)
        then(peer)

    return handle


def once(reply: bytes) -> Handler:
    """One answer, and then the connection is over: the next request gets the next handler."""

    def handle(peer: Peer) -> None:
        peer.read()
        peer.send(reply.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))

    return handle


def ends_well(peer: Peer) -> None:
    peer.send(b"0\r\n\r\n")
    peer.read()


class Reader:
    """Events of either colour, one by plain call."""

    def __init__(self, driver: Driver, **given: Any) -> None:
        self.driver = driver
        self.events = driver.client.events(**given)
        self.lost: list[str] = []
        self.events.on_reconnect = lambda why, seconds: self.lost.append(type(why).__name__)

    def next(self) -> Any:
        return self.driver.run(anext(self.events)) if hasattr(self.events, "__anext__") else next(self.events)

    def positions(self, number: int) -> list[int]:
        return [self.next()["position"] for _ in range(number)]

    def close(self) -> None:
        self.driver.run(self.events.close())


@pytest.fixture
def follow(connect: Connect) -> Iterator[Callable[..., Reader]]:
    readers: list[Reader] = []

    def make(url: str, *, options: dict[str, Any] | None = None, **given: Any) -> Reader:
        readers.append(Reader(connect(url, **(options or {})), **given))
        return readers[-1]

    yield make
    for reader in readers:
        reader.close()


Follow = Callable[..., Reader]


@pytest.mark.parametrize("form", FORMS)
def test_events_come_as_they_are(follow: Follow, form: str):
    with Scripted(streams(told("id: 3\n\n"), told(4), told(5, 6), form=form)) as server:
        reader = follow(server.url, channel="general", kind="message.created", mine=True)
        assert [reader.next() for _ in range(3)] == [event(4), event(5), event(6)]
        assert reader.events.position == 6
        [seen] = server.seen
    assert (seen.path, seen.query) == (
        "/api/v2/events", {"channel": "general", "kind": "message.created", "mine": "true"}
    )  # fmt: skip
    assert seen.headers["accept"] == "text/event-stream"
    assert seen.headers["x-agent-api-key"] == KEY
    assert "last-event-id" not in seen.headers


@pytest.mark.parametrize("form", FORMS)
def test_a_stream_cut_anywhere_is_read_on_where_it_was(follow: Follow, form: str):
    whole = told(4, 5)
    for cut in range(0, len(whole), 23):
        broken = streams(whole[:cut], form=form, then=Peer.close)
        with Scripted(broken, streams(told(4, 5, 6), form=form)) as server:
            reader = follow(server.url, since=3)
            assert reader.positions(3) == [4, 5, 6]
            assert server.connections == 2
            assert int(server.seen[1].query["since"]) in (3, 4, 5)
            reader.close()


@pytest.mark.parametrize("then", [Peer.close, Peer.reset], ids=["closes", "resets"])
@pytest.mark.parametrize("number", [1, 3])
def test_a_relay_that_hangs_up_is_met_again(follow: Follow, then: Any, number: int):
    with Scripted(*[streams(told(4), then=then)] * number, streams(told(5))) as server:
        reader = follow(server.url)
        assert reader.positions(2) == [4, 5]
        assert server.connections == number + 1
        assert len(reader.lost) == number


def test_a_stream_that_ends_well_is_opened_again(follow: Follow):
    with Scripted(streams(told(4), form=CHUNKED, then=ends_well), streams(told(5), form=CHUNKED)) as server:
        assert follow(server.url).positions(2) == [4, 5]


@pytest.mark.parametrize("reason", ["slow", "stopping"])
def test_an_end_that_the_relay_announces_is_read_over(follow: Follow, reason: str):
    said = f'event: end\ndata: {{"reason":"{reason}","position":4}}\n\n'
    with Scripted(streams(told(4, said)), streams(told(5))) as server:
        assert follow(server.url).positions(2) == [4, 5]
        assert server.seen[1].query == {"since": "4"}


def test_a_silent_stream_is_dead(follow: Follow, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_events, "SILENCE", 0.1)
    with Scripted(streams(told(4)), streams(told(5))) as server:
        reader = follow(server.url)
        assert reader.positions(2) == [4, 5]
        assert reader.lost == ["TimedOut"]


def test_signs_of_life_keep_a_stream_open(follow: Follow, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_events, "SILENCE", 0.5)
    waiting = threading.Event()

    def beats(peer: Peer) -> None:
        for _ in range(15):
            waiting.wait(0.05)
            peer.send(told("id: 9\n\n"))
        peer.send(told(10))
        peer.read()

    with Scripted(streams(then=beats)) as server:
        reader = follow(server.url)
        assert reader.positions(1) == [10]
        assert (server.connections, reader.lost) == (1, [])


def test_a_relay_that_is_full_says_when_to_come_again(follow: Follow):
    full = answer({"error": "no", "code": "rate_limited"}, status=429, headers={"retry-after": "0.01"})
    with Scripted(once(full), once(answer(body=b"<html>", status=503)), streams(told(4))) as server:
        reader = follow(server.url)
        assert reader.positions(1) == [4]
        assert reader.lost == ["RateLimited", "Unavailable"]
        assert server.connections == 3


def test_a_relay_that_is_away_is_tried_until_it_is_back(follow: Follow):
    with Scripted(Peer.reset, Peer.close, streams(told(4))) as server:
        assert follow(server.url).positions(1) == [4]


def test_a_position_that_is_gone_is_an_error_and_another_one_can_be_set(follow: Follow):
    gone = answer({"error": "gone", "code": "position_expired", "first": 50, "position": 90}, status=410)
    with Scripted(once(gone), streams(told(51))) as server:
        reader = follow(server.url, since=3)
        with pytest.raises(errors.PositionExpired) as caught:
            reader.next()
        reader.events.position = caught.value.details["first"]
        assert reader.positions(1) == [51]
        assert [seen.query for seen in server.seen] == [{"since": "3"}, {"since": "50"}]


class Keys:
    """A credential with one key after another."""

    def __init__(self, *keys: str) -> None:
        self.keys = list(keys)
        self.refusals: list[str | None] = []

    @property
    def held(self) -> str:
        return self.keys[0]

    def obtain(self, refused: str | None, timeout: float) -> str:
        self.refusals.append(refused)
        if refused == self.keys[0] and len(self.keys) > 1:
            self.keys.pop(0)
        return self.keys[0]


REFUSED = answer({"error": "no", "code": "unauthorized"}, status=401)
CAST_OUT = 'event: end\ndata: {"reason":"unauthorized","position":4}\n\n'


@pytest.mark.parametrize("first", [once(REFUSED), streams(told(CAST_OUT))], ids=["at the door", "in the middle"])
def test_a_renewed_key_is_tried_once(connect: Connect, first: Handler):
    keys = Keys("a" * 64, "b" * 64, "c" * 64)
    with Scripted(first, streams(told(4, CAST_OUT))) as server:
        reader = Reader(connect(server.url, keys))
        assert reader.positions(1) == [4]
        with pytest.raises(errors.Unauthorized):
            reader.next()
        assert [seen.headers["x-agent-api-key"] for seen in server.seen] == ["a" * 64, "b" * 64]
        reader.close()
    assert keys.refusals == ["a" * 64]


def test_groups_are_joined_before_the_first_stream(follow: Follow):
    joined = answer(enveloped({"group": "watchers", "joined": True, "members": 1, "idempotent": False}))
    away = once(answer({"error": "not now", "code": "unavailable"}, status=503))
    with Scripted(away, once(joined), streams(told(4), then=Peer.close), streams(told(5))) as server:
        reader = follow(server.url, options={"groups": ["watchers"]})
        assert reader.positions(2) == [4, 5]
        paths = [seen.path.partition("?")[0] for seen in server.seen]
    join = "/api/v2/groups/join"
    assert paths == [join, join, "/api/v2/events", "/api/v2/events"]
    assert reader.lost == ["Unavailable", "ConnectionFailed"]


def test_a_group_that_cannot_be_joined_is_an_error_of_the_stream(follow: Follow):
    refused = answer({"error": "Everybody is in all; nobody joins or leaves it.", "code": "bad_request"}, status=400)
    with Scripted(once(refused)) as server:
        with pytest.raises(errors.BadRequest):
            follow(server.url, options={"groups": ["all"]}).next()
        assert [seen.path for seen in server.seen] == ["/api/v2/groups/join"]


@pytest.mark.parametrize(
    "odd",
    [
        answer({"events": []}),
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 3\r\n\r\n<p>",
        b"SSH\r\n\r\n",
    ],
)
def test_an_answer_that_is_no_stream_is_an_error(follow: Follow, odd: bytes):
    with Scripted(once(odd)) as server, pytest.raises(errors.ProtocolError):
        follow(server.url).next()


def test_a_redirect_is_not_followed(follow: Follow):
    away = answer(b"", status=302, headers={"location": "http://evil.test/"}, body=b"")
    with Scripted(once(away)) as server, pytest.raises(errors.ProtocolError, match="redirects"):
        follow(server.url).next()


def test_a_block_without_an_end_is_an_error(follow: Follow):
    def floods(peer: Peer) -> None:
        for _ in range(10_000):
            try:
                peer.sock.sendall(b"data: " + b"x" * 65_536)
            except OSError:
                return

    with Scripted(streams(then=floods)) as server, pytest.raises(errors.ProtocolError, match="the most that are read"):
        follow(server.url).next()


def test_reading_on_from_elsewhere(follow: Follow):
    with Scripted(streams(told(4, 5, 6)), streams(told(1, 2))) as server:
        reader = follow(server.url)
        assert reader.positions(2) == [4, 5]
        reader.events.position = 0
        assert reader.positions(2) == [1, 2]
        assert [seen.query for seen in server.seen] == [{}, {"since": "0"}]


# Ends


def hangs_up(peer: Peer, done: threading.Event) -> None:
    peer.read()
    done.set()


def test_closing_it_closes_its_connection_and_it_ends(follow: Follow):
    done = threading.Event()
    with Scripted(streams(told(4), then=lambda peer: hangs_up(peer, done))) as server:
        reader = follow(server.url)
        assert reader.positions(1) == [4]
        reader.close()
        reader.close()
        assert done.wait(10)
        with pytest.raises((StopIteration, StopAsyncIteration)):
            reader.next()


def test_it_can_be_closed_from_another_thread_while_it_waits():
    waiting = threading.Event()
    with Scripted(streams(told(4), then=lambda peer: waiting.set() or peer.read())) as server:
        with Client(server.url, KEY) as client, client.events() as events:
            found: list[Any] = []
            thread = threading.Thread(target=lambda: found.extend(events))
            thread.start()
            assert waiting.wait(10)
            events.close()
            thread.join(10)
            assert not thread.is_alive()
        assert found in ([], [event(4)])


def test_closing_ends_a_pause():
    async def main(url: str) -> None:
        async with AsyncClient(url, KEY) as client:
            events = client.events()
            lost = asyncio.Event()
            events.on_reconnect = lambda why, seconds: lost.set()
            reading = asyncio.ensure_future(anext(events, None))
            await lost.wait()
            await events.close()
            assert await asyncio.wait_for(reading, 10) is None

    full = answer({"error": "no", "code": "rate_limited"}, status=429, headers={"retry-after": "900"})
    with Scripted(once(full)) as server:
        asyncio.run(main(server.url))
        with Client(server.url, KEY) as client:
            events = client.events()
            lost = threading.Event()
            events.on_reconnect = lambda why, seconds: lost.set()
            thread = threading.Thread(target=lambda: list(events))
            thread.start()
            assert lost.wait(10)
            events.close()
            thread.join(10)
            assert not thread.is_alive()


def test_a_task_that_is_cancelled_while_it_waits_loses_nothing():
    async def main(url: str, go_on: threading.Event) -> list[int]:
        async with AsyncClient(url, KEY) as client, client.events() as events:
            got = [(await anext(events))["position"]]
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(events), 0.05)
            go_on.set()
            async for each in events:
                got.append(each["position"])
                if len(got) == 3:
                    break
            return got

    go_on = threading.Event()

    def later(peer: Peer) -> None:
        go_on.wait(10)
        peer.send(told(5, 6))
        peer.read()

    with Scripted(streams(told(4)), streams(), streams(then=later)) as server:
        assert asyncio.run(main(server.url, go_on)) == [4, 5, 6]
        assert {seen.query.get("since") for seen in server.seen[1:]} == {"4"}


def test_an_interrupted_reader_goes_on_where_it_was():
    waits, interrupted = threading.Event(), False

    def interrupts(peer: Peer) -> None:
        waits.wait(10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        peer.read()

    with Scripted(streams(told(4), then=interrupts), streams(told(5))) as server:
        with Client(server.url, KEY) as client, client.events() as events:
            got: list[int] = []
            while len(got) < 2:
                try:
                    if got:
                        waits.set()
                    got.append(next(events)["position"])
                except KeyboardInterrupt:
                    interrupted = True
        assert (got, interrupted) == ([4, 5], True)


def test_a_forgotten_reader_leaves_no_connection_behind():
    done = threading.Event()
    with (
        Scripted(streams(told(4), then=lambda peer: hangs_up(peer, done))) as server,
        Client(server.url, KEY) as client,
    ):
        events = client.events()
        next(events)
        del events
        gc.collect()
        assert done.wait(10)


# Without streams


class Pages:
    """A transport that cannot stream, in both colours: a page for each request, then it has seen enough."""

    def __init__(self, *pages: Any) -> None:
        self.pages = list(pages)
        self.asked: list[Request] = []

    def answered(self, request: Request) -> Response:
        self.asked.append(request)
        page = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        if isinstance(page, Exception):
            raise page
        return Response(200, {}, json.dumps(enveloped(page)).encode())


class Plain(Pages):
    def send(self, request: Request) -> Response:
        return self.answered(request)

    def close(self) -> None: ...


class Awaited(Pages):
    async def send(self, request: Request) -> Response:
        return self.answered(request)

    async def close(self) -> None: ...


def page(*positions: int, position: int) -> dict[str, Any]:
    return {
        "events": [event(at) for at in positions],
        "position": position,
        "has_more": False,
        "timed_out": not positions,
    }


def test_a_transport_without_streams_is_asked_for_pages(connect: Connect):
    colour = connect("http://127.0.0.1:1").client
    pages = [page(position=3), page(4, 5, position=7), errors.ConnectionFailed(), page(5, 8, position=8)]
    transport = (Awaited if isinstance(colour, AsyncClient) else Plain)(*pages)
    reader = Reader(connect("http://127.0.0.1:1", transport=transport), channel="general")
    assert reader.positions(3) == [4, 5, 8]
    assert reader.events.position == 8
    paths = [request.path.partition("?")[2] for request in transport.asked]
    assert paths == [
        "channel=general&wait=0",
        "channel=general&wait=50&since=3",
        "channel=general&since=7&wait=50",
        "channel=general&since=7&wait=50",
    ]
    assert reader.lost == ["ConnectionFailed"]
    reader.close()
