"""Messages that carry files, by the action and by the hub: one message, one reference, one transaction."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.db import Transaction
from core.errors import Conflict, Invalid, NotFound
from hub.api import Asked
from im import api
from tests import shelf
from tests.im.conftest import World
from tests.sim.doubles import FileRow


async def put(world: World, person: int = 1, *, ready: bool = True, name: str = "报表.pdf") -> dict[str, Any]:
    """A file of a person; the body of a message with it."""
    file_id = world.runtime.ids.next()
    await shelf.put(world.runtime.db, file_id, FileRow(1, person, name, ready))
    return {"file_id": str(file_id), "name": name, "size": 5, "type": "application/pdf"}


def sending(i: int, key: str, body: dict[str, Any], kind: str = "file") -> api.Send:
    return api.Send(conversation_id=i, key=key, kind=kind, body=body)


async def references(world: World, *rooms: int) -> list[tuple[int, int, int]]:
    return [r for r in (await shelf.kept(world.runtime.db))[1] if r[1] in rooms]


async def clean_up(world: World, body: dict[str, Any]) -> bool:
    async def step(tx: Transaction) -> bool:
        return await world.files.clean_up(tx, int(body["file_id"]))

    return await world.runtime.db.run(step)


async def test_the_same_key_is_the_same_message_with_one_reference_on_both_ways_in(world: World) -> None:
    i = await world.group(1, 2)
    client = await world.client(1)
    one, two = await put(world), await put(world)
    by_action = await world.call(1, sending(i, f"a-{i}", one))
    by_hub = await client.ask(5, str(i), f"b-{i}", "file", two | {"caption": "请看"}, None)
    assert by_hub[0] == 6
    assert not by_action.duplicate
    world.files.asked.clear()
    again = await client.ask(5, str(i), f"a-{i}", "file", one, None)
    twice = await world.call(1, sending(i, f"b-{i}", two | {"caption": "请看"}))
    assert (again[4], again[7]) == (by_action.seq, True)
    assert (twice.seq, twice.duplicate) == (by_hub[4], True)
    assert world.files.asked == []  # what was answered once is answered, and not asked
    assert await references(world, i) == sorted(
        [(int(one["file_id"]), i, by_action.seq), (int(two["file_id"]), i, by_hub[4])]
    )
    shown = (await world.call(2, api.History(conversation_id=i))).entries[-1]
    assert (shown.kind, shown.body) == ("file", two | {"caption": "请看"})
    await world.check_chains()


async def test_a_file_that_is_not_ones_own_not_ready_or_something_else_is_refused_on_both_ways(
    world: World,
) -> None:
    i = await world.group(1, 2)
    client = await world.client(1)
    theirs, unready, mine = await put(world, 2), await put(world, ready=False), await put(world)
    for number, (body, error) in enumerate(
        (
            (theirs, NotFound),
            (unready, Conflict),
            (mine | {"name": "工资.pdf"}, Conflict),
            (mine | {"x": 1}, Invalid),
        )
    ):
        with pytest.raises(error):
            await world.call(1, sending(i, f"n-{i}-{number}", body))
        answer = await client.ask(5, str(i), f"n-{i}-{number}", "file", body, None)
        assert (answer[0], answer[2]) == (21, error.code)
    assert len(await world.entries(i)) == 2
    assert await references(world, i) == []
    assert world.files.asked[-1] == Asked(1, 1, "file", mine | {"name": "工资.pdf"}, (int(mine["file_id"]),))


@pytest.mark.parametrize("way", ["action", "hub"])
async def test_a_recall_by_either_way_releases_once(world: World, way: str) -> None:
    i, other = await world.group(1, 2), await world.group(1, 2)
    client = await world.client(1)
    body = await put(world)
    sent = await world.call(1, sending(i, f"k-{i}", body))
    kept = await world.call(1, sending(other, f"k-{other}", body))
    said = await world.say(1, i, "没有文件")

    async def recall(seq: int, key: str) -> str:
        if way == "hub":
            answer = await client.ask(10, str(i), seq, f"{key}-{i}", "recall", None)
            return "done" if answer[0] == 6 else answer[2]
        try:
            await world.call(1, api.Recall(conversation_id=i, seq=seq, key=f"{key}-{i}"))
        except Conflict as error:
            return error.code
        return "done"

    answers = await asyncio.gather(recall(sent.seq, "r"), recall(sent.seq, "r"), recall(sent.seq, "s"))
    assert sorted(answers) in (["conflict", "done", "done"], ["conflict", "conflict", "done"])
    assert await recall(said.seq, "t") == "done"
    _, _, released = await shelf.kept(world.runtime.db)
    assert [r for r in released if r[0] in (i, other)] == [(i, sent.seq)]
    assert await references(world, i, other) == [(int(body["file_id"]), other, kept.seq)]
    assert not await clean_up(world, body)
    await world.call(1, api.Recall(conversation_id=other, seq=kept.seq, key=f"r-{other}"))
    assert await clean_up(world, body)
    with pytest.raises(NotFound):
        await world.call(1, sending(i, f"again-{i}", body))
    await world.check_chains()


async def test_every_kind_arrives_as_it_was_sent(world: World) -> None:
    i = await world.group(1, 2)
    reader = await world.client(2)
    bodies = {
        "file": await put(world),
        "image": await put(world) | {"type": "image/png", "width": 640, "height": 480},
        "voice": await put(world) | {"type": "audio/ogg", "duration_ms": 3_000},
        "video": await put(world) | {"type": "video/mp4", "width": 640, "height": 480, "duration_ms": 9_000},
    }
    for kind, body in bodies.items():
        await world.call(1, sending(i, f"{kind}-{i}", body, kind))
    for kind, body in bodies.items():
        push = await reader.when(lambda f, kind=kind: f[0] == 7 and f[6] == kind)  # type: ignore[misc]
        assert push[8] == body
