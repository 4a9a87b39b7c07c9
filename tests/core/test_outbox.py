"""The outbox promises: no event without its cause, none lost, each effect once, order per key, parked when hopeless."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from core import failpoints, outbox
from core.actions import Event
from core.bus import MemoryBus, MemoryNetwork
from core.clock import ManualClock, SystemClock
from core.db import Database, Transaction, UniqueViolation, sql
from core.ids import Ids
from core.relay import LEASE_S, Claim, Delivery, Poison, Relay
from core.rng import SeededRng
from core.telemetry import Trace

from .conftest import raw

ROOT = Path(__file__).resolve().parents[2]
TRACE = Trace("1" * 32, "2" * 16)
EFFECT = sql("INSERT INTO core_sequences (name, business_date, last_number) VALUES ($1, CURRENT_DATE, $2)")
EFFECTS = raw("SELECT name, last_number FROM core_sequences ORDER BY name")
STATES = raw("SELECT consumer, state, attempts, reason FROM core_deliveries ORDER BY consumer, event_id")


class Said(Event, event="testcore.said"):
    text: str

    def order_key(self) -> str | None:
        return f"testcore:{self.text[0]}" if self.text[0].isupper() else None


Handler = Callable[[Transaction, Delivery], Awaitable[None]]


async def effect(tx: Transaction, delivery: Delivery) -> None:
    """An effect that fails loudly when it happens a second time."""
    await tx.execute(
        EFFECT, f"{delivery.consumer}/{Said.model_validate_json(delivery.body).text}", delivery.attempt
    )


def relay(
    db: Database, clock: ManualClock | SystemClock, handler: Handler = effect, *, consumers: tuple[str, ...] = ("c",),
    bus: MemoryBus | None = None, attempts: int = 12, seed: int = 1,
) -> Relay:  # fmt: skip
    """A relay whose deliver is what the dispatcher does: claim and handler in one transaction."""

    async def deliver(delivery: Delivery, claim: Claim) -> None:
        async def step(tx: Transaction) -> None:
            if await claim(tx):
                await handler(tx, delivery)

        await db.run(step)

    wanted = dict.fromkeys(consumers, Said.event_name)
    return Relay(db, clock, SeededRng(seed), consumers=wanted, deliver=deliver, attempts=attempts, bus=bus)


class Mouth:
    """Emits events, each text in a transaction of its own."""

    def __init__(self, db: Database, clock: ManualClock | SystemClock) -> None:
        self.db, self.clock, self.ids = db, clock, Ids(clock, 1)

    async def say(self, *texts: str) -> None:
        for text in texts:
            await self.db.run(self._say, [Said(enterprise_id=7, text=text)])

    async def together(self, *texts: str) -> None:
        await self.db.run(self._say, [Said(enterprise_id=7, text=text) for text in texts])

    async def _say(self, tx: Transaction, events: list[Said]) -> None:
        await outbox.append(tx, events, ids=self.ids, clock=self.clock, trace=TRACE)


@pytest.fixture(autouse=True)
def harmless() -> Iterator[None]:
    yield
    failpoints.disarm()


async def effects(db: Database) -> dict[str, int]:
    return {row[0]: row[1] for row in await db.fetch(EFFECTS)}


async def test_an_event_reaches_every_consumer_once(clean_db: Database, manual_clock: ManualClock) -> None:
    one = relay(clean_db, manual_clock, consumers=("a", "b"))
    await outbox.register(clean_db, manual_clock, {"a": Said.event_name, "b": Said.event_name})
    await Mouth(clean_db, manual_clock).say("hello")
    assert await one.run_once() == 2
    assert await one.run_once() == 0
    assert await effects(clean_db) == {"a/hello": 1, "b/hello": 1}


async def test_what_is_rolled_back_has_not_happened(clean_db: Database, manual_clock: ManualClock) -> None:
    await outbox.register(clean_db, manual_clock, {"c": Said.event_name})
    mouth = Mouth(clean_db, manual_clock)
    with pytest.raises(ZeroDivisionError):
        async with clean_db.transaction() as tx:
            await mouth._say(tx, [Said(enterprise_id=7, text="never")])
            raise ZeroDivisionError
    assert await relay(clean_db, manual_clock).run_once() == 0


async def test_a_commit_wakes_the_relay_at_once(clean_db: Database) -> None:
    clock = SystemClock()
    handled = asyncio.Event()

    async def handler(tx: Transaction, delivery: Delivery) -> None:
        assert delivery.traceparent == TRACE.traceparent
        assert delivery.enterprise_id == 7
        handled.set()

    one = relay(clean_db, clock, handler)
    one._poll_s = 60.0
    await one.start()
    try:
        await asyncio.sleep(0.1)
        await Mouth(clean_db, clock).say("hello")
        await asyncio.wait_for(handled.wait(), 2.0)
    finally:
        await one.stop()


async def test_another_process_is_woken_over_the_bus(clean_db: Database) -> None:
    clock, network = SystemClock(), MemoryNetwork()
    handled = asyncio.Event()

    async def handler(tx: Transaction, delivery: Delivery) -> None:
        handled.set()

    buses = [MemoryBus(network), MemoryBus(network)]
    here = relay(clean_db, clock, consumers=(), bus=buses[0])
    there = relay(clean_db, clock, handler, consumers=("there",), bus=buses[1])
    here._poll_s = there._poll_s = 60.0
    parts: list[MemoryBus | Relay] = [*buses, here, there]
    for part in parts:
        await part.start()
    there._waker = None  # it is another process
    try:
        await asyncio.sleep(0.1)
        await Mouth(clean_db, clock).say("hello")
        await asyncio.wait_for(handled.wait(), 2.0)
    finally:
        for part in reversed(parts):
            await part.stop()


async def test_a_crash_between_effect_and_bookkeeping_repeats_nothing(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    await outbox.register(clean_db, manual_clock, {"c": Said.event_name})
    await Mouth(clean_db, manual_clock).say("hello")
    failpoints.arm("outbox.mid_delivery", "error", at=1)
    with pytest.raises(failpoints.FailpointError):
        await relay(clean_db, manual_clock).run_once()
    assert await relay(clean_db, manual_clock).run_once() == 0  # leased by the one that died
    manual_clock.advance(int(LEASE_S * 1000) + 1)
    assert await relay(clean_db, manual_clock).run_once() == 1
    assert await effects(clean_db) == {"c/hello": 1}
    assert [tuple(row) for row in await clean_db.fetch(STATES)] == [("c", outbox.DONE, 2, None)]


async def test_kill_9_in_the_middle_of_deliveries_repeats_and_loses_nothing(
    clean_db: Database, database: str
) -> None:
    """Process after process is killed where an effect is committed and not yet noted, until one is left alone."""
    clock = SystemClock()
    await outbox.register(clean_db, clock, {"c": Said.event_name})
    await Mouth(clean_db, clock).say(*(f"{n}" for n in range(30)))
    codes = []
    for seed in range(40):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.core.relay_process", database, str(seed), cwd=ROOT,
            env={**os.environ, "BANKHUB_FAILPOINTS": "outbox.mid_delivery=kill@9"},
        )  # fmt: skip
        codes.append(await process.wait())
        if codes[-1] == 0:
            break
    assert codes.count(-signal.SIGKILL) >= 2
    assert codes[-1] == 0
    assert len(await effects(clean_db)) == 30
    assert {row["state"] for row in await clean_db.fetch(STATES)} == {outbox.DONE}


async def test_two_relays_on_one_delivery_have_one_effect(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    """The lease runs out while the first is still at it: its effect and the second's exclude each other."""
    await outbox.register(clean_db, manual_clock, {"c": Said.event_name})
    await Mouth(clean_db, manual_clock).say("hello")
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def slow(tx: Transaction, delivery: Delivery) -> None:
        await effect(tx, delivery)
        inside.set()
        await go_on.wait()

    first = asyncio.create_task(relay(clean_db, manual_clock, slow).run_once())
    await inside.wait()
    manual_clock.advance(int(LEASE_S * 1000) + 1)
    second = asyncio.create_task(relay(clean_db, manual_clock, seed=2).run_once())
    while not await clean_db.fetchval(raw("SELECT count(*) FROM pg_locks WHERE NOT granted")):
        await asyncio.sleep(0.005)
    go_on.set()
    assert list(await asyncio.gather(first, second)) == [1, 1]
    assert await effects(clean_db) == {"c/hello": 1}
    assert [row["state"] for row in await clean_db.fetch(STATES)] == [outbox.DONE]


