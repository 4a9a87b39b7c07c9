"""Beginning a step-up, and proving it."""

from __future__ import annotations

from core.actions import PERSON, Context, Rate, action
from core.clock import from_ms, to_ms
from core.db import Record
from core.device_key import DeviceKey, unb64url
from core.dispatch import parse
from core.errors import Conflict, Forbidden, Invalid, NotFound
from core.stepup import guard, store
from core.stepup import rules as stepup
from core.stepup.evidence import Evidence
from gateway.api import BeginStepUp, CodeSent, ProveStepUp, SendStepUpCode, StepUpChallenge, StepUpProven
from gateway.codes.issue import issue, redeem
from gateway.devices import store as devices
from gateway.devices.rules import is_new
from gateway.factors.check import phone_as_factor, totp_is_right
from gateway.factors.store import has_totp
from gateway.parts import parts
from gateway.sessions import tries
from gateway.stepup import rules
from gateway.stepup.targets import target_of

_PURPOSE = "step_up"
_SMS_CHARACTERS = 60  # of what is confirmed: a text has room for 70 in one message, with the code more


@action(BeginStepUp, needs=PERSON, limit=Rate(burst=20, per_s=0.2))
async def begin(ctx: Context, command: BeginStepUp) -> StepUpChallenge:
    """Say what has to be confirmed before this call, and by which ways. Nothing is done yet.

    `conflict` where the call needs no confirmation, `forbidden` where it cannot be confirmed from this session.
    """
    who, now_ms = ctx.caller, ctx.clock.now_ms()
    asked = parts(ctx).actions.get(command.action)
    if asked is None or asked.step_up is None:
        raise Conflict("this needs no confirmation")
    wanted = parse(asked, command.fields)
    if asked.step_up_when is not None and not asked.step_up_when(wanted, who):
        raise Conflict("this needs no confirmation")
    own = await devices.of_person(ctx.tx, who.person_id)
    new_s = ctx.runtime.settings.device_new_s
    here = [row for row in own if row["jkt"] == who.jkt]
    means = rules.Means(
        trusted_here=bool(here),
        new_here=any(is_new(to_ms(row["bound_at"]), now_ms, new_s) for row in here),
        devices=len(own) - len(here),
        totp=await has_totp(ctx.tx, who.person_id),
        phone=await phone_as_factor(ctx) is not None,
    )
    ways = rules.ways(asked.step_up, means)
    if not ways:
        raise Forbidden("confirm this on a trusted device", detail={"code": "no_way_to_confirm"})
    nonce = ctx.rng.randbytes(stepup.NONCE_BYTES)
    fields = stepup.fields_of(wanted, guard.secret_of(ctx.runtime.settings), nonce)
    lines = stepup.lines_of(asked, wanted, fields)
    if target := await target_of(ctx, wanted):
        lines = [f"{lines[0]}：{target}", *lines[1:]]
    challenge = stepup.Challenge(
        challenge_id=ctx.ids.next(),
        enterprise_id=who.enterprise_id,
        person_id=who.person_id,
        session_id=who.session_id,
        action=asked.name,
        nonce=nonce,
        issued_ms=now_ms,
        expires_ms=now_ms + int(ctx.runtime.settings.step_up_s * 1000),
    )
    message = challenge.message(fields, lines)
    await store.insert(
        ctx.tx,
        ctx.runtime.keys,
        ctx.rng,
        challenge,
        ways=tuple(ways),
        command_digest=stepup.command_digest(asked.name, fields, nonce),
        message=message,
    )
    ctx.audit(object=challenge.challenge_id)
    return StepUpChallenge(
        challenge_id=challenge.challenge_id,
        ways=ways,
        lines=lines,
        message=message.decode(),
        digest=stepup.digest(message).hex(),
        expires_ms=challenge.expires_ms,
    )


@action(SendStepUpCode, needs=PERSON)
async def send_code(ctx: Context, command: SendStepUpCode) -> CodeSent:
    """Send a code to one's own phone. It is bound to the digest of the challenge, and the text says what it is for."""
    waiting = await _waiting(ctx, command.challenge_id)
    phone = await phone_as_factor(ctx)
    if "sms" not in waiting.ways or phone is None:
        raise Forbidden("this is not confirmed by a short message")
    about = stepup.digest(waiting.message).hex()
    what = stepup.title_of(waiting.message)[:_SMS_CHARACTERS]
    return await issue(ctx, phone, _PURPOSE, about=about, template="confirm", params={"what": what})


