"""The documents' blocks that use a vendor's SDK, run as printed against a local service that speaks for all vendors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import KEY
from tests.docs.documents import ROOT, Block, every_block, run, shows
from tests.servers import FakeRelay, Peer, Scripted, Seen, answer

pytestmark = pytest.mark.vendors

# What the model calls, whichever it is offered, and what that asks of the relay.
ASKED = {
    "agentchat_check_mentions": ("GET", "/api/v2/mentions"),
    "agentchat_check_inbox": ("POST", "/api/v2/inbox/check"),
}
SAID = "I answered @mac-bob."
# What a request holds once the tool's result is in it, in any vendor's words.
RESULTS = (b'"tool_call_id"', b'"function_call_output"', b'"tool_result"', b'"functionResponse"')


def chat(asked: str, done: bool) -> Any:
    call = {"id": "call_1", "type": "function", "function": {"name": asked, "arguments": "{}"}}
    message = {"role": "assistant", "content": SAID} if done else {"role": "assistant", "tool_calls": [call]}
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": None, **message}}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def responses(asked: str, done: bool) -> Any:
    text = {"type": "output_text", "text": SAID, "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [text]}
    call = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": asked, "arguments": "{}"}
    output = [message if done else call]
    return {"id": "r1", "object": "response", "created_at": 1, "model": "m", "output": output, "tools": []}


def messages(asked: str, done: bool) -> Any:
    call = {"type": "tool_use", "id": "call_1", "name": asked, "input": {}}
    content = [{"type": "text", "text": SAID} if done else call]
    usage = {"input_tokens": 1, "output_tokens": 1}
    head = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "usage": usage}
    return {**head, "content": content, "stop_reason": "end_turn", "stop_sequence": None}


def generated(asked: str, done: bool) -> Any:
    part = {"text": SAID} if done else {"functionCall": {"name": asked, "args": {}}}
    content = {"role": "model", "parts": [part]}
    return {"responseId": "r1", "candidates": [{"content": content, "finishReason": "STOP", "index": 0}]}


# End of the path -> what that vendor's service answers.
SERVICES = {
    "/chat/completions": chat,
    "/responses": responses,
    "/messages": messages,
    ":generateContent": generated,
}


def reply(seen: Seen) -> bytes:
    """A call of a tool first, and the last word once its result is there."""
    [service] = [service for end, service in SERVICES.items() if seen.path.endswith(end)]
    return answer(service(asked_of(seen), any(word in seen.body for word in RESULTS)))


def asked_of(seen: Seen) -> str:
    return next(name for name in ASKED if name.encode() in seen.body)


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """Where every SDK goes, by the environment."""

    def serve(peer: Peer) -> None:
        while (seen := peer.read()) is not None:
            peer.send(reply(seen))

    with Scripted(serve) as server:
        for name in ("OPENAI", "ANTHROPIC", "GEMINI"):
            monkeypatch.setenv(f"{name}_API_KEY", "k")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        yield server


@pytest.mark.parametrize("block", every_block(vendors=True))
def test_a_loop_runs_the_tool_and_says_the_last_word(
    block: Block, relay: FakeRelay, vendor: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)  # one page reads tool_definitions/
    printed = run(block, relay.url, KEY).printed
    assert printed == f"{SAID}\n"
    assert not block.prints or shows(block.prints, printed)
    first, second = vendor.seen
    assert [(seen.method, seen.path) for seen in relay.seen] == [ASKED[asked_of(first)]]
    assert relay.seen[0].headers["x-agent-api-key"] == KEY
    assert b"hello @mac-ann" in second.body, "the model did not get the tool's result"


def test_the_definitions_loop_shows_the_model_seven_tools(
    relay: FakeRelay, vendor: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    [block] = [each.values[0] for each in every_block(vendors=True) if each.id.startswith("tool_definitions/")]
    run(block, relay.url, KEY)
    assert len(vendor.seen[0].json()["tools"]) == 7
