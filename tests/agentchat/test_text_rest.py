"""What a text left out can be reached: answers in which a model reads on, and arguments that it has for that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat import text
from agentchat.contract import OPERATIONS
from tests.agentchat.reads_like import RESULTS
from tests.agentchat.test_text import rendered, theirs
from tests.servers import ID


def context(whole: str, max_chars: int) -> Iterator[str]:
    """The answers in which a model reads a context, going on where each says."""
    offset: int | None = 0
    while offset is not None:
        piece = whole[offset : offset + 100_000]
        more = offset + len(piece) < len(whole)
        data = {"task_id": ID, "context": piece, "offset": offset, "size": len(whole), "has_more": more}
        yield (shown := rendered("read_task_context", data, max_chars))
        rest = re.fullmatch(r"\(the rest: offset=(\d+)\)", shown.split("\n")[-1])
        offset = int(rest[1]) if rest else None


some_lines = st.lists(
    st.tuples(st.text(st.sampled_from("a1é😀\u202e ,|"), max_size=300), st.integers(1, 60)), min_size=1, max_size=20
).map(lambda parts: "\n".join("\n".join([line] * times) for line, times in parts))


@settings(max_examples=40, deadline=None)
@given(whole=some_lines, max_chars=st.integers(1000, 6000))
def test_a_context_is_read_in_as_few_answers_as_it_takes(whole: str, max_chars: int) -> None:
    shown = list(context(whole, max_chars))
    assert all(len(one) <= max_chars for one in shown)
    assert all(len(one) > max_chars - 30 for one in shown[:-1]), "each has as much as it can"
    assert "".join(map(theirs, shown)).replace("<U+202E>", "\u202e") == whole


@pytest.mark.parametrize("line", ["1234,ok", "7", "", "x" * 300])
def test_a_long_context_of_short_lines_takes_few_answers(line: str) -> None:
    whole = f"{line}\n" * (100_000 // (len(line) + 1))
    shown = list(context(whole, text.MAX_CHARS))
    assert "".join(map(theirs, shown)) == whole
    assert len(shown) <= 3 * len(whole) // text.MAX_CHARS + 2, "a fence is two characters a line"


@pytest.mark.parametrize("name", RESULTS)
def test_where_a_text_names_a_cursor_a_model_can_pass_it(name: str) -> None:
    shown = rendered(name, {**deepcopy(RESULTS[name]), "next_cursor": "abc_def", "has_more": True})
    cursor = OPERATIONS[name].parameters.get("cursor")
    assert ("cursor=abc_def" in shown) == (cursor is not None and cursor.client_only is None)
