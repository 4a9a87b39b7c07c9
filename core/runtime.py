"""What one process has: settings, time, randomness, ids, database, bus, and the way to call every service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core.access import Grantor, TokenGrants
from core.actions import Registry
from core.config_center import ConfigCenter
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
    config: ConfigCenter = field(
        init=False
    )  # live settings; defaults until `core.background` follows the table
    limits: Limits = field(init=False)  # how often anybody may do anything; local until they are shared

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", ConfigCenter(self.db, self.clock, self.rng, self.bus))
        object.__setattr__(self, "limits", Limits(self.clock, self.settings.rate_buckets))
