"""Whoever is put out is out on every node: within two seconds by the bus, within thirty without it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.access import SECOND_FACTOR
from core.actions import Principal
from core.settings import load
from gateway.api import EndPersonSessions
from hub.node import recovery
from tests.gateway.cluster import House, Socket, opened

ME = "gateway.identity.me"


def support(house: House) -> Principal:
    """Somebody of the bank who may end sessions."""
    person = house.people["zhengjie"]
    roles = frozenset(person.roles)
    return Principal(person.person_id, person.enterprise_id, roles, 1, "desk", 1 << 50, SECOND_FACTOR)


@pytest.mark.requirement("S04")
async def test_a_hundred_sockets_on_three_nodes_are_closed_within_two_seconds(
    database: str, tmp_path: Path
) -> None:
    logins = ("chenjing", "yangmin", "zhaolei", "wuxia")
    async with opened(database, tmp_path, nodes=3) as house:
        sockets: dict[str, list[Socket]] = {}
        tokens: dict[str, str] = {}
        for login in logins:
            tokens[login] = (await house.login(login, None, "desk"))["access_token"]
            coming = [house.socket(node, tokens[login], f"{node}-{n}") for node in range(3) for n in range(9)]
            sockets[login] = await asyncio.gather(*coming)
        assert sum(map(len, sockets.values())) > 100
        for login in logins:
            end = EndPersonSessions(person_id=house.people[login].person_id, reason="手机丢了，本人来电")
            await house.nodes[0].runtime.calls.call(end, principal=support(house))
            async with asyncio.timeout(2):
                codes = await asyncio.gather(*(one.gone() for one in sockets.pop(login)))
            assert set(codes) == {4512}
            assert {await house.status(node, ME, tokens[login]) for node in range(3)} == {401}
            for others in sockets.values():
                assert {(await one.ask(19, 0))[0] for one in others} <= {19}, "nobody else is closed"


@pytest.mark.requirement("S04")
@pytest.mark.parametrize("bus", ["is down", "loses everything and nobody notices"])
async def test_without_the_bus_the_database_is_asked(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bus: str
) -> None:
    promised_s = max(load({}).revocation_poll_s, recovery.RECHECK_S, recovery.RECHECK_DOWN_S)
    assert promised_s + 5 < 30, "what is polled for, and time to do it"
    monkeypatch.setattr(recovery, "RECHECK_S", 1.0)
    async with opened(database, tmp_path, revocation_poll_s=1.0) as house:
        token = (await house.login("lina", None, "desk"))["access_token"]
        sockets = [await house.socket(node, token, f"desk-{node}") for node in range(2)]
        assert await house.status(1, ME, token) == 200
        if bus == "is down":
            house.network.set_up(False)
        else:
            house.network.fate = lambda channel, payload: 0
        await house.post("gateway.identity.logout", {}, Authorization=f"Bearer {token}")
        async with asyncio.timeout(1.0 + 5):
            codes = await asyncio.gather(*(one.gone() for one in sockets))
            while await house.status(1, ME, token) != 401:
                await asyncio.sleep(0.05)
        assert set(codes) == {4512}
        assert (await house.hello(1, token, None))[1] == 4500
