"""LangChain's own tests for tools, unchanged, over every tool and a real relay."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from agentchat import Client
from agentchat.contract import OPERATIONS
from agentchat_relay.embedded import Embedded
from langchain_agentchat.tools import TOOLS
from tests.langchain_agentchat.conftest import Colour, Scene, make_scene


@pytest.fixture(scope="module")
def shared(live: Embedded) -> Scene:
    """One scene for all: every call in it can be repeated."""
    return make_scene(live)


class _Tool:
    """What the standard tests must be told about a tool."""

    operation: str
    scene: Scene
    client: Client

    @pytest.fixture(autouse=True)
    def _on_the_scene(self, shared: Scene) -> Any:
        self.scene = shared
        with shared.client() as self.client:
            yield

    @property
    def tool_constructor(self) -> type[BaseTool]:
        return TOOLS[self.operation]

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {"client": self.client}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return self.scene.arguments()[self.operation]


class _Unit(_Tool):
    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        environ = {"AGENTCHAT_URL": self.scene.relay.url, "AGENTCHAT_KEY": self.scene.key}
        relay = {"agentchat_op": self.operation, "agentchat_relay": self.scene.relay.url}
        return environ, {}, {"metadata": relay}


def _classes(kind: str, *bases: type) -> dict[str, type]:
    """A test class of its own for each tool."""
    return {
        f"Test{tool.__name__}{kind}": type(
            f"Test{tool.__name__}{kind}", bases, {"operation": name, "__module__": __name__}
        )
        for name, tool in TOOLS.items()
    }


globals().update(_classes("Unit", _Unit, ToolsUnitTests))
globals().update(_classes("Integration", _Tool, ToolsIntegrationTests))


def test_every_operation_has_a_tool_that_is_tested_here():
    for name in OPERATIONS:
        for kind in ("Unit", "Integration"):
            tested = globals()[f"Test{TOOLS[name].__name__}{kind}"]
            assert tested.operation == name


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_arguments_they_are_called_with_really_work(colour: Colour, shared: Scene, name: str):
    """The standard tests would be content with a failure that is told to the model."""
    tool = TOOLS[name](colour.of(shared))
    message = colour.call(tool, shared.arguments()[name])
    assert message.status == "success", message.content
