"""The central directory of a ZIP, out of the last bytes of a file. Pure, and stricter than ordinary readers.

Two readers that find different files in the same archive are how things get past a scanner. So there is one end record,
its comment reaches exactly to the end of the file, and the directory lies directly before it; everything else raises
`BrokenZip`. Nothing is inflated. PKWARE APPNOTE 6.3.10, sections 4.3.12 to 4.5.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

END_BYTES: Final = 22 + 0xFFFF  # the end record with its longest comment
_END, _ENTRY = b"PK\x05\x06", b"PK\x01\x02"
_END64, _LOCATOR = b"PK\x06\x06", b"PK\x06\x07"
_FULL32: Final = 0xFFFFFFFF
_UTF8: Final = 1 << 11
_ENCRYPTED: Final = 1 | 1 << 6 | 1 << 13  # the old way, the strong one, a directory that hides its names


class BrokenZip(Exception):
    """The directory does not hold together."""


@dataclass(frozen=True, slots=True)
class End:
    """`start` and `size` of the directory in bytes of the file; `prefix` bytes lie before the archive's own start."""

    start: int
    size: int
    count: int
    prefix: int


@dataclass(frozen=True, slots=True)
class Entry:
    raw: bytes
    name: str
    encoding: str  # utf-8, gb18030, cp437: what the name was read as
    packed: int
    size: int
    offset: int
    encrypted: bool
    mode: int  # Unix file type and permissions; 0 when another system made it

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")

    @property
    def is_link(self) -> bool:
        return self.mode & 0o170000 == 0o120000


def find_end(tail: bytes, size: int) -> End:
    """The end record in the last bytes of a file of `size` bytes. Raises `BrokenZip`."""
    at = tail.rfind(_END, max(0, len(tail) - END_BYTES))
    if at < 0 or len(tail) - at < 22:
        raise BrokenZip("no end record")
    disk, first_disk, here, count, length, claimed, comment = struct.unpack_from("<4H2IH", tail, at + 4)
    if at + 22 + comment != len(tail):
        raise BrokenZip("something follows the end record")
    if disk != first_disk or here != count:
        raise BrokenZip("one of several parts")
    if at >= 20 and tail[at - 20 : at - 16] == _LOCATOR:
        at -= 20 + 56
        if at < 0 or tail[at : at + 4] != _END64:
            raise BrokenZip("no 64-bit end record where it belongs")
        here, count, length, claimed = struct.unpack_from("<4Q", tail, at + 24)
        if here != count:
            raise BrokenZip("one of several parts")
    elif _FULL32 in (length, claimed) or count == 0xFFFF:
        raise BrokenZip("no 64-bit end record")
    start = size - len(tail) + at - length
    if start < claimed or count * 46 > length:
        raise BrokenZip("the directory is not where the end record says")
    return End(start, length, count, start - claimed)


def holds_zip(tail: bytes) -> bool:
    """Whether some reader would find an archive at the end of this: for files that should be none. Lenient."""
    at = len(tail)
    floor = max(0, len(tail) - END_BYTES)
    while (at := tail.rfind(_END, floor, at)) >= 0:
        if len(tail) - at < 22:
            continue
        (length,) = struct.unpack_from("<I", tail, at + 12)
        start = at - length
        if start < 0 or tail[start : start + 4] in (_ENTRY, _END):
            return True
    return False


def entries(directory: bytes, count: int) -> Iterator[Entry]:
    """Every entry of a whole directory. Raises `BrokenZip` where it stops making sense."""
    at = 0
    for _ in range(count):
        if directory[at : at + 4] != _ENTRY or len(directory) - at < 46:
            raise BrokenZip("an entry is not where it belongs")
        made_by, flags = struct.unpack_from("<H2xH", directory, at + 4)
        packed, size, name_bytes, extra_bytes, comment_bytes = struct.unpack_from("<2I3H", directory, at + 20)
        disk, _internal, external, offset = struct.unpack_from("<2H2I", directory, at + 34)
        name_at = at + 46
        extra_at = name_at + name_bytes
        at = extra_at + extra_bytes + comment_bytes
        if at > len(directory) or disk not in (0, 0xFFFF):
            raise BrokenZip("an entry is cut or lies in another part")
        raw = directory[name_at:extra_at]
        fields = _extra(directory[extra_at : extra_at + extra_bytes])
        size, packed, offset = _wide(fields.get(1, b""), size, packed, offset)
        name, encoding = _name(raw, bool(flags & _UTF8), fields.get(0x7075, b""))
        mode = external >> 16 if made_by >> 8 in (3, 19) else 0
        yield Entry(raw, name, encoding, packed, size, offset, bool(flags & _ENCRYPTED), mode)
    if at != len(directory):
        raise BrokenZip("the directory is longer than its entries")


def _extra(data: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        tag, length = struct.unpack_from("<2H", data, at)
        fields.setdefault(tag, data[at + 4 : at + 4 + length])
        at += 4 + length
    return fields


def _wide(field: bytes, *values: int) -> tuple[int, int, int]:
    """Sizes and offset with the 64-bit ones in place of those that are full."""
    wide, at = [], 0
    for value in values:
        if value == _FULL32:
            if len(field) - at < 8:
                raise BrokenZip("a 64-bit size is missing")
            (value,) = struct.unpack_from("<Q", field, at)
            at += 8
        wide.append(value)
    size, packed, offset = wide
    return size, packed, offset


def _name(raw: bytes, flagged: bool, unicode_path: bytes) -> tuple[str, str]:
    """The flag, or Info-ZIP's extra name if it is of this one; else UTF-8 only if every character that is not ASCII
    takes three bytes or more, as Chinese does (macOS sets no flag); else GB18030, which is what Windows means here."""
    if flagged:
        return raw.decode("utf-8", "replace"), "utf-8"
    if len(unicode_path) > 5 and struct.unpack_from("<I", unicode_path, 1)[0] == zlib.crc32(raw):
        return unicode_path[5:].decode("utf-8", "replace"), "utf-8"
    try:
        text = raw.decode("utf-8")
        if all(one < "\x80" or one >= "\u0800" for one in text):
            return text, "utf-8"
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode("gb18030"), "gb18030"
    except UnicodeDecodeError:
        return raw.decode("cp437"), "cp437"
