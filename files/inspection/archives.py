"""What is in a ZIP, out of its directory alone: nothing is inflated, so a bomb is as cheap as anything else.

What is inside an archive inside it cannot be known without unpacking; such archives are counted, and the malware
scanner, which unpacks with limits of its own, has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import BinaryIO, Final

from files.inspection import kinds, zips
from files.inspection.names import clean_name, extension_of
from files.inspection.values import ArchiveLimits, Finding, Item, Listing

_NESTED: Final = frozenset("zip 7z rar tar gz tgz bz2 xz zst lz lzma cab arj lzh iso jar".split())
_OUT: Final = re.compile(r"^[/\\]|^[A-Za-z]:|(?:^|[/\\])\.\.(?:[/\\]|$)|\0")


LIMITS: Final = ArchiveLimits()


def directory_start(tail: bytes, size: int) -> int | None:
    """From which byte of the file `list_zip` will read: a sparse copy must hold everything from there on.

    None when it is broken or some other file, which `list_zip` will say too.
    """
    try:
        return zips.find_end(tail, size).start
    except zips.BrokenZip:
        return None


def list_zip(file: BinaryIO, limits: ArchiveLimits = LIMITS) -> Listing:
    """The listing of an archive of which only the end must be there; what is wrong with it is a finding."""
    size = file.seek(0, 2)
    file.seek(max(0, size - zips.END_BYTES - 76))
    try:
        end = zips.find_end(file.read(), size)
        if end.size > limits.directory_bytes or end.count > limits.entries:
            return Listing(end.count, 0, size, 0, (), (Finding.ENTRIES,), ())
        file.seek(end.start)
        found = tuple(zips.entries(file.read(end.size), end.count))
    except zips.BrokenZip:
        return Listing(0, 0, size, 0, (), (Finding.BROKEN,), ())
    return _judge(found, end, size, limits)


def _judge(found: Sequence[zips.Entry], end: zips.End, size: int, limits: ArchiveLimits) -> Listing:
    inflated = sum(entry.size for entry in found)
    packed = sum(entry.packed for entry in found)
    extensions = [extension_of(entry.name) for entry in found]
    nested = sum(extension in _NESTED for extension in extensions)
    names = [entry.name.replace("\\", "/").casefold() for entry in found]
    harmful = kinds.EXECUTABLES | kinds.SCRIPTS
    findings = {
        Finding.INFLATED: inflated > limits.inflated_bytes,
        Finding.RATIO: inflated > limits.ratio_from_bytes
        and inflated > limits.ratio * max(1, min(packed, size)),
        Finding.OVERLAP: _overlap(found, end),
        Finding.NESTED: nested > limits.nested,
        Finding.PATH: any(
            _OUT.search(entry.name) or _OUT.search(entry.raw.decode("latin-1")) for entry in found
        ),
        Finding.LINK: any(entry.is_link for entry in found),
        Finding.DUPLICATE: len(set(names)) < len(names),
        Finding.HIDDEN: end.prefix > 0 or min((entry.offset for entry in found), default=0) > 0,
        Finding.EXECUTABLE: any(extension in harmful for extension in extensions),
        Finding.ENCRYPTED: any(entry.encrypted for entry in found),
    }
    return Listing(
        entries=len(found),
        inflated=inflated,
        packed=packed,
        nested=nested,
        encodings=tuple(sorted({entry.encoding for entry in found})),
        findings=tuple(finding for finding, is_so in findings.items() if is_so),
        items=tuple(_item(entry) for entry in found[: limits.items]),
    )


def _overlap(found: Sequence[zips.Entry], end: zips.End) -> bool:
    """Whether two entries claim the same bytes, or bytes of the directory: how a few megabytes become petabytes."""
    free = 0
    for entry in sorted(found, key=lambda one: one.offset):
        if entry.offset < free:
            return True
        free = entry.offset + 30 + len(entry.raw) + entry.packed
    return free > end.start


def _item(entry: zips.Entry) -> Item:
    parts = [clean_name(part) for part in re.split(r"[/\\]+", entry.name) if part]
    return Item("/".join(parts), entry.size, entry.is_folder)
