"""Proof of possession (DPoP, RFC 9449): who presents a token shows that he has the key it is bound to.

The client signs a small JWT for each request: method, address, time, a name of its own, and the token's digest. It is
worth nothing for another request, for another token, or a minute later. `check` decides without I/O; that a proof is
used once only is a matter of memory, and `spend` asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson

from core.device_key import DeviceKey, b64url, unb64url
from core.errors import Invalid, TooManyRequests, Unauthenticated
from core.limits import Rate

if TYPE_CHECKING:
    from core.access import Principal
    from core.limits import Limits
    from core.settings import Settings

PROOF_BYTES: Final = 2048
_NAME_CHARACTERS: Final = range(8, 129)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Window:
    """How old a proof may be and how far in the future: settings `dpop_age_s` and `dpop_skew_s`."""

    age_s: float = 60.0
    skew_s: float = 5.0

    @classmethod
    def of(cls, settings: Settings) -> Window:
        """The window that settings say."""
        return cls(settings.dpop_age_s, settings.dpop_skew_s)

    @property
    def once(self) -> Rate:
        """A bucket with one token, for longer than a proof lives."""
        return Rate(burst=1, per_s=1 / (2 * (self.age_s + self.skew_s)))


WINDOW: Final = Window()


@dataclass(frozen=True, slots=True)
class Shown:
    """A proof as it came with a request: its text, and what was requested."""

    proof: str
    method: str
    url: str


class BadProof(Unauthenticated):
    """The proof of possession is missing or not valid."""

    holder: Principal | None = (
        None  # whose token it is that somebody without its key has, where that is known
    )


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that holds: by which key, and what it calls itself."""

    key: DeviceKey
    jkt: str
    name: str  # jti
    issued_s: float


def check(
    proof: str,
    *,
    method: str,
    url: str,
    now_s: float,
    token: str | None = None,
    jkt: str | None = None,
    window: Window = WINDOW,
) -> Proof:
    """The proof in a DPoP header, for this request (RFC 9449, 4.3).

    `url` is the public address of what is called; its query and fragment do not count. `token` is the access token
    that comes along, `jkt` the key it is bound to. Raises `BadProof`, which says what is wrong: a client's developer
    must find out, and a thief learns nothing that he did not write.
    """
    if len(proof) > PROOF_BYTES:
        raise BadProof("the proof is too long")
    header, claims, signed, signature = _parts(proof)
    if header.get("typ") != "dpop+jwt":
        raise BadProof("the proof is not of type dpop+jwt")
    try:
        key = DeviceKey.from_jwk(header.get("jwk"))
    except Invalid as error:
        raise BadProof(error.message) from error
    if header.get("alg") != key.algorithm or "crit" in header:
        raise BadProof("the proof's algorithm does not fit its key")
    if not key.verify(signed, signature):
        raise BadProof("the proof's signature does not hold")
    name, issued_s = claims.get("jti"), claims.get("iat")
    if not isinstance(name, str) or len(name) not in _NAME_CHARACTERS:
        raise BadProof("a proof has a jti of 8 to 128 characters")
    if isinstance(issued_s, bool) or not isinstance(issued_s, int | float):
        raise BadProof("a proof has the time it was made at (iat)")
    if not now_s - window.age_s <= issued_s <= now_s + window.skew_s:
        raise BadProof("the proof is too old or too new: is the clock right?")
    if claims.get("htm") != method:
        raise BadProof("the proof is for another method")
    if not _same_address(claims.get("htu"), url):
        raise BadProof("the proof is for another address")
    if token is not None:
        digest = b64url(sha256(token.encode()).digest())
        given = claims.get("ath")
        if not isinstance(given, str) or not compare_digest(given.encode(), digest.encode()):
            raise BadProof("the proof is for another token")
    if jkt is not None and not compare_digest(key.thumbprint.encode(), jkt.encode()):
        raise BadProof("the token is bound to another key")
    return Proof(key, key.thumbprint, name, float(issued_s))


def bind(
    principal: Principal, token: str, shown: Shown | None, now_s: float, window: Window = WINDOW
) -> None:
    """Whether whoever presents this token may: a bound one needs its key's proof. Raises `BadProof`."""
    if not principal.jkt:
        return
    with held(principal):
        if shown is None:
            raise BadProof("this token is bound to a key: send a proof (DPoP)")
        check(
            shown.proof,
            method=shown.method,
            url=shown.url,
            now_s=now_s,
            token=token,
            jkt=principal.jkt,
            window=window,
        )


@contextmanager
def held(principal: Principal | None) -> Iterator[None]:
    """A proof that fails in here went with this one's token, which says so to whoever records it."""
    try:
        yield
    except BadProof as error:
        error.holder = principal
        raise


async def spend(limits: Limits, proof: str, window: Window = WINDOW) -> None:
    """Use a proof up that has been checked, for every process. Raises `BadProof` where it was used before.

    It is remembered by the key and its name (`jti`): a thief cannot write the same proof in another way.

    A bucket with one token: Redis is asked; without it each process remembers by itself, so that for as long a proof
    could be used once in each of them, within its minute.
    """
    try:
        header, claims, _, _ = _parts(proof)
        name = (DeviceKey.from_jwk(header["jwk"]).thumbprint, claims["jti"])
        await limits.take("dpop", name, window.once)
    except TooManyRequests as error:
        raise BadProof("the proof was used before") from error


def _parts(proof: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Header, claims, what is signed, and the signature."""
    try:
        head, body, signature = proof.split(".")
        header, claims = orjson.loads(unb64url(head)), orjson.loads(unb64url(body))
        if not isinstance(header, dict) or not isinstance(claims, dict):
            raise TypeError
        return header, claims, f"{head}.{body}".encode("ascii"), unb64url(signature)
    except (ValueError, TypeError) as error:
        raise BadProof("the proof is not a JWT") from error


def _same_address(given: object, url: str) -> bool:
    """Whether both are the same after what RFC 3986, 6.2.2 and 6.2.3, allow to differ."""
    if not isinstance(given, str) or len(given) > PROOF_BYTES:
        return False
    try:
        return _normal(given) == _normal(url)
    except ValueError:
        return False


def _normal(url: str) -> tuple[str, str, int | None, str]:
    """Scheme, host, port, path. Raises `ValueError` for what is no address."""
    split = urlsplit(url)
    if split.scheme not in _DEFAULT_PORTS or not split.hostname or split.username is not None:
        raise ValueError("not an address")
    return split.scheme, split.hostname, split.port or _DEFAULT_PORTS[split.scheme], split.path or "/"
