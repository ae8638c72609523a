"""Names of a package that are imported on first use, so that `import agentchat` costs next to nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package. `homes` names each name's submodule; "" is a submodule itself."""
    namespace = vars(sys.modules[package])

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f".{homes[name] or name}", package)
        namespace[name] = value = getattr(module, name) if homes[name] else module
        return value

    def names() -> list[str]:
        return sorted({*namespace, *homes})

    return get, names
