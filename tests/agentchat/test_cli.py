"""The command line as people and scripts see it; the runs that need a real process have one."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentchat import cli, schema
from agentchat.contract import OPERATIONS
from tests.servers import CANNED, CLAIM_ID, ID, FakeRelay, Seen, answer, enveloped, inbox, message, refusing

KEY = "key-that-no-output-may-hold"
DEFINITIONS = Path(__file__).parents[2] / "tool_definitions"
AGENTCHAT = (sys.executable, "-m", "agentchat")

# Command -> the words after it, and what its text output holds.
COMMANDS: dict[str, tuple[list[str], str]] = {
    "check-board": ([], "#general: 2 unread"),
    "list-channels": (["--type", "global"], "#general (global)"),
    "read-messages": (["general", "--limit", "5", "--mark-read"], "| hello"),
    "get-message": ([ID, "--offset", "0"], "| hello"),
    "read-thread": ([ID, "--limit", "5"], "1 message of the thread"),
    "search-messages": (["hello", "--channel", "general"], "1 match"),
    "send-message": (["general", "hello", "--metadata", '{"a": 1}'], f"Sent as message {ID}."),
    "send-direct-message": (["mac-bob", "hello"], f"Sent as message {ID}."),
    "pin-message": ([ID], f"Message {ID} is pinned."),
    "unpin-message": ([ID], f"Message {ID} is not pinned."),
    "list-pinned-messages": (["general"], "1 pinned message"),
    "check-mentions": (["--no-unread", "--limit", "5"], "1 mention"),
    "mark-mentions-read": ([ID, ID], "Marked as read: 1."),
    "mark-channel-read": (["general", "--through", "2026-01-01T00:00:00Z"], "#general is read through"),
    "list-readers": (["general"], "@mac-bob through"),
    "upload-file": (["general", "a.txt", "hello", "--content-type", "text/plain"], "path general/1-a.txt"),
    "download-file": (["general/1-a.txt"], "hello"),
    "get-file-url": (["general/1-a.txt"], "/signed/a.txt"),
    "list-files": (["general"], "path general/1-a.txt"),
    "send-to-many": (["mac-bob", "reviewers", "hello", "--scope", "thread:7"], "Sent as 2 messages."),
    "list-sent": (["--limit", "5"], "1 message, newest first."),
    "list-groups": (["--group", "reviewers"], "reviewers: 2 members, you are in it"),
    "join-group": (["reviewers"], "You are in the group reviewers."),
    "leave-group": (["reviewers"], "You are not in the group reviewers."),
    "check-inbox": (["--limit", "5"], "1 item, urgent first"),
    "peek-inbox": (["--limit", "5"], "1 item in your inbox"),
    "claim-items": (["--lease", "60"], f"claim_id {CLAIM_ID}"),
    "acknowledge-items": ([CLAIM_ID, "--item-ids", ID], "Dealt with: 1 item."),
    "return-items": ([CLAIM_ID, "--delay", "5"], "Given back: 2 items."),
    "renew-claim": ([CLAIM_ID], "Yours until"),
    "list-dead-letters": ([], "1 dead letter"),
    "requeue-items": ([ID], "Back in your inbox: 1."),
    "get-receipts": ([ID], "1 receipt"),
    "list-events": (["--since", "3", "--wait", "5"], "1 event, oldest first"),
    "wait-for-reply": ([ID, "--wait", "5"], "| hello"),
    "wait-for-message": (["--channel", "general", "--wait", "5"], "| hello"),
    "get-briefing": ([], "You are @mac-ann"),
    "create-task": (["Read it", "--channel", "general", "--capability-tags", "python", "--urgent"], "Offered."),
    "list-tasks": (["--status", "open", "--mine", "created"], "1 task, newest first."),
    "check-work": (["--since", "2026-01-01T00:00:00Z"], "1 task offered to you:"),
    "get-task": ([ID], "1 task, and what happened to it."),
    "read-task-context": ([ID, "--offset", "3"], "| hello"),
    "claim-task": ([ID, "--lease", "60"], "It is yours."),
    "decline-task": ([ID, "No time"], "Declined."),
    "renew-task": ([ID, "--fence", "1", "--lease", "60"], "Yours until"),
    "report-progress": ([ID, "Half of it"], "Noted."),
    "return-task": ([ID, "--reason", "No time"], "Given back."),
    "complete-task": ([ID, "Read", "--fence", "1"], "| Result: Read"),
    "fail-task": ([ID, "No time"], "Failed."),
    "cancel-task": ([ID, "--reason", "Not needed"], "Cancelled."),
    "offer-task": ([ID, "mac-bob"], "Offered."),
    "acquire-lock": (["src/**", "docs", "--wait", "60", "--reason", "Moving it"], "with fence 7."),
    "list-locks": (["--name", "src/**", "--mine"], "2 locks, first come first."),
    "renew-lock": ([ID, "--fence", "7", "--lease", "60"], "Yours until"),
    "release-lock": ([ID, "--fence", "7"], "Given back."),
    "send-interrupt": (["mac-bob", "Look at this", "--expires-in", "60"], "Sent: it comes first in the inbox."),
    "list-interrupts": (["--sent", "--state", "pending"], "2 interrupts, newest first."),
    "get-interrupt": ([ID], "1 interrupt, and what happened to it."),
    "acknowledge-interrupt": ([ID, "--note", "On it"], "Acknowledged."),
    "withdraw-interrupt": ([ID], "Withdrawn."),
    "pause-agents": (["The database moves", "--channel", "general"], "Paused."),
    "list-pauses": ([], "2 pauses, newest first."),
    "resume-agents": ([ID, "--note", "It moved"], "Resumed."),
    "request-approval": (["deploy", '{"to": "prod"}', "--urgent"], "Asked: 2 reviewers told."),
    "list-approvals": (["--mine"], "2 requests for approval, newest first."),
    "get-approval": ([ID, "--wait", "5"], "only with the allowed arguments."),
    "decide-approval": ([ID, "edit", "--arguments", '{"to": "test"}'], "Decided."),
    "dismiss-approval": ([ID], "Out of your inbox; no verdict."),
    "withdraw-approval": ([ID, "--reason", "Never mind"], "Withdrawn."),
    "find-agents": (["--role", "reviewer", "--active-within", "1h"], "@mac-bob seen"),
    "set-card": (["--role", "reviewer", "--capabilities", "a", "b"], "Card set."),
}

MEANINGS = ["done", "the relay failed", "wrong usage", "not allowed", "not found", "conflict", "try again later"]
# What the relay answers, and the word of --help for it. The long wait it asks for ends the retries at once.
REFUSALS = [
    (400, "bad_request", "wrong usage"), (400, "bad_cursor", "wrong usage"), (401, "unauthorized", "not allowed"),
    (403, "forbidden", "not allowed"), (404, "not_found", "not found"), (404, "unknown_operation", "not found"),
    (409, "conflict", "conflict"), (409, "idempotency_mismatch", "conflict"), (409, "loop_guard", "conflict"),
    (409, "stale_fence", "conflict"),
    (410, "position_expired", "wrong usage"), (413, "too_large", "wrong usage"),
    (429, "rate_limited", "try again later"), (429, "agent_limit", "the relay failed"),
    (500, None, "the relay failed"), (503, "unavailable", "try again later"), (507, "storage_full", "the relay failed"),
    (200, "not even an answer of the contract", "the relay failed"),
]  # fmt: skip


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process."""

    def run(*argv: str) -> Ran:
        try:
            code = cli.main(argv)
        except SystemExit as left:
            code = left.code
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRelay]:
    """A relay that the environment names, with its key."""
    with FakeRelay(keys={KEY}) as server:
        monkeypatch.setenv("AGENTCHAT_URL", server.url)
        monkeypatch.setenv("AGENTCHAT_KEY", KEY)
        monkeypatch.setenv("AGENTCHAT_PROJECT", "demo")
        monkeypatch.setenv("PYTHONUNBUFFERED", "")  # only with a buffer a closed pipe is met at exit
        yield server


