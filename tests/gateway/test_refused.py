"""Who is refused before any action begins leaves a record: at the hub, at the HTTP edge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.typing import Origin, Subprotocol

from core.db import Sql
from core.runtime import Runtime
from tests.device import Device
from tests.gateway.cluster import House, opened
from tests.gateway.conftest import World
from tests.gateway.test_devices import Phone

pytestmark = pytest.mark.requirement("D04")

_ROWS = Sql("SELECT * FROM core_audit WHERE audit_id > $1 ORDER BY audit_id", None, "tests")


async def since(runtime: Runtime, before: int) -> list[Any]:
    """Rows of refusals that were written after this id."""
    await runtime.refusals.flush(counts=True)
    return [row for row in await runtime.db.fetch(_ROWS, before) if row["outcome"] != "ok"]


def seen(found: list[Any]) -> list[tuple[str, str, int, int]]:
    return [(row["action"], row["outcome"], row["enterprise_id"], row["person_id"]) for row in found]


@pytest.fixture
async def house(database: str, tmp_path: Path) -> AsyncIterator[House]:
    async with opened(database, tmp_path, nodes=1) as house:
        yield house


@pytest.fixture
def more_settings() -> dict[str, Any]:
    return {"gateway_metrics_token": "a token that only the collector of metrics has"}


async def test_at_the_hub(house: House) -> None:
    node, device, person = house.nodes[0], Device(), house.people["yangmin"]
    runtime, whose = node.runtime, (person.enterprise_id, person.person_id)
    token = (await house.login("yangmin", device, "phone"))["access_token"]
    before = runtime.ids.next()

    assert await house.hello(0, "not a token", None) == (22, 4500)
    assert await house.hello(0, token[:-4] + "AAAA", None) == (22, 4500)
    assert await house.hello(0, token, None) == (22, 4500)
    (nobody, counted, stolen) = sorted(await since(runtime, before), key=lambda row: row["person_id"])
    assert seen([nobody, counted, stolen]) == [
        ("hub.hello", "unauthenticated", 0, 0),
        ("hub.hello", "unauthenticated", 0, 0),
        ("hub.hello", "bad_proof", *whose),
    ], "whose token a thief without the key has is told to whom it belongs"
    assert (nobody["address"], nobody["edge"], nobody["device"]) == ("127.0.0.1", "hub", "by-hand")
    assert counted["object_id"] == "+1"

    before = runtime.ids.next()
    proof = house.proof(device, "HELLO", node.hub, token)
    assert (await house.hello(0, token, proof))[0] == 2
    assert await house.hello(0, token, proof) == (22, 4500)
    assert seen(await since(runtime, before)) == [("hub.hello", "replayed", *whose)]

    plain = (await house.login("lina", None, "terminal"))["access_token"]
    before, lina = runtime.ids.next(), house.people["lina"]
    await runtime.db.execute(
        Sql("UPDATE gateway_sessions SET ended_at = created_at WHERE person_id = $1", None, "tests"),
        lina.person_id,
    )
    assert await house.hello(0, plain, None) == (22, 4512)
    await runtime.db.execute(
        Sql("UPDATE gateway_memberships SET state = 'ended' WHERE person_id = $1", None, "tests"),
        lina.person_id,
    )
    assert await house.hello(0, plain, None) == (22, 4511)
    gone = (lina.enterprise_id, lina.person_id)
    assert seen(await since(runtime, before)) == [
        ("hub.hello", "revoked", *gone),
        ("hub.hello", "left", *gone),
    ]


async def test_inside_a_hub_session_and_from_a_foreign_page(house: House) -> None:
    runtime, boss = house.nodes[0].runtime, house.people["zhangwei"]
    mine = await house.login("zhangwei", None, "desk")
    socket = await house.socket(0, mine["access_token"], "desk")
    before, whose = runtime.ids.next(), (boss.enterprise_id, boss.person_id)
    assert (await socket.ask(20, "not a token"))[2] == "unauthenticated"
    assert (await socket.ask(5, "inbox", "k" * 8, "text", "to myself"))[2] == "forbidden"
    assert (await socket.ask(5, "123456789", "l" * 8, "text", "to others"))[2] == "not_found"
    assert (await socket.ask(3, "123456789", 0, 10))[2] == "not_found", (
        "a read that finds nothing is no refusal"
    )
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(
            house.nodes[0].hub,
            origin=Origin("https://evil.example"),
            subprotocols=[Subprotocol("bankhub.v1.msgpack")],
        )
    assert sorted(seen(await since(runtime, before))) == [
        ("hub.connect", "forbidden", 0, 0),
        ("hub.refresh", "unauthenticated", *whose),
        ("hub.send", "forbidden", *whose),
        ("hub.send", "not_found", *whose),
    ]


async def test_at_the_http_edge(world: World) -> None:
    runtime, client = world.runtime, world.client
    whose = (world.people["wangfang"].enterprise_id, world.people["wangfang"].person_id)
    phone = Phone(world, "wangfang")
    await phone.login()
    access = phone.body["access_token"]
    app_page = {"Origin": "https://evil.example"}
    before = runtime.ids.next()
    me = "gateway.identity.me"
    answer = await client.call(me, token="not a token")
    assert answer.status == 401
    assert (await client.call(me)).status == 401
    assert (await client.call("gateway.no.such_thing", token="not a token")).status == 401
    assert (await client.call(me, token=access)).status == 401
    assert (await client.call(me, **app_page)).status == 403
    async with client.session.get(f"{client.url}/metrics") as metrics:
        assert metrics.status == 401
    found = await since(runtime, before)
    assert sorted(seen(found)) == [
        ("gateway.identity.me", "bad_proof", *whose),
        ("gateway.identity.me", "unauthenticated", 0, 0),
        ("gateway.identity.me", "unauthenticated", 0, 0),
        ("gateway.metrics", "unauthenticated", 0, 0),
        ("gateway.origin", "forbidden", 0, 0),
        ("gateway.unknown", "unauthenticated", 0, 0),
    ], "names that nobody declared are one kind: a guesser does not choose what is written"
    first = next(row for row in found if row["action"] == me and not row["person_id"])
    assert first["trace_id"] == answer.body["trace_id"]
    assert (first["address"], first["edge"]) == ("127.0.0.1", "http")
    text = str([dict(row) for row in found])
    assert "not a token" not in text
    assert access not in text


async def test_whose_ended_session_was_tried_is_on_record(world: World) -> None:
    """A token of a session that is over names its person, and says what became of the session."""
    token, person = (await world.login("zhaolei", "another"))["access_token"], world.people["zhaolei"]
    assert (await world.client.call("gateway.identity.logout", token=token)).status == 200
    before = world.runtime.ids.next()
    assert (
        await world.client.call("gateway.departments.create", {"name": "仓库"}, token=token)
    ).status == 401
    assert seen(await since(world.runtime, before)) == [
        ("gateway.departments.create", "revoked", person.enterprise_id, person.person_id)
    ]
