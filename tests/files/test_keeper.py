"""Files that come at one moment share a transaction; what becomes of one is no other's business."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from core import failpoints
from core.db import sql
from files.doors.admission import AT_ONCE_BYTES
from files.uploads import keeper
from tests.files.conftest import World

DATA = b"no,row\n" + b"".join(b"%06d,row\n" % n for n in range(400))

_AUDIT = sql(
    "SELECT object_id, outcome FROM core_audit WHERE action = 'files.uploads.keep'",
    exempt="a test looks at all of it",
)
_FILES = sql("SELECT file_id, enterprise_id, person_id FROM files_files", exempt="a test looks at all of it")
_CONTENTS = sql(
    "SELECT content_id, state, wrapped_key FROM files_contents", exempt="a test looks at all of it"
)
_MEMBER = sql("UPDATE gateway_memberships SET state = $3 WHERE enterprise_id = $1 AND person_id = $2")
_SEAL = sql(
    "INSERT INTO files_policies (enterprise_id, own_key, quota_bytes, person_quota_bytes, changed_by, changed_at) "
    "VALUES ($1, 1, NULL, NULL, 1, $2)"
)


@pytest.fixture(autouse=True)
def harmless() -> Iterator[None]:
    yield
    failpoints.disarm()


@pytest.fixture
def more_settings() -> dict[str, Any]:
    return {"files_uploads_at_once": 64}


@pytest.fixture
def sizes(world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files each transaction was about."""
    seen: list[int] = []
    together = keeper.Keeper._together

    async def counted(self: Any, tx: Any, group: Any, **given: Any) -> Any:
        seen.append(len(group))
        return await together(self, tx, group, **given)

    monkeypatch.setattr(keeper.Keeper, "_together", counted)
    return seen


async def known(world: World, *people: str) -> None:
    """They are logged in, and the door knows about their enterprise, so that what follows arrives at one moment."""
    for who in people:
        await world.ready("first.csv", DATA + who.encode() + b"\n", who=who)


Given = list[tuple[str, str, bytes, dict[str, str]]]


async def sent(world: World, given: Given) -> list[Any]:
    """All of these side by side."""
    return await asyncio.gather(
        *(world.upload(name, data, who=who, **more) for who, name, data, more in given)
    )


async def together(world: World, sizes: list[int], given: Given) -> list[Any]:
    """The same, in two groups: the first transaction is held until everybody else waits for the second."""
    sizes.clear()

    async def hold() -> None:
        async with asyncio.timeout(20):
            while sizes[0] + len(world.service.keeper._pending) < len(given):
                await asyncio.sleep(0.005)

    failpoints.arm("files.before_commit", hold, at=1)
    answers = await sent(world, given)
    failpoints.disarm()
    assert sizes[0] + sizes[1] == len(given)
    return answers


async def test_a_refusal_in_a_group_is_of_one_alone(world: World, sizes: list[int]) -> None:
    await known(world, "zhangwei", "lina")
    used = await world.upload("k.csv", DATA + b"k\n", Idempotency_Key="taken")
    assert used.status == 201
    given: Given = [("zhangwei", f"{n}.csv", DATA + b"%d\n" % n, {}) for n in range(8)]
    wrong = ("zhangwei", "k.csv", DATA + b"other\n", {"Idempotency_Key": "taken"})
    again = ("zhangwei", "k.csv", DATA + b"k\n", {"Idempotency_Key": "taken"})
    answers = await sent(world, [*given[:4], wrong, again, *given[4:], ("lina", "l.csv", DATA + b"l\n", {})])
    assert [a.status for a in answers] == [201, 201, 201, 201, 409, 201, 201, 201, 201, 201, 201]
    assert answers[5].json["file_id"] == used.json["file_id"]


async def test_who_may_not_send_any_more_is_refused_alone(world: World, sizes: list[int]) -> None:
    await known(world, "zhangwei", "yangmin")
    person = world.people["yangmin"]
    place = (person.enterprise_id, person.person_id)
    assert await world.runtime.db.execute(_MEMBER, *place, "removed") == 1
    try:
        given: Given = [("zhangwei", f"{n}.csv", DATA + b"%d\n" % n, {}) for n in range(4)]
        answers = await sent(world, [*given, ("yangmin", "y.csv", DATA + b"y\n", {})])
    finally:
        await world.runtime.db.execute(_MEMBER, *place, "active")
        world.runtime.access.forget(person.person_id, person.enterprise_id)
    assert [a.status for a in answers] == [201, 201, 201, 201, 403]


