"""Every way to the same data asks the same: pushed, paged, resumed, called, over HTTP, in copies, to machines (A05).

Two enterprises in two whole processes. One and the same thing is looked for by everybody on every way there is, and the
ways must agree: who may see it sees it on all of them, who may not on none, also when that has just changed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import websockets
from aiohttp import web
from aiohttp.test_utils import TestServer
from websockets.typing import Subprotocol

from tests.gateway.cluster import House, opened
from tests.hub.harness import Client
from tests.stepup import proven

pytestmark = pytest.mark.requirement("A05", "A03")

MARK, LATER = "canary-in-a-message", "canary-that-came-later"
WAYS = (
    "pushed",
    "typing",
    "paged",
    "resumed",
    "streams",
    "called",
    "history",
    "get",
    "list",
    "members",
    "readers",
)


@pytest.fixture
async def house(database: str, tmp_path: Path) -> AsyncIterator[House]:
    async with opened(database, tmp_path, nodes=2, webhook_http=True, webhook_private=True) as house:
        yield house


@dataclass
class Viewer:
    """Somebody on node 1, in one of their enterprises, with a hub session that began before anything was said."""

    house: House
    login: str
    enterprise: str
    token: str
    person: str
    line: Client

    async def call(self, name: str, /, **fields: Any) -> tuple[int, str]:
        """Over HTTP: status and text."""
        return await self._ask(name, fields, {})

    async def _ask(self, name: str, fields: dict[str, Any], more: dict[str, str]) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {self.token}", **more}
        url = f"{self.house.nodes[1].http}/v1/{name}"
        async with self.house.http.post(url, json=fields, headers=headers) as answer:
            return answer.status, await answer.text()

    async def confirmed(self, name: str, /, **fields: Any) -> tuple[int, str]:
        """The same, for what is confirmed first."""
        node = self.house.nodes[1]
        number = await proven(node.runtime, node.gateway.parts.tokens.verify(self.token), name, fields)
        return await self._ask(name, fields, {} if number is None else {"Step-Up": str(number)})

    async def done(self, name: str, /, **fields: Any) -> Any:
        status, text = await self.confirmed(name, **fields)
        assert status == 200, (name, text)
        return json.loads(text)


@asynccontextmanager
async def line(
    house: House, token: str, device: str, resume: dict[str, int] | None = None
) -> AsyncIterator[Client]:
    """A hub session on node 1 that keeps all that comes."""
    ws = await websockets.connect(
        house.nodes[1].hub, subprotocols=[Subprotocol("bankhub.v1.msgpack")], compression=None
    )
    client = Client(ws, 0)
    try:
        await client.send(1, 1, token, device, None, resume)
        await client.until(2)
        yield client
    finally:
        await client.close()


async def viewer(house: House, stack: AsyncExitStack, login: str, enterprise_id: int | None = None) -> Viewer:
    person = house.people[login]
    fields: dict[str, Any] = {"login": login, "password": person.password, "device": f"d-{enterprise_id}"}
    if enterprise_id is not None:
        fields["enterprise_id"] = str(enterprise_id)
    body = await house.post("gateway.identity.login", fields)
    token = body["access_token"]
    client = await stack.enter_async_context(line(house, token, f"d-{enterprise_id}"))
    return Viewer(
        house, login, str(body["enterprise"]["enterprise_id"]), token, str(person.person_id), client
    )


async def seen(v: Viewer, conversation: str, mark: str, owner: str, seq: int) -> dict[str, bool]:
    """On which ways this viewer gets the marked message, or learns of the conversation at all."""
    await v.line.ask(19)  # what was pushed before is here now
    found: dict[str, bool] = {
        "pushed": any(f[0] == 7 and mark in str(f) for f in v.line.frames),
        "typing": any(f[0] == 17 and conversation in str(f) for f in v.line.frames),
        "paged": mark in str(await v.line.ask(3, conversation, 0, 200)),
        "streams": conversation in str(await v.line.ask(3, "streams", 0, 200)),
        "called": mark in str(await v.line.ask(15, "im.messages.history", {"conversation_id": conversation})),
    }
    async with line(v.house, v.token, "another", {conversation: seq - 1}) as again:
        await again.ask(19)
        found["resumed"] = any(f[0] == 7 and mark in str(f) for f in again.frames)
    asked = {"conversation_id": conversation}
    found["history"] = mark in (await v.call("im.messages.history", **asked))[1]
    found["get"] = "canary-title" in (await v.call("im.conversations.get", **asked))[1]
    found["list"] = conversation in (await v.call("im.conversations.list"))[1]
    found["members"] = owner in (await v.call("im.conversations.members", **asked))[1]
    found["readers"] = (await v.call("im.messages.readers", **asked, seq=seq))[0] == 200
    assert set(found) == set(WAYS)
    return found


async def test_a_message_is_seen_on_every_way_or_on_none(house: House) -> None:
    ours, theirs = house.people["chenjing"].enterprise_id, house.people["zhoutao"].enterprise_id
    async with AsyncExitStack() as stack:
        owner = await viewer(house, stack, "chenjing")
        members = [await viewer(house, stack, "yangmin"), await viewer(house, stack, "lina", ours)]
        removed = await viewer(house, stack, "zhaolei")
        strangers = [
            removed,
            await viewer(house, stack, "huangting"),  # a colleague who is not in it
            await viewer(
                house, stack, "lina", theirs
            ),  # who is in it, with her session in the other enterprise
            await viewer(house, stack, "zhoutao"),
            await viewer(house, stack, "wuxia"),
        ]
        people = [*(one.person for one in members), removed.person]
        group = await owner.done("im.conversations.create_group", title="canary-title", members=people)
        conversation = str(group["conversation_id"])
        await owner.done(
            "im.conversations.remove_member", conversation_id=conversation, person_id=removed.person
        )

        async def say(text: str, key: str, within: list[Viewer]) -> int:
            sent = await owner.done(
                "im.messages.send", conversation_id=conversation, key=key, body={"text": text}
            )
            for one in within:
                await one.line.when(lambda f: f[0] == 7 and text in str(f))
            await owner.line.send(17, 0, conversation, "typing", True)
            for one in within:
                await one.line.when(lambda f: f[0] == 17 and conversation in str(f))
            return int(sent["seq"])

        seq = await say(MARK, "k" * 12, members)
        for one in members:
            assert await seen(one, conversation, MARK, owner.person, seq) == dict.fromkeys(WAYS, True), (
                one.login
            )
        for one in strangers:
            assert await seen(one, conversation, MARK, owner.person, seq) == dict.fromkeys(WAYS, False), (
                one.login
            )

        twin = {"conversation_id": conversation, "person_id": members[0].person}
        await owner.done("im.conversations.remove_member", **twin)
        seq = await say(LATER, "l" * 12, members[1:])
        gone = await seen(members[0], conversation, LATER, owner.person, seq)
        gone.pop("typing")  # it was told of the earlier one, when it was a member
        assert set(gone.values()) == {False}, "from one moment to the next, on every way"
        status, _ = await owner.call(
            "im.conversations.add_members", conversation_id=conversation, members=["1"]
        )
        assert status == 404


async def test_people_are_known_within_their_enterprise_on_every_way_or_on_none(house: House) -> None:
    ours, theirs = house.people["chenjing"].enterprise_id, house.people["zhoutao"].enterprise_id
    async with AsyncExitStack() as stack:
        target = await viewer(house, stack, "chenjing")

        async def ways(v: Viewer) -> dict[str, bool]:
            watched = (await v.line.ask(18, [target.person]))[2]
            called = await v.line.ask(15, "gateway.identity.list_members", {})
            names = await v.done("gateway.identity.names", person_ids=[target.person])
            return {
                "presence": watched == [[target.person, True]],
                "called": target.person in str(called),
                "members": target.person in str(await v.done("gateway.identity.list_members")),
                "names": "陈静" in str(names),
                "direct": (await v.call("im.conversations.open_direct", person_id=target.person))[0] == 200,
            }

        for login, where, expected in (
            ("huangting", ours, True),
            ("lina", ours, True),
            ("lina", theirs, False),
            ("zhoutao", theirs, False),
            ("wuxia", theirs, False),
        ):
            found = await ways(await viewer(house, stack, login, where))
            assert set(found.values()) == {expected}, (login, found)


async def test_copies_are_of_ones_own_data_and_for_oneself(house: House) -> None:
    async with AsyncExitStack() as stack:
        owner = await viewer(house, stack, "huangting")
        others = [await viewer(house, stack, login) for login in ("wangfang", "zhoutao")]
        task = str((await owner.done("gateway.privacy.request_export"))["task_id"])
        async with asyncio.timeout(30):
            while (await owner.confirmed("gateway.privacy.fetch_export", task_id=task))[0] != 200:
                await asyncio.sleep(0.05)
        copy = await owner.done("gateway.privacy.fetch_export", task_id=task)
        assert "黄婷" in str(copy)
        for stranger in ("周涛", "陈静", str(house.people["zhoutao"].enterprise_id)):
            assert stranger not in str(copy)
        over_hub = await owner.line.ask(15, "gateway.privacy.fetch_export", {"task_id": task})
        assert over_hub[2] == "forbidden", "not without having confirmed it"
        for one in others:
            assert (await one.confirmed("gateway.privacy.fetch_export", task_id=task))[0] == 404
            assert (await one.line.ask(15, "gateway.privacy.fetch_export", {"task_id": task}))[
                2
            ] == "forbidden"
            assert (await one.done("gateway.privacy.tasks")) == []


async def test_machines_hear_of_their_own_enterprise_only(house: House) -> None:
    got: dict[str, list[Any]] = {"/ours": [], "/theirs": []}

    async def take(request: web.Request) -> web.Response:
        got[request.path].append(await request.json())
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/{place}", take)
    async with AsyncExitStack() as stack:
        server = TestServer(app)
        await server.start_server()
        stack.push_async_callback(server.close)
        bosses = {"/ours": "wangfang", "/theirs": "zhoutao"}
        admins = {path: await viewer(house, stack, login) for path, login in bosses.items()}
        for path, admin in admins.items():
            url = str(server.make_url(path))
            await admin.done("gateway.webhooks.add", url=url, events=["gateway.member_added"])
        for turn in range(2):
            for path, admin in admins.items():
                phone = f"1381234{turn}0{len(path):02d}"
                fields = {
                    "phone": phone,
                    "name": "新人",
                    "roles": ["employee"],
                }
                await admin.done("gateway.identity.add_member", **fields)
                async with asyncio.timeout(30):
                    while len(got[path]) <= turn:
                        await asyncio.sleep(0.02)
        for path, admin in admins.items():
            assert len(got[path]) == 2
            assert {one["data"]["enterprise_id"] for one in got[path]} == {admin.enterprise}
