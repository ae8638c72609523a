"""What the relay writes down: every fault with its place, every request if that is wanted, and nothing anybody said."""

from __future__ import annotations

import asyncio
import errno
import gc
import http.client
import json
import logging
import os
import re
import secrets
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import psycopg
import pytest

from agentchat import Client
from agentchat._operation import Operation, Parameter
from agentchat.contract import OPERATIONS, Admission
from agentchat.errors import InvalidArguments, NotConfigured, NotFound
from agentchat_relay import log
from agentchat_relay.administration import ADMINISTRATION
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.http.app import routes
from agentchat_relay.http.parts import Parts
from agentchat_relay.http.reply import Reply
from agentchat_relay.http.request import Request
from agentchat_relay.service.operations import SERVICES
from agentchat_relay.store.postgres import connection as postgres
from tests.relay import database
from tests.relay.conftest import UNLIMITED, until

pytestmark = pytest.mark.usefixtures("impatient")
MARK = "zx5ecret9q"  # what no log may hold; it fits names of channels, agents and machines
HIDDEN = b64encode(MARK.encode()).decode()
ID = "01890000-0000-7000-8000-000000000000"  # of nothing
THERE = "test_logs.py"
FORMATS = pytest.mark.parametrize("format", log.FORMATS)


@contextmanager
def logging_to(path: Path | None, **options: Any) -> Iterator[None]:
    """The log of a relay's process, in this one."""
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn.error")
    before = [*root.handlers], root.level, uvicorn.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    root.handlers.clear()  # pytest's keep everything
    log.configure(file=path, **options)
    try:
        yield
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        uvicorn.setLevel(before[2])
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


class Told(NamedTuple):
    """A record, read back."""

    message: str
    fields: dict[str, Any]
    fault: str


HEAD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (?:DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)")
FIELD = re.compile(r" (\w+)=(\S+)")


def read(path: Path, format: str) -> list[Told]:
    if format == "json":
        return [from_json(line) for line in path.read_text().splitlines()]
    found: list[Told] = []
    for line in path.read_text().splitlines():
        if head := HEAD.fullmatch(line):
            found.append(Told(FIELD.sub("", head[1]), dict(FIELD.findall(head[1])), ""))
        else:
            assert line.startswith("  ") and found, line
            found[-1] = found[-1]._replace(fault=f"{found[-1].fault}{line}\n")
    return found


def from_json(line: str) -> Told:
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", told.pop("at"))
    assert told.pop("level") in (*log.LEVELS, "critical")
    fault = {name: told.pop(name) for name in ("error", "stack", "causes") if name in told}
    return Told(told.pop("message"), told, json.dumps(fault) if fault else "")


def answered(records: list[Told]) -> dict[str, Told]:
    """The records of requests, by their ids."""
    found = [record for record in records if record.message == "request answered"]
    by_id = {record.fields["request"]: record for record in found}
    assert len(by_id) == len(found)
    return by_id


class Answer(NamedTuple):
    status: int
    id: str | None
    content: bytes


def ask(url: str, method: str, target: str, body: bytes | None = None, **headers: str) -> Answer:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with closing(connection):
        connection.request(method, target, body, named)
        response = connection.getresponse()
        return Answer(response.status, response.headers["x-request-id"], response.read())


# Nothing that was said


def arguments(operation: Operation[..., Any], *, valid: bool) -> dict[str, Any]:
    """The mark in every argument: wherever it is allowed, or everywhere."""
    given: dict[str, Any] = {}
    for name, parameter in operation.parameters.items():
        inner = given
        for step in parameter.wire[:-1]:
            inner = inner.setdefault(step, {})
        inner[parameter.wire[-1]] = "main" if name == "space" else fitting(parameter) if valid else MARK
    return given if valid else given | {MARK: MARK}


def fitting(parameter: Parameter) -> Any:
    values = {"array": [MARK], "object": {MARK: MARK}, "integer": 1, "boolean": False}
    forms = [MARK, ID, "message.created", f"repo:{MARK}", "2026-01-01T00:00:00Z", "0" * 64, "0" * 32]
    if parameter.kind == "array" and parameter.item_form:
        return [next(value for value in forms if re.search(parameter.item_form.pattern, value))]
    if parameter.kind != "string":
        return values[parameter.kind]
    if parameter.choices:
        return parameter.choices[0]
    return next(value for value in forms if parameter.form is None or re.search(parameter.form.pattern, value))


