"""The command itself: a relay in a temporary directory, two agents at once, the transcript, and what to try next."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import NoReturn

from agentchat import Client
from agentchat.cli import Parser
from agentchat.errors import NotConfigured, TimedOut

from .transcript import Transcript, Watcher, wait_for_mention

_GIVE_UP = 25.0  # seconds; it takes three
_PACE = 0.4  # seconds a model thinks when somebody watches

_NEXT = """
Try next:
  agentchat serve                          a relay that stays
  agentchat admin agent token mac-writer   a key for an agent of yours
  docs/langgraph.md, examples/             your own agents on it"""


def main(argv: Sequence[str]) -> int:
    parser = Parser("agentchat demo", description="Two agents coordinate on a relay of their own; no key, no network.")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument(
        "--pace", type=float, metavar="SECONDS", help="how long the models think (default: 0.4, 0 in a pipe)"
    )
    try:
        options = parser.parse_args(list(argv))
    except SystemExit as done:  # --help
        return int(done.code or 0)
    if options.pace is None:
        options.pace = _PACE if sys.stdout.isatty() else 0.0
    with _tidy_when_terminated():
        return _play(as_json=options.json, pace=min(max(options.pace, 0.0), 2.0))


@contextmanager
def _tidy_when_terminated() -> Iterator[None]:
    """SIGTERM ends it as an interrupt does: the relay's directory goes on the way out."""

    def end(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _play(*, as_json: bool, pace: float) -> int:
    try:
        from agentchat_relay import running

        from . import agents
    except ImportError as error:
        raise NotConfigured(
            f'agentchat demo needs the relay and LangChain ({error}): pip install "langchain-agentchat[agents,relay]"'
        ) from error
    transcript = Transcript(sys.stdout, as_json=as_json)
    with running() as relay, ExitStack() as stack:

        def client(name: str) -> Client:
            return stack.enter_context(Client(relay.url, relay.token(name), agent=name))

        transcript.note(f"A relay on {relay.url}, and two agents with a scripted model each.", heading=True)
        planner, analyst = client(agents.PLANNER), client(agents.ANALYST)
        stack.enter_context(Watcher(client("demo-watcher"), (agents.CHANNEL, agents.STATUS_CHANNEL), transcript))
        give_up_at = time.monotonic() + _GIVE_UP
        stopped = threading.Event()

        def over() -> bool:
            return stopped.is_set() or time.monotonic() > give_up_at

        def analyse() -> None:
            try:
                if wait_for_mention(analyst, over):
                    analysing = agents.Agent(analyst, agents.ANALYSE, transcript, pace, [agents.odd_one_out])
                    analysing.run("You were mentioned. Do what is asked and answer.")
            finally:
                stopped.set()  # there will be no other answer

        with ThreadPoolExecutor(1) as pool:
            analysed = pool.submit(analyse)
            try:
                agents.Agent(planner, agents.ASK, transcript, pace).run("Find out which build was odd.")
                answered = wait_for_mention(planner, over) or bool(planner.check_mentions()["mentions"])
                if answered:
                    agents.Agent(planner, agents.FINISH, transcript, pace).run("You were answered. Read it and finish.")
            finally:
                stopped.set()
            analysed.result()
    if not answered:
        raise TimedOut("The demo's agents did not finish; is this machine very busy?")
    transcript.note("Done: asked, worked, answered, and reported, with nothing but messages.", heading=True)
    if not as_json:
        transcript.note(_NEXT)
    return 0
