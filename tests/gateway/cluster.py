"""Several whole processes on one database: what the tests of sessions on many nodes stand on."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from core.background import Background
from core.bus import MemoryNetwork
from core.clock import Clock
from core.runtime import Runtime
from gateway import demo
from gateway.service import GatewayService
from house import compose
from hub.service import HubService
from tests.device import Device
from tests.world import process, settings_for


class Node:
    """A whole process: gateway, im and hub with their ports open."""

    def __init__(self, runtime: Runtime, hub_port: int) -> None:
        self.runtime, self.hub = runtime, f"ws://127.0.0.1:{hub_port}/"
        services = runtime.calls.dispatcher._services
        gateway, hub = services["gateway"], services["hub"]
        assert isinstance(gateway, GatewayService)
        assert isinstance(hub, HubService)
        assert hub.node is not None
        self.http, self.hub_node = f"http://127.0.0.1:{gateway.port}", hub.node
        self.gateway = gateway


class Socket:
    """A hub connection by hand, which stays until the server ends it."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws, self._ids = ws, count(10)

    async def ask(self, op: int, *fields: Any) -> list[Any]:
        """Send a frame; the answer with its id. Raises `ConnectionClosed`."""
        frame_id = next(self._ids)
        await self.ws.send(msgpack.packb([[op, frame_id, *fields]]))
        async for message in self.ws:
            for frame in msgpack.unpackb(message):
                if frame[1] == frame_id:
                    return list(frame)
        raise ConnectionError(f"closed with {self.ws.close_code}")

    async def gone(self) -> int | None:
        """The close code, once the server has closed."""
        with suppress(websockets.ConnectionClosedError):
            async for _ in self.ws:
                pass
        return self.ws.close_code


class House:
    """Several nodes on one database and one bus."""

    def __init__(
        self,
        nodes: list[Node],
        people: dict[str, demo.DemoPerson],
        http: aiohttp.ClientSession,
        network: MemoryNetwork,
    ) -> None:
        self.nodes, self.people, self.http, self.network = nodes, people, http, network
        self._sockets: list[ClientConnection] = []

    async def status(self, node: int, action: str, token: str) -> int:
        """What a node answers to a bearer token."""
        url, headers = f"{self.nodes[node].http}/v1/{action}", {"Authorization": f"Bearer {token}"}
        async with self.http.post(url, json={}, headers=headers) as answer:
            return answer.status

    async def post(self, action: str, fields: Any, **headers: str) -> Any:
        url = f"{self.nodes[0].http}/v1/{action}"
        async with self.http.post(url, json=fields, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def login(self, login: str, device: Device | None, name: str) -> Any:
        action = "gateway.identity.login"
        fields = {"login": login, "password": self.people[login].password, "device": name}
        proof = {"DPoP": self.proof(device, "POST", f"{self.nodes[0].http}/v1/{action}")} if device else {}
        return await self.post(action, fields, **proof)

    def proof(self, device: Device, method: str, url: str, token: str | None = None) -> str:
        now_s = self.nodes[0].runtime.clock.now_ms() / 1000
        return device.proof(url, now_s, method=method, token=token)

    def prove(self, device: Device) -> Callable[[str, str, str], str]:
        return lambda method, url, token: self.proof(device, method, url, token)

    async def socket(self, node: int, token: str, device: str, proof: str | None = None) -> Socket:
        """Somebody who has come in."""
        ws = await websockets.connect(
            self.nodes[node].hub, subprotocols=[Subprotocol("bankhub.v1.msgpack")], compression=None
        )
        self._sockets.append(ws)
        socket = Socket(ws)
        first = await socket.ask(1, token, device, None, None, *([proof] if proof else []))
        assert first[0] == 2, first
        return socket

    async def close(self) -> None:
        """End the sockets that are still open."""
        for ws in self._sockets:
            await ws.close()

    async def hello(self, node: int, token: str, proof: str | None) -> tuple[int, Any]:
        """Say HELLO by hand: the operation of the answer and the close code or the session."""
        async with websockets.connect(
            self.nodes[node].hub, subprotocols=[Subprotocol("bankhub.v1.msgpack")], compression=None
        ) as ws:
            await ws.send(msgpack.packb([[1, 1, token, "by-hand", None, None, *([proof] if proof else [])]]))
            first = msgpack.unpackb(await ws.recv())[0]
            return first[0], first[2]


@asynccontextmanager
async def opened(
    database: str, var_dir: Path, nodes: int = 2, clock: Clock | None = None, **changes: Any
) -> AsyncIterator[House]:
    """A house of so many nodes; `changes` are settings of all of them. With a `clock` nothing runs by itself."""
    network = MemoryNetwork()
    async with AsyncExitStack() as stack:
        started = []
        for _ in range(nodes):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            settings = settings_for(database, var_dir, hub_port=port, **changes)
            runtime = await stack.enter_async_context(
                process(
                    settings,
                    lambda clock, db, settings=settings: compose.services(
                        settings, clock, db, ("hub", "im", "gateway")
                    ),  # type: ignore[misc]
                    clock=clock,
                    network=network,
                )
            )
            if clock is None:
                background = Background(runtime, runtime.calls.dispatcher._services.values())
                await background.start()
                stack.push_async_callback(background.stop)
            started.append(Node(runtime, port))
        people = {one.login: one for one in reversed(await demo.seed(started[0].runtime))}
        house = House(started, people, await stack.enter_async_context(aiohttp.ClientSession()), network)
        stack.push_async_callback(house.close)
        yield house
