"""The bytes of SM2 keys, signatures and ciphertexts. Values in, bytes out, nothing else.

Inside this program a public key is a point of 65 bytes (04, x, y), a private key 32 bytes, a signature r || s of 64
bytes and a ciphertext C1 || C3 || C2 (GM/T 0003.4-2012), because each value has then exactly one form. Outside, keys
are X.509 and PKCS #8 (GM/T 0010 gives SM2 the curve's OID), signatures and ciphertexts DER (GM/T 0009).

Reading is strict: DER has one way to write a value, and a second one is refused, since it would be a second signature.
"""

from __future__ import annotations

from typing import Final

P: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
A: Final = P - 3
B: Final = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
N: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
G: Final = bytes.fromhex(
    "32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7"
    "BC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0"
)
"""The curve of GM/T 0003.5: y² = x³ + Ax + B over P, its base point and that point's order."""

POINT_BYTES: Final = 65
_SEQUENCE, _INTEGER, _OCTETS = 0x30, 0x02, 0x04
_ALGORITHM: Final = bytes.fromhex(
    "301306072A8648CE3D020106082A811CCF5501822D"
)  # EC key on the curve sm2p256v1
_SPKI: Final = bytes.fromhex("3059") + _ALGORITHM + bytes.fromhex("034200")
_PKCS8: Final = bytes.fromhex("308187020100") + _ALGORITHM + bytes.fromhex("046D306B0201010420")
_PKCS8_POINT: Final = bytes.fromhex("A144034200")
_PKCS8_BARE: Final = bytes.fromhex("3041020100") + _ALGORITHM + bytes.fromhex("042730250201010420")


class Malformed(ValueError):
    """These bytes are not what they should be."""


# --- keys -------------------------------------------------------------------------------------------------------------


def check_point(point: bytes) -> bytes:
    """The point, if it is one of the curve. Raises `Malformed`: a point beside the curve gives keys away."""
    if len(point) != POINT_BYTES or point[0] != 4:
        raise Malformed("a public key is 04, x and y: 65 bytes")
    x, y = int.from_bytes(point[1:33]), int.from_bytes(point[33:])
    if x >= P or y >= P or (y * y - (x * x * x + A * x + B)) % P:
        raise Malformed("the public key is not on the curve")
    return point


def check_scalar(private: bytes) -> bytes:
    """The private key, if it is one: 1 to N - 2 (GM/T 0003.1, 6.1). Raises `Malformed`."""
    if len(private) != 32 or not 1 <= int.from_bytes(private) <= N - 2:
        raise Malformed("a private key is a number from 1 to n - 2 in 32 bytes")
    return private


def to_spki(point: bytes) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return _SPKI + check_point(point)


def from_spki(der: bytes) -> bytes:
    """The point of a SubjectPublicKeyInfo. Raises `Malformed`."""
    if not der.startswith(_SPKI):
        raise Malformed("this is no SM2 public key")
    return check_point(der[len(_SPKI) :])


def to_pkcs8(private: bytes, point: bytes | None = None) -> bytes:
    """PrivateKeyInfo, DER, with the public key inside if it is given."""
    if point is None:
        return _PKCS8_BARE + check_scalar(private)
    return _PKCS8 + check_scalar(private) + _PKCS8_POINT + check_point(point)


def from_pkcs8(der: bytes) -> bytes:
    """The private key of a PrivateKeyInfo as `to_pkcs8` writes it. Raises `Malformed`."""
    for head, size in ((_PKCS8, len(_PKCS8_POINT) + POINT_BYTES), (_PKCS8_BARE, 0)):
        if der.startswith(head) and len(der) == len(head) + 32 + size:
            return check_scalar(der[len(head) : len(head) + 32])
    raise Malformed("this is no SM2 private key")


# --- signatures -------------------------------------------------------------------------------------------------------


