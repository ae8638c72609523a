"""docs/reference.md is fresh and whole: every operation, argument, result, code and exported name, and no dead link."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from agentchat import cli, errors, schema
from agentchat.contract import OPERATIONS, PRESETS
from langchain_agentchat.tools import TOOLS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "reference.py"
PAGE = (ROOT / "docs" / "reference.md").read_text("utf-8")
PACKAGES = ("langchain_agentchat", "agentchat_executor", "agentchat", "agentchat_relay")
COMMON = "--url --agent --project --home --timeout --json"  # of every command
EXPORTED = [(package, name) for package in PACKAGES for name in importlib.import_module(package).__all__]


def run(script: Path, *arguments: str, seed: str = "0") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def section(heading: str, level: int = 3) -> str:
    """The text under a heading, up to the next one that is not below it."""
    found = re.search(rf"^{'#' * level} {re.escape(heading)}\n(.*?)(?=^#{{2,{level}}} |\Z)", PAGE, re.M | re.S)
    assert found, f"{heading} is not on the page"
    return found[1]


# Freshness


def test_the_committed_page_is_what_the_code_says() -> None:
    done = run(SCRIPT, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The script in a tree of its own, so that it writes there."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "docs").mkdir()
    return Path(shutil.copy(SCRIPT, tmp_path / "scripts"))


@pytest.mark.parametrize("content", [None, PAGE.replace("agentchat_send_message", "post", 1)])
def test_a_stale_page_is_named_and_made_anew(copied: Path, content: str | None) -> None:
    page = copied.parent.parent / "docs" / "reference.md"
    if content is not None:
        page.write_text(content, "utf-8")
    stale = run(copied, "--check")
    assert (stale.returncode, stale.stderr) == (1, "docs/reference.md out of date; run: make definitions\n")
    assert (page.read_text("utf-8") if page.exists() else None) == content, "a check writes nothing"
    made = run(copied, seed="7")
    assert (made.returncode, made.stdout) == (0, "docs/reference.md\n")
    assert page.read_text("utf-8") == PAGE
    assert run(copied, "--check").returncode == 0


# Operations


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_there_under_all_its_names(name: str) -> None:
    operation, text = OPERATIONS[name], section(name)
    assert operation.description in text
    assert f"`{schema.PREFIX}{name}`" in text
    assert f"class `{TOOLS[name].__name__}`" in text
    assert f"`client.{name}(" in text
    assert f"`agentchat {name.replace('_', '-')}" in text
    assert f"`{operation.verb} {operation.path}`" in text
    assert f"answers [`{operation.result.__name__}`]" in text
    assert ("idempotency key" in text) is operation.writes
    assert [preset for preset in PRESETS if f"`{preset}`" in text.split("- method")[0]] == [
        preset for preset, names in PRESETS.items() if name in names
    ]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_argument_is_there_with_who_may_set_it(name: str) -> None:
    operation = OPERATIONS[name]
    rows = {
        cells[0].strip("| `"): cells
        for line in section(name).splitlines()
        if line.startswith("| `") and len(cells := line.split(" | ")) == 6
    }
    assert [*rows] == [*operation.parameters]
    models = {parameter.name for parameter in schema.for_models(operation)}
    for parameter in operation.parameters.values():
        _, _, default, limits, set_by, about = rows[parameter.name]
        assert (default == "required") is parameter.required
        assert ("models" in set_by) is (parameter.name in models)
        assert parameter.description in about
        if parameter.limit is not None:
            assert f"{parameter.limit.low:,} to {parameter.limit.high:,}" in limits
        assert all(f"`{choice}`" in limits for choice in parameter.choices)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_command_takes_the_options_the_page_shows(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = name.replace("_", "-")
    [shown] = re.findall(rf"`agentchat {command}([^`]*)`", section(name))
    assert cli.main([command, "--help"]) == 0
    known = {*re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out.split("relay and output")[0])}
    assert {*re.findall(r"--[a-z][a-z-]*", shown)} == known - {"--help", *COMMON.split()}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_result_is_there_with_every_member(name: str) -> None:
    result = OPERATIONS[name].result
    text = section(result.__name__)
    for member in result.__annotations__:
        mark = "" if member in result.__required_keys__ else "?"
        assert f"| `{member}`{mark} |" in text


# Codes, names, links


def test_every_error_code_is_there_with_status_and_class() -> None:
    text = section("Error codes", 2)
    for code, (status, kind) in errors.CODES.items():
        assert f"| `{code}` | {status} | `{kind.__name__}` |" in text
    for code in ("not_configured", "internal_error", "protocol_error", "network_error", "timed_out"):
        assert f"| `{code}` |  |" in text
    repeated = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `") and "| yes |" in line}
    assert repeated == errors.RETRYABLE


@pytest.mark.parametrize(("package", "name"), EXPORTED)
def test_every_exported_name_is_there(package: str, name: str) -> None:
    text = section(package, 2)
    assert f"\n### {name}\n" in text or f"[`{name}`]" in text


@pytest.mark.parametrize(("package", "name"), EXPORTED)
def test_an_exported_class_is_there_with_its_docstring(package: str, name: str) -> None:
    value = getattr(importlib.import_module(package), name)
    if not isinstance(value, type) or value in TOOLS.values() or name == "Contract":
        return
    first = (value.__doc__ or "").strip().splitlines()[0]
    assert first in section(name)


def test_an_exported_name_stays_what_it_is_whatever_was_imported_before() -> None:
    """A submodule must not take the place of a function of its name."""
    program = """
import importlib, pkgutil
for package in ("langchain_agentchat", "agentchat_executor", "agentchat"):
    module = importlib.import_module(package)
    for each in pkgutil.iter_modules(module.__path__):
        if each.name != "__main__":
            importlib.import_module(f"{package}.{each.name}")
    for name in module.__all__:
        value = getattr(module, name)
        if type(value).__name__ == "module" and name not in ("errors", "types"):
            print(f"{package}.{name} is a module")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_nothing_of_others_is_on_the_page() -> None:
    """So that it is the same whatever versions it was made beside."""
    assert [word for word in ("pydantic", "BaseModel method", "Runnable", "Serializable") if word in PAGE] == []
    assert "langchain_core." not in PAGE


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_headings_are_unique_so_that_links_lead_where_they_say() -> None:
    counted = Counter(anchor(heading) for heading in re.findall(r"^#+ (.*)$", PAGE, re.M))
    assert [name for name, times in counted.items() if times > 1] == []
