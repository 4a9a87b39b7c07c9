"""The terminal chat: how things read, and two people who talk by it through a real gateway and hub."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from core.clock import SystemClock
from core.db import connect
from gateway import demo
from gateway.service import GatewayService
from house.compose import services
from hub.chat import chat
from hub.chat.model import Conversation, Model, line, listing, safe
from hub.client import Entry
from tests.world import process, settings_for

ME, FANG, YANG = "1", "2", "3"


def model() -> tuple[Model, Conversation]:
    made = Model(ME)
    made.names = {ME: "张伟", FANG: "王芳", YANG: "刘洋"}
    told = {
        "conversation_id": "7", "kind": "group", "title": "财务群", "peer_id": None, "preview": [ME, FANG, YANG],
        "head": 2, "read": 2, "unread": 0, "member_count": 3,
    }  # fmt: skip
    return made, made.learn(told)


def said(seq: int, sender: str, body: Any, kind: str = "text", **options: Any) -> Entry:
    return Entry("7", seq, str(seq), sender, kind, 1_700_000_000_000, body, b"", options or None)


def test_messages_read_as_people_write_them() -> None:
    known, room = model()
    first = said(3, FANG, "下午开会", mentions=[ME])
    known.take(first)
    assert line(known, room, first) == "[3] 11-15 06:13 王芳： 下午开会 ← @我"
    reply = said(4, ME, {"text": "好的"}, reply_to=3)
    known.take(reply)
    assert line(known, room, reply) == "[4] 11-15 06:13 我： 回复[3]「王芳：下午开会」 好的 (已发送)"
    assert known.marked("7", {FANG: (4, 4), YANG: (4, 2)}) == [(FANG, 4)]
    assert known.marked("7", {FANG: (4, 4)}) == []
    room.unread = 3
    assert known.marked("7", {ME: (3, 3)}) == []
    assert room.unread == 3
    assert known.marked("7", {ME: (4, 4)}) == []
    assert room.unread == 0
    assert (line(known, room, reply) or "").endswith("(1 人已读)")
    known.take(said(5, FANG, {"seq": 3, "value": None}, "recall"))
    assert line(known, room, first) == "[3] 11-15 06:13 —— 王芳 撤回了一条消息"
    known.take(said(6, ME, {"seq": 4, "value": "马上"}, "edit"))
    known.take(said(7, FANG, {"seq": 4, "value": "👍"}, "react"))
    assert (line(known, room, reply) or "").endswith("马上(已编辑) 👍 (1 人已读)")
    known.take(said(8, "0", {"added": [], "removed": [YANG], "by": ME}, "membership"))
    assert room.members == [ME, FANG]
    assert line(known, room, said(8, "0", {"removed": [YANG], "by": ME}, "membership")) == (
        "[8] 11-15 06:13 —— 刘洋 被移出会话"
    )
    assert listing(known, "7")[0].startswith("▶  1  [群] 财务群")


def test_people_and_conversations_are_found_by_what_people_type() -> None:
    known, room = model()
    assert known.mentioned("@王芳，@刘 请看 @张伟 @无此人") == [FANG, YANG]
    assert known.person("王") == FANG
    assert known.person("无") is None
    assert known.conversation("1") is known.conversation("财务") is room
    assert known.conversation("2") is None


@pytest.mark.parametrize("bad", ["\x1b[2J", "\x9b31m", "\u202e", "\x07", "\u2066", "\x00"])
def test_text_of_others_does_not_steer_the_terminal(bad: str) -> None:
    known, room = model()
    shown = line(known, room, said(3, FANG, f"a{bad}b")) or ""
    assert bad[0] not in shown
    assert safe("一行\n两行\t👨‍👩‍👧") == "一行 两行 👨‍👩‍👧"


class Script:
    """A face that types what it is told when it sees what it waits for."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self._news = asyncio.Condition()
        self._typed: asyncio.Queue[str | None] = asyncio.Queue()

    def show(self, line: str, style: str = "") -> None:
        self.shown += line.splitlines()
        task = asyncio.ensure_future(self._notify())
        task.add_done_callback(lambda _: None)

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def lines(self) -> AsyncIterator[str]:
        while (typed := await self._typed.get()) is not None:
            yield typed

    def type(self, line: str | None) -> None:
        self._typed.put_nowait(line)

    async def sees(self, wanted: str | Callable[[str], bool], within_s: float = 15) -> str:
        def found() -> str | None:
            return next(
                (s for s in self.shown if (wanted in s if isinstance(wanted, str) else wanted(s))), None
            )

        try:
            async with asyncio.timeout(within_s), self._news:
                await self._news.wait_for(lambda: found() is not None)
        except TimeoutError:
            raise AssertionError(f"{wanted!r} is not in:\n" + "\n".join(self.shown)) from None
        return found() or ""

    async def asks(self, command: str, wanted: str) -> None:
        """Types a command again until its answer is there: marks are saved a little later than they are told."""
        for _ in range(20):
            self.type(command)
            with suppress(AssertionError):
                await self.sees(wanted, 0.5)
                return
        await self.sees(wanted)


