"""What both clients are before any I/O: the relay's URL, the key, the options, and the steps of one call."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self, TypedDict, TypeVar, Unpack, cast
from urllib.parse import urlsplit

from . import settings
from ._arguments import check, json_text
from ._exchange import (
    IDEMPOTENCY_HEADER,
    KEY_HEADER,
    SCOPES_HEADER,
    SESSION_HEADER,
    Options,
    Request,
    Steps,
    build_request,
    exchange,
    new_idempotency_key,
)
from ._operation import Operation
from ._transport import MAX_RESPONSE_BYTES
from .contract import Contract
from .errors import (
    BadRequest,
    CallerError,
    Conflict,
    Forbidden,
    InvalidArguments,
    LimitReached,
    NotConfigured,
    NotFound,
)

if TYPE_CHECKING:
    from ssl import SSLContext

R = TypeVar("R")
_OURS = ("agentchat", "agentchat_executor", "langchain_agentchat")
_REMEMBERED = "check_inbox"
_REFUSED = (BadRequest, Forbidden, NotFound, Conflict, LimitReached)
_MOST_SENT = 32


class ClientOptions(TypedDict, total=False):
    """Options of every client. `timeout` is for one attempt, `deadline` for a whole call with its `retries`.

    A call that waits has more of them: until its wait is over, if the relay was there before; with 0 it has none.

    `session` labels this process among others of the same agent; by default it is random. `scopes` say where it works,
    like `repo:github.com/org/proj`: it is given what is meant for there. `groups` are joined with the first call.
    """

    timeout: float
    deadline: float
    retries: int
    session: str
    scopes: Sequence[str]
    groups: Sequence[str]
    ssl_context: SSLContext
    max_response_bytes: int


class Connection(NamedTuple):
    """What a transport of ours is made from, besides the URL."""

    ssl_context: SSLContext | None
    max_response_bytes: int


class Caller:
    """A client without its transport."""

    _transport: Any

    def __init__(
        self,
        url: str,
        key: str | settings.Credential | None,
        *,
        agent: str | None = None,
        project: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        if unknown := options.keys() - ClientOptions.__annotations__.keys():
            raise TypeError(f"{type(self).__name__} has no option {min(unknown)!r}")
        self.url = settings.checked_url(url)
        if settings.is_local(self.url):
            key = settings.name_as_key(agent)
        if not key:
            raise NotConfigured(f"No key. {settings.GET_A_KEY}")
        self.credential: settings.Credential = settings.FixedKey(key) if isinstance(key, str) else key
        self.agent = agent
        # A directory's name may hold anything; the rest of a message must not fail for it.
        self.project = project and project.encode("utf-8", "replace").decode()[:100]
        standard = Options()
        self._options = _checked(
            Options(
                options.get("timeout", standard.timeout),
                options.get("deadline", standard.deadline),
                options.get("retries", standard.retries),
            )
        )
        self._headers = {"accept": "application/json", "user-agent": "agentchat"}
        self._session = _Session(options.get("session"))
        self._scopes = settings.checked_scopes(options.get("scopes", ()))
        self._to_join = list(settings.checked_groups(options.get("groups", ())))  # the copies of a client share it
        self._owns_transport = True
        self.custom_transport = False
        self._connection = Connection(
            options.get("ssl_context"), _size(options.get("max_response_bytes", MAX_RESPONSE_BYTES))
        )
        parts = urlsplit(self.url)
        if parts.scheme == "http" and not settings.is_loopback(parts.hostname):
            import warnings

            warnings.warn(
                f"The key travels unencrypted to {parts.hostname}; use https, or a tunnel to a loopback address.",
                stacklevel=_stack_level(),
            )

    @classmethod
    def from_env(
        cls,
        *,
        url: str | None = None,
        key: str | None = None,
        agent: str | None = None,
        project: str | None = None,
        home: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """A client from arguments, else AGENTCHAT_* variables, else the files in AGENTCHAT_HOME."""
        found = settings.load(url=url, key=key, agent=agent, project=project, home=home)
        return cls._from_settings(found, options)

    @classmethod
    def from_config(
        cls,
        home: str | os.PathLike[str] | None = None,
        *,
        agent: str | None = None,
        project: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """A client from the files of one directory (default `~/.agentchat`), whatever the environment says."""
        found = settings.load(agent=agent, project=project, home=home, environ={})
        return cls._from_settings(found, options)

    @classmethod
    def _from_settings(cls, found: settings.Settings, options: ClientOptions) -> Self:
        key = settings.credential(found, options.get("ssl_context"))
        options.setdefault("scopes", found.scopes)
        options.setdefault("groups", found.groups)
        return cls(found.url, key, agent=found.agent, project=found.project, **options)

    @classmethod
    def like(cls, other: Caller) -> Self:
        """A client of this class for the same agent: its relay, key, options and session, but its own connections."""
        twin = object.__new__(cls)
        twin.__dict__.update(other.__dict__)
        if other.custom_transport:
            raise InvalidArguments(f"{other!r} has a transport of its own, which its twin could not use.")
        twin._transport = cls._connect(other.url, other._connection)
        twin._owns_transport = True
        return twin

    @staticmethod
    def _connect(url: str, connection: Connection) -> Any:
        """A transport to the relay."""
        raise NotImplementedError

    def with_options(
        self,
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        idempotency_key: str | None = None,
        session: str | None = None,
        scopes: Sequence[str] | None = None,
    ) -> Self:
        """The same client with other options. It shares the connections: closing it leaves them to the first one.

        An `idempotency_key` is for one write: repeated with the same arguments it takes effect once.
        """
        changed: dict[str, Any] = {
            "timeout": timeout,
            "deadline": deadline,
            "retries": retries,
            "idempotency_key": idempotency_key,
        }
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._options = _checked(self._options._replace(**{k: v for k, v in changed.items() if v is not None}))
        other._owns_transport = False
        if session is not None:
            other._session = _Session(session)
        if scopes is not None:
            other._scopes = settings.checked_scopes(scopes)
        return other

    def __repr__(self) -> str:
        agent = f" as {self.agent}" if self.agent else ""
        return f"<{type(self).__name__} of {self.url}{agent}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A client holds a key and open connections: make one in each process, with from_env().")

    def _steps(self, operation: Operation[..., R], arguments: Mapping[str, object]) -> Steps[R]:
        """The steps of one call; arguments are checked before anything is sent."""
        steps = self._steps_of(operation, arguments)
        return self._joining(steps) if self._to_join else steps

    def _joining(self, steps: Steps[R]) -> Steps[R]:
        yield from self._join()
        return (yield from steps)

    def _join(self) -> Steps[None]:
        """Join the groups that are left, before the first call or stream. Whoever does that at the same time joins none
        twice, for a repeat changes nothing."""
        while self._to_join:
            group = self._to_join[0]
            plain = self.with_options(idempotency_key=new_idempotency_key())
            try:
                yield from plain._steps_of(Contract.join_group, {"group": group})
            except _REFUSED as error:  # of a call that nobody made: only the setting says where it comes from
                error.message = f"Joining {group!r} of AGENTCHAT_GROUPS (or groups=) was refused: {error.message}"
                error.args = (error.message,)
                raise
            with suppress(ValueError):
                self._to_join.remove(group)

    def _steps_of(self, operation: Operation[..., R], arguments: Mapping[str, object]) -> Steps[R]:
        if self.project and (parameter := operation.parameters.get("metadata")) and parameter.limit:
            metadata = _with_project(arguments.get("metadata"), self.project, parameter.limit.high)
            arguments = {**arguments, "metadata": metadata}
        checked = check(operation, arguments)
        headers = self._headers_of(operation, checked)

        def build(key: str | None, timeout: float, asked: Mapping[str, Any] = checked) -> Request:
            headers[KEY_HEADER] = self._checked_key(key)
            return build_request(operation, asked, headers, timeout)

        if operation.waits and checked.get(operation.waits.name, operation.waits.default):
            from ._waiting import held_steps, wait_steps

            steps = wait_steps if "since" in operation.parameters else held_steps
            return steps(operation, checked, build, self._options)
        if operation.name == _REMEMBERED:
            return self._remembering(checked, headers[IDEMPOTENCY_HEADER], exchange(operation, build, self._options))
        return exchange(operation, build, self._options)

    def _request(
        self,
        operation: Operation[..., Any],
        checked: Mapping[str, Any],
        key: str | None,
        timeout: float,
        *,
        accept: str,
    ) -> Request:
        """One request by itself, for an answer that is not the contract's JSON."""
        headers = {**self._headers_of(operation, checked), "accept": accept, KEY_HEADER: self._checked_key(key)}
        return build_request(operation, checked, headers, timeout)

    def _headers_of(self, operation: Operation[..., Any], checked: Mapping[str, Any]) -> dict[str, str]:
        headers = {**self._headers, SESSION_HEADER: self._session.label()}
        if self._scopes:
            headers[SCOPES_HEADER] = ",".join(self._scopes)
        if operation.verb != "GET":
            headers["content-type"] = "application/json"
        if operation.writes or checked.get("mark_read"):  # a read that marks is told from its repeats by its key
            headers[IDEMPOTENCY_HEADER] = self._options.idempotency_key or new_idempotency_key()
        return headers

    def _checked_key(self, key: str | None) -> str:
        if key is None:
            raise NotConfigured(f"No key for {self.agent or 'this agent'}. {settings.GET_A_KEY}")
        return settings.checked_key(key)

    def _remembering(self, checked: dict[str, Any], key: str, steps: Steps[R]) -> Steps[R]:
        """Name the claim of the answer before, which acknowledges it, and remember that of this one."""
        session = self._session
        if "seen" not in checked and (seen := session.seen(key)) is not None:
            checked["seen"] = seen
        try:
            result = yield from steps
        except CallerError:  # a claim that the relay refuses would be refused for ever
            session.remember(None)
            raise
        session.remember(cast("Mapping[str, Any]", result).get("claim_id"))
        return result


