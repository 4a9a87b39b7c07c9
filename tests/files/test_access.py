"""Who reads a file, by which way, and how its bytes are sent."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from contextlib import suppress
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest

from core.errors import Forbidden
from files import api
from tests.files import samples
from tests.files.conftest import Answer, World

CSV = b"".join(b"%06d,row\n" % n for n in range(3000))


def body_of(file: dict[str, Any]) -> dict[str, Any]:
    """What a message says of a file."""
    return {
        "file_id": file["file_id"], "name": file["name"], "size": file["size_bytes"], "type": file["media_type"],
    }  # fmt: skip


async def uploaded(
    world: World, name: str = "表.csv", data: bytes = CSV, who: str = "zhangwei"
) -> dict[str, Any]:
    answer = await world.upload(name, data, who=who)
    assert answer.status == 201, answer.body
    assert answer.json["state"] == "ready"
    return dict(answer.json)


async def group(world: World, *logins: str, who: str = "zhangwei") -> str:
    members = [str(world.people[login].person_id) for login in logins]
    answer = await world.call("im.conversations.create_group", {"title": "群", "members": members}, who=who)
    assert answer.status == 200, answer.body
    return str(answer.json["conversation_id"])


async def sent(world: World, conversation: str, file: dict[str, Any], *, who: str, key: str) -> Answer:
    fields = {
        "conversation_id": conversation,
        "key": f"{key}-{conversation}",
        "kind": "file",
        "body": body_of(file),
    }
    return await world.call("im.messages.send", fields, who=who)


async def may_read(world: World, who: str, file_id: str) -> bool:
    """By every way at once: they agree."""
    told = (await world.call("files.library.get", {"file_ids": [file_id]}, who=who)).json
    links = (await world.call("files.library.links", {"file_ids": [file_id]}, who=who)).json
    bytes_ = await world.ask("GET", f"/files/{file_id}", who=who)
    seen = {bool(told), bool(links), bytes_.status == 200}
    assert len(seen) == 1, (told, links, bytes_)
    assert bytes_.status in (200, 404)
    return seen.pop()


@pytest.mark.parametrize("way", ["action", "hub"])
async def test_members_read_what_was_sent_while_they_were_there(world: World, way: str) -> None:
    file = await uploaded(world)
    room = await group(world, "wangfang", "chenjing")
    for who in ("wangfang", "chenjing", "zhaolei", "zhoutao"):
        assert not await may_read(world, who, file["file_id"])
    if way == "hub":
        async with world.connected("zhangwei") as client:
            seq = (await client.send(room, body_of(file), kind="file")).seq
    else:
        answer = await sent(world, room, file, who="zhangwei", key="k")
        assert answer.status == 200, answer.body
        seq = answer.json["seq"]
    for who in ("zhangwei", "wangfang", "chenjing"):
        assert await may_read(world, who, file["file_id"]), who
    for who in ("zhaolei", "zhoutao"):
        assert not await may_read(world, who, file["file_id"]), who
    person = world.people["chenjing"].person_id
    removed = {"conversation_id": room, "person_id": str(person)}
    assert (await world.call("im.conversations.remove_member", removed)).status == 200
    assert not await may_read(world, "chenjing", file["file_id"])
    added: dict[str, Any] = {"conversation_id": room, "members": [str(world.people["zhaolei"].person_id)]}
    assert (await world.call("im.conversations.add_members", added)).status == 200
    assert not await may_read(world, "zhaolei", file["file_id"])  # it was sent before their time
    added |= {"members": [str(world.people["liuyang"].person_id)], "history": True}
    assert (await world.call("im.conversations.add_members", added)).status == 200
    assert await may_read(world, "liuyang", file["file_id"])
    # passed on by who may see it, to where others are; not by who may not
    other = await group(world, "yangmin", who="wangfang")
    assert (await sent(world, other, file, who="wangfang", key="f")).status == 200
    assert await may_read(world, "yangmin", file["file_id"])
    stranger = await group(world, "huangting", who="chenjing")
    assert (await sent(world, stranger, file, who="chenjing", key="s")).status == 404
    # taken back there, it is where it was passed on, and with its owner
    assert (
        await world.call("im.messages.recall", {"conversation_id": room, "seq": seq, "key": f"r-{room}"})
    ).status == 200
    assert not await may_read(world, "liuyang", file["file_id"])
    assert await may_read(world, "wangfang", file["file_id"])
    assert await may_read(world, "zhangwei", file["file_id"])


async def test_two_files_of_one_conversation_are_both_seen(world: World) -> None:
    room = await group(world, "wangfang")
    files = [await uploaded(world, f"{n}.csv", CSV + b"%d,\n" % n) for n in range(3)]
    for n, file in enumerate(files):
        assert (await sent(world, room, file, who="zhangwei", key=f"k{n}")).status == 200
    ids = [file["file_id"] for file in files]
    seen = (await world.call("files.library.get", {"file_ids": [*ids, "5"]}, who="wangfang")).json
    assert [file["file_id"] for file in seen] == ids


async def test_an_address_is_short_for_one_variant_and_cannot_be_changed(world: World) -> None:
    file = await uploaded(world, "照片.png", samples.png())
    assert file["variants"] == ["original", "thumbnail", "preview"]
    made = (await world.call("files.library.links", {"file_ids": [file["file_id"]]})).json[0]
    assert made["url"].startswith("/files/open/")
    life_s = made["expires_ms"] / 1000 - world.clock.now_ms() / 1000
    assert 0 < life_s <= 300
    answer = await world.ask("GET", made["url"], who=None)
    assert answer.status == 200
    assert answer.headers["Repr-Digest"].startswith("sha-256=:")
    head = await world.ask("HEAD", made["url"], who=None)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(answer.body)))
    token, name = made["url"].split("/")[3:]
    body, mac = token.split(".")
    packed = bytearray(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    for at in range(len(packed)):
        changed = bytearray(packed)
        changed[at] ^= 1
        other = base64.urlsafe_b64encode(changed).rstrip(b"=").decode()
        assert (await world.ask("GET", f"/files/open/{other}.{mac}/{name}", who=None)).status == 404
    for other in (body, f"{body}.", f".{mac}", f"{body}.{mac}x", f"{body}.{mac[:-2]}", "x" * 400, "é.é"):
        assert (await world.ask("GET", f"/files/open/{other}/{name}", who=None)).status == 404
    assert (await world.ask("POST", made["url"], who=None)).status == 405
    small = {"file_ids": [file["file_id"]], "variant": "thumbnail", "inline": True}
    thumb = (await world.call("files.library.links", small)).json[0]
    picture = await world.ask("GET", thumb["url"], who=None)
    assert picture.headers["Content-Type"] == "image/webp" or picture.headers["Content-Type"].startswith(
        "image/"
    )
    assert picture.body != answer.body
    assert picture.headers["ETag"] != answer.headers["ETag"]
    assert picture.headers["Content-Disposition"].startswith("inline")
    world.clock.later_ms = 301_000
    assert (await world.ask("GET", made["url"], who=None)).status == 404


async def test_ranges(world: World) -> None:
    file = await uploaded(world)
    path, size = f"/files/{file['file_id']}", len(CSV)
    whole = await world.ask("GET", path)
    assert whole.headers["Accept-Ranges"] == "bytes"
    etag = whole.headers["ETag"]
    for given, start, end in (
        ("bytes=0-0", 0, 0), ("bytes=5-9", 5, 9), ("bytes=100-", 100, size - 1), ("bytes=-7", size - 7, size - 1),
        (f"bytes=-{size * 2}", 0, size - 1), (f"bytes={size - 1}-{size * 9}", size - 1, size - 1),
    ):  # fmt: skip
        answer = await world.ask("GET", path, headers={"Range": given})
        assert (answer.status, answer.body) == (206, CSV[start : end + 1]), given
        assert answer.headers["Content-Range"] == f"bytes {start}-{end}/{size}"
        assert answer.headers["ETag"] == etag
    for given in (f"bytes={size}-", f"bytes={size}-{size + 5}", "bytes=-0"):
        answer = await world.ask("GET", path, headers={"Range": given})
        assert answer.status == 416, given
        assert answer.headers["Content-Range"] == f"bytes */{size}"
    for given in ("bytes=0-1,5-6", "bytes=9-5", "bytes=-", "bytes=x-y", "rows=0-5"):
        answer = await world.ask("GET", path, headers={"Range": given})
        assert (answer.status, answer.body) == (200, CSV), given
    first = {"Range": "bytes=0-9"}
    assert (await world.ask("GET", path, headers=first | {"If-Range": etag})).status == 206
    for other in ('"another"', f"W/{etag}", formatdate(usegmt=True)):
        assert (await world.ask("GET", path, headers=first | {"If-Range": other})).status == 200
    head = await world.ask("HEAD", path, headers=first)  # a range is of GET alone
    assert (head.status, head.headers["Content-Length"], head.body) == (200, str(size), b"")
    for given in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        answer = await world.ask("GET", path, headers={"If-None-Match": given})
        assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", etag)
    assert (await world.ask("GET", path, headers={"If-None-Match": '"x"'})).status == 200


async def test_a_download_that_broke_goes_on(world: World) -> None:
    data = b"".join(b"%09d,%s\n" % (n, b"y" * 90) for n in range(60_000))
    file = await uploaded(world, "大.csv", data)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    head = (
        f"GET /files/{file['file_id']} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {await world.token('zhangwei')}\r\n\r\n"
    )
    writer.write(head.encode())
    await reader.readuntil(b"\r\n\r\n")
    got = await reader.readexactly(1_000_000)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    rest = await world.ask("GET", f"/files/{file['file_id']}", headers={"Range": f"bytes={len(got)}-"})
    assert rest.status == 206
    assert hashlib.sha256(got + rest.body).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ('a"b\\c; filename=evil.exe.csv', None),
        ("a\r\nSet-Cookie: x=1.csv", None),
        ("../../etc/passwd.csv", None),
        ("工资%2e%2e/表.csv", None),
        ("<script>alert(1)</script>.csv", None),
        ("\u202efdp.csv", None),
        ("=cmd|'/c calc'!A1.csv", None),
    ],
)
async def test_names_are_data(world: World, name: str, kept: str | None) -> None:
    answer = await world.upload(name, CSV)
    if answer.status == 422:
        return  # refused: as good
    assert answer.status == 201, answer.body
    back = await world.ask("GET", answer.headers["Location"])
    assert back.body == CSV
    said = back.headers["Content-Disposition"]
    assert said.startswith("attachment;")
    assert "Set-Cookie" not in back.headers
    assert "/" not in answer.json["name"]
    assert "\\" not in answer.json["name"]
    assert "\u202e" not in answer.json["name"]
    link = (await world.call("files.library.links", {"file_ids": [answer.json["file_id"]]})).json[0]
    assert (await world.ask("GET", link["url"], who=None)).body == CSV


async def test_what_is_sent_is_never_a_page(world: World) -> None:
    for name, data in (
        ("页.txt", b"<html><script>alert(1)</script>" + CSV),
        ("单.pdf", samples.pdf()),
        ("图.png", samples.png()),
    ):
        answer = await world.upload(name, data)
        if answer.status == 422:
            continue
        file = answer.json
        for query in ("", "?inline"):
            back = await world.ask("GET", f"/files/{file['file_id']}{query}")
            assert back.headers["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in back.headers["Content-Security-Policy"]
            assert "script-src" not in back.headers["Content-Security-Policy"]
            assert back.headers["Cache-Control"] == "no-store"
            assert back.headers["Content-Type"].partition(";")[0] == file["media_type"] != "text/html"
            how = back.headers["Content-Disposition"].partition(";")[0]
            assert how == "attachment" if not query else how in ("attachment", "inline")


async def test_nobody_reads_without_a_login_and_odd_paths_are_not_there(world: World) -> None:
    file_id = (await uploaded(world))["file_id"]
    assert (await world.ask("GET", f"/files/{file_id}", who=None)).status == 401
    for path in (
        f"{file_id}/entries",
        f"{file_id}/original/x",
        "0",
        "9" * 19,
        "9" * 30,
        "x",
        "",
        f"{file_id}x",
    ):
        assert (await world.ask("GET", f"/files/{path}")).status == 404, path
    assert (await world.ask("GET", f"/files/{file_id}/thumbnail")).status == 404  # a table has none
    assert (await world.ask("DELETE", f"/files/{file_id}")).status == 405


async def test_an_app_needs_the_scope_for_what_a_door_does_for_it(world: World) -> None:
    file_id = int((await uploaded(world))["file_id"])
    person, call = await world.principal("zhangwei"), world.runtime.calls.call
    place = api.Locate(file_id=file_id, variant="original", visible=False)
    reads, sends = (replace(person, scopes=frozenset({scope})) for scope in ("files:read", "files:send"))
    assert (await call(place, principal=reads)).name == "表.csv"
    with pytest.raises(Forbidden):
        await call(place, principal=sends)
    check = api.CheckUpload(name="a.csv", size_bytes=5)
    assert (await call(check, principal=sends)).name == "a.csv"
    begun = await call(api.BeginUpload(name="a.csv", size_bytes=5), principal=sends)
    with pytest.raises(Forbidden):
        await call(check, principal=reads)
    with pytest.raises(Forbidden):
        await call(api.Claim(upload_id=begun.upload_id, offset=0), principal=reads)