def calls(key: str, admin: str, *, valid: bool) -> Iterator[tuple[str, str, str, bytes | None, dict[str, str]]]:
    """Every operation: its name and a request for it with the mark wherever a caller can put one."""
    declared = [*OPERATIONS.values(), Admission.register, *ADMINISTRATION.values()]
    for operation in declared:
        given = arguments(operation, valid=valid)
        path = operation.path.partition("?")[0].format(**dict.fromkeys(operation.parameters, MARK) | given)
        query = urlencode(given if operation.verb == "GET" else {MARK: MARK}, doseq=True)
        body = None if operation.verb == "GET" else json.dumps(given).encode()
        bearer = admin if operation.name in ADMINISTRATION else MARK
        name = "download_file" if operation.name == "get_file_url" else operation.name
        yield (
            name,
            operation.verb,
            f"{path}?{query}",
            body,
            {"x_agent_api_key": key, "authorization": f"Bearer {bearer}"},
        )
    secret = {"machine_name": MARK, "public_key": "0" * 64, "admin_secret": admin if valid else MARK}
    yield "register_machine", "POST", "/api/v2/admin/register-machine", json.dumps(secret).encode(), {}
    for action in ("claim", MARK):
        body = json.dumps({"action": action, MARK: MARK}).encode()
        yield "act_on_task", "POST", f"/api/v2/tasks/{ID}?{MARK}", body, {"x_agent_api_key": key}
    yield "linked_file", "GET", f"/api/files/signed/{MARK}", None, {}
    yield "unknown", "GET", f"/{MARK}?{MARK}={MARK}", None, {}
    yield "unknown", "PATCH", f"/api/v2/{MARK}", None, {}
    yield "metrics", "GET", f"/metrics?{MARK}", None, {"authorization": f"Bearer {MARK}"}
    for name, path in (("root", "/"), ("health", "/health"), ("openapi", "/openapi.json")):
        yield name, "GET", f"{path}?{MARK}", None, {}


def asked_for_everything(relay: Embedded, key: str) -> dict[str, str]:
    """All of them; what was asked for, by the ids of the answers."""
    admin, asked = relay.directory.admin_secret(), {}
    marked = {
        "user_agent": MARK,
        "cookie": MARK,
        "idempotency_key": MARK,
        "x_agent_session": MARK,
        "x_request_id": MARK,
    }
    for valid in (True, False):
        for name, verb, target, body, headers in calls(key, admin, valid=valid):
            answer = ask(relay.url, verb, target, body, **marked | headers)
            assert answer.id is not None
            assert answer.id not in asked
            asked[answer.id] = name
    return asked


def hung_up(url: str, key: str) -> None:
    """A request that is not finished, and bytes that are none."""
    parts = urlsplit(url)
    for sent in (
        f"PUT /api/files?{MARK} HTTP/1.1\r\nhost: x\r\nx-agent-api-key: {key}\r\ncontent-length: 99\r\n\r\n{MARK}",
        f"{MARK} {MARK} {MARK}\r\n\r\n",
    ):
        with socket.create_connection((parts.hostname or "", parts.port or 0), 30) as connection:
            connection.sendall(sent.encode())
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass


def nothing_of(path: Path, *secret: str) -> None:
    text = path.read_text().lower()
    for each in (MARK, HIDDEN, *secret):
        assert each.lower() not in text, re.findall(f".*{re.escape(each.lower())}.*", text)[:3]


