"""Which address a request came from, whatever its headers say."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.addresses import Proxies

OURS = Proxies(["10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        ("203.0.113.1", ["6.6.6.6"], "203.0.113.1"),
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", ["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", ["6.6.6.6", "203.0.113.9, 10.9.9.9"], "203.0.113.9"),
        ("10.1.2.3", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.1.2.3", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.1.2.3", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.1.2.3", ["203.0.113.9"], "203.0.113.9"),
        ("fd00::1", ["203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", ["garbage"], "10.1.2.3"),
        ("10.1.2.3", ["203.0.113.9, garbage"], "10.1.2.3"),
        ("10.1.2.3", [""], "10.1.2.3"),
        ("10.1.2.3", ["203.0.113.9,"], "10.1.2.3"),
        ("10.1.2.3", ["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        ("10.1.2.3", ["６.6.6.6"], "10.1.2.3"),
        ("10.1.2.3", ["0x0a000001"], "10.1.2.3"),
    ],
)
def test_x_forwarded_for(peer: str, forwarded_for: list[str], address: str) -> None:
    assert OURS.asked(peer, "h", forwarded_for=forwarded_for).address == address


@pytest.mark.parametrize(
    ("forwarded", "address", "scheme", "host"),
    [
        (["for=203.0.113.9"], "203.0.113.9", "http", "h"),
        (['for="[2001:db8::1]:80";proto=https;host=bank.example'], "2001:db8::1", "https", "bank.example"),
        (["for=6.6.6.6;host=evil, for=203.0.113.9;proto=https"], "203.0.113.9", "https", "h"),
        (["for=6.6.6.6", "For=203.0.113.9;By=10.1.1.1"], "203.0.113.9", "http", "h"),
        (["for=unknown"], "10.1.2.3", "http", "h"),
        (["for=_hidden"], "10.1.2.3", "http", "h"),
        (["for=203.0.113.9, ;;=,"], "10.1.2.3", "http", "h"),
        (['for="203.0.113.9, for=6.6.6.6'], "10.1.2.3", "http", "h"),
        (['for=6.6.6.6, for="a\\", for=203.0.113.9"'], "10.1.2.3", "http", "h"),
        (["for=203.0.113.9;proto=javascript"], "203.0.113.9", "http", "h"),
    ],
)
def test_forwarded(forwarded: list[str], address: str, scheme: str, host: str) -> None:
    asked = OURS.asked("10.1.2.3", "h", forwarded=forwarded)
    assert (asked.address, asked.scheme, asked.host) == (address, scheme, host)
    strange = OURS.asked("203.0.113.1", "h", forwarded=forwarded)
    assert (strange.address, strange.scheme, strange.host) == ("203.0.113.1", "http", "h")


def test_two_stories_are_none() -> None:
    """A proxy writes one of the two fields and may pass the client's other one on: nobody knows which is which."""
    for_one = {"forwarded_for": ["203.0.113.9"], "proto": ["https"], "forwarded_host": ["bank.example"]}
    lied = OURS.asked("10.1.2.3", "h", forwarded=["for=6.6.6.6;proto=https;host=evil.example"], **for_one)
    assert (lied.address, lied.scheme, lied.host) == ("10.1.2.3", "http", "h")
    lied = OURS.asked("10.1.2.3", "h", forwarded=["for=203.0.113.9"], forwarded_for=["6.6.6.6"])
    assert lied.address == "10.1.2.3"
    agreed = OURS.asked(
        "10.1.2.3", "h", forwarded=["for=203.0.113.9;proto=https"], forwarded_for=["203.0.113.9"]
    )
    assert (agreed.address, agreed.scheme) == ("203.0.113.9", "https")


def test_scheme_and_host_of_the_older_headers() -> None:
    asked = OURS.asked("10.1.2.3", "h", proto=["http, https"], forwarded_host=["evil.example, bank.example"])
    assert (asked.scheme, asked.host) == ("https", "bank.example")


@given(st.lists(st.text(alphabet='for=,;"\\ 1.:[]a', max_size=60), max_size=4))
def test_nobody_outside_writes_the_address(lies: list[str]) -> None:
    """Whatever a client sends, what our proxy appends is what counts."""
    assert OURS.asked("10.1.2.3", "h", forwarded_for=[*lies, "203.0.113.9"]).address == "203.0.113.9"
    beside = OURS.asked("10.1.2.3", "h", forwarded=lies, forwarded_for=[*lies, "203.0.113.9"])
    assert beside.address in ("10.1.2.3", "203.0.113.9")
    assert OURS.asked("203.0.113.1", "h", forwarded=lies, forwarded_for=lies).address == "203.0.113.1"


def test_long_headers_are_read_quickly() -> None:
    began = time.process_time()
    for nasty in (
        "for=" + "a" * 8000,
        'for="' + "\\" * 8000,
        "a=b" * 3000,
        "a=" * 4000,
        ";" * 8000,
        "," * 8000,
    ):
        OURS.asked("10.1.2.3", "h", forwarded=[nasty], forwarded_for=[nasty])
    assert time.process_time() - began < 0.5
