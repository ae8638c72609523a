"""The data directory by itself: one holder, private files, secrets that stay, and where its relay is."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentchat import Client
from agentchat.errors import AgentChatError, Conflict, NotConfigured
from agentchat_relay.directory import Directory
from agentchat_relay.embedded import running

pytestmark = pytest.mark.sqlite

URL = "http://127.0.0.1:8791"
HOLD = """
import sys
from agentchat_relay.directory import Directory
directory = Directory(sys.argv[1])
directory.hold("a relay")
directory.announce("http://127.0.0.1:8791")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """`hold` narrows the process's umask; other tests get theirs back."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "relay")


@contextmanager
def held(directory: Directory, purpose: str = "a test") -> Iterator[Directory]:
    directory.hold(purpose)
    try:
        yield directory
    finally:
        directory.release()


@contextmanager
def held_elsewhere(path: str) -> Iterator[subprocess.Popen[str]]:
    """Another process has the directory, as a relay would."""
    command = [sys.executable, "-c", HOLD, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Permissions mean nothing to root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def modes(directory: Directory) -> dict[str, int]:
    return {entry.name: mode(entry.path) for entry in os.scandir(directory.path)}


def test_a_directory_with_other_things_in_it_keeps_its_mode(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    tmp_path.chmod(0o755)
    for _ in range(2):
        with held(Directory(tmp_path)):
            assert mode(tmp_path) == 0o755


def test_a_directory_that_is_half_restored_is_no_relays(tmp_path: Path):
    (tmp_path / "agentchat.db.partial").write_bytes(b"x" * 5000)
    with pytest.raises(NotConfigured, match="agentchat admin restore"), running(str(tmp_path)):
        pass
    assert not (tmp_path / "agentchat.db").exists()


def refusal(path: Path) -> str:
    with pytest.raises(AgentChatError) as caught:
        Directory(path).hold("a test")
    return caught.value.message


# Holding


def test_a_directory_is_made_for_one_user_only_whatever_the_umask(tmp_path: Path) -> None:
    os.umask(0)
    with held(Directory(tmp_path / "some" / "relay")) as directory:
        directory.admin_secret()
        directory.link_secret()
        directory.announce(URL)
        assert mode(directory.path) == 0o700
        assert modes(directory) == dict.fromkeys(["lock", "admin.key", "link.key", "relay.json"], 0o600)


def test_a_directory_that_was_open_to_all_is_closed(tmp_path: Path) -> None:
    (tmp_path / "relay").mkdir()
    (tmp_path / "relay").chmod(0o755)
    with held(Directory(tmp_path / "relay")) as directory:
        assert mode(directory.path) == 0o700


def test_the_path_is_absolute_and_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert Directory("~/relay").path == Directory("relay").path == str(tmp_path / "relay")
    assert Directory(tmp_path / "relay").path == str(tmp_path / "relay")


def test_a_second_holder_is_refused_and_told_who_holds_it(directory: Directory) -> None:
    with held_elsewhere(directory.path) as process:
        with pytest.raises(Conflict) as caught:
            directory.hold("agentchat admin")
        for part in (directory.path, "a relay", str(process.pid), URL):
            assert part in caught.value.message
        assert directory.served_at() == URL


def test_a_second_holder_in_the_same_process_is_refused_too(directory: Directory) -> None:
    with held(directory, "first"):
        assert re.search(rf"first.*{os.getpid()}", refusal(Path(directory.path)))
    with held(Directory(directory.path), "second"), pytest.raises(Conflict, match="second"):
        directory.hold("third")


def test_the_loser_leaves_the_holders_files_alone(directory: Directory) -> None:
    with held(directory, "first"):
        lock = Path(directory.path, "lock").read_text()
        for _ in range(2):
            assert lock in refusal(Path(directory.path))
        assert Path(directory.path, "lock").read_text() == lock


def test_no_url_is_named_when_no_relay_announced_one(directory: Directory) -> None:
    with held(directory, "agentchat admin"):
        assert "listens" not in refusal(Path(directory.path))


def test_the_lock_ends_with_its_holder_however_it_ends(directory: Directory) -> None:
    with held_elsewhere(directory.path) as process:
        process.kill()
        process.wait()
    assert directory.served_at() == URL, "what a killed relay left"
    with held(directory, "a relay"):
        text = refusal(Path(directory.path))
        assert str(os.getpid()) in text
        assert str(process.pid) not in text


def test_what_a_killed_relay_announced_is_not_said_of_the_next_holder(directory: Directory) -> None:
    with held_elsewhere(directory.path) as process:
        process.kill()
        process.wait()
    with held(directory, "agentchat admin"):
        assert URL not in refusal(Path(directory.path))


def test_release_gives_the_directory_back_and_may_come_twice(directory: Directory) -> None:
    for _ in range(3):
        directory.hold("a test")
        directory.release()
        directory.release()
    with held(Directory(directory.path)):
        pass


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    file = tmp_path / "relay"
    file.write_text("mine")
    assert str(file) in refusal(file)
    assert str(file / "deeper") in refusal(file / "deeper")
    assert file.read_text() == "mine"


def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    path = f"{tmp_path}/{os.fsdecode(b'bad' + bytes([255]))}/inner"
    refused = pytest.raises(NotConfigured, match=r"Cannot use '.+/bad\\udcff/inner' as data directory: .+ not UTF-8")
    with refused:
        Directory(path).hold("a relay")
    with Client(f"local:{path}", agent="mac-ann") as ann, refused:
        ann.check_board()
    assert os.listdir(tmp_path) == []


def test_a_lock_that_is_a_directory_is_an_error_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "relay" / "lock").mkdir(parents=True)
    assert re.search(r"Cannot use .*relay.*: .*directory", refusal(tmp_path / "relay"))


def test_without_permission_there_is_an_error_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o500)
    with an_ordinary_user():
        for path in (tmp_path / "closed", tmp_path / "closed" / "relay"):
            assert re.search(f"Cannot use {re.escape(str(path))} .*: Permission denied", refusal(path))
    assert os.listdir(tmp_path / "closed") == []


def test_a_directory_of_ones_own_that_may_not_be_written_is_told_from_somebody_elses() -> None:
    with tempfile.TemporaryDirectory() as place:  # where an ordinary user can reach it
        own, others = Path(place, "own"), Path(place, "others")
        for path in (own, others):
            path.mkdir()
            (path / "notes.txt").write_text("mine")  # with which a directory keeps its mode
            path.chmod(0o555)
        Path(place).chmod(0o755)
        if os.geteuid() == 0:
            os.chown(own, 65534, -1)
            with an_ordinary_user():
                assert "Run this as the user that owns it." in refusal(others)
        with an_ordinary_user():
            assert f"It is yours, but you may not write in it: chmod u+rwx {own}" in refusal(own)
        for path in (own, others):
            path.chmod(0o755)  # whoever is no root removes it


def test_a_link_to_nothing_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "relay").symlink_to(tmp_path / "nowhere")
    reason = f"it is a link to {tmp_path / 'nowhere'}, which is not there."
    assert refusal(tmp_path / "relay") == f"Cannot use {tmp_path / 'relay'} as data directory: {reason}"


# Secrets


def test_secrets_are_made_once_and_stay(directory: Directory) -> None:
    with held(directory):
        secret, link = directory.admin_secret(), directory.link_secret()
        assert directory.admin_secret() == secret == Directory(directory.path).admin_secret()
        assert directory.link_secret() == link
        assert re.fullmatch("[0-9a-f]{64}", secret)
        assert link != secret.encode()
    assert Path(directory.path, "admin.key").read_text().strip() == secret


def test_two_directories_have_different_secrets(tmp_path: Path) -> None:
    found = set()
    for name in "ab":
        with held(Directory(tmp_path / name)) as directory:
            found |= {directory.admin_secret(), directory.link_secret().decode()}
    assert len(found) == 4


def test_rotating_replaces_the_credential_only(directory: Directory) -> None:
    with held(directory):
        before, link = directory.admin_secret(), directory.link_secret()
        after = directory.rotate_admin_secret()
        assert after != before
        assert Directory(directory.path).admin_secret() == after
        assert directory.link_secret() == link
        assert modes(directory)["admin.key"] == 0o600
        assert [name for name in os.listdir(directory.path) if "admin.key" in name] == ["admin.key"]


@pytest.mark.parametrize("content", ["", "\n", "short", " " * 64])
def test_a_credential_that_is_none_is_made_anew_and_never_accepted(directory: Directory, content: str) -> None:
    with held(directory):
        Path(directory.path, "admin.key").write_text(content)
        assert re.fullmatch("[0-9a-f]{64}", directory.admin_secret())
        assert modes(directory)["admin.key"] == 0o600


def test_a_credential_of_the_operators_own_is_kept(directory: Directory) -> None:
    with held(directory):
        Path(directory.path, "admin.key").write_text("  " + "my-own-" * 8 + "\n\n")
        assert directory.admin_secret() == "my-own-" * 8


def test_a_credential_that_cannot_be_read_is_an_error_not_a_new_one(directory: Directory) -> None:
    with held(directory):
        Path(directory.path, "admin.key").mkdir()
        with pytest.raises(NotConfigured, match=r"admin\.key"):
            directory.admin_secret()


def test_a_credential_that_is_no_text_is_an_error(directory: Directory) -> None:
    with held(directory):
        Path(directory.path, "admin.key").write_bytes(b"\xff" * 64)
        with pytest.raises(NotConfigured, match=r"admin\.key"):
            directory.admin_secret()


# Where the relay is


def test_an_announcement_can_be_read_by_others_and_taken_back(directory: Directory) -> None:
    assert directory.served_at() is None
    with held(directory):
        directory.announce(URL)
        assert Directory(directory.path).served_at() == URL
        told = json.loads(Path(directory.path, "relay.json").read_text())
        assert told == {"url": URL, "pid": os.getpid()}, "and no secret"
        directory.announce("http://127.0.0.1:1")
        assert directory.served_at() == "http://127.0.0.1:1"
        directory.retract()
        directory.retract()
        assert directory.served_at() is None
        assert not Path(directory.path, "relay.json").exists()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"pid": 1}', b'{"url": 5}', b"\xff\xfe", b'"http://x"']
)
def test_an_announcement_that_is_damaged_is_none(directory: Directory, content: bytes) -> None:
    with held(directory):
        Path(directory.path, "relay.json").write_bytes(content)
        assert directory.served_at() is None
