"""Nothing a message contains is executed (promise P10): reading hostile texts starts no process, runs no code and makes
no file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client

from .corpus import TEMPLATES, token
from .test_reading import READS
from .world import NUMBERS, World

ROOT = Path(__file__).resolve().parents[2]
Part = dict[str, Any]


def calm_part(world: World) -> Part:
    """The same operations in a space where nobody is hostile: answers, long answers, and failures."""
    world.relay.space("calm")
    key = world.relay.token("calm-reader", space="calm")
    with Client(world.relay.url, world.relay.token("calm-writer", space="calm"), retries=0) as writer:
        ids = [
            writer.send_message("calm", "hello, @calm-reader " + "word " * size)["message"]["id"] for size in (1, 6000)
        ]
        writer.pin_message(ids[1])
        writer.send_direct_message("calm-reader", "hello")
        writer.join_group("calm-crew")
        writer.set_card(role="writer")
        task = writer.create_task(
            "hello", channel="calm", body="hello", context="hello", result_schema={"type": "string"}, urgent=True,
            capability_tags=["python"], deadline_in=86_400,
        )["task"]["id"]  # fmt: skip
        writer.create_task("hello", channel="calm", target_agent="calm-reader")
        path = writer.upload_file("calm", "a.txt", "hello")["file"]["path"]
        stop = writer.send_interrupt("calm-reader", "hello")["interrupt"]["id"]
    with Client(world.relay.url, key, retries=0) as reader:
        mine = reader.send_direct_message("calm-crew", "hello")["message"]["id"]
        reader.send_direct_message("calm-crew", "hello", scope="repo:example.org/elsewhere")
        asked = reader.request_approval("act", '{"hello": 1}')["approval"]["id"]
    calls: list[tuple[str, dict[str, Any]]] = [
        ("check_board", {}), ("list_channels", {}), ("read_messages", {"channel": "calm"}),
        *(("get_message", {"message_id": id}) for id in ids), ("read_thread", {"message_id": ids[0]}),
        ("search_messages", {"query": "hello"}), ("list_pinned_messages", {"channel": "calm"}),
        ("check_mentions", {"unread": False}), ("list_readers", {"channel": "calm"}),
        ("peek_inbox", {}), ("list_dead_letters", {}), ("list_events", {"since": 0}), ("get_briefing", {}),
        ("wait_for_reply", {"message_id": ids[0], "wait": 0}), ("wait_for_message", {"after": ids[0], "wait": 0}),
        ("get_receipts", {"message_id": mine}), ("list_sent", {}), ("list_sent", {"limit": 1}), ("list_groups", {}),
        ("list_groups", {"group": "calm-crew"}),
        ("list_files", {"folder": "calm"}), ("download_file", {"path": path}), ("get_file_url", {"path": path}),
        ("list_tasks", {"channel": "calm"}), ("check_work", {}), ("get_task", {"task_id": task}),
        ("read_task_context", {"task_id": task}),
        ("list_interrupts", {}), ("get_interrupt", {"interrupt_id": stop}), ("list_pauses", {}),
        ("list_approvals", {"mine": True}), ("get_approval", {"approval_id": asked}),
        ("find_agents", {}), ("read_messages", {"channel": "clam"}), ("read_messages", {"channel": "No name"}),
        ("list_channels", {"x": "y"}),
    ]  # fmt: skip
    return {"key": key, "calls": calls}


def hostile_part(world: World) -> Part:
    calls = [(operation, arguments) for operation, given in READS.items() for arguments in given(world)[:8]]
    commands = [list(TEMPLATES).index(label) for label in ("substitution", "chain", "python", "pickle", "format")]
    calls += [("download_file", {"path": world.paths[number]}) for number in commands]
    calls += [("read_messages", {"channel": world.text(number, "e", 90)}) for number in commands]
    return {"key": world.victim.key, "calls": calls}


class Watched:
    """The recording program, in empty directories of its own."""

    def __init__(self, path: Path) -> None:
        self.folders = [path / name for name in ("home", "here", "temporary")]
        for folder in self.folders:
            folder.mkdir()
        self.home, self.here, self.temporary = self.folders

    def run(self, part: str, **given: Any) -> Any:
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'executor'}",
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
        }
        ran = subprocess.run(
            [sys.executable, "-m", "tests.hostile.watched", part], input=json.dumps(given), cwd=self.here,
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert (ran.returncode, ran.stderr) == (0, "")
        return json.loads(ran.stdout)

    def left_behind(self) -> list[str]:
        return [str(path) for folder in self.folders for path in folder.rglob("*")]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_reading_executes_nothing_and_makes_nothing(world: World, watched: Watched) -> None:
    """The interpreter does nothing about hostile texts that it does not do about others."""
    parts = {"calm": calm_part(world), "hostile": hostile_part(world)}
    found = watched.run("reader", url=world.relay.url, home=str(watched.home), **parts)
    calm, hostile = found["calm"]["events"], found["hostile"]["events"]
    assert any(event.startswith("socket.connect ") for event in calm), "the recorder works"
    # What types look like is looked up anew once a cache of the interpreter's is full: that is in `warm`, or in either.
    assert [event for event in hostile if event not in calm and event not in found["warm"]["events"]] == []
    assert watched.left_behind() == []
    read = set(re.findall("z[a-z][0-9]{3}x", found["hostile"]["shown"]))
    assert {token(kind, number) for kind in "qsrdmg" for number in NUMBERS} <= read, "it was all there to be executed"


PROCESSES = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile", "subprocess.", "pty.")


def test_writing_executes_nothing_in_the_relay_and_names_no_file(watched: Watched) -> None:
    """Nothing the relay does names a text: it is neither compiled, nor the name of a file, nor of a module."""
    found = watched.run("relay")
    assert found["written"] > 5 * len(NUMBERS)
    assert any(event.startswith("open ") for event in found["events"]), "the recorder works"
    hostile = re.compile("z[a-z][0-9]{3}x|PWNED")
    assert [event for event in found["events"] if hostile.search(event) or event.startswith(PROCESSES)] == []
    assert watched.left_behind() == []


def test_the_recorder_sees_what_it_is_there_to_see(watched: Watched) -> None:
    events = watched.run("culprit")["events"]
    wanted = ["os.system ", "subprocess.Popen ", "compile ", "exec ", "open ('PWNED'", "pickle.find_class ", "import "]
    assert [name for name in wanted if not any(event.startswith(name) for event in events)] == []
    assert watched.left_behind() == [str(watched.here / "PWNED")]
