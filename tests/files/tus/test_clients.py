"""Clients that others keep: tuspy, tus-js-client and Uppy upload, go on after a cut, and understand a refusal."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import orjson
import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

from tests.files.conftest import World
from tests.npm import installed

MIB = 1 << 20
NODE = Path(__file__).with_name("node")
DATA = b"".join(b"%09d,%s\n" % (line, b"x" * 60) for line in range(7 * MIB // 70))


async def is_there(world: World, file_id: str) -> None:
    file = (await world.call("files.library.get", {"file_ids": [file_id]})).json[0]
    assert file["state"] == "ready"
    assert base64.b64decode(file["digest"]) == hashlib.sha256(DATA).digest()


async def test_tuspy(world: World) -> None:
    client = TusClient(
        world.url + "/files/tus", headers={"Authorization": f"Bearer {await world.token('zhangwei')}"}
    )

    def begin(name: str, data: bytes = DATA, **given: Any) -> Any:
        return client.uploader(
            file_stream=io.BytesIO(data), chunk_size=2 * MIB, metadata={"filename": name}, **given
        )

    def whole() -> Any:
        uploader = begin("整.csv")
        uploader.upload()
        return uploader

    async def newest() -> str:
        return str((await world.call("files.library.list")).json["files"][0]["file_id"])

    await asyncio.to_thread(whole)
    await is_there(world, await newest())

    def cut_and_resumed() -> None:
        first = begin("断.csv")
        first.upload_chunk()
        again = begin("断.csv", url=first.url)
        assert again.offset == 2 * MIB == again.get_offset()
        again.upload()

    await asyncio.to_thread(cut_and_resumed)
    await is_there(world, await newest())
    assert len((await world.call("files.library.list")).json["files"]) == 2

    def refused(name: str, data: bytes) -> int:
        with pytest.raises(TusCommunicationError) as told:
            begin(name, data).upload()
        return int(told.value.status_code)

    assert await asyncio.to_thread(refused, "a.exe", DATA) == 422
    assert await asyncio.to_thread(refused, "a.pdf", b"no pdf at all\n" * 10) == 422


async def test_tus_js_client_and_uppy(world: World, tmp_path: Path) -> None:
    place, file = await installed(NODE), tmp_path / "data"
    file.write_bytes(DATA)
    given = {
        "endpoint": world.url + "/files/tus", "token": await world.token("zhangwei"), "file": str(file),
        "chunk": 2 * MIB,
    }  # fmt: skip
    node = await asyncio.create_subprocess_exec(
        *("node", "scenario.mjs", orjson.dumps(given).decode()),
        cwd=place,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await node.communicate()
    assert node.returncode == 0, err.decode()
    said = orjson.loads(out)
    for one in ("whole", "resumed", "again", "uppy"):
        assert said[one].get("done"), (one, said[one])
        await is_there(world, said[one]["fileId"])
    assert said["cut"]
    assert said["again"]["fileId"] == said["resumed"]["fileId"]
    assert said["kind"]["refused"] == 422
    assert said["nobody"]["refused"] == 401
    assert said["mismatch"]["refused"] == 422
    assert said["terminated"] == 410
    assert said["uppyRefused"]["failed"] == 1
    assert len((await world.call("files.library.list")).json["files"]) == 3
