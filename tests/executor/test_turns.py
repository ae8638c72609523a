"""What a whole turn of a model comes to, order, keys and others' tools, and how executors are made."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentchat import identity
from agentchat.client import Client
from agentchat.errors import Conflict, InvalidArguments, NotConfigured
from agentchat_executor import AgentChatExecutor, AsyncExecutor, Executor
from agentchat_executor.execution import Call, batches
from langchain_agentchat import AsyncClient
from tests.conftest import KEY
from tests.executor.conftest import Either
from tests.servers import FakeRelay, Peer, Seen, answer, enveloped, message

MESSAGES = ("GET", "/api/v2/messages")
POST = {"channel": "general", "content": "hello"}

# Order


class Meeting(FakeRelay):
    """Answers a read once two reads are in flight, and notes every request that a write had to share the relay with."""

    def __init__(self) -> None:
        self.meet = threading.Barrier(2, timeout=10)
        self.in_flight = 0
        self.crowded: list[str] = []
        super().__init__()

    def _handle(self, peer: Peer) -> None:
        while (seen := peer.read()) is not None:
            with self.lock:
                self.in_flight += 1
                if seen.method == "POST" and self.in_flight > 1:
                    self.crowded.append(seen.target)
            try:
                reply = self.met(seen)
            finally:
                with self.lock:
                    self.in_flight -= 1
            peer.send(reply)

    def met(self, seen: Seen) -> bytes:
        if seen.method == "GET":
            try:
                self.meet.wait()
            except threading.BrokenBarrierError:
                return answer({"error": "alone"}, status=500)
        return self.reply(seen)


def test_reads_run_in_parallel_and_writes_alone_and_in_order(either: Either) -> None:
    with Meeting() as relay:
        executor = either.executor(either.client(relay.url))
        writes = [("send_message", {"channel": "general", "content": text}) for text in "abc"]
        reads = [("check_board", "{}"), ("list_channels", {})]
        texts = executor.turn(*reads, writes[0], writes[1], *reads, writes[2])
        either.close()
    kinds = ["1 channel.", "1 joined", "Sent as", "Sent as", "1 channel.", "1 joined", "Sent as"]
    assert [text[: len(kind)] for text, kind in zip(texts, kinds, strict=True)] == kinds
    assert [seen.method for seen in relay.seen] == ["GET", "GET", "POST", "POST", "GET", "GET", "POST"]
    assert [seen.json()["content"] for seen in relay.seen if seen.method == "POST"] == ["a", "b", "c"]
    assert relay.crowded == []


@pytest.mark.parametrize(
    ("turn", "others", "order"),
    [
        ("", False, []),
        ("rrr", False, [[0, 1, 2]]),
        ("rwr", False, [[0], [1], [2]]),
        ("wwrrwrr", False, [[0], [1], [2, 3], [4], [5, 6]]),
        ("rfr", False, [[0, 1, 2]]),  # an unknown tool runs nothing
        ("rfrff", True, [[0], [1], [2], [3], [4]]),  # what others' tools do we do not know
    ],
)
def test_reads_that_stand_together_run_together_and_all_else_by_itself(
    turn: str, others: bool, order: list[list[int]]
) -> None:
    names = {"r": "check_board", "w": "agentchat_send_message", "f": "get_weather"}
    rules = Executor(None, others=print) if others else Executor(None)
    assert batches([Call(names[kind], {}) for kind in turn], rules) == order


def test_a_failed_write_does_not_stop_the_calls_after_it(either: Either, relay: FakeRelay) -> None:
    relay.override["POST", "/api/v2/messages"] = answer({"error": "No", "code": "forbidden"}, status=403)
    texts = either.executor().turn(("send_message", POST), ("nothing", {}), ("check_board", {}))
    assert [text.split()[0] for text in texts] == ["Error", "Error", "1"]


def test_many_more_reads_than_threads_are_answered_in_order(either: Either, relay: FakeRelay) -> None:
    channels = [f"channel-{number}" for number in range(30)]
    relay.override[MESSAGES] = lambda seen: answer(enveloped({"messages": [message(seen.query["channel"])]}))
    texts = either.executor().turn(*(("read_messages", {"channel": channel}) for channel in channels))
    assert [text.rsplit("\n", 1)[1] for text in texts] == [f"| {channel}" for channel in channels]


# Idempotency keys


def _keys(either: Either, relay: FakeRelay, *turns: dict[str, Any]) -> list[str]:
    """The keys that the writes of these turns carried."""
    executor = either.executor()
    for turn in turns:
        options = {"call": ("send_message", POST), **turn}
        executor.turn(options.pop("call"), **options)
    return [seen.headers["idempotency-key"] for seen in relay.seen if seen.method == "POST"]


SAME_POST = '{"content": "hello", "channel": "general"}'


def test_a_response_handled_twice_sends_the_same_key(either: Either, relay: FakeRelay) -> None:
    first, second, reordered = _keys(either, relay, {}, {}, {"call": ("send_message", SAME_POST)})
    assert first == second == reordered


def test_both_executors_derive_the_same_key(relay: FakeRelay) -> None:
    response = {
        "id": "r",
        "output": [{"type": "function_call", "call_id": "c", "name": "send_message", "arguments": POST}],
    }
    with Client(relay.url, KEY) as client:
        Executor(client).handle_openai_responses(response)
        asyncio.run(AsyncExecutor(client).handle_openai_responses(response))
    first, second = (seen.headers["idempotency-key"] for seen in relay.seen)
    assert first == second


@pytest.mark.parametrize(
    "changed",
    [
        {"response_id": "r2"},
        {"ids": "d"},
        {"call": ("send_message", {**POST, "content": "hello!"})},
        {"call": ("send_direct_message", {"target_agent": "mac-bob", "content": "hello"})},
    ],
)
def test_another_response_call_tool_or_text_gets_another_key(
    either: Either, relay: FakeRelay, changed: dict[str, Any]
) -> None:
    first, second = _keys(either, relay, {}, changed)
    assert first != second


def test_two_calls_of_one_response_get_two_keys(either: Either, relay: FakeRelay) -> None:
    either.executor().turn(("send_message", POST), ("send_message", POST))
    assert len({seen.headers["idempotency-key"] for seen in relay.seen}) == 2


@pytest.mark.parametrize("absent", [{"response_id": None}, {"response_id": ""}])
def test_without_a_response_s_id_every_write_gets_a_key_of_its_own(
    either: Either, relay: FakeRelay, absent: dict[str, Any]
) -> None:
    first, second = _keys(either, relay, absent, absent)
    assert first != second


def test_a_call_without_an_id_is_known_by_its_place(either: Either, relay: FakeRelay) -> None:
    first, second = _keys(either, relay, {"ids": None}, {"ids": None})
    assert first == second


def test_execute_gives_every_write_a_key_of_its_own_and_reads_none(either: Either, relay: FakeRelay) -> None:
    executor = either.executor()
    for _ in range(2):
        executor.execute("send_message", POST)
    executor.execute("check_board")
    keys = [seen.headers.get("idempotency-key") for seen in relay.seen]
    assert keys[2] is None
    assert None not in keys[:2] and keys[0] != keys[1]


# Tools that are not ours


def _others(either: Either, called: list[Any]) -> Any:
    def run(name: str, arguments: dict[str, Any]) -> Any:
        called.append((name, arguments))
        return {"sunny": True} if name == "get_weather" else "done"

    async def run_soon(name: str, arguments: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        return run(name, arguments)

    return run_soon if either.asynchronous else run


def test_foreign_tools_go_to_others_and_ours_do_not(either: Either, relay: FakeRelay) -> None:
    called: list[Any] = []
    executor = either.executor(others=_others(either, called))
    texts = executor.turn(("get_weather", '{"city": "Wien"}'), ("check_board", None), ("set_card", {}))
    assert texts[0] == "{'sunny': True}"
    assert texts[1].startswith("1 channel.")
    assert texts[2] == "done"
    assert called == [("get_weather", {"city": "Wien"}), ("set_card", {})]
    assert [seen.path for seen in relay.seen] == ["/api/v2/board"]


def test_others_are_not_called_with_broken_arguments(either: Either) -> None:
    called: list[Any] = []
    texts = either.executor(others=_others(either, called)).turn(("get_weather", "{"), ("check_board", {"x": 1}))
    assert "no valid JSON" in texts[0]
    assert "there is no argument 'x'" in texts[1]
    assert called == []


def test_an_error_of_ours_from_others_becomes_a_failed_result(either: Either) -> None:
    def run(name: str, arguments: dict[str, Any]) -> str:
        raise Conflict("Taken.")

    result = either.executor(others=run).execute("book_room", {})
    assert (result.ok, result.code, result.text) == (False, "conflict", "Error (conflict): Taken.")


def test_any_other_failure_of_others_is_logged_and_the_turn_goes_on(
    either: Either, relay: FakeRelay, caplog: pytest.LogCaptureFixture
) -> None:
    def run(name: str, arguments: dict[str, Any]) -> str:
        raise KeyError("a secret")

    texts = either.executor(others=run).turn(("send_message", POST), ("book_room", {}), ("send_message", POST))
    assert texts[1] == "Error (internal_error): book_room failed with KeyError."
    assert len(relay.seen) == 2
    assert "book_room" in caplog.text and "KeyError" in caplog.text


async def test_a_plain_function_for_foreign_tools_does_not_block_the_loop(relay: FakeRelay) -> None:
    released = threading.Event()

    async def release() -> None:
        released.set()

    with Client(relay.url, KEY) as client:
        executor = AsyncExecutor(client, others=lambda name, arguments: released.wait(10))
        result, _ = await asyncio.gather(executor.execute("get_weather"), release())
    assert result.text == "True"


# Which client


async def test_the_async_executor_calls_a_sync_client_in_threads(relay: FakeRelay) -> None:
    released = threading.Event()

    async def release() -> None:
        released.set()

    def held(seen: Seen) -> bytes:
        waited = released.wait(10)
        return answer(enveloped({"channels": []})) if waited else answer({"error": "blocked"}, status=500)

    relay.override["GET", "/api/v2/board"] = held
    with Client(relay.url, KEY, retries=0) as client:
        executor = AsyncExecutor(client)
        result, _ = await asyncio.gather(executor.execute("check_board"), release())
        assert result.text == "0 channels."
        sent = await executor.execute("send_message", POST)
        assert sent.ok
        refused = await executor.execute("set_card", {})
        assert not refused.ok


def test_a_cancelled_call_of_a_sync_client_does_not_hold_up_the_end_of_the_program(relay: FakeRelay) -> None:
    asked, over = threading.Event(), threading.Event()
    in_time: list[bool] = []
    answered = threading.Event()

    def held(seen: Seen) -> bytes:
        asked.set()
        in_time.append(over.wait(10))
        answered.set()
        return answer(enveloped({"channels": []}))

    async def cancelled(client: Client) -> None:
        task = asyncio.create_task(AsyncExecutor(client).execute("check_board"))
        await asyncio.to_thread(asked.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    relay.override["GET", "/api/v2/board"] = held
    with Client(relay.url, KEY, retries=0) as client:
        asyncio.run(cancelled(client))
        over.set()
        assert answered.wait(10)
    assert in_time == [True]


async def test_the_reads_of_one_turn_run_in_so_many_threads_at_most() -> None:
    full, released = threading.Barrier(33), threading.Event()

    class Held:
        def check_board(self) -> Any:
            if not released.is_set():
                full.wait(10)
            released.wait(10)
            return {"channels": []}

    calls = [{"type": "function_call", "call_id": f"c{n}", "name": "check_board", "arguments": {}} for n in range(40)]
    turn = asyncio.create_task(AsyncExecutor(Held()).handle_openai_responses({"id": "r", "output": calls}))
    await asyncio.to_thread(full.wait, 10)
    assert sum(thread.name == "agentchat-call" for thread in threading.enumerate()) == 32
    released.set()
    assert {result["output"] for result in await turn} == {"0 channels."}


class Duck:
    """An object with async methods of the contract's names, and nothing else."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    async def check_board(self) -> Any:
        return {"channels": []}

    async def send_message(self, **arguments: Any) -> Any:
        self.sent.append(arguments)
        return {"message": message()}

    def list_channels(self) -> Any:
        """A plain method that returns an awaitable."""
        return self.check_board()


