"""What one tool call means, without running it: which operation, which arguments, which text comes back.

A model's mistake (an unknown tool, broken JSON, missing or extra arguments) is a result the model can read, never an
exception. Both executors share this and differ in how they call the client.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypedDict, Unpack

from agentchat import schema, text
from agentchat._arguments import check, nearest
from agentchat._operation import Operation
from agentchat.contract import OPERATIONS
from agentchat.errors import AgentChatError, InvalidArguments


class Result(NamedTuple):
    """What a tool call came to. `text` is for the model; `data` is the relay's answer, or an error's details."""

    ok: bool
    text: str
    data: Any = None
    code: str | None = None
    retryable: bool = False

    def __str__(self) -> str:
        return self.text


class Call(NamedTuple):
    """A model's wish to call a tool: `arguments` is an object, or JSON text as some vendors send it."""

    name: str
    arguments: object
    id: str | None = None
    response_id: str | None = None
    position: int = 0
    custom: bool = False


class Planned(NamedTuple):
    """A call that can be made."""

    operation: Operation[..., Any]
    arguments: dict[str, Any]
    idempotency_key: str | None


class RuleOptions(TypedDict, total=False):
    preset: str
    include: Iterable[str]
    exclude: Iterable[str]
    prefix: str
    aliases: Mapping[str, str]
    max_chars: int
    others: Callable[[str, dict[str, Any]], Any]


class Rules:
    """Which tools a model may call, how they are named, and how long their texts may be."""

    def __init__(self, **options: Unpack[RuleOptions]) -> None:
        if unknown := options.keys() - RuleOptions.__annotations__.keys():
            raise TypeError(f"{type(self).__name__} has no option {min(unknown)!r}")
        self.prefix = options.get("prefix", schema.PREFIX)
        self.names = schema.select(
            options.get("preset", "standard"),
            include=options.get("include", ()),
            exclude=options.get("exclude", ()),
            prefix=self.prefix,
        )
        self.aliases = {
            alias: schema.bare_name(name, self.prefix) for alias, name in options.get("aliases", {}).items()
        }
        self.max_chars = options.get("max_chars", text.MAX_CHARS)
        self.others = options.get("others")
        if type(self.max_chars) is not int or self.max_chars < text.FEWEST_CHARS:
            raise InvalidArguments(
                f"max_chars must be an integer of at least {text.FEWEST_CHARS}, got {self.max_chars!r}."
            )

    def tools(self, dialect: schema.Dialect) -> list[dict[str, Any]]:
        """The definitions of exactly the tools this executor runs."""
        return schema.tools(dialect, preset="all", exclude=set(OPERATIONS) - set(self.names), prefix=self.prefix)

    def plan(self, call: Call) -> Planned | Callable[[], Any] | Result:
        """The call to make, on the client or on a function of the user's, or what to tell the model instead."""
        try:
            given = _object(call.arguments)
            operation = self._operation(call.name)
            if operation is None and self.others is not None:
                return partial(self.others, call.name, dict(given))
            if operation is None:
                raise self._unknown(call.name)
            arguments = check(operation, given, for_model=True)
        except InvalidArguments as error:
            return self.failed(error)
        arguments = text.fitting(operation, {**arguments, **operation.set_by_tools}, self.max_chars)
        return Planned(operation, arguments, _derived_key(call, given) if operation.writes else None)

    def method(self, client: Any, planned: Planned) -> Callable[..., Any]:
        """The client's method for a planned call, with the call's idempotency key where the client takes one."""
        if planned.idempotency_key is not None and hasattr(client, "with_options"):
            client = client.with_options(idempotency_key=planned.idempotency_key)
        method: Callable[..., Any] = getattr(client, planned.operation.name)
        return method

    def reads(self, call: Call) -> bool:
        """Whether the call changes nothing. Of tools that are not ours we do not know."""
        operation = self._operation(call.name)
        return self.others is None if operation is None else not operation.writes

    def done(self, planned: Planned, data: object) -> Result:
        shown = text.render(
            planned.operation,
            data,
            max_chars=self.max_chars,
            reachable=self.names,
            prefix=self.prefix,
            arguments=planned.arguments,
        )
        return Result(True, shown, data)

    def failed(self, error: AgentChatError) -> Result:
        return Result(False, text.explain(error, self.max_chars), error.details, error.code, error.retryable)

    def broken(self, name: str, error: Exception) -> Result:
        """A tool that is not ours raised. The model learns the kind, the log has the rest."""
        import logging

        logging.getLogger("agentchat_executor").error("The tool %r failed.", name, exc_info=error)
        shown = f"Error (internal_error): {text.word(name)} failed with {type(error).__name__}."
        return Result(False, shown, None, "internal_error")

    def _operation(self, name: str) -> Operation[..., Any] | None:
        bare = self.aliases.get(name) or name.removeprefix(self.prefix)
        return OPERATIONS[bare] if bare in self.names else None

    def _unknown(self, name: str) -> InvalidArguments:
        near = nearest(name.removeprefix(self.prefix), self.names)
        hint = (
            f"did you mean {self.prefix}{near}?"
            if near
            else "there are: " + ", ".join(self.prefix + known for known in self.names)
        )
        return InvalidArguments(f"There is no tool {text.word(name)}; {hint}")


def batches(calls: Sequence[Call], rules: Rules) -> list[list[int]]:
    """The order of one turn's calls: reads that stand together run in parallel, each write by itself, in order."""
    order: list[list[int]] = []
    reading = False
    for position, call in enumerate(calls):
        reads = rules.reads(call)
        if reads and reading:
            order[-1].append(position)
        else:
            order.append([position])
        reading = reads
    return order


def _object(arguments: object) -> Mapping[str, Any]:
    if isinstance(arguments, str | bytes):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError) as error:
            reason = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else "malformed"
            raise InvalidArguments(f"The arguments are no valid JSON ({reason}); send one JSON object.") from None
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise InvalidArguments(f"The arguments must be one JSON object, not {type(arguments).__name__}.")
    return arguments


def _derived_key(call: Call, given: Mapping[str, Any]) -> str | None:
    """The same key when the same response is handled again, for example after a crash; None without a response's id.

    The arguments are part of it, so that a local server that repeats its ids loses no other message for it; the same
    message under the same ids still counts as one.
    """
    if not call.response_id:
        return None
    try:
        parts = json.dumps([call.response_id, call.id, call.position, call.name, dict(given)], sort_keys=True)
    except (TypeError, ValueError):
        return None
    from hashlib import sha256

    return sha256(parts.encode()).hexdigest()[:40]
