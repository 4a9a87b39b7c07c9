"""tus 1.0 spoken by hand: every verb, every refusal, and what is left after connections that break anywhere."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from core.crypto.sm3 import sm3
from core.errors import Unavailable
from files import api
from files.retention.jobs import end_uploads
from files.storage.bucket import Bucket
from files.uploads import rules
from tests.files import samples
from tests.files.conftest import Answer, World

MIB = 1 << 20
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}


def text(size: int, seed: int = 1) -> bytes:
    """A CSV of this length that is different everywhere."""
    out, dice, line = bytearray(), random.Random(seed), 0
    while len(out) < size:
        out += b"%09d,%016x%s\n" % (line, dice.getrandbits(64), b"-" * 80)
        line += 1
    return bytes(out[:size])


def metadata(name: str = "流水.csv", **more: str) -> str:
    given = {"filename": name, **more}
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in given.items())


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least that S3 takes."""
    monkeypatch.setattr(rules, "PART_BYTES", 5 * MIB)


async def create(world: World, size: int, who: str = "zhangwei", name: str = "流水.csv", **more: str) -> str:
    """The path of a new upload."""
    answer = await world.ask(
        "POST", "/files/tus", who=who,
        headers={**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata(name, **more)},
    )  # fmt: skip
    assert answer.status == 201, answer.body
    assert answer.headers["Upload-Offset"] == "0"
    location = str(answer.headers["Location"])
    assert location.startswith(world.url + "/files/tus/")
    return location.removeprefix(world.url)


async def patch(world: World, path: str, offset: int, data: Any, **given: Any) -> Answer:
    headers = {**BYTES, "Upload-Offset": str(offset), **given.pop("headers", {})}
    return await world.ask("PATCH", path, data=data, headers=headers, **given)


async def offset_of(world: World, path: str, **given: Any) -> int:
    answer = await world.ask("HEAD", path, headers=TUS, **given)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    return int(answer.headers["Upload-Offset"])


async def is_there(world: World, file_id: str, data: bytes, who: str = "zhangwei") -> None:
    """The file is ready and is these bytes."""
    async with asyncio.timeout(30):
        while (file := (await world.call("files.library.get", {"file_ids": [file_id]}, who=who)).json[0])[
            "state"
        ] == "checking":
            await asyncio.sleep(0.05)
    assert file["state"] == "ready", file
    back = await world.ask("GET", f"/files/{file_id}", who=who)
    assert hashlib.sha256(back.body).digest() == hashlib.sha256(data).digest()
    assert base64.b64decode(file["digest"]) == hashlib.sha256(data).digest()


async def broken(world: World, path: str, offset: int, data: bytes, announced: int) -> None:
    """Send this much of what was announced, then the connection is gone."""
    _, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {announced}\r\nTus-Resumable: 1.0.0\r\n"
        f"Content-Type: application/offset+octet-stream\r\nUpload-Offset: {offset}\r\n"
        f"Authorization: Bearer {await world.token('zhangwei')}\r\n\r\n"
    )
    with suppress(ConnectionError):
        writer.write(head.encode() + data)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


# --- what is said -----------------------------------------------------------------------------------------------------


