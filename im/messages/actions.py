"""Messages, for callers that have no hub connection, and what needs to know roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from core.actions import Context, Rate, action
from core.errors import Invalid, NotFound
from hub import api as hub
from im.api import (
    MESSAGES_READ,
    MESSAGES_SEND,
    Entries,
    History,
    Options,
    Reader,
    Readers,
    Recall,
    Send,
    Sent,
    WhoHasRead,
)
from im.conversations.rules import OWNER
from im.messages import rules
from im.parts import entry, mine

if TYPE_CHECKING:
    from im.service import ImService

_SEND = Rate(burst=40, per_s=20)  # as on the hub
_READ = Rate(burst=100, per_s=20)
_POLICY: Final = rules.Policy()


@action(Send, needs=MESSAGES_SEND, limit=_SEND)
async def send(ctx: Context, command: Send) -> Sent:
    """Say something; the same key is the same message, over HTTP and over the hub."""
    await mine(ctx, command.conversation_id)
    _POLICY.check_send(command.kind, command.body)
    if command.options.reply_to:
        try:
            await _visible(ctx, command.conversation_id, command.options.reply_to)
        except NotFound as error:
            raise Invalid("there is no such message to reply to") from error
    made, duplicate = await hub.post(
        ctx, command.conversation_id, command.kind, command.body, key=command.key,
        sender_id=ctx.caller.person_id, carrier=_carrier(ctx), options=_asked(command.options),
    )  # fmt: skip
    return _sent(made, duplicate=duplicate)


@action(Recall, needs=MESSAGES_SEND, limit=_SEND)
async def recall(ctx: Context, command: Recall) -> Sent:
    """Take a message back; its content is gone for everybody, its digest stays."""
    row = await mine(ctx, command.conversation_id, lock=True)
    await _visible(ctx, command.conversation_id, command.seq)
    me, now_ms, owner = ctx.caller.person_id, ctx.clock.now_ms(), row["member_role"] == OWNER
    made, duplicate = await hub.amend(
        ctx, command.conversation_id, rules.RECALL, command.seq, None, key=command.key, sender_id=me,
        carrier=_carrier(ctx), check=lambda target: rules.check_recall(target, me, now_ms, owner=owner),
    )  # fmt: skip
    ctx.audit(object=command.conversation_id, after=made.entry_id)
    return _sent(made, duplicate=duplicate)


@action(History, needs=MESSAGES_READ, audited=False, limit=_READ)
async def history(ctx: Context, command: History) -> Entries:
    """What was said, page by page; nothing from before one's time in the conversation."""
    await mine(ctx, command.conversation_id)
    state = await _state(ctx, command.conversation_id)
    after, count, more = rules.window(
        head=state.head, floor=state.floor, before=command.before, after=command.after, limit=command.limit
    )
    found = await hub.entries(ctx, command.conversation_id, after, count) if count else []
    return Entries(entries=[entry(each) for each in found], head=state.head, floor=state.floor, more=more)


@action(WhoHasRead, needs=MESSAGES_READ, audited=False, limit=_READ)
async def who_has_read(ctx: Context, command: WhoHasRead) -> Readers:
    """Who has got and who has read an entry: in groups above 500 members this is the only way to know."""
    await mine(ctx, command.conversation_id)
    await _visible(ctx, command.conversation_id, command.seq)
    (asked,) = await hub.entries(ctx, command.conversation_id, command.seq - 1, 1)
    page = await hub.marks(ctx, command.conversation_id, ctx.enterprise_id, command.after, command.limit)
    return Readers(
        readers=[
            _reader(marks, command.seq)
            for marks in page
            if marks.person_id != asked.sender_id and marks.floor < command.seq
        ],
        next=page[-1].person_id if len(page) == command.limit else None,
    )


def _carrier(ctx: Context) -> hub.Carrier:
    return cast("ImService", ctx.service).carrier


async def _state(ctx: Context, conversation_id: int) -> hub.StreamState:
    states = await hub.stream_states(ctx, ctx.caller.person_id, ctx.enterprise_id, [conversation_id])
    if conversation_id not in states:
        raise NotFound("no such conversation")
    return states[conversation_id]


async def _visible(ctx: Context, conversation_id: int, seq: int) -> None:
    """The entry is there, and not from before the caller's time. Raises `NotFound`."""
    state = await _state(ctx, conversation_id)
    if not state.floor < seq <= state.head:
        raise NotFound("no such message in this conversation")


def _asked(options: Options) -> dict[str, Any] | None:
    """Options as SEND stores them, so that a retry over the other way is the same message."""
    given = options.model_dump(exclude_defaults=True)
    if "mentions" in given:
        given["mentions"] = [str(person) for person in given["mentions"]]
    return given or None


def _sent(made: hub.Entry, *, duplicate: bool) -> Sent:
    return Sent(
        conversation_id=made.stream_id, key=made.key, seq=made.seq, entry_id=made.entry_id, time_ms=made.time_ms,
        duplicate=duplicate, digest=made.digest,
    )  # fmt: skip


def _reader(marks: hub.MemberMarks, seq: int) -> Reader:
    read, delivered = marks.read >= seq, marks.delivered >= seq
    answered = marks.sent >= seq  # wrote something later: has read it, without a time
    return Reader(
        person_id=marks.person_id,
        delivered=delivered or read or answered,
        delivered_ms=marks.delivered_ms if delivered else None,
        read=read or answered,
        read_ms=marks.read_ms if read else None,
    )