@FORMATS
def test_nothing_that_callers_send_is_written_down(format: str, tmp_path: Path):
    path = tmp_path / "log"
    with (
        logging_to(path, format=format, level="debug"),
        running(settings=UNLIMITED._replace(log_requests=True)) as relay,
    ):
        key = relay.token(f"mac-{MARK}")
        with Client(relay.url, key, retries=0) as client:
            client.send_message(MARK, f"{MARK} @mac-{MARK}")
            file = client.upload_file(MARK, f"{MARK}.bin", HIDDEN, encoding="base64")["file"]
            client.upload_file(MARK, f"{MARK}.txt", MARK * 50)
            client.get_file_url(file["path"])
            client.search_messages(MARK)
            client.send_direct_message(f"mac-{MARK}", MARK)
            schema = {"properties": {MARK: {"description": MARK}}}
            task = client.create_task(MARK, channel=MARK, body=MARK, context=MARK * 50, result_schema=schema)["task"][
                "id"
            ]
            client.claim_task(task)
            client.report_progress(task, MARK)
            client.complete_task(task, json.dumps({MARK: HIDDEN}))
            relay.token(f"other-{MARK}")
            stop = client.send_interrupt(f"other-{MARK}", MARK)["interrupt"]["id"]
            client.withdraw_interrupt(stop, note=MARK)
            wanted = client.request_approval(MARK, json.dumps({MARK: HIDDEN}), reason=MARK)["approval"]["id"]
            client.withdraw_approval(wanted, reason=MARK)
        asked = asked_for_everything(relay, key)
        hung_up(relay.url, key)
        admin = relay.directory.admin_secret()
    nothing_of(path, key, admin, file["path"])
    found = answered(read(path, format))
    assert {id: found[id].fields["operation"] for id in asked} == asked
    assert {found[id].fields["code"] for id in asked} >= {"ok", "unauthorized", "not_found", "bad_request", "forbidden"}


class Torn(Exception):
    """A fault whose text holds what it failed at."""


def failing(*args: Any, **more: Any) -> Any:
    try:
        raise KeyError(MARK)
    except KeyError:
        raise Torn(f"{MARK} in {args} {more}") from ExceptionGroup(MARK, [ValueError(MARK), OSError(28, MARK, MARK)])


async def torn_pieces() -> AsyncIterator[bytes]:
    yield b"a beginning"
    failing(MARK)


async def streams(request: Request) -> Reply:
    return Reply(200, [], pieces=torn_pieces())


async def lets_others_fail(request: Request) -> Reply:
    """On the loop with the mark as argument, in a task nobody waits for, in a thread, and where nobody can be told."""
    loop = asyncio.get_running_loop()
    loop.call_soon(failing, MARK)
    task = loop.create_task(streams_nothing())
    await asyncio.wait([task])
    del task
    thread = threading.Thread(target=failing, args=(MARK,), name=MARK)
    thread.start()
    await asyncio.to_thread(thread.join)
    Unraisable()
    gc.collect()
    await asyncio.sleep(0)
    return Reply(200, [])


async def streams_nothing() -> None:
    failing(MARK)


class Unraisable:
    def __del__(self) -> None:
        failing(MARK)


def faulty_routes(parts: Parts) -> Any:
    services = {name: entry._replace(service=failing) for name, entry in SERVICES.items()}
    return {**routes(parts, services), ("GET", "/streams"): streams, ("GET", "/others"): lets_others_fail}


@FORMATS
def test_faults_are_told_by_their_place_only(format: str, tmp_path: Path):
    path = tmp_path / "log"
    with (
        logging_to(path, format=format),
        running(settings=UNLIMITED._replace(log_requests=True), make_routes=faulty_routes) as relay,
    ):
        key = relay.token(f"mac-{MARK}")
        asked = asked_for_everything(relay, key)
        with pytest.raises(http.client.IncompleteRead):
            ask(relay.url, "GET", "/streams")
        assert ask(relay.url, "GET", "/others").status == 200
        admin = relay.directory.admin_secret()
    nothing_of(path, key, admin)
    records = read(path, format)
    found = answered(records)
    faults = {record.fields["request"]: record for record in records if "failed" in record.message}
    assert {found[id].fields["operation"] for id in asked if id in faults} == {*SERVICES, "act_on_task"}
    for id, fault in faults.items():
        assert fault.message == f"request {id} failed"
        assert fault.fields["operation"] == found[id].fields["operation"] == asked[id]
        assert str(found[id].fields["status"]) == "500"
        assert re.search(rf"relay/{THERE}:\d+ failing", fault.fault), fault
        for told in ("Torn", "ExceptionGroup", "ValueError", "OSError (ENOSPC: No space left on device)"):
            assert told in fault.fault
    others = [record for record in records if record.fault and record not in faults.values()]
    assert len(others) == 5
    for beginning in ("the answer to request", "Exception in callback", "Task exception was never retrieved"):
        assert [record for record in others if record.message.startswith(beginning)], beginning
    assert all("failing" in record.fault for record in others)
    (broken,) = [record for record in found.values() if record.fields["bytes"] in (11, "11")]
    assert broken.fields["code"] == "internal_error"


