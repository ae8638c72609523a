"""What importing us costs others: nothing but the standard library, no read of the environment, no warning.

Each question is put to an interpreter of its own, which tells what it loaded; pytest's has loaded everything already.
"""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "agentchat": ROOT / "agentchat",
    "agentchat_executor": ROOT / "executor" / "agentchat_executor",
    "langchain_agentchat": ROOT / "langchain_agentchat",
}
OURS = tuple(FOLDERS)
# `__main__` runs the command when it is imported.
MODULES = [
    f"{package}{name}"
    for package, folder in FOLDERS.items()
    for name in ("", *(f".{found.name}" for found in pkgutil.iter_modules([str(folder)])))
    if name != ".__main__"
]
STDLIB_MODULES = [name for name in MODULES if not name.startswith("langchain_agentchat.")]
HEAVY = {"dataclasses", "inspect", "difflib", "logging", "concurrent.futures", "urllib.request"}
TOUCH_ALL = "import {0}; [getattr({0}, name) for name in {0}.__all__]"

# Which of our modules read which variable. The reader is the innermost frame that is not the machinery of reading.
WATCH = """
import os
reads = []
class Watched(dict):
    def _seen(self, name):
        frame = sys._getframe(2)
        while frame and frame.f_globals.get("__name__") in ("os", "_collections_abc", "posixpath", "ntpath"):
            frame = frame.f_back
        reader = frame.f_globals.get("__name__", "") if frame else ""
        if reader.partition(".")[0] in OURS:
            reads.append([reader, str(name)])
    def __getitem__(self, name): self._seen(name); return super().__getitem__(name)
    def get(self, name, default=None): self._seen(name); return super().get(name, default)
    def __contains__(self, name): self._seen(name); return super().__contains__(name)
    def __iter__(self): self._seen("*"); return super().__iter__()
    def keys(self): self._seen("*"); return super().keys()
    def items(self): self._seen("*"); return super().items()
    def copy(self): self._seen("*"); return super().copy()
os.environ = Watched(os.environ)
"""


def run(
    code: str, *flags: str, path: Path | None = None, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that finds this checkout's packages."""
    folders = [str(folder.parent) for folder in FOLDERS.values()] + ([str(path)] if path else [])
    start = f"import sys; sys.path[:0] = {list(dict.fromkeys(folders))!r}; OURS = {OURS!r}\n"
    command = [sys.executable, "-B", *flags, "-c", start + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)


def asked(code: str, *flags: str, **options: Any) -> Any:
    """The JSON that the code prints."""
    done = run(code, *flags, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def loaded(code: str, *flags: str, **options: Any) -> set[str]:
    """The modules that running the code brings in."""
    report = "found = [*{*sys.modules} - before]; import json; print(json.dumps(found))"
    return set(asked(f"before = {{*sys.modules}}\n{code}\n{report}", *flags, **options))


def foreign(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - {*OURS}


@pytest.mark.parametrize("package", ["agentchat", "agentchat_executor"])
def test_a_package_and_all_it_exports_needs_the_standard_library_only(package: str) -> None:
    found = loaded(TOUCH_ALL.format(package))
    assert package in found
    assert foreign(found) == set()


@pytest.mark.parametrize("module", STDLIB_MODULES)
def test_a_module_imports_without_any_installed_package(module: str) -> None:
    """`-S` leaves site-packages out, so that nothing installed can help."""
    assert module in loaded(f"import {module}", "-S", "-E")


@pytest.mark.parametrize(
    "code",
    ["import agentchat", "import agentchat; agentchat.Client", "import agentchat; agentchat.Contract.send_message"],
)
def test_importing_the_client_leaves_heavy_modules_alone(code: str) -> None:
    found = loaded(code, "-S", "-E")
    assert "agentchat" in found
    assert found & HEAVY == set()


def test_the_heavy_modules_would_be_noticed() -> None:
    assert loaded("import dataclasses, difflib, logging, concurrent.futures, urllib.request", "-S", "-E") >= HEAVY


def test_importing_agentchat_alone_loads_neither_its_parts_nor_http() -> None:
    found = loaded("import agentchat", "-S", "-E")
    parts = {name for name in found if name.startswith("agentchat.") and not name.startswith("agentchat._")}
    assert "agentchat" in found
    assert parts | (found & {"http.client", "json", "ssl", "socket", "argparse"}) == set()


def test_importing_langchain_agentchat_loads_no_framework() -> None:
    found = loaded("import langchain_agentchat")
    assert "langchain_agentchat" in found
    assert foreign(found) == set()


@pytest.mark.parametrize(
    ("use", "wanted", "unwanted"),
    [
        ("langchain_agentchat.AsyncClient", "httpx", {"langchain_core", "langchain", "pydantic"}),
        ("import langchain_agentchat.arguments", "langchain_agentchat.arguments", {"httpx", "langchain", "pydantic"}),
        (
            "import agentchat; langchain_agentchat.args_schema(agentchat.Contract.send_message)",
            "pydantic",
            {"httpx", "langchain_core", "langchain"},
        ),
    ],
)
def test_using_a_name_of_langchain_agentchat_loads_what_it_needs_and_no_more(
    use: str, wanted: str, unwanted: set[str]
) -> None:
    found = loaded(f"import langchain_agentchat; {use}")
    assert wanted in found
    assert found & unwanted == set()


POISON = {
    "AGENTCHAT_URL": "::no url at all::",
    "AGENTCHAT_KEY": "two words\n",
    "AGENTCHAT_AGENT": "../../etc",
    "AGENTCHAT_HOME": "/nonexistent/\x01",
    "AGENTCHAT_PROJECT": "\x7f",
    "MACHINE_NAME": "..",
    "http_proxy": "socks5://nowhere",
}


def test_no_module_reads_the_environment_when_it_is_imported() -> None:
    imports = "\n".join(f"import {module}" for module in MODULES)
    code = f"{WATCH}\n{imports}\nimport json; print(json.dumps(reads))"
    assert asked(code, environ=POISON) == []


def test_the_watch_notices_a_module_that_reads_the_environment(tmp_path: Path) -> None:
    folder = tmp_path / "agentchat_like"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "import os\nos.getenv('AGENTCHAT_URL')\nos.environ.get('A')\n'B' in os.environ\nlist(os.environ)\n"
        "os.path.expanduser('~')\n"
    )
    code = f"OURS = ['agentchat_like']\n{WATCH}\nimport agentchat_like, json; print(json.dumps(reads))"
    names = [name for _, name in asked(code, path=tmp_path)]
    assert names[:4] == ["AGENTCHAT_URL", "A", "B", "*"]
    assert "HOME" in names


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_in_silence_in_development_mode_with_warnings_as_errors(module: str) -> None:
    done = run(f"import {module}", "-W", "error", "-X", "dev")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("package", OURS)
def test_all_exported_names_resolve_in_silence_in_development_mode(package: str) -> None:
    done = run(TOUCH_ALL.format(package), "-W", "error", "-X", "dev")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
