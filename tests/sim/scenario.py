"""One run: real nodes on simulated machines, faults from the seed, then healing, then the judgement."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from core import failpoints
from core.actions import Principal
from core.bus import MemoryBus, MemoryNetwork
from core.db import CommitUnknown, Contention
from core.ids import Ids
from hub.node.node import Node
from hub.server.connection import Connection
from hub.streams.rules import EMPTY_DIGEST
from hub.verify import check_link
from hub.wire.limits import Limits
from tests.sim.adapter import Simulation
from tests.sim.client import Person
from tests.sim.doubles import Disk, MemoryInboxes, MemoryStore

NODES = ["hub1", "hub2", "hub3"]
PEOPLE = 5
STREAMS = {"100": [1, 2, 3, 4, 5], "200": [1, 2, 3]}
STORM_S = 6.0  # faults and messages
HEALED_S = 20.0  # within so much virtual time everybody must have everything
FAR_MS = 4_000_000_000_000

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


class Violation(AssertionError):
    """A promise was broken."""


class Gate:
    """Everybody is who they say."""

    def authenticate(self, token: str) -> Principal:
        person, enterprise = map(int, token.split(":"))
        return Principal(person, enterprise, frozenset({"employee"}), person, "", FAR_MS)

    async def admit(self, principals: Sequence[Principal]) -> list[str | None]:
        return [None] * len(principals)


class Policy:
    """Everything may be said."""

    def check_send(self, kind: str, body: Any) -> None: ...
    def check_amend(self, *args: Any) -> None: ...


@dataclass
class World:
    """What a run has."""

    sim: Simulation
    disk: Disk = field(default_factory=Disk)
    network: MemoryNetwork = field(default_factory=MemoryNetwork)
    rough: bool = True
    incarnations: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    buses: dict[str, MemoryBus] = field(default_factory=dict)

    async def step(self) -> None:
        """The way to the database and back: slow at times, and it may fail before anything is written."""
        chance = self.sim.chance
        await asyncio.sleep(chance.uniform(0.0002, 0.004))
        if self.rough and chance.random() < 0.004:
            self.faults["slow database"] += 1
            await asyncio.sleep(chance.uniform(0.1, 1.0))
        if self.rough and chance.random() < 0.004:
            self.faults["contention"] += 1
            raise Contention

    def fate(self, channel: str, payload: bytes) -> int:
        """How often a publication arrives."""
        if not self.rough:
            return 1
        drawn = self.sim.chance.random()
        if drawn < 0.12:
            self.faults["bus lost"] += 1
            return 0
        if drawn < 0.2:
            self.faults["bus repeated"] += 1
            return 2
        return 1

    async def crash_here(self) -> None:
        """An armed failpoint: now and then the machine that runs into it dies there."""
        name = self.sim.here()
        if self.rough and self.sim.chance.random() < 0.01 and name in NODES and self.sim.alive(name):
            self.kill(name, "failpoint")
            await asyncio.sleep(3600)

    def kill(self, name: str, why: str) -> None:
        """The machine loses power; it comes back a little later."""
        self.faults[f"crash: {why}"] += 1
        bus = self.buses.pop(name, None)
        if bus in self.network.members:
            self.network.members.remove(bus)
        self.sim.loop.net.crash(name)
        self.sim.loop.call_later(self.sim.chance.uniform(0.2, 1.5), self.boot, name)

    def boot(self, name: str) -> None:
        """The machine starts."""
        if not self.sim.alive(name):
            self.sim.loop.net.restart(name)
        self.sim.host(name).create_task(self._serve(name))

    async def _serve(self, name: str) -> None:
        sim = self.sim
        self.incarnations += 1
        ids = Ids(sim.clock, self.incarnations)
        ids.extend(FAR_MS)
        bus = self.buses[name] = MemoryBus(self.network)
        await bus.start()
        node = Node(
            name=f"{name}-{self.incarnations}", store=UnsureStore(self), bus=bus, clock=sim.clock, rng=sim.rng, ids=ids,
            gate=Gate(), policy=Policy(), inboxes=MemoryInboxes(self.disk), call=_no_call,
            limits=Limits(sends_per_s=1e6, sends_burst=1e6, frames_per_s=1e6, frames_burst=1e6),
        )  # fmt: skip
        await node.start()
        await sim.loop.create_server(lambda: Connection(node), host=name, port=9000)
        await asyncio.sleep(1e6)


class UnsureStore(MemoryStore):
    """Commits that happen although the answer is lost."""

    def __init__(self, world: World) -> None:
        super().__init__(world.disk, world.step)
        self._world = world

    def committed(self) -> None:
        world = self._world
        if world.rough and world.sim.chance.random() < 0.01:
            world.faults["commit unknown"] += 1
            raise CommitUnknown


async def _no_call(principal: Principal, frame: Any) -> Any:
    raise AssertionError("nobody calls here")


async def scenario(sim: Simulation) -> dict[str, Any]:
    """Storm, healing, judgement. Raises `Violation`; returns figures of the run."""
    world = World(sim)
    world.network.fate = world.fate
    for stream, members in STREAMS.items():
        world.disk.open_stream(int(stream), 1, "conversation", members)
    failpoints.disarm()
    for point in ("hub.before_commit", "hub.after_commit_before_ack", "hub.after_ack_before_fanout"):
        failpoints.arm(point, world.crash_here)
    for name in NODES:
        world.boot(name)
    people = [
        Person(sim, p, [s for s, members in STREAMS.items() if p in members], NODES)
        for p in range(1, PEOPLE + 1)
    ]
    for person in people:
        sim.host(f"phone{person.person}").create_task(person.live())
    await asyncio.sleep(0.3)
    await storm(world, people)
    world.rough = False
    failpoints.disarm()
    world.network.set_up(True)
    await healing(world, people)
    judge(world.disk, people)
    return {
        "entries": sum(len(entries) for entries in world.disk.entries.values()), "faults": dict(world.faults),
        "history": [sorted(p.sent.items()) for p in people],
    }  # fmt: skip


async def storm(world: World, people: list[Person]) -> None:
    """People talk while things break."""
    sim, chance = world.sim, world.sim.chance
    until_s = sim.loop.time() + STORM_S
    while sim.loop.time() < until_s:
        await asyncio.sleep(chance.uniform(0.005, 0.06))
        speaker = chance.choice(people)
        for _ in range(chance.choice((1, 1, 1, 3))):
            speaker.say(chance.choice(speaker.streams))
        drawn = chance.random()
        if drawn < 0.01:
            name = chance.choice(NODES)
            if sim.alive(name) and name in world.buses:
                world.kill(name, "power")
        elif drawn < 0.04:
            world.faults["cut"] += 1
            chance.choice(people).cut()
        elif drawn < 0.05:
            world.faults["bus down"] += 1
            world.network.set_up(False)
            sim.loop.call_later(chance.uniform(0.1, 1.5), world.network.set_up, True)


async def healing(world: World, people: list[Person]) -> None:
    """Everything works again: within a bounded time everybody has everything. Raises `Violation`."""
    until_s = world.sim.loop.time() + HEALED_S
    while True:
        heads = {stream: len(world.disk.entries[int(stream)]) for stream in STREAMS}
        waiting = [
            f"{p.person} waits for answers {sorted(p.pending)[:3]}"
            if p.pending
            else f"{p.person} lacks entries of {s}"
            for p in people
            for s in p.streams
            if p.pending or len(p.entries[s]) < heads[s]
        ]
        if not waiting:
            return
        if world.sim.loop.time() > until_s:
            raise Violation("not healed: " + "; ".join(waiting))
        await asyncio.sleep(0.1)


def judge(disk: Disk, people: list[Person]) -> None:
    """Promises P1 to P3, P6 and the digest chain, over what is stored and what people got. Raises `Violation`."""
    found = [violation for person in people for violation in person.violations]
    said = {key: what for person in people for key, what in person.said.items()}
    for stream in STREAMS:
        entries = disk.entries[int(stream)]
        previous = EMPTY_DIGEST
        for number, entry in enumerate(entries, 1):
            why = check_link(previous, number, entry)
            if why is not None:
                found.append(f"{stream}/{number}: {why}")
            previous = entry.digest
            if said.get(entry.key, ("", ""))[0] != stream:
                found.append(f"{stream}/{number} was never said: {entry.key}")
        for key, times in Counter(entry.key for entry in entries).items():
            if times > 1:
                found.append(f"{key} is there {times} times")
        for person in people:
            if stream in person.streams:
                got = [(entry[1], entry[2]) for entry in person.entries[stream]]
                if got != [(entry.seq, str(entry.entry_id)) for entry in entries]:
                    found.append(f"{person.person} has another {stream}")
    for person in people:
        for key, (stream, seq, entry_id) in person.sent.items():
            entries = disk.entries[int(stream)]
            if len(entries) < seq or (entries[seq - 1].key, str(entries[seq - 1].entry_id)) != (
                key,
                entry_id,
            ):
                found.append(f"{key} was acknowledged as {stream}/{seq} and is not there")
    if found:
        raise Violation("; ".join(found[:5]))
