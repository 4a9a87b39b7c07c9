"""Requests are limited per address, person, device and action, together on two nodes that share one Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from core.limits import SHARE
from core.limits_store import RedisBuckets
from gateway.identity.rules import credit_code_check_digit
from tests.gateway.cluster import House, opened

pytestmark = pytest.mark.requirement("W05")

NEVER = 0.001  # a second: nothing comes back while a test runs
AGREEMENT, MINE, FIND = "gateway.registration.agreement", "gateway.access.mine", "gateway.enterprises.find"
CODE = "91410105MA0QH0009" + credit_code_check_digit("91410105MA0QH0009")
MUCH = {"gateway_rate_burst": 100_000, "rate_person_burst": 100_000, "rate_device_burst": 100_000}


@asynccontextmanager
async def _house(database: str, redis_url: str, var: Path, **settings: Any) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(opened(database, var, nodes=2, **(MUCH | settings)))
        for node in house.nodes:
            store = RedisBuckets(redis_url, f"of {database}".encode())
            stack.push_async_callback(store.close)
            node.runtime.limits.share(store)
        yield house


async def _try(
    house: House, times: int, action: str, fields: Any = None, *tokens: str
) -> tuple[int, list[dict[str, str]]]:
    """How many were let through, in turn on both nodes and with each of the tokens; the headers of the refusals."""
    done, refused = 0, []
    for number in range(times):
        given = {"Authorization": f"Bearer {tokens[number // 2 % len(tokens)]}"} if tokens else {}
        url = f"{house.nodes[number % 2].http}/v1/{action}"
        async with house.http.post(url, json=fields or {}, headers=given) as answer:
            if answer.status == 429:
                refused.append({name.lower(): value for name, value in answer.headers.items()})
            else:
                assert answer.status in (200, 404), await answer.text()
                done += 1
    return done, refused


def _told(refused: list[dict[str, str]], name: str) -> None:
    """Every refusal says when to come back, and which limit it was."""
    for headers in refused:
        assert int(headers["retry-after"]) >= 1
        assert headers["ratelimit"].startswith(f'"{name}";r=0;')
        assert headers["ratelimit-policy"].startswith(f'"{name}";q=')


def _once(done: int, burst: int) -> bool:
    """Whether both processes together let through what one limit allows, and at most their shares more."""
    return burst <= done <= burst + 2 * int(burst * SHARE)


async def test_an_address_has_one_limit_on_both_nodes(database: str, redis_url: str, tmp_path: Path) -> None:
    async with _house(
        database, redis_url, tmp_path, gateway_rate_burst=40, gateway_rate_per_s=NEVER
    ) as house:
        done, refused = await _try(house, 60, AGREEMENT)
        assert _once(done, 40)
        _told(refused, "address")


@pytest.mark.parametrize("of", ["person", "device"])
async def test_a_person_and_a_device_have_one_limit_on_both_nodes(
    database: str, redis_url: str, tmp_path: Path, of: str
) -> None:
    few = {f"rate_{of}_burst": 20, f"rate_{of}_per_s": NEVER}
    async with _house(database, redis_url, tmp_path, **few) as house:
        one = (await house.login("zhangwei", None, "one"))["access_token"]
        two = (await house.login("zhangwei", None, "two"))["access_token"]
        if of == "device":
            done, refused = await _try(house, 40, MINE, None, one)
            assert _once(done, 20)
            assert (await _try(house, 10, MINE, None, two))[0] == 10, (
                "another device of the same person is not concerned"
            )
        else:
            done, refused = await _try(house, 40, MINE, None, one, two)
            assert _once(done, 20), "over all devices"
        assert refused
        _told(refused, of)
        other = (await house.login("chenjing", None, "one"))["access_token"]
        assert (await _try(house, 10, MINE, None, other))[0] == 10, "others are not concerned"


@pytest.mark.parametrize("scale", [1.0, 2.0])
async def test_an_action_has_one_limit_on_both_nodes_and_follows_the_scale(
    database: str, redis_url: str, tmp_path: Path, scale: float
) -> None:
    async with _house(database, redis_url, tmp_path, rate_actions_scale=scale) as house:
        token = (await house.login("wangfang" if scale == 1 else "liuyang", None, "one"))["access_token"]
        loop, began_s = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        done, refused = await _try(house, 30, FIND, {"credit_code": CODE}, token)
        refilled = 1 + (loop.time() - began_s) * 0.1 * scale
        burst = 10 * scale  # as it is declared beside the action
        assert burst <= done <= burst + 2 * int(burst * SHARE) + refilled
        _told(refused, FIND)
