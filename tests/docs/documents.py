"""What the documents show, as code: their python blocks, which earlier blocks each one needs, and what they print."""

from __future__ import annotations

import ast
import builtins
import re
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = "docs/reference.md"  # signatures, not programs; a check of its own keeps it right
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "executor/*.md", "tool_definitions/*.md")
    for path in ROOT.glob(pattern)
    if path != ROOT / GENERATED
)
# Packages that are not in every environment, and the marker of what needs them.
MARKS = {
    "openai": "vendors",
    "anthropic": "vendors",
    "google": "vendors",
    "langchain": "agents",
    "langgraph": "agents",
}
URL, KEY = "http://127.0.0.1:8790", '"KEY"'
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A python block of a document, and the text block right below it, which is what it prints."""

    document: str
    number: int
    code: str
    prints: str

    @property
    def name(self) -> str:
        return f"{self.document}-{self.number}"


@cache
def blocks(document: str) -> tuple[Block, ...]:
    found = BLOCK.findall((ROOT / document).read_text("utf-8"))
    return tuple(Block(document, number, code, prints) for number, (code, prints) in enumerate(found))


def program(block: Block) -> list[Block]:
    """The block after those earlier ones of its page that make the names it uses."""
    needed, _ = _names(block.code)
    before: list[Block] = []
    for earlier in reversed(blocks(block.document)[: block.number]):
        uses, makes = _names(earlier.code)
        if makes & needed:
            before.insert(0, earlier)
            needed = (needed - makes) | (uses - makes)
    return [*before, block]


def _names(code: str) -> tuple[set[str], set[str]]:
    """What a block uses without making it, and what it makes."""
    tree = ast.parse(code)
    used: set[str] = set()
    made: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name):
                made.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                made |= {(each.asname or each.name).partition(".")[0] for each in names}
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                made.add(name)
            case ast.arg(arg=name):
                made.add(name)
    return used - made - {*dir(builtins)}, made


def mark(block: Block) -> str | None:
    """The marker of the environment a block needs."""
    imported = {
        module.partition(".")[0]
        for each in program(block)
        for node in ast.walk(ast.parse(each.code))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    marks = {MARKS[package] for package in imported if package in MARKS}
    return "vendors" if "vendors" in marks else "agents" if marks else None


def every_block(*, vendors: bool) -> list[Any]:
    """The blocks of all documents as parameters of a test: those that need a vendor's SDK, or all others."""
    found = [(each, mark(each)) for document in DOCUMENTS for each in blocks(document)]
    return [
        pytest.param(each, id=each.name, marks=[getattr(pytest.mark, needs)] if needs else [])
        for each, needs in found
        if (needs == "vendors") is vendors
    ]


class Ran(NamedTuple):
    names: dict[str, Any]
    printed: str
    """By the block itself, not by those before it."""


def run(block: Block, url: str, key: str) -> Ran:
    """Run a block as a reader would, with the relay and the key it was given."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for each in program(block):
        code = each.code.replace(URL, url).replace(KEY, repr(key))
        with redirect_stdout(StringIO()) as printed:
            exec(compile(code, each.name, "exec"), names)
    return Ran(names, printed.getvalue())


def shows(expected: str, printed: str) -> bool:
    """Whether a text block is what was printed; `…` stands for any text of a line."""
    pattern = re.escape(expected).replace("…", "[^\n]*")
    return re.fullmatch(pattern, printed) is not None