async def test_the_async_executor_takes_any_object_with_async_methods() -> None:
    duck = Duck()
    executor = AsyncExecutor(duck)
    assert str(await executor.execute("check_board")) == "0 channels."
    assert str(await executor.execute("list_channels")) == "0 joined channels."
    call = {"type": "function_call", "call_id": "c", "name": "send_message", "arguments": POST}
    [sent] = await executor.handle_openai_responses({"id": "r", "output": [call]})
    assert sent["output"].startswith("Sent as message")
    assert duck.sent == [POST]


async def test_the_sync_executor_refuses_the_async_client(relay: FakeRelay) -> None:
    async with AsyncClient(relay.url, KEY) as client:
        with pytest.raises(InvalidArguments, match="AsyncExecutor"):
            Executor(client)


def test_the_sync_executor_refuses_any_other_async_client_too() -> None:
    """What nobody awaited was not sent, so it must not be reported as sent."""
    with pytest.raises(InvalidArguments, match="AsyncExecutor"):
        Executor(Duck()).execute("send_message", POST)


# Executors that make their own client


@pytest.mark.parametrize(
    "make",
    [
        lambda url: AgentChatExecutor(base_url=url, api_key=KEY),
        lambda url: AgentChatExecutor(base_url=url + "/", derived_key=KEY),
        lambda url: AgentChatExecutor(url, KEY),
        lambda url: AgentChatExecutor(url, KEY, agent="mac-ann", preset="core", max_chars=1000),
    ],
)
def test_an_executor_can_be_made_from_url_and_key(relay: FakeRelay, make: Any) -> None:
    executor = make(relay.url)
    assert str(executor.execute("agentchat_check_board", {})).startswith("1 channel.")
    assert relay.seen[0].headers["x-agent-api-key"] == KEY
    executor.client.close()


