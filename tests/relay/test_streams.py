"""Streams of events over real sockets: whole wherever they are taken up again, private, bounded, ended for a reason."""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agentchat.errors import Unavailable
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.push import feed
from agentchat_relay.push.feed import Pace
from agentchat_relay.push.push import Push
from agentchat_relay.push.reader import Reader
from agentchat_relay.service import administration
from tests.relay import database, test_events
from tests.relay.conftest import UNLIMITED, fresh, until
from tests.relay.streams import Block, Chunks, Parser, Stream
from tests.relay.test_events import Agent, feeds
from tests.relay.test_metrics import page

QUICK = Pace(heartbeat=0.1, goodbye=1.0)


@pytest.fixture(scope="module")
def live() -> Iterator[Embedded]:
    with running(settings=UNLIMITED, pace=QUICK) as relay:
        yield relay


ann, bob = test_events.ann, test_events.bob  # fixtures: agents of this relay


def push(live: Embedded) -> Push:
    assert live.relay is not None
    return live.relay.parts.push


def readers(live: Embedded) -> int:
    return len(push(live)._open)


def write_some(ann: Agent, bob: Agent, count: int) -> None:
    for number in range(count):
        text = f"{number} ünï\r\n\n data: x\n\nid: 7 " + "x" * (number * 37 % 500)
        if number % 3 == 0:
            ann.client.send_direct_message(bob.name, text)
        elif number % 3 == 1:
            ann.client.send_message("general", f"{text} @{bob.name}")
        else:
            bob.client.send_message("general", text)


# Whole


def test_a_stream_is_the_log(live: Embedded, ann: Agent, bob: Agent):
    begin = ann.position()
    with Stream(live.url, bob.key, since=begin) as early, Stream(live.url, bob.key) as now:
        assert early.status == 200
        assert early.headers["content-type"] == "text/event-stream"
        assert "no-store" in early.headers["cache-control"]
        assert early.headers["x-accel-buffering"] == "no"
        assert (early.next(), now.next()) == (Block(begin), Block(begin)), "at once, it says where it is"
        write_some(ann, bob, 12)
        end = bob.position()
        whole = bob.events(f"since={begin}&limit=500")["events"]
        assert early.through(end) == now.through(end) == whole
    with Stream(live.url, bob.key, since=begin) as late:
        assert late.through(end) == whole


def test_taken_up_at_any_event_it_goes_on_without_gap_or_repeat(live: Embedded, ann: Agent, bob: Agent):
    begin = ann.position()
    write_some(ann, bob, 15)
    end = bob.position()
    for query in ({}, {"mine": "true"}, {"kind": "message"}):
        with Stream(live.url, bob.key, since=begin, **query) as stream:
            whole = stream.through(end)
        assert whole
        for number, event in enumerate(whole):
            with Stream(live.url, bob.key, last=event["position"], since=3, **query) as stream:
                assert stream.through(end) == whole[number + 1 :], "the header wins"


def test_cut_off_at_any_byte_nothing_is_lost(live: Embedded, ann: Agent, bob: Agent):
    begin = ann.position()
    write_some(ann, bob, 15)
    end = bob.position()
    with Stream(live.url, bob.key, since=begin) as stream:
        whole = stream.through(end)
        recorded = stream.raw
    chance = random.Random(1)
    for cut in [0, 1, 10, *(chance.randrange(len(recorded)) for _ in range(60)), len(recorded)]:
        before = [*Parser().feed(recorded[:cut])]
        seen = [block.data for block in before if not block.is_sign]
        last = before[-1].id if before else begin
        with Stream(live.url, bob.key, last=last) as stream:
            assert seen + stream.through(end) == whole


