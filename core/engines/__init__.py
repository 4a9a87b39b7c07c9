"""The engines that come in wheels: PostgreSQL, Valkey and SeaweedFS, each with a launcher of its own.

`core.embedded.EmbeddedEngines` starts and stops them together. The packages' own launchers are not used: they open
parent directories to everybody, trust every local connection or wait for a server that asks for a password.
"""

from __future__ import annotations

from core.errors import Unavailable


class EngineFailed(Unavailable):
    """An embedded engine could not be started."""
