"""What one caller can cost the others has a bound: work, memory, connections, answers. No cursor tells of others."""

from __future__ import annotations

import gc
import json
import random
import select
import socket
import string
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat import Client
from agentchat._exchange import KEY_HEADER
from agentchat.errors import BadRequest, LimitReached, NotFound
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.http import server
from agentchat_relay.service import guess
from agentchat_relay.settings import Settings
from agentchat_relay.store.seam import Lane
from langchain_agentchat import AsyncClient
from tests.relay.conftest import UNLIMITED, MakeAgent, fresh, until

DEADLINE = 30.0
MIB = 1 << 20
LETTERS = string.ascii_lowercase + string.digits
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def connection(url: str) -> HTTPConnection:
    parts = urlsplit(url)
    return HTTPConnection(str(parts.hostname), parts.port, timeout=DEADLINE)


def call(url: str, key: str | None, verb: str, path: str, body: object = None) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own."""
    with closing(connection(url)) as http:
        text = None if body is None else json.dumps(body).encode()
        http.request(verb, path, text, {KEY_HEADER: key} if key else {})
        answer = http.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def raw(url: str, receive_buffer: int | None = None) -> socket.socket:
    parts = urlsplit(url)
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(DEADLINE)
    sock.connect((parts.hostname, parts.port))
    return sock


# Refusing unknown names


def names_like(count: int, length: int, prefix: str = "") -> list[str]:
    luck = random.Random(length)
    return [prefix + "".join(luck.choices(LETTERS, k=length - len(prefix))) for _ in range(count)]


@settings(max_examples=60, deadline=None)
@given(length=st.integers(6, 100), chosen=st.integers(0, 499), data=st.data())
def test_a_name_with_one_wrong_character_is_found_among_500(length: int, chosen: int, data: st.DataObject):
    names = names_like(500, length)
    at = data.draw(st.integers(0, length - 1))
    wrong = data.draw(st.sampled_from([letter for letter in LETTERS if letter != names[chosen][at]]))
    misspelt = names[chosen][:at] + wrong + names[chosen][at + 1 :]
    assert guess.near(misspelt, names) == [names[chosen]]


@pytest.mark.parametrize("length", [60, 100])
def test_names_that_begin_alike_are_told_apart_by_their_ends(length: int):
    """All agents of a machine with a long name begin with it."""
    names = names_like(500, length, "build-server-of-the-platform-team-in-frankfurt-")
    for name in names[::50]:
        misspelt = name[:-1] + ("x" if name[-1] != "x" else "y")
        assert guess.near(misspelt, names) == [name]


def test_no_more_than_a_few_short_names_are_compared_closely(monkeypatch: pytest.MonkeyPatch):
    compared: list[list[str]] = []
    nearest = guess.nearest

    def counting(name: object, known: Iterable[str]) -> str | None:
        compared.append([str(name), *known])
        return nearest(name, compared[-1][1:])

    monkeypatch.setattr(guess, "nearest", counting)
    for prefix in ("", "a" * 60, "ab" * 49):
        names = names_like(500, 100, prefix)
        guess.near(names[0][:-1] + "-", names)
        guess.near("-" * 100, names)
    assert len(compared) == 6
    assert max(sum(map(len, names)) for names in compared) <= 30 * 60  # of 50,000 characters
    assert min(map(len, compared)) > 1


def test_unknown_names_are_refused_with_the_name_that_was_meant(live: Embedded, agent: MakeAgent):
    space = fresh("crowd")
    live.space(space)
    names = names_like(300, 100)
    caller = agent(fresh(), space=space)
    for name in names:
        live.token(name, space=space)
    misspelt = names[7][:50] + ("x" if names[7][50] != "x" else "y") + names[7][51:]
    with pytest.raises(NotFound) as caught:
        caller.send_direct_message(misspelt, "hello")
    assert caught.value.near == [names[7]]


# Mentions


def test_a_token_longer_than_a_name_is_no_mention(live: Embedded, agent: MakeAgent):
    def remembered() -> int:
        return int(live.ask(lambda tx: len(tx.memo)))

    author, longest = agent(), fresh() + "y" * 95
    longest = longest[:100]
    reader = agent(longest)
    author.send_message("general", f"@{longest} and @{'z' * 100}")  # everything there is to know is known now
    before = remembered()
    for length in (101, 150, 31_000):
        sent = author.send_message("general", f"@{longest.ljust(length, 'y')} @{'q' * length}"[:32_000])
        assert sent["unmatched_mentions"] == []
    assert remembered() == before
    assert len(reader.check_mentions()["mentions"]) == 1
    assert author.send_message("general", f"@{'w' * 100}")["unmatched_mentions"] == ["w" * 100]


# Heads and trailers


def is_cut_off(sock: socket.socket, pieces: Iterable[bytes]) -> bool:
    """Whether the relay aborts the connection before it took all of this."""
    try:
        for piece in pieces:
            sock.sendall(piece)
    except ConnectionError:
        return True
    return False


CHUNKED = b"POST /api/v2/register HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
LINES = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 1000) for number in range(100))


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (CHUNKED, LINES),
        (CHUNKED + b"x: ", b"y" * 100_000),
        (b"GET /health HTTP/1.1\r\n", LINES),
        (b"GET /health HTTP/1.1\r\nx: ", b"y" * 100_000),
        (b"GET /", b"y" * 100_000),
    ],
    ids=["trailers", "one trailer", "headers", "one header", "a path"],
)
def test_a_head_or_trailer_without_end_is_cut_off(live: Embedded, start: bytes, piece: bytes):
    with closing(raw(live.url)) as sock:
        assert is_cut_off(sock, [start, *[piece] * 400])  # 40 MB: more than sockets hold
    assert call(live.url, None, "GET", "/health")[0] == 200


def test_a_connection_that_was_good_before_is_cut_off_too(live: Embedded):
    with closing(raw(live.url)) as sock:
        for _ in range(100):  # 100 kB of heads in all, each of them short
            sock.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 1000 + b"\r\n\r\n")
            assert answered(sock) == 200
        assert is_cut_off(sock, [CHUNKED, *[LINES] * 400])


def answered(sock: socket.socket) -> int:
    response = HTTPResponse(sock)
    response.begin()
    response.read()
    return response.status


def test_short_trailers_are_taken_and_not_kept(live: Embedded):
    trailer = b"x-left-over: " + b"y" * 1000 + b"\r\n"
    with closing(raw(live.url)) as sock:
        sock.sendall(CHUNKED + trailer * 20 + b"\r\n")
        assert answered(sock) == 400
        kept = [header for guarded in guarded_connections() for header in guarded.headers]
        assert (b"host", b"x") in kept
        assert not [name for name, _ in kept if name == b"x-left-over"]


def guarded_connections() -> list[Any]:
    found = [thing for thing in gc.get_objects() if type(thing) is server._Guarded]
    return [guarded for guarded in found if hasattr(guarded, "headers")]


# Metadata


def nested(depth: int, inner: object) -> dict[str, Any]:
    """An object in which objects and lists are nested this deep, itself counted."""
    value: object = [inner] if depth > 1 else inner
    for _ in range(depth - 2):
        value = [value]
    return {"project": value}


@pytest.mark.parametrize("siblings", [0, 40])
async def test_metadata_32_deep_reaches_both_clients(live: Embedded, agent: MakeAgent, siblings: int):
    channel, author = fresh("deep"), agent()
    metadata = {**nested(32, "x"), "more": [{} for _ in range(siblings)]}
    id = author.send_message(channel, "deep", metadata=metadata)["message"]["id"]
    assert author.get_message(id)["message"]["metadata"] == metadata
    assert author.read_messages(channel)["messages"][0]["metadata"] == metadata
    name = fresh()
    async with AsyncClient(live.url, live.token(name), agent=name) as other:
        assert (await other.read_messages(channel))["messages"][0]["metadata"] == metadata


@pytest.mark.parametrize("depth", [33, 34, 100, 900])
@pytest.mark.parametrize("inner", ["x", 0, None])
def test_metadata_nested_deeper_is_refused(agent: MakeAgent, depth: int, inner: object):
    author = agent()
    with pytest.raises(BadRequest, match="nested deeper than 32"):
        author.send_message("general", "deep", metadata=nested(depth, inner))
    with pytest.raises(BadRequest, match="nested deeper than 32"):
        author.send_direct_message(author.agent or "", "deep", metadata=nested(depth, inner))


def test_metadata_of_one_level_may_be_wide(agent: MakeAgent):
    metadata = {"all": [[] for _ in range(500)]}
    assert agent().send_message("general", "wide", metadata=metadata)["message"]["metadata"] == metadata


# Connections that stand still


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Embedded]:
    monkeypatch.setattr(server, "_LONGEST_STALL", 1.5)
    monkeypatch.setattr(server, "_LOOK_EVERY", 0.0)
    with running(settings=UNLIMITED) as relay:
        yield relay


def request(path: str, key: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n{KEY_HEADER}: {key}\r\n\r\n".encode()


def ended(sock: socket.socket) -> bool:
    """Whether the relay has ended this connection, of which nothing is expected; waits a little for it."""
    if not select.select([sock], [], [], 0.1)[0]:
        return False
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


def big_file(relay: Embedded, key: str, size: int) -> str:
    with Client(relay.url, key) as client:
        return quote(client.upload_file("general", "big.bin", "x" * size)["file"]["path"])


@pytest.mark.parametrize(
    "half",
    [b"G", b"GET /health HTTP/1.1\r\nhost: x\r\n", b"POST /api/v2/register HTTP/1.1\r\ncontent-length: 9\r\n\r\n{"],
)
def test_half_a_request_is_cut_off(impatient: Embedded, half: bytes):
    with closing(raw(impatient.url)) as sock:
        sock.sendall(half)
        until(lambda: ended(sock))


def test_whoever_takes_no_answer_is_cut_off_and_whoever_takes_it_slowly_is_not(
    impatient: Embedded, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server, "_LONGEST_STALL", 3.0)
    key, size, pace = impatient.token("ann"), 9 * MIB, 1.25 * MIB
    path = big_file(impatient, key, size)
    with ExitStack() as stack:
        stuck, slow, idle = (
            stack.enter_context(closing(raw(impatient.url, buffer))) for buffer in (65536, 65536, None)
        )
        for sock in (stuck, slow):
            sock.sendall(request(f"/api/files?path={path}", key))
        until(lambda: len(answering := kept(stuck)) == 1 and answering[0].standing() is not None)
        (of_stuck,) = kept(stuck)
        began, taken = time.monotonic(), 0
        while not of_stuck.transport.is_closing():
            while taken < pace * (time.monotonic() - began):
                taken += len(slow.recv(MIB // 8))
            idle.sendall(request("/health", key))
            assert answered(idle) == 200
        assert taken < size  # it is in the midst of it
        while taken < size:
            piece = slow.recv(MIB)
            assert piece, "the slow reader was cut off"
            taken += len(piece)


def kept(client: socket.socket) -> list[Any]:
    """The relay's side of a connection, while it lives."""
    here = client.getsockname()
    return [one for one in guarded_connections() if one.transport.get_extra_info("peername") == here]


