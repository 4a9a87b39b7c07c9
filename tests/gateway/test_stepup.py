"""Confirming one call: by the device's key or a code, for exactly that call, once, in time (T01, T03, T04)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from core.actions import Principal
from core.context import Source
from core.db import Sql
from core.device_key import b64url
from core.errors import Forbidden, Invalid
from core.stepup.store import every_evidence
from house.keys import write_public
from house.verify import evidence as verify_evidence
from house.verify import evidence_bundle
from tests.gateway.conftest import Answer, World
from tests.gateway.sms import messages, newest_code, wrong
from tests.gateway.test_devices import PHONES, Phone
from tests.stepup import proven

ROLE = "gateway.access.create_role"
FIELDS: dict[str, Any] = {"name": "前台", "grants": [{"permission": "contacts:read"}]}
BEGIN, SEND, PROVE = "gateway.stepup.begin", "gateway.stepup.send_code", "gateway.stepup.prove"


@pytest.fixture
def more_settings() -> dict[str, Any]:
    """A device is not new: what a new one may not is in test_devices."""
    return {"device_new_s": 0}


async def asked(world: World, token: str, action: str, fields: Any) -> dict[str, Any]:
    answer = await world.client.call(BEGIN, {"action": action, "fields": fields}, token=token)
    assert answer.status == 200, answer.body
    body: dict[str, Any] = answer.body
    return body


async def coded(world: World, token: str, phone: str, challenge_id: str) -> Answer:
    """Prove it by the code that was sent."""
    world.clock.advance(61_000)
    sent = await world.client.call(SEND, {"challenge_id": challenge_id}, token=token)
    assert sent.status == 200, sent.body
    fields = {"challenge_id": challenge_id, "way": "sms", "code": await newest_code(world, phone)}
    return await world.client.call(PROVE, fields, token=token)


def refused(answer: Answer) -> bool:
    return answer.status == 403 and answer.body["errors"]["code"] == "step_up_required"


@pytest.mark.requirement("T04", "S09")
async def test_by_a_code_where_there_is_no_device(world: World) -> None:
    token, phone = (await world.login("wangfang"))["access_token"], PHONES["wangfang"]
    assert refused(await world.client.call(ROLE, FIELDS, token=token)), "not without"
    challenge = await asked(world, token, ROLE, FIELDS)
    assert challenge["ways"] == ["sms"]
    assert challenge["lines"] == ["新建角色“前台”", "权限：查看通讯录（全企业）"]
    assert orjson.loads(challenge["message"])["lines"] == challenge["lines"]
    number = challenge["challenge_id"]
    assert refused(await world.client.call(ROLE, FIELDS, token=token, Step_Up=number)), (
        "not before it is proved"
    )
    done = await coded(world, token, phone, number)
    assert done.status == 200, done.body
    assert "新建角色“前台”" in (await messages(world, phone))[-1], "the text names what it confirms"
    changed = FIELDS | {"grants": [{"permission": "members:manage"}]}
    assert refused(await world.client.call(ROLE, changed, token=token, Step_Up=number)), "other fields"
    fields = {"role_id": "1", **FIELDS}
    assert refused(
        await world.client.call("gateway.access.change_role", fields, token=token, Step_Up=number)
    ), "another action"
    made = await world.client.call(ROLE, FIELDS, token=token, Step_Up=number, Idempotency_Key="once")
    assert made.status == 200, made.body
    again = await world.client.call(ROLE, FIELDS, token=token, Idempotency_Key="once")
    assert (again.status, again.body) == (200, made.body), "the answer given before needs no second proof"
    other = FIELDS | {"name": "前台二"}
    assert refused(await world.client.call(ROLE, other, token=token, Step_Up=number)), "spent"
    assert refused(await world.client.call(ROLE, FIELDS, token=token, Step_Up=number)), "spent"


@pytest.mark.requirement("T01", "T03", "T04")
@pytest.mark.parametrize("algorithm", ["ES256", "SM2"])
async def test_by_the_devices_key(world: World, algorithm: str, capsys: pytest.CaptureFixture[str]) -> None:
    phone = Phone(world, "wangfang", algorithm, name=f"boss-{algorithm}")
    await phone.login()
    assert (await phone.bind()).status == 200
    fields = FIELDS | {"name": f"门卫 {algorithm}"}
    challenge = (await phone.call(BEGIN, {"action": ROLE, "fields": fields})).body
    assert challenge["ways"] == ["sign"], "who has the device signs: a stolen SIM is not enough"
    number, text = challenge["challenge_id"], challenge["message"].encode()
    proof = {"challenge_id": number, "way": "sign"}
    assert (await phone.call(SEND, {"challenge_id": number})).status == 403
    assert (await phone.call(PROVE, {"challenge_id": number, "way": "sms", "code": "123456"})).status == 403
    for bad in (
        phone.device.sign(text[:-1]),
        phone.device.sign(text.replace(b"contacts:read", b"members:manage")),
        Phone(world, "wangfang", algorithm).device.sign(text),
        bytes(64),
    ):
        assert (await phone.call(PROVE, proof | {"signature": b64url(bad)})).status == 403
    signed = {"signature": b64url(phone.device.sign(text))}
    assert (await phone.call(PROVE, proof | signed)).status == 200
    assert (await phone.call(PROVE, proof | signed)).status == 409
    assert (await phone.call(ROLE, fields, **{"Step-Up": number})).status == 200

    assert await verify_evidence(world.runtime.settings, int(number)) == 0
    shown = capsys.readouterr().out
    assert text.decode() in shown
    assert phone.device.key.point.hex() in shown
    assert await verify_evidence(world.runtime.settings, None) == 0
    plain = Phone(world, "wangfang", algorithm, name="another")
    await plain.login()
    elsewhere = await plain.call(BEGIN, {"action": ROLE, "fields": fields})
    assert elsewhere.status == 403, "a session without the device cannot confirm this"
    await phone.call("gateway.devices.revoke", {"jkt": phone.jkt})


@pytest.mark.requirement("T03")
async def test_tampered_evidence_is_found(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    token = (await world.login("wangfang"))["access_token"]
    who, runtime = world.tokens.verify(token), world.runtime
    ids = [await proven(runtime, who, ROLE, FIELDS | {"name": f"r{n}"}) for n in range(3)]
    assert await verify_evidence(runtime.settings, None) == 0
    url = runtime.settings.database_url
    assert url is not None
    superuser = await asyncpg.connect(url.get_secret_value(), ssl=False)
    try:
        await superuser.execute("UPDATE core_evidence SET person_id = 1 WHERE challenge_id = $1", ids[1])
        found = {number: one async for number, one in every_evidence(runtime.db, runtime.keys)}
        assert found[ids[0] or 0] is not None
        assert found[ids[1] or 0] is None
        assert await verify_evidence(runtime.settings, None) == 1
        assert f"BROKEN  {ids[1]}" in capsys.readouterr().out
        await superuser.execute(
            "UPDATE core_evidence SET person_id = $2 WHERE challenge_id = $1", ids[1], who.person_id
        )
        assert await verify_evidence(runtime.settings, ids[1]) == 0
        assert await verify_evidence(runtime.settings, 1) == 1
    finally:
        await superuser.close()


@pytest.mark.requirement("T03")
async def test_evidence_leaves_in_a_sealed_file_and_that_is_recorded(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = (await world.login("wangfang"))["access_token"]
    who, runtime = world.tokens.verify(token), world.runtime
    number = await proven(runtime, who, ROLE, FIELDS | {"name": "外带"})
    assert number is not None
    one, every, anchor = tmp_path / "one.json", tmp_path / "every.json", tmp_path / "anchor.json"
    assert await verify_evidence(runtime.settings, number, one) == 0
    assert await verify_evidence(runtime.settings, None, every) == 0
    assert one.stat().st_mode & 0o777 == 0o600, "it may hold phone numbers"
    with pytest.raises(Invalid):
        await verify_evidence(runtime.settings, number, one)
    exported = Sql("SELECT object_id FROM core_audit WHERE action = $1", None, "tests")
    rows = [row["object_id"] for row in await runtime.db.fetch(exported, "core.evidence.export")]
    assert str(number) in rows
    assert len(rows) == 2

    assert write_public(runtime.settings, anchor) == 0
    assert evidence_bundle(one, anchor) == 0
    assert "外带" in capsys.readouterr().out
    assert evidence_bundle(every, anchor) == 0
    every.write_bytes(every.read_bytes().replace("外带".encode(), "外卖".encode()))
    assert evidence_bundle(every, anchor) == 1

    spoil = Sql("UPDATE core_evidence SET person_id = person_id + $2 WHERE challenge_id = $1", None, "tests")
    await runtime.db.execute(spoil, number, 1)
    assert await verify_evidence(runtime.settings, None, tmp_path / "broken.json") == 1
    assert not (tmp_path / "broken.json").exists(), "what is broken is not sealed"
    await runtime.db.execute(spoil, number, -1)


@pytest.mark.requirement("T04")
async def test_nobody_else_nowhere_else_not_later(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    second = (await world.login("wangfang", "tablet"))["access_token"]
    stranger = (await world.login("zhoutao"))["access_token"]
    who, runtime = world.tokens.verify(admin), world.runtime
    fields = FIELDS | {"name": "巡查"}

    async def call(token: str, number: int | None) -> Answer:
        return await world.client.call(ROLE, fields, token=token, Step_Up=str(number))

    number = await proven(runtime, who, ROLE, fields)
    assert refused(await call(second, number)), "another session of the same person"
    assert refused(await call(stranger, number)), "another person, another enterprise"
    elsewhere = Principal(who.person_id, 1, who.roles, who.session_id, who.device, 1 << 60)
    with pytest.raises(Forbidden):
        await runtime.calls.perform(
            ROLE, fields, principal=elsewhere, source=Source("203.0.113.1", "http"), step_up=number
        )
    for odd in ("0", "x", "9" * 19, "-1", str(number) + " 1"):
        assert (await world.client.call(ROLE, fields, token=admin, Step_Up=odd)).status == 422, odd
    assert refused(await call(admin, 1))
    world.clock.advance(300_000)
    assert refused(await call(admin, number)), "five minutes"
    fresh = await proven(runtime, who, ROLE, fields)
    both = await asyncio.gather(call(admin, fresh), call(admin, fresh))
    assert sorted(answer.status for answer in both) == [200, 403], "once, also at the same time"


@pytest.mark.requirement("T04")
async def test_a_challenge_is_proved_by_its_own_session_in_time(world: World) -> None:
    token, phone = (await world.login("wangfang"))["access_token"], PHONES["wangfang"]
    second = (await world.login("wangfang", "tablet"))["access_token"]
    number = (await asked(world, token, ROLE, FIELDS))["challenge_id"]
    assert (await world.client.call(SEND, {"challenge_id": number}, token=second)).status == 404
    assert (await world.client.call(SEND, {"challenge_id": number}, token=token)).status == 200
    code = await newest_code(world, phone)
    proof = {"challenge_id": number, "way": "sms", "code": code}
    assert (await world.client.call(PROVE, proof | {"code": wrong(code)}, token=token)).status == 403
    other = (await asked(world, token, ROLE, FIELDS | {"name": "别的"}))["challenge_id"]
    swapped = await world.client.call(PROVE, proof | {"challenge_id": other}, token=token)
    assert swapped.status == 403, "a code for one thing confirms no other"
    assert (await world.client.call(PROVE, proof, token=token)).status == 200
    late = (await asked(world, token, ROLE, FIELDS))["challenge_id"]
    world.clock.advance(300_000)
    assert (await world.client.call(SEND, {"challenge_id": late}, token=token)).status == 404
    none = await world.client.call(BEGIN, {"action": "gateway.identity.me"}, token=token)
    assert none.status == 409, "this needs none"
    bad = await world.client.call(BEGIN, {"action": ROLE, "fields": {"name": ""}}, token=token)
    assert bad.status == 422


@pytest.mark.requirement("T04")
async def test_every_way_to_make_an_administrator_asks(world: World) -> None:
    token = (await world.login("wangfang"))["access_token"]
    who = str(world.people["liuyang"].person_id)
    roles = ["employee", "administrator"]
    ways: list[tuple[str, dict[str, Any]]] = [
        ("identity.change_member", {"person_id": who, "roles": roles}),
        ("identity.add_member", {"phone": "13912340000", "name": "新", "roles": roles}),
        ("invitations.create", {"roles": roles}),
        ("enterprises.decide_join", {"request_id": "1", "accept": True, "roles": roles}),
    ]
    for action, fields in ways:
        assert refused(await world.client.call(f"gateway.{action}", fields, token=token)), action
    plain = await world.client.call(
        "gateway.identity.change_member", {"person_id": who, "title": "出纳员"}, token=token
    )
    assert plain.status == 200, "and nothing else does"
    every = [
        action
        for action in world.runtime.registry.actions.values()
        if "roles" in action.command.model_fields and action.audited and action.service == "gateway"
    ]
    assert len(every) >= 6
    assert all(action.step_up == "sign" for action in every), "a new way to give roles asks too"


@pytest.mark.requirement("T04")
async def test_a_stolen_password_alone_does_no_harm(world: World) -> None:
    """What hurts is confirmed by something else than the session, whoever it belongs to."""
    who, reason = str(world.people["liuyang"].person_id), "看看"
    wanted: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "wangfang": [
            ("identity.change_member", {"person_id": who, "roles": ["employee", "finance_reviewer"]}),
            ("identity.change_member", {"person_id": who, "roles": ["employee"]}),
            ("identity.end_membership", {"person_id": who}),
            ("invitations.create", {"roles": ["boss"]}),
            ("invitations.create", {"uses_max": 21}),
            ("apps.install", {"app_id": "1", "scopes": ["contacts:read"]}),
            ("webhooks.add", {"url": "https://example.com/", "events": ["gateway.member_added"]}),
            ("webhooks.change", {"webhook_id": "1", "url": "https://example.com/"}),
            ("webhooks.renew_secret", {"webhook_id": "1"}),
            ("privacy.reveal_member", {"person_id": who, "reason": reason}),
            ("privacy.fetch_export", {"task_id": "1"}),
            ("privacy.erase", {}),
        ],
        "zhengjie": [
            ("people.disable", {"person_id": who, "reason": reason}),
            ("people.enable", {"person_id": who, "reason": reason}),
            ("people.forget_factors", {"person_id": who, "reason": reason}),
            ("privacy.unmask", {"person_id": who, "reason": reason}),
        ],
        "qianyu": [("contracts.decide", {"enterprise_id": "1", "decision": "pass"})],
        "fengbo": [
            ("staff.change", {"person_id": who, "roles": ["bank_auditor"]}),
            ("staff.add", {"phone": "13912340001", "name": "新", "roles": ["bank_auditor"]}),
            ("staff.end", {"person_id": who}),
        ],
    }
    for login, calls in wanted.items():
        token = (await world.login(login))["access_token"]
        for action, fields in calls:
            answer = await world.client.call(f"gateway.{action}", fields, token=token)
            assert refused(answer), (action, answer.body)
            said = world.runtime.registry.get(f"gateway.{action}")
            assert said.describe is not None, "and says in Chinese what it is"


async def test_nobody_reviews_what_they_make(world: World) -> None:
    token = (await world.login("wangfang"))["access_token"]
    roles = ["employee", "finance_maker", "finance_reviewer"]
    both = {"person_id": str(world.people["liuyang"].person_id), "roles": roles}
    answer = await world.call("gateway.identity.change_member", both, token=token)
    assert answer.status == 422, answer.body


async def test_secrets_are_confirmed_without_being_shown(world: World) -> None:
    token = (await world.login("lina"))["access_token"]
    fields = {"phone": "13912340009", "code": "123456", "password": "the canary's own word"}
    challenge = await asked(world, token, "gateway.registration.change_phone", fields)
    assert challenge["lines"] == ["将登录手机号更换为 13912340009"]
    assert "canary" not in str(challenge)
    who, runtime = world.tokens.verify(token), world.runtime
    number = await proven(runtime, who, "gateway.registration.change_phone", fields)
    for changed in ({"password": "another word"}, {"code": "123457"}, {"phone": "13912340008"}):
        answer = await world.client.call(
            "gateway.registration.change_phone", fields | changed, token=token, Step_Up=str(number)
        )
        assert refused(answer), changed


async def test_it_says_by_name_whom_it_is_about_and_never_strangers(world: World) -> None:
    """An id tells nobody what they confirm; and asking must not turn ids of strangers into names."""
    admin = await world.login("wangfang")
    colleague, stranger = world.people["zhaolei"], world.people["wuxia"]

    async def lines(person_id: int) -> list[str]:
        asked = {"action": "gateway.identity.end_membership", "fields": {"person_id": str(person_id)}}
        answer = await world.client.call("gateway.stepup.begin", asked, token=admin["access_token"])
        assert answer.status == 200, answer.body
        return list(answer.body["lines"])

    assert "赵磊（138****0007）" in (await lines(colleague.person_id))[0]
    assert "吴霞" not in str(await lines(stranger.person_id))
    assert "138****0012" not in str(await lines(stranger.person_id))
