"""Approvals over the wire: who is asked and told, what a verdict comes to, whose it is, and who sees it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentchat import Client, types
from agentchat.approval import call_hash, canonical
from agentchat.contract import OPERATIONS
from agentchat.contract._approvals import LONGEST_ARGUMENTS
from agentchat.errors import BadRequest, Conflict, Forbidden, InvalidArguments, LimitReached, NotFound
from agentchat.text import render
from agentchat_relay.embedded import Embedded
from agentchat_relay.service import administration
from agentchat_relay.service.work import approvals

from . import reviewing
from .conftest import Clock, fresh, raw
from .reviewing import CALL, House, actions, asked, dies, items, late, pending

asleep, house = reviewing.asleep, reviewing.house  # fixtures


# Asking


def test_whoever_holds_the_role_is_asked(house: House) -> None:
    ann, rob, rae, eve = house.agent(), house.reviewer(), house.reviewer(), house.agent()
    made = ann.request_approval("bash", json.dumps(CALL), reason="the build is stale", urgent=True)
    approval = made["approval"]
    assert (made["reviewers"], made["idempotent"], made["yours"]) == (2, False, False)
    assert (approval["state"], approval["verdict"], approval["version"]) == ("pending", None, 1)
    assert (approval["requester"], approval["decided_by"], approval["ended_at"]) == (ann.agent, None, None)
    assert approval["call_hash"] == call_hash("bash", CALL)
    assert (approval["allowed_hash"], approval["message"]) == (None, None)
    assert (approval["preview"], approval["arguments_size"]) == (canonical(CALL), len(canonical(CALL)))
    for reviewer in (rob, rae):
        (item,) = items(reviewer)
        assert (item["kind"], item["urgent"], item["from"]) == ("approval", True, ann.agent)
        assert item["work"] == {"id": approval["id"], "kind": "approval", "state": "pending"}
        assert item["content"] == f"Approval wanted: bash\n\n{canonical(CALL)}\n\nthe build is stale"
        assert item["expires_at"] == approval["deadline_at"]
        assert pending(reviewer) == [approval["id"]]
    assert items(ann) == items(eve) == [], "who asks is not asked, nor who may not answer"
    assert ann.list_sent()["messages"] == [], "what the relay wrote in its name is not its mail"
    note = ann.get_message(approval["message_id"] or "")["message"]
    assert (note["kind"], note["content"].split("\n")[0]) == ("system", "You asked for approval: bash")
    with pytest.raises(NotFound):
        eve.get_message(approval["message_id"] or "")


def test_nobody_may_be_there_to_answer(house: House) -> None:
    ann = house.agent()
    made = ann.request_approval("bash", "{}")
    assert (made["reviewers"], made["approval"]["state"]) == (0, "pending")
    house.grant(ann)
    assert ann.request_approval("bash", "{}")["reviewers"] == 0, "nobody is its own"
    assert items(ann) == [] == pending(ann)


def test_reviewers_of_another_space_are_others(house: House, live: Embedded) -> None:
    live.space(space := fresh("else"))
    ann, other = house.agent(), House(live, space)
    far = other.reviewer()
    made = ann.request_approval("bash", "{}")
    assert made["reviewers"] == 0
    assert items(far) == [] == pending(far)
    with pytest.raises(NotFound):
        far.get_approval(made["approval"]["id"])
    with pytest.raises(NotFound):
        far.decide_approval(made["approval"]["id"], "allow")
    other.close()


def test_a_long_call_is_shown_in_part_and_given_whole(house: House) -> None:
    ann, rob = house.agent(), house.reviewer()
    call = {"text": "é😀" * 2500, "z": 1}
    approval = asked(ann, call)
    whole = canonical(call)
    assert approval["preview"] == whole[:2000]
    assert approval["arguments_size"] == len(whole) > 5000
    (item,) = items(rob)
    first = f"Shown are the first 2000 of {len(whole)} characters of its arguments; get_approval has all."
    shown = f"{first}\n{whole[:2000]}\n({len(whole) - 2000} more characters)"
    assert item["content"] == f"Approval wanted: bash\n\n{shown}"
    assert ann.get_message(approval["message_id"] or "")["message"]["content"].endswith(shown)
    for client in (ann, rob):
        details = client.get_approval(approval["id"])
        assert (details["arguments"], details["allowed_arguments"]) == (call, None)
        assert call_hash("bash", details["arguments"]) == approval["call_hash"]


@pytest.mark.parametrize("verdict", [None, "allow", "edit"])
def test_a_model_reads_the_longest_call_that_is_to_be_decided_or_made(house: House, verdict: str | None) -> None:
    ann, rob = house.agent(), house.reviewer()
    room = LONGEST_ARGUMENTS - len('{"text":""}')
    wanted, allowed = ({"text": letter * room} for letter in "xy")
    id = ann.request_approval("bash", canonical(wanted), reason="r" * 2000)["approval"]["id"]
    if verdict is not None:
        edited = canonical(allowed) if verdict == "edit" else None
        rob.decide_approval(id, verdict, message="m" * 8000, arguments=edited)
    for client in (ann, rob):
        shown = render(OPERATIONS["get_approval"], client.get_approval(id), reachable=OPERATIONS)
        assert f"\n| {canonical(allowed if verdict == 'edit' else wanted)}\n" in shown
        assert f"asked by @{ann.agent}" in shown and "\n| For: rrr" in shown
        assert "\n1 20" in shown, "and what happened to it"


def test_no_reason_passes_for_the_end_of_a_long_call(house: House) -> None:
    """Its last argument is what matters, and the reason closes the JSON before it."""
    ann, rob = house.agent(), house.reviewer()
    harmless, end = {"command": "ls", "environment": ""}, '"}'
    room = 2000 - len(canonical(harmless)) + len(end)
    asked(ann, {**harmless, "environment": "x" * room, "sudo_command": "rm -rf /"}, reason=end)
    (item,) = items(rob)
    head, call, mark, *reason = item["content"].split("\n\n", 1)[1].split("\n")
    assert json.loads(call + end) == {**harmless, "environment": "x" * room}
    assert head.startswith("Shown are the first 2000 of 2028 characters")
    assert (mark, reason) == ("(28 more characters)", ["", end])


@pytest.mark.parametrize(
    "text",
    [
        " {\n} ",
        '{"b": 1, "a": {"d": [1.0, 1, true, null], "c": ""}}',
        '{"big": 123456789012345678901234567890, "small": -98765432109876543210}',
        '{"float": 1e22, "tiny": 5e-324, "minus": -0.0, "third": 0.3333333333333333}',
        '{"\\u00e9\\ud83d\\ude00": "\\u0000\\u2028\\u202e</script>", "": {}}',
        '{"' + "x" * 16_376 + '":1}',
    ],
)
def test_what_comes_back_is_what_was_asked(house: House, text: str) -> None:
    ann, rob = house.agent(), house.reviewer()
    approval = ann.request_approval("bash", text)["approval"]
    wanted = json.loads(text)
    assert approval["call_hash"] == call_hash("bash", wanted)
    assert approval["preview"] == canonical(wanted)[:2000]
    decided = rob.decide_approval(approval["id"], "allow")["approval"]
    details = ann.get_approval(approval["id"])
    assert canonical(details["arguments"]) == canonical(details["allowed_arguments"] or {}) == canonical(wanted)
    assert decided["allowed_hash"] == approval["call_hash"]


NO_ARGUMENTS = [
    "[]", '"{}"', "12", "null", "{]", "{'a': 1}", '{"a": 1}{}',
    '{"a": NaN}', '{"a": -Infinity}', '{"a": 1e400}', '{"a": [-1e999]}',
    '{"a": "\\ud800"}', '{"\\udc00": 1}',
    '{"a": 1, "a": 1}', '{"a": [{"b": 1, "\\u0062": 2}]}',
    '{"a":' * 33 + "1" + "}" * 33, '{"a":' + "[" * 32 + "]" * 32 + "}", '{"a":' * 2000 + "1" + "}" * 2000,
    *('{"a":' + "[" * many + "]" * many + "}" for many in (900, 960, 970, 980, 990, 8000)),
    '{"a":' + "1" * 5000 + "}",
]  # fmt: skip


@pytest.mark.parametrize("sign", ["", "-"])
def test_a_number_of_too_many_digits_is_called_that(house: House, sign: str) -> None:
    with pytest.raises(BadRequest) as caught:
        house.agent().request_approval("bash", f'{{"a": {sign}{"1" * 5001}}}')
    told = f"arguments must be a JSON object, as text: the number {sign}1"
    assert caught.value.message.startswith(told)
    assert caught.value.message.endswith("1… has too many digits, 5001.")


@pytest.mark.parametrize("text", NO_ARGUMENTS, ids=lambda text: text if len(text) < 40 else f"{text[:6]}-{len(text)}")
def test_what_is_no_object_of_json_is_refused(house: House, text: str) -> None:
    ann, rob = house.agent(), house.reviewer()
    with pytest.raises(BadRequest, match="arguments"):
        ann.request_approval("bash", text)
    id = asked(ann)["id"]
    with pytest.raises(BadRequest, match="arguments"):
        rob.decide_approval(id, "edit", arguments=text)
    assert ann.get_approval(id)["approval"]["state"] == "pending"
    assert len(items(rob)) == 1


def test_as_deep_as_is_allowed(house: House) -> None:
    ann, rob = house.agent(), house.reviewer()
    text = '{"a":' * 31 + "[]" + "}" * 31
    id = ann.request_approval("bash", text)["approval"]["id"]
    rob.decide_approval(id, "allow")
    assert ann.get_approval(id)["allowed_arguments"] == json.loads(text)


def test_more_than_sixteen_kibibytes_are_refused(house: House) -> None:
    ann = house.agent()
    exactly = json.dumps({"a": "x" * (16_384 - 9)})
    assert len(exactly) == 16_384 == len(json.dumps({"a": ""})) + 16_375
    ann.request_approval("bash", exactly)
    longer = exactly.replace(": ", ":  ")
    with pytest.raises(InvalidArguments, match="arguments"):
        ann.request_approval("bash", longer)
    assert raw(ann, "POST", "/api/v2/approvals", {"tool_name": "bash", "arguments": longer})[0] == 400


@pytest.mark.parametrize("tool", ["mcp__git.push/x-1", "!", "~" * 200, '"<&>$(x)', "@everybody"])
def test_odd_names_of_tools_are_names(house: House, tool: str) -> None:
    ann, rob = house.agent(), house.reviewer()
    approval = asked(ann, {}, tool)
    assert (approval["tool_name"], approval["call_hash"]) == (tool, call_hash(tool, {}))
    assert [item["kind"] for item in items(rob)] == ["approval"]


@pytest.mark.parametrize("tool", ["", " ", "a b", "bash\n", "b\x00", "b\u00e4sh", "ba\u200bsh", "x" * 201, "\x7f"])
def test_what_is_no_name_of_a_tool_is_refused(house: House, tool: str) -> None:
    ann = house.agent()
    with pytest.raises(InvalidArguments, match="tool_name") as caught:
        ann.request_approval(tool, "{}")
    assert "; use " not in str(caught.value)  # it is somebody else's name
    assert raw(ann, "POST", "/api/v2/approvals", {"tool_name": tool, "arguments": "{}"})[0] == 400


def test_the_same_key_asks_once(house: House) -> None:
    ann, rob = house.agent(), house.reviewer()
    keyed = ann.with_options(idempotency_key="k1")
    first = keyed.request_approval("bash", "{}")
    assert keyed.request_approval("bash", "{}") == first
    assert len(items(rob)) == 1
    rob.decide_approval(first["approval"]["id"], "deny")
    again = keyed.request_approval("bash", "{}")["approval"]
    assert (again["id"], again["state"]) == (first["approval"]["id"], "denied")
    with pytest.raises(Conflict) as caught:
        keyed.request_approval("bash", '{"a": 1}')
    assert caught.value.code == "idempotency_mismatch"
    assert len(ann.list_approvals(mine=True)["approvals"]) == 1


def test_what_waits_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    assert approvals._MOST_PENDING == 100
    monkeypatch.setattr(approvals, "_MOST_PENDING", 2)
    ann, bob, rob = house.agent(), house.agent(), house.reviewer()
    ids = [asked(ann)["id"] for _ in range(2)]
    with pytest.raises(LimitReached, match="withdraw some"):
        asked(ann)
    asked(bob)
    ann.withdraw_approval(ids[0])
    ids.append(asked(ann)["id"])
    with pytest.raises(LimitReached):
        asked(ann)
    rob.decide_approval(ids[1], "allow")
    asked(ann)


# Deciding


@pytest.mark.parametrize(
    ("verdict", "state", "words"),
    [("allow", "allowed", "allowed"), ("deny", "denied", "denied"),
     ("respond", "answered", "answered instead of allowed"),
     ("edit", "edited", "allowed with other arguments, which get_approval shows")],
)  # fmt: skip
@pytest.mark.parametrize("message", [None, "", "mind the tests"])
def test_a_verdict_reaches_who_asked(house: House, verdict: Any, state: str, words: str, message: str | None) -> None:
    ann, rob, rae = house.agent(), house.reviewer(), house.reviewer()
    approval = asked(ann)
    if verdict == "respond":
        message = message or "make clean"
    other = {"command": "make clean"}
    more = {"arguments": json.dumps(other, indent=1)} if verdict == "edit" else {}
    made = rob.decide_approval(approval["id"], verdict, message=message, **more)
    assert (made["idempotent"], made["yours"], made["reviewers"]) == (False, True, 2)
    decided = made["approval"]
    assert (decided["state"], decided["verdict"], decided["version"]) == (state, verdict, 2)
    assert (decided["decided_by"], decided["message"]) == (rob.agent, message or None)
    assert decided["ended_at"] is not None
    allowed = {"allow": CALL, "edit": other}.get(verdict)
    assert decided["allowed_hash"] == (None if allowed is None else call_hash("bash", allowed))
    assert decided["call_hash"] == approval["call_hash"]
    (item,) = items(ann)
    assert (item["kind"], item["from"], item["expires_at"]) == ("approval", rob.agent, None)
    assert item["content"] == f"Your call of bash is {words}." + (f"\n\n{message}" if message else "")
    assert item["work"] == {"id": approval["id"], "kind": "approval", "state": state}
    told = ann.get_message(item["message_id"] or "")["message"]
    assert (told["parent_message_id"], told["kind"]) == (approval["message_id"], "system")
    assert items(rob) == items(rae) == [], "nobody needs to look at it any more"
    assert pending(rob) == pending(rae) == []
    for client in (ann, rob, rae):
        details = client.get_approval(approval["id"])
        assert (details["approval"], details["arguments"]) == (decided, CALL)
        assert details["allowed_arguments"] == allowed
        created, ended = details["history"]
        assert (created["action"], created["actor"], created["before"]) == ("create", ann.agent, None)
        assert (ended["action"], ended["actor"], ended["note"]) == (verdict, rob.agent, message or None)
        assert (ended["before"], ended["after"], ended["version"]) == ("pending", state, 2)


def test_what_a_verdict_needs(house: House) -> None:
    ann, rob = house.agent(), house.reviewer()
    id = asked(ann)["id"]
    with pytest.raises(BadRequest, match="edit, which needs them"):
        rob.decide_approval(id, "edit")
    for verdict in ("allow", "deny", "respond"):
        with pytest.raises(BadRequest, match="arguments are for the verdict edit"):
            rob.decide_approval(id, verdict, message="no", arguments="{}")
    for message in (None, "", " \n"):
        with pytest.raises(BadRequest, match="respond needs a message"):
            rob.decide_approval(id, "respond", message=message)
    with pytest.raises(InvalidArguments, match="verdict"):
        rob.decide_approval(id, "maybe")  # type: ignore[arg-type]
    with pytest.raises(InvalidArguments, match="message"):
        rob.decide_approval(id, "deny", message="x" * 8001)
    assert actions(ann, id) == ["create"]


def test_nobody_decides_its_own(house: House) -> None:
    ann, rob = house.reviewer(), house.reviewer()
    id = asked(ann)["id"]
    for _ in range(2):  # whatever state it is in
        for verdict, more in (
            ("allow", {}),
            ("deny", {}),
            ("edit", {"arguments": "{}"}),
            ("respond", {"message": "x"}),
        ):
            with pytest.raises(Forbidden, match="reviewer, and did not ask for it"):
                ann.decide_approval(id, verdict, **more)  # type: ignore[arg-type]
        with pytest.raises(Forbidden):
            ann.dismiss_approval(id)
        with pytest.raises(Forbidden, match="only who made it"):
            rob.withdraw_approval(id)
        rob.decide_approval(id, "allow")
    assert actions(ann, id) == ["create", "allow"]


def test_it_is_between_who_asks_and_reviewers(house: House) -> None:
    ann, eve, rob = house.agent(), house.agent(), house.reviewer()
    house.grant(eve, "admin")
    id = asked(ann, {"password": "hunter2"})["id"]
    position = eve.list_events()["position"]
    for _ in range(2):
        for act in (
            eve.get_approval, eve.dismiss_approval, eve.withdraw_approval,
            lambda it: eve.decide_approval(it, "allow"), lambda it: eve.get_approval(it, wait=5),
        ):  # fmt: skip
            with pytest.raises(NotFound, match=f"There is no approval {id}"):
                act(id)
        rob.decide_approval(id, "allow")
    for listed in (eve.list_approvals(), eve.list_approvals(mine=True), eve.list_approvals(state="allowed")):
        assert listed["approvals"] == []
    assert [event["kind"] for event in eve.list_events(since=position)["events"]] == []
    with pytest.raises(NotFound):
        rob.get_approval("0" * 8 + id[8:])
    with pytest.raises(NotFound):
        rob.decide_approval("0" * 8 + id[8:], "allow")


def test_without_the_role_there_is_nothing_to_decide(house: House) -> None:
    ann, rob, rae = house.agent(), house.reviewer(), house.reviewer()
    first, second = asked(ann)["id"], asked(ann)["id"]
    rob.decide_approval(first, "deny")
    house.revoke(rob)
    assert items(rob) == [] == pending(rob)
    assert rob.get_approval(first)["approval"]["decided_by"] == rob.agent, "its own verdict is still its own"
    with pytest.raises(Forbidden):
        rob.decide_approval(first, "deny")
    with pytest.raises(NotFound):
        rob.decide_approval(second, "deny")
    with pytest.raises(NotFound):
        rob.dismiss_approval(second)
    assert len(items(rae)) == 1
    assert rae.decide_approval(second, "deny")["reviewers"] == 1


# The first verdict counts


def test_who_says_the_same_is_told_so(house: House) -> None:
    ann, rob, rae = house.agent(), house.reviewer(), house.reviewer()
    position = ann.list_events()["position"]
    for verdict, more in (
        ("allow", {}), ("deny", {"message": "no"}), ("edit", {"arguments": '{"b":1, "a":2}'}),
        ("respond", {"message": "x"}),
    ):  # fmt: skip
        id = asked(ann)["id"]
        decided = rob.decide_approval(id, verdict, **more)["approval"]  # type: ignore[arg-type]
        again = {**more, "arguments": '{"a": 2, "b": 1}'} if verdict == "edit" else more
        for client in (rae, rob):
            made = client.decide_approval(id, verdict, **again)  # type: ignore[arg-type]
            assert (made["idempotent"], made["yours"], made["approval"]) == (True, client is rob, decided)
        assert actions(ann, id) == ["create", verdict]
    told = [event["kind"] for event in ann.list_events(since=position, kind="approval")["events"]]
    assert told == [
        "approval.created", "approval.allowed", "approval.created", "approval.denied",
        "approval.created", "approval.edited", "approval.created", "approval.answered",
    ]  # fmt: skip
    assert len(items(ann)) == 4


def test_who_says_something_else_comes_too_late(house: House) -> None:
    ann, rob, rae = house.agent(), house.reviewer(), house.reviewer()
    every: dict[str, dict[str, Any]] = {
        "allow": {}, "deny": {}, "edit": {"arguments": '{"a":1}'}, "respond": {"message": "x"}
    }  # fmt: skip
    for verdict, more in every.items():
        id = asked(ann)["id"]
        decided = rob.decide_approval(id, verdict, **more)["approval"]  # type: ignore[arg-type]
        for other, given in every.items():
            if other != verdict:
                for client in (rae, rob):
                    current = late(client.decide_approval, id, other, **given)
                    assert current == decided
        assert late(rae.dismiss_approval, id) == decided
        assert late(ann.withdraw_approval, id) == decided


def test_the_same_word_with_another_meaning_comes_too_late(house: House) -> None:
    ann, rob, rae = house.agent(), house.reviewer(), house.reviewer()
    edited, answered = asked(ann)["id"], asked(ann)["id"]
    rob.decide_approval(edited, "edit", arguments='{"a": 1}', message="so")
    rob.decide_approval(answered, "respond", message="use make")
    for client in (rob, rae):
        assert late(client.decide_approval, edited, "edit", arguments='{"a": 1.0}')["state"] == "edited"
        assert late(client.decide_approval, answered, "respond", message="no")["message"] == "use make"
        assert client.decide_approval(edited, "edit", arguments='{"a":1}')["yours"] is (client is rob)
    assert ann.get_approval(edited)["allowed_arguments"] == {"a": 1}


@pytest.mark.parametrize("verdicts", [["allow"], ["allow", "deny"], ["edit", "respond", "deny", "allow"]])
def test_of_many_at_once_one_decides(house: House, verdicts: list[str]) -> None:
    ann, reviewers = house.agent(), [house.reviewer() for _ in range(8)]
    id = asked(ann)["id"]
    position = ann.list_events()["position"]

    def decide(number: int) -> tuple[str, str, Any]:
        verdict, client = verdicts[number % len(verdicts)], reviewers[number]
        more = {"edit": {"arguments": '{"a":1}'}, "respond": {"message": "x"}}.get(verdict, {})
        try:
            return client.agent or "", verdict, client.decide_approval(id, verdict, **more)  # type: ignore[arg-type]
        except Conflict as error:
            return client.agent or "", verdict, error

    with ThreadPoolExecutor(8) as threads:
        ended = [*threads.map(decide, range(8))]
    final = ann.get_approval(id)["approval"]
    ((winner, decisive, _),) = [
        one for one in ended if not isinstance(one[2], Conflict) and one[2]["yours"] and not one[2]["idempotent"]
    ]
    assert (final["decided_by"], final["verdict"], final["version"]) == (winner, decisive, 2)
    for name, verdict, answer in ended:
        if verdict != decisive:
            assert (answer.code, answer.current) == ("conflict", final)
        elif name != winner:
            assert (answer["idempotent"], answer["yours"], answer["approval"]) == (True, False, final)
    assert actions(ann, id) == ["create", decisive]
    assert len(ann.list_events(since=position, kind="approval")["events"]) == len(items(ann)) == 1
    assert [items(reviewer) for reviewer in reviewers] == [[]] * 8


# No verdict


def test_to_dismiss_is_no_verdict(house: House) -> None:
    ann, rob, rae = house.agent(), house.reviewer(), house.reviewer()
    id = asked(ann)["id"]
    made = rob.dismiss_approval(id)
    assert (made["idempotent"], made["yours"], made["approval"]["state"]) == (False, False, "pending")
    assert made["approval"]["decided_by"] is None
    assert (len(items(rob)), len(items(rae)), items(ann)) == (0, 1, [])
    again = rob.dismiss_approval(id)
    assert (again["idempotent"], again["approval"]) == (True, made["approval"])
    assert pending(rob) == pending(rae) == [id]
    assert actions(ann, id) == ["create", "dismiss"]
    assert rae.dismiss_approval(id)["idempotent"] is False
    assert rob.decide_approval(id, "allow")["yours"] is True, "it can still decide"
    assert actions(ann, id) == ["create", "dismiss", "dismiss", "allow"]


def test_what_comes_back_can_be_dismissed_again(house: House) -> None:
    """By a new role, or as a dead letter."""
    ann, rob = house.agent(), house.reviewer()
    id = asked(ann)["id"]
    rob.dismiss_approval(id)
    house.revoke(rob)
    house.grant(rob)
    (item,) = items(rob)
    dies(rob)
    rob.requeue_items([item["item_id"]])
    assert len(items(rob)) == 1
    assert rob.dismiss_approval(id)["idempotent"] is True
    assert items(rob) == []
    assert actions(ann, id) == ["create", "dismiss"]


def test_what_nobody_decided_can_be_taken_back(house: House) -> None:
    ann, rob = house.agent(), house.reviewer()
    id = asked(ann)["id"]
    made = ann.withdraw_approval(id, reason="found another way")
    assert (made["approval"]["state"], made["approval"]["verdict"]) == ("withdrawn", None)
    assert (made["approval"]["message"], made["approval"]["decided_by"]) == ("found another way", None)
    assert (made["idempotent"], made["yours"]) == (False, False)
    assert items(rob) == items(ann) == [] == pending(rob)
    assert ann.withdraw_approval(id, reason="again")["idempotent"] is True
    assert late(rob.decide_approval, id, "allow") == made["approval"]
    assert late(rob.dismiss_approval, id) == made["approval"]
    details = ann.get_approval(id)
    assert details["allowed_arguments"] is None
    assert details["history"][-1]["note"] == "found another way"


# Lists, events, the operator


def test_lists_of_requests(house: House) -> None:
    ann, bob, rob = house.agent(), house.agent(), house.reviewer()
    made = [asked(ann, {"n": number})["id"] for number in range(6)]
    of_bob, of_rob = asked(bob)["id"], asked(rob)["id"]
    rob.decide_approval(made[0], "allow")
    rob.decide_approval(made[1], "deny")
    rob.decide_approval(made[2], "edit", arguments="{}")
    rob.decide_approval(made[3], "respond", message="x")
    ann.withdraw_approval(made[4])

    def listed(client: Client, **which: Any) -> list[str]:
        return [approval["id"] for approval in client.list_approvals(**which)["approvals"]]

    assert listed(rob) == [of_bob, made[5]], "what it asked for itself is not for it to decide"
    assert listed(ann, mine=True) == made[::-1]
    assert listed(rob, mine=True) == [of_rob]
    assert listed(ann) == listed(bob, state="allowed") == []
    states: tuple[Any, ...] = ("allowed", "denied", "edited", "answered", "withdrawn", "pending")
    for state, id in zip(states, made, strict=True):
        assert listed(ann, mine=True, state=state) == [id]
        assert listed(rob, state=state) == ([of_bob, id] if state == "pending" else [id])
    assert listed(ann, mine=True, state="expired") == listed(rob, state="expired") == []
    with pytest.raises(InvalidArguments, match="state"):
        listed(ann, state="open")


def test_lists_go_on_where_they_ended(house: House) -> None:
    ann, rob = house.agent(), house.reviewer()
    made = [asked(ann, {"n": number})["id"] for number in range(5)]
    which: dict[str, Any]
    for client, which in ((rob, {}), (ann, {"mine": True}), (ann, {"mine": True, "state": "pending"})):
        found: list[str] = []
        page = client.list_approvals(limit=2, **which)
        while True:
            found += [approval["id"] for approval in page["approvals"]]
            assert page["has_more"] is (page["next_cursor"] is not None)
            if page["next_cursor"] is None:
                break
            page = client.list_approvals(limit=2, cursor=page["next_cursor"], **which)
        assert found == made[::-1]
    cursor = ann.list_approvals(mine=True, limit=2)["next_cursor"]
    with pytest.raises(BadRequest, match="cursor"):
        rob.list_approvals(cursor=cursor)
    with pytest.raises(BadRequest, match="cursor"):
        ann.list_approvals(cursor=cursor)


def test_who_asked_sees_what_happens(house: House) -> None:
    ann, rob, rae, eve = house.agent(), house.reviewer(), house.reviewer(), house.agent()
    position = ann.list_events()["position"]
    id = asked(ann, {"token": "secret"})["id"]
    rae.dismiss_approval(id)
    rob.decide_approval(id, "deny", message="no secrets")

    def told(client: Client) -> list[types.Event]:
        return client.list_events(since=position, kind="approval")["events"]

    assert [(event["kind"], event["actor"], event["subject"]) for event in told(ann)] == [
        ("approval.created", ann.agent, id),
        ("approval.dismissed", rae.agent, id),
        ("approval.denied", rob.agent, id),
    ]
    data = told(ann)[-1]["data"] or {}
    assert (data["before"], data["after"], data["version"], data["note"]) == ("pending", "denied", 3, "no secrets")
    assert data["approval"] == ann.get_approval(id)["approval"]
    assert [event["kind"] for event in told(rob)] == ["approval.denied"], "what it did itself"
    assert "secret" not in json.dumps(eve.list_events(since=position, limit=500))
    inbox = [event["kind"] for event in rae.list_events(since=position, kind="inbox")["events"]]
    assert inbox == ["inbox.added", "inbox.acknowledged"]


def test_those_who_did_not_decide_see_their_item_end(house: House) -> None:
    ann, rob, rae = house.agent(), house.reviewer(), house.reviewer()
    position = ann.list_events()["position"]
    id = asked(ann)["id"]
    rob.decide_approval(id, "allow")
    for client, ends in ((rob, ["inbox.acknowledged"]), (rae, ["inbox.expired"])):
        told = client.list_events(since=position, kind="inbox")["events"]
        assert [event["kind"] for event in told if event["actor"] != rob.agent or ends[0] == event["kind"]] == [
            "inbox.added", *ends,
        ]  # fmt: skip


def test_an_operator_sees_who_did_what(house: House, asleep: None, clock: Clock) -> None:
    ann, rob, rae = house.agent(), house.reviewer(), house.reviewer()
    id, silent = asked(ann)["id"], asked(ann, expires_in=60)["id"]
    rae.dismiss_approval(id)
    rob.decide_approval(id, "respond", message="use make")
    clock.ahead += 61
    house.settle()

    def audit(**which: Any) -> list[tuple[Any, ...]]:
        found = house.live.ask(lambda tx: administration.audit(tx, space=house.space, **which))["transitions"]
        return [(row["kind"], row["action"], row["actor"], row["before"], row["after"], row["note"]) for row in found]

    assert audit(id=id) == [
        ("approval", "create", ann.agent, None, "pending", None),
        ("approval", "dismiss", rae.agent, "pending", "pending", None),
        ("approval", "respond", rob.agent, "pending", "answered", "use make"),
    ]
    assert audit(id=silent)[1:] == [("approval", "expire", None, "pending", "expired", None)]
    assert audit(actor=rae.agent) == audit(id=id)[1:2]
