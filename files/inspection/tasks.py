"""What the workshop and its processes say to each other; decoded strictly on both sides."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from files.inspection.values import (
    ArchiveLimits,
    Document,
    ImageLimits,
    Images,
    Listing,
    Office,
    PageLimits,
    Sound,
    Unreadable,
)

MESSAGE_BYTES: Final = 4096  # a task, or the setup
ANSWER_BYTES: Final = 16 << 20  # the largest: two pictures of 1,600 pixels are under 4 MiB, a listing under 1

What: TypeAlias = Literal["image", "pdf", "office", "archive", "sound"]
Answer: TypeAlias = Images | Document | Office | Listing | Sound | Unreadable


class Setup(msgspec.Struct, frozen=True):
    parent: int  # the process that ends this one with it
    memory_bytes: int
    cpu_s: int
    wall_s: float
    file_bytes: int
    tasks: int
    images: ImageLimits
    archives: ArchiveLimits
    pages: PageLimits


class Hello(msgspec.Struct, frozen=True):
    """Ready; `missing` is what this kernel could not confine."""

    missing: tuple[str, ...]


class Task(msgspec.Struct, frozen=True):
    what: What


class Reply(msgspec.Struct, frozen=True):
    """`body` is a value of the task's type, or an `Unreadable` if `readable` is false."""

    readable: bool
    body: msgspec.Raw