@pytest.mark.parametrize("key", [{}, {"api_key": None}, {"api_key": ""}, {"derived_key": ""}])
def test_an_executor_without_a_key_says_how_to_get_one(key: dict[str, Any]) -> None:
    with pytest.raises(NotConfigured, match=r"api_key=[^\n]*AGENTCHAT_KEY"):
        AgentChatExecutor("http://127.0.0.1:1", **key)


def test_executors_take_a_directory_in_place_of_a_relay_and_need_no_key_for_it(tmp_path: Path) -> None:
    url = f"local:{tmp_path}"

    async def answered() -> str:
        async with AsyncClient(url, agent="mac-ann") as client:
            return (await AsyncExecutor(client).execute("agentchat_check_board")).text

    with AgentChatExecutor(f" {url}", agent="mac-bob") as executor:
        assert executor.execute("agentchat_send_message", POST).ok
    assert "\n| hello" in asyncio.run(answered())
    with pytest.raises(NotConfigured, match="No agent name"):
        AgentChatExecutor(url)


class Registry(FakeRelay):
    """Lets in the keys whose hashes were registered."""

    def __init__(self) -> None:
        self.hashes: set[str] = set()
        super().__init__()

    def reply(self, seen: Seen) -> bytes:
        if seen.path == "/api/v2/register":
            self.hashes.add(seen.json()["derived_key_hash"])
        elif hashlib.sha256(seen.headers.get("x-agent-api-key", "").encode()).hexdigest() not in self.hashes:
            return answer({"error": "Unknown key", "code": "unauthorized"}, status=401)
        return super().reply(seen)