def test_readers_that_come_while_others_write_get_everything(live: Embedded, ann: Agent, bob: Agent):
    """From the store, from the window, and where the one passes into the other."""
    begin, count = ann.position(), 150
    writer = threading.Thread(target=write_some, args=(ann, bob, count))
    writer.start()
    found: list[Any] = []

    def read(number: int) -> list[Any]:
        at, mine = begin, list[Any]()
        for _ in range(6):  # comes and goes
            with Stream(live.url, bob.key, since=at) as stream:
                mine += stream.events(number % 7 + 5)
                at = mine[-1]["position"]
        writer.join()
        with Stream(live.url, bob.key, last=at) as stream:
            return mine + stream.through(bob_end())

    bob_end = bob_position(live, bob)
    with ThreadPoolExecutor(8) as threads:
        found = [*threads.map(read, range(8))]
    whole: list[Any] = []
    while len(whole) == 0 or (more := bob.events(f"since={whole[-1]['position']}&limit=500")["events"]):
        whole += bob.events(f"since={begin}&limit=500")["events"] if not whole else more
    assert all(each == whole for each in found)


def bob_position(live: Embedded, bob: Agent) -> Any:
    lock = threading.Lock()

    def ask() -> int:
        with lock:
            return bob.position()

    return ask


def test_a_relay_that_starts_again_goes_on_where_it_was(tmp_path: Path):
    path = str(tmp_path)
    with running(path, settings=UNLIMITED) as first:
        ann, bob = Agent(first), Agent(first)
        begin = ann.position()
        stream = Stream(first.url, bob.key, since=begin)
        write_some(ann, bob, 6)
        seen = stream.events(7)
        first.close()
        rest = [*stream]
        seen += [block.data for block in rest[:-1] if not block.is_sign]
        assert rest[-1].type == "end"
        assert rest[-1].data == {"reason": "stopping", "position": seen[-1]["position"]}
        for each in (stream, ann, bob):
            each.close()
    with running(path, settings=UNLIMITED) as second:
        again, reader = Agent(second, ann.name), Agent(second, bob.name)
        again.client.send_message("general", "after")
        with Stream(second.url, reader.key, last=seen[-1]["position"]) as stream:
            seen += stream.through(again.position())
        assert seen == reader.events(f"since={begin}&limit=500")["events"]
        assert seen[-1]["data"]["message"]["content"] == "after"
        again.close()
        reader.close()


# Who sees what


def test_what_is_private_goes_to_those_it_concerns(live: Embedded, ann: Agent, bob: Agent):
    space = fresh("space")
    live.space(space)
    other, there = Agent(live), Agent(live, space=space)
    with ExitStack() as stack:
        streams = {agent.name: stack.enter_context(Stream(live.url, agent.key)) for agent in (ann, bob, other, there)}
        begin = there.position()
        ann.client.send_direct_message(bob.name, "secret")
        ann.client.send_message("general", f"open @{bob.name}")
        end = ann.position()
        kinds = {name: [event["kind"] for event in streams[name].through(end)] for name in (ann.name, bob.name)}
        assert kinds[ann.name] == kinds[bob.name] == ["message.created", "inbox.added"] * 2
        (seen,) = streams[other.name].through(end)
        assert seen["data"]["message"]["content"].startswith("open")
        there.client.send_message("general", "elsewhere")
        (seen,) = streams[there.name].through(there.position())
        assert (seen["position"], seen["data"]["message"]["content"]) == (begin + 1, "elsewhere")
    other.close()
    there.close()


def test_two_streams_of_one_agent_both_get_everything(live: Embedded, ann: Agent, bob: Agent):
    begin = ann.position()
    with Stream(live.url, bob.key) as one, Stream(live.url, bob.key) as two:
        write_some(ann, bob, 9)
        end = bob.position()
        whole = bob.events(f"since={begin}&limit=500")["events"]
        assert one.through(end) == two.through(end) == whole


