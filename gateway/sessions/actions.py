"""Logging in, staying logged in, going elsewhere, logging out."""

from __future__ import annotations

from dataclasses import replace

from core.actions import PERSON, PUBLIC, Context, action
from core.clock import to_ms
from core.db import Record
from core.errors import NotFound, Unauthenticated
from gateway.api import (
    SESSIONS_MANAGE,
    AccessToken,
    ListSessions,
    LoggedIn,
    Login,
    Logout,
    Refresh,
    RevokeSession,
    Session,
    SessionMoved,
    SwitchEnterprise,
)
from gateway.factors.login import ask_guarded, begin_or_ask
from gateway.identity import store as people
from gateway.identity.rules import normal_login
from gateway.parts import parts
from gateway.sessions import rules, store, tries
from gateway.sessions.ending import end_session, idle
from gateway.sessions.issue import Live, access_token, logged_in

WRONG = "the login or the password is not right"


# --- login ----------------------------------------------------------------------------------------------------------


@action(Login, needs=PUBLIC, transaction=False, limit=tries.OFFICE)
async def login(ctx: Context, command: Login) -> LoggedIn:
    """Log in with a phone number or login name and the password.

    Unknown account and wrong password get the same answer in the same time. Failures delay further attempts on this
    account from this source only, or with this key if the account knows it: nobody can lock out somebody else.
    Who has codes by time, and the bank's staff, need a second factor unless they hold a trusted device: the refusal
    has errors.code second_factor_required and a ticket for `gateway.factors.complete_login`. While too many guess, from
    one source or at one account, everybody who comes from elsewhere than a known device gets this refusal whatever
    the password, and the phone a code where it was right.
    """
    have, typed = parts(ctx), normal_login(command.login)
    ctx.audit(device=command.device)
    person, one, guarded = await tries.again(ctx, _attempt, typed, command.device)
    if person is not None:
        ctx.audit(object=person["person_id"])
    password = command.password.get_secret_value()
    stored = None if person is None else person["password_hash"]
    right = await have.passwords.verify(stored, password)
    right = right and person is not None and person["state"] == people.ACTIVE
    if guarded:
        raise await tries.again(ctx, ask_guarded, person, command.device, one, right)
    if not right or person is None:
        await tries.again(ctx, tries.failed, one)
        raise Unauthenticated(WRONG)
    rehashed = await have.passwords.hash(password) if have.passwords.outdated(stored or "") else None
    begun = await ctx.transact(_begin, command, person, one, rehashed)
    if isinstance(begun, Unauthenticated):
        raise begun
    return begun


async def _attempt(ctx: Context, typed: str, device: str) -> tuple[Record | None, tries.Try, bool]:
    person = await people.person_by_login(ctx.tx, ctx.columns, typed)
    person_id = person["person_id"] if person else 0
    whom = f"login of {person_id}" if person else f"login {typed}"
    one = await tries.count(ctx, whom, person_id, device)
    return person, one, await tries.guarded(ctx, whom, one)


async def _begin(
    ctx: Context, command: Login, person: Record, one: tries.Try, rehashed: str | None
) -> LoggedIn | Unauthenticated:
    person_id, stored = person["person_id"], person["password_hash"]
    if not await people.lock_knowing(ctx.tx, person_id, stored):
        raise Unauthenticated(WRONG)  # another one was set while this one was verified
    await tries.succeeded(ctx, one)
    if rehashed is not None:
        await people.set_password(ctx.tx, person_id, rehashed, before=stored)
    return await begin_or_ask(
        ctx,
        person_id,
        command.device,
        command.platform,
        command.enterprise_id,
        wants_two=command.second_factor,
    )


# --- refresh --------------------------------------------------------------------------------------------------------


@action(Refresh, needs=PUBLIC, transaction=False)
async def refresh(ctx: Context, command: Refresh) -> LoggedIn:
    """Exchange the refresh token for its successor and a new access token with today's roles.

    The access token from before is worth nothing from then on. A session that is bound to a key goes on with that key's
    proof only; without it nothing happens to the session, since whoever has stolen the token must not be able to end
    it. A token that two parties have ends the session for both. Where only the answer was lost, the same token with the
    same key gets the same successor for a short while; without a key there is no such while. Nothing is counted per
    address here but requests: what somebody sends beside them refuses nobody who has a good token.
    """
    renewed = await ctx.transact(_refresh, command)
    if renewed is None:  # raised here, so that what ended the session is committed
        raise Unauthenticated("the session has ended")
    return renewed


