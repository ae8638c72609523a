"""What the Makefile names exists, and it leaves out of the oldest line what cannot be loaded there."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()


def loads_agents(path: Path) -> bool:
    """Whether the module imports LangChain or LangGraph when it is loaded."""
    names = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return any(name.partition(".")[0] in ("langchain", "langgraph") for name in names)


def test_every_environment_has_its_requirements():
    (names,) = (found.split() for found in re.findall(r"^MATRIX := (.*)$", MAKEFILE, re.MULTILINE))
    assert {"vendors", "operation", "oldest", "oldest-agents", "newest"} == set(names)
    assert set(names) <= set(re.findall(r"\.venv-([a-z-]+)/bin", MAKEFILE)), "each is used"
    for name in names:
        assert (ROOT / "requirements" / f"{name}.txt").is_file(), name


def test_the_oldest_line_leaves_out_the_modules_that_load_langgraph_and_no_others():
    command = ["make", "--dry-run", "--silent", "test-matrix"]
    lines = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout.splitlines()
    (oldest,) = [line for line in lines if line.startswith(".venv-oldest/bin/python")]
    loading = [path for path in (ROOT / "tests").rglob("test_*.py") if loads_agents(path)]
    ignored = re.findall(r"--ignore (\S+)", oldest)
    assert sorted(ignored) == sorted(path.relative_to(ROOT).as_posix() for path in loading)
    for path in loading:
        assert "\npytestmark = pytest.mark.agents\n" in path.read_text(), path
