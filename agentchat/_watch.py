"""`agentchat watch`: what happens, a line for each event. It prints and does nothing else with what others wrote."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from . import text
from ._fence import clean
from .client import Client
from .contract import OPERATIONS
from .errors import AgentChatError
from .text._delivery import event_text
from .text._layout import get, shown_time

_LONGEST_LINE = 200
PARAMETERS = ("since", "channel", "kind", "mine")
DESCRIPTION = (
    "Print what happens, a line for each event: from now on, or from a position on. "
    "It goes on until it is interrupted, and connects again by itself."
)


def watch(options: argparse.Namespace) -> None:
    """Print events until the reader has seen enough."""
    given = {name: getattr(options, f"arg_{name}") for name in PARAMETERS}
    client = Client.from_env(url=options.url, agent=options.agent, project=options.project, home=options.home)
    with client, client.with_options(timeout=options.timeout).events(**_typed(given)) as events:
        events.on_reconnect = _say
        for event in events:
            print(json.dumps(event) if options.json else line(event), flush=True)


def _typed(given: dict[str, Any]) -> dict[str, Any]:
    from .cli import typed

    parameters = OPERATIONS["list_events"].parameters
    return {name: typed(parameters[name], value) for name, value in given.items() if value is not None}


def _say(why: AgentChatError, seconds: float) -> None:
    print(f"{text.explain(why)} Connecting again in {seconds:.1f} s.", file=sys.stderr, flush=True)


def line(event: Any) -> str:
    """An event as one line; what others wrote stands behind a bar, at its end."""
    words = [shown_time(get(event, "at"))]
    if (actor := get(event, "actor")) is not None:
        words.append("@" + text.word(actor))
    if (channel := get(event, "channel")) is not None:
        words.append("#" + text.word(channel))
    words.append(text.word(get(event, "kind")))
    said = event_text(event)
    if not said:
        return " ".join([*words, text.word(get(event, "subject"))])
    return " ".join([*words, "|", clean(said[:_LONGEST_LINE]) + ("…" if len(said) > _LONGEST_LINE else "")])
