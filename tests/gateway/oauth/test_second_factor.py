"""The login page with a second factor: the password alone never opens anything for who has one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.factors import rules
from tests.gateway.oauth.conftest import Answer, App, Browser, Kit, Verifier
from tests.gateway.sms import newest_code, wrong
from tests.gateway.test_factors import Authenticator, off

COMPLETE = "gateway.factors.complete_login"


@pytest.fixture
async def mine(kit: Kit) -> AsyncIterator[Authenticator]:
    """Chen Jing has an authenticator."""
    token = await _strong(kit, "chenjing")
    app = Authenticator(kit.world, "chenjing")
    await app.enrol(token)
    yield app
    await off(kit.world, token)


async def _strong(kit: Kit, who: str) -> str:
    """A token of a session with two factors: password and a code by short message."""
    world, person = kit.world, kit.world.people[who]
    fields = {"login": who, "password": person.password, "device": "phone", "second_factor": True}
    half = await world.client.call("gateway.identity.login", fields)
    assert half.status == 401, half.body
    ticket = half.body["errors"]["ticket"]
    await world.client.call("gateway.factors.send_login_code", {"ticket": ticket, "device": "phone"})
    code = await newest_code(world, person.phone)
    done = {"ticket": ticket, "way": "sms", "code": code, "device": "phone"}
    answer = await world.client.call(COMPLETE, done)
    assert answer.status == 200, answer.body
    return str(answer.body["access_token"])


async def _how(kit: Kit, app: App, answer: Answer, proof: Verifier) -> tuple[Any, Any]:
    if 'value="allow"' in answer.text:
        answer = await kit.browser.answer("allow")
    assert answer.status == 303, answer.text
    tokens = (await kit.exchange(app, answer.query["code"], proof)).json
    claims = kit.claims(tokens["id_token"])
    assert kit.world.gateway.oauth.tokens.verify(tokens["access_token"]).acr == int(claims["acr"])
    renewed = (await kit.refresh(app, tokens["refresh_token"])).json
    again = kit.claims(renewed["id_token"])
    assert (again["acr"], again["amr"], again["auth_time"]) == (
        claims["acr"],
        claims["amr"],
        claims["auth_time"],
    )
    return claims["acr"], claims["amr"]


async def test_who_has_an_authenticator_is_asked_for_its_code(kit: Kit, mine: Authenticator) -> None:
    app, proof = await kit.register(), Verifier()
    await kit.authorize(app, proof)
    page = await kit.log_in()
    assert page.status == 200
    assert "两步验证" in page.text
    assert 'name="password"' not in page.text
    for step in ("allow", "again", "login", "half", "way", "select", "other"):
        before, sealed = dict(kit.browser.cookies), kit.browser.page
        answer = await kit.browser.answer(step, enterprise=str(kit.world.people["chenjing"].enterprise_id))
        assert answer.status != 303, f"{step} is no way around the second factor"
        assert 'value="allow"' not in answer.text, step
        kit.browser.cookies, kit.browser.page = before, sealed
    assert (await kit.authorize(app, proof, browser=_like(kit), prompt="none")).query["error"] == (
        "login_required"
    )
    await kit.authorize(app, proof)
    await kit.log_in()
    refused = await kit.browser.answer("factor", code=wrong(mine.code()))
    assert "验证码不正确" in refused.text
    short = await kit.browser.answer("factor", code="12")
    assert "验证码不正确" in short.text
    code = mine.code()
    answer = await kit.browser.answer("factor", code=f"{code[:3]} {code[3:]}")
    assert await _how(kit, app, answer, proof) == ("2", ["pwd", "otp", "mfa"])


def _like(kit: Kit) -> Browser:
    """Another tab of the same browser."""
    other = kit.new_browser()
    other.cookies = dict(kit.browser.cookies)
    return other


async def test_a_recovery_code_or_a_short_message_instead(kit: Kit, mine: Authenticator) -> None:
    app, proof = await kit.register(), Verifier()
    await kit.authorize(app, proof)
    await kit.log_in()
    page = await kit.browser.answer("recovery")
    assert "恢复码" in page.text
    done = await kit.browser.answer("factor", code=mine.recovery[0].lower())
    assert await _how(kit, app, done, proof) == ("2", ["pwd", "mfa"])
    kit.world.clock.advance(125_000)
    await kit.authorize(app, proof, prompt="login")
    await kit.log_in()
    await kit.browser.answer("recovery")
    used = await kit.browser.answer("factor", code=mine.recovery[0])
    assert "验证码不正确" in used.text, "a recovery code is good once"
    page = await kit.browser.answer("sms")
    assert "验证码已发送" in page.text
    code = await newest_code(kit.world, kit.world.people["chenjing"].phone)
    kit.world.clock.advance(10_000)  # the wrong one delays
    done = await kit.browser.answer("factor", code=code)
    assert await _how(kit, app, done, proof) == ("2", ["pwd", "sms", "mfa"])


@pytest.mark.requirement("S08")
async def test_tries_are_counted_as_everywhere(kit: Kit, mine: Authenticator) -> None:
    app = await kit.register()
    await kit.authorize(app, Verifier())
    page = await kit.log_in()
    for _ in range(12):
        page = await kit.browser.answer("factor", code="000000")
    assert "尝试次数过多" in page.text
    right = rules.hotp(mine.secret, kit.world.clock.now_ms() // 30_000 + 1)
    page = await kit.browser.answer("factor", code=right)
    assert page.status == 200, "the right one has to wait too"
    assert "尝试次数过多" in page.text


async def test_a_half_login_ends_and_is_of_one_browser(kit: Kit, mine: Authenticator) -> None:
    app = await kit.register()
    await kit.authorize(app, Verifier())
    await kit.log_in()
    sealed = kit.browser.page
    thief = kit.new_browser()
    await kit.authorize(app, Verifier(), browser=thief)
    thief.page = sealed
    assert (await thief.answer("factor", code=mine.code())).status == 400, "a page is of one browser"
    kit.browser.page = sealed
    kit.world.clock.advance(int(kit.world.runtime.settings.login_ticket_s * 1000) + 1)
    late = await kit.browser.answer("factor", code=mine.code())
    assert 'name="password"' in late.text
    assert "重新输入密码" in late.text
    await kit.log_in()
    back = await kit.browser.answer("restart")
    assert 'name="password"' in back.text
    denied = await kit.browser.answer("deny")
    assert denied.query["error"] == "access_denied"


async def test_the_banks_staff_need_two(kit: Kit) -> None:
    app, proof = await kit.publish(), Verifier()
    await kit.authorize(app, proof)
    page = await kit.log_in("sunqiang")
    assert "短信验证码" in page.text
    assert "验证码已发送" in page.text
    again = await kit.browser.answer("sms")
    assert "尝试次数过多" in again.text, "one message a minute"
    code = await newest_code(kit.world, kit.world.people["sunqiang"].phone)
    answer = await kit.browser.answer("factor", code=code)
    assert answer.query["error"] == "access_denied", "logged in, but the bank has not installed this app"
    assert "no enterprise" in answer.query["error_description"]


async def test_an_app_that_asks_for_two_gets_them_of_everybody(kit: Kit) -> None:
    app, proof = await kit.register(), Verifier()
    await kit.tokens(app)
    await kit.authorize(app, proof, acr_values="2")
    page = await kit.log_in()
    assert "短信验证码" in page.text, "one factor is not enough here"
    code = await newest_code(kit.world, kit.world.people["chenjing"].phone)
    refused = await kit.browser.answer("factor", code=wrong(code))
    assert "验证码不正确" in refused.text
    done = await kit.browser.answer("factor", code=code)
    assert await _how(kit, app, done, proof) == ("2", ["pwd", "sms", "mfa"])
    plain = Verifier()
    kit.browser.cookies.clear()
    await kit.authorize(app, plain)
    assert await _how(kit, app, await kit.log_in(), plain) == ("1", ["pwd"])
