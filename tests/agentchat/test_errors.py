"""The error tree, the one table of codes, and what becomes of a refusal."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Iterator
from typing import Any

import pytest

from agentchat import errors
from agentchat.errors import CODES, RETRYABLE, AgentChatError, from_response

# DECISIONS "Errors": code -> status, class, and whether the same call may succeed later.
DECIDED = {
    "bad_request": (400, errors.BadRequest),
    "bad_cursor": (400, errors.BadRequest),
    "unauthorized": (401, errors.Unauthorized),
    "forbidden": (403, errors.Forbidden),
    "not_found": (404, errors.NotFound),
    "unknown_operation": (404, errors.NotFound),
    "conflict": (409, errors.Conflict),
    "idempotency_mismatch": (409, errors.Conflict),
    "loop_guard": (409, errors.Conflict),
    "stale_fence": (409, errors.Conflict),
    "position_expired": (410, errors.PositionExpired),
    "too_large": (413, errors.TooLarge),
    "agent_limit": (429, errors.LimitReached),
    "channel_limit": (429, errors.LimitReached),
    "rate_limited": (429, errors.RateLimited),
    "unavailable": (503, errors.Unavailable),
    "storage_full": (507, errors.StorageFull),
}

# What relays and proxies without codes send.
BY_STATUS: dict[int, tuple[type[AgentChatError], str, bool]] = {
    400: (errors.BadRequest, "bad_request", False),
    401: (errors.Unauthorized, "unauthorized", False),
    403: (errors.Forbidden, "forbidden", False),
    404: (errors.NotFound, "not_found", False),
    405: (errors.CallerError, "bad_request", False),
    409: (errors.Conflict, "conflict", False),
    410: (errors.PositionExpired, "position_expired", False),
    413: (errors.TooLarge, "too_large", False),
    418: (errors.CallerError, "bad_request", False),
    422: (errors.BadRequest, "bad_request", False),
    429: (errors.RateLimited, "rate_limited", True),
    500: (errors.RelayError, "internal_error", False),
    501: (errors.RelayError, "internal_error", False),
    502: (errors.Unavailable, "unavailable", True),
    503: (errors.Unavailable, "unavailable", True),
    504: (errors.Unavailable, "unavailable", True),
    507: (errors.StorageFull, "storage_full", False),
    599: (errors.RelayError, "internal_error", False),
}


def classes(top: type[AgentChatError] = AgentChatError) -> Iterator[type[AgentChatError]]:
    yield top
    for below in top.__subclasses__():
        yield from classes(below)


ALL = [kind for kind in classes() if kind.__module__ == "agentchat.errors"]


# The tree


def drawn() -> dict[str, tuple[str | None, str]]:
    """Class name -> the class above it and the words beside it, as the module's docstring draws them."""
    found: dict[str, tuple[str | None, str]] = {}
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if drawing := re.fullmatch(r"    ([│├└─ ]*)([A-Z]\w+) *(.*)", line):
            depth = len(drawing[1])
            found[drawing[2]] = (above.get(depth - 4), drawing[3])
            above[depth] = drawing[2]
    return found


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert {name: parent for name, (parent, _) in drawn().items()} == {
        kind.__name__: kind.__base__.__name__ if kind is not AgentChatError else None for kind in ALL
    }


def test_the_docstring_names_each_status_and_code_beside_its_class() -> None:
    beside = {name: words for name, (_, words) in drawn().items()}
    for code, (status, kind) in CODES.items():
        told = re.match(r"(\d+)  ([^:(]+)", re.sub(r" \(.*?\)", "", beside[kind.__name__]))
        assert told is not None
        assert int(told[1]) == status
        assert code in re.split(r", *", told[2].strip())


