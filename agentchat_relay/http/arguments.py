"""From a request to the checked arguments of an operation.

Bodies go two ways. A decoder that is made from the declaration reads and checks the usual body in one step, in C. What
it does not accept, and everything that is not a plain body, is decoded and given to the contract's own lenient check,
which forgives what may be forgiven and words the refusal. A property test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from agentchat._arguments import check
from agentchat._operation import Form, Operation, Parameter
from agentchat.errors import BadRequest

from . import compat
from .request import MOST_BODY, Request, read_json

Given = dict[str, Any]
_LONG = 100_000  # characters of a text for which a usual body has no room
_NUL = b"\\u0000"


class Arguments:
    """Reads the arguments of one operation."""

    def __init__(self, operation: Operation[..., Any]) -> None:
        self._operation = operation
        # A character may take six bytes, escaped.
        self._most = MOST_BODY + 6 * sum(
            parameter.limit.high
            for parameter in operation.parameters.values()
            if parameter.kind == "string" and parameter.limit and parameter.limit.high > _LONG
        )
        self._renamed = [
            (name, parameter.wire) for name, parameter in operation.parameters.items() if parameter.wire != (name,)
        ]
        plain = operation.verb != "GET" and "{" not in operation.path and not self._renamed
        # Where nothing is required, any object would pass, with junk in members that nobody reads.
        plain = plain and any(parameter.required for parameter in operation.parameters.values())
        self._decode = msgspec.json.Decoder(_struct(operation)).decode if plain else None

    async def read(self, request: Request) -> Given:
        if self._operation.verb == "GET":
            return self.checked(request.query(), request.segments)
        body = await request.body(self._most)
        if (found := self.quickly(body)) is not None:
            return found
        return self.checked(read_json(body), request.segments)

    def quickly(self, body: bytes) -> Given | None:
        """The arguments of a usual body, None of any other."""
        if self._decode is None or _NUL in body:
            return None
        try:
            found = self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return {name: value for name, value in msgspec.structs.asdict(found).items() if value is not None}

    def checked(self, given: Given, segments: Mapping[str, str]) -> Given:
        """What was sent, by the names of the declaration, checked leniently."""
        operation = self._operation
        given = compat.taken_in(operation.name, given)
        for name, wire in self._renamed:
            value: Any = given
            for step in wire:
                value = value.get(step) if isinstance(value, dict) else None
            given[name] = value
        given.update(segments)
        arguments = check(operation, given, lenient=True)
        for name, value in arguments.items():
            if isinstance(value, str) and "\0" in value:  # not every engine can store it
                raise BadRequest(f"{operation.name}: {name} must not hold a NUL character; take it out.")
        return arguments


def _struct(operation: Operation[..., Any]) -> type[msgspec.Struct]:
    """The declaration as a type of msgspec's. Sizes of objects are left to the service, which encodes them anyway."""
    fields: list[Any] = []
    for parameter in operation.parameters.values():
        annotation = _annotation(parameter)
        fields.append((parameter.name, annotation) if parameter.required else (parameter.name, annotation | None, None))
    fields.sort(key=len)
    return msgspec.defstruct(operation.name, fields)


def _annotation(parameter: Parameter) -> Any:
    low, high = parameter.limit or (None, None)
    if parameter.choices:
        return Literal[parameter.choices]
    match parameter.kind:
        case "string":
            return Annotated[str, msgspec.Meta(pattern=_pattern(parameter.form), min_length=low, max_length=high)]
        case "integer":
            return Annotated[int, msgspec.Meta(ge=low, le=high)]
        case "array":
            item = Annotated[str, msgspec.Meta(pattern=_pattern(parameter.item_form))]
            return Annotated[list[item], msgspec.Meta(min_length=low, max_length=high)]
        case "boolean":
            return bool
        case "object":
            return dict[str, Any]


def _pattern(form: Form | None) -> str | None:
    """`$` means the very end; Python's lets a newline follow."""
    return None if form is None else form.pattern.replace("$", r"\Z")
