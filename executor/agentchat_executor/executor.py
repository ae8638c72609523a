"""The synchronous executor: a tool's name and arguments in, text out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self, Unpack

from agentchat._operation import AsyncCaller
from agentchat.client import Client
from agentchat.errors import AgentChatError, InvalidArguments, NotConfigured
from agentchat.settings import GET_A_KEY, Credential, checked_url, is_local

from . import vendors
from .execution import Call, Planned, Result, RuleOptions, Rules, batches

_PARALLEL_READS = 8
_CO_COROUTINE = 0x80


class Executor(Rules):
    """Runs a model's tool calls. A model's mistake never raises: it becomes a result the model can read.

        executor = Executor(Client.from_env())
        tools = executor.tools("openai")
        messages += executor.handle_openai_chat(completion)

    Options: `preset`, `include`, `exclude`, `prefix`, `aliases`, `max_chars`, and `others`, a function
    `(name, arguments) -> text` that runs the tools which are not ours.
    """

    def __init__(self, client: Any, **options: Unpack[RuleOptions]) -> None:
        super().__init__(**options)
        if isinstance(client, AsyncCaller) or any(_is_async(getattr(client, name, None)) for name in self.names):
            raise InvalidArguments("Executor takes a sync client; AsyncExecutor takes this one.")
        if _is_async(self.others):
            raise InvalidArguments("Executor takes a plain function as others; AsyncExecutor takes this one.")
        self.client = client

    def execute(self, name: str, arguments: object = None) -> Result:
        """Run one tool call. `arguments` is an object, or JSON text as some vendors send it."""
        return self._run(Call(name, arguments))

    def handle_openai_chat(self, response: Any) -> list[vendors.Message]:
        """Messages to append after the assistant's, given a Chat Completions response (or its message)."""
        return self._handle(vendors.OPENAI_CHAT, response)

    def handle_openai_responses(self, response: Any) -> list[vendors.Message]:
        """Items to append after the response's `output`, given a Responses API response."""
        return self._handle(vendors.OPENAI_RESPONSES, response)

    def handle_anthropic(self, response: Any) -> list[vendors.Message]:
        """The user message to append after the assistant's content, given a Messages response."""
        return self._handle(vendors.ANTHROPIC, response)

    def handle_gemini(self, response: Any) -> list[vendors.Message]:
        """The content to append after the model's, given a GenerateContent response (or its content)."""
        return self._handle(vendors.GEMINI, response)

    def _handle(self, vendor: vendors.Vendor, response: Any) -> list[vendors.Message]:
        calls = vendor.calls(response)
        return vendor.results(calls, self._run_all(calls))

    def _run_all(self, calls: Sequence[Call]) -> list[Result]:
        results: dict[int, Result] = {}
        for batch in batches(calls, self):
            if len(batch) == 1:
                results[batch[0]] = self._run(calls[batch[0]])
                continue
            from concurrent.futures import ThreadPoolExecutor
            from contextvars import copy_context

            with ThreadPoolExecutor(min(len(batch), _PARALLEL_READS)) as pool:
                running = {at: pool.submit(copy_context().run, self._run, calls[at]) for at in batch}
            results.update({at: future.result() for at, future in running.items()})
        return [results[position] for position in range(len(calls))]

    def _run(self, call: Call) -> Result:
        planned = self.plan(call)
        if isinstance(planned, Result):
            return planned
        try:
            if not isinstance(planned, Planned):
                return Result(True, str(planned()))
            return self.done(planned, self.method(self.client, planned)(**planned.arguments))
        except AgentChatError as error:
            return self.failed(error)
        except Exception as error:
            if isinstance(planned, Planned):
                raise
            return self.broken(call.name, error)


def _is_async(function: object) -> bool:
    """Whether it is a coroutine function; asked without `inspect`, which is slow to import."""
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & _CO_COROUTINE)


class AgentChatExecutor(Executor):
    """An executor that makes its own client.

    executor = AgentChatExecutor(base_url="http://127.0.0.1:8790", api_key="KEY")
    result = executor.execute("agentchat_check_board", {})
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | Credential | None = None,
        *,
        derived_key: str | None = None,
        agent: str | None = None,
        **options: Unpack[RuleOptions],
    ) -> None:
        key = api_key or derived_key
        if not key and not is_local(checked_url(base_url)):  # in local mode there are no keys
            raise NotConfigured(f"AgentChatExecutor needs api_key= (or derived_key=). {GET_A_KEY}")
        super().__init__(Client(base_url, key, agent=agent), **options)

    def close(self) -> None:
        """Close the client's idle connections."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def from_machine_key(
        cls,
        base_url: str,
        machine_name: str,
        agent_name: str,
        private_key_path: str | os.PathLike[str] = "~/.agentchat/machine.key",
        **options: Unpack[RuleOptions],
    ) -> Self:
        """An executor for an agent of this machine, registered on first use; needs the extra `keys`.

        The agent's key is cached beside the machine's, in `agents/<agent_name>.key`.
        """
        from agentchat.identity import MachineCredential

        path = os.path.expanduser(private_key_path)
        credential = MachineCredential(
            os.path.dirname(os.path.abspath(path)), base_url, machine_name, agent_name, private_key_path=path
        )
        return cls(base_url, credential, agent=agent_name, **options)
