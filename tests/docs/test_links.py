"""Every link between the documents leads to a file that is there, and to a heading that is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import langchain_agentchat
from agentchat.contract import PRESETS
from tests.docs.documents import DOCUMENTS, GENERATED, ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """The headings as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def dead(page: Path, link: str) -> bool:
    if link.startswith(("https://", "http://", "mailto:")):
        return False
    file, _, heading = link.partition("#")
    target = (page.parent / file).resolve() if file else page
    return not target.exists() or (bool(heading) and heading not in anchors(target))


@pytest.mark.parametrize("document", [*DOCUMENTS, GENERATED])
def test_no_link_is_dead(document: str) -> None:
    page = ROOT / document
    links = LINK.findall(FENCED.sub("", page.read_text("utf-8")))
    assert [link for link in links if dead(page, link)] == []


@pytest.mark.parametrize("document", [*DOCUMENTS, GENERATED])
def test_examples_and_scripts_that_are_named_are_there(document: str) -> None:
    named = re.findall(r"\b(?:examples|scripts|bench)/\w+\.py\b", (ROOT / document).read_text("utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    ("link", "is_dead"),
    [
        ("relay.md", False),
        ("relay.md#limits", False),
        ("relay.md#no-such-heading", True),
        ("no-such-page.md", True),
        ("../README.md#connect", False),
        ("decisions", False),
        ("https://example.com/x#y", False),
    ],
)
def test_a_dead_link_is_noticed(link: str, is_dead: bool) -> None:
    assert dead(ROOT / "docs" / "status.md", link) is is_dead


@pytest.mark.parametrize("document", ["docs/langgraph.md", "tool_definitions/README.md"])
def test_a_page_that_lists_the_presets_lists_them_all(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    assert [preset for preset in PRESETS if f"`{preset}`" not in text] == []


def test_the_tools_that_the_page_on_migration_sends_people_to_are_there() -> None:
    rows = [row.split("|") for row in (ROOT / "docs/migration.md").read_text("utf-8").splitlines() if row[:2] == "| "]
    named = {name for row in rows if "Tool" in row[1] for name in re.findall(r"\b\w+Tool\b", row[-2])}
    assert {"CreateTaskTool", "CheckWorkTool", "SendMessageTool"} <= named <= {*langchain_agentchat.__all__}
