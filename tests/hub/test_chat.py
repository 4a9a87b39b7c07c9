"""The terminal chat: how things read, and two people who talk by it through a real gateway and hub."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from core.clock import SystemClock
from core.db import connect
from core.runtime import Runtime
from gateway import demo
from gateway.factors import rules, store
from gateway.service import GatewayService
from gateway.sms.outbox import FILE
from house.compose import services
from hub.api import signal_person
from hub.chat import chat
from hub.chat.account import Account
from hub.chat.model import Conversation, Model
from hub.chat.ports import Shelf
from hub.chat.words import line, listing, safe
from hub.client import Entry
from hub.service import HubService
from tests.shelf import SqlFiles, make_tables, put
from tests.sim.doubles import FileRow
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


def test_messages_with_files_are_one_line() -> None:
    known, room = model()
    body: dict[str, Any] = {"file_id": "9", "name": "现场.jpg", "size": 1_258_291, "type": "image/jpeg"}
    read: list[tuple[str, dict[str, Any], str]] = [
        ("image", {}, "[图片] 现场.jpg (1.2 MB)"),
        ("file", {"caption": "请\n查收"}, "[文件] 现场.jpg (1.2 MB) 请 查收"),
        ("voice", {"duration_ms": 63_400, "size": 1_023}, "[语音 1:03] 现场.jpg (1023 B)"),
        ("video", {"duration_ms": 3_000, "size": 5 << 40}, "[视频 0:03] 现场.jpg (5.0 TB)"),
        ("file", {"name": "\u202egpj.exe", "size": 1 << 10}, "[文件] gpj.exe (1.0 KB)"),
        ("file", {"name": None, "size": "x", "caption": 5}, "[文件]  (?)"),
    ]
    for seq, (kind, more, wanted) in enumerate(read, 3):
        entry = said(seq, FANG, body | more, kind)
        known.take(entry)
        assert line(known, room, entry) == f"[{seq}] 11-15 06:13 王芳： {wanted}"
    mine = said(9, ME, body, "image")
    known.take(mine)
    assert known.marked("7", {FANG: (9, 9)}) == [(FANG, 9)]
    assert (line(known, room, mine) or "").endswith("(1 人已读)")
    known.take(said(10, ME, {"seq": 9, "value": None}, "recall"))
    assert line(known, room, mine) == "[9] 11-15 06:13 —— 我 撤回了一条消息"


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

    def __init__(
        self, runtime: Runtime, gateway: GatewayService, hub_url: str, people: dict[str, demo.DemoPerson]
    ) -> None:
        self.runtime, self.gateway, self.people = runtime, gateway, people
        self.gateway_url, self.hub_url = f"http://127.0.0.1:{gateway.port}", hub_url

    async def newest_code(self) -> str:
        """What the newest short message says."""
        await self.gateway.parts.sms.settled()
        text = (self.runtime.settings.var_dir / FILE).read_text().splitlines()[-1]
        found = re.search(r"(?<!\d)\d{6}(?!\d)", orjson.loads(text)["text"])
        assert found is not None
        return found[0]

    async def enrol(self, person: demo.DemoPerson, secret: bytes) -> None:
        """An authenticator with this secret."""
        now, columns = self.runtime.clock.now(), self.runtime.columns
        await self.runtime.db.run(store.replace, columns, person.person_id, secret, now)
        await self.runtime.db.run(store.confirm, person.person_id, now)

    @asynccontextmanager
    async def chatting(
        self, login: str, to: str | None = None, shelf: Callable[[Account], Shelf] | None = None
    ) -> AsyncIterator[Script]:
        script = Script()
        task = asyncio.create_task(
            chat(
                gateway_url=self.gateway_url, hub_url=self.hub_url, login=login,
                password=self.people[login].password, to=to, face=script, shelf=shelf,
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
        await make_tables(database)
        for service in made:
            if isinstance(service, HubService):
                service._files = SqlFiles()
        async with process(settings, made, clock=clock) as runtime:
            people = {one.login: one for one in await demo.seed(runtime)}
            gateway = next(service for service in made if isinstance(service, GatewayService))
            yield House(runtime, gateway, f"ws://127.0.0.1:{port}", people)
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


class Drawer:
    """A shelf that is a directory, and says how far it has come."""

    def __init__(self, house: House, place: Path, account: Account) -> None:
        self.house, self.place, self.account = house, place, account

    async def upload(self, path: Path) -> tuple[str, dict[str, Any]]:
        data = path.read_bytes()
        runtime = self.house.runtime
        file_id, person = runtime.ids.next(), int(self.account.person["person_id"])
        enterprise = int(self.account.enterprise["enterprise_id"])
        (self.place / str(file_id)).write_bytes(data)
        await put(runtime.db, file_id, FileRow(enterprise, person, path.name))
        return "file", {"file_id": str(file_id), "name": path.name, "size": len(data), "type": "text/plain"}

    async def save(self, entry: Entry) -> Path:
        kept = self.place / f"saved-{entry.body['name']}"
        kept.write_bytes((self.place / entry.body["file_id"]).read_bytes())
        return kept


async def test_a_file_is_sent_and_saved_where_somebody_moves_files(house: House, tmp_path: Path) -> None:
    sent = tmp_path / "纪要 一.txt"
    sent.write_text("会议纪要" * 200)

    def shelf(account: Account) -> Drawer:
        return Drawer(house, tmp_path, account)

    async with (
        house.chatting("zhangwei", shelf=shelf) as wei,
        house.chatting("wangfang", shelf=shelf) as fang,
    ):
        wei.type("/单聊 王芳")
        await wei.sees("━━ 王芳 ━━")
        wei.type(f"/文件 {tmp_path}/没有.txt")
        await wei.sees("没有发出「没有.txt」")
        wei.type(f"/文件 {sent}")
        await wei.sees("我： [文件] 纪要 一.txt (2.3 KB)")
        fang.type("/进入 张伟")
        seen = await fang.sees(lambda s: s.startswith("[") and "张伟： [文件] 纪要 一.txt" in s)
        seq = seen[1 : seen.index("]")]
        fang.type("/保存 1")
        await fang.sees("这一行没有文件")
        fang.type(f"/保存 {seq}")
        await fang.sees("已保存到")
        assert (tmp_path / "saved-纪要 一.txt").read_text() == sent.read_text()
        wei.type(f"/撤回 {seq}")
        await fang.sees(f"撤回了 [{seq}]")
        fang.shown.clear()
        fang.type(f"/保存 {seq}")
        await fang.sees("这一行没有文件")
        me = int(house.people["zhangwei"].person_id)
        enterprise = int(house.people["zhangwei"].enterprise_id or 0)
        for what, value in (
            ("upload", {"name": "甲.mp4", "received": 42, "size": 100}),
            ("upload", {"name": "甲.mp4", "received": 73, "size": 100, "upload_id": "5"}),
            ("upload", 5),
            ("other", {}),
        ):
            signal_person(house.runtime, enterprise, me, what, value)
        await wei.asks("/状态", "正在上传 42% | 正在上传 73%")
        for more in ({}, {"upload_id": "5"}):
            ended = {"name": "甲.mp4", "received": 100, "size": 100, **more}
            signal_person(house.runtime, enterprise, me, "upload", ended)
        for _ in range(50):
            wei.shown.clear()
            wei.type("/状态")
            if "正在上传" not in await wei.sees("已连接"):
                break
        else:
            raise AssertionError("an upload that has ended is shown for ever")
    async with house.chatting("zhangwei") as wei:
        wei.type("/文件 a.txt")
        await wei.sees("没有 /文件 这个命令")


async def test_a_wrong_password_and_a_missing_gateway_are_told(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"hub_url": house.hub_url, "login": "zhangwei", "password": "wrong", "face": Script()}
    assert await chat(gateway_url=house.gateway_url, **given) == 1  # type: ignore[arg-type]
    assert await chat(gateway_url="http://127.0.0.1:9", **given) == 1  # type: ignore[arg-type]
    told = capsys.readouterr().err
    assert "登录名或密码不正确" in told
    assert "连接不上网关" in told


async def test_the_banks_staff_are_asked_for_a_code(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []

    async def ask(question: str) -> str:
        asked.append(question)
        match len(asked):
            case 1:
                return "12345"
            case 2:
                return "s"  # another message, too soon
            case 3:
                return "000000"
            case _:
                return await house.newest_code()

    script = Script()
    staff = house.people["sunqiang"]
    task = asyncio.create_task(
        chat(
            gateway_url=house.gateway_url, hub_url=house.hub_url, login=staff.login,
            password=staff.password, face=script, ask=ask,
        )
    )  # fmt: skip
    await script.sees("您好")
    await script.sees("没有企业聊天的权限")
    assert await task == 1, "logged in, but the bank's staff do not talk in enterprises"
    told = capsys.readouterr().err
    for said_so in ("验证码已发送到你绑定的手机", "验证码是 6 位数字", "太频繁了", "验证码不正确或已失效"):
        assert said_so in told
    assert all("短信验证码" in question for question in asked)


async def test_who_has_an_authenticator_is_asked_for_its_code(house: House) -> None:
    staff, clock, secret = house.people["liuyang"], SystemClock(), b"12345678901234567890"
    await house.enrol(staff, secret)
    asked: list[str] = []

    async def ask(question: str) -> str:
        asked.append(question)
        return rules.hotp(secret, clock.now_ms() // 30_000)

    script = Script()
    task = asyncio.create_task(
        chat(
            gateway_url=house.gateway_url, hub_url=house.hub_url, login=staff.login,
            password=staff.password, face=script, ask=ask,
        )
    )  # fmt: skip
    await script.sees("您好")
    script.type("/退出")
    assert await task == 0
    assert len(asked) == 1
    assert "验证器动态码，或恢复码" in asked[0]


async def test_without_anybody_to_type_the_code_it_ends(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ask(question: str) -> str:
        raise EOFError

    staff = house.people["sunqiang"]
    given = {"hub_url": house.hub_url, "login": "sunqiang", "password": staff.password, "face": Script()}
    assert await chat(gateway_url=house.gateway_url, ask=ask, **given) == 1  # type: ignore[arg-type]
    assert "没有输入验证码" in capsys.readouterr().err
