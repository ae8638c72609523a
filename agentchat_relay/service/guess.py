"""The name somebody may have meant. Cheap, because it runs where calls are refused, and calls are refused often."""

from __future__ import annotations

from collections.abc import Iterable

from agentchat._arguments import nearest

_LONGEST = 40  # characters that are compared
_MOST = 20  # names that are compared closely


def near(name: str, names: Iterable[str]) -> list[str]:
    """The known name that looks most like this one, if any: of those that begin and end most alike."""
    name = _short(name)
    short = {_short(known): known for known in names}
    alike = sorted(short, key=lambda known: _ends(name, known), reverse=True)[:_MOST]
    found = nearest(name, alike)
    return [] if found is None else [short[found]]


def _short(name: str) -> str:
    """A long name without its middle: what names have in common is their beginning, a machine's name."""
    return name if len(name) <= _LONGEST else name[: _LONGEST // 2] + name[-_LONGEST // 2 :]


def _ends(one: str, other: str) -> int:
    """How many characters are the same from the beginning, and from the end."""
    return _same(one, other) + _same(one[::-1], other[::-1])


def _same(one: str, other: str) -> int:
    for position, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return position
    return min(len(one), len(other))