class TellsRows(sqlite3.Connection):
    """An engine that fails, with the values in its words; the other one is below."""

    def execute(self, sql: str, values: Any = (), /) -> sqlite3.Cursor:
        if MARK in repr(values):
            raise sqlite3.IntegrityError(f"{sql} {values}")
        return super().execute(sql, values)

    def executemany(self, sql: str, rows: Any, /) -> sqlite3.Cursor:
        if MARK in repr(rows):
            raise sqlite3.IntegrityError(f"{sql} {rows}")
        return super().executemany(sql, rows)


def telling_rows(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30, factory=TellsRows)
    connection.row_factory = sqlite3.Row
    return connection


class TellsMore(psycopg.RawCursor[Any]):
    def execute(self, sql: Any, values: Any = (), **more: Any) -> Any:
        if MARK in repr(values):
            raise psycopg.IntegrityError(f"{sql} {values}")
        return super().execute(sql, values, **more)


def telling_more(url: str, *more: str) -> postgres.Connection:
    connection = postgres.connect(url, *more)
    connection.cursor_factory = TellsMore
    return connection


@FORMATS
def test_what_the_engine_says_of_its_rows_is_left_out(format: str, tmp_path: Path):
    path = tmp_path / "log"
    with (
        logging_to(path, format=format),
        running(
            settings=UNLIMITED._replace(log_requests=True),
            connect=telling_more if database.engine == "postgres" else telling_rows,
        ) as relay,
    ):
        key = relay.token("mac-ann")
        asked = asked_for_everything(relay, key)
    nothing_of(path, key)
    records = read(path, format)
    faults = [record for record in records if "failed" in record.message]
    operations = {record.fields["operation"] for record in faults}
    assert operations >= {"read_messages", "send_message", "space_add", "agent_token", "set_card"}
    where = re.compile(rf"{database.engine}/transaction\.py:|store/reading\.py:")  # of a write, of a read
    assert all("IntegrityError" in record.fault and where.search(record.fault) for record in faults)
    assert len(answered(records)) == len(asked)


def test_what_goes_wrong_besides_requests_is_told_without_its_words(tmp_path: Path):
    """The lanes and the chores pass the exception as an argument."""
    path = tmp_path / "log"
    relays = logging.getLogger("agentchat.relay")
    with logging_to(path):
        relays.warning("Searching failed: %s", sqlite3.OperationalError(f'fts5: syntax error near "{MARK}"'))
        relays.warning("%(what)s failed: %(why)s", {"what": "It", "why": NotFound(f"There is no {MARK}.")})
        relays.error(ValueError(MARK))
        relays.error("%d of %d", MARK)  # cannot be put together
    nothing_of(path)
    assert [record.message for record in read(path, "text")] == [
        "Searching failed: OperationalError",
        "It failed: NotFound (not_found)",
        "ValueError",
    ]


def raised(call: Callable[[], Any]) -> BaseException:
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError(MARK), "ValueError"),
        (Torn(MARK), "Torn"),
        (OSError(MARK), "OSError"),
        (OSError(errno.ENOSPC, MARK, MARK), "OSError (ENOSPC: No space left on device)"),
        (raised(lambda: os.stat(f"/{MARK}")), "FileNotFoundError (ENOENT: No such file or directory)"),
        (sqlite3.OperationalError(MARK), "OperationalError"),
        (raised(lambda: sqlite3.connect(":memory:").execute(MARK)), "OperationalError (SQLITE_ERROR)"),
        (NotFound(MARK), "NotFound (not_found)"),
        (UnicodeDecodeError("utf-8", MARK.encode(), 0, 1, MARK), "UnicodeDecodeError"),
    ],
)  # fmt: skip
def test_what_is_said_of_an_exception(error: BaseException, told: str):
    assert log.described(error) == told


