"""What a chat knows, without a screen and without a network: conversations, people, and how an entry reads."""

from __future__ import annotations

import re
import unicodedata
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from hub.client import Entry

KEPT: Final = 500  # entries of a conversation that can be replied to and shown again
SHANGHAI: Final = ZoneInfo("Asia/Shanghai")
QUOTE_CHARS: Final = 24
_MENTION: Final = re.compile(r"@([^\s@,，。.!！?？:：、;；]{1,32})")


@dataclass
class Conversation:
    """One conversation as this person sees it."""

    id: str
    kind: str
    title: str
    members: list[str]
    head: int = 0
    unread: int = 0
    read: int = 0
    member_count: int = 0
    shown: int = 0  # newest seq on the screen since it was opened
    entries: OrderedDict[int, Entry] = field(default_factory=OrderedDict)
    marks: dict[str, tuple[int, int]] = field(default_factory=dict)  # person → (delivered, read)
    recalled: set[int] = field(default_factory=set)
    edited: dict[int, str] = field(default_factory=dict)
    reactions: dict[int, dict[str, str]] = field(default_factory=dict)  # seq → person → emoji


class Model:
    """Everything that was learnt."""

    def __init__(self, me: str) -> None:
        self.me = me
        self.names: dict[str, str] = {}
        self.former: dict[str, str] = {"0": "系统"}  # who has left; what they said stays
        self.online: set[str] = set()
        self.conversations: dict[str, Conversation] = {}

    # --- people ---------------------------------------------------------------------------------------------------

    def name(self, person: str) -> str:
        """What somebody is called here."""
        if person == self.me:
            return "我"
        return self.names.get(person) or self.former.get(person) or f"用户{person[-4:]}"

    def person(self, word: str) -> str | None:
        """The one person that a name, the beginning of one, or an id means."""
        if word in self.names:
            return word
        exact = [person for person, name in self.names.items() if name == word]
        found = exact or [person for person, name in self.names.items() if name.startswith(word)]
        return found[0] if len(found) == 1 else None

    def mentioned(self, text: str) -> list[str]:
        """Persons that a text calls with @."""
        found = (self.person(match) for match in _MENTION.findall(text))
        return list(dict.fromkeys(person for person in found if person is not None and person != self.me))

    # --- conversations --------------------------------------------------------------------------------------------

    def learn(self, told: Mapping[str, Any]) -> Conversation:
        """A conversation as im.conversations tells it."""
        id_ = str(told["conversation_id"])
        peer = told.get("peer_id")
        title = told.get("title") or (self.name(str(peer)) if peer else "会话")
        members = [str(person) for person in told.get("preview") or ()]
        known = self.conversations.get(id_)
        if known is None:
            known = self.conversations[id_] = Conversation(id_, str(told["kind"]), title, members)
        known.title, known.members = title, members
        known.head = max(known.head, int(told["head"]))
        known.read, known.unread = int(told["read"]), int(told["unread"])
        known.member_count = int(told["member_count"])
        return known

    def listed(self) -> list[Conversation]:
        """In the order of the list: unread ones first, then the newest."""
        newest = {id_: max(c.entries) if c.entries else 0 for id_, c in self.conversations.items()}
        return sorted(self.conversations.values(), key=lambda c: (not c.unread, -newest[c.id], c.title))

    def conversation(self, word: str) -> Conversation | None:
        """The one that a number in the list, a title, the beginning of one, or an id means."""
        listed = self.listed()
        if word.isdecimal() and 1 <= int(word) <= len(listed):
            return listed[int(word) - 1]
        if word in self.conversations:
            return self.conversations[word]
        found = [c for c in listed if c.title == word] or [c for c in listed if c.title.startswith(word)]
        return found[0] if len(found) == 1 else None

    def take(self, entry: Entry) -> Conversation | None:
        """An entry came; its conversation, None if that is not known yet."""
        conversation = self.conversations.get(entry.stream)
        if conversation is None:
            return None
        conversation.head = max(conversation.head, entry.seq)
        conversation.entries[entry.seq] = entry
        while len(conversation.entries) > KEPT:
            conversation.entries.popitem(last=False)
        body = entry.body if isinstance(entry.body, Mapping) else {}
        target, value = body.get("seq"), body.get("value")
        if entry.kind == "recall" and isinstance(target, int):
            conversation.recalled.add(target)
        elif entry.kind == "edit" and isinstance(target, int):
            said = value.get("text") if isinstance(value, Mapping) else value
            conversation.edited[target] = said if isinstance(said, str) else ""
        elif entry.kind == "react" and isinstance(target, int):
            given = conversation.reactions.setdefault(target, {})
            if value:
                given[entry.sender] = str(value)
            else:
                given.pop(entry.sender, None)
        elif entry.kind == "title" and isinstance(body.get("title"), str):
            conversation.title = body["title"]
        elif entry.kind == "membership":
            gone = set(body.get("removed") or ())
            added = [person for person in body.get("added") or () if person not in conversation.members]
            conversation.members = [p for p in conversation.members if p not in gone] + added
        if entry.sender == self.me:
            conversation.unread = 0
        return conversation

    def marked(self, stream: str, of: Mapping[str, tuple[int, int]]) -> list[tuple[str, int]]:
        """Watermarks came; (person, seq) of those who have now read my newest message."""
        conversation = self.conversations.get(stream)
        if conversation is None:
            return []
        mine = max(
            (e.seq for e in conversation.entries.values() if e.sender == self.me and e.text), default=0
        )
        news = []
        for person, (delivered, read) in of.items():
            before = conversation.marks.get(person, (0, 0))
            conversation.marks[person] = (max(before[0], delivered), max(before[1], read))
            if person == self.me and read >= conversation.head:
                conversation.unread = 0  # read on another device
            if person != self.me and mine and before[1] < mine <= read:
                news.append((person, mine))
        return news

    def tick(self, conversation: Conversation, seq: int) -> str:
        """How far one's own message has come; empty for old ones of which nothing was heard yet."""
        if not conversation.marks:
            return "已发送" if seq == conversation.head else ""
        others = [marks for person, marks in conversation.marks.items() if person != self.me]
        read = sum(marks[1] >= seq for marks in others)
        got = sum(marks[0] >= seq for marks in others)
        if conversation.kind == "direct":
            return "已读" if read else "送达" if got else "已发送"
        return f"{read} 人已读" if read else f"{got} 人收到" if got else "已发送"


