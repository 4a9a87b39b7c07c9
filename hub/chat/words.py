"""How an entry reads on a line of a terminal. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from hub.chat.model import FILES, Conversation, Model
from hub.client import Entry

SHANGHAI: Final = ZoneInfo("Asia/Shanghai")
QUOTE_CHARS: Final = 24
_FILE_WORDS: Final = {"file": "文件", "image": "图片", "voice": "语音", "video": "视频"}


def words(model: Model, conversation: Conversation, entry: Entry) -> str | None:
    """What an entry says, on one line; None for what only changes another line."""
    name = model.name(entry.sender)
    body = entry.body if isinstance(entry.body, Mapping) else {}
    if entry.kind == "text" or entry.kind in FILES:
        if entry.seq in conversation.recalled or entry.body is None:
            return f"{name} 撤回了一条消息"
        if entry.kind in FILES:
            return file(entry.kind, body)
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


def file(kind: str, body: Mapping[str, Any]) -> str:
    """A message with a file: what it is, its name, how large, what was said to it."""
    duration, caption = body.get("duration_ms"), body.get("caption")
    long = f" {duration // 60_000}:{duration // 1000 % 60:02}" if isinstance(duration, int) else ""
    shown = f"[{_FILE_WORDS[kind]}{long}] {safe(str(body.get('name') or ''))} ({size(body.get('size'))})"
    return f"{shown} {safe(caption)}" if isinstance(caption, str) else shown


def size(count: Any) -> str:
    """Bytes as people read them: 1.2 MB."""
    if not isinstance(count, int) or count < 0:
        return "?"
    amount, unit = float(count), "B"
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if amount < 1024 or unit == "TB":
            break
        amount /= 1024
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


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
    said_by_a_person = entry.kind == "text" or entry.kind in FILES
    if not said_by_a_person or entry.body is None or entry.seq in conversation.recalled:
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
