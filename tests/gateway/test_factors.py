"""Second factors: codes by time, recovery codes, and the login that waits for one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.factors import rules
from tests.gateway.conftest import Answer, World
from tests.gateway.sms import messages, newest_code, wrong
from tests.gateway.test_devices import PHONES, Phone

COMPLETE = "gateway.factors.complete_login"

# RFC 6238, appendix B: (seconds, code) by hash, with its secrets of 20, 32 and 64 bytes
_SEED = b"1234567890" * 7
VECTORS = {
    ("sha1", 20): {
        59: "94287082",
        1111111109: "07081804",
        1111111111: "14050471",
        1234567890: "89005924",
        2000000000: "69279037",
        20000000000: "65353130",
    },
    ("sha256", 32): {59: "46119246", 1111111109: "68084774", 1111111111: "67062674", 20000000000: "77737706"},
    ("sha512", 64): {59: "90693936", 1111111109: "25091201", 1111111111: "99943326", 20000000000: "47863826"},
}


@pytest.mark.parametrize(("algorithm", "length"), VECTORS)
def test_the_vectors_of_the_standard(algorithm: str, length: int) -> None:
    for seconds, code in VECTORS[(algorithm, length)].items():
        assert rules.hotp(_SEED[:length], seconds // 30, 8, algorithm) == code


def test_a_step_is_accepted_once_and_only_near_its_time() -> None:
    secret, now_ms = b"12345678901234567890", 1_800_000_000_000
    here = now_ms // 30_000
    for away in (-1, 0, 1):
        assert rules.accepted_step(secret, rules.hotp(secret, here + away), now_ms, 0) == here + away
    for away in (-2, 2, 1000):
        assert rules.accepted_step(secret, rules.hotp(secret, here + away), now_ms, 0) is None
    code = rules.hotp(secret, here)
    assert rules.accepted_step(secret, code, now_ms, here) is None, "not twice"
    assert rules.accepted_step(secret, rules.hotp(secret, here - 1), now_ms, here) is None, "nor an older one"
    for odd in ("", "12345", "1234567", "１２３４５６"):
        assert rules.accepted_step(secret, odd, now_ms, 0) is None
    assert rules.accepted_step(secret, rules.hotp(secret, 0), 0, -1) == 0


def test_a_recovery_code_is_the_same_however_it_is_typed() -> None:
    code = rules.recovery_code(lambda low, high: high)
    assert code == "ZZZZ-ZZZZ-ZZZZ-ZZZZ"
    one = rules.recovery_digest(b"s", 1, "AB01-2345")
    assert one == rules.recovery_digest(b"s", 1, "ab o1 2345") == rules.recovery_digest(b"s", 1, "ABOL2345")
    assert one != rules.recovery_digest(b"s", 2, "AB01-2345"), "another's"


class Authenticator:
    """Somebody's, and the steps of having one."""

    def __init__(self, world: World, login: str) -> None:
        self.world, self.login = world, login
        self.secret, self.recovery = b"", [""]

    def code(self) -> str:
        """Of the next step, so that none is shown twice."""
        self.world.clock.advance(30_000)
        return rules.hotp(self.secret, self.world.clock.now_ms() // 30_000)

    async def enrol(self, token: str) -> None:
        new = await self.world.call("gateway.factors.enrol", {}, token=token)
        assert new.status == 200, new.body
        self.secret = rules.unshown(new.body["secret"])
        assert f"secret={new.body['secret']}&" in new.body["uri"]
        first = wrong(self.code())
        assert (
            await self.world.client.call("gateway.factors.confirm", {"code": first}, token=token)
        ).status == 403
        done = await self.world.client.call("gateway.factors.confirm", {"code": self.code()}, token=token)
        assert done.status == 200, done.body
        self.recovery = done.body["recovery_codes"]

    async def half(self, device: str = "phone") -> dict[str, Any]:
        """Log in with the password; what the refusal says."""
        self.world.clock.advance(125_000)  # another login on a new device is allowed
        answer = await self.world.client.login(self.login, self.world.people[self.login].password, device)
        assert answer.status == 401, answer.body
        errors: dict[str, Any] = answer.body["errors"]
        assert errors["code"] == "second_factor_required"
        return errors

    async def complete(self, ticket: str, way: str, code: str, device: str = "phone") -> Answer:
        fields = {"ticket": ticket, "way": way, "code": code, "device": device}
        return await self.world.client.call(COMPLETE, fields)


async def off(world: World, token: str) -> None:
    """As it was: tests share a database."""
    assert (await world.call("gateway.factors.remove", {}, token=token)).status == 200


@pytest.mark.requirement("S02", "S07", "S08")
async def test_the_password_alone_is_not_enough_any_more(world: World) -> None:
    token = (await world.login("chenjing"))["access_token"]
    assert (await world.client.call("gateway.factors.enrol", {}, token=token)).status == 403, "unconfirmed"
    app = Authenticator(world, "chenjing")
    await app.enrol(token)
    shown = await world.client.call("gateway.factors.show", {}, token=token)
    assert shown.body == {"totp": True, "recovery_left": len(app.recovery)}
    assert (await world.call("gateway.factors.enrol", {}, token=token)).status == 409

    half = await app.half()
    assert half["ways"] == ["totp", "recovery", "sms"]
    ticket, code = half["ticket"], app.code()
    assert (await app.complete(ticket, "totp", code, "another-device")).status == 401, "bound to its device"
    assert (await app.complete(ticket, "totp", wrong(code))).status == 401
    assert (await app.complete("x" * 43, "totp", code)).status == 401
    done = await app.complete(ticket, "totp", code)
    assert done.status == 200, done.body
    assert world.tokens.verify(done.body["access_token"]).acr == 2
    assert (await app.complete(ticket, "totp", app.code())).status == 401, "a ticket is used once"

    again = (await app.half())["ticket"]
    assert (await app.complete(again, "totp", code)).status == 401, "and so is a code"
    first = app.recovery[0]
    assert (await app.complete(again, "recovery", first.lower())).status == 200
    spent = (await app.half())["ticket"]
    assert (await app.complete(spent, "recovery", first)).status == 401
    world.clock.advance(300_000)
    assert (await app.complete(spent, "totp", app.code())).status == 401, "and a ticket ends"
    last = await app.complete((await app.half())["ticket"], "totp", app.code())
    await off(world, last.body["access_token"])
    await world.login("chenjing")


@pytest.mark.requirement("S09")
async def test_by_a_short_message(world: World) -> None:
    token = (await world.login("yangmin"))["access_token"]
    app, number = Authenticator(world, "yangmin"), PHONES["yangmin"]
    await app.enrol(token)
    ticket = (await app.half())["ticket"]
    fields = {"ticket": ticket, "device": "phone"}
    assert (
        await world.client.call("gateway.factors.send_login_code", fields | {"device": "x"})
    ).status == 401
    assert (await world.client.call("gateway.factors.send_login_code", fields)).status == 200
    code = await newest_code(world, number)
    other = (await app.half())["ticket"]
    assert (await app.complete(other, "sms", code)).status == 401, "for the other ticket"
    assert len(await messages(world, number)) >= 1
    await off(world, token)


async def test_a_code_of_the_phone_alone_does_not_replace_it(world: World) -> None:
    token = (await world.login("huangting"))["access_token"]
    app, number = Authenticator(world, "huangting"), PHONES["huangting"]
    await app.enrol(token)
    world.clock.advance(61_000)
    await world.client.call("gateway.codes.send", {"phone": number, "purpose": "login"})
    fields = {"phone": number, "code": await newest_code(world, number), "device": "phone"}
    half = await world.client.call("gateway.registration.login", fields)
    assert half.status == 401
    assert half.body["errors"]["ways"] == ["totp", "recovery"], "not by the phone a second time"
    ticket = half.body["errors"]["ticket"]
    assert (
        await world.client.call("gateway.factors.send_login_code", {"ticket": ticket, "device": "phone"})
    ).status == 401
    assert (await app.complete(ticket, "totp", app.code())).status == 200
    await off(world, token)


@pytest.mark.requirement("A06")
async def test_the_banks_staff_need_two(world: World) -> None:
    desk = Authenticator(world, "sunqiang")
    half = await desk.half("desk")
    assert half["ways"] == ["sms"]
    await world.client.call("gateway.factors.send_login_code", {"ticket": half["ticket"], "device": "desk"})
    code = await newest_code(world, PHONES["sunqiang"])
    both = await asyncio.gather(*(desk.complete(half["ticket"], "sms", code, "desk") for _ in range(2)))
    assert sorted(answer.status for answer in both) == [200, 401], "one session of one ticket"
    begun = next(answer.body for answer in both if answer.status == 200)
    assert world.tokens.verify(begun["access_token"]).acr == 2


@pytest.mark.requirement("S07")
async def test_a_trusted_device_is_the_second_factor(world: World) -> None:
    phone = Phone(world, "zhaolei", name="trusted-one")
    await phone.login()
    assert (await phone.bind()).status == 200
    app = Authenticator(world, "zhaolei")
    await app.enrol((await world.login("zhaolei"))["access_token"])
    world.clock.advance(125_000)
    assert (await phone.login()).status == 200
    assert world.tokens.verify(phone.body["access_token"]).acr == 2
    half = await app.half("new-one")
    begun = await app.complete(half["ticket"], "totp", app.code(), "new-one")
    challenge = await world.client.call(
        "gateway.stepup.begin",
        {"action": "gateway.devices.revoke", "fields": {"jkt": phone.jkt}},
        token=begun.body["access_token"],
    )
    assert challenge.body["ways"] == ["totp", "sms"]
    number = challenge.body["challenge_id"]
    proof = {"challenge_id": number, "way": "totp", "code": app.code()}
    token = begun.body["access_token"]
    assert (await world.client.call("gateway.stepup.prove", proof, token=token)).status == 200
    gone = await world.client.call(
        "gateway.devices.revoke", {"jkt": phone.jkt}, token=token, Step_Up=str(number)
    )
    assert gone.status == 200, "who has lost a device is rid of it by any factor"
    await off(world, token)


@pytest.mark.requirement("S08")
async def test_guessing_codes_is_slowed_down(world: World) -> None:
    token = (await world.login("liuyang"))["access_token"]
    app = Authenticator(world, "liuyang")
    await app.enrol(token)
    ticket = (await app.half("new-device"))["ticket"]
    statuses = [(await app.complete(ticket, "totp", "000000", "new-device")).status for _ in range(12)]
    assert statuses[:5] == [401] * 5
    assert set(statuses[6:]) == {429}
    mine = (await app.half("phone"))["ticket"]
    assert (await app.complete(mine, "totp", app.code())).status == 200, "the owner's device is not delayed"
    await off(world, token)


async def test_secrets_rest_encrypted(world: World) -> None:
    import asyncpg

    token = (await world.login("wuxia"))["access_token"]
    app = Authenticator(world, "wuxia")
    await app.enrol(token)
    url = world.runtime.settings.database_url
    assert url is not None
    connection = await asyncpg.connect(url.get_secret_value(), ssl=False)
    try:
        row = await connection.fetchrow("SELECT secret_sealed FROM gateway_totp ORDER BY enrolled_at DESC")
        kept = await connection.fetch("SELECT code_digest FROM gateway_recovery_codes")
    finally:
        await connection.close()
    assert app.secret not in row[0]
    assert rules.shown_secret(app.secret).encode() not in row[0]
    assert all(len(one[0]) == 32 for one in kept)
    fresh = await world.call("gateway.factors.renew_recovery_codes", {}, token=token)
    assert not set(fresh.body["recovery_codes"]) & set(app.recovery)
    half = await app.half("wuxias-desk")
    old = await app.complete(half["ticket"], "recovery", app.recovery[0], "wuxias-desk")
    assert old.status == 401
    await off(world, token)
