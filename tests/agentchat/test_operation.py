"""The descriptor behind the contract: data on the class, methods on clients; and that every declaration is whole."""

from __future__ import annotations

import inspect
import pydoc
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_type_hints, is_typeddict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat import types
from agentchat._operation import (
    ClientOnly,
    Declared,
    Form,
    Limit,
    Operation,
    Parameter,
    SyncCaller,
    Wire,
    operation,
)
from agentchat.client import Client
from agentchat.contract import OPERATIONS, PRESETS, Admission, Contract
from langchain_agentchat.client import AsyncClient
from tests.conftest import KEY
from tests.servers import CANNED, ID, FakeRelay

AnyOperation = Operation[..., Any]
EVERY = {**OPERATIONS, "register": Admission.register}
PARAMETERS = [
    pytest.param(entry, parameter, id=f"{entry.name}-{parameter.name}")
    for entry in EVERY.values()
    for parameter in entry.parameters.values()
]
SMALL_WORDS = Form("^[a-z]+$", "small words")


class Recorder(SyncCaller):
    """A client that answers with what it was asked."""

    def _invoke(self, operation: AnyOperation, args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        return operation, operation.bind(args, kwargs)

    @operation("POST", "/things/{thing}", writes=True)
    def try_out(
        self,
        thing: Annotated[str, "Which thing.", SMALL_WORDS, Limit(2, 5)],
        count: Annotated[int | None, "How many."] = None,
        *,
        sure: Annotated[bool, "Whether.", ClientOnly(tools=True)] = False,
        kind: Annotated[Literal["one", "two"] | None, "Of which kind.", Wire("card.kind")] = None,
        words: Annotated[list[Annotated[str, SMALL_WORDS]] | None, "Some words.", Limit(0, 3)] = None,
        more: Annotated[dict[str, Any] | None, "An object.", ClientOnly()] = None,
    ) -> types.CardSet:
        """Try a thing
        out.

        Twice.
        """
        raise NotImplementedError


def client(relay: FakeRelay) -> Client:
    return Client(relay.url, KEY)


# The descriptor


def test_the_class_gives_the_operation_as_data() -> None:
    entry = Client.send_message
    assert entry is Contract.send_message is AsyncClient.send_message is OPERATIONS["send_message"]
    assert isinstance(entry, Operation)
    assert (entry.name, entry.verb, entry.path, entry.writes) == ("send_message", "POST", "/api/v2/messages", True)
    assert repr(entry) == "<operation send_message: POST /api/v2/messages>"


def test_an_instance_calls_the_operation(relay: FakeRelay) -> None:
    with client(relay) as agent:
        sent = agent.send_message("general", content="hello")
    assert sent["message"]["id"] == ID
    assert [seen.json() for seen in relay.seen] == [{"channel": "general", "content": "hello"}]


async def test_an_async_instance_gives_a_coroutine(relay: FakeRelay) -> None:
    async with AsyncClient(relay.url, KEY) as agent:
        call = agent.list_readers("general")
        assert inspect.iscoroutine(call)
        assert await call == CANNED["GET", "/api/v2/channels/read"]


def test_each_client_calls_for_itself() -> None:
    one, two = Recorder(), Recorder()
    assert one.try_out("ab") == two.try_out("ab") == (Recorder.try_out, {"thing": "ab"})
    assert "try_out" in repr(one.try_out)
    assert repr(one) in repr(one.try_out)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_bound_operation_has_the_declarations_name_text_and_signature(name: str, relay: FakeRelay) -> None:
    declared = OPERATIONS[name].function
    with client(relay) as agent:
        bound = getattr(agent, name)
        assert (bound.__name__, inspect.getdoc(bound)) == (name, inspect.getdoc(declared))
        wanted = list(inspect.signature(declared).parameters.values())[1:]
        assert list(inspect.signature(bound).parameters.values()) == wanted
        assert inspect.signature(bound).return_annotation == inspect.signature(declared).return_annotation


def test_help_shows_what_an_operation_does_and_takes(relay: FakeRelay) -> None:
    with client(relay) as agent:
        shown = pydoc.render_doc(agent.send_message, renderer=pydoc.plaintext)
    assert "Post a message to a channel." in shown
    assert "send_message" in shown
    for parameter in OPERATIONS["send_message"].parameters:
        assert f"{parameter}:" in shown


# Binding


def test_ordinary_arguments_may_be_given_by_position() -> None:
    assert Recorder().try_out("ab", 3, sure=True) == (Recorder.try_out, {"thing": "ab", "count": 3, "sure": True})


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (("ab", 1, True), {}, r"try_out\(\) takes 2 positional arguments but 3 were given"),
        (("ab",), {"thing": "cd"}, r"try_out\(\) got multiple values for argument 'thing'"),
    ],
)
def test_what_python_would_not_bind_is_a_type_error(
    args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        Recorder().try_out(*args, **kwargs)


@pytest.mark.parametrize("name", ["self", "client", "operation", "args", "kwargs"])
def test_no_name_of_our_machinery_is_taken(name: str) -> None:
    """An argument of that name is passed on, so that the check can refuse it as unknown."""
    assert Recorder().try_out("ab", **{name: 1}) == (Recorder.try_out, {"thing": "ab", name: 1})


@settings(deadline=None)
@given(data=st.data(), name=st.sampled_from([*OPERATIONS]))
def test_binding_agrees_with_python(data: st.DataObject, name: str) -> None:
    entry = OPERATIONS[name]
    args = data.draw(st.lists(st.integers(), max_size=len(entry.parameters) + 1))
    names = [*entry.parameters]
    kwargs = data.draw(st.dictionaries(st.sampled_from(names), st.integers())) if names else {}
    signature = inspect.signature(entry.function)
    try:
        wanted = dict(signature.bind_partial(None, *args, **kwargs).arguments)
    except TypeError:
        with pytest.raises(TypeError):
            entry.bind(args, kwargs)
    else:
        del wanted["self"]
        assert dict(entry.bind(args, kwargs)) == wanted


# The marks


def test_every_mark_is_read() -> None:
    thing, count, sure, kind, words, more = Recorder.try_out.parameters.values()
    assert (thing.kind, thing.form, thing.limit, thing.required) == ("string", SMALL_WORDS, Limit(2, 5), True)
    assert (count.kind, count.required, count.default) == ("integer", False, None)
    assert (sure.kind, sure.default, sure.client_only) == ("boolean", False, ClientOnly(tools=True))
    assert (kind.kind, kind.choices, kind.wire) == ("string", ("one", "two"), ("card", "kind"))
    assert (words.kind, words.limit, words.item_form) == ("array", Limit(0, 3), SMALL_WORDS)
    assert (more.kind, more.client_only, more.wire) == ("object", ClientOnly(), ("more",))
    assert [parameter.description for parameter in (thing, words)] == ["Which thing.", "Some words."]


def test_a_description_is_the_docstring_with_one_line_per_paragraph() -> None:
    assert Recorder.try_out.description == "Try a thing out.\nTwice."
    assert Recorder.try_out.result is types.CardSet


@pytest.mark.parametrize("mark", [5, None, 1.5, ["text"], re.compile("x"), Limit], ids=repr)
def test_a_mark_the_contract_does_not_know_raises(mark: object) -> None:
    with pytest.raises(TypeError, match=r"argument: .* is no mark of the contract"):
        Parameter("argument", Annotated[str, "Text.", mark], None, True)


@pytest.mark.parametrize("kind", [float, bytes, set[str], tuple[str, ...]], ids=repr)
def test_a_type_json_has_no_argument_for_raises(kind: object) -> None:
    with pytest.raises((TypeError, KeyError)):
        Parameter("argument", Annotated[kind, "Text."], None, True)


# The declarations


@pytest.mark.parametrize("entry", EVERY.values(), ids=lambda entry: entry.name)
def test_every_operation_is_described_and_answers_with_a_typed_dict(entry: AnyOperation) -> None:
    assert re.fullmatch(r"[A-Z].*\.", entry.description)
    assert is_typeddict(entry.result)
    assert entry.verb in ("GET", "POST", "PUT", "DELETE")
    assert re.fullmatch(r"/api/[a-z0-9/{}_?=]+", entry.path)


@pytest.mark.parametrize(("entry", "parameter"), PARAMETERS)
def test_every_parameter_is_described_and_its_default_is_allowed(entry: AnyOperation, parameter: Parameter) -> None:
    assert re.fullmatch(r"\S.*\.", parameter.description), "one sentence, ending with a full stop"
    if parameter.default is not None:
        hints: Mapping[str, Any] = get_type_hints(entry.function)
        assert isinstance(parameter.default, str | bool | int)
        assert type(parameter.default) is hints[parameter.name] or parameter.default in parameter.choices
    if parameter.limit is not None:
        assert 0 <= parameter.limit.low <= parameter.limit.high


@pytest.mark.parametrize("entry", EVERY.values(), ids=lambda entry: entry.name)
def test_names_in_a_path_are_required_text_parameters_with_a_form(entry: AnyOperation) -> None:
    for name in re.findall(r"\{(.*?)\}", entry.path):
        parameter = entry.parameters[name]
        assert (parameter.kind, parameter.required) == ("string", True)
        assert parameter.form is not None


@pytest.mark.parametrize("entry", EVERY.values(), ids=lambda entry: entry.name)
def test_wire_names_are_distinct_and_a_query_holds_no_nested_ones(entry: AnyOperation) -> None:
    wires = [parameter.wire for parameter in entry.parameters.values()]
    assert len(set(wires)) == len(wires)
    assert not {wire[0] for wire in wires if len(wire) > 1} & {wire[0] for wire in wires if len(wire) == 1}
    if entry.verb == "GET":
        assert all(len(wire) == 1 for wire in wires)
        assert {parameter.kind for parameter in entry.parameters.values()} <= {"string", "integer", "boolean"}


@pytest.mark.parametrize("entry", OPERATIONS.values(), ids=lambda entry: entry.name)
def test_a_model_sees_at_most_eight_parameters(entry: AnyOperation) -> None:
    assert sum(not parameter.client_only for parameter in entry.parameters.values()) <= 8


def test_operations_are_the_contracts_declarations_in_order_each_with_its_own_route() -> None:
    assert [*OPERATIONS] == [
        name for owner in Contract.__bases__ for name, entry in vars(owner).items() if isinstance(entry, Declared)
    ]
    assert len({(entry.verb, entry.path) for entry in EVERY.values()}) == len(EVERY)
    assert {name for names in PRESETS.values() for name in names} == {*OPERATIONS}


def test_writes_are_declared_where_something_is_written() -> None:
    """Not read off the verb: list_files travels as a POST and changes nothing."""
    assert {name for name, entry in OPERATIONS.items() if entry.writes} == {
        "send_message",
        "send_direct_message",
        "send_to_many",
        "join_group",
        "leave_group",
        "pin_message",
        "unpin_message",
        "mark_mentions_read",
        "mark_channel_read",
        "upload_file",
        "check_inbox",
        "claim_items",
        "acknowledge_items",
        "return_items",
        "renew_claim",
        "requeue_items",
        "create_task",
        "claim_task",
        "decline_task",
        "renew_task",
        "report_progress",
        "return_task",
        "complete_task",
        "fail_task",
        "cancel_task",
        "offer_task",
        "acquire_lock",
        "renew_lock",
        "release_lock",
        "send_interrupt",
        "acknowledge_interrupt",
        "withdraw_interrupt",
        "pause_agents",
        "resume_agents",
        "request_approval",
        "decide_approval",
        "dismiss_approval",
        "withdraw_approval",
        "set_card",
    }
