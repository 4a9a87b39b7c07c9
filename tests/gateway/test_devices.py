"""Devices with keys: what a token that is bound to one is worth elsewhere, how a key is trusted, how it is revoked."""

from __future__ import annotations

from typing import Any

import asyncpg
import orjson
import pytest

from core.access import BANK
from gateway.demo import PEOPLE
from tests.device import Device
from tests.gateway.conftest import Answer, World
from tests.gateway.sms import messages, newest_code
from tests.stepup import proven

ME = "gateway.identity.me"
PHONES = {login: phone for login, _, phone, _ in PEOPLE}


async def happened(world: World, person_id: str) -> list[dict[str, Any]]:
    """The events about a person that wait to be handled."""
    url = world.runtime.settings.database_url
    assert url is not None
    connection = await asyncpg.connect(url.get_secret_value(), ssl=False)
    try:
        rows = await connection.fetch("SELECT body FROM core_outbox ORDER BY event_id")
    finally:
        await connection.close()
    events = [orjson.loads(row[0]) for row in rows]
    return [one for one in events if str(one.get("person_id")) == person_id]


class Phone:
    """Somebody's device: calls with its key."""

    def __init__(self, world: World, login: str, algorithm: str = "ES256", name: str = "phone-1") -> None:
        self.world, self.login_name, self.name = world, login, name
        self.device = Device(algorithm)
        self.number = PHONES[login]
        self.body: dict[str, Any] = {}

    @property
    def jkt(self) -> str:
        return self.device.key.thumbprint

    def proof(self, action: str, token: str | None = None, **claims: Any) -> str:
        url = f"{self.world.client.url}/v1/{action}"
        return self.device.proof(url, self.world.clock.now_ms() / 1000, token=token, **claims)

    async def login(self, **more: Any) -> Answer:
        action = "gateway.identity.login"
        person = self.world.people[self.login_name]
        fields = {"login": person.login, "password": person.password, "device": self.name} | more
        answer = await self.world.client.call(action, fields, DPoP=self.proof(action))
        self.body = answer.body
        return answer

    async def call(
        self, action: str, fields: Any = None, *, token: str | None = None, **headers: str
    ) -> Answer:
        token = token or self.body["access_token"]
        headers |= {"Authorization": f"DPoP {token}", "DPoP": self.proof(action, token)}
        return await self.world.client.call(action, fields, **headers)

    async def revoke(self, jkt: str) -> Answer:
        """Confirmed, if it is another one."""
        who, fields = self.world.tokens.verify(self.body["access_token"]), {"jkt": jkt}
        challenge_id = await proven(self.world.runtime, who, "gateway.devices.revoke", fields)
        confirmed = {} if challenge_id is None else {"Step-Up": str(challenge_id)}
        return await self.call("gateway.devices.revoke", fields, **confirmed)

    async def bind(self, name: str = "我的手机") -> Answer:
        self.world.clock.advance(1_000)
        sent = await self.call("gateway.devices.send_code")
        assert sent.status == 200, sent.body
        code = await newest_code(self.world, self.number)
        answer = await self.call("gateway.devices.bind", {"name": name, "code": code})
        if answer.status == 200:
            self.body |= answer.body
        self.world.clock.advance(61_000)  # the next message may be sent
        return answer


@pytest.mark.requirement("S06")
@pytest.mark.parametrize("algorithm", ["ES256", "SM2"])
async def test_a_bound_token_is_worth_nothing_without_its_key(world: World, algorithm: str) -> None:
    phone, thief = Phone(world, "yangmin", algorithm), Phone(world, "yangmin")
    assert (await phone.login()).status == 200
    token = phone.body["access_token"]
    assert world.tokens.verify(token).jkt == phone.jkt
    assert (await phone.call(ME)).status == 200

    call = world.client.call
    assert (await call(ME, token=token)).status == 401, "as a bearer token"
    assert (await call(ME, Authorization=f"DPoP {token}")).status == 401, "without a proof"
    stolen = await thief.call(ME, token=token)
    assert stolen.status == 401, "with another key's proof"
    assert 'error="invalid_dpop_proof"' in stolen.headers["WWW-Authenticate"]
    other = phone.proof("gateway.identity.list_sessions", token)
    assert (await call(ME, Authorization=f"DPoP {token}", DPoP=other)).status == 401, "for another action"
    proof = phone.proof(ME, token)
    assert (await call(ME, Authorization=f"DPoP {token}", DPoP=proof)).status == 200
    assert (await call(ME, Authorization=f"DPoP {token}", DPoP=proof)).status == 401, "used before"
    old = phone.proof(ME, token, iat=world.clock.now_ms() / 1000 - 61)
    assert (await call(ME, Authorization=f"DPoP {token}", DPoP=old)).status == 401, "too old"


