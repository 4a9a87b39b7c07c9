"""Beginning sessions, and the tokens of those that go on: for every way of logging in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from core.actions import Context, Principal
from core.clock import from_ms, to_ms
from core.db import Record
from core.errors import Forbidden, Unauthenticated
from gateway.api import Enterprise, LoggedIn, NewDevice, Person
from gateway.devices import store as devices
from gateway.devices.trust import meet
from gateway.identity import store as people
from gateway.identity.rules import choose_enterprise
from gateway.parts import parts
from gateway.people.phones import shown_phone
from gateway.sessions import rules, store
from gateway.sessions.ending import make_room
from gateway.sessions.tries import PAGE, known_place

Belongs = list[tuple[int, str, list[str]]]
"""(enterprise, its name, the person's roles there)."""


@dataclass(frozen=True, slots=True)
class Live:
    """A session as its tokens tell it."""

    session_id: int
    person_id: int
    enterprise_id: int
    device: str
    acr: int
    jkt: str
    expires_ms: int

    @classmethod
    def of(cls, row: Record) -> Live:
        """The session of a row of `store.lock`."""
        return cls(
            row["session_id"],
            row["person_id"],
            row["enterprise_id"],
            row["device"],
            row["acr"],
            row["jkt"] or "",
            to_ms(row["expires_at"]),
        )


async def begin(
    ctx: Context,
    person_id: int,
    device: str,
    platform: str,
    wanted: int | None,
    acr: int = 1,
    *,
    by_code: bool = False,
) -> LoggedIn:
    """Begin a session of somebody who has proved who they are, in the enterprise `wanted`, else the last, else none.

    The key that the request proved to have binds the tokens; whether it is known decides with `acr` (what was shown
    besides) how strong the session is. `by_code`: nothing but a code to the phone was shown. On the pages of the
    provider there is no key: their sessions have no tokens that anybody sees. Raises `Forbidden` where the person is
    not in the wanted enterprise.
    """
    tx, now, key = ctx.tx, ctx.clock.now(), ctx.source.key
    if key is None and not (ctx.runtime.settings.bearer_sessions or ctx.source.edge == PAGE):
        raise Forbidden("log in with a proof of possession (DPoP)")
    await devices.lock_person(tx, person_id)
    belongs = await people.enterprises_of(tx, person_id)
    last = await store.last_enterprise(tx, person_id)
    chosen = choose_enterprise([one[0] for one in belongs], wanted, last)
    if chosen is None or (chosen and not await people.lock_membership(tx, chosen, person_id)):
        raise Forbidden("no membership in such an enterprise")
    known = await known_place(ctx, person_id, device) is not None
    first = last is None
    acr = await meet(ctx, person_id, chosen, key, acr, device=device, platform=platform)
    await make_room(ctx, person_id, acr)
    jkt = "" if key is None else key.thumbprint
    life = parts(ctx).life(jkt)
    session_id, expires_at = ctx.ids.next(), now + timedelta(seconds=life.absolute_s)
    await store.insert(
        tx,
        session_id,
        person_id=person_id,
        enterprise_id=chosen,
        device=device,
        platform=platform,
        acr=acr,
        by_code=by_code,
        jkt=jkt or None,
        now=now,
        expires_at=expires_at,
    )
    token = ctx.rng.token()
    idle_end = life.idle_end(now, expires_at)
    await store.insert_token(tx, rules.token_digest(token), session_id, now=now, expires_at=idle_end)
    ctx.audit(enterprise_id=chosen, person_id=person_id, session_id=session_id, object=session_id)
    if chosen and not known and not first:
        ctx.emit(
            NewDevice(
                enterprise_id=chosen,
                person_id=person_id,
                session_id=session_id,
                device=device,
                platform=platform,
                at_ms=to_ms(now),
            )
        )
    live = Live(session_id, person_id, chosen, device, acr, jkt, to_ms(expires_at))
    return await logged_in(ctx, live, belongs, token)


def access_token(ctx: Context, live: Live, belongs: Belongs, until_ms: int | None = None) -> tuple[str, int]:
    """An access token of this session from now on, and when it expires (ms): never later than the session's idle end,
    nor than `until_ms`, where it takes the place of one that would expire then.

    Raises `Forbidden` for a bearer token of who works with a key's proof only (`possession_roles`).
    """
    absolute_end = from_ms(live.expires_ms)
    end_ms = to_ms(parts(ctx).life(live.jkt).idle_end(ctx.clock.now(), absolute_end))
    if until_ms is not None:
        end_ms = min(end_ms, until_ms)
    roles = next((frozenset(held) for one, _, held in belongs if one == live.enterprise_id), frozenset[str]())
    if not live.jkt and not roles.isdisjoint(ctx.runtime.settings.possession_roles):
        raise Forbidden("log in with a proof of possession (DPoP)")
    who = Principal(
        live.person_id,
        live.enterprise_id,
        roles,
        live.session_id,
        live.device,
        end_ms,
        live.acr,
        jkt=live.jkt,
    )
    return parts(ctx).tokens.sign(who)


async def logged_in(ctx: Context, live: Live, belongs: Belongs, refresh_token: str) -> LoggedIn:
    """What somebody gets who has logged in or goes on."""
    access, access_ms = access_token(ctx, live, belongs)
    enterprises = shown(belongs)
    return LoggedIn(
        access_token=access,
        access_expires_ms=access_ms,
        refresh_token=refresh_token,
        session_id=live.session_id,
        session_expires_ms=live.expires_ms,
        person=await own_person(ctx, live.person_id),
        enterprise=next((e for e in enterprises if e.enterprise_id == live.enterprise_id), None),
        enterprises=enterprises,
    )


def shown(belongs: Belongs) -> list[Enterprise]:
    """Memberships as their owner sees them."""
    return [Enterprise.model_validate({"enterprise_id": e, "name": n, "roles": r}) for e, n, r in belongs]


async def own_person(ctx: Context, person_id: int) -> Person:
    """A person as that person sees it. Raises `Unauthenticated` where there is none any more."""
    row = await people.person(ctx.tx, person_id)
    if row is None or row["state"] != people.ACTIVE:
        raise Unauthenticated
    return Person(
        person_id=person_id,
        name=row["full_name"],
        login_name=row["login_name"],
        phone=shown_phone(ctx.columns, row),
        registered=row["registered_at"] is not None,
    )
