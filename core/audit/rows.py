"""One row of the audit: how it is made from an invocation, and the bytes that MAC and chain are about."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from core.access import PUBLIC
from core.codec import canonical
from core.crypto.ring import AUDIT, Key
from core.crypto.sm3 import derive, hmac_sm3, same
from core.errors import Invalid
from core.values import ID_MAX

if TYPE_CHECKING:
    from core.actions import Action
    from core.context import Context
    from core.crypto.keyring import Keyring

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
OUTCOME_CHARACTERS: Final = 32
_ID_DIGITS: Final = 19
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


_NOBODY: Final = ("login", "phone")
"""Fields that say which account somebody without one means."""


def object_of(action: Action[Any, Any], given: object, key: Key) -> str | None:
    """What a request is about where its handler has not said so: a person before other things, never a content.

    `given` is a command or, unread, the plain fields of one. An account that somebody outside names by its login or
    number is a keyed digest of that: the same account has the same one, and nobody reads the number out of it.
    """
    fields = given if isinstance(given, Mapping) else vars(given)
    names = [name for name in action.command.model_fields if name.endswith("_id")]
    for name in sorted(names, key=lambda name: (name != "person_id", name == "enterprise_id")):
        value = fields.get(name)
        if isinstance(value, int) and 0 <= value <= ID_MAX:
            return str(int(value))
        if isinstance(value, str) and len(value) <= _ID_DIGITS and value.isascii() and value.isdecimal():
            return value
    for name in _NOBODY if action.needs is PUBLIC else ():
        value = fields.get(name)
        if isinstance(value, str):
            return account(key, value)
    return None


def account(key: Key, login: str) -> str:
    """What stands for a login or a number in the audit: 20 characters, the same for every spelling."""
    normal = "".join(unicodedata.normalize("NFKC", login).casefold().split()).removeprefix("+86")
    digest = hmac_sm3(_secrets(key.material)[1], b"account\0", normal.encode(errors="replace"))
    return "login:" + base64.b32encode(digest[:10]).decode()


def row_of(
    ctx: Context,
    action: Action[Any, Any],
    given: object,
    request: object,
    outcome: str,
    *,
    result: object = None,
    audit_id: int | None = None,
) -> Row:
    """The row of this invocation.

    `given` is a command or its plain fields; `request` the command as plain values, or None where it was refused
    unread; `result` what came of it. What the handler gave to `ctx.audit` supplies `object`, `before` and `after`
    (values to digest), and `enterprise_id`, `person_id`, `session_id` and `device` where the caller could not be known
    before (login). A write whose handler names no `after` made what was asked for, and its answer.
    """
    noted, who, key = ctx.noted, ctx.principal, ctx.runtime.keys.current(AUDIT)
    about = noted.get("object")
    if about is None:
        about = object_of(action, given, key)
    if about is None and outcome == "ok" and who is not None and not who.is_service:
        about = who.person_id  # it names nothing: it was about oneself
    after = noted.get("after")
    if after is None and outcome == "ok" and request is not None:
        after = [request, action.command.result.dump_python(result)]
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
            after_digest=digest_of(key, after),
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
