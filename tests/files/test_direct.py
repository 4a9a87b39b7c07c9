"""Parts that a client puts into the store by itself, by addresses that allow nothing else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import pytest

from core.s3 import S3
from files.uploads import rules
from tests.files.conftest import Answer, World

MIB = 1 << 20
DATA = b"".join(b"%09d,%s\n" % (line, b"d" * 80) for line in range(6 * MIB // 91))


@pytest.fixture
def more_settings(object_store: S3) -> dict[str, Any]:
    return {"files_direct_url": object_store.endpoint, "files_link_s": 2.0}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PART_BYTES", 5 * MIB)


async def begin(
    world: World, data: bytes = DATA, sha256: bytes | None = None, name: str = "直传.csv"
) -> Answer:
    digest = base64.b64encode(sha256 or hashlib.sha256(data).digest()).decode()
    fields = {"name": name, "size_bytes": len(data), "way": "direct", "sha256": digest}
    return await world.call("files.uploads.begin", fields)


async def put(world: World, upload: dict[str, Any], data: bytes, *numbers: int) -> list[int]:
    """Statuses of the store for these parts."""
    asked = {"upload_id": upload["upload_id"], "numbers": list(numbers)}
    places = (await world.call("files.uploads.sign_parts", asked)).json
    statuses = []
    for place in places:
        start = (place["number"] - 1) * upload["part_bytes"]
        part = data[start : start + place["size_bytes"]]
        async with world.session.put(place["url"], data=part) as answer:
            statuses.append(answer.status)
    return statuses


async def finish(world: World, upload: dict[str, Any], who: str = "zhangwei") -> Answer:
    return await world.call("files.uploads.finish", {"upload_id": upload["upload_id"]}, who=who)


async def settled(world: World, file_id: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            file = (await world.call("files.library.get", {"file_ids": [file_id]})).json[0]
            if file["state"] != "checking":
                return dict(file)
            await asyncio.sleep(0.05)


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_parts_become_the_file_once_they_are_all_there(world: World) -> None:
    upload = (await begin(world)).json
    assert (upload["way"], upload["part_bytes"]) == ("direct", 5 * MIB)
    missing = await finish(world, upload)
    assert (missing.status, missing.json["errors"]["parts"]) == (409, 2), missing.body
    assert await put(world, upload, DATA, 2) == [200]
    assert (await finish(world, upload)).json["errors"]["stored"] == [2]
    assert await put(world, upload, DATA, 1) == [200]
    assert (await finish(world, upload, who="wangfang")).status == 404
    answer = await finish(world, upload)
    assert answer.status == 200, answer.body
    again = await finish(world, upload)
    assert again.json["file_id"] == answer.json["file_id"]
    file = await settled(world, answer.json["file_id"])
    assert (file["state"], base64.b64decode(file["digest"])) == ("ready", hashlib.sha256(DATA).digest())
    assert (await world.ask("GET", f"/files/{file['file_id']}")).body == DATA
    assert (await world.call("files.room.usage")).json["person_files"] == 1
    over = await world.call("files.uploads.sign_parts", {"upload_id": upload["upload_id"], "numbers": [1]})
    assert over.status == 409


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_an_address_takes_one_part_of_one_length_for_a_while(world: World) -> None:
    upload = (await begin(world)).json
    asked = {"upload_id": upload["upload_id"], "numbers": [2]}
    place = (await world.call("files.uploads.sign_parts", asked)).json[0]
    size = place["size_bytes"]
    for wrong in (size - 1, size + 1):
        async with world.session.put(place["url"], data=bytes(wrong)) as answer:
            assert answer.status == 403
    async with world.session.put(
        place["url"].replace("partNumber=2", "partNumber=1"), data=bytes(size)
    ) as answer:
        assert answer.status == 403
    async with world.session.get(place["url"]) as answer:
        assert answer.status in (403, 404, 405)
    async with asyncio.timeout(20):  # it lives for two seconds of the store's clock
        while True:
            async with world.session.put(place["url"], data=bytes(size)) as answer:
                if answer.status == 403:
                    break
            await asyncio.sleep(0.2)
    for numbers in ([0], [3], [10_001], []):
        bad = {"upload_id": upload["upload_id"], "numbers": numbers}
        assert (await world.call("files.uploads.sign_parts", bad)).status == 422, numbers
    assert (await world.call("files.uploads.sign_parts", asked, who="wangfang")).status == 404
    assert (await world.call("files.uploads.abort", {"upload_id": upload["upload_id"]})).status == 200
    assert (await world.call("files.room.usage")).json["person_bytes"] == 0


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_other_bytes_than_were_announced_are_kept_from_everybody(world: World) -> None:
    upload = (await begin(world, sha256=bytes(32))).json
    assert await put(world, upload, DATA, 1, 2) == [200, 200]
    file = await settled(world, (await finish(world, upload)).json["file_id"])
    assert (file["state"], file["reason"]) == ("quarantined", "digest_mismatch")
    assert (await world.ask("GET", f"/files/{file['file_id']}")).status == 404
    assert (await world.call("files.library.links", {"file_ids": [file["file_id"]]})).json == []
    assert (await world.call("files.room.usage")).json["person_bytes"] == 0


async def test_what_may_not_be_put_directly(world: World) -> None:
    no_digest = {"name": "a.csv", "size_bytes": 5, "way": "direct"}
    assert (await world.call("files.uploads.begin", no_digest)).status == 422
    assert (await begin(world, name="a.exe")).status == 422
    own = {"own_key": True, "quota_bytes": None, "person_quota_bytes": None}
    assert (await world.call("files.room.set_policy", own)).status == 200
    assert (await begin(world)).status == 403
    assert [one async for one in world.bucket.unfinished()] == []


class TestFromInsideOnly:
    """Where clients do not reach the store."""

    @pytest.fixture
    def more_settings(self) -> dict[str, Any]:
        return {}

    async def test_there_are_no_addresses_of_it(self, world: World) -> None:
        assert (await begin(world)).status == 403
