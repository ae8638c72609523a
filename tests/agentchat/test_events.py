"""Following the log, without I/O: the parser against every cut and a naive one, and the decisions driven by hand."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentchat import Client, errors
from agentchat._events import (
    SILENCE,
    Block,
    Deliver,
    Following,
    Lost,
    Open,
    Parser,
    Place,
    Read,
    follow,
)
from agentchat._exchange import NeedKey, Options, Request, Response
from tests.servers import event

# The parser

RECORDED = (
    b"\xef\xbb\xbf:hello\n\nid: 3\n\nid: 4\ndata: {\"a\":\ndata: 1}\n\n"
    b"event: end\r\ndata\r\ndata:two\r\n\r\nid\rdata: \xc3\xa4 \xe2\x82\xac\r\rretry: 2500\n\n: beat\n\n"
    b"event: x\n\nid: 9\nid: 1\x000\ndata:  spaced\nunknown: 1\n\nid: 12\n\ndata: never ended\n"
)  # fmt: skip
BLOCKS = [
    Block("message", None, "3"),
    Block("message", '{"a":\n1}', "4"),
    Block("end", "\ntwo", "4"),
    Block("message", "ä €", ""),
    Block("message", " spaced", "9"),
    Block("message", None, "12"),
]


def parsed(*pieces: bytes) -> list[Block]:
    parser = Parser()
    return [block for piece in pieces for block in parser.feed(piece)]


def naive(stream: bytes) -> list[Block]:
    """The same, of a whole stream, as the standard says it and however slowly."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    blocks, last = [], None
    for chunk in text.split("\n\n")[:-1] if "\n\n" in text else []:
        kind, data, named = "", [], False
        for line in chunk.split("\n"):
            name, _, value = line.partition(":")
            value = value[1:] if value.startswith(" ") else value
            if name == "data":
                data.append(value)
            elif name == "event":
                kind = value
            elif name == "id" and "\0" not in value:
                last, named = value, True
        if data or named:
            blocks.append(Block(kind or "message", "\n".join(data) if data else None, last))
    return blocks


def test_a_recorded_stream_is_read_whole():
    assert parsed(RECORDED) == BLOCKS
    parser = Parser()
    parser.feed(RECORDED)
    assert parser.retry == 2500


@pytest.mark.parametrize("size", range(1, 12))
def test_a_recorded_stream_in_pieces_of_one_size_gives_the_same(size: int):
    assert parsed(*(RECORDED[at : at + size] for at in range(0, len(RECORDED), size))) == BLOCKS


def test_a_recorded_stream_cut_at_any_byte_gives_the_same():
    for cut in range(len(RECORDED) + 1):
        assert parsed(RECORDED[:cut], b"", RECORDED[cut:]) == BLOCKS, cut


@given(st.lists(st.integers(0, len(RECORDED)), max_size=12))
def test_a_recorded_stream_cut_at_random_gives_the_same(cuts: list[int]):
    edges = [0, *sorted(cuts), len(RECORDED)]
    assert parsed(*(RECORDED[start:end] for start, end in itertools.pairwise(edges))) == BLOCKS


lines = st.sampled_from(
    [
        "data: a",
        "data:b",
        "data",
        "data: {}",
        "id: 7",
        "id:",
        "id: \0",
        "event: end",
        "event",
        ": c",
        ":",
        "",
        "",
        "",
        "retry: 5",
        "retry: x",
        "dat",
        " data: x",
        "data: é😀",
        "\ufeffdata: x",
        "data:\ttab",
    ]
)


@given(
    st.lists(st.tuples(lines, st.sampled_from(["\n", "\r", "\r\n"])), max_size=30),
    st.lists(st.integers(0, 300), max_size=8),
)
def test_any_stream_in_any_cut_is_what_a_naive_parser_makes_of_the_whole(said: list[tuple[str, str]], cuts: list[int]):
    stream = "".join(line + end for line, end in said).encode()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    got = parsed(*(stream[start:end] for start, end in itertools.pairwise(edges)))
    assert got == naive(stream)


