"""What stands for a call exactly: its tool and its arguments, as one hash. Whoever asked for approval compares it with
what it is about to call, and whoever decides with what was shown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical(arguments: Mapping[str, Any]) -> str:
    """The arguments as JSON in one form: members sorted by name, no blanks, nothing escaped that need not be."""
    return json.dumps(arguments, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def call_hash(tool_name: str, arguments: Mapping[str, Any]) -> str:
    """SHA-256 of both as canonical JSON, in hex digits."""
    return hashlib.sha256(canonical({"arguments": arguments, "tool_name": tool_name}).encode()).hexdigest()
