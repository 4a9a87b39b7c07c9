"""An open hub connection ends with its session, to the second: by idleness and by age, on virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from core.clock import ManualClock
from tests.device import Device
from tests.gateway.cluster import House, Socket, opened

REFRESH = "gateway.identity.refresh"
IDLE_S, BOUND_IDLE_S = 300, 900
LIFE_S, BOUND_LIFE_S = 2 * 3600, 3600
_houses = count()


class Desk:
    """Somebody with one connection, and the node's wheel in hand: it turns when we say so."""

    def __init__(self, house: House, clock: ManualClock, device: Device | None) -> None:
        self.house, self.clock, self.device = house, clock, device
        self.node = house.nodes[0].hub_node
        self.body: Any = None
        self.socket: Socket | None = None

    def proof(self, method: str, url: str, token: str | None = None) -> str | None:
        return None if self.device is None else self.house.proof(self.device, method, url, token)

    async def login(self) -> None:
        self.body = await self.house.login("lina", self.device, "desk")

    async def come_in(self) -> None:
        token, hub = self.body["access_token"], self.house.nodes[0].hub
        self.socket = await self.house.socket(0, token, "desk", self.proof("HELLO", hub, token))

    async def refreshed(self) -> int:
        """Exchange the refresh token; the answer's status."""
        url = f"{self.house.nodes[0].http}/v1/{REFRESH}"
        fields = {"refresh_token": self.body["refresh_token"], "device": "desk"}
        proof = self.proof("POST", url)
        headers = {"DPoP": proof} if proof else {}
        async with self.house.http.post(url, json=fields, headers=headers) as answer:
            if answer.status == 200:
                self.body = await answer.json()
            return answer.status

    async def go_on(self) -> None:
        """A new token, told to the hub."""
        assert self.socket is not None
        assert await self.refreshed() == 200
        token, hub = self.body["access_token"], self.house.nodes[0].hub
        answer = await self.socket.ask(20, token, *filter(None, [self.proof("REFRESH", hub, token)]))
        assert answer[0] == 16, answer

    async def closed_after_s(self, most_s: int, *, refresh_s: int | None = None) -> int:
        """Seconds until the server closes, of somebody who is there, answers, and refreshes so often."""
        assert self.socket is not None
        for second in range(1, most_s + 1):
            self.clock.advance(1_000)
            self.node._second()
            if not list(self.node.sessions()):
                assert await self.socket.gone() == 4500
                return second
            if refresh_s is not None and second % refresh_s == 0:
                await self.go_on()
            elif second % 20 == 0:
                assert (await self.socket.ask(19, 0))[0] == 19
        raise AssertionError(f"still open after {most_s} s")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_800_000_000_000 + next(_houses) * 864_000_000)


@pytest.fixture
async def house(database: str, tmp_path: Path, clock: ManualClock) -> AsyncIterator[House]:
    async with opened(
        database,
        tmp_path,
        nodes=1,
        clock=clock,
        session_bearer_idle_s=IDLE_S,
        session_bearer_absolute_s=LIFE_S,
        session_idle_s=BOUND_IDLE_S,
        session_absolute_s=BOUND_LIFE_S,
    ) as house:
        for task in list(house.nodes[0].hub_node._tasks):
            if task.get_name() == "hub.wheel":
                task.cancel()
        yield house


@pytest.mark.requirement("S03")
@pytest.mark.parametrize(("device", "life_s"), [(None, LIFE_S), ("ES256", BOUND_LIFE_S)])
async def test_the_absolute_end_closes_whoever_is_busy(
    house: House, clock: ManualClock, device: str | None, life_s: int
) -> None:
    desk = Desk(house, clock, None if device is None else Device(device))
    await desk.login()
    await desk.come_in()
    assert abs(await desk.closed_after_s(life_s + 60, refresh_s=240) - life_s) <= 1
    assert await desk.refreshed() == 401


@pytest.mark.requirement("S03")
async def test_the_idle_end_closes_whoever_only_keeps_the_connection(
    house: House, clock: ManualClock
) -> None:
    desk = Desk(house, clock, None)
    await desk.login()
    await desk.come_in()
    token = desk.body["access_token"]
    assert await house.status(0, "gateway.identity.me", token) == 200
    assert abs(await desk.closed_after_s(IDLE_S + 60) - IDLE_S) <= 1, "an access token would last for 600 s"
    assert await house.status(0, "gateway.identity.me", token) == 401
    assert await desk.refreshed() == 401


@pytest.mark.requirement("S03")
async def test_who_comes_in_with_an_old_token_does_not_stay_longer(house: House, clock: ManualClock) -> None:
    desk = Desk(house, clock, None)
    await desk.login()
    clock.advance((IDLE_S - 3) * 1_000)
    await desk.come_in()
    assert await desk.closed_after_s(60) <= 4
    await desk.login()
    await desk.come_in()
    clock.advance((IDLE_S - 10) * 1_000)
    old = desk.body["access_token"]
    await desk.go_on()
    assert desk.socket is not None
    assert (await desk.socket.ask(20, old))[0] == 21, "the older token is worth nothing any more"


@pytest.mark.requirement("S03")
async def test_using_a_session_moves_its_idle_end(house: House, clock: ManualClock) -> None:
    desk = Desk(house, clock, None)
    await desk.login()
    for _ in range(3):
        clock.advance((IDLE_S - 1) * 1_000)
        assert await desk.refreshed() == 200
    clock.advance(IDLE_S * 1_000)
    assert await desk.refreshed() == 401
