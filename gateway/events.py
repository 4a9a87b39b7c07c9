"""What follows when somebody leaves or a session ends: the hub closes connections, conversations lose a member.

The floors are why this stands here: the hub and im know no gateway, so the gateway tells them.
"""

from __future__ import annotations

from core.actions import Context, on
from gateway.api import DeviceBound, MembershipEnded, NewDevice, SessionMoved, SessionRevoked
from gateway.identity import store
from gateway.sessions import store as sessions
from hub.api import Bye, CloseSessions, tell
from im.api import RemovePerson


@on(MembershipEnded)
async def leave_everything(ctx: Context, event: MembershipEnded) -> None:
    """Close the person's connections in this enterprise and take the person out of its conversations.

    Not if they have come back meanwhile: `add_member` has done it then, and what they have now is new.
    """
    if await store.membership_state(ctx.tx, event.enterprise_id, event.person_id) == store.ACTIVE:
        return
    await ctx.call(
        CloseSessions(
            person_id=event.person_id,
            enterprise_id=event.enterprise_id,
            code=Bye.LEFT_ENTERPRISE,
            reason="left the enterprise",
        )
    )
    await ctx.call(RemovePerson(person_id=event.person_id))


@on(SessionRevoked)
async def close_connections(ctx: Context, event: SessionRevoked) -> None:
    """Close the connections of this session, on whichever node they are."""
    left = event.why == "left"
    await ctx.call(
        CloseSessions(
            person_id=event.person_id,
            enterprise_id=event.enterprise_id,
            session_id=event.session_id,
            code=Bye.LEFT_ENTERPRISE if left else Bye.DEVICE_REVOKED,
            reason="left the enterprise" if left else "the session has ended",
        )
    )


@on(SessionMoved)
async def close_moved(ctx: Context, event: SessionMoved) -> None:
    """Close what the session has open in the enterprise it left, unless it is back there."""
    session = await sessions.lock(ctx.tx, event.session_id)
    if session is None or session["enterprise_id"] == event.enterprise_id:
        return
    await ctx.call(
        CloseSessions(
            person_id=event.person_id,
            enterprise_id=event.enterprise_id,
            session_id=event.session_id,
            code=Bye.REPLACED,
            reason="the session has gone to another enterprise",
        )
    )


@on(NewDevice)
async def tell_of_new_device(ctx: Context, event: NewDevice) -> None:
    """A word in the inbox, which every device of the person shows."""
    body = {"device": event.device, "platform": event.platform, "time_ms": event.at_ms}
    key = f"new_device.{event.session_id}"
    await tell(ctx, event.enterprise_id, event.person_id, "new_device", body, key=key)


@on(DeviceBound)
async def tell_of_bound_device(ctx: Context, event: DeviceBound) -> None:
    """The same where a device is trusted from now on. Who belongs nowhere has no inbox, but the short message."""
    if event.enterprise_id:
        body = {"name": event.name}
        await tell(ctx, event.enterprise_id, event.person_id, "device_bound", body)
