"""What every tool does: one operation of the contract, as a LangChain tool.

A failure reaches the model as a failure, one sentence with `status="error"`, and the run goes on. What other agents
wrote arrives fenced; the relay's whole answer is the artifact.
"""

from base64 import b64encode
from collections.abc import Mapping
from functools import partial, wraps
from typing import Any, ClassVar, Self

from langchain_core.runnables import run_in_executor
from langchain_core.tools import BaseTool, ToolException
from pydantic import Field, ValidationError

from agentchat import Client, text
from agentchat._arguments import nearest
from agentchat._operation import Operation
from agentchat.errors import AgentChatError, NetworkError, Unavailable
from agentchat.schema import PREFIX, for_models

from .arguments import args_schema
from .colours import acall, call
from .once import next_key, running_at

text.load()

_LARGEST_ARTIFACT = 1_000_000
_MOST_PROBLEMS = 5


class AgentChatTool(BaseTool):
    """An operation as a tool. Each subclass names its operation, and nothing else.

    SendMessageTool(client=client)  # a Client or an AsyncClient; both ways of calling are native
    SendMessageTool()  # the client of the environment: AGENTCHAT_URL, AGENTCHAT_KEY
    """

    operation: ClassVar[Operation[..., Any]]
    default_prefix: ClassVar[str] = PREFIX

    # Type checkers want a default; the operation's own name and text take their place.
    name: str = ""
    description: str = ""

    client: Any = Field(default=None, exclude=True, repr=False)
    max_chars: int = Field(default=text.MAX_CHARS, ge=text.FEWEST_CHARS)
    """The longest text a model gets."""
    reachable: frozenset[str] = Field(default=frozenset(), exclude=True, repr=False)
    """The operations the model can call for what was left out."""
    prefix: str = Field(default=PREFIX, exclude=True, repr=False)
    """What stands before the operation in the tool's name, here and in hints."""
    moves_cursor: bool = Field(default=True, repr=False)
    """Whether reading a channel counts as having read it."""
    raise_on_transport_error: bool = False
    """Whether an unreachable relay ends the run, instead of becoming a message to the model."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if "operation" in vars(cls):
            cls.__doc__ = cls.__doc__ or cls.operation.description
        if _definer(cls, "_run") < _definer(cls, "_arun"):  # what `_run` refuses, `ainvoke` must not let through
            _await_its_run(cls)

    def __init__(self, client: Any = None, **options: Any) -> None:
        if unknown := options.keys() - type(self).model_fields.keys():
            raise TypeError(f"{type(self).__name__} has no option {min(unknown)!r}")
        operation = type(self).operation
        client = Client.from_env() if client is None else client
        relay = {"agentchat_relay": client.url} if isinstance(getattr(client, "url", None), str) else {}
        prefix = options.setdefault("prefix", type(self).default_prefix)
        standard: dict[str, Any] = {
            "name": prefix + operation.name,
            "description": operation.description,
            "args_schema": args_schema(operation),
            "response_format": "content_and_artifact",
            "handle_tool_error": True,
            "handle_validation_error": partial(argument_problems, operation),
        }
        for name in ("name", "description", "args_schema", "handle_tool_error", "handle_validation_error"):
            standard[name] = type(self).model_fields[name].default or standard[name]  # a subclass may say otherwise
        metadata = {"agentchat_op": operation.name, **relay, **(options.pop("metadata", None) or {})}
        super().__init__(client=client, **{**standard, **options}, metadata=metadata)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A copy uses the same client, which cannot be copied."""
        return super().__deepcopy__({**(memo or {}), id(self.client): self.client})

    def run(self, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        """As every tool's, and every write in it takes effect once, however often LangGraph repeats the call."""
        with running_at(kwargs.get("config"), kwargs.get("tool_call_id")):
            return super().run(tool_input, *args, **kwargs)

    async def arun(self, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        """As `run`."""
        with running_at(kwargs.get("config"), kwargs.get("tool_call_id")):
            return await super().arun(tool_input, *args, **kwargs)

    def _to_args_and_kwargs(self, tool_input: Any, tool_call_id: str | None) -> Any:
        """As every tool's, and what is given to a tool that takes nothing is refused, where LangChain drops it."""
        schema: Any = self.args_schema
        if isinstance(tool_input, dict) and getattr(schema, "model_fields", None) == {}:
            schema.model_validate(tool_input)
        return super()._to_args_and_kwargs(tool_input, tool_call_id)

    def _run(self, *args: Any, **arguments: Any) -> tuple[str, Any]:
        try:
            prepared, key = self._prepared(args, arguments)
            return self._shown(call(self.client, self.operation, prepared, key), prepared)
        except AgentChatError as error:
            raise self._failure(error) from error

    async def _arun(self, *args: Any, **arguments: Any) -> tuple[str, Any]:
        try:
            prepared, key = self._prepared(args, arguments)
            return self._shown(await acall(self.client, self.operation, prepared, key), prepared)
        except AgentChatError as error:
            raise self._failure(error) from error

    def _prepared(self, args: tuple[Any, ...], arguments: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        """The arguments, with what tools send by themselves, and the idempotency key of what changes something."""
        names = (parameter.name for parameter in for_models(self.operation))
        given = {
            **dict(zip(names, args, strict=False)),
            **arguments,
        }  # a lone text is LangChain's way to give the first
        own = self.operation.set_by_tools if self.moves_cursor else {}
        key = next_key(self.operation.name) if self.operation.writes or own else None
        asked = {name: value for name, value in {**given, **own}.items() if value is not None}
        return text.fitting(self.operation, asked, self.max_chars), key

    def _shown(self, data: Any, arguments: Mapping[str, Any]) -> tuple[str, Any]:
        shown = text.render(
            self.operation,
            data,
            max_chars=self.max_chars,
            reachable=self.reachable,
            prefix=self.prefix,
            arguments=arguments,
        )
        return shown, as_artifact(data)

    def _failure(self, error: AgentChatError) -> Exception:
        if self.raise_on_transport_error and isinstance(error, NetworkError | Unavailable):
            return error
        return ToolException(text.explain(error, self.max_chars))


def _definer(tool: type, method: str) -> int:
    """Where a class gets a method from: 0 is itself, higher numbers are its ancestors."""
    return next(place for place, one in enumerate(tool.__mro__) if method in vars(one))


def _await_its_run(tool: Any) -> None:
    """Give a class an `_arun` that calls its `_run` in a thread, with what LangChain gives that."""
    run = tool._run

    @wraps(run)
    async def _arun(self: AgentChatTool, *args: Any, **arguments: Any) -> Any:
        if (manager := arguments.get("run_manager")) is not None:
            arguments["run_manager"] = manager.get_sync()
        return await run_in_executor(None, run, self, *args, **arguments)

    tool._arun = _arun


def as_artifact(data: Any) -> Any:
    """The relay's answer as JSON. A file's content becomes text, or base64; a huge one stays out of checkpoints."""
    content = data.get("content") if isinstance(data, Mapping) else None
    if not isinstance(content, bytes):
        return data
    file = {**data, "size": len(content), "content": None, "encoding": None}
    if len(content) <= _LARGEST_ARTIFACT:
        try:
            file |= {"content": content.decode(), "encoding": "utf-8"}
        except UnicodeDecodeError:
            file |= {"content": b64encode(content).decode(), "encoding": "base64"}
    return file


def argument_problems(operation: Operation[..., Any], error: ValidationError) -> str:
    """What is wrong with a model's arguments, as `field: reason` per line; values are not repeated."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [_problem(operation, problem) for problem in problems[:_MOST_PROBLEMS]]
    if left_out := len(problems) - len(lines):
        lines.append(f"({left_out} further problems)")
    return "\n".join(["Error (bad_request): change these arguments and call again.", *lines])


def _problem(operation: Operation[..., Any], problem: Mapping[str, Any]) -> str:
    name, *inner = (str(part) for part in problem["loc"] or ("arguments",))
    parameter = operation.parameters.get(name)
    form = parameter and (parameter.item_form if inner else parameter.form)
    if problem["type"] == "extra_forbidden":
        names = [parameter.name for parameter in for_models(operation)]
        near = nearest(name, names)
        hint = f"; did you mean {near}?" if near else "" if names else "; it takes none"
        reason = f"there is no such argument{hint}"
    elif problem["type"] == "string_pattern_mismatch" and form:
        reason = f"must be {form.words}"
    else:
        reason = str(problem["msg"])
    where = text.word(name, 60) + "".join(f"[{text.word(part, 20)}]" for part in inner)
    return f"{where}: {reason}"
