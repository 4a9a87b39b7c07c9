"""The demonstration's phones: what was sent to them."""

from __future__ import annotations

import re

import orjson

from gateway.identity.rules import masked_phone
from gateway.sms.outbox import FILE
from tests.gateway.conftest import World


async def messages(world: World, phone: str) -> list[str]:
    """The texts sent to `phone` so far (by its masked number: use numbers whose ends differ)."""
    await world.gateway.parts.sms.settled()
    path = world.runtime.settings.var_dir / FILE
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    return [line["text"] for line in lines if line["phone"] == masked_phone(phone)]


async def newest_code(world: World, phone: str) -> str:
    """The code in the newest text to `phone`."""
    found = re.search(r"(?<!\d)\d{6}(?!\d)", (await messages(world, phone))[-1])
    assert found is not None
    return found[0]


async def code_for(world: World, phone: str, purpose: str = "login") -> str:
    """Ask for a code, a minute after the last one, and read it off the phone."""
    world.clock.advance(60_000)
    sent = await world.client.call("gateway.codes.send", {"phone": phone, "purpose": purpose})
    assert sent.status == 200, sent.body
    return await newest_code(world, phone)


def wrong(code: str) -> str:
    """Another code."""
    return f"{(int(code) + 1) % 1_000_000:06d}"
