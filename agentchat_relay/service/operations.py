"""The table: what the contract names, and the function that means it. Every surface of the relay starts here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from agentchat._operation import Operation
from agentchat.contract import OPERATIONS

from ..administration import ADMINISTRATION
from ..store.seam import Lane
from . import (
    administration,
    agents,
    board,
    briefing,
    channels,
    files,
    groups,
    inbox,
    mail,
    mentions,
    messages,
    pages,
    read_state,
    search,
)
from .repeats import once
from .work import approvals, interrupts, locks, looking, pauses, tasks


class Entry(NamedTuple):
    operation: Operation[..., Any]
    lane: Lane
    service: Callable[..., Any]


def _agents(lane: Lane, *services: Callable[..., Any], **repeats: Any) -> dict[str, Entry]:
    """Entries by the names of the functions, which are those of the operations. `repeats` is for `once`."""
    found = {}
    for service in services:
        name = service.__name__
        found[name] = Entry(OPERATIONS[name], lane, once(service, **repeats) if lane == Lane.WRITE else service)
    return found


SERVICES: dict[str, Entry] = {
    **_agents(
        Lane.READ,
        board.check_board,
        channels.list_channels,
        pages.read_messages,
        pages.get_message,
        pages.read_thread,
        pages.list_pinned_messages,
        mentions.check_mentions,
        inbox.peek_inbox,
        inbox.get_receipts,
        inbox.list_dead_letters,
        read_state.list_readers,
        agents.find_agents,
        groups.list_groups,
        mail.list_sent,
        briefing.get_briefing,
        files.list_files,
        looking.list_tasks,
        looking.get_task,
        looking.read_task_context,
        looking.check_work,
        locks.list_locks,
        interrupts.list_interrupts,
        interrupts.get_interrupt,
        pauses.list_pauses,
        approvals.list_approvals,
        approvals.get_approval,
    ),
    **_agents(Lane.SEARCH, search.search_messages),
    **_agents(
        Lane.APPEND,
        messages.send_message,
        mail.send_direct_message,
        mail.send_to_many,
        tasks.create_task,
        locks.acquire_lock,
        interrupts.send_interrupt,
        pauses.pause_agents,
        approvals.request_approval,
    ),
    **_agents(
        Lane.WRITE,
        mentions.mark_mentions_read,
        inbox.acknowledge_items,
        inbox.return_items,
        inbox.renew_claim,
        inbox.requeue_items,
        read_state.mark_channel_read,
        pages.pin_message,
        pages.unpin_message,
        agents.set_card,
        groups.join_group,
        groups.leave_group,
    ),
    **_agents(
        Lane.APPEND,
        *(
            once(service)
            for service in (
                tasks.claim_task,
                tasks.decline_task,
                tasks.renew_task,
                tasks.report_progress,
                tasks.return_task,
                tasks.complete_task,
                tasks.fail_task,
                tasks.cancel_task,
                tasks.offer_task,
                locks.renew_lock,
                locks.release_lock,
                interrupts.acknowledge_interrupt,
                interrupts.withdraw_interrupt,
                pauses.resume_agents,
                approvals.decide_approval,
                approvals.dismiss_approval,
                approvals.withdraw_approval,
            )
        ),
    ),
    **_agents(Lane.WRITE, inbox.check_inbox, inbox.claim_items, kept=inbox.kept, told_again=inbox.told_again),
}
"""What travels as JSON both ways. Files that go in and out are `files.upload_file` and `files.find`, by hand."""

ADMIN_SERVICES: dict[str, Entry] = {
    name: Entry(operation, Lane.WRITE if operation.writes else Lane.READ, getattr(administration, name))
    for name, operation in ADMINISTRATION.items()
}
