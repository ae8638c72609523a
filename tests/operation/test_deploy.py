"""What deploy/ gives to systemd and to container engines is done as it is written there: only paths are replaced."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from agentchat import Client
from tests.relay.test_daemon import until
from tests.relay.test_serve import PATIENCE, get

pytestmark = pytest.mark.operation

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted(path for kind in ("service", "timer") for path in DEPLOY.glob(f"*.{kind}"))
BIN = Path(sys.executable).parent


# systemd

# Every directive the units use, by section, with what it may be; `systemd-analyze` knows them all, where there is one.
YES, TIME, TEXT = "yes", r"\d+(s|min)", r"\S.*"
DIRECTIVES = {
    "Unit": {"Description": TEXT, "After": r"[a-z-]+\.target", "Wants": r"[a-z-]+\.target"},
    "Install": {"WantedBy": r"(multi-user|timers)\.target"},
    "Timer": {"OnCalendar": r"\*-\*-\* \d\d:\d\d", "RandomizedDelaySec": TIME, "Persistent": YES},
    "Service": {
        "Type": "notify|oneshot", "ExecStart": TEXT, "ExecStartPost": TEXT, "User": "agentchat", "Group": "agentchat",
        "StateDirectory": r"agentchat( agentchat-backups)?", "StateDirectoryMode": "0700", "UMask": "0077",
        "Restart": "on-failure", "RestartSec": TIME, "RestartPreventExitStatus": "2", "TimeoutStartSec": TIME,
        "TimeoutStopSec": TIME, "KillSignal": "SIGTERM", "LimitNOFILE": r"\d+", "Nice": r"\d+",
        "IOSchedulingClass": "idle", "NoNewPrivileges": YES, "CapabilityBoundingSet": "", "AmbientCapabilities": "",
        "ProtectSystem": "strict", "ProtectHome": YES, "PrivateTmp": YES, "PrivateDevices": YES, "PrivateUsers": YES,
        "PrivateNetwork": YES, "ProtectClock": YES, "ProtectControlGroups": YES, "ProtectHostname": YES,
        "ProtectKernelLogs": YES, "ProtectKernelModules": YES, "ProtectKernelTunables": YES,
        "ProtectProc": "invisible", "ProcSubset": "pid", "RestrictAddressFamilies": r"(AF_INET AF_INET6 )?AF_UNIX",
        "RestrictNamespaces": YES, "RestrictRealtime": YES, "RestrictSUIDSGID": YES, "RemoveIPC": YES,
        "LockPersonality": YES, "MemoryDenyWriteExecute": YES, "SystemCallArchitectures": "native",
        "SystemCallFilter": "@system-service", "SystemCallErrorNumber": "EPERM",
    },
}  # fmt: skip


def unit(path: Path) -> dict[tuple[str, str], str]:
    """A unit's directives by section and name. Nothing is said twice here, and no line goes on in the next."""
    found: dict[tuple[str, str], str] = {}
    section = ""
    for line in path.read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
            continue
        name, equals, value = line.partition("=")
        assert equals, line
        assert not value.endswith("\\")
        assert (section, name) not in found, line
        found[section, name] = value
    return found


def command_of(value: str, replaced: dict[str, str]) -> list[str]:
    """A command line of a unit as systemd runs it."""
    for old, new in replaced.items():
        value = value.replace(old, new)
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(value)]


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, str]:
    """The units' paths, longest first, and where they are here."""
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "backups").mkdir(mode=0o700)
    return {
        "/opt/agentchat/bin/": f"{BIN}/",
        "/var/lib/agentchat-backups": str(tmp_path / "backups"),
        "/var/lib/agentchat": str(tmp_path / "state"),
        "/etc/agentchat/relay.toml": str(tmp_path / "relay.toml"),
    }


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_says_nothing_that_nobody_knows(path: Path) -> None:
    found = unit(path)
    assert found
    for (section, name), value in found.items():
        assert re.fullmatch(DIRECTIVES[section][name], value), (section, name, value)


