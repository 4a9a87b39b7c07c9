"""What a person can type behind a slash."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from hub.chat.model import FILES
from hub.chat.talk import HISTORY, Talk, Wrong
from hub.chat.words import listing, safe

ANSWER_S: Final = 30.0

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
FILES_HELP: Final = """\
  /文件 路径       上传并发送一个文件        /保存 序号        保存一条消息里的文件
English: /file /save"""


class Commands:
    """By word; each is given what stood behind it. Raises `Wrong`, and what the client raises."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def table(self) -> dict[str, Callable[[list[str]], Awaitable[None]]]:
        """Every word there is."""
        table = {
            self._list: "会话 list l", self._open: "进入 open o", self._direct: "单聊 direct",
            self._group: "建群 group", self._history: "历史 history h", self._reply: "回复 reply r",
            self._recall: "撤回 recall", self._edit: "编辑 edit", self._react: "回应 表情 react",
            self._who: "谁看了 who", self._members: "成员 members",
            self._people: "同事 people", self._add: "加人 add", self._remove: "移出 remove", self._leave: "退群 leave",
            self._rename: "改名 rename", self._online: "在线 online", self._show_status: "状态 status",
            self._help: "帮助 help ?",
            **({self._file: "文件 file", self._save: "保存 save"} if self._talk.shelf is not None else {}),
        }  # fmt: skip
        return {f"/{word}": command for command, words in table.items() for word in words.split()}

    async def _list(self, rest: list[str]) -> None:
        for text in listing(self._talk.model, self._talk.current.id if self._talk.current else None):
            self._talk.face.show(text)
        self._talk.face.show("/进入 编号 打开另一个会话", "news")

    async def _open(self, rest: list[str]) -> None:
        word = _words(rest, 1, "/进入 编号|名称")
        conversation = self._talk.model.conversation(word)
        if conversation is None:
            person = self._talk.model.person(word)
            if person is None or person == self._talk.model.me:
                raise Wrong(f"没有「{word}」这个会话或同事")
            await self._direct([word])
            return
        await self._talk.enter(conversation)

    async def _history(self, rest: list[str]) -> None:
        conversation = self._talk.here()
        limit = int(rest[0]) if rest and rest[0].isdecimal() else HISTORY
        oldest = min(conversation.entries, default=None)
        if oldest is not None and oldest <= 1:
            self._talk.face.show("—— 没有更早的消息", "news")
            return
        await self._talk.show_history(conversation, oldest, max(1, min(limit, 200)))

    async def _direct(self, rest: list[str]) -> None:
        person = self._one(_words(rest, 1, "/单聊 姓名"))
        told = await self._talk.call("im.conversations.open_direct", again=False, person_id=person)
        await self._talk.enter(self._talk.model.learn(told))

    async def _group(self, rest: list[str]) -> None:
        if len(rest) < 2:
            raise Wrong("用法：/建群 群名 姓名…")
        members = [self._one(word) for word in rest[1:]]
        told = await self._talk.call(
            "im.conversations.create_group", again=False, title=rest[0], members=members
        )
        await self._talk.enter(self._talk.model.learn(told))

    async def _reply(self, rest: list[str]) -> None:
        seq, text = _seq_and(rest, "/回复 序号 文字")
        self._talk.say(text, reply_to=seq)

    async def _recall(self, rest: list[str]) -> None:
        await self._talk.client.amend(
            self._talk.here().id, _seq(rest, "/撤回 序号"), "recall", timeout_s=ANSWER_S
        )

    async def _edit(self, rest: list[str]) -> None:
        seq, text = _seq_and(rest, "/编辑 序号 文字")
        await self._talk.client.amend(self._talk.here().id, seq, "edit", text, timeout_s=ANSWER_S)

    async def _react(self, rest: list[str]) -> None:
        seq, emoji = _seq_and(rest, "/回应 序号 表情")
        await self._talk.client.amend(self._talk.here().id, seq, "react", emoji, timeout_s=ANSWER_S)

    async def _who(self, rest: list[str]) -> None:
        seq = _seq(rest, "/谁看了 序号")
        told = await self._talk.call("im.messages.readers", conversation_id=self._talk.here().id, seq=seq)
        groups: dict[str, list[str]] = {"已读": [], "送达": [], "未送达": []}
        for reader in told["readers"]:
            state = "已读" if reader["read"] else "送达" if reader["delivered"] else "未送达"
            groups[state].append(self._talk.model.name(str(reader["person_id"])))
        for state, names in groups.items():
            if names:
                self._talk.face.show(f"  {state}：{'、'.join(names)}")

    async def _members(self, rest: list[str]) -> None:
        told = await self._talk.call("im.conversations.get", conversation_id=self._talk.here().id)
        for member in told["members"]:
            person = str(member["person_id"])
            owner = "（群主）" if member["role"] == "owner" and told["kind"] == "group" else ""
            self._talk.face.show(
                f"  {'●' if person in self._talk.model.online else '○'} {self._talk.model.name(person)}{owner}"
            )

    async def _people(self, rest: list[str]) -> None:
        for person, name in sorted(self._talk.model.names.items(), key=lambda item: item[1]):
            self._talk.face.show(f"  {'●' if person in self._talk.model.online else '○'} {name}")

    async def _add(self, rest: list[str]) -> None:
        members = [self._one(word) for word in rest]
        if not members:
            raise Wrong("用法：/加人 姓名…")
        await self._talk.call(
            "im.conversations.add_members", again=False, conversation_id=self._talk.here().id, members=members
        )

    async def _remove(self, rest: list[str]) -> None:
        person = self._one(_words(rest, 1, "/移出 姓名"))
        await self._talk.call(
            "im.conversations.remove_member",
            again=False,
            conversation_id=self._talk.here().id,
            person_id=person,
        )

    async def _leave(self, rest: list[str]) -> None:
        await self._talk.call(
            "im.conversations.remove_member",
            again=False,
            conversation_id=self._talk.here().id,
            person_id=self._talk.model.me,
        )

    async def _rename(self, rest: list[str]) -> None:
        title = _words(rest, 1, "/改名 群名")
        await self._talk.call(
            "im.conversations.rename", again=False, conversation_id=self._talk.here().id, title=title
        )

    async def _online(self, rest: list[str]) -> None:
        names = [
            self._talk.model.name(person)
            for person in sorted(self._talk.model.online - {self._talk.model.me})
        ]
        self._talk.face.show(f"在线：{'、'.join(names) or '只有您'}")

    async def _show_status(self, rest: list[str]) -> None:
        self._talk.face.show(self._talk.status())

    async def _help(self, rest: list[str]) -> None:
        self._talk.face.show(HELP if self._talk.shelf is None else f"{HELP}\n{FILES_HELP}")

    # --- files ----------------------------------------------------------------------------------------------------

    async def _file(self, rest: list[str]) -> None:
        """Uploads in the background; the conversation that is open now gets it."""
        talk, shelf = self._talk, self._talk.shelf
        assert shelf is not None
        path, conversation = Path(_words(rest, 1, "/文件 路径")).expanduser(), talk.here()

        async def send() -> None:
            kind, body = await shelf.upload(path)
            talk.uploads.pop(path.name, None)
            await talk.client.send(conversation.id, dict(body), kind=kind)

        talk.background(send(), path.name)

    async def _save(self, rest: list[str]) -> None:
        talk, shelf = self._talk, self._talk.shelf
        assert shelf is not None
        entry = talk.here().entries.get(_seq(rest, "/保存 序号"))
        if (
            entry is None
            or entry.kind not in FILES
            or entry.body is None
            or entry.seq in talk.here().recalled
        ):
            raise Wrong("这一行没有文件")
        try:
            saved = await shelf.save(entry)
        except OSError as error:
            raise Wrong(f"没有保存：{error.strerror or type(error).__name__}") from error
        talk.face.show(f"  已保存到 {safe(str(saved))}", "news")

    # --- words ----------------------------------------------------------------------------------------------------

    def _one(self, word: str) -> str:
        person = self._talk.model.person(word.removeprefix("@"))
        if person is None:
            raise Wrong(f"没有（或不止一个）叫「{word}」的同事；/同事 查看")
        return person


def _words(rest: Sequence[str], least: int, usage: str) -> str:
    if len(rest) < least:
        raise Wrong(f"用法：{usage}")
    return " ".join(rest)


def _seq(rest: Sequence[str], usage: str) -> int:
    if not rest or not rest[0].strip("[]").isdecimal():
        raise Wrong(f"用法：{usage}（序号是每行开头方括号里的数字）")
    return int(rest[0].strip("[]"))


def _seq_and(rest: Sequence[str], usage: str) -> tuple[int, str]:
    seq = _seq(rest, usage)
    return seq, _words(rest[1:], 1, usage)