async def test_many_events_many_relays_each_once(clean_db: Database) -> None:
    clock = SystemClock()
    relays = [relay(clean_db, clock, consumers=("a", "b"), seed=n) for n in range(4)]
    for one in relays:
        await one.start()
    mouth = Mouth(clean_db, clock)
    try:
        await asyncio.gather(*(mouth.say(*(f"{n}.{m}" for m in range(15))) for n in range(6)))
        async with asyncio.timeout(30):
            while await clean_db.fetchval(raw("SELECT count(*) FROM core_deliveries WHERE state = 1")) < 180:
                await asyncio.sleep(0.02)
    finally:
        for one in relays:
            await one.stop()
    assert len(await effects(clean_db)) == 180


async def test_events_of_a_key_keep_their_order_under_failures(clean_db: Database) -> None:
    """Half of the attempts fail, four relays race: what is handled of a key is always the next one."""
    clock, rng = SystemClock(), SeededRng(5)
    seen: dict[str, list[int]] = {"A": [], "B": [], "C": []}

    async def flaky(tx: Transaction, delivery: Delivery) -> None:
        text = Said.model_validate_json(delivery.body).text
        await asyncio.sleep(rng.random() * 0.005)
        if rng.random() < 0.3:
            raise ValueError("not now")
        await effect(tx, delivery)
        tx.on_commit(lambda: seen[text[0]].append(int(text[1:])))

    relays = [relay(clean_db, clock, flaky, attempts=100, seed=n) for n in range(4)]
    for one in relays:
        one._failed = _impatient(one._failed)  # type: ignore[method-assign, assignment]
        await one.start()
    mouths = [Mouth(clean_db, clock) for _ in seen]
    for n, mouth in enumerate(mouths):
        mouth.ids = Ids(clock, 10 + n)
    try:
        await asyncio.gather(
            *(mouth.together(*(f"{key}{n}" for n in range(k, k + 4))) for key, mouth in zip(seen, mouths, strict=True)
              for k in (0,)),
        )  # fmt: skip
        for key, mouth in zip(seen, mouths, strict=True):
            await mouth.say(*(f"{key}{n}" for n in range(4, 12)))
        async with asyncio.timeout(40):
            while sum(map(len, seen.values())) < 36:
                await asyncio.sleep(0.02)
    finally:
        for one in relays:
            await one.stop()
    assert seen == {key: list(range(12)) for key in seen}


