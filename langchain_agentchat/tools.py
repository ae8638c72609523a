"""The tools, one class per operation of the contract."""

from agentchat.contract import Contract

from .tool import AgentChatTool


class CheckBoardTool(AgentChatTool):
    operation = Contract.check_board


class ListChannelsTool(AgentChatTool):
    operation = Contract.list_channels


class ReadMessagesTool(AgentChatTool):
    operation = Contract.read_messages


class GetMessageTool(AgentChatTool):
    operation = Contract.get_message


class ReadThreadTool(AgentChatTool):
    operation = Contract.read_thread


class SearchMessagesTool(AgentChatTool):
    operation = Contract.search_messages


class SendMessageTool(AgentChatTool):
    operation = Contract.send_message


class SendDirectMessageTool(AgentChatTool):
    operation = Contract.send_direct_message


class PinMessageTool(AgentChatTool):
    operation = Contract.pin_message


class UnpinMessageTool(AgentChatTool):
    operation = Contract.unpin_message


class ListPinnedMessagesTool(AgentChatTool):
    operation = Contract.list_pinned_messages


class CheckMentionsTool(AgentChatTool):
    operation = Contract.check_mentions


class MarkMentionsReadTool(AgentChatTool):
    operation = Contract.mark_mentions_read


class MarkChannelReadTool(AgentChatTool):
    operation = Contract.mark_channel_read


class ListReadersTool(AgentChatTool):
    operation = Contract.list_readers


class UploadFileTool(AgentChatTool):
    operation = Contract.upload_file


class DownloadFileTool(AgentChatTool):
    operation = Contract.download_file


class GetFileUrlTool(AgentChatTool):
    operation = Contract.get_file_url


class ListFilesTool(AgentChatTool):
    operation = Contract.list_files


class SendToManyTool(AgentChatTool):
    operation = Contract.send_to_many


class ListSentTool(AgentChatTool):
    operation = Contract.list_sent


class ListGroupsTool(AgentChatTool):
    operation = Contract.list_groups


class JoinGroupTool(AgentChatTool):
    operation = Contract.join_group


class LeaveGroupTool(AgentChatTool):
    operation = Contract.leave_group


class CheckInboxTool(AgentChatTool):
    operation = Contract.check_inbox


class PeekInboxTool(AgentChatTool):
    operation = Contract.peek_inbox


class ClaimItemsTool(AgentChatTool):
    operation = Contract.claim_items


class AcknowledgeItemsTool(AgentChatTool):
    operation = Contract.acknowledge_items


class ReturnItemsTool(AgentChatTool):
    operation = Contract.return_items


class RenewClaimTool(AgentChatTool):
    operation = Contract.renew_claim


class ListDeadLettersTool(AgentChatTool):
    operation = Contract.list_dead_letters


class RequeueItemsTool(AgentChatTool):
    operation = Contract.requeue_items


class GetReceiptsTool(AgentChatTool):
    operation = Contract.get_receipts


class ListEventsTool(AgentChatTool):
    operation = Contract.list_events


class WaitForReplyTool(AgentChatTool):
    operation = Contract.wait_for_reply


class WaitForMessageTool(AgentChatTool):
    operation = Contract.wait_for_message


class GetBriefingTool(AgentChatTool):
    operation = Contract.get_briefing


class CreateTaskTool(AgentChatTool):
    operation = Contract.create_task


class ListTasksTool(AgentChatTool):
    operation = Contract.list_tasks


class CheckWorkTool(AgentChatTool):
    operation = Contract.check_work


class GetTaskTool(AgentChatTool):
    operation = Contract.get_task


class ReadTaskContextTool(AgentChatTool):
    operation = Contract.read_task_context


class ClaimTaskTool(AgentChatTool):
    operation = Contract.claim_task


class DeclineTaskTool(AgentChatTool):
    operation = Contract.decline_task


class RenewTaskTool(AgentChatTool):
    operation = Contract.renew_task


class ReportProgressTool(AgentChatTool):
    operation = Contract.report_progress


class ReturnTaskTool(AgentChatTool):
    operation = Contract.return_task


class CompleteTaskTool(AgentChatTool):
    operation = Contract.complete_task


class FailTaskTool(AgentChatTool):
    operation = Contract.fail_task


class CancelTaskTool(AgentChatTool):
    operation = Contract.cancel_task


class OfferTaskTool(AgentChatTool):
    operation = Contract.offer_task


class AcquireLockTool(AgentChatTool):
    operation = Contract.acquire_lock


class ListLocksTool(AgentChatTool):
    operation = Contract.list_locks


class RenewLockTool(AgentChatTool):
    operation = Contract.renew_lock


class ReleaseLockTool(AgentChatTool):
    operation = Contract.release_lock


class SendInterruptTool(AgentChatTool):
    operation = Contract.send_interrupt


class ListInterruptsTool(AgentChatTool):
    operation = Contract.list_interrupts


class GetInterruptTool(AgentChatTool):
    operation = Contract.get_interrupt


class AcknowledgeInterruptTool(AgentChatTool):
    operation = Contract.acknowledge_interrupt


class WithdrawInterruptTool(AgentChatTool):
    operation = Contract.withdraw_interrupt


class PauseAgentsTool(AgentChatTool):
    operation = Contract.pause_agents


class ListPausesTool(AgentChatTool):
    operation = Contract.list_pauses


class ResumeAgentsTool(AgentChatTool):
    operation = Contract.resume_agents


class RequestApprovalTool(AgentChatTool):
    operation = Contract.request_approval


class ListApprovalsTool(AgentChatTool):
    operation = Contract.list_approvals


class GetApprovalTool(AgentChatTool):
    operation = Contract.get_approval


class DecideApprovalTool(AgentChatTool):
    operation = Contract.decide_approval


class DismissApprovalTool(AgentChatTool):
    operation = Contract.dismiss_approval


class WithdrawApprovalTool(AgentChatTool):
    operation = Contract.withdraw_approval


class FindAgentsTool(AgentChatTool):
    operation = Contract.find_agents


class SetCardTool(AgentChatTool):
    operation = Contract.set_card


# Operation -> its tool. A test holds that none is missing.
TOOLS: dict[str, type[AgentChatTool]] = {
    found.operation.name: found
    for found in list(globals().values())
    if isinstance(found, type) and issubclass(found, AgentChatTool) and found is not AgentChatTool
}
