"""The scripts of `make check` and `make install` pass on this tree, and each rule fires on a tree that breaks it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GIT = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

# Put together here, so that this file keeps the rule it tests.
REGISTRY = "https://pypi" + ".org/simple"
FILE_HOST = "https://files.python" + "hosted.org/x.whl"
NODE_REGISTRY = "https://registry.npm" + "js.org/x"
HOME_OF_ROOT = "/ro" + "ot/key"
CHECKOUT = "/work" + "/main/key"


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A git repository that holds a copy of the script and keeps every rule."""
    subprocess.run(["git", "init", "--quiet", tmp_path], env=GIT, check=True)
    for name in ("scripts/house_rules.py", "agentchat/__init__.py", "executor/agentchat_executor/__init__.py"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    return tmp_path


def write(tree: Path, name: str, content: str | bytes) -> None:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def complaints(tree: Path) -> list[str]:
    """The lines that the script complains with; its exit code must agree."""
    done = run(tree / "scripts" / "house_rules.py")
    assert done.returncode == bool(done.stderr), done.stdout + done.stderr
    assert done.stderr or done.stdout == "house rules: all kept\n"
    return done.stderr.splitlines()


def function(lines: int, keyword: str = "def") -> str:
    return f"{keyword} long():\n" + "    pass\n" * (lines - 1)


# What make check runs


@pytest.mark.parametrize("command", [("house_rules.py",), ("definitions.py", "--check")], ids=lambda words: words[0])
def test_this_tree_passes(command: tuple[str, ...]) -> None:
    done = run(ROOT / "scripts" / command[0], *command[1:])
    assert (done.returncode, done.stderr) == (0, "")


def test_a_good_tree_passes(tree: Path) -> None:
    assert complaints(tree) == []


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("agentchat/long.py", "\n" * 401, "agentchat/long.py: 401 lines, the limit is 400"),
        (
            "executor/agentchat_executor/long.py",
            "\n" * 401,
            "executor/agentchat_executor/long.py: 401 lines, the limit is 400",
        ),
        ("langchain_agentchat/long.py", "\n" * 401, "langchain_agentchat/long.py: 401 lines, the limit is 400"),
        ("tests/long.py", "\n" * 801, "tests/long.py: 801 lines, the limit is 800"),
        ("agentchat/f.py", "\n" + function(61), "agentchat/f.py:2: long has 61 lines, the limit is 60"),
        ("agentchat/f.py", function(61, "async def"), "agentchat/f.py:1: long has 61 lines, the limit is 60"),
        ("tests/f.py", function(121), "tests/f.py:1: long has 121 lines, the limit is 120"),
    ],
)
def test_what_is_too_long_is_named_with_its_limit(tree: Path, name: str, content: str, complaint: str) -> None:
    write(tree, name, content)
    assert complaints(tree) == [complaint]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("agentchat/long.py", "\n" * 400),
        ("tests/long.py", "\n" * 800),
        ("agentchat/f.py", function(60)),
        ("tests/f.py", function(120)),
        ("docs/long.md", "\n" * 5000),
    ],
)
def test_what_just_fits_passes(tree: Path, name: str, content: str) -> None:
    write(tree, name, content)
    assert complaints(tree) == []


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("agentchat/x.py", "import httpx", "x.py:1: agentchat may not import httpx"),
        ("agentchat/x.py", "import os, httpx.auth", "x.py:1: agentchat may not import httpx"),
        ("agentchat/x.py", "from httpx.auth import A", "x.py:1: agentchat may not import httpx"),
        ("agentchat/x.py", "def f():\n    import httpx", "x.py:2: agentchat may not import httpx"),
        ("agentchat/x.py", "import langchain_agentchat", "x.py:1: agentchat may not import langchain_agentchat"),
        ("agentchat/deep/x.py", "import httpx", "x.py:1: agentchat may not import httpx"),
        ("agentchat/x.py", "import agentchat_executor", "x.py:1: agentchat may not import agentchat_executor"),
        ("executor/agentchat_executor/x.py", "import pydantic", "x.py:1: agentchat_executor may not import pydantic"),
        ("langchain_agentchat/x.py", "import openai", "x.py:1: langchain_agentchat may not import openai"),
    ],
)
def test_an_import_against_the_arrows_is_named(tree: Path, name: str, content: str, complaint: str) -> None:
    write(tree, name, content)
    assert complaints(tree) == [f"{name.rpartition('/')[0]}/{complaint}"]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("agentchat/x.py", "import cryptography", "x.py:1: agentchat may import cryptography inside functions only"),
        (
            "agentchat/x.py",
            "try:\n    from cryptography.hazmat import x\nexcept ImportError:\n    pass",
            "x.py:2: agentchat may import cryptography inside functions only",
        ),
        (
            "langchain_agentchat/x.py",
            "class A:\n    import langchain.agents",
            "x.py:2: langchain_agentchat may import langchain inside functions only",
        ),
        (
            "langchain_agentchat/x.py",
            "from langgraph import graph",
            "x.py:1: langchain_agentchat may import langgraph inside functions only",
        ),
    ],
)
def test_an_eager_import_of_what_must_be_lazy_is_named(tree: Path, name: str, content: str, complaint: str) -> None:
    write(tree, name, content)
    assert complaints(tree) == [f"{name.rpartition('/')[0]}/{complaint}"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("agentchat/x.py", "import os\nfrom . import y\nfrom .y import z\nimport agentchat.errors"),
        ("agentchat/x.py", "def f():\n    import cryptography\nasync def g():\n    import cryptography"),
        ("agentchat/x.py", "if TYPE_CHECKING:\n    import cryptography"),
        ("executor/agentchat_executor/x.py", "import agentchat"),
        ("langchain_agentchat/x.py", "import agentchat, httpx, pydantic, langchain_core"),
        ("tests/x.py", "import pytest, langchain, cryptography"),
        ("tests/agentchat/test_x.py", "import pytest\nfrom tests.servers import FakeRelay"),
        ("tests/langchain_agentchat/test_x.py", "import pytest"),
    ],
)
def test_an_import_along_the_arrows_passes(tree: Path, name: str, content: str) -> None:
    write(tree, name, content)
    assert complaints(tree) == []


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (
            "store/sqlite/engine.py",
            "from ...service import messages",
            "store may not import service, which stands above it",
        ),
        ("service/messages.py", "from ..http.app import App", "service may not import http, which stands above it"),
        ("http/app.py", "from ..relay import Relay", "http may not import relay, which stands above it"),
        ("wire.py", "from .store import seam", "wire may not import store, which stands above it"),
        ("service/files.py", "from ..store.sqlite.engine import Sqlite", "service knows the store by its seam only"),
        ("http/app.py", "from ..store import sqlite", "http knows the store by its seam only"),
    ],
)
def test_an_import_upward_in_the_relay_is_named(tree: Path, name: str, content: str, complaint: str) -> None:
    write(tree, f"agentchat_relay/{name}", f"{content}\n")
    assert complaints(tree) == [f"agentchat_relay/{name}:1: {complaint}"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("service/messages.py", "from ..store.seam import Writing"),
        ("service/messages.py", "from . import channels"),
        ("relay.py", "from .store.sqlite.engine import Sqlite"),
        ("cli/admin.py", "def main():\n    from ..store.sqlite.engine import Sqlite"),
        ("http/app.py", "from ..wire import iso"),
    ],
)
def test_an_import_downward_in_the_relay_passes(tree: Path, name: str, content: str) -> None:
    write(tree, f"agentchat_relay/{name}", f"{content}\n")
    assert complaints(tree) == []


