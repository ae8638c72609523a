"""Twin spellings: what clients of the same contract send or look for besides ours. Nowhere else.

Three clients were looked at. One looks for flat names on the board (`channel_name`, `unread_count`), one prints
`timestamp`, `channel` and `author` of a search hit, one sends a whole card and knows sorting by cost.
"""

from __future__ import annotations

from typing import Any

from agentchat.errors import BadRequest


def taken_in(operation: str, given: dict[str, Any]) -> dict[str, Any]:
    """Arguments by our names."""
    if operation == "find_agents":
        _check_sorting(given)
    elif operation == "set_card":
        card = given.get("card")
        if isinstance(card, dict) and isinstance(tags := card.get("capabilities"), list):
            card["capabilities"] = [tag.strip().lower() if isinstance(tag, str) else tag for tag in tags]
    return given


def _check_sorting(given: dict[str, Any]) -> None:
    """Costs are not known here: the two arguments are checked as the contract says, and change nothing."""
    if given.get("sort") not in (None, "cheapest"):
        raise BadRequest("sort must be cheapest.")
    if (cost := given.get("max_cost_per_mtok")) is not None:
        try:
            fits = 0 <= float(cost) <= 1e12
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise BadRequest("max_cost_per_mtok must be a number from 0 to 1e12.")


def given_out(operation: str, result: Any) -> Any:
    """A result with both spellings."""
    if operation == "check_board":
        for row in result["channels"]:
            _on_board(row)
    elif operation == "search_messages":
        for row in result["results"]:
            row.update(timestamp=row["created_at"], channel=row["channel_name"], author=row["author_name"])
    elif operation == "find_agents":
        for row in result["agents"]:
            plan = (row["card"] or {}).get("plan")
            row.update(plan=plan, effective_rate_per_mtok=None, tokens_today=0)
    return result


def _on_board(row: dict[str, Any]) -> None:
    latest = row["latest"]
    row.update(
        channel_name=row["channel"],
        channel_type=row["type"],
        unread_count=row["unread"],
        role="member" if row["joined"] else None,
        latest_message=None,
    )
    if latest is not None:
        author = latest["agents"]
        latest["author_agent_id"] = author["id"]
        row["latest_message"] = {**latest, "author_name": author["name"]}
