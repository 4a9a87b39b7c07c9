"""One-time codes: what one is worth, how often one may ask, and what nobody learns from asking."""

from __future__ import annotations

import asyncio
import stat
from itertools import pairwise
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.context import Source
from core.errors import TooManyRequests
from gateway.codes import rules
from gateway.sms.outbox import FILE
from tests.gateway.conftest import World
from tests.gateway.sms import code_for, messages, wrong
from tests.gateway.test_devices import Phone

pytestmark = pytest.mark.requirement("S09")


async def _login(world: World, phone: str, code: str, **more: Any) -> Any:
    fields = {"phone": phone, "code": code, "device": "new-phone"} | more
    return await world.client.call("gateway.registration.login", fields)


async def test_a_number_that_nobody_has_becomes_a_guest(world: World) -> None:
    code = await code_for(world, "13700000001")
    begun = await _login(world, "13700000001", code)
    assert begun.status == 200, begun.body
    assert begun.body["enterprise"] is None
    assert begun.body["enterprises"] == []
    assert begun.body["person"]["registered"] is False
    token = begun.body["access_token"]
    me = await world.client.call("gateway.identity.me", token=token)
    assert me.body["level"] == "guest"
    assert world.tokens.verify(token).enterprise_id == 0
    refused = await world.client.call("gateway.identity.list_members", token=token)
    assert (refused.status, refused.body["detail"]) == (
        403,
        "this is for members of an enterprise, and this session is in none",
    )
    fields = {"refresh_token": begun.body["refresh_token"], "device": "new-phone"}
    renewed = await world.client.call("gateway.identity.refresh", fields)
    assert renewed.body["person"]["person_id"] == begun.body["person"]["person_id"]
    again = await _login(world, "13700000001", await code_for(world, "13700000001"))
    assert again.body["person"]["person_id"] == begun.body["person"]["person_id"]


async def test_a_member_logs_in_by_code_into_the_enterprise(world: World) -> None:
    phone = "13800000006"
    begun = await _login(world, phone, await code_for(world, phone))
    assert begun.body["enterprise"]["name"] == "青山精密制造有限公司"
    assert world.tokens.verify(begun.body["access_token"]).acr == 1


async def test_with_the_password_too_it_is_two_factors(world: World) -> None:
    phone, password = "13800000006", world.people["yangmin"].password
    refused = await _login(world, phone, await code_for(world, phone), password="not this")
    assert refused.status == 401
    begun = await _login(world, phone, await code_for(world, phone), password=password)
    assert world.tokens.verify(begun.body["access_token"]).acr == 2


async def test_a_code_works_once(world: World) -> None:
    code = await code_for(world, "13700000002")
    assert (await _login(world, "13700000002", code)).status == 200
    assert (await _login(world, "13700000002", code)).status == 401


async def test_of_two_who_use_a_code_at_once_one_gets_in(world: World) -> None:
    await _login(world, "13700000003", await code_for(world, "13700000003"))
    code = await code_for(world, "13700000003")
    answers = await asyncio.gather(*(_login(world, "13700000003", code) for _ in range(6)))
    assert sorted(answer.status for answer in answers) == [200, 401, 401, 401, 401, 401]


async def test_three_wrong_tries_and_the_right_one_is_refused(world: World) -> None:
    code = await code_for(world, "13700000004")
    for _ in range(3):
        assert (await _login(world, "13700000004", wrong(code))).status == 401
    assert (await _login(world, "13700000004", code)).status == 401
    fresh = await code_for(world, "13700000004")
    for _ in range(2):
        assert (await _login(world, "13700000004", wrong(fresh))).status == 401
    assert (await _login(world, "13700000004", fresh)).status == 200