def test_a_narrow_reader_learns_how_far_the_log_was_looked_through(live: Embedded, ann: Agent, bob: Agent):
    with Stream(live.url, bob.key, kind="inbox", mine="true") as stream:
        ann.client.send_message("general", "for nobody")
        end = ann.position()
        assert stream.through(end) == []
        ann.client.send_message("general", f"for @{bob.name}")
        (event,) = stream.through(ann.position())
        assert event["kind"] == "inbox.added"
    room = fresh("room")
    ann.client.send_message(room, "there")
    with Stream(live.url, bob.key, channel=room) as stream:
        ann.client.send_message("general", "elsewhere")
        ann.client.send_message(room, "here")
        (event,) = stream.events(1)
        assert event["data"]["message"]["content"] == "here"


# Refused before it begins


def test_what_is_wrong_is_an_ordinary_refusal(live: Embedded, ann: Agent):
    newest = ann.position()
    for query, status, code in (
        ({"since": newest + 1000}, 410, "position_expired"),
        ({"last": newest + 1000}, 410, "position_expired"),
        ({"last": "x"}, 400, "bad_request"),
        ({"last": "-1"}, 400, "bad_request"),
        ({"last": "9" * 40}, 400, "bad_request"),
        ({"channel": "no-such-room"}, 404, "not_found"),
        ({"version": "1.0"}, 400, "bad_request"),
    ):
        with Stream(live.url, ann.key, **query) as stream:  # type: ignore[arg-type]
            assert (stream.status, stream.refusal["code"]) == (status, code)
    with Stream(live.url, "wrong") as stream:
        assert (stream.status, stream.refusal["code"]) == (401, "unauthorized")
    head = ann.wire.send("HEAD", "/api/v2/events", accept="text/event-stream")
    assert (head.status, head.headers["content-type"], head.body) == (200, "text/event-stream", b"")
    assert ann.position() >= newest, "the connection is good for more"
    until(lambda: readers(live) == 0)


def test_old_events_are_expired_before_the_stream_begins():
    with running(settings=UNLIMITED) as live:
        ann = Agent(live)
        ann.client.send_message("general", "hello")
        newest = ann.position()
        database.ask(live, "DELETE FROM events WHERE position < ?", newest)
        with Stream(live.url, ann.key, since=0) as stream:
            assert stream.status == 410
            assert (stream.refusal["first"], stream.refusal["position"]) == (newest - 1, newest)
        with Stream(live.url, ann.key, since=newest - 1) as stream:
            assert len(stream.events(1)) == 1
        ann.close()


def test_there_is_room_for_so_many():
    with running(settings=UNLIMITED, pace=QUICK._replace(most_streams=3)) as live:
        ann = Agent(live)
        streams = [Stream(live.url, ann.key) for _ in range(3)]
        until(lambda: readers(live) == 3)
        with Stream(live.url, ann.key) as late:
            assert (late.status, late.refusal["code"]) == (503, "unavailable")
            assert int(late.headers["retry-after"]) >= 1
        streams.pop().close()
        until(lambda: readers(live) == 2)
        with Stream(live.url, ann.key) as late:
            assert late.status == 200
        for each in (*streams, ann):
            each.close()


# Ended


