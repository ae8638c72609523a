"""`agentchat admin`: what an operator does, whether the relay of a data directory runs or not.

If it runs, the commands go to it over HTTP, with the credential of the directory; else they open its store. The
commands are those of `Administration`: `machine_add` is `agentchat admin machine add`. What reads the directory itself
is in keeping.py.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from agentchat import errors
from agentchat._arguments import check
from agentchat._exchange import Options, Request, build_request, exchange
from agentchat._operation import Operation, SyncCaller
from agentchat._transport import StdlibTransport
from agentchat.cli import Parser, add_argument, typed
from agentchat.client import drive
from agentchat.text import word

from ..administration import ADMINISTRATION, Administration
from ..directory import Directory
from ..keeping.progress import size
from ..service import credentials, upkeep
from ..service.operations import ADMIN_SERVICES
from ..store.opening import open_store
from ..store.seam import Lane, Store
from . import config, database, keeping, moving
from .options import directory as named
from .options import postgres
from .serve import default_directory

R = TypeVar("R")
_PURPOSE = "agentchat admin"
_PATIENCE = 3.0  # seconds to wait for another admin command
_TIME = re.compile(r"[0-9-]{10}T[0-9:]{8}\.[0-9]{6}\+00:00")
_ABOUT = {
    "machine": "machines that register agents of their own",
    "agent": "agents and persons, their keys and roles",
    "channel": "channels and how long they keep messages",
    "letter": "dead letters, which an agent was given too often",
    "lock": "locks, which agents hold or wait for",
    "space": "spaces, which see nothing of each other",
    "credential": "the admin credential itself",
}


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(list(argv))
    if (run := getattr(options, "run", None)) is not None:
        return int(run(options))
    directory, store = Directory(options.data or default_directory()), store_of(options)
    is_new = not (store or directory.is_there() or directory.served_at())
    if options.operation is None:
        _rotate(directory, store)
        file = f"{directory.path}/admin.key"
        told = f"The new admin credential is in {file}; an old one is void."
        print(json.dumps({"admin_key_file": file}) if options.json else told)
        return 0
    operation: Operation[..., Any] = options.operation
    words = {name: getattr(options, f"arg_{name}") for name in operation.parameters}
    given = {name: typed(operation.parameters[name], value) for name, value in words.items() if value is not None}
    with _administration(directory, store) as administration:
        result = getattr(administration, operation.name)(**given)
    if is_new:  # on purpose, or because its name was mistyped
        print(f"Note: there was no relay in {directory.path}; its directory was made.", file=sys.stderr)
    print(json.dumps(result, indent=2) if options.json else _told(operation.name, result))
    return 0


def store_of(options: argparse.Namespace) -> str:
    """The Postgres that the command line or the settings in the data directory name; else it is SQLite."""
    if options.store is not None:
        return str(options.store)
    settings = config.read(f"{options.data or default_directory()}/{config.FILE}", must_exist=False)
    return str(settings.get("store", ""))


def _rotate(directory: Directory, url: str) -> None:
    served_at = None if url else directory.served_at()
    before = directory.admin_secret() if served_at else ""
    secret = directory.rotate_admin_secret()
    if url:
        with _opened(url, directory) as store:
            store.ask(Lane.WRITE, lambda tx: credentials.replace(tx, secret))
    elif served_at and not _is_known(served_at, directory):
        directory.replace_admin_secret(before)
        raise errors.Conflict(
            f"The relay on {served_at} has its credential in a Postgres. Nothing was changed; name that: --store URL"
        )


def _is_known(url: str, directory: Directory) -> bool:
    """Whether the relay that runs there takes the credential of the directory. One that does not answer is none."""
    transport = StdlibTransport(url)
    try:
        _ask_relay(transport, directory, ADMINISTRATION["space_list"], {})
    except errors.Unauthorized:
        return False
    except errors.AgentChatError:
        return True
    finally:
        transport.close()
    return True


class _Client(Administration, SyncCaller):
    """Drives an operation by `perform(operation, checked arguments)`."""

    def __init__(self, perform: Callable[[Operation[..., Any], dict[str, Any]], Any]) -> None:
        self._perform = perform

    def _invoke(self, operation: Operation[..., R], args: tuple[object, ...], kwargs: dict[str, object]) -> R:
        result: R = self._perform(operation, check(operation, operation.bind(args, kwargs)))
        return result


@contextmanager
def _administration(directory: Directory, store: str) -> Iterator[Administration]:
    """The operations, done by the running relay or right here. A Postgres may be served and administered at once."""
    if store:
        with _store(directory, store) as perform:
            yield _Client(perform)
        return
    try:
        directory.hold(_PURPOSE, patience=_PATIENCE)
    except errors.Conflict:
        url = directory.served_at()
        if url is None:
            with _shared(directory) as perform:
                yield _Client(perform)
            return
        transport = StdlibTransport(url)
        try:
            yield _Client(lambda operation, given: _ask_relay(transport, directory, operation, given))
        finally:
            transport.close()
        return
    try:
        with _store(directory, "") as perform:
            yield _Client(perform)
    finally:
        directory.release()


@contextmanager
def _shared(directory: Directory) -> Iterator[Callable[[Operation[..., Any], dict[str, Any]], Any]]:
    """Beside agents that do without a relay."""
    directory.share()
    try:
        with _store(directory, "", neighbours=True) as perform:
            yield perform
    finally:
        directory.release()


def _ask_relay(
    transport: StdlibTransport, directory: Directory, operation: Operation[..., R], given: dict[str, Any]
) -> R:
    headers = {
        "accept": "application/json",
        "content-type": "application/json",
        "authorization": f"Bearer {directory.admin_secret()}",
    }

    def build(key: str | None, timeout: float) -> Request:
        return build_request(operation, given, headers, timeout)

    return drive(exchange(operation, build, Options(retries=0)), transport)


@contextmanager
def _store(
    directory: Directory, url: str, **options: Any
) -> Iterator[Callable[[Operation[..., Any], dict[str, Any]], Any]]:
    with _opened(url, directory, **options) as store:

        def perform(operation: Operation[..., Any], given: dict[str, Any]) -> Any:
            _, lane, service = ADMIN_SERVICES[operation.name]
            return store.ask(lane, lambda tx: service(tx, **given))

        yield perform


@contextmanager
def _opened(url: str, directory: Directory, **options: Any) -> Iterator[Store]:
    store = open_store(url, directory.path, **options)
    try:
        store.ask(Lane.WRITE, upkeep.seed)
        yield store
    finally:
        store.close()


def _parser() -> argparse.ArgumentParser:
    common = Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    data: dict[str, Any] = {
        "type": named,
        "metavar": "DIR",
        "help": "the relay's data directory (default: ~/.agentchat/relay)",
    }
    common.add_argument("--data", default=argparse.SUPPRESS, **data)
    store: dict[str, Any] = {
        "type": postgres,
        "metavar": "URL",
        "help": "the relay's Postgres, where it has one (default: as relay.toml in the data directory says)",
    }
    common.add_argument("--store", default=argparse.SUPPRESS, **store)
    parser = Parser("agentchat admin", description="Administer a relay, running or not.", allow_abbrev=False)
    parser.add_argument("--data", **data)
    parser.add_argument("--store", **store)
    single = [name for name in ADMINISTRATION if "_" not in name]
    nouns = parser.add_subparsers(
        metavar="{" + ",".join([*_ABOUT, *single, *keeping.ABOUT, *moving.ABOUT, *database.ABOUT]) + "}", required=True
    )
    verbs = {
        noun: nouns.add_parser(noun, help=text, description=f"Administer {text}.").add_subparsers(
            metavar="command", required=True
        )
        for noun, text in _ABOUT.items()
    }
    for operation in ADMINISTRATION.values():
        noun, _, verb = operation.name.partition("_")
        text = operation.description
        commands = verbs[noun] if verb else nouns
        command = commands.add_parser(verb or noun, parents=[common], help=text, description=text, allow_abbrev=False)
        for parameter in operation.parameters.values():
            add_argument(command, parameter, operation)
        command.set_defaults(operation=operation)
    text = "Replace the admin credential in DIR/admin.key."
    verbs["credential"].add_parser("rotate", parents=[common], help=text, description=text).set_defaults(operation=None)
    keeping.add_to(nouns, common)
    moving.add_to(nouns, common)
    database.add_to(nouns, common)
    return parser


def _told(name: str, result: Any) -> str:
    """A result for people. A new key stands alone on the last line, so that a script can take it."""
    if name == "agent_token":
        void = " Its old key is void." if result["replaced"] else ""
        print(
            f"{result['name']} in space {result['space']} now has this key, which is shown only once.{void}",
            file=sys.stderr,
        )
        return str(result["key"])
    if name == "agent_delete":
        return f"Deleted {result['name']}; its messages are now by {result['messages_now_by']}."
    if name == "stats":
        return f"{_table([_sized(result['relay'])])}\n\n{_table([_sized(row) for row in result['spaces']])}"
    if name == "audit":
        newer = f"\nThere are newer ones: --after {result['after']}" if result["has_more"] else ""
        older = "\nOlder ones are left out: a larger --limit shows more, --after 0 begins with the oldest."
        return _table(result["transitions"]) + newer + (older if result["has_older"] else "")
    if name.endswith("_list"):
        return _table(next(iter(result.values())))
    return _table([result])


def _sized(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its bytes in a readable unit."""
    return {name: size(n).replace(" ", "") if name.endswith("_bytes") else n for name, n in row.items()}


def _table(rows: list[dict[str, Any]]) -> str:
    """Rows in columns, under the names of their members."""
    if not rows:
        return "None."
    names = [name for name in rows[0] if name != "public_key"]
    cells = [[name.replace("_", " ") for name in names]]
    cells += [[_cell(row[name]) for name in names] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _cell(value: Any) -> str:
    match value:
        case None | []:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ",".join(map(word, value))
        case str() if _TIME.fullmatch(value):
            return f"{value[:19]}Z"
        case _:
            return word(value)
