"""One exchange, without I/O: requests and answers as data, and the generator driven by hand with a clock of its own."""

from __future__ import annotations

import contextlib
import json
import time
from email.utils import formatdate
from typing import Any, get_args, get_origin, get_type_hints
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat import Client, errors, types
from agentchat._arguments import check
from agentchat._exchange import (
    IDEMPOTENCY_HEADER,
    KEY_HEADER,
    NeedKey,
    Options,
    Patience,
    Pause,
    Request,
    Response,
    build_request,
    exchange,
    new_idempotency_key,
    read_response,
)
from agentchat._operation import Operation
from agentchat.contract import OPERATIONS, Admission, Contract
from tests.servers import ID, enveloped

EVERY = {**OPERATIONS, "register": Admission.register}
DATA = {"channels": [], "marked_read": 0}  # fits a read and a write
OK = Response(200, {}, json.dumps(enveloped(DATA)).encode())


def refusal(status: int, code: str | None = None, **headers: str) -> Response:
    body = {"error": "no"} | ({"code": code} if code else {})
    return Response(status, {name.replace("_", "-"): text for name, text in headers.items()}, json.dumps(body).encode())


class Driven:
    """Drives one exchange with answers, the last one for ever. Only its pauses and `takes` move its clock."""

    def __init__(
        self,
        *answers,
        operation=Contract.check_board,
        keys=("first",),
        keyed=False,
        takes=0,
        jitter=0.5,
        patience=None,
        **options,
    ):
        self.now, self.takes = 1000.0, takes
        self.answers, self.keys = list(answers), list(keys)
        self.refused, self.requests, self.pauses = [], [], []
        extra = {IDEMPOTENCY_HEADER: "once"} if keyed else {}
        self._steps = exchange(
            operation,
            lambda key, timeout: build_request(operation, {}, {**extra, KEY_HEADER: str(key)}, timeout),
            Options(**options),
            clock=lambda: self.now,
            jitter=lambda: jitter,
            patience=patience,
        )

    def run(self) -> Any:
        answer: Any = None
        while True:
            try:
                step = self._steps.send(answer)
            except StopIteration as done:
                return done.value
            answer = self._do(step)

    def _do(self, step: object) -> Any:
        if isinstance(step, NeedKey):
            self.refused.append(step.refused)
            return self.keys.pop(0)
        if isinstance(step, Pause):
            self.pauses.append(step.seconds)
            self.now += step.seconds
            return None
        assert isinstance(step, Request)
        self.requests.append(step)
        self.now += self.takes
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def fail(self, kind: type[errors.AgentChatError]) -> errors.AgentChatError:
        with pytest.raises(kind) as caught:
            self.run()
        assert type(caught.value) is kind
        return caught.value


@pytest.mark.parametrize("data", [DATA, enveloped(DATA)], ids=["plain", "enveloped"])
def test_a_success_is_one_request_with_the_key_and_no_pause(data: dict[str, Any]):
    driven = Driven(Response(200, {}, json.dumps(data).encode()))
    assert driven.run() == DATA
    assert [request.headers[KEY_HEADER] for request in driven.requests] == ["first"]
    assert (driven.refused, driven.pauses) == ([None], [])


@pytest.mark.parametrize("body", [b'{"_airchat":"response","data":1}', b"\xff\x00", b"", b"[]"])
@pytest.mark.parametrize(("sent", "told"), [({"content-type": "text/x"}, "text/x"), ({}, "application/octet-stream")])
def test_a_file_is_its_raw_bytes_even_if_they_look_like_an_envelope(sent: dict[str, str], told: str, body: bytes):
    content = read_response(Contract.download_file, Response(200, sent, body))
    assert content == {"content_type": told, "content": body}


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>hello</html>", b"null", b"7", b'"text"', b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000),
        *(b"{}", b'{"channels":null}', b'{"channels":{}}', b'{"channels":"x"}', b'{"channels":[1]}'),
        *(b'{"_airchat":"response"}', b'{"_airchat":"response","data":null}', b'{"_airchat":"response","data":[]}'),
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_success_that_does_not_follow_the_contract_is_a_protocol_error_with_the_request_id(body: bytes):
    with pytest.raises(errors.ProtocolError) as caught:
        read_response(Contract.check_board, Response(200, {"x-request-id": "r1"}, body))
    assert (caught.value.status, caught.value.request_id, caught.value.retryable) == (200, "r1", False)
    assert "check_board" in caught.value.message


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_a_redirect_is_reported_and_never_followed(status: int):
    driven = Driven(Response(status, {"location": "https://evil.test/steal?" + "x" * 1000}, b""))
    error = driven.fail(errors.ProtocolError)
    assert len(driven.requests) == 1
    assert "https://evil.test/steal" in error.message and len(error.message) < 500


