"""Reference of the gateway: aiohttp's own server on uvloop with a handler and nothing else.

POST /nothing answers a constant. POST /me answers what `gateway.identity.me` answers for the person that the body
names, by the same SELECTs on a pool of the same size: no token, no limits, no transaction, no validation, no trace.

python bare_http.py DATABASE_URL
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import asyncpg
import orjson
import uvloop
from aiohttp import web
from aiohttp.web_request import BaseRequest

from gateway.identity import store
from tests.bench.limits import raise_open_files


class Pool:
    """As much of `core.db.Queries` as the store's functions use."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, statement: Any, *args: Any) -> Any:
        return await self._connection.fetch(statement.text, *args)

    async def fetchrow(self, statement: Any, *args: Any) -> Any:
        return await self._connection.fetchrow(statement.text, *args)


async def main(database_url: str) -> None:
    pool = await asyncpg.create_pool(database_url, min_size=20, max_size=20, ssl=False, reset=_no_reset)
    nothing = orjson.dumps({"person_id": "1234567890123456789", "enterprise_id": "1234567890123456789"})

    async def handle(request: BaseRequest) -> web.Response:
        body = orjson.loads(await request.read())
        if request.path == "/nothing":
            return web.Response(body=nothing, content_type="application/json")
        who = int(body["person_id"])
        async with pool.acquire() as connection:
            queries: Any = Pool(connection)
            belongs = await store.enterprises_of(queries, who)
            row = await store.person(queries, who)
        assert row is not None
        enterprises = [{"enterprise_id": str(e), "name": n, "roles": r} for e, n, r in belongs]
        person = {
            "person_id": str(who),
            "name": row["full_name"],
            "login_name": row["login_name"],
            "phone": None,
        }
        me = {"person": person, "session_id": "1", "enterprise": enterprises[0], "enterprises": enterprises}
        return web.Response(body=orjson.dumps(me), content_type="application/json")

    server = await asyncio.get_running_loop().create_server(web.Server(handle), "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.Event().wait()


async def _no_reset(connection: Any) -> None:
    """As core.db does: nothing to undo."""


if __name__ == "__main__":
    raise_open_files()
    uvloop.run(main(sys.argv[1]))
