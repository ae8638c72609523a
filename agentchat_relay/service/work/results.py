"""What a task's result must fit: a JSON Schema of the task's creator, which the relay runs on what somebody else sends.

So it is kept small and tame: 16 KiB, nothing that is fetched from elsewhere, no regular expressions (they can take for
ever), and a tenth of a second of a processor for all of it, looked at with every keyword: of this thread alone, so that
what fits does so on a busy machine, too. It is run before the transaction, beside everything else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import unquote

import msgspec

from agentchat.errors import BadRequest

from ...wire import depth

MOST = 16_384  # bytes of JSON
_DEEPEST = 24
_DEEPEST_RESULT = 64
_LONGEST_CHAIN = 200  # of schemas for one and the same value
_LONGEST = 0.1  # seconds of a processor
_MOST_ERRORS = 3
_MOST_SHOWN = 300  # characters of an error
_PATTERNS = frozenset({"pattern", "patternProperties", "format"})
_ELSEWHERE = frozenset({"$id", "id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"})
_NAMES = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})  # whose members are called anything
_DATA = frozenset({"const", "enum", "default", "examples"})


def check_schema(schema: dict[str, Any]) -> None:
    """Refuse what is no schema, or no tame one."""
    from jsonschema.exceptions import best_match

    if len(msgspec.json.encode(schema)) > MOST:
        raise BadRequest(f"result_schema must have at most {MOST} bytes as JSON; shorten it.")
    references: list[str] = []
    _check_tame(schema, "result_schema", 0, references)
    seen: set[str] = set()
    while references:  # which may lead to what was passed by as mere data
        if (reference := references.pop()) not in seen:
            seen.add(reference)
            _check_tame(_named(schema, reference), f"result_schema, at {reference[:100]}", 0, references)
    known: dict[int, int] = {}
    for reference in seen:
        _check_ends(schema, _named(schema, reference), [], known)
    kind = _validator()
    found = best_match(kind(kind.META_SCHEMA).iter_errors(schema))
    if found is not None:
        raise BadRequest(f"result_schema is no JSON Schema: {_worded(found)}.")


def _check_tame(schema: object, where: str, depth: int, references: list[str]) -> None:
    if depth > _DEEPEST:
        raise BadRequest(f"{where[:200]}: result_schema is nested deeper than {_DEEPEST}; make it flatter.")
    if isinstance(schema, list):
        for number, part in enumerate(schema):
            _check_tame(part, f"{where}[{number}]", depth + 1, references)
    if not isinstance(schema, dict):
        return
    for name, part in schema.items():
        if name in _PATTERNS or name in _ELSEWHERE:
            raise BadRequest(f"{where[:200]}: {name} is not taken here; say it in the task's body instead.")
        if name == "$schema":
            continue
        if name == "$ref":
            if not (isinstance(part, str) and (part == "#" or part.startswith("#/"))):
                raise BadRequest(f"{where[:200]}: $ref must stay within the schema, like #/$defs/thing.")
            references.append(part)
        if name in _NAMES and isinstance(part, dict):
            for called, inner in part.items():
                _check_tame(inner, f"{where}.{name}.{called[:40]}", depth + 1, references)
        elif name not in _DATA:
            _check_tame(part, f"{where}.{name[:40]}", depth + 1, references)


def _check_ends(schema: dict[str, Any], part: Any, above: list[int], known: dict[int, int]) -> int:
    """Refuse what refers to itself for one and the same value. Whoever does it for a member of that comes to an end.
    Returns how many schemas are behind each other from here on."""
    if not isinstance(part, dict):
        return 0
    if id(part) in above:
        raise BadRequest("result_schema refers to itself without an end; let it do so only for a member or an item.")
    if id(part) not in known:
        longest = 0
        if len(above) < _LONGEST_CHAIN:
            inner = _for_the_same(schema, part)
            longest = max((_check_ends(schema, one, [*above, id(part)], known) for one in inner), default=0)
        known[id(part)] = 1 + longest
    if len(above) + known[id(part)] > _LONGEST_CHAIN:
        raise BadRequest(f"result_schema has more than {_LONGEST_CHAIN} schemas behind each other; make it flatter.")
    return known[id(part)]


def _for_the_same(schema: dict[str, Any], part: dict[str, Any]) -> Iterator[Any]:
    """The schemas that the value of a schema must fit, too."""
    if "$ref" in part:
        yield _named(schema, part["$ref"])
    for name in ("not", "if", "then", "else"):
        yield part.get(name)
    for name in ("allOf", "anyOf", "oneOf"):
        yield from part[name] if isinstance(part.get(name), list) else ()
    several = part.get("dependentSchemas")
    yield from several.values() if isinstance(several, dict) else ()


def _named(schema: Any, reference: str) -> Any:
    """What a JSON pointer leads to, whose steps may be quoted as in a URL."""
    for step in unquote(reference).split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list) and step.isdecimal() and int(step) < len(schema):
            schema = schema[int(step)]
        elif isinstance(schema, dict) and step in schema:
            schema = schema[step]
        else:
            schema = None
    if not isinstance(schema, dict | bool):
        raise BadRequest(f"result_schema: $ref {reference[:200]!a} leads to no schema; define what it names.")
    return schema


class _TooLong(Exception):
    """The time is over."""


def check_result(schema: dict[str, Any], text: str) -> None:
    """Refuse a result that does not fit, in words by which a model can mend it."""
    try:
        result = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise BadRequest(f"result must be JSON, since the task has a result_schema: {error}.") from None
    except RecursionError:
        raise _too_deep() from None
    if depth(result) > _DEEPEST_RESULT:
        raise BadRequest(f"result must not be nested deeper than {_DEEPEST_RESULT}, to be checked; make it flatter.")
    _validator()  # whose import is nobody's doing
    deadline = time.thread_time() + _LONGEST
    try:
        errors = [
            _worded(error) for _, error in zip(range(_MOST_ERRORS), _errors(schema, result, deadline), strict=False)
        ]
    except _TooLong:
        raise BadRequest(
            "result could not be checked against the task's result_schema in time; send less, or fail the task."
        ) from None
    except ArithmeticError:
        raise BadRequest("result has a number that is too large to be checked; send a smaller one.") from None
    except RecursionError:
        raise _too_deep() from None
    except Exception as error:  # a reference to nothing, which the schema's author has to mend
        raise BadRequest(
            f"The task's result_schema cannot be used ({type(error).__name__}: {str(error)[:200]}); fail the task, and "
            "say so."
        ) from None
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":  # which is how a library says that its stack is full
            raise
        raise _too_deep() from None
    if errors:
        raise BadRequest(f"result does not fit the task's result_schema: {'; '.join(errors)}.")


def _too_deep() -> BadRequest:
    return BadRequest(
        "result goes too deep into the task's result_schema to be checked; make it flatter, or fail the task."
    )


def _errors(schema: dict[str, Any], result: object, deadline: float) -> Iterator[Any]:
    validator = _timed(deadline)
    yield from validator(schema).iter_errors(result)


def _worded(error: Any) -> str:
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    text = str(error.message)
    if len(text) > _MOST_SHOWN:
        text = f"{text[: _MOST_SHOWN // 2]}…{text[-_MOST_SHOWN // 2 :]}"
    return f"at ${where[:200]}: {text}"


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator


def _timed(deadline: float) -> Any:
    """The usual validator, each of whose keywords looks at the clock before it works, and while."""
    from jsonschema.validators import extend

    def timed(keyword: Any) -> Any:
        def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
            for error in keyword(validator, value, instance, schema) or ():
                _look(deadline)
                yield error

        def begin(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
            _look(deadline)
            return check(validator, value, instance, schema)

        return begin

    known = _validator().VALIDATORS
    return extend(_validator(), {name: timed(keyword) for name, keyword in known.items()} | {"uniqueItems": _unique})


def _look(deadline: float) -> None:
    if time.thread_time() > deadline:
        raise _TooLong


def _unique(validator: Any, unique: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """By their JSON, since comparing each with each takes too long. 1 and 1.0 are one number there."""
    from jsonschema.exceptions import ValidationError

    if unique and isinstance(instance, list):
        different = {msgspec.json.encode(_plain(item), order="sorted") for item in instance}
        if len(different) < len(instance):
            yield ValidationError("its items are not unique")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, dict) else value