async def test_a_code_is_late_after_its_life(world: World) -> None:
    life_ms = int(world.runtime.settings.code_life_s * 1000)
    assert life_ms <= 120_000
    code = await code_for(world, "13700000005")
    world.clock.advance(life_ms - 1)
    assert (await _login(world, "13700000005", code)).status == 200
    code = await code_for(world, "13700000005")
    world.clock.advance(life_ms)
    assert (await _login(world, "13700000005", code)).status == 401


async def test_a_code_is_for_its_purpose_and_its_phone(world: World) -> None:
    code = await code_for(world, "13800000007", "reset_password")
    ticket = world.client.tickets["13800000007", "reset_password"]
    assert (await _login(world, "13800000007", code, ticket=ticket)).status == 401
    mine = await code_for(world, "13700000006")
    ticket = world.client.tickets["13700000006", "login"]
    assert (await _login(world, "13700000007", mine, ticket=ticket)).status == 401
    assert (await _login(world, "13700000006", mine)).status == 200


@pytest.mark.requirement("S08")
async def test_a_code_is_the_askers_alone(world: World) -> None:
    """Somebody else who guesses at the owner's code, or asks for others, takes nothing away from the owner."""
    phone = "13700000008"
    first = await code_for(world, phone)
    ticket = world.client.tickets[phone, "login"]
    second = await code_for(world, phone)
    others = world.client.tickets[phone, "login"]
    for guess in (wrong(first), first):
        for _ in range(4):
            assert (await _login(world, phone, guess, ticket="-" * 43)).status == 401
    for _ in range(4):
        assert (await _login(world, phone, wrong(second), ticket=others)).status == 401
    assert (await _login(world, phone, second, ticket=others)).status == 401, "its own tries are used up"
    assert (await _login(world, phone, first, ticket=ticket)).status == 200


async def _ask(world: World, phone: str, address: str) -> None:
    await world.runtime.calls.perform(
        "gateway.codes.send",
        {"phone": phone, "purpose": "login"},
        principal=None,
        source=Source(address, "http"),
    )


@pytest.mark.requirement("S08")
async def test_once_a_minute_and_so_many_a_day_to_one_phone(world: World) -> None:
    phone, settings = "13700000009", world.runtime.settings
    fields = {"phone": phone, "purpose": "login"}
    assert (await world.client.call("gateway.codes.send", fields)).status == 200
    soon = await world.client.call("gateway.codes.send", fields | {"purpose": "reset_password"})
    assert soon.status == 429
    assert soon.body["retry_ms"] == 60_000
    for _ in range(settings.code_phone_source_per_day - 1):
        await code_for(world, phone)
    world.clock.advance(60_000)
    assert (await world.client.call("gateway.codes.send", fields)).status == 429
    await _ask(world, phone, "203.0.113.1")  # the owner is elsewhere
    for n in range(settings.code_phone_per_day - settings.code_phone_source_per_day - 1):
        await _ask(world, phone, f"203.0.113.{n + 2}")
    with pytest.raises(TooManyRequests):  # nor is the phone flooded from everywhere
        await _ask(world, phone, "203.0.113.99")
    world.clock.advance(86_400_000)
    assert (await world.client.call("gateway.codes.send", fields)).status == 200


@pytest.mark.requirement("S08")
async def test_strangers_cannot_use_up_the_codes_of_whoever_has_shown_something(world: World) -> None:
    """The password, or the key of a device that was used before."""
    phone, staff = Phone(world, "chenjing"), world.people["qianyu"]
    await phone.login()
    for n in range(world.runtime.settings.code_phone_per_day):
        await _ask(world, phone.number, f"203.0.113.{n + 100}")
        await _ask(world, staff.phone, f"203.0.113.{n + 100}")
    fields = {"phone": phone.number, "purpose": "reset_password"}
    assert (await world.client.call("gateway.codes.send", fields)).status == 429, "all are used up"
    proof = {"DPoP": phone.proof("gateway.codes.send")}
    assert (await world.client.call("gateway.codes.send", fields, **proof)).status == 200
    assert (await world.login("qianyu"))["access_token"], "with the password there is a code all the same"


