"""What follows when somebody leaves or a session ends: the hub closes connections, conversations lose a member.

The floors are why this stands here: the hub and im know no gateway, so the gateway tells them.
"""

from __future__ import annotations

from core.actions import Context, on
from gateway.api import MembershipEnded, SessionRevoked
from gateway.identity import store
from hub.api import Bye, CloseSessions
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
