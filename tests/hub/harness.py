"""Nodes on real engines inside the test's loop, and a raw client that shares no code with the hub."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import msgpack
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from core.actions import Principal
from core.bus import RedisBus
from core.clock import SystemClock
from core.db import Database, Transaction, connect
from core.dpop import Shown
from core.errors import Conflict, Forbidden, Invalid, Unauthenticated
from core.ids import Ids
from core.rng import SystemRng
from hub import api
from hub.inboxes import SqlInboxes
from hub.node.node import Node
from hub.node.ports import Refused, unheard
from hub.server.connection import Connection
from hub.service import listening_socket
from hub.streams.store import Entry, StreamStore
from hub.wire.frames import Call
from hub.wire.limits import Limits

FAR_MS = 4_000_000_000_000
ENTERPRISE = 1


class OpenGate:
    """Tokens are "person:enterprise"; `banned` and `left` are what a test says."""

    def __init__(self) -> None:
        self.left: set[tuple[int, int]] = set()
        self.expires_ms = FAR_MS

    def authenticate(self, token: str, shown: Shown | None = None) -> Principal:
        try:
            person, enterprise = map(int, token.split(":"))
        except ValueError as error:
            raise Unauthenticated from error
        return Principal(person, enterprise, frozenset({"employee"}), person, "", self.expires_ms)

    async def greet(self, coming: Sequence[tuple[Principal, Shown | None]]) -> list[str | None]:
        return [None] * len(coming)

    async def admit(self, principals: Sequence[Principal]) -> list[str | None]:
        return ["left" if (p.enterprise_id, p.person_id) in self.left else None for p in principals]


class PlainPolicy:
    """Everything but the kind `forbidden`; only one's own entries are amended."""

    def check_send(self, kind: str, body: Any) -> None:
        if kind != "text":
            raise Invalid("only text here")

    def carried(self, kind: str, body: Any) -> tuple[int, ...]:
        return ()

    def check_amend(self, change: str, value: Any, target: Entry, sender_id: int, now_ms: int) -> None:
        if target.sender_id != sender_id:
            raise Forbidden("not your message")
        if target.body is None:
            raise Conflict("recalled already")


@dataclass
class Ctx:
    """As much of `core.context.Context` as `hub.api` uses."""

    tx: Transaction
    world: World
    hooks: list[Callable[[], Any]] = field(default_factory=list)

    @property
    def clock(self) -> SystemClock:
        return self.world.clock

    @property
    def ids(self) -> Ids:
        return self.world.ids

    @property
    def runtime(self) -> World:
        return self.world

    def after_commit(self, hook: Callable[[], Any]) -> None:
        self.hooks.append(hook)


class World:
    """A database, a bus for each node, and whatever nodes a test starts."""

    _workers = itertools.count(1)

    def __init__(self, db: Database, redis_url: str) -> None:
        self.db, self.redis_url = db, redis_url
        self.clock, self.rng = SystemClock(), SystemRng()
        self.ids = self._new_ids()
        self.gate, self.policy = OpenGate(), PlainPolicy()
        self.bus: Any = None
        self.nodes: list[Node] = []
        self.ports: dict[str, int] = {}
        self._servers: list[asyncio.AbstractServer] = []
        self._buses: list[Any] = []
        self._clients: list[Client] = []

    def _new_ids(self) -> Ids:
        ids = Ids(self.clock, next(self._workers))
        ids.extend(2**62)
        return ids

    async def new_bus(self) -> RedisBus:
        bus = RedisBus(self.redis_url)
        await bus.start()
        self._buses.append(bus)
        return bus

    async def node(
        self, name: str, *, bus: Any = None, call: Any = None, proxies: Sequence[str] = (), refused: Refused = unheard,
        **limits: Any,
    ) -> Node:  # fmt: skip
        """A node that listens on a port of its own."""
        if self.bus is None:
            self.bus = await self.new_bus()
        ids = self._new_ids()
        node = Node(
            name=name, store=StreamStore(self.db), bus=bus or await self.new_bus(), clock=self.clock, rng=self.rng,
            ids=ids, gate=self.gate, policy=self.policy, inboxes=SqlInboxes(self.db, self.clock, ids),
            call=call or _no_call, limits=Limits(**limits), origins=["https://bank.example"],
            hosts=["hub", "127.0.0.1"], proxies=proxies, refused=refused,
        )  # fmt: skip
        await node.start()
        sock = listening_socket("127.0.0.1", 0)
        self.ports[name] = sock.getsockname()[1]
        self._servers.append(await node.loop.create_server(lambda: Connection(node), sock=sock))
        self.nodes.append(node)
        return node

    async def together(self, do: Callable[[Any], Awaitable[Any]]) -> Any:
        """Runs `do(ctx)` in a transaction, as an action would."""
        async with self.db.transaction() as tx:
            ctx = Ctx(tx, self)
            result = await do(ctx)
        for hook in ctx.hooks:
            hook()
        return result

    async def conversation(self, *members: int, enterprise: int = ENTERPRISE, history: bool = False) -> str:
        """A new conversation with these members; its name on the wire."""
        stream_id = self.ids.next()

        async def do(ctx: Any) -> None:
            await api.open_stream(ctx, stream_id, enterprise)
            await api.change_members(ctx, stream_id, added=members, history=history)

        await self.together(do)
        return str(stream_id)

    async def change(self, name: str, *, added: Sequence[int] = (), removed: Sequence[int] = ()) -> None:
        """Changes members of a conversation."""
        await self.together(lambda ctx: api.change_members(ctx, int(name), added=added, removed=removed))

    async def client(
        self, node: str, person: int, *, device: str | None = None, enterprise: int = ENTERPRISE,
        resume: dict[str, int] | None = None, hello: bool = True,
    ) -> Client:  # fmt: skip
        """A connected client; WELCOME has come unless `hello` is False."""
        ws = await websockets.connect(
            f"ws://127.0.0.1:{self.ports[node]}/",
            subprotocols=[Subprotocol("bankhub.v1.msgpack")],
            compression=None,
        )
        client = Client(ws, person)
        self._clients.append(client)
        if hello:
            await client.send(1, 1, f"{person}:{enterprise}", device or f"device-{person}", None, resume)
            await client.until(2)
        return client

    async def stop(self) -> None:
        for client in self._clients:
            await _soon(client.close(), f"the client of person {client.person}")
        for server in self._servers:
            server.close()
        for node in self.nodes:
            await _soon(node.stop(), f"node {node.name}")
        for bus in self._buses:
            await _soon(bus.stop(), "the bus")


