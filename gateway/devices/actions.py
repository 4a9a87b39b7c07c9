"""Looking at one's devices, trusting the one in hand, revoking one that is lost."""

from __future__ import annotations

from core.access import SECOND_FACTOR
from core.actions import PERSON, Context, action
from core.clock import to_ms
from core.db import Record
from core.errors import Conflict, Forbidden, NotFound, Unauthenticated
from gateway.api import (
    AccessToken,
    BindDevice,
    BoundDevice,
    CodeSent,
    DeviceRevoked,
    Devices,
    ListDevices,
    RenameDevice,
    RevokeDevice,
    SendBindingCode,
)
from gateway.codes.issue import issue, redeem
from gateway.devices import rules, store
from gateway.devices.trust import bind
from gateway.factors.check import phone_as_factor
from gateway.identity import store as people
from gateway.parts import parts
from gateway.sessions import store as sessions
from gateway.sessions.ending import end_session
from gateway.sessions.issue import Live, access_token
from gateway.stepup import describe

_PURPOSE = "bind_device"


@action(ListDevices, needs=PERSON, audited=False)
async def list_devices(ctx: Context, command: ListDevices) -> Devices:
    """One's own trusted devices, the oldest first."""
    who, now_ms, new_s = ctx.caller, ctx.clock.now_ms(), ctx.runtime.settings.device_new_s
    devices = [
        BoundDevice(
            jkt=row["jkt"],
            algorithm=row["algorithm"],
            device=row["device"],
            name=row["name"],
            platform=row["platform"] or "",
            bound_ms=to_ms(row["bound_at"]),
            used_ms=to_ms(row["used_at"]),
            new=rules.is_new(to_ms(row["bound_at"]), now_ms, new_s),
            current=row["jkt"] == who.jkt,
        )
        for row in await store.of_person(ctx.tx, who.person_id)
    ]
    return Devices(devices=devices)


@action(SendBindingCode, needs=PERSON)
async def send_code(ctx: Context, command: SendBindingCode) -> CodeSent:
    """Send the code that binds the device one is logged in on to one's own phone."""
    phone = await _phone(ctx)
    return await issue(
        ctx, phone, _PURPOSE, about=ctx.caller.jkt, template="confirm", params={"what": "信任这台设备"}
    )


@action(BindDevice, needs=PERSON, transaction=False)
async def bind_device(ctx: Context, command: BindDevice) -> AccessToken:
    """Trust the key that this session is bound to, with the code that was sent to one's own phone.

    Older access tokens of the session are worth nothing afterwards.
    """
    if not await ctx.transact(_redeem, command):
        raise Unauthenticated("the code is not right, or not any more")
    return await ctx.transact(_bind, command)


async def _redeem(ctx: Context, command: BindDevice) -> bool:
    phone = await _phone(ctx)
    return await redeem(ctx, phone, _PURPOSE, command.code.get_secret_value(), ctx.caller.jkt)


async def _bind(ctx: Context, command: BindDevice) -> AccessToken:
    who, tx, now, key = ctx.caller, ctx.tx, ctx.clock.now(), ctx.source.key
    if key is None or key.thumbprint != who.jkt:
        raise Forbidden("a device is bound by its own key")
    session = await sessions.lock(tx, who.session_id)
    if session is None or session["ended_at"] is not None:
        raise Unauthenticated
    await store.lock_person(tx, who.person_id)
    devices = await store.of_person(tx, who.person_id)
    if who.jkt not in [row["jkt"] for row in devices]:
        if len(devices) >= ctx.runtime.settings.devices_max:
            raise Conflict("too many devices: revoke one first")
        await bind(
            ctx,
            who.person_id,
            who.enterprise_id,
            key,
            device=session["device"],
            platform=session["platform"] or "",
            name=command.name,
        )
    await sessions.renew(tx, who.session_id, SECOND_FACTOR, now)
    parts(ctx).end(ctx, [], renewed=[(who.session_id, to_ms(now))])
    ctx.audit(object=who.jkt)
    return await _fresh(ctx, session)


async def _fresh(ctx: Context, session: Record) -> AccessToken:
    live = Live(
        session["session_id"],
        session["person_id"],
        session["enterprise_id"],
        session["device"],
        SECOND_FACTOR,
        session["jkt"] or "",
        to_ms(session["expires_at"]),
    )
    belongs = await people.enterprises_of(ctx.tx, live.person_id)
    access, access_ms = access_token(ctx, live, belongs, ctx.caller.expires_at_ms)
    return AccessToken(access_token=access, access_expires_ms=access_ms)


@action(RenameDevice, needs=PERSON)
async def rename_device(ctx: Context, command: RenameDevice) -> None:
    """Call one of one's devices something else."""
    if not await store.rename(ctx.tx, ctx.caller.person_id, command.jkt, command.name):
        raise NotFound
    ctx.audit(object=command.jkt)


@action(
    RevokeDevice,
    needs=PERSON,
    step_up="factor",
    step_up_when=describe.another_device,
    describe=describe.revoking_device,
)
async def revoke_device(ctx: Context, command: RevokeDevice) -> None:
    """Trust one of one's devices no longer: every session with its key ends at once."""
    who = ctx.caller
    if not await store.revoke(ctx.tx, who.person_id, command.jkt, ctx.clock.now()):
        raise NotFound
    for row in await sessions.lock_with_key(ctx.tx, who.person_id, command.jkt):
        await end_session(
            ctx, row["session_id"], row["person_id"], row["enterprise_id"], row["device"], "revoked"
        )
    ctx.audit(object=command.jkt)
    ctx.emit(DeviceRevoked(enterprise_id=who.enterprise_id, person_id=who.person_id, jkt=command.jkt))


async def _phone(ctx: Context) -> str:
    if not ctx.caller.jkt:
        raise Forbidden("this session is not bound to a key")
    phone = await phone_as_factor(ctx)
    if phone is None:
        raise Forbidden("a code to the phone is no second factor here: log in with the password")
    return phone