async def test_abilities_need_no_login_and_no_version(world: World) -> None:
    for path in ("/files/tus", "/files/tus/5"):
        answer = await world.ask("OPTIONS", path, who=None)
        assert answer.status == 204
        assert answer.headers["Tus-Version"] == "1.0.0"
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        extensions = answer.headers["Tus-Extension"].split(",")
        assert extensions == ["creation", "creation-with-upload", "termination", "expiration"]
        assert int(answer.headers["Tus-Max-Size"]) == world.runtime.settings.files_max_bytes


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {}, 412),
        ("POST", {"Tus-Resumable": "0.2.2"}, 412),
        ("HEAD", {"Tus-Resumable": "2.0.0"}, 412),
        ("GET", TUS, 405),
        ("PUT", TUS, 405),
        ("POST", TUS, 400),
        ("POST", {**TUS, "Upload-Length": "-1"}, 400),
        ("POST", {**TUS, "Upload-Length": "1e3"}, 400),
        ("POST", {**TUS, "Upload-Length": "٣"}, 400),
        ("POST", {**TUS, "Upload-Defer-Length": "1"}, 400),
        ("POST", {**TUS, "Upload-Length": "5", "Upload-Concat": "partial"}, 400),
        ("POST", {**TUS, "Upload-Length": "5", "Upload-Checksum": "sha1 AAAA"}, 400),
        ("POST", {**TUS, "Upload-Length": "5", "Content-Encoding": "gzip"}, 415),
        ("POST", {**TUS, "Upload-Length": "99999999999999"}, 413),
        ("POST", {**TUS, "Upload-Length": "5", "Upload-Metadata": "filename ***"}, 400),
        ("POST", {**TUS, "Upload-Length": "5", "Upload-Metadata": "filename /w=="}, 400),
        ("POST", {**TUS, "Upload-Length": "5", "Upload-Metadata": "x " + "A" * 5000}, 400),
        ("POST", {**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(sha256="zz")}, 400),
        ("POST", {**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(sha256="00")}, 400),
        ("POST", {**TUS, "Upload-Length": "5"}, 422),  # without a name
        ("POST", {**TUS, "Upload-Length": "5", "Upload-Metadata": metadata("a.exe")}, 422),
        ("POST", {**TUS, "Upload-Length": "5", "Upload-Metadata": metadata("a" * 1100 + ".csv")}, 422),
        ("POST", {**TUS, "Upload-Length": "0", "Upload-Metadata": metadata()}, 422),
    ],
)  # fmt: skip
async def test_what_is_no_creation_makes_nothing(
    world: World, method: str, headers: dict[str, str], status: int
) -> None:
    answer = await world.ask(method, "/files/tus", headers=headers)
    assert answer.status == status, answer.body
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    if status == 412:
        assert answer.headers["Tus-Version"] == "1.0.0"
    assert [one async for one in world.bucket.unfinished()] == []
    assert (await world.call("files.room.usage")).json["person_files"] == 0


async def test_nobody_uploads_without_a_login(world: World) -> None:
    answer = await world.ask("POST", "/files/tus", who=None, headers={**TUS, "Upload-Length": "5"})
    assert answer.status == 401
    assert answer.headers["Tus-Resumable"] == "1.0.0"


@pytest.mark.parametrize(
    "given",
    [
        "filename {name},filetype dGV4dC9jc3Y=",
        "filename {name}, filetype dGV4dC9jc3Y=,relativePath bnVsbA==, is_confidential",
        "name {name},type dGV4dC9jc3Y7IGNoYXJzZXQ9VVRGLTg=",  # text/csv; charset=UTF-8, as Uppy and browsers say it
        "filename {name},filetype SW1hZ2UvUE5HIQ==",  # no media type at all: as if nothing had been said
        "filename {name},filetype ",
    ],
)
async def test_metadata_is_taken_as_clients_write_it(world: World, given: str) -> None:
    name = base64.b64encode("对账 单.csv".encode()).decode()
    answer = await world.ask(
        "POST", "/files/tus",
        headers={**TUS, "Upload-Length": "5", "Upload-Metadata": given.format(name=name)},
    )  # fmt: skip
    assert answer.status == 201, answer.body
    path = str(answer.headers["Location"]).removeprefix(world.url)
    head = await world.ask("HEAD", path, headers=TUS)
    assert head.headers["Upload-Metadata"] == f"filename {name}"
    assert head.headers["Upload-Length"] == "5"


# --- the way through --------------------------------------------------------------------------------------------------