async def test_many_of_two_enterprises_at_once(world: World, sizes: list[int]) -> None:
    people = ["zhangwei", "wangfang", "chenjing", "yangmin", "zhoutao", "wuxia"]
    assert len({world.people[login].enterprise_id for login in people}) == 2
    await known(world, *people)
    given: Given = [
        (people[n % len(people)], f"{n}.csv", DATA + b"same %d\n" % (n % 8 if n < 32 else n), {})
        for n in range(64)
    ]
    answers = await together(world, sizes, given)
    assert Counter(a.status for a in answers) == {201: 64}
    for (who, name, data, _), answer in zip(given, answers, strict=True):
        assert answer.json["name"] == name
        assert answer.json["uploaded_by"] == str(world.people[who].person_id)
        assert answer.json["state"] == "ready"
        assert (
            await world.call("files.library.get", {"file_ids": [answer.json["file_id"]]}, who=who)
        ).json == [answer.json]
        assert (await world.ask("GET", f"/files/{answer.json['file_id']}", who=who)).body == data
    rows = Counter(row["object_id"] for row in await world.runtime.db.fetch(_AUDIT) if row["outcome"] == "ok")
    files = await world.runtime.db.fetch(_FILES)
    assert [rows[str(row["file_id"])] for row in files] == [1] * len(files)
    for who in people:
        usage, person = (await world.call("files.room.usage", who=who)).json, world.people[who]
        theirs = [row["person_id"] for row in files if row["enterprise_id"] == person.enterprise_id]
        assert usage["enterprise_files"] == len(theirs)
        assert usage["person_files"] == theirs.count(person.person_id)


async def test_what_was_not_committed_is_not_there_and_what_was_is_found_by_its_key(world: World) -> None:
    await known(world, "zhangwei")
    before = (await world.call("files.room.usage")).json
    files = len(await world.runtime.db.fetch(_FILES))
    failpoints.arm("files.before_commit", "error")
    given: Given = [
        ("zhangwei", f"{n}.csv", DATA + b"%d\n" % n, {"Idempotency_Key": f"h{n}"}) for n in range(6)
    ]
    assert {a.status for a in await sent(world, given)} <= {500, 504}  # 504: its turn came too late
    failpoints.disarm()
    assert len(await world.runtime.db.fetch(_FILES)) == files
    assert (await world.call("files.room.usage")).json == before
    failpoints.arm("files.row_before_answer", "error")
    assert {a.status for a in await sent(world, given)} == {500}
    failpoints.disarm()
    there = {row["file_id"] for row in await world.runtime.db.fetch(_FILES)}
    assert len(there) == files + 6
    answers = await sent(world, given)
    assert {a.status for a in answers} == {201}
    assert {int(a.json["file_id"]) for a in answers} <= there
    assert len(await world.runtime.db.fetch(_FILES)) == files + 6


async def test_an_enterprise_that_encrypts_from_now_on_has_nothing_unencrypted(world: World) -> None:
    await known(world, "zhangwei")
    enterprise_id = world.people["zhangwei"].enterprise_id
    before = {row["content_id"] for row in await world.runtime.db.fetch(_CONTENTS)}
    await world.runtime.db.execute(_SEAL, enterprise_id, world.clock.now())  # the door does not know
    data = DATA + b"secret\n"
    file_id = await world.ready("密.csv", data)
    assert (await world.ask("GET", f"/files/{file_id}")).body == data
    new = [row for row in await world.runtime.db.fetch(_CONTENTS) if row["content_id"] not in before]
    assert [row["wrapped_key"] is not None for row in new] == [True]
    assert len(await world.objects()) == len(before) + 1  # what was stored first is gone


async def test_a_large_one_that_came_meanwhile_is_refused(world: World) -> None:
    await known(world, "zhangwei")
    before = await world.objects()

    async def seal() -> None:
        await world.runtime.db.execute(_SEAL, world.people["zhangwei"].enterprise_id, world.clock.now())

    failpoints.arm("files.stored_before_row", seal, at=1)
    data = DATA * (AT_ONCE_BYTES // len(DATA) + 1)
    answer = await world.upload("large.csv", data)
    assert (answer.status, answer.json["errors"]["code"]) == (409, "not_sealed")
    assert await world.objects() == before
    file_id = await world.ready("large.csv", data)
    assert (await world.ask("GET", f"/files/{file_id}")).body == data


async def test_the_check_is_not_asked_for_each_small_file(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await known(world, "zhangwei")
    asked: list[str] = []
    run = world.runtime.calls.dispatcher.run

    async def counted(name: str, *given: Any) -> Any:
        asked.append(name)
        return await run(name, *given)

    monkeypatch.setattr(world.runtime.calls.dispatcher, "run", counted)
    await world.ready("small.csv", DATA + b"small\n")
    assert [name for name in asked if name.startswith("files.")] == ["files.uploads.keep"]
    asked.clear()
    await world.ready("large.csv", DATA * (AT_ONCE_BYTES // len(DATA) + 1))
    assert [name for name in asked if name.startswith("files.")] == [
        "files.uploads.check",
        "files.uploads.keep",
    ]


class TestPace:
    """The door takes from the same bucket as the action that it leaves out."""

    @pytest.fixture
    def more_settings(self) -> dict[str, Any]:
        return {"rate_actions_scale": 0.05}  # ten at once

    async def test_who_sends_too_many_is_refused_by_the_door(self, world: World) -> None:
        await known(world, "zhangwei")
        answers = [await world.upload(f"{n}.csv", DATA + b"%d\n" % n) for n in range(14)]
        assert Counter(a.status for a in answers)[429] >= 1
