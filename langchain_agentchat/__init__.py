"""AgentChat for LangChain and LangGraph: tools, a toolkit, a handler that reports runs by itself, an async client.

toolkit = AgentChatToolkit.from_env()
agent = create_agent(model, toolkit.get_tools())
agent.invoke(question, {"callbacks": [AgentChatCallbackHandler(toolkit.client, channel="status")]})

Everything is loaded on first use, so that the import costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentchat._lazy import lazy

if TYPE_CHECKING:
    from .arguments import args_schema as args_schema
    from .callbacks import AgentChatCallbackHandler as AgentChatCallbackHandler
    from .client import AsyncClient as AsyncClient
    from .tool import AgentChatTool as AgentChatTool
    from .toolkit import AgentChatToolkit as AgentChatToolkit
    from .tools import AcknowledgeInterruptTool as AcknowledgeInterruptTool
    from .tools import AcknowledgeItemsTool as AcknowledgeItemsTool
    from .tools import AcquireLockTool as AcquireLockTool
    from .tools import CancelTaskTool as CancelTaskTool
    from .tools import CheckBoardTool as CheckBoardTool
    from .tools import CheckInboxTool as CheckInboxTool
    from .tools import CheckMentionsTool as CheckMentionsTool
    from .tools import CheckWorkTool as CheckWorkTool
    from .tools import ClaimItemsTool as ClaimItemsTool
    from .tools import ClaimTaskTool as ClaimTaskTool
    from .tools import CompleteTaskTool as CompleteTaskTool
    from .tools import CreateTaskTool as CreateTaskTool
    from .tools import DecideApprovalTool as DecideApprovalTool
    from .tools import DeclineTaskTool as DeclineTaskTool
    from .tools import DismissApprovalTool as DismissApprovalTool
    from .tools import DownloadFileTool as DownloadFileTool
    from .tools import FailTaskTool as FailTaskTool
    from .tools import FindAgentsTool as FindAgentsTool
    from .tools import GetApprovalTool as GetApprovalTool
    from .tools import GetBriefingTool as GetBriefingTool
    from .tools import GetFileUrlTool as GetFileUrlTool
    from .tools import GetInterruptTool as GetInterruptTool
    from .tools import GetMessageTool as GetMessageTool
    from .tools import GetReceiptsTool as GetReceiptsTool
    from .tools import GetTaskTool as GetTaskTool
    from .tools import JoinGroupTool as JoinGroupTool
    from .tools import LeaveGroupTool as LeaveGroupTool
    from .tools import ListApprovalsTool as ListApprovalsTool
    from .tools import ListChannelsTool as ListChannelsTool
    from .tools import ListDeadLettersTool as ListDeadLettersTool
    from .tools import ListEventsTool as ListEventsTool
    from .tools import ListFilesTool as ListFilesTool
    from .tools import ListGroupsTool as ListGroupsTool
    from .tools import ListInterruptsTool as ListInterruptsTool
    from .tools import ListLocksTool as ListLocksTool
    from .tools import ListPausesTool as ListPausesTool
    from .tools import ListPinnedMessagesTool as ListPinnedMessagesTool
    from .tools import ListReadersTool as ListReadersTool
    from .tools import ListSentTool as ListSentTool
    from .tools import ListTasksTool as ListTasksTool
    from .tools import MarkChannelReadTool as MarkChannelReadTool
    from .tools import MarkMentionsReadTool as MarkMentionsReadTool
    from .tools import OfferTaskTool as OfferTaskTool
    from .tools import PauseAgentsTool as PauseAgentsTool
    from .tools import PeekInboxTool as PeekInboxTool
    from .tools import PinMessageTool as PinMessageTool
    from .tools import ReadMessagesTool as ReadMessagesTool
    from .tools import ReadTaskContextTool as ReadTaskContextTool
    from .tools import ReadThreadTool as ReadThreadTool
    from .tools import ReleaseLockTool as ReleaseLockTool
    from .tools import RenewClaimTool as RenewClaimTool
    from .tools import RenewLockTool as RenewLockTool
    from .tools import RenewTaskTool as RenewTaskTool
    from .tools import ReportProgressTool as ReportProgressTool
    from .tools import RequestApprovalTool as RequestApprovalTool
    from .tools import RequeueItemsTool as RequeueItemsTool
    from .tools import ResumeAgentsTool as ResumeAgentsTool
    from .tools import ReturnItemsTool as ReturnItemsTool
    from .tools import ReturnTaskTool as ReturnTaskTool
    from .tools import SearchMessagesTool as SearchMessagesTool
    from .tools import SendDirectMessageTool as SendDirectMessageTool
    from .tools import SendInterruptTool as SendInterruptTool
    from .tools import SendMessageTool as SendMessageTool
    from .tools import SendToManyTool as SendToManyTool
    from .tools import SetCardTool as SetCardTool
    from .tools import UnpinMessageTool as UnpinMessageTool
    from .tools import UploadFileTool as UploadFileTool
    from .tools import WaitForMessageTool as WaitForMessageTool
    from .tools import WaitForReplyTool as WaitForReplyTool
    from .tools import WithdrawApprovalTool as WithdrawApprovalTool
    from .tools import WithdrawInterruptTool as WithdrawInterruptTool

_HOMES = {
    "AcknowledgeInterruptTool": "tools",
    "AcknowledgeItemsTool": "tools",
    "AcquireLockTool": "tools",
    "AgentChatCallbackHandler": "callbacks",
    "AgentChatTool": "tool",
    "AgentChatToolkit": "toolkit",
    "AsyncClient": "client",
    "CancelTaskTool": "tools",
    "CheckBoardTool": "tools",
    "CheckInboxTool": "tools",
    "CheckMentionsTool": "tools",
    "CheckWorkTool": "tools",
    "ClaimItemsTool": "tools",
    "ClaimTaskTool": "tools",
    "CompleteTaskTool": "tools",
    "CreateTaskTool": "tools",
    "DecideApprovalTool": "tools",
    "DeclineTaskTool": "tools",
    "DismissApprovalTool": "tools",
    "DownloadFileTool": "tools",
    "FailTaskTool": "tools",
    "FindAgentsTool": "tools",
    "GetApprovalTool": "tools",
    "GetBriefingTool": "tools",
    "GetFileUrlTool": "tools",
    "GetInterruptTool": "tools",
    "GetMessageTool": "tools",
    "GetReceiptsTool": "tools",
    "GetTaskTool": "tools",
    "JoinGroupTool": "tools",
    "LeaveGroupTool": "tools",
    "ListApprovalsTool": "tools",
    "ListChannelsTool": "tools",
    "ListDeadLettersTool": "tools",
    "ListEventsTool": "tools",
    "ListFilesTool": "tools",
    "ListGroupsTool": "tools",
    "ListInterruptsTool": "tools",
    "ListLocksTool": "tools",
    "ListPausesTool": "tools",
    "ListPinnedMessagesTool": "tools",
    "ListReadersTool": "tools",
    "ListSentTool": "tools",
    "ListTasksTool": "tools",
    "MarkChannelReadTool": "tools",
    "MarkMentionsReadTool": "tools",
    "OfferTaskTool": "tools",
    "PauseAgentsTool": "tools",
    "PeekInboxTool": "tools",
    "PinMessageTool": "tools",
    "ReadMessagesTool": "tools",
    "ReadTaskContextTool": "tools",
    "ReadThreadTool": "tools",
    "ReleaseLockTool": "tools",
    "RenewClaimTool": "tools",
    "RenewLockTool": "tools",
    "RenewTaskTool": "tools",
    "ReportProgressTool": "tools",
    "RequestApprovalTool": "tools",
    "RequeueItemsTool": "tools",
    "ResumeAgentsTool": "tools",
    "ReturnItemsTool": "tools",
    "ReturnTaskTool": "tools",
    "SearchMessagesTool": "tools",
    "SendDirectMessageTool": "tools",
    "SendInterruptTool": "tools",
    "SendMessageTool": "tools",
    "SendToManyTool": "tools",
    "SetCardTool": "tools",
    "UnpinMessageTool": "tools",
    "UploadFileTool": "tools",
    "WaitForMessageTool": "tools",
    "WaitForReplyTool": "tools",
    "WithdrawApprovalTool": "tools",
    "WithdrawInterruptTool": "tools",
    "args_schema": "arguments",
}

__all__ = [
    "AcknowledgeInterruptTool",
    "AcknowledgeItemsTool",
    "AcquireLockTool",
    "AgentChatCallbackHandler",
    "AgentChatTool",
    "AgentChatToolkit",
    "AsyncClient",
    "CancelTaskTool",
    "CheckBoardTool",
    "CheckInboxTool",
    "CheckMentionsTool",
    "CheckWorkTool",
    "ClaimItemsTool",
    "ClaimTaskTool",
    "CompleteTaskTool",
    "CreateTaskTool",
    "DecideApprovalTool",
    "DeclineTaskTool",
    "DismissApprovalTool",
    "DownloadFileTool",
    "FailTaskTool",
    "FindAgentsTool",
    "GetApprovalTool",
    "GetBriefingTool",
    "GetFileUrlTool",
    "GetInterruptTool",
    "GetMessageTool",
    "GetReceiptsTool",
    "GetTaskTool",
    "JoinGroupTool",
    "LeaveGroupTool",
    "ListApprovalsTool",
    "ListChannelsTool",
    "ListDeadLettersTool",
    "ListEventsTool",
    "ListFilesTool",
    "ListGroupsTool",
    "ListInterruptsTool",
    "ListLocksTool",
    "ListPausesTool",
    "ListPinnedMessagesTool",
    "ListReadersTool",
    "ListSentTool",
    "ListTasksTool",
    "MarkChannelReadTool",
    "MarkMentionsReadTool",
    "OfferTaskTool",
    "PauseAgentsTool",
    "PeekInboxTool",
    "PinMessageTool",
    "ReadMessagesTool",
    "ReadTaskContextTool",
    "ReadThreadTool",
    "ReleaseLockTool",
    "RenewClaimTool",
    "RenewLockTool",
    "RenewTaskTool",
    "ReportProgressTool",
    "RequestApprovalTool",
    "RequeueItemsTool",
    "ResumeAgentsTool",
    "ReturnItemsTool",
    "ReturnTaskTool",
    "SearchMessagesTool",
    "SendDirectMessageTool",
    "SendInterruptTool",
    "SendMessageTool",
    "SendToManyTool",
    "SetCardTool",
    "UnpinMessageTool",
    "UploadFileTool",
    "WaitForMessageTool",
    "WaitForReplyTool",
    "WithdrawApprovalTool",
    "WithdrawInterruptTool",
    "args_schema",
]


__getattr__, __dir__ = lazy(__name__, _HOMES)
