"""SQL by name. `sql/*.sql` holds blocks that start with `-- name: words that say what it does`.

Both engines run the same text. What only one of them needs stands in a folder with its name; what each writes in a way
of its own has a word of ours, in capitals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from operator import itemgetter
from typing import Any, NamedTuple

_HERE = files("agentchat_relay.store")
_HEAD = re.compile(r"^-- ([a-z_]+):.*$", re.MULTILINE)
_GIVES_ID = " RETURNING id"
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)\b")
# `TEXTS(:list) AS each` gives the texts of a JSON list as rows with a `value`. `id PICKED (SELECT … LIMIT …) PICKED`
# are the rows that a subquery names; it is asked anew, by an index, for each row of the table before. `x IN LANE` are
# items of the inbox in the lane of that row, and `x IN LANE AFTER (id) LANE` those with a higher id.
_URGENT, _SCOPE = "CAST(substr(lane.value, 1, 1) AS BIGINT)", "substr(lane.value, 2)"
_ALIKE = rf"\1.urgent = {_URGENT} AND \1.scope = {_SCOPE}"
_UP_TO = rf"(\1.urgent, \1.scope) <= ({_URGENT}, {_SCOPE})"
_AFTER, _IN = r"(\w) IN LANE AFTER \((.*?)\) LANE", r"(\w) IN LANE"
_WORDS = {
    "sqlite": (
        (r"TEXTS\((:\w+)\)", r"json_each(\1)"),
        (r"PICKED \(", "IN ("),
        (r"\) PICKED", ")"),
        (_AFTER, rf"{_ALIKE} AND \1.id > \2"),
        (_IN, _ALIKE),
    ),
    # Told that they are alike, Postgres takes the order for one by id alone, and may walk through everybody's items.
    "postgres": (
        (r"TEXTS\((:\w+)\)", r"json_array_elements_text(CAST(\1 AS JSON))"),
        (r"PICKED \(", "= ANY (ARRAY("),
        (r"\) PICKED", "))"),
        (_AFTER, rf"(\1.urgent, \1.scope, \1.id) > ({_URGENT}, {_SCOPE}, \2) AND {_UP_TO}"),
        (_IN, rf"(\1.urgent, \1.scope) >= ({_URGENT}, {_SCOPE}) AND {_UP_TO}"),
    ),
}


class Statement(NamedTuple):
    """`bind` puts named values into the order of the placeholders."""

    name: str
    sql: str
    names: tuple[str, ...]
    bind: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    gives_id: bool  # of the row it inserted


def _statement(name: str, text: str, engine: str) -> Statement:
    text = " ".join(re.sub("--.*", "", text).split())
    for ours, theirs in _WORDS[engine]:
        text = re.sub(ours, theirs, text)
    if gives_id := text.endswith(_GIVES_ID) and engine == "sqlite":  # which tells the id without being asked
        text = text.removesuffix(_GIVES_ID)
    names = tuple(_PARAMETER.findall(text))
    if engine == "sqlite":
        return Statement(name, _PARAMETER.sub("?", text), names, _binder(names), gives_id)
    names = tuple(dict.fromkeys(names))
    numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text)
    return Statement(name, numbered, names, _binder(names), text.endswith(_GIVES_ID))


def _binder(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if not names:
        return lambda values: ()
    if len(names) == 1:
        only = itemgetter(names[0])
        return lambda values: (only(values),)
    return itemgetter(*names)


@cache
def statements(engine: str) -> dict[str, Statement]:
    """Every statement of the relay, as an engine takes it: those of all, and its own."""
    found: dict[str, Statement] = {}
    for folder in (_HERE.joinpath("sql"), _HERE.joinpath("sql", engine)):
        for file in folder.iterdir() if folder.is_dir() else []:
            if file.name.endswith(".sql"):
                _, *parts = _HEAD.split(file.read_text("utf-8"))
                for name, text in zip(parts[::2], parts[1::2], strict=True):
                    if name in found:
                        raise ValueError(f"two statements are called {name}")
                    found[name] = _statement(name, text, engine)
    return found


def migrations(engine: str) -> list[tuple[int, str, str]]:
    """(number, name, SQL) in order."""
    found = []
    for file in _HERE.joinpath("migrations", engine).iterdir():
        number, _, name = file.name.removesuffix(".sql").partition("_")
        if file.name.endswith(".sql"):
            found.append((int(number), name, file.read_text("utf-8")))
    return sorted(found)
