"""Holds, references and room, by the actions that everybody uses: nothing held goes, room comes back once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from files import api
from files.retention.jobs import drop_contents, remove_files, sweep
from tests.files.conftest import World
from tests.files.test_access import group, may_read, sent, uploaded

CSV = b"".join(b"%06d,row\n" % n for n in range(300))


async def cleaned_up(world: World) -> None:
    """What the clean-up does, two days later."""
    db, now = world.runtime.db, world.clock.now() + timedelta(days=2)
    await remove_files(db, now, 3600, 3600)
    await drop_contents(db, now)
    await sweep(db, world.bucket)


async def used(world: World, who: str = "zhangwei") -> tuple[int, int]:
    usage = (await world.call("files.room.usage", who=who)).json
    assert usage["enterprise_files"] >= usage["person_files"]
    return usage["person_bytes"], usage["person_files"]


async def there(world: World, file_id: str) -> bool:
    return bool((await world.call("files.library.get", {"file_ids": [file_id]})).json)


async def hold(world: World, kind: str, object_id: str = "0") -> str:
    answer = await world.call("files.holds.place", {"kind": kind, "object_id": object_id, "reason": "调查"})
    assert answer.status == 200, answer.body
    return str(answer.json["hold_id"])


async def lift(world: World, hold_id: str) -> int:
    return (await world.call("files.holds.lift", {"hold_id": hold_id})).status


async def test_what_nothing_refers_to_goes_and_its_room_comes_back_once(world: World) -> None:
    kept, gone = await uploaded(world, "留.csv", CSV), await uploaded(world, "走.csv", CSV + b"x,y\n")
    room = await group(world, "wangfang")
    seq = (await sent(world, room, kept, who="zhangwei", key="k")).json["seq"]
    assert (await world.call("files.library.remove", {"file_id": kept["file_id"]})).status == 409
    await asyncio.gather(cleaned_up(world), cleaned_up(world))
    assert (await there(world, kept["file_id"]), await there(world, gone["file_id"])) == (True, False)
    assert await used(world) == (len(CSV), 1)
    assert len(await world.objects()) == 1
    assert (await world.call("files.library.remove", {"file_id": gone["file_id"]})).status == 404
    recall = {"conversation_id": room, "seq": seq, "key": f"r-{room}"}
    assert (await world.call("im.messages.recall", recall)).status == 200
    removing = [world.call("files.library.remove", {"file_id": kept["file_id"]}) for _ in range(3)]
    cleaning = asyncio.create_task(cleaned_up(world))
    assert [answer.status for answer in await asyncio.gather(*removing)].count(200) <= 1
    await cleaning
    assert await used(world) == (0, 0)
    await cleaned_up(world)
    assert await world.objects() == []


@pytest.mark.parametrize("kind", ["enterprise", "person", "file"])
async def test_a_hold_keeps_files_whatever_is_deleted(world: World, kind: str) -> None:
    file = await uploaded(world, "证据.csv", CSV)
    objects = {
        "enterprise": "0", "person": str(world.people["zhangwei"].person_id), "file": file["file_id"],
    }  # fmt: skip
    hold_id = await hold(world, kind, objects[kind])
    other = await uploaded(world, "别的.csv", CSV + b"other,1\n", who="wangfang")
    assert (await world.call("files.library.remove", {"file_id": file["file_id"]})).status == 409
    await cleaned_up(world)
    assert await there(world, file["file_id"])
    back = await world.call("files.library.get", {"file_ids": [other["file_id"]]}, who="wangfang")
    assert bool(back.json) == (kind == "enterprise")
    assert hold_id in [h["hold_id"] for h in (await world.call("files.holds.list")).json]
    assert await lift(world, hold_id) == 200
    assert await lift(world, hold_id) == 404
    await cleaned_up(world)
    assert not await there(world, file["file_id"])
    assert await used(world) == (0, 0)


async def test_what_was_recalled_under_a_hold_is_out_of_sight_but_kept(world: World) -> None:
    file = await uploaded(world, "合同.csv", CSV)
    room = await group(world, "wangfang")
    hold_id, all_of_it = await hold(world, "stream", room), await hold(world, "enterprise")
    seq = (await sent(world, room, file, who="zhangwei", key="k")).json["seq"]
    assert await may_read(world, "wangfang", file["file_id"])
    recall = {"conversation_id": room, "seq": seq, "key": f"r-{room}"}
    assert (await world.call("im.messages.recall", recall)).status == 200
    assert not await may_read(world, "wangfang", file["file_id"])
    assert (await world.call("files.library.remove", {"file_id": file["file_id"]})).status == 409
    assert await lift(world, all_of_it) == 200
    await cleaned_up(world)
    assert await there(world, file["file_id"])  # the conversation is held still
    assert len(await world.objects()) == 1
    assert await lift(world, hold_id) == 200
    await cleaned_up(world)
    assert not await there(world, file["file_id"])
    assert await used(world) == (0, 0)
    assert await world.objects() == []


async def test_other_services_refer_to_files_and_let_go(world: World) -> None:
    files = [await uploaded(world, f"{n}.csv", CSV + b"%d,\n" % n) for n in range(2)]
    ids = [int(file["file_id"]) for file in files]
    for given in (ids[:1], ids, [*ids, *ids]):  # whoever is not sure that it was done does it again
        await world.do("zhangwei", api.Attach(file_ids=given, holder="approval", holder_id=7))
    with pytest.raises(Exception, match="no such file"):
        await world.do("wangfang", api.Attach(file_ids=ids, holder="approval", holder_id=8))
    await cleaned_up(world)
    assert await used(world) == (sum(file["size_bytes"] for file in files), 2)
    await world.do("zhangwei", api.Release(file_ids=[ids[0]], holder="approval", holder_id=7))
    await cleaned_up(world)
    assert [await there(world, str(i)) for i in ids] == [False, True]
    await world.do("zhangwei", api.Release(file_ids=None, holder="approval", holder_id=7))
    await cleaned_up(world)
    assert await used(world) == (0, 0)


@pytest.mark.parametrize(
    "given", [{"kind": "enterprise", "object_id": "5"}, {"kind": "file"}, {"kind": "file", "object_id": "0"}]
)
async def test_a_hold_is_of_something(world: World, given: dict[str, Any]) -> None:
    assert (await world.call("files.holds.place", given | {"reason": "x"})).status == 422
    allowed = {"kind": "enterprise", "reason": "x"}
    assert (await world.call("files.holds.place", allowed, who="chenjing")).status == 403
    assert (await world.call("files.holds.list", who="chenjing")).status == 403
