"""From an event to a receiver of the enterprise: once, signed, again when it fails, and never to the inside."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from core.background import Background
from core.db import Transaction
from core.relay import relay_of
from core.runner import Runner
from gateway.webhooks import store
from gateway.webhooks.egress import CheckedResolver, Egress
from tests.gateway.conftest import World
from tests.npm import installed


@dataclass
class Receiver:
    """An enterprise's machine: keeps what it gets, answers as it is told."""

    url: str = ""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    hang_s: float = 0.0
    body: bytes = b""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.got.append((dict(request.headers), await request.read()))
        if self.hang_s:
            await asyncio.sleep(self.hang_s)
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    server = TestServer(app)
    await server.start_server()
    made.url = str(server.make_url("/hook"))
    yield made
    await server.close()


@pytest.fixture
def more_settings() -> dict[str, Any]:
    return {
        "webhook_http": True,
        "webhook_private": True,
        "webhook_timeout_s": 1.0,
        "webhook_delays_s": "10,100",
        "webhook_disable_s": 500.0,
    }


@dataclass
class Office:
    """The administrator of the demonstration's enterprise, and the work that runs in the background."""

    world: World
    token: str
    runner: Runner

    async def call(self, name: str, **fields: Any) -> Any:
        answer = await self.world.call(f"gateway.webhooks.{name}", fields, token=self.token)
        assert answer.status == 200, answer.body
        return answer.body

    async def happen(self, phone: str) -> None:
        """An event that may leave: somebody is taken in."""
        fields = {"phone": phone, "name": "新人", "roles": ["employee"]}
        answer = await self.world.client.call("gateway.identity.add_member", fields, token=self.token)
        assert answer.status == 200, answer.body

    async def work(self, *, after_s: float = 0.0) -> None:
        """Give events out, then run the sender."""
        self.world.clock.advance(int((after_s + 3) * 1000))
        relay = relay_of(self.world.runtime)
        await relay._refresh()
        while await relay.run_once():
            pass
        await self.runner.run_once()


@pytest.fixture
async def office(world: World) -> Office:
    begun = await world.login("zhangwei")
    for who in world.people:
        begun = await world.login(who)
        if "administrator" in begun["enterprise"]["roles"]:
            break
    runtime = world.runtime
    await relay_of(runtime)._refresh()
    job = world.gateway.parts.webhooks.job()
    runner = Runner(runtime.db, runtime.clock, runtime.rng, runtime.ids, [job])
    await runner.enter_schedules()
    return Office(world, begun["access_token"], runner)


