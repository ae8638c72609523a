"""docs/rest.md is fresh and whole: every route with its arguments, answers and refusals, and no dead link."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agentchat_relay.http.openapi import document

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "rest.py"
PAGE = (ROOT / "docs" / "rest.md").read_text("utf-8")
DOCUMENT = document()
OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: {"verb": verb.upper(), "path": path, **operation}
    for path, item in DOCUMENT["paths"].items()
    for verb, operation in item.items()
}


def run(script: Path, *arguments: str, seed: str = "0") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def section(heading: str, level: int = 3) -> str:
    found = re.search(rf"^{'#' * level} {re.escape(heading)}\n(.*?)(?=^#{{2,{level}}} |\Z)", PAGE, re.M | re.S)
    assert found, f"{heading} is not on the page"
    return found[1]


def test_the_committed_page_is_what_the_code_says() -> None:
    done = run(SCRIPT, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("content", [None, PAGE.replace("send_message", "post", 1)])
def test_a_stale_page_is_named_and_made_anew(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "docs").mkdir()
    script = Path(shutil.copy(SCRIPT, tmp_path / "scripts"))
    page = tmp_path / "docs" / "rest.md"
    if content is not None:
        page.write_text(content, "utf-8")
    stale = run(script, "--check")
    assert (stale.returncode, stale.stderr) == (1, "docs/rest.md out of date; run: make definitions\n")
    assert (page.read_text("utf-8") if page.exists() else None) == content, "a check writes nothing"
    made = run(script, seed="7")
    assert (made.returncode, made.stdout) == (0, "docs/rest.md\n")
    assert page.read_text("utf-8") == PAGE
    assert run(script, "--check").returncode == 0


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_route_is_there_with_all_there_is_to_say(name: str) -> None:
    operation, text = OPERATIONS[name], section(name)
    assert f"`{operation['verb']} {operation['path']}`" in text
    assert operation["description"] in text
    assert "credential" in text or "agent key" in text
    for parameter in operation.get("parameters", []):
        if "name" in parameter:
            assert f"| `{parameter['name']}` | {parameter['in']} |" in text
            assert parameter["description"] in text
    body = operation["requestBody"]["content"]["application/json"]["schema"] if "requestBody" in operation else {}
    for member, schema in body.get("properties", {}).items():
        for inner in schema.get("properties", [""]):
            assert f"| `{f'{member}.{inner}' if inner else member}` | body |" in text
    assert "Answers " in text
    for status in operation["responses"]:
        assert status == "200" or re.search(rf"Refuses\]\(#errors\) with .*\b{status}\b", text)


@pytest.mark.parametrize(
    "name", [name for name in DOCUMENT["components"]["schemas"] if name not in ("Envelope", "Error")]
)
def test_an_answer_is_there_with_every_member(name: str) -> None:
    schema, text = DOCUMENT["components"]["schemas"][name], section(f"Type {name}")
    for member in schema["properties"]:
        assert f"| `{member}`{'' if member in schema.get('required', ()) else '?'} |" in text


def test_every_error_is_there_and_every_noun_leads_to_its_routes() -> None:
    for code in (
        "bad_cursor",
        "unauthorized",
        "idempotency_mismatch",
        "rate_limited",
        "storage_full",
        "internal_error",
    ):
        assert f"`{code}`" in section("Errors", 2)
    contents = section("Contents", 2)
    assert all(f"[`{name}`](#{name})" in contents for name in OPERATIONS)


def test_headings_are_unique_and_links_lead_to_them() -> None:
    anchors = Counter(
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", PAGE, re.M)
    )
    assert [name for name, times in anchors.items() if times > 1] == []
    assert {*re.findall(r"\]\(#([^)]+)\)", PAGE)} <= anchors.keys()
