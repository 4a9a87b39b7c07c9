"""SM3 and SM4 against their standards' vectors."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import SM4
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st

from core.crypto import selftest, sm4
from core.crypto.sm3 import derive, hmac_sm3, same, sm3

KEY = bytes(range(16))


@pytest.mark.parametrize(
    ("message", "digest"),
    [
        (b"abc", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),  # GM/T 0004 A.1
        (b"abcd" * 16, "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"),  # A.2
    ],
)
def test_sm3_of_the_standard(message: bytes, digest: str) -> None:
    assert sm3(message).hex() == digest
    assert sm3(message[:1], message[1:]).hex() == digest


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_hmac_is_made_as_rfc_2104_says(key: bytes, message: bytes) -> None:
    padded = (sm3(key) if len(key) > 64 else key).ljust(64, b"\0")
    inner = sm3(bytes(b ^ 0x36 for b in padded), message)
    assert hmac_sm3(key, message) == sm3(bytes(b ^ 0x5C for b in padded), inner)


def test_keys_of_different_purposes_differ() -> None:
    assert len({derive(secret, purpose) for secret in (b"a", b"b") for purpose in ("x", "y")}) == 4
    assert same(derive(b"a", "x"), derive(b"a", "x"))


def test_sm4_block_and_a_million_rounds_of_the_standard() -> None:
    block = selftest.SM4_KEY  # GM/T 0002 A.1 and A.2: key and plaintext are the same
    encryptor = Cipher(SM4(block), ECB()).encryptor()
    block = encryptor.update(block)
    assert block.hex() == "681edf34d206965e86b3e94f536e4246"
    for _ in range(999_999):
        block = encryptor.update(block)
    assert block.hex() == "595298c7c6fd271f0402f804c33d3f66"


def test_gcm_of_rfc_8998() -> None:
    given = (selftest.SM4_KEY, selftest.GCM_NONCE)
    assert sm4.seal(*given, selftest.GCM_PLAIN, selftest.GCM_AAD) == selftest.GCM_SEALED
    assert sm4.open_sealed(*given, selftest.GCM_SEALED, selftest.GCM_AAD) == selftest.GCM_PLAIN


@given(st.binary(max_size=100), st.binary(max_size=40), st.data())
def test_one_changed_bit_anywhere_is_found(plain: bytes, aad: bytes, data: st.DataObject) -> None:
    nonce = data.draw(st.binary(min_size=12, max_size=12))
    sealed = sm4.seal(KEY, nonce, plain, aad)
    assert sm4.open_sealed(KEY, nonce, sealed, aad) == plain
    whole = [KEY, nonce, sealed, aad]
    which = data.draw(st.sampled_from([n for n, part in enumerate(whole) if part]))
    bit = data.draw(st.integers(0, 8 * len(whole[which]) - 1))
    changed = bytearray(whole[which])
    changed[bit // 8] ^= 1 << bit % 8
    whole[which] = bytes(changed)
    with pytest.raises(sm4.NotAuthentic):
        sm4.open_sealed(*whole)


def test_what_is_too_short_is_not_authentic() -> None:
    with pytest.raises(sm4.NotAuthentic):
        sm4.open_sealed(KEY, bytes(12), bytes(15))
    with pytest.raises(ValueError, match="length"):
        sm4.seal(KEY, bytes(16), b"")


@given(st.binary(max_size=100), st.binary(min_size=16, max_size=16))
def test_ctr_is_its_own_inverse(plain: bytes, counter: bytes) -> None:
    assert sm4.ctr(KEY, counter, sm4.ctr(KEY, counter, plain)) == plain
