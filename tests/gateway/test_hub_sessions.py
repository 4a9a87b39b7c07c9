"""Bound sessions on the hub: nobody comes in without the key, and whoever is revoked is out on every node."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest
import websockets
from websockets.typing import Subprotocol

from core.background import Background
from core.bus import MemoryNetwork
from core.runtime import Runtime
from gateway import demo
from gateway.service import GatewayService
from house import compose
from hub.client import Client, Token
from tests.device import Device
from tests.world import process, settings_for


class Node:
    """A whole process: gateway, im and hub with their ports open."""

    def __init__(self, runtime: Runtime, hub_port: int) -> None:
        self.runtime, self.hub = runtime, f"ws://127.0.0.1:{hub_port}/"
        gateway = runtime.calls.dispatcher._services["gateway"]
        assert isinstance(gateway, GatewayService)
        self.http = f"http://127.0.0.1:{gateway.port}"


class House:
    """Two nodes on one database."""

    def __init__(
        self, nodes: list[Node], people: dict[str, demo.DemoPerson], http: aiohttp.ClientSession
    ) -> None:
        self.nodes, self.people, self.http = nodes, people, http

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

    async def hello(self, node: int, token: str, proof: str | None) -> tuple[int, Any]:
        """Say HELLO by hand: the operation of the answer and the close code or the session."""
        async with websockets.connect(
            self.nodes[node].hub, subprotocols=[Subprotocol("bankhub.v1.msgpack")], compression=None
        ) as ws:
            await ws.send(msgpack.packb([[1, 1, token, "by-hand", None, None, *([proof] if proof else [])]]))
            first = msgpack.unpackb(await ws.recv())[0]
            return first[0], first[2]


@pytest.fixture
async def house(database: str, tmp_path: Path) -> AsyncIterator[House]:
    network = MemoryNetwork()
    async with AsyncExitStack() as stack:
        nodes = []
        for _ in range(2):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            settings = settings_for(database, tmp_path, hub_port=port)
            runtime = await stack.enter_async_context(
                process(
                    settings,
                    lambda clock, db, settings=settings: compose.services(
                        settings, clock, db, compose.SERVICES
                    ),  # type: ignore[misc]
                    network=network,
                )
            )
            background = Background(runtime, runtime.calls.dispatcher._services.values())
            await background.start()
            stack.push_async_callback(background.stop)
            nodes.append(Node(runtime, port))
        people = {one.login: one for one in reversed(await demo.seed(nodes[0].runtime))}
        yield House(nodes, people, await stack.enter_async_context(aiohttp.ClientSession()))


@pytest.mark.requirement("S06", "T02")
async def test_a_bound_token_needs_its_key_at_the_hub_and_each_proof_is_used_once(house: House) -> None:
    device, thief = Device(), Device("SM2")
    token = (await house.login("yangmin", device, "phone"))["access_token"]
    hub = house.nodes[0].hub
    assert await house.hello(0, token, None) == (22, 4500)
    assert await house.hello(0, token, house.proof(thief, "HELLO", hub, token)) == (22, 4500)
    assert await house.hello(0, token, house.proof(device, "REFRESH", hub, token)) == (22, 4500)
    assert await house.hello(0, token, house.proof(device, "HELLO", house.nodes[1].hub, token)) == (22, 4500)
    proof = house.proof(device, "HELLO", hub, token)
    assert (await house.hello(0, token, proof))[0] == 2
    assert await house.hello(0, token, proof) == (22, 4500), "used before"


@pytest.mark.requirement("S04", "S06")
@pytest.mark.parametrize("algorithm", ["ES256", "SM2"])
async def test_whoever_is_revoked_is_out_on_every_node_within_two_seconds(
    house: House, algorithm: str
) -> None:
    clients, device = [], Device(algorithm)
    for node in range(2):
        body = await house.login("huangting", device, f"phone-{node}")

        async def token(body: Any = body) -> Token:
            return Token(body["access_token"], body["access_expires_ms"])

        client = Client(house.nodes[node].hub, token, device=f"phone-{node}", prove=house.prove(device))
        clients.append((client, body))
        await client.__aenter__()
        await client.online()
    for client, body in clients:
        action, access = "gateway.identity.logout", body["access_token"]
        proof = house.proof(device, "POST", f"{house.nodes[0].http}/v1/{action}", access)
        await house.post(action, {}, Authorization=f"DPoP {access}", DPoP=proof)
        async with asyncio.timeout(2):
            while client.ended is None:
                await asyncio.sleep(0.01)
        assert client.ended.code == 4512
        await client.__aexit__(None, None, None)


async def test_plain_clients_come_in_with_bearer_tokens(house: House) -> None:
    token = (await house.login("lina", None, "terminal"))["access_token"]
    assert (await house.hello(1, token, None))[0] == 2
