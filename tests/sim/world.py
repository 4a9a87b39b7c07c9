"""The simulated machines: hub nodes with their way to the database and the bus, and everything that may go wrong there.

The database lives outside every machine: what a COMMIT on the wire does when its sender dies, and how long the locks of
a machine without power are held, is decided here and not by the cancelled task.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from core.actions import Principal
from core.bus import MemoryBus, MemoryNetwork
from core.db import CommitUnknown, Contention
from core.db.errors import ConnectionLost
from core.dpop import Shown
from core.ids import Ids
from hub.node.node import Node
from hub.server.connection import Connection
from hub.streams.rules import MEMBERSHIP, chain_digest, content_digest
from hub.streams.store import Entry
from hub.wire.codec import pack
from hub.wire.limits import Limits
from tests.sim.adapter import Simulation
from tests.sim.doubles import Disk, MemoryInboxes, MemoryStore, MemoryTx
from tests.sim.files import MemoryFiles

NODES = ["hub1", "hub2", "hub3"]
PORT = 9000
ENTERPRISE = 1
FAR_MS = 4_000_000_000_000
WRONG_MS = 2_000  # clocks of two machines differ by twice as much at most; the hub allows for 5 s


class Gate:
    """Everybody is who they say."""

    def authenticate(self, token: str, shown: Shown | None = None) -> Principal:
        person, enterprise = map(int, token.split(":"))
        return Principal(person, enterprise, frozenset({"employee"}), person, "", FAR_MS)

    async def greet(self, coming: Sequence[tuple[Principal, Shown | None]]) -> list[str | None]:
        return [None] * len(coming)

    async def admit(self, principals: Sequence[Principal]) -> list[str | None]:
        return [None] * len(principals)


class Policy:
    """Everything may be said; messages of kind `file` carry one."""

    def check_send(self, kind: str, body: Any) -> None: ...
    def carried(self, kind: str, body: Any) -> tuple[int, ...]:
        return (int(body["file_id"]),) if kind == "file" else ()

    def check_amend(self, *args: Any) -> None: ...


@dataclass
class Machine:
    """One life of a machine: from boot to crash."""

    name: str
    bus: RoughBus
    dead: bool = False
    late_s: float = 0.0  # so long after its death the database still believes in its connections


class World:
    """What a run has."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.disk = Disk()
        self.network = MemoryNetwork()
        self.network.fate = self._fate
        self.rough = True
        self.faults: Counter[str] = Counter()
        self.machines: dict[str, Machine] = {}
        self.limits = _limits(sim)
        self.database_up = True
        self.file_ids = itertools.count(1)
        self._lives = 0
        self._server = copy_context()  # the driver's: what runs in it dies with no machine

    # --- chance ---------------------------------------------------------------------------------------------------

    def happens(self, what: str, probability: float) -> bool:
        """Whether this fault strikes now."""
        strikes = self.rough and self.sim.chance.random() < probability
        if strikes:
            self.faults[what] += 1
        return strikes

    def _fate(self, channel: str, payload: bytes) -> int:
        if self.happens("bus lost", 0.1):
            return 0
        return 2 if self.happens("bus repeated", 0.08) else 1

    def later(self, delay_s: float, do: Any, *args: Any) -> None:
        """Outside of every machine."""
        self.sim.loop.call_later(delay_s, do, *args, context=self._server)

    async def crash_here(self) -> None:
        """An armed failpoint: now and then the machine that runs into it dies there."""
        name = self.sim.here()
        if name in NODES and self.happens("crash: failpoint", 0.01):
            self.kill(name)
            await asyncio.sleep(3600)

    def restart_database(self, away_s: float) -> None:
        """Every open transaction is gone, and nobody can begin another for a while."""
        self.faults["database restarted"] += 1
        self.database_up = False
        for tx in list(self.disk.open):
            tx.end()
        self.later(away_s, self._database_back)

    def _database_back(self) -> None:
        self.database_up = True

    # --- machines -------------------------------------------------------------------------------------------------

    def kill(self, name: str, *, power: bool = False) -> None:
        """The process dies, or the machine loses power: then nobody tells the database that it is gone."""
        machine = self.machines.pop(name)
        machine.dead = machine.bus.dead = True
        machine.late_s = self.sim.chance.uniform(0, 2) if power else 0
        self.network.members.remove(machine.bus)
        self.sim.crash(name)
        self.later(self.sim.chance.uniform(0.2, 1.5), self.boot, name)

    def kill_life(self, machine: Machine) -> None:
        """The same, if it is still this life of the machine."""
        if not machine.dead and machine.name in NODES:
            self.kill(machine.name, power=self.sim.chance.random() < 0.5)

    def boot(self, name: str) -> None:
        """The machine starts."""
        if not self.sim.alive(name):
            self.sim.restart(name)
        self.sim.host(name).create_task(self._serve(name))

    def join(self, name: str) -> Machine:
        """A machine with its place on the bus; called by a task of the machine itself."""
        machine = self.machines[name] = Machine(name, RoughBus(self))
        return machine

    async def _serve(self, name: str) -> None:
        sim, machine = self.sim, self.join(name)
        self._lives += 1
        ids = Ids(sim.clock(name), self._lives)
        ids.extend(FAR_MS)
        await machine.bus.start()
        node = Node(
            name=f"{name}-{self._lives}", store=UnsureStore(self, machine), bus=machine.bus, clock=sim.clock(name),
            rng=sim.rng, ids=ids, gate=Gate(), policy=Policy(), inboxes=MemoryInboxes(self.disk), call=_no_call,
            limits=self.limits, hosts=["hub"], files=MemoryFiles(self.disk),
        )  # fmt: skip
        await node.start()
        await sim.loop.create_server(lambda: Connection(node), host=name, port=PORT)
        await asyncio.sleep(1e6)


