"""A hub worker of a fault run: the product's process, with tokens that say who one is and a bus that misbehaves.

BANKHUB_DATABASE_URL=… BANKHUB_REDIS_URL=… BANKHUB_HUB_PORT=… FAULT_BUS=… python -m tests.fault.worker
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal

import uvloop

from core.logs import configure_logs
from core.service import Host
from core.settings import load
from house.compose import open_runtime
from hub.service import HubService
from tests.fault.bus import ENVIRONMENT, BadBus, Badness
from tests.hub.harness import OpenGate, PlainPolicy


async def work() -> None:
    settings = load()
    configure_logs(settings.log_level)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with open_runtime(settings) as runtime:
        badness = os.environ.get(ENVIRONMENT)
        if badness:
            runtime = dataclasses.replace(runtime, bus=BadBus(runtime.bus, Badness.parse(badness)))
        host = Host(runtime, [HubService(OpenGate(), PlainPolicy())])
        await host.start()
        try:
            await stop.wait()
        finally:
            await host.stop()


if __name__ == "__main__":
    uvloop.run(work())
