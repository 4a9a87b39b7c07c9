"""DPoP proofs: the RFC's own examples, everything that may be wrong with one, and that each is used once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clock import ManualClock
from core.device_key import DeviceKey, b64url, unb64url
from core.dpop import BadProof, Window, check, spend
from core.errors import Invalid
from core.limits import Limits
from core.settings import load
from tests.device import Device

NOW = 1_800_000_000.0
URL = "https://bank.example/v1/gateway.identity.me"

# RFC 9449, 4.1 (figure 2) and 7.1 (figure 12), with the key of both
_HEAD = (
    "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJo"
    "RjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19"
)
AT_TOKEN_ENDPOINT = (
    f"{_HEAD}.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIi"
    "wiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
)
AT_RESOURCE = (
    f"{_HEAD}.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0"
    "ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9."
    "2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
)
TOKEN = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
THUMBPRINT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def test_the_examples_of_the_rfc() -> None:
    proof = check(AT_TOKEN_ENDPOINT, method="POST", url="https://server.example.com/token", now_s=1562262616)
    assert (proof.jkt, proof.name) == (THUMBPRINT, "-BwC3ESc6acc2lTc")
    proof = check(
        AT_RESOURCE,
        method="GET",
        url="https://resource.example.org/protectedresource",
        now_s=1562262618,
        token=TOKEN,
        jkt=THUMBPRINT,
    )
    assert proof.key.algorithm == "ES256"


@pytest.mark.parametrize("algorithm", ["ES256", "SM2"])
def test_a_proof_holds_for_its_request(algorithm: str) -> None:
    device = Device(algorithm)
    proof = check(device.proof(URL, NOW), method="POST", url=URL, now_s=NOW, jkt=device.key.thumbprint)
    assert proof.key == device.key
    assert DeviceKey.from_jwk(device.key.jwk) == device.key


@pytest.mark.requirement("S06")
@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"htm": "GET"}, "method"),
        ({"htu": "https://bank.example/v1/other"}, "address"),
        ({"htu": "https://evil.example/v1/gateway.identity.me"}, "address"),
        ({"htu": "https://u@bank.example/v1/gateway.identity.me"}, "address"),
        ({"htu": None}, "address"),
        ({"iat": NOW - 61}, "old"),
        ({"iat": NOW + 6}, "old"),
        ({"iat": "now"}, "iat"),
        ({"iat": True}, "iat"),
        ({"jti": "short"}, "jti"),
        ({"jti": "x" * 129}, "jti"),
        ({"jti": None}, "jti"),
        ({"header": {"typ": "JWT"}}, "type"),
        ({"header": {"alg": "none"}}, "algorithm"),
        ({"header": {"alg": "SM2"}}, "algorithm"),
        ({"header": {"alg": "HS256"}}, "algorithm"),
        ({"header": {"crit": ["exp"]}}, "algorithm"),
        ({"header": {"jwk": None}}, "public EC key"),
        ({"header": {"jwk": {"kty": "oct", "k": "AAAA"}}}, "public EC key"),
    ],
)
def test_what_is_wrong_with_a_proof(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(BadProof, match=why):
        check(Device().proof(URL, NOW, **wrong), method="POST", url=URL, now_s=NOW)


def test_a_proof_is_for_its_token_and_its_key() -> None:
    device, thief = Device(), Device()
    check(
        device.proof(URL, NOW, token="token"),
        method="POST",
        url=URL,
        now_s=NOW,
        token="token",
        jkt=device.key.thumbprint,
    )
    for proof in (device.proof(URL, NOW), device.proof(URL, NOW, ath="x")):
        with pytest.raises(BadProof, match="token"):
            check(proof, method="POST", url=URL, now_s=NOW, token="token")
    with pytest.raises(BadProof, match="another key"):
        check(
            thief.proof(URL, NOW, token="token"),
            method="POST",
            url=URL,
            now_s=NOW,
            token="token",
            jkt=device.key.thumbprint,
        )


def test_a_private_key_is_refused() -> None:
    device = Device()
    with pytest.raises(Invalid):
        DeviceKey.from_jwk(device.key.jwk | {"d": b64url(b"\x01" * 32)})
    with pytest.raises(Invalid):
        DeviceKey.from_jwk(device.key.jwk | {"x": b64url(b"\x01" * 32)})
    with pytest.raises(Invalid):
        DeviceKey.from_jwk(device.key.jwk | {"crv": "SM2"})


@pytest.mark.parametrize(
    "url", ["HTTPS://BANK.example:443/v1/gateway.identity.me", f"{URL}?page=2", f"{URL}#here"]
)
def test_an_address_may_be_written_in_several_ways(url: str) -> None:
    check(Device().proof(url, NOW), method="POST", url=URL, now_s=NOW)


@pytest.mark.parametrize("algorithm", ["ES256", "SM2"])
@given(place=st.integers(0, 2000), bit=st.integers(0, 7))
def test_any_changed_bit_is_noticed(algorithm: str, place: int, bit: int) -> None:
    proof = bytearray(_PROOFS[algorithm], "ascii")
    proof[place % len(proof)] ^= 1 << bit
    with pytest.raises(BadProof):
        check(proof.decode("latin-1"), method="POST", url=URL, now_s=NOW)


_PROOFS = {algorithm: Device(algorithm).proof(URL, NOW) for algorithm in ("ES256", "SM2")}


@given(
    st.text(max_size=300)
    | st.binary(max_size=100).map(lambda raw: f"{b64url(raw)}.{b64url(raw)}.{b64url(raw)}")
)
def test_rubbish_is_refused(rubbish: str) -> None:
    with pytest.raises(BadProof):
        check(rubbish, method="POST", url=URL, now_s=NOW)


def test_only_one_spelling_of_base64() -> None:
    assert unb64url("AAE") == b"\x00\x01"
    for other in ("AAF", "AAE=", "AA E", "AA+E", "A"):
        with pytest.raises(ValueError, match=r"canonical|base64"):
            unb64url(other)


@pytest.mark.requirement("T02")
async def test_a_proof_is_used_once() -> None:
    limits = Limits(ManualClock(int(NOW * 1000)), 100)
    device = Device()
    proof = device.proof(URL, NOW, jti="the same name")
    await spend(limits, proof)
    again = device.proof(URL, NOW + 1, jti="the same name")  # the same name in another proof
    for used in (proof, again):
        with pytest.raises(BadProof, match="before"):
            await spend(limits, used)
    await spend(limits, device.proof(URL, NOW, jti="another name"))
    await spend(limits, Device().proof(URL, NOW, jti="the same name"))


def test_the_window_of_a_proof_is_a_setting() -> None:
    window = Window.of(load({}, dpop_age_s=10, dpop_skew_s=1))
    proof = Device().proof(URL, NOW)
    for later, good in ((0, True), (10, True), (11, False), (-1, True), (-2, False)):
        if good:
            check(proof, method="POST", url=URL, now_s=NOW + later, window=window)
        else:
            with pytest.raises(BadProof, match="too old or too new"):
                check(proof, method="POST", url=URL, now_s=NOW + later, window=window)
    assert 1 / window.once.per_s > window.age_s + window.skew_s, "remembered for longer than it lives"
