"""`agentchat serve status` and `stop`. Who runs is asked of the kernel: it knows who holds the lock of a directory."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..directory import RELAYS, Directory, Holder
from .options import directory as named
from .options import seconds

_RELAY = RELAYS[0]
_LONG = 1.0  # seconds of silence
_ANSWER, _STOP = 5.0, 60.0  # the longest waits, by default
_NOT_RUNNING = 3  # as systemd has it


def control(words: Sequence[str], default_directory: str) -> int:
    options = _parser().parse_args(words)
    directory = Directory(options.data or default_directory)
    return stop(directory, options.wait) if options.command == "stop" else status(directory, options.wait, options.json)


def _parser() -> argparse.ArgumentParser:
    from agentchat.cli import Parser

    parser = Parser("agentchat serve", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, text: str, codes: str, wait: float) -> argparse.ArgumentParser:
        codes = f"exit codes: {codes}, {_NOT_RUNNING} it does not run"
        command = commands.add_parser(name, description=text, epilog=codes, allow_abbrev=False)
        command.add_argument(
            "--data", type=named, metavar="DIR", help="the relay's data directory (default: ~/.agentchat/relay)"
        )
        longest = f"the longest wait (default: {wait:g})"
        command.add_argument("--wait", type=seconds, default=wait, metavar="SECONDS", help=longest)
        return command

    add("stop", "Stop the relay of a directory; back when it has ended.", "0 stopped, 1 it did not stop", _STOP)
    look = add("status", "Say whether the relay of a directory runs.", "0 it answers, 1 it does not", _ANSWER)
    look.add_argument("--json", action="store_true", help="print it as JSON")
    return parser


class Status(NamedTuple):
    state: str  # healthy, starting (or about to end), silent, stopped
    holder: Holder | None
    url: str | None = None
    version: str | None = None
    since: str | None = None


def look(directory: Directory, wait: float) -> Status:
    """How the relay of a directory is."""
    holder = directory.holder()
    if holder is None or (holder.is_proven and not holder.is_relay):
        return Status("stopped", holder)
    told = directory.announced()
    if told is None or (holder.is_proven and told.pid != holder.pid):
        return Status("starting", holder)
    answer = health(told.url, wait)
    if answer is None:
        return Status("silent", holder, told.url, since=told.since)
    return Status("healthy", holder, told.url, str(answer.get("version")), told.since)


def health(url: str, wait: float) -> dict[str, Any] | None:
    """What the relay answers about itself, if it answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=max(wait, 0.01))
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
        answer = json.loads(response.read(100_000))
        return answer if response.status == 200 and isinstance(answer, dict) else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def status(directory: Directory, wait: float, as_json: bool) -> int:
    found = look(directory, wait)
    if as_json:
        print(json.dumps(_members(directory, found), indent=2))
    else:
        print(_told(directory, found, wait))
    return {"healthy": 0, "stopped": _NOT_RUNNING}.get(found.state, 1)


def _members(directory: Directory, found: Status) -> dict[str, Any]:
    return {
        "state": found.state,
        "running": found.state != "stopped",
        "healthy": found.state == "healthy",
        "pid": found.holder.pid if found.holder and found.state != "stopped" else None,
        "url": found.url,
        "version": found.version,
        "since": found.since,
        "data": directory.path,
    }


def _told(directory: Directory, found: Status, wait: float) -> str:
    match found.state:
        case "healthy":
            return (
                f"AgentChat relay {found.version} is running on {found.url}, data in {directory.path}\n"
                f"{_who(found)}, since {found.since}"
            )
        case "silent":
            return (
                f"The relay on {found.url} does not answer within {wait:g} s, data in {directory.path}\n"
                f"{_who(found)}. See its log, or: agentchat serve stop --data {shlex.quote(directory.path)}"
            )
        case "starting":
            return f"A relay is starting or stopping, data in {directory.path}\n{_who(found)}"
    other = f" It is in use by {found.holder}." if found.holder else ""
    return f"No relay is running on {directory.path}.{other}"


def _who(found: Status) -> str:
    holder = found.holder
    if holder is None or not holder.is_proven:
        return "Its process cannot be seen from here: it is in a container, or another user's"
    inside = " of another program" if holder.purpose != _RELAY else ""
    return f"Process {holder.pid}{inside}"


def stop(directory: Directory, wait: float) -> int:
    holder = directory.holder()
    if holder is None or (holder.is_proven and not holder.is_relay):
        print(_told(directory, Status("stopped", holder), wait), file=sys.stderr)
        return _NOT_RUNNING
    if problem := _terminate(holder):
        print(f"{directory.path} is in use by {holder}{problem}", file=sys.stderr)
        return 1
    started, told = time.monotonic(), False
    while (now := directory.holder()) and now.pid == holder.pid:
        waited = time.monotonic() - started
        if waited >= wait:
            print(
                f"The relay did not stop within {wait:g} s: process {holder.pid} still has {directory.path}. Look at "
                "its log; wait longer with --wait; or end it by force, which loses nothing it accepted: "
                f"kill -9 {holder.pid}",
                file=sys.stderr,
            )
            return 1
        if waited >= _LONG and not told:
            told = True
            print(f"The relay is finishing what is under way. Waiting up to {wait:g} s.", file=sys.stderr)
        time.sleep(0.02)
    waited = time.monotonic() - started
    print(
        f"Stopped the relay on {directory.path} (process {holder.pid}"
        + (f", {waited:.0f} s)." if waited >= 1 else ").")
    )
    return 0


def _terminate(holder: Holder) -> str | None:
    """Ask the holder of the lock to stop, or say why not. A number that is only hearsay may by now be anybody's."""
    if not holder.is_proven:
        return ", which cannot be seen from here: it is in a container, or another user's. Stop it there."
    if holder.purpose != _RELAY:
        return ", which ends together with its program."
    try:
        os.kill(holder.pid, signal.SIGTERM)
    except ProcessLookupError:  # it has just ended
        return None
    except PermissionError:
        return ", which is another user's. Stop it as that user, or as root."
    return None
