"""What a file may be called and be taken for: no browser may run one, whatever its sender claims."""

from __future__ import annotations

import os
import re
import unicodedata
from urllib.parse import quote

OCTET_STREAM = "application/octet-stream"
_LONGEST_NAME = 150
_LONGEST_EXTENSION = 20

_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,99}"
_TYPE = re.compile(
    rf'({_NAME})/({_NAME})(?:[ \t]*;[ \t]*charset=(["]?)([A-Za-z0-9][A-Za-z0-9_.:+-]{{0,39}})\3)?',
    re.IGNORECASE | re.ASCII,
)

# Markup or code that a browser or one of its plug-ins runs, named by a whole word of the subtype: an office document
# ("openxmlformats") is none of them. Any spelling of a browser's script language is.
_RUN = re.compile(
    "(?<![a-z])(x?html?|shtml|mhtml|mimearchive|xml|xslt?|svg|mathml|vml|hta|component|scriptlet|flash|futuresplash"
    "|silverlight|java|jar|applet|xpinstall|unknown)(?![a-z])|(java|ecma|j|live|vb)script"
)
_RUN_KINDS = frozenset({"multipart", "message"})

# Overrides of the writing direction make "exe.fdp" look like "pdf.exe" and the other way round.
_DIRECTIONS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def safe_type(content_type: str | None) -> str:
    """The media type to store and to answer with."""
    found = _TYPE.fullmatch((content_type or "").strip(" \t"))
    if found is None:
        return OCTET_STREAM
    kind, subtype, charset = found[1].lower(), found[2].lower(), found[4]
    if kind in _RUN_KINDS or _RUN.search(subtype):
        return OCTET_STREAM
    return f"{kind}/{subtype}" + (f"; charset={charset.lower()}" if charset else "")


def disposition(filename: str) -> str:
    """The Content-Disposition that saves a file under its name: in ASCII for old readers, in full for all others."""
    name = "".join("_" if _is_unfit(character) else character for character in _shortened(filename)).strip()
    name = "_" if name in ("", ".", "..") else name
    return f"attachment; filename=\"{stored_name(filename)}\"; filename*=UTF-8''{quote(name, safe='')}"


def stored_name(name: str) -> str:
    """A file's name as part of its path. Of dots in a row only the first stays: a path with ".." could not be read."""
    ascii_name = re.sub("[^A-Za-z0-9._-]", "_", _shortened(name))
    undotted = re.sub(r"(?<=\.)\.+", lambda dots: "_" * len(dots[0]), ascii_name)
    return "_" if undotted in ("", ".") else undotted


def _shortened(name: str) -> str:
    extension = os.path.splitext(name)[1]
    if len(extension) > _LONGEST_EXTENSION:
        extension = ""
    return name[: _LONGEST_NAME - len(extension)] + extension if len(name) > _LONGEST_NAME else name


def _is_unfit(character: str) -> bool:
    return (
        character in "/\\"
        or unicodedata.category(character) in _UNPRINTABLE
        or unicodedata.bidirectional(character) in _DIRECTIONS
    )
