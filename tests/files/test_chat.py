"""The terminal chat moves real files: sent, saved under a name that was free, refused in words for people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hub.chat import chat
from hub.chat.shelf import DoorShelf, bare
from hub.client import INBOX, Heard, Signal
from tests.files import samples
from tests.files.conftest import World
from tests.hub.test_chat import Script


@asynccontextmanager
async def chatting(world: World, login: str, folder: Path) -> AsyncIterator[Script]:
    server: Any = world.hub._server
    script = Script()
    task = asyncio.create_task(
        chat(
            gateway_url=world.url, hub_url=f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", login=login,
            password=world.people[login].password, face=script, shelf=lambda account: DoorShelf(account, folder),
        )
    )  # fmt: skip
    await script.sees("您好")
    yield script
    script.type("/退出")
    assert await task == 0


async def test_files_are_sent_and_saved(world: World, tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.mkdir()
    theirs.mkdir()
    table, picture = mine / "报表 一.csv", mine / "图.png"
    table.write_bytes(b"a,b\n" * 500_000)
    picture.write_bytes(samples.png())
    (mine / "程序.exe").write_bytes(samples.exe())
    (mine / "空.csv").write_bytes(b"")
    (mine / "坏.png").write_bytes(samples.png()[:60])
    (theirs / table.name).write_text("mine already")
    async with chatting(world, "zhangwei", mine) as wei, chatting(world, "wangfang", theirs) as fang:
        wei.type("/单聊 王芳")
        await wei.sees("━━ 王芳 ━━")
        wei.type(f"/文件 {table}")
        await wei.sees("我： [文件] 报表 一.csv (1.9 MB)")
        fang.type("/进入 张伟")
        seen = await fang.sees(lambda s: s.startswith("[") and "张伟： [文件] 报表 一.csv" in s)
        for number in (1, 2):
            fang.type(f"/保存 {seen[1 : seen.index(']')]}")
            await fang.sees(f"已保存到 {theirs}/报表 一 ({number}).csv")
            assert (theirs / f"报表 一 ({number}).csv").read_bytes() == table.read_bytes()
        assert (theirs / table.name).read_text() == "mine already"
        wei.type(f"/文件 {picture}")
        await wei.sees("我： [图片] 图.png")
        for name, why in (
            ("程序.exe", "不能发送可执行程序"), ("空.csv", "文件是空的"), ("坏.png", "文件没有通过安全检查"),
            ("没有.csv", "No such file"),
        ):  # fmt: skip
            wei.type(f"/文件 {mine / name}")
            await wei.sees(lambda s, name=name, why=why: f"没有发出「{name}」" in s and why in s)  # type: ignore[misc]
    assert sorted(path.name for path in theirs.iterdir()) == [
        "报表 一 (1).csv",
        "报表 一 (2).csv",
        "报表 一.csv",
    ]


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("报表.csv", "报表.csv"), ("../../etc/passwd", "passwd"), ("..\\..\\a.csv", "a.csv"),
        ("..", "file"), ("", "file"), ("/", "file"), (".bashrc", "bashrc"), ("a\x1b[2Jb.csv", "a[2Jb.csv"),
        ("\u202efdp.csv", "fdp.csv"),
    ],
)  # fmt: skip
def test_what_others_call_a_file_is_only_a_name(told: str, kept: str) -> None:
    assert bare(told) == kept


@pytest.mark.parametrize("way", ["whole", "tus"])
async def test_an_uploader_hears_how_far_it_is(world: World, way: str) -> None:
    heard: list[Any] = []

    def listen(what: Heard) -> None:
        if isinstance(what, Signal) and (what.conversation, what.what) == (INBOX, "upload"):
            heard.append(what.value)

    size = 2 << 20

    async def slowly() -> AsyncIterator[bytes]:
        yield b"a,b\n" * (size // 16)
        async with asyncio.timeout(20):  # what is said is said twice a second: until one has been heard
            said = size // 4
            while not heard:
                yield b"a,b\n"
                said += 4
                await asyncio.sleep(0.05)
        yield b"x" * (size - said)

    async with world.connected("zhangwei", listen) as client:
        await client.online()
        if way == "whole":
            answer = await world.ask(
                "POST", "/files/upload?name=慢.csv", data=slowly(), headers={"Content-Length": str(size)}
            )
            assert answer.status == 201, answer.body
        else:
            made = {"name": "慢.csv", "size_bytes": size}
            upload = (await world.call("files.uploads.begin", made)).json
            answer = await world.ask(
                "PATCH", f"/files/tus/{upload['upload_id']}", data=slowly(),
                headers={
                    "Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream",
                },
            )  # fmt: skip
            assert answer.status == 204, answer.body
        async with asyncio.timeout(10):
            while heard[-1]["received"] != size:
                await asyncio.sleep(0.02)
    assert heard[0]["received"] < size
    for value in heard:
        assert (value["name"], value["size"]) == ("慢.csv", size)
        assert ("upload_id" in value) == (way == "tus")
    assert [v["received"] for v in heard] == sorted(v["received"] for v in heard)