async def test_pieces_become_the_file(world: World) -> None:
    data = text(11 * MIB + 17)
    path = await create(world, len(data), sha256=hashlib.sha256(data).hexdigest(), sm3=sm3(data).hex())
    at = 0
    for step in (1, 4095, 3 * MIB, 7 * MIB, 64 << 10):
        answer = await patch(world, path, at, data[at : at + step])
        assert answer.status == 204, answer.body
        at += step
        assert int(answer.headers["Upload-Offset"]) == at == await offset_of(world, path)
        left_s = (
            parsedate_to_datetime(answer.headers["Upload-Expires"]).timestamp() - world.clock.now_ms() / 1000
        )
        assert 0 < left_s <= world.runtime.settings.files_upload_life_s + 1
    answer = await patch(world, path, at, data[at:])
    assert answer.status == 204, answer.body
    await is_there(world, answer.headers["File-Id"], data)
    again = await patch(world, path, len(data), b"")
    assert (again.status, again.headers["File-Id"]) == (204, answer.headers["File-Id"])
    head = await world.ask("HEAD", path, headers=TUS)
    assert head.headers["File-Id"] == answer.headers["File-Id"]
    assert head.headers["File-State"] == "ready"
    assert (await world.call("files.room.usage")).json["person_files"] == 1
    assert [key for key in await world.objects() if key.startswith("tail/")] == []
    assert [one async for one in world.bucket.unfinished()] == []


async def test_creation_with_upload_takes_all_or_the_beginning(world: World) -> None:
    data = text(100_000)
    headers = {**BYTES, "Upload-Length": str(len(data)), "Upload-Metadata": metadata()}
    answer = await world.ask("POST", "/files/tus", headers=headers, data=data)
    assert (answer.status, answer.headers["Upload-Offset"]) == (201, str(len(data))), answer.body
    await is_there(world, answer.headers["File-Id"], data)
    answer = await world.ask("POST", "/files/tus", headers=headers, data=data[:100])
    assert (answer.status, answer.headers["Upload-Offset"]) == (201, "100"), answer.body
    path = str(answer.headers["Location"]).removeprefix(world.url)
    answer = await patch(world, path, 100, data[100:])
    await is_there(world, answer.headers["File-Id"], data)


async def test_a_method_may_be_said_in_a_header(world: World) -> None:
    data = text(1000)
    path = await create(world, len(data))
    said = {"X-HTTP-Method-Override": "PATCH", **BYTES, "Upload-Offset": "0"}
    answer = await world.ask("POST", path, headers=said, data=data[:10])
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "10")
    said = {"X-HTTP-Method-Override": "DELETE", **TUS}
    assert (await world.ask("POST", path, headers=said)).status == 204
    assert (await world.ask("HEAD", path, headers=TUS)).status == 410


async def test_an_upload_of_unknown_length_in_a_request_goes_on_as_well(world: World) -> None:
    data = text(6 * MIB)
    path = await create(world, len(data))

    async def chunks(of: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(of), 100_000):
            yield of[at : at + 100_000]

    answer = await patch(world, path, 0, chunks(data))
    assert answer.status == 204, answer.body
    await is_there(world, answer.headers["File-Id"], data)
    path = await create(world, 1000)
    answer = await patch(world, path, 0, chunks(data[:300_000]))
    assert answer.status == 413


# --- refusals ---------------------------------------------------------------------------------------------------------


async def test_wrong_offsets_types_and_lengths_change_nothing(world: World) -> None:
    data = text(1000)
    path = await create(world, len(data))
    assert (await patch(world, path, 0, data[:100])).status == 204
    for offset in (0, 99, 101, 1000, 5000):
        answer = await patch(world, path, offset, data[100:])
        assert answer.status == 409, (offset, answer.body)
        assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert (await patch(world, path, 100, data)).status == 413
    for kind in ("application/octet-stream", "text/csv"):
        assert (await patch(world, path, 100, data[100:], headers={"Content-Type": kind})).status == 415
    for said in ("", "-1", "x", "1.0"):
        assert (await patch(world, path, 0, data[100:], headers={"Upload-Offset": said})).status == 400
    assert (await world.ask("PATCH", path, headers=BYTES, data=b"x")).status == 400
    assert await offset_of(world, path) == 100
    answer = await patch(world, path, 100, data[100:])
    await is_there(world, answer.headers["File-Id"], data)
    assert (await patch(world, path, 100, data[100:])).status == 409


