"""Reference of the fan-out: `websockets.broadcast()` to every connection, a message a call, on uvloop.

python broadcast.py BYTES BATCH: BYTES of payload, BATCH calls for each credit that comes on the control port. Prints
{"port": …, "control": …}. No compression and no keepalive, as the hub has none of them in this measure.
"""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from tests.bench.limits import raise_open_files


async def main(size: int, batch: int) -> None:
    connections: set[ServerConnection] = set()
    payload = b"x" * size

    async def handler(connection: ServerConnection) -> None:
        connections.add(connection)
        try:
            await connection.wait_closed()
        finally:
            connections.discard(connection)

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while got := await reader.read(256):
            for _ in got:
                for _ in range(batch):
                    broadcast(connections, payload)
                await asyncio.sleep(
                    0
                )  # a turn of the loop each: the hub's batches are not joined further either
        writer.close()

    controller = await asyncio.start_server(control, "127.0.0.1", 0)
    async with serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=4096) as server:
        port = server.sockets[0].getsockname()[1]
        control_port = controller.sockets[0].getsockname()[1]
        print(json.dumps({"port": port, "control": control_port}), flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    raise_open_files()
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