@FORMATS
def test_records_of_other_packages_are_told_by_their_place(format: str, tmp_path: Path):
    path = tmp_path / "log"
    with logging_to(path, format=format, level="debug"):
        for name in ("asyncio", "uvicorn", "uvicorn.error", "elsewhere"):
            logging.getLogger(name).critical("%s, Task exception", MARK)
        logging.getLogger("asyncio").error(f"Task exception was never retrieved\nfuture: {MARK}", exc_info=Torn(MARK))
    nothing_of(path)
    records = read(path, format)
    names = ["asyncio", "uvicorn", "uvicorn.error", "elsewhere"]
    for name, record in zip(names, records[:-1], strict=True):
        assert re.fullmatch(rf"A record, of {name} \(tests/relay/{THERE}:\d+ \w+\)", record.message)
    assert records[-1].message.startswith("Task exception was never retrieved, of asyncio (")
    assert "Torn" in records[-1].fault


ENDING = """
import sys, threading, types
from agentchat_relay import log
mark = "".join(reversed(sys.argv[1]))
log.configure(format=sys.argv[2])
def failing(*args):
    raise ValueError(mark)
thread = threading.Thread(target=failing, name=mark)
thread.start()
thread.join()
Left = type("Left", (), {"__del__": failing, "__repr__": lambda self: mark})
Left()
failing()
"""


@FORMATS
def test_what_ends_a_process_is_told_without_its_words(format: str):
    command = [sys.executable, "-c", ENDING, MARK[::-1], format]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert MARK not in done.stdout + done.stderr
    assert done.stderr.count(" failing") == 3
    assert "ends by a fault: ValueError. Its log says where." in done.stderr


# Requests and their ids


def test_a_request_has_one_record_with_everything_that_may_be_known(tmp_path: Path):
    path = tmp_path / "log"
    with logging_to(path, format="json"), running(settings=UNLIMITED._replace(log_requests=True)) as relay:
        key = relay.token("mac-ann")
        with Client(relay.url, key, retries=0) as client:
            file = client.upload_file("general", "a.txt", "x" * 100_000)["file"]["path"]
        at = f"/api/files?path={quote(file)}"
        download, head = (ask(relay.url, verb, at, x_agent_api_key=key) for verb in ("GET", "HEAD"))
        refused = ask(relay.url, "GET", "/api/v2/board", x_agent_api_key="0" * 64)
        hung_up(relay.url, key)
        until(lambda: '"disconnected"' in path.read_text())
    records = [json.loads(line) for line in path.read_text().splitlines()]
    by_id = {record["request"]: record for record in records}
    for record in records:
        fields = ["at", "level", "message", "request", "operation", "code", "status", "seconds", "bytes"]
        assert [*record] == [name for name in fields if name in record]
        assert record["seconds"] > 0
    told = {id: [by_id[id].get(name) for name in ("operation", "code", "status", "bytes")] for id in by_id}
    assert told[download.id or ""] == ["download_file", "ok", 200, 100_000]
    assert told[head.id or ""] == ["download_file", "ok", 200, 0]
    assert told[refused.id or ""] == ["check_board", "unauthorized", 401, len(refused.content)]
    (gone,) = [record for record in records if record["code"] == "disconnected"]
    assert "status" not in gone


def test_without_the_setting_only_refusals_have_an_id_and_nothing_is_written(tmp_path: Path):
    path = tmp_path / "log"
    with logging_to(path), running(settings=UNLIMITED) as relay:
        assert ask(relay.url, "GET", "/health").id is None
        first, second = (ask(relay.url, "GET", "/nowhere").id for _ in range(2))
    assert first and second and first != second
    assert path.read_text() == ""


@pytest.mark.parametrize("log_requests", [True, False])
def test_an_id_is_taken_over_from_a_trusted_proxy_only(log_requests: bool):
    settings = UNLIMITED._replace(log_requests=log_requests)
    good, bad = ["a", "A-b_c.9", "x" * 64], ["", "x" * 65, "a b", "a/b", "a\tb", "é", "a:b"]
    with (
        running(settings=settings) as alone,
        running(settings=settings._replace(trusted_proxies=("127.0.0.1",))) as behind,
    ):
        for given in (*good, *bad):
            for relay, is_taken in ((alone, False), (behind, given in good)):
                answer = ask(relay.url, "GET", "/nowhere", x_request_id=given)
                assert answer.status == 404
                assert (answer.id == given) is is_taken, given
                assert answer.id


# Where it goes