PASSING = [
    *(refusal(429), refusal(429, "rate_limited", retry_after="1"), refusal(500, "unavailable")),
    *(refusal(502), refusal(503), refusal(504), Response(503, {}, b"<html>proxy</html>")),
    *(errors.ConnectionFailed(), errors.TimedOut(), errors.NetworkError()),
]


@pytest.mark.parametrize("answer", PASSING, ids=range(len(PASSING)))
def test_a_passing_failure_is_tried_again_after_a_pause(answer: Response | errors.NetworkError):
    driven = Driven(answer, OK)
    assert driven.run() == DATA
    assert (len(driven.requests), len(driven.pauses)) == (2, 1)


@pytest.mark.parametrize("code", sorted(errors.CODES.keys() - {"rate_limited", "unavailable"}))
@pytest.mark.parametrize("status", [None, 429, 503], ids=["its-status", "429", "503"])
def test_no_other_code_is_tried_again_whatever_its_status(code: str, status: int | None):
    expected, kind = errors.CODES[code]
    driven = Driven(refusal(status or expected, code, retry_after="1"), keys=("first", None))
    assert driven.fail(kind).code == code
    assert len(driven.requests) == 1


@pytest.mark.parametrize("answer", [refusal(500), refusal(418), Response(200, {}, b"{}"), Response(500, {}, b"<p>")])
def test_an_answer_of_no_known_code_is_not_tried_again(answer: Response):
    driven = Driven(answer, OK)
    with pytest.raises(errors.AgentChatError):
        driven.run()
    assert len(driven.requests) == 1


@pytest.mark.parametrize("operation", [Contract.send_message, Contract.upload_file, Contract.mark_mentions_read])
@pytest.mark.parametrize(("keyed", "attempts"), [(False, 1), (True, 4)])
def test_a_write_is_tried_again_only_with_an_idempotency_key(operation: Any, keyed: bool, attempts: int):
    driven = Driven(errors.ConnectionFailed(), operation=operation, keyed=keyed, retries=3)
    driven.fail(errors.ConnectionFailed)
    assert len(driven.requests) == attempts


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_the_last_failure_is_raised_after_the_retries(retries: int):
    driven = Driven(errors.TimedOut("a"), *[refusal(503)] * retries, deadline=1e6, retries=retries)
    driven.fail(errors.Unavailable if retries else errors.TimedOut)
    assert (len(driven.requests), len(driven.pauses)) == (retries + 1, retries)


def test_pauses_grow_up_to_a_bound_and_depend_on_the_jitter():
    low, high = (Driven(refusal(503), deadline=1e6, retries=9, jitter=jitter) for jitter in (0.0, 0.99))
    for driven in (low, high):
        driven.fail(errors.Unavailable)
        assert driven.pauses == sorted(driven.pauses)
        assert 0.05 < driven.pauses[0] < 0.5
        assert driven.pauses[-1] <= 5.0
    assert all(short < long for short, long in zip(low.pauses, high.pauses, strict=True))


def test_a_write_of_a_client_keeps_its_idempotency_key_and_body_across_attempts():
    client = Client("http://127.0.0.1:1", "secret")
    steps = client._steps(Contract.send_message, {"channel": "general", "content": "hello"})
    steps.send(None)
    first = steps.send("secret")
    assert isinstance(steps.send(errors.TimedOut()), Pause)
    second = steps.send(None)
    assert first.headers[IDEMPOTENCY_HEADER] == second.headers[IDEMPOTENCY_HEADER]
    assert (first.method, first.path, first.body) == (second.method, second.path, second.body)


