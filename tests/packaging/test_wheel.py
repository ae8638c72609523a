"""What is shipped: built as a release is built, installed where nothing else is, and used from there.

Everything runs offline; the relay is the test's own process.
"""

from __future__ import annotations

import configparser
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import agentchat
from agentchat import schema
from agentchat.contract import STANDARD
from tests.conftest import KEY
from tests.servers import FakeRelay

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "agentchat": ROOT / "agentchat",
    "agentchat_demo": ROOT / "agentchat_demo",
    "agentchat_executor": ROOT / "executor" / "agentchat_executor",
    "agentchat_relay": ROOT / "agentchat_relay",
    "langchain_agentchat": ROOT / "langchain_agentchat",
}
RELAY = {"uvicorn", "httptools", "uvloop", "msgspec", "cryptography", "jsonschema"}
DIST_INFO = f"langchain_agentchat-{agentchat.__version__}.dist-info"

CALL = """
import sys
import agentchat, agentchat_executor
url, key = sys.argv[1:]
with agentchat.Client(url, key) as client:
    sent = client.send_message("general", "hello")
assert sent["message"]["author_name"] == "mac-bob", sent
result = agentchat_executor.AgentChatExecutor(url, key).execute("agentchat_check_board", {})
assert result.ok and "general" in result.text, result
print(agentchat.__file__)
print(agentchat_executor.__file__)
"""
INSTALLED = """
import importlib.metadata, json, sys
print(json.dumps([sorted(found.name for found in importlib.metadata.distributions()), sys.path]))
"""


class Built(NamedTuple):
    wheel: Path
    sdist: Path


class Environment(NamedTuple):
    python: Path
    command: Path


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    """The standard output of a command that must succeed, started with no variable but these."""
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(wheel: Path, folder: Path) -> Environment:
    """A new virtual environment without pip, where only this wheel is installed."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--isolated",
        "--disable-pip-version-check",
        "--python",
        folder / "bin" / "python",
    )
    run(*pip, "install", "--no-index", "--no-deps", wheel, cwd=folder.parent)
    return Environment(folder / "bin" / "python", folder / "bin" / "agentchat")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist of this checkout, and the wheel made from that sdist."""
    out = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out, PATH=os.environ["PATH"])
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return Built(wheel, sdist)


@pytest.fixture(scope="module", params=["wheel", "editable"])
def environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """One that holds the wheel alone, and the developer's, where `pip install -e` put this checkout."""
    if request.param == "editable":
        return Environment(Path(sys.executable), Path(sys.executable).with_name("agentchat"))
    wheel: Path = request.getfixturevalue("built").wheel
    return install(wheel, tmp_path_factory.mktemp("environment") / "alone")


@pytest.fixture
def names(built: Built) -> Iterator[set[str]]:
    with zipfile.ZipFile(built.wheel) as wheel:
        assert wheel.testzip() is None
        yield set(wheel.namelist())


def content(built: Built, name: str) -> str:
    with zipfile.ZipFile(built.wheel) as wheel:
        return wheel.read(f"{DIST_INFO}/{name}").decode()


def test_the_wheel_holds_the_packages_and_nothing_else(names: set[str]) -> None:
    assert {name.partition("/")[0] for name in names} == {*FOLDERS, DIST_INFO}


@pytest.mark.parametrize("package", FOLDERS)
def test_the_wheel_holds_every_file_of_a_package(names: set[str], package: str) -> None:
    folder = FOLDERS[package]
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    wanted = {f"{package}/{file}" for file in files if "__pycache__" not in file}
    assert {name for name in names if name.startswith(f"{package}/")} == wanted
    assert {f"{package}/__init__.py", f"{package}/py.typed"} <= wanted


def test_the_wheel_is_for_every_platform(built: Built) -> None:
    assert built.wheel.name == f"langchain_agentchat-{agentchat.__version__}-py3-none-any.whl"
    assert "Root-Is-Purelib: true" in content(built, "WHEEL").splitlines()


