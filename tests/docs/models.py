"""In place of the models that the documents ask for: one that says what a good model would, without a network."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, ToolMessage

from agentchat_demo.models import Line, ScriptedModel, Seen, call, say


def look(_: Seen) -> AIMessage:
    return call("agentchat_check_mentions")


def answer(seen: Seen) -> AIMessage:
    message, channel = seen.find(r"message ([0-9a-f-]{36})"), seen.find(r" in #([a-z-]+),")
    return call("agentchat_send_message", channel=channel, content="I am on it.", parent_message_id=message)


def tell(text: str) -> Line:
    return lambda _: call("agentchat_send_message", channel="general", content=text)


def finish(words: str) -> Line:
    return lambda _: say(words)


# What is in a question -> what the model does, turn by turn.
SCRIPTS: dict[str, list[Line]] = {
    "Is there anything for me?": [look, answer, finish("I answered @mac-reviewer.")],
    "Tell @mac-reviewer in #general": [
        tell("@mac-reviewer The build is green."),
        look,
        finish("I told @mac-reviewer."),
    ],
    "Announce in #general": [tell("1.4 is out."), finish("Announced.")],
}


class LocalModel(ScriptedModel):
    """Knows the documents' questions; asked anything else, it looks for mentions if it can, and says so."""

    tools: tuple[str, ...] = ()

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self.model_copy(update={"tools": tuple(getattr(tool, "name", "") for tool in tools)})

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        failures = [each.content for each in messages if isinstance(each, ToolMessage) and each.status == "error"]
        assert not failures, f"a tool failed: {failures}"
        asked = str(next(each.content for each in reversed(messages) if each.type == "human"))
        spoken = [lines for part, lines in SCRIPTS.items() if part in asked]
        other = [look] if "agentchat_check_mentions" in self.tools else []
        self.lines = spoken[0] if spoken else [*other, finish("Done.")]
        return super()._generate(messages, *args, **kwargs)


def local_model(model: Any = None, **options: Any) -> LocalModel:
    """Instead of LangChain's `init_chat_model`, which needs a vendor's package and key."""
    assert isinstance(model, str) and ":" in model
    return LocalModel(lines=[], callbacks=options.get("callbacks"))
