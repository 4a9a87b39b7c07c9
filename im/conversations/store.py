"""SQL of conversations and their members. Nothing else touches these tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from core.db import Record, Transaction, sql
from im.conversations.rules import PREVIEW_MEMBERS

_COLUMNS = (
    "c.conversation_id, c.kind, c.title, c.state, c.created_by, c.created_at, c.member_count, c.preview"
)

INSERT_CONVERSATION = sql(
    "INSERT INTO im_conversations (conversation_id, enterprise_id, kind, title, state, created_by, created_at, "
    "member_count, preview) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, NULL)"
)
LOCK = sql(
    "SELECT conversation_id FROM im_conversations WHERE conversation_id = $1 AND enterprise_id = $2 FOR UPDATE"
)
SET_TITLE = sql(
    "UPDATE im_conversations SET title = $3 WHERE conversation_id = $1 AND enterprise_id = $2",
)
SET_STATE = sql(
    "UPDATE im_conversations SET state = $3 WHERE conversation_id = $1 AND enterprise_id = $2",
)
SET_SUMMARY = sql(
    "UPDATE im_conversations SET member_count = $3, "
    "preview = CASE WHEN kind = 'group' OR preview IS NULL THEN $4 ELSE preview END "
    "WHERE conversation_id = $1 AND enterprise_id = $2",
)

AS_MEMBER = sql(
    f"SELECT {_COLUMNS}, m.member_role FROM im_members m "
    "JOIN im_conversations c ON c.conversation_id = m.conversation_id AND c.enterprise_id = m.enterprise_id "
    "WHERE m.conversation_id = $1 AND m.enterprise_id = $2 AND m.person_id = $3"
)
PAGE_OF_PERSON = sql(
    f"SELECT {_COLUMNS}, m.member_role FROM im_members m "
    "JOIN im_conversations c ON c.conversation_id = m.conversation_id AND c.enterprise_id = m.enterprise_id "
    "WHERE m.person_id = $1 AND m.enterprise_id = $2 AND m.conversation_id > $3 "
    "ORDER BY m.conversation_id LIMIT $4"
)
IDS_OF_PERSON = sql(
    "SELECT conversation_id FROM im_members WHERE person_id = $1 AND enterprise_id = $2 ORDER BY conversation_id"
)

MEMBERS_PAGE = sql(
    "SELECT person_id, member_role, joined_at FROM im_members "
    "WHERE conversation_id = $1 AND enterprise_id = $2 AND person_id > $3 ORDER BY person_id LIMIT $4"
)
OLDEST = sql(
    "SELECT person_id FROM im_members WHERE conversation_id = $1 AND enterprise_id = $2 "
    "ORDER BY joined_at, person_id LIMIT $3"
)
COUNT = sql("SELECT COUNT(*) FROM im_members WHERE conversation_id = $1 AND enterprise_id = $2")
ROLES = sql(
    "SELECT person_id, member_role FROM im_members "
    "WHERE conversation_id = $1 AND enterprise_id = $2 AND person_id IN ($*)"
)
WITH_ROLE = sql(
    "SELECT person_id FROM im_members WHERE conversation_id = $1 AND enterprise_id = $2 AND member_role = $3 "
    "ORDER BY person_id"
)
REMOVE = sql(
    "DELETE FROM im_members WHERE conversation_id = $1 AND enterprise_id = $2 AND person_id IN ($*)",
)
SET_ROLE = sql(
    "UPDATE im_members SET member_role = $3 WHERE conversation_id = $1 AND enterprise_id = $2 AND person_id IN ($*)"
)

PAIR = sql(
    "SELECT conversation_id FROM im_pairs WHERE enterprise_id = $1 AND low_person_id = $2 AND high_person_id = $3"
)
INSERT_PAIR = sql(
    "INSERT INTO im_pairs (enterprise_id, low_person_id, high_person_id, conversation_id) VALUES ($1, $2, $3, $4)"
)


async def insert(
    tx: Transaction, conversation_id: int, enterprise_id: int, *, kind: str, title: str | None, state: str, by: int,
    now: datetime,
) -> None:  # fmt: skip
    """A new conversation without members."""
    await tx.execute(INSERT_CONVERSATION, conversation_id, enterprise_id, kind, title, state, by, now)


async def lock(tx: Transaction, conversation_id: int, enterprise_id: int) -> None:
    """Let changes of this conversation happen one after the other."""
    await tx.execute(LOCK, conversation_id, enterprise_id)


async def set_title(tx: Transaction, conversation_id: int, enterprise_id: int, title: str) -> None:
    """Another title."""
    await tx.execute(SET_TITLE, conversation_id, enterprise_id, title)


async def set_state(tx: Transaction, conversation_id: int, enterprise_id: int, state: str) -> None:
    """active or disbanded."""
    await tx.execute(SET_STATE, conversation_id, enterprise_id, state)


async def as_member(
    tx: Transaction, conversation_id: int, enterprise_id: int, person_id: int
) -> Record | None:
    """The conversation with the person's `member_role`; None where the person is not in it."""
    return await tx.fetchrow(AS_MEMBER, conversation_id, enterprise_id, person_id)


