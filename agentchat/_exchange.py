"""One exchange with the relay, without I/O.

`exchange` is a generator. It yields what must be done next: fetch the key (`NeedKey`), send a `Request`, wait
(`Pause`). The driver does it and sends the outcome back: the key, a `Response` or the `NetworkError` it met, nothing.
It ends with the result or raises one of ours. Sync and async clients differ in their drivers only.

Retrying follows the error's code (errors.RETRYABLE), and only calls that are safe to repeat: reads, and writes that
carry an idempotency key, which stays the same across the attempts.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator, Mapping
from math import inf
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar, cast, get_args, get_origin
from urllib.parse import quote, urlencode

from . import types
from ._operation import Operation
from .errors import (
    AgentChatError,
    NetworkError,
    ProtocolError,
    TimedOut,
    Unauthorized,
    from_response,
)

R = TypeVar("R")

KEY_HEADER = "x-agent-api-key"
SESSION_HEADER = "x-agent-session"
SCOPES_HEADER = "x-agent-scopes"
IDEMPOTENCY_HEADER = "idempotency-key"
ENVELOPE = "_airchat"

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Request(NamedTuple):
    """What to send: `path` is relative to the relay's URL and holds the query."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    timeout: float

    def __repr__(self) -> str:
        """Without the headers, which hold the key, and without the body, which holds what agents say."""
        return f"<request {self.method} {self.path}>"


class Headers(Protocol):
    """Response headers: a mapping that finds lowercase names."""

    def get(self, name: str, /) -> str | None: ...


class Response(NamedTuple):
    status: int
    headers: Headers
    body: bytes


class Pause(NamedTuple):
    """Wait this long, then send None."""

    seconds: float


class NeedKey(NamedTuple):
    """Send the agent's key, or one that is not the refused one, or None if there is none, within `timeout` seconds."""

    refused: str | None
    timeout: float


class Options(NamedTuple):
    """How long and how hard to try. `timeout` is for one attempt, `deadline` for all of them together."""

    timeout: float = 10.0
    deadline: float = 45.0
    retries: int = 3
    idempotency_key: str | None = None


class Patience(NamedTuple):
    """What a wait has beyond the retries of a call: attempts begin until then, and may end `grace` seconds later.

    Only where somebody is known to be there, by this wait or before (`is_met`): a wrong URL fails at once. Who wants no
    retries has none here either.
    """

    until: float
    grace: float
    is_met: bool


Step = NeedKey | Request | Pause
Steps = Generator[Step, Any, R]


def new_idempotency_key() -> str:
    """A key for one write. Keys made in order sort in order, which keeps the relay's index small and warm."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def build_request(
    operation: Operation[..., Any], arguments: Mapping[str, Any], headers: dict[str, str], timeout: float
) -> Request:
    """Checked arguments as a request. Every path segment is quoted."""
    path = operation.path
    members: dict[str, Any] = {}
    for name, value in arguments.items():
        if "{" in path and f"{{{name}}}" in path:
            path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
            continue
        *outer, last = operation.parameters[name].wire
        target = members
        for step in outer:
            target = target.setdefault(step, {})
        target[last] = value
    if operation.verb != "GET":
        return Request(operation.verb, path, headers, _encode(members).encode(), timeout)
    if members:
        query = urlencode({name: _query_text(value) for name, value in members.items()})
        path += ("&" if "?" in path else "?") + query
    return Request("GET", path, headers, None, timeout)


def _query_text(value: object) -> object:
    return ("false", "true")[value] if isinstance(value, bool) else value


def read_response(operation: Operation[..., R], response: Response) -> R:
    """The operation's result, or the error the answer stands for."""
    status, headers, body = response
    if not 200 <= status < 300:
        raise refusal(status, headers, body)
    if operation.result is types.FileContent:
        content_type = headers.get("content-type") or "application/octet-stream"
        return cast("R", types.FileContent(content_type=content_type, content=body))
    data = _decode(body)
    if isinstance(data, dict) and data.get(ENVELOPE) == "response":
        data = data.get("data")
    if problem := _misfit(operation.result, data):
        raise ProtocolError(
            f"{operation.name}: the relay's answer does not follow the contract ({problem}); "
            "is the URL really an AgentChat relay?",
            status=status,
            request_id=headers.get("x-request-id"),
        )
    return cast("R", data)