@pytest.mark.parametrize("name", ["docs/x.md", "requirements/x.txt", "Makefile", "agentchat/x.py"])
@pytest.mark.parametrize("text", [REGISTRY, FILE_HOST, NODE_REGISTRY, HOME_OF_ROOT, CHECKOUT])
def test_a_registry_host_or_a_path_of_one_machine_is_named(tree: Path, name: str, text: str) -> None:
    write(tree, name, f"# see {text}\n")
    (complaint,) = complaints(tree)
    assert complaint.startswith(f"{name}: names '")
    assert complaint.endswith("', a registry host or a path of one machine")
    assert complaint.split("'")[1] in text


@pytest.mark.parametrize("name", ["uv.lock", "poetry.lock", "docs/package-lock.json", "yarn.lock"])
def test_a_lock_file_is_named(tree: Path, name: str) -> None:
    write(tree, name, "nothing bad in it")
    assert complaints(tree) == [f"{name}: lock files name registry hosts; take it out"]


def test_all_that_is_wrong_is_told_at_once(tree: Path) -> None:
    write(tree, "agentchat/x.py", "import httpx\n" + "\n" * 400)
    write(tree, "uv.lock", REGISTRY)
    assert len(complaints(tree)) == 4


def test_what_would_not_be_committed_or_is_no_text_is_left_alone(tree: Path) -> None:
    write(tree, ".gitignore", "ignored/\n")
    write(tree, "ignored/uv.lock", REGISTRY)
    write(tree, "picture.png", b"\xff\xfe" + REGISTRY.encode())
    assert complaints(tree) == []


def test_a_tracked_file_that_was_deleted_is_no_problem(tree: Path) -> None:
    write(tree, "docs/gone.md", "text")
    subprocess.run(["git", "add", "docs/gone.md"], cwd=tree, env=GIT, check=True)
    (tree / "docs" / "gone.md").unlink()
    assert complaints(tree) == []


# The definitions


