"""What both type checkers must see on the two clients. Checked by `make check`, never run.

Lines marked `type: ignore` must be errors: mypy refuses an ignore that is not needed.
"""

from collections.abc import Callable
from typing import assert_type

from agentchat import Client, Contract, types
from agentchat._operation import Operation
from langchain_agentchat import AsyncClient


def sync(client: Client) -> None:
    assert_type(client.check_board(), types.Board)
    assert_type(client.send_message("general", "hello"), types.SentMessage)
    assert_type(client.send_message(channel="general", content="hello", metadata={"a": 1}), types.SentMessage)
    assert_type(client.read_messages("general", limit=5)["messages"][0]["content"], str)
    assert_type(client.download_file("general/a.txt")["content"], bytes)
    assert_type(client.check_mentions()["mentions"][0]["from"], str)
    assert_type(client.with_options(timeout=1.0), Client)
    with client as same:
        assert_type(same, Client)
    with client.events(since=3) as events:
        for event in events:
            assert_type(event, types.Event)
        assert_type(events.position, int | None)
    assert_type(client.check_inbox()["items"][0]["from"], str)
    assert_type(client.wait_for_reply("id")["message"], types.Message | None)
    assert_type(client.create_task("Read it", channel="general")["task"]["fence"], int)
    assert_type(client.check_work()["offered_to_me"][0]["lease_until"], str | None)
    assert_type(client.acquire_lock(["src/**"], wait=60)["lock"]["fence"], int | None)
    assert_type(client.send_interrupt("mac-bob", "look")["interrupt"]["note"], str | None)
    assert_type(client.list_pauses()["pauses"][0]["told"], int)
    assert_type(client.get_approval("id", wait=60)["approval"]["verdict"], str | None)
    bound: Callable[[], types.Board] = client.check_board
    bound()


async def asynchronous(client: AsyncClient) -> None:
    assert_type(await client.check_board(), types.Board)
    assert_type(await client.send_message("general", "hello"), types.SentMessage)
    assert_type((await client.search_messages("deploy"))["results"][0]["rank"], float)
    async with client as same:
        assert_type(same, AsyncClient)
    async with client.events(channel="general") as events:
        async for event in events:
            assert_type(event, types.Event)


def data() -> None:
    operation: Operation[[], types.Board] = Contract.check_board
    assert_type(operation.writes, bool)


def refused(client: Client, other: AsyncClient) -> None:
    client.send_message("general")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.send_message("general", 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.send_message("general", "hello", parent="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.read_messages("general", 5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.list_channels(type="projekt")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.no_such_operation()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    other.check_board()["channels"]  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
