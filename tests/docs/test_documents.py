"""What the documents show is run: README code against a real server, every example as a stranger would start it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import KEY
from tests.servers import FakeRelay

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))


def python_blocks(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def pointed_at(code: str, relay: FakeRelay) -> str:
    """The document's code with its relay and key replaced by the test's."""
    assert "http://127.0.0.1:8790" in code and '"KEY"' in code
    return code.replace("http://127.0.0.1:8790", relay.url).replace('"KEY"', repr(KEY))


@pytest.mark.parametrize(("document", "number"), [("README.md", 0), ("executor/README.md", 1)])
def test_the_document_s_code_runs(
    document: str, number: int, relay: FakeRelay, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(pointed_at(python_blocks(document)[number], relay), {})
    assert capsys.readouterr().out
    assert any(seen.method == "POST" for seen in relay.seen)


def test_the_readme_reaches_a_result_on_its_first_screen() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert [line for line in lines[:30] if line.startswith("make demo")]
    assert [line for line in lines[:30] if line.startswith("make test")]
    assert "from agentchat import Client" in lines[:40]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_runs_as_it_stands(example: Path, tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout


def test_there_are_examples() -> None:
    assert EXAMPLES