def test_there_are_all_three_units() -> None:
    assert {path.name for path in UNITS} == {"agentchat.service", "agentchat-backup.service", "agentchat-backup.timer"}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong(path: Path, tmp_path: Path, paths: dict[str, str]) -> None:
    """Where systemd is; the test above needs none."""
    for each in UNITS:
        text = each.read_text("utf-8")
        (tmp_path / each.name).write_text(text.replace("/opt/agentchat/bin/", paths["/opt/agentchat/bin/"]))
    if shutil.which("systemd-analyze"):
        command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / path.name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_service_starts_reports_readiness_and_stops(
    tmp_path: Path, paths: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = unit(DEPLOY / "agentchat.service")
    assert found["Service", "Type"] == "notify"
    settings = (DEPLOY / "relay.toml").read_text("utf-8")
    assert "\n# port = 8790\n" in settings
    (tmp_path / "relay.toml").write_text(settings.replace("\n# port = 8790\n", "\nport = 0\n"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(PATIENCE)
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        command = command_of(found["Service", "ExecStart"], paths)
        with subprocess.Popen(command, umask=int(found["Service", "UMask"], 8), cwd="/") as service:
            try:
                ready = manager.recv(1000).decode().splitlines()
                assert ready[0] == "READY=1"
                assert get(ready[1].rpartition(" ")[2], "/health")[0] == 200
                backed_up(paths)
                service.send_signal(getattr(signal, found["Service", "KillSignal"]))
                assert manager.recv(1000).decode().splitlines()[0] == "STOPPING=1"
                assert service.wait(PATIENCE) == 0
            finally:
                service.kill()
    assert os.listdir(paths["/var/lib/agentchat"])


def backed_up(paths: dict[str, str]) -> None:
    """Run the backup's unit beside the relay: a new backup is there, one of last month is gone."""
    found = unit(DEPLOY / "agentchat-backup.service")
    backups = Path(paths["/var/lib/agentchat-backups"])
    (backups / "20200101T000000Z").mkdir()
    os.utime(backups / "20200101T000000Z", (0, 0))
    (backups / "notes").mkdir()
    os.utime(backups / "notes", (0, 0))
    for name in ("ExecStart", "ExecStartPost"):
        command = command_of(found["Service", name], paths)
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done
    [new, other] = sorted(path.name for path in backups.iterdir())
    assert re.fullmatch(r"\d{8}T\d{6}Z", new)
    assert other == "notes"
    assert (backups / new / "agentchat.db").is_file()


def test_a_refused_setting_is_not_tried_again(tmp_path: Path, paths: dict[str, str]) -> None:
    found = unit(DEPLOY / "agentchat.service")
    (tmp_path / "relay.toml").write_text("prot = 1\n")
    command = command_of(found["Service", "ExecStart"], paths)
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert str(done.returncode) == found["Service", "RestartPreventExitStatus"]
    assert "did you mean port?" in done.stderr


# Containers


class Step(NamedTuple):
    instruction: str
    text: str

    @property
    def words(self) -> list[str]:
        """A command in the form that no shell reads."""
        words: list[str] = json.loads(self.text)
        return words


def steps() -> list[Step]:
    text = (DEPLOY / "Containerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    return [Step(*line.split(" ", 1)) for line in joined.splitlines()]


def context(target: Path) -> None:
    """What the build sees of this checkout, by .dockerignore: everything is left out but what is named."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    named = [rule[1:] for rule in rules if rule.startswith("!")]
    assert [rule for rule in rules[1:] if not rule.startswith("!")] == ["**/__pycache__"]
    for name in named:
        assert (ROOT / name).exists(), name
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target / name)


def test_the_container_s_commands_do_what_they_are_for(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    replaced = {"/opt/agentchat": f"{tmp_path}/agentchat", "/data": f"{tmp_path}/data", "/src": f"{tmp_path}/src"}
    replaced |= {"-o 10001": f"-o {os.geteuid()}", "-g 10001": f"-g {os.getegid()}"}
    environ = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}

    def says(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=600, check=False)

    entry: list[str] = []
    check: list[str] = []
    for step in steps():
        text = step.text
        for old, new in replaced.items():
            text = text.replace(old, new)
        match step.instruction, text.split():
            case "FROM", [image, *_]:
                assert re.fullmatch(r"python:3\.\d+-slim", image)
            case "COPY", [".", target]:
                context(Path(target))
            case "COPY", ["--from=build", source, target]:
                assert source == target
            case "RUN", _:
                done = says("sh", "-c", text)
                assert done.returncode == 0, done
            case "ENV", [setting]:
                name, _, value = setting.partition("=")
                environ[name] = value.replace("$PATH", environ["PATH"])
            case "HEALTHCHECK", _:
                check = Step("CMD", step.text.partition("CMD ")[2]).words
            case "ENTRYPOINT", _:
                entry = step.words
            case (("USER" | "VOLUME" | "EXPOSE" | "STOPSIGNAL"), [_]):
                pass
            case _:
                raise AssertionError(f"what is {step}?")
    instructions = dict(steps())
    assert instructions["USER"] != "0:0"
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    shutil.rmtree(tmp_path / "src")  # the second stage has none of it

    assert entry[:4] == ["agentchat", "serve", "--host", "0.0.0.0"]
    assert shutil.which("agentchat", path=environ["PATH"]) == f"{tmp_path}/agentchat/bin/agentchat"
    assert environ["AGENTCHAT_HOME"] == f"{tmp_path}/data"
    assert says(*check).returncode == 3, "unhealthy before it runs"
    command = [*entry, "--port", "0", "--public-url", "https://relay.example"]
    with subprocess.Popen(command, env=environ, cwd="/", stdout=subprocess.PIPE, text=True) as container:
        try:
            assert container.stdout is not None
            assert f"data in {tmp_path}/data/relay" in container.stdout.readline()
            assert (done := says(*check)).returncode == 0, done
            key = says("agentchat", "admin", "agent", "token", "mac-ann").stdout.splitlines()[-1]
            url = json.loads((tmp_path / "data" / "relay" / "relay.json").read_text())["url"]
            with Client(url, key, retries=0) as client:
                assert client.send_message("general", "from outside")["message"]["id"]
            container.send_signal(getattr(signal, instructions["STOPSIGNAL"]))
            assert container.wait(PATIENCE) == 0
        finally:
            container.kill()


def engines() -> Iterator[str]:
    """Those that work here and can get the image that ours begins with."""
    base = next(step.text.split()[0] for step in steps() if step.instruction == "FROM")
    for engine in ("docker", "podman"):
        if shutil.which(engine) and all(
            subprocess.run([engine, *words], capture_output=True, timeout=600, check=False).returncode == 0
            for words in (["info"], ["pull", base])
        ):
            yield engine


def test_the_image_is_built_and_runs_where_there_is_an_engine() -> None:
    """Elsewhere the test above has done its commands."""
    for engine in engines():
        name = f"agentchat-test-{uuid.uuid4().hex[:8]}"

        def ask(*words: str, engine: str = engine) -> str:
            done = subprocess.run([engine, *words], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
            assert done.returncode == 0, done
            return done.stdout.strip()

        try:
            ask("build", "-f", "deploy/Containerfile", "-t", name, ".")
            ask("run", "-d", "--name", name, "-p", "127.0.0.1::8790", "-v", f"{name}:/data", name, "--own-names")
            address = ask("port", name, "8790").splitlines()[0]
            until(lambda address=address: answers(f"http://{address}"))
            key = ask("exec", name, "agentchat", "admin", "agent", "token", "mac-ann").splitlines()[-1]
            with Client(f"http://{address}", key) as client:
                sent = client.send_message("general", "kept in the volume")["message"]["id"]
            assert ask("exec", name, "id", "-u") == "10001"
            assert "is running" in ask("exec", name, "agentchat", "serve", "status")
            ask("restart", name)
            address = ask("port", name, "8790").splitlines()[0]
            until(lambda address=address: answers(f"http://{address}"))
            with Client(f"http://{address}", key) as client:
                assert client.get_message(sent)
            ask("stop", "-t", "60", name)
            assert ask("inspect", "--format", "{{.State.ExitCode}}", name) == "0"
        finally:
            for words in (["rm", "-f", name], ["volume", "rm", "-f", name], ["rmi", "-f", name]):
                subprocess.run([engine, *words], capture_output=True, timeout=PATIENCE, check=False)


def answers(url: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return get(url, "/health")[0] == 200
    return False
