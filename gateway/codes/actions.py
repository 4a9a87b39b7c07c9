"""Asking for a code."""

from __future__ import annotations

from core.actions import PUBLIC, Context, Rate, action
from gateway.api import CodeSent, SendCode
from gateway.codes.issue import issue
from gateway.identity import store as people


@action(SendCode, needs=PUBLIC, limit=Rate(burst=20, per_s=0.5))
async def send(ctx: Context, command: SendCode) -> CodeSent:
    """Send a code of six digits, good for two minutes, three tries and one use.

    At most one a minute to a phone, and so many a day to a phone and from a source. The answer is the same for known
    and unknown numbers.
    """
    person = await people.person_by_login(ctx.tx, ctx.columns, command.phone)
    known = person is not None and person["state"] == people.ACTIVE
    if command.purpose == "login":
        really = known or person is None
    else:
        really = person is not None and known and person["password_hash"] is not None
    return await issue(ctx, command.phone, command.purpose, really=really)
