"""Messages that carry files: the hub asks here, in the message's own transaction (`hub.api.Files`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from core.db import Record, Transaction
from core.errors import BankhubError, Conflict, NotFound
from files.inspection.kinds import BY_NAME, name_as
from files.library import store
from files.retention import store as retention
from hub import api as hub

_TOLD = ("width", "height", "duration_ms")  # facts that a message may repeat


class CarriedFiles:
    """`hub.api.Files` on the tables of files. Rows are locked by enterprise and id, always in that order."""

    async def usable(self, tx: Transaction, asked: Sequence[hub.Asked]) -> Sequence[BankhubError | None]:
        """See `hub.api.Files`. One may send what one has uploaded, and pass on what one may see."""
        rows: dict[tuple[int, int], Record] = {}
        for enterprise_id in sorted({one.enterprise_id for one in asked}):
            wanted = sorted({i for one in asked if one.enterprise_id == enterprise_id for i in one.file_ids})
            locked = await store.lock_files(tx, enterprise_id, wanted)
            found = await store.files(tx, enterprise_id, list(locked))
            rows.update({(enterprise_id, i): row for i, row in found.items()})
        return [await self._refusal(tx, one, rows) for one in asked]

    async def _refusal(
        self, tx: Transaction, one: hub.Asked, rows: dict[tuple[int, int], Record]
    ) -> BankhubError | None:
        for file_id in one.file_ids:
            row = rows.get((one.enterprise_id, file_id))
            detail: dict[str, object] = {"file_id": str(file_id)}
            if row is None or row["state"] == store.REMOVED or not await _may_see(tx, one, row):
                return NotFound("no such file", detail=detail)
            if row["state"] != store.READY:
                return Conflict("the file is not ready to be sent", detail=detail | {"state": row["state"]})
            if untrue := _untrue(one.body, row):
                return Conflict(
                    "the message says something else of the file than it is",
                    detail=detail | {"field": untrue},
                )
        return None

    async def attach(self, tx: Transaction, rows: Sequence[hub.Attached]) -> None:
        """See `hub.api.Files`."""
        await store.attach(
            tx, [(one.file_id, store.STREAM, one.stream_id, one.seq, one.enterprise_id) for one in rows]
        )

    async def release(self, tx: Transaction, erased: Sequence[tuple[int, int]]) -> None:
        """See `hub.api.Files`. Under a hold the references stay, out of everybody's sight."""
        for stream_id, seq in erased:
            enterprise_id = await store.enterprise_of_entry(tx, stream_id, seq)
            if enterprise_id is None:
                continue
            if await retention.stream_held(tx, enterprise_id, stream_id):
                await store.hold_back(tx, enterprise_id, stream_id, seq)
            else:
                await store.release(tx, enterprise_id, store.STREAM, stream_id, seq)


async def _may_see(tx: Transaction, one: hub.Asked, row: Record) -> bool:
    if row["person_id"] == one.person_id:
        return True
    attached = await store.attached(tx, one.enterprise_id, [row["file_id"]])
    places = {(a["holder_id"], a["position"]) for a in attached if a["holder"] == store.STREAM}
    return bool(await hub.visible(tx, one.person_id, one.enterprise_id, places))


def _untrue(body: Any, row: Record) -> str | None:
    """What the message says wrongly of its file; None: nothing."""
    facts = orjson.loads(row["facts"]) if row["facts"] else {}
    is_so = {
        "name": name_as(row["name"], BY_NAME[row["kind"]]),
        "size": row["stored_bytes"],
        "type": BY_NAME[row["kind"]].media_type,
        **{name: facts[name] for name in _TOLD if name in facts},
    }
    return next((name for name, value in is_so.items() if name in body and body[name] != value), None)