async def _verified(receiver: Receiver, now_ms: int, *secrets: str) -> list[str]:
    place = await installed(Path(__file__).parent / "node")
    node = await asyncio.create_subprocess_exec(
        "node", "verify.mjs", cwd=place, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    lines = [
        json.dumps({"secret": secret, "body": body.decode(), "headers": headers, "now_ms": now_ms})
        for headers, body in receiver.got
        for secret in secrets
    ]
    said, _ = await node.communicate("\n".join(lines).encode() + b"\n")
    return said.decode().split("\n")[:-1]


async def test_an_event_arrives_once_and_signed(office: Office, receiver: Receiver) -> None:
    made = await office.call("add", url=receiver.url, events=["gateway.member_added"])
    assert made["secret"].startswith("whsec_")
    assert "secret" not in (await office.call("list"))[0]
    await office.happen("13700000001")
    assert receiver.got == []  # nothing is sent within the request
    await office.work()
    await office.work()
    ((headers, body),) = receiver.got
    told = json.loads(body)
    assert told["type"] == "gateway.member_added"
    assert set(told["data"]) == {"enterprise_id", "person_id"}
    assert isinstance(told["data"]["person_id"], str)
    (entry,) = await office.call("deliveries", webhook_id=made["webhook_id"])
    assert entry["state"] == "delivered"
    assert entry["attempts"] == 1
    assert headers["webhook-id"] == f"msg_{entry['delivery_id']}"
    await office.call("resend", delivery_id=entry["delivery_id"])
    await office.work()
    assert [headers["webhook-id"] for headers, _ in receiver.got] == [headers["webhook-id"]] * 2
    await office.call("remove", webhook_id=made["webhook_id"])
    await office.happen("13700000002")
    await office.work()
    assert len(receiver.got) == 2


async def test_an_unrelated_library_takes_the_signature_and_both_secrets_in_a_rotation(
    office: Office, receiver: Receiver
) -> None:
    made = await office.call("add", url=receiver.url, events=["gateway.member_added"])
    await office.happen("13700000003")
    await office.work()
    renewed = await office.call("renew_secret", webhook_id=made["webhook_id"])
    assert renewed["secret"] != made["secret"]
    await office.happen("13700000004")
    await office.work()
    wrong = "whsec_" + "A" * 32
    verdicts = await _verified(
        receiver, office.world.clock.now_ms(), made["secret"], renewed["secret"], wrong
    )
    good = [verdict == "good" for verdict in verdicts]
    assert good == [True, False, False, True, True, False], verdicts
    await office.call("remove", webhook_id=made["webhook_id"])


async def test_failures_are_tried_again_then_parked_and_the_webhook_is_disabled(
    office: Office, receiver: Receiver
) -> None:
    made = await office.call("add", url=receiver.url, events=["gateway.member_added"])
    receiver.status = 500
    await office.happen("13700000005")
    await office.work()
    (entry,) = await office.call("deliveries", webhook_id=made["webhook_id"])
    assert (entry["state"], entry["attempts"], entry["status"]) == ("waiting", 1, 500)
    await office.work()
    assert len(receiver.got) == 1  # not yet
    await office.work(after_s=10)
    await office.work(after_s=110)
    assert len(receiver.got) == 3
    (entry,) = await office.call("deliveries", webhook_id=made["webhook_id"])
    assert entry["state"] == "failed"
    (hook,) = await office.call("list")
    assert hook["state"] == "active"
    assert hook["failing_since_ms"] is not None
    office.world.clock.advance(600_000)
    office.token = (await office.world.login("zhoutao"))["access_token"]
    await office.happen("13700000006")
    await office.work()
    (hook,) = await office.call("list")
    assert (hook["state"], hook["why"]) == ("disabled", "failing")
    await office.happen("13700000007")
    await office.work()
    assert len(receiver.got) == 4  # nothing for who is disabled
    receiver.status = 200
    await office.call("change", webhook_id=made["webhook_id"], enabled=True)
    await office.call("resend", delivery_id=entry["delivery_id"])
    await office.work()
    assert len(receiver.got) == 5
    (hook,) = await office.call("list")
    assert (hook["state"], hook["failing_since_ms"]) == ("active", None)
    await office.call("remove", webhook_id=made["webhook_id"])


@pytest.mark.parametrize(
    ("status", "headers", "hang_s", "says"),
    [
        (302, {"Location": "http://127.0.0.1:1/inside"}, 0.0, (302, None)),
        (200, {}, 3.0, (None, "timeout")),
        (410, {}, 0.0, (410, None)),
    ],
)
async def test_answers_that_are_none(
    office: Office,
    receiver: Receiver,
    status: int,
    headers: dict[str, str],
    hang_s: float,
    says: tuple[Any, Any],
) -> None:
    made = await office.call("add", url=receiver.url, events=["gateway.member_added"])
    receiver.status, receiver.headers, receiver.hang_s = status, headers, hang_s
    await office.happen(f"1360000{status:04d}")
    await office.work()
    assert len(receiver.got) == 1
    (entry,) = await office.call("deliveries", webhook_id=made["webhook_id"])
    assert (entry["status"], entry["error"]) == says
    (hook,) = await office.call("list")
    assert hook["state"] == ("disabled" if status == 410 else "active")
    await office.call("remove", webhook_id=made["webhook_id"])


async def test_an_endless_answer_is_cut(office: Office, receiver: Receiver) -> None:
    receiver.body = b"x" * 5_000_000
    receiver.status = 200
    egress = Egress(office.world.runtime.settings)
    assert await egress.post(receiver.url, b"{}", {}) == (200, None)
    await egress.close()


async def test_a_long_queue_of_one_keeps_no_other_one_waiting(office: Office, receiver: Receiver) -> None:
    runtime = office.world.runtime
    hooks = [
        int(
            (await office.call("add", url=f"{receiver.url}/{n}", events=["gateway.member_added"]))[
                "webhook_id"
            ]
        )
        for n in (1, 2)
    ]
    enterprise_id = int((await office.world.login("zhangwei"))["enterprise"]["enterprise_id"])
    now = runtime.clock.now()

    async def queue(tx: Transaction) -> None:
        for n, webhook_id in enumerate([hooks[0]] * 100 + [hooks[1]]):
            at = now + timedelta(milliseconds=n)
            await store.insert_delivery(
                tx, runtime.ids.next(), enterprise_id, webhook_id, "gateway.member_added", f'{{"n":{n}}}', at
            )

    await runtime.db.run(queue)
    await office.work()
    assert b'{"n":100}' in [body for _, body in receiver.got[:5]]
    for webhook_id in hooks:
        await office.call("remove", webhook_id=str(webhook_id))


async def test_what_waits_for_a_disabled_webhook_is_forgotten_one_day(
    office: Office, receiver: Receiver
) -> None:
    made = await office.call("add", url=receiver.url, events=["gateway.member_added"])
    receiver.status = 500
    await office.happen("13700000008")
    await office.work()
    await office.call("change", webhook_id=made["webhook_id"], enabled=False)
    keep = timedelta(seconds=office.world.runtime.settings.webhook_retention_s)
    now = office.world.clock.now()
    await store.purge(office.world.runtime.db, now, keep)
    assert len(await office.call("deliveries", webhook_id=made["webhook_id"])) == 1
    await store.purge(office.world.runtime.db, now + keep + timedelta(seconds=1), keep)
    assert await office.call("deliveries", webhook_id=made["webhook_id"]) == []
    await office.call("remove", webhook_id=made["webhook_id"])


async def test_a_name_server_that_hangs_takes_no_thread_that_others_need(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: answers.wait(30) and [])
    resolver = CheckedResolver(private=False)
    lookups = [asyncio.ensure_future(resolver.resolve(f"a{n}.example.com")) for n in range(50)]
    await asyncio.sleep(0)  # each has asked
    try:
        async with asyncio.timeout(5):
            await asyncio.to_thread(int)
    finally:
        answers.set()
        await asyncio.gather(*lookups, return_exceptions=True)
        await resolver.close()


class Lying(CheckedResolver):
    """A name server that says one thing and then another."""

    def __init__(self, *answers: list[str]) -> None:
        super().__init__(private=False)
        self.answers = list(answers)

    async def lookup(self, host: str, port: int, family: int) -> list[tuple[int, str]]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(2, address) for address in answer]


