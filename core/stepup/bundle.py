"""Evidence in a file that stands for itself: verified without a database, by whoever has the bank's public keys.

The file is one JSON object in canonical form (`rules.canonical`, RFC 8785) and a line end, so there is one way to write
it and any other byte is found:

    version    bankhub.evidence.1
    made       when, ISO 8601 in UTC
    key        the bank's sealing key, by name and public point: SM2 with SM3, user id 1234567812345678
    evidence   each with its canonical message, the SM3 of that, who, what, when, how it was proved: ES256 and SM2 with
               public point and signature r || s in hex, TOTP and SMS without: for those the bank's word is all there is
    seal       the bank's signature of "bankhub.evidence.bundle" and the canonical form of everything above

The trust anchor is a file of the bank's public sealing keys (`bankhub keys --public`), got by another way than this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from core.crypto import sm2
from core.errors import Internal, Invalid
from core.stepup.evidence import Evidence
from core.stepup.rules import canonical

VERSION: Final = "bankhub.evidence.1"
ANCHOR: Final = "bankhub.anchor.1"
ALGORITHM: Final = "SM2-SM3"
_FIELDS: Final = {"version", "made", "key", "evidence", "seal"}
_PIECE: Final = {
    "challenge",
    "enterprise",
    "person",
    "action",
    "algorithm",
    "point",
    "signature",
    "message",
    "digest",
    "proven",
}


def unsealed(evidence: Sequence[Evidence], made: datetime, key_id: str, point: bytes) -> dict[str, Any]:
    """Everything that is sealed."""
    key = {"name": key_id, "algorithm": ALGORITHM, "point": point.hex()}
    pieces = [_written(one) for one in evidence]
    return {"version": VERSION, "made": _time(made), "key": key, "evidence": pieces}


def statement(document: Mapping[str, Any]) -> bytes:
    """What the bank signs."""
    said = {name: value for name, value in document.items() if name != "seal"}
    return b"bankhub.evidence.bundle" + canonical(said)


def sealed(document: Mapping[str, Any], signature: bytes) -> bytes:
    """The file."""
    return canonical({**document, "seal": signature.hex()}) + b"\n"


def anchor(points: Mapping[str, bytes]) -> bytes:
    """The file with the bank's public keys by name."""
    return (
        canonical({"version": ANCHOR, "keys": {name: point.hex() for name, point in points.items()}}) + b"\n"
    )


def read_anchor(data: bytes) -> dict[str, bytes]:
    """Public keys by name. Raises `Invalid`. It is not checked who wrote it: that is what makes it an anchor."""
    document = _object(data, "the anchor")
    keys = document.get("keys")
    if document.get("version") != ANCHOR or not isinstance(keys, dict) or not keys:
        raise Invalid(f"the anchor is no {ANCHOR}")
    return {name: _bytes(point, "a key of the anchor") for name, point in keys.items()}


def verify(data: bytes, trusted: Mapping[str, bytes]) -> list[Evidence]:
    """What the bundle holds, all of it verified. Raises `Invalid`, which says what does not hold."""
    document = _object(data, "the bundle")
    if document.get("version") != VERSION or set(document) != _FIELDS:
        raise Invalid(f"the bundle is no {VERSION}")
    if _canonical(document) + b"\n" != data:
        raise Invalid("the bundle is not in canonical form: it was written by another program or changed")
    key, pieces = document["key"], document["evidence"]
    if (
        not isinstance(key, dict)
        or set(key) != {"name", "algorithm", "point"}
        or not isinstance(pieces, list)
    ):
        raise Invalid("the bundle's parts are not where they should be")
    if key["algorithm"] != ALGORITHM:
        raise Invalid("the seal's algorithm is not known")
    point = trusted.get(key["name"]) if isinstance(key["name"], str) else None
    if point is None or key["point"] != point.hex():
        raise Invalid("the bundle is sealed by a key that the anchor does not know")
    if not sm2.verify(point, statement(document), _bytes(document["seal"], "the seal")):
        raise Invalid("the bank's seal does not hold: something was changed, added or left out")
    return [_read(piece) for piece in pieces]


def _written(one: Evidence) -> dict[str, Any]:
    return {
        "challenge": str(one.challenge_id),
        "enterprise": str(one.enterprise_id),
        "person": str(one.person_id),
        "action": one.action,
        "algorithm": one.algorithm,
        "point": None if one.point is None else one.point.hex(),
        "signature": None if one.signature is None else one.signature.hex(),
        "message": one.message.decode(),
        "digest": one.digest.hex(),
        "proven": _time(one.proven_at),
    }


def _read(piece: object) -> Evidence:
    """One piece, whose own signature holds and whose message says the same as what stands beside it."""
    if not isinstance(piece, dict) or set(piece) != _PIECE:
        raise Invalid("a piece of evidence has not the fields of one")
    name = f"challenge {piece['challenge']}"
    try:
        one = Evidence(
            challenge_id=int(piece["challenge"]),
            enterprise_id=int(piece["enterprise"]),
            person_id=int(piece["person"]),
            action=piece["action"],
            algorithm=piece["algorithm"],
            point=None if piece["point"] is None else _bytes(piece["point"], name),
            signature=None if piece["signature"] is None else _bytes(piece["signature"], name),
            message=piece["message"].encode(),
            proven_at=datetime.fromisoformat(piece["proven"]),
        )
        said = json.loads(one.message)
        same = [said["challenge"], said["enterprise"], said["person"], said["action"]] == [
            piece["challenge"],
            piece["enterprise"],
            piece["person"],
            piece["action"],
        ]
        proven_ms = one.proven_at.timestamp() * 1000
        in_time = said["issued_ms"] <= proven_ms + 1 and proven_ms < said["expires_ms"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Invalid(f"{name} cannot be read") from error
    if not same or _canonical(said) != one.message:
        raise Invalid(f"{name}: the message is about something else")
    if not in_time:
        raise Invalid(f"{name}: it was proved outside the time it was for")
    if one.digest.hex() != piece["digest"] or not one.holds():
        raise Invalid(f"{name}: the signature does not hold")
    return one


def _canonical(value: object) -> bytes:
    """Nothing where it has no canonical form."""
    try:
        return canonical(value)
    except (Internal, ValueError, RecursionError):
        return b""


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{what} is no JSON") from error
    if not isinstance(document, dict):
        raise Invalid(f"{what} is no JSON object")
    return document


def _bytes(text: object, what: str) -> bytes:
    """Hex in the one way it is written: another case is another file."""
    try:
        read = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError as error:
        raise Invalid(f"{what} is no hex") from error
    if read.hex() != text:
        raise Invalid(f"{what} is no hex")
    return read


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
