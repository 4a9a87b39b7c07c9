"""Sessions: HELLO and its refusals, limits, heartbeats, ends. The codes are those of docs/protocol.md."""

from __future__ import annotations

import json

import msgpack
import pytest
import websockets
from websockets.typing import Origin, Subprotocol

from core.actions import Principal
from core.errors import Conflict
from hub.wire.close import Bye
from hub.wire.frames import Call
from tests.hub.harness import World


async def test_welcome_says_who_and_what(world: World) -> None:
    await world.node("a")
    client = await world.client("a", 5)
    welcome = await client.until(2)
    assert welcome[1] == 1
    assert welcome[3:6] == ["5", "1", ["employee"]]
    assert abs(welcome[6] - world.clock.now_ms()) < 5_000
    listed = await client.ask(3, "streams", 0, 200)
    inbox = next(entry for entry in listed[5] if entry["stream"] == "inbox")
    assert welcome[7] == {key: inbox[key] for key in ("epoch", "head", "read")}
    assert welcome[8] == 25
    assert welcome[10]["base_ms"] < welcome[10]["cap_ms"]


async def test_a_bad_token_is_told_and_closed(world: World) -> None:
    await world.node("a")
    client = await world.client("a", 1, hello=False)
    await client.send(1, 1, "nonsense", "device")
    bye = await client.until(22)
    assert bye[2:5] == [4500, "Please log in.", False]
    assert await client.gone() == 4500


@pytest.mark.parametrize(
    "frame", [[3, 1, "streams"], [5, 1, "7", "k", "text", "hi"], [15, 1, "im.x", {}], [99, 1], [1, 1]]
)
async def test_nothing_comes_before_hello(world: World, frame: list[object]) -> None:
    await world.node("a")
    client = await world.client("a", 1, hello=False)
    await client.send(*frame)
    assert await client.gone() == 4501


@pytest.mark.requirement("W04")
async def test_who_says_nothing_is_closed(world: World) -> None:
    await world.node("a", hello_s=1.0)
    client = await world.client("a", 1, hello=False)
    assert await client.gone() == 4502


async def test_the_same_device_is_replaced_on_the_same_and_on_another_node(world: World) -> None:
    await world.node("a")
    await world.node("b")
    first = await world.client("a", 1, device="phone")
    second = await world.client("a", 1, device="phone")
    assert await first.gone() == 4503
    third = await world.client("b", 1, device="phone")
    assert await second.gone() == 4503
    assert (await third.ask(19, 0))[0] == 19


async def test_too_many_devices_of_one_person(world: World) -> None:
    await world.node("a", connections_per_person=2)
    await world.client("a", 1, device="d1")
    await world.client("a", 1, device="d2")
    third = await world.client("a", 1, device="d3", hello=False)
    await third.send(1, 1, "1:1", "d3")
    assert await third.gone() == 4504


async def test_a_member_who_left_is_refused_and_closed_everywhere(world: World) -> None:
    a = await world.node("a")
    here = await world.client("a", 1)
    elsewhere = await world.client("a", 1, device="d2", enterprise=7)
    world.gate.left.add((1, 1))
    a.close_sessions(1, 1, 0, Bye.LEFT_ENTERPRISE, "left")
    assert await here.gone() == 4511
    again = await world.client("a", 1, hello=False)
    await again.send(1, 1, "1:1", "d3")
    assert await again.gone() == 4511
    assert (await elsewhere.ask(19, 0))[0] == 19


async def test_ping_is_answered_and_silence_is_noticed(world: World) -> None:
    await world.node("a", ping_s=2.0, pong_s=2.0)
    client = await world.client("a", 1)
    assert (await client.ask(19, 0))[0] == 19
    client.answers_pings = False
    ping = await client.when(lambda f: f[0] == 19 and f[1] == 0)
    assert abs(ping[2] - world.clock.now_ms()) < 2_000
    assert await client.gone() == 4012


@pytest.mark.requirement("S03")
async def test_refresh_keeps_a_session_beyond_its_token(world: World) -> None:
    await world.node("a", ping_s=1.0)
    world.gate.expires_ms = world.clock.now_ms() + 1_500
    client, other = await world.client("a", 1), await world.client("a", 2)
    world.gate.expires_ms = 4_000_000_000_000
    assert (await client.ask(20, "1:1"))[2] == {"expires_ms": 4_000_000_000_000}
    assert (await client.ask(20, "2:1"))[2] == "forbidden"
    assert (await client.ask(20, "nonsense"))[2] == "unauthenticated"
    assert await other.gone() == 4500
    assert (await client.ask(19, 0))[0] == 19


async def test_sends_and_frames_are_limited(world: World) -> None:
    await world.node("a", sends_per_s=5, sends_burst=5, frames_per_s=50, frames_burst=50)
    room = await world.conversation(1, 2)
    client = await world.client("a", 1)
    answers = [await client.say(room, f"{n}") for n in range(8)]
    refused = [answer for answer in answers if answer[0] == 21]
    assert refused
    assert all(answer[2] == "too_many_requests" and answer[4] and answer[5] > 0 for answer in refused)
    await client.ws.send(msgpack.packb([[19, n] for n in range(100, 164)]))
    over = await client.when(lambda f: f[0] == 21 and f[1] >= 100)
    assert over[2] == "too_many_requests"


