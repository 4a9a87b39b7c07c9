"""`doctor --outbox`: events that could not be delivered, and sending them again."""

from __future__ import annotations

from core.errors import Invalid
from core.outbox import parked, resend
from core.settings import Settings
from house.compose import open_database
from house.words import counted

_SHOWN = 10_000


async def outbox(settings: Settings, *, retry: str | None) -> int:
    """List parked deliveries; with `retry` (an event's id, or "all") send them again. The exit code."""
    if retry is not None and retry != "all" and not retry.isdigit():
        raise Invalid(f"{retry!r} is no event id; `doctor --outbox` lists them")
    db = await open_database(settings)
    try:
        if retry is not None and retry != "all":
            number = await resend(db, int(retry))
            print(
                f"event {retry}: {counted(number, 'delivery', 'deliveries')} will be tried again"
                if number
                else f"event {retry} is not parked"
            )
            return 0 if number else 1
        waiting = await parked(db, _SHOWN)
        if retry == "all":
            number = sum(
                [await resend(db, event_id) for event_id in sorted({item.event_id for item in waiting})]
            )
            print(f"{counted(number, 'delivery', 'deliveries')} will be tried again")
            return 0
    finally:
        await db.close()
    for item in waiting:
        print(
            f"{item.event_id}  {item.event_name} for {item.consumer}: {counted(item.attempts, 'attempt')}, "
            f"parked {item.parked_at:%Y-%m-%d %H:%M:%S} UTC, {item.reason}"
        )
    print(
        f"{len(waiting)} parked; `doctor --outbox-retry ID` sends one again"
        if waiting
        else "nothing is parked"
    )
    return 1 if waiting else 0
