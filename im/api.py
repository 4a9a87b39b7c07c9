"""The contract of im: conversations with their members, and the messages in them.

What is said arrives by the hub (`hub.api`, docs/protocol.md): a conversation's id is the name of its stream. These
actions are for everything around it, and for callers that have HTTP only. Times are ms since the epoch.

Entries that the service itself writes into a conversation:

    kind        sender       body
    membership  0            {"added": [id], "removed": [id], "by": id}   what the list of members becomes
    title       who set it   {"title": text}
    owners      who did it   {"added": [id], "removed": [id]}             0: nobody did, the group needed one
    disbanded   who did it   {}                                           followed by everybody's removal
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from core.actions import STAFF, Bytes, Command, Id, Permission, Value
from im.conversations.rules import MEMBERS_PER_CHANGE, TITLE_CHARS, Kind, Role, clean_title
from im.ports import People

__all__ = [
    "CONVERSATIONS_MANAGE", "MESSAGES_READ", "MESSAGES_SEND", "AddMembers", "Changed", "Conversation",
    "ConversationDetail", "Conversations", "CreateGroup", "Disband", "Entries", "Entry", "GetConversation", "History",
    "Key", "Kind", "ListConversations", "ListMembers", "Member", "Members", "OpenDirect", "Options", "People", "Reader",
    "Readers", "Recall", "RemoveMember", "RemovePerson", "Rename", "Role", "Send", "Sent", "SetOwner", "WhoHasRead",
]  # fmt: skip

MESSAGES_READ = Permission("messages:read", "查看会话和消息", STAFF, risk=2)
MESSAGES_SEND = Permission("messages:send", "发送消息", STAFF, risk=1, scope=True)
CONVERSATIONS_MANAGE = Permission("conversations:manage", "建群和管理群", STAFF, risk=1)

Title = Annotated[str, StringConstraints(min_length=1, max_length=TITLE_CHARS), AfterValidator(clean_title)]
Key = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
Seq = Annotated[int, Field(ge=1, le=2**53)]
Persons = Annotated[list[Id], Field(min_length=1, max_length=MEMBERS_PER_CHANGE)]
Limit = Annotated[int, Field(ge=1, le=200)]  # as a PAGE of the hub


class Entry(Value):
    """One entry of a conversation. `body` is None once the message was recalled; bytes in it are base64 text."""

    seq: int
    entry_id: Id
    sender_id: Id  # 0: the service
    kind: str
    time_ms: int
    body: Any
    options: dict[str, Any] | None
    digest: Bytes


class Member(Value):
    """Somebody in a conversation."""

    person_id: Id
    role: Role
    joined_ms: int


class Conversation(Value):
    """A conversation as one of its members sees it in a list."""

    conversation_id: Id
    kind: Kind
    title: str | None  # of a group
    peer_id: Id | None  # of a direct one: the other, who may have left the enterprise since
    created_by: Id
    created_ms: int
    role: Role
    member_count: int
    preview: list[Id]  # up to nine members, those who came first
    head: int
    floor: int  # entries up to here were before one's time
    delivered: int
    read: int
    unread: int
    last: Entry | None


class Conversations(Value):
    """A page of conversations by id; `next` is the `after` of the following page."""

    conversations: list[Conversation]
    next: Id | None


class ConversationDetail(Conversation):
    """With its owners and the first page of its members; `next` goes on with `im.conversations.members`."""

    owners: list[Id]
    members: list[Member]
    next: Id | None


class Members(Value):
    """A page of members by person; `next` is the `after` of the following page."""

    members: list[Member]
    next: Id | None


class Changed(Value):
    """Who really came and went, and how many there are now."""

    added: list[Id]
    removed: list[Id]
    member_count: int


class Entries(Value):
    """Entries in order, without a hole between them. `more`: there are further ones in the direction asked for."""

    entries: list[Entry]
    head: int
    floor: int
    more: bool


class Reader(Value):
    """Whether a member has an entry. A time is that of the newest mark, so of this entry at the latest."""

    person_id: Id
    delivered: bool
    delivered_ms: int | None
    read: bool
    read_ms: int | None


class Readers(Value):
    """A page of the members an entry is for, by person, without its sender."""

    readers: list[Reader]
    next: Id | None


class Options(Value):
    """What a sender may ask of a message; the same as SEND's."""

    reply_to: Seq | None = None
    mentions: Annotated[list[Id], Field(max_length=500)] | None = None
    must_ack: bool = False
    expires: Annotated[int, Field(ge=0, le=2**53)] | None = None


