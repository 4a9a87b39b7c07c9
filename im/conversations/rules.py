"""What a conversation promises, without I/O: who may do what, who owns a group, what a title may be."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Literal

from core.errors import Conflict, Forbidden, Invalid
from core.values import one_line

Kind = Literal["direct", "group"]
Role = Literal["owner", "member"]

DIRECT: Final = "direct"
GROUP: Final = "group"
OWNER: Final = "owner"
MEMBER: Final = "member"

ACTIVE: Final = "active"
DISBANDED: Final = "disbanded"

TITLE_CHARS: Final = 50  # two lines on a phone
MEMBERS_PER_CHANGE: Final = 500  # ids of one membership entry: 11 KiB, well below the frame limit of 64 KiB
OWNERS_MAX: Final = 10  # enough for shifts; beyond it nobody feels responsible
PREVIEW_MEMBERS: Final = 9  # faces in a group's picture


def clean_title(title: str) -> str:
    """The title as it is kept: one line, trimmed. Raises `ValueError`.

    Invisible and direction-changing characters are refused: two groups that look the same would not be.
    """
    if len(title) > TITLE_CHARS:
        raise ValueError(f"a title has 1 to {TITLE_CHARS} characters")
    return one_line(title)


def pair(one: int, other: int) -> tuple[int, int]:
    """The key of the one direct conversation of two people. Raises `Invalid` for oneself."""
    if one == other:
        raise Invalid("a direct conversation is with somebody else")
    return min(one, other), max(one, other)


def require_group(kind: str) -> None:
    """Raises `Invalid`: a direct conversation is the two people it was opened for, without a title or owners."""
    if kind != GROUP:
        raise Invalid("this is possible in groups only")


def require_owner(role: str) -> None:
    """Raises `Forbidden`."""
    if role != OWNER:
        raise Forbidden("only an owner of the group may do this")


def require_room(count: int, added: int, limit: int) -> None:
    """Whether a group takes in so many more. Raises `Conflict`."""
    if count + added > limit:
        raise Conflict(f"a group has at most {limit} members", detail={"members": count, "limit": limit})


def check_removal(role: str, by: int, person: int, person_role: str) -> None:
    """Owners remove members, and everybody may leave; nobody removes an owner. Raises `Forbidden`."""
    if by == person:
        return
    require_owner(role)
    if person_role == OWNER:
        raise Forbidden("an owner leaves by their own decision only")


def owners_changed(
    owners: Collection[int], by: int, person: int, *, owner: bool, transfer: bool
) -> tuple[list[int], list[int]]:
    """(new owners, those who no longer are) when owner `by` makes or unmakes `person` an owner.

    With `transfer` `by` steps down in the same step. Ownership cannot be taken from another, and a group is never
    without an owner. Raises `Conflict` and `Forbidden`.
    """
    after = set(owners)
    if owner:
        after.add(person)
        if transfer and person != by:
            after.discard(by)
    else:
        if person != by:
            raise Forbidden("ownership is given up, not taken away")
        after.discard(person)
    if not after:
        raise Conflict("a group has an owner; name another one first")
    if len(after) > OWNERS_MAX and len(after) > len(owners):
        raise Conflict(f"a group has at most {OWNERS_MAX} owners")
    return sorted(after - set(owners)), sorted(set(owners) - after)


def successor(owners: Collection[int], oldest: Sequence[int]) -> int | None:
    """Who becomes the owner when these owners and these members (who came first stands first) are left.

    None where nobody has to: there is an owner still, or nobody at all.
    """
    if owners or not oldest:
        return None
    return oldest[0]