async def page_of_person(
    tx: Transaction, person_id: int, enterprise_id: int, after: int, limit: int
) -> list[Record]:
    """A person's conversations after an id, as `as_member`, by id."""
    return await tx.fetch(PAGE_OF_PERSON, person_id, enterprise_id, after, limit)


async def ids_of_person(tx: Transaction, person_id: int, enterprise_id: int) -> list[int]:
    """All conversations of a person in an enterprise, by id."""
    return [row[0] for row in await tx.fetch(IDS_OF_PERSON, person_id, enterprise_id)]


async def members_page(
    tx: Transaction, conversation_id: int, enterprise_id: int, after: int, limit: int
) -> list[Record]:
    """person_id, member_role, joined_at of the members after a person, by person."""
    return await tx.fetch(MEMBERS_PAGE, conversation_id, enterprise_id, after, limit)


async def oldest(tx: Transaction, conversation_id: int, enterprise_id: int, limit: int) -> list[int]:
    """The members who came first; of those who came together the one with the smallest id."""
    return [row[0] for row in await tx.fetch(OLDEST, conversation_id, enterprise_id, limit)]


async def roles_of(
    tx: Transaction, conversation_id: int, enterprise_id: int, person_ids: Sequence[int]
) -> dict[int, str]:
    """The roles of those among `person_ids` who are members."""
    rows = await tx.fetch_in(ROLES, person_ids, conversation_id, enterprise_id)
    return {row[0]: row[1] for row in rows}


async def with_role(tx: Transaction, conversation_id: int, enterprise_id: int, role: str) -> list[int]:
    """The members who have a role, by person."""
    return [row[0] for row in await tx.fetch(WITH_ROLE, conversation_id, enterprise_id, role)]


async def add(
    tx: Transaction, conversation_id: int, enterprise_id: int, roles: Sequence[tuple[int, str]], now: datetime
) -> None:
    """New members: (person, role)."""
    await tx.insert_many(
        "im_members",
        ("conversation_id", "person_id", "enterprise_id", "member_role", "joined_at"),
        [(conversation_id, person, enterprise_id, role, now) for person, role in roles],
    )
    await _summarize(tx, conversation_id, enterprise_id)


async def remove(
    tx: Transaction, conversation_id: int, enterprise_id: int, person_ids: Sequence[int]
) -> None:
    """These are members no more."""
    await tx.execute_in(REMOVE, person_ids, conversation_id, enterprise_id)
    await _summarize(tx, conversation_id, enterprise_id)


async def set_role(
    tx: Transaction, conversation_id: int, enterprise_id: int, person_ids: Sequence[int], role: str
) -> None:
    """Give members a role."""
    await tx.execute_in(SET_ROLE, person_ids, conversation_id, enterprise_id, role)


async def _summarize(tx: Transaction, conversation_id: int, enterprise_id: int) -> None:
    """Keeps what lists show beside the conversation: a list does not count ten thousand members.

    The two of a direct conversation stay what they were, so that one still sees whose messages these are.
    """
    count = await tx.fetchval(COUNT, conversation_id, enterprise_id)
    first = await oldest(tx, conversation_id, enterprise_id, PREVIEW_MEMBERS)
    preview = ",".join(map(str, first)) or None
    await tx.execute(SET_SUMMARY, conversation_id, enterprise_id, count, preview)


async def pair(tx: Transaction, enterprise_id: int, low: int, high: int) -> int | None:
    """The direct conversation of two people."""
    found: int | None = await tx.fetchval(PAIR, enterprise_id, low, high)
    return found


async def insert_pair(tx: Transaction, enterprise_id: int, low: int, high: int, conversation_id: int) -> None:
    """This is their conversation. Raises `UniqueViolation` when they have one."""
    await tx.execute(INSERT_PAIR, enterprise_id, low, high, conversation_id)
