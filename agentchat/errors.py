"""Every failure a caller can meet, sorted by who must act next.

    AgentChatError
    ├── CallerError               change the call, then try again
    │   ├── InvalidArguments      found here, before anything was sent
    │   ├── NotConfigured         no relay URL, no key, a missing extra
    │   ├── BadRequest            400  bad_request, bad_cursor
    │   ├── Unauthorized          401  unauthorized
    │   ├── Forbidden             403  forbidden
    │   ├── NotFound              404  not_found (with near names), unknown_operation
    │   ├── Conflict              409  conflict, idempotency_mismatch, loop_guard, stale_fence
    │   ├── PositionExpired       410  position_expired
    │   └── TooLarge              413  too_large
    ├── RelayError                the relay or its operator must recover
    │   ├── RateLimited           429  rate_limited: wait `retry_after` seconds
    │   ├── LimitReached          429  agent_limit, channel_limit: waiting does not help
    │   ├── Unavailable           503  unavailable
    │   ├── StorageFull           507  storage_full
    │   └── ProtocolError         the answer was not the contract's
    └── NetworkError              the relay was not reached, or its answer was lost
        ├── ConnectionFailed
        └── TimedOut

What may be retried follows the code, never the status or the text: `RETRYABLE`.
"""

from collections.abc import Mapping
from typing import Any


class AgentChatError(Exception):
    """Something went wrong between this agent and the relay."""

    code = "error"

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.message = message or _default_message(type(self))
        self.code = code or type(self).code
        self.status = status
        self.retry_after = retry_after
        self.request_id = request_id
        self.details = dict(details or {})
        super().__init__(self.message)

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later without being changed."""
        return self.code in RETRYABLE

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive pickling (process pools, queues) with every field."""
        return type(self), (self.message,), self.__dict__


class CallerError(AgentChatError):
    """The call must be changed before it can succeed."""

    code = "bad_request"


class InvalidArguments(CallerError):
    """The arguments do not fit the operation."""


class NotConfigured(CallerError):
    """The relay URL, the key or a needed package is missing."""

    code = "not_configured"


class BadRequest(CallerError):
    """The relay refused the arguments."""


class Unauthorized(CallerError):
    """The relay does not know this key; check AGENTCHAT_KEY, or let the machine key register again."""

    code = "unauthorized"


class Forbidden(CallerError):
    """This agent may not do that."""

    code = "forbidden"


class NotFound(CallerError):
    """There is no such thing on the relay."""

    code = "not_found"

    @property
    def near(self) -> list[str]:
        """Names the relay knows that look like the one asked for."""
        near = self.details.get("near")
        return [name for name in near if isinstance(name, str)] if isinstance(near, list) else []


class Conflict(CallerError):
    """The state on the relay does not allow that any more."""

    code = "conflict"

    @property
    def current(self) -> Mapping[str, Any] | None:
        """The thing as it is now, when the relay sent it."""
        current = self.details.get("current")
        return current if isinstance(current, dict) else None


class PositionExpired(CallerError):
    """The position asked for is older than what the relay keeps."""

    code = "position_expired"


class TooLarge(CallerError):
    """The message or file is larger than the relay accepts."""

    code = "too_large"


class RelayError(AgentChatError):
    """The relay failed; its operator may have to look."""

    code = "internal_error"


class RateLimited(RelayError):
    """Too many calls; wait before the next one."""

    code = "rate_limited"


class LimitReached(RelayError):
    """A fixed limit of the relay is reached; waiting does not help."""

    code = "agent_limit"


class Unavailable(RelayError):
    """The relay cannot serve right now; try again soon."""

    code = "unavailable"


class StorageFull(RelayError):
    """The relay's disk is full."""

    code = "storage_full"


class ProtocolError(RelayError):
    """The relay's answer does not follow the contract; is the URL really an AgentChat relay?"""

    code = "protocol_error"


class NetworkError(AgentChatError):
    """The relay could not be reached."""

    code = "network_error"
    reached = False  # true: somebody was there, and hung up before the whole answer


class ConnectionFailed(NetworkError):
    """The connection to the relay failed."""


class TimedOut(NetworkError):
    """The relay did not answer in time."""

    code = "timed_out"


RETRYABLE = frozenset({"rate_limited", "unavailable", "network_error", "timed_out"})

# The one table of codes: (status, class). Codes of the relay only; the others never travel.
CODES: dict[str, tuple[int, type[AgentChatError]]] = {
    "bad_request": (400, BadRequest),
    "bad_cursor": (400, BadRequest),
    "unauthorized": (401, Unauthorized),
    "forbidden": (403, Forbidden),
    "not_found": (404, NotFound),
    "unknown_operation": (404, NotFound),
    "conflict": (409, Conflict),
    "idempotency_mismatch": (409, Conflict),
    "loop_guard": (409, Conflict),
    "stale_fence": (409, Conflict),
    "position_expired": (410, PositionExpired),
    "too_large": (413, TooLarge),
    "agent_limit": (429, LimitReached),
    "channel_limit": (429, LimitReached),
    "rate_limited": (429, RateLimited),
    "unavailable": (503, Unavailable),
    "storage_full": (507, StorageFull),
}

# Relays and proxies that send no code: the status decides.
_BY_STATUS = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    410: "position_expired",
    413: "too_large",
    422: "bad_request",
    429: "rate_limited",
    502: "unavailable",
    503: "unavailable",
    504: "unavailable",
    507: "storage_full",
}


def from_response(
    status: int,
    body: Mapping[str, Any] | None,
    *,
    retry_after: float | None = None,
    request_id: str | None = None,
) -> AgentChatError:
    """The error an unsuccessful answer stands for; `body` is None if it was no JSON object. The code decides, and
    where it is absent or unknown the status."""
    members = {} if body is None else body
    sent, text = members.get("code"), members.get("error")
    code = sent if isinstance(sent, str) and sent in CODES else _BY_STATUS.get(status)
    kind = CODES[code][1] if code is not None else CallerError if 400 <= status < 500 else RelayError
    if body is None:
        text = f"The relay answered with status {status}, not in the contract's form: {_default_message(kind)}"
    return kind(
        text if isinstance(text, str) else None,
        code=code,
        status=status,
        retry_after=retry_after,
        request_id=request_id,
        details={
            name: value for name, value in members.items() if name != "error" and (name != "code" or sent != code)
        },
    )


def _default_message(kind: type[AgentChatError]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]
