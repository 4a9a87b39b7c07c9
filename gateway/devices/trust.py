"""Meeting a key at login: is it trusted, does it become so."""

from __future__ import annotations

from core.actions import Context
from core.device_key import DeviceKey
from gateway.api.devices import DeviceBound
from gateway.devices import rules, store
from gateway.identity.store import person
from gateway.parts import parts
from gateway.people.phones import phone_of


async def meet(
    ctx: Context,
    person_id: int,
    enterprise_id: int,
    key: DeviceKey | None,
    acr: int,
    *,
    device: str,
    platform: str,
) -> int:
    """How strong a login with this key is, `acr` being what was shown besides. A second factor binds the key.

    The caller holds the lock of the person.
    """
    if key is None:
        return acr
    devices = await store.of_person(ctx.tx, person_id)
    trusted = any(row["jkt"] == key.thumbprint for row in devices)
    standing = rules.Standing.TRUSTED if trusted else rules.Standing.UNKNOWN
    login = rules.judge(standing, acr, len(devices), ctx.runtime.settings.devices_max)
    if login.bind:
        await bind(
            ctx, person_id, enterprise_id, key, device=device, platform=platform, name=platform or device
        )
    elif trusted:
        await store.use(ctx.tx, person_id, key.thumbprint, ctx.clock.now())
    return login.acr


async def bind(
    ctx: Context,
    person_id: int,
    enterprise_id: int,
    key: DeviceKey,
    *,
    device: str,
    platform: str,
    name: str,
) -> None:
    """Trust a key, and tell its owner by other ways: the phone now, the other devices by the event."""
    now = ctx.clock.now()
    await store.bind(ctx.tx, person_id, key, device=device, name=name, platform=platform, now=now)
    ctx.emit(DeviceBound(enterprise_id=enterprise_id, person_id=person_id, jkt=key.thumbprint, name=name))
    about = await person(ctx.tx, person_id)
    phone = None if about is None else phone_of(ctx.columns, about)
    if phone is not None:
        ctx.after_commit(lambda: parts(ctx).sms.post(phone, "device_bound", {"name": name}))
