"""From a declared method to data on the class and a typed method on a client.

The only metaprogramming in the house. `@operation` turns a method declaration of `Contract` into a `Declared`
descriptor. Read on the class it gives the `Operation` (data); read on a sync client a function that returns the
result, on an async client one that returns a coroutine of it, both with the declaration's exact signature.

Parameters are described where they are declared, with `Annotated`: a text, and the marks below. They are read on
first use, so that importing the contract costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import update_wrapper
from types import MethodType
from typing import (
    Annotated,
    Any,
    Concatenate,
    Generic,
    Literal,
    NamedTuple,
    ParamSpec,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

P = ParamSpec("P")
R = TypeVar("R")

Kind = Literal["string", "integer", "boolean", "array", "object"]
_KINDS: dict[object, Kind] = {str: "string", int: "integer", bool: "boolean", list: "array", dict: "object"}


class Limit(NamedTuple):
    """Bounds: of an integer, of a text's characters, of a list's items, of an object's JSON characters."""

    low: int
    high: int


class Form(NamedTuple):
    """A pattern (ECMA and Python alike, `$` means the very end) and the words that say it. `is_mended`: what does not
    fit is told the spelling that may have been meant; not where another spelling is another thing."""

    pattern: str
    words: str
    is_mended: bool = True


class Wire(NamedTuple):
    """The member's name on the wire where it differs; dots nest it (`card.role`)."""

    name: str


class ClientOnly(NamedTuple):
    """Not for models: kept out of every schema. `tools` is what our tools send by themselves. What does not identify is
    no part of what makes two calls with one key the same call."""

    tools: Any = None
    identifies: bool = True


class Waits(NamedTuple):
    """Seconds to wait in all. One request waits for at most so many, since proxies cut off what stands still."""

    at_most: int = 50


class Parameter:
    """One argument of an operation, as declared."""

    __slots__ = (
        "choices", "client_only", "default", "description", "form", "item_form", "kind", "limit", "name", "required",
        "waits", "wire",
    )  # fmt: skip

    def __init__(self, name: str, annotation: Any, default: Any, required: bool) -> None:
        self.name = name
        self.default = default
        self.required = required
        self.description = ""
        self.choices: tuple[str, ...] = ()
        self.limit: Limit | None = None
        self.form: Form | None = None
        self.item_form: Form | None = None
        self.client_only: ClientOnly | None = None
        self.waits: Waits | None = None
        self.wire: tuple[str, ...] = (name,)
        self.kind: Kind = "string"
        self._read(annotation)

    def _read(self, annotation: Any) -> None:
        if get_origin(annotation) is Annotated:
            inner, *marks = get_args(annotation)
            self._read(inner)
            for mark in marks:
                self._mark(mark)
        elif type(None) in (options := get_args(annotation)):
            self._read(next(option for option in options if option is not type(None)))
        elif get_origin(annotation) is Literal:
            self.choices = get_args(annotation)
        else:
            kind = _KINDS.get(get_origin(annotation) or annotation)
            if kind is None:
                raise TypeError(f"{self.name}: the contract has no parameters of type {annotation!r}")
            self.kind = kind
            if self.kind == "array":
                self.item_form = Parameter("item", get_args(annotation)[0], None, True).form

    def _mark(self, mark: object) -> None:
        match mark:
            case str():
                self.description = mark
            case Limit():
                self.limit = mark
            case Form():
                self.form = mark
            case Wire():
                self.wire = tuple(mark.name.split("."))
            case ClientOnly():
                self.client_only = mark
            case Waits():
                self.waits = mark
            case _:
                raise TypeError(f"{self.name}: {mark!r} is no mark of the contract")


