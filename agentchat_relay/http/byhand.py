"""What no declaration says about the relay: routes written by hand, and which answer leads to which call."""

from __future__ import annotations

from typing import NamedTuple

from .schemas import TEXT, Schema

Security = list[dict[str, list[str]]]
NOBODY: Security = []
AGENT: Security = [{"agentKey": []}]
OPERATOR: Security = [{"adminCredential": []}]
JSON = "application/json"
FAILURES = (500, 503, 507)


class Route(NamedTuple):
    """One method of one path. `answer` is the schema of a 200 by its media type; `refusals` are the other statuses."""

    name: str
    verb: str
    path: str
    tag: str
    text: str
    security: Security
    answer: dict[str, Schema]
    parameters: list[Schema]
    body: Schema | None
    refusals: tuple[int, ...]


def _relay_itself(**more: Schema) -> dict[str, Schema]:
    members = {**more, "version": {**TEXT, "description": "Version of the relay."}, "contract": {"const": "v2"}}
    return {JSON: {"type": "object", "properties": members, "required": [*members]}}


_MACHINE: Schema = {
    "type": "object",
    "properties": {
        "machine_name": {
            **TEXT,
            "pattern": "^[a-z0-9][a-z0-9-]{0,49}$",
            "description": "Name of the machine: 1 to 50 of a-z, 0-9 and '-', starting with a letter or digit.",
        },
        "public_key": {**TEXT, "pattern": "^[0-9a-f]{64}$", "description": "Its public key, 64 lowercase hex digits."},
        "admin_secret": {**TEXT, "minLength": 1, "description": "The admin credential."},
    },
    "required": ["machine_name", "public_key", "admin_secret"],
}
_ADMITTED: Schema = {
    "type": "object",
    "properties": {"machine_name": TEXT, "registered": {"const": True}},
    "required": ["machine_name", "registered"],
}
_TOKEN: Schema = {
    "name": "token", "in": "path", "required": True, "schema": TEXT,
    "description": "The end of a link that `get_file_url` gave.",
}  # fmt: skip
_TASK_ID: Schema = {
    "name": "task_id", "in": "path", "required": True, "description": "Id of the task.",
    "schema": {**TEXT, "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
}  # fmt: skip
_ACTION: Schema = {
    "type": "object",
    "properties": {
        "action": {**TEXT, "enum": ["claim", "complete", "cancel"], "description": "What to do."},
        "result": {**TEXT, "minLength": 1, "maxLength": 32_000, "description": "What came of it, to complete it."},
    },
    "required": ["action"],
}
_MOVED: Schema = {
    "type": "object",
    "properties": {"data": {"type": "object", "properties": {"task": {"type": "object"}}, "required": ["task"]}},
    "required": ["data"],
}
ROUTES = (
    Route(
        "root", "GET", "/", "relay", "Say what answers here.", NOBODY,
        _relay_itself(name={"const": "AgentChat relay"}), [], None, (),
    ),
    Route(
        "health", "GET", "/health", "relay", "Say that the relay answers.", NOBODY,
        _relay_itself(status={"const": "ok"}), [], None, (),
    ),
    Route(
        "metrics", "GET", "/metrics", "relay",
        "Read the relay's measures, as Prometheus does. From its own machine, past no proxy, it takes no credential.",
        [{}, *OPERATOR], {"text/plain": TEXT}, [], None, (401, 429, 500),
    ),
    Route(
        "openapi", "GET", "/openapi.json", "relay", "Get this description.", NOBODY,
        {JSON: {"type": "object", "description": "An OpenAPI 3.1 document."}}, [], None, (),
    ),
    Route(
        "linked_file", "GET", "/api/files/signed/{token}", "files",
        "Read a shared file by a link of `get_file_url`, for one hour after it was made.", NOBODY,
        {"*/*": {"description": "The file's bytes, in its own media type."}}, [_TOKEN], None, (403, 404, *FAILURES),
    ),
    Route(
        "act_on_task", "POST", "/api/v2/tasks/{task_id}", "tasks",
        "Do with a task what `action` says, as `claim_task`, `complete_task` and `cancel_task` do.", AGENT,
        {JSON: _MOVED}, [_TASK_ID], _ACTION, (400, 401, 403, 404, 409, 413, 429, *FAILURES),
    ),
    Route(
        "register_machine", "POST", "/api/v2/admin/register-machine", "admin machines",
        "Admit a machine, as `machine_add` does, with the admin credential in the body.", NOBODY,
        {JSON: _ADMITTED}, [], _MACHINE, (400, 403, 413, 429, *FAILURES),
    ),
)  # fmt: skip

# What an operation answers besides JSON, to whoever accepts that.
ALSO: dict[str, dict[str, Schema]] = {
    "list_events": {
        "text/event-stream": {
            **TEXT,
            "description": "Server-Sent Events that never end by themselves: an event in each `data`, its position as "
            "`id`. A block with `id` alone is no event; it says how far the log is looked through, at the beginning "
            "and as a sign of life. An event of type `end` says why the relay ends the stream, with `reason` (`slow`, "
            "`unauthorized` or `stopping`) and `position`. A reader goes on from the last `id`, in `last-event-id`. "
            "With `kind=agent.presence` (or `agent`) it also tells who comes and goes: events without `id`, whose "
            "`position` is null.",
        }
    }
}

# What only one agent may ask or do, though others see what it is about.
OF_ONE = {
    "get_receipts", "claim_task", "decline_task", "renew_task", "report_progress", "return_task", "complete_task",
    "fail_task", "cancel_task", "offer_task", "renew_lock", "release_lock", "acknowledge_interrupt",
    "withdraw_interrupt", "resume_agents", "pause_agents", "list_interrupts", "decide_approval", "dismiss_approval",
    "withdraw_approval",
}  # fmt: skip

# An answer that tells what another call needs: from, to, and which argument stands where in the result (or, with a
# dollar, in the request).
LINKS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("check_board", "read_messages", {"channel": "/channels/0/channel"}),
    ("list_channels", "list_readers", {"channel": "/channels/0/name"}),
    ("read_messages", "read_messages", {"channel": "$request.query.channel", "cursor": "/previous_cursor"}),
    ("read_messages", "mark_channel_read", {"channel": "$request.query.channel", "through": "/messages/0/created_at"}),
    ("read_messages", "send_message", {"channel": "$request.query.channel", "parent_message_id": "/messages/0/id"}),
    ("mark_channel_read", "send_message", {"channel": "/channel"}),
    ("read_thread", "read_thread", {"message_id": "/messages/0/id", "cursor": "/next_cursor"}),
    ("search_messages", "get_message", {"message_id": "/results/0/id"}),
    ("send_message", "get_message", {"message_id": "/message/id"}),
    ("send_message", "read_thread", {"message_id": "/message/id"}),
    ("send_message", "pin_message", {"message_id": "/message/id"}),
    ("send_message", "unpin_message", {"message_id": "/message/id"}),
    ("send_message", "send_message", {"channel": "$request.body#/channel", "parent_message_id": "/message/id"}),
    ("send_message", "list_pinned_messages", {"channel": "$request.body#/channel"}),
    ("send_direct_message", "get_message", {"message_id": "/message/id"}),
    ("check_mentions", "mark_mentions_read", {"mention_ids": "/mentions/0/mention_id"}),
    ("check_mentions", "get_message", {"message_id": "/mentions/0/message_id"}),
    ("check_inbox", "acknowledge_items", {"claim_id": "/claim_id"}),
    ("peek_inbox", "get_message", {"message_id": "/items/0/message_id"}),
    ("peek_inbox", "peek_inbox", {"cursor": "/next_cursor"}),
    ("claim_items", "acknowledge_items", {"claim_id": "/claim_id"}),
    ("claim_items", "return_items", {"claim_id": "/claim_id"}),
    ("claim_items", "renew_claim", {"claim_id": "/claim_id"}),
    ("list_dead_letters", "requeue_items", {"item_ids": "/items/0/item_id"}),
    ("send_message", "get_receipts", {"message_id": "/message/id"}),
    ("send_direct_message", "get_receipts", {"message_id": "/message/id"}),
    ("get_briefing", "read_messages", {"channel": "/channels/0/channel"}),
    ("list_files", "upload_file", {"channel": "$request.body#/folder"}),
    ("upload_file", "download_file", {"path": "/file/path"}),
    ("upload_file", "list_files", {"folder": "$request.body#/channel"}),
    ("list_files", "download_file", {"path": "/files/0/path"}),
    ("list_events", "list_events", {"since": "/position"}),
    ("send_message", "wait_for_reply", {"message_id": "/message/id"}),
    ("wait_for_message", "wait_for_message", {"since": "/position"}),
    ("find_agents", "send_direct_message", {"target_agent": "/agents/0/name"}),
    ("create_task", "get_task", {"task_id": "/task/id"}),
    ("create_task", "read_task_context", {"task_id": "/task/id"}),
    ("create_task", "claim_task", {"task_id": "/task/id"}),
    ("create_task", "decline_task", {"task_id": "/task/id"}),
    ("create_task", "cancel_task", {"task_id": "/task/id"}),
    ("create_task", "offer_task", {"task_id": "/task/id"}),
    ("create_task", "act_on_task", {"task_id": "/task/id"}),
    ("list_tasks", "list_tasks", {"cursor": "/next_cursor"}),
    ("list_tasks", "get_task", {"task_id": "/tasks/0/id"}),
    ("check_work", "claim_task", {"task_id": "/open_matching/0/id"}),
    ("read_task_context", "read_task_context", {"task_id": "/task_id"}),
    *(
        ("claim_task", name, {"task_id": "/task/id", "fence": "/task/fence"})
        for name in ("renew_task", "report_progress", "return_task", "complete_task", "fail_task")
    ),
    ("acquire_lock", "renew_lock", {"lock_id": "/lock/id", "fence": "/lock/fence"}),
    ("acquire_lock", "release_lock", {"lock_id": "/lock/id", "fence": "/lock/fence"}),
    ("list_locks", "list_locks", {"cursor": "/next_cursor"}),
    ("send_interrupt", "get_interrupt", {"interrupt_id": "/interrupt/id"}),
    ("send_interrupt", "withdraw_interrupt", {"interrupt_id": "/interrupt/id"}),
    ("list_interrupts", "list_interrupts", {"cursor": "/next_cursor"}),
    ("list_interrupts", "get_interrupt", {"interrupt_id": "/interrupts/0/id"}),
    ("list_interrupts", "acknowledge_interrupt", {"interrupt_id": "/interrupts/0/id"}),
    ("pause_agents", "list_interrupts", {"pause_id": "/pause/id"}),
    ("pause_agents", "resume_agents", {"pause_id": "/pause/id"}),
    ("list_pauses", "resume_agents", {"pause_id": "/pauses/0/id"}),
    ("request_approval", "get_approval", {"approval_id": "/approval/id"}),
    ("request_approval", "withdraw_approval", {"approval_id": "/approval/id"}),
    ("list_approvals", "list_approvals", {"cursor": "/next_cursor"}),
    ("list_approvals", "get_approval", {"approval_id": "/approvals/0/id"}),
    ("list_approvals", "decide_approval", {"approval_id": "/approvals/0/id"}),
    ("list_approvals", "dismiss_approval", {"approval_id": "/approvals/0/id"}),
    ("machine_add", "machine_revoke", {"name": "/name"}),
    ("space_add", "agent_token", {"space": "/name"}),
    ("agent_token", "agent_grant", {"name": "/name", "space": "/space"}),
    ("agent_token", "agent_update", {"name": "/name", "space": "/space"}),
    ("agent_token", "agent_deactivate", {"name": "/name", "space": "/space"}),
    ("agent_token", "agent_delete", {"name": "/name", "space": "/space"}),
)
