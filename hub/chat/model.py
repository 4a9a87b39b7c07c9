"""What a chat knows, without a screen and without a network: conversations and people."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hub.client import Entry

KEPT: Final = 500  # entries of a conversation that can be replied to and shown again
FILES: Final = frozenset({"file", "image", "voice", "video"})  # kinds of messages that carry one
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
        said = (e for e in conversation.entries.values() if e.text or e.kind in FILES)
        mine = max((e.seq for e in said if e.sender == self.me), default=0)
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
