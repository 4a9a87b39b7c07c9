"""Uploads in parts, decided without I/O: how long parts are, where an upload goes on, when it is whole.

    open ──claim──► open (a later writer: epoch + 1) ──complete──► finishing ──► done
      └────────────── abort, or nobody came back ──► aborted

A part is 5 MiB at least (S3), all but the last are of one length. What arrived of a part that is not full yet is the
tail; it is kept as an object of its own, so that a phone that loses its connection every few seconds gets on.
"""

from __future__ import annotations

from typing import Final

from core.errors import Conflict, Forbidden, Invalid
from core.limits import Rate
from files.inspection.kinds import BY_EXTENSION
from files.inspection.names import clean_name, extension_of
from files.inspection.reasons import TEXTS, Reason
from files.inspection.rules import of_name

CHECK: Final = Rate(burst=200, per_s=20)  # how often somebody may ask whether a file may come
NOT_SEALED: Final = "not_sealed"  # code of the refusal of an object that should have been encrypted
MIB: Final = 1 << 20
PART_BYTES: Final = 8 * MIB  # 80 GiB in 10,000 parts; larger files have larger parts
PARTS_MAX: Final = 9_000  # of 10,000 that S3 has

OPEN, FINISHING, DONE, ABORTED = "open", "finishing", "done", "aborted"


def named(name: str, most_bytes: int) -> tuple[str, int]:
    """(the name as it is kept, how large such a file may be). Raises `Invalid` for what is not taken at all."""
    clean = clean_name(name)
    if refusal := of_name(clean):
        raise Invalid(TEXTS[refusal], detail={"code": str(refusal)})
    return clean, min(most_bytes, BY_EXTENSION[extension_of(clean)].max_bytes)


def fits(size_bytes: int, max_bytes: int) -> None:
    """Raises `Invalid` for a file that is too large at all."""
    if size_bytes > max_bytes:
        raise Invalid(
            TEXTS[Reason.TOO_LARGE], detail={"code": str(Reason.TOO_LARGE), "max_bytes": str(max_bytes)}
        )


def part_bytes(size_bytes: int) -> int:
    """How long the parts of a file of this size are: a whole number of MiB, so that there are not too many."""
    least = -(-size_bytes // PARTS_MAX)
    return max(PART_BYTES, -(-least // MIB) * MIB)


def part_size(number: int, size_bytes: int, part: int) -> int:
    """How long part `number` (from 1) is. Raises `Invalid` where there is no such part."""
    left = size_bytes - (number - 1) * part
    if number < 1 or left <= 0:
        raise Invalid("there is no such part", detail={"parts": -(-size_bytes // part)})
    return min(part, left)


def received(parts: dict[int, int], tail_bytes: int) -> int:
    """How much has arrived without a hole: parts by number with their sizes, and the tail behind them."""
    number = 1
    total = 0
    while number in parts:
        total += parts[number]
        number += 1
    return total + tail_bytes


def may_write(state: str, offset: int, received_bytes: int, size_bytes: int, length: int) -> None:
    """Whether `length` bytes (0: not known) may come at `offset`. Raises `Conflict` and `Invalid`."""
    if state != OPEN:
        raise Conflict("this upload is over", detail={"state": state})
    if offset != received_bytes:
        raise Conflict("the upload goes on elsewhere", detail={"offset": str(received_bytes)})
    if offset + length > size_bytes:
        raise Invalid("more bytes than the file has", detail={"size_bytes": str(size_bytes)})


def room(
    size_bytes: int, *, max_bytes: int, used: int, quota: int, used_by_all: int, quota_of_all: int
) -> None:
    """Whether a file of this size fits. Raises `Invalid` for one too large at all, `Forbidden` for no room left."""
    fits(size_bytes, max_bytes)
    if used + size_bytes > quota:
        raise full("person", quota - used)
    if used_by_all + size_bytes > quota_of_all:
        raise full("enterprise", quota_of_all - used_by_all)


def full(quota: str, left_bytes: int) -> Forbidden:
    """The refusal of a file that has no room under the quota of the `person` or the `enterprise`."""
    whose = "your files" if quota == "person" else "the enterprise's files"
    return Forbidden(
        f"there is no room left for {whose}", detail={"quota": quota, "left_bytes": str(max(0, left_bytes))}
    )


def same_digest(name: str, declared: bytes | None, found: bytes | None) -> None:
    """Raises `Invalid` where a digest that was declared is not that of what came."""
    if declared is not None and declared != found:
        raise Invalid(
            "what came is not what was announced", detail={"code": "digest_mismatch", "digest": name}
        )