async def test_so_many_a_day_from_one_source(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        world.clock.advance(2_000)
        fields = {"phone": f"1360000{number:04d}", "purpose": "login"}
        assert (await world.client.call("gateway.codes.send", fields)).status == 200
    frozen = world.runtime.settings.model_copy(update={"code_source_per_day": 60})
    object.__setattr__(world.runtime, "settings", frozen)
    world.clock.advance(2_000)
    fields = {"phone": "13600009999", "purpose": "login"}
    assert (await world.client.call("gateway.codes.send", fields)).status == 429


@pytest.mark.requirement("S08")
async def test_asking_tells_nobody_who_is_known(world: World) -> None:
    """The same answer and the same statements for a number that somebody has and one that nobody has."""
    world.clock.advance(60_000)
    known = await world.client.call(
        "gateway.codes.send", {"phone": "13800000008", "purpose": "reset_password"}
    )
    nobody = await world.client.call(
        "gateway.codes.send", {"phone": "13512340008", "purpose": "reset_password"}
    )
    for answer in (known, nobody):
        assert len(answer.body.pop("ticket")) == 43
    assert (known.status, known.body) == (nobody.status, nobody.body)
    assert len(await messages(world, "13800000008")) == 1
    assert await messages(world, "13512340008") == []
    bad = [
        await world.client.call("gateway.registration.login", {"phone": p, "code": "000000", "device": "d"})
        for p in ("13800000008", "13512340009")
    ]
    assert bad[0].status == bad[1].status == 401
    assert bad[0].body["detail"] == bad[1].body["detail"]


async def test_only_keyed_digests_of_codes_are_stored(world: World) -> None:
    """A million candidates with a plain hash, and the number itself, are not in the table; the outbox is private."""
    from hashlib import sha256

    code = await code_for(world, "13700000010")
    url = world.runtime.settings.database_url
    assert url is not None
    connection = await asyncpg.connect(url.get_secret_value(), ssl=False)
    try:
        rows = await connection.fetch(
            "SELECT t::text FROM gateway_codes t UNION ALL SELECT t::text FROM gateway_code_counts t"
        )
    finally:
        await connection.close()
    text = "\n".join(row[0] for row in rows)
    assert "13700000010" not in text
    assert sha256(code.encode()).hexdigest() not in text
    path = world.runtime.settings.var_dir / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "13700000010" not in path.read_text()


@given(st.integers(0, 9), st.integers(0, 400_000), st.booleans())
def test_a_code_is_right_only_within_its_tries_and_time(tries: int, now_ms: int, same: bool) -> None:
    stored = rules.Stored(b"a" * 32, tries, 120_000)
    verdict = rules.judge(stored, b"a" * 32 if same else b"b" * 32, now_ms, 3)
    assert (verdict is rules.Verdict.RIGHT) == (same and tries < 3 and now_ms < 120_000)
    assert (verdict is rules.Verdict.GONE) == (tries >= 3 or now_ms >= 120_000)
    assert rules.judge(None, b"a" * 32, now_ms, 3) is rules.Verdict.GONE


@given(st.lists(st.integers(0, 30_000_000), min_size=1, max_size=60))
def test_never_two_within_the_gap_nor_too_many_in_a_day(pauses: list[int]) -> None:
    limit, sent, now, times = rules.Limit(60_000, 10), None, 10**12, []
    for pause in pauses:
        now += pause
        if rules.wait_ms(sent, limit, now) == 0:
            sent = rules.after_sending(sent, now)
            times.append(now)
        else:
            again = now + rules.wait_ms(sent, limit, now)
            assert rules.wait_ms(sent, limit, again) == 0
    assert all(later - earlier >= 60_000 for earlier, later in pairwise(times))
    windows = [[t for t in times if start <= t < start + 86_400_000] for start in times]
    assert max(map(len, windows)) <= 2 * limit.per_day  # fixed windows: at their border twice as many