def test_a_connection_that_was_cut_off_takes_nothing_with_it(impatient: Embedded):
    key = impatient.token("ann")
    path = big_file(impatient, key, 9 * MIB)
    with closing(raw(impatient.url, 65536)) as sock:
        sock.sendall(request(f"/api/files?path={path}", key))
        until(lambda: bool(guarded_connections()))
        total = 0
        until(lambda: not [one for one in guarded_connections() if not one.transport.is_closing()])
        try:
            while piece := sock.recv(MIB):
                total += len(piece)
        except ConnectionError:
            pass
    assert total < 9 * MIB
    assert call(impatient.url, key, "GET", "/api/v2/board")[0] == 200


# Costly calls


@pytest.fixture
def counted(live: Embedded, monkeypatch: pytest.MonkeyPatch) -> list[Lane]:
    """The lanes of what was submitted to the store, as it comes."""
    assert live.relay is not None
    lanes: list[Lane] = []
    submit = live.relay.store.submit

    def counting(lane: Lane, call: Any, done: Any) -> None:
        lanes.append(lane)
        submit(lane, call, done)

    monkeypatch.setattr(live.relay.store, "submit", counting)
    return lanes


def test_an_agent_has_16_searches_at_a_time(live: Embedded, counted: list[Lane]):
    assert live.relay is not None
    key, other = live.token(fresh()), live.token(fresh())
    going, answers = threading.Event(), []
    live.relay.store.submit(Lane.SEARCH, lambda tx: going.wait(DEADLINE), lambda result, error: None)

    def search(key: str) -> None:
        answers.append((key, call(live.url, key, "GET", "/api/v2/search?q=word")))

    threads = [threading.Thread(target=search, args=(one,)) for one in [key] * 19 + [other]]
    try:
        for thread in threads:
            thread.start()
        until(lambda: len(answers) >= 3 and counted.count(Lane.SEARCH) >= 18)
        refused = list(answers)
    finally:
        going.set()
        for thread in threads:
            thread.join()
    assert [(who, answer[0]) for who, answer in refused] == [(key, 429)] * 3
    assert all(int(answer[1]["retry-after"]) >= 1 for _, answer in refused)
    assert sorted(answer[0] for who, answer in answers if who == key) == [200] * 16 + [429] * 3
    assert [answer[0] for who, answer in answers if who == other] == [200]
    assert call(live.url, key, "GET", "/api/v2/search?q=word")[0] == 200