async def test_what_was_given_up_is_gone_with_its_bytes_and_room(world: World) -> None:
    data = text(6 * MIB)
    path = await create(world, len(data))
    assert (await patch(world, path, 0, data[: 5 * MIB + 5])).status == 204
    assert (await world.call("files.room.usage")).json["person_bytes"] == len(data)
    assert (await world.ask("DELETE", path, headers=TUS)).status == 204
    assert (await world.ask("HEAD", path, headers=TUS)).status == 410
    assert (await patch(world, path, 5 * MIB + 5, b"x")).status == 410
    assert (await world.ask("DELETE", path, headers=TUS)).status == 410
    assert (await world.call("files.room.usage")).json["person_bytes"] == 0
    async with asyncio.timeout(20):
        while [*(await world.objects()), *[one.key async for one in world.bucket.unfinished()]]:
            await asyncio.sleep(0.05)
    for unknown in ("77", "abc", "0", "9" * 19, "9" * 30, "5/x"):
        assert (await world.ask("HEAD", f"/files/tus/{unknown}", headers=TUS)).status == 404


async def test_another_persons_upload_is_not_there(world: World) -> None:
    path = await create(world, 1000)
    for who in ("wangfang", "zhoutao"):  # of the same enterprise and of another
        assert (await world.ask("HEAD", path, who=who, headers=TUS)).status == 404
        assert (await patch(world, path, 0, b"x" * 1000, who=who)).status in (403, 404)
        assert (await world.ask("DELETE", path, who=who, headers=TUS)).status == 404
    assert await offset_of(world, path) == 0


@pytest.mark.parametrize(
    ("name", "data", "more", "code"),
    [
        ("a.csv", text(1000), {"sha256": "00" * 32}, "digest_mismatch"),
        ("a.csv", text(1000), {"sm3": "00" * 32}, "digest_mismatch"),
        ("a.pdf", text(1000), {}, "mismatch"),
        ("a.csv", text(1000), {"filetype": "text/html"}, "declared"),
        ("a.csv", samples.exe(), {}, "executable"),
    ],
)
async def test_what_is_not_what_it_says_is_given_up(
    world: World, name: str, data: bytes, more: dict[str, str], code: str
) -> None:
    path = await create(world, len(data), name=name, **more)
    answer = await patch(world, path, 0, data)
    assert answer.status == 422, answer.body
    assert answer.json["errors"]["code"] == code
    assert (await world.ask("HEAD", path, headers=TUS)).status == 410
    assert (await world.call("files.room.usage")).json["person_bytes"] == 0
    # in two requests nobody sees all of it on the way: the checker does, and says the same
    path = await create(world, len(data), name=name, **more)
    await patch(world, path, 0, data[:100])
    answer = await patch(world, path, 100, data[100:])
    assert answer.status == 204, answer.body
    file = (await world.call("files.library.get", {"file_ids": [answer.headers["File-Id"]]})).json[0]
    assert (file["state"], file["reason"]) == ("quarantined", code)
    assert (await world.call("files.room.usage")).json["person_bytes"] == 0


# --- broken connections, writers that meet ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
async def test_broken_off_anywhere_it_goes_on_where_it_says(world: World, seed: int) -> None:
    dice = random.Random(seed)
    data = text(dice.choice((5 * MIB, 10 * MIB, 12 * MIB + 7, 400_000)), seed)
    path = await create(world, len(data))
    most = 0
    for _ in range(8):
        at = await offset_of(world, path)  # whoever writes before us is still storing what came, or not
        assert at <= most
        step = min(
            dice.choice((0, 1, 70_000, 5 * MIB - at % (5 * MIB), dice.randrange(3 * MIB))), len(data) - at - 1
        )
        most = max(most, at + step)
        await broken(world, path, at, data[at : at + step], len(data) - at)
    async with asyncio.timeout(30):
        while True:
            at = await offset_of(world, path)
            answer = await patch(world, path, at, data[at:])
            if answer.status != 409:  # the one before us was still at it
                break
    assert answer.status == 204, answer.body
    await is_there(world, answer.headers["File-Id"], data)
    assert [key for key in await world.objects() if key.startswith("tail/")] == []