def _impatient(failed: Callable[..., tuple[object, ...]]) -> Callable[..., tuple[object, ...]]:
    """Retries at once: a test has no minutes."""

    def at_once(*args: object) -> tuple[object, ...]:
        consumer, event_id, state, _, reason, now = failed(*args)
        return consumer, event_id, state, outbox.AT_ONCE, reason, now

    return at_once


async def test_order_follows_commits_not_clocks(clean_db: Database) -> None:
    """Two processes whose clocks differ by an hour emit under one key."""
    ahead, behind = ManualClock(1_800_003_600_000), ManualClock(1_800_000_000_000)
    await outbox.register(clean_db, ahead, {"c": Said.event_name})
    seen: list[str] = []

    async def handler(tx: Transaction, delivery: Delivery) -> None:
        seen.append(Said.model_validate_json(delivery.body).text)

    await Mouth(clean_db, ahead).say("K1")
    await Mouth(clean_db, behind).say("K2")
    one = relay(clean_db, behind, handler)
    while await one.run_once():
        pass
    assert seen == ["K1", "K2"]


async def test_a_failure_is_retried_later_and_parked_in_the_end(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    await outbox.register(clean_db, manual_clock, {"c": Said.event_name})
    await Mouth(clean_db, manual_clock).say("Key1", "Key2", "other")
    broken = True

    async def handler(tx: Transaction, delivery: Delivery) -> None:
        if broken and "Key1" in delivery.body:
            raise UniqueViolation
        await effect(tx, delivery)

    one = relay(clean_db, manual_clock, handler, attempts=3)
    assert await one.run_once() == 2  # Key2 waits behind Key1
    assert await one.run_once() == 0  # not yet
    for _ in range(4):
        manual_clock.advance(10_000)
        await one.run_once()
    assert await effects(clean_db) == {"c/other": 1}
    (parked,) = await outbox.parked(clean_db)
    assert (parked.consumer, parked.event_name, parked.attempts) == ("c", "testcore.said", 3)
    assert parked.reason == "internal: core.db.errors.UniqueViolation"

    broken = False
    assert await outbox.resend(clean_db, parked.event_id, clock=manual_clock) == 1
    assert await one.run_once() == 1
    assert await one.run_once() == 1
    assert sorted(await effects(clean_db)) == ["c/Key1", "c/Key2", "c/other"]
    assert await outbox.resend(clean_db, parked.event_id) == 0


async def test_poison_is_parked_at_once_and_can_be_discarded(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    await outbox.register(clean_db, manual_clock, {"c": Said.event_name})
    await Mouth(clean_db, manual_clock).say("Key1", "Key2")

    async def handler(tx: Transaction, delivery: Delivery) -> None:
        if "Key1" in delivery.body:
            raise Poison

    one = relay(clean_db, manual_clock, handler)
    assert await one.run_once() == 1
    (parked,) = await outbox.parked(clean_db)
    assert parked.attempts == 1
    assert await one.run_once() == 0
    assert await outbox.discard(clean_db, parked.event_id) == 1
    assert await one.run_once() == 1


async def test_an_event_that_kills_its_process_is_parked_too(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    await outbox.register(clean_db, manual_clock, {"c": Said.event_name})
    await Mouth(clean_db, manual_clock).say("deadly")
    for _ in range(3):
        one = relay(clean_db, manual_clock, attempts=3)
        assert len(await clean_db.run(one._take, 10)) == 1  # and the process dies
        manual_clock.advance(int(LEASE_S * 1000) + 1)
    assert await relay(clean_db, manual_clock, attempts=3).run_once() == 0
    assert [p.reason for p in await outbox.parked(clean_db)] == ["never came back"]


async def test_a_clock_that_steps_back_does_not_strand_deliveries(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    await outbox.register(clean_db, manual_clock, {"c": Said.event_name})
    mouth = Mouth(clean_db, manual_clock)
    await mouth.say("before")
    failing = True

    async def handler(tx: Transaction, delivery: Delivery) -> None:
        if failing:
            raise ValueError("not now")
        await effect(tx, delivery)

    one = relay(clean_db, manual_clock, handler)
    assert await one.run_once() == 1
    failing = False
    manual_clock.step(-86_400_000)
    await mouth.say("after")
    assert await one.run_once() == 2
    assert sorted(await effects(clean_db)) == ["c/after", "c/before"]


async def test_a_consumer_gets_what_is_committed_while_it_is_away(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    await outbox.register(clean_db, manual_clock, {"away": Said.event_name})
    await Mouth(clean_db, manual_clock).say("hello")
    assert await relay(clean_db, manual_clock, consumers=()).run_once() == 0
    assert await relay(clean_db, manual_clock, consumers=("away",)).run_once() == 1


async def test_old_rows_are_swept_and_parked_ones_are_kept(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    await outbox.register(clean_db, manual_clock, {"c": Said.event_name})
    await Mouth(clean_db, manual_clock).say("Done", "bad")

    async def handler(tx: Transaction, delivery: Delivery) -> None:
        if "bad" in delivery.body:
            raise Poison

    await relay(clean_db, manual_clock, handler).run_once()
    assert await outbox.sweep(clean_db, manual_clock.now()) == 0
    assert await outbox.sweep(clean_db, manual_clock.now() + outbox.KEEP_DONE + timedelta(seconds=1)) == 1
    assert len(await outbox.parked(clean_db)) == 1
    assert await clean_db.fetchval(raw("SELECT count(*) FROM core_outbox_orders")) == 0
    assert await clean_db.fetchval(raw("SELECT count(*) FROM core_inbox")) == 1
