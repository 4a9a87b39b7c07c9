"""The clean-up and the comparison: what nothing refers to goes, what is young, attached or held stays."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Any

import pytest

from core.failpoints import FailpointError, arm, disarm
from files import api
from files.retention import jobs
from files.retention.reconcile import Report, reconcile
from files.storage.keys import content_key, tail_key
from house.files import lines_of
from tests.files.conftest import World

DAY = timedelta(days=1)
NONE = timedelta()
CSV = "姓名,金额\n张三,128.50\n".encode() * 50


@pytest.fixture(autouse=True)
def harmless() -> Any:
    yield
    disarm()


async def compared(world: World, later: timedelta = NONE, *, mend: bool = True) -> Report:
    """One comparison, so much later."""
    older_s, now = world.runtime.settings.files_orphan_s, world.clock.now() + later
    return await reconcile(world.runtime.db, world.bucket, now, older_s=older_s, mend=mend)


async def retired(world: World, later: timedelta = NONE) -> int:
    """What the job of retention does, so much later; how many files went."""
    settings, now = world.runtime.settings, world.clock.now() + later
    removed = await jobs.remove_files(
        world.runtime.db, now, settings.files_unattached_s, settings.files_quarantine_s
    )
    await jobs.drop_contents(world.runtime.db, now)
    await jobs.sweep(world.runtime.db, world.bucket)
    return removed


async def attached(world: World, file_id: str, who: str = "zhangwei", holder_id: int = 77) -> None:
    await world.do(who, api.Attach(file_ids=[int(file_id)], holder="receipt", holder_id=holder_id))


async def test_what_no_row_knows_goes_when_it_is_old_and_stays_while_it_is_young(world: World) -> None:
    await world.ready("a.csv", CSV)
    kept = await world.objects()
    strange, tail = content_key(world.runtime.ids.next()), tail_key(world.runtime.ids.next(), 1)
    await world.bucket.put(strange, b"nobody's", 8)
    await world.bucket.put(tail, b"nobody's", 8)
    multipart = await world.bucket.begin(content_key(world.runtime.ids.next()))
    report = await compared(world)
    assert (report.objects, report.orphans, report.removed, report.uploads) == (3, 3, 0, 1)
    assert (await compared(world, DAY, mend=False)).removed == 0
    report = await compared(world, DAY)
    assert (report.orphans, report.removed, report.aborted) == (3, 3, 1)
    assert await world.objects() == kept
    assert multipart not in [one.upload async for one in world.bucket.unfinished()]
    assert (await compared(world)).orphans == 0


async def test_an_upload_under_way_is_nobody_s_orphan(world: World) -> None:
    begun = await world.call("files.uploads.begin", {"name": "a.mp4", "size_bytes": 9_000_000, "way": "tus"})
    assert begun.status == 200, begun.body
    head = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(1000)
    patched = await world.ask(
        "PATCH", f"/files/tus/{begun.json['upload_id']}", data=head,
        headers={"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"},
    )  # fmt: skip
    assert patched.status == 204, patched.body
    report = await compared(world, DAY)
    assert (report.objects, report.uploads, report.orphans) == (1, 1, 0)


async def test_a_row_without_its_object_is_counted_and_named(world: World) -> None:
    await world.ready("a.csv", CSV)
    [key] = await world.objects()
    await world.bucket.delete([key])
    report = await compared(world)
    assert report.missing_count == 1
    assert [content_key(one) for one in report.missing] == [key]
    assert (await compared(world)).missing_count == 1  # it is a loss, and is not mended away


async def test_what_nobody_sends_goes_and_what_is_attached_stays(world: World) -> None:
    lonely = await world.ready("a.csv", CSV)
    sent = await world.ready("b.csv", CSV + b"b\n")
    await attached(world, sent)
    assert await retired(world) == 0
    assert await retired(world, DAY) == 1
    listed = (await world.call("files.library.list")).json["files"]
    assert [one["file_id"] for one in listed] == [sent]
    assert (await world.ask("GET", f"/files/{lonely}")).status == 404
    assert (await world.ask("GET", f"/files/{sent}")).body == CSV + b"b\n"
    assert len(await world.objects()) == 1
    usage = (await world.call("files.room.usage")).json
    assert (usage["person_files"], usage["enterprise_files"]) == (1, 1)


async def test_what_is_held_stays_until_the_hold_is_lifted(world: World) -> None:
    file_id = await world.ready("a.csv", CSV)
    hold = await world.do("wangfang", api.PlaceHold(kind="file", object_id=int(file_id), reason="an inquiry"))
    assert await retired(world, 2 * DAY) == 0
    assert len(await world.objects()) == 1
    await world.do("wangfang", api.LiftHold(hold_id=hold.hold_id))
    assert await retired(world, 2 * DAY) == 1
    assert await world.objects() == []


async def test_the_same_content_goes_with_its_last_file(world: World) -> None:
    first, second = await world.ready("a.csv", CSV), await world.ready("b.csv", CSV, who="wangfang")
    assert (await world.call("files.library.remove", {"file_id": first})).status == 200
    await retired(world)
    assert (await world.ask("GET", f"/files/{second}", who="wangfang")).body == CSV
    assert (await world.call("files.library.remove", {"file_id": second}, who="wangfang")).status == 200
    await retired(world)
    assert await world.objects() == []
    assert (await world.call("files.room.usage")).json["enterprise_bytes"] == 0


async def test_the_same_content_that_comes_while_the_old_one_goes_is_there(world: World) -> None:
    for n in range(6):
        data = CSV + b"%d\n" % n
        old = await world.ready("old.csv", data)
        assert (await world.call("files.library.remove", {"file_id": old})).status == 200
        new, *_ = await asyncio.gather(world.ready("new.csv", data), retired(world), retired(world))
        await retired(world)
        assert (await world.ask("GET", f"/files/{new}")).body == data
    assert (await compared(world)).missing_count == 0


async def test_a_file_that_is_attached_while_it_is_removed_is_one_or_the_other(world: World) -> None:
    for n in range(6):
        file_id = await world.ready(f"{n}.csv", CSV + b"%d\n" % n)
        done = await asyncio.gather(
            attached(world, file_id, holder_id=n + 1),
            jobs.remove_files(world.runtime.db, world.clock.now() + DAY, 0.0, 0.0),
            return_exceptions=True,
        )
        there = (await world.ask("GET", f"/files/{file_id}")).status == 200
        assert there is not isinstance(done[0], BaseException), done
        assert done[1] == (0 if there else 1)


async def test_two_who_sweep_at_once_are_as_good_as_one(world: World) -> None:
    for n in range(5):
        file_id = await world.ready(f"{n}.csv", CSV + b"%d\n" % n)
        assert (await world.call("files.library.remove", {"file_id": file_id})).status == 200
    await asyncio.gather(*(retired(world) for _ in range(3)))
    assert await world.objects() == []
    assert (await compared(world)).missing_count == 0


@pytest.mark.parametrize("where", ["files.before_sweep", "files.swept_before_rows"])
async def test_killed_between_two_lines_the_next_one_goes_on(world: World, where: str) -> None:
    file_id = await world.ready("a.csv", CSV)
    arm(where, "error", at=1)
    assert (await world.call("files.library.remove", {"file_id": file_id})).status == 200
    with contextlib.suppress(
        FailpointError
    ):  # of the two that sweep, after the removal and here, one dies there
        await retired(world)
    await retired(world)
    assert await world.objects() == []
    report = await compared(world)
    assert (report.orphans, report.missing_count) == (0, 0)


@pytest.mark.parametrize(
    "key",
    [
        "content/9999999999999999999",  # above 2^63 - 1
        "content/0000000000000000001.x",
        "content/a",
        "content/a/0000000000000000001",
        "content/٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠١",
        "tail/9999999999999999999.1",
        "tail/0000000000000000001",
    ],
)
async def test_an_odd_name_under_our_prefixes_is_a_stranger_and_goes(world: World, key: str) -> None:
    await world.ready("a.csv", CSV)
    kept = await world.objects()
    await world.bucket.put(key, b"nobody's", 8)
    report = await compared(world)
    assert (report.orphans, report.strangers, report.removed, report.missing_count) == (1, 1, 0, 0)
    assert (await compared(world, DAY)).removed == 1
    assert await world.objects() == kept


async def test_what_lies_elsewhere_in_the_bucket_is_counted_and_stays(world: World) -> None:
    for key in ("backup/2026/dump", "contents/0000000000000000001", "loose"):
        await world.bucket.put(key, b"somebody's", 10)
    multipart = await world.bucket.begin("backup/large")
    report = await compared(world, DAY)
    assert (report.foreign, report.orphans, report.removed, report.aborted) == (4, 0, 0, 0)
    assert multipart in [one.upload async for one in world.bucket.unfinished()]
    assert len(await world.objects()) == 3


async def test_a_loss_says_whose_it_is(world: World) -> None:
    first = await world.ready("张三的合同.csv", CSV)
    [key] = await world.objects()
    second = await world.ready("b.csv", CSV, who="wangfang")
    await retired(world)
    await world.bucket.delete([key])
    report = await compared(world)
    [loss] = report.losses
    assert loss.key == key
    assert [file_id for file_id, _ in loss.files] == [int(first), int(second)]
    lines = lines_of(report)
    enterprise_id = (await world.principal("zhangwei")).enterprise_id
    assert lines[-1] == f"  {key}: enterprise {enterprise_id}: file {first} 张***, file {second} b***"
