"""Logging in, staying in, leaving: over HTTP, on a real database."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.errors import Unauthenticated
from tests.gateway.conftest import World
from tests.gateway.test_devices import Phone
from tests.gateway.test_registration import GOOD, guest, registered


async def test_login_by_name_and_by_phone(world: World) -> None:
    by_name = await world.login("zhangwei")
    principal = world.tokens.verify(by_name["access_token"])
    assert principal.person_id == world.people["zhangwei"].person_id
    assert principal.roles == {"employee", "boss"}
    assert by_name["person"]["phone"] == "138****0001"
    assert by_name["access_expires_ms"] - world.clock.now_ms() <= 600_000
    by_phone = await world.client.login("+86 138 0000 0001", world.people["zhangwei"].password)
    assert by_phone.body["person"]["person_id"] == by_name["person"]["person_id"]


async def test_wrong_password_and_nobody_look_the_same(world: World) -> None:
    wrong = await world.client.login("yangmin", "not this one")
    nobody = await world.client.login("nobody", "not this one")
    assert wrong.status == nobody.status == 401
    same = {"title", "status", "detail", "code", "temporary", "type"}
    assert {k: wrong.body[k] for k in same} == {k: nobody.body[k] for k in same}
    assert "WWW-Authenticate" in wrong.headers


async def test_failures_delay_and_a_success_clears_them(world: World) -> None:
    for _ in range(6):
        assert (await world.client.login("zhaolei", "wrong")).status == 401
    waiting = await world.client.login("zhaolei", world.people["zhaolei"].password)
    assert waiting.status == 429
    assert waiting.body["retry_ms"] == 2000
    assert waiting.headers["Retry-After"] == "2"
    world.clock.advance(2000)
    await world.login("zhaolei")
    for _ in range(5):
        assert (await world.client.login("zhaolei", "wrong")).status == 401


async def test_parallel_guesses_do_not_slip_through(world: World) -> None:
    answers = await asyncio.gather(*(world.client.login("huangting", f"guess {n}") for n in range(25)))
    statuses = [answer.status for answer in answers]
    assert statuses.count(401) == 6
    assert statuses.count(429) == 19


async def test_nobody_can_lock_out_a_device_that_is_known(world: World) -> None:
    mine = Phone(world, "chenjing")
    await mine.login()
    for _ in range(8):
        await world.client.login("chenjing", "wrong", "attacker")
    assert (await world.client.login("chenjing", "wrong", "attacker")).status == 429
    assert (await mine.login()).status == 200


async def test_refresh_rotates(world: World) -> None:
    begun = await world.login("lina")
    world.clock.advance(60_000)
    fields = {"refresh_token": begun["refresh_token"], "device": "phone"}
    renewed = (await world.client.call("gateway.identity.refresh", fields)).body
    assert renewed["refresh_token"] != begun["refresh_token"]
    assert renewed["session_id"] == begun["session_id"]
    assert renewed["access_expires_ms"] > begun["access_expires_ms"]


class TestWhile:
    """Where a bank lets sessions without a key have a while, too; those with a key always have it."""

    @pytest.fixture
    def more_settings(self) -> dict[str, Any]:
        return {"refresh_bearer_grace_s": 30.0}

    async def test_a_lost_reply_does_not_log_out(self, world: World) -> None:
        begun = await world.login("lina")
        fields = {"refresh_token": begun["refresh_token"], "device": "phone"}
        answers = await asyncio.gather(
            *(world.client.call("gateway.identity.refresh", fields) for _ in range(5))
        )
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body["refresh_token"] for answer in answers}) == 1
        world.clock.advance(29_000)
        again = await world.client.call("gateway.identity.refresh", fields)
        assert again.body["refresh_token"] == answers[0].body["refresh_token"]


@pytest.mark.parametrize("how", ["at once", "successor used", "too late", "another device"])
async def test_a_stolen_refresh_token_ends_the_session(world: World, how: str) -> None:
    begun = await world.login("liuyang", "thief-test")
    fields = {"refresh_token": begun["refresh_token"], "device": "thief-test"}
    renewed = (await world.client.call("gateway.identity.refresh", fields)).body
    newest = renewed
    if how == "successor used":
        newest = (
            await world.client.call(
                "gateway.identity.refresh", fields | {"refresh_token": renewed["refresh_token"]}
            )
        ).body
    elif how == "too late":
        world.clock.advance(31_000)
    elif how == "another device":
        fields["device"] = "elsewhere"
    assert (await world.client.call("gateway.identity.refresh", fields)).status == 401
    last = {"refresh_token": newest["refresh_token"], "device": "thief-test"}
    assert (await world.client.call("gateway.identity.refresh", last)).status == 401
    with pytest.raises(Unauthenticated):
        world.tokens.verify(newest["access_token"])
    assert (await world.client.call("gateway.identity.me", token=newest["access_token"])).status == 401


async def test_refresh_ends_with_the_session(world: World) -> None:
    begun = await world.login("wuxia")
    world.clock.advance(7 * 86_400_000)
    fields = {"refresh_token": begun["refresh_token"], "device": "phone"}
    assert (await world.client.call("gateway.identity.refresh", fields)).status == 401
    for nonsense in ("x", "", "中" * 40, "x" * 200):
        answer = await world.client.call("gateway.identity.refresh", fields | {"refresh_token": nonsense})
        assert answer.status in (401, 422)


async def test_access_tokens_expire(world: World) -> None:
    begun = await world.login("wuxia")
    assert (await world.client.call("gateway.identity.me", token=begun["access_token"])).status == 200
    world.clock.advance(600_000)
    assert (await world.client.call("gateway.identity.me", token=begun["access_token"])).status == 401


async def test_logout_ends_the_session_everywhere(world: World) -> None:
    begun = await world.login("zhoutao")
    assert (await world.client.call("gateway.identity.logout", token=begun["access_token"])).status == 200
    assert (await world.client.call("gateway.identity.me", token=begun["access_token"])).status == 401
    fields = {"refresh_token": begun["refresh_token"], "device": "phone"}
    assert (await world.client.call("gateway.identity.refresh", fields)).status == 401


async def test_switching_enterprises(world: World) -> None:
    home, other = world.people["zhangwei"].enterprise_id, world.people["wuxia"].enterprise_id
    begun = await world.login("lina", enterprise_id=str(home))
    assert {e["enterprise_id"] for e in begun["enterprises"]} == {str(home), str(other)}
    world.clock.advance(1000)
    switched = await world.client.call(
        "gateway.identity.switch_enterprise", {"enterprise_id": str(other)}, token=begun["access_token"]
    )
    token = switched.body["access_token"]
    principal = world.tokens.verify(token)
    assert principal.enterprise_id == other
    assert principal.roles == {"employee", "finance_maker"}
    members = await world.client.call("gateway.identity.list_members", token=token)
    assert {m["name"] for m in members.body["members"]} == {"李娜", "周涛", "吴霞"}
    again = await world.login("lina")
    assert again["enterprise"]["enterprise_id"] == str(other)
    stranger = await world.login("wuxia")
    refused = await world.client.call(
        "gateway.identity.switch_enterprise", {"enterprise_id": str(home)}, token=stranger["access_token"]
    )
    assert refused.status == 404
    wanted = await world.client.login("wuxia", world.people["wuxia"].password, enterprise_id=str(home))
    assert wanted.status == 403


async def test_members_are_those_of_the_own_enterprise(world: World) -> None:
    begun = await world.login("zhangwei")
    names, after = [], "0"
    while True:
        page = await world.client.call(
            "gateway.identity.list_members", {"after": after, "limit": 3}, token=begun["access_token"]
        )
        names += [m["name"] for m in page.body["members"]]
        assert all(m["phone"] is None or "****" in m["phone"] for m in page.body["members"])
        if page.body["next"] is None:
            break
        after = page.body["next"]
    assert set(names) >= {"张伟", "王芳", "刘洋", "李娜", "陈静", "杨敏", "赵磊", "黄婷"}
    assert "吴霞" not in names


async def _add(world: World, token: str, phone: str, key: str = "k", **more: Any) -> Any:
    fields = {"phone": phone, "name": "新人", "roles": ["employee"]} | more
    return await world.client.call("gateway.identity.add_member", fields, token=token, Idempotency_Key=key)


async def test_adding_and_ending_a_membership(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    added = await _add(world, admin, "13900000001")
    assert added.status == 200, added.body
    replayed = await _add(world, admin, "13900000001")
    assert replayed.headers["Idempotent-Replayed"] == "true"
    assert replayed.body == added.body
    assert (await _add(world, admin, "13900000009")).status == 422
    await registered(world, "13900000001", login_name="xinren")
    new = await world.client.login("xinren", GOOD, "new-phone")
    assert new.status == 200
    assert (await _add(world, admin, "13900000001", "k2")).status == 409
    ended = await world.call(
        "gateway.identity.end_membership", {"person_id": added.body["person_id"]}, token=admin
    )
    assert ended.status == 200, ended.body
    assert (await world.client.call("gateway.identity.me", token=new.body["access_token"])).status == 401
    fields = {"refresh_token": new.body["refresh_token"], "device": "new-phone"}
    assert (await world.client.call("gateway.identity.refresh", fields)).status == 401
    outside = await world.client.login("xinren", GOOD, "new-phone")
    assert (outside.status, outside.body["enterprise"]) == (200, None)
    home = str(world.people["wangfang"].enterprise_id)
    wanted = await world.client.login("xinren", GOOD, "new-phone", enterprise_id=home)
    assert wanted.status == 403
    again = await world.call(
        "gateway.identity.end_membership", {"person_id": added.body["person_id"]}, token=admin
    )
    assert again.status == 404
    assert (await _add(world, admin, "13900000001", "k4")).status == 200
    assert (await world.client.login("xinren", GOOD, "new-phone")).status == 200


async def test_whom_an_administrator_takes_in_shows_the_phone_first(world: World) -> None:
    """Or who types a number would have its account before its owner comes, with a password that both know."""
    admin = (await world.login("wangfang"))["access_token"]
    first = await _add(world, admin, "13900000031", "k31", password="a password of the administrator's")
    assert first.status == 422
    added = await _add(world, admin, "13900000031", "k32")
    for word in ("", "x", GOOD):
        assert (await world.client.login("13900000031", word)).status in (401, 422)
    token = (await guest(world, "13900000031"))["access_token"]
    me = (await world.client.call("gateway.identity.me", token=token)).body
    assert (me["person"]["person_id"], me["level"]) == (added.body["person_id"], "guest")
    assert (await world.client.call("gateway.identity.list_members", token=token)).status == 403
    fields = {"name": "本人", "password": GOOD, "agreement": "2026-11"}
    assert (await world.client.call("gateway.registration.complete", fields, token=token)).status == 200
    listed = await world.client.call("gateway.identity.list_members", {"name": "本人"}, token=token)
    assert [one["person_id"] for one in listed.body["members"]] == [added.body["person_id"]]


async def test_the_token_of_another_enterprise_ends_with_its_membership(world: World) -> None:
    """One session, moved on to another enterprise: what was signed for the first one dies with that membership."""
    admin = (await world.login("wangfang"))["access_token"]
    boss = (await world.login("zhoutao"))["access_token"]
    added = await _add(world, admin, "13900000021", "k21")
    await registered(world, "13900000021", login_name="both")
    refused = await _add(world, boss, "13900000021", "k22")
    assert (refused.status, refused.body["code"]) == (409, "conflict"), "they are asked first"
    assert added.body["name"] not in str(refused.body)
    await world.join(int(added.body["person_id"]), world.people["zhoutao"].enterprise_id)
    home = added.body["person_id"], str(world.people["wangfang"].enterprise_id)
    first = await world.client.login("both", GOOD, "b", enterprise_id=home[1])
    other = {"enterprise_id": str(world.people["zhoutao"].enterprise_id)}
    token = first.body["access_token"]
    moved = await world.client.call("gateway.identity.switch_enterprise", other, token=token)
    world.clock.advance(1)
    ended = await world.call("gateway.identity.end_membership", {"person_id": home[0]}, token=admin)
    assert ended.status == 200
    assert (await world.client.call("gateway.identity.list_sessions", token=token)).status == 401
    assert (await world.client.call("gateway.identity.me", token=moved.body["access_token"])).status == 200


async def test_the_last_administrator_cannot_be_removed(world: World) -> None:
    begun = await world.login("wangfang")
    fields = {"person_id": str(world.people["wangfang"].person_id)}
    ended = await world.call("gateway.identity.end_membership", fields, token=begun["access_token"])
    assert ended.status == 409


async def test_an_administrator_has_no_power_elsewhere(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    fields = {"person_id": str(world.people["wuxia"].person_id)}
    assert (await world.call("gateway.identity.end_membership", fields, token=admin)).status == 404
    victim = await world.login("wuxia")
    fields = {"session_id": victim["session_id"]}
    assert (await world.client.call("gateway.identity.revoke_session", fields, token=admin)).status == 404
    assert (await world.client.call("gateway.identity.me", token=victim["access_token"])).status == 200


async def test_sessions_are_listed_and_revoked(world: World) -> None:
    one = await world.login("yangmin", "phone-1")
    two = await world.login("yangmin", "phone-2", platform="android 15")
    listed = (await world.client.call("gateway.identity.list_sessions", token=one["access_token"])).body
    assert [s["current"] for s in listed if s["session_id"] == one["session_id"]] == [True]
    assert two["session_id"] in [s["session_id"] for s in listed]
    fields = {"session_id": two["session_id"]}
    revoked = await world.client.call("gateway.identity.revoke_session", fields, token=one["access_token"])
    assert revoked.status == 200
    assert (await world.client.call("gateway.identity.me", token=two["access_token"])).status == 401
    repeated = await world.client.call("gateway.identity.revoke_session", fields, token=one["access_token"])
    assert repeated.status == 404
    colleague = await world.login("zhaolei", "phone-3")
    fields = {"session_id": one["session_id"]}
    foreign = await world.client.call(
        "gateway.identity.revoke_session", fields, token=colleague["access_token"]
    )
    assert foreign.status == 404
    admin = await world.login("wangfang")
    by_admin = await world.client.call("gateway.identity.revoke_session", fields, token=admin["access_token"])
    assert by_admin.status == 200


async def test_only_digests_of_tokens_are_stored(world: World) -> None:
    import asyncpg

    begun = await world.login("zhangwei")
    url = world.runtime.settings.database_url
    assert url is not None
    connection = await asyncpg.connect(url.get_secret_value(), ssl=False)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in tables:
            for row in await connection.fetch(f"SELECT t::text FROM {table} t"):
                for secret in ("refresh_token", "access_token"):
                    assert begun[secret] not in row[0]
                    assert begun[secret].encode().hex() not in row[0]
                assert world.people["zhangwei"].password not in row[0]
    finally:
        await connection.close()
