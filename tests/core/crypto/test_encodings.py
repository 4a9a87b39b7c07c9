"""Keys, signatures and ciphertexts in bytes: one way to write each, and every other way refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.crypto import encodings, selftest
from core.crypto.encodings import Malformed, N, P

numbers = st.one_of(
    st.integers(1, N - 1), st.integers(1, 300), st.integers(N - 300, N - 1), st.integers(0, 255).map(lambda n: 1 << n)
)  # fmt: skip


@given(numbers, numbers)
def test_signatures_go_both_ways(r: int, s: int) -> None:
    raw = r.to_bytes(32) + s.to_bytes(32)
    if r >= N or s >= N or r + s == N:
        with pytest.raises(Malformed):
            encodings.signature_to_der(raw)
        return
    assert encodings.signature_from_der(encodings.signature_to_der(raw)) == raw


@given(st.binary(max_size=100))
def test_what_is_read_is_written_the_same(der: bytes) -> None:
    try:
        raw = encodings.signature_from_der(der)
    except Malformed:
        return
    assert encodings.signature_to_der(raw) == der


@given(st.data())
def test_of_a_signature_no_second_encoding_is_read(data: st.DataObject) -> None:
    der = bytearray(encodings.signature_to_der(selftest.SIGNATURE))
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        raw = encodings.signature_from_der(bytes(der))
    except Malformed:
        return
    assert encodings.signature_to_der(raw) == der


GOOD = encodings.signature_to_der(selftest.SIGNATURE)
_INTEGERS = GOOD[2:]


@pytest.mark.parametrize(
    "der",
    [
        b"",
        GOOD[:-1],  # truncated
        GOOD[:1],
        GOOD + b"\0",  # something behind
        b"\x30" + bytes((len(_INTEGERS) + 1,)) + _INTEGERS + b"\0",  # something behind, inside
        b"\x30\x81" + bytes((len(_INTEGERS),)) + _INTEGERS,  # a length in two bytes that fits in one
        b"\x30\x80" + _INTEGERS + b"\0\0",  # indefinite length
        b"\x31" + GOOD[1:],  # a SET
        bytes.fromhex("3006020100020101"),  # r = 0
        bytes.fromhex("3006020101020100"),  # s = 0
        bytes.fromhex("3006020181020101"),  # negative
        bytes.fromhex("300702020001020101"),  # a needless zero
        bytes.fromhex("3005020002020101"),  # an integer without digits
        b"\x30\x26\x02\x21\x00" + N.to_bytes(32) + b"\x02\x01\x01",  # r = n
        b"\x30\x26\x02\x01\x01\x02\x21\x00" + N.to_bytes(32),  # s = n
        b"\x30\x26\x02\x01\x01\x02\x21\x00" + (N - 1).to_bytes(32),  # r + s = n
        b"\x30\x27\x02\x22\x01" + bytes(33) + b"\x02\x01\x01",  # 33 bytes
    ],
)
def test_signatures_that_are_none(der: bytes) -> None:
    with pytest.raises(Malformed):
        encodings.signature_from_der(der)


@pytest.mark.parametrize(
    "point",
    [
        b"",
        selftest.POINT[1:],
        b"\x03" + selftest.POINT[1:],
        selftest.POINT + b"\0",
        selftest.POINT[:-1] + bytes((selftest.POINT[-1] ^ 1,)),  # beside the curve
        bytes(65),
        b"\x04" + bytes(64),
        b"\x04" + P.to_bytes(32) + selftest.POINT[33:],
    ],
)
def test_points_that_are_none(point: bytes) -> None:
    with pytest.raises(Malformed):
        encodings.check_point(point)
    with pytest.raises(Malformed):
        encodings.from_spki(encodings.to_spki(selftest.POINT)[:-65] + point)


@pytest.mark.parametrize("number", [0, N - 1, N, 2**256 - 1])
def test_numbers_that_are_no_private_keys(number: int) -> None:
    with pytest.raises(Malformed):
        encodings.check_scalar(number.to_bytes(32))


def test_keys_go_both_ways() -> None:
    assert encodings.from_spki(encodings.to_spki(selftest.POINT)) == selftest.POINT
    for point in (selftest.POINT, None):
        der = encodings.to_pkcs8(selftest.PRIVATE, point)
        assert encodings.from_pkcs8(der) == selftest.PRIVATE
        with pytest.raises(Malformed):
            encodings.from_pkcs8(der + b"\0")


@given(st.binary(min_size=1, max_size=300))
def test_ciphertexts_go_both_ways(cipher: bytes) -> None:
    raw = selftest.POINT + bytes(range(32)) + cipher
    der = encodings.ciphertext_to_der(raw)
    assert encodings.ciphertext_from_der(der) == raw
    for bad in (der[:-1], der + b"\0", der[:2]):
        with pytest.raises(Malformed):
            encodings.ciphertext_from_der(bad)
