"""What is done to files before anybody sees them, and what their senders hear of it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
from typing import Any

import orjson
import pytest
from PIL import Image

from core.db import Sql
from files.inspection.values import Document, Unreadable
from files.inspection.workshop import Workshop
from files.library import checking
from files.library.checking import Checker
from hub.client import INBOX, Entry
from tests.files import samples
from tests.files.conftest import World
from tests.files.real_clamd import RealClamd

_EVENTS = Sql("SELECT body FROM core_outbox WHERE event_name = 'files.settled'", None, "tests")
CSV = b"".join(b"%06d,row\n" % n for n in range(300))


async def state_of(world: World, file_id: str) -> dict[str, Any]:
    return dict((await world.call("files.library.get", {"file_ids": [file_id]})).json[0])


async def until(world: World, file_id: str, *states: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while (file := await state_of(world, file_id))["state"] not in states:
            await asyncio.sleep(0.05)
    return file


async def check_again(world: World) -> None:
    """What the job does, a little more than a minute later."""
    world.clock.later_ms += 61_000
    await run_job(world, "files.check")


async def run_job(world: World, name: str) -> None:
    job = next(job for job in world.service.jobs if job.name == name)
    run: Any = type("Run", (), {"db": world.runtime.db, "clock": world.clock})
    await job.handler(run)


async def test_a_picture_tells_nothing_of_its_photographer(world: World) -> None:
    exif = Image.Exif()
    exif[0x010F] = "SECRET-CAMERA"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (31.0, 14.0, 5.0)
    taken = samples.jpeg(exif=exif)
    assert b"SECRET-CAMERA" in taken
    answer = await world.upload("照片.jpg", taken)
    assert answer.status == 201, answer.body
    file = answer.json
    assert (file["state"], file["cleaned"]) == ("ready", True)
    assert (file["facts"]["width"], file["facts"]["height"]) == (64, 48)
    back = await world.ask("GET", f"/files/{file['file_id']}")
    assert b"SECRET-CAMERA" not in back.body
    assert not dict(Image.open(io.BytesIO(back.body)).getexif())
    assert base64.b64decode(file["digest"]) == hashlib.sha256(back.body).digest()
    assert file["size_bytes"] == len(back.body)
    for variant in ("thumbnail", "preview"):
        small = await world.ask("GET", f"/files/{file['file_id']}/{variant}?inline")
        assert small.status == 200
        assert small.headers["Content-Disposition"].startswith("inline")
        assert Image.open(io.BytesIO(small.body)).size == (64, 48)
    async with asyncio.timeout(20):
        while len(await world.objects()) != 3:  # the raw one goes
            await asyncio.sleep(0.05)
    same = await world.upload("又一张.jpg", taken)
    assert same.json["digest"] == file["digest"]
    async with asyncio.timeout(20):
        while len(await world.objects()) != 3:
            await asyncio.sleep(0.05)


async def test_documents_archives_and_sounds_say_what_they_are(world: World) -> None:
    document = (await world.upload("发票.pdf", samples.pdf(2))).json
    assert (document["state"], document["facts"]["pages"]) == ("ready", 2)
    page = await world.ask("GET", f"/files/{document['file_id']}/preview")
    assert Image.open(io.BytesIO(page.body)).width > 100
    inside = {"目录/一.csv": CSV, "二.txt": b"hello" * 9}
    archive = (await world.upload("资料.zip", samples.zipped(inside))).json
    assert archive["state"] == "ready", archive
    assert archive["facts"]["entries"] == 2
    assert "items" not in archive["facts"]
    entries = (await world.call("files.library.entries", {"file_id": archive["file_id"]})).json
    assert {one["name"]: one["size"] for one in entries} == {name: len(data) for name, data in inside.items()}
    asked = await world.call("files.library.entries", {"file_id": archive["file_id"]}, who="wangfang")
    assert asked.status == 404
    sound = (await world.upload("语音.mp3", samples.mp3())).json
    assert (sound["state"], sound["facts"]["duration_ms"] > 0) == ("ready", True)


async def test_who_sent_what_is_kept_back_hears_of_it(world: World) -> None:
    heard: list[Entry] = []
    async with world.connected("zhangwei") as client:
        answer = await world.upload("坏.png", samples.png()[:60])
        assert answer.json["state"] == "quarantined", answer.body
        file_id = answer.json["file_id"]
        async with asyncio.timeout(20):
            async for entry in client.items():
                if isinstance(entry, Entry) and entry.stream == INBOX and entry.kind == "file":
                    heard.append(entry)
                    if entry.body["file_id"] == file_id:
                        break
    assert heard[-1].body == {
        "file_id": file_id,
        "name": "坏.png",
        "state": "quarantined",
        "reason": "unreadable",
    }
    assert (await state_of(world, file_id))["reason"] == "unreadable"
    events = [
        orjson.loads(row[0])
        for row in await world.runtime.db.fetch(_EVENTS)
        if file_id.encode() in row[0].encode()
    ]
    assert [(event["state"], event["reason"]) for event in events] == [("quarantined", "unreadable")]
    assert (await world.ask("GET", f"/files/{file_id}")).status == 404
    assert (await world.call("files.library.links", {"file_ids": [file_id]})).json == []
    assert (await world.call("files.room.usage")).json["person_bytes"] == 0
    assert (await world.call("files.library.remove", {"file_id": file_id})).status == 200
    usage = (await world.call("files.room.usage")).json  # given back once, not again
    assert (usage["person_bytes"], usage["person_files"], usage["enterprise_files"]) == (0, 0, 0)


async def test_a_picture_of_too_many_pixels_is_not_called_broken(world: World) -> None:
    answer = await world.upload("全景.png", samples.png_flood(30_000, 30_000))
    assert (answer.json["state"], answer.json["reason"]) == ("quarantined", "pixels"), answer.body


async def test_what_is_checked_lies_on_disk_without_a_name(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder, seen = samples.pdf(2), world.runtime.settings.var_dir / "spool", []
    look = Workshop.pdf

    async def watched(self: Workshop, file: Any) -> Document | Unreadable:
        here = os.fstat(file)
        seen.append((here.st_nlink, here.st_size, here.st_dev, list(folder.iterdir())))
        return await look(self, file)

    monkeypatch.setattr(Workshop, "pdf", watched)
    await world.ready("发票.pdf", data)
    assert seen == [(0, len(data), folder.stat().st_dev, [])]  # so there is nothing to find after a kill
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_what_the_workshop_does_not_look_into_is_not_copied(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.service._checker, "_spool", None)
    tus = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    begun = await world.call("files.uploads.begin", {"name": "a.csv", "size_bytes": len(CSV)})
    path, half = f"/files/tus/{begun.json['upload_id']}", len(CSV) // 2
    first = await world.ask("PATCH", path, data=CSV[:half], headers=tus | {"Upload-Offset": "0"})
    assert first.status == 204, first.body
    last = await world.ask("PATCH", path, data=CSV[half:], headers=tus | {"Upload-Offset": str(half)})
    assert last.headers["File-State"] == "ready"  # of two requests, so it was read again to be checked


class TestLanes:
    """Large files wait for large ones."""

    @pytest.fixture
    def more_settings(self) -> dict[str, Any]:
        return {"files_wait_s": 0.0}

    async def test_a_small_file_does_not_wait_behind_large_ones(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small, large, done, look = samples.mp3(), samples.pdf(2), asyncio.Event(), Workshop.pdf
        large += b"\n" * max(0, len(small) + 1 - len(large))

        async def slow(self: Workshop, file: Any) -> Document | Unreadable:
            await done.wait()
            return await look(self, file)

        monkeypatch.setattr(Workshop, "pdf", slow)
        monkeypatch.setattr(checking, "_SMALL_BYTES", len(small))
        films = [(await world.upload(f"{n}.pdf", large + b"\n" * n)).json["file_id"] for n in range(4)]
        text = (await world.upload("语音.mp3", small, who="wangfang")).json["file_id"]
        async with asyncio.timeout(20):
            while (await world.call("files.library.get", {"file_ids": [text]}, who="wangfang")).json[0][
                "state"
            ] != "ready":
                await asyncio.sleep(0.05)
        assert {(await state_of(world, film))["state"] for film in films} == {"checking"}
        done.set()
        for film in films:
            assert (await until(world, film, "ready", "quarantined"))["state"] == "ready"


class TestDied:
    """Whoever began to look into a file is gone."""

    @pytest.fixture
    def more_settings(self) -> dict[str, Any]:
        return {"files_wait_s": 0.0}

    async def test_it_is_checked_by_the_job(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as dead:
            dead.setattr(Checker, "soon", lambda *_: None)
            answer = await world.upload("图.png", samples.png())
        assert (answer.status, answer.json["state"]) == (202, "checking")
        file_id = answer.json["file_id"]
        assert (await world.ask("GET", f"/files/{file_id}")).status == 404
        body = {"file_id": file_id, "name": "图.png", "size": answer.json["size_bytes"], "type": "image/png"}
        members = [str(world.people["wangfang"].person_id)]
        room = (await world.call("im.conversations.create_group", {"title": "群", "members": members})).json
        sending = {"conversation_id": room["conversation_id"], "key": "k", "kind": "file", "body": body}
        assert (await world.call("im.messages.send", sending)).status == 409
        await check_again(world)
        file = await until(world, file_id, "ready")
        assert file["variants"] == ["original", "thumbnail", "preview"]


class TestScanner:
    """With a clamd of our own."""

    @pytest.fixture
    def more_settings(self, real: RealClamd) -> dict[str, Any]:
        return {"files_clamd": f"tcp://127.0.0.1:{real.port}", "files_wait_s": 5.0}

    async def test_what_it_knows_is_kept_back(self, world: World, real: RealClamd) -> None:
        clean = await world.upload("净.csv", CSV)
        assert (clean.status, clean.json["state"]) == (201, "ready"), clean.body
        bad = await world.upload("毒.csv", CSV + b"BANKHUB-TEST-MARKER,1\n")
        assert (bad.json["state"], bad.json["reason"]) == ("quarantined", "malware"), bad.body
        assert (await world.ask("GET", f"/files/{bad.json['file_id']}")).status == 404

    async def test_what_came_before_there_was_one_is_not_the_same_and_is_scanned(
        self, world: World, real: RealClamd, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad, clean = CSV + b"BANKHUB-TEST-MARKER,early\n", CSV + b"early\n"
        with monkeypatch.context() as none:
            for one in (world.service, world.service._checker):
                none.setattr(one, "_scanner", None)
            large = await world.ready("大.csv", b"1,2\n" * 1_400_000)  # more than it takes
            old, fine = await world.ready("毒.csv", bad), await world.ready("净.csv", clean)
        again = await world.upload("毒二.csv", bad)
        assert (again.json["state"], again.json["reason"]) == ("quarantined", "malware"), again.body
        assert (await state_of(world, old))["state"] == "ready"
        await world.ready("净二.csv", clean)
        await run_job(world, "files.rescan")
        assert (await state_of(world, fine))["state"] == "ready"
        file = await state_of(world, old)
        assert (file["state"], file["reason"]) == ("quarantined", "malware")
        assert (await world.ask("GET", f"/files/{old}")).status == 404
        assert (await state_of(world, large))["state"] == "ready"  # and stays due
        assert (await world.call("files.room.usage")).json["person_files"] == 3
        again = await world.upload("毒三.csv", bad)
        assert again.json["state"] == "quarantined"

    async def test_new_signatures_find_what_old_ones_let_through(self, world: World, real: RealClamd) -> None:
        data = CSV + b"ONLY-LATER-KNOWN,1\n"
        first = await world.ready("a.csv", data)
        second = await world.ready("b.csv", data, who="wangfang")  # the same content
        kept = await world.ready("c.csv", CSV + b"harmless\n")
        with (real.folder / "base" / "own.ndb").open("a") as base:
            base.write(f"Own.Later:0:*:{b'ONLY-LATER-KNOWN'.hex()}\n")
        real.kill()
        real.start()
        await run_job(world, "files.rescan")
        assert (await state_of(world, first))["state"] == "ready"  # not due yet
        world.clock.later_ms += 8 * 86_400_000
        world.logins.clear()
        await run_job(world, "files.rescan")
        assert (await state_of(world, first))["state"] == "quarantined"
        assert (await world.call("files.library.get", {"file_ids": [second]}, who="wangfang")).json[0][
            "reason"
        ] == "malware"
        assert (await state_of(world, kept))["state"] == "ready"

    async def test_without_it_nothing_is_let_through_until_it_is_back(
        self, world: World, real: RealClamd
    ) -> None:
        real.kill()
        try:
            answer = await world.upload("等.csv", CSV + b"later,1\n")
            assert (answer.status, answer.json["state"]) == (202, "checking"), answer.body
            await check_again(world)
            assert (await state_of(world, answer.json["file_id"]))["state"] == "checking"
        finally:
            real.start()
        async with asyncio.timeout(60):
            while (await state_of(world, answer.json["file_id"]))["state"] != "ready":
                await check_again(world)
                await asyncio.sleep(0.5)