def signature_to_der(raw: bytes) -> bytes:
    """r || s as SEQUENCE { INTEGER, INTEGER }. Raises `Malformed`."""
    check_signature(raw)
    return _tlv(_SEQUENCE, _integer(raw[:32]) + _integer(raw[32:]))


def signature_from_der(der: bytes) -> bytes:
    """r || s. Raises `Malformed` for anything but the one right encoding of two numbers in range."""
    (r, s), rest = _integers(_only(_SEQUENCE, der), 2)
    if rest:
        raise Malformed("something follows the two numbers")
    return check_signature(r + s)


def check_signature(raw: bytes) -> bytes:
    """r || s, if both are from 1 to n - 1 and their sum is not n (GM/T 0003.2, 7.1). Raises `Malformed`."""
    r, s = int.from_bytes(raw[:32]), int.from_bytes(raw[32:])
    if len(raw) != 64 or not 1 <= r < N or not 1 <= s < N or r + s == N:
        raise Malformed("r or s is out of range")
    return raw


# --- ciphertexts ------------------------------------------------------------------------------------------------------


def ciphertext_to_der(raw: bytes) -> bytes:
    """C1 || C3 || C2 as SEQUENCE { x, y, hash, cipher }. Raises `Malformed`."""
    if len(raw) <= POINT_BYTES + 32:
        raise Malformed("a ciphertext is a point, 32 bytes and what was encrypted")
    point = check_point(raw[:POINT_BYTES])
    hashed, cipher = raw[POINT_BYTES : POINT_BYTES + 32], raw[POINT_BYTES + 32 :]
    body = _integer(point[1:33]) + _integer(point[33:]) + _tlv(_OCTETS, hashed) + _tlv(_OCTETS, cipher)
    return _tlv(_SEQUENCE, body)


def ciphertext_from_der(der: bytes) -> bytes:
    """C1 || C3 || C2. Raises `Malformed`."""
    (x, y), rest = _integers(_only(_SEQUENCE, der), 2)
    hashed, rest = _take(_OCTETS, rest)
    cipher = _only(_OCTETS, rest)
    if len(hashed) != 32 or not cipher:
        raise Malformed("the hash has 32 bytes and the cipher some")
    return check_point(b"\x04" + x + y) + hashed + cipher


# --- DER --------------------------------------------------------------------------------------------------------------


def _tlv(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + body


def _integer(value: bytes) -> bytes:
    digits = value.lstrip(b"\0") or b"\0"
    return _tlv(_INTEGER, b"\0" + digits if digits[0] & 0x80 else digits)


def _integers(data: bytes, count: int) -> tuple[list[bytes], bytes]:
    """So many numbers of 256 bits, 32 bytes each, and what follows them."""
    found = []
    for _ in range(count):
        digits, data = _take(_INTEGER, data)
        if not digits or digits[0] & 0x80 or (len(digits) > 1 and digits[0] == 0 and not digits[1] & 0x80):
            raise Malformed("an integer is positive and has no needless zeros")
        digits = digits.lstrip(b"\0")
        if len(digits) > 32:
            raise Malformed("an integer is too large")
        found.append(digits.rjust(32, b"\0"))
    return found, data


def _only(tag: int, data: bytes) -> bytes:
    body, rest = _take(tag, data)
    if rest:
        raise Malformed("something follows the end")
    return body


def _take(tag: int, data: bytes) -> tuple[bytes, bytes]:
    if len(data) < 2 or data[0] != tag:
        raise Malformed("another type was expected")
    size, start = data[1], 2
    if size >= 0x80:
        count = size & 0x7F
        start = 2 + count
        digits = data[2:start]
        size = int.from_bytes(digits)
        if not 1 <= count <= 4 or len(digits) != count or digits[0] == 0 or size < 0x80:
            raise Malformed("a length is written in the shortest way")
    if len(data) < start + size:
        raise Malformed("it ends too early")
    return data[start : start + size], data[start + size :]
