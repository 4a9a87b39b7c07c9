"""What writes the audit beside the requests. It begins before anything can be refused and ends after everything is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.audit.chainer import Chainer
from core.audit.exports import Exports, seals_file
from core.crypto.provider import provider_of

if TYPE_CHECKING:
    from core.runtime import Runtime


class Recording:
    """The refusals of a process and its chainer."""

    def __init__(self, runtime: Runtime) -> None:
        self._refusals, self._provider = runtime.refusals, provider_of(runtime.settings)
        self._chainer = Chainer(
            runtime.db,
            runtime.clock,
            runtime.rng,
            runtime.keys,
            self._provider,
            Exports(seals_file(runtime.settings)),
            every_s=runtime.settings.audit_chain_s,
        )

    async def start(self) -> None:
        """Begin."""
        await self._chainer.start()
        await self._refusals.start()

    async def stop(self) -> None:
        """Write and chain what this process has seen: the last thing it does."""
        await self._refusals.stop()
        await self._chainer.stop()
        await self._provider.close()
