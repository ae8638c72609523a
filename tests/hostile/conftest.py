"""One relay full of hostile texts for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.relay.conftest import _engine  # noqa: F401 - --engine counts here as well

from .world import World, hostile_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with hostile_world(str(tmp_path_factory.mktemp("victim"))) as made:
        yield made