def _limits(sim: Simulation) -> Limits:
    """Half of the runs have tiny queues, so that clients are slow; nobody is ever too fast."""
    tiny = sim.seed % 2 == 1
    return Limits(
        undecided_per_source=1000, sends_per_s=1e6, sends_burst=1e6, frames_per_s=1e6, frames_burst=1e6,
        ping_s=2.0, pong_s=1.0, soft_queue_bytes=2_000 if tiny else 1 << 18,
        hard_queue_bytes=20_000 if tiny else 1 << 20,
    )  # fmt: skip


class RoughBus(MemoryBus):
    """The bus as one machine sees it: publications take their time, and some come late, after later ones.

    They arrive in the context of the machine that subscribed: what it starts then is its own, and dies with it.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world.network)
        self._world = world
        self._context = copy_context()
        self.dead = self.deaf = False

    def arrive(self, channel: str, payload: bytes) -> None:
        world, chance = self._world, self._world.sim.chance
        if self.dead or self.deaf:
            return
        delay_s = chance.uniform(0.0002, 0.003)
        if world.happens("bus late", 0.05):
            delay_s = chance.uniform(0.01, 0.5)
        world.sim.loop.call_later(delay_s, self._arrived, channel, payload, context=self._context)

    def _arrived(self, channel: str, payload: bytes) -> None:
        if not self.dead:
            super().arrive(channel, payload)

    def publish(self, channel: str, payload: bytes) -> Any:
        if self.dead or self.deaf:
            return _nothing()
        return super().publish(channel, payload)

    def hang(self, for_s: float) -> None:
        """Nothing comes and nothing goes, and for a while nobody notices."""
        self.deaf = True
        self._world.later(for_s, self._found_out)

    def _found_out(self) -> None:
        if not self.dead:
            self.receivers.set_state(False)
            self._world.later(0.05, self._back)

    def _back(self) -> None:
        self.deaf = False
        if not self.dead:
            self.receivers.set_state(self._world.network.is_up)


class _Nothing:
    def __await__(self) -> Any:
        return iter(())


def _nothing() -> _Nothing:
    return _Nothing()


class UnsureStore(MemoryStore):
    """The database over a line that breaks: before COMMIT, behind it, and while it is under way."""

    def __init__(self, world: World, machine: Machine) -> None:
        super().__init__(world.disk, self._way)
        self._world, self._machine = world, machine

    async def _way(self) -> None:
        """There and back: slow at times, and it may fail before anything is written."""
        world, chance = self._world, self._world.sim.chance
        if self._machine.dead:
            raise asyncio.CancelledError
        delay_s = chance.uniform(0.0002, 0.004)
        if world.happens("database slow", 0.004):
            delay_s = chance.uniform(0.1, 1.0)
        await asyncio.sleep(delay_s)
        if self._machine.dead:
            raise asyncio.CancelledError
        if world.happens("contention", 0.004):
            raise Contention
        if not world.database_up or world.happens("connection lost", 0.003):
            raise ConnectionLost

    def roll_back(self, tx: MemoryTx) -> None:
        if self._machine.dead and self._machine.late_s:
            self._world.later(self._machine.late_s, tx.end)
        else:
            tx.end()

    async def finish(self, tx: MemoryTx) -> None:
        world, chance = self._world, self._world.sim.chance
        if self._machine.dead:
            self.roll_back(tx)
            raise asyncio.CancelledError
        if world.happens("commit never arrived", 0.006):
            tx.end()
            raise CommitUnknown
        if world.happens("commit finished after its line broke", 0.006):
            world.later(chance.uniform(0.001, 0.8), _commit_late, tx)
            raise CommitUnknown
        if world.happens("crash: in the commit", 0.004):
            world.later(chance.uniform(0, 0.01), world.kill_life, self._machine)
        try:
            await asyncio.sleep(chance.uniform(0.0005, 0.01))
        except asyncio.CancelledError:
            if not tx.ended and chance.random() < 0.5:
                world.faults["commit of the dead"] += 1
                tx.commit()
            else:
                self.roll_back(tx)
            raise
        tx.commit()
        if world.happens("commit without an answer", 0.006):
            raise CommitUnknown
        await asyncio.sleep(chance.uniform(0.0001, 0.002))


def _commit_late(tx: MemoryTx) -> None:
    if not tx.ended:
        tx.commit()


class Office:
    """Who changes memberships: what `hub.api.change_members` does in its transaction, then "changed" on the bus."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._machine = world.join("office")
        self._store = UnsureStore(world, self._machine)
        self._ids = Ids(world.sim.clock("office"), 1023)
        self._ids.extend(FAR_MS)

    async def open(self) -> None:
        """Takes its place on the bus."""
        await self._machine.bus.start()

    async def change(self, stream_id: int, *, added: Sequence[int] = (), removed: Sequence[int] = ()) -> None:
        """Until it is done."""
        while True:
            try:
                await self._change(stream_id, added, removed)
            except (Contention, ConnectionLost, CommitUnknown):
                await asyncio.sleep(0.05)
            else:
                return

    async def _change(self, stream_id: int, added: Sequence[int], removed: Sequence[int]) -> None:
        now_ms = self._world.sim.clock("office").now_ms()
        async with self._store.commit() as tx:
            head = (await tx.lock([stream_id]))[stream_id]
            joined, left = await tx.change_members(
                head, added=added, removed=removed, floor=head.head, now_ms=now_ms
            )
            if not joined and not left:
                return
            body = pack({"added": [str(p) for p in joined], "removed": [str(p) for p in left], "by": "0"})
            content = content_digest(MEMBERSHIP, body, None)
            entry_id, seq = self._ids.next(), head.head + 1
            digest = chain_digest(head.digest, stream_id, seq, entry_id, 0, now_ms, content)
            entry = Entry(
                stream_id, seq, entry_id, 0, MEMBERSHIP, now_ms, body, None, content, digest, ENTERPRISE,
                f"entry-{entry_id}",
            )  # fmt: skip
            await tx.append([entry])
            await tx.advance([(stream_id, seq, digest)])
        self._world.faults["membership changed"] += 1
        told = [[stream_id, ENTERPRISE, joined]]
        self._machine.bus.publish("hub:all", pack(["changed", "", 0, told]))

    async def clean_up(self, file_id: int) -> None:
        """Takes a file away that no message refers to, or does not get so far: who cleans up comes again."""
        files = MemoryFiles(self._world.disk)
        with suppress(Contention, ConnectionLost, CommitUnknown):
            async with self._store.commit() as tx:
                if await files.clean_up(tx, file_id):
                    self._world.faults["file cleaned up"] += 1


async def _no_call(principal: Principal, frame: Any, address: str) -> Any:
    raise AssertionError("nobody calls here")