def test_an_agent_has_16_uploads_at_a_time(live: Embedded):
    key, other = live.token(fresh()), live.token(fresh())
    upload = {"channel": "general", "filename": "a.txt", "content": "text"}
    body = json.dumps(upload).encode()
    head = f"PUT /api/files HTTP/1.1\r\nhost: x\r\n{KEY_HEADER}: {key}\r\ncontent-length: {len(body)}\r\n"
    with ExitStack() as stack:
        socks = [stack.enter_context(closing(raw(live.url))) for _ in range(16)]
        for sock in socks:
            sock.sendall(head.encode() + b"expect: 100-continue\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 100 ")  # the relay wants the body: the upload is under way
        status, headers, _ = call(live.url, key, "PUT", "/api/files", upload)
        assert (status, int(headers["retry-after"]) >= 1) == (429, True)
        assert call(live.url, key, "GET", "/api/v2/search?q=word")[0] == 429  # both count
        assert call(live.url, other, "PUT", "/api/files", upload)[0] == 200
        assert call(live.url, key, "GET", "/api/v2/board")[0] == 200
        socks[0].sendall(body)
        assert answered(socks[0]) == 200
        assert call(live.url, key, "PUT", "/api/files", upload)[0] == 200
    until(lambda: call(live.url, key, "PUT", "/api/files", upload)[0] == 200)  # those that hung up count no more