def _decode(body: bytes) -> Any:
    """JSON, or None for anything else."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


_CONTAINERS = {dict: "an object", list: "a list", str: "text", int: "a number"}


def _misfit(result: Any, data: object) -> str | None:
    """What is wrong with an answer's outer shape. Rows are the renderers' business: they survive any row."""
    if not isinstance(data, dict):
        return "not a JSON object"
    for name in result.__required_keys__:
        if name not in data:
            return f"no member {name}"
        annotation = result.__annotations__[name]
        expected = get_origin(annotation) or annotation
        expected = dict if isinstance(expected, type) and hasattr(expected, "__required_keys__") else expected
        value = data[name]
        if expected in _CONTAINERS and not isinstance(value, expected):
            return f"{name} is not {_CONTAINERS[expected]}"
        if expected is list and get_args(annotation)[0] is not str and not all(isinstance(row, dict) for row in value):
            return f"{name} holds something else than objects"
    return None


def refusal(status: int, headers: Headers, body: bytes) -> AgentChatError:
    """The error that an unsuccessful answer stands for."""
    if 300 <= status < 400:
        where = headers.get("location") or "another address"
        return ProtocolError(
            f"The relay's URL redirects to {where[:200]!r}; the key is never sent on. "
            "Set AGENTCHAT_URL to the final URL.",
            status=status,
        )
    content = _decode(body)
    return from_response(
        status,
        content if isinstance(content, dict) else None,
        retry_after=_retry_after(headers.get("retry-after")),
        request_id=headers.get("x-request-id"),
    )


def _retry_after(value: str | None) -> float | None:
    """Seconds, from either of the header's two forms."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if seconds < 1e9 else None


def _random() -> float:
    return int.from_bytes(os.urandom(4), "big") / 2**32


def exchange(
    operation: Operation[..., R],
    build: Callable[[str | None, float], Request],
    options: Options,
    *,
    clock: Callable[[], float] = time.monotonic,
    jitter: Callable[[], float] = _random,
    patience: Patience | None = None,
) -> Steps[R]:
    """All the steps of one call. `build(key, timeout)` makes the request of one attempt."""
    deadline = clock() + options.deadline
    until, grace, is_met = patience or Patience(-inf, 0.0, False)
    key: str | None = yield NeedKey(None, options.deadline)
    renewed = False
    attempt = 0
    while True:
        timeout = min(options.timeout, max(deadline - clock(), 0.001))
        request = build(key, timeout)
        answer: Response | NetworkError = yield request
        is_met = is_met or isinstance(answer, Response) or answer.reached
        error: AgentChatError
        if isinstance(answer, NetworkError):
            error = answer
        else:
            try:
                return read_response(operation, answer)
            except AgentChatError as refused:
                error = refused
        if isinstance(error, Unauthorized) and not renewed:
            renewed = True
            fresh: str | None = yield NeedKey(key or "", max(deadline - clock(), 0.001))
            if fresh is None or fresh == key:
                raise error
            key = fresh
            continue
        repeatable = not operation.writes or IDEMPOTENCY_HEADER in request.headers
        pause = pause_after(error, attempt, jitter())
        outlasts = is_met and options.retries > 0 and clock() + pause < until
        if not (error.retryable and repeatable and (outlasts or attempt < options.retries)):
            raise error
        if outlasts:
            deadline = max(deadline, until + grace)
        elif clock() + pause >= deadline:
            _give_up(error, options)
        yield Pause(pause)
        attempt += 1


def pause_after(error: AgentChatError, attempt: int, jitter: float, longest: float = _LONGEST_PAUSE) -> float:
    """How long to wait: what the relay asked for, else exponential; jittered, so that clients do not come in step."""
    backoff = min(_FIRST_PAUSE * 2.0 ** min(attempt, 20), longest)
    if error.retry_after is not None:
        return error.retry_after + backoff * jitter
    return backoff * (0.5 + jitter / 2)


def _give_up(error: AgentChatError, options: Options) -> NoReturn:
    """No time is left for another attempt: the last error, or a time-out if the network was silent."""
    if isinstance(error, TimedOut):
        raise TimedOut(f"The relay did not answer within {options.deadline:g} s.") from error
    raise error
