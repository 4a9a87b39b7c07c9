"""What the handlers of files share: who may see a file, how one is shown, and the rights of whom a door acts for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import orjson

from core.access import Permission, decide
from core.clock import to_ms
from core.context import Context
from core.db import Queries, Record
from files import api
from files.inspection.kinds import BY_NAME, Preview, name_as
from files.library import store
from hub import api as hub

if TYPE_CHECKING:
    from files.service import FilesService

Row = Record | Mapping[str, Any]


def service(ctx: Context) -> FilesService:
    """The service, from inside one of its handlers."""
    return cast("FilesService", ctx.service)


async def permit_still(ctx: Context, permission: Permission) -> None:
    """A door acts for somebody whose bytes took a while: whether they may still. Raises `Forbidden`."""
    grants = await ctx.runtime.access.grants_now(ctx.tx, ctx.caller)
    refusal = decide(permission, ctx.caller, grants, internal=True).refusal
    if refusal is not None:
        raise refusal


async def visible(ctx: Context, rows: Sequence[Record]) -> set[int]:
    """Those of these files that the caller may see: one's own, and what is attached to where one may look.

    The rule for a conversation is the hub's own: a member, from their time on, up to its head.
    """
    me = ctx.caller.person_id
    seen = {row["file_id"] for row in rows if row["person_id"] == me}
    others = [row["file_id"] for row in rows if row["file_id"] not in seen]
    attached = await store.attached(ctx.tx, ctx.enterprise_id, others)
    places: dict[tuple[int, int], list[int]] = {}
    for one in attached:
        if one["holder"] == store.STREAM:
            places.setdefault((one["holder_id"], one["position"]), []).append(one["file_id"])
    for place in await hub.visible(ctx.tx, me, ctx.enterprise_id, places):
        seen.update(places[place])
    return seen


async def shown(ctx: Context, rows: Sequence[Record]) -> list[api.File]:
    """Files as people see them; `rows` are the store's."""
    return await shown_in(ctx.tx, ctx.enterprise_id, rows)


async def shown_in(tx: Queries, enterprise_id: int, rows: Sequence[Row]) -> list[api.File]:
    """The same in somebody else's transaction."""
    pictured = {
        row["content_id"] for row in rows if row["state"] == store.READY and _has_variants(row["kind"])
    }
    made = await store.variants(tx, enterprise_id, sorted(pictured)) if pictured else {}
    return [_shown(row, [v["variant"] for v in made.get(row["content_id"], ())]) for row in rows]


def _has_variants(kind: str | None) -> bool:
    return kind in BY_NAME and BY_NAME[kind].preview in (Preview.PICTURE, Preview.PAGE)


def _shown(row: Row, variants: Sequence[str]) -> api.File:
    ready = row["state"] == store.READY
    kind = BY_NAME.get(row["kind"] or "")
    facts: dict[str, Any] = orjson.loads(row["facts"]) if ready and row["facts"] else {}
    facts.pop("items", None)  # a thousand names: files.library.entries
    return api.File(
        file_id=row["file_id"],
        name=name_as(row["name"], kind) if ready and kind is not None else row["name"],
        size_bytes=row["stored_bytes"] if ready else row["size_bytes"],
        media_type=kind.media_type if ready and kind is not None else None,
        state=row["state"],
        reason=row["reason"],
        digest=row["sha256_digest"] if ready else None,
        facts=facts,
        variants=["original", *(v for v in ("thumbnail", "preview") if v in variants)] if ready else [],
        cleaned=bool(row["cleaned"]),
        uploaded_by=row["person_id"],
        created_ms=to_ms(row["created_at"]),
    )
