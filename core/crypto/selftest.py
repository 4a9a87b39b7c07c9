"""The power-on self test: known answers before the first use. A process whose arithmetic is wrong does not start.

Vectors: GM/T 0004-2012 A.1, GM/T 0002-2012 A.1, RFC 8998 A.1, GM/T 0003.5-2012 A.2 and C.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from core.crypto import sm2, sm4
from core.crypto.encodings import check_point
from core.crypto.sm3 import hmac_sm3, sm3
from core.errors import Internal

_hex = bytes.fromhex
PRIVATE: Final = _hex("3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8")
POINT: Final = _hex(
    "0409F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020"
    "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"
)
MESSAGE: Final = b"message digest"
DIGEST: Final = _hex("F0B43E94BA45ACCAACE692ED534382EB17E6AB5A19CE7B31F4486FDFC0D28640")
SIGNATURE: Final = _hex(
    "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3"
    "B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA"
)
PLAIN: Final = b"encryption standard"
CIPHER: Final = _hex(
    "04"
    "04EBFC718E8D1798620432268E77FEB6415E2EDE0E073C0F4F640ECD2E149A73"
    "E858F9D81E5430A57B36DAAB8F950A3C64E6EE6A63094D99283AFF767E124DF0"
    "59983C18F809E262923C53AEC295D30383B54E39D609D160AFCB1908D0BD8766"
    "21886CA989CA9C7D58087307CA93092D651EFA"
)
SM4_KEY: Final = _hex("0123456789ABCDEFFEDCBA9876543210")
GCM_NONCE: Final = _hex("00001234567800000000ABCD")
GCM_AAD: Final = _hex("FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2")
GCM_PLAIN: Final = b"".join(bytes((16 * n + n,)) * 8 for n in (10, 11, 12, 13, 14, 15, 14, 10))
GCM_SEALED: Final = _hex(
    "17F399F08C67D5EE19D0DC9969C4BB7D5FD46FD3756489069157B282BB200735"
    "D82710CA5C22F0CCFA7CBF93D496AC15A56834CBCF98C397B4024A2691233B8D83DE3541E4C2B58177E065A9BF7B62EC"
)


def _signs_what_it_verifies() -> bool:
    key = sm2.PrivateKey(PRIVATE, POINT)
    signature = sm2.sign(key, MESSAGE)
    return sm2.verify(POINT, MESSAGE, signature) and not sm2.verify(POINT, MESSAGE + b".", signature)


CHECKS: Final[dict[str, Callable[[], bool]]] = {
    "SM3": lambda: sm3(b"abc") == _hex("66C7F0F462EEEDD9D1F2D46BDC10E4E24167C4875CF2F7A2297DA02B8F4BA8E0"),
    "HMAC-SM3": lambda: hmac_sm3(b"k", b"ab", b"c") == hmac_sm3(b"k", b"abc") != sm3(b"kabc"),
    "SM4-GCM seals": lambda: sm4.seal(SM4_KEY, GCM_NONCE, GCM_PLAIN, GCM_AAD) == GCM_SEALED,
    "SM4-GCM opens": lambda: sm4.open_sealed(SM4_KEY, GCM_NONCE, GCM_SEALED, GCM_AAD) == GCM_PLAIN,
    "SM2 key": lambda: sm2.PrivateKey.of(PRIVATE).point == check_point(POINT),
    "SM2 digest": lambda: sm2.signed_digest(POINT, MESSAGE) == DIGEST,
    "SM2 verifies": lambda: sm2.verify(POINT, MESSAGE, SIGNATURE),
    "SM2 refuses": lambda: not sm2.verify(POINT, MESSAGE, SIGNATURE[:-1] + b"\xab"),
    "SM2 signs": _signs_what_it_verifies,
    "SM2 decrypts": lambda: sm2.decrypt(sm2.PrivateKey(PRIVATE, POINT), CIPHER) == PLAIN,
}


def run() -> None:
    """Raises `Internal` with the names of the checks that failed."""
    failed = list(_failed())
    if failed:
        raise Internal(f"the cryptographic self test failed: {', '.join(failed)}")


def _failed() -> Iterator[str]:
    for name, check in CHECKS.items():
        try:
            right = check()
        except Exception:
            right = False
        if not right:
            yield name
