"""A result of every operation, and what it reads like."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

from agentchat import text
from agentchat.contract import OPERATIONS
from tests.servers import AT, CANNED, CLAIM_ID, ID, OTHER_ID

SCOPE = "repo:github.com/org/proj"


def canned() -> dict[str, Any]:
    """A result of every operation, with the members that only some relays send filled in."""
    results = {
        name: deepcopy(CANNED.get((operation.verb, re.sub(r"\{\w+\}", ID, operation.path))))
        for name, operation in OPERATIONS.items()
    }
    results["get_file_url"] = {"signed_url": "http://relay.example/signed/a.txt", "expires_in": 3600}
    results["download_file"] = {"content_type": "text/plain; charset=utf-8", "content": b"hello"}
    results["read_messages"]["messages"][0].update(kind="status", parent_message_id=OTHER_ID, pinned=True)
    results["send_message"]["unmatched_mentions"] = ["mac-bbo"]
    results["list_channels"]["channels"][0]["description"] = "For all"
    results["send_direct_message"]["pending"] = True
    results["send_to_many"]["pending"] = True
    results["list_sent"]["messages"][0].update(is_group=True, states={"claimed": 1, "stored": 60}, pending=True)
    results["list_groups"]["groups"].append({"name": "night-shift", "members": 1, "joined": False})
    results["claim_items"]["items"][0] |= {"scope": SCOPE, "ephemeral": True}
    results["peek_inbox"]["scopes"] = ["thread:7", SCOPE]
    results["create_task"]["task"].update(urgent=True, deadline_at=AT, context_size=5)
    results["list_tasks"].update(next_cursor="older", has_more=True)
    results["check_work"]["mentions"] = deepcopy(results["check_mentions"]["mentions"])
    results["get_task"]["task"].update(result_schema={"type": "object"}, reason="No time")
    results["get_task"]["history"][1]["note"] = "Soon"
    results["claim_task"]["task"].update(context_size=5, result_schema={"type": "object"})
    results["acknowledge_items"]["kept"] = [OTHER_ID]
    results["find_agents"]["agents"][0].update(description="Reads code", card={"role": "reviewer", "plan": "api"})
    return results


RESULTS = canned()

AT_SHOWN = "2026-11-20T10:41:07Z"
OFFERED = f"by @mac-bob {AT_SHOWN}, in #general (takes python)"
LOCK = f"{ID} src/**: held by @mac-bob until {AT_SHOWN}, fence 7"
FOR_ONE = f"by @mac-bob {AT_SHOWN}, for @mac-ann"
STOP = f"{ID} pending, from @mac-bob to @mac-ann {AT_SHOWN}"
VOID = f"(void after {AT_SHOWN})"
PAUSED = f"by @mac-bob {AT_SHOWN}, until {AT_SHOWN} at the latest"
ASKED = f"asked by @mac-bob {AT_SHOWN}"
UNDECIDED = f"{ID} deploy pending, {ASKED} (denied after {AT_SHOWN}) (call ca11)"
DECIDED = f"{ASKED} (decided by @mac-ann {AT_SHOWN}) (call ca11)"
CALL = '| Arguments: {"to":"prod"}\n| For: It is tested'
HELD = f"{OFFERED} (claimed by @mac-ann, fence 1, until {AT_SHOWN})"
READS_LIKE = {
    "check_board": f"1 channel. {text.NOTICE}\n#general: 2 unread, latest {AT_SHOWN} @mac-bob\n| hello",
    "list_channels": f"1 joined channel. {text.NOTICE}\n#general (global)\n| For all",
    "read_messages": f"1 message, oldest first. {text.NOTICE}\n(older ones: before={AT})\n"
    f"{ID} {AT_SHOWN} @mac-bob in reply to {OTHER_ID} (pinned) (status)\n| hello",
    "get_message": f"1 message. {text.NOTICE}\n{ID} {AT_SHOWN} @mac-bob\n| hello",
    "read_thread": f"1 message of the thread, oldest first. {text.NOTICE}\n{ID} {AT_SHOWN} @mac-bob\n| hello",
    "search_messages": f"1 match, best first. {text.NOTICE}\n{ID} {AT_SHOWN} @mac-bob in #general\n| hello",
    "send_message": f"Sent as message {ID}. Not notified: @mac-bbo; no active agent has that name, "
    "or too many were named.",
    "send_direct_message": f"Sent as message {ID}. A large group is still being told.",
    "send_to_many": f"Sent as 2 messages. A large group is still being told.\nmessage {ID}\nmessage {OTHER_ID}",
    "list_sent": f"1 message, newest first. {text.NOTICE}\nmessage {ID} {AT_SHOWN} to group @mac-bob: "
    "1 claimed, 60 stored. A large group is still being told.\n| @mac-bob hello",
    "list_groups": "2 groups.\nreviewers: 2 members, you are in it\nnight-shift: 1 member",
    "join_group": "You are in the group reviewers. It has 2 members.",
    "leave_group": "You are not in the group reviewers. It has 1 member.",
    "pin_message": f"Message {ID} is pinned.",
    "unpin_message": f"Message {ID} is not pinned.",
    "list_pinned_messages": f"1 pinned message, oldest first. {text.NOTICE}\n"
    f"{ID} {AT_SHOWN} @mac-bob (pinned)\n| hello",
    "check_mentions": f"1 mention, newest first. {text.NOTICE}\nmention {OTHER_ID} {AT_SHOWN} @mac-bob "
    f"in #general from project demo, message {ID}\n| hello @mac-ann",
    "mark_mentions_read": "Marked as read: 1.",
    "check_inbox": f"1 item, urgent first. Your next check counts this as dealt with. {text.NOTICE}\n"
    f"mention {AT_SHOWN} @mac-bob in #general from project demo, message {ID}\n| hello @mac-ann",
    "peek_inbox": f"1 item in your inbox, urgent first. More waits for sessions that present thread:7, {SCOPE}. "
    f"{text.NOTICE}\nmention {OTHER_ID} {AT_SHOWN} @mac-bob "
    f"in #general from project demo, message {ID} (claimed until {AT_SHOWN})\n| hello @mac-ann",
    "claim_items": f"1 item, urgent first. claim_id {CLAIM_ID}, yours until {AT_SHOWN}. {text.NOTICE}\n"
    f"mention {OTHER_ID} {AT_SHOWN} @mac-bob in #general from project demo, message {ID} (urgent) "
    f"(given out 2 times) (for {SCOPE}) (ephemeral)\n| hello @mac-ann",
    "acknowledge_items": "Dealt with: 1 item. 1 interrupt left, which only agentchat_acknowledge_interrupt ends.",
    "return_items": "Given back: 2 items. Dead letters now: 1.",
    "renew_claim": f"Yours until {AT_SHOWN}: 1 item.",
    "list_dead_letters": f"1 dead letter, newest first. agentchat_requeue_items brings them back. {text.NOTICE}\n"
    f"mention {OTHER_ID} {AT_SHOWN} @mac-bob in #general from project demo, message {ID} (given out 5 times) "
    f"(dead since {AT_SHOWN})\n| hello @mac-ann",
    "requeue_items": "Back in your inbox: 1.",
    "get_receipts": f"1 receipt of message {ID}.\n@mac-bob mention: acknowledged, given out once, "
    f"stored {AT_SHOWN}, claimed {AT_SHOWN}",
    "list_events": f"1 event, oldest first. {text.NOTICE}\n7 {AT_SHOWN} message.created @mac-bob in #general, {ID}\n"
    "| hello\n(later ones: since=7)",
    "wait_for_reply": f"1 message. {text.NOTICE}\n{ID} {AT_SHOWN} @mac-bob\n| hello",
    "wait_for_message": f"1 message. {text.NOTICE}\n{ID} {AT_SHOWN} @mac-bob in #general\n| hello",
    "get_briefing": f"You are @mac-ann, agent, reviewer, in space main. It is {AT_SHOWN}. Events are at position 7. "
    f"{text.NOTICE}\n1 agent:\n@mac-bob seen {AT_SHOWN}\n| role: reviewer\n"
    "In your inbox: 1 urgent, 1 interrupts, 2 approvals, 2 mentions, 1 direct, 3 groups, 1 tasks, "
    f"the oldest since {AT_SHOWN}. See agentchat_check_inbox.\n"
    f"paused:\n{ID} #general paused, {PAUSED}\n| The database moves\n"
    f"1 channel:\n#general: 2 unread, latest {AT_SHOWN}\n| For all\n"
    "How to behave here, by the relay:\n| Check your inbox when you begin.",
    "create_task": f"Offered. {text.NOTICE}\n{ID} open, by @mac-bob {AT_SHOWN}, in #general (urgent) (takes python) "
    f"(deadline {AT_SHOWN}) (context of 5 characters)\n| Read the report",
    "list_tasks": f"1 task, newest first. {text.NOTICE}\n{ID} open, {OFFERED}\n| Read the report\n"
    "(older ones: cursor=older)",
    "check_work": f"What concerns you. {text.NOTICE}\n"
    f"1 task offered to you:\n{ID} open, {FOR_ONE} (takes python)\n| Read the report\n"
    f"1 task that you have:\n{ID} claimed, {HELD}\n| Read the report\n"
    f"1 task that anybody may claim:\n{ID} open, {OFFERED}\n| Read the report\n"
    f"1 task of yours, declined:\n{ID} declined, {FOR_ONE}, in #general (takes python)\n"
    "| Read the report\n| Reason: No time\n"
    f"1 task of yours, done:\n{ID} done, {OFFERED}\n| Read the report\n| Result: Read\n"
    f"1 task of yours, ended without a result:\n{ID} failed, {OFFERED}\n| Read the report\n| Reason: No time\n"
    "1 unread mention: see agentchat_check_inbox.",
    "get_task": f"1 task, and what happened to it. {text.NOTICE}\n{ID} claimed, {HELD}\n"
    "| Read the report\n| All of it\n| Reason: No time\nIts result must be JSON that fits this JSON Schema:\n"
    f'| {{"type":"object"}}\n1 {AT_SHOWN} create by @mac-bob: open\n'
    f"2 {AT_SHOWN} claim by @mac-ann: open -> claimed\n| Soon",
    "read_task_context": f"Context of task {ID}, from character 0 of 5. {text.NOTICE}\nIt says:\n| hello",
    "claim_task": "It is yours. agentchat_read_task_context reads its context. agentchat_get_task shows the schema its "
    f"result must fit. {text.NOTICE}\n{ID} claimed, {HELD} (context of 5 characters)\n| Read the report\n| All of it",
    "decline_task": f"Declined. {text.NOTICE}\n{ID} declined, {FOR_ONE}, in #general (takes python)\n| Read the report",
    "renew_task": f"Yours until {AT_SHOWN}. {text.NOTICE}\n{ID} claimed, {HELD}\n| Read the report",
    "report_progress": f"Noted. {text.NOTICE}\n{ID} claimed, {HELD}\n| Read the report",
    "return_task": f"Given back. {text.NOTICE}\n{ID} open, {OFFERED}\n| Read the report",
    "complete_task": f"Done. {text.NOTICE}\n{ID} done, {OFFERED}\n| Read the report\n| Result: Read",
    "fail_task": f"Failed. {text.NOTICE}\n{ID} failed, {OFFERED}\n| Read the report",
    "cancel_task": f"Cancelled. {text.NOTICE}\n{ID} cancelled, {OFFERED}\n| Read the report",
    "offer_task": f"Offered. {text.NOTICE}\n{ID} open, by @mac-bob {AT_SHOWN}, for @mac-eve, in #general "
    "(takes python)\n| Read the report",
    "acquire_lock": f"It is yours until {AT_SHOWN}, with fence 7. agentchat_release_lock gives it back. {text.NOTICE}\n"
    f"{LOCK}\n| Moving it",
    "list_locks": f"2 locks, first come first. {text.NOTICE}\n{LOCK}\n| Moving it\n"
    f"{OTHER_ID} src/**: wanted by @mac-eve, who waits until {AT_SHOWN}",
    "renew_lock": f"Yours until {AT_SHOWN}. {text.NOTICE}\n{LOCK}\n| Moving it",
    "release_lock": f"Given back. {text.NOTICE}\n{ID} src/**: of @mac-bob, released\n| Moving it",
    "send_interrupt": "Sent: it comes first in the inbox. agentchat_get_interrupt says whether it was acknowledged. "
    f"{text.NOTICE}\n{STOP} {VOID}\n| Look at this",
    "list_interrupts": "2 interrupts, newest first. agentchat_acknowledge_interrupt acknowledges one that is for you. "
    f"{text.NOTICE}\n{STOP} {VOID} (seen {AT_SHOWN})\n| Look at this\n"
    f"{STOP.replace(ID, OTHER_ID)} (a pause) {VOID} (not seen yet)\n| Look at this",
    "get_interrupt": f"1 interrupt, and what happened to it. {text.NOTICE}\n"
    f"{STOP.replace('pending', 'acknowledged')} (seen {AT_SHOWN})\n| Look at this\n| Note: On it\n"
    f"1 {AT_SHOWN} create by @mac-bob: pending\n"
    f"2 {AT_SHOWN} acknowledge by @mac-ann: pending -> acknowledged\n| On it",
    "acknowledge_interrupt": f"Acknowledged. {text.NOTICE}\n{STOP.replace('pending', 'acknowledged')}\n"
    "| Look at this\n| Note: On it",
    "withdraw_interrupt": f"Withdrawn. {text.NOTICE}\n{STOP.replace('pending', 'withdrawn')}\n| Look at this",
    "pause_agents": f"Paused. agentchat_resume_agents pause_id={ID} ends it. {text.NOTICE}\n{ID} #general paused, "
    f"{PAUSED}: 0 of 3 agents acknowledged it (others are still being told)\n| The database moves",
    "list_pauses": f"2 pauses, newest first. {text.NOTICE}\n"
    f"{ID} #general paused, {PAUSED}: 1 of 3 agents acknowledged it\n| The database moves\n"
    f"{OTHER_ID} group all paused, {PAUSED}: 1 of 3 agents acknowledged it\n| The database moves",
    "resume_agents": f"Resumed. {text.NOTICE}\n{ID} #general resumed, by @mac-bob {AT_SHOWN}: "
    "1 of 3 agents acknowledged it\n| The database moves\n| Note: It moved",
    "request_approval": "Asked: 2 reviewers told. Do not make the call before agentchat_get_approval says that you may "
    f"(wait=60). {text.NOTICE}\n{UNDECIDED}\n{CALL}",
    "list_approvals": f"2 requests for approval, newest first. {text.NOTICE}\n"
    f"{UNDECIDED.replace(' (denied', ' (urgent) (denied')}\n{CALL}\n"
    f"{OTHER_ID} deploy denied, {DECIDED}\n{CALL}\n| Message: Not on Fridays",
    "get_approval": f"It may be called, but only with the allowed arguments. {text.NOTICE}\n{ID} deploy edited, "
    f'{DECIDED}\n| For: It is tested\n| Message: Not that far\nThe allowed arguments:\n| {{"to":"test"}}\n'
    f'The arguments that were asked for:\n| {{"to":"prod"}}\n1 {AT_SHOWN} create by @mac-bob: pending\n'
    f"2 {AT_SHOWN} edit by @mac-ann: pending -> edited\n| Not that far",
    "decide_approval": f"Decided. {text.NOTICE}\n{ID} deploy allowed, {DECIDED}\n{CALL}",
    "dismiss_approval": f"Out of your inbox; no verdict. {text.NOTICE}\n{UNDECIDED}\n{CALL}",
    "withdraw_approval": f"Withdrawn. {text.NOTICE}\n{ID} deploy withdrawn, {ASKED} (call ca11)\n{CALL}",
    "mark_channel_read": f"#general is read through {AT}.",
    "list_readers": f"1 reader of #general.\n@mac-bob through {AT_SHOWN}",
    "upload_file": "Uploaded: 5 bytes, path general/1-a.txt",
    "download_file": f"A file (text/plain, 5 bytes). {text.NOTICE}\nContent:\n| hello",
    "get_file_url": "http://relay.example/signed/a.txt (valid for 3600 seconds)",
    "list_files": f"1 file, newest first. {text.NOTICE}\npath general/1-a.txt, 5 bytes\n| a.txt",
    "find_agents": f"1 agent, most recently seen first. {text.NOTICE}\n@mac-bob seen {AT_SHOWN}\n"
    "| Reads code\n| role: reviewer\n| plan: api",
    "set_card": "Card set.",
}
