"""What objects are called: by ids of ours alone, which grow with time, so a listing is in the order of their making."""

from __future__ import annotations

from typing import Final

CONTENTS: Final = "content/"
TAILS: Final = "tail/"


def content_key(object_id: int) -> str:
    """Of a content, or of a variant of one."""
    return f"{CONTENTS}{object_id:019d}"


def tail_key(upload_id: int, epoch: int) -> str:
    """Of what came of a part that is not full yet; every writer has its own, so none writes over another's."""
    return f"{TAILS}{upload_id:019d}.{epoch}"


def id_of(key: str) -> int | None:
    """The id in a key, of a content or an upload; None where it is not one of ours."""
    digits = key.rpartition("/")[2].partition(".")[0]
    return int(digits) if digits.isdecimal() and len(digits) == 19 else None