# The board


@pytest.mark.parametrize("letter", ["é", "\x01", "\U0001f600"], ids=["two bytes", "escaped", "four bytes"])
def test_a_board_of_large_texts_stays_small(letter: str):
    with running(settings=UNLIMITED) as relay:
        with Client(relay.url, relay.token("reader")) as reader:
            names = []
            for writer in range(4):
                with Client(relay.url, relay.token(f"writer-{writer}")) as client:
                    for number in range(20):
                        names.append(f"large-{writer}-{number}")
                        client.send_message(names[-1], letter * 32_000)
                        reader.read_messages(names[-1], limit=1)
            board = reader.check_board()["channels"]
        _, _, body = call(relay.url, relay.token("reader"), "GET", "/api/v2/board")
    assert len(body) < 1_500_000
    texts = {row["channel"]: row["latest"]["content"] for row in board if row["latest"]}
    assert set(texts) >= set(names)
    whole = [name for name in names if texts[name] == letter * 32_000]
    cut = [texts[name] for name in names if name not in whole]
    assert 0 < len(whole) < len(names)
    assert all(text.endswith("…") and len(text) >= 100 and set(text[:-1]) == {letter} for text in cut)


def test_texts_of_a_usual_board_are_whole(agent: MakeAgent):
    reader, text = agent(), "word " * 60 + "end"
    names = [fresh("usual") for _ in range(20)]
    for name in names:
        reader.send_message(name, text)
    board = {row["channel"]: row for row in reader.check_board()["channels"]}
    assert {board[name]["latest"]["content"] for name in names if board[name]["latest"]} == {text}


