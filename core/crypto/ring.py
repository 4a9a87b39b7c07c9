"""What a ring of keys is and how it turns, decided without I/O.

A purpose has one `current` key, which everything new is made with, one `next`, and `previous` ones, which read what
is there. A rotation makes the next one current. Because every process has known it since the rotation before, none
meets a key it does not know, whichever of them hears of the rotation first: that is why nothing has to stop.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import orjson
from joserfc.jwk import ECKey

from core.crypto import sm2, sm4
from core.errors import Conflict, Invalid, NotFound
from core.rng import Rng

State = Literal["next", "current", "previous"]
DAY_MS: Final = 86_400_000
SETTLE_MS: Final = 300_000
"""How old a next key must be to become current: mounted secrets reach every process within minutes."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What keys are for. `previous` ones beyond that many are dropped at a rotation; None: kept until retired."""

    name: str
    algorithm: str
    rotate_days: int
    previous: int | None
    make: Callable[[Rng], bytes]


def _es256(rng: Rng) -> bytes:
    return orjson.dumps(ECKey.generate_key("P-256").as_dict(private=True))


TOKENS: Final = Purpose(
    "tokens", "ES256", 90, 1, _es256
)  # a token lives ten minutes: one previous key is plenty
COLUMNS: Final = Purpose("columns", "SM4-GCM", 365, None, lambda rng: rng.randbytes(sm4.KEY_BYTES))
INDEXES: Final = Purpose("indexes", "HMAC-SM3", 730, None, lambda rng: rng.randbytes(32))
FILES: Final = Purpose("files", "SM4-GCM", 365, None, lambda rng: rng.randbytes(32))
AUDIT: Final = Purpose("audit", "HMAC-SM3", 365, None, lambda rng: rng.randbytes(32))
SEALS: Final = Purpose("seals", "SM2", 365, None, lambda rng: sm2.generate().to_pkcs8())

PURPOSES: Final = {purpose.name: purpose for purpose in (TOKENS, COLUMNS, INDEXES, FILES, AUDIT, SEALS)}


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `material` is secret: raw bytes, PKCS #8 of SM2, a JWK of ES256."""

    purpose: str
    version: int
    state: State
    created_ms: int
    material: bytes = field(repr=False)

    @property
    def key_id(self) -> str:
        """How the key is named outside: in tokens, ciphertexts, seals, the inventory."""
        return f"{self.purpose}.{self.version}"


@dataclass(frozen=True, slots=True)
class Ring:
    """All keys of an installation, by purpose and version."""

    keys: tuple[Key, ...]

    def of(self, purpose: Purpose) -> list[Key]:
        """Oldest first."""
        return sorted((k for k in self.keys if k.purpose == purpose.name), key=lambda k: k.version)

    def current(self, purpose: Purpose) -> Key:
        """Raises `NotFound` for a purpose that this ring was made without."""
        for key in self.keys:
            if key.purpose == purpose.name and key.state == "current":
                return key
        raise NotFound(f"the ring has no key for {purpose.name}: `bankhub keys --add` makes it")

    def get(self, purpose: Purpose, version: int) -> Key | None:
        """The key of this version."""
        return next((k for k in self.of(purpose) if k.version == version), None)


def completed(ring: Ring, now_ms: int, rng: Rng) -> Ring:
    """The ring with a current and a next key of every purpose: made anew where there is none."""
    keys = list(ring.keys)
    for purpose in PURPOSES.values():
        if not any(key.purpose == purpose.name for key in keys):
            keys.append(Key(purpose.name, 1, "current", now_ms, purpose.make(rng)))
            keys.append(Key(purpose.name, 2, "next", now_ms, purpose.make(rng)))
    return Ring(tuple(keys))


def rotated(ring: Ring, purpose: Purpose, now_ms: int, rng: Rng, *, at_once: bool = False) -> Ring:
    """The ring after a rotation. Raises `Conflict` where the next key is too young, unless `at_once`."""
    keys = ring.of(purpose)
    successor = next((key for key in keys if key.state == "next"), None)
    if successor is None:
        raise NotFound(f"the ring has no next key for {purpose.name}")
    if not at_once and now_ms - successor.created_ms < SETTLE_MS:
        raise Conflict("the next key is minutes old, and not every process knows it yet")
    turned = [replace(key, state="current" if key is successor else "previous") for key in keys]
    turned.append(Key(purpose.name, successor.version + 1, "next", now_ms, purpose.make(rng)))
    previous = [key for key in turned if key.state == "previous"]
    dropped = [] if purpose.previous is None else previous[: len(previous) - purpose.previous]
    return _with(ring, purpose, [key for key in turned if key not in dropped])


