"""The tools these tests are made of: what counts as a block, what it needs, and when an output is the one shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs import documents
from tests.docs.documents import Block, blocks, mark, program, run, shows

PAGE = """\
Prose.

```python
import json
from agentchat import Client
client = Client("http://127.0.0.1:8790", "KEY")
```

```python
print(1)
```

```text
1
```

```python
def ask(question: str) -> str:
    return question

with client as open_client:
    print(json.dumps([ask("x") for _ in range(2)]))
```

Between.

```text
no output of the block above
```

```python
from langchain.agents import create_agent
agent = create_agent(None, [])
```

```python
agent.invoke(client)
```

```python
import openai
```

```sh
echo python
```
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "page.md").write_text(PAGE)
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    blocks.cache_clear()
    yield "page.md"
    blocks.cache_clear()


def test_every_python_block_is_found_with_the_output_right_below_it(page: str) -> None:
    found = blocks(page)
    assert [each.number for each in found] == [0, 1, 2, 3, 4, 5]
    assert [each.prints for each in found] == ["", "1\n", "", "", "", ""]


def test_a_block_runs_after_those_that_make_its_names(page: str) -> None:
    found = blocks(page)
    needs = [[each.number for each in program(block)] for block in found]
    assert needs == [[0], [1], [0, 2], [3], [0, 3, 4], [5]]


def test_a_block_is_marked_by_what_it_and_those_before_it_import(page: str) -> None:
    assert [mark(block) for block in blocks(page)] == [None, None, None, "agents", "agents", "vendors"]


def test_relay_and_key_are_replaced(page: str) -> None:
    names, _ = run(blocks(page)[0], "http://127.0.0.1:1", "secret")
    assert (names["client"].url, names["client"].credential.held) == ("http://127.0.0.1:1", "secret")


def test_what_earlier_blocks_print_is_not_the_block_s(page: str) -> None:
    assert run(blocks(page)[1], "", "").printed == "1\n"
    assert run(Block(page, 1, "print('a')", ""), "", "").printed == "a\n"


def test_a_name_that_no_block_makes_fails(page: str) -> None:
    with pytest.raises(NameError):
        run(Block(page, 1, "nothing_of_this_name", ""), "", "")


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a\n", "a\n", True),
        ("a\n", "b\n", False),
        ("a\n", "a\nb\n", False),
        ("done in … s\n", "done in 0.1 s\n", True),
        ("done in … s\n", "failed after 0.1 s\n", False),
        ("a … c\n", "a\nb c\n", False),
        ("(1.5)\n", "(1x5)\n", False),
    ],
)
def test_an_output_is_compared_line_by_line(expected: str, printed: str, same: bool) -> None:
    assert shows(expected, printed) is same


def test_there_are_blocks_of_every_kind() -> None:
    found = {(document, mark(each)) for document in documents.DOCUMENTS for each in blocks(document)}
    pages = ("README.md", "docs/langgraph.md", "docs/loops.md", "docs/status.md", "docs/migration.md")
    assert {*pages} <= {document for document, _ in found}
    assert {("docs/langgraph.md", "agents"), ("docs/loops.md", "vendors"), ("docs/loops.md", None)} <= found


@pytest.mark.parametrize("document", documents.DOCUMENTS)
def test_no_block_hides_from_these_tests(document: str) -> None:
    """Python under another name, or indented, would not be found."""
    text = (documents.ROOT / document).read_text("utf-8")
    assert len(re.findall(r"^\s*(?:```|~~~)\s*(?:py|python|python3|pycon)\b", text, re.MULTILINE)) == len(
        blocks(document)
    )
