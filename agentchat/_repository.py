"""The scope of the working directory: the repository that it is a checkout of, read from git's own files."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from .contract import LONGEST_SCOPE, MOST_PLACES, SCOPE_FORM

_LARGEST = 1_000_000
_URL = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^/@]*@)?(?P<host>[^/:@]+)(?::[0-9]+)?/(?P<path>.+)", re.IGNORECASE)
_SHORT = re.compile(r"(?:[^/@:]*@)?(?P<host>[^/:@]{2,}):(?P<path>/?[^/].*)")  # git@github.com:org/proj.git
# Git's settings as git reads them: capitals make no difference but in a quoted name, and a comment may end any line.
_HEADER = re.compile(r'\[(?:[^"\]]|"(?:[^"\\]|\\.)*")*\]')
_ORIGIN = re.compile(r'\[(?i:remote)(?:[ \t]+"origin"|(?i:\.origin))\]')
_ASSIGNED = re.compile(r'url\s*=(?P<value>(?:"(?:[^"\\]|\\["\\])*"|\\["\\]|[^"\\#;])*)(?:[#;].*)?', re.IGNORECASE)


def scope_here() -> str | None:
    """`repo:HOST/PATH` of the remote `origin`, or None where there is no such."""
    with suppress(OSError, ValueError):  # a path with a NUL in it
        directory = os.getcwd()
        while True:
            if (config := _config(os.path.join(directory, ".git"))) is not None:
                return scope_of(_origin(config))
            parent = os.path.dirname(directory)
            if parent == directory:
                return None
            directory = parent
    return None


def scope_of(url: str | None) -> str | None:
    """The scope of a repository with this URL. A directory or a file has none, nor has a URL that no scope can hold:
    whoever works there has not asked for one, and every call would fail of it."""
    found = (_URL.fullmatch(url) or _SHORT.fullmatch(url)) if url else None
    if found is None or url is None or url.lower().startswith("file:"):
        return None
    path = found["path"].strip("/").removesuffix(".git")
    scope = f"repo:{found['host'].lower()}/{path}"
    fits = len(scope) <= LONGEST_SCOPE and scope.count("/") < MOST_PLACES and re.fullmatch(SCOPE_FORM.pattern, scope)
    return scope if fits else None


def _config(git: str) -> str | None:
    """Git's settings, if this is its directory, or the file of a worktree or a submodule that names it."""
    if os.path.isfile(git):
        named = re.match(r"gitdir: (.+)", _text(git))
        if named is None:
            return None
        git = os.path.join(os.path.dirname(git), named[1].strip())
    if os.path.isfile(common := os.path.join(git, "commondir")):
        git = os.path.join(git, _text(common).strip())
    config = os.path.join(git, "config")
    return _text(config) if os.path.isfile(config) else None


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:  # a name in another encoding is no reason
        return file.read(_LARGEST)


def _origin(config: str) -> str | None:
    inside = False
    for line in config.removeprefix("\ufeff").split("\n"):
        line = line.strip()
        if header := _HEADER.match(line):
            inside = _ORIGIN.fullmatch(header[0]) is not None
            line = line[header.end() :].lstrip()  # a setting may stand behind it
        if inside and (found := _ASSIGNED.fullmatch(line)):
            return re.sub(r'\\(.)|"', r"\1", found["value"]).strip()
    return None