async def test_a_later_writer_takes_over_and_the_older_one_notes_nothing(world: World) -> None:
    data, other = text(12 * MIB, 1), text(12 * MIB, 2)
    path = await create(world, len(data))
    assert (await patch(world, path, 0, data[:1000])).status == 204
    gate, taken = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield other[1000 : 6 * MIB]
        taken.set()
        await gate.wait()
        yield other[6 * MIB :]

    older = asyncio.create_task(patch(world, path, 1000, slowly()))
    await taken.wait()
    async with asyncio.timeout(30):
        while (
            at := await offset_of(world, path)
        ) < 5 * MIB:  # its first part is noted: the file begins as it said
            await asyncio.sleep(0.05)
    assert at == 5 * MIB
    # a request at a wrong place takes nothing over
    assert (await patch(world, path, 17, b"x")).status == 409
    answer = await patch(world, path, at, data[at : 11 * MIB])
    assert answer.status == 204, answer.body
    gate.set()
    assert (await older).status == 409
    assert await offset_of(world, path) == 11 * MIB
    answer = await patch(world, path, 11 * MIB, data[11 * MIB :])
    assert answer.status == 204, answer.body
    await is_there(world, answer.headers["File-Id"], data[:1000] + other[1000 : 5 * MIB] + data[5 * MIB :])
    assert [key for key in await world.objects() if key.startswith("tail/")] == []


async def test_a_request_at_a_wrong_place_disturbs_no_writer(world: World) -> None:
    data = text(300_000)
    path = await create(world, len(data))
    gate, taken = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield data[:1000]
        taken.set()
        await gate.wait()
        yield data[1000:]

    writing = asyncio.create_task(patch(world, path, 0, slowly()))
    await taken.wait()
    assert (await patch(world, path, 500, b"x")).status == 409
    gate.set()
    answer = await writing
    assert answer.status == 204, answer.body
    await is_there(world, answer.headers["File-Id"], data)