async def _refresh(ctx: Context, command: Refresh) -> LoggedIn | None:
    have, tx, now, settings = parts(ctx), ctx.tx, ctx.clock.now(), ctx.runtime.settings
    token = command.refresh_token.get_secret_value()
    digest = rules.token_digest(token)
    session_id = await store.session_of_token(tx, digest)
    session = None if session_id is None else await store.lock(tx, session_id)
    row = None if session is None else await store.token(tx, digest)
    if session is None or row is None:
        return None
    person_id, enterprise_id = session["person_id"], session["enterprise_id"]
    ctx.audit(person_id=person_id, enterprise_id=enterprise_id, session_id=session_id, object=session_id)
    presented = rules.Presented(
        device=session["device"],
        expires_ms=to_ms(row["expires_at"]),
        rotated_ms=None if row["rotated_at"] is None else to_ms(row["rotated_at"]),
        successor_used=row["successor_rotated_at"] is not None,
        session_expires_ms=to_ms(session["expires_at"]),
        session_ended=session["ended_at"] is not None,
    )
    key = ctx.source.key
    same_key = session["jkt"] is None or (key is not None and key.thumbprint == session["jkt"])
    grace_s = settings.refresh_bearer_grace_s if session["jkt"] is None else settings.refresh_grace_s
    verdict = rules.judge(presented, command.device, to_ms(now), grace_s, same_key=same_key)
    if verdict is rules.Verdict.REFUSE:
        return None
    if verdict is rules.Verdict.THEFT:
        await end_session(ctx, session["session_id"], person_id, enterprise_id, session["device"], "theft")
        return None
    belongs = await people.enterprises_of(tx, person_id)
    active = not enterprise_id or await people.lock_membership(tx, enterprise_id, person_id)
    if not active or enterprise_id not in [0, *(one[0] for one in belongs)]:
        await end_session(ctx, session["session_id"], person_id, enterprise_id, session["device"], "left")
        return None
    successor = rules.successor(have.refresh_secret, token)
    if verdict is rules.Verdict.ROTATE:
        idle_end = have.life(session["jkt"] or "").idle_end(now, session["expires_at"])
        successor_digest = rules.token_digest(successor)
        await store.insert_token(tx, successor_digest, session["session_id"], now=now, expires_at=idle_end)
        await store.rotate(tx, digest, successor_digest, now)
        await store.use(tx, session["session_id"], enterprise_id, now)
        have.end(ctx, [], renewed=[(session["session_id"], to_ms(now))])
    return await logged_in(ctx, Live.of(session), belongs, successor)


# --- while logged in ------------------------------------------------------------------------------------------------


@action(SwitchEnterprise, needs=PERSON)
async def switch_enterprise(ctx: Context, command: SwitchEnterprise) -> AccessToken:
    """Go on in another enterprise one belongs to: an access token for that one, the same session. It ends when the
    presented one would: only refreshing keeps a session going. Tokens from before are worth nothing at once, over HTTP
    and on the hub: a session is in one enterprise."""
    who, now = ctx.caller, ctx.clock.now()
    belongs = await people.enterprises_of(ctx.tx, who.person_id)
    active = await people.lock_membership(ctx.tx, command.enterprise_id, who.person_id)
    if not active or command.enterprise_id not in [one[0] for one in belongs]:
        raise NotFound
    session = await store.lock(ctx.tx, who.session_id)
    if session is None or session["ended_at"] is not None or session["person_id"] != who.person_id:
        raise Unauthenticated
    await store.use(ctx.tx, who.session_id, command.enterprise_id, now)
    parts(ctx).end(ctx, [], renewed=[(who.session_id, to_ms(now))])
    if session["enterprise_id"] != command.enterprise_id:
        ctx.emit(
            SessionMoved(
                enterprise_id=session["enterprise_id"], person_id=who.person_id, session_id=who.session_id
            )
        )
    ctx.audit(object=command.enterprise_id)
    live = replace(Live.of(session), enterprise_id=command.enterprise_id)
    access, access_ms = access_token(ctx, live, belongs, who.expires_at_ms)
    return AccessToken(access_token=access, access_expires_ms=access_ms)


@action(Logout, needs=PERSON)
async def logout(ctx: Context, command: Logout) -> None:
    """End this session, here and on the hub."""
    who = ctx.caller
    await end_session(ctx, who.session_id, who.person_id, who.enterprise_id, who.device, "logout")
    ctx.audit(object=who.session_id)


@action(ListSessions, needs=PERSON, audited=False)
async def list_sessions(ctx: Context, command: ListSessions) -> list[Session]:
    """One's own sessions that have not ended, newest first."""
    who = ctx.caller
    return [
        Session(
            session_id=row["session_id"],
            enterprise_id=row["enterprise_id"],
            device=row["device"],
            platform=row["platform"] or "",
            jkt=row["jkt"],
            created_ms=to_ms(row["created_at"]),
            used_ms=to_ms(row["used_at"]),
            expires_ms=to_ms(row["expires_at"]),
            current=row["session_id"] == who.session_id,
        )
        for row in await store.of_person(ctx.tx, who.person_id, ctx.clock.now())
        if not idle(ctx, row)
    ]


@action(RevokeSession, needs=PERSON)
async def revoke_session(ctx: Context, command: RevokeSession) -> None:
    """End one of one's own sessions; an administrator also those that are in the own enterprise."""
    who = ctx.caller
    session = await store.lock(ctx.tx, command.session_id)
    own = session is not None and session["person_id"] == who.person_id
    if session is not None and not own and session["enterprise_id"] == who.enterprise_id:
        own = ctx.grants is not None and ctx.grants.of(SESSIONS_MANAGE) is not None
    if session is None or not own or session["ended_at"] is not None:
        raise NotFound
    ctx.audit(object=command.session_id)
    await end_session(
        ctx,
        command.session_id,
        session["person_id"],
        session["enterprise_id"],
        session["device"],
        "revoked",
    )
