"""A whole file in one request: kept only when all of it came, agrees with its digest and is what it says."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.crypto.sm3 import sm3
from tests.files.conftest import World, sha256

CSV = "姓名,金额\n张三,128.50\n李四,99.00\n".encode() * 200


async def test_what_is_uploaded_is_downloaded(world: World) -> None:
    answer = await world.upload("工资表.csv", CSV, Content_Type="text/csv", Repr_Digest=sha256(CSV))
    assert answer.status == 201, answer.body
    file = answer.json
    assert file["name"] == "工资表.csv"
    assert file["state"] == "ready"
    assert file["media_type"] == "text/csv"
    assert file["size_bytes"] == len(CSV)
    assert answer.headers["Location"] == f"/files/{file['file_id']}"
    back = await world.ask("GET", answer.headers["Location"])
    assert back.body == CSV
    assert back.headers["Repr-Digest"] == sha256(CSV)
    assert [one["file_id"] for one in (await world.call("files.library.list")).json["files"]] == [
        file["file_id"]
    ]


@pytest.mark.parametrize(
    ("name", "data", "headers", "status", "code"),
    [
        ("a.csv", CSV, {"Repr_Digest": sha256(b"other")}, 422, "digest_mismatch"),
        ("a.csv", CSV, {"Repr_Digest": f"sm3=:{'A' * 43}=:"}, 422, "digest_mismatch"),
        ("a.exe", b"MZ" + b"\0" * 200, {}, 422, "executable"),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", {}, 422, "active"),
        ("a.html", b"<html></html>", {}, 422, "active"),
        ("a.pdf", CSV, {}, 422, "mismatch"),
        ("a.docx", b"PK\x03\x04" + CSV, {}, 422, "unreadable"),
        ("a.csv", b"", {}, 422, "empty"),
        ("a", CSV, {}, 422, "extension"),
        ("a.csv", CSV, {"Idempotency_Key": "no spaces, please"}, 422, None),
        ("a.csv", CSV, {"Repr_Digest": "sha-256=:AAAA:"}, 422, "digest_malformed"),
        ("a.csv", CSV, {"Repr_Digest": "sha-256=zzz"}, 422, "digest_malformed"),
        ("a.csv", CSV, {"Content_Digest": "whatever"}, 422, "digest_malformed"),
        ("a.csv", CSV, {"Repr_Digest": f"md5=:!:, {sha256(CSV)}"}, 422, "digest_malformed"),
        ("a.csv", CSV, {"Repr_Digest": f"{sha256(CSV)}, {sha256(b'')}"}, 422, "digest_malformed"),
        ("a.csv", CSV, {"Repr_Digest": "md5=:AAAA:", "Content_Digest": "sha=:AAAA:"}, 422, "digest_unknown"),
        ("a.csv", CSV, {"Content_Type": "multipart/form-data; boundary=x"}, 415, "form_data"),
        ("a.csv", gzip.compress(CSV), {"Content_Encoding": "gzip"}, 415, "content_encoding"),
        ("a.csv", CSV, {"Content_Encoding": "br"}, 415, "content_encoding"),
    ],
)  # fmt: skip
async def test_what_is_refused_leaves_nothing(
    world: World, name: str, data: bytes, headers: dict[str, str], status: int, code: str | None
) -> None:
    answer = await world.upload(name, data, **headers)
    assert answer.status == status, answer.body
    assert answer.json.get("errors", {}).get("code") == code, answer.body
    assert await world.objects() == []
    usage = (await world.call("files.room.usage")).json
    assert usage["person_bytes"] == usage["enterprise_bytes"] == 0


async def test_a_digest_that_nobody_knows_does_not_harm_beside_one_that_is_compared(world: World) -> None:
    both = {"Repr_Digest": f"sha-512=:AAAA:, {sha256(CSV)}", "Content_Encoding": "identity"}
    assert (await world.upload("a.csv", CSV, **both)).status == 201
    both["Repr_Digest"] = f"sha-512=:AAAA:, {sha256(b'other')}"
    assert (await world.upload("a.csv", CSV, **both)).json["errors"]["code"] == "digest_mismatch"


class TestTooLarge:
    @pytest.fixture
    def more_settings(self) -> dict[str, Any]:
        return {"files_max_bytes": 1000}

    async def test_it_says_so_in_its_readers_language_whichever_way(self, world: World) -> None:
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(CSV))}
        begun = {"name": "a.csv", "size_bytes": len(CSV)}
        for answer, status in (
            (await world.upload("a.csv", CSV), 422),
            (await world.ask("POST", "/files/tus", headers=headers), 413),
            (await world.call("files.uploads.begin", begun), 422),
        ):
            assert answer.status == status, answer.body
            assert answer.json["errors"] == {"code": "too_large", "max_bytes": "1000"}
            assert answer.json["detail"] == "文件超过了大小上限"


async def test_sm3_is_compared_as_well(world: World) -> None:
    answer = await world.upload("a.csv", CSV, Repr_Digest=f"sm3=:{base64.b64encode(sm3(CSV)).decode()}:")
    assert answer.status == 201, answer.body


async def test_nobody_uploads_without_a_login_or_without_a_length(world: World) -> None:
    assert (await world.ask("POST", "/files/upload?name=a.csv", who=None, data=CSV)).status == 401

    async def unknown_length() -> AsyncIterator[bytes]:
        yield CSV

    answer = await world.ask("POST", "/files/upload?name=a.csv", data=unknown_length())
    assert answer.status == 422
    assert answer.json["errors"]["code"] == "length_required"
    assert (await world.ask("GET", "/files/upload")).status == 405
    assert await world.objects() == []


async def test_the_same_content_is_stored_once_in_an_enterprise(world: World) -> None:
    first = await world.ready("一月.csv", CSV)
    second = await world.ready("副本.csv", CSV, who="wangfang")
    other = await world.ready("别家.csv", CSV, who="sunli") if "sunli" in world.people else None
    assert first != second
    await _until(world, lambda keys: len(keys) == (1 if other is None else 2))
    for who, file_id in (("zhangwei", first), ("wangfang", second)):
        assert (await world.ask("GET", f"/files/{file_id}", who=who)).body == CSV


async def test_the_same_at_the_same_moment_is_stored_once(world: World) -> None:
    data = CSV + b"at once\n"
    names = [f"{n}.csv" for n in range(6)]
    ids = await asyncio.gather(*(world.ready(name, data) for name in names))
    assert len(set(ids)) == 6
    await _until(world, lambda keys: len(keys) == 1)


async def test_a_key_makes_one_file_however_often_it_is_sent(world: World) -> None:
    answers = [await world.upload("a.csv", CSV, Idempotency_Key="once") for _ in range(2)]
    assert [a.status for a in answers] == [201, 201]
    assert answers[0].json["file_id"] == answers[1].json["file_id"]
    other = await world.upload("a.csv", CSV + b"more\n", Idempotency_Key="once")
    assert other.status == 409, other.body
    same = await asyncio.gather(*(world.upload("b.csv", CSV, Idempotency_Key="race") for _ in range(4)))
    done = {a.json["file_id"] for a in same if a.status == 201}
    assert len(done) == 1
    assert {a.status for a in same} <= {201, 409}
    await _until(world, lambda keys: len(keys) == 1)


async def test_a_sender_who_leaves_half_way_leaves_nothing(world: World) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    head = (
        f"POST /files/upload?name=a.mp4 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000000\r\n"
        f"Authorization: Bearer {await world.token('zhangwei')}\r\n\r\n"
    )
    writer.write(head.encode() + b"\0\0\0\x20ftypisom" + b"x" * 2_000_000)
    await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    await _until(world, lambda keys: True)
    assert (await world.call("files.library.list")).json["files"] == []
    assert await world.objects() == []


class TestRoom:
    """Quotas: exact, also for who comes at the same moment."""

    @pytest.fixture
    def more_settings(self) -> dict[str, Any]:
        return {"files_person_quota_bytes": 3 * len(CSV) + 100, "files_enterprise_quota_bytes": 5 * len(CSV)}

    @pytest.mark.requirement("F03")
    async def test_a_person_has_so_much_room_and_an_enterprise_so_much(self, world: World) -> None:
        before = (await world.call("files.room.usage", who="lina")).json["enterprise_files"]
        answers = await asyncio.gather(
            *(world.upload(f"{n}.csv", CSV + b"%d\n" % n, who="lina") for n in range(6))
        )
        assert sorted(a.status for a in answers) == [201, 201, 201, 403, 403, 403]
        refused = next(a for a in answers if a.status == 403)
        assert refused.json["errors"]["quota"] in ("person", "enterprise")
        usage = (await world.call("files.room.usage", who="lina")).json
        assert usage["person_files"] == 3
        assert usage["enterprise_files"] == before + 3
        listed = (await world.call("files.library.list", who="lina")).json["files"]
        assert (
            await world.call("files.library.remove", {"file_id": listed[0]["file_id"]}, who="lina")
        ).status == 200
        assert (await world.upload("again.csv", CSV + b"again\n", who="lina")).status == 201

    async def test_an_administrator_gives_people_less(self, world: World) -> None:
        given = {"own_key": False, "person_quota_bytes": 10, "quota_bytes": None}
        assert (await world.call("files.room.set_policy", given, who="chenjing")).status == 403
        assert (await world.call("files.room.set_policy", given, who="wangfang")).status == 200
        assert (await world.upload("a.csv", CSV, who="zhaolei")).status == 403
        given["person_quota_bytes"] = None
        assert (await world.call("files.room.set_policy", given, who="wangfang")).status == 200


async def _until(world: World, holds: Any) -> list[str]:
    """What is in the store, once what goes on beside requests has made it so."""
    async with asyncio.timeout(20):
        while True:
            keys = await world.objects()
            if holds(keys):
                return keys
            await asyncio.sleep(0.05)


class TestLong:
    """However steadily it comes, at some time it is over."""

    @pytest.fixture
    def more_settings(self) -> dict[str, Any]:
        return {"files_upload_life_s": 1.0}

    async def test_a_body_takes_no_longer_than_an_upload_may(self, world: World) -> None:
        async def steadily() -> AsyncIterator[bytes]:
            for _ in range(600):
                yield b"1,2\n"
                await asyncio.sleep(0.02)

        answer = await world.ask(
            "POST",
            "/files/upload",
            data=steadily(),
            params={"name": "a.csv"},
            headers={"Content-Length": "2400"},
        )
        assert answer.status == 408, answer.body
        assert await world.objects() == []