# Cursors and links


def decoded(cursor: str) -> str:
    return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()


def micros(time: str) -> int:
    return (datetime.fromisoformat(time) - EPOCH) // timedelta(microseconds=1)


def says_nothing_else(cursor: str | None, list_id: str, times: set[int]) -> bool:
    assert cursor is not None
    found, at, way = decoded(cursor).split("/")
    return found == list_id and int(at, 16) in times and way in "01"


def foreign_traffic(live: Embedded, agent: MakeAgent) -> None:
    space = fresh("foreign")
    live.space(space)
    stranger = agent(fresh(), space=space)
    for number in range(30):
        stranger.send_message(fresh("theirs") if number < 10 else "general", "x")
        stranger.upload_file("general", f"{number}.txt", "x", post_message=False)
        stranger.send_direct_message(stranger.agent or "", "x")


def test_cursors_tell_of_nothing_but_their_own_list(live: Embedded, agent: MakeAgent):
    caller = agent()
    lengths = set()
    for _ in range(2):
        channel = fresh("ours")
        first = caller.send_message(channel, "one")["message"]
        last = caller.send_message(channel, "two", parent_message_id=first["id"])["message"]
        direct = caller.send_direct_message(caller.agent or "", "three")["message"]
        times = {micros(message["created_at"]) for message in (first, last)}
        thread, page = caller.read_thread(first["id"]), caller.read_messages(channel)
        own = caller.read_messages("direct-messages", limit=1)
        assert says_nothing_else(thread["next_cursor"], first["id"], times)
        assert says_nothing_else(page["next_cursor"], page["channelId"], times)
        assert says_nothing_else(page["previous_cursor"], page["channelId"], times)
        mine = direct["author_agent_id"]
        assert says_nothing_else(own["next_cursor"], mine, {micros(direct["created_at"])})
        found = (thread["next_cursor"], page["next_cursor"], page["previous_cursor"], own["next_cursor"])
        lengths.add(tuple(len(cursor or "") for cursor in found))
        foreign_traffic(live, agent)
    assert len(lengths) == 1


def test_links_do_not_count_files(live: Embedded, agent: MakeAgent):
    caller, claims = agent(), []
    for _ in range(3):
        path = caller.upload_file("general", "a.txt", "x")["file"]["path"]
        answer = json.loads(
            call(live.url, live.token(caller.agent or ""), "GET", f"/api/files?url=true&path={path}")[2]
        )
        token = answer["signed_url"].rpartition("/")[2]
        claims.append(urlsafe_b64decode(token))
        caller = agent()  # its key was replaced
        foreign_traffic(live, agent)
    assert len({len(claim) for claim in claims}) == 1
    halves = [int.from_bytes(claim[at : at + 8], "big") for claim in claims for at in (0, 8)]
    gaps = [abs(one - other) for number, one in enumerate(halves) for other in halves[:number]]
    assert min(halves) > 1 << 32  # neither a count of files
    assert min(gaps) > 1 << 40  # nor a count, or a time (1 << 40 microseconds are twelve days), plus something


