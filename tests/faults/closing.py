"""What is read at the end of a round, when everything was started again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from agentchat import Client
from tests.faults.crew import TestedFleet


def events_since(clients: Sequence[Client], position: int, kind: str) -> list[Any]:
    """Of one kind of thing, as the clients are told of them together."""
    found: dict[int, Any] = {}
    for client in clients:
        since, more = position, True
        while more:
            page = client.list_events(since=since, kind=kind, limit=500)
            found |= {event["position"]: event for event in page["events"] if event["position"] is not None}
            since, more = page["position"], page["has_more"]
    return [found[number] for number in sorted(found)]


def audit_of(fleet: TestedFleet) -> list[Any] | None:
    """What an operator is told, from the beginning."""
    if not fleet.relays:
        return None
    rows: list[Any] = []
    bearer = f"Bearer {(fleet.relays[0].data / 'admin.key').read_text().strip()}"
    with httpx.Client(base_url=fleet.url, headers={"authorization": bearer}, trust_env=False, timeout=10) as admin:
        while True:
            after = rows[-1]["number"] if rows else 0
            answer = admin.get("/api/v2/admin/audit", params={"after": after, "limit": 1000}).raise_for_status()
            if not (page := answer.json()["data"]["transitions"]):
                return rows
            rows += page
