"""Every command `agentchat ...` in the documents is one that its parser takes. Nothing is run."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from typing import Any, NoReturn

import pytest

from agentchat import cli
from tests.docs.documents import DOCUMENTS, ROOT

SHELL = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^ *(```|~~~).*?^ *\1", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(agentchat [^`]+)`")
# What may stand before the command: variables, and who runs it where.
BEFORE = re.compile(r"(?:\w+=\S* |sudo -u \S+ |docker exec \S+ )*(?:\S*/)?agentchat (?!agentchat )")
# In a sentence a command may be named without all of its arguments, or with a word in capitals for one.
UNFINISHED = re.compile(r"are required|expected .*argument|is required|invalid [a-z_ ]+: '[A-Z_]+'")


class Taken(Exception):
    """The parser took the command, which is not to be run."""


def shell_commands(text: str) -> list[list[str]]:
    """The words of each command `agentchat` in lines of a shell."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if word[0] not in ";&|<>()":
                command.append(word)
                continue
            if begin := BEFORE.match(" ".join(command) + " "):
                found.append(command[begin.group().count(" ") :])
            command = []
    return found


def inline_commands(text: str) -> list[list[str]]:
    """The words of each command in a sentence; brackets are around what may be left out."""
    found = [re.sub(r"[\[\]]", "", code).split()[1:] for code in INLINE.findall(FENCED.sub("", text))]
    return [["postgresql://db/app" if word == "URL" else word for word in words] for words in found]


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What the command line says to words that it does not take."""
    parse = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, words: Sequence[str]) -> NoReturn:
        parse(parser, words)
        raise Taken

    def refusal(words: list[str]) -> str:
        try:
            return "" if cli.main(words) == 0 else capsys.readouterr().err  # 0: --help
        except Taken:
            return ""

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    return refusal


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_is_one_that_the_command_line_takes(document: str, refusal: Any) -> None:
    text = (ROOT / document).read_text("utf-8")
    whole = [words for block in SHELL.findall(text) for words in shell_commands(block)]
    refused = [said for words in whole if (said := refusal(words))]
    refused += [said for words in inline_commands(text) if not UNFINISHED.search(said := refusal(words)) and said]
    assert refused == []


@pytest.mark.parametrize(
    ("words", "is_taken"),
    [
        ("definitions --dialect openai --preset tasks", True),
        ("definitions openai --preset tasks", False),
        ("admin agent token mac-ann", True),
        ("admin agent tokens mac-ann", False),
        ("serve --port x", False),
        ("serve stop --data DIR", True),
        ("check-inboxes", False),
    ],
)
def test_a_command_that_is_none_is_noticed(words: str, is_taken: bool, refusal: Any) -> None:
    assert (refusal(words.split()) == "") is is_taken


def test_commands_are_found_wherever_they_stand() -> None:
    lines = "KEY=1 agentchat watch  # as it comes\nx && sudo -u agentchat /opt/agentchat serve \\\n --port 1 | jq"
    assert shell_commands(lines) == [["watch"], ["serve", "--port", "1"]]
    assert shell_commands("docker run --name agentchat image; docker exec agentchat agentchat admin") == [["admin"]]
    assert inline_commands("Say `agentchat admin migrate [--after]`.") == [["admin", "migrate", "--after"]]
