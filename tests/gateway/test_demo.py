"""The demonstration: made once, repaired where its note is lost."""

from __future__ import annotations

import stat

from gateway import demo
from gateway.oauth.apps import store as apps
from gateway.oauth.demo import seed_app
from tests.gateway.conftest import World


async def test_the_demonstration_is_seeded_once(world: World) -> None:
    again = await demo.seed(world.runtime)
    assert {p.login: p for p in reversed(again)} == world.people
    assert len(again) == 17
    path = world.runtime.settings.var_dir / "demo.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    changed = await demo.seed(world.runtime)
    assert {p.person_id for p in changed} == {p.person_id for p in again}
    assert changed[0].password != again[0].password
    answer = await world.client.login("zhangwei", changed[0].password)
    assert answer.status == 200


async def test_the_demonstration_has_an_app_that_is_installed(world: World) -> None:
    people = list(world.people.values())
    client_id = await seed_app(world.runtime, people)
    assert await seed_app(world.runtime, people) == client_id
    for enterprise_id in {person.enterprise_id for person in people if "boss" in person.roles}:
        found = await apps.installation(
            world.runtime.db, enterprise_id, int(client_id), world.runtime.clock.now()
        )
        assert found is not None
