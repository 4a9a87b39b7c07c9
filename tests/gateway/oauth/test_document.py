"""docs/oauth.md is true: what it shows is run as it stands there."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
from pathlib import Path

import orjson
import pytest

from tests.gateway.oauth.conftest import SCOPES, Kit
from tests.gateway.sms import messages, newest_code

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "oauth.md"


def _block(name: str) -> str:
    found = re.search(rf"<!-- tested: {name} -->\n```\w+\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert found is not None, name
    return found[1]


async def test_the_session_with_curl(kit: Kit) -> None:
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("bash and curl are not here")
    password = kit.world.people["wangfang"].password
    script = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", _block("bash")),
        env={**os.environ, "BANK": kit.url, "PASSWORD": password},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    phone = kit.world.people["wangfang"].phone
    before = len(await messages(kit.world, phone))
    async with asyncio.timeout(60):
        while len(await messages(kit.world, phone)) == before and script.returncode is None:
            await asyncio.sleep(0.05)
    code = await newest_code(kit.world, phone) if script.returncode is None else ""
    said, wrong = await script.communicate(f"{code}\n".encode())
    assert script.returncode == 0, wrong.decode()
    installed, members = said.decode().replace("}{", "}\n{").splitlines()
    assert orjson.loads(installed)["scopes"] == ["contacts:read"]
    assert len(orjson.loads(members)["members"]) == 3


async def test_the_app_with_node(kit: Kit, tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = f"http://127.0.0.1:{port}"
    app = await kit.register(redirect_uris=[f"{there}/callback"], scopes=SCOPES)
    (tmp_path / "app.mjs").write_text(_block(r"app\.mjs"), "utf-8")
    node = await asyncio.create_subprocess_exec(
        *("node", "app.mjs"),
        cwd=tmp_path,
        env={**os.environ, "BANK": kit.url, "CLIENT_ID": app.client_id, "PORT": str(port)},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert node.stdout is not None
        assert there in (await node.stdout.readline()).decode()
        session = kit.world.client.session
        async with session.get(f"{there}/", allow_redirects=False) as begun:
            target, cookie = begun.headers["Location"], begun.headers["Set-Cookie"].partition(";")[0]
        await kit.browser.get(target.removeprefix(kit.url))
        await kit.log_in()
        done = await kit.browser.answer("allow")
        async with session.get(done.location, headers={"Cookie": cookie}) as end:
            assert end.status == 200, await end.text()
            shown = await end.json()
        assert len(shown["members"]) > 3
        assert shown["sub"] != str(kit.world.people["chenjing"].person_id)
        async with session.get(done.location, headers={"Cookie": cookie}) as again:
            assert again.status == 400
    finally:
        node.kill()
        await node.wait()


def test_every_endpoint_is_in_the_document() -> None:
    from gateway.oauth import metadata, web

    text = DOCUMENT.read_text("utf-8")
    values = [value for name, value in vars(metadata).items() if name.isupper() and isinstance(value, str)]
    for path in [*values, web.BRIDGE]:
        assert f"`{path}`" in text, path


def test_every_bridge_api_is_in_the_document() -> None:
    from gateway.oauth.apps.rules import BRIDGE_APIS

    text = DOCUMENT.read_text("utf-8")
    for api in BRIDGE_APIS:
        assert f"`{api}`" in text, api
