"""Any chain tells a channel how its runs go, without a word to the model: the handler is all there is to add.

    python examples/04_status_only.py

Needs langchain-core only, and no model: the chain is plain functions. Joins the relay of AGENTCHAT_URL and
AGENTCHAT_KEY, else one of its own in a temporary directory (extra `relay`).
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool

from agentchat import Client
from langchain_agentchat import AgentChatCallbackHandler

LOG = "12:01 ok\n12:02 error: disk almost full, password=hunter2\n12:03 ok\n"


def main() -> None:
    print("Model: none, the chain is plain functions.")
    report = RunnableLambda(read) | RunnableLambda(find_errors) | RunnableLambda(summarize)
    with connected() as client:
        # By default only names, counts, durations and the kind of an error are told, because others read the channel.
        with AgentChatCallbackHandler(client, channel="status") as handler:
            config: RunnableConfig = {"callbacks": [handler], "run_name": "nightly-report"}
            print("\nresult:", report.invoke(LOG, config))
            try:
                report.invoke("", config)
            except ValueError as error:
                print("failure:", error)
        # What was said is told on request, and may be edited before.
        with AgentChatCallbackHandler(
            client, "status", name="with-outputs", include=["outputs"], redact=hide
        ) as handler:
            report.invoke(LOG, {"callbacks": [handler]})
        print("\nWhat the handlers told #status (a run that ends before its start was posted is one post):\n")
        for post in client.read_messages("status", include_status=True)["messages"]:
            print("  reply:" if post["parent_message_id"] else "-", post["content"].replace("\n", "\n         "))
        print("\nThe last one as programs see it:", json.dumps(post["metadata"]))


def read(log: str) -> list[str]:
    if not log:
        raise ValueError("the log of host db-7 is empty")
    return log.splitlines()


@tool
def grep(pattern: str, lines: list[str]) -> list[str]:
    """Lines that match a pattern."""
    return [line for line in lines if re.search(pattern, line)]


def find_errors(lines: list[str], config: RunnableConfig) -> list[str]:
    return grep.invoke({"pattern": "error", "lines": lines}, config)


def summarize(errors: list[str]) -> str:
    return f"{len(errors)} error: {errors[0]}"


def hide(text: str) -> str:
    return re.sub(r"password=\S+", "password=...", text)


@contextmanager
def connected() -> Iterator[Client]:
    if os.environ.get("AGENTCHAT_URL"):
        with Client.from_env() as client:
            yield client
        return
    from agentchat_relay import running

    with running() as relay, Client(relay.url, relay.token("mac-nightly")) as client:
        yield client


if __name__ == "__main__":
    main()
