"""Reference of durable chat: the design most hubs begin with, on the same PostgreSQL, on uvloop.

A coroutine a connection with `async for`, pydantic for every message, one INSERT (one commit) a message on a pool of 16
connections, then `websockets.broadcast()` to the room and a SENT to the sender. It speaks as much of the hub's wire as
the load client needs, checks neither token nor membership, keeps no digest chain and has no limits: everything that is
missing makes it faster, not slower. seq is given after the commit, so that each room's entries leave it in order.

python naive.py DATABASE_URL STREAMS: STREAMS has a line `stream head` for each connection, which names itself bench-N.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import msgpack
import uvloop
from pydantic import BaseModel, StringConstraints
from websockets.asyncio.server import ServerConnection, broadcast, serve

from tests.bench.limits import raise_open_files

POOL = 16
TABLE = """
CREATE TABLE IF NOT EXISTS bench_naive (
    entry_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream_id BIGINT NOT NULL, sender_id BIGINT NOT NULL,
    dedupe_key VARCHAR(64) NOT NULL, kind VARCHAR(32) NOT NULL, time_ms BIGINT NOT NULL, body TEXT NOT NULL,
    UNIQUE (sender_id, dedupe_key))
"""
INSERT = (
    "INSERT INTO bench_naive (stream_id, sender_id, dedupe_key, kind, time_ms, body) "
    "VALUES ($1, $2, $3, $4, $5, $6) RETURNING entry_id"
)


class Send(BaseModel):
    """The SEND frame."""

    id: int
    conversation: Annotated[str, StringConstraints(min_length=1, max_length=20)]
    key: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    kind: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    body: Annotated[str, StringConstraints(max_length=8000)]


async def main(database_url: str, streams: Path) -> None:
    lines = [line.split() for line in streams.read_text().splitlines()]
    of_device = [name for name, _ in lines]
    heads = {name: int(head) for name, head in lines}
    rooms: dict[str, set[ServerConnection]] = {name: set() for name in heads}
    pool = await asyncpg.create_pool(database_url, min_size=POOL, max_size=POOL, ssl=False)
    await pool.execute(TABLE)

    async def handler(connection: ServerConnection) -> None:
        index, room = 0, ""
        try:
            async for data in connection:
                for frame in msgpack.unpackb(data):
                    if frame[0] == 1:
                        index = int(frame[3].removeprefix("bench-"))
                        room = of_device[index]
                        rooms[room].add(connection)
                        await connection.send(welcome(frame[1], index))
                    elif frame[0] == 5:
                        await say(connection, index, frame)
        finally:
            if room:
                rooms[room].discard(connection)

    async def say(connection: ServerConnection, index: int, frame: list[Any]) -> None:
        _, frame_id, conversation, key, kind, body, _ = [*frame, None][:7]
        said = Send(id=frame_id, conversation=conversation, key=key, kind=kind, body=body)
        now_ms = time.time_ns() // 1_000_000
        entry_id = await pool.fetchval(
            INSERT, int(said.conversation), index, said.key, said.kind, now_ms, said.body
        )
        seq = heads[said.conversation] = heads[said.conversation] + 1
        entry = [
            7,
            0,
            said.conversation,
            seq,
            str(entry_id),
            str(index),
            said.kind,
            now_ms,
            said.body,
            b"",
            None,
        ]
        broadcast(rooms[said.conversation], msgpack.packb([entry]))
        answer = [6, said.id, said.conversation, said.key, seq, str(entry_id), now_ms, False, b""]
        await connection.send(msgpack.packb([answer]))

    async with serve(
        handler, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=4096,
        select_subprotocol=lambda _, offered: offered[0] if offered else None,
    ) as server:  # fmt: skip
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        await asyncio.get_running_loop().create_future()


def welcome(frame_id: int, index: int) -> bytes:
    """WELCOME with what it must have."""
    inbox = {"epoch": 0, "head": 0, "read": 0}
    retry = {"base_ms": 250, "cap_ms": 20_000}
    packed: bytes = msgpack.packb(
        [[2, frame_id, "0", str(index), "0", [], time.time_ns() // 1_000_000, inbox, 0, {}, retry]]
    )
    return packed


if __name__ == "__main__":
    raise_open_files()
    uvloop.run(main(sys.argv[1], Path(sys.argv[2])))