def process(*argv: str, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Runs the command in a process of its own."""
    return subprocess.run([*AGENTCHAT, *argv], input=stdin, env=os.environ | environ, capture_output=True, timeout=60)


def standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def exit_codes(help_text: str) -> dict[str, int]:
    """The table that --help ends with: meaning to code."""
    table = re.sub(r"\s+", " ", help_text).partition("exit codes: ")[2].strip()
    return {meaning: int(code) for code, _, meaning in (row.partition(" ") for row in table.split(", "))}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_its_arguments_and_the_exit_codes(command: str, run: Run) -> None:
    operation = OPERATIONS[command.replace("-", "_")]
    ran = run(command, "--help")
    assert (ran.code, ran.err) == (0, "")
    words = re.sub(r"\s+", " ", ran.out)
    assert operation.description in words
    for parameter in operation.parameters.values():
        assert (parameter.name if parameter.required else f"--{parameter.name.replace('_', '-')}") in words
    assert list(exit_codes(ran.out).items()) == list(zip(MEANINGS, range(7), strict=True))


def test_help_lists_one_command_per_operation(run: Run) -> None:
    listed = re.findall(r"^    ([a-z-]+)", run("--help").out, re.MULTILINE)
    assert listed == [name.replace("_", "-") for name in OPERATIONS] + ["watch", "definitions", "machine"]
    assert listed[:-3] == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_prints_text(command: str, run: Run, relay: FakeRelay) -> None:
    words, expected = COMMANDS[command]
    ran = run(command, *words)
    assert (ran.code, ran.err) == (0, "")
    assert expected in ran.out
    assert len(relay.seen) == (2 if command == "check-inbox" else 1)  # it acknowledges what it has printed


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_check_inbox_acknowledges_what_it_has_printed(json_too: list[str], run: Run, relay: FakeRelay) -> None:
    ran = run("check-inbox", *json_too)
    assert (ran.code, ran.err) == (0, "")
    assert ("urgent first. This counts as dealt with now." in ran.out) is not bool(json_too)
    first, second = relay.seen
    assert (first.path, first.json()) == ("/api/v2/inbox/check", {})
    assert (second.path, second.json()) == ("/api/v2/inbox/acknowledge", {"claim_id": CLAIM_ID})
    assert first.headers["x-agent-session"] == second.headers["x-agent-session"]
    assert "counts as dealt with at once" in re.sub(r"\s+", " ", run("check-inbox", "--help").out)


def test_an_empty_inbox_leaves_nothing_to_acknowledge(run: Run, relay: FakeRelay) -> None:
    relay.override["POST", "/api/v2/inbox/check"] = answer(enveloped(inbox()))
    assert run("check-inbox") == (0, "Nothing waits for you.\n", "")
    assert len(relay.seen) == 1


CLOSED = ("sh", "-c", 'exec "$@" >&-', "sh")  # before the command: its output is not even open
NOT_OPEN = b"Error: cannot write the output: Bad file descriptor.\n"


@pytest.mark.parametrize("json_too", [[], ["--json"]])
@pytest.mark.parametrize("output", ["full disk", "closed pipe", "none"])
def test_what_could_not_be_printed_is_given_back_at_once(json_too: list[str], output: str, relay: FakeRelay) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [*(CLOSED if output == "none" else ()), *AGENTCHAT, "check-inbox", *json_too]
    with open("/dev/full" if output == "full disk" else os.dup(writing), "wb") as out:
        ran = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert ran.returncode == (0 if output == "closed pipe" else 1)
    assert (
        ran.stderr
        == {
            "full disk": b"Error: cannot write the output: No space left on device.\n",
            "closed pipe": b"",
            "none": NOT_OPEN,
        }[output]
    )
    assert [seen.path for seen in relay.seen] == ["/api/v2/inbox/check", "/api/v2/inbox/return"]
    assert relay.seen[1].json()["claim_id"] == CLAIM_ID


def test_a_relay_that_takes_nothing_back_does_not_hide_what_was_wrong_with_the_output(relay: FakeRelay) -> None:
    relay.override["POST", "/api/v2/inbox/return"] = answer({"error": "no", "code": "conflict"}, status=409)
    ran = subprocess.run([*CLOSED, *AGENTCHAT, "check-inbox"], stderr=subprocess.PIPE, timeout=60)
    assert (ran.returncode, ran.stderr) == (1, NOT_OPEN)


def test_without_an_output_a_file_is_not_downloaded_in_silence(relay: FakeRelay) -> None:
    words = [*CLOSED, *AGENTCHAT, "download-file", "general/1-a.txt"]
    ran = subprocess.run(words, stderr=subprocess.PIPE, timeout=60)
    assert (ran.returncode, ran.stderr) == (1, NOT_OPEN)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_prints_the_relays_answer_as_json(command: str, run: Run, relay: FakeRelay) -> None:
    ran = run(command, *COMMANDS[command][0], "--json")
    assert (ran.code, ran.err) == (0, "")
    canned = CANNED.get((relay.seen[0].method, relay.seen[0].path))
    found = json.loads(ran.out)
    assert found == canned if canned else found.keys() & {"content", "signed_url"}


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["read-messages", "general", "--limit", "5", "--mark-read", "--cursor", "c"],
         {"channel": "general", "limit": "5", "mark_read": "true", "cursor": "c"}),
        (["check-mentions", "--no-unread"], {"unread": "false"}),
        (["search-messages", "-", "--channel", "general"], {"q": "-", "channel": "general"}),
        (["send-message", "general", "100% @mac-bob", "--metadata", '{"a": 1}', "--parent-message-id", ID],
         {"channel": "general", "content": "100% @mac-bob", "parent_message_id": ID,
          "metadata": {"project": "demo", "a": 1}}),
        (["send-direct-message", "mac-bob", "--project", "other", "--", "--json"],
         {"target_agent": "mac-bob", "content": "--json", "metadata": {"project": "other"}}),
        (["upload-file", "general", "a.txt", "hello", "--no-post-message"],
         {"channel": "general", "filename": "a.txt", "content": "hello", "post_message": False}),
        (["set-card", "--capabilities"], {"card": {"capabilities": []}}),
        (["mark-mentions-read", ID], {"mention_ids": [ID]}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_words_reach_the_relay_as_the_arguments_they_are(words: list[str], sent: Any, run: Run, relay: FakeRelay):
    assert run(*words).code == 0
    seen = relay.seen[0]
    assert (seen.json() if seen.body else seen.query) == sent
    assert seen.headers["x-agent-api-key"] == KEY


def test_options_beat_the_environment(run: Run, relay: FakeRelay, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "config").write_text(f"AGENTCHAT_KEY={KEY}\n")
    monkeypatch.setenv("AGENTCHAT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AGENTCHAT_KEY", "")
    ran = run("check-board", "--url", f"{relay.url}/", "--home", str(tmp_path), "--timeout", "30")
    assert (ran.code, len(relay.seen)) == (0, 1)


def test_a_dash_reads_the_text_from_standard_input(run: Run, relay: FakeRelay, monkeypatch: Any) -> None:
    for command in (["send-message", "general", "-"], ["upload-file", "general", "a.txt", "-"]):
        standard_input(monkeypatch, "zwei\r\nZeilen \u00e4\n".encode())
        assert run(*command).code == 0
    assert [seen.json()["content"] for seen in relay.seen] == ["zwei\r\nZeilen \u00e4\n"] * 2
    assert "encoding" not in relay.seen[1].json()


def test_a_dash_sends_a_binary_file_as_base64(relay: FakeRelay) -> None:
    content = bytes(range(256))
    assert process("upload-file", "general", "a.bin", "-", stdin=content).returncode == 0
    body = relay.seen[0].json()
    assert (body["content"], body["encoding"]) == (b64encode(content).decode(), "base64")


@pytest.mark.parametrize(
    "words", [["send-message", "general", "-"], ["upload-file", "c2", "a", "-", "--encoding=utf-8"]]
)
def test_binary_standard_input_where_text_must_be_is_refused(words: Any, run: Run, relay: FakeRelay, monkeypatch: Any):
    standard_input(monkeypatch, b"\xff\xfe\x00")
    ran = run(*words)
    assert (ran.code, ran.out, relay.seen) == (2, "", [])
    assert "Standard input is not UTF-8 text" in ran.err


@pytest.mark.parametrize(("content", "sent", "encoding"), [(b"# Hi\n", "# Hi\n", None), (b"\xff", "/w==", "base64")])
def test_a_file_is_uploaded_from_its_path(
    content: bytes, sent: str, encoding: str | None, run: Run, relay: FakeRelay, tmp_path: Path
) -> None:
    (tmp_path / "report.md").write_bytes(content)
    assert run("upload-file", "general", str(tmp_path / "report.md")).code == 0
    body = relay.seen[0].json()
    assert (body["filename"], body["content"], body.get("encoding")) == ("report.md", sent, encoding)


def test_with_base64_a_file_is_always_encoded(run: Run, relay: FakeRelay, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"plain")
    assert run("upload-file", "general", str(tmp_path / "a.txt"), "--encoding=base64").code == 0
    body = relay.seen[0].json()
    assert (body["content"], body["encoding"]) == ("cGxhaW4=", "base64")


def test_a_file_that_is_not_the_text_it_is_said_to_be_is_refused(run: Run, relay: FakeRelay, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\xff")
    ran = run("upload-file", "general", str(tmp_path / "a.bin"), "--encoding=utf-8")
    assert (ran.code, relay.seen) == (2, [])
    assert "a.bin is not UTF-8 text" in ran.err


@pytest.mark.parametrize(("words", "hint"), [(["--url", "http://x", "check-board"], "Options go after the command"),
                                             (["send-message", "general", "-foo"], "goes after '--'")])  # fmt: skip
def test_frequent_slips_get_a_hint(words: list[str], hint: str, run: Run) -> None:
    ran = run(*words)
    assert ran.code == 2
    assert hint in ran.err


def test_closed_standard_streams_are_no_crash(relay: FakeRelay) -> None:
    words = [sys.executable, "-m", "agentchat", "send-message", "general", "-", "--url", relay.url]
    environment = {**os.environ, "AGENTCHAT_KEY": KEY}
    script = "import os, sys; os.close(0); os.execv(sys.argv[1], sys.argv[1:])"
    ran = subprocess.run([sys.executable, "-c", script, *words], env=environment, capture_output=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (2, b"Error (bad_request): There is no standard input.\n")


def test_a_warning_is_one_line(run: Run, relay: FakeRelay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCHAT_KEY", KEY)
    monkeypatch.setenv("http_proxy", relay.url)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        ran = run("check-board", "--url", "http://relay.test")
    assert ran.code == 0
    assert ran.err == (
        "Warning: The key travels unencrypted to relay.test; use https, or a tunnel to a loopback address.\n"
    )


def test_a_path_without_a_file_is_wrong_usage(run: Run, relay: FakeRelay, tmp_path: Path) -> None:
    ran = run("upload-file", "general", str(tmp_path / "none.md"))
    assert (ran.code, relay.seen) == (2, [])
    assert "none.md: No such file" in ran.err


@pytest.mark.parametrize("content", [b"plain\r\n", bytes(range(256)), b""])
def test_download_file_writes_exactly_the_bytes_of_the_file(content: bytes, relay: FakeRelay) -> None:
    relay.override["GET", "/api/files"] = answer(body=content, headers={"content-type": "application/octet-stream"})
    ran = process("download-file", "general/1-a.bin")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, content, b"")


def test_a_binary_file_as_json_is_base64(run: Run, relay: FakeRelay) -> None:
    relay.override["GET", "/api/files"] = answer(body=b"\xff\0", headers={"content-type": "image/png"})
    ran = run("download-file", "general/1-a.png", "--json")
    assert json.loads(ran.out) == {"content_type": "image/png", "content": {"base64": "/wA="}}


@pytest.mark.parametrize(
    "argv", [["check-board"], ["--help"], ["definitions", "--preset", "all"], ["download-file", "a"]]
)
def test_a_reader_that_hangs_up_ends_the_command_quietly(argv: list[str], relay: FakeRelay) -> None:
    relay.override["GET", "/api/files"] = answer(body=b"x" * 200_000)
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        ran = subprocess.run([*AGENTCHAT, *argv], stdout=pipe, stderr=subprocess.PIPE, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_an_output_that_cannot_show_a_character_still_gets_the_rest(relay: FakeRelay) -> None:
    page = {"channelId": ID, "messages": [message("before \u20ac \U0001f600 after")]}
    relay.override["GET", "/api/v2/messages"] = answer(enveloped(page))
    ran = process("read-messages", "general", PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert re.search(rb"before .* after", ran.stdout)


@pytest.mark.parametrize(("status", "code", "meaning"), REFUSALS, ids=[str(code) for _, code, _ in REFUSALS])
def test_refusals_have_the_exit_codes_of_help(status: int, code: str, meaning: str, run: Run, relay: FakeRelay):
    headers = {"retry-after": "3600", "x-request-id": "request-7"}
    relay.override["GET", "/api/v2/board"] = answer({"error": "Sorry", "code": code}, status=status, headers=headers)
    plain, told = run("check-board"), run("check-board", "--json")
    assert {plain.code, told.code} == {MEANINGS.index(meaning)}
    assert plain.out == told.out == ""
    assert plain.err.startswith("Error (") and plain.err.count("\n") == 1
    problem = json.loads(told.err)
    assert problem["request_id"] == "request-7"
    if status != 200:
        assert (problem["error"], problem["code"]) == ("Sorry", code or "internal_error")


def test_a_relay_that_is_not_there_is_worth_another_try(run: Run, relay: FakeRelay) -> None:
    with refusing() as url:
        ran = run("check-board", "--url", url, "--json")
    assert ran.code == MEANINGS.index("try again later")
    assert json.loads(ran.err)["code"] == "network_error"


def test_errors_as_json_hold_what_the_relay_told(run: Run, relay: FakeRelay) -> None:
    refusal = {"error": "No channel genral", "code": "not_found", "near": ["general"]}
    relay.override["GET", "/api/v2/messages"] = answer(refusal, status=404)
    ran = run("read-messages", "genral", "--json")
    assert json.loads(ran.err) == {**refusal, "request_id": None}
    assert "near names: general" in run("read-messages", "genral").err


MISTAKES = [
    (["read-messages", "general", "--limit", "five"], "limit must be an integer, got the text 'five'"),
    (["read-messages", "general", "--limit", "1.5"], "limit must be an integer"),
    (["read-messages", "general", "--limit", "0"], "limit must be from 1 to 200, got 0; use 1"),
    (["read-messages", "My Channel"], "use my-channel"),
    (["send-message", "general", "x", "--metadata", "{nope"], "--metadata must be a JSON object, got '{nope'"),
    (["create-task", "x", "--result-schema", "{"], "--result-schema must be a JSON object, got '{'"),
    (["send-message", "general", "x", "--metadata", "[1]"], "metadata must be a JSON object, got a list"),
    (["send-message", "general", " "], "text that is not blank"),
    (["mark-mentions-read", "1"], "mention_ids item 1 must be a lowercase UUID"),
    (["check-board", "--timeout", "nan"], "timeout must be a number of seconds"),
    (["check-board", "--url", "nowhere"], "'nowhere' is no relay URL"),
    (["chek-board"], "did you mean check-board?"),
    (["send_message", "general", "x"], "did you mean send-message?"),
    (["serv"], "did you mean serve?"),
    (["frobnicate\n\x1b[2J"], "agentchat --help lists the commands"),
    (["machine", "init", "--name", "a\nAGENTCHAT_KEY=x"], "is no machine name"),
]  # fmt: skip
BAD_WORDS = [
    ["send-message", "general"], ["check-board", "more"], ["check-board", "--limit", "5"], ["machine"],
    ["list-channels", "--type", "x"], ["check-board", "--timeout", "soon"], ["definitions", "--dialect", "x"],
    ["read-messages", "general", "--lim", "5"],
]  # fmt: skip


@pytest.mark.parametrize(("argv", "says"), MISTAKES, ids=[says[:30] for _, says in MISTAKES])
def test_a_mistake_is_told_before_anything_is_sent(argv: list[str], says: str, run: Run, relay: FakeRelay) -> None:
    plain, told = run(*argv), run(*argv, "--json")
    assert (plain.code, told.code, plain.out, told.out) == (2, 2, "", "")
    assert says in plain.err
    assert plain.err.removesuffix("\n").isprintable()
    assert says in json.loads(told.err)["error"]
    assert relay.seen == []


@pytest.mark.parametrize("argv", BAD_WORDS, ids=" ".join)
def test_words_the_command_does_not_know_are_wrong_usage(argv: list[str], run: Run, relay: FakeRelay) -> None:
    ran = run(*argv)
    assert (ran.code, ran.out, relay.seen) == (2, "", [])
    assert "--help" in ran.err


def test_wrong_usage_is_json_too_when_json_is_asked_for(run: Run, relay: FakeRelay) -> None:
    ran = run("send-message", "general", "--json")
    assert ran.code == 2
    assert "content" in json.loads(ran.err)["error"]


def test_control_c_ends_with_130_and_no_traceback(relay: FakeRelay) -> None:
    asked, release = threading.Event(), threading.Event()

    def never(seen: Seen) -> bytes:
        asked.set()
        release.wait(30)
        return b""

    relay.override["GET", "/api/v2/board"] = never
    # Tests may run where the interrupt is ignored, which a child inherits.
    script = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script += "from agentchat.cli import main; sys.exit(main(['check-board']))"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert asked.wait(30)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    release.set()
    assert (child.returncode, out, err) == (130, b"", b"")


def test_no_output_holds_the_key(run: Run, relay: FakeRelay, monkeypatch: Any) -> None:
    outputs = [run(command, *words, *more) for command, (words, _) in COMMANDS.items() for more in ([], ["--json"])]
    outputs += [run(command, "--help") for command in COMMANDS]
    relay.keys = set()
    outputs += [run("check-board"), run("check-board", "--json"), run("read-messages", "Bad Name")]
    monkeypatch.setenv("AGENTCHAT_KEY", f"{KEY} {KEY}")
    outputs += [run("check-board"), run("check-board", "--json")]
    assert [ran.code for ran in outputs[-5:]] == [3, 3, 2, 2, 2]
    assert KEY not in str(outputs)


@pytest.fixture
def plugins(tmp_path: Path) -> dict[str, str]:
    """An installed distribution that brings a `serve`, and one of our own names."""
    information = tmp_path / "fake_relay-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-relay\nVersion: 1.0\n")
    entries = "[agentchat.commands]\nserve = fake_relay:serve\ncheck-board = fake_relay:serve\n"
    (information / "entry_points.txt").write_text(entries)
    (tmp_path / "fake_relay.py").write_text("def serve(argv):\n    print('serving', argv)\n    return 7\n")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}


def test_an_installed_relay_brings_its_commands(plugins: dict[str, str]) -> None:
    ran = process("serve", "--port", "1", "--json", **plugins)
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, b"serving ['--port', '1', '--json']\n", b"")


def test_an_installed_package_cannot_replace_our_commands(plugins: dict[str, str], relay: FakeRelay) -> None:
    assert b"#general" in process("check-board", **plugins).stdout


@pytest.mark.parametrize("dialect", schema.DIALECTS)
def test_definitions_are_the_committed_files(dialect: str, run: Run) -> None:
    ran = run("definitions", "--dialect", dialect, "--preset", "all")
    assert ran.out == (DEFINITIONS / f"{dialect}.json").read_text(encoding="utf-8")


def test_definitions_are_the_standard_tools_by_default(run: Run) -> None:
    names = [tool["function"]["name"] for tool in json.loads(run("definitions").out)]
    assert sorted(names) == sorted(json.loads((DEFINITIONS / "presets.json").read_text())["standard"])


def test_machine_init_makes_a_key_and_says_what_the_operator_runs(run: Run, relay: FakeRelay, tmp_path: Path) -> None:
    ran = run("machine", "init", "--name", "mac", "--home", str(tmp_path))
    public = (tmp_path / "machine.pub").read_text()
    assert (ran.code, ran.out.splitlines()[-1]) == (0, f"agentchat admin machine add mac {public}")
    assert (tmp_path / "machine.key").read_text() not in ran.out
    again = run("machine", "init", "--name", "mac", "--home", str(tmp_path), "--json")
    assert (again.code, "exists already" in json.loads(again.err)["error"]) == (2, True)


def test_machine_init_says_that_without_a_relay_no_key_is_needed(run: Run, tmp_path: Path) -> None:
    words = ["machine", "init", "--name", "mac", "--home", str(tmp_path / "home")]
    ran = run(*words, "--url", f"local:{tmp_path}")
    assert ran.code == 0
    assert "Agents with local: need no key, so nobody has to admit it. It is for a relay.\n" in ran.out


def test_machine_init_names_the_machine_after_its_host_and_then_agents_register_themselves(
    run: Run, tmp_path: Path
) -> None:
    with FakeRelay() as relay:
        made = json.loads(run("machine", "init", "--url", relay.url, "--home", str(tmp_path), "--json").out)
        assert made["public_key"] == (tmp_path / "machine.pub").read_text()
        assert made["home"] == str(tmp_path)
        assert run("check-board", "--home", str(tmp_path), "--project", "demo").code == 0
        assert relay.seen[0].json()["agent_name"] == f"{made['machine_name']}-demo"


def test_a_full_disk_is_one_clear_line() -> None:
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "agentchat", "definitions"], stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert (ran.returncode, ran.stderr) == (1, b"Error: cannot write the output: No space left on device.\n")