class Operation(Generic[P, R]):
    """One operation of the contract, as data."""

    def __init__(self, function: Callable[..., R], verb: str, path: str, writes: bool, idempotent: bool) -> None:
        self.function = function
        self.name = function.__name__
        self.verb = verb
        self.path = path
        self.writes = writes
        self.idempotent = idempotent
        self._parameters: dict[str, Parameter] | None = None
        self._result: Any = None
        self._overlooked: frozenset[str] = frozenset()
        self._waits: Parameter | None = None

    def __repr__(self) -> str:
        return f"<operation {self.name}: {self.verb} {self.path}>"

    @property
    def description(self) -> str:
        """What the operation does: the declaration's docstring, one line per paragraph."""
        paragraphs = (self.function.__doc__ or "").strip().split("\n\n")
        return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        if self._parameters is None:
            self._resolve()
        return cast("dict[str, Parameter]", self._parameters)

    @property
    def result(self) -> Any:
        """The TypedDict the operation answers with."""
        if self._parameters is None:
            self._resolve()
        return self._result

    @property
    def overlooked(self) -> frozenset[str]:
        """Parameters that do not make it another call."""
        if self._parameters is None:
            self._resolve()
        return self._overlooked

    @property
    def waits(self) -> Parameter | None:
        """The parameter that says how long to wait, if the operation is one that waits."""
        if self._parameters is None:
            self._resolve()
        return self._waits

    @property
    def set_by_tools(self) -> Mapping[str, Any]:
        """What our tools send by themselves: no model sets it, none needs to."""
        return {
            name: parameter.client_only.tools
            for name, parameter in self.parameters.items()
            if parameter.client_only and parameter.client_only.tools is not None
        }

    def _resolve(self) -> None:
        hints = get_type_hints(self.function, include_extras=True)
        self._result = hints.pop("return")
        code = self.function.__code__
        ordinary = code.co_varnames[1 : code.co_argcount]
        keyword_only = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        defaults = dict(self.function.__kwdefaults__ or {})
        given = self.function.__defaults__ or ()
        defaults.update(zip(ordinary[len(ordinary) - len(given) :], given, strict=True))
        self._parameters = {
            name: Parameter(name, hints[name], defaults.get(name), name not in defaults)
            for name in (*ordinary, *keyword_only)
        }
        self._overlooked = frozenset(
            name for name, found in self._parameters.items() if found.client_only and not found.client_only.identifies
        )
        self._waits = next((parameter for parameter in self._parameters.values() if parameter.waits), None)

    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Mapping[str, object]:
        """Positional and named arguments as one mapping, as Python would bind them."""
        if not args:
            return kwargs
        code = self.function.__code__
        names = code.co_varnames[1 : code.co_argcount]
        if len(args) > len(names):
            raise TypeError(f"{self.name}() takes {len(names)} positional arguments but {len(args)} were given")
        bound = dict(zip(names, args, strict=False))
        if twice := bound.keys() & kwargs.keys():
            raise TypeError(f"{self.name}() got multiple values for argument {min(twice)!r}")
        return {**bound, **kwargs}


class SyncCaller:
    """What a sync client must be able to do for `Declared` to give it its methods."""

    def _invoke(self, operation: Operation[..., R], args: tuple[object, ...], kwargs: dict[str, object]) -> R:
        raise NotImplementedError


class AsyncCaller:
    """The same for an async client."""

    def _invoke(
        self, operation: Operation[..., R], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Coroutine[Any, Any, R]:
        raise NotImplementedError


class Declared(Generic[P, R]):
    """What a contract holds: data on the class, a method on a client."""

    def __init__(self, operation: Operation[P, R]) -> None:
        self.operation = operation

        def call(client: SyncCaller | AsyncCaller, /, *args: object, **kwargs: object) -> Any:
            return client._invoke(operation, args, kwargs)

        self._call = update_wrapper(call, operation.function)  # for help() and inspect.signature()
        self.__doc__ = operation.function.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Operation[P, R]: ...
    @overload
    def __get__(self, client: SyncCaller, owner: type) -> Callable[P, R]: ...
    @overload
    def __get__(self, client: AsyncCaller, owner: type) -> Callable[P, Coroutine[Any, Any, R]]: ...
    def __get__(self, client: SyncCaller | AsyncCaller | None, owner: type) -> Any:
        return self.operation if client is None else MethodType(self._call, client)


def operation(
    verb: str, path: str, *, writes: bool = False, idempotent: bool = False
) -> Callable[[Callable[Concatenate[Any, P], R]], Declared[P, R]]:
    """Declare an operation. A constant part of the query may stand in the path. `idempotent`: one that writes, and
    called again with the same arguments changes nothing more, without an idempotency key."""

    def declare(function: Callable[Concatenate[Any, P], R]) -> Declared[P, R]:
        return Declared(Operation(function, verb, path, writes, idempotent))

    return declare