async def test_a_bearer_token_does_not_become_bound_by_a_proof(world: World) -> None:
    bearer = (await world.login("yangmin"))["access_token"]
    phone = Phone(world, "yangmin")
    assert (await phone.call(ME, token=bearer)).status == 401
    assert (await world.client.call(ME, token=bearer, DPoP=phone.proof(ME, bearer))).status == 401


@pytest.mark.requirement("S06", "S02")
async def test_refreshing_needs_the_key_and_a_thief_cannot_even_end_the_session(world: World) -> None:
    phone, thief = Phone(world, "huangting"), Phone(world, "huangting")
    await phone.login()
    action, fields = (
        "gateway.identity.refresh",
        {"refresh_token": phone.body["refresh_token"], "device": "phone-1"},
    )
    assert (await world.client.call(action, fields)).status == 401
    assert (await world.client.call(action, fields, DPoP=thief.proof(action))).status == 401
    assert (await world.client.call(action, fields | {"device": "x"}, DPoP=thief.proof(action))).status == 401
    renewed = await world.client.call(action, fields, DPoP=phone.proof(action))
    assert renewed.status == 200
    assert world.tokens.verify(renewed.body["access_token"]).jkt == phone.jkt
    assert (await phone.call(ME, token=renewed.body["access_token"])).status == 200


@pytest.mark.requirement("S07", "S02")
async def test_a_key_is_trusted_with_a_second_factor_and_then_counts_as_one(world: World) -> None:
    phone = Phone(world, "chenjing")
    await phone.login()
    before = phone.body["access_token"]
    assert world.tokens.verify(before).acr == 1
    wrong = await phone.call("gateway.devices.bind", {"name": "x", "code": "000000"})
    assert wrong.status == 401
    assert (await phone.bind()).status == 200
    assert world.tokens.verify(phone.body["access_token"]).acr == 2
    assert (await phone.call(ME)).status == 200
    assert (await phone.call(ME, token=before)).status == 401, "the weaker token has ended"
    (listed,) = (await phone.call("gateway.devices.list")).body["devices"]
    assert (listed["jkt"], listed["name"], listed["new"], listed["current"]) == (
        phone.jkt,
        "我的手机",
        True,
        True,
    )
    assert "信任新设备" in (await messages(world, phone.number))[-1]

    await phone.login()
    assert world.tokens.verify(phone.body["access_token"]).acr == 2, "password and a trusted key"
    world.clock.advance(86_400_000)
    await phone.login()
    assert (await phone.call("gateway.devices.list")).body["devices"][0]["new"] is False


async def test_only_so_many_devices_and_each_may_be_revoked(world: World) -> None:
    phones = [Phone(world, "zhaolei", name=f"phone-{n}") for n in range(4)]
    for phone in phones:
        await phone.login()
    for phone in phones[:3]:
        assert (await phone.bind()).status == 200
    assert (await phones[3].bind()).status == 409
    first, second = phones[0], phones[1]
    assert (await second.revoke(first.jkt)).status == 200
    assert (await first.call(ME)).status == 401, "its sessions have ended"
    assert (await second.revoke(first.jkt)).status == 404
    world.clock.advance(61_000)
    assert (await phones[3].bind()).status == 200
    await first.login()
    assert world.tokens.verify(first.body["access_token"]).acr == 1, "it is a stranger again"


async def test_a_device_is_only_its_owners(world: World) -> None:
    mine, other = Phone(world, "liuyang"), Phone(world, "lina")
    await mine.login()
    await mine.bind()
    await other.login()
    assert (await other.call("gateway.devices.rename", {"jkt": mine.jkt, "name": "x"})).status == 404
    assert (await other.revoke(mine.jkt)).status == 404
    assert (await other.call("gateway.devices.list")).body == {"devices": []}
    assert (await mine.call("gateway.devices.rename", {"jkt": mine.jkt, "name": "新名字"})).status == 200
    assert (await mine.call("gateway.devices.list")).body["devices"][0]["name"] == "新名字"


async def test_a_code_binds_the_key_it_was_sent_for(world: World) -> None:
    mine, stranger = Phone(world, "zhangwei"), Phone(world, "zhangwei", name="stolen-password")
    await mine.login()
    await stranger.login()
    await mine.call("gateway.devices.send_code")
    code = await newest_code(world, mine.number)
    assert (await stranger.call("gateway.devices.bind", {"name": "x", "code": code})).status == 401
    assert (await mine.call("gateway.devices.bind", {"name": "x", "code": code})).status == 200


