"""What someone typed into a search, read as people mean it: words, "phrases", -not, or. Junk reads as nothing.

Engines turn a `Query` into their own language. A query holds alternatives (joined by `or`), each of which wants all of
its terms; words excluded anywhere are excluded everywhere.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = re.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))')
_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_MOST_TERMS = 16
# Too common to narrow anything; they count only when nothing else was asked for.
_COMMON = (
    "a an and are as at be been but by did do does for from had has have he her his i if in is it its me my no not of "
    "on our she so such that the their then there these they this to was we were what when which who will with you "
    "your"
)
_STOP = frozenset(_COMMON.split())


class Term(NamedTuple):
    """Words that follow each other: as they were typed, for the engine to split as it splits messages, and split."""

    text: str
    words: tuple[str, ...]


class Query(NamedTuple):
    alternatives: tuple[tuple[Term, ...], ...]
    excluded: tuple[Term, ...]

    def __bool__(self) -> bool:
        return bool(self.alternatives or self.excluded)

    @property
    def words(self) -> list[str]:
        """All words looked for."""
        return [word for terms in self.alternatives for term in terms for word in term.words]


def read_query(text: str) -> Query:
    """Never fails. A word with punctuation in it (`fix-2-b`, `a.b`) is a phrase of its parts."""
    alternatives: list[list[Term]] = [[]]
    common: list[list[Term]] = [[]]
    excluded: list[Term] = []
    for minus, phrase, plain in _TOKEN.findall(text.replace("\0", " "))[:_MOST_TERMS]:
        text = phrase or plain
        words = tuple(_WORD.findall(text.lower()))
        if plain.lower() == "or" and not minus:
            alternatives.append([])
            common.append([])
        elif words and minus:
            excluded.append(Term(text, words))
        elif words:
            (common if plain and len(words) == 1 and words[0] in _STOP else alternatives)[-1].append(Term(text, words))
    found = [tuple(terms or weak) for terms, weak in zip(alternatives, common, strict=True) if terms or weak]
    return Query(tuple(found), tuple(excluded))
