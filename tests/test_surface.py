"""What others build on: the exported names, a docstring for every module, and documents whose commands exist."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from types import ModuleType

import pytest

from agentchat import cli
from agentchat.contract import OPERATIONS

ROOT = Path(__file__).resolve().parents[1]
SURFACE = {
    "agentchat": [
        "AgentChatError",
        "Client",
        "Contract",
        "MachineCredential",
        "__version__",
        "errors",
        "tools",
        "types",
    ],
    "agentchat_relay": ["Embedded", "Settings", "running"],
    "agentchat_executor": ["AgentChatExecutor", "AsyncExecutor", "Executor", "Result"],
    "langchain_agentchat": sorted(
        ["AgentChatCallbackHandler", "AgentChatTool", "AgentChatToolkit", "AsyncClient", "args_schema"]
        + [f"{name.replace('_', ' ').title().replace(' ', '')}Tool" for name in OPERATIONS]
    ),
}
EXPORTED = [(package, name) for package, names in SURFACE.items() for name in names]
SOURCES = sorted(
    path
    for folder in ("agentchat", "agentchat_relay", "executor/agentchat_executor", "langchain_agentchat")
    for path in (ROOT / folder).rglob("*.py")
)

# Exported names


@pytest.fixture(params=SURFACE)
def package(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def test_the_exported_names_are_these(package: ModuleType) -> None:
    """A name is added here on purpose; one that goes away was deprecated for a minor release before."""
    assert package.__all__ == SURFACE[package.__name__]


@pytest.mark.parametrize(("owner", "name"), EXPORTED)
def test_an_exported_name_is_there_and_stays_the_same_object(owner: str, name: str) -> None:
    package = importlib.import_module(owner)
    assert getattr(package, name) is getattr(package, name)
    assert vars(package)[name] is getattr(package, name)  # kept, so that the second use costs nothing


@pytest.mark.parametrize(("owner", "name"), EXPORTED)
def test_an_exported_name_is_documented(owner: str, name: str) -> None:
    value = getattr(importlib.import_module(owner), name)
    assert isinstance(value, str) or (value.__doc__ or "").strip()


def test_a_star_import_brings_the_exported_names(package: ModuleType) -> None:
    brought: dict[str, object] = {}
    exec(f"from {package.__name__} import *", brought)
    assert brought.keys() - {"__builtins__"} == {*SURFACE[package.__name__]}


def test_dir_lists_the_exported_names(package: ModuleType) -> None:
    listed = dir(package)
    assert {*SURFACE[package.__name__]} <= {*listed}
    assert listed == sorted(listed)


@pytest.mark.parametrize("name", ["no_such_name", "Clinet", "_private", "__wrapped__"])
def test_a_name_that_is_not_there_is_an_attribute_error(package: ModuleType, name: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute '{name}'"):
        getattr(package, name)
    assert not hasattr(package, name)


def test_importing_a_name_that_is_not_there_is_an_import_error(package: ModuleType) -> None:
    with pytest.raises(ImportError, match="no_such_name"):
        exec(f"from {package.__name__} import no_such_name", {})


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_says_what_it_is_for(source: Path) -> None:
    assert ast.get_docstring(ast.parse(source.read_text()))


# Documents

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "executor/README.md", "tool_definitions/README.md", ".ci/run")
    for path in ROOT.glob(pattern)
)
FENCED = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)\n(.*?)^ {0,3}\1", re.MULTILINE | re.DOTALL)
SHELL = ("", "sh", "bash", "shell", "console")
SPAN = re.compile(r"`([^`\n]+)`")
ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*")


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each shell command in fenced blocks and in code spans, without prompt and assignments."""
    blocks = [match[3] for match in FENCED.finditer(text) if match[2].strip() in SHELL]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *SPAN.findall(FENCED.sub("", text))]:
        for words in commands(line):
            while words and (words[0] in ("$", "exec") or ASSIGNMENT.fullmatch(words[0])):
                words.pop(0)
            if words:
                yield words


