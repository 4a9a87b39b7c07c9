"""Where webhooks may not go, how they are signed, when they are tried again."""

from __future__ import annotations

import base64

import pytest

from core.settings import load
from gateway.webhooks import rules
from gateway.webhooks.rules import Outcome, judge, public_address, refused_url

DAY_S = 86400.0


@pytest.mark.parametrize(
    "address",
    """127.0.0.1 127.8.8.8 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 255.255.255.255 224.0.0.1
    192.0.2.1 198.18.0.1 240.0.0.1 :: ::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 fe80::1 fe80::1%eth0 fc00::1
    fd12:3456::1 ff02::1 2001:db8::1 2002:7f00:1:: 64:ff9b::7f00:1 64:ff9b:1::a00:1 fec0::1
    ::ffff:0:7f00:1 4000::1 2001:0:7f00:1:: 2001:4860::1%eth0 garbage 1.2.3 0x7f000001""".split(),
)
def test_addresses_that_are_not_on_the_internet(address: str) -> None:
    assert not public_address(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "203.0.114.1", "2001:4860:4860::8888"])
def test_addresses_that_are(address: str) -> None:
    assert public_address(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "https://", "https:///x", "https://u:p@example.com/",
        "https://example.com/#x", "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/",
        "https://localhost/", "https://redis/", "https://service.internal/", "https://printer.local/",
        "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/", "https://example.com./",
        "https://example.com:0/", "https://example.com:99999/", "https://[::1/", "https://1.2.3.4.5/",
        "https://10.0.0.0x1/", "https://127.0.0.⑩/", "https://127.0.0.%31/", "https://169.254.169.25\u00ad4/",
        "https://a.x。localhost/", "https://exam ple.com/", "https://a..example.com/", "https://-a.example.com/",
        "https://[fec0::1]/", "https://[::ffff:0:7f00:1]/", "https://[2001:4860::1%25eth0]/",
    ],
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    assert refused_url(url, plain=False, private=False)


def test_urls_that_are_not() -> None:
    for url in (
        "https://example.com/hook?a=b",
        "https://8.8.8.8:8443/x",
        "https://hooks.example.com.cn/",
        "https://h.xn--fiqs8s/",
    ):
        assert refused_url(url, plain=False, private=False) is None
    assert refused_url("http://127.0.0.1:8080/", plain=True, private=True) is None
    assert refused_url("http://127.0.0.1:8080/", plain=True, private=False)


def test_the_example_of_the_standard() -> None:
    """The test vector of the Standard Webhooks specification."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = rules.signed_headers(
        [secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert rules.shown_secret(secret) == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    two = rules.signed_headers([b"new", secret], "m", 1, b"")["webhook-signature"].split(" ")
    assert len(two) == 2
    assert all(one.startswith("v1,") for one in two)


def test_attempts_come_further_and_further_apart_and_end() -> None:
    delays = load({}).webhook_delays_s
    assert list(delays) == sorted(delays)
    pauses = []
    for attempt in range(1, len(delays) + 2):
        verdict = judge(500, attempt, delays, 0.0, 5 * DAY_S, 0.5)
        if verdict.outcome is Outcome.FAILED:
            break
        pauses.append(verdict.pause_s)
    assert pauses == pytest.approx(list(delays))
    assert judge(None, len(delays) + 1, delays, 0.0, 5 * DAY_S, 0.5).outcome is Outcome.FAILED
    for status in (200, 204, 299):
        assert judge(status, 1, delays, DAY_S, 5 * DAY_S, 0.5).outcome is Outcome.DELIVERED
    answers: tuple[int | None, ...] = (301, 302, 304, 400, 404, 429, 500, None)
    for answer in answers:
        assert judge(answer, 1, delays, DAY_S, 5 * DAY_S, 0.5).outcome is Outcome.AGAIN


def test_who_is_gone_or_away_for_days_is_left_alone() -> None:
    delays = (1.0, 2.0)
    assert judge(410, 1, delays, 0.0, DAY_S, 0.5).disable == "gone"
    assert judge(500, 1, delays, DAY_S, DAY_S, 0.5).disable == "failing"
    assert judge(500, 1, delays, DAY_S - 1, DAY_S, 0.5).disable is None
