"""Idempotency records: the same request under the same key has one effect and one answer.

The row is claimed in the action's own transaction, so it is there exactly if the effects are. A second request with
the key waits (in this process on a future, else in the database on the unique row) and then gets the stored answer.
Refusals that would come out the same again are stored too; failures are not, so that a retry may succeed.

Answers are stored encrypted, each for its own place: some hold a secret that is shown once, many name people.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, DateTime, Index, LargeBinary, PrimaryKeyConstraint, String, Table

from core.codec import canonical, pack, unpack
from core.crypto.sm3 import hmac_sm3
from core.crypto.sm4 import NotAuthentic
from core.db import sql
from core.db.metadata import metadata
from core.errors import BankhubError, Conflict, Internal, Invalid, Unauthenticated, from_code
from core.keys import cluster_secret, derive
from core.values import Hidden

if TYPE_CHECKING:
    from core.actions import Command
    from core.crypto.columns import Columns
    from core.db import Database, Transaction
    from core.settings import Settings

KEY_CHARACTERS = 64

answers = Table(
    "core_idempotency",
    metadata,
    Column("enterprise_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),  # 0: a service
    Column("action", String(100), nullable=False),
    Column("dedupe_key", String(64), nullable=False),
    Column("request_digest", LargeBinary, nullable=False),
    Column("outcome", String(32), nullable=False),  # ok, or the code of the refusal
    Column("answer", LargeBinary, nullable=True),  # sealed msgpack: the result, or [message, detail]
    Column("created_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("enterprise_id", "person_id", "action", "dedupe_key", name="pk_core_idempotency"),
    Index("ix_core_idempotency_created", "created_at"),
)

_READ = sql(
    """
    SELECT request_digest, outcome, answer FROM core_idempotency
    WHERE enterprise_id = $1 AND person_id = $2 AND action = $3 AND dedupe_key = $4
    """
)
_INSERT = sql(
    """
    INSERT INTO core_idempotency (enterprise_id, person_id, action, dedupe_key, request_digest, outcome, answer,
                                  created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    """
)
_FINISH = sql(
    """
    UPDATE core_idempotency SET answer = $5
    WHERE enterprise_id = $1 AND person_id = $2 AND action = $3 AND dedupe_key = $4
    """
)
_PURGE = sql(
    "DELETE FROM core_idempotency WHERE created_at < $1", exempt="retention is the same for every tenant"
)


# 422 over HTTP, as draft-ietf-httpapi-idempotency-key-header says: the request itself is what has to change
class KeyReused(Invalid):
    """This idempotency key was used for another request."""


class Unreadable(Conflict):
    """This was answered before, and the answer cannot be read any more."""


class NotSupported(Invalid):
    """This action takes no idempotency key: what a repetition would do is said where it is described."""

    def __init__(self) -> None:
        super().__init__(detail={"code": "idempotency_not_supported"})


@dataclass(frozen=True, slots=True)
class Slot:
    """Whose request under which key, and what it asks for."""

    enterprise_id: int
    person_id: int
    action: str
    key: str
    request_digest: bytes

    @property
    def place(self) -> tuple[int, int, str, str]:
        return self.enterprise_id, self.person_id, self.action, self.key

    @property
    def bound(self) -> bytes:
        """What a stored answer is sealed for: it opens nowhere else, and for no other request."""
        return canonical(["core_idempotency.answer", *self.place, self.request_digest])


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer given before: the result as plain values, or the refusal."""

    value: Any
    refusal: BankhubError | None


def secret_of(settings: Settings) -> bytes:
    """What `request_digest` is keyed with; the same in every process."""
    return derive(cluster_secret(settings), "idempotency")


def request_digest(secret: bytes, action: str, command: Command[Any]) -> bytes:
    """Tells whether two requests are the same, secrets in them included.

    Keyed: a plain digest of a short content, such as a phone number, gives the content away to who can count.
    """
    return hmac_sm3(secret, canonical([action, command.model_dump(context=Hidden(str))]))


async def read(tx: Transaction, columns: Columns, slot: Slot) -> Stored | None:
    """The stored answer to this request. Raises `KeyReused`, and `Unreadable` where its key is gone."""
    row = await tx.fetchrow(_READ, *slot.place)
    if row is None:
        return None
    if bytes(row["request_digest"]) != slot.request_digest:
        raise KeyReused
    try:
        answer: Any = (
            None if row["answer"] is None else unpack(columns.unwrap(slot.bound, bytes(row["answer"])))
        )
    except (NotAuthentic, Invalid) as error:  # its key was retired, or an older version stored it
        raise Unreadable from error
    if row["outcome"] == "ok":
        return Stored(answer, None)
    message, detail = answer
    return Stored(None, from_code(row["outcome"], message, detail=detail))


async def claim(tx: Transaction, slot: Slot, now: datetime) -> None:
    """Take the key. Waits for another transaction that has it; raises `UniqueViolation` when that one commits."""
    await tx.execute(_INSERT, *slot.place, slot.request_digest, "ok", None, now)


async def finish(tx: Transaction, columns: Columns, slot: Slot, value: object) -> None:
    """Store the result, in the transaction that claimed the key."""
    await tx.execute(_FINISH, *slot.place, columns.wrap(slot.bound, pack(value)))


def storable(refusal: BankhubError) -> bool:
    """Whether the same request would be refused in the same way again."""
    return not refusal.temporary and not isinstance(refusal, Internal | Unauthenticated)


async def refuse(tx: Transaction, columns: Columns, slot: Slot, refusal: BankhubError, now: datetime) -> None:
    """Store a refusal, after the transaction it came from was rolled back. Raises `UniqueViolation` as `claim`."""
    answer = columns.wrap(slot.bound, pack([refusal.message, refusal.detail]))
    await tx.execute(_INSERT, *slot.place, slot.request_digest, refusal.code, answer, now)


async def purge(db: Database, before: datetime) -> int:
    """Forget keys older than `before`; how many. A daily job."""
    return await db.execute(_PURGE, before)
