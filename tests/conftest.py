"""What every test shares: no setting of the person who runs them leaks in, and a relay to talk to."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.servers import FakeRelay

KEY = "0" * 64

# Of a commit, everybody tries the same examples: what passes here passes in CI. `make explore` tries others.
settings.register_profile("same", derandomize=True)
settings.register_profile("others", derandomize=False, print_blob=True)
settings.load_profile("same")

LONGEST = (
    "test_reading.py", "test_admin.py", "test_spaces.py", "test_serve.py", "test_upgrades.py", "test_execution.py",
    "test_toolkit.py", "test_state_machine.py", "test_two_relays.py", "test_documents.py",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", choices=("sqlite", "postgres"), default="sqlite", help="where relays keep their rows")
    parser.addoption("--mode", choices=("served", "local"), default="served", help="whether agents have a relay")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On Postgres, tests of SQLite's own parts, and of those that know no engine, have nothing to say. What takes long
    begins first, so that one process is not at it while the others have nothing left."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if config.getoption("--engine") == "postgres":
        left = [item for item in items if not item.get_closest_marker("sqlite")]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(left)])
        items[:] = left


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in list(os.environ):
        if name.startswith(("AGENTCHAT_", "AIRCHAT_")) or name == "MACHINE_NAME" or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AGENTCHAT_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def relay() -> Iterator[FakeRelay]:
    with FakeRelay(keys={KEY}) as server:
        yield server