def test_idempotency_keys_differ_and_sort_by_time():
    keys = [new_idempotency_key() for _ in range(1000)]
    assert len(set(keys)) == 1000
    assert [key[:12] for key in keys] == sorted(key[:12] for key in keys)
    assert all(len(key) <= 128 and key.isalnum() and key.isascii() for key in keys)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("wish", "low", "high"),
    [
        *(("0", 0, 0.5), ("1", 1, 1.5), ("7", 7, 7.5), ("29.5", 29.5, 30), ("in 40 s", 5, 41)),
        *((wish, 0, 1) for wish in (formatdate(0), "-5", "soon", "", "nan", "inf", "-inf", "1e300", "Mon, 99")),
    ],
)
def test_the_pause_is_what_the_relay_asked_for_if_it_can_be_read(status: int, wish: str, low: float, high: float):
    if wish == "in 40 s":
        wish = formatdate(time.time() + 40)
    driven = Driven(refusal(status, retry_after=wish), OK, jitter=0.99)
    driven.run()
    assert low < driven.pauses[0] < high


@pytest.mark.parametrize(("header", "value"), [("12", 12.0), ("0", 0.0), (None, None), ("soon", None)])
def test_an_error_carries_what_the_relay_said(header: str | None, value: float | None):
    headers = {"x-request-id": "r9"} | ({"retry-after": header} if header else {})
    body = json.dumps({"error": "Slow down", "code": "rate_limited", "bucket": "write"}).encode()
    with pytest.raises(errors.RateLimited) as caught:
        read_response(Contract.check_board, Response(429, headers, body))
    error = caught.value
    assert (error.message, error.status, error.request_id, error.retry_after) == ("Slow down", 429, "r9", value)
    assert error.details == {"bucket": "write"} and error.retryable


@pytest.mark.parametrize("asked", [46, 120, 86_400])
def test_a_wish_beyond_the_deadline_raises_the_refusal_at_once(asked: int):
    driven = Driven(refusal(429, retry_after=str(asked)), deadline=45)
    assert driven.fail(errors.RateLimited).retry_after == asked
    assert (len(driven.requests), driven.pauses) == (1, [])


def test_time_used_by_attempts_counts_against_the_deadline_and_the_last_time_out_shrinks_to_what_is_left():
    driven = Driven(refusal(503), timeout=10, deadline=25, retries=100, takes=10)
    driven.fail(errors.Unavailable)
    full, also_full, last = [request.timeout for request in driven.requests]
    assert full == also_full == 10 and 0 < last < 5


def test_a_silent_relay_is_a_time_out_that_names_the_deadline():
    driven = Driven(errors.TimedOut("within 10 s"), timeout=10, deadline=12, takes=11.9)
    error = driven.fail(errors.TimedOut)
    assert "12 s" in error.message
    assert isinstance(error.__cause__, errors.TimedOut)


