"""The argument check in both policies: every rule with its message, then properties over arbitrary arguments."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat import types
from agentchat._arguments import check, shown
from agentchat._operation import Limit, Operation, Parameter, operation
from agentchat.contract import OPERATIONS, Admission
from agentchat.errors import InvalidArguments
from tests.servers import AT, ID, OTHER_ID

Arguments = dict[str, Any]


class Sample:
    """What no operation of the contract has: parameters that are required and neither text nor list."""

    @operation("POST", "/sample", writes=True)
    def sample(
        self,
        count: Annotated[int, "How many.", Limit(1, 10)],
        sure: Annotated[bool, "Whether."],
        total: Annotated[int, "Any integer."] = 0,
    ) -> types.CardSet:
        """Sample."""
        raise NotImplementedError


def named(name: str) -> Operation[..., Any]:
    others: dict[str, Operation[..., Any]] = {"sample": Sample.sample, "register": Admission.register}
    return others.get(name) or OPERATIONS[name]


def refusal(name: str, arguments: Arguments, **policy: bool) -> InvalidArguments:
    with pytest.raises(InvalidArguments) as caught:
        check(named(name), arguments, **policy)
    return caught.value


def label(value: object) -> str:
    return ascii(value)[:30] if isinstance(value, str | int) else type(value).__name__


def sized(characters: int) -> Arguments:
    """An object whose JSON has so many characters."""
    return {"k": "x" * (characters - len('{"k":""}'))}


def nested(depth: int) -> Arguments:
    value: Arguments = {}
    for _ in range(depth):
        value = {"k": value}
    return value


def cyclic() -> Arguments:
    value: Arguments = {}
    value["k"] = value
    return value


GENERAL = {"channel": "general"}
HELLO = {**GENERAL, "content": "hello"}
OTHERS: dict[str, Arguments] = {"read_messages": GENERAL, "send_message": HELLO, "get_message": {"message_id": ID}}
LONG_NAME, LONG_TEXT, UPPER = "a" * 100, "x" * 32000, ID.upper()
TIMES = (AT, "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.1+01:00")
OBJECTS = ({}, {"a": [1, None, {"b": "ü"}]}, sized(4096), {"k": "ü" * 4000}, nested(50))

# Operation, argument, value.
ACCEPTED: list[tuple[str, str, Any]] = [
    *[("read_messages", "limit", limit) for limit in (1, 20, 200)],
    *[("read_messages", "channel", name) for name in ("a1", "1a", "a-", LONG_NAME)],
    *[("read_messages", "before", time) for time in TIMES],
    *[("send_message", "content", text) for text in ("x", " x", "\nx\n", "\U0001f600", "\x00", LONG_TEXT)],
    *[("send_message", "metadata", value) for value in OBJECTS],
    *[("find_agents", "capability", tag) for tag in ("a", "7", "code-review", "a" * 50)],
    *[("mark_mentions_read", "mention_ids", [ID] * count) for count in (1, 2, 100)],
    *[("set_card", "capabilities", tags) for tags in ([], ["a"], ["a"] * 20)],
    *[("list_channels", "type", choice) for choice in ("project", "technology", "environment", "global")],
    *[("check_mentions", "unread", value) for value in (True, False)],
    *[("get_message", "offset", value) for value in (0, 1_000_000)],
]


@pytest.mark.parametrize("lenient", [False, True], ids=["strict", "lenient"])
@pytest.mark.parametrize(("name", "argument", "value"), ACCEPTED, ids=label)
def test_what_fits_passes_unchanged(name: str, argument: str, value: Any, lenient: bool) -> None:
    arguments = {**OTHERS.get(name, {}), argument: value}
    assert check(named(name), arguments, lenient=lenient) == arguments


# Operation, argument, value, and the words that must stand in the refusal.
REFUSED: list[tuple[str, str, Any, str]] = [
    ("read_messages", "limit", 0, "limit must be from 1 to 200, got 0; use 1"),
    ("read_messages", "limit", 201, "limit must be from 1 to 200, got 201; use 200"),
    ("read_messages", "limit", 201.0, "limit must be from 1 to 200, got 201; use 200"),
    ("read_messages", "limit", -(10**4000), "limit must be from 1 to 200, got -1000"),
    ("read_messages", "limit", "20", "limit must be an integer, got the text '20'; send 20 without quotes"),
    ("read_messages", "limit", "many", "limit must be an integer, got the text 'many'"),
    ("read_messages", "limit", True, "limit must be an integer, got true"),
    ("read_messages", "limit", 20.5, "limit must be an integer, got the number 20.5"),
    ("read_messages", "limit", float("nan"), "limit must be an integer, got the number nan"),
    ("read_messages", "limit", float("inf"), "limit must be an integer, got the number inf"),
    ("read_messages", "limit", [20], "limit must be an integer, got a list"),
    ("get_message", "offset", -1, "offset must be from 0 to 1000000, got -1; use 0"),
    ("get_message", "offset", 1_000_001, "offset must be from 0 to 1000000, got 1000001; use 1000000"),
    ("read_messages", "mark_read", 1, "mark_read must be true or false, got the number 1"),
    ("read_messages", "mark_read", "True", "true or false, got the text 'True'; send true without quotes"),
    ("read_messages", "mark_read", {}, "mark_read must be true or false, got an object"),
    ("read_messages", "channel", "-a", "channel must be 2 to 100 of a-z, 0-9 and '-', starting with a letter or digit"),
    ("read_messages", "channel", "General Talk", "got 'General Talk'; use general-talk"),
    ("read_messages", "channel", "#general", "got '#general'; use general"),
    ("read_messages", "channel", "general\n", "got 'general\\n'; use general"),
    ("read_messages", "channel", LONG_NAME + "a", "channel must be 2 to 100 of a-z"),
    ("read_messages", "channel", "a", "channel must be 2 to 100 of a-z"),
    ("read_messages", "channel", "é" * 5, "channel must be 2 to 100 of a-z"),
    ("read_messages", "channel", 7, "channel must be text, got the number 7"),
    ("read_messages", "channel", b"general", "channel must be text, got bytes"),
    ("read_messages", "before", "yesterday", "an ISO 8601 time like 2026-01-31T12:00:00Z, got 'yesterday'"),
    ("read_messages", "before", "2026-01-31 12:00:00", "before must be an ISO 8601 time"),
    ("read_messages", "cursor", "x" * 513, "cursor must have at most 512 characters, got 513"),
    (
        "get_message",
        "message_id",
        UPPER,
        f"a lowercase UUID, as listed by the tools that read, got '{UPPER}'; use {ID}",
    ),
    ("get_message", "message_id", ID + "\n", f"; use {ID}"),
    ("get_message", "message_id", ID[:-1], "message_id must be a lowercase UUID"),
    ("get_message", "message_id", "../" + ID, "message_id must be a lowercase UUID"),
    ("find_agents", "capability", "a" * 51, "capability must be 1 to 50 of a-z"),
    ("find_agents", "capability", "review\n", "got 'review\\n'; use review"),
    ("send_message", "content", "", "content must not be empty"),
    ("send_message", "content", " \t\r\n", "content must be text that is not blank"),
    ("send_message", "content", LONG_TEXT + "x", "at most 32000 characters, got 32001; shorten or split it"),
    ("send_message", "content", "half \ud83d", "content must be valid Unicode text; it holds half of a surrogate pair"),
    *[
        ("acquire_lock", "names", [name], f"or src/** for all below src; no other '*', no empty step, got '{name}'.")
        for name in ("src/*.py", "a//b", "**/a", "a/**/b", "src/")
    ],
    ("acquire_lock", "names", ["half-\ud83d"], "item 1 must be valid Unicode text; it holds half of"),
    ("search_messages", "query", "\udc00", "query must be valid Unicode text"),
    ("register", "signature", "x" * 87, "signature must have at least 88 characters"),
    ("list_channels", "type", "projects", "one of project, technology, environment, global, got 'projects'; did you "),
    ("list_channels", "type", "projects", "did you mean project?"),
    ("list_channels", "type", "?!", "type must be one of project, technology, environment, global, got '?!'"),
    ("list_channels", "type", "project\n", "type must be one of"),
    ("mark_mentions_read", "mention_ids", [], "mention_ids must have 1 to 100 items, got 0; leave the call out"),
    ("mark_mentions_read", "mention_ids", [ID] * 101, "1 to 100 items, got 101; send them in several calls"),
    ("mark_mentions_read", "mention_ids", [ID, 5], "mention_ids must be a list of texts; item 2 is the number 5"),
    ("mark_mentions_read", "mention_ids", [ID, None], "mention_ids must be a list of texts; item 2 is null"),
    ("mark_mentions_read", "mention_ids", [ID, ID + "\n"], "mention_ids item 2 must be a lowercase UUID"),
    ("mark_mentions_read", "mention_ids", ID, f"mention_ids must be a list, got the text '{ID}'; send [\"{ID}\"]"),
    ("mark_mentions_read", "mention_ids", {"a": ID}, "mention_ids must be a list, got an object"),
    ("set_card", "capabilities", ["a"] * 21, "capabilities must have 0 to 20 items, got 21"),
    ("set_card", "capabilities", ["\ud800"], "capabilities item 1 must be 1 to 50 of a-z"),
    ("send_message", "metadata", "{}", "metadata must be a JSON object, got the text '{}'"),
    ("send_message", "metadata", [], "metadata must be a JSON object, got a list"),
    ("send_message", "metadata", sized(4097), "at most 4096 characters as JSON, got 4097; shorten it"),
    ("send_message", "metadata", {1: 2}, "metadata must be a JSON object: its names must be texts"),
    *[
        ("send_message", "metadata", value, "metadata must be a JSON object: it holds something JSON cannot")
        for value in ({"a": float("nan")}, {"a": object()}, {"a": ["\ud800"]}, nested(100_000), cyclic())
    ],
]


@pytest.mark.parametrize(("name", "argument", "value", "words"), REFUSED, ids=label)
def test_what_does_not_fit_is_refused_with_the_argument_the_rule_and_the_fix(
    name: str, argument: str, value: Any, words: str
) -> None:
    error = refusal(name, {**OTHERS.get(name, {}), argument: value})
    assert argument in error.details["arguments"]
    assert error.message.startswith(f"{name}: ")
    assert f"{argument} " in error.message
    assert words in error.message
    assert len(error.message) < 1500
    assert (error.code, error.retryable) == ("bad_request", False)


# Unknown and missing


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "read_messages",
            {"channel": "general", "limt": 5},
            "read_messages: there is no argument 'limt'; did you mean limit?",
        ),
        (
            "list_channels",
            {"zzz\n": 5},
            "list_channels: there is no argument 'zzz\\n'; it takes: type.",
        ),
        ("check_board", {"limit": 5}, "check_board: there is no argument 'limit'; it takes none."),
        ("list_channels", {5: 5}, "list_channels: there is no argument '5'; it takes: type."),
        (
            "send_message",
            {"channel": "general"},
            "send_message: content is required: Text. '@agent-name' notifies that agent.",
        ),
        (
            "send_message",
            {"channel": None, "content": "x"},
            "send_message: channel is required: Channel name without '#'. It is created if new.",
        ),
    ],
)
def test_unknown_and_missing_arguments_are_refused_by_name(name: str, arguments: Arguments, message: str) -> None:
    assert refusal(name, arguments).message == message


def test_every_problem_of_a_call_is_told_at_once() -> None:
    error = refusal("read_messages", {"limit": 0, "mark_read": "yes", "before_time": AT})
    assert sorted(error.details["arguments"]) == ["before_time", "channel", "limit", "mark_read"]
    for words in ("limit must be from", "mark_read must be true", "argument 'before_time'", "channel is required"):
        assert words in error.message


def test_of_very_many_problems_the_first_ten_are_told() -> None:
    error = refusal("check_board", {f"unknown{number}": number for number in range(1000)})
    assert error.details["arguments"] == [f"unknown{number}" for number in range(10)]
    assert len(error.message) < 1000


def test_a_required_argument_that_does_not_fit_is_told_once() -> None:
    assert refusal("read_messages", {"channel": 5}).details["arguments"] == ["channel"]


@pytest.mark.parametrize("lenient", [False, True], ids=["strict", "lenient"])
def test_null_means_absent(lenient: bool) -> None:
    nulls = dict.fromkeys(OPERATIONS["send_message"].parameters)
    assert check(OPERATIONS["send_message"], {**nulls, **HELLO}, lenient=lenient) == HELLO


def test_an_unknown_argument_is_refused_even_when_null() -> None:
    assert refusal("check_board", {"limit": None}).details["arguments"] == ["limit"]


@pytest.mark.parametrize("number", [20.0, 1.0, 200.0])
def test_a_float_that_is_an_integer_becomes_one(number: float) -> None:
    limit = check(OPERATIONS["read_messages"], {**GENERAL, "limit": number})["limit"]
    assert (type(limit), limit) == (int, number)


def test_a_tuple_counts_as_a_list() -> None:
    assert check(OPERATIONS["mark_mentions_read"], {"mention_ids": (ID, OTHER_ID)}) == {"mention_ids": [ID, OTHER_ID]}


# Models


CLIENT_ONLY = [
    (operation, parameter)
    for operation in OPERATIONS.values()
    for parameter in operation.parameters.values()
    if parameter.client_only
]


@pytest.mark.parametrize(("operation", "parameter"), CLIENT_ONLY, ids=lambda thing: thing.name)
def test_a_model_may_not_set_what_is_for_clients_only_nor_hear_of_it(
    operation: Operation[..., Any], parameter: Parameter
) -> None:
    error = refusal(operation.name, {parameter.name: None}, for_model=True)
    assert f"there is no argument '{parameter.name}'" in error.message
    assert error.message.count(parameter.name) == 1


def test_the_contract_has_arguments_for_clients_only() -> None:
    assert {parameter.name for _, parameter in CLIENT_ONLY} == {
        *("metadata", "cursor", "mark_read", "kind", "expires_in", "seen", "since", "scope"),
        *("ephemeral", "vanish_after", "result_schema"),
    }


# Lenient


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        (0, None), ("0", None), (-7, 1), (10**40, 200), ("201", 200),
        ("9" * 19, 200), ("9" * 5000, 200), ("-3", 1), (" +30 ", 30), ("020", 20), (300.0, 200),
        *[(junk, None) for junk in ("", " ", "many", "1e2", "20.0", "0x10", "1_0", "٢٠")],
    ],
)  # fmt: skip
def test_lenient_integers_are_read_from_text_and_clamped_and_zero_or_junk_is_absent(
    given: object, limit: int | None
) -> None:
    checked = check(OPERATIONS["read_messages"], {**GENERAL, "limit": given}, lenient=True)
    assert checked == ({**GENERAL, "limit": limit} if limit else GENERAL)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        *[(text, True) for text in ("true", "TRUE", "True", " tRuE\n", "1")],
        *[(text, False) for text in ("false", "FALSE", "fAlse", "0")],
        *[(junk, None) for junk in ("", "yes", "2", "ttrue", "null")],
    ],
)
def test_lenient_booleans_are_read_from_text_whatever_their_case_and_junk_is_absent(
    given: str, value: bool | None
) -> None:
    checked = check(OPERATIONS["check_mentions"], {"unread": given}, lenient=True)
    assert checked == ({} if value is None else {"unread": value})


def test_lenient_zero_counts_where_it_is_allowed() -> None:
    assert check(OPERATIONS["get_message"], {"message_id": ID, "offset": "0"}, lenient=True)["offset"] == 0


def test_lenient_ignores_unknown_members_and_what_a_model_may_not_set() -> None:
    given = {**GENERAL, "_airchat": 1, "": None, "cursor": "c"}
    assert check(OPERATIONS["read_messages"], given, lenient=True) == {**GENERAL, "cursor": "c"}
    assert check(OPERATIONS["read_messages"], given, lenient=True, for_model=True) == GENERAL


def test_lenient_junk_for_a_required_argument_leaves_it_missing() -> None:
    error = refusal("sample", {"count": "many", "sure": "maybe"}, lenient=True)
    assert error.message == "sample: count is required: How many; sure is required: Whether."


@pytest.mark.parametrize(
    ("name", "argument", "value", "words"),
    [row for row in REFUSED if named(row[0]).parameters[row[1]].kind in ("string", "array", "object")],
    ids=label,
)
def test_lenient_keeps_every_rule_for_texts_lists_and_objects(name: str, argument: str, value: Any, words: str) -> None:
    assert words in refusal(name, {**OTHERS.get(name, {}), argument: value}, lenient=True).message


# Any arguments at all

any_text = st.text(st.characters(), max_size=30)  # with lone surrogates
scalars = st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.binary(max_size=3) | st.just(object())
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(any_text | st.integers(), inner, max_size=3)
        | st.tuples(inner)
        | st.frozensets(st.integers(), max_size=2)
    ),
    max_leaves=6,
)
texts = ["general", ID, AT, "utf-8", "15m", "project", "20", "true", "x" * 1001, "general\n", "General", "½"]
fitting = st.sampled_from([*texts, 20, 5.0, True, 0, 201, [], [ID], ["tag"], ["tag", "Tag"], {}, {"k": 1}])


def arguments_for(operation: Operation[..., Any]) -> st.SearchStrategy[Arguments]:
    names = st.sampled_from([*operation.parameters, "chanel", "limits", "metadata", ""]) | any_text | st.integers()
    return st.dictionaries(names, fitting | anything, max_size=6)


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), lenient=st.booleans(), for_model=st.booleans())
def test_any_arguments_pass_for_good_or_are_refused_by_name(
    name: str, data: st.DataObject, lenient: bool, for_model: bool
) -> None:
    operation = OPERATIONS[name]
    arguments = data.draw(arguments_for(operation))
    try:
        checked = check(operation, arguments, lenient=lenient, for_model=for_model)
    except InvalidArguments as error:
        culprits = error.details["arguments"]
        assert culprits
        for culprit in culprits:
            known = culprit in operation.parameters and f"{culprit} " in error.message
            assert known or shown(culprit) in error.message
        assert error.message.splitlines() == [error.message]
        error.message.encode()
    else:
        assert set(checked) <= set(operation.parameters)
        assert check(operation, checked, lenient=lenient, for_model=for_model) == checked
        json.dumps(checked, allow_nan=False).encode()


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from([*OPERATIONS]))
def test_what_strict_accepts_lenient_accepts_alike(data: st.DataObject, name: str) -> None:
    arguments = data.draw(arguments_for(OPERATIONS[name]))
    try:
        checked = check(OPERATIONS[name], arguments)
    except InvalidArguments:
        return
    assert check(OPERATIONS[name], arguments, lenient=True) == checked
