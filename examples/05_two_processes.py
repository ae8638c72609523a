"""Two agents in two processes, each with its own key: one asks, the other does the work, shares a file and answers.

    python examples/05_two_processes.py

Needs langchain and langgraph (extra `agents`) and the relay (extra `relay`), which runs in this process, in a temporary
directory. Asks a real model if OPENAI_API_KEY is set and langchain-openai installed, else local ones with a script.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from agentchat import Client
from agentchat_relay import running
from langchain_agentchat import AgentChatToolkit

Step = Callable[[list[Any]], AIMessage]  # artifacts of the tools' results so far -> the model's next answer
REAL = "openai:gpt-5" if os.environ.get("OPENAI_API_KEY") and find_spec("langchain_openai") else None
SALES = {"January": 17, "February": 20, "March": 24}


def main() -> None:
    print(f"Model: {REAL or 'local stand-ins; for a real one, install langchain-openai and set OPENAI_API_KEY'}.\n")
    with running() as relay:
        keys = {name: relay.token(name) for name in ROLES}
        agents = [started(name, {"AGENTCHAT_URL": relay.url, "AGENTCHAT_KEY": key}) for name, key in keys.items()]
        failed = [agent.args for agent in agents if agent.wait(120)]
        with Client(relay.url, keys["mac-lead"]) as client:
            for message in client.read_messages("sales")["messages"]:
                print(f"@{message['agents']['name']}: {message['content']}\n")
            for file in client.list_files("sales")["files"]:
                print(f"{file['path']}:\n{client.download_file(file['path'])['content'].decode()}")
    if failed:
        sys.exit(f"These failed: {failed}")


def started(name: str, connection: dict[str, str]) -> subprocess.Popen[bytes]:
    """The key travels in the environment, which other users of the machine cannot read, unlike arguments."""
    return subprocess.Popen([sys.executable, __file__, name], env={**os.environ, **connection, "AGENTCHAT_AGENT": name})


# What each agent does in its own process. After the task stands the script: what a model would answer, step by step.


def lead(client: Client) -> None:
    request = {"channel": "sales", "content": "@mac-analyst please add up the first quarter and share it as a file."}
    work(
        client,
        "Ask @mac-analyst in #sales to add up the first quarter and to share it as a file.",
        lambda results: calling(agentchat_send_message=request),
        lambda results: AIMessage("Asked."),
    )
    wait_for_mention(client)
    work(
        client,
        "Check your mentions, read the file they name and mark them as read.",
        lambda results: calling(agentchat_check_mentions={}),
        lambda results: calling(
            agentchat_download_file={"path": re.search(r"\S+\.csv", results[0]["mentions"][0]["content"])[0]},
            agentchat_mark_mentions_read={"mention_ids": [results[0]["mentions"][0]["mention_id"]]},
        ),
        lambda results: AIMessage("Read."),
    )


def analyst(client: Client) -> None:
    wait_for_mention(client)
    table = "".join(f"{month},{amount}\n" for month, amount in {**SALES, "Total": sum(SALES.values())}.items())
    work(
        client,
        f"Check your mentions and do what they ask with these sales: {SALES}. Mention who asked, and the file's path.",
        lambda results: calling(agentchat_check_mentions={}),
        lambda results: calling(
            agentchat_upload_file={"channel": "sales", "filename": "quarter.csv", "content": table},
            agentchat_mark_mentions_read={"mention_ids": [results[0]["mentions"][0]["mention_id"]]},
        ),
        lambda results: calling(
            agentchat_send_message={
                "channel": "sales",
                "content": f"@mac-lead {sum(SALES.values())} in all, see {results[1]['file']['path']} for the months.",
                "parent_message_id": results[0]["mentions"][0]["message_id"],
            }
        ),
        lambda results: AIMessage("Answered."),
    )


ROLES = {"mac-lead": lead, "mac-analyst": analyst}


def wait_for_mention(client: Client) -> None:
    """Asking costs the relay little; the model is not asked before there is something to do."""
    give_up = time.monotonic() + 60
    while not client.check_mentions(limit=1)["mentions"]:
        if time.monotonic() > give_up:
            sys.exit("Nobody mentioned this agent for a minute.")
        time.sleep(0.1)


def work(client: Client, task: str, *script: Step) -> None:
    """One run of an agent that has the tools."""
    agent = create_agent(REAL or ScriptedModel(script=list(script)), AgentChatToolkit(client).get_tools())
    agent.invoke({"messages": [{"role": "user", "content": task}]})


class ScriptedModel(BaseChatModel):
    script: list[Any]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        turn = sum(isinstance(message, AIMessage) for message in messages)
        results = [message.artifact for message in messages if isinstance(message, ToolMessage)]
        return ChatResult(generations=[ChatGeneration(message=self.script[turn](results))])


def calling(**calls: dict[str, Any]) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": name} for name, args in calls.items()])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        with Client.from_env() as client:
            ROLES[sys.argv[1]](client)
    else:
        main()
