"""Phone numbers at rest: encrypted for their row, found by a blind index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from core.crypto.columns import Column
from gateway.identity.rules import masked_phone, normal_login

if TYPE_CHECKING:
    from core.crypto.columns import Columns
    from core.db import Record

PHONE: Final = Column("gateway_people", "phone", normal_login)


def phone_of(columns: Columns, row: Record) -> str | None:
    """The number of a row with `person_id` and `phone_sealed`. Raises `NotAuthentic` for one of another row."""
    sealed = row["phone_sealed"]
    return None if sealed is None else columns.open(PHONE, row["person_id"], bytes(sealed))


def shown_phone(columns: Columns, row: Record) -> str | None:
    """The same as people are shown it: masked."""
    return masked_phone(phone_of(columns, row))
