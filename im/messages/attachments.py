"""Messages that carry a file: what their body looks like, without I/O.

    kind    body
    file    {file_id, name, size, type, caption?}
    image   the same and width?, height?: both or neither; the type is image/…
    voice   the same and duration_ms; a type that holds sound
    video   the same and width?, height?, duration_ms?; the type is video/…

`name`, `size` and `type` are what the file is; whoever keeps the files holds them against it when the message is
committed (`hub.api.Files`). So a reader shows the message without asking, and is not told something else than they get.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final

from core.errors import Invalid
from im.messages.texts import UNSEEN, check_text

FILE: Final = "file"
IMAGE: Final = "image"
VOICE: Final = "voice"
VIDEO: Final = "video"
KINDS: Final = frozenset({FILE, IMAGE, VOICE, VIDEO})

NAME_CHARS: Final = 255  # what file systems take
SIZE_MAX: Final = 1 << 40  # 1 TiB: only that nobody says nonsense; what may be stored the files service says
SIDE_MAX: Final = 100_000  # pixels: the longest panoramas and scans
DURATION_MAX_MS: Final = 24 * 3_600_000

_ALWAYS: Final = frozenset({"file_id", "name", "size", "type"})
_SIDES: Final = frozenset({"width", "height"})
_MAY: Final = {
    FILE: frozenset({"caption"}),
    IMAGE: frozenset({"caption"}) | _SIDES,
    VOICE: frozenset({"caption", "duration_ms"}),
    VIDEO: frozenset({"caption", "duration_ms"}) | _SIDES,
}
_TYPES: Final = {
    FILE: ("",),
    IMAGE: ("image/",),
    # phones and browsers record sound into these, and by its first bytes it is a video's container
    VOICE: ("audio/", "video/mp4", "video/webm", "video/3gpp", "application/ogg"),
    VIDEO: ("video/",),
}
_ID: Final = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_ID_MAX: Final = (1 << 63) - 1
_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}", re.ASCII)
_JOINERS: Final = frozenset("\u200c\u200d")  # parts of letters and emoji


def carried(kind: str, body: Any) -> tuple[int, ...]:
    """The files that a message of this kind carries; its body was let pass by `check`, or was stored after it."""
    if kind not in KINDS:
        return ()
    return (int(body["file_id"]),)


def check(kind: str, body: Any) -> None:
    """Whether this is the body of a message of this kind, which is one of `KINDS`. Raises `Invalid`."""
    if not isinstance(body, dict):
        raise Invalid(f"a message of kind {kind} is a map with {', '.join(sorted(_ALWAYS))}")
    given = set(body)
    if missing := _ALWAYS - given:
        raise Invalid(f"a message of kind {kind} also has {', '.join(sorted(missing))}")
    if unknown := given - _ALWAYS - _MAY[kind]:
        raise Invalid(f"a message of kind {kind} has no {', '.join(sorted(map(str, unknown)))[:200]}")
    file_id = body["file_id"]
    if not isinstance(file_id, str) or not _ID.fullmatch(file_id) or int(file_id) > _ID_MAX:
        raise Invalid("file_id is the decimal id of a file, as text")
    _check_name(body["name"])
    _check_number(body, "size", 0, SIZE_MAX)
    _check_type(kind, body["type"])
    if "caption" in body:
        if not isinstance(body["caption"], str):
            raise Invalid("a caption is a string")
        check_text(body["caption"])
    if len(_SIDES & given) == 1:
        raise Invalid("width and height are given together")
    for side in _SIDES & given:
        _check_number(body, side, 1, SIDE_MAX)
    if "duration_ms" in given:
        _check_number(body, "duration_ms", 0, DURATION_MAX_MS)
    elif kind == VOICE:
        raise Invalid("a voice message says how long it is: duration_ms")


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_CHARS:
        raise Invalid(f"name is the file's name, of at most {NAME_CHARS} characters")
    shown = [unicodedata.category(char) for char in name if char not in _JOINERS]
    if any(category in UNSEEN - {"Zs"} for category in shown) or all(category == "Zs" for category in shown):
        raise Invalid("name has no characters that hide what it says")
    if "/" in name or "\\" in name:
        raise Invalid("name is a file's name and not a path")


def _check_number(body: dict[str, Any], field: str, least: int, most: int) -> None:
    value = body[field]
    if type(value) is not int or not least <= value <= most:
        raise Invalid(f"{field} is a whole number from {least} to {most}")


def _check_type(kind: str, value: Any) -> None:
    if not isinstance(value, str) or not _TYPE.fullmatch(value):
        raise Invalid("type is a media type in lower case, without parameters")
    if not value.startswith(_TYPES[kind]):
        raise Invalid(f"a file of this type is not sent as {kind}", detail={"type": value})
