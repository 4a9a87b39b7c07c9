"""The load client of `bench files`: sends and reads large bodies by blocking sockets, small ones by aiohttp.

Reads a plan as JSON from standard input, prints what came of it. A large body is one block again and again, behind a
head of its own, so nothing has to be made while the clock runs, and every byte that is read is compared with it.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import uvloop
from yarl import URL

BLOCK_BYTES = 8 << 20
SMALL_HEAD = "姓名,账号,金额\n"
SMALL_LINE = "张三,6222020200112233445,128.50\n"


def block_of(nonce: int) -> tuple[bytes, bytes]:
    """(the first block, every other block) of a film: what is in it nobody looks into."""
    block = random.Random(7).randbytes(BLOCK_BYTES)
    head = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + nonce.to_bytes(16, "big")
    return head + block[len(head) :], block


def small_of(nonce: str, size_bytes: int) -> bytes:
    """A table of so many bytes that no other has."""
    lines = (SMALL_HEAD + nonce + "\n").encode()
    more = SMALL_LINE.encode()
    text = lines + more * ((size_bytes - len(lines)) // len(more))
    return text + b"\n" * (size_bytes - len(text))


def put(port: int, request: dict[str, Any], blocks: tuple[bytes, bytes]) -> dict[str, Any]:
    """One request with a body of `bytes`, beginning at block `block`; its answer."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        line.putrequest(request["method"], request["target"], skip_accept_encoding=True)
        left, number = request["bytes"], request["block"]
        for name, value in {**request["headers"], "Content-Length": str(left)}.items():
            line.putheader(name, value)
        line.endheaders()
        while left:
            chunk = memoryview(blocks[0] if number == 0 else blocks[1])[:left]
            line.send(chunk)
            left -= len(chunk)
            number += 1
        answer = line.getresponse()
        body = answer.read()
        if answer.status not in (200, 201):
            raise SystemExit(f"{answer.status}: {body[:500]!r}")
        return {"etag": answer.headers.get("ETag", ""), "body": body.decode()}
    finally:
        line.close()


def puts(plan: dict[str, Any]) -> dict[str, Any]:
    """Requests, so many at once; then, if the plan says so, the one that makes parts one object."""
    blocks = {one["nonce"]: block_of(one["nonce"]) for one in plan["requests"]}
    began, cpu = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(plan["at_once"]) as pool:
        given = pool.map(lambda one: put(plan["port"], one, blocks[one["nonce"]]), plan["requests"])
        answers = list(given)
    if plan.get("complete"):
        parts = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{one['etag']}</ETag></Part>"
            for n, one in enumerate(answers, 1)
        )
        line = http.client.HTTPConnection("127.0.0.1", plan["port"], timeout=300)
        line.request(
            "POST", plan["complete"], f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        )
        answer = line.getresponse()
        body = answer.read()
        line.close()
        if answer.status != 200 or b"Error" in body:
            raise SystemExit(f"{answer.status}: {body[:500]!r}")
    took_s = time.monotonic() - began
    return {
        "took_s": took_s, "bytes": sum(one["bytes"] for one in plan["requests"]),
        "client_cpu": (time.process_time() - cpu) / took_s, "answers": [one["body"] for one in answers],
    }  # fmt: skip


def read(plan: dict[str, Any]) -> dict[str, Any]:
    """One object, every byte of it."""
    blocks = block_of(plan["nonce"])
    buffer = memoryview(bytearray(BLOCK_BYTES))
    began, cpu = time.monotonic(), time.process_time()
    line = http.client.HTTPConnection("127.0.0.1", plan["port"], timeout=300)
    line.request("GET", plan["target"])
    answer = line.getresponse()
    if answer.status != 200:
        raise SystemExit(f"{answer.status}: {answer.read(500)!r}")
    left, number = plan["bytes"], 0
    while left:
        filled, size = 0, min(left, BLOCK_BYTES)
        while filled < size:
            got = answer.readinto(buffer[filled:size])
            if not got:
                raise SystemExit("it ended too early")
            filled += got
        if buffer[:size] != memoryview(blocks[0] if number == 0 else blocks[1])[:size]:
            raise SystemExit(f"block {number} is not what was sent")
        left -= size
        number += 1
    if answer.read():
        raise SystemExit("it goes on behind its end")
    line.close()
    took_s = time.monotonic() - began
    return {
        "took_s": took_s, "bytes": plan["bytes"], "client_cpu": (time.process_time() - cpu) / took_s,
    }  # fmt: skip


async def small(plan: dict[str, Any]) -> dict[str, Any]:
    """Small bodies, so many at once, each on its way as soon as one before it is answered."""
    bodies = [small_of(f"{plan['nonce']}-{n}", plan["bytes"]) for n in range(len(plan["targets"]))]
    urls = [URL(f"http://127.0.0.1:{plan['port']}{one}", encoded=True) for one in plan["targets"]]
    tokens: list[str] = plan["tokens"]
    waits: list[float] = []
    connector = aiohttp.TCPConnector(limit=plan["at_once"])
    async with aiohttp.ClientSession(connector=connector, skip_auto_headers=("User-Agent",)) as session:

        async def one(number: int) -> None:
            headers = {"Content-Type": "text/csv"} if tokens else {}
            if tokens:
                headers["Authorization"] = f"Bearer {tokens[number % len(tokens)]}"
            asked = time.monotonic()
            async with session.put(urls[number], data=bodies[number], headers=headers) as answer:
                body = await answer.read()
                if answer.status not in (200, 201):
                    raise SystemExit(f"{answer.status}: {body[:500]!r}")
            waits.append(time.monotonic() - asked)

        numbers = iter(range(len(bodies)))

        async def line() -> None:
            for number in numbers:
                await one(number)

        began, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(*(line() for _ in range(plan["at_once"])))
        took_s, cpu = time.monotonic() - began, time.process_time() - cpu
    waits.sort()
    return {
        "took_s": took_s, "files": len(bodies), "client_cpu": cpu / took_s,
        "p50_ms": waits[len(waits) // 2] * 1000, "p99_ms": waits[len(waits) * 99 // 100] * 1000,
    }  # fmt: skip


def main() -> None:
    plan: dict[str, Any] = json.loads(sys.stdin.read())
    match plan["mode"]:
        case "puts":
            result = puts(plan)
        case "read":
            result = read(plan)
        case _:
            result = uvloop.run(small(plan))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