def commands(line: str) -> list[list[str]]:
    """A shell line, split into words at spaces and into commands at its operators."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    try:
        for word in lexer:
            if set(word) <= set("();<>|&"):
                found.append([])
            else:
                found[-1].append(word)
    except ValueError:  # an apostrophe in the output of a command
        return [line.split()]
    return found


def shell(path: Path) -> str:
    """The document's text; a script counts as one fenced block."""
    text = path.read_text("utf-8")
    return text if path.suffix == ".md" else f"```\n{text}\n```\n"


def agentchat_calls(text: str) -> list[list[str]]:
    """What follows `agentchat` (or `python -m agentchat`) in each command line."""
    calls = []
    for words in command_lines(text):
        if re.fullmatch(r"(.*/)?python[0-9.]*", words[0]) and words[1:3] == ["-m", "agentchat"]:
            words = words[2:]
        if re.fullmatch(r"(.*/)?agentchat", words[0]):
            calls.append(words[1:])
    return calls


def make_targets(text: str) -> set[str]:
    return {
        word
        for words in command_lines(text)
        if words[0] == "make"
        for word in words[1:]
        if re.fullmatch("[a-z][a-z-]*", word)
    }


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """The help of the command that these words start, or None if there is no such command."""
    try:
        code = cli.main([*words, "--help"])
    except SystemExit as done:  # the relay's commands
        code = int(done.code or 0)
    shown = capsys.readouterr().out
    return shown if code == 0 else None


def without_place(call: list[str]) -> list[str]:
    """`agentchat admin --data DIR noun verb` takes its option before the noun; an ellipsis stands for anything."""
    call = [word for word in call if word != "…"]
    while call[:1] == ["admin"] and call[1:2] in (["--data"], ["--store"]):
        call = ["admin", *call[3:]]
    return call


def problem(call: list[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """What is wrong with a call of `agentchat` that a document shows."""
    if not call or not re.match("[a-z-]", call[0]):  # NAME and ... stand for any command
        return None
    call = without_place(call)
    words = list(takewhile(lambda word: not word.startswith("-"), call))
    command = words[: {"machine": 2, "admin": 3}.get(call[0], 1)]
    shown = help_of(command, capsys)
    if shown is None:
        return f"agentchat has no command {' '.join(command)}"
    known = {*re.findall(r"--[a-z][a-z-]*", shown)}
    unknown = [word for word in call if word.startswith("--") and word.partition("=")[0] not in known]
    return f"agentchat {' '.join(command)} has no option {', '.join(unknown)}" if unknown else None


def makefile_targets() -> set[str]:
    rules = re.findall(r"^([a-z][a-z -]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return {target for rule in rules for target in rule.split()}


def test_there_is_a_readme() -> None:
    assert ROOT / "README.md" in DOCUMENTS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_commands_of_a_document_exist(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = agentchat_calls(shell(document))
    assert [found for call in calls if (found := problem(call, capsys))] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_make_targets_of_a_document_exist(document: Path) -> None:
    assert make_targets(shell(document)) - makefile_targets() == set()


SAMPLE = """\
Prose about agentchat serve-all and make nothing; run `make fauts` now, or `agentchat halp`, or `agentchat COMMAND`.

```sh
$ AGENTCHAT_KEY=x agentchat send-message general "it's | done" --jsn   # agentchat comment
echo hi | .venv/bin/agentchat send-mesage general - && make tset SEED=1
python3 -m agentchat machine initt
agentchat machine init \\
    --name a --url=http://127.0.0.1:1
agentchat serve --port 1
agentchat admin --data DIR agent token NAME --spaec x
agentchat admin agnet list
agentchat --version
```
"""


def test_a_wrong_command_in_a_document_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    assert [problem(call, capsys) for call in agentchat_calls(SAMPLE)] == [
        "agentchat send-message has no option --jsn",
        "agentchat has no command send-mesage",
        "agentchat has no command machine initt",
        None,
        None,
        "agentchat admin agent token has no option --spaec",
        "agentchat has no command admin agnet list",
        None,
        "agentchat has no command halp",
        None,
    ]
    assert make_targets(SAMPLE) == {"fauts", "tset"}
    assert {"test", "check", "demo", "serve", "faults", "test-matrix"} <= makefile_targets()
