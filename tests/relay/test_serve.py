"""`agentchat serve` as a process of its own: it starts, says so, stops without losing anything, and refuses clearly."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import re
import shlex
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client, __version__, cli
from agentchat.errors import AgentChatError, NotConfigured
from agentchat_relay.cli import serve  # now, before the process is somebody else, who may not read it

pytestmark = pytest.mark.sqlite

ROOT = Path(__file__).resolve().parents[2]
AGENTCHAT = (sys.executable, "-m", "agentchat")
READY = re.compile(r"AgentChat relay (\S+) is ready on (http://\S+), data in (.+)")
PATIENCE = 60.0  # seconds before a test gives up; nothing is measured by it


class Served:
    """A relay in a process, from the moment it says that it is ready."""

    def __init__(self, path: Path, *options: str) -> None:
        self.path = path
        command = [*AGENTCHAT, "serve", "--data", str(path), "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=run) for run in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()
        try:
            if (first := self._lines.get(timeout=PATIENCE)) is None:
                self._lines.put(None)  # it died; `wait` looks for the end as well
            ready = READY.fullmatch(first or "")
            assert ready, f"{first!r} {''.join(self.errors)!r}"
        except BaseException:
            self.kill()
            raise
        self.greeting = [ready[0]]
        self.version, self.url, self.shown_path = ready.groups()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def kill(self) -> int:
        self.process.kill()
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(timeout=PATIENCE)
        for thread in self._threads:
            thread.join()
        while (line := self._lines.get()) is not None:
            self.greeting.append(line)
        self._lines.put(None)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code

    def line(self, number: int) -> str:
        """A line of the greeting; it may still be on its way."""
        while len(self.greeting) <= number:
            line = self._lines.get(timeout=PATIENCE)
            assert line is not None, self.greeting
            self.greeting.append(line)
        return self.greeting[number]

    def key(self, name: str) -> str:
        return admin(self.path, "agent", "token", name).stdout.splitlines()[-1]

    def client(self, name: str = "mac-ann") -> Client:
        return Client(self.url, self.key(name), retries=0)


@contextlib.contextmanager
def serving(path: Path, *options: str) -> Iterator[Served]:
    served = Served(path, *options)
    try:
        yield served
    finally:
        if served.process.poll() is None:
            served.kill()


def admin(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run("admin", "--data", str(path), *words, code=0)


def run(*words: str, code: int, **environ: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*AGENTCHAT, *words], env=os.environ | environ, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    return done


def refused(path: Path, *options: str, code: int) -> str:
    """What `serve` says when it does not start. It says it on stderr, in one line."""
    command = [*AGENTCHAT, "serve", "--data", str(path), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if ready := process.stdout.readline():  # it must not start: nobody would stop it
            process.terminate()
        _, errors = process.communicate(timeout=PATIENCE)
    assert not ready
    assert process.returncode == code, errors
    assert len(errors.splitlines()) == 1, errors
    return errors


def get(url: str, path: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "relay"


@pytest.fixture(autouse=True)
def _unbuffered_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The readiness line must come through a pipe by itself."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


# Starting


def test_what_is_not_installed_is_named_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = serve.find_spec
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name in ("uvicorn", "msgspec") else found(name))
    for more in ([], ["--daemon"]):
        with pytest.raises(NotConfigured, match=r"needs msgspec, uvicorn, not installed here: pip install .*\[relay\]"):
            serve.main(["--data", str(tmp_path / "data"), *more])
    assert not (tmp_path / "data").exists()
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["relay"]
    assert {*serve._NEEDED} < {re.split("[>;]", line)[0] for line in extra}


def test_the_readiness_line_means_that_connections_are_accepted(data: Path) -> None:
    with serving(data) as relay:
        for path in ("/health", "/"):  # at once, the first thing anybody asks
            status, answer = get(relay.url, path)
            assert status == 200
            assert answer["version"] == __version__ == relay.version
            assert answer["contract"] == "v2"
        assert relay.shown_path == str(data)


def test_three_lines_on_the_first_start_and_one_later(data: Path) -> None:
    for lines in (3, 1, 1):
        with serving(data) as relay:
            assert relay.stop() == 0
            assert len(relay.greeting) == lines, relay.greeting


def test_the_first_lines_say_how_to_connect_and_it_works(tmp_path: Path) -> None:
    """Also where the path has to be quoted."""
    with serving(tmp_path / "the team's relay") as relay:
        words = shlex.split(relay.line(1).partition(": ")[2])
        assert words[0] == "agentchat"
        key = run(*(word if word != "NAME" else "mac-ann" for word in words[1:]), code=0).stdout.splitlines()[-1]
        check = shlex.split(relay.line(2).partition(": ")[2].replace("=KEY ", f"={key} "))
        variables = dict(word.split("=", 1) for word in check[:2])
        assert set(variables) == {"AGENTCHAT_URL", "AGENTCHAT_KEY"}
        assert check[2] == "agentchat"
        assert "#general" in run(*check[3:], code=0, **variables).stdout


def test_a_fresh_relay_has_its_two_channels(data: Path) -> None:
    with serving(data) as relay, relay.client() as client:
        assert {row["channel"] for row in client.check_board()["channels"]} == {"global", "general"}


def test_everything_is_there_after_a_restart(data: Path) -> None:
    with serving(data) as relay, relay.client() as client:
        key = relay.key("mac-bob")
        sent = client.send_message("general", "stays, @mac-bob")["message"]
        path = client.upload_file("general", "a.txt", "kept")["file"]["path"]
        link = client.get_file_url(path)["signed_url"]
        assert relay.stop() == 0
        port = int(relay.url.rpartition(":")[2])
    with serving(data, "--port", str(port)) as relay, Client(relay.url, key, retries=0) as client:
        assert relay.url.endswith(f":{port}"), "a port that was just left can be taken again"
        assert client.get_message(sent["id"])["message"] == sent
        assert [found["message_id"] for found in client.check_mentions()["mentions"]] == [sent["id"]]
        assert [hit["id"] for hit in client.search_messages("stays")["results"]] == [sent["id"]]
        assert client.download_file(path)["content"] == b"kept"
        connection = http.client.HTTPConnection(relay.url.removeprefix("http://"), timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", link.partition(str(port))[2])
            assert connection.getresponse().read() == b"kept", "a signed link outlives the process"


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_under_load_loses_no_acknowledged_write(data: Path, number: int) -> None:
    writers = 8
    enough = threading.Barrier(writers + 1)
    acknowledged: list[list[tuple[str, str]]] = [[] for _ in range(writers)]
    sent: list[int] = [0] * writers

    def write(client: Client, who: int) -> None:
        with contextlib.suppress(AgentChatError), client:
            for turn in range(100_000):
                if turn == 20:
                    enough.wait(PATIENCE)
                sent[who] = turn + 1
                answer = client.send_message("general", f"{who} {turn}")
                acknowledged[who].append((answer["message"]["id"], f"{who} {turn}"))

    with serving(data, "--agent-writes", "0", "--all-writes", "0") as relay:
        clients = [relay.client(f"mac-w{who}") for who in range(writers)]
        threads = [threading.Thread(target=write, args=(client, who)) for who, client in enumerate(clients)]
        for thread in threads:
            thread.start()
        enough.wait(PATIENCE)
        assert relay.stop(number) == 0, relay.errors
        for thread in threads:
            thread.join()
        assert not [line for line in relay.errors if "Traceback" in line or "ERROR" in line]
    with serving(data) as relay, relay.client("mac-reader") as client:
        found = all_messages(client, "general")
    by_id = dict(found)
    assert len(by_id) == len(found)
    for who, mine in enumerate(acknowledged):
        assert len(mine) >= 20
        assert [by_id.get(id) for id, _ in mine] == [text for _, text in mine]
        stored = [text for _, text in found if text.startswith(f"{who} ")]
        assert stored[: len(mine)] == [text for _, text in mine], "in the order they were sent"
        assert len(stored) <= sent[who], "nothing twice, nothing that was never sent"


def all_messages(client: Client, channel: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    cursor: str | None = None
    while True:
        page = client.read_messages(channel, limit=200, cursor=cursor)
        found = [(row["id"], row["content"]) for row in page["messages"]] + found
        cursor = page["previous_cursor"]
        if not page["has_more"]:
            return found


def test_a_request_under_way_is_finished_before_the_relay_stops(data: Path) -> None:
    with serving(data) as relay:
        key = relay.key("mac-ann")
        host, port = relay.url.removeprefix("http://").split(":")
        body = json.dumps({"channel": "general", "content": "half way"}).encode()
        head = f"POST /api/v2/messages HTTP/1.1\r\nhost: x\r\nx-agent-api-key: {key}\r\ncontent-length: {len(body)}\r\n"
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            connection.sendall(head.encode() + b"expect: 100-continue\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 100"), "the relay is reading the body"
            connection.sendall(body[:10])
            relay.process.send_signal(signal.SIGTERM)
            refuses_connections(host, int(port))
            connection.sendall(body[10:])
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert relay.wait() == 0
    with serving(data) as relay, relay.client("mac-reader") as client:
        assert [row["content"] for row in client.read_messages("general")["messages"]] == ["half way"]


def refuses_connections(host: str, port: int) -> None:
    """Wait until nobody listens there any more."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            return
    raise AssertionError("the relay still listens")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_idle_connections_do_not_hold_up_a_stop(data: Path, number: int) -> None:
    with serving(data) as relay, relay.client() as client:
        client.check_board()  # its connection stays open
        host, port = relay.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE):
            assert relay.stop(number) == 0
        assert not [line for line in relay.errors if "Traceback" in line or "ERROR" in line]