@pytest.fixture
def definitions(tmp_path: Path) -> Path:
    """A copy of the script beside a copy of the definitions."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tool_definitions", tmp_path / "tool_definitions")
    return tmp_path


def test_outdated_missing_and_stray_definitions_are_named_and_then_mended(definitions: Path) -> None:
    folder, script = definitions / "tool_definitions", definitions / "scripts" / "definitions.py"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "openai.json").write_text("[]\n")
    (folder / "mcp.json").unlink()
    (folder / "stray.json").write_text("{}\n")
    checked = run(script, "--check")
    assert checked.returncode == 1
    assert checked.stderr == "tool_definitions: openai.json, mcp.json, stray.json out of date; run: make definitions\n"
    assert run(script).returncode == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert run(script, "--check").returncode == 0


# Making an environment

FAKE_PYTHON = """\
#!/bin/sh
# A python that says what it was asked, and fails where the test wants it to.
echo "$*" >> "$LOG"
case "$*" in
    "-V") echo "Python 3.9.2" ;;
    *version_info*) exit "$OLD" ;;
    *ensurepip*) exit "$NO_VENV" ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip "*) exit "$NO_PACKAGES" ;;
esac
"""
FINE = {"OLD": "0", "NO_VENV": "0", "NO_PACKAGES": "0"}


@pytest.fixture
def python(tmp_path: Path) -> Path:
    path = tmp_path / "python3"
    path.write_text(FAKE_PYTHON)
    path.chmod(0o755)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "plain.txt").touch()
    (tmp_path / "requirements" / "extra.txt").touch()
    (tmp_path / "requirements" / "extra-no-deps.txt").touch()
    return path


def make_environment(python: Path, name: str = "plain", **faults: str) -> subprocess.CompletedProcess[str]:
    folder = python.parent
    environ = {"PATH": os.environ["PATH"], "LOG": str(folder / "log"), **FINE, **faults}
    command = ["sh", str(ROOT / "scripts" / "environment.sh"), str(python), "made", name]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_a_missing_python_is_told_with_what_to_install(python: Path) -> None:
    done = make_environment(python.with_name("python9"))
    assert done.returncode == 1
    assert f"There is no {python.with_name('python9')} here. Install Python 3.11 or newer" in done.stderr
    assert "make PYTHON=/path/to/python3" in done.stderr


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("OLD", "Python 3.11 or newer is needed, {python} is Python 3.9.2. Name another: make PYTHON=python3.12"),
        ("NO_VENV", "This Python has no venv. On Debian and Ubuntu: apt-get install python3-venv"),
    ],
)
def test_a_python_that_will_not_do_is_told_with_what_to_install(python: Path, fault: str, text: str) -> None:
    done = make_environment(python, **{fault: "1"})
    assert (done.returncode, done.stderr) == (1, text.format(python=python) + "\n")
    assert not (python.parent / "made").exists()


@pytest.mark.parametrize(
    ("name", "installs"),
    [
        ("plain", ["--use-pep517 -r requirements/plain.txt"]),
        ("extra", ["--use-pep517 -r requirements/extra.txt", "--no-deps --upgrade -r requirements/extra-no-deps.txt"]),
    ],
)
def test_a_good_python_makes_the_environment_of_that_name(python: Path, name: str, installs: list[str]) -> None:
    done = make_environment(python, name)
    assert done.returncode == 0, done.stderr
    assert (python.parent / "made" / "ready").exists()
    *_, made = (python.parent / "log").read_text().partition("-m venv made\n")
    pip = "-m pip install --quiet --disable-pip-version-check"
    assert made.splitlines() == [f"{pip} {arguments}" for arguments in installs]


def test_a_failed_installation_leaves_the_environment_unready(python: Path) -> None:
    assert make_environment(python, NO_PACKAGES="1").returncode != 0
    assert not (python.parent / "made" / "ready").exists()


# Circles

INSIDE = "def later():\n    from . import one\n"
ONE = {"agentchat_relay/service/one.py": "from . import two\n"}


@pytest.mark.parametrize(
    "files",
    [
        {"agentchat_relay/service/two.py": "from .one import anything\n"},
        {"agentchat_relay/service/two.py": "from ..service import one\n"},
        {
            "agentchat_relay/service/two.py": "from .work import three\n",
            "agentchat_relay/service/work/three.py": "from .. import one\n",
        },
        {"agentchat_relay/service/two/__init__.py": "from .. import one\n"},
    ],
)  # fmt: skip
def test_modules_that_import_each_other_are_named(tree: Path, files: dict[str, str]) -> None:
    for name, content in (ONE | files).items():
        write(tree, name, content)
    (complaint,) = complaints(tree)
    assert complaint.startswith("these import each other: agentchat_relay.service.")
    assert "agentchat_relay.service.one" in complaint


@pytest.mark.parametrize("content", [INSIDE, f"if TYPE_CHECKING:\n    {INSIDE.splitlines()[1].strip()}\n", ""])
def test_what_is_imported_later_is_no_circle(tree: Path, content: str) -> None:
    for name, text in (ONE | {"agentchat_relay/service/two.py": content}).items():
        write(tree, name, text)
    assert complaints(tree) == []