def test_the_metadata_say_what_is_needed_and_under_which_terms(built: Built) -> None:
    metadata = Parser().parsestr(content(built, "METADATA"))
    assert metadata["Name"] == "langchain-agentchat"
    assert metadata["Version"] == agentchat.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (ROOT / "README.md").read_text()
    assert content(built, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()


def test_the_extras_bring_what_their_names_say(built: Built) -> None:
    metadata = Parser().parsestr(content(built, "METADATA"))
    assert set(metadata.get_all("Provides-Extra") or []) == {"agents", "keys", "relay", "postgres", "s3", "all"}
    needs: dict[str, set[str]] = {}
    for line in metadata.get_all("Requires-Dist") or []:
        requirement, _, marker = line.partition(";")
        extra = marker.partition("extra ==")[2].strip().strip("'\"")
        needs.setdefault(extra, set()).add(requirement.strip().partition("<")[0].partition(">")[0])
    assert needs == {
        "": {"langchain-core", "pydantic", "httpx"},
        "agents": {"langchain", "langgraph"},
        "keys": {"cryptography"},
        "relay": RELAY,
        "postgres": {"psycopg[binary]"},
        "s3": {"boto3"},
        "all": {"langchain", "langgraph", "psycopg[binary]", "boto3"} | RELAY,
    }


def test_the_wheel_brings_the_command(built: Built) -> None:
    entries = configparser.ConfigParser()
    entries.read_string(content(built, "entry_points.txt"))
    assert {section: dict(entries[section]) for section in entries.sections()} == {
        "console_scripts": {"agentchat": "agentchat.cli:main"},
        "agentchat.commands": {
            "serve": "agentchat_relay.cli.serve:main",
            "admin": "agentchat_relay.cli.admin:main",
            "demo": "agentchat_demo.command:main",
        },
        "agentchat.transports": {"local": "agentchat_relay.local"},
    }


def test_the_sdist_holds_what_is_needed_to_build_and_test(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "Makefile",
        "tests/conftest.py",
        "agentchat/contract/__init__.py",
    } <= held
    assert not [name for name in held if name.startswith((".ci", ".git/", ".venv", "dist/"))]


def test_nothing_else_is_installed_beside_the_wheel(built: Built, tmp_path: Path) -> None:
    """A control: the tests below prove independence only if no third-party module can be found."""
    names, path = json.loads(run(install(built.wheel, tmp_path / "alone").python, "-c", INSTALLED, cwd=tmp_path))
    assert names == ["langchain-agentchat"]
    assert not [entry for entry in path if any((Path(entry) / name).exists() for name in ("httpx", "pydantic", "pip"))]


def test_client_and_executor_work_with_no_other_package(
    environment: Environment, relay: FakeRelay, tmp_path: Path
) -> None:
    run(environment.python, "-W", "error", "-c", CALL, relay.url, KEY, cwd=tmp_path)
    assert [seen.path for seen in relay.seen] == ["/api/v2/messages", "/api/v2/board"]
    assert relay.seen[0].json()["content"] == "hello"


def test_importing_langchain_agentchat_needs_no_other_package(environment: Environment, tmp_path: Path) -> None:
    code = "import langchain_agentchat; print('AgentChatCallbackHandler' in langchain_agentchat.__all__)"
    assert run(environment.python, "-c", code, cwd=tmp_path) == "True\n"


def test_the_command_tells_its_version(environment: Environment, tmp_path: Path) -> None:
    assert run(environment.command, "--version", cwd=tmp_path) == f"agentchat {agentchat.__version__}\n"


@pytest.mark.parametrize("dialect", schema.DIALECTS)
def test_the_command_prints_the_definitions(environment: Environment, dialect: schema.Dialect, tmp_path: Path) -> None:
    printed: list[Any] = json.loads(run(environment.command, "definitions", "--dialect", dialect, cwd=tmp_path))
    assert printed == schema.tools(dialect)
    assert all(f"agentchat_{name}" in json.dumps(printed) for name in STANDARD)


def test_the_command_talks_to_a_relay(environment: Environment, relay: FakeRelay, tmp_path: Path) -> None:
    settings = {"AGENTCHAT_URL": relay.url, "AGENTCHAT_KEY": KEY, "AGENTCHAT_HOME": str(tmp_path)}
    assert "general" in run(environment.command, "check-board", cwd=tmp_path, **settings)
    assert "general" in run(environment.python, "-m", "agentchat", "check-board", cwd=tmp_path, **settings)
    assert [seen.path for seen in relay.seen] == ["/api/v2/board"] * 2


def test_the_editable_install_runs_this_checkout(relay: FakeRelay, tmp_path: Path) -> None:
    files = run(sys.executable, "-c", CALL, relay.url, KEY, cwd=tmp_path).split()
    assert files == [str(FOLDERS[name] / "__init__.py") for name in ("agentchat", "agentchat_executor")]
    direct = importlib.metadata.distribution("langchain-agentchat").read_text("direct_url.json")
    assert json.loads(direct or "{}") == {"dir_info": {"editable": True}, "url": ROOT.as_uri()}


def test_copying_the_two_folders_is_an_installation(relay: FakeRelay, tmp_path: Path) -> None:
    for name in ("agentchat", "agentchat_executor"):
        shutil.copytree(FOLDERS[name], tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    files = run(sys.executable, "-S", "-E", "-W", "error", "-c", CALL, relay.url, KEY, cwd=tmp_path).split()
    assert files == [str(tmp_path / name / "__init__.py") for name in ("agentchat", "agentchat_executor")]
    assert [seen.path for seen in relay.seen] == ["/api/v2/messages", "/api/v2/board"]
