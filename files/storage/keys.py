"""What objects are called: by ids of ours alone, which grow with time, so a listing is in the order of their making."""

from __future__ import annotations

import re
from typing import Final

CONTENTS: Final = "content/"
TAILS: Final = "tail/"
PREFIXES: Final = (CONTENTS, TAILS)

_OURS: Final = re.compile(rf"(?:{CONTENTS}(?P<content>[0-9]{{19}})|{TAILS}(?P<tail>[0-9]{{19}})\.[0-9]+)")
_ID_MAX: Final = (1 << 63) - 1


def content_key(object_id: int) -> str:
    """Of a content, or of a variant of one."""
    return f"{CONTENTS}{object_id:019d}"


def tail_key(upload_id: int, epoch: int) -> str:
    """Of what came of a part that is not full yet; every writer has its own, so none writes over another's."""
    return f"{TAILS}{upload_id:019d}.{epoch}"


def id_of(key: str) -> int | None:
    """The id in a key, of a content or an upload; None where it is not one of ours, whatever it looks like."""
    found = _OURS.fullmatch(key)
    if found is None:
        return None
    number = int(found["content"] or found["tail"])
    return number if number <= _ID_MAX else None