class House:
    """A gateway and a hub in this process, with the demonstration's people."""

    def __init__(self, gateway_url: str, hub_url: str, people: dict[str, demo.DemoPerson]) -> None:
        self.gateway_url, self.hub_url, self.people = gateway_url, hub_url, people

    @asynccontextmanager
    async def chatting(self, login: str, to: str | None = None) -> AsyncIterator[Script]:
        script = Script()
        task = asyncio.create_task(
            chat(
                gateway_url=self.gateway_url, hub_url=self.hub_url, login=login,
                password=self.people[login].password, to=to, face=script,
            )
        )  # fmt: skip
        await script.sees("您好")
        yield script
        script.type("/退出")
        assert await task == 0


@pytest.fixture
async def house(database: str, tmp_path: Path) -> AsyncIterator[House]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = settings_for(database, tmp_path, hub_port=port)
    clock = SystemClock()
    db = await connect(database, min_size=1, max_size=3)
    try:
        made = services(settings, clock, db, ("hub", "im", "gateway"))
        async with process(settings, made, clock=clock) as runtime:
            people = {one.login: one for one in await demo.seed(runtime)}
            gateway = next(service for service in made if isinstance(service, GatewayService))
            yield House(f"http://127.0.0.1:{gateway.port}", f"ws://127.0.0.1:{port}", people)
    finally:
        await db.close()


async def test_two_people_talk(house: House) -> None:
    async with house.chatting("zhangwei") as wei, house.chatting("wangfang") as fang:
        wei.type("/单聊 王芳")
        await wei.sees("━━ 王芳 ━━")
        wei.type("早上好")
        await wei.sees("我： 早上好")
        await fang.sees("张伟（")
        fang.type("/进入 张伟")
        await fang.sees("━━ 张伟 ━━")
        await fang.sees("张伟： 早上好")
        await wei.sees("✓ 王芳 已读")
        fang.type("好 @张伟")
        await wei.sees(lambda s: "王芳： 好 @张伟" in s and "@我" in s)
        fang.type("/回复 2 收到")
        await wei.sees("王芳： 回复[2]「我：早上好」 收到")
        wei.type("/撤回 2")
        await fang.sees("张伟 撤回了 [2]")
        wei.type("/撤回 3")
        await wei.sees("没有权限")
        await wei.asks("/谁看了 2", "已读：王芳")


async def test_who_begins_to_type_is_heard(house: House) -> None:
    async with house.chatting("zhangwei") as wei:
        wei.type("/建群 全员 王芳")
        await wei.sees("━━ 全员（2 人） ━━")
    async with house.chatting("zhangwei") as wei, house.chatting("wangfang") as fang:
        await wei.sees("━━ ")  # whichever is the first: theirs alone or the group
        await fang.sees("━━ ")
        wei.type("今天开会吗")
        await fang.sees("张伟： 今天开会吗")


async def test_a_group_is_made_talked_in_and_left(house: House) -> None:
    async with house.chatting("zhangwei") as wei, house.chatting("liuyang") as yang:
        wei.type("/建群 项目组 刘洋 李娜")
        await wei.sees("━━ 项目组（3 人） ━━")
        await yang.sees("加入了会话")
        wei.type("大家好")
        await yang.sees(lambda s: s.startswith("● 项目组") and "大家好" in s)
        yang.type("/进入 项目组")
        await yang.sees("━━ 项目组（3 人） ━━")
        wei.type("/改名 新项目组")
        await yang.sees("张伟 把群名改为「新项目组」")
        assert len([s for s in yang.shown if s.startswith("[3]")]) == 1
        wei.type("/移出 刘洋")
        await yang.sees("您已不在「新项目组」")
        yang.type("还在吗")
        await yang.sees("先打开一个会话")
        wei.type("/没有这个命令")
        await wei.sees("没有 /没有这个命令 这个命令")
        wei.type("/成员")
        await wei.sees("我（群主）")


async def test_a_wrong_password_and_a_missing_gateway_are_told(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"hub_url": house.hub_url, "login": "zhangwei", "password": "wrong", "face": Script()}
    assert await chat(gateway_url=house.gateway_url, **given) == 1  # type: ignore[arg-type]
    assert await chat(gateway_url="http://127.0.0.1:9", **given) == 1  # type: ignore[arg-type]
    told = capsys.readouterr().err
    assert "登录名或密码不正确" in told
    assert "连接不上网关" in told
