"""What an operation can be called with, made for the call: of mac-http (`world.agent`), or for it by mac-other."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from agentchat._operation import Operation
from tests.relay.conftest import fresh
from tests.relay.wires import Wire


def path_of(world: SimpleNamespace, operation: Operation[..., Any]) -> str:
    message = world.own if operation.name == "get_receipts" else world.message
    task = task_for(world, operation.name) if "{task_id}" in operation.path else ""
    lock = lock_of(world.agent) if "{lock_id}" in operation.path else ""
    return operation.path.partition("?")[0].format(
        message_id=message,
        task_id=task,
        lock_id=lock,
        interrupt_id=interrupt_for(world, operation.name) if "{interrupt_id}" in operation.path else "",
        pause_id=pause_of(world) if "{pause_id}" in operation.path else "",
        approval_id=approval_for(world, operation.name) if "{approval_id}" in operation.path else "",
    )


def filled(path: str, id: str) -> str:
    """The path with one id for whatever it is about."""
    return re.sub(r"\{\w+_id\}", lambda _: id, path)


def no_interrupts(world: SimpleNamespace) -> None:
    """Acknowledge what would stay first in the agent's inbox."""
    for one in world.agent.send("GET", "/api/v2/interrupts").data["interrupts"]:
        assert world.agent.send("POST", f"/api/v2/interrupts/{one['id']}/acknowledge", {}).status == 200


def interrupt_for(world: SimpleNamespace, name: str) -> str:
    """One for the agent, or of its own."""
    no_interrupts(world)
    for one in world.agent.send("GET", "/api/v2/interrupts?sent=true&state=pending").data["interrupts"]:
        world.agent.send("POST", f"/api/v2/interrupts/{one['id']}/withdraw", {})
    sender, target = (
        (world.agent, "mac-other") if name == "withdraw_interrupt" else (world.other, "mac-http")
    )  # fmt: skip
    sent = sender.send("POST", "/api/v2/interrupts", {"target_agent": target, "reason": "stop"})
    return str(sent.data["interrupt"]["id"])


def pause_of(world: SimpleNamespace) -> str:
    made = world.agent.send("POST", "/api/v2/pauses", {"reason": "stop", "group": "crew", "expires_in": 5})
    return str(made.data["pause"]["id"])


def approval_for(world: SimpleNamespace, name: str) -> str:
    """One that the agent may decide, or asked for; those before make room for it."""
    asker = world.agent if name == "withdraw_approval" else world.other
    for one in asker.send("GET", "/api/v2/approvals?mine=true&state=pending&limit=200").data["approvals"]:
        assert asker.send("POST", f"/api/v2/approvals/{one['id']}/withdraw", {}).status == 200
    asked = asker.send("POST", "/api/v2/approvals", {"tool_name": "deploy", "arguments": "{}"})
    return str(asked.data["approval"]["id"])


def lock_of(agent: Wire) -> str:
    """One that the agent holds."""
    return str(agent.send("POST", "/api/v2/locks", {"names": [fresh("lock")]}).data["lock"]["id"])


def task_for(world: SimpleNamespace, name: str) -> str:
    """One that the operation can be called with: its creator's, its owner's, or one that is offered."""
    creator, owner = (world.agent, "mac-other") if name in ("cancel_task", "offer_task") else (world.other, "mac-http")
    given = {"title": "read it", "target_agent": owner, "context": "all of it"}
    task_id = str(creator.send("POST", "/api/v2/tasks", given).data["task"]["id"])
    if name in ("renew_task", "report_progress", "return_task", "complete_task", "fail_task"):
        assert world.agent.send("POST", f"/api/v2/tasks/{task_id}/claim", {}).status == 200
    return task_id


def claimed(world: SimpleNamespace) -> dict[str, Any]:
    """A claim of one new item, which is the first in the inbox."""
    no_interrupts(world)
    sent = {"target_agent": "mac-http", "content": "claim me", "urgent": True}
    assert world.other.send("POST", "/api/v2/dm", sent).status == 200
    claim: dict[str, Any] = world.agent.send("POST", "/api/v2/inbox/claim", {"limit": 1, "lease": 3600}).data
    return claim


def dead_letter(world: SimpleNamespace) -> str:
    claim = claimed(world)
    while not world.agent.send("POST", "/api/v2/inbox/return", {"claim_id": claim["claim_id"]}).data["dead"]:
        claim = world.agent.send("POST", "/api/v2/inbox/claim", {"limit": 1}).data
    return str(claim["items"][0]["item_id"])
