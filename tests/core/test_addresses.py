"""Which address a request came from, whatever its headers say."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.addresses import Asked, Origins, Proxies, why_not_host, why_not_network, why_not_origin

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


def _asked(scheme: str, host: str) -> Asked:
    return Asked("203.0.113.1", scheme, host)


@pytest.mark.requirement("W01")
@pytest.mark.parametrize(
    ("origin", "scheme", "host", "may"),
    [
        ("http://127.0.0.1:18611", "http", "127.0.0.1:18611", True),
        ("http://127.0.0.1:9009", "http", "127.0.0.1:18611", False),
        ("http://127.0.0.1", "http", "127.0.0.1:18611", False),
        ("https://127.0.0.1:1", "http", "127.0.0.1:18611", False),
        ("https://127.0.0.1:18611", "http", "127.0.0.1:18611", False),
        ("http://evil.com@127.0.0.1", "http", "127.0.0.1", False),
        ("http://evil.com@127.0.0.1:18611", "http", "127.0.0.1:18611", False),
        ("http://127.0.0.1:18611.evil.com", "http", "127.0.0.1:18611", False),
        ("http://127.0.0.1:18611@evil.com", "http", "127.0.0.1:18611", False),
        ("http://127.0.0.1.evil.com:18611", "http", "127.0.0.1:18611", False),
        ("http://127.0.0.1:18611/", "http", "127.0.0.1:18611", False),
        ("http://127.0.0.1:18611#", "http", "127.0.0.1:18611", False),
        ("http://127.0.0.1:18611?", "http", "127.0.0.1:18611", False),
        ("http://127.0.0.1:18611 ", "http", "127.0.0.1:18611", False),
        ("http://127.0.0.1:018611", "http", "127.0.0.1:18611", False),
        ("http://127.0.0.1:118611", "http", "127.0.0.1:18611", False),
        ("https://bank.example", "https", "bank.example", True),
        ("https://bank.example", "https", "Bank.Example:443", True),
        ("http://bank.example", "https", "bank.example", False),
        ("https://bank.example", "http", "bank.example", False),
        ("https://bank.example:8443", "https", "bank.example", False),
        ("https://bank.example", "https", "bank.example:8443", False),
        ("HTTPS://BANK.EXAMPLE", "https", "bank.example", False),
        ("https://xbank.example", "https", "bank.example", False),
        ("https://bank.example.", "https", "bank.example", False),
        ("https://b\u00e4nk.example", "https", "bank.example", False),
        ("https://xn--bnk-qla.example", "https", "bank.example", False),
        ("ws://bank.example", "http", "bank.example", False),
        ("file://bank.example", "http", "bank.example", False),
        ("http://[::1]:8081", "http", "[::1]:8081", True),
        ("http://[::1]", "http", "[::1]:8081", False),
        ("null", "http", "null", False),
        ("", "http", "", False),
        ("https://h5.example", "https", "bank.example", True),
        ("https://h5.example:443", "https", "bank.example", True),
        ("http://h5.example", "https", "bank.example", False),
        ("https://h5.example:444", "https", "bank.example", False),
    ],
)
def test_which_pages_may_call(origin: str, scheme: str, host: str, may: bool) -> None:
    assert Origins(["https://h5.example"]).may_call(origin, _asked(scheme, host)) is may


@given(st.text(max_size=40), st.text(max_size=20))
def test_no_text_is_an_origin_by_accident(origin: str, host: str) -> None:
    if Origins([]).may_call(origin, _asked("http", host)):
        assert origin in (f"http://{host.lower()}", f"http://{host.lower()}:80"[: len(origin)])


@pytest.mark.parametrize(
    ("why_not", "good", "bad"),
    [
        (why_not_origin, ["https://a.example", "http://127.0.0.1:80"], ["a.example", "https://a/", "*", "https://A"]),
        (why_not_host, ["bank.example", "Bank.example:8443", "[::1]"], ["http://a", "a b", "a:99999", "", "*"]),
        (why_not_network, ["10.0.0.0/8", "127.0.0.9", "fd00::/8"], ['["127.0.0.9"]', "10.0.0.1/8", "proxy", "1::/129"]),
    ],
)  # fmt: skip
def test_what_settings_may_name(why_not: Any, good: list[str], bad: list[str]) -> None:
    assert [why_not(text) for text in good] == [None] * len(good)
    assert all(why_not(text) for text in bad)
