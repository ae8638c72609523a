"""`agentchat serve --daemon`, `serve stop`, `serve status`: what they say is so, whatever happened before."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentchat import Client, __version__, cli
from agentchat.errors import AgentChatError
from agentchat_relay.directory import Directory, Holder
from agentchat_relay.embedded import running
from tests.relay.test_serve import AGENTCHAT, PATIENCE, READY, admin, get, run, serving

pytestmark = pytest.mark.sqlite


class Background(NamedTuple):
    """A relay that was started with --daemon."""

    path: Path
    lines: list[str]
    errors: str
    pid: int
    url: str

    def key(self, name: str) -> str:
        return admin(self.path, "agent", "token", name).stdout.splitlines()[-1]

    def client(self, name: str = "mac-ann") -> Client:
        return Client(self.url, self.key(name), retries=0)

    def proc(self, name: str) -> Path:
        return Path(f"/proc/{self.pid}") / name


@contextlib.contextmanager
def daemon(path: Path, *options: str, typed: str | None = None, **popen: Any) -> Iterator[Background]:
    with killing(path):
        command = [*AGENTCHAT, "serve", "--daemon", "--data", typed or str(path), "--port", "0", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, **popen)
        assert done.returncode == 0, done
        lines = done.stdout.splitlines()
        ready = READY.fullmatch(lines[0])
        assert ready, lines
        pid = json.loads((path / "relay.json").read_text())["pid"]
        yield Background(path, lines, done.stderr, pid, ready[2])


@contextlib.contextmanager
def killing(path: Path) -> Iterator[None]:
    """Whatever relay has the directory in the end is gone after it."""
    try:
        yield
    finally:
        if (holder := Directory(path).holder()) and holder.is_proven and holder.pid != os.getpid():
            os.kill(holder.pid, signal.SIGKILL)
            until(lambda: Directory(path).holder() is None)


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)
    return found


def say(*words: str) -> tuple[int, str, str]:
    """`agentchat serve WORDS` in this process: exit code and what it prints."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = cli.main(["serve", *words])
    return code, out.getvalue(), errors.getvalue()


