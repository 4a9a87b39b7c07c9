"""The configuration centre: settings that change while the bank is open.

    RECALL_S = live("im.messages.recall_s", 120, "How long a message can be taken back", ge=0, le=86_400)
    if age_s <= runtime_config.get(RECALL_S): …

A setting is declared once, in code: name, type (of the default), default, range, what it is for. The table holds only
what was changed, with who and when; a change is checked, written with its history in one transaction, pushed over the
bus, and found by polling where the bus lost it. Readers read memory and never wait. Start-up settings and secrets are
not here (`core.settings`).
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import structlog

from core.db import Database, Transaction, UniqueViolation, sql
from core.errors import BankhubError, Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from core.bus import Bus
    from core.clock import Clock
    from core.rng import Rng

log = structlog.get_logger(__name__)

Record = Callable[[Transaction, str, str, int, object, object], Awaitable[None]]
"""Of a change: its transaction, what it is, what it is about, who, before, after."""

T = TypeVar("T", bound=int | float | str | bool)

CHANNEL: Final = "core.config"
POLL_S: Final = 10.0  # how late a change is where the bus lost it
TEXT_MAX: Final = 2_000

_ALL = sql("SELECT name, current_value, version FROM core_config")
_ONE = sql("SELECT current_value, version FROM core_config WHERE name = $1 FOR UPDATE")
_INSERT = sql(
    "INSERT INTO core_config (name, current_value, version, changed_by, changed_at) VALUES ($1, $2, $3, $4, $5)"
)
_UPDATE = sql(
    "UPDATE core_config SET current_value = $2, version = $3, changed_by = $4, changed_at = $5 WHERE name = $1"
)
_NOTE = sql(
    "INSERT INTO core_config_history (name, version, old_value, new_value, changed_by, changed_at) "
    "VALUES ($1, $2, $3, $4, $5, $6)"
)
_HISTORY = sql(
    "SELECT version, old_value, new_value, changed_by, changed_at FROM core_config_history "
    "WHERE name = $1 ORDER BY version DESC LIMIT $2"
)


@dataclass(frozen=True, slots=True, eq=False)
class Live(Generic[T]):
    """A declared setting. Made by `live`."""

    name: str
    default: T
    what: str
    ge: float | None
    le: float | None
    choices: tuple[T, ...] | None

    def check(self, value: object) -> T:
        """The value, if it may be this setting's. Raises `Invalid` naming the setting and its range."""
        kind = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise Invalid(f"{self.name} is of type {kind.__name__}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise Invalid(f"{self.name} is a finite number")
            if (self.ge is not None and not value >= self.ge) or (
                self.le is not None and not value <= self.le
            ):
                raise Invalid(f"{self.name} lies between {self.ge} and {self.le}")
        elif isinstance(value, str) and len(value) > TEXT_MAX:
            raise Invalid(f"{self.name} has at most {TEXT_MAX} characters")
        if self.choices is not None and value not in self.choices:
            raise Invalid(f"{self.name} is one of {', '.join(map(str, self.choices))}")
        return value


DECLARED: Final[dict[str, Live[Any]]] = {}
"""Every live setting that this process has imported, by name."""


def _loaded(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def live(
    name: str,
    default: T,
    what: str,
    *,
    ge: float | None = None,
    le: float | None = None,
    choices: tuple[T, ...] | None = None,
) -> Live[T]:
    """Declare a setting, at import. Raises `TypeError` for a name that is taken or a default out of range."""
    setting = Live(name, default, what, ge, le, choices)
    if name in DECLARED:
        raise TypeError(f"setting {name} is declared twice")
    try:
        setting.check(default)
    except Invalid as error:
        raise TypeError(f"the default of {name} is out of its own range") from error
    DECLARED[name] = setting
    return setting


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a setting; None is the default."""

    version: int
    old: Any
    new: Any
    changed_by: int
    changed_at: datetime


class ConfigCenter:
    """The live settings as this process knows them."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        rng: Rng,
        bus: Bus | None = None,
        *,
        record: Record,
        poll_s: float = POLL_S,
    ) -> None:
        """`record` writes the audit row of a change, in its transaction."""
        self._record = record
        self._db, self._clock, self._rng, self._bus, self._poll_s = db, clock, rng, bus, poll_s
        self._values: dict[str, Any] = {}
        self._versions: dict[str, int] = {}
        self._watchers: list[tuple[Live[Any], Callable[[Any], object]]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load, then follow changes until `stop`."""
        await self.load()
        if self._bus is not None:
            await self._bus.subscribe(CHANNEL, lambda payload: self._wake.set())
            self._bus.on_state(lambda up: self._wake.set())
        self._task = asyncio.get_running_loop().create_task(self._follow(), name="core.config")

    async def stop(self) -> None:
        """Follow no longer; values stay as they are."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def get(self, setting: Live[T]) -> T:
        """The value now: the default unless it was changed. Reads memory."""
        return cast("T", self._values.get(setting.name, setting.default))

    def watch(self, setting: Live[T], changed: Callable[[T], object]) -> None:
        """Call `changed(value)` in this process after each change of `setting`, wherever it was made."""
        self._watchers.append((setting, changed))

    def all(self) -> Mapping[str, Any]:
        """Every declared setting with its value now."""
        return {name: self.get(setting) for name, setting in sorted(DECLARED.items())}

    async def set(
        self, name: str, value: object, *, changed_by: int, expected_version: int | None = None
    ) -> int:
        """Change a setting, or with None put it back to its default; the new version.

        `expected_version` (0: never changed) refuses to overwrite what somebody else has changed since it was read.
        Raises `NotFound`, `Invalid`, `Conflict`. The change is in force here when this returns, elsewhere at once
        where the bus works and after `POLL_S` where it does not.
        """
        setting = DECLARED.get(name)
        if setting is None:
            raise NotFound(f"there is no setting {name[:100]!r}")
        checked = None if value is None else setting.check(value)
        try:
            version = await self._db.run(self._write, name, checked, changed_by, expected_version)
        except UniqueViolation as error:
            raise Conflict(f"{name} was changed by somebody else at this moment") from error
        log.info("config.changed", setting=name, version=version, changed_by=changed_by)
        await self.load()
        if self._bus is not None:
            await self._bus.publish(CHANNEL, name.encode())
        return version

    async def _write(
        self, tx: Transaction, name: str, value: Any, changed_by: int, expected: int | None
    ) -> int:
        now, setting = self._clock.now(), DECLARED[name]
        row = await tx.fetchrow(_ONE, name)
        old, version = (None, 0) if row is None else (row["current_value"], row["version"])
        if expected is not None and expected != version:
            raise Conflict(f"{name} was changed by somebody else", detail={"version": version})
        new = json.dumps(value, ensure_ascii=False)
        await tx.execute(_INSERT if row is None else _UPDATE, name, new, version + 1, changed_by, now)
        await tx.execute(
            _NOTE, name, version + 1, None if old in (None, "null") else old, None if value is None else new,
            changed_by, now,
        )  # fmt: skip
        before = setting.default if old in (None, "null") else json.loads(old)
        await self._record(
            tx, "core.config.set", name, changed_by, before, setting.default if value is None else value
        )
        return int(version) + 1

    async def history(self, name: str, limit: int = 50) -> list[Change]:
        """The latest changes, newest first."""
        rows = await self._db.fetch(_HISTORY, name, limit)
        return [
            Change(row["version"], _loaded(row["old_value"]), _loaded(row["new_value"]), row["changed_by"],
                   row["changed_at"])
            for row in rows
        ]  # fmt: skip

    def version(self, name: str) -> int:
        """The version that this process knows; 0 when it was never changed."""
        return self._versions.get(name, 0)

    async def load(self) -> None:
        """Read the table and tell the watchers what is new. A value this version refuses leaves the default."""
        for name, text, version in await self._db.fetch(_ALL):
            setting = DECLARED.get(name)
            if setting is None or version <= self._versions.get(name, 0):
                continue
            self._versions[name] = version
            before = self.get(setting)
            value = json.loads(text)
            try:
                if value is None:
                    self._values.pop(name, None)
                else:
                    self._values[name] = setting.check(value)
            except Invalid:
                log.error("config.value_refused", setting=name, version=version)
                self._values.pop(name, None)
            if self.get(setting) != before:
                self._tell(setting)

    def _tell(self, setting: Live[Any]) -> None:
        for watched, changed in self._watchers:
            if watched is setting:
                try:
                    changed(self.get(setting))
                except Exception:
                    log.exception("config.watcher_failed", setting=setting.name)

    async def _follow(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._poll_s * (0.5 + self._rng.random()))
            self._wake.clear()
            try:
                await self.load()
            except BankhubError as error:
                log.warning("config.not_reached", reason=type(error).__name__)
                await asyncio.sleep(1.0)
