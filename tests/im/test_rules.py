"""What may be said and changed, and who may do what, by the rules alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BankhubError, Conflict, Forbidden, Invalid
from hub.api import Entry
from im.conversations import rules as conversations
from im.messages import rules as messages

POLICY = messages.Policy()
HOUR_MS = 3_600_000
NOW_MS = 1_800_000_000_000


def said(kind: str = "text", *, by: int = 1, body: bytes | None = b"\xa1x", age_ms: int = 0) -> Entry:
    return Entry(
        stream_id=9, seq=5, entry_id=50, sender_id=by, kind=kind, time_ms=NOW_MS - age_ms, body=body, options=None,
        content=b"", digest=b"", enterprise_id=1, key="k",
    )  # fmt: skip


# --- what is sent ---------------------------------------------------------------------------------------------------


@given(st.text(min_size=1, max_size=200))
def test_a_text_that_shows_something_is_sent(text: str) -> None:
    visible = any(char.isalnum() for char in text)
    for body in (text, {"text": text}):
        try:
            POLICY.check_send("text", body)
        except Invalid:
            assert not visible


@pytest.mark.parametrize("text", ["好", "🫩", "👨‍👩‍👧‍👦", "a" * 8_000, "\n第一行\n第二行", "🇨🇳"])
def test_texts(text: str) -> None:
    POLICY.check_send("text", text)
    POLICY.check_send("text", {"text": text})


@pytest.mark.parametrize(
    "body",
    ["", " \n\t", "\u200b\u200d\u2060", "\u3000", "a" * 8_001, None, 5, True, ["a"], b"a", {}, {"text": ""},
     {"text": 5}, {"text": None}, {"txt": "a"}, {"text": "a", "html": "<b>a</b>"}],
)  # fmt: skip
def test_no_texts(body: object) -> None:
    with pytest.raises(Invalid):
        POLICY.check_send("text", body)


def test_kinds_of_the_service_are_never_sent_and_later_ones_are_refused_by_name() -> None:
    for kind in messages.SYSTEM_KINDS:
        with pytest.raises(Forbidden):
            POLICY.check_send(kind, "x")
    for kind in messages.LATER:
        with pytest.raises(Invalid, match="not served yet"):
            POLICY.check_send(kind, "x")


@given(st.text(max_size=32), st.none() | st.text(max_size=5) | st.dictionaries(st.text(), st.text()))
def test_whatever_is_sent_is_a_text_or_refused(kind: str, body: object) -> None:
    try:
        POLICY.check_send(kind, body)
    except BankhubError:
        return
    assert kind == "text"


# --- what is changed --------------------------------------------------------------------------------------------------

VALUES = {"recall": None, "edit": "neu", "react": "👍", "pin": True}


@pytest.mark.parametrize("change", VALUES)
def test_what_is_no_message_or_is_gone_is_not_changed(change: str) -> None:
    for kind in messages.SYSTEM_KINDS:
        with pytest.raises(Invalid):
            POLICY.check_amend(change, VALUES[change], said(kind), 1, NOW_MS)
    with pytest.raises(Invalid):
        POLICY.check_amend(change, VALUES[change], said(by=0), 0, NOW_MS)
    with pytest.raises(Conflict):
        POLICY.check_amend(change, VALUES[change], said(body=None), 1, NOW_MS)


@pytest.mark.parametrize("change", ["recall", "edit"])
@given(sender=st.integers(1, 3), by=st.integers(1, 3), age_ms=st.integers(0, 48 * HOUR_MS))
def test_recall_and_edit_are_for_ones_own_message_of_the_last_day(
    change: str, sender: int, by: int, age_ms: int
) -> None:
    allowed = sender == by and age_ms <= 24 * HOUR_MS
    try:
        POLICY.check_amend(change, VALUES[change], said(by=sender, age_ms=age_ms), by, NOW_MS)
    except Forbidden:
        assert not allowed
    else:
        assert allowed


@given(
    sender=st.integers(1, 3), by=st.integers(1, 3), age_ms=st.integers(0, 48 * HOUR_MS), owner=st.booleans()
)
def test_an_owner_recalls_anything(sender: int, by: int, age_ms: int, owner: bool) -> None:
    allowed = owner or (sender == by and age_ms <= 24 * HOUR_MS)
    try:
        messages.check_recall(said(by=sender, age_ms=age_ms), by, NOW_MS, owner=owner)
    except Forbidden:
        assert not allowed
    else:
        assert allowed


def test_everybody_reacts_and_pins() -> None:
    old = said(by=1, age_ms=1000 * HOUR_MS)
    for emoji in ("👍", "👨‍👩‍👧‍👦", "❤️", "OK", "赞", None):
        POLICY.check_amend("react", emoji, old, 2, NOW_MS)
    for value in (True, False):
        POLICY.check_amend("pin", value, old, 2, NOW_MS)
    reactions: tuple[object, ...] = ("", " ", "a b", "\u202e", "\u200d", "x" * 17, 1, True, ["👍"], {}, b"x")
    for wrong in reactions:
        with pytest.raises(Invalid):
            POLICY.check_amend("react", wrong, old, 2, NOW_MS)
    for pin in (None, 1, "yes"):
        with pytest.raises(Invalid):
            POLICY.check_amend("pin", pin, old, 2, NOW_MS)


def test_an_edit_is_a_text_and_of_a_text() -> None:
    POLICY.check_amend("edit", {"text": "neu"}, said(), 1, NOW_MS)
    for wrong in (None, "", 5, {"x": "y"}):
        with pytest.raises(Invalid):
            POLICY.check_amend("edit", wrong, said(), 1, NOW_MS)
    with pytest.raises(Invalid):
        POLICY.check_amend("edit", "neu", said("image"), 1, NOW_MS)
    with pytest.raises(Invalid):
        POLICY.check_amend("translate", "neu", said(), 1, NOW_MS)


# --- history ----------------------------------------------------------------------------------------------------------


@given(
    head=st.integers(0, 60), floor=st.integers(0, 60), limit=st.integers(1, 20),
    before=st.none() | st.integers(1, 80), after=st.none() | st.integers(0, 80),
)  # fmt: skip
def test_a_page_of_history_is_what_was_asked_for(
    head: int, floor: int, limit: int, before: int | None, after: int | None
) -> None:
    floor = min(floor, head)
    if before is not None and after is not None:
        with pytest.raises(Invalid):
            messages.window(head=head, floor=floor, before=before, after=after, limit=limit)
        return
    start, count, more = messages.window(head=head, floor=floor, before=before, after=after, limit=limit)
    page = list(range(start + 1, start + count + 1))
    mine = range(floor + 1, head + 1)
    if after is not None:
        wanted = [seq for seq in mine if seq > after]
        assert page == wanted[:limit]
        assert more == (len(wanted) > limit)
    else:
        wanted = [seq for seq in mine if before is None or seq < before]
        assert page == wanted[-limit:]
        assert more == (len(wanted) > limit)


# --- conversations ----------------------------------------------------------------------------------------------------

people = st.integers(1, 6)


@given(people, people)
def test_two_people_have_one_key(one: int, other: int) -> None:
    if one == other:
        with pytest.raises(Invalid):
            conversations.pair(one, other)
    else:
        assert conversations.pair(one, other) == conversations.pair(other, one)


@given(
    st.sets(people, min_size=1),
    st.lists(st.tuples(people, people, st.booleans(), st.booleans()), max_size=20),
)
def test_a_group_always_has_an_owner_and_nobody_is_robbed_of_it(
    owners: set[int], steps: list[tuple[int, int, bool, bool]]
) -> None:
    for by, person, owner, transfer in steps:
        if by not in owners:
            continue
        try:
            added, removed = conversations.owners_changed(owners, by, person, owner=owner, transfer=transfer)
        except (Conflict, Forbidden):
            continue
        assert set(removed) <= {by}
        assert set(added) <= {person} - owners
        owners = (owners | set(added)) - set(removed)
        assert owners


def test_owners_are_not_too_many() -> None:
    with pytest.raises(Conflict):
        conversations.owners_changed(range(1, 11), 1, 11, owner=True, transfer=False)
    assert conversations.owners_changed(range(1, 11), 1, 11, owner=True, transfer=True) == ([11], [1])


@given(st.sets(people), st.lists(people, unique=True))
def test_who_came_first_inherits(owners: set[int], oldest: list[int]) -> None:
    heir = conversations.successor(owners, oldest)
    assert (heir is None) == (bool(owners) or not oldest)
    assert heir is None or heir == oldest[0]


@given(
    role=st.sampled_from(["owner", "member"]),
    by=people,
    person=people,
    theirs=st.sampled_from(["owner", "member"]),
)
def test_removal(role: str, by: int, person: int, theirs: str) -> None:
    allowed = by == person or (role == "owner" and theirs == "member")
    try:
        conversations.check_removal(role, by, person, theirs)
    except Forbidden:
        assert not allowed
    else:
        assert allowed


@given(st.text(max_size=80))
def test_a_title_is_one_visible_line(title: str) -> None:
    try:
        kept = conversations.clean_title(title)
    except ValueError:
        return
    assert 1 <= len(kept) <= conversations.TITLE_CHARS
    assert kept == kept.strip()
    assert kept.isprintable() or not kept.isascii()
    assert conversations.clean_title(kept) == kept


@pytest.mark.parametrize("title", ["", "  ", "财务\u202e群", "a\u200bb", "x" * 51, "a\x00b"])
def test_no_titles(title: str) -> None:
    with pytest.raises(ValueError):
        conversations.clean_title(title)
