"""The loops in the two folders' READMEs, run as printed through the vendors' real SDKs against a local server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import KEY
from tests.docs.test_documents import ROOT, pointed_at, python_blocks
from tests.servers import FakeRelay, Scripted, answer, replies

pytestmark = pytest.mark.vendors


def completion(message: dict[str, Any]) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None, **message}}
    return answer({"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})


def reply(*content: dict[str, Any]) -> bytes:
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": content, "usage": usage}
    return answer({**message, "stop_reason": "end_turn", "stop_sequence": None})


def test_the_executor_s_loop(
    relay: FakeRelay, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "agentchat_check_mentions", "arguments": "{}"}}
    with Scripted(replies(completion({"tool_calls": [call]}), completion({"content": "Answered."}))) as vendor:
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{vendor.url}/v1")
        exec(pointed_at(python_blocks("executor/README.md")[0], relay), {})
    assert capsys.readouterr().out == "Answered.\n"
    assert [seen.path for seen in relay.seen] == ["/api/v2/mentions"]
    assert vendor.seen[1].json()["messages"][-1]["tool_call_id"] == "call_1"


def test_the_definitions_loop(
    relay: FakeRelay, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "agentchat_check_board", "input": {}}
    with Scripted(replies(reply(call), reply({"type": "text", "text": "Nothing."}))) as vendor:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", vendor.url)
        monkeypatch.chdir(ROOT)
        exec(pointed_at(python_blocks("tool_definitions/README.md")[0], relay), {})
    assert capsys.readouterr().out == "Nothing.\n"
    assert relay.seen[0].headers["x-agent-api-key"] == KEY
    assert len(vendor.seen[0].json()["tools"]) == 8
