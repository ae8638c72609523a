"""The scope of the working directory: the repository that it is a checkout of, read from git's own files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from .contract import LONGEST_SCOPE, MOST_PLACES, SCOPE_FORM

_LARGEST = 1_000_000
_URL = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^/]*@)?(?P<host>[^/:@]+)(?::[0-9]+)?/(?P<path>.+)", re.IGNORECASE)
_SHORT = re.compile(r"(?:[^/:]*@)?(?P<host>[^/:@]{2,}):(?P<path>/?[^/].*)")  # git@github.com:org/proj.git
# Git's settings as git reads them: capitals make no difference but in a quoted name, and a comment may end any line.
# Nothing here goes back over what it took, so that a file made for it costs no more than its length.
_SPACE = re.compile(r"(?:\s|[#;][^\n]*+)*+")
_HEADER = re.compile(r'\[(?P<section>[a-z0-9.-]++)(?:[ \t]++"(?P<name>(?:[^"\\\n]|\\.)*+)")?\]', re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?P<key>[a-z][a-z0-9-]*+)[ \t]*+"
    r'(?:=(?P<value>(?:"(?:[^"\\\n]|\\["\\ntb\n])*+"|\\["\\ntb\n]|[^"\\#;\n])*+)(?:[#;][^\n]*+)?)?(?=\n|\Z)',
    re.IGNORECASE,
)
_ESCAPED = {"n": "\n", "t": "\t", "b": "\b", "\n": ""}  # a line that ends in a backslash goes on in the next


def scope_here(environ: Mapping[str, str] | None = None) -> str | None:
    """`repo:HOST/PATH` of the remote `origin`, or None where there is no such."""
    with suppress(OSError, ValueError):  # a path with a NUL in it
        directory = os.getcwd()
        while True:
            if (config := _config(os.path.join(directory, ".git"))) is not None:
                return scope_of(_origin(config, os.environ if environ is None else environ))
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


def _origin(config: str, environ: Mapping[str, str]) -> str | None:
    """The URL of `origin`, with the longest beginning that is an abbreviation written out."""
    own = [*_settings(config)]
    url = next(
        (value for section, name, key, value in own if (section, name, key) == ("remote", "origin", "url")), None
    )
    if url is None:
        return None
    users = [setting for path in _of_the_user(environ) if os.path.isfile(path) for setting in _settings(_text(path))]
    short = [
        (value, base)
        for section, base, key, value in [*users, *own]
        if (section, key) == ("url", "insteadof") and url.startswith(value)
    ]
    found, base = max(short, key=lambda each: len(each[0]), default=("", ""))
    return base + url.removeprefix(found)


def _of_the_user(environ: Mapping[str, str]) -> list[str]:
    """Where git finds the settings of a user."""
    if (instead := environ.get("GIT_CONFIG_GLOBAL")) is not None:
        return [instead]
    if not (home := environ.get("HOME")):
        return []
    return [
        os.path.join(environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "git", "config"),
        os.path.join(home, ".gitconfig"),
    ]


def _settings(config: str) -> Iterator[tuple[str, str, str, str]]:
    """Section, name in it, key and value, up to what git would not read: it refuses such a file."""
    config = config.removeprefix("\ufeff")
    at, section, name = 0, "", ""
    while (at := _after(_SPACE, config, at)) < len(config):
        if header := _HEADER.match(config, at):
            section, _, name = header["section"].lower().partition(".")
            if header["name"] is not None:
                section, name = header["section"].lower(), re.sub(r"\\(.)", r"\1", header["name"])
            at = header.end()
        elif found := _ASSIGNED.match(config, at):
            value = re.sub(r'\\(.)|"', lambda at: _plain(at[1]), found["value"] or "", flags=re.DOTALL)
            yield section, name, found["key"].lower(), value.strip()
            at = found.end()
        else:
            return


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _plain(escaped: str | None) -> str:
    return "" if escaped is None else _ESCAPED.get(escaped, escaped)