async def test_names_that_point_inside_are_not_followed(world: World, receiver: Receiver) -> None:
    settings = world.runtime.settings.model_copy(update={"webhook_private": False})
    port = receiver.url.split(":")[2].split("/")[0]
    for answers in (["127.0.0.1"], ["203.0.114.1", "127.0.0.1"], ["::1"], ["169.254.169.254"]):
        egress = Egress(settings, Lying(answers))
        assert await egress.post(f"http://hooks.example.com:{port}/", b"{}", {}) == (None, "not allowed")
        await egress.close()
    assert receiver.got == []


async def test_the_connection_goes_to_the_address_that_was_checked(world: World, receiver: Receiver) -> None:
    """A second look at the name, by anybody, would find the inside (DNS rebinding): there is none."""
    settings = world.runtime.settings.model_copy(update={"webhook_private": False, "webhook_timeout_s": 0.3})
    port = receiver.url.split(":")[2].split("/")[0]
    resolver = Lying(["203.0.114.1"], ["127.0.0.1"])
    egress = Egress(settings, resolver)
    status, error = await egress.post(f"http://hooks.example.com:{port}/", b"{}", {})
    assert status is None
    assert error in ("timeout", "connection")
    assert receiver.got == []
    assert resolver.answers == [["127.0.0.1"]], "the name was looked up again"
    await egress.close()


async def test_what_cannot_be_registered(office: Office) -> None:
    async def add(url: str, *events: str) -> int:
        answer = await office.world.call(
            "gateway.webhooks.add", {"url": url, "events": list(events)}, token=office.token
        )
        return answer.status

    assert await add("https://hooks.example.com/", "gateway.session_revoked") == 422
    assert await add("https://hooks.example.com/", "no.such_event") == 422
    assert await add("https://hooks.example.com/") == 422
    assert await add("ftp://hooks.example.com/", "gateway.member_added") == 422
    kinds = await office.call("events")
    assert "gateway.member_added" in [kind["name"] for kind in kinds]
    assert "gateway.session_revoked" not in [kind["name"] for kind in kinds]


async def test_the_sender_is_among_the_jobs_of_a_process(world: World) -> None:
    background = Background(world.runtime, [world.gateway])
    assert "gateway.webhooks.send" in background.jobs._jobs
