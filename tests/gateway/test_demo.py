"""The demonstration: made once, repaired where its note is lost."""

from __future__ import annotations

import stat

from gateway import demo
from tests.gateway.conftest import World


async def test_the_demonstration_is_seeded_once(world: World) -> None:
    again = await demo.seed(world.runtime)
    assert {p.login: p for p in reversed(again)} == world.people
    assert len(again) == 16
    path = world.runtime.settings.var_dir / "demo.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    changed = await demo.seed(world.runtime)
    assert {p.person_id for p in changed} == {p.person_id for p in again}
    assert changed[0].password != again[0].password
    answer = await world.client.login("zhangwei", changed[0].password)
    assert answer.status == 200