def _machine(home: Path, pem: bool) -> str:
    """A machine's key file in one of the two forms."""
    identity.init_machine(str(home), "mac", None)
    path = home / "machine.key"
    if pem:
        private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text()))
        path.write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    return str(path)


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("pem", [False, True], ids=["hex", "pem"])
def test_an_executor_with_a_machine_key_registers_once_and_keeps_the_agents_key(
    tmp_path: Path, pem: bool, slash: str
) -> None:
    path = _machine(tmp_path, pem)
    with Registry() as relay:
        for _ in range(2):
            executor = AgentChatExecutor.from_machine_key(relay.url + slash, "mac", "mac-demo", path, preset="core")
            result = executor.execute("check_board")
            executor.client.close()
            assert result.ok, result
    assert [seen.target for seen in relay.seen] == ["/api/v2/register", "/api/v2/board", "/api/v2/board"]
    assert {name: relay.seen[0].json()[name] for name in ("machine_name", "agent_name")} == {
        "machine_name": "mac",
        "agent_name": "mac-demo",
    }
    cached = (tmp_path / "agents" / "mac-demo.key").read_text()
    assert [seen.headers["x-agent-api-key"] for seen in relay.seen[1:]] == [cached, cached]


def test_a_registration_the_relay_refuses_is_a_failed_result(tmp_path: Path) -> None:
    with FakeRelay() as relay:
        relay.override["POST", "/api/v2/register"] = answer({"error": "Registration failed"}, status=403)
        executor = AgentChatExecutor.from_machine_key(relay.url, "mac", "mac-demo", _machine(tmp_path, pem=False))
        result = executor.execute("check_board")
    assert (result.ok, result.code) == (False, "forbidden")
    assert "agentchat admin machine add mac" in result.text


@pytest.mark.parametrize("content", [None, "not a key"])
def test_a_machine_key_that_is_missing_or_broken_says_so(tmp_path: Path, relay: FakeRelay, content: str | None) -> None:
    path = tmp_path / "machine.key"
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    result = AgentChatExecutor.from_machine_key(relay.url, "mac", "mac-demo", str(path)).execute("check_board")
    assert (result.ok, result.code) == (False, "not_configured")
    assert relay.seen == []
