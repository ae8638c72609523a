"""`agentchat demo` as a stranger starts it: in a pipe, on a terminal, as JSON, interrupted, and without LangChain."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.agents

DEMO = (sys.executable, "-m", "agentchat", "demo")
PATIENCE = 60.0  # seconds before a test gives up; nothing is measured by it


def demo(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, *options], capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, **environment}
    )


def test_it_tells_the_whole_story_and_ends_by_itself() -> None:
    ran = demo()
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\x1b" not in ran.stdout
    story = [
        "#builds @demo-planner",
        "| @demo-analyst One of these builds looks odd",
        "#builds @demo-analyst answers",
        "It is build 4 with 611 s; the median is 307 s. The report: builds/",
        "#builds @demo-planner answers",
        "| Thank you. I take build 4 out",
        "Done:",
        "agentchat serve",
    ]
    at = -1
    for line in story:
        at = ran.stdout.find(line, at + 1)
        assert at >= 0, f"{line!r} is missing or out of order:\n{ran.stdout}"
    # Posts are told as the relay tells of them, calls as they are made: where all is slow, one may be ahead.
    assert 0 < ran.stdout.find("calls odd_one_out") < ran.stdout.find("Done:")


def test_as_json_every_line_is_an_event_and_the_relay_had_both_agents_reports() -> None:
    ran = demo("--json")
    assert ran.returncode == 0
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    posts = [event for event in events if "channel" in event]
    chat = [(post["author"], post["kind"]) for post in posts if post["channel"] == "builds"]
    assert chat == [("demo-planner", "chat"), ("demo-analyst", "chat"), ("demo-planner", "chat")]
    done = [post["author"] for post in posts if post["kind"] == "status" and ": done in" in post["content"]]
    assert sorted(done) == ["demo-analyst", "demo-planner", "demo-planner"]
    called = {event["calls"] for event in events if "calls" in event}
    assert {"agentchat_upload_file", "agentchat_download_file", "agentchat_send_message"} <= called


def on_a_terminal(**environment: str) -> tuple[int, str]:
    """The demo's exit code and what a terminal got to see."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*DEMO, "--pace", "0"], stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **environment}
        )
        os.close(theirs)
        seen, give_up_at = b"", time.monotonic() + PATIENCE
        while time.monotonic() < give_up_at and select.select([ours], [], [], PATIENCE)[0]:
            try:
                read = os.read(ours, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            if not read:
                break
            seen += read
        return process.wait(PATIENCE), seen.decode()
    finally:
        os.close(ours)


def test_a_terminal_gets_a_colour_for_each_agent_unless_it_wants_none() -> None:
    code, seen = on_a_terminal(NO_COLOR="1")
    assert (code, "\x1b[" in seen) == (0, False)
    code, seen = on_a_terminal(NO_COLOR="")
    painted = {agent: colour for colour, agent in re.findall(r"\x1b\[(\d+)m@(demo-\w+)", seen)}
    assert (code, sorted(painted), len({*painted.values()})) == (0, ["demo-analyst", "demo-planner"], 2)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_once_and_leaves_nothing(sent: int, code: int, tmp_path: Path) -> None:
    command, environ = [*DEMO, "--pace", "2"], {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("A relay on ")
        process.send_signal(sent)
        assert process.wait(PATIENCE) == code
        assert "Traceback" not in process.stderr.read()
    assert [*tmp_path.iterdir()] == []


def test_a_reader_that_leaves_is_no_error() -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize("missing", ["langchain", "msgspec"])
def test_without_its_extras_it_names_the_command_that_helps(missing: str, tmp_path: Path) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None; from agentchat.cli import main; sys.exit(main(['demo']))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert 'pip install "langchain-agentchat[agents,relay]"' in ran.stderr


@pytest.mark.parametrize("words", [["--pace", "soon"], ["more"], ["--speed", "2"]])
def test_wrong_usage_is_told(words: list[str]) -> None:
    ran = demo(*words)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "agentchat demo --help" in ran.stderr