def test_our_errors_are_no_other_librarys() -> None:
    assert AgentChatError.__bases__ == (Exception,)
    assert all(len(kind.__bases__) == 1 for kind in ALL)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_the_docstring_is_the_default_message(kind: type[AgentChatError]) -> None:
    error = kind()
    assert "__doc__" in vars(kind)
    assert str(error) == error.message == (kind.__doc__ or "").strip()
    assert re.fullmatch(r"[A-Z][^\n]+[.?]", error.message)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_has_a_code_and_the_fields_it_was_given(kind: type[AgentChatError]) -> None:
    bare = kind("Text")
    assert re.fullmatch("[a-z_]+", bare.code)
    assert (bare.status, bare.retry_after, bare.request_id, bare.details) == (None, None, None, {})
    full = kind("Text", code="conflict", status=409, retry_after=1.5, request_id="r", details={"near": []})
    assert (full.code, full.status, full.retry_after, full.request_id) == ("conflict", 409, 1.5, "r")
    assert full.details == {"near": []}


# Codes


def test_the_table_of_codes_is_the_decided_one() -> None:
    assert CODES == DECIDED


def test_only_rate_limits_unavailability_and_the_network_may_be_retried() -> None:
    assert {"rate_limited", "unavailable", "network_error", "timed_out"} == RETRYABLE
    retryable = {kind for kind in ALL if kind().retryable}
    assert retryable == {
        errors.RateLimited,
        errors.Unavailable,
        errors.NetworkError,
        errors.ConnectionFailed,
        errors.TimedOut,
    }


@pytest.mark.parametrize(("code", "row"), DECIDED.items())
@pytest.mark.parametrize("status", [None, 400, 500])
def test_the_code_decides_whatever_the_status(
    code: str, row: tuple[int, type[AgentChatError]], status: int | None
) -> None:
    error = from_response(status or row[0], {"error": "Told.", "code": code})
    assert type(error) is row[1]
    assert (error.code, error.status, error.message) == (code, status or row[0], "Told.")
    assert error.retryable is (code in ("rate_limited", "unavailable"))


@pytest.mark.parametrize(
    "body", [{"error": "Told."}, {"error": "Told.", "code": "of_tomorrow"}], ids=["none", "unknown"]
)
@pytest.mark.parametrize(("status", "wanted"), BY_STATUS.items())
def test_without_a_known_code_the_status_decides(
    status: int, wanted: tuple[type[AgentChatError], str, bool], body: dict[str, Any]
) -> None:
    error = from_response(status, body)
    assert (type(error), error.code, error.retryable) == wanted
    assert (error.message, error.status) == ("Told.", status)


@pytest.mark.parametrize("junk", [None, 5, "", [], {"message": "x"}, True], ids=repr)
def test_odd_members_of_a_refusal_are_as_good_as_none(junk: object) -> None:
    error = from_response(404, {"error": junk, "code": junk})
    assert type(error) is errors.NotFound
    assert (error.message, error.code) == (errors.NotFound.__doc__, "not_found")


def test_a_refusal_keeps_everything_else_the_relay_said() -> None:
    body = {"error": "Gone", "code": "position_expired", "first": 7}
    error = from_response(410, body, retry_after=2.0, request_id="r1")
    assert (error.details, error.retry_after, error.request_id) == ({"first": 7}, 2.0, "r1")


def test_near_names_and_the_current_state_are_read_only_where_they_fit() -> None:
    near = from_response(404, {"code": "not_found", "near": ["general", 5, None]})
    assert isinstance(near, errors.NotFound)
    assert near.near == ["general"]
    assert errors.NotFound(details={"near": "general"}).near == []
    current = from_response(409, {"code": "conflict", "current": {"state": "done"}})
    assert isinstance(current, errors.Conflict)
    assert current.current == {"state": "done"}
    assert errors.Conflict(details={"current": "done"}).current is None


# Copies


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_a_copied_error_keeps_every_field(kind: type[AgentChatError], again: Any) -> None:
    error = kind("Told.", code="loop_guard", status=409, retry_after=3.0, request_id="r", details={"turns": [1]})
    error.add_note("in a test")
    twin = again(error)
    assert type(twin) is kind
    assert vars(twin) == vars(error)
    assert (str(twin), twin.args, twin.retryable) == (str(error), error.args, error.retryable)


def test_a_copied_error_without_details_keeps_its_default_message() -> None:
    twin = pickle.loads(pickle.dumps(errors.TimedOut()))
    assert (str(twin), twin.code, twin.details) == (errors.TimedOut.__doc__, "timed_out", {})
