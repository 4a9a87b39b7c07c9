"""The audit record: who did what to which object, from where, with which outcome. Ids and digests, never contents.

One row for every audited action that was carried out, in its transaction, and one for every refusal of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, DateTime, Index, LargeBinary, String, Table

from core.codec import digest
from core.db import sql
from core.db.metadata import metadata

if TYPE_CHECKING:
    from core.actions import Action
    from core.context import Context
    from core.db import Transaction

audit = Table(
    "core_audit",
    metadata,
    Column("audit_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),  # 0: nobody's, such as a failed login
    Column("person_id", BigInteger, nullable=False),  # 0: nobody or a service
    Column("session_id", BigInteger, nullable=False),
    Column("device", String(128), nullable=True),
    Column("address", String(64), nullable=True),
    Column("edge", String(16), nullable=False),
    Column("action", String(100), nullable=False),
    Column("outcome", String(32), nullable=False),  # ok, or the code of the refusal
    Column("object_id", String(64), nullable=True),
    Column("request_digest", LargeBinary, nullable=True),
    Column("before_digest", LargeBinary, nullable=True),
    Column("after_digest", LargeBinary, nullable=True),
    Column("trace_id", String(32), nullable=False),
    Column("happened_at", DateTime(timezone=True), nullable=False),
    Index("ix_core_audit_enterprise", "enterprise_id", "audit_id"),
)

_INSERT = sql(
    """
    INSERT INTO core_audit (audit_id, enterprise_id, person_id, session_id, device, address, edge, action, outcome,
                            object_id, request_digest, before_digest, after_digest, trace_id, happened_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
    """
)


async def record(
    tx: Transaction, ctx: Context, action: Action[Any, Any], request: object, outcome: str
) -> None:
    """Write the audit row of this invocation.

    `request` is the command as plain values, or None where it was refused unread. What the handler gave to
    `ctx.audit` supplies `object`, `before` and `after` (values to digest), and `enterprise_id`, `person_id` and
    `session_id` where the caller could not be known before (login).
    """
    noted, who = ctx.noted, ctx.principal
    before, after, about = noted.get("before"), noted.get("after"), noted.get("object")
    await tx.execute(
        _INSERT,
        ctx.ids.next(),
        noted.get("enterprise_id", who.enterprise_id if who else 0),
        noted.get("person_id", who.person_id if who else 0),
        noted.get("session_id", who.session_id if who else 0),
        (str(noted["device"]) if "device" in noted else who.device if who else "")[:128] or None,
        ctx.source.address[:64] or None,
        ctx.source.edge,
        action.name,
        outcome,
        None if about is None else str(about)[:64],
        None if request is None else digest(request),
        None if before is None else digest(before),
        None if after is None else digest(after),
        ctx.trace.trace_id,
        ctx.clock.now(),
    )
