"""One row of the audit: how it is made from an invocation, and the bytes that MAC and chain are about."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from core.codec import canonical
from core.crypto.ring import AUDIT, Key
from core.crypto.sm3 import derive, hmac_sm3, same
from core.errors import Invalid

if TYPE_CHECKING:
    from core.actions import Action
    from core.context import Context
    from core.crypto.keyring import Keyring

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
OUTCOME_CHARACTERS: Final = 32
_HARMFUL: Final = frozenset(
    {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
)  # controls, directions, half characters, line ends


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it is stored, but for its place in the chain. The order of the fields is that of the columns."""

    audit_id: int
    enterprise_id: int
    person_id: int
    session_id: int
    client_id: str | None
    device: str | None
    address: str | None
    edge: str
    action: str
    outcome: str
    object_id: str | None
    request_digest: bytes | None
    before_digest: bytes | None
    after_digest: bytes | None
    trace_id: str
    happened_at: datetime
    key_version: int
    mac: bytes = b""

    def content(self) -> bytes:
        """Everything but the MAC: equal rows, equal bytes, on every engine."""
        values = list(_CONTENT(self))
        values[_TIME] = (self.happened_at - _EPOCH) // timedelta(microseconds=1)
        return canonical(values)


_NAMES: Final = tuple(field.name for field in fields(Row))
_CONTENT: Final = attrgetter(*_NAMES[:-1])
_TIME: Final = _NAMES.index("happened_at")
stored: Final = attrgetter(*_NAMES)
"""The values of a row in the order of its columns."""


def row_of(
    ctx: Context, action: Action[Any, Any], request: object, outcome: str, *, audit_id: int | None = None
) -> Row:
    """The row of this invocation.

    `request` is the command as plain values, or None where it was refused unread. What the handler gave to
    `ctx.audit` supplies `object`, `before` and `after` (values to digest), and `enterprise_id`, `person_id`,
    `session_id` and `device` where the caller could not be known before (login).
    """
    noted, who, key = ctx.noted, ctx.principal, ctx.runtime.keys.current(AUDIT)
    about = noted.get("object")
    return written(
        Row(
            audit_id=ctx.ids.next() if audit_id is None else audit_id,
            enterprise_id=_id(noted.get("enterprise_id", who.enterprise_id if who else 0)),
            person_id=_id(noted.get("person_id", who.person_id if who else 0)),
            session_id=_id(noted.get("session_id", who.session_id if who else 0)),
            client_id=harmless(who.client_id if who else "", 64),
            device=harmless(noted.get("device", who.device if who else ""), 128),
            address=harmless(ctx.source.address, 64),
            edge=ctx.source.edge,
            action=action.name,
            outcome=outcome[:OUTCOME_CHARACTERS],
            object_id=None if about is None else harmless(about, 64),
            request_digest=digest_of(key, request),
            before_digest=digest_of(key, noted.get("before")),
            after_digest=digest_of(key, noted.get("after")),
            trace_id=ctx.trace.trace_id,
            happened_at=ctx.clock.now(),
            key_version=key.version,
        ),
        key,
    )


def written(row: Row, key: Key) -> Row:
    """The row with its MAC."""
    return replace(row, mac=hmac_sm3(_secrets(key.material)[0], row.content()))


def fault_of(row: Row, keys: Keyring) -> str | None:
    """Why this program did not write the row, or not like this; None if it did."""
    try:
        key = keys.get(AUDIT, row.key_version)
    except Invalid as error:
        return error.message
    mac = hmac_sm3(_secrets(key.material)[0], row.content())
    return None if same(mac, row.mac) else "this program did not write it like this"


def harmless(value: object, characters: int) -> str | None:
    """A text that can be printed and stored anywhere: what steers terminals, lines or directions becomes U+FFFD."""
    text = "".join("\ufffd" if unicodedata.category(c) in _HARMFUL else c for c in str(value)[:characters])
    return text or None


def digest_of(key: Key, value: object) -> bytes | None:
    """Keyed: a plain digest of a short content, such as a phone number, gives the content away to who can count."""
    return None if value is None else hmac_sm3(_secrets(key.material)[1], canonical(value))


def _id(value: Any) -> int:
    return int(value)


@lru_cache(maxsize=32)
def _secrets(material: bytes) -> tuple[bytes, bytes]:
    return derive(material, "audit rows"), derive(material, "audit contents")
