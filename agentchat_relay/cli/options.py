"""The settings of `agentchat serve`, declared once: the command line, the configuration file and the documents follow.

A check returns the value that counts, or raises ValueError with the words that follow the setting's name.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, NamedTuple

from agentchat import settings
from agentchat.errors import InvalidArguments, NotConfigured

from ..blobs.opening import bucket_of
from ..log import FORMATS, LEVELS
from ..settings import Settings

PORT = 8790
_DEFAULTS = Settings()
_LOOPS = _DEFAULTS.loops
Values = dict[str, Any]


class Option(NamedTuple):
    """A setting; its default has its type. One whose default is a list may be given several times."""

    name: str  # as on the command line, without the dashes in front
    default: Any
    text: str
    metavar: str | None = None
    check: Callable[[Any], Any] = lambda value: value
    choices: tuple[str, ...] = ()
    is_path: bool = False
    or_url: bool = False

    @property
    def help(self) -> str:
        default = f"{self.default:g}" if isinstance(self.default, float) else self.default
        return f"{self.text} (default: {default})" if default else self.text


def _number(fits: Callable[[float], bool], wanted: str) -> Callable[[Any], Any]:
    def check(value: float) -> float:
        if not fits(value):
            raise ValueError(f"must be {wanted}, got {value:g}")
        return value

    return check


def _host(value: str) -> str:
    if not value.strip():
        raise ValueError("must be an address or a name of this machine, got nothing")
    return value


def _public_url(value: str) -> str:
    try:
        return settings.checked_url(value) if value else ""
    except NotConfigured as error:
        raise ValueError(f"cannot be used: {error.message}") from None


def _store(value: str) -> str:
    if value and not value.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be the URL of a Postgres: postgresql://USER@HOST/DATABASE")
    return value


def _bucket(value: str) -> str:
    if value:
        bucket_of(value)
    return value


def _address(value: str) -> str:
    try:
        return str(ip_address(value))
    except ValueError:
        raise ValueError(f"must be an IP address, got {value}") from None


def _rate(name: str, text: str) -> Option:
    return Option(
        name,
        getattr(_DEFAULTS, name.replace("-", "_")),
        text,
        "RATE",
        _number(lambda rate: 0 <= rate < 1e9, "0 or more"),
    )


def _whole(name: str, default: int, text: str, metavar: str) -> Option:
    return Option(name, default, text, metavar, _number(lambda most: 0 <= most < 1e9, "0 or more"))


GROUPS: dict[str, tuple[str | None, tuple[Option, ...]]] = {
    "address and data": (
        None,
        (
            Option("host", "127.0.0.1", "address to listen on", "ADDRESS", _host),
            Option("port", PORT, "port, 0 for any", "PORT", _number(lambda port: 0 <= port < 65536, "from 0 to 65535")),
            Option("data", "", "data directory (default: ~/.agentchat/relay)", "DIR", is_path=True),
            Option("store", "", "keep rows in a Postgres instead of the data directory", "URL", _store),
            Option(
                "workers",
                1,
                "processes that serve; more than one needs --store",
                "NUMBER",
                _number(lambda count: 1 <= count <= 256, "from 1 to 256"),
            ),
            Option(
                "files",
                "",
                "contents of files: a directory, or s3://BUCKET/PREFIX (default: DIR/blobs)",
                "PLACE",
                _bucket,
                is_path=True,
                or_url=True,
            ),
            Option("public-url", "", "what links to files start with (default: the bound address)", "URL", _public_url),
            Option(
                "trusted-proxy",
                [],
                "believe its X-Forwarded-For; may be given several times",
                "ADDRESS",
                lambda values: [_address(value) for value in values],
            ),
        ),
    ),
    "limits": (
        "Rates are per second, bursts ten times that; 0 is no limit.",
        (
            _rate("agent-writes", "writes of one agent"),
            _rate("agent-reads", "reads of one agent"),
            _rate("all-writes", "writes of all agents"),
            _rate("all-reads", "reads of all agents"),
            Option(
                "max-file-mib",
                10.0,
                "largest file",
                "MIB",
                _number(lambda size: 0 < size <= 4096, "more than 0, at most 4096"),
            ),
            _whole("max-agents", _DEFAULTS.most_agents, "active agents of one machine", "NUMBER"),
            Option("own-names", False, "machines register only names starting with their own"),
            Option(
                "retire-after",
                _DEFAULTS.retire_after,
                "days until an agent that is not seen gets no mail until it is back, 0 for never",
                "DAYS",
                _number(lambda days: 0 <= days <= 36_500, "from 0 to 36500"),
            ),
        ),
    ),
    "loop guard": (
        "Agents that answer each other without end. A person's word begins everything anew; 0 is no limit.",
        (
            _whole("loop-turns", _LOOPS.turns, "times that two agents answer each other without a pause", "NUMBER"),
            _whole("loop-pause", _LOOPS.pause // 60, "minutes that are a pause", "MINUTES"),
            _whole("loop-depth", _LOOPS.depth, "answers of agents to answers in one thread", "NUMBER"),
        ),
    ),
    "log": (
        None,
        (
            Option("log-format", "text", "one line of text or of JSON for each event", choices=FORMATS),
            Option("log-level", "info", "how much is told", choices=LEVELS),
            Option("log-file", "", "append to this file (default: standard error)", "FILE", is_path=True),
            Option("log-requests", False, "log every request; never keys or texts"),
        ),
    ),
}
OPTIONS = {option.name: option for _, options in GROUPS.values() for option in options}


def add_to(parser: argparse.ArgumentParser) -> None:
    """All of them, in their groups. What is not given stays out of the result: other places may say it."""
    for title, (text, options) in GROUPS.items():
        group = parser.add_argument_group(title, text)
        for option in options:
            group.add_argument(f"--{option.name}", default=argparse.SUPPRESS, **_arguments(option))


def _arguments(option: Option) -> dict[str, Any]:
    arguments: dict[str, Any] = {"dest": option.name, "help": option.help}
    if option.choices:
        return {**arguments, "choices": option.choices}
    if option.name in _NAMED:
        return {**arguments, "type": _NAMED[option.name], "metavar": option.metavar}
    match option.default:
        case bool():
            return {**arguments, "action": argparse.BooleanOptionalAction}
        case list():
            return {**arguments, "action": "append", "metavar": option.metavar}
    return {**arguments, "type": type(option.default), "metavar": option.metavar}


def directory(text: str) -> str:
    """The value of an option that names one. A script whose variable is unset must not meet another relay."""
    if not text:
        raise argparse.ArgumentTypeError("must name a directory, got nothing")
    return text


def postgres(text: str) -> str:
    """The value of an option that names one. A script whose variable is unset must not meet SQLite instead."""
    try:
        return _store(text or "nothing")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def file(text: str) -> str:
    """The value of an option that names a file."""
    if not text:
        raise argparse.ArgumentTypeError("must name a file, got nothing")
    return text


def seconds(text: str) -> float:
    """The value of an option that waits."""
    value = float(text)
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {text}")
    return value


_NAMED = {"data": directory, "files": directory, "store": postgres}


def checked(option: Option, value: Any, where: str, folder: str) -> Any:
    """The value that counts. `where` names what was written and in which file; paths begin at `folder`."""
    if option.is_path and value and not (option.or_url and "://" in value):
        return os.path.abspath(os.path.join(folder, os.path.expanduser(value)))
    try:
        return option.check(value)
    except ValueError as error:
        raise InvalidArguments(f"{where} {error}") from None