def fill(count: int) -> None:
    for number in range(count):
        logging.getLogger("agentchat.relay").info("record %04d %s", number, "x" * 80)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_for_this_user_only_and_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log, "_LARGEST_FILE", 1000)
    path = tmp_path / "log"
    before = os.umask(0)
    try:
        with logging_to(path):
            fill(200)
    finally:
        os.umask(before)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["log", "log.1", "log.2", "log.3", "log.4"]
    assert {mode(file) for file in files} == {0o600}
    assert all(0 < file.stat().st_size <= 1000 for file in files)
    kept = [
        int(re.findall(r"record (\d+)", line)[0]) for file in reversed(files) for line in file.read_text().splitlines()
    ]
    assert kept == [*range(200 - len(kept), 200)]


def test_an_earlier_log_is_continued(tmp_path: Path):
    path = tmp_path / "log"
    for _ in range(2):
        with logging_to(path):
            fill(1)
    assert path.read_text().count("\n") == 2


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path):
    """As logrotate does it."""
    path, moved = tmp_path / "log", tmp_path / "moved"
    with logging_to(path):
        fill(1)
        path.rename(moved)
        fill(2)
        path.unlink()
        fill(3)
    assert moved.read_text().count("\n") == 1
    assert path.read_text().count("\n") == 3
    assert mode(path) == 0o600


def test_a_log_that_cannot_be_written_disturbs_nothing(tmp_path: Path):
    lost = log.counts.lost
    with logging_to(Path("/dev/full")), running(settings=UNLIMITED._replace(log_requests=True)) as relay:
        assert ask(relay.url, "GET", "/health").status == 200
    assert log.counts.lost == lost + 1
    folder = tmp_path / "folder"
    folder.mkdir()
    with logging_to(folder / "log"):
        (folder / "log").unlink()
        folder.rmdir()
        fill(1)  # into the file that has no name any more
    assert log.counts.lost == lost + 1


@pytest.mark.parametrize("name", ["no/such/folder", "."])
def test_a_log_that_cannot_be_opened_is_a_clear_error(tmp_path: Path, name: str):
    handlers = [*logging.getLogger().handlers]
    with pytest.raises(NotConfigured, match=r"Cannot write the log to /.*: .*Choose another file") as caught:
        log.configure(file=tmp_path / name)
    assert str(tmp_path) in str(caught.value)
    assert logging.getLogger().handlers == handlers


@pytest.mark.parametrize("options", [{"format": "xml"}, {"level": "loud"}])
def test_formats_and_levels_that_do_not_exist(options: dict[str, Any]):
    with pytest.raises(InvalidArguments, match="text or json"):
        log.configure(**options)


def test_the_level_and_another_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first, second = tmp_path / "first", tmp_path / "second"
    with logging_to(first, level="warning"):
        fill(1)
        logging.getLogger("agentchat.relay").warning("one")
        log.configure(file=second, level="debug")
        logging.getLogger("agentchat.relay").debug("two")
        log.configure()
        fill(1)
    assert [first.read_text().count("\n"), second.read_text().count("\n")] == [1, 1]
    assert HEAD.fullmatch(capsys.readouterr().err.strip())


def test_records_are_counted(tmp_path: Path):
    before = dict(log.counts.written)
    with logging_to(tmp_path / "log", level="debug"):
        for level in (10, 15, 20, 30, 40, 50, 60):
            logging.getLogger("agentchat.relay").log(level, "it")
    assert [log.counts.written[name] - before[name] for name in (*log.LEVELS, "critical")] == [2, 1, 1, 1, 2]


# As a process


def test_the_options_of_serve(tmp_path: Path):
    path, secret = tmp_path / "log", secrets.token_hex(32)
    options = ["--log-format", "json", "--log-file", str(path), "--log-requests"]
    command = [sys.executable, "-m", "agentchat", "serve", "--data", str(tmp_path / "relay"), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = re.search(r"ready on (http://\S+),", process.stdout.readline())
            assert ready is not None
            answer = ask(ready[1], "GET", f"/api/v2/board?{MARK}", x_agent_api_key=secret)
            hung_up(ready[1], secret)
            process.terminate()
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")
    nothing_of(path, secret)
    assert mode(path) == 0o600
    assert answer.id in answered(read(path, "json"))
