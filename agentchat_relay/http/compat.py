"""Twin spellings: what clients of the same contract send or look for besides ours. Nowhere else.

Three clients were looked at. One looks for flat names on the board (`channel_name`, `unread_count`), one prints
`timestamp`, `channel` and `author` of a search hit, one sends a whole card and knows sorting by cost. They do with a
task what `action` says, and ask for their work by `for_me`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agentchat.errors import BadRequest

from .parts import Parts
from .reply import Reply
from .request import Request, read_json

Handler = Callable[[Request], Awaitable[Reply]]
_ACTIONS = {"claim": "claim_task", "complete": "complete_task", "cancel": "cancel_task"}
_YES = ("1", "true")


class ByAction:
    """One route for what has routes of its own here: `action` in the body says which."""

    def __init__(self, parts: Parts, routes: Mapping[str, Handler]) -> None:
        self._parts = parts
        self._routes = {action: routes[operation] for action, operation in _ACTIONS.items()}

    async def __call__(self, request: Request) -> Reply:
        body = await request.body()
        request.receive = _replayed(body)
        try:
            route = self._routes.get(str(read_json(body).get("action")))
            if route is None:
                raise BadRequest(f"action must be one of {', '.join(_ACTIONS)}.")
        except BadRequest:
            await self._parts.agents.caller(request)  # a stranger is told that, and no more
            raise
        return await route(request)


class ForMe:
    """A list of tasks, or with `for_me` what concerns the caller."""

    def __init__(self, every: Handler, mine: Handler) -> None:
        self._every, self._mine = every, mine

    async def __call__(self, request: Request) -> Reply:
        is_mine = str(request.query().get("for_me", "")).lower() in _YES
        return await (self._mine if is_mine else self._every)(request)


def _replayed(body: bytes) -> Any:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def taken_in(operation: str, given: dict[str, Any]) -> dict[str, Any]:
    """Arguments by our names."""
    if operation == "find_agents":
        _check_sorting(given)
    elif operation == "set_card":
        card = given.get("card")
        if isinstance(card, dict) and isinstance(tags := card.get("capabilities"), list):
            card["capabilities"] = [_tag(tag) for tag in tags]
    elif operation == "create_task" and isinstance(tags := given.get("capability_tags"), list):
        given["capability_tags"] = [_tag(tag) for tag in tags]
    return given


def _tag(tag: Any) -> Any:
    return tag.strip().lower() if isinstance(tag, str) else tag


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
    elif operation == "list_tasks":
        for row in result["tasks"]:
            row["channels"] = {"name": row["channel"]}
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