@pytest.mark.parametrize("failing", [1, 2, 3])
async def test_a_part_that_the_store_did_not_take_leaves_no_hole(
    world: World, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    data = text(16 * MIB)
    path = await create(world, len(data))
    put_part, asked = Bucket.put_part, 0

    async def sometimes(self: Bucket, key: str, upload: str, number: int, *body: Any) -> str:
        nonlocal asked
        asked += 1
        if asked == failing:
            raise Unavailable("the object store is gone")
        return await put_part(self, key, upload, number, *body)

    monkeypatch.setattr(Bucket, "put_part", sometimes)
    answer = await patch(world, path, 0, data)
    assert answer.status == 503, answer.body
    at = await offset_of(world, path)
    assert at == (failing - 1) * 5 * MIB
    answer = await patch(world, path, at, data[at:])
    assert answer.status == 204, answer.body
    await is_there(world, answer.headers["File-Id"], data)


async def _all_stored_and_then_killed(world: World, data: bytes, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of an upload whose last byte is stored, by a process that died before it could say so."""
    path = await create(world, len(data))
    call = world.runtime.calls.call

    async def dies(command: Any, **given: Any) -> Any:
        if isinstance(command, api.Complete):
            raise Unavailable("killed")
        return await call(command, **given)

    with monkeypatch.context() as patched:
        patched.setattr(world.runtime.calls, "call", dies)
        assert (await patch(world, path, 0, data)).status == 503
    return path


async def test_everything_stored_but_nobody_told_becomes_a_file_when_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = text(6 * MIB)
    path = await _all_stored_and_then_killed(world, data, monkeypatch)
    head = await world.ask("HEAD", path, headers=TUS)  # clients that hear this have finished
    assert head.headers["Upload-Offset"] == str(len(data))
    await is_there(world, head.headers["File-Id"], data)


async def test_nobody_asks_and_it_becomes_a_file_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = text(6 * MIB)
    await _all_stored_and_then_killed(world, data, monkeypatch)
    half = await create(world, 1000)
    await patch(world, half, 0, b"1,2\n")
    world.clock.later_ms = int(world.runtime.settings.files_upload_life_s * 1000) + 200_000
    world.logins.clear()
    run: Any = type("Run", (), {"db": world.runtime.db, "clock": world.clock})
    await end_uploads(world.runtime, run)
    files = (await world.call("files.library.list")).json["files"]
    assert len(files) == 1
    await is_there(world, files[0]["file_id"], data)
    assert (await world.ask("HEAD", half, headers=TUS)).status == 410
    assert (await world.call("files.room.usage")).json["person_files"] == 1


async def test_an_upload_that_goes_on_for_ever_is_given_up_all_the_same(world: World) -> None:
    path, life_ms = await create(world, 1000), int(world.runtime.settings.files_upload_life_s * 1000)
    run: Any = type("Run", (), {"db": world.runtime.db, "clock": world.clock})
    for later_ms, status in ((life_ms - 60_000, 200), (life_ms + 60_000, 410)):
        world.clock.later_ms = later_ms
        world.logins.clear()
        if status == 200:
            await patch(world, path, 0, b"1,2\n")
        await end_uploads(world.runtime, run)
        assert (await world.ask("HEAD", path, headers=TUS)).status == status


async def test_what_the_store_has_lost_is_given_up_with_its_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await _all_stored_and_then_killed(world, text(6 * MIB), monkeypatch)
    async for one in world.bucket.unfinished():
        await world.bucket.abort(one.key, one.upload)
    assert (await world.ask("HEAD", path, headers=TUS)).status == 409
    assert (await world.ask("HEAD", path, headers=TUS)).status == 410
    assert (await world.call("files.room.usage")).json["person_bytes"] == 0


# --- encrypted, and limits --------------------------------------------------------------------------------------------


async def test_encrypted_with_the_enterprises_key_in_parts_and_tails(world: World) -> None:
    given = {"own_key": True, "quota_bytes": None, "person_quota_bytes": None}
    assert (await world.call("files.room.set_policy", given)).status == 200
    data = text(11 * MIB + 3)
    path = await create(world, len(data), sha256=hashlib.sha256(data).hexdigest())
    at = 0
    for step in (10, 65_536, 5 * MIB - 65_546, 1, 5 * MIB + 77_777):
        assert (await patch(world, path, at, data[at : at + step])).status == 204
        at += step
        assert await offset_of(world, path) == at
        for key in await world.objects():
            async with world.bucket.get(key) as content:
                assert data[: min(at, 60)] not in await content.read()
    answer = await patch(world, path, at, data[at:])
    assert answer.status == 204, answer.body
    await is_there(world, answer.headers["File-Id"], data)
    keys = await world.objects()
    assert len(keys) == 1
    async with world.bucket.get(keys[0]) as content:
        assert data[5 * MIB : 5 * MIB + 60] not in await content.read()


class TestLimits:
    """So many begun, so many at once, so much room."""

    @pytest.fixture
    def more_settings(self) -> dict[str, Any]:
        return {
            "files_uploads_open": 3, "files_uploads_at_once": 1, "files_person_quota_bytes": 10_000,
            "files_max_bytes": 9_000,
        }  # fmt: skip

    async def test_so_many_may_be_under_way_and_so_much_room_is_booked(self, world: World) -> None:
        headers = {**TUS, "Upload-Metadata": metadata()}
        assert (
            await world.ask("POST", "/files/tus", headers=headers | {"Upload-Length": "9001"})
        ).status == 413
        path = await create(world, 6000)
        assert (
            await world.ask("POST", "/files/tus", headers=headers | {"Upload-Length": "6000"})
        ).status == 403
        assert (await world.ask("DELETE", path, headers=TUS)).status == 204
        for _ in range(3):
            path = await create(world, 1000)
        answer = await world.ask("POST", "/files/tus", headers=headers | {"Upload-Length": "6"})
        assert answer.status == 429, answer.body
        gate, taken = asyncio.Event(), asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield b"a,b\n"
            taken.set()
            await gate.wait()

        writing = asyncio.create_task(patch(world, path, 0, slowly()))
        await taken.wait()
        async with asyncio.timeout(10):
            while (await patch(world, path, 500, b"x")).status != 429:
                await asyncio.sleep(0.02)
        gate.set()
        assert (await writing).status == 204
