"""What our clients cost over the libraries they stand on, per call: CPU and wall time, all in one run.

    python bench/client.py [--tiny] [--json]

Sync client and executor against bare `http.client` on one keep-alive connection; async client against one bare
`httpx.AsyncClient`. The bare calls do what any caller must: encode the body, send the key, decode the answer.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

import _measure as measure
from agentchat import Client
from agentchat_executor import Executor
from langchain_agentchat import AsyncClient

TEXT = "a message of a usual length, with some words in it"
ARGUMENTS: dict[str, Any] = {"channel": "general", "content": TEXT}
HEADERS = {"content-type": "application/json", "x-agent-api-key": "k" * 64, "idempotency-key": "0" * 32}
GOALS = {"sync client": 1.15, "executor": 1.15, "async client": 1.1}


def bare_sync(url: str) -> Callable[[], Any]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)

    def call() -> Any:
        connection.request("POST", "/api/v2/messages", json.dumps(ARGUMENTS).encode(), HEADERS)
        return json.loads(connection.getresponse().read())["data"]

    return call


def bare_async(url: str) -> Callable[[], Any]:
    client = httpx.AsyncClient(base_url=url)

    async def call() -> Any:
        response = await client.post("/api/v2/messages", content=json.dumps(ARGUMENTS).encode(), headers=HEADERS)
        return response.json()["data"]

    return call


def repeated(call: Callable[[], Any]) -> Callable[[int], None]:
    def batch(calls: int) -> None:
        for _ in range(calls):
            call()

    return batch


def main() -> None:
    options = measure.options(__doc__ or "")
    rounds, calls = (2, 5) if options.tiny else (25, 400)
    loop = asyncio.new_event_loop()
    with measure.Relay() as url:
        client, other = Client(url, "k" * 64), AsyncClient(url, "k" * 64)
        executor = Executor(client)
        samples = measure.in_turns(
            {
                "control (memory)": measure.control,
                "bare http.client": repeated(bare_sync(url)),
                "sync client": repeated(lambda: client.send_message(**ARGUMENTS)),
                "executor": repeated(lambda: executor.execute("agentchat_send_message", ARGUMENTS)),
                "bare httpx": measure.on_loop(loop, bare_async(url)),
                "async client": measure.on_loop(loop, lambda: other.send_message(**ARGUMENTS)),
            },
            rounds=rounds,
            calls=calls,
        )
    bases = {"sync client": "bare http.client", "executor": "bare http.client", "async client": "bare httpx"}
    found = {name: measure.ratios(samples[name], samples[base]) for name, base in bases.items()}
    if options.json:
        figures = {
            name: {kind: measure.summary(values) for kind, values in kinds.items()} for name, kinds in found.items()
        }
        measure.printed({"ratios": figures, "goals": GOALS})
        return
    rows: list[tuple[str, ...]] = [("per call", "CPU us", "wall us", "CPU ratio", "wall ratio", "CPU goal")]
    for name, taken in samples.items():
        cpu, wall = measure.spread([sample.cpu for sample in taken]), measure.spread([sample.wall for sample in taken])
        ratio = [measure.spread(values) for values in found[name].values()] if name in found else ["", ""]
        rows.append((name, cpu, wall, *ratio, f"<= {GOALS[name]}" if name in GOALS else ""))
    measure.table(rows)


if __name__ == "__main__":
    main()
