"""What Postgres' full text is made of: a message as a tsvector, a query as a tsquery, in Postgres' notation. Pure.

Words and stems are made here, so that Postgres' parser, its dictionaries and the database's locale have no say, and a
search means what it means on SQLite, where FTS5 splits by `porter unicode61 remove_diacritics 2`. What differs:

    newer characters  FTS5 knows Unicode as of 2012, and takes what it does not know for small letters: `done🤖` is one
                      word there. Here such a sign parts words, as all signs do, a newer capital letter is folded, and
                      the vowels of New Tai Lue are letters, which they became in 2015
    ǡ                 loses its two marks here, and keeps them there
    frequent words    of a word's places in one message Postgres keeps the first 256, so that phrases which only stand
                      behind those are not found
    huge words        are told apart by their first 500 characters

Lexemes that no word can be stand beside the words: the message's places, and the blocks of ids that it is in. They
have no position, and a dot in front. Asking for some blocks is asking for the newest: `windows` has them in turn.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..query import Query, Term
from .stem import LONGEST_STEMMED, stem

_LONGEST_WORD = 500  # characters; a lexeme has less than 2 KiB
# The marks that FTS5 takes off a letter; any other parts words.
_MARKS = frozenset(
    [*range(0x300, 0x305), *range(0x306, 0x30D), 0x30F, 0x311, 0x31B, *range(0x323, 0x329), 0x32D, 0x32E, 0x330, 0x331]
)
_MOST_KNOWN = 20_000  # characters
_BITS = 2  # four blocks are one of the next size
_BLOCKS = range(9, 22, _BITS)  # the message's id, shifted so far, is the number of its block


class _Plain(dict[int, str]):
    """Character to what is left of it: itself, another one, nothing, or a blank. Filled as characters come, and begun
    anew when somebody tries them all."""

    def __missing__(self, code: int) -> str:
        if len(self) > _MOST_KNOWN:
            self.clear()
        plain = self[code] = _plain(chr(code))
        return plain


def _plain(character: str) -> str:
    if ord(character) in _MARKS:
        return ""
    category = unicodedata.category(character)
    if category[0] not in "LN" and category != "Co":
        return " "
    folded = character.casefold()
    small = folded if len(folded) == 1 else character.lower()[0]
    bare = unicodedata.normalize("NFD", small)[0]
    return bare if bare.isascii() else small


_PLAIN = _Plain()


def words(text: str) -> list[str]:
    """The stems, in their order."""
    plain = text.translate(_PLAIN).split(" ")
    return [stem(word) if len(word) <= LONGEST_STEMMED else word[:_LONGEST_WORD] for word in plain if word]


def vector(id: int, content: str, places: Iterable[str]) -> str:
    marks = [f"'.{place}'" for place in places] + [f"'{_block(shift, id >> shift)}'" for shift in _BLOCKS]
    return " ".join(marks + [f"'{word}':{at}" for at, word in enumerate(words(content), 1)])


def tsquery(query: Query) -> str:
    """Every word is quoted and consists of letters and digits: nothing of what was typed can be an operator."""
    parts = [_alternatives(query, " <-> ")] if query.alternatives else []
    return " & ".join(parts + [f"!({_words(term, ' <-> ')})" for term in query.excluded])


def loosely(query: Query) -> str:
    """What a message needs for it to be looked at more closely: the words, in any order."""
    return _alternatives(query, " & ") if query.alternatives else tsquery(query)


def within(places: Iterable[str]) -> str:
    return _any(f"'.{place}'" for place in places)


class Window(NamedTuple):
    """Messages whose ids are in some blocks of one size."""

    shift: int
    first: int
    last: int

    def __str__(self) -> str:
        """As a tsquery."""
        return _any(f"'{_block(self.shift, number)}'" for number in range(self.first, self.last + 1))

    def halves(self) -> list[Window]:
        """The older and the newer half; none if it is as small as can be."""
        shift, first, last = self
        if first == last:
            if shift == _BLOCKS[0]:
                return []
            shift, first, last = shift - _BITS, first << _BITS, (last + 1 << _BITS) - 1
        middle = (first + last) // 2
        return [Window(shift, first, middle), Window(shift, middle + 1, last)]


def windows(newest: int) -> Iterator[Window]:
    """All ids down from the newest in parts that soon get larger: two to five blocks, of the next size each time, since
    Postgres looks at every hit once for each word that it was asked for."""
    sizes = iter(_BLOCKS)
    shift = next(sizes)
    while newest > 0:
        last = newest >> shift
        first = max(last - 1 >> _BITS << _BITS, 0)  # where a block of the next size begins
        yield Window(shift, first, last)
        newest = (first << shift) - 1
        shift = next(sizes, shift)


def _block(shift: int, number: int) -> str:
    return f".{shift}_{number}"


def _any(parts: Iterable[str]) -> str:
    return "(" + " | ".join(parts) + ")"


def _alternatives(query: Query, joint: str) -> str:
    return _any("(" + " & ".join(_words(term, joint) for term in terms) + ")" for terms in query.alternatives)


def _words(term: Term, joint: str) -> str:
    return joint.join(f"'{word}'" for word in words(term.text)) or "'.'"  # which no message has
