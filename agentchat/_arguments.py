"""Check arguments against a declaration, in one of two policies.

Strict (clients, tools, executor, command line): unknown names and wrong types are refused. Lenient (HTTP routes, whose
callers we do not control): unknown members are ignored, integers are read from text and clamped, booleans are read
from text. In both, null means absent. A refusal names the argument, the rule, and what to send instead, so that a
model can mend its call; every problem of a call is told at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ._operation import Form, Kind, Operation, Parameter
from .errors import InvalidArguments

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
json_text = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode
_ABSENT = object()
_WORDS: dict[Kind, str] = {
    "string": "text",
    "integer": "an integer",
    "boolean": "true or false",
    "array": "a list",
    "object": "a JSON object",
}
_MOST_PROBLEMS = 10
_compiled: dict[str, re.Pattern[str]] = {}


class _Refused(Exception):
    """One value does not fit; the text is the rule and the fix."""


def check(
    operation: Operation[..., Any],
    given: Mapping[str, object],
    *,
    lenient: bool = False,
    for_model: bool = False,
) -> dict[str, Any]:
    """The arguments that were given, checked and normalised. `for_model` refuses what models may not set."""
    parameters = operation.parameters
    checked: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for name, value in given.items():
        parameter = parameters.get(name)
        if parameter is None or (for_model and parameter.client_only):
            if not lenient:
                problems.append((str(name), _unknown(operation, name, for_model)))
        elif value is not None:
            try:
                result = _value(parameter, value, lenient)
            except _Refused as refused:
                problems.append((name, f"{name} {refused}"))
            else:
                if result is not _ABSENT:
                    checked[name] = result
    for name, parameter in parameters.items():
        if parameter.required and name not in checked and all(culprit != name for culprit, _ in problems):
            problems.append((name, f"{name} is required: {parameter.description}"))
    if problems:
        problems = problems[:_MOST_PROBLEMS]
        text = "; ".join(text.rstrip(".") for _, text in problems)
        raise InvalidArguments(
            f"{operation.name}: {text}{'' if text.endswith('?') else '.'}",
            details={"arguments": [name for name, _ in problems]},
        )
    return checked


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The known name that looks most like this one."""
    from difflib import get_close_matches

    found = get_close_matches(str(name)[:100].lower(), list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def shown(value: object) -> str:
    """A value as it may be quoted in a message: one line, ASCII, short."""
    if isinstance(value, str):
        return ascii(value[:60]) + ("…" if len(value) > 60 else "")
    try:
        return _encode(value)[:60]
    except (TypeError, ValueError, RecursionError):
        return str(value) if isinstance(value, float) else type(value).__name__


def _unknown(operation: Operation[..., Any], name: object, for_model: bool) -> str:
    names = [known for known, parameter in operation.parameters.items() if not (for_model and parameter.client_only)]
    if not names:
        return f"there is no argument {shown(str(name))}; it takes none"
    near = nearest(name, names)
    hint = f"did you mean {near}?" if near else f"it takes: {', '.join(names)}"
    return f"there is no argument {shown(str(name))}; {hint}"


def _value(parameter: Parameter, value: Any, lenient: bool) -> Any:
    if lenient and type(value) is str and parameter.kind in ("integer", "boolean"):
        value = _read_text(parameter.kind, value)
        if value is _ABSENT:
            return _ABSENT
    return _CHECKS[parameter.kind](parameter, value, lenient)


def _read_text(kind: Kind, value: str) -> object:
    """Integers and booleans that arrive as text; junk counts as absent (WIRE section 1)."""
    text = value.strip().lower()
    if kind == "boolean":
        return {"true": True, "1": True, "false": False, "0": False}.get(text, _ABSENT)
    return int(text[:19]) if re.fullmatch("[+-]?[0-9]+", text) else _ABSENT  # more digits are clamped anyway


def _string(parameter: Parameter, value: Any, lenient: bool) -> str:
    if not isinstance(value, str):
        raise _wrong_type(parameter, value)
    if parameter.choices and value not in parameter.choices:
        near = nearest(value, parameter.choices)
        hint = f"; did you mean {near}?" if near else ""
        raise _Refused(f"must be one of {', '.join(parameter.choices)}, got {shown(value)}{hint}")
    if parameter.limit is not None:
        low, high = parameter.limit
        if len(value) > high:
            raise _Refused(f"must have at most {high} characters, got {len(value)}; shorten or split it")
        if len(value) < low:
            raise _Refused("must not be empty" if not value else f"must have at least {low} characters")
    if parameter.form is not None:
        _fits(parameter.form, value)
    _check_whole(value)
    return value


def _integer(parameter: Parameter, value: Any, lenient: bool) -> object:
    # Models whose numbers are all floating point (protobuf) send 20.0 for 20.
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise _wrong_type(parameter, value)
    if parameter.limit is None:
        return value
    low, high = parameter.limit
    if lenient and value == 0 < low:
        return _ABSENT
    nearest_fit = min(max(value, low), high)
    if value != nearest_fit and not lenient:
        raise _Refused(f"must be from {low} to {high}, got {shown(value)}; use {nearest_fit}")
    return nearest_fit


def _boolean(parameter: Parameter, value: Any, lenient: bool) -> bool:
    if type(value) is not bool:
        raise _wrong_type(parameter, value)
    return value


def _array(parameter: Parameter, value: Any, lenient: bool) -> list[str]:
    if not isinstance(value, list | tuple):
        raise _wrong_type(parameter, value)
    if parameter.limit is not None and not parameter.limit.low <= len(value) <= parameter.limit.high:
        low, high = parameter.limit
        raise _Refused(f"must have {low} to {high} items, got {len(value)}; " + _split_hint(len(value) > high))
    for position, item in enumerate(value):
        if not isinstance(item, str):
            raise _Refused(f"must be a list of texts; item {position + 1} is {_named(item)}")
        try:
            if parameter.item_form is not None:
                _fits(parameter.item_form, item)
            _check_whole(item)
        except _Refused as refused:
            raise _Refused(f"item {position + 1} {refused}") from None
    return list(value)


def _split_hint(too_many: bool) -> str:
    return "send them in several calls" if too_many else "leave the call out"


def _object(parameter: Parameter, value: Any, lenient: bool) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong_type(parameter, value)
    if not all(isinstance(name, str) for name in value):
        raise _Refused("must be a JSON object: its names must be texts")
    try:
        text = json_text(value)
        text.encode()
    except (TypeError, ValueError, RecursionError):
        raise _Refused("must be a JSON object: it holds something JSON cannot") from None
    if parameter.limit is not None and len(text) > parameter.limit.high:
        raise _Refused(f"must have at most {parameter.limit.high} characters as JSON, got {len(text)}; shorten it")
    return value


_CHECKS: dict[Kind, Callable[[Parameter, Any, bool], Any]] = {
    "string": _string,
    "integer": _integer,
    "boolean": _boolean,
    "array": _array,
    "object": _object,
}


def _fits(form: Form, value: str) -> None:
    pattern = _compiled.get(form.pattern)
    if pattern is None:
        # `$` means the very end in ECMA and in pydantic's engine; Python's lets a newline follow.
        pattern = _compiled[form.pattern] = re.compile(form.pattern.replace("$", r"\Z"))
    if pattern.search(value) is None:
        fixed = re.sub("[^a-z0-9-]+", "-", value[:200].strip().lower()).strip("-")[:100]
        is_meant = form.is_mended and form.pattern.startswith("^")
        hint = f"; use {fixed}" if is_meant and fixed != value and pattern.search(fixed) else ""
        raise _Refused(f"must be {form.words}, got {shown(value)}{hint}")


def _check_whole(value: str) -> None:
    if value.isascii():
        return
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Refused("must be valid Unicode text; it holds half of a surrogate pair") from None


def _wrong_type(parameter: Parameter, value: object) -> _Refused:
    hint = ""
    if isinstance(value, str):
        read = _read_text(parameter.kind, value) if parameter.kind in ("integer", "boolean") else _ABSENT
        if read is not _ABSENT:
            hint = f"; send {_encode(read)} without quotes"
        elif parameter.kind == "array":
            hint = f"; send [{_encode(value[:60])}]"
    return _Refused(f"must be {_WORDS[parameter.kind]}, got {_named(value)}{hint}")


def _named(value: object) -> str:
    """What a JSON reader would call the value."""
    match value:
        case bool():
            return _encode(value)
        case int() | float():
            return f"the number {shown(value)}"
        case str():
            return f"the text {shown(value)}"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "null" if value is None else type(value).__name__
