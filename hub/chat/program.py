"""The chat program: login, conversations, commands. Its interface is Chinese, as its users are."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import aiohttp

from hub.chat.account import Account
from hub.chat.faces import Face, Plain, Terminal
from hub.chat.model import Conversation, Model, line, listing, people_in
from hub.client import Client, Closed, Disconnected, Entry, Heard, HubError, Marks, Presence, Signal

HISTORY: Final = 20
TYPING_S: Final = 3.0  # between two signals, and how long one is shown
HELD: Final = 1 << 60
ANSWER_S: Final = 30.0  # a script that sends and ends waits so long for the answers

HELP: Final = """\
直接输入文字即发送；@姓名 提到某人。命令：
  /会话            列出会话与未读数          /进入 编号|名称    打开会话
  /单聊 姓名       与某人单聊                /建群 群名 姓名…   建立群聊
  /历史 [条数]     往前看                    /回复 序号 文字    回复一条消息
  /撤回 序号       撤回自己的消息            /编辑 序号 文字    修改自己的消息
  /回应 序号 表情  对消息回应                /谁看了 序号       谁已读、谁已收到
  /成员            会话成员                  /同事              本企业的同事
  /加人 姓名…      加入群聊                  /移出 姓名         移出群聊
  /退群            离开群聊                  /改名 群名         修改群名
  /在线            谁在线                    /状态              连接状态
  /帮助            本说明                    /退出              结束
