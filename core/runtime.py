"""What one process has: settings, time, randomness, ids, database, bus, and the way to call every service."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING

from core.access import Grantor, TokenGrants
from core.actions import Registry
from core.audit.changes import Changes
from core.audit.refusals import Refusals
from core.config_center import ConfigCenter
from core.crypto.columns import Columns
from core.crypto.keyring import Keyring, open_keyring
from core.limits import Limits

if TYPE_CHECKING:
    from core.bus import Bus
    from core.calls import Calls
    from core.clock import Clock
    from core.db import Database
    from core.ids import Ids
    from core.rng import Rng
    from core.settings import Settings


@dataclass(frozen=True, slots=True)
class Runtime:
    """Made once by the composition root and given to every service; nothing here is global.

    `node` is unique per process start. `registry` is filled by `core.service.Host` before any service starts.
    `calls` is how services reach each other and how the edges reach them; `Host.start` opens it. `access` knows what
    people hold; without identities behind it the token is believed.
    """

    settings: Settings
    clock: Clock
    rng: Rng
    ids: Ids
    db: Database
    bus: Bus
    node: str
    calls: Calls
    access: Grantor = field(default_factory=TokenGrants)
    registry: Registry = field(default_factory=Registry)
    keyring: InitVar[Keyring | None] = None  # None: the one that settings name
    keys: Keyring = field(init=False)
    columns: Columns = field(init=False)  # what is stored encrypted
    config: ConfigCenter = field(
        init=False
    )  # live settings; defaults until `core.background` follows the table
    refusals: Refusals = field(init=False)  # of those whom no action's own record knows
    limits: Limits = field(init=False)  # how often anybody may do anything; local until they are shared

    def __post_init__(self, keyring: Keyring | None) -> None:
        keys = keyring or open_keyring(self.settings, self.clock)
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "columns", Columns(keys, self.rng))
        settings, record = self.settings, Changes(self.clock, self.rng, self.ids, keys).record
        refusals = Refusals(
            self.db, self.clock, self.rng, self.ids, keys,
            every_s=settings.audit_refusals_s, most=settings.audit_refusals_max,
        )  # fmt: skip
        object.__setattr__(self, "refusals", refusals)
        object.__setattr__(
            self, "config", ConfigCenter(self.db, self.clock, self.rng, self.bus, record=record)
        )
        object.__setattr__(self, "limits", Limits(self.clock, self.settings.rate_buckets))
