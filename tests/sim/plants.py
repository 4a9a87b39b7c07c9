"""Bugs that the simulation must find: each is put in by patching, and taken out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

from hub.node.rooms import Ring
from hub.streams.writer import GroupCommit
from tests.sim.doubles import Key, MemoryTx
from tests.sim.files import MemoryFiles

Patches = list[Any]


def ack_before_commit() -> Patches:
    """Senders are answered once a batch is decided, before it is durable."""
    real = GroupCommit._decide

    async def decide(self: GroupCommit, tx: Any, batch: Any, *, look_up: bool) -> Any:
        entries, outcomes = await real(self, tx, batch, look_up=look_up)
        await self._on_batch([], outcomes)
        return entries, []

    return [patch.object(GroupCommit, "_decide", decide)]


def missing_dedupe_key() -> Patches:
    """The unique constraint is not there and nobody looks."""
    real = MemoryTx._insert

    async def insert(self: MemoryTx, key: Key) -> None:
        if key[0] != "key":
            await real(self, key)

    async def by_keys(self: MemoryTx, keys: Any) -> dict[Any, Any]:
        return {}

    return [patch.object(MemoryTx, "_insert", insert), patch.object(MemoryTx, "by_keys", by_keys)]


def attached_outside() -> Patches:
    """References are written at once, and stay where the message is not committed."""

    async def attach(self: MemoryFiles, tx: Any, rows: Any) -> None:
        await tx.step()
        for row in rows:
            self.disk.references[row.file_id, row.stream_id, row.seq] += 1

    return [patch.object(MemoryFiles, "attach", attach)]


def resume_off_by_one() -> Patches:
    """Who comes back misses the first entry."""
    real = Ring.between

    def between(self: Ring, after: int, head: int) -> list[bytes] | None:
        frames = real(self, after, head)
        return frames[1:] if frames else frames

    return [patch.object(Ring, "between", between)]


PLANTS: Final[dict[str, Callable[[], Patches]]] = {
    plant.__name__: plant
    for plant in (ack_before_commit, attached_outside, missing_dedupe_key, resume_off_by_one)
}


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """With this bug in the product, or with none."""
    patches = PLANTS[name]() if name else []
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()