@given(st.lists(st.tuples(lines, st.sampled_from(["\n", "\r", "\r\n"])), max_size=30), st.integers(0, 300))
def test_line_ends_of_every_kind_are_the_same_however_they_are_cut(said: list[tuple[str, str]], cut: int):
    stream = "".join(line + end for line, end in said).encode()
    assert parsed(stream[:cut], stream[cut:]) == parsed(stream)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_bytes_of_any_kind_are_read_in_any_cut(pieces: list[bytes]):
    assert parsed(*pieces) == parsed(b"".join(pieces))


@pytest.mark.parametrize(
    "stream",
    [b"data: " + b"x" * 200, b"data: xxxxxxxxx\n" * 20, b"x" * 200, b"id: 1\ndata: " + b"x" * 100 + b"\n\n"],
    ids=["one line", "many lines", "no field", "ended"],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_block_that_never_ends_is_no_way_to_fill_the_memory(stream: bytes, size: int):
    parser = Parser(max_block=100)
    with pytest.raises(errors.ProtocolError, match="more than 100 bytes"):
        for at in range(0, len(stream), size):
            parser.feed(stream[at : at + size])


def test_signs_of_life_may_go_on_for_ever():
    parser = Parser(max_block=100)
    for _ in range(1000):
        assert parser.feed(b": still here\n") == []
    assert parser.feed(b"data: x\n\n" * 50) == [Block("message", "x", None)] * 50


# Following

HEAD = Response(200, {"content-type": "text/event-stream; charset=utf-8"}, b"")


def stream_of(*positions: int | str) -> bytes:
    """Events at these positions; a text stands for itself."""
    return "".join(
        at if isinstance(at, str) else f"id: {at}\ndata: {json.dumps(event(at))}\n\n" for at in positions
    ).encode()


def end(reason: str, position: int = 9) -> str:
    return f'event: end\ndata: {{"reason":"{reason}","position":{position}}}\n\n'


def refusal(status: int, code: str, **more: Any) -> list[Any]:
    """The head and the body of an answer that is no stream."""
    headers = {"retry-after": more.pop("retry_after")} if "retry_after" in more else {}
    return [Response(status, headers, b""), json.dumps({"error": "no", "code": code, **more}).encode(), b""]


class Followed:
    """Drives a follower. `answers` are those to Open and Read in turn; then the reader has seen enough."""

    def __init__(self, *answers: Any, since: int | None = None, keys: Any = ("key",), lives: float = 0.0):
        self.now = 1000.0
        self.answers, self.keys, self.lives = list(answers), list(keys), lives
        self.place = Place(since)
        self.opened: list[int | None] = []
        self.with_keys: list[str | None] = []
        self.refused: list[str | None] = []
        self.positions: list[int] = []
        self.live: list[str] = []  # events that are in no log
        self.lost: list[tuple[type, float]] = []
        self.on_event: Any = lambda position: None
        reader = Following(
            self.place,
            self._build,
            None,
            Options(),
            clock=lambda: self.now,
            jitter=lambda: 0.5,  # type: ignore[arg-type]
        )
        self._steps = follow(reader)

    def _build(self, key: str | None, timeout: float, position: int | None) -> Request:
        self.with_keys.append(key)
        self.opened.append(position)
        return Request("GET", "/api/v2/events", {}, None, timeout)

    def run(self) -> Followed:
        answer: Any = None
        while True:
            step = self._steps.send(answer)
            answer = None
            if isinstance(step, Open | Read) and not self.answers:
                return self
            if isinstance(step, NeedKey):
                self.refused.append(step.refused)
                answer = self.keys[0] if step.refused is None else self._renewed()
            elif isinstance(step, Open | Read):
                answer = self.answers.pop(0)
                self.now += self.lives if isinstance(step, Read) else 0
                assert not isinstance(step, Read) or step.seconds in (SILENCE, 10)
            elif isinstance(step, Deliver):
                position = step.event["position"]
                if position is None:
                    self.live.append(step.event["kind"])
                else:
                    self.positions.append(position)
                    self.on_event(position)
            else:
                assert isinstance(step, Lost)
                self.lost.append((type(step.why), step.seconds))
                self.now += step.seconds

    def _renewed(self) -> str | None:
        if len(self.keys) > 1:
            self.keys.pop(0)
        return self.keys[0]

    def fails(self, kind: type[errors.AgentChatError]) -> errors.AgentChatError:
        with pytest.raises(kind) as caught:
            self.run()
        assert type(caught.value) is kind
        return caught.value


def test_events_are_handed_out_in_order_and_the_position_follows():
    followed = Followed(HEAD, stream_of("id: 3\n\n", 4, 5), stream_of(7, "id: 20\n\n")).run()
    assert (followed.positions, followed.place.position) == ([4, 5, 7], 20)
    assert (followed.opened, followed.with_keys) == ([None], ["key"])


@pytest.mark.parametrize("broken", [b"", errors.ConnectionFailed(), errors.TimedOut()])
def test_a_stream_that_breaks_off_is_opened_again_where_it_was_and_nothing_comes_twice(broken: Any):
    followed = Followed(HEAD, stream_of(4, 5), broken, HEAD, stream_of(4, 5, 6)).run()
    assert followed.positions == [4, 5, 6]
    assert followed.opened == [None, 5]
    assert len(followed.lost) == 1


def test_a_stream_cut_in_the_middle_of_an_event_gives_it_once():
    whole = stream_of(4, 5)
    for cut in range(1, len(whole)):
        assert Followed(HEAD, whole[:cut], b"", HEAD, stream_of(4, 5)).run().positions == [4, 5]


def test_a_sign_of_life_says_from_where_to_go_on():
    followed = Followed(HEAD, stream_of("id: 300\n\n"), b"", HEAD, since=3).run()
    assert followed.opened == [3, 300]


@pytest.mark.parametrize("said", ["id: 2\n\n", "id: -5\n\n", "id: x\n\n", "id: ²\n\n", "id: \n\n"])
def test_no_sign_of_life_leads_back(said: str):
    assert Followed(HEAD, stream_of(4, said)).run().place.position == 4


@pytest.mark.parametrize("reason", ["slow", "stopping", "whatever", "x\u2028" * 99])
def test_an_end_by_the_relay_is_no_end_for_the_reader(reason: str):
    followed = Followed(HEAD, stream_of(4, end(reason), 5), HEAD, stream_of(5)).run()
    assert (followed.positions, followed.opened) == ([4, 5], [None, 4])
    assert [kind for kind, _ in followed.lost] == [errors.ConnectionFailed]


def test_a_key_that_is_no_longer_good_is_renewed_once():
    followed = Followed(
        HEAD, stream_of(4, end("unauthorized")), HEAD, stream_of(5, end("unauthorized")), keys=["old", "new", "newer"]
    )
    followed.fails(errors.Unauthorized)
    assert followed.with_keys == ["old", "new"]
    assert followed.refused == [None, "old", None]
    assert followed.positions == [4, 5]


def test_a_key_refused_at_the_door_is_renewed_once():
    followed = Followed(*refusal(401, "unauthorized"), HEAD, stream_of(4), keys=["old", "new"]).run()
    assert (followed.positions, followed.with_keys, followed.lost) == ([4], ["old", "new"], [])
    Followed(*refusal(401, "unauthorized")).fails(errors.Unauthorized)


def test_a_key_may_be_renewed_again_after_a_stream_that_lived():
    ends = [HEAD, stream_of(end("unauthorized"))]
    followed = Followed(*ends, *ends, *ends, HEAD, stream_of(4), keys=list("abcd"), lives=90).run()
    assert (followed.positions, followed.with_keys) == ([4], list("abcd"))


def test_a_position_that_is_no_longer_kept_is_an_error_with_the_first_one_that_works():
    followed = Followed(*refusal(410, "position_expired", first=50, position=80), since=3)
    error = followed.fails(errors.PositionExpired)
    assert error.details["first"] == 50
    assert followed.opened == [3]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "bad_request", errors.BadRequest),
        (403, "forbidden", errors.Forbidden),
        (404, "not_found", errors.NotFound),
    ],
)
def test_what_a_new_connection_would_not_mend_is_raised(status: int, code: str, kind: Any):
    Followed(*refusal(status, code)).fails(kind)


