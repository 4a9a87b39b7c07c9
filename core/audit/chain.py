"""The chain of a tenant's audit and its seals, decided without I/O.

digest(0)   = SM3("bankhub.audit.chain" ‖ tenant)
digest(n)   = SM3(digest(n-1) ‖ n ‖ mac(n) ‖ content(n))
seal(k)     = SM2 over (tenant, k, number and digest of the last row, digest of seal k-1, time, key)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from core.audit.rows import Row
from core.codec import canonical
from core.crypto.sm3 import sm3

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NO_SEAL: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Seal:
    """What vouches for a chain up to a row."""

    enterprise_id: int
    seal_no: int
    last_seq: int
    digest: bytes
    previous: bytes
    sealed_at: datetime
    key_version: int
    signature: bytes = b""

    def message(self) -> bytes:
        """What is signed."""
        at_us = (self.sealed_at - _EPOCH) // timedelta(microseconds=1)
        said = [
            self.enterprise_id,
            self.seal_no,
            self.last_seq,
            self.digest,
            self.previous,
            at_us,
            self.key_version,
        ]
        return b"bankhub.audit.seal" + canonical(said)

    def own_digest(self) -> bytes:
        """What the next seal points back to."""
        return sm3(self.message(), self.signature)


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain goes on."""

    enterprise_id: int
    seal_no: int
    last_seq: int
    digest: bytes
    seal_digest: bytes
    exported_no: int


def start(enterprise_id: int) -> bytes:
    """The digest before the first row."""
    return sm3(b"bankhub.audit.chain", enterprise_id.to_bytes(8, signed=True))


def empty(enterprise_id: int) -> Head:
    """The head of a tenant that nothing was recorded of."""
    return Head(enterprise_id, 0, 0, start(enterprise_id), NO_SEAL, 0)


def link(previous: bytes, seq: int, row: Row) -> bytes:
    """The digest of a row and all before it."""
    return sm3(previous, seq.to_bytes(8), row.mac, row.content())


def check_row(previous: bytes, seq: int, row: Row, row_seq: int, digest: bytes | None) -> str | None:
    """Why this is not the row number `seq` behind `previous`; None if it is. The MAC is looked at elsewhere."""
    if row_seq != seq:
        return f"row {row_seq} stands where {seq} is due"
    if link(previous, seq, row) != digest:
        return "the digest does not follow from the row before"
    return None


def check_seal(before: Seal | None, seal: Seal) -> str | None:
    """Why this seal does not follow the one before; None if it does. The signature is looked at elsewhere."""
    if seal.seal_no != (before.seal_no if before else 0) + 1:
        return f"seal {seal.seal_no} stands where {(before.seal_no if before else 0) + 1} is due"
    if seal.previous != (before.own_digest() if before else NO_SEAL):
        return "it does not point to the seal before"
    if seal.last_seq <= (before.last_seq if before else 0):
        return "it covers no row"
    return None