EDGES = (None, "1970-01-01T00:00:00Z", "1960-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59Z")


@pytest.mark.parametrize("before", EDGES)
@pytest.mark.parametrize("messages", [0, 3])
def test_every_cursor_that_a_page_hands_out_is_taken(agent: MakeAgent, messages: int, before: str | None):
    caller, channel = agent(), fresh("pages")
    caller.upload_file(channel, "a.txt", "x", post_message=False)  # makes the channel, and no message in it
    sent = [caller.send_message(channel, f"m{number}")["message"]["id"] for number in range(messages)]
    for status in (False, True):
        page = caller.read_messages(channel, before=before, include_status=status)
        assert page["previous_cursor"] and page["next_cursor"]
        older = caller.read_messages(channel, cursor=page["previous_cursor"])
        newer = caller.read_messages(channel, cursor=page["next_cursor"])
        met = [message["id"] for found in (older, page, newer) for message in found["messages"]]
        assert met == sent  # each once, and in order
        for found in (older, newer):  # and on from there, both ways
            for cursor in (found["previous_cursor"], found["next_cursor"]):
                caller.read_messages(channel, cursor=cursor)
    later = caller.send_message(channel, "later")["message"]["id"]
    assert [message["id"] for message in caller.read_messages(channel, cursor=newer["next_cursor"])["messages"]] == [
        later
    ]


def test_direct_messages_and_threads_go_on_where_they_ended(agent: MakeAgent):
    caller, channel = agent(), fresh("ends")
    page = caller.read_messages("direct-messages")
    assert page["messages"] == []
    caller.send_direct_message(caller.agent or "", "first")
    newer = caller.read_messages("direct-messages", cursor=page["next_cursor"])
    assert [message["content"] for message in newer["messages"]] == [f"@{caller.agent} first"]
    assert caller.read_messages("direct-messages", cursor=page["previous_cursor"])["has_more"] is False

    root = caller.send_message(channel, "root")["message"]["id"]
    thread = caller.read_thread(root)
    for _ in range(3):  # the end of a thread is empty each time
        thread = caller.read_thread(root, cursor=thread["next_cursor"])
        assert thread["messages"] == []
    reply = caller.send_message(channel, "reply", parent_message_id=root)["message"]["id"]
    thread = caller.read_thread(root, cursor=thread["next_cursor"])
    assert [message["id"] for message in thread["messages"]] == [reply]


def test_a_thread_is_paged_one_by_one(agent: MakeAgent):
    caller, channel = agent(), fresh("paged")
    root = caller.send_message(channel, "root")["message"]["id"]
    sent = [root] + [
        caller.send_message(channel, f"r{number}", parent_message_id=root)["message"]["id"] for number in range(5)
    ]
    met, cursor, more = [], None, True
    while more:
        page = caller.read_thread(sent[-1], limit=1, cursor=cursor)
        met += [message["id"] for message in page["messages"]]
        cursor, more = page["next_cursor"], page["has_more"]
    assert met == sent


# Files


def test_an_upload_that_may_make_no_channel_leaves_nothing(tmp_path: Path):
    with running(str(tmp_path / "relay"), settings=Settings()) as relay:

        def files() -> list[Path]:
            return list((tmp_path / "relay" / "blobs").glob("*/??/*"))

        with Client(relay.url, relay.token("ann")) as client:
            for number in range(20):
                client.send_message(f"ch-{number}", "x")
            client.upload_file("general", "a.txt", "kept")
            before = files()
            assert len(before) == 1
            for number in range(3):
                with pytest.raises(LimitReached) as caught:
                    client.upload_file("one-more", "a.txt", f"refused {number}")
                assert caught.value.code == "channel_limit"
            assert files() == before
            client.upload_file("ch-0", "a.txt", "another")
            assert len(files()) == 2
