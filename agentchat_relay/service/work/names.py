"""Names that locks are on: exact ones, and everything below a path. Pure.

A name is a path of steps between slashes; `**` as its last step stands for the path itself and all that is below. What
two of them have in common is reckoned in whole steps, never in pieces of one: so each is kept as its steps with a slash
behind every one, and a prefix leads to whatever begins with it. `**` alone has no steps, and leads to everything.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from agentchat.errors import BadRequest

LONGEST = 200
LAST = "\U0010ffff"  # what no name goes beyond
_REST = "**"


class Key(NamedTuple):
    """A name as it is looked for."""

    steps: str
    is_prefix: bool

    @property
    def stored(self) -> str:
        return f"{int(self.is_prefix)}{self.steps}"


class Sought(NamedTuple):
    """What overlaps with some names: those that lead to one of them, or are one, as stored; and steps to all below."""

    leading: list[str]
    below: list[str]


def read(names: Iterable[str]) -> list[str]:
    """The names, each once, as they are kept."""
    return list(dict.fromkeys(_checked(name) for name in names))


def _checked(name: str) -> str:
    name = unicodedata.normalize("NFC", name)  # the same letters are the same name
    if len(name) > LONGEST or not name.isprintable():
        raise BadRequest(f"Each of names must be 1 to {LONGEST} printable characters; one is not. Nothing was locked.")
    if not {".", ".."}.isdisjoint(name.split("/")):
        raise BadRequest("names are compared as they are written: leave out the steps '.' and '..'.")
    return name


def key(name: str) -> Key:
    *way, last = name.split("/")
    is_prefix = last == _REST
    return Key("".join(f"{step}/" for step in (way if is_prefix else [*way, last])), is_prefix)


def sought(keys: Iterable[Key]) -> Sought:
    """Where to look for what overlaps with any of them."""
    keys = list(keys)
    leading = [f"1{way}" for each in keys for way in _ways_to(each.steps)]
    leading += [each.stored for each in keys if not each.is_prefix]
    return Sought([*dict.fromkeys(leading)], [each.steps for each in keys if each.is_prefix])


def _ways_to(steps: str) -> list[str]:
    """Every prefix that leads there, from the one that leads everywhere to the whole."""
    return ["", *(steps[: at + 1] for at, letter in enumerate(steps) if letter == "/")]


def covers(one: Key, other: Key) -> bool:
    """Whether whatever overlaps with the other overlaps with this one, too."""
    return one == other or (one.is_prefix and other.steps.startswith(one.steps))


def overlap(one: Key, other: Key) -> bool:
    return covers(one, other) or covers(other, one)