class Sent(Value):
    """The message is stored. `duplicate`: it was there already, made with this key."""

    conversation_id: Id
    key: str
    seq: int
    entry_id: Id
    time_ms: int
    duplicate: bool
    digest: Bytes


# --- conversations ---------------------------------------------------------------------------------------------------


class OpenDirect(Command[Conversation], action="im.conversations.open_direct"):
    """The one conversation with a colleague, made if it is not there yet."""

    person_id: Id


class CreateGroup(Command[Conversation], action="im.conversations.create_group"):
    """A group with oneself as owner."""

    title: Title
    members: Persons  # oneself is in it anyway


class ListConversations(Command[Conversations], action="im.conversations.list"):
    """One's own conversations."""

    after: Id = 0
    limit: Limit = 100


class GetConversation(Command[ConversationDetail], action="im.conversations.get"):
    """One conversation, with members and roles."""

    conversation_id: Id


class ListMembers(Command[Members], action="im.conversations.members"):
    """Who is in it."""

    conversation_id: Id
    after: Id = 0
    limit: Limit = 200


class AddMembers(Command[Changed], action="im.conversations.add_members"):
    """Take colleagues into a group. With `history`, which an owner may give, they see what was said before."""

    conversation_id: Id
    members: Persons
    history: bool = False


class RemoveMember(Command[Changed], action="im.conversations.remove_member"):
    """Take somebody out of a group, or leave it."""

    conversation_id: Id
    person_id: Id


class Rename(Command[None], action="im.conversations.rename"):
    """Give a group another title."""

    conversation_id: Id
    title: Title


class SetOwner(Command[list[Id]], action="im.conversations.set_owner"):
    """Make a member an owner (`transfer`: in one's own place), or (`owner` false) step down; the owners after it."""

    conversation_id: Id
    person_id: Id
    owner: bool = True
    transfer: bool = False


class Disband(Command[None], action="im.conversations.disband"):
    """End a group: nobody is in it any more. What was said stays stored."""

    conversation_id: Id


class RemovePerson(Command[int], action="im.people.remove"):
    """For services: somebody leaves the caller's enterprise, so leaves its conversations; how many there were."""

    person_id: Id


# --- messages --------------------------------------------------------------------------------------------------------


class Send(Command[Sent], action="im.messages.send"):
    """Say something. The key is the same as SEND's: a message is stored once, whichever way it is retried.

    A `text` is a string. A `file`, `image`, `voice` or `video` is a map with `file_id`, `name`, `size` and `type` of a
    file that the caller has uploaded, and may have a `caption` (docs/protocol.md, SEND).
    """

    conversation_id: Id
    key: Key
    kind: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.]{0,31}$")] = "text"
    body: Any
    options: Options = Options()


class Recall(Command[Sent], action="im.messages.recall"):
    """Take a message back: one's own within 24 hours; an owner of the group any, at any time."""

    conversation_id: Id
    seq: Seq
    key: Key


class History(Command[Entries], action="im.messages.history"):
    """The newest entries before `before`, or the first ones after `after`; without either the newest of all."""

    conversation_id: Id
    before: Seq | None = None
    after: Annotated[int, Field(ge=0, le=2**53)] | None = None
    limit: Limit = 50


class WhoHasRead(Command[Readers], action="im.messages.readers"):
    """Who has got and who has read an entry."""

    conversation_id: Id
    seq: Seq
    after: Id = 0
    limit: Annotated[int, Field(ge=1, le=500)] = 500
