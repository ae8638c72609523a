"""The campaign starts on a directory that was synced long ago. Here the power goes in a relay's first minute."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentchat import Client
from agentchat.cli import main
from agentchat_relay.service import upkeep
from agentchat_relay.store.seam import Lane
from agentchat_relay.store.sqlite.engine import Sqlite
from tests.faults.relay_process import RelayProcess, token


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayProcess]:
    """A relay in a directory that is there and empty, as a service manager makes it."""
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "scratch").mkdir()
    relay = RelayProcess(tmp_path / "data", tmp_path / "scratch")
    yield relay
    relay.close()


def test_what_a_first_start_made_survives_a_power_cut(relay: RelayProcess, tmp_path: Path) -> None:
    data = tmp_path / "data"
    relay.start()
    secrets = [(data / name).read_text() for name in ("admin.key", "link.key")]
    key = token(relay.url, data, "mac-ann")
    with Client(relay.url, key) as client:
        sent = client.send_message("general", "the first of all")["message"]["id"]
        file = client.upload_file("general", "a.txt", "kept")["file"]["path"]
        relay.cut()
        relay.start()
        assert [(data / name).read_text() for name in ("admin.key", "link.key")] == secrets
        assert sent in {row["id"] for row in client.read_messages("general")["messages"]}
        assert client.download_file(file)["content"] == b"kept"


def test_a_new_admin_credential_survives_a_power_cut(relay: RelayProcess, tmp_path: Path) -> None:
    data = tmp_path / "data"
    relay.start()
    before = (data / "admin.key").read_text()
    relay.stop()
    relay.start()
    command = [sys.executable, "-m", "agentchat", "admin", "--data", str(data), "credential", "rotate"]
    subprocess.run(command, env=relay.power.environment(), check=True, capture_output=True)
    rotated = (data / "admin.key").read_text()
    relay.cut()
    relay.start()
    assert (data / "admin.key").read_text() == rotated != before
    assert len(token(relay.url, data, "mac-ann")) == 64


def test_what_a_killed_relay_left_unsynced_is_synced_before_anybody_is_told(tmp_path: Path) -> None:
    """A commit may be in the file without having been synced when its process is killed. The next one finds it."""
    store = Sqlite(tmp_path, synchronous="OFF")
    store.ask(Lane.WRITE, upkeep.seed)
    left = [(tmp_path / f"agentchat.db{suffix}").read_bytes() for suffix in ("", "-wal")]
    assert left[1]  # the commit is in the log, and nowhere else
    store.close()
    for suffix, content in zip(("", "-wal"), left, strict=True):
        (tmp_path / f"agentchat.db{suffix}").write_bytes(content)
    again = Sqlite(tmp_path)
    try:
        assert (tmp_path / "agentchat.db-wal").stat().st_size == 0  # all of it is in the database, which was synced
        reader = sqlite3.connect(f"file:{tmp_path}/agentchat.db?immutable=1", uri=True)
        assert [name for (name,) in reader.execute("SELECT name FROM spaces")] == ["main"]
        reader.close()
    finally:
        again.close()


def test_admin_opens_a_directory_after_a_power_cut(
    relay: RelayProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    relay.start()
    relay.cut()
    assert main(["admin", "--data", str(tmp_path / "data"), "agent", "token", "mac-ann"]) == 0
    assert len(capsys.readouterr().out.strip()) == 64
