"""One hub worker as `./bankhub serve --roles hub` runs it, with the limits that guard a person's hub raised.

A bench person says more than 20 messages a second, as no real one does: the limits would be measured instead of the
hub. Engines and keys come from the environment (BANKHUB_*). Prints {"port": …} when it serves; ends by SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal

import uvloop

from core.clock import SystemClock
from core.service import Host
from core.settings import load
from house.compose import open_runtime, services, settle_memory
from hub.service import HubService
from hub.wire.limits import Limits
from tests.bench.limits import raise_open_files

LIMITS = Limits(frames_per_s=1e6, frames_burst=1e6, sends_per_s=1e6, sends_burst=1e6)


async def main() -> None:
    settings = load(rate_hello_burst=1_000_000, rate_hello_per_s=1e6)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with open_runtime(settings) as runtime:
        made = services(settings, SystemClock(), runtime.db, ("hub",))
        host = Host(runtime, made)
        await host.start()
        hub = next(service for service in made if isinstance(service, HubService))
        assert hub.node is not None
        hub.node.limits = LIMITS
        settle_memory()
        print(json.dumps({"port": settings.hub_port, "pid": os.getpid()}), flush=True)
        await stop.wait()
        await host.stop()


if __name__ == "__main__":
    raise_open_files()
    uvloop.run(main())
