"""What may be said and changed in a conversation, without I/O. The hub asks `Policy` for every SEND and AMEND."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any, Final

from core.errors import Conflict, Forbidden, Invalid
from im.messages import attachments
from im.messages.texts import UNSEEN, check_text

if TYPE_CHECKING:
    from hub.api import Entry

TEXT: Final = "text"
LATER: Final = frozenset({"location", "sticker", "card", "forward"})
"""Kinds that clients will send once there is what they are of; refused by name until then."""

RECALL: Final = "recall"
EDIT: Final = "edit"
REACT: Final = "react"
PIN: Final = "pin"

TITLE: Final = "title"
OWNERS: Final = "owners"
DISBANDED: Final = "disbanded"
SYSTEM_KINDS: Final = frozenset({"membership", TITLE, OWNERS, DISBANDED, RECALL, EDIT, REACT, PIN})
"""Kinds of entries that are made by what people do, and never sent as such."""

AMEND_WINDOW_MS: Final = 24 * 3_600_000
"""How long one's own message is recalled or edited by oneself: a working day and the night after it. Later an owner
of the group must do it."""
EMOJI_CHARS: Final = 16  # a family with skin tones has 11 code points


def check_emoji(value: Any) -> None:
    """A reaction is a short visible string, or None to take it back. Raises `Invalid`."""
    if value is None:
        return
    if not isinstance(value, str) or not 1 <= len(value) <= EMOJI_CHARS:
        raise Invalid(f"a reaction is an emoji of at most {EMOJI_CHARS} characters, or nil")
    shown = [unicodedata.category(char) for char in value if char != "\u200d"]  # joins parts of one emoji
    if not shown or not UNSEEN.isdisjoint(shown):
        raise Invalid("a reaction is an emoji")


def check_target(target: Entry) -> None:
    """Whether an entry is a message that is still there. Raises `Invalid` and `Conflict`."""
    if target.sender_id == 0 or target.kind in SYSTEM_KINDS:
        raise Invalid("this is not a message")
    if target.body is None:
        raise Conflict("the message has been recalled", detail={"seq": target.seq})


def check_recall(target: Entry, sender_id: int, now_ms: int, *, owner: bool) -> None:
    """Whether `sender_id` may take `target` back: one's own for a while, an owner of the group any at any time."""
    check_target(target)
    if not owner:
        check_own(target, sender_id, now_ms)


def check_own(target: Entry, sender_id: int, now_ms: int) -> None:
    """One's own message, not too old. Raises `Forbidden`."""
    if target.sender_id != sender_id:
        raise Forbidden("this is another person's message")
    if now_ms - target.time_ms > AMEND_WINDOW_MS:
        raise Forbidden("too late: a message is recalled or edited within 24 hours")


def window(
    *, head: int, floor: int, before: int | None, after: int | None, limit: int
) -> tuple[int, int, bool]:
    """Which entries a page of history has: (after seq, how many, whether there are more in the direction asked for).

    Entries up to `floor` are not the reader's; `seq` is dense, so the page has no hole. Raises `Invalid`.
    """
    if before is not None and after is not None:
        raise Invalid("history goes backwards or forwards: before or after, not both")
    if after is not None:
        start = min(max(after, floor), head)
        count = min(limit, head - start)
        return start, count, start + count < head
    end = head if before is None else min(before - 1, head)
    start = max(floor, end - limit)
    count = max(0, end - start)
    return start, count, count > 0 and start > floor


class Policy:
    """`hub.api.StreamPolicy` of chat."""

    def check_send(self, kind: str, body: Any) -> None:
        """Texts, and messages that carry a file: its shape. Whether there is such a file is asked with the commit."""
        if kind == TEXT:
            check_text(body)
        elif kind in attachments.KINDS:
            attachments.check(kind, body)
        elif kind in LATER:
            raise Invalid(f"messages of kind {kind} are not served yet", detail={"kind": kind})
        elif kind in SYSTEM_KINDS:
            raise Forbidden("entries of this kind are not sent by clients", detail={"kind": kind})
        else:
            raise Invalid("there are no messages of this kind", detail={"kind": kind})

    carried = staticmethod(attachments.carried)  # itself: it is called for every SEND

    def check_amend(self, change: str, value: Any, target: Entry, sender_id: int, now_ms: int) -> None:
        """Recall and edit one's own message for a while; react to and pin any.

        A group's owner recalls others' messages by the action im.messages.recall: roles are not known here.
        """
        check_target(target)
        if change in (RECALL, EDIT):
            check_own(target, sender_id, now_ms)
        if change == EDIT:
            if target.kind != TEXT:
                raise Invalid("only texts are edited")
            check_text(value)
        elif change == REACT:
            check_emoji(value)
        elif change == PIN:
            if not isinstance(value, bool):
                raise Invalid("pin is true or false")
        elif change != RECALL:
            raise Invalid("a message is recalled, edited, reacted to or pinned")