@pytest.mark.parametrize("head", [Response(200, {"content-type": "application/json"}, b""), Response(200, {}, b"")])
def test_an_answer_that_is_no_stream_is_an_error(head: Response):
    Followed(head).fails(errors.ProtocolError)


@pytest.mark.parametrize("data", ["5", "[]", "{}", '{"position":"4"}', '{"position":true}', "nonsense", "[" * 5000])
def test_an_event_without_a_position_is_an_error(data: str):
    Followed(HEAD, f"data: {data}\n\n".encode()).fails(errors.ProtocolError)


LIVE = 'data: {"position":null,"kind":"agent.presence","data":null}\n\n'


def test_an_event_of_the_moment_is_handed_out_and_the_position_stays():
    followed = Followed(HEAD, stream_of(LIVE, 4, LIVE, LIVE, 5), b"", HEAD, stream_of(5, LIVE)).run()
    assert (followed.positions, followed.live) == ([4, 5], ["agent.presence"] * 4)
    assert (followed.opened, followed.place.position) == ([None, 5], 5)


def test_events_of_kinds_that_are_not_known_yet_are_passed_over():
    assert Followed(HEAD, stream_of("event: hint\ndata: x\n\n", 4)).run().positions == [4]


def test_the_relay_says_how_long_to_wait():
    followed = Followed(*refusal(429, "rate_limited", retry_after="7"), HEAD, stream_of(4)).run()
    [(kind, seconds)] = followed.lost
    assert kind is errors.RateLimited
    assert 7 <= seconds < 8


