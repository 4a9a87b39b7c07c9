"""A step-up that has been proved, without a phone or a device: for tests of what comes after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.actions import Principal
from core.clock import from_ms
from core.dispatch import parse
from core.runtime import Runtime
from core.stepup import guard, rules, store
from core.stepup.evidence import Evidence


async def proven(runtime: Runtime, who: Principal, name: str, fields: Mapping[str, Any]) -> int | None:
    """A challenge for this call that `who` has proved; None where the call needs none."""
    action = runtime.registry.get(name)
    if action.step_up is None:
        return None
    command = parse(action, fields)
    if action.step_up_when is not None and not action.step_up_when(command, who):
        return None
    now_ms, nonce = runtime.clock.now_ms(), runtime.rng.randbytes(rules.NONCE_BYTES)
    challenge = rules.Challenge(
        runtime.ids.next(),
        who.enterprise_id,
        who.person_id,
        who.session_id,
        name,
        nonce,
        now_ms,
        now_ms + 300_000,
    )
    shown = rules.fields_of(command, guard.secret_of(runtime.settings), nonce)
    message = challenge.message(shown, rules.lines_of(action, command, shown))
    digest = rules.command_digest(name, shown, nonce)
    async with runtime.db.transaction() as tx:
        await store.insert(
            tx,
            runtime.keys,
            runtime.rng,
            challenge,
            ways=("sms",),
            command_digest=digest,
            message=message,
        )
        evidence = Evidence(
            challenge.challenge_id,
            who.enterprise_id,
            who.person_id,
            name,
            "SMS",
            None,
            None,
            message,
            from_ms(now_ms),
        )
        await store.prove(tx, runtime.keys, runtime.rng, evidence)
    return challenge.challenge_id