def words(model: Model, conversation: Conversation, entry: Entry) -> str | None:
    """What an entry says, on one line; None for what only changes another line."""
    name = model.name(entry.sender)
    body = entry.body if isinstance(entry.body, Mapping) else {}
    if entry.kind == "text":
        if entry.seq in conversation.recalled or entry.body is None:
            return f"{name} 撤回了一条消息"
        text = conversation.edited.get(entry.seq, entry.text or "")
        return safe(text) + ("(已编辑)" if entry.seq in conversation.edited else "")
    if entry.kind == "membership":
        by = str(body.get("by") or "0")
        return "；".join(_membership(model, body, by)) or None
    if entry.kind == "title":
        return f"{name} 把群名改为「{safe(str(body.get('title', '')))}」"
    if entry.kind == "owners":
        added = "、".join(model.name(str(p)) for p in body.get("added") or ())
        return f"{added} 成为群主" if added else "群主有变动"
    if entry.kind == "disbanded":
        return f"{name} 解散了群聊"
    if entry.kind == "recall":
        return f"{name} 撤回了 [{body.get('seq')}]"
    if entry.kind == "edit":
        value = body.get("value")
        said = value.get("text") if isinstance(value, Mapping) else value
        return f"{name} 把 [{body.get('seq')}] 改为：{safe(str(said))}"
    if entry.kind == "react":
        return f"{name} 对 [{body.get('seq')}] 回应 {safe(str(body.get('value') or '（取消）'))}"
    if entry.kind == "pin":
        return f"{name} 置顶了 [{body.get('seq')}]"
    return f"（本版本无法显示的消息：{safe(entry.kind)}）"


def _membership(model: Model, body: Mapping[str, Any], by: str) -> Iterable[str]:
    added = [str(p) for p in body.get("added") or ()]
    removed = [str(p) for p in body.get("removed") or ()]
    if added:
        yield "、".join(model.name(p) for p in added) + " 加入了会话"
    if removed == [by]:
        yield f"{model.name(by)} 离开了会话"
    elif removed:
        yield "、".join(model.name(p) for p in removed) + " 被移出会话"


def line(model: Model, conversation: Conversation, entry: Entry) -> str | None:
    """An entry as a line of a chat: place, time, who, what, and how far it has come if it is one's own."""
    said = words(model, conversation, entry)
    if said is None:
        return None
    head = f"[{entry.seq}] {clock(entry.time_ms)}"
    if entry.kind != "text" or entry.body is None or entry.seq in conversation.recalled:
        return f"{head} —— {said}"
    parts = [head, f"{model.name(entry.sender)}："]
    options = entry.options or {}
    if (quoted := options.get("reply_to")) is not None:
        parts.append(f"回复[{quoted}]「{_quote(model, conversation, int(quoted))}」")
    parts.append(said)
    if model.me in (options.get("mentions") or ()):
        parts.append("← @我")
    given = conversation.reactions.get(entry.seq)
    if given:
        parts.append(" ".join(given.values()))
    if entry.sender == model.me and (tick := model.tick(conversation, entry.seq)):
        parts.append(f"({tick})")
    return " ".join(parts)


def people_in(entry: Entry) -> list[str]:
    """Whom an entry names: who said it, who came, who went."""
    body = entry.body if isinstance(entry.body, dict) else {}
    others = [str(one) for field in ("added", "removed") for one in body.get(field, ())]
    return [entry.sender, *others, *([str(body["by"])] if "by" in body else [])]


def _quote(model: Model, conversation: Conversation, seq: int) -> str:
    entry = conversation.entries.get(seq)
    if entry is None:
        return "…"
    if entry.body is None or seq in conversation.recalled:
        return "已撤回的消息"
    said = words(model, conversation, entry) or ""
    return f"{model.name(entry.sender)}：{said[:QUOTE_CHARS]}{'…' if len(said) > QUOTE_CHARS else ''}"


def listing(model: Model, current: str | None) -> list[str]:
    """The list of conversations, numbered."""
    lines = []
    for number, c in enumerate(model.listed(), 1):
        mark = "▶" if c.id == current else " "
        kind = "群" if c.kind == "group" else "聊"
        unread = f"  {c.unread} 条未读" if c.unread else ""
        last = next(reversed(c.entries.values())) if c.entries else None
        said = words(model, c, last) if last is not None else None
        lines.append(f"{mark} {number:>2}  [{kind}] {c.title}{unread}{f'  {said[:30]}' if said else ''}")
    return lines


def clock(time_ms: int) -> str:
    """A time as people here read it; with the date if it is not today's."""
    moment = datetime.fromtimestamp(time_ms / 1000, SHANGHAI)
    today = datetime.now(SHANGHAI).date()
    return moment.strftime("%H:%M" if moment.date() == today else "%m-%d %H:%M")


def safe(text: str) -> str:
    """Text of others without what could steer a terminal or turn the line around; on one line."""
    kept: Sequence[str] = [
        " " if char in "\n\r\t" else char
        for char in text
        if char in "\n\r\t\u200d" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
    ]
    return "".join(kept)
