"""What the workshop hands back: plain values, which are all that crosses from its processes.

Whoever breaks into such a process can send what they like over its pipe, so these are decoded strictly, by type.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Finding(StrEnum):
    """What is wrong with an archive."""

    BROKEN = "broken"  # the directory does not hold together
    ENTRIES = "entries"  # too many
    INFLATED = "inflated"  # too large when unpacked
    RATIO = "ratio"  # unpacks to far more than it is
    OVERLAP = "overlap"  # entries share their bytes
    NESTED = "nested"  # too many archives in it
    PATH = "path"  # a name leads out of the folder it is unpacked in
    LINK = "link"  # a symbolic link
    DUPLICATE = "duplicate"  # one name twice: which one a reader takes is anybody's guess
    HIDDEN = "hidden"  # bytes before the first entry
    EXECUTABLE = "executable"  # a program or script in it
    ENCRYPTED = "encrypted"


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a listing; `name` is cleaned in every part and only to be shown."""

    name: str
    size: int
    folder: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """`items` are the first of `entries`; sizes are what the directory claims, in bytes."""

    entries: int
    inflated: int
    packed: int
    nested: int
    encodings: tuple[str, ...]
    findings: tuple[Finding, ...]
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture we made."""

    media_type: str
    width: int
    height: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Images:
    """`width` and `height` as seen, turned upright. `cleaned` is whether the clean file was written, and how:
    ``lossless``, ``requantised`` (same tables, decoded and coded again), ``reencoded``, or ``converted`` to a JPEG."""

    width: int
    height: int
    frames: int
    cleaned: str
    placeholder: str  # the average colour, #rrggbb: what is shown before anything has come
    thumbnail: Picture
    preview: Picture


@dataclass(frozen=True, slots=True)
class Document:
    pages: int
    encrypted: bool
    preview: Picture | None  # none where it cannot be opened without a password
    active: bool = False  # scripts, actions that start or send something, files in it that are more than data


@dataclass(frozen=True, slots=True)
class Office:
    """`kind` as in the table, without macros: docx, xlsx, pptx, doc, xls, ppt; empty when it is none of them."""

    kind: str
    macros: bool
    external: bool  # a template or object that is fetched from elsewhere when it is opened
    encrypted: bool


@dataclass(frozen=True, slots=True)
class Sound:
    length_ms: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A finding about the file, never an error of the service. `why`: broken, pixels (or frames, of a picture),
    limit (pages, bytes), memory, time, crash."""

    why: str


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    entries: int = 10_000  # a firm's whole year of scans; also what a person can still scroll through
    inflated_bytes: int = 8 << 30  # what a laptop's disk takes
    ratio: int = 100  # text packs 10 to 20 times, DEFLATE 1,032 times at most
    ratio_from_bytes: int = 64 << 20  # below it a high ratio harms nobody: an empty form packs 200 times
    nested: int = 50  # archives in it
    directory_bytes: int = 16 << 20  # read at once; 10,000 entries with long names are 3 MiB
    items: int = 1000  # shown


@dataclass(frozen=True, slots=True)
class ImageLimits:
    pixels: int = 64_000_000  # photos of today's phones have 50; 64 take 256 MiB in memory
    side: int = 30_000  # a long screenshot of a chat; JPEG ends at 65,535
    frames: int = 500  # half a minute of a sticker
    frame_pixels: int = (
        50_000_000  # of all frames together: a WebP of noise takes 16 s of processor for so many
    )
    thumbnail: int = 360  # long side, in a list on a phone of triple density
    preview: int = 1600  # long side, on a whole screen


@dataclass(frozen=True, slots=True)
class PageLimits:
    preview: int = 1600  # long side in pixels, whatever the page's size: memory does not follow the page
    pages: int = 20_000
