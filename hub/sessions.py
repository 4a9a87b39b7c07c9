"""Actions of the hub that other services call."""

from __future__ import annotations

from core.actions import INTERNAL, Context, action
from hub import api


@action(api.CloseSessions, needs=INTERNAL, idempotent=False)
async def close(ctx: Context, command: api.CloseSessions) -> None:
    """End sessions on every node, once the caller's transaction is committed."""
    api.close_sessions(ctx, command)
