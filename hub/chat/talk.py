"""What one person's chat is made of while it runs: connection, knowledge, screen, and the conversation that is open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from hub.chat.faces import Face
from hub.chat.model import Conversation, Model
from hub.chat.ports import FileRefused, Shelf
from hub.chat.words import line, people_in
from hub.client import Client, Closed, Disconnected, Entry, HubError

HISTORY: Final = 20
HELD: Final = 1 << 60

ERRORS: Final[Mapping[str, str]] = {
    "not_found": "没有找到，或者您不在这个会话里", "forbidden": "没有权限", "conflict": "与现有内容冲突",
    "invalid": "内容不符合要求", "too_many_requests": "太频繁了，请稍后再试", "unavailable": "服务暂时不可用",
    "unauthenticated": "登录名或密码不正确", "deadline_exceeded": "等待超时，结果未知", "too_large": "内容太长",
}  # fmt: skip


def explained(error: HubError) -> str:
    """A refusal in Chinese; a code that has no words here is named."""
    if isinstance(error, FileRefused):
        return error.message
    return ERRORS.get(error.code) or f"没有成功（{error.code}）"


class Wrong(Exception):
    """What was typed does not make sense; the text says why."""


class Talk:
    """Shared by the program, which listens, and the commands, which act."""

    def __init__(self, client: Client, model: Model, face: Face, shelf: Shelf | None) -> None:
        self.client, self.model, self.face, self.shelf = client, model, face, shelf
        self.current: Conversation | None = None
        self.typing: dict[tuple[str, str], float] = {}  # (conversation, person) → until when it is shown
        self.uploads: dict[
            str, tuple[int, int, float]
        ] = {}  # upload, or name → (done, size, until when it is shown)
        self.running: set[asyncio.Task[None]] = set()

    async def call(self, action: str, *, again: bool = True, **fields: Any) -> Any:
        """Calls an action; one that only asks may be asked `again`."""
        key = None if again else self.client.new_key()
        return await self.client.call(action, fields, key=key, again=again)

    def here(self) -> Conversation:
        """The conversation that is open. Raises `Wrong`."""
        if self.current is None:
            raise Wrong("先打开一个会话：/会话 查看，/进入 编号 打开")
        return self.current

    async def guarded(self, command: Callable[[list[str]], Awaitable[None]], rest: list[str]) -> None:
        """Does what was typed; what goes wrong is told."""
        try:
            await command(rest)
        except HubError as error:
            self.face.show(explained(error), "bad")
        except (TimeoutError, Disconnected):
            self.face.show("连接中断，结果未知，请重试", "bad")
        except Wrong as wrong:
            self.face.show(str(wrong), "bad")

    # --- saying ---------------------------------------------------------------------------------------------------

    def say(self, text: str, reply_to: int | None = None) -> None:
        """Sends without making the person wait: the line appears when it is committed. Raises `Wrong`."""
        conversation = self.here()

        async def send() -> None:
            await self.client.send(
                conversation.id, text, reply_to=reply_to, mentions=self.model.mentioned(text)
            )

        self.background(send(), text[:20])

    def background(self, work: Awaitable[None], what: str) -> None:
        """Something that is sent and takes its time; a refusal is told with `what` it was."""

        async def told() -> None:
            try:
                await work
            except HubError as error:
                self.face.show(f"没有发出「{what}」：{explained(error)}", "bad")
            except Closed as closed:
                self.face.show(f"没有发出「{what}」：{closed.reason}", "bad")
            except OSError as error:
                self.face.show(f"没有发出「{what}」：{error.strerror or type(error).__name__}", "bad")

        task = asyncio.create_task(told())
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    # --- looking --------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """People first, so that conversations can be named."""
        after: Any = "0"
        while after is not None:
            page = await self.call("gateway.identity.list_members", after=after, limit=200)
            self.model.names.update({str(m["person_id"]): str(m["name"]) for m in page["members"]})
            after = page["next"]
        after = "0"
        while after is not None:
            page = await self.call("im.conversations.list", after=after, limit=200)
            for told in page["conversations"]:
                conversation = self.model.learn(told)
                if told.get("last"):
                    self.model.take(entry_of(conversation.id, told["last"]))
                    conversation.unread = int(told["unread"])
            after = page["next"]
        others = [person for person in self.model.names if person != self.model.me][:500]
        online = await self.client.watch(others)
        self.model.online = {person for person, there in online.items() if there} | {self.model.me}

    async def learn_names(self, people: Iterable[str]) -> None:
        """Names of those who came after us, or left before."""
        model = self.model
        unknown = [one for one in people if one not in model.names and one not in model.former][:200]
        if unknown:
            with suppress(HubError, TimeoutError, Disconnected):
                found = await self.call("gateway.identity.names", person_ids=unknown)
                for one in found["people"]:
                    (model.names if one["member"] else model.former)[str(one["person_id"])] = str(one["name"])

    async def enter(self, conversation: Conversation) -> None:
        """Opens a conversation: what was said last, at least all that is unread."""
        self.current = conversation
        count = conversation.member_count
        self.face.show(
            f"━━ {conversation.title}{f'（{count} 人）' if conversation.kind == 'group' else ''} ━━", "head"
        )
        await self.show_history(conversation, None, max(HISTORY, min(conversation.unread, 200)))
        conversation.unread = 0
        if conversation.head:
            self.client.read(conversation.id, conversation.head)

    async def show_history(self, conversation: Conversation, before: int | None, limit: int) -> None:
        """A page of what was said before a seq, and what came meanwhile."""
        shown, conversation.shown = conversation.shown, HELD  # what comes meanwhile is shown behind
        try:
            found = await self.call(
                "im.messages.history", conversation_id=conversation.id, before=before, limit=limit
            )
            entries = [entry_of(conversation.id, fields) for fields in found["entries"]]
            await self.learn_names({person for entry in entries for person in people_in(entry)})
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

    # --- the line below -------------------------------------------------------------------------------------------

    def prompt(self) -> str:
        """What stands in front of what is typed."""
        return self.current.title if self.current is not None else "bankhub"

    def status(self) -> str:
        """One line: connection, unread, who types, what is under way."""
        state = {"online": "已连接", "connecting": "正在连接…", "waiting": "等待重连…", "closed": "已断开"}
        parts = [state[self.client.state]]
        unread = sum(c.unread for c in self.model.conversations.values())
        if unread:
            parts.append(f"{unread} 条未读")
        now_s = asyncio.get_running_loop().time()
        here = self.current
        names = [
            self.model.name(u)
            for (c, u), until in self.typing.items()
            if until > now_s and here and c == here.id
        ]
        if names:
            parts.append(f"{'、'.join(names)} 正在输入…")
        if here is not None and here.kind == "direct":
            peer = next((p for p in here.members if p != self.model.me), None)
            parts.append("对方在线" if peer in self.model.online else "对方不在线")
        under_way = [(done, size) for done, size, until_s in self.uploads.values() if until_s > now_s]
        parts += [f"正在上传 {100 * done // size}%" for done, size in under_way]
        return " | ".join(parts)


def entry_of(stream: str, fields: Mapping[str, Any]) -> Entry:
    """An entry as im's actions tell it."""
    return Entry(
        stream, int(fields["seq"]), str(fields["entry_id"]), str(fields["sender_id"]), str(fields["kind"]),
        int(fields["time_ms"]), fields["body"], fields["digest"], fields["options"],
    )  # fmt: skip