@given(
    answers=st.lists(st.sampled_from([*PASSING, refusal(401), refusal(404), OK]), min_size=1, max_size=20),
    takes=st.floats(0, 20),
    retries=st.integers(0, 20),
    deadline=st.floats(0.01, 60),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_no_pause_or_attempt_starts_after_the_deadline(answers: list[Any], takes: float, retries: int, **more: float):
    driven = Driven(*answers, keys=("first", "second"), takes=takes, timeout=10, retries=retries, **more)
    with contextlib.suppress(errors.AgentChatError):
        assert driven.run() == DATA
    renewals = len(driven.refused) - 1
    assert len(driven.requests) <= 1 + retries + renewals
    assert sum(driven.pauses) < more["deadline"]
    assert driven.now - 1000 <= more["deadline"] + takes * (1 + renewals) + 1e-6
    assert all(0 < request.timeout <= 10 for request in driven.requests)


# Waits, which outlast a relay that is away


def hung_up() -> errors.ConnectionFailed:
    error = errors.ConnectionFailed()
    error.reached = True
    return error


AWAY = [errors.ConnectionFailed() for _ in range(12)]


@pytest.mark.parametrize("first", [hung_up(), refusal(503), refusal(502)])
def test_a_wait_outlasts_a_relay_that_was_there(first: Any):
    driven = Driven(first, *AWAY, OK, patience=Patience(1060, 45, False))
    assert driven.run() == DATA
    assert len(driven.requests) == 14
    assert driven.pauses == sorted(driven.pauses) and max(driven.pauses) <= 5


def test_a_wait_for_one_that_was_met_before_outlasts_its_being_away():
    assert Driven(*AWAY, OK, patience=Patience(1060, 45, True)).run() == DATA


def test_where_nobody_ever_was_a_wait_fails_as_soon_as_any_call():
    driven = Driven(*AWAY, OK, patience=Patience(1600, 45, False))
    driven.fail(errors.ConnectionFailed)
    assert len(driven.requests) == 4 and driven.now < 1003


def test_who_wants_no_retries_has_none_in_a_wait():
    driven = Driven(hung_up(), OK, retries=0, patience=Patience(1060, 45, True))
    driven.fail(errors.ConnectionFailed)
    assert len(driven.requests) == 1


def test_a_write_without_a_key_is_not_repeated_for_a_wait_either():
    driven = Driven(hung_up(), OK, operation=Contract.acquire_lock, patience=Patience(1060, 45, True))
    driven.fail(errors.ConnectionFailed)


@given(takes=st.floats(0, 20), jitter=st.floats(0, 1, exclude_max=True), lasts=st.floats(0, 600))
def test_when_a_wait_is_over_it_raises_what_it_had(takes: float, jitter: float, lasts: float):
    patience = Patience(1000 + lasts, 45, True)
    driven = Driven(refusal(503), takes=takes, jitter=jitter, timeout=10, deadline=45, patience=patience)
    driven.fail(errors.Unavailable)
    assert lasts - takes - 5 <= driven.now - 1000 <= max(lasts, 0) + 45 + takes
    assert all(0 < request.timeout <= 10 for request in driven.requests)


@pytest.mark.parametrize(
    ("answers", "keys", "sent"),
    [
        ([refusal(401), OK], ("first", "second"), ["first", "second"]),
        ([refusal(401), refusal(503), OK], ("first", "second"), ["first", "second", "second"]),
        ([refusal(401)], ("first", None), ["first"]),
        ([refusal(401)], ("first", "first"), ["first"]),
        ([refusal(401)], ("first", "second"), ["first", "second"]),
        ([refusal(401), refusal(503), refusal(401)], ("first", "second"), ["first", "second", "second"]),
        ([refusal(503), refusal(401), OK], ("first", "second"), ["first", "first", "second"]),
    ],
    ids=["renewed", "then-busy", "none", "the-same", "both-refused", "refused-after-retry", "revoked-in-between"],
)
@pytest.mark.parametrize("operation", [Contract.check_board, Contract.mark_mentions_read])
def test_a_refused_key_is_renewed_once(operation: Any, answers: list[Response], keys: tuple[str], sent: list[str]):
    driven = Driven(*answers, operation=operation, keyed=True, keys=keys)
    with contextlib.nullcontext() if answers[-1] is OK else pytest.raises(errors.Unauthorized):
        driven.run()
    assert [request.headers[KEY_HEADER] for request in driven.requests] == sent
    assert driven.refused == [None, "first"]


def test_the_text_of_a_request_hides_headers_and_body():
    request = build_request(Contract.send_message, {"content": "private"}, {KEY_HEADER: "secret"}, 1.0)
    assert repr(request) == str(request) == f"{request}" == "<request POST /api/v2/messages>"
    assert "secret" not in f"{(request,)!r}{[request]}"


@pytest.mark.parametrize(
    ("operation", "arguments", "target"),
    [
        (Contract.check_board, {}, "/api/v2/board"),
        (Contract.read_messages, {"channel": "general", "limit": 5}, "/api/v2/messages?channel=general&limit=5"),
        (Contract.check_mentions, {"unread": False}, "/api/v2/mentions?unread=false"),
        (Contract.check_mentions, {"unread": True}, "/api/v2/mentions?unread=true"),
        (Contract.search_messages, {"query": "a b&c=d#é"}, "/api/v2/search?q=a+b%26c%3Dd%23%C3%A9"),
        (Contract.get_message, {"message_id": ID, "offset": 9}, f"/api/v2/messages/{ID}?offset=9"),
        (Contract.get_file_url, {"path": "a/b c"}, "/api/files?url=true&path=a%2Fb+c"),
    ],
)
def test_a_read_travels_as_a_query(operation: Operation[..., Any], arguments: dict[str, Any], target: str):
    request = build_request(operation, arguments, {}, 1.0)
    assert (request.method, request.path, request.body) == ("GET", target, None)


def test_nested_wire_names_become_nested_objects():
    arguments = {"role": "reviewer", "capabilities": ["a", "b"], "plan": "api"}
    request = build_request(Contract.set_card, arguments, {}, 1.0)
    assert json.loads(request.body or b"") == {"card": arguments}


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_survives_a_query_and_a_body(first: str, second: str):
    query = urlsplit(build_request(Contract.search_messages, {"query": first, "channel": second}, {}, 1.0).path).query
    assert parse_qs(query, keep_blank_values=True, strict_parsing=True) == {"q": [first], "channel": [second]}
    body = build_request(Contract.send_message, {"channel": first, "content": second}, {}, 1.0).body
    assert json.loads(body or b"") == {"channel": first, "content": second}


FEW = settings(max_examples=35, deadline=None)  # for each of many operations
HOSTILE = ["..", "../board", "a/b", "%2e%2e", "..%2f", "?x=1", "#x", "{message_id}", "a\r\nx: y", "\0", "é", " ", "\\"]
PATH_TEXT = st.text() | st.lists(st.sampled_from([ID, "/", ".", "\n", *HOSTILE]) | st.text(max_size=3)).map("".join)
IN_PATH = [(op, name) for op in EVERY.values() for name in op.parameters if f"{{{name}}}" in op.path]


@pytest.mark.parametrize(("operation", "name"), IN_PATH, ids=str)
@FEW
@given(text=PATH_TEXT)
def test_any_text_in_a_path_stays_one_segment(operation: Operation[..., Any], name: str, text: str):
    path = build_request(operation, {name: text}, {}, 1.0).path
    assert path.isascii() and path.isprintable() and not set(path) & set(" ?#\\")
    for declared, sent in zip(operation.path.split("/"), path.split("/"), strict=True):
        assert unquote(sent) == text if declared == f"{{{name}}}" else sent == declared


@pytest.mark.parametrize(("operation", "name"), IN_PATH, ids=str)
@FEW
@given(text=PATH_TEXT | st.sampled_from(["", ".", "..", "\ud800"]))
def test_a_path_argument_that_could_change_the_route_is_refused(operation: Operation[..., Any], name: str, text: str):
    """Empty and dot segments cannot be quoted away, so the declaration has to refuse them."""
    try:
        arguments = check(operation, {name: text})
    except errors.InvalidArguments:
        return
    assert build_request(operation, arguments, {}, 1.0).path == operation.path.replace(f"{{{name}}}", text)
    assert text not in ("", ".", "..")


# Anything may come back.
VALUES = st.recursive(
    st.sampled_from([None, True, 1, 1e999, "x", [], {}, [{}], [1]]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
CODES = st.sampled_from([*errors.CODES, "other"])
DATE_PARTS = ["Mon,", "06", "-1", "Nov", "1994", "99999", "08:49:37", "25:61", "GMT", "+9999", "-0000", "nan", "1e9"]
WISHES = st.text(max_size=9) | st.floats().map(str) | st.lists(st.sampled_from(DATE_PARTS)).map(" ".join)
FIELDS = st.fixed_dictionaries(
    {}, optional={"retry-after": WISHES, "location": st.text(), "content-type": st.text(), "x-request-id": st.text()}
)


def bodies(operation: Operation[..., Any]) -> st.SearchStrategy[bytes]:
    """Bytes, JSON, and objects that are nearly or quite what the operation answers with."""
    nearly = st.fixed_dictionaries(
        {},
        optional={"error": VALUES, "code": CODES | VALUES, **dict.fromkeys(operation.result.__annotations__, VALUES)},
    )
    return st.binary(max_size=50) | (VALUES | nearly | nearly.map(enveloped)).map(json.dumps).map(str.encode)


def holds(hint: Any, value: object) -> bool:
    """Whether a value has the outermost form of a type."""
    if get_origin(hint) is list:
        return isinstance(value, list) and all(holds(get_args(hint)[0], row) for row in value)
    kind = dict if hasattr(hint, "__required_keys__") else hint
    return isinstance(value, kind) if kind in (dict, str, int, bytes) else True


@pytest.mark.parametrize("operation", EVERY.values(), ids=list(EVERY))
@FEW
@given(data=st.data(), status=st.integers(100, 599) | st.just(200), headers=FIELDS)
def test_any_answer_is_a_result_of_the_declared_shape_or_one_of_our_errors(
    operation: Operation[..., Any], data: st.DataObject, status: int, headers: dict[str, str]
):
    body = data.draw(bodies(operation))
    try:
        result = read_response(operation, Response(status, headers, body))
    except errors.AgentChatError as error:
        assert error.message and error.status == status and error.code
        assert error.retry_after is None or 0 <= error.retry_after < 1e9
        return
    assert 200 <= status < 300
    hints = get_type_hints(operation.result)
    assert all(holds(hints[name], result[name]) for name in operation.result.__required_keys__)
    assert operation.result is not types.FileContent or result["content"] == body
