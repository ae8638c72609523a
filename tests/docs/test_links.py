"""Every link between the documents leads to a file that is there, and to a heading that is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