def test_a_clean_stop_leaves_no_announcement_and_one_whole_file(data: Path) -> None:
    with serving(data) as relay, relay.client() as client:
        assert json.loads((data / "relay.json").read_text())["url"] == relay.url
        client.send_message("general", "in the file")
        assert relay.stop() == 0
    assert not (data / "relay.json").exists()
    assert not (data / "agentchat.db-wal").exists()
    with contextlib.closing(sqlite3.connect(data / "agentchat.db")) as database:
        assert database.execute("SELECT content FROM messages").fetchall() == [("in the file",)]
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_what_a_killed_relay_left_does_no_harm(data: Path) -> None:
    with serving(data) as relay, relay.client() as client:
        sent = client.send_message("general", "acknowledged")["message"]
        relay.kill()
    assert json.loads((data / "relay.json").read_text())["url"] == relay.url
    listed = json.loads(admin(data, "agent", "list", "--json").stdout)["agents"]
    assert [row["name"] for row in listed] == ["mac-ann"], "commands do not believe the old announcement"
    with serving(data) as again, again.client("mac-bob") as reader:
        assert len(again.greeting) == 1
        assert json.loads((data / "relay.json").read_text())["url"] == again.url
        assert reader.get_message(sent["id"])["message"] == sent
        assert again.stop() == 0


