"""The store has lost an object: reading says so, and the same bytes that come again heal it."""

from __future__ import annotations

from typing import Any

import pytest

from files.retention.jobs import sweep
from tests.files import samples
from tests.files.conftest import World
from tests.files.test_retention import compared

CSV = "姓名,金额\n张三,128.50\n".encode() * 50


@pytest.mark.parametrize("own_key", [False, True])
async def test_a_lost_text_is_said_and_healed_by_the_same(
    world: World, own_key: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = {"own_key": own_key, "quota_bytes": None, "person_quota_bytes": None}
    assert (await world.call("files.room.set_policy", policy)).status == 200
    old = await world.ready("a.csv", CSV)
    [key] = await world.objects()
    await world.bucket.delete([key])
    answer = await world.ask("GET", f"/files/{old}")
    assert (answer.status, answer.json["code"]) == (503, "unavailable"), answer.body
    said = capsys.readouterr().out
    assert "files.lost" in said
    assert key in said
    new = await world.ready("b.csv", CSV, who="wangfang")
    assert (await world.ask("GET", f"/files/{new}", who="wangfang")).body == CSV
    assert (await world.ask("GET", f"/files/{old}")).body == CSV
    await sweep(world.runtime.db, world.bucket)
    assert (await compared(world)).missing_count == 0
    assert len(await world.objects()) == 1


async def test_one_that_was_cut_is_as_good_as_lost(world: World) -> None:
    old = await world.ready("a.csv", CSV)
    [key] = await world.objects()
    await world.bucket.put(key, CSV[:100], 100)
    new = await world.ready("b.csv", CSV)
    for file_id in (old, new):
        assert (await world.ask("GET", f"/files/{file_id}")).body == CSV
    await sweep(world.runtime.db, world.bucket)
    assert key not in await world.objects()


@pytest.mark.parametrize(
    ("name", "made"), [("图.png", lambda: samples.png()), ("发票.pdf", lambda: samples.pdf(2))]
)
async def test_what_is_looked_into_is_healed_with_its_pictures(world: World, name: str, made: Any) -> None:
    data = made()
    old = await world.ready(name, data)
    was = (await world.ask("GET", f"/files/{old}")).body
    await world.bucket.delete(await world.objects())
    new = await world.ready(name, data, who="wangfang")
    for file_id, who in ((old, "zhangwei"), (new, "wangfang")):
        assert (await world.ask("GET", f"/files/{file_id}", who=who)).body == was
        assert (await world.ask("GET", f"/files/{file_id}/preview", who=who)).status == 200
    await sweep(world.runtime.db, world.bucket)
    assert (await compared(world)).missing_count == 0
