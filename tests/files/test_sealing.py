"""Encryption with an enterprise's own key: every range is right, and nothing that was changed is taken for a file."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.clock import SystemClock
from core.crypto.keyring import Keyring
from core.crypto.ring import FILES
from core.crypto.sm4 import NotAuthentic
from core.errors import Unavailable
from core.rng import SystemRng
from files.retention.jobs import sweep
from files.sealing.sealer import OVERHEAD_BYTES, PIECE_BYTES, ObjectKey, Sealer
from tests.files.conftest import World

DATA = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(3 * PIECE_BYTES // 32)) + b"the end"
STORED = PIECE_BYTES + OVERHEAD_BYTES


@pytest.fixture(scope="module")
def sealer(tmp_path_factory: pytest.TempPathFactory) -> Sealer:
    return Sealer(Keyring(tmp_path_factory.mktemp("ring") / "ring.json", SystemClock()), SystemRng())


async def chunks(data: bytes, size: int = 50_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def sealed(key: ObjectKey, data: bytes = DATA, start: int = 0) -> bytes:
    return b"".join([chunk async for chunk in key.seal(chunks(data), start)])


async def opened(key: ObjectKey, stored: bytes, start: int = 0) -> bytes:
    return b"".join([chunk async for chunk in key.unseal(chunks(stored), start)])


async def span(key: ObjectKey, stored: bytes, start: int, length: int, size: int = len(DATA)) -> bytes:
    first, count = key.stored_span(start, length, size)
    taken = stored[first : first + count]
    assert len(taken) == count
    return b"".join([chunk async for chunk in key.unseal_span(chunks(taken), start, length)])


async def test_every_range_around_the_borders_of_pieces(sealer: Sealer) -> None:
    key = sealer.new_key(1, 7)
    stored = await sealed(key)
    assert len(stored) == key.stored_bytes(len(DATA))
    assert DATA[:40] not in stored
    assert await opened(key, stored) == DATA
    edges = [
        e
        for n in range(4)
        for e in (n * PIECE_BYTES - 1, n * PIECE_BYTES, n * PIECE_BYTES + 1)
        if 0 <= e < len(DATA)
    ]
    for start in {*edges, len(DATA) - 1}:
        for last in {*edges, len(DATA) - 1}:
            if last >= start:
                assert await span(key, stored, start, last - start + 1) == DATA[start : last + 1]


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 2 * PIECE_BYTES + 2), data=st.data())
def test_any_range_of_any_size(sealer: Sealer, size: int, data: Any) -> None:
    start = data.draw(st.integers(0, size - 1))
    length = data.draw(st.integers(1, size - start))

    async def check() -> None:
        key, content = sealer.new_key(1, 7), DATA[:size]
        stored = await sealed(key, content)
        assert len(stored) == key.stored_bytes(size)
        assert await span(key, stored, start, length, size) == content[start : start + length]

    asyncio.run(check())


async def test_parts_sealed_apart_are_one_file(sealer: Sealer) -> None:
    key, border = sealer.new_key(1, 7), 2 * PIECE_BYTES
    stored = await sealed(key, DATA[:border]) + await sealed(key, DATA[border:], border)
    assert await opened(key, stored) == DATA


@pytest.mark.parametrize("at", [0, 11, 12, 5000, STORED - 1, STORED, 3 * STORED, -1])
async def test_a_changed_byte_is_found(sealer: Sealer, at: int) -> None:
    key = sealer.new_key(1, 7)
    stored = bytearray(await sealed(key))
    stored[at] ^= 1
    with pytest.raises(NotAuthentic):
        await opened(key, bytes(stored))


async def test_pieces_stay_where_they_were_put(sealer: Sealer) -> None:
    key, other = sealer.new_key(1, 7), sealer.new_key(1, 8)
    stored = await sealed(key)
    pieces = [stored[at : at + STORED] for at in range(0, len(stored), STORED)]
    for wrong in (
        [pieces[1], pieces[0], *pieces[2:]], [pieces[0], pieces[0], *pieces[2:]], pieces[1:],
        [(await sealed(other))[:STORED], *pieces[1:]],
    ):  # fmt: skip
        with pytest.raises(NotAuthentic):
            await opened(key, b"".join(wrong))
    with pytest.raises(NotAuthentic):
        await opened(key, stored[:-1])
    with pytest.raises(Unavailable):  # whole pieces that are missing at the end are missed by their number
        async for _ in key.unseal_span(chunks(b"".join(pieces[:2])), 0, len(DATA)):
            pass


async def test_a_key_is_of_one_object_of_one_enterprise(sealer: Sealer) -> None:
    key = sealer.new_key(1, 7)
    again = sealer.open_key(1, 7, key.wrapped)
    assert await opened(again, await sealed(key)) == DATA
    changed = bytearray(key.wrapped)
    changed[-1] ^= 1
    for enterprise_id, object_id, wrapped in (
        (2, 7, key.wrapped), (1, 8, key.wrapped), (1, 7, bytes(changed)), (1, 7, key.wrapped[:-1]), (1, 7, b""),
        (1, 7, b"\x02" + key.wrapped[1:]),
    ):  # fmt: skip
        with pytest.raises(NotAuthentic):
            sealer.open_key(enterprise_id, object_id, wrapped)


async def test_a_rotation_turns_new_keys_and_opens_old_ones(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "ring.json", SystemClock())
    sealer = Sealer(ring, SystemRng())
    old = sealer.new_key(1, 7)
    stored = await sealed(old)
    ring.rotate(FILES, at_once=True)
    new = sealer.new_key(1, 7)
    assert old.wrapped[1:3] != new.wrapped[1:3]
    assert await opened(sealer.open_key(1, 7, old.wrapped), stored) == DATA
    assert await opened(sealer.open_key(1, 7, new.wrapped), await sealed(new)) == DATA


async def test_a_download_of_an_encrypted_file_in_ranges_and_of_a_changed_one_not_at_all(
    world: World,
) -> None:
    own = {"own_key": True, "quota_bytes": None, "person_quota_bytes": None}
    assert (await world.call("files.room.set_policy", own)).status == 200
    data = b"".join(b"%07d,line\n" % n for n in range(20_000))
    file_id = await world.ready("密.csv", data)
    path = f"/files/{file_id}"
    assert (await world.ask("GET", path)).body == data
    for start in (0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES + 5):
        end = min(start + PIECE_BYTES, len(data) - 1)
        answer = await world.ask("GET", path, headers={"Range": f"bytes={start}-{end}"})
        assert (answer.status, answer.body) == (206, data[start : end + 1])
    [key] = await world.objects()
    async with world.bucket.get(key) as content:
        stored = bytearray(await content.read())
    assert data[:50] not in stored
    stored[STORED + 100] ^= 1  # in the second piece
    await world.bucket.put(key, bytes(stored), len(stored))
    assert (await world.ask("GET", path, headers={"Range": "bytes=0-99"})).body == data[:100]
    with pytest.raises(Exception, match=r"ayload|isconnected|onnection"):
        await world.ask("GET", path)
    with pytest.raises(Exception, match=r"ayload|isconnected|onnection"):
        await world.ask("GET", path, headers={"Range": f"bytes={PIECE_BYTES}-{PIECE_BYTES + 9}"})


async def test_the_same_bytes_are_stored_anew_once_they_are_to_be_encrypted(world: World) -> None:
    data = b"".join(b"%07d,line\n" % n for n in range(2_000))
    plain = await world.ready("明.csv", data)
    before = set(await world.objects())
    for own_key, more in ((True, 1), (False, 0)):
        policy = {"own_key": own_key, "quota_bytes": None, "person_quota_bytes": None}
        assert (await world.call("files.room.set_policy", policy)).status == 200
        file_id = await world.ready("密.csv", data)
        await sweep(world.runtime.db, world.bucket)
        added = set(await world.objects()) - before
        assert len(added) == more
        for key in added:
            async with world.bucket.get(key) as content:
                assert data[:50] not in await content.read()
        assert (await world.ask("GET", f"/files/{file_id}")).body == data
        before |= added
    assert (await world.ask("GET", f"/files/{plain}")).body == data