async def test_again_and_again_over_the_limit_ends_the_session(world: World) -> None:
    await world.node("a", refusals_before_bye=50)
    client = await world.client("a", 1)
    for _ in range(10):
        await client.ws.send(msgpack.packb([[19, n] for n in range(100, 164)]))
    bye = await client.until(22)
    assert bye[2] == 4013
    assert bye[4] is True
    assert bye[5] > 0


async def test_a_flood_of_websocket_pings_is_a_flood(world: World) -> None:
    await world.node("a", refusals_before_bye=50)
    client, other = await world.client("a", 1), await world.client("a", 2)
    for _ in range(600):
        await client.ws.ping()
    assert await client.gone() == 4013
    assert (await other.ask(19, 0))[0] == 19


async def test_draining_spreads_the_clients(world: World) -> None:
    node = await world.node("a")
    clients = [await world.client("a", person) for person in range(1, 9)]
    await node.drain(10.0)
    byes = [await client.until(22) for client in clients]
    assert {bye[2] for bye in byes} == {4001}
    assert len({bye[5] for bye in byes}) > 1
    assert all(0 <= bye[5] <= 10_000 for bye in byes)
    with pytest.raises(websockets.InvalidStatus):
        await world.client("a", 1)


async def test_the_json_subprotocol_says_the_same(world: World) -> None:
    await world.node("a")
    room = await world.conversation(1, 2)
    packed = await world.client("a", 2)
    async with websockets.connect(
        f"ws://127.0.0.1:{world.ports['a']}/", subprotocols=[Subprotocol("bankhub.v1.json")], compression=None
    ) as ws:
        frames: list[list[object]] = []

        async def until(op: int) -> list[object]:
            while not any(f[0] == op for f in frames):
                frames.extend(json.loads(await ws.recv()))
            return next(f for f in frames if f[0] == op)

        await ws.send(json.dumps([[1, 1, "1:1", "browser"]]))
        await until(2)
        await ws.send(json.dumps([[5, 2, room, f"{room}-json", "text", {"text": "汇款已到"}]]))
        sent, entry = await until(6), await until(7)
        assert entry[8] == {"text": "汇款已到"}
        assert sent[8] == entry[9]
        other = await packed.when(lambda f: f[0] == 7 and f[6] == "text")
        assert other[8] == {"text": "汇款已到"}
        await ws.send(json.dumps([[3, 3, room, 0, 10]]))
        page = await until(4)
        assert page[5][-1] == entry[2:]  # type: ignore[index]


@pytest.mark.requirement("W01")
@pytest.mark.parametrize(
    ("origin", "subprotocol", "status"),
    [
        ("https://evil.example", "bankhub.v1.msgpack", 403),
        ("null", "bankhub.v1.msgpack", 403),
        ("https://bank.example.evil.example", "bankhub.v1.msgpack", 403),
        ("http://bank.example", "bankhub.v1.msgpack", 403),
        ("https://127.0.0.1.evil.example", "bankhub.v1.msgpack", 403),
        ("file://127.0.0.1", "bankhub.v1.msgpack", 403),
        ("http://127.0.0.1", "bankhub.v1.msgpack", 403),
        ("http://127.0.0.1:9", "bankhub.v1.msgpack", 403),
        ("https://127.0.0.1:{port}", "bankhub.v1.msgpack", 403),
        ("http://evil.example@127.0.0.1:{port}", "bankhub.v1.msgpack", 403),
        ("http://127.0.0.1:{port}.evil.example", "bankhub.v1.msgpack", 403),
        (None, "bankhub.v2.msgpack", 400),
        (None, None, 400),
    ],
)
async def test_handshakes_that_are_refused(
    world: World, origin: str | None, subprotocol: str | None, status: int
) -> None:
    await world.node("a")
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(
            f"ws://127.0.0.1:{world.ports['a']}/",
            origin=None if origin is None else Origin(origin.format(port=world.ports["a"])),
            subprotocols=None if subprotocol is None else [Subprotocol(subprotocol)],
            compression=None,
        )
    assert refused.value.response.status_code == status


async def test_a_call_is_answered_or_refused(world: World) -> None:
    async def call(principal: Principal, frame: Call, address: str) -> object:
        if frame.action == "refuse":
            raise Conflict("no", detail={"why": "not"})
        return {"you": str(principal.person_id), "params": frame.params, "key": frame.key}

    await world.node("a", call=call)
    client = await world.client("a", 1)
    assert (await client.ask(15, "do", {"x": 1}, "key-1", 1000))[2] == {
        "you": "1",
        "params": {"x": 1},
        "key": "key-1",
    }
    assert (await client.ask(15, "refuse", {}))[2:7] == ["conflict", "no", False, 0, {"why": "not"}]


@pytest.mark.requirement("W01")
@pytest.mark.parametrize("origin", ["https://bank.example", "http://127.0.0.1:{port}"])
async def test_pages_of_the_same_origin_and_configured_ones_may_connect(world: World, origin: str) -> None:
    await world.node("a")
    async with websockets.connect(
        f"ws://127.0.0.1:{world.ports['a']}/",
        origin=Origin(origin.format(port=world.ports["a"])),
        subprotocols=[Subprotocol("bankhub.v1.msgpack")],
        compression=None,
    ) as ws:
        assert ws.subprotocol == "bankhub.v1.msgpack"