def test_a_stream_may_say_how_long_to_wait():
    followed = Followed(HEAD, b"retry: 9000\n\n", b"", HEAD).run()
    assert 9 <= followed.lost[0][1] < 10


def test_pauses_grow_to_half_a_minute_and_begin_anew_after_a_stream_that_lived():
    failing = [errors.ConnectionFailed()] * 12
    followed = Followed(*failing, HEAD, stream_of(4), b"", HEAD, lives=8).run()
    seconds = [pause for _, pause in followed.lost]
    assert seconds[:12] == sorted(seconds[:12])
    assert (seconds[0] < 0.3, 20 < seconds[11] <= 30, seconds[12] < 0.3) == (True, True, True)


def test_a_stream_that_is_opened_and_cut_off_at_once_is_not_opened_in_a_tight_loop():
    followed = Followed(*[HEAD, stream_of("id: 4\n\n"), b""] * 8, HEAD).run()
    assert followed.lost[-1][1] > 5


def test_moving_the_position_reads_on_from_there_without_a_pause():
    followed = Followed(HEAD, stream_of(4, 5, 6), HEAD, stream_of(2, 3, 4))

    def back_once(position: int) -> None:
        if position == 5:
            followed.on_event = lambda position: None
            followed.place.move(1)

    followed.on_event = back_once
    followed.run()
    assert (followed.positions, followed.opened, followed.lost) == ([4, 5, 2, 3, 4], [None, 1], [])


@given(st.lists(st.lists(st.integers(1, 60), max_size=10), min_size=1, max_size=6), st.data())
def test_whatever_breaks_off_there_are_no_gaps_and_nothing_comes_twice(streams: list[list[int]], data: st.DataObject):
    """A relay that gives everything after the position it is asked for, and breaks off anywhere."""
    log = sorted({position for some in streams for position in some})
    followed = Followed(since=0)
    answers: list[Any] = []
    reached = 0
    for _ in streams:
        whole = stream_of(*[position for position in log if position > reached])
        kept = whole[: data.draw(st.integers(0, len(whole)))]
        answers += [HEAD, kept, b""] if kept else [HEAD, b""]
        reached = max([reached, *(int(block.id or 0) for block in parsed(kept))])
    followed.answers = [*answers, HEAD, stream_of(*[position for position in log if position > reached]) or b": x\n"]
    assert followed.run().positions == log


# The objects


@pytest.mark.parametrize(
    "given_", [{"since": -1}, {"channel": "No name"}, {"kind": "Message"}, {"since": "5"}], ids=str
)
def test_arguments_are_checked_at_once(given_: dict[str, Any]):
    with pytest.raises(errors.InvalidArguments):
        Client("http://127.0.0.1:1", "k").events(**given_)


@pytest.mark.parametrize("position", [-1, "5", None, True, 1.5])
def test_a_position_is_a_number(position: Any):
    with Client("http://127.0.0.1:1", "k").events(since=5) as events, pytest.raises(errors.InvalidArguments):
        events.position = position