# One relay per directory


def test_a_second_relay_is_refused_and_told_who_is_there(data: Path) -> None:
    with serving(data) as relay, relay.client() as client:
        text = refused(data, code=5)
        for part in (str(data), "a relay", str(relay.process.pid), relay.url):
            assert part in text
        client.send_message("general", "the first is not disturbed")
        assert json.loads((data / "relay.json").read_text())["url"] == relay.url
        assert relay.stop() == 0


def test_two_directories_are_two_relays(tmp_path: Path) -> None:
    with serving(tmp_path / "a") as one, serving(tmp_path / "b") as other:
        with Client(other.url, one.key("mac-ann"), retries=0) as client, pytest.raises(AgentChatError) as caught:
            client.check_board()
        assert caught.value.status == 401


# Refusals


def test_a_port_in_use_is_named_and_the_directory_is_free_again(data: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        assert port in refused(data, "--port", port, code=5)
    with serving(data, "--port", port) as relay:
        assert relay.url == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--port", "x"], "--port"), (["--port", "70000"], "--port"), (["--port", "-1"], "--port"),
        (["--agent-writes", "-1"], "--agent-writes"), (["--all-reads", "nan"], "--all-reads"),
        (["--all-reads", "inf"], "--all-reads"), (["--agent-reads", "many"], "--agent-reads"),
        (["--max-file-mib", "0"], "--max-file-mib"), (["--max-file-mib", "nan"], "--max-file-mib"),
        (["--max-agents", "x"], "--max-agents"), (["--max-agents", "-1"], "--max-agents"),
        (["--public-url", "relay.example"], "relay.example"), (["--public-url", "ftp://relay.example"], "ftp:"),
        (["--trusted-proxy", "not-an-address"], "not-an-address"), (["--host", "256.0.0.1"], "256.0.0.1"),
        (["--unknown"], "--unknown"), (["stray"], "stray"), (["--dat", "x"], "--dat"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_bad_options_are_refused_by_name_before_anything_is_made(data: Path, options: list[str], told: str) -> None:
    assert told in refused(data, *options, code=2)
    if options[0] not in ("--host", "--port"):
        assert not data.exists()


def test_help_names_every_option() -> None:
    text = run("serve", "--help", code=0).stdout
    for option in (
        "--host", "--port", "--data", "--public-url", "--trusted-proxy", "--agent-writes", "--agent-reads",
        "--all-writes", "--all-reads", "--max-file-mib", "--max-agents", "--own-names", "--retire-after",
    ):  # fmt: skip
        assert option in text
    for default in ("127.0.0.1", "8790", "~/.agentchat/relay", "50"):
        assert default in text


def test_a_file_is_no_data_directory(data: Path) -> None:
    data.write_text("mine")
    assert str(data) in refused(data, code=2)
    assert str(data / "deeper") in refused(data / "deeper", code=2)
    assert data.read_text() == "mine"


def test_a_directory_without_permission_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process, since an ordinary user need not be able to start the interpreter of root."""
    (tmp_path / "closed").mkdir(mode=0o500)
    user, umask = os.geteuid(), os.umask(0o022)
    os.seteuid(user or 65534)  # permissions mean nothing to root
    try:
        assert cli.main(["serve", "--data", str(tmp_path / "closed" / "relay"), "--port", "0"]) == 2
    finally:
        os.seteuid(user)
        os.umask(umask)
    out, errors = capsys.readouterr()
    assert out == ""
    assert str(tmp_path / "closed" / "relay") in errors
    assert "Permission denied" in errors


def test_a_database_of_a_newer_version_is_refused_and_left_alone(data: Path) -> None:
    with serving(data) as relay:
        assert relay.stop() == 0
    with contextlib.closing(sqlite3.connect(data / "agentchat.db", isolation_level=None)) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(migrations)")]
        values = {"number": 999, "name": "from_the_future", "at": 0}
        database.execute(
            f"INSERT INTO migrations VALUES ({','.join('?' * len(columns))})", [values[c] for c in columns]
        )
    before = (data / "agentchat.db").read_bytes()
    text = refused(data, code=2)
    assert "newer" in text
    assert "999" in text
    assert (data / "agentchat.db").read_bytes() == before
    done = run("admin", "--data", str(data), "agent", "list", code=2)
    assert "newer" in done.stderr
    with contextlib.closing(sqlite3.connect(data / "agentchat.db", isolation_level=None)) as database:
        database.execute("DELETE FROM migrations WHERE number = 999")
    with serving(data) as relay:
        assert relay.stop() == 0


def test_a_file_that_is_no_database_is_an_error_and_left_alone(data: Path) -> None:
    data.mkdir(mode=0o700)
    (data / "agentchat.db").write_bytes(b"no database" * 1000)
    text = refused(data, code=2)
    assert "agentchat.db" in text
    assert "Traceback" not in text
    assert (data / "agentchat.db").read_bytes() == b"no database" * 1000


# Privacy


def test_only_the_owner_can_read_what_the_relay_keeps(tmp_path: Path) -> None:
    data = tmp_path / "relay"
    before = os.umask(0)
    try:
        with serving(data) as relay, relay.client() as client:
            client.upload_file("general", "a.txt", "private")
            client.send_message("general", "private")
            client.search_messages("private")
            assert modes(data) == {0o700, 0o600}
            relay.stop()
    finally:
        os.umask(before)
    assert modes(data) == {0o700, 0o600}


def modes(path: Path) -> set[int]:
    """Modes of the directory and all in it; a file that may be run, or a directory that is open, stands out."""
    found = {stat.S_IMODE(path.stat().st_mode)}
    for entry in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a temporary one
            wanted = 0o700 if entry.is_dir() else 0o600
            mode = stat.S_IMODE(entry.stat().st_mode)
            found.add(mode if mode != wanted else wanted)
            assert mode == wanted, (entry, oct(mode))
    return found


Words = Sequence[str]


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ([], False),
        (["--host", "localhost"], False),
        (["--host", "0.0.0.0"], True),
        (["--host", "0.0.0.0", "--public-url", "http://relay.example"], True),
        (["--host", "0.0.0.0", "--public-url", "https://relay.example"], False),
        (["--public-url", "https://relay.example"], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_public_address_without_tls_in_front_is_warned_about(data: Path, options: Words, warned: bool) -> None:
    with serving(data, *options) as relay:
        assert get(relay.url, "/health")[0] == 200, "the address that is shown can be used right here"
        assert relay.stop() == 0
        warnings = [line for line in relay.errors if "warning" in line.lower()]
        assert len(warnings) == warned
        assert all("unencrypted" in line and "--public-url https://" in line for line in warnings)


@pytest.mark.parametrize("options", [[], ["--public-url", "https://relay.example/chat/"]], ids=["bound", "public"])
def test_links_start_with_the_public_url_and_never_with_the_host_header(data: Path, options: Words) -> None:
    with serving(data, *options) as relay, relay.client() as client:
        path = client.upload_file("general", "a.txt", "x")["file"]["path"]
        wanted = "https://relay.example/chat" if options else relay.url
        assert client.get_file_url(path)["signed_url"].startswith(f"{wanted}/api/files/signed/")
        connection = http.client.HTTPConnection(relay.url.removeprefix("http://"), timeout=30)
        with contextlib.closing(connection):
            headers = {
                "x-agent-api-key": relay.key("mac-bob"),
                "host": "evil.example",
                "x-forwarded-host": "evil.example",
            }
            connection.request("GET", f"/api/files?url=true&path={path}", headers=headers)
            assert json.loads(connection.getresponse().read())["signed_url"].startswith(f"{wanted}/api/files/signed/")


LIMITED: dict[str, tuple[Words, Callable[[Client], Any]]] = {
    "writes": (["--agent-writes", "0.5"], lambda client: client.send_message("general", "x")),
    "reads": (["--agent-reads", "0.5"], lambda client: client.check_board()),
    "all writes": (["--all-writes", "0.5"], lambda client: client.send_message("general", "x")),
    "all reads": (["--all-reads", "0.5"], lambda client: client.check_board()),
}


@pytest.mark.parametrize("kind", LIMITED)
def test_rates_are_options(data: Path, kind: str) -> None:
    options, call = LIMITED[kind]
    with serving(data, *options) as relay, relay.client() as client:
        with pytest.raises(AgentChatError) as caught:
            for _ in range(30):  # bursts are ten times the rate
                call(client)
        assert (caught.value.status, caught.value.code) == (429, "rate_limited")
        assert (caught.value.retry_after or 0) >= 1