class Client:
    """Speaks the wire by docs/protocol.md with `msgpack`; keeps every frame that came."""

    def __init__(self, ws: ClientConnection, person: int) -> None:
        self.ws, self.person = ws, person
        self.frames: list[list[Any]] = []
        self.closed: tuple[int, str] | None = None
        self.answers_pings = True
        self._news = asyncio.Condition()
        self._ids = itertools.count(10)
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with suppress(websockets.ConnectionClosed):
            async for message in self.ws:
                frames = msgpack.unpackb(message)
                for frame in frames:
                    if frame[:2] == [19, 0] and self.answers_pings:
                        await self.send(19, 0, frame[2])
                async with self._news:
                    self.frames += frames
                    self._news.notify_all()
        async with self._news:
            self.closed = (self.ws.close_code or 0, self.ws.close_reason or "")
            self._news.notify_all()

    async def send(self, *frame: Any) -> None:
        await self.ws.send(msgpack.packb([list(frame)]))

    async def ask(self, op: int, *fields: Any, within_s: float = 10) -> list[Any]:
        """Sends a frame and returns the answer with the same id."""
        frame_id = next(self._ids)
        await self.send(op, frame_id, *fields)
        return await self.when(lambda f: f[1] == frame_id and f[0] not in (7, 11, 12), within_s)

    async def say(self, name: str, text: str, key: str | None = None, **options: Any) -> list[Any]:
        return await self.ask(5, name, key or uuid4().hex, "text", text, options or None)

    async def when(self, wanted: Callable[[list[Any]], bool], within_s: float = 10) -> list[Any]:
        """The first frame, come or to come, for which `wanted` holds."""

        def found() -> list[Any] | None:
            return next((f for f in self.frames if wanted(f)), None)

        async with asyncio.timeout(within_s), self._news:
            await self._news.wait_for(lambda: found() is not None or self.closed is not None)
        frame = found()
        assert frame is not None, f"closed with {self.closed}"
        return frame

    async def until(self, op: int, within_s: float = 10) -> list[Any]:
        return await self.when(lambda f: f[0] == op, within_s)

    async def gone(self, within_s: float = 10) -> int:
        """The close code, once the server has closed."""
        async with asyncio.timeout(within_s), self._news:
            await self._news.wait_for(lambda: self.closed is not None)
        assert self.closed is not None
        return self.closed[0]

    def seqs(self, name: str) -> list[int]:
        """Seqs of the ENTRY pushes of a stream, in order of arrival."""
        return [f[3] for f in self.frames if f[0] == 7 and f[2] == name]

    def texts(self, name: str) -> list[Any]:
        return [f[8] for f in self.frames if f[0] == 7 and f[2] == name and f[6] == "text"]

    async def close(self) -> None:
        await self.ws.close()
        await self._task


async def _soon(work: Awaitable[None], what: str) -> None:
    """Ends must end: says what does not."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=8)
    if not task.done():
        stacks = [f"{t.get_name()}: {t.get_stack()[-1] if t.get_stack() else t}" for t in asyncio.all_tasks()]
        raise AssertionError(f"{what} does not stop; tasks: " + "\n".join(stacks))
    await task


async def _no_call(principal: Principal, frame: Call, address: str) -> Any:
    raise Invalid("no actions in this test")


@asynccontextmanager
async def world(database: str, redis_url: str) -> AsyncIterator[World]:
    """A world that is cleaned up."""
    db = await connect(database)
    made = World(db, redis_url)
    try:
        yield made
    finally:
        await made.stop()
        await db.close()