async def test_a_session_without_a_key_cannot_bind_and_ends_sooner(world: World) -> None:
    body = await world.login("lina")
    answer = await world.client.call("gateway.devices.send_code", token=body["access_token"])
    assert answer.status == 403
    hours = (body["session_expires_ms"] - world.clock.now_ms()) / 3_600_000
    assert hours == pytest.approx(12)


@pytest.mark.requirement("S07")
async def test_a_new_device_begins_with_reduced_rights_and_the_others_hear_of_it(world: World) -> None:
    """Bound a moment ago with a second factor, it confirms nothing by its own signature: no roles, no data, no
    other devices revoked. A day later it does."""
    old, new = Phone(world, "wangfang", name="old"), Phone(world, "wangfang", name="new")
    await old.login()
    assert (await old.bind()).status == 200
    role = {"action": "gateway.access.create_role", "fields": {"name": "前台", "grants": []}}
    begun = await old.call("gateway.stepup.begin", role)
    assert begun.body["ways"] == ["sms"], "the first one, new too, with nothing older beside it"
    world.clock.advance(int(world.runtime.settings.device_new_s * 1000))
    await old.login()
    await new.login()
    assert (await new.bind()).status == 200
    other = str(world.people["yangmin"].person_id)
    sensitive: list[tuple[str, dict[str, Any]]] = [
        ("identity.change_member", {"person_id": other, "roles": ["employee", "boss"]}),
        ("privacy.reveal_member", {"person_id": other, "reason": "联系"}),
        ("privacy.fetch_export", {"task_id": "1"}),
        ("privacy.erase", {}),
    ]
    for action, fields in sensitive:
        wanted = {"action": f"gateway.{action}", "fields": fields}
        refused = await new.call("gateway.stepup.begin", wanted)
        assert (refused.status, refused.body["errors"]["code"]) == (403, "no_way_to_confirm"), action
        assert (await old.call("gateway.stepup.begin", wanted)).body["ways"] == ["sign"], action
    revoking = {"action": "gateway.devices.revoke", "fields": {"jkt": old.jkt}}
    assert (await new.call("gateway.stepup.begin", revoking)).body["ways"] == ["sms"], "not by itself"
    told = [
        one for one in await happened(world, old.body["person"]["person_id"]) if one.get("jkt") != old.jkt
    ]
    assert any(one.get("device") == "new" for one in told), "a login from where the account was never used"
    assert any(one.get("jkt") == new.jkt for one in told), "and that the device is trusted"
    world.clock.advance(int(world.runtime.settings.device_new_s * 1000))
    await new.login()
    assert (await new.call("gateway.stepup.begin", role)).body["ways"] == ["sign"]


@pytest.mark.requirement("S06")
async def test_the_banks_staff_work_with_a_key_only(world: World) -> None:
    """Outside the demonstration: a token that somebody copies is worth nothing."""
    defaults = type(world.runtime.settings).model_fields["possession_roles"].default
    assert set(defaults) == BANK
    changed = world.runtime.settings.model_copy(update={"possession_roles": (*defaults, "administrator")})
    object.__setattr__(world.runtime, "settings", changed)
    refused = await world.client.login("wangfang", world.people["wangfang"].password)
    assert (refused.status, refused.body["detail"]) == (403, "log in with a proof of possession (DPoP)")
    assert (await Phone(world, "wangfang").login()).status == 200
    assert await world.login("chenjing"), "others may do without"
    person, action = world.people["qianyu"], "gateway.factors.complete_login"
    for proof in ({}, {"DPoP": True}):
        phone = Phone(world, "qianyu")
        world.clock.advance(61_000)
        login = "gateway.identity.login"
        headers = {"DPoP": phone.proof(login)} if proof else {}
        fields = {"login": "qianyu", "password": person.password, "device": "desk"}
        asked = (await world.client.call(login, fields, **headers)).body["errors"]
        ticket = {"ticket": asked["ticket"], "device": "desk"}
        send = "gateway.factors.send_login_code"
        headers = {"DPoP": phone.proof(send)} if proof else {}
        assert (await world.client.call(send, ticket, **headers)).status == 200
        code = {"way": "sms", "code": await newest_code(world, person.phone)}
        headers = {"DPoP": phone.proof(action)} if proof else {}
        begun = await world.client.call(action, ticket | code, **headers)
        assert begun.status == (200 if proof else 403), begun.body
