"""The rules of identity and sessions, by examples and by properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.addresses import source_of
from gateway.identity import rules as identity
from gateway.sessions import rules as sessions
from gateway.sessions.rules import Presented, Throttle, Verdict

# published codes of well-known bodies, whose last character the standard's formula gives
CODES = ["91350100M000100Y43", "914403001922038216", "9144030071526726XG", "91330100799655058B"]


@pytest.mark.parametrize("code", CODES)
def test_known_codes_have_the_right_check_digit(code: str) -> None:
    assert identity.is_credit_code(code)


@given(st.text("0123456789ABCDEFGHJKLMNPQRTUWXY", min_size=17, max_size=17), st.integers(0, 16), st.data())
def test_a_changed_character_is_noticed(first: str, place: int, data: st.DataObject) -> None:
    code = first + identity.credit_code_check_digit(first)
    assert identity.is_credit_code(code)
    other = data.draw(st.sampled_from("0123456789ABCDEFGHJKLMNPQRTUWXY").filter(lambda c: c != code[place]))
    assert not identity.is_credit_code(code[:place] + other + code[place + 1 :])


@pytest.mark.parametrize(
    "wrong", ["", "91350100M000100Y4", "91350100M000100Y433", "9135010OM000100Y43", "９" * 18]
)
def test_what_is_no_code(wrong: str) -> None:
    assert not identity.is_credit_code(wrong)


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("138 0000 0001", "13800000001"),
        ("+86 138-0000-0001", "13800000001"),
        ("8613800000001", "13800000001"),
        (" ZhangWei ", "zhangwei"),
        ("12345", "12345"),
    ],
)
def test_logins_are_typed_in_many_ways(typed: str, stored: str) -> None:
    assert identity.normal_login(typed) == stored


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1%eth0", "2001:db8:1:2::/64"),
        ("nonsense", "unknown"),
        ("", "unknown"),
    ],
)
def test_sources(address: str, source: str) -> None:
    assert source_of(address) == source


THROTTLE = Throttle(free=5, delay_s=2.0, delay_max_s=900.0, forget_s=1800.0)


def test_delays_grow_and_end() -> None:
    failures, now, waits = sessions.NO_FAILURES, 1_000_000, []
    for _ in range(20):
        failures = sessions.after_failure(failures, THROTTLE, now)
        waits.append(sessions.remaining_ms(failures, now))
        now += waits[-1]
    assert waits[:8] == [0, 0, 0, 0, 0, 2000, 4000, 8000]
    assert max(waits) == waits[-1] == 900_000
    assert sessions.after_failure(failures, THROTTLE, now + 1_800_001).count == 1


@given(st.integers(0, 1 << 40), st.lists(st.integers(0, 10_000_000), max_size=60))
def test_nobody_is_locked_out_for_longer_than_the_longest_delay(start: int, pauses: list[int]) -> None:
    failures, now = sessions.NO_FAILURES, start
    for pause in pauses:
        now += pause
        failures = sessions.after_failure(failures, THROTTLE, now)
        assert sessions.remaining_ms(failures, now) <= 900_000


def _token(**changes: object) -> Presented:
    given_: dict[str, object] = {
        "device": "phone",
        "expires_ms": 10_000_000,
        "rotated_ms": None,
        "successor_used": False,
        "session_expires_ms": 10_000_000,
        "session_ended": False,
    }
    return Presented(**(given_ | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("token", "device", "verdict"),
    [
        (None, "phone", Verdict.REFUSE),
        (_token(), "phone", Verdict.ROTATE),
        (_token(), "laptop", Verdict.THEFT),
        (_token(session_ended=True), "phone", Verdict.REFUSE),
        (_token(expires_ms=1_000_000), "phone", Verdict.REFUSE),
        (_token(session_expires_ms=1_000_000), "phone", Verdict.REFUSE),
        (_token(rotated_ms=980_000), "phone", Verdict.REPEAT),
        (_token(rotated_ms=980_000), "laptop", Verdict.THEFT),
        (_token(rotated_ms=980_000, successor_used=True), "phone", Verdict.THEFT),
        (_token(rotated_ms=960_000), "phone", Verdict.THEFT),
    ],
)
def test_refresh_verdicts(token: Presented | None, device: str, verdict: Verdict) -> None:
    assert sessions.judge(token, device, 1_000_000, grace_s=30) is verdict


def test_successors_are_stable_and_secret() -> None:
    assert sessions.successor(b"a", "t") == sessions.successor(b"a", "t")
    assert sessions.successor(b"a", "t") != sessions.successor(b"b", "t")
    assert len(sessions.successor(b"a", "t")) == 43
    assert sessions.attempt_key(b"a", "x", "y") != sessions.attempt_key(b"a", "xy", "")


def test_where_a_session_begins() -> None:
    assert identity.choose_enterprise([3, 2], None, None) == 2
    assert identity.choose_enterprise([3, 2], None, 3) == 3
    assert identity.choose_enterprise([3, 2], None, 9) == 2
    assert identity.choose_enterprise([3, 2], 3, 2) == 3
    assert identity.choose_enterprise([3, 2], 9, 2) is None
    assert identity.choose_enterprise([], None, None) == 0
    assert identity.choose_enterprise([], 9, None) is None


def test_the_last_administrator_stays() -> None:
    assert not identity.may_leave(1, [1])
    assert identity.may_leave(1, [1, 2])
    assert identity.may_leave(3, [1])
