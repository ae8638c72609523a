"""The inbox and waiting through the executors: no more is taken than is shown, and a wait that ends says what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agentchat import Client
from agentchat_executor import AsyncExecutor, Executor
from agentchat_relay.embedded import running
from langchain_agentchat import AgentChatToolkit, AsyncClient
from langchain_agentchat.tools import CheckInboxTool
from tests.clients.conftest import Connect, Driver, connect
from tests.servers import CLAIM_ID, ID, FakeRelay, answer, enveloped

__all__ = ["connect"]
CHECK, NEXT = ("POST", "/api/v2/inbox/check"), ("GET", "/api/v2/next")


def execute(driver: Driver, name: str, arguments: dict[str, Any], **options: Any) -> Any:
    kind = AsyncExecutor if isinstance(driver.client, AsyncClient) else Executor
    return driver.run(kind(driver.client, **options).execute(name, arguments))


@pytest.mark.parametrize(("max_chars", "given", "sent"), [(1000, {}, 1), (2200, {"limit": 50}, 2), (20_000, {}, None)])
def test_an_executor_takes_no_more_than_it_can_show(
    connect: Connect, relay: FakeRelay, max_chars: int, given: Any, sent: int | None
) -> None:
    result = execute(connect(relay.url), "check_inbox", given, preset="core", max_chars=max_chars)
    assert result.ok and result.text.startswith("1 item, urgent first.")
    assert relay.seen[0].json().get("limit") == sent


def test_a_tool_takes_no_more_than_it_can_show(connect: Connect, relay: FakeRelay) -> None:
    driver = connect(relay.url)
    tool = CheckInboxTool(driver.client, max_chars=1000)
    driver.run(tool.ainvoke({"limit": 9}) if isinstance(driver.client, AsyncClient) else tool.invoke({"limit": 9}))
    assert relay.seen[0].json() == {"limit": 1}


def test_the_tools_of_one_client_are_one_session(connect: Connect, relay: FakeRelay) -> None:
    driver = connect(relay.url)
    [tool] = AgentChatToolkit(driver.client, preset="core", exclude=[*CORE_BUT_INBOX]).get_tools()
    for _ in range(2):
        driver.run(tool.ainvoke({}) if isinstance(driver.client, AsyncClient) else tool.invoke({}))
    execute(driver, "check_inbox", {}, preset="core")
    assert [seen.json().get("seen") for seen in relay.seen] == [None, CLAIM_ID, CLAIM_ID]
    assert len({seen.headers["x-agent-session"] for seen in relay.seen}) == 1


CORE_BUT_INBOX = (
    "check_board", "list_channels", "read_messages", "send_message", "search_messages", "send_direct_message",
)  # fmt: skip


@pytest.mark.parametrize(("include", "look"), [([], "check_mentions"), (["check_inbox"], "check_inbox")])
def test_a_wait_that_ends_names_a_tool_that_can_be_called(
    connect: Connect, relay: FakeRelay, include: list[str], look: str
) -> None:
    relay.override[NEXT] = answer(enveloped({"message": None, "position": 7, "timed_out": True}))
    given = {"wait": 1}
    result = execute(connect(relay.url), "wait_for_message", given, include=["wait_for_message", *include])
    assert result.ok
    assert result.text == f"Nothing came within 1 s. Look later with agentchat_{look}, or wait again."


def test_a_model_cannot_name_what_it_has_seen(connect: Connect, relay: FakeRelay) -> None:
    result = execute(connect(relay.url), "check_inbox", {"seen": ID}, preset="core")
    assert (result.ok, result.code, relay.seen) == (False, "bad_request", [])


def test_a_model_reads_each_list_to_its_end() -> None:
    """By what each page says about the next one."""

    def read(client: Client, name: str, **given: Any) -> list[str]:
        executor, found, cursor = Executor(client, preset="all"), list[str](), {}
        while True:
            shown = executor.execute(name, {**given, **cursor, "limit": 2})
            assert shown.ok, shown
            found += re.findall(r"row-\d+", shown.text)
            if (following := re.search(r"cursor=(\S+)\)$", shown.text)) is None:
                return sorted(found)
            cursor = {"cursor": following[1]}

    with running() as relay:
        ann, bob = (Client(relay.url, relay.token(name), agent=name) for name in ("mac-ann", "mac-bob"))
        rows = [f"row-{number}" for number in range(5)]
        for row in rows:
            ann.create_task(row, channel="general")
            ann.acquire_lock([row])
            ann.request_approval(row, "{}")
            ann.send_direct_message("mac-bob", row)
        assert read(ann, "list_tasks") == read(ann, "list_locks") == read(ann, "list_approvals", mine=True) == rows
        assert read(ann, "list_sent") == read(bob, "peek_inbox") == rows
        for row in rows:
            ann.send_interrupt("mac-bob", row)
        assert read(bob, "list_interrupts") == rows
        ann.close()
        bob.close()
