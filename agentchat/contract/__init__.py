"""Every operation of the relay, declared once. Read this folder first.

Both clients, the argument checks, the JSON schemas, the executor, the command line and the relay's routes follow from
these declarations. A parameter's text is what people and models read; the marks beside it are enforced. GETs travel as
a query, everything else as a JSON body; names in braces are part of the path.
"""

from __future__ import annotations

from typing import Any

from .._operation import Declared, Operation
from ._agents import Admission, AgentOperations
from ._approvals import LONGEST_ARGUMENTS, ApprovalOperations
from ._delivery import DeliveryOperations
from ._forms import LONGEST_SCOPE, MOST_PLACES, SCOPE_FORM, Id, Name, Time
from ._interrupts import InterruptOperations
from ._locks import LockName, LockOperations
from ._mail import MailOperations
from ._messages import MessageOperations
from ._tasks import MOST_WORK, MOST_WORK_MENTIONS, TaskOperations

__all__ = [
    "LONGEST_ARGUMENTS",
    "LONGEST_SCOPE",
    "MOST_PLACES",
    "MOST_WORK",
    "MOST_WORK_MENTIONS",
    "OPERATIONS",
    "PRESETS",
    "SCOPE_FORM",
    "SHORT_CHANNELS",
    "STANDARD",
    "Admission",
    "Contract",
    "Id",
    "LockName",
    "Name",
    "Time",
]


class Contract(
    MessageOperations, MailOperations, DeliveryOperations, TaskOperations, LockOperations, InterruptOperations,
    ApprovalOperations, AgentOperations,
):  # fmt: skip
    """What an agent with a key can do."""


def _declared_names(owner: type) -> tuple[str, ...]:
    return tuple(name for name, entry in vars(owner).items() if isinstance(entry, Declared))


def _declared(*owners: type) -> dict[str, Operation[..., Any]]:
    return {
        name: entry.operation for owner in owners for name, entry in vars(owner).items() if isinstance(entry, Declared)
    }


OPERATIONS = _declared(*Contract.__bases__)

# Channels between relays carry less: characters of a message's content, and of its metadata as JSON.
SHORT_CHANNELS = {"gossip-": (500, 1024), "shared-": (2000, 1024)}

# Tool presets (DECISIONS "Tools"). Later operations enter neither, but for the inbox, which takes the place of mentions
# in `core`; `all` is every operation.
STANDARD = (
    "check_board", "list_channels", "read_messages", "send_message", "search_messages", "check_mentions",
    "mark_mentions_read", "send_direct_message", "upload_file", "download_file",
)  # fmt: skip
PRESETS: dict[str, tuple[str, ...]] = {
    "core": (*STANDARD[:5], "check_inbox", "send_direct_message"),
    "standard": STANDARD,
    "tasks": _declared_names(TaskOperations),
    "locks": _declared_names(LockOperations),
    "interrupts": _declared_names(InterruptOperations),
    "approvals": _declared_names(ApprovalOperations),
    "all": tuple(OPERATIONS),
}
