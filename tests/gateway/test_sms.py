"""The SMS platform over HTTP, against a receiver of our own that checks what a real one would."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from core.clock import SystemClock
from core.errors import Invalid
from core.rng import SystemRng
from core.settings import Settings, load
from gateway.ports import SmsFailed, SmsRefused
from gateway.sms import sender
from gateway.sms.http import HttpSms
from gateway.sms.messenger import Messenger
from gateway.sms.outbox import FileOutbox
from gateway.sms.signing import KEY_ID, NONCE, SIGNATURE, TIME, is_signed
from gateway.sms.templates import TEXTS, text

SECRET = "what both sides know"


@dataclass
class Receiver:
    """A platform: refuses what is not signed, old, or seen before."""

    answers: list[int] = field(default_factory=list)  # before 200
    hang: bool = False
    got: list[dict[str, Any]] = field(default_factory=list)
    nonces: set[str] = field(default_factory=set)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        head = request.headers
        good = is_signed(SECRET.encode(), int(head[TIME]), head[NONCE], body, head[SIGNATURE])
        fresh = abs(SystemClock().now_ms() - int(head[TIME])) < 60_000 and head[NONCE] not in self.nonces
        if not good or not fresh or head[KEY_ID] != "bankhub":
            return web.Response(status=401)
        self.nonces.add(head[NONCE])
        self.got.append(orjson.loads(body))
        if self.hang:
            import asyncio

            await asyncio.sleep(30)
        return web.Response(status=self.answers.pop(0) if self.answers else 200)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_post("/send", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/send"
    yield made
    await runner.cleanup()


def _settings(url: str, **more: Any) -> Settings:
    return load({}, **({"sms_url": url, "sms_secret": SECRET, "sms_retry_s": 0.001} | more))


@pytest.fixture
async def sms(receiver: Receiver) -> AsyncIterator[HttpSms]:
    made = HttpSms(_settings(receiver.url), SystemClock(), SystemRng())
    yield made
    await made.close()


async def test_the_platform_accepts_what_we_sign(receiver: Receiver, sms: HttpSms) -> None:
    await sms.send("13900000001", "login", {"code": "123456", "minutes": "2"})
    (got,) = receiver.got
    assert got["phone"] == "13900000001"
    assert got["template"] == "login"
    assert got["params"] == {"code": "123456", "minutes": "2"}
    assert "123456" in got["text"]


async def test_another_secret_is_refused_and_not_tried_again(receiver: Receiver) -> None:
    sms = HttpSms(_settings(receiver.url, sms_secret="another"), SystemClock(), SystemRng())
    with pytest.raises(SmsRefused):
        await sms.send("13900000001", "login", {"code": "123456", "minutes": "2"})
    await sms.close()
    assert receiver.got == []


async def test_it_is_tried_again_under_the_same_id(receiver: Receiver, sms: HttpSms) -> None:
    receiver.answers = [503, 429]
    await sms.send("13900000001", "login", {"code": "123456", "minutes": "2"})
    assert len(receiver.got) == 3
    assert len({got["id"] for got in receiver.got}) == 1
    receiver.answers = [500, 500, 500]
    with pytest.raises(SmsFailed):
        await sms.send("13900000001", "login", {"code": "123456", "minutes": "2"})


async def test_a_platform_that_does_not_answer_is_given_up(receiver: Receiver) -> None:
    receiver.hang = True
    sms = HttpSms(_settings(receiver.url, sms_timeout_s=0.05, sms_attempts=2), SystemClock(), SystemRng())
    with pytest.raises(SmsFailed):
        await sms.send("13900000001", "login", {"code": "123456", "minutes": "2"})
    await sms.close()
    assert len(receiver.got) == 2


async def test_a_redirect_is_not_followed(receiver: Receiver, sms: HttpSms) -> None:
    receiver.answers = [307]
    with pytest.raises(SmsRefused):
        await sms.send("13900000001", "login", {"code": "123456", "minutes": "2"})


@pytest.mark.parametrize("index", range(4))
async def test_a_changed_part_breaks_the_signature(index: int) -> None:
    from gateway.sms.signing import signature

    parts: list[Any] = [1, "nonce", b"body", None]
    given = signature(b"secret", 1, "nonce", b"body")
    parts[index] = [2, "other", b"another", None][index]
    if index < 3:
        assert not is_signed(b"secret", parts[0], parts[1], parts[2], given)
    else:
        assert is_signed(b"secret", 1, "nonce", b"body", given)
        assert not is_signed(b"secret", 1, "nonce", b"body", given[:-1] + ("0" if given[-1] != "0" else "1"))


async def test_a_full_queue_drops_and_sending_survives_failures(receiver: Receiver, sms: HttpSms) -> None:
    receiver.answers = [400]
    messenger = Messenger(sms, 2)
    for number in range(4):
        messenger.post(f"1390000000{number}", "login", {"code": "123456", "minutes": "2"})
    messenger.start()
    await messenger.settled()
    assert len(receiver.got) == 2
    messenger.post("13900000009", "login", {"code": "123456", "minutes": "2"})
    await messenger.settled()
    assert receiver.got[-1]["phone"] == "13900000009"
    await messenger.close()


def test_settings_choose_the_way(tmp_path: Path) -> None:
    assert isinstance(sender(load({}, var_dir=tmp_path), SystemClock(), SystemRng()), FileOutbox)
    chosen = sender(_settings("https://sms.example.com/send"), SystemClock(), SystemRng())
    assert isinstance(chosen, HttpSms)
    with pytest.raises(Invalid):
        HttpSms(load({}, sms_url="https://sms.example.com/send"), SystemClock(), SystemRng())
    with pytest.raises(Invalid):
        load({}, sms_url="http://sms.example.com/send")


def test_every_text_can_be_made() -> None:
    params = {
        "code": "123456",
        "minutes": "2",
        "what": "付款",
        "phone": "138****0001",
        "enterprise": "青山",
        "name": "手机",
    }
    assert all("{" not in text(name, params) for name in TEXTS)