@pytest.fixture
def many_descriptors() -> None:
    """Both ends of a thousand streams are here; what a process may have at first is often a thousand in all."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def test_a_key_that_is_revoked_ends_its_streams_and_no_others(live: Embedded, ann: Agent, bob: Agent):
    streams = [Stream(live.url, bob.key) for _ in range(3)]
    with Stream(live.url, ann.key) as other:
        until(lambda: readers(live) == 4)
        live.ask(lambda tx: administration.agent_deactivate(tx, name=bob.name))  # nothing else happens
        for stream in streams:
            assert stream.ended()["reason"] == "unauthorized"
            stream.close()
        ann.client.send_message("general", "goes on")
        assert [event["kind"] for event in other.through(ann.position())][-1] == "message.created"
        until(lambda: readers(live) == 1)


def test_a_key_that_is_revoked_ends_a_stream_that_stands_still(live: Embedded, ann: Agent):
    """Behind the window, and paused."""
    begin = ann.position()
    for _ in range(150):
        ann.client.send_message("general", "x" * 30_000)
    late = Agent(live)
    with Stream(live.url, late.key, since=begin, receive_buffer=4096) as stream:
        until(lambda: any(reader.is_paused for reader in [*push(live)._open]))
        live.ask(lambda tx: administration.agent_deactivate(tx, name=late.name))
        until(lambda: all(reader.is_over for reader in [*push(live)._open]))
        assert stream.ended()["reason"] == "unauthorized"
    late.close()


def test_a_new_key_ends_the_streams_of_the_old_one(live: Embedded, ann: Agent, bob: Agent):
    with Stream(live.url, bob.key) as old:
        key = live.token(bob.name)
        with Stream(live.url, key) as new:
            assert old.ended()["reason"] == "unauthorized"
            ann.client.send_message("general", "hello")
            assert [event["kind"] for event in new.through(ann.position())][-1] == "message.created"


def test_nothing_written_after_a_key_was_revoked_reaches_its_streams(live: Embedded, ann: Agent):
    for number in range(5):
        late = Agent(live)
        with Stream(live.url, late.key) as stream:
            live.ask(lambda tx, late=late: administration.agent_deactivate(tx, name=late.name))
            ann.client.send_message("general", f"after {number}")
            assert not any("after" in str(block.data) for block in stream)
        late.close()


def test_one_that_reads_too_slowly_is_ended_beside_a_thousand_that_do_not(many_descriptors: None):
    pace = Pace(most_events=50)
    with running(settings=UNLIMITED, pace=pace) as live, ExitStack() as stack:
        ann, room = Agent(live), fresh("room")
        stack.callback(ann.close)
        ann.client.send_message(room, "begin")
        before = page(live)("agentchat_slow_streams_total")
        fast = [stack.enter_context(Stream(live.url, ann.key, channel=room)) for _ in range(1000)]
        slow = stack.enter_context(Stream(live.url, ann.key, receive_buffer=4096))
        begin = ann.position()
        until(lambda: readers(live) == 1001)
        most_kept = 0

        def write() -> None:
            nonlocal most_kept
            for number in range(3000):
                if number % 20 == 0:
                    if page(live)("agentchat_slow_streams_total") > before:
                        return
                    ann.client.send_message(room, str(number))
                ann.client.send_message("general", f"{number} " + "x" * 30_000)
                most_kept = max(most_kept, kept(live))

        writer = threading.Thread(target=write)
        writer.start()
        seen = drain(fast, lambda: not writer.is_alive())
        writer.join()
        assert page(live)("agentchat_slow_streams_total") == before + 1
        assert most_kept < pace.most_bytes + 4 * pace.high_water
        ann.client.send_message(room, "end")
        end = ann.position()
        whole = [event["position"] for event in ann.events(f"since={begin}&channel={room}&limit=500")["events"]]
        assert len(whole) > 1
        for stream, mine in seen.items():
            assert mine + [event["position"] for event in stream.through(end)] == whole
        got = [block for block in slow if not block.is_sign]
        told = [block for block in got if block.type == "message"]
        last = told[-1].id if told else begin
        assert [block.id for block in told] == [*range(begin + 1, begin + 1 + len(told))]
        if not slow.is_lost:  # it took its end
            assert got[-1].data == {"reason": "slow", "position": last}
        with Stream(live.url, ann.key, last=last) as again:
            assert [event["position"] for event in again.through(end)] == [*range((last or 0) + 1, end + 1)]


def kept(live: Embedded) -> int:
    """Bytes that the relay holds for its readers: the window, and what they do not take."""
    return push(live)._feeds[1]._bytes + sum(reader.unsent for reader in [*push(live)._open])


def drain(streams: list[Stream], is_over: Any) -> dict[Stream, list[int]]:
    """Read from all of them as it comes; the positions each has seen."""
    poll = select.poll()
    by_fd = {stream.sock.fileno(): stream for stream in streams}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    seen: dict[Stream, list[int]] = {stream: [] for stream in streams}
    while not is_over():
        for fd, _ in poll.poll(100):
            stream = by_fd[fd]
            stream._take(stream.sock.recv(1 << 20))
            seen[stream] += [block.id for block in stream._waiting if not block.is_sign and block.id]
            stream._waiting.clear()
    return seen


def test_one_that_takes_nothing_is_ended_after_a_while():
    with running(settings=UNLIMITED, pace=QUICK._replace(patience=0.3, goodbye=0.2)) as live:
        ann = Agent(live)
        with Stream(live.url, ann.key, receive_buffer=4096):
            until(lambda: readers(live) == 1)
            number = 0
            while not any(reader.is_paused for reader in [*push(live)._open]):
                ann.client.send_message("general", f"{number} " + "x" * 30_000)
                number += 1
            until(lambda: readers(live) == 0)
            assert page(live)("agentchat_slow_streams_total") == 1
        ann.close()


def test_one_that_stands_still_for_a_while_goes_on(live: Embedded, ann: Agent):
    begin = ann.position()
    with Stream(live.url, ann.key, receive_buffer=4096) as stream:
        until(lambda: readers(live) == 1)
        while not any(reader.is_paused for reader in [*push(live)._open]):
            ann.client.send_message("general", "x" * 30_000)
        end = ann.position()
        (reader,) = push(live)._open
        assert reader.unsent < 4 * QUICK.high_water
        assert [event["position"] for event in stream.through(end)] == [*range(begin + 1, end + 1)]


def test_a_reader_far_behind_is_slow_or_not_like_any_other(live: Embedded, ann: Agent):
    """Its backlog is larger than what sockets hold, so that it is paused while it reads from the store."""
    begin = ann.position()
    for _ in range(150):
        ann.client.send_message("general", "x" * 30_000)
    end = ann.position()
    with Stream(live.url, ann.key, since=begin, receive_buffer=4096) as stream:
        until(lambda: any(reader.is_paused for reader in [*push(live)._open]))
        ann.client.send_message("general", "and more")
        assert [event["position"] for event in stream.through(end + 1)] == [*range(begin + 1, end + 2)]


def test_stopping_ends_streams_at_once():
    with running(settings=UNLIMITED) as live:
        ann = Agent(live)
        streams = [Stream(live.url, ann.key) for _ in range(20)]
        end = ann.position()
        until(lambda: readers(live) == 20)
        began = time.monotonic()
        live.close()
        assert time.monotonic() - began < 5
        for stream in streams:
            assert stream.ended() == {"reason": "stopping", "position": end}
            stream.close()
        ann.close()


# The socket that was taken


def test_whatever_is_said_after_the_request_does_no_harm(live: Embedded, ann: Agent):
    pipelined = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n" * 3
    for more in (pipelined, b"POST /api/v2/messages HTTP/1.1\r\ncontent-length: 100\r\n\r\nabc", b"\r\n", b"\0\xff"):
        with Stream(live.url, ann.key, more=more) as stream:
            if stream.status != 200:  # junk that came with the request is refused with it
                assert stream.status == 400
                continue
            stream.sock.sendall(b"and more\r\n\r\n" + pipelined)
            ann.client.send_message("general", "hello")
            (event,) = [found for found in stream.through(ann.position()) if found["kind"] == "message.created"]
            assert event["data"]["message"]["content"] == "hello"
    with Stream(live.url, ann.key) as stream:
        until(lambda: readers(live) == 1)
        try:
            for _ in range(200):
                stream.sock.sendall(b"x" * 4096)
        except OSError:
            pass
        until(lambda: readers(live) == 0)


def test_the_rest_of_a_body_belongs_to_the_request(live: Embedded, ann: Agent):
    lines = ["GET /api/v2/events HTTP/1.1", "host: x", "accept: text/event-stream", f"x-agent-api-key: {ann.key}"]
    with socket.create_connection(ann.wire.connection.sock.getpeername()[:2] if ann.wire.connection.sock
                                  else (ann.wire.connection.host, ann.wire.connection.port), 30) as sock:  # fmt: skip
        sock.sendall("\r\n".join([*lines, "content-length: 4", "", "12"]).encode())
        sock.sendall(b"34")
        head = b""
        while b"id: " not in head:
            head += sock.recv(4096)
        assert head.startswith(b"HTTP/1.1 200")
        body = Chunks().feed(head.partition(b"\r\n\r\n")[2])
        assert body.startswith(b"id: ")


def test_taking_sockets_leaves_nothing_behind(live: Embedded, ann: Agent):
    assert live.relay is not None
    tasks: list[int] = []

    def count_tasks() -> int:
        done = threading.Event()

        async def count() -> None:
            tasks.append(len(asyncio.all_tasks()))
            done.set()

        asyncio.run_coroutine_threadsafe(count(), live._loop)
        assert done.wait(30)
        return tasks[-1]

    ann.position()
    until(lambda: feeds(live) == 0)
    before = page(live)("agentchat_connections"), count_tasks()
    for how in ("close", "half", "reset"):
        streams = [Stream(live.url, ann.key) for _ in range(20)]
        until(lambda: readers(live) == 20)
        found = page(live)
        assert found("agentchat_streams", kind="events") == 20
        assert found("agentchat_connections") == before[0] + 20
        assert found("agentchat_requests_in_progress") == 1, "the page itself"
        for stream in streams:
            if how == "half":
                stream.sock.shutdown(socket.SHUT_WR)
                assert all(block.is_sign for block in stream)
            if how == "reset":
                stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            stream.close()
        until(lambda: readers(live) == 0)
        until(lambda: feeds(live) == 0)
        until(lambda: (page(live)("agentchat_connections"), count_tasks()) <= before)
    gc.collect()
    assert not [found for found in gc.get_objects() if type(found) is Reader]


def test_no_task_waits_while_nothing_happens():
    with running(settings=UNLIMITED) as live:
        ann = Agent(live)
        streams = [Stream(live.url, ann.key) for _ in range(50)]
        until(lambda: readers(live) == 50)

        def names() -> list[str]:
            async def look() -> list[str]:
                return [str(task.get_coro()) for task in asyncio.all_tasks()]

            return asyncio.run_coroutine_threadsafe(look(), live._loop).result(30)

        until(lambda: len(names()) < 10)
        for stream in streams:
            stream.close()
        ann.close()


def test_streams_are_in_the_record_and_the_measures(caplog: pytest.LogCaptureFixture):
    with running(settings=UNLIMITED._replace(log_requests=True)) as live:
        ann = Agent(live)
        before = page(live)("agentchat_events_delivered_total")
        with Stream(live.url, ann.key) as stream:
            assert stream.headers["x-request-id"]
            ann.client.send_message("general", "hello")
            stream.events(1)
            assert page(live)("agentchat_events_delivered_total") == before + 1
            assert page(live)("agentchat_requests_total", operation="list_events", code="ok") == 1
        ann.close()


# News that is lost, or false


def test_lost_news_cost_time_only(live: Embedded, ann: Agent, monkeypatch: pytest.MonkeyPatch):
    with Stream(live.url, ann.key) as stream:
        until(lambda: readers(live) == 1)
        monkeypatch.setattr(push(live), "_spread", lambda news: None)
        ann.client.send_message("general", "hello")
        (event,) = stream.events(1)
        assert event["data"]["message"]["content"] == "hello"


def test_a_store_that_fails_for_a_while_loses_nothing(live: Embedded, ann: Agent, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feed, "_PAUSE", 0.05)
    with Stream(live.url, ann.key) as stream:
        until(lambda: readers(live) == 1)
        failures = [0]
        read = feed.Feed._read

        async def fails(self: Any) -> None:
            failures[0] += 1
            if failures[0] < 3:
                raise Unavailable("not now")
            await read(self)

        monkeypatch.setattr(feed.Feed, "_read", fails)
        ann.client.send_message("general", "hello")
        assert stream.events(1)[0]["data"]["message"]["content"] == "hello"
        assert failures[0] >= 3