def status(path: Path, *more: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = say("status", "--json", "--data", str(path), *more)
    return code, json.loads(out)


def stop(path: Path, *more: str) -> tuple[int, str]:
    code, out, errors = say("stop", "--data", str(path), *more)
    return code, out + errors


def refused(path: Path, *options: str, code: int) -> str:
    done = run("serve", "--daemon", "--data", str(path), "--port", "0", *options, code=code)
    assert done.stdout == ""
    return done.stderr


def is_alive(pid: int) -> bool:
    """A process that was not waited for is none."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "the relay"


# Starting


def test_back_means_ready_and_the_lines_say_where(data: Path) -> None:
    with daemon(data) as relay:
        assert get(relay.url, "/health")[0] == 200
        assert relay.lines[1].startswith("Give an agent a key:")
        assert f"as process {relay.pid} and logs to {data / 'relay.log'}" in relay.lines[3]
        assert relay.errors == ""
        assert f"is ready on {relay.url}" in (data / "relay.log").read_text()
        code, found = status(data)
        assert code == 0
        since = found.pop("since")
        assert found == {
            "state": "healthy", "running": True, "healthy": True, "pid": relay.pid, "url": relay.url,
            "version": __version__, "data": str(data),
        }  # fmt: skip
        assert since.endswith("+00:00")
        _, told, _ = say("status", "--data", str(data))
        for part in (__version__, relay.url, str(data), str(relay.pid), since):
            assert part in told
        words = shlex.split(relay.lines[4].partition(": ")[2])
        assert words[:3] == ["agentchat", "serve", "stop"]
        assert cli.main(words[1:]) == 0, "the command that is shown stops it"
        until(lambda: not is_alive(relay.pid))
    with daemon(data) as relay:
        assert len(relay.lines) == 3, "how to connect is told once"


def test_it_depends_on_nothing_of_who_started_it(data: Path) -> None:
    ours, theirs = os.pipe()
    before = os.umask(0)
    try:
        with daemon(data, pass_fds=[theirs], env={**os.environ, "ODD_VARIABLE": "kept"}) as relay:
            os.close(theirs)
            assert os.read(ours, 1) == b"", "a file of the caller's would stay open"
            assert os.getsid(relay.pid) == relay.pid != os.getsid(0)
            assert os.readlink(relay.proc("cwd")) == "/"
            assert [os.readlink(relay.proc(f"fd/{number}")) for number in range(3)] == [
                "/dev/null", str(data / "relay.log"), str(data / "relay.log"),
            ]  # fmt: skip
            assert "Umask:\t0077" in relay.proc("status").read_text()
            assert b"ODD_VARIABLE=kept" in relay.proc("environ").read_bytes().split(b"\0")
            assert (data / "relay.log").stat().st_mode & 0o777 == 0o600
            assert data.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)
        os.close(ours)


def test_every_flag_is_kept(tmp_path: Path) -> None:
    """Relative paths too, though the relay works in another directory than the one they are typed in."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "my.toml").write_text('max-file-mib = 0.001\nlog-level = "debug"\nall-reads = 0\n')
    options = ["--config", "my.toml", "--log-file", "my.log", "--log-format", "json", "--host", "localhost"]
    options += ["--public-url", "https://relay.example", "--agent-writes", "0.5", "--trusted-proxy", "::1"]
    with daemon(work / "data", *options, typed="data", cwd=work) as relay:
        assert relay.url.startswith("http://localhost:")
        with relay.client() as client:
            path = client.upload_file("general", "a.txt", "x" * 1000)["file"]["path"]
            assert client.get_file_url(path)["signed_url"].startswith("https://relay.example/")
            with pytest.raises(AgentChatError) as caught:
                client.upload_file("general", "a.txt", "x" * 1100)
            assert caught.value.status == 400
            with pytest.raises(AgentChatError) as caught:
                for _ in range(20):
                    client.send_message("general", "x")
            assert caught.value.code == "rate_limited"
        assert stop(relay.path)[0] == 0
    told = [json.loads(line) for line in (work / "my.log").read_text().splitlines()]
    assert any(relay.url in each["message"] for each in told)
    assert not (relay.path / "relay.log").exists()


def test_a_public_address_without_tls_is_warned_about_by_who_starts_it(data: Path) -> None:
    with daemon(data, "--host", "0.0.0.0") as relay:
        assert relay.errors.count("Warning: 0.0.0.0") == 1
        assert get(relay.url, "/health")[0] == 200


def test_a_closed_terminal_and_a_hangup_leave_it_alone(data: Path) -> None:
    ours, theirs = os.openpty()
    command = shlex.join([*AGENTCHAT, "serve", "--daemon", "--data", str(data), "--port", "0"])
    script = f"exec 0<>{os.ttyname(theirs)} 1>&0 2>&0; {command}; echo done; exec cat"
    with killing(data):
        with subprocess.Popen(["sh", "-c", script], start_new_session=True) as shell:  # the terminal becomes its own
            try:
                seen = b""
                while b"done" not in seen:
                    seen += os.read(ours, 1000)
            finally:
                os.close(theirs)
                os.close(ours)
            assert shell.wait(PATIENCE) == -signal.SIGHUP
        code, found = status(data)
        assert code == 0, seen
        told = Path(f"/proc/{found['pid']}/status").read_text()
        ignored = int(told.partition("SigIgn:")[2].split()[0], 16)
        assert ignored & 1 << signal.SIGHUP - 1, "nor does one that somebody sends"


# Starting in vain


def test_a_second_start_is_refused_and_harms_nothing(data: Path) -> None:
    with daemon(data) as relay, relay.client() as client:
        before = {name: (data / name).read_bytes() for name in ("relay.json", "relay.log", "lock")}
        told = refused(data, code=5)
        for part in (str(data), f"a relay (process {relay.pid})", relay.url):
            assert part in told
        client.send_message("general", "the first is not disturbed")
        assert before == {name: (data / name).read_bytes() for name in before}
        assert status(data)[1]["pid"] == relay.pid


def no_database(data: Path) -> None:
    (data / "agentchat.db").write_bytes(b"no database" * 1000)


def log_is_a_directory(data: Path) -> None:
    (data / "relay.log").mkdir()


@pytest.mark.parametrize(
    ("prepare", "options", "code", "told"),
    [
        (None, ["--host", "256.0.0.1"], 2, "256.0.0.1"),
        (None, ["--public-url", "relay.example"], 2, "relay.example"),
        (no_database, [], 2, "agentchat.db"),
        (log_is_a_directory, [], 2, "relay.log"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_relay_that_refuses_is_quoted(
    data: Path, prepare: Callable[[Path], None] | None, options: list[str], code: int, told: str
) -> None:
    data.mkdir(mode=0o700)
    if prepare:
        prepare(data)
    foreground = run("serve", "--data", str(data), "--port", "0", *options, code=code).stderr if not prepare else ""
    errors = refused(data, *options, code=code)
    assert told in errors
    assert foreground in errors, "its own words"
    assert status(data)[0] == 3
    assert not (data / "relay.json").exists()


def test_a_port_that_is_taken_is_named(data: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        errors = refused(data, "--port", port, code=5)
        assert f"Cannot listen on 127.0.0.1 port {port}" in errors
        assert str(data / "relay.log") in errors
    with daemon(data, "--port", port) as relay:
        assert relay.url.endswith(f":{port}")


def test_of_many_starts_at_once_one_wins_and_the_others_say_so(data: Path) -> None:
    command = [*AGENTCHAT, "serve", "--daemon", "--data", str(data), "--port", "0"]
    with killing(data):
        starts = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
        ]
        told = [start.communicate(timeout=PATIENCE) for start in starts]
        codes = [start.returncode for start in starts]
        assert sorted(codes) == [0, 5, 5], told
        code, found = status(data)
        assert code == 0
        for ended, (out, errors) in zip(codes, told, strict=True):
            if ended == 0:
                assert f"process {found['pid']} " in out
            else:
                assert f"{data} is in use" in errors


# Starting slowly


@contextlib.contextmanager
def blocked(data: Path) -> Iterator[sqlite3.Connection]:
    """A directory whose database somebody else has locked: a relay that starts there waits for it."""
    data.mkdir(mode=0o700)
    with contextlib.closing(sqlite3.connect(data / "agentchat.db", isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield database


@contextlib.contextmanager
def starting(data: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A start that takes long: the command that waits, and the relay's process."""
    command = [*AGENTCHAT, "serve", "--daemon", "--data", str(data), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as start:
        try:
            until(lambda: status(data)[1]["state"] == "starting")
            yield start, status(data)[1]["pid"]
        finally:
            start.kill()


def test_a_slow_start_is_told_about_and_waited_for(data: Path) -> None:
    with killing(data), blocked(data) as database, starting(data) as (start, pid):
        code, found = status(data)
        assert (code, found["running"], found["healthy"], found["url"]) == (1, True, False, None)
        assert "starting" in say("status", "--data", str(data))[1]
        assert f"process {pid}" in refused(data, code=5)
        assert start.stderr is not None
        assert f"still starting as process {pid}" in start.stderr.readline()
        database.execute("COMMIT")
        out, _ = start.communicate(timeout=PATIENCE)
        assert start.returncode == 0
        assert f"process {pid}" in out
        assert status(data)[1]["pid"] == pid


def test_a_start_that_takes_too_long_is_no_success(data: Path) -> None:
    with killing(data), blocked(data) as database, starting(data, "--wait", "0.5") as (start, pid):
        out, errors = start.communicate(timeout=PATIENCE)
        assert (start.returncode, out) == (1, "")
        assert f"still starting as process {pid}" in errors
        assert "agentchat serve status --data" in errors
        database.execute("COMMIT")
        until(lambda: status(data)[0] == 0)
        assert status(data)[1]["pid"] == pid, "it is as told"


def test_a_relay_that_dies_while_it_starts_is_no_success(data: Path) -> None:
    with killing(data), blocked(data), starting(data) as (start, pid):
        os.kill(pid, signal.SIGKILL)
        out, errors = start.communicate(timeout=PATIENCE)
        assert (start.returncode, out) == (1, "")
        assert "SIGKILL" in errors
        assert str(data / "relay.log") in errors
        assert status(data)[0] == 3


def test_who_stops_waiting_is_told_that_it_goes_on(data: Path) -> None:
    with killing(data), blocked(data), starting(data) as (start, pid):
        start.send_signal(signal.SIGINT)
        _, errors = start.communicate(timeout=PATIENCE)
        assert start.returncode == 130
        assert f"process {pid}" in errors
        assert status(data)[1]["state"] == "starting"


# Stopping


def test_stop_is_back_when_the_relay_is_gone(data: Path) -> None:
    with daemon(data) as relay, relay.client() as client:
        client.send_message("general", "stays")
        code, told = stop(data)
        assert code == 0
        until(lambda: not is_alive(relay.pid))
        assert told == f"Stopped the relay on {data} (process {relay.pid}).\n"
        assert not (data / "relay.json").exists()
        assert not (data / "agentchat.db-wal").exists()
        assert stop(data) == (3, f"No relay is running on {data}.\n")
        assert status(data)[0] == 3


def test_a_relay_in_the_foreground_is_seen_and_stopped_too(data: Path) -> None:
    with serving(data) as relay:
        code, found = status(data)
        assert (code, found["pid"], found["url"]) == (0, relay.process.pid, relay.url)
        assert stop(data)[0] == 0
        assert relay.wait() == 0


def test_a_relay_that_hangs_is_reported_and_not_called_stopped(data: Path) -> None:
    with daemon(data) as relay:
        os.kill(relay.pid, signal.SIGSTOP)
        code, found = status(data, "--wait", "0.1")
        assert (code, found["state"], found["pid"]) == (1, "silent", relay.pid)
        code, told, _ = say("status", "--data", str(data), "--wait", "0.1")
        assert code == 1
        assert "does not answer within 0.1 s" in told
        code, told = stop(data, "--wait", "0.1")
        assert code == 1
        assert f"kill -9 {relay.pid}" in told
        assert is_alive(relay.pid)
        threading.Timer(1.5, os.kill, (relay.pid, signal.SIGCONT)).start()
        code, told = stop(data)
        assert code == 0
        assert "finishing what is under way" in told
        assert " s)." in told, "it says how long that took"


def test_after_a_kill_it_is_not_running_and_starts_again(data: Path) -> None:
    with daemon(data) as relay:
        os.kill(relay.pid, signal.SIGKILL)
        until(lambda: not is_alive(relay.pid))
        assert (data / "relay.json").exists()
        code, found = status(data)
        assert (code, found["state"], found["pid"], found["url"]) == (3, "stopped", None, None)
        assert stop(data)[0] == 3
        with daemon(data) as again:
            assert again.pid != relay.pid
            assert status(data)[1]["pid"] == again.pid


def test_nobody_had_a_relay_there(data: Path) -> None:
    assert status(data)[0] == 3
    assert stop(data)[0] == 3
    assert not data.exists(), "asking makes nothing"
    data.write_text("a file")
    assert status(data)[0] == 3


@pytest.mark.parametrize("words", [["stop", "now"], ["status", "--port", "1"], ["stop", "--wait", "x"], ["--data"]])
def test_wrong_usage_is_refused(words: list[str]) -> None:
    code, out, errors = say(*words)
    assert (code, out) == (2, "")
    assert "agentchat serve" in errors


# Who is not the relay


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with it, whose number is found where a relay's was."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        assert process.poll() is None, "it was hit"
        process.kill()


def leave(data: Path, pid: int) -> None:
    """What a relay with that number would have left when it was killed."""
    data.mkdir(mode=0o700, exist_ok=True)
    (data / "lock").write_text(f"a relay (process {pid})")
    (data / "relay.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": pid}))


def test_what_a_dead_relay_left_points_at_nobody(data: Path, bystander: subprocess.Popen[bytes]) -> None:
    leave(data, bystander.pid)
    assert status(data)[0] == 3
    assert stop(data)[0] == 3
    with daemon(data) as relay:
        assert status(data)[1]["pid"] == relay.pid


def test_a_holder_that_cannot_be_seen_is_not_guessed_at(data: Path, bystander: subprocess.Popen[bytes]) -> None:
    """As from outside of a container: the lock is held, and the number in it is another process's out here."""
    leave(data, bystander.pid)
    with open(data / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, told = stop(data)
        assert code == 1
        assert "cannot be seen from here" in told
        assert status(data)[0] == 1
        assert "cannot be seen from here" in say("status", "--data", str(data))[1]
        assert "is in use" in refused(data, code=5)


def test_an_operator_s_command_is_no_relay(data: Path) -> None:
    program = (
        "import sys; from agentchat_relay.directory import Directory; Directory(sys.argv[1]).hold('agentchat admin');"
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        assert status(data)[0] == 3
        assert f"in use by agentchat admin (process {holder.pid})" in say("status", "--data", str(data))[1]
        assert stop(data)[0] == 3
        assert holder.poll() is None
        holder.kill()


def test_a_relay_inside_a_program_is_shown_and_left_to_it(data: Path) -> None:
    with running(str(data)) as relay:
        code, found = status(data)
        assert (code, found["pid"], found["url"]) == (0, os.getpid(), relay.url)
        code, told = stop(data)
        assert code == 1
        assert "ends together with its program" in told


def test_who_asks_is_never_in_the_way_of_who_starts(data: Path) -> None:
    """Where the lock says nothing about a living process, asking takes it for an instant."""
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            Directory(data).holder()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            leave(data, 2**22)
            directory = Directory(data)
            directory.hold("a relay")
            assert directory.holder() == Holder("a relay", os.getpid(), True)
            directory.release()
    finally:
        over.set()
        for thread in threads:
            thread.join()


# systemd's protocol


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_a_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"@agentchat-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(PATIENCE)
        manager.bind(name.replace("@", "\0", 1))
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        with serving(tmp_path / "relay") as relay:
            assert manager.recv(1000).decode().splitlines() == ["READY=1", f"STATUS=Ready on {relay.url}"]
            assert get(relay.url, "/health")[0] == 200
            assert relay.stop() == 0
            assert manager.recv(1000).decode().splitlines()[0] == "STOPPING=1"


def test_a_manager_that_does_not_listen_disturbs_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    with serving(data) as relay:
        assert relay.stop() == 0
        assert relay.errors == []
