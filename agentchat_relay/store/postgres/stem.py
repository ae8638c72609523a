"""The stem of an English word, as FTS5 of SQLite has it: the algorithm of M. F. Porter, "An algorithm for suffix
stripping", 1980, with the two departures that its author made later (`bli`, `logi`).

Postgres has a Porter stemmer too, behind a parser of its own whose notion of a word (`1e5`, `a-b`, anything that is not
ASCII) depends on the database's locale. With the stems made here, a search means the same on both engines, everywhere.

A word is looked at byte by byte, as FTS5 does: for the algorithm, all but the ASCII vowels are consonants.
"""

from __future__ import annotations

import re
from functools import lru_cache

LONGEST_STEMMED = 64  # bytes, and so characters; longer words are their own stems
_SHORTEST = 3

# Of what precedes a suffix, written with a v for each vowel and a c for each consonant: how often vowels are followed
# by consonants, which is about how many syllables there are.
_SOME = re.compile("c*v+c")
_MANY = re.compile("c*v+c+v+c")
_ONE = re.compile("c*v+c+v*$")

_DERIVED = (  # the first that fits counts
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("logi", "log"),
    ("bli", "ble"), ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"),
    ("ation", "ate"), ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"),
    ("aliti", "al"), ("iviti", "ive"), ("biliti", "ble"),
)  # fmt: skip
_QUALIFIED = (
    ("ical", "ic"), ("ness", ""), ("icate", "ic"), ("iciti", "ic"), ("ful", ""), ("ative", ""), ("alize", "al"),
)  # fmt: skip
_LAST = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
)  # fmt: skip


@lru_cache(50_000)
def stem(word: str) -> str:
    """Of a word in lower case."""
    raw = word.encode()
    if not _SHORTEST <= len(raw) <= LONGEST_STEMMED:
        return word
    found = _without_plural(raw.decode("latin-1"))
    found = _without_tense(found)
    if found.endswith("y") and "v" in _shape(found[:-1]):
        found = found[:-1] + "i"
    found = _replaced(_replaced(found, _DERIVED), _QUALIFIED)
    return _tidy(_without_last(found)).encode("latin-1").decode()


def _shape(text: str) -> str:
    """A `y` after a consonant is a vowel."""
    shape = "v"
    for letter in text:
        shape += "v" if letter in "aeiou" or (letter == "y" and shape[-1] == "c") else "c"
    return shape[1:]


def _is_short(text: str) -> bool:
    """Whether it ends as `hop` does, which had an e (`hope`)."""
    return _shape(text)[-3:] == "cvc" and text[-1] not in "wxy"


def _without_plural(word: str) -> str:
    if word.endswith(("sses", "ies")) and word not in ("sses", "ies"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _without_tense(word: str) -> str:
    if word.endswith("eed") and len(word) > 3:
        return word[:-1] if _SOME.match(_shape(word[:-3])) else word
    for suffix in ("ed", "ing"):
        if word.endswith(suffix) and "v" in _shape(word[: -len(suffix)]):
            return _completed(word[: -len(suffix)])
    return word


def _completed(text: str) -> str:
    """What a verb is called without its tense: `hopp` is hop, `fil` is file, `conflat` is conflate."""
    if text.endswith(("at", "bl", "iz")) and len(text) > 2:
        return text + "e"
    if len(text) > 1 and text[-1] == text[-2] and text[-1] not in "aeioulsz":
        return text[:-1]
    return text + "e" if _ONE.match(_shape(text)) and _is_short(text) else text


def _replaced(word: str, suffixes: tuple[tuple[str, str], ...]) -> str:
    for suffix, replacement in suffixes:
        if word.endswith(suffix) and len(word) > len(suffix):
            rest = word[: -len(suffix)]
            return rest + replacement if _SOME.match(_shape(rest)) else word
    return word


def _without_last(word: str) -> str:
    for suffix in _LAST:
        if word.endswith(suffix) and len(word) > len(suffix):
            rest = word[: -len(suffix)]
            if suffix == "ion" and not rest.endswith(("s", "t")):
                return word
            return rest if _MANY.match(_shape(rest)) else word
    return word


def _tidy(word: str) -> str:
    """Without an e, or the second of two l, at the end of a longer word."""
    if word.endswith("e"):
        shape = _shape(word[:-1])
        if _MANY.match(shape) or (_ONE.match(shape) and not _is_short(word[:-1])):
            word = word[:-1]
    return word[:-1] if word.endswith("ll") and _MANY.match(_shape(word[:-1])) else word
