"""One gateway worker as `./bankhub serve --roles im,gateway` runs it (or the roles that are named), limits raised.

It has one action more, `bench.nothing.ask`: what every action costs that is called by a member, and nothing of its own.
Engines and keys come from the environment (BANKHUB_*). Prints {"port": …} when it serves; ends by SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace
from typing import Any

import uvloop

from core.access import MEMBER
from core.actions import Command, Context, Id, Value, action
from core.clock import SystemClock
from core.service import Host, Service
from core.settings import load
from gateway.service import GatewayService
from house.compose import open_runtime, services, settle_memory
from tests.bench.limits import raise_open_files


class Nothing(Value):
    """Who asked."""

    person_id: Id
    enterprise_id: Id


class AskNothing(Command[Nothing], action="bench.nothing.ask"):
    """Ask for nothing."""


@action(AskNothing, needs=MEMBER, audited=False, transaction=False)
async def ask_nothing(ctx: Context, command: AskNothing) -> Nothing:
    """Says who asked."""
    return Nothing(person_id=ctx.caller.person_id, enterprise_id=ctx.enterprise_id)


class Bench(Service):
    """The additional action."""

    name = "bench"
    actions = (ask_nothing,)


async def main(roles: list[str]) -> None:
    raised: dict[str, Any] = {
        f"{of}_{name}": value
        for of in ("gateway_rate", "rate_person", "rate_device")
        for name, value in (("burst", 1_000_000), ("per_s", 1e6))
    }
    settings = load(gateway_port=0, **raised)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with open_runtime(settings) as runtime:
        made = [*services(settings, SystemClock(), runtime.db, roles), Bench()]
        host = Host(runtime, made)
        for name, declared in runtime.registry.actions.items():
            runtime.registry.actions[name] = replace(declared, limit=None)
        await host.start()
        gateway = next(service for service in made if isinstance(service, GatewayService))
        settle_memory()
        print(json.dumps({"port": gateway.port, "pid": os.getpid()}), flush=True)
        await stop.wait()
        await host.stop()


if __name__ == "__main__":
    raise_open_files()
    uvloop.run(main(sys.argv[1:] or ["im", "gateway"]))
