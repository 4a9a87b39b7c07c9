"""Asking for a code."""

from __future__ import annotations

from core.actions import PUBLIC, Context, action
from gateway.api import AskedCode, SendCode
from gateway.codes.issue import about_ticket, issue
from gateway.identity import store as people
from gateway.sessions.tries import OFFICE, known_place


@action(SendCode, needs=PUBLIC, limit=OFFICE)
async def send(ctx: Context, command: SendCode) -> AskedCode:
    """Send a code of six digits, good with the ticket of the answer for two minutes, three tries and one use.

    At most one a minute to a phone from a source, and so many a day to a phone, to a phone from a source, and from a
    source. Who asks with the key of a device that the person has used is counted apart: strangers cannot use that up.
    The answer is the same for known and unknown numbers.
    """
    person = await people.person_by_login(ctx.tx, ctx.columns, command.phone)
    known = person is not None and person["state"] == people.ACTIVE
    if command.purpose == "login":
        really = known or person is None
    else:
        really = person is not None and known and person["password_hash"] is not None
    person_id = person["person_id"] if person is not None else 0
    owner = await known_place(ctx, person_id) is not None
    ticket = ctx.rng.token()
    sent = await issue(
        ctx,
        command.phone,
        command.purpose,
        about=about_ticket(ticket),
        counted_as=str(person_id) if owner else "",
        really=really,
    )
    return AskedCode(**dict(sent), ticket=ticket)