@action(ProveStepUp, needs=PERSON, transaction=False, limit=Rate(burst=20, per_s=0.2))
async def prove(ctx: Context, command: ProveStepUp) -> StepUpProven:
    """Prove a challenge, once. What proves it is kept as evidence."""
    if (command.way == "sign") != (command.signature is not None) or (command.way == "sign") == (
        command.code is not None
    ):
        raise Invalid("a signature or a code, as the way asks")
    if command.way != "sign":
        who = ctx.caller
        one = await tries.again(ctx, tries.count, f"step-up of {who.person_id}", who.person_id)
        if not await ctx.transact(_redeem, command):
            raise Forbidden("the code is not right, or not any more")
        await ctx.transact(tries.succeeded, one)
    return await ctx.transact(_prove, command)


async def _redeem(ctx: Context, command: ProveStepUp) -> bool:
    assert command.code is not None
    waiting, code = await _waiting(ctx, command.challenge_id), command.code.get_secret_value()
    if command.way not in waiting.ways:
        return False
    if command.way == "totp":
        return await totp_is_right(ctx, ctx.caller.person_id, code)
    phone = await phone_as_factor(ctx)
    about = stepup.digest(waiting.message).hex()
    return phone is not None and await redeem(ctx, phone, _PURPOSE, code, about)


async def _prove(ctx: Context, command: ProveStepUp) -> StepUpProven:
    who = ctx.caller
    waiting = await _waiting(ctx, command.challenge_id)
    if command.way not in waiting.ways:
        raise Forbidden("this is not confirmed in this way")
    algorithm, point, signature = command.way.upper(), None, None
    if command.signature is not None:
        key = await _trusted_key(ctx)
        signature = _signature(command.signature)
        if not key.verify(waiting.message, signature):
            raise Forbidden("the signature is not this device's of this message")
        algorithm, point = key.algorithm, key.point
    found = Evidence(
        challenge_id=command.challenge_id,
        enterprise_id=who.enterprise_id,
        person_id=who.person_id,
        action=waiting.kept.action,
        algorithm=algorithm,
        point=point,
        signature=signature,
        message=waiting.message,
        proven_at=from_ms(ctx.clock.now_ms()),  # as every engine keeps it
    )
    await store.prove(ctx.tx, ctx.runtime.keys, ctx.rng, found)
    ctx.audit(object=command.challenge_id, after=found.digest)
    return StepUpProven(challenge_id=command.challenge_id, expires_ms=waiting.kept.expires_ms)


async def _waiting(ctx: Context, challenge_id: int) -> store.Waiting:
    """The caller's own challenge of this session, to be proved. Raises `NotFound`, or `Conflict` once it was."""
    who = ctx.caller
    waiting = await store.lock_waiting(ctx.tx, ctx.runtime.keys, challenge_id, who.enterprise_id)
    if waiting is None or (waiting.kept.person_id, waiting.kept.session_id) != (
        who.person_id,
        who.session_id,
    ):
        raise NotFound
    if ctx.clock.now_ms() >= waiting.kept.expires_ms:
        raise NotFound
    if waiting.kept.proven:
        raise Conflict("this has been proved")
    return waiting


async def _trusted_key(ctx: Context) -> DeviceKey:
    """The key that this session is bound to, if the person trusts it at this moment. Raises `Forbidden`."""
    who = ctx.caller
    for row in await devices.of_person(ctx.tx, who.person_id):
        if row["jkt"] == who.jkt:
            return _key(row)
    raise Forbidden("this session is not bound to a trusted device")


def _key(row: Record) -> DeviceKey:
    return DeviceKey.from_point(row["algorithm"], bytes(row["point"]))


def _signature(text: str) -> bytes:
    try:
        return unb64url(text)
    except ValueError as error:
        raise Forbidden("the signature is not this device's of this message") from error
