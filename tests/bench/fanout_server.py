"""The hub's way out alone: a real node and real connections, and a publisher inside the process.

python fanout_server.py CONNECTIONS BYTES BATCH: every connection follows one conversation. Each credit that comes on
the control port hands BATCH committed entries with a text of BYTES to the node, which encodes them, gives them to the
room and writes once to each connection. Database and bus are doubles that hold nothing: this measure has neither
commits nor peers. Prints {"port": …, "control": …, "frame_bytes": …}, the last the size of one ENTRY on the wire.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import Sequence
from typing import Any

import uvloop

from core.actions import Principal
from core.bus import MemoryBus, MemoryNetwork
from core.clock import SystemClock
from core.dpop import Shown
from core.ids import Ids
from core.rng import SystemRng
from hub.node.node import Node
from hub.node.rooms import entry_frame, event_of
from hub.server.connection import Connection
from hub.service import listening_socket
from hub.streams.store import Entry, Mark, Subscription
from hub.wire import codec
from hub.wire.limits import Limits
from tests.bench.limits import raise_open_files

STREAM = 7_133_701_809_754_865_664  # as long in digits as real ids are
ENTERPRISE = 1


class EmptyStore:
    """Everybody is subscribed to the one stream, and the database has nothing that the node has not."""

    def __init__(self, members: int) -> None:
        self._members = members

    async def subscriptions(self, person_ids: Sequence[int]) -> list[Subscription]:
        return [
            Subscription(STREAM, p, ENTERPRISE, "conversation", 1, 0, 1, self._members, 0, 0, 0, 0)
            for p in person_ids
        ]

    async def heads(self, stream_ids: Sequence[int]) -> dict[int, int]:
        return {}

    async def changed_since(self, time_ms: int) -> list[tuple[Subscription, bool]]:
        return []

    async def entries(self, stream_id: int, after: int, limit: int) -> list[Entry]:
        return []

    async def save_marks(self, marks: Sequence[Mark]) -> None:
        return None


class OpenDoor:
    """Tokens are the person's number."""

    def authenticate(self, token: str, shown: Shown | None = None) -> Principal:
        return Principal(int(token), ENTERPRISE, frozenset({"employee"}), int(token), "bench", 1 << 50)

    async def greet(self, coming: Sequence[tuple[Principal, Shown | None]]) -> list[str | None]:
        return [None] * len(coming)

    async def admit(self, principals: Sequence[Principal]) -> list[str | None]:
        return [None] * len(principals)

    def check_send(self, kind: str, body: Any) -> None:
        return None

    def carried(self, kind: str, body: Any) -> tuple[int, ...]:
        return ()

    def check_amend(self, change: str, value: Any, target: Entry, sender_id: int, now_ms: int) -> None:
        return None

    async def ensure(self, members: Sequence[tuple[int, int]]) -> None:
        return None


class Publisher:
    """Stands where the group commit stands: entries that are committed, ready to be delivered."""

    def __init__(self, node: Node, ids: Ids, size: int, batch: int) -> None:
        self._node, self._ids, self._batch = node, ids, batch
        self._body = codec.pack("x" * size)
        self._seq = self._credits = 0
        self._running = False

    def entry(self) -> Entry:
        self._seq += 1
        return Entry(
            STREAM, self._seq, self._ids.next(), 4_611_686_018_427_387_904, "text", self._node.clock.now_ms(),
            self._body, None, bytes(32), bytes(32), ENTERPRISE, "key",
        )  # fmt: skip

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while got := await reader.read(256):
            for _ in got:
                await self._node._committed([self.entry() for _ in range(self._batch)], [])
                await asyncio.sleep(
                    0
                )  # the node flushes at the end of the turn, so: one write a connection each
        writer.close()


async def main(connections: int, size: int, batch: int) -> None:
    clock, network, door = SystemClock(), MemoryNetwork(), OpenDoor()
    bus = MemoryBus(network)
    await bus.start()
    ids = Ids(clock, 1)
    node = Node(
        name="bench", store=EmptyStore(connections), bus=bus, clock=clock, rng=SystemRng(), ids=ids,  # type: ignore[arg-type]
        gate=door, policy=door, inboxes=door, call=lambda principal, frame, address: asyncio.sleep(0),
        limits=Limits(undecided_per_source=100_000),
    )  # fmt: skip
    await node.start()
    sock = listening_socket("127.0.0.1", 0)
    server = await node.loop.create_server(lambda: Connection(node), sock=sock)
    sample = Publisher(node, ids, size, batch).entry()
    publisher = Publisher(node, ids, size, batch)
    controller = await asyncio.start_server(publisher.control, "127.0.0.1", 0)
    told = {
        "stream": str(STREAM),
        "port": sock.getsockname()[1],
        "control": controller.sockets[0].getsockname()[1],
        "frame_bytes": len(entry_frame(event_of(sample, str(STREAM)).packed)),
    }
    gc.collect()
    gc.freeze()  # as hub.service does
    print(json.dumps(told), flush=True)
    async with server:
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    raise_open_files()
    uvloop.run(main(*(int(word) for word in sys.argv[1:4])))
