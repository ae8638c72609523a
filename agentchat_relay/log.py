"""The log of the relay's process: a record a line, as text or JSON, to standard error or to a file that stays small.

What agents say and what callers type never gets here:

* Our own records are words of ours with an id, an operation's name, a code, a number.
* Of an exception, whoever raised it, the log has the type and the places it came through. Its own text may hold what it
  failed at: a key, a row, a query. So that is left out, and three kinds get words that cannot: an `OSError` what the
  system says to its number (not the path), an `sqlite3.Error` SQLite's name for its code (not the message: FTS5 quotes
  the query), an error of ours its code (not the sentence, which names what was asked for). Exceptions among the
  arguments of a record are told in the same way.
* Records of other packages may hold anything: asyncio prints the arguments of a callback that failed. The log has where
  they were made, and the beginning of those that are listed here.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sqlite3
import stat
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal, get_args

from agentchat.errors import AgentChatError, InvalidArguments, NotConfigured

from .wire import iso

Format = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]
FORMATS: tuple[Format, ...] = get_args(Format)
LEVELS: tuple[Level, ...] = get_args(Level)

_ALL_LEVELS = (*LEVELS, "critical")
_OURS = "agentchat"
_LARGEST_FILE = 10 << 20
_OLD_FILES = 4
_MOST_FRAMES = 30
_MOST_CAUSES = 5
_KNOWN = (
    "Exception in callback",
    "Exception in default exception handler",
    "Executing",
    "Fatal error",
    "Future exception was never retrieved",
    "Task exception was never retrieved",
    "Task was destroyed but it is pending",
    "Unclosed transport",
    "Using selector",
    "socket.accept() out of system resource",
)
_log = logging.getLogger("agentchat.relay")


class Counts:
    """Records since the process began: what was written, by level, and what could not be, because of a full disk."""

    def __init__(self) -> None:
        self.written: dict[str, int] = dict.fromkeys(_ALL_LEVELS, 0)
        self.lost = 0


counts = Counts()


def configure(*, format: Format = "text", level: Level = "info", file: str | os.PathLike[str] | None = None) -> None:
    """Set up the log of a process that is a relay; again, to change it. Without `file` it goes to standard error."""
    if format not in FORMATS or level not in LEVELS:
        raise InvalidArguments(f"A log is {' or '.join(FORMATS)}, from the level {', '.join(LEVELS)} on.")
    handler = _Handler(_Stderr() if file is None else _File(os.path.abspath(file)))
    handler.setFormatter(_Json() if format == "json" else _Text())
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
        old.out.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it tells of every stranger's broken request
    _take_uncaught()


def _take_uncaught() -> None:
    """What nobody catches is printed by Python with its text."""

    def of_process(kind: type[BaseException], error: BaseException, trace: object) -> None:
        _log.critical("The process ends by a fault", exc_info=error)
        print(f"agentchat ends by a fault: {described(error)}. Its log says where.", file=sys.stderr)

    def of_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and args.exc_type is not SystemExit:
            _log.error("A thread ends by a fault", exc_info=args.exc_value)

    def of_nobody(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            _log.error("A fault where none can be raised", exc_info=args.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = of_process, of_thread, of_nobody


# What is told


def described(error: object) -> str:
    """An exception, without anything it was given."""
    name = type(error).__qualname__
    if isinstance(error, AgentChatError):
        return f"{name} ({error.code})"
    if isinstance(error, OSError) and (number := error.errno or 0) in errno.errorcode:
        return f"{name} ({errno.errorcode[number]}: {os.strerror(number)})"
    if isinstance(error, sqlite3.Error) and (code := getattr(error, "sqlite_errorname", None)):
        return f"{name} ({code})"
    return name


def _message(record: logging.LogRecord) -> str:
    if record.name.partition(".")[0] != _OURS:
        beginning = next((known for known in _KNOWN if str(record.msg).startswith(known)), "A record")
        return f"{beginning}, of {record.name} ({_place(record.pathname, record.lineno, record.funcName)})"
    template, args = str(_safe(record.msg)), record.args
    if not args:
        return template
    if isinstance(args, Mapping):
        return template % {name: _safe(value) for name, value in args.items()}
    return template % tuple(map(_safe, args))


def _safe(value: object) -> object:
    return described(value) if isinstance(value, BaseException) else value


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a record was given as `extra={"fields": {...}}`."""
    return getattr(record, "fields", {})


