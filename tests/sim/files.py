"""The double of whoever keeps files: `hub.api.Files` in memory. `tests/contract/test_files.py` holds it to SQL.

A file belongs to a person, is ready or not, and is gone once it was cleaned up. A clean-up takes the file's row first,
so it comes before the messages that want to carry the file, or behind their commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.errors import BankhubError, Conflict, NotFound
from hub.streams.files import Asked, Attached
from tests.sim.doubles import Disk, FileRow


def verdict(asked: Asked, files: dict[int, FileRow]) -> BankhubError | None:
    """What speaks against a message; the refusal names the file, so that it is not taken for another one."""
    for file_id in asked.file_ids:
        row = files.get(file_id)
        detail: dict[str, object] = {"file": str(file_id)}
        if row is None or (row.enterprise_id, row.person_id) != (asked.enterprise_id, asked.person_id):
            return NotFound("no such file", detail=detail)
        if not row.ready:
            return Conflict("the file is not ready", detail=detail)
        if asked.body.get("name", row.name) != row.name:
            return Conflict("the file has another name", detail=detail)
    return None


class MemoryFiles:
    """`hub.api.Files` on the simulation's disk."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    async def usable(self, tx: Any, asked: Sequence[Asked]) -> list[BankhubError | None]:
        await tx.step()
        for file_id in sorted({file_id for each in asked for file_id in each.file_ids}):
            if file_id in self.disk.files:
                await tx.lock_row(("file", file_id))
        return [verdict(each, self.disk.files) for each in asked]

    async def attach(self, tx: Any, rows: Sequence[Attached]) -> None:
        await tx.step()
        tx.will(lambda: self.disk.references.update((r.file_id, r.stream_id, r.seq) for r in rows))

    async def release(self, tx: Any, erased: Sequence[tuple[int, int]]) -> None:
        await tx.step()

        def write() -> None:
            self.disk.released.update(erased)
            for reference in [r for r in self.disk.references if r[1:] in erased]:
                del self.disk.references[reference]

        tx.will(write)

    async def clean_up(self, tx: Any, file_id: int) -> bool:
        """Takes the file away unless a message has it; whether it did."""
        await tx.step()
        if file_id not in self.disk.files:
            return False
        await tx.lock_row(("file", file_id))
        await tx.step()
        if file_id not in self.disk.files or any(r[0] == file_id for r in self.disk.references):
            return False
        tx.will(lambda: self.disk.files.pop(file_id, None) and None)
        return True
