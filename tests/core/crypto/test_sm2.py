"""SM2 against the standard's vectors, against what is no signature, and between its two engines."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.crypto import encodings, selftest, sm2
from core.crypto.curve import public_point
from core.crypto.encodings import Malformed, N
from core.crypto.gmssl import Gmssl
from core.crypto.libcrypto import Libcrypto, LibcryptoError
from core.crypto.selftest import MESSAGE, POINT, PRIVATE, SIGNATURE
from core.errors import Internal, Invalid

KEY = sm2.PrivateKey(PRIVATE, POINT)


def _engines() -> Iterator[object]:
    yield pytest.param(Libcrypto, id="libcrypto")
    yield pytest.param(Gmssl, id="gmssl_pyx")


@pytest.fixture(params=_engines())
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> sm2.Engine:
    """Each engine that is installed, in the place of the one that would be chosen."""
    try:
        made: sm2.Engine = request.param()
    except (ImportError, LibcryptoError) as reason:
        pytest.skip(f"{request.param.__name__} is not here: {reason}")
    monkeypatch.setattr(sm2, "engine", lambda: made)
    return made


def test_the_self_test_passes(engine: sm2.Engine) -> None:
    selftest.run()


def test_signature_of_the_standard(engine: sm2.Engine) -> None:
    assert sm2.signed_digest(POINT, MESSAGE) == selftest.DIGEST
    assert sm2.verify(POINT, MESSAGE, SIGNATURE)
    assert sm2.PrivateKey.of(PRIVATE) == KEY
    assert public_point(PRIVATE) == POINT


def test_ciphertext_of_the_standard(engine: sm2.Engine) -> None:
    assert sm2.decrypt(KEY, selftest.CIPHER) == b"encryption standard"


@pytest.mark.parametrize(
    ("r", "s"),
    [
        (0, 1),
        (1, 0),
        (N, 1),
        (1, N),
        (2**256 - 1, 1),
        (1, N - 1),  # r + s = n
        (1, 1),
        (int.from_bytes(SIGNATURE[32:]), int.from_bytes(SIGNATURE[:32])),
        (int.from_bytes(SIGNATURE[:32]) ^ 1, int.from_bytes(SIGNATURE[32:])),
        (int.from_bytes(SIGNATURE[:32]), int.from_bytes(SIGNATURE[32:]) ^ 1),
        (int.from_bytes(SIGNATURE[:32]), N - int.from_bytes(SIGNATURE[32:])),  # what ECDSA would also accept
    ],
)
def test_numbers_that_are_no_signature(engine: sm2.Engine, r: int, s: int) -> None:
    assert not sm2.verify(POINT, MESSAGE, r.to_bytes(32) + s.to_bytes(32))


@pytest.mark.parametrize("signature", [b"", SIGNATURE[:-1], SIGNATURE + b"\0", SIGNATURE[:32]])
def test_bytes_that_are_no_signature(engine: sm2.Engine, signature: bytes) -> None:
    assert not sm2.verify(POINT, MESSAGE, signature)


def test_a_signature_is_of_one_message_one_key_and_one_id(engine: sm2.Engine) -> None:
    other = sm2.generate()
    assert not sm2.verify(POINT, MESSAGE + b" ", SIGNATURE)
    assert not sm2.verify(POINT, MESSAGE, SIGNATURE, user_id=b"ALICE123@YAHOO.COM")
    assert not sm2.verify(other.point, MESSAGE, SIGNATURE)  # another Z, too
    assert not sm2.verify(POINT[:-1] + b"\x14", MESSAGE, SIGNATURE)  # beside the curve
    named = sm2.sign(other, MESSAGE, user_id=b"ALICE123@YAHOO.COM")
    assert sm2.verify(other.point, MESSAGE, named, user_id=b"ALICE123@YAHOO.COM")
    assert not sm2.verify(other.point, MESSAGE, named)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.binary(max_size=300))
def test_what_is_signed_is_verified(engine: sm2.Engine, message: bytes) -> None:
    key = sm2.generate()
    signature = sm2.sign(key, message)
    assert sm2.verify(key.point, message, signature)
    assert not sm2.verify(key.point, message + b"\0", signature)
    assert sm2.PrivateKey.from_pkcs8(key.to_pkcs8()) == key
    assert signature != sm2.sign(key, message)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plain=st.binary(min_size=1, max_size=255))
def test_what_is_encrypted_is_decrypted(engine: sm2.Engine, plain: bytes) -> None:
    key = sm2.generate()
    cipher = sm2.encrypt(key.point, plain)
    assert sm2.decrypt(key, cipher) == plain
    for bad in (cipher[:-1] + bytes((cipher[-1] ^ 1,)), cipher[:-1], cipher[:60], b"", b"\x04" + bytes(120)):
        with pytest.raises(Invalid):
            sm2.decrypt(key, bad)
    with pytest.raises(Invalid):
        sm2.decrypt(KEY, cipher)


def test_sizes_that_no_engine_takes(engine: sm2.Engine) -> None:
    for plain in (b"", bytes(256)):
        with pytest.raises(Invalid):
            sm2.encrypt(POINT, plain)
    for user_id in (b"", bytes(8192)):
        with pytest.raises(ValueError, match="8191"):
            sm2.sign(KEY, MESSAGE, user_id)
    with pytest.raises(Malformed):
        sm2.PrivateKey.of(N.to_bytes(32))


def test_engines_accept_each_others_work() -> None:
    try:
        engines: list[sm2.Engine] = [Libcrypto(), Gmssl()]
    except (ImportError, LibcryptoError) as reason:
        pytest.skip(f"one engine alone cannot be compared: {reason}")
    for one, other in (engines, engines[::-1]):
        private, point = one.generate()
        assert other.point(private) == point
        signature = one.sign(private, point, MESSAGE, sm2.DEFAULT_ID)
        assert other.verify(point, MESSAGE, signature, sm2.DEFAULT_ID)
        assert other.decrypt(private, point, one.encrypt(point, b"a key")) == b"a key"
        der = one.encrypt(point, b"a key")
        assert encodings.ciphertext_to_der(encodings.ciphertext_from_der(der)) == der


def test_threads_do_not_disturb_each_other() -> None:
    wrong: list[object] = []

    def work() -> None:
        for n in range(60):
            key = sm2.generate()
            signature = sm2.sign(key, b"%d" % n)
            if not sm2.verify(key.point, b"%d" % n, signature) or sm2.verify(POINT, b"x", signature):
                wrong.append(n)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nothing_starts_on_wrong_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    class Generous(Libcrypto):
        def verify(self, point: bytes, message: bytes, signature: bytes, user_id: bytes) -> bool:
            return True

    generous = Generous()
    monkeypatch.setattr(sm2, "engine", lambda: generous)
    with pytest.raises(Internal, match="SM2 refuses, SM2 signs"):
        selftest.run()


def test_a_machine_without_any_sm2_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise LibcryptoError("there is no libcrypto 3 on this machine")

    def not_installed(*_: object) -> None:
        raise ImportError

    monkeypatch.setattr(sm2, "Libcrypto", missing)
    monkeypatch.setattr(sm2, "Gmssl", not_installed)
    with pytest.raises(Internal, match=r"no libcrypto 3 .* gmssl_pyx is not installed"):
        sm2.engine.__wrapped__()


def test_everything_libcrypto_gives_is_given_back() -> None:
    """Many of each, also those that fail: a context that stayed would be megabytes."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("the size of this process cannot be read here")
    engine = Libcrypto()
    private, point = engine.generate()
    good = engine.sign(private, point, MESSAGE, sm2.DEFAULT_ID)
    cipher = engine.encrypt(point, b"a key")

    def work(times: int) -> None:
        for n in range(times):
            engine.verify(point, b"%d" % n, good, sm2.DEFAULT_ID)
            engine.sign(private, point, MESSAGE, sm2.DEFAULT_ID)
            with pytest.raises(LibcryptoError):
                engine.decrypt(private, point, cipher[:-1] + bytes((cipher[-1] ^ 1,)))

    work(200)
    before = int(statm.read_text().split()[1])
    work(1_500)
    grown = (int(statm.read_text().split()[1]) - before) * 4096
    assert grown < 1 << 20