def attached(ring: Ring, purpose: Purpose, material: bytes, now_ms: int) -> Ring:
    """The ring whose next key of this purpose is a handle of one that is elsewhere (`core.crypto.provider`).

    Raises `Conflict` for a purpose whose keys are needed here.
    """
    if purpose is not SEALS:
        raise Conflict(f"keys for {purpose.name} are used in this process")
    keys = ring.of(purpose)
    made = Key(purpose.name, keys[-1].version + 1, "next", now_ms, material)
    return _with(ring, purpose, [*(key for key in keys if key.state != "next"), made])


def retired(ring: Ring, purpose: Purpose, version: int) -> Ring:
    """The ring without a previous key: what was made with it can never be read again. Raises `Conflict`."""
    key = ring.get(purpose, version)
    if key is None or key.state != "previous":
        raise Conflict("only a previous key is retired")
    return _with(ring, purpose, [other for other in ring.of(purpose) if other is not key])


def _with(ring: Ring, purpose: Purpose, keys: Iterable[Key]) -> Ring:
    return Ring((*(key for key in ring.keys if key.purpose != purpose.name), *keys))


# --- as bytes --------------------------------------------------------------------------------------------------

_FORMAT: Final = 1
_AAD: Final = b"bankhub.ring"


def to_json(ring: Ring) -> bytes:
    """For a file that nobody else can read, or for `envelope`."""
    keys = [
        {
            "purpose": key.purpose,
            "version": key.version,
            "state": key.state,
            "created_ms": key.created_ms,
            "material": base64.b64encode(key.material).decode(),
        }
        for key in ring.keys
    ]
    return orjson.dumps({"format": _FORMAT, "keys": keys}, option=orjson.OPT_INDENT_2)


def from_json(data: bytes) -> Ring:
    """Raises `Invalid`, without a word of the content."""
    try:
        read: Any = orjson.loads(data)
        if read["format"] != _FORMAT:
            raise ValueError("another format")
        return Ring(
            tuple(
                Key(
                    str(one["purpose"]),
                    int(one["version"]),
                    one["state"],
                    int(one["created_ms"]),
                    base64.b64decode(one["material"], validate=True),
                )
                for one in read["keys"]
            )
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid("the ring of keys cannot be read") from error


def to_envelope(ring: Ring, data_key: bytes, wrapped: bytes, rng: Rng) -> bytes:
    """The ring encrypted with a data key, beside that key as the KMS wrapped it."""
    nonce = rng.randbytes(sm4.NONCE_BYTES)
    sealed = nonce + sm4.seal(data_key, nonce, to_json(ring), _AAD)
    texts = {"wrapped": wrapped, "sealed": sealed}
    return orjson.dumps({"format": _FORMAT, **{k: base64.b64encode(v).decode() for k, v in texts.items()}})


def from_envelope(data: bytes, unwrap: Callable[[bytes], bytes]) -> tuple[Ring, bytes, bytes]:
    """The ring, its data key and that key wrapped. Raises `Invalid`, or what `unwrap` raises."""
    try:
        read = orjson.loads(data)
        wrapped, sealed = (base64.b64decode(read[name], validate=True) for name in ("wrapped", "sealed"))
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid("the envelope of the ring cannot be read") from error
    data_key = unwrap(wrapped)
    if len(data_key) != sm4.KEY_BYTES or len(sealed) < sm4.NONCE_BYTES:
        raise Invalid("the envelope of the ring is not whole")
    plain = sm4.open_sealed(data_key, sealed[: sm4.NONCE_BYTES], sealed[sm4.NONCE_BYTES :], _AAD)
    return from_json(plain), data_key, wrapped


def is_envelope(data: bytes) -> bool:
    """Which of the two forms this is."""
    return b'"wrapped"' in data[:200]
