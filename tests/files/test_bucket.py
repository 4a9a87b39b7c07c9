"""What a store has to do for us, tried on the embedded one with real credentials."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from core.clock import SystemClock
from core.errors import Conflict, Internal, NotFound, Unavailable
from core.s3 import S3
from files.storage.bucket import Bucket

MIB = 1 << 20


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_what_goes_in_comes_out_whole_and_in_ranges(bucket: Bucket) -> None:
    data = bytes(range(256)) * 5000
    etag = await bucket.put("content/a", chunks(data[:1000], data[1000:]), len(data))
    assert etag.strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert await bucket.size("content/a") == len(data)
    async with bucket.get("content/a") as content:
        assert await content.read() == data
    for start, length in ((0, 1), (999, 70_000), (len(data) - 1, 1), (len(data) - 300, 300)):
        async with bucket.get("content/a", start, length) as content:
            assert content.length == length
            assert await content.read() == data[start : start + length]


async def test_a_body_that_ends_too_early_or_breaks_stores_nothing(bucket: Bucket) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise ValueError("the sender is gone")

    with pytest.raises(ValueError, match="the sender is gone"):
        await bucket.put("content/b", breaks(), 200_000)
    with pytest.raises(Internal, match="shorter"):
        await bucket.put("content/b", chunks(b"x" * 10), 20)
    with pytest.raises(Internal, match="longer"):
        await bucket.put("content/b", chunks(b"x" * 30), 20)
    assert await bucket.size("content/b") is None


async def test_an_object_in_parts(bucket: Bucket) -> None:
    upload = await bucket.begin("content/c")
    first, last = b"a" * (5 * MIB), b"b" * 100
    etags = [
        (1, await bucket.put_part("content/c", upload, 1, chunks(first), len(first))),
        (2, await bucket.put_part("content/c", upload, 2, last, len(last))),
    ]
    assert [part.size_bytes for part in await bucket.parts("content/c", upload)] == [len(first), len(last)]
    assert upload in {one.upload async for one in bucket.unfinished()}
    assert await bucket.size("content/c") is None
    await bucket.complete("content/c", upload, etags)
    assert await bucket.size("content/c") == len(first) + len(last)
    with pytest.raises(NotFound):
        await bucket.parts("content/c", upload)


async def test_a_part_that_was_sent_again_is_listed_once(bucket: Bucket) -> None:
    upload, part = await bucket.begin("content/again"), b"a" * 5 * MIB
    await bucket.put_part("content/again", upload, 1, chunks(part), len(part))
    await bucket.put_part("content/again", upload, 2, b"end", 3)
    for body in (part[:-1] + b"b", part):
        await bucket.put_part("content/again", upload, 1, chunks(body), len(body))
    parts = await bucket.parts("content/again", upload)
    assert [(one.number, one.size_bytes) for one in parts] == [(1, len(part)), (2, 3)]
    await bucket.complete("content/again", upload, [(one.number, one.etag) for one in parts])
    assert await bucket.size("content/again") == len(part) + 3


async def test_an_object_is_made_of_the_parts_that_were_noted_or_not_at_all(bucket: Bucket) -> None:
    upload = await bucket.begin("content/d")
    etag = await bucket.put_part("content/d", upload, 1, b"one", 3)
    await bucket.put_part("content/d", upload, 1, b"two", 3)  # a writer that was too late
    try:
        await bucket.complete("content/d", upload, [(1, etag)])
    except Conflict:  # as S3 has it
        assert await bucket.size("content/d") is None
    else:  # SeaweedFS has both
        async with bucket.get("content/d") as content:
            assert await content.read() == b"one"
    await bucket.abort("content/d", upload)
    await bucket.abort("content/d", upload)  # again


async def test_keys_come_in_order_after_a_key(bucket: Bucket) -> None:
    names = [f"content/{n:03d}" for n in range(7)]
    for name in names:
        await bucket.put(name, b"x", 1)
    await bucket.put("other/1", b"x", 1)
    assert [one.key async for one in bucket.keys("content/")] == names
    assert [one.key async for one in bucket.keys("content/", after=names[3])] == names[4:]
    await bucket.delete([*names, "content/that-is-not-there"])
    assert [one.key async for one in bucket.keys("content/")] == []


async def test_what_is_not_there(bucket: Bucket) -> None:
    with pytest.raises(NotFound):
        async with bucket.get("content/nothing"):
            pass
    assert await bucket.size("content/nothing") is None


async def test_nobody_answers() -> None:
    nowhere = Bucket(S3("http://127.0.0.1:9", "a", "b", "c"), SystemClock())
    try:
        for attempt in (
            nowhere.put("k", b"x", 1),
            nowhere.size("k"),
            nowhere.begin("k"),
            nowhere.delete(["k"]),
        ):
            with pytest.raises(Unavailable):
                await attempt
    finally:
        await nowhere.close()


async def test_a_slow_store_slows_down_whoever_sends() -> None:
    """Back-pressure: a source is not asked for more than a socket takes."""
    given = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(400):
            given += 256 << 10
            yield b"x" * (256 << 10)

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    released = asyncio.Event()
    server = await asyncio.start_server(deaf, "127.0.0.1", 0, limit=1024)
    port = server.sockets[0].getsockname()[1]
    store = Bucket(S3(f"http://127.0.0.1:{port}", "a", "b", "c"), SystemClock())
    putting = asyncio.ensure_future(store.put("k", source(), 400 * (256 << 10)))
    seen = -1
    while given != seen or not given:  # until it stands still
        seen = given
        await asyncio.sleep(0.2)
    assert given < 40 * MIB  # the kernel's buffers on both sides, and ours; not the 100 MiB there are
    released.set()
    with pytest.raises(Unavailable):
        await putting
    server.close()
    await store.close()


async def test_the_store_is_told_to_encrypt_and_to_tidy_up(bucket: Bucket) -> None:
    await bucket.prepare(encrypted=True, abort_after_days=2)
    rules = (await bucket._control("get_bucket_lifecycle_configuration"))["Rules"]
    assert rules[0]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 2
    encryption = (await bucket._control("get_bucket_encryption"))["ServerSideEncryptionConfiguration"]
    assert encryption["Rules"][0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    await bucket.put("content/e", b"kept", 4)
    head = await bucket._control("head_object", Key="content/e")
    assert head["ServerSideEncryption"] == "AES256"