English: /list /open /direct /group /history /reply /recall /edit /react /who /members /people /add /remove /leave
/rename /online /status /help /quit"""

ERRORS: Final[Mapping[str, str]] = {
    "not_found": "没有找到，或者您不在这个会话里", "forbidden": "没有权限", "conflict": "与现有内容冲突",
    "invalid": "内容不符合要求", "too_many_requests": "太频繁了，请稍后再试", "unavailable": "服务暂时不可用",
    "unauthenticated": "登录名或密码不正确", "deadline_exceeded": "等待超时，结果未知", "too_large": "内容太长",
}  # fmt: skip


def explained(error: HubError) -> str:
    """A refusal in Chinese; a code that has no words here is named."""
    return ERRORS.get(error.code) or f"没有成功（{error.code}）"


async def chat(
    *,
    gateway_url: str,
    hub_url: str,
    login: str,
    password: str,
    to: str | None = None,
    face: Face | None = None,
) -> int:
    """Talks until the end of input; the exit code. Without a terminal it reads lines and prints lines."""
    device = f"terminal-{os.urandom(4).hex()}"  # several terminals of one person are several devices
    async with Account(gateway_url, login, password, device) as account:
        try:
            await account.log_in()
        except HubError as error:
            sys.stderr.write(f"登录失败：{explained(error)}\n")
            return 1
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            sys.stderr.write(
                f"连接不上网关 {gateway_url}：{type(error).__name__}（./bankhub up 启动了吗？）\n"
            )
            return 1
        program = Program(account, hub_url, device, face)
        try:
            return await program.run(to)
        finally:
            with suppress(HubError, OSError, aiohttp.ClientError, TimeoutError):
                await account.log_out()


class Program:
    """One person in front of one terminal."""

    def __init__(self, account: Account, hub_url: str, device: str, face: Face | None) -> None:
        self.account = account
        self.model = Model(str(account.person["person_id"]))
        self.client = Client(
            hub_url, account.token, device=device, start="head", on_heard=self._heard, platform="terminal"
        )
        if face is None:
            interactive = sys.stdin.isatty() and sys.stdout.isatty()
            face = Terminal(self._prompt, self._status, self._typed) if interactive else Plain()
        self.face = face
        self.current: Conversation | None = None
        self._typing: dict[tuple[str, str], float] = {}
        self._typed_s = 0.0
        self._away = False  # disconnected, and said so
        self._running: set[asyncio.Task[None]] = set()
        self._commands = self._command_table()

    async def run(self, to: str | None) -> int:
        """Until the end of input, or until the hub does not want this session any more."""
        async with self.client as client:
            try:
                await client.online()
            except (TimeoutError, Closed):
                self.face.show(f"连接不上消息中心：{client.reason}", "bad")
                return 1
            name, enterprise = self.account.person["name"], self.account.enterprise["name"]
            self.face.show(f"{name}，您好。{enterprise}。输入 /帮助 查看命令。", "head")
            listening = asyncio.create_task(self._listen())
            typing = asyncio.create_task(self._type(to))
            await asyncio.wait((listening, typing), return_when=asyncio.FIRST_COMPLETED)
            if self._running:
                await asyncio.wait(self._running, timeout=ANSWER_S)
            ended = client.ended
            for task in (listening, typing):
                task.cancel()
            await asyncio.wait((listening, typing))
            for task in (listening, typing):
                if not task.cancelled() and (failure := task.exception()) is not None:
                    raise failure
        if ended is not None:
            self.face.show(f"会话已结束：{ended.reason}（{ended.code}）", "bad")
            return 1
        return 0

    # --- in -------------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        async for item in self.client.items():
            if isinstance(item, Entry):
                await self._entry(item)
            elif item.what == "left":
                self._gone(item.stream)

    def _gone(self, stream: str) -> None:
        gone = self.model.conversations.pop(stream, None)
        if gone is None:
            return
        self.face.show(f"—— 您已不在「{gone.title}」", "news")
        if self.current is gone:
            self.current = None

    async def _entry(self, entry: Entry) -> None:
        model = self.model
        if entry.stream not in model.conversations and entry.stream != "inbox":
            with suppress(HubError, TimeoutError, Disconnected):
                model.learn(await self._call("im.conversations.get", conversation_id=entry.stream))
        known = model.conversations.get(entry.stream)
        newer = known is not None and entry.seq > known.head
        await self._learn_names(people_in(entry))
        conversation = model.take(entry)
        if conversation is None:
            return
        self._typing.pop((conversation.id, entry.sender), None)
        shown = line(model, conversation, entry)
        if shown is None:
            return
        called = model.me in ((entry.options or {}).get("mentions") or ())
        if conversation is self.current and entry.seq <= conversation.shown:
            return
        if conversation is self.current:
            conversation.shown = entry.seq
            self.face.show(shown, "call" if called else "mine" if entry.sender == model.me else "")
            self.client.read(conversation.id, entry.seq)
        elif entry.sender != model.me:
            conversation.unread += newer  # not if the list of conversations counted it already
            style = "call" if called else "news"
            unread = f"（{conversation.unread} 条未读）" if conversation.unread else ""
            self.face.show(f"● {conversation.title}{unread} {shown}", style)
        if entry.kind == "membership" and model.me in entry.body.get("removed", ()):
            self._gone(entry.stream)

    async def _learn_names(self, people: Iterable[str]) -> None:
        """Names of those who came after us, or left before."""
        model = self.model
        unknown = [one for one in people if one not in model.names and one not in model.former][:200]
        if unknown:
            with suppress(HubError, TimeoutError, Disconnected):
                found = await self._call("gateway.identity.names", person_ids=unknown)
                for one in found["people"]:
                    (model.names if one["member"] else model.former)[str(one["person_id"])] = str(one["name"])

    def _heard(self, what: Heard) -> None:
        model = self.model
        if isinstance(what, Marks):
            for person, seq in model.marked(what.stream, what.of):
                conversation = model.conversations[what.stream]
                self.face.show(f"  ✓ {model.name(person)} 已读「{conversation.title}」[{seq}]", "news")
        elif isinstance(what, Signal):
            if what.what == "typing":
                loop = asyncio.get_running_loop()
                self._typing[what.conversation, what.user] = loop.time() + 2 * TYPING_S
        elif isinstance(what, Presence):
            (model.online.add if what.online else model.online.discard)(what.user)
        elif what == "waiting" and not self._away:
            self._away = True
            self.face.show("—— 连接断开，正在重连…（输入任意内容立即重试）", "news")
        elif what == "online" and self._away:
            self._away = False
            self.face.show("—— 已重新连接", "news")

    # --- out ------------------------------------------------------------------------------------------------------

    async def _type(self, to: str | None) -> None:
        await self._load()
        if self.model.conversations:
            await self._list([])
            await self._do(self._open, [to or "1"])
        elif to is not None:
            await self._do(self._open, [to])
        else:
            self.face.show("还没有会话：/单聊 姓名 或 /建群 群名 姓名… 开始，/同事 查看有谁", "news")
        async for typed in self.face.lines():
            typed = typed.strip()
            self.client.hurry()
            if typed in ("/退出", "/quit", "/q"):
                return
            if typed.startswith("/"):
                word, *rest = typed.split()
                command = self._commands.get(word)
                if command is None:
                    self.face.show(f"没有 {word} 这个命令；/帮助 查看", "bad")
                else:
                    await self._do(command, rest)
            elif typed:
                self._say(typed)

    async def _do(self, command: Callable[[list[str]], Awaitable[None]], rest: list[str]) -> None:
        try:
            await command(rest)
        except HubError as error:
            self.face.show(explained(error), "bad")
        except (TimeoutError, Disconnected):
            self.face.show("连接中断，结果未知，请重试", "bad")
        except _Wrong as wrong:
            self.face.show(str(wrong), "bad")

    def _say(self, text: str, reply_to: int | None = None) -> None:
        """Sends without making the person wait: the line appears when it is committed."""
        conversation = self.current
        if conversation is None:
            self.face.show("先打开一个会话：/会话 查看，/进入 编号 打开", "bad")
            return

        async def send() -> None:
            try:
                await self.client.send(
                    conversation.id, text, reply_to=reply_to, mentions=self.model.mentioned(text)
                )
            except HubError as error:
                self.face.show(f"没有发出「{text[:20]}」：{explained(error)}", "bad")
            except Closed as closed:
                self.face.show(f"没有发出「{text[:20]}」：{closed.reason}", "bad")

        self._background(send())

    def _background(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _call(self, action: str, *, again: bool = True, **fields: Any) -> Any:
        key = None if again else self.client.new_key()
        return await self.client.call(action, fields, key=key, again=again)

    # --- commands -------------------------------------------------------------------------------------------------

    def _command_table(self) -> dict[str, Callable[[list[str]], Awaitable[None]]]:
        table = {
            self._list: "会话 list l", self._open: "进入 open o", self._direct: "单聊 direct",
            self._group: "建群 group", self._history: "历史 history h", self._reply: "回复 reply r",
            self._recall: "撤回 recall", self._edit: "编辑 edit", self._react: "回应 表情 react",
            self._who: "谁看了 who", self._members: "成员 members",
            self._people: "同事 people", self._add: "加人 add", self._remove: "移出 remove", self._leave: "退群 leave",
            self._rename: "改名 rename", self._online: "在线 online", self._show_status: "状态 status",
            self._help: "帮助 help ?",
        }  # fmt: skip
        return {f"/{word}": command for command, words in table.items() for word in words.split()}

    async def _load(self) -> None:
        """People first, so that conversations can be named."""
        after: Any = "0"
        while after is not None:
            page = await self._call("gateway.identity.list_members", after=after, limit=200)
            self.model.names.update({str(m["person_id"]): str(m["name"]) for m in page["members"]})
            after = page["next"]
        after = "0"
        while after is not None:
            page = await self._call("im.conversations.list", after=after, limit=200)
            for told in page["conversations"]:
                conversation = self.model.learn(told)
                if told.get("last"):
                    self.model.take(_entry_of(conversation.id, told["last"]))
                    conversation.unread = int(told["unread"])
            after = page["next"]
        if isinstance(self.face, Terminal):
            self.face.complete([*self._commands, *(f"@{name}" for name in self.model.names.values())])
        others = [person for person in self.model.names if person != self.model.me][:500]
        online = await self.client.watch(others)
        self.model.online = {person for person, there in online.items() if there} | {self.model.me}

    async def _list(self, rest: list[str]) -> None:
        for text in listing(self.model, self.current.id if self.current else None):
            self.face.show(text)
        self.face.show("/进入 编号 打开另一个会话", "news")

    async def _open(self, rest: list[str]) -> None:
        word = _words(rest, 1, "/进入 编号|名称")
        conversation = self.model.conversation(word)
        if conversation is None:
            person = self.model.person(word)
            if person is None or person == self.model.me:
                raise _Wrong(f"没有「{word}」这个会话或同事")
            await self._direct([word])
            return
        await self._enter(conversation)

    async def _enter(self, conversation: Conversation) -> None:
        self.current = conversation
        count = conversation.member_count
        self.face.show(
            f"━━ {conversation.title}{f'（{count} 人）' if conversation.kind == 'group' else ''} ━━", "head"
        )
        await self._show_history(conversation, None, max(HISTORY, min(conversation.unread, 200)))
        conversation.unread = 0
        if conversation.head:
            self.client.read(conversation.id, conversation.head)

    async def _show_history(self, conversation: Conversation, before: int | None, limit: int) -> None:
        shown, conversation.shown = conversation.shown, HELD  # what comes meanwhile is shown behind
        try:
            found = await self._call(
                "im.messages.history", conversation_id=conversation.id, before=before, limit=limit
            )
            entries = [_entry_of(conversation.id, fields) for fields in found["entries"]]
            await self._learn_names({person for entry in entries for person in people_in(entry)})
        finally:
            conversation.shown = shown
        known = dict(conversation.entries)
        conversation.entries.clear()
        for entry in sorted({**known, **{e.seq: e for e in entries}}.values(), key=lambda e: e.seq):
            self.model.take(entry)
        last = entries[-1].seq if entries else 0
        late = [e for e in conversation.entries.values() if e.seq > (last if before is None else shown)]
        for entry in [*entries, *late]:
            if text := line(self.model, conversation, entry):
                self.face.show(text)
        conversation.shown = max(conversation.shown, conversation.head)

    async def _history(self, rest: list[str]) -> None:
        conversation = self._here()
        limit = int(rest[0]) if rest and rest[0].isdecimal() else HISTORY
        oldest = min(conversation.entries, default=None)
        if oldest is not None and oldest <= 1:
            self.face.show("—— 没有更早的消息", "news")
            return
        await self._show_history(conversation, oldest, max(1, min(limit, 200)))

    async def _direct(self, rest: list[str]) -> None:
        person = self._one(_words(rest, 1, "/单聊 姓名"))
        told = await self._call("im.conversations.open_direct", again=False, person_id=person)
        await self._enter(self.model.learn(told))

    async def _group(self, rest: list[str]) -> None:
        if len(rest) < 2:
            raise _Wrong("用法：/建群 群名 姓名…")
        members = [self._one(word) for word in rest[1:]]
        told = await self._call("im.conversations.create_group", again=False, title=rest[0], members=members)
        await self._enter(self.model.learn(told))

    async def _reply(self, rest: list[str]) -> None:
        seq, text = _seq_and(rest, "/回复 序号 文字")
        self._say(text, reply_to=seq)

    async def _recall(self, rest: list[str]) -> None:
        await self.client.amend(self._here().id, _seq(rest, "/撤回 序号"), "recall", timeout_s=ANSWER_S)

    async def _edit(self, rest: list[str]) -> None:
        seq, text = _seq_and(rest, "/编辑 序号 文字")
        await self.client.amend(self._here().id, seq, "edit", text, timeout_s=ANSWER_S)

    async def _react(self, rest: list[str]) -> None:
        seq, emoji = _seq_and(rest, "/回应 序号 表情")
        await self.client.amend(self._here().id, seq, "react", emoji, timeout_s=ANSWER_S)

    async def _who(self, rest: list[str]) -> None:
        seq = _seq(rest, "/谁看了 序号")
        told = await self._call("im.messages.readers", conversation_id=self._here().id, seq=seq)
        groups: dict[str, list[str]] = {"已读": [], "送达": [], "未送达": []}
        for reader in told["readers"]:
            state = "已读" if reader["read"] else "送达" if reader["delivered"] else "未送达"
            groups[state].append(self.model.name(str(reader["person_id"])))
        for state, names in groups.items():
            if names:
                self.face.show(f"  {state}：{'、'.join(names)}")

    async def _members(self, rest: list[str]) -> None:
        told = await self._call("im.conversations.get", conversation_id=self._here().id)
        for member in told["members"]:
            person = str(member["person_id"])
            owner = "（群主）" if member["role"] == "owner" and told["kind"] == "group" else ""
            self.face.show(
                f"  {'●' if person in self.model.online else '○'} {self.model.name(person)}{owner}"
            )

    async def _people(self, rest: list[str]) -> None:
        for person, name in sorted(self.model.names.items(), key=lambda item: item[1]):
            self.face.show(f"  {'●' if person in self.model.online else '○'} {name}")

    async def _add(self, rest: list[str]) -> None:
        members = [self._one(word) for word in rest]
        if not members:
            raise _Wrong("用法：/加人 姓名…")
        await self._call(
            "im.conversations.add_members", again=False, conversation_id=self._here().id, members=members
        )

    async def _remove(self, rest: list[str]) -> None:
        person = self._one(_words(rest, 1, "/移出 姓名"))
        await self._call(
            "im.conversations.remove_member", again=False, conversation_id=self._here().id, person_id=person
        )

    async def _leave(self, rest: list[str]) -> None:
        await self._call(
            "im.conversations.remove_member",
            again=False,
            conversation_id=self._here().id,
            person_id=self.model.me,
        )

    async def _rename(self, rest: list[str]) -> None:
        title = _words(rest, 1, "/改名 群名")
        await self._call("im.conversations.rename", again=False, conversation_id=self._here().id, title=title)

    async def _online(self, rest: list[str]) -> None:
        names = [self.model.name(person) for person in sorted(self.model.online - {self.model.me})]
        self.face.show(f"在线：{'、'.join(names) or '只有您'}")

    async def _show_status(self, rest: list[str]) -> None:
        self.face.show(self._status())

    async def _help(self, rest: list[str]) -> None:
        self.face.show(HELP)

    # --- words ----------------------------------------------------------------------------------------------------

    def _here(self) -> Conversation:
        if self.current is None:
            raise _Wrong("先打开一个会话：/会话 查看，/进入 编号 打开")
        return self.current

    def _one(self, word: str) -> str:
        person = self.model.person(word.removeprefix("@"))
        if person is None:
            raise _Wrong(f"没有（或不止一个）叫「{word}」的同事；/同事 查看")
        return person

    def _prompt(self) -> str:
        return self.current.title if self.current is not None else "bankhub"

    def _status(self) -> str:
        state = {"online": "已连接", "connecting": "正在连接…", "waiting": "等待重连…", "closed": "已断开"}
        parts = [state[self.client.state]]
        unread = sum(c.unread for c in self.model.conversations.values())
        if unread:
            parts.append(f"{unread} 条未读")
        now_s = asyncio.get_running_loop().time()
        here = self.current
        names = [
            self.model.name(u)
            for (c, u), until in self._typing.items()
            if until > now_s and here and c == here.id
        ]
        if names:
            parts.append(f"{'、'.join(names)} 正在输入…")
        if here is not None and here.kind == "direct":
            peer = next((p for p in here.members if p != self.model.me), None)
            parts.append("对方在线" if peer in self.model.online else "对方不在线")
        return " | ".join(parts)

    def _typed(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self.current is not None and now_s - self._typed_s >= TYPING_S:
            self._typed_s = now_s
            self.client.signal(self.current.id, "typing", True)


class _Wrong(Exception):
    """What was typed does not make sense; the text says why."""


def _words(rest: Sequence[str], least: int, usage: str) -> str:
    if len(rest) < least:
        raise _Wrong(f"用法：{usage}")
    return " ".join(rest)


def _seq(rest: Sequence[str], usage: str) -> int:
    if not rest or not rest[0].strip("[]").isdecimal():
        raise _Wrong(f"用法：{usage}（序号是每行开头方括号里的数字）")
    return int(rest[0].strip("[]"))


def _seq_and(rest: Sequence[str], usage: str) -> tuple[int, str]:
    seq = _seq(rest, usage)
    return seq, _words(rest[1:], 1, usage)


def _entry_of(stream: str, fields: Mapping[str, Any]) -> Entry:
    """An entry as im's actions tell it."""
    return Entry(
        stream, int(fields["seq"]), str(fields["entry_id"]), str(fields["sender_id"]), str(fields["kind"]),
        int(fields["time_ms"]), fields["body"], fields["digest"], fields["options"],
    )  # fmt: skip