def _faults(record: logging.LogRecord) -> Iterator[tuple[str, list[str]]]:
    """The exception of a record and what caused it: description and places, the innermost last."""
    waiting = [record.exc_info[1]] if record.exc_info and record.exc_info[1] else []
    for _ in range(_MOST_CAUSES):
        if not waiting:
            return
        error = waiting.pop(0)
        frames = [*traceback.walk_tb(error.__traceback__)][-_MOST_FRAMES:]
        yield described(error), [_place(f.f_code.co_filename, line, f.f_code.co_qualname) for f, line in frames]
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions
        if cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
            waiting.append(cause)


def _place(path: str, line: int, function: str | None) -> str:
    return f"{'/'.join(path.split(os.sep)[-3:])}:{line} {function}"


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        words = [self.formatTime(record), record.levelname, _message(record)]
        words += [f"{name}={value}" for name, value in _fields(record).items()]
        lines = [
            line
            for number, (error, places) in enumerate(_faults(record))
            for line in (f"  {'caused by ' if number else ''}{error}", *(f"    {place}" for place in places))
        ]
        return "\n".join([" ".join(words), *lines])


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at, level = iso(int(record.created * 1e6)), _level(record)
        told: dict[str, Any] = {"at": at, "level": level, "message": _message(record), **_fields(record)}
        faults = [{"error": error, "stack": places} for error, places in _faults(record)]
        if faults:
            told |= faults[0]
        if faults[1:]:
            told["causes"] = faults[1:]
        return json.dumps(told)


def _level(record: logging.LogRecord) -> str:
    return _ALL_LEVELS[min(max(record.levelno // 10, 1), len(_ALL_LEVELS)) - 1]


# Where it goes


class _Handler(logging.Handler):
    """Neither a record that cannot be put into words nor a full disk may disturb what the record is about."""

    def __init__(self, out: _Stderr | _File) -> None:
        super().__init__()
        self.out = out

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.out.write(self.format(record) + "\n")
            counts.written[_level(record)] += 1
        except Exception:
            counts.lost += 1


class _Stderr:
    def write(self, line: str) -> None:
        sys.stderr.write(line)
        sys.stderr.flush()

    def close(self) -> None:
        """It stays open for others."""


class _File:
    """A file of at most 10 MiB, with four older ones beside it, all readable by this user only. Somebody else may move
    it away at any time: the next record begins it anew."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._open()
            if self._is_regular() and not os.access(os.path.dirname(path), os.W_OK):
                raise NotConfigured(f"The log {path} must be in a directory that can be written to, for its old files.")
        except OSError as error:
            raise NotConfigured(f"Cannot write the log to {path}: {error.strerror}. Choose another file.") from error

    def write(self, line: str) -> None:
        data = line.encode("utf-8", "backslashreplace")
        if self._is_regular():
            with suppress(OSError):  # then it goes on where it is
                self._make_room(len(data))
        while data:
            data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        os.close(self._descriptor)

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def _reopen(self) -> None:
        before = self._descriptor
        self._open()
        os.close(before)

    def _is_regular(self) -> bool:
        return stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    def _is_there(self) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        return False

    def _make_room(self, size: int) -> None:
        if not self._is_there():
            self._reopen()
        if os.fstat(self._descriptor).st_size + size > _LARGEST_FILE:
            self._rotate()

    def _rotate(self) -> None:
        for number in range(_OLD_FILES - 1, 0, -1):
            with suppress(FileNotFoundError):
                os.replace(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        os.replace(self._path, f"{self._path}.1")
        self._reopen()
