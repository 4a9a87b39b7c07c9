"""A page of another origin uploads with tus-js-client in a real browser: what CORS lets through is what it needs."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from tests.files.conftest import World
from tests.gateway.oauth.chromium import Chromium
from tests.npm import installed

_PAGE = """<!doctype html><title>page</title><script src="/tus.js"></script><script>
const data = new Blob([("000000000,xxxxxxxxxxxxxxxxxxxxxxxxxxxx\\n").repeat(70000)]);
let said = null;
function upload(endpoint, token, filename, cut, uploadUrl) {
  let fileId = null;
  const made = new tus.Upload(data, {
    endpoint, uploadUrl, headers: { Authorization: `Bearer ${token}` }, metadata: { filename, filetype: "text/csv" },
    chunkSize: 1 << 20, retryDelays: null,
    onAfterResponse: (request, response) => { fileId = response.getHeader("File-Id") ?? fileId; },
    onProgress: (sent) => {
      if (cut && sent >= cut) { cut = 0; made.abort().then(() => { said = { cut: made.url }; }); }
    },
    onSuccess: () => { said = { fileId }; },
    onError: (error) => { said = { refused: error.originalResponse?.getStatus() ?? String(error) }; },
  });
  said = null;
  made.start();
}
</script>"""
_DATA = b"000000000,xxxxxxxxxxxxxxxxxxxxxxxxxxxx\n" * 70_000


@pytest.fixture
async def page() -> AsyncIterator[str]:
    """Where the page lives."""
    place = await installed(Path(__file__).with_name("node"))
    application = web.Application()

    async def html(request: web.Request) -> web.Response:
        return web.Response(text=_PAGE, content_type="text/html")

    async def script(request: web.Request) -> web.FileResponse:
        return web.FileResponse(place / "node_modules/tus-js-client/dist/tus.min.js")

    application.router.add_get("/", html)
    application.router.add_get("/tus.js", script)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def more_settings(page: str) -> dict[str, Any]:
    return {"gateway_origins": [page]}


async def test_a_page_uploads_goes_on_and_is_refused(world: World, page: str) -> None:
    token = await world.token("zhangwei")

    async def upload(browser: Chromium, name: str, cut: int = 0, url: str | None = None) -> dict[str, Any]:
        given = orjson.dumps([world.url + "/files/tus", token, name, cut, url]).decode()
        await browser.run(f"upload(...{given})")
        said: dict[str, Any] = orjson.loads(await browser.until("said && JSON.stringify(said)"))
        return said

    async with Chromium() as browser:
        await browser.open(page + "/")
        whole = await upload(browser, "整.csv")
        begun = await upload(browser, "断.csv", len(_DATA) // 2)
        resumed = await upload(browser, "断.csv", 0, begun["cut"])
        assert await upload(browser, "a.exe") == {"refused": 422}
        told = await browser.run("document.title")
    assert told == "page"
    for one in (whole, resumed):
        file = (await world.call("files.library.get", {"file_ids": [one["fileId"]]})).json[0]
        assert (file["state"], base64.b64decode(file["digest"])) == ("ready", hashlib.sha256(_DATA).digest())
