"""The pages in a real browser: cookies, policy and forms as browsers understand them, on a phone's width."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from aiohttp import web

from gateway.factors import rules, store
from tests.gateway.oauth.chromium import Chromium
from tests.gateway.oauth.conftest import Kit, Verifier

_SHOTS = os.environ.get("BANKHUB_TEST_PICTURES")  # a directory: look at the pages yourself


@pytest.fixture
async def app_page() -> AsyncIterator[str]:
    """Where the app lives: a page that the browser comes back to."""
    application = web.Application()

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<title>app</title>back", content_type="text/html")

    application.router.add_get("/{tail:.*}", page)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def _look(browser: Chromium, name: str) -> None:
    wide = await browser.run("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    assert wide is False, f"{name} has to be pushed sideways"
    small = await browser.run(
        "[...document.querySelectorAll('button,input:not([type=hidden])')].filter(e => e.offsetHeight < 44).length"
    )
    assert small == 0, f"{name} has something too small for a finger"
    if _SHOTS:
        await browser.picture(Path(_SHOTS) / f"{name}.png")


@pytest.mark.requirement("W10")
async def test_a_person_logs_in_agrees_and_comes_back(kit: Kit, app_page: str) -> None:
    app = await kit.register(
        redirect_uris=[f"{app_page}/cb"], logout_uris=[f"{app_page}/bye"], title="考勤助手"
    )
    proof = Verifier()
    password = kit.world.people["chenjing"].password
    async with Chromium() as browser:
        await browser.open(f"{kit.url}/oauth/authorize?{urlencode(kit.request(app, proof))}")
        await browser.until("!!document.querySelector('#password')")
        await _look(browser, "login")
        await browser.run("document.querySelector('#login').value = 'chenjing'")
        await browser.run("document.querySelector('#password').value = 'wrong'")
        await browser.run("document.querySelector('button.main').click()")
        await browser.until("!!document.querySelector('[role=alert]')")
        await _look(browser, "login-refused")
        await browser.run("document.querySelector('#login').value = 'chenjing'")
        await browser.run(f"document.querySelector('#password').value = '{password}'")
        await browser.run("document.querySelector('button.main').click()")
        await browser.until("document.title.startsWith('授权确认')")
        await _look(browser, "consent")
        style = await browser.run("getComputedStyle(document.querySelector('.card')).borderRadius")
        assert style == "14px", "the style sheet applies: its hash is in the policy"
        assert await browser.run("document.cookie") == "", "scripts see no cookie"
        await browser.run("document.querySelector('button.main').click()")
        await browser.until("document.title === 'app'")
        address = urlsplit(await browser.run("location.href"))
        answer = dict(parse_qsl(address.query))
        assert f"{address.scheme}://{address.netloc}{address.path}" == f"{app_page}/cb"
        assert answer["iss"] == kit.url
        tokens = await kit.exchange(app, answer["code"], proof)
        assert tokens.status == 200
        assert not [one for one in browser.complaints if "Content Security Policy" in one], browser.complaints
        hint = {"post_logout_redirect_uri": f"{app_page}/bye", "client_id": app.client_id}
        await browser.open(f"{kit.url}/oauth/logout?{urlencode(hint)}")
        await browser.until("document.title.startsWith('退出登录')")
        await _look(browser, "leave")
        await browser.run("document.querySelector('button.main').click()")
        await browser.until("location.pathname === '/bye'")
    assert await kit.members(tokens.json["access_token"]) == 401


async def test_a_second_factor_is_typed_on_a_phone(kit: Kit, app_page: str) -> None:
    app, secret = await kit.register(redirect_uris=[f"{app_page}/cb"]), b"12345678901234567890"
    me, runtime, clock = kit.world.people["chenjing"], kit.world.runtime, kit.world.clock
    await runtime.db.run(store.replace, runtime.columns, me.person_id, secret, clock.now())
    await runtime.db.run(store.confirm, me.person_id, clock.now())
    try:
        async with Chromium() as browser:
            await browser.open(f"{kit.url}/oauth/authorize?{urlencode(kit.request(app, Verifier()))}")
            await browser.until("!!document.querySelector('#password')")
            await browser.run("document.querySelector('#login').value = 'chenjing'")
            await browser.run(f"document.querySelector('#password').value = '{me.password}'")
            await browser.run("document.querySelector('button.main').click()")
            await browser.until("document.title.startsWith('两步验证')")
            assert await browser.run("document.activeElement.id") == "code", "one can type at once"
            await _look(browser, "factor")
            await browser.run("document.querySelector('#code').value = '000000'")
            await browser.run("document.querySelector('button.main').click()")
            await browser.until("!!document.querySelector('[role=alert]')")
            await _look(browser, "factor-refused")
            for way, label in (("recovery", "恢复码"), ("sms", "短信验证码")):
                await browser.run(f"document.querySelector('button[value={way}]').click()")
                await browser.until(f"document.querySelector('label').textContent === '{label}'")
                await _look(browser, f"factor-{way}")
            await browser.run("document.querySelector('button[value=totp]').click()")
            await browser.until("!document.querySelector('button[value=totp]')")
            clock.advance(30_000)
            code = rules.hotp(secret, clock.now_ms() // 30_000)
            await browser.run(f"document.querySelector('#code').value = '{code}'")
            # as the key Enter does: the first button of the form
            await browser.run(
                "document.querySelector('form').requestSubmit(document.querySelector('button'))"
            )
            await browser.until("document.title.startsWith('授权确认')")
    finally:
        await runtime.db.run(store.remove, me.person_id)


async def test_choosing_and_being_refused(kit: Kit) -> None:
    published = await kit.publish()
    for by in ("wangfang", "zhoutao"):
        await kit.install(published, ["openid", "profile"], by=by)
    password = kit.world.people["lina"].password
    async with Chromium() as browser:
        await browser.open(f"{kit.url}/oauth/authorize?{urlencode(kit.request(published, Verifier()))}")
        await browser.until("!!document.querySelector('#password')")
        await browser.run("document.querySelector('#login').value = 'lina'")
        await browser.run(f"document.querySelector('#password').value = '{password}'")
        await browser.run("document.querySelector('button.main').click()")
        await browser.until("document.title.startsWith('选择企业')")
        await _look(browser, "select")
        query = kit.request(published, Verifier(), redirect_uri="https://evil.example/cb")
        await browser.open(f"{kit.url}/oauth/authorize?{urlencode(query)}")
        await browser.until("document.title.startsWith('无法继续')")
        await _look(browser, "error")


async def test_a_page_of_another_origin_cannot_frame_or_post(kit: Kit, app_page: str) -> None:
    """The browser itself refuses to frame our page, and a form posted from elsewhere is turned away."""
    app = await kit.register()
    async with Chromium() as browser:
        await browser.open(f"{app_page}/evil")
        target = f"{kit.url}/oauth/authorize?{urlencode(kit.request(app, Verifier()))}"
        await browser.run(
            f"(() => {{ const f = document.createElement('iframe'); f.src = {target!r}; "
            "f.onload = () => { window.framed = true }; document.body.append(f) })()"
        )
        await browser.until("window.framed === true")
        inside = await browser.run(
            "(() => { try { return document.querySelector('iframe').contentDocument === null } "
            "catch (e) { return true } })()"
        )
        assert inside
        assert [one for one in browser.complaints if "frame-ancestors" in one or "X-Frame-Options" in one]
        await browser.run(
            f"(() => {{ const f = document.createElement('form'); f.method = 'post'; "
            f"f.action = '{kit.url}/oauth/page'; "
            "f.innerHTML = '<input name=step value=allow>'; document.body.append(f); f.submit() })()"
        )
        await browser.until("document.body && document.body.innerText.includes('forbidden')")
