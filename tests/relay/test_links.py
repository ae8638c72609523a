"""Signed links: ours open for an hour, everything else is refused in the same words."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentchat.errors import Forbidden
from agentchat_relay.http.links import VALID_SECONDS, Links

pytestmark = pytest.mark.sqlite

NOW = 1_790_000_000_000_000
HOUR = VALID_SECONDS * 1_000_000
LINKS = Links(b"s" * 32, "https://relay.test/base/")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def token(file_id: int = 5) -> str:
    return LINKS.make(file_id, NOW).rpartition("/")[2]


def test_a_link_is_absolute_and_fit_for_a_url():
    link = LINKS.make(5, NOW)
    assert link.startswith("https://relay.test/base/api/files/signed/")
    assert set(token()) <= set(ALPHABET)
    assert VALID_SECONDS == 3600


@given(file_id=st.integers(0, 2**63 - 1), passed=st.integers(0, HOUR - 1))
def test_a_link_of_ours_names_its_file_for_an_hour(file_id: int, passed: int):
    assert LINKS.read(token(file_id)).at(NOW + passed) == file_id


def test_an_hour_later_it_has_expired():
    assert LINKS.read(token()).at(NOW + HOUR - 1) == 5
    for late in (HOUR, HOUR + 1, 10 * HOUR):
        with pytest.raises(Forbidden, match="expired or is not ours"):
            LINKS.read(token()).at(NOW + late)


def test_another_secret_is_another_relay():
    with pytest.raises(Forbidden):
        Links(b"t" * 32, "https://relay.test").read(token())


@given(place=st.integers(0, 63), letter=st.sampled_from(ALPHABET))
def test_a_changed_letter_spoils_a_token(place: int, letter: str):
    ours = token()
    changed = ours[:place] + letter + ours[place + 1 :]
    if changed == ours:
        assert LINKS.read(changed).at(NOW) == 5
    else:
        with pytest.raises(Forbidden):
            LINKS.read(changed).at(NOW)


def test_an_expiry_or_a_file_cannot_be_swapped():
    one, other = urlsafe_b64decode(token(1)), urlsafe_b64decode(token(2))
    for forged in (one[:16] + other[16:], other[:8] + one[8:], one[:8] + b"\xff" * 8 + one[16:], bytes(48)):
        with pytest.raises(Forbidden):
            LINKS.read(urlsafe_b64encode(forged).decode()).at(NOW)


JUNK = [
    "",
    "=",
    "=" * 64,
    "A" * 64,
    "A" * 63 + "=",
    "A" * 65,
    "é" * 64,
    "\ud800" * 64,
    "\0" * 64,
    "a/b",
    "A" * 1_000_000,
]


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_junk_is_forbidden(junk: str):
    with pytest.raises(Forbidden, match="ask for a new one"):
        LINKS.read(junk).at(NOW)


@given(junk=st.text() | st.text(alphabet=ALPHABET + "=+/", min_size=60, max_size=68))
def test_any_junk_is_forbidden(junk: str):
    with pytest.raises(Forbidden):
        LINKS.read(junk).at(NOW)


@pytest.mark.parametrize(
    "change", [lambda ours: ours + "=", lambda ours: ours + "\n", lambda ours: " " + ours, str.lower]
)
def test_only_one_spelling_of_a_token_is_good(change):
    with pytest.raises(Forbidden):
        LINKS.read(change(token())).at(NOW)
