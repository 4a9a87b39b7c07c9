"""The chat program: login, what arrives, what is typed. Its interface is Chinese, as its users are."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import aiohttp

from hub.chat.account import Account
from hub.chat.commands import Commands
from hub.chat.faces import Face, Plain, Terminal
from hub.chat.model import Model
from hub.chat.ports import Shelf
from hub.chat.second import Ask, NoFactor, at_terminal
from hub.chat.talk import Talk, explained
from hub.chat.words import line, people_in
from hub.client import INBOX, Client, Closed, Disconnected, Entry, Heard, HubError, Marks, Presence, Signal

TYPING_S: Final = 3.0  # between two signals, and how long one is shown
UPLOAD_S: Final = 10.0  # an upload of which nothing was heard for so long is not shown any more
ANSWER_S: Final = 30.0  # a script that sends and ends waits so long for the answers


async def chat(
    *,
    gateway_url: str,
    hub_url: str,
    login: str,
    password: str,
    to: str | None = None,
    face: Face | None = None,
    shelf: Callable[[Account], Shelf] | None = None,
    ask: Ask = at_terminal,
) -> int:
    """Talks until the end of input; the exit code. Without a terminal it reads lines and prints lines."""
    device = f"terminal-{os.urandom(4).hex()}"  # several terminals of one person are several devices
    async with Account(gateway_url, login, password, device) as account:
        try:
            await account.log_in(ask)
        except HubError as error:
            sys.stderr.write(f"登录失败：{explained(error)}\n")
            return 1
        except NoFactor as error:
            sys.stderr.write(f"登录失败：{error}\n")
            return 1
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            sys.stderr.write(
                f"连接不上网关 {gateway_url}：{type(error).__name__}（./bankhub up 启动了吗？）\n"
            )
            return 1
        program = Program(account, hub_url, device, face, None if shelf is None else shelf(account))
        try:
            return await program.run(to)
        finally:
            with suppress(HubError, OSError, aiohttp.ClientError, TimeoutError):
                await account.log_out()


class Program:
    """One person in front of one terminal."""

    def __init__(
        self, account: Account, hub_url: str, device: str, face: Face | None, shelf: Shelf | None
    ) -> None:
        self.account = account
        self.model = Model(str(account.person["person_id"]))
        self.client = Client(
            hub_url, account.token, device=device, start="head", on_heard=self._heard, platform="terminal"
        )
        if face is None:
            interactive = sys.stdin.isatty() and sys.stdout.isatty()
            face = Terminal(self._prompt, self._status, self._typed) if interactive else Plain()
        self.face = face
        self.talk = Talk(self.client, self.model, face, shelf)
        self._commands = Commands(self.talk).table()
        self._typed_s = 0.0
        self._away = False  # disconnected, and said so
        self._barred = False  # logged in, but may not talk here

    def _prompt(self) -> str:
        return self.talk.prompt()

    def _status(self) -> str:
        return self.talk.status()

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
            if self.talk.running:
                await asyncio.wait(self.talk.running, timeout=ANSWER_S)
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
        return 1 if self._barred else 0

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
        if self.talk.current is gone:
            self.talk.current = None

    async def _entry(self, entry: Entry) -> None:
        model = self.model
        if entry.stream not in model.conversations and entry.stream != "inbox":
            with suppress(HubError, TimeoutError, Disconnected):
                model.learn(await self.talk.call("im.conversations.get", conversation_id=entry.stream))
        known = model.conversations.get(entry.stream)
        newer = known is not None and entry.seq > known.head
        await self.talk.learn_names(people_in(entry))
        conversation = model.take(entry)
        if conversation is None:
            return
        self.talk.typing.pop((conversation.id, entry.sender), None)
        shown = line(model, conversation, entry)
        if shown is None:
            return
        called = model.me in ((entry.options or {}).get("mentions") or ())
        if conversation is self.talk.current and entry.seq <= conversation.shown:
            return
        if conversation is self.talk.current:
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

    def _heard(self, what: Heard) -> None:
        model = self.model
        if isinstance(what, Marks):
            for person, seq in model.marked(what.stream, what.of):
                conversation = model.conversations[what.stream]
                self.face.show(f"  ✓ {model.name(person)} 已读「{conversation.title}」[{seq}]", "news")
        elif isinstance(what, Signal):
            if what.what == "typing":
                loop = asyncio.get_running_loop()
                self.talk.typing[what.conversation, what.user] = loop.time() + 2 * TYPING_S
            elif (what.conversation, what.what) == (INBOX, "upload"):
                self._upload(what.value)
        elif isinstance(what, Presence):
            (model.online.add if what.online else model.online.discard)(what.user)
        elif what == "waiting" and not self._away:
            self._away = True
            self.face.show("—— 连接断开，正在重连…（输入任意内容立即重试）", "news")
        elif what == "online" and self._away:
            self._away = False
            self.face.show("—— 已重新连接", "news")

    def _upload(self, value: object) -> None:
        """How far an upload has come; it is in the status line until it has."""
        told = value if isinstance(value, dict) else {}
        which, done, size = told.get("upload_id") or told.get("name"), told.get("received"), told.get("size")
        if not isinstance(which, str) or not isinstance(done, int) or not isinstance(size, int):
            return
        self.talk.uploads.pop(which, None)
        if 0 <= done < size:
            until_s = asyncio.get_running_loop().time() + UPLOAD_S
            self.talk.uploads[which] = (done, size, until_s)

    # --- out ------------------------------------------------------------------------------------------------------

    async def _type(self, to: str | None) -> None:
        talk, open_one = self.talk, self._commands["/进入"]
        try:
            await talk.load()
        except HubError as error:
            if error.code != "forbidden":
                raise
            self._barred = True
            self.face.show("此账号没有企业聊天的权限（本行工作人员与访客不参与企业聊天）", "bad")
            return
        if isinstance(self.face, Terminal):
            self.face.complete([*self._commands, *(f"@{name}" for name in self.model.names.values())])
        if self.model.conversations:
            await talk.guarded(self._commands["/会话"], [])
            await talk.guarded(open_one, [to or "1"])
        elif to is not None:
            await talk.guarded(open_one, [to])
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
                    await talk.guarded(command, rest)
            elif typed:
                await talk.guarded(self._text, [typed])

    async def _text(self, typed: list[str]) -> None:
        self.talk.say(" ".join(typed))

    def _typed(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self.talk.current is not None and now_s - self._typed_s >= TYPING_S:
            self._typed_s = now_s
            self.client.signal(self.talk.current.id, "typing", True)
