"""What the documents show is run: every python block against a real relay, every example as a stranger starts it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from contextlib import nullcontext
from typing import Any

import pytest

from langchain_agentchat import AgentChatCallbackHandler
from tests.docs.conftest import QUESTION, Reader
from tests.docs.documents import ROOT, Block, blocks, every_block, mark, run, shows

EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY")


@pytest.fixture
def local_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's name stands for one without a network, wherever LangChain looks it up."""
    from langchain import chat_models
    from langchain.agents import factory

    from tests.docs.models import local_model

    for module in (chat_models, factory):
        monkeypatch.setattr(module, "init_chat_model", local_model)


def run_here(block: Block, reader: Reader, request: pytest.FixtureRequest) -> str:
    """Run a block and return what it prints."""
    if mark(block) == "agents":
        request.getfixturevalue("local_models")
    waits = "wait_for_reply(" in block.code and "wait=60" in block.code
    with reader.answering() if waits else nullcontext():  # or the test would wait for a minute, in vain
        names, printed = run(block, reader.url, reader.key)
    for value in names.values():
        if isinstance(value, AgentChatCallbackHandler):  # sends what is left, as the end of a program does
            value.close()
            assert (value.stats.dropped, value.stats.pending) == (0, 0)
    return printed


@pytest.mark.parametrize("block", every_block(vendors=False))
def test_a_block_runs_and_prints_what_the_page_says(
    block: Block, reader: Reader, request: pytest.FixtureRequest
) -> None:
    printed = run_here(block, reader, request)
    assert not block.prints or shows(block.prints, printed), printed


@pytest.mark.agents
def test_the_readme_s_agent_speaks_to_the_other_one_and_reports_its_run(
    reader: Reader, request: pytest.FixtureRequest
) -> None:
    assert run_here(blocks("README.md")[0], reader, request)
    assert len(reader.texts("general")) > 1
    assert any("done in" in text for text in reader.texts("status"))


@pytest.mark.agents
def test_the_guide_s_agent_answers_who_asked_as_a_reply(reader: Reader, request: pytest.FixtureRequest) -> None:
    run_here(blocks("docs/langgraph.md")[0], reader, request)
    asked, answered = reader.reviewer.read_messages("general")["messages"]
    assert QUESTION in asked["content"]
    assert (answered["author_name"], answered["parent_message_id"]) == ("mac-writer", asked["id"])


@pytest.mark.agents
def test_what_the_guide_asks_a_human_for_is_sent_once_it_is_approved(
    reader: Reader, request: pytest.FixtureRequest
) -> None:
    [block] = [each for each in blocks("docs/langgraph.md") if "HumanInTheLoopMiddleware" in each.code]
    run_here(block, reader, request)
    assert reader.texts("general").count("1.4 is out.") == 1


def test_the_status_page_s_posts_hold_no_secret(reader: Reader, request: pytest.FixtureRequest) -> None:
    [block] = [each for each in blocks("docs/status.md") if "redact=" in each.code]
    run_here(block, reader, request)
    posts = reader.texts("status")
    assert any("db-7" in post for post in posts)
    assert not any("hunter2" in post for post in posts)


def test_the_readme_reaches_a_result_on_its_first_screen() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert [line for line in lines[:30] if line.startswith("make demo")]
    assert [line for line in lines[:30] if line.startswith("make test")]
    assert "```python" in lines[:40]


def needs_agents(example: Any) -> bool:
    tree = ast.parse(example.read_text())
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return any(module.partition(".")[0] in ("langchain", "langgraph") for module in imported)


@pytest.mark.parametrize(
    "example",
    [pytest.param(path, id=path.name, marks=[pytest.mark.agents] if needs_agents(path) else []) for path in EXAMPLES],
)
def test_every_example_runs_as_it_stands(example: Any, tmp_path: Any) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in KEYS}  # no real model is asked
    command = [sys.executable, str(example)]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout


def test_there_are_examples() -> None:
    assert EXAMPLES