def _with_project(metadata: object, project: str, longest: int) -> object:
    """The project beside the caller's own members, if there is room: what was given is never refused for it."""
    if metadata is None:
        return {"project": project}
    if not isinstance(metadata, dict):
        return metadata
    both = {"project": project, **metadata}
    try:
        return both if len(json_text(both)) <= longest else metadata
    except (TypeError, ValueError, RecursionError):  # the argument check says what is wrong with it
        return metadata


class _Session:
    """The label of a client and its copies (the one that was chosen, else a random one for each process), and the claim
    of the last answer of `check_inbox`. A forked child is a session of its own and has received nothing yet."""

    def __init__(self, chosen: str | None) -> None:
        self._chosen = None if chosen is None else _label("session", chosen)
        self._process = 0
        self._random = ""
        self._claim: str | None = None
        self._sent: dict[str, str | None] = {}

    def label(self) -> str:
        self._here()
        return self._random if self._chosen is None else self._chosen

    def seen(self, key: str) -> str | None:
        """The claim to acknowledge with the call of this key: a call that is made again names the same one."""
        self._here()
        if len(self._sent) >= _MOST_SENT and key not in self._sent:
            self._sent.pop(next(iter(self._sent), ""), None)
        return self._sent.setdefault(key, self._claim)

    def remember(self, claim: object) -> None:
        self._here()
        self._claim = claim if isinstance(claim, str) else None

    def _here(self) -> None:
        if self._process != os.getpid():
            self._process, self._random = os.getpid(), os.urandom(8).hex()
            self._claim, self._sent = None, {}


def _stack_level() -> int:
    """How far up the caller of our packages is, for a warning that points there."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frame, level = frame.f_back, level + 1
    return level


def _size(size: int) -> int:
    if type(size) is not int or size < 1:
        raise InvalidArguments(f"max_response_bytes must be a positive integer, got {size!r}.")
    return size


def _label(name: str, value: str) -> str:
    if not re.fullmatch("[!-~]{1,128}", value):
        raise InvalidArguments(f"{name} must be 1 to 128 printable ASCII characters without spaces.")
    return value


def _checked(options: Options) -> Options:
    for name in ("timeout", "deadline"):
        value = getattr(options, name)
        if not (isinstance(value, int | float) and 0 < value <= 86_400):
            raise InvalidArguments(f"{name} must be a number of seconds from above 0 to 86400, got {value!r}.")
    if type(options.retries) is not int or not 0 <= options.retries <= 100:
        raise InvalidArguments(f"retries must be an integer from 0 to 100, got {options.retries!r}.")
    if options.idempotency_key is not None:
        _label("idempotency_key", options.idempotency_key)
    return options
