"""SQL by name. `sql/*.sql` holds blocks that start with `-- name: words that say what it does`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from operator import itemgetter
from typing import Any, NamedTuple

_HERE = files("agentchat_relay.store")
_HEAD = re.compile(r"^-- ([a-z_]+):.*$", re.MULTILINE)
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)\b")


class Statement(NamedTuple):
    """`bind` puts named values into the order of the placeholders."""

    name: str
    sql: str
    names: tuple[str, ...]
    bind: Callable[[Mapping[str, Any]], tuple[Any, ...]]


def _statement(name: str, text: str) -> Statement:
    names = tuple(_PARAMETER.findall(text))
    sql = " ".join(_PARAMETER.sub("?", re.sub("--.*", "", text)).split())
    return Statement(name, sql, names, _binder(names))


def _binder(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if not names:
        return lambda values: ()
    if len(names) == 1:
        only = itemgetter(names[0])
        return lambda values: (only(values),)
    return itemgetter(*names)


@cache
def statements() -> dict[str, Statement]:
    """Every statement of the relay."""
    found: dict[str, Statement] = {}
    for file in _HERE.joinpath("sql").iterdir():
        if file.name.endswith(".sql"):
            _, *parts = _HEAD.split(file.read_text("utf-8"))
            for name, text in zip(parts[::2], parts[1::2], strict=True):
                if name in found:
                    raise ValueError(f"two statements are called {name}")
                found[name] = _statement(name, text)
    return found


def migrations(engine: str) -> list[tuple[int, str, str]]:
    """(number, name, SQL) in order."""
    found = []
    for file in _HERE.joinpath("migrations", engine).iterdir():
        number, _, name = file.name.removesuffix(".sql").partition("_")
        if file.name.endswith(".sql"):
            found.append((int(number), name, file.read_text("utf-8")))
    return sorted(found)
