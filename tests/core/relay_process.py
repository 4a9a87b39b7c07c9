"""A process that relays until nothing is left: run by test_outbox, with failpoints that kill it."""

from __future__ import annotations

import asyncio
import sys

from core.clock import SystemClock
from core.db import Transaction, connect
from core.relay import Claim, Delivery, Relay
from core.rng import SeededRng
from tests.core.conftest import raw

EFFECT = raw("INSERT INTO core_sequences (name, business_date, last_number) VALUES ($1, CURRENT_DATE, 1)")
LEFT = raw(
    "SELECT (SELECT count(*) FROM core_deliveries WHERE state = 0) + (SELECT count(*) FROM core_outbox WHERE state = 0)"
)
LEASES_END = raw("UPDATE core_deliveries SET due_at = '1970-01-01' WHERE state = 0")


async def main(url: str, seed: int) -> None:
    db = await connect(url, min_size=1, max_size=4)

    async def deliver(delivery: Delivery, claim: Claim) -> None:
        async def step(tx: Transaction) -> None:
            if await claim(tx):
                await tx.execute(EFFECT, f"{delivery.consumer}/{delivery.event_id}")

        await db.run(step)

    relay = Relay(
        db,
        SystemClock(),
        SeededRng(seed),
        consumers={"c": "testcore.said"},
        deliver=deliver,
        parallel=4,
        attempts=1000,
    )
    await db.execute(LEASES_END)  # of those who died: a test has no minute
    while await db.fetchval(LEFT):
        await relay.run_once()
    await db.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
