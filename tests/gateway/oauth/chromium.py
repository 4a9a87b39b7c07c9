"""Headless Chromium by its debugging protocol: enough to open pages, type, press and look."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from base64 import b64decode
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)


class Chromium:
    """One browser with one page, as wide as a phone."""

    def __init__(self) -> None:
        self._socket: ClientConnection | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._profile = Path(tempfile.mkdtemp(prefix="chromium-"))
        self._number = 0
        self._page: str | None = None
        self.complaints: list[str] = []

    async def __aenter__(self) -> Chromium:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        if program is None:
            pytest.skip("chromium is not here: the pages were not opened in a real browser")
        self._process = await asyncio.create_subprocess_exec(
            program,
            *_FLAGS,
            f"--user-data-dir={self._profile}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            if b"DevTools listening on " in line:
                url = line.decode().split("listening on ")[1].strip()
                break
        else:
            pytest.skip("chromium does not start here")
        self._socket = await connect(url, max_size=None)
        targets = await self("Target.getTargets")
        target = next(one for one in targets["targetInfos"] if one["type"] == "page")
        attached = await self("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._page = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self(f"{domain}.enable")
        await self(
            "Emulation.setDeviceMetricsOverride", width=375, height=740, deviceScaleFactor=2, mobile=True
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            await self._socket.close()
        if self._process is not None and self._process.returncode is None:
            os.killpg(self._process.pid, 9)
            await self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    async def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer; what the page complains of meanwhile is kept."""
        assert self._socket is not None
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._page is not None:
            message["sessionId"] = self._page
        await self._socket.send(orjson.dumps(message).decode())
        while True:
            heard = orjson.loads(await self._socket.recv())
            if heard.get("id") == self._number:
                assert "error" not in heard, heard
                result: dict[str, Any] = heard["result"]
                return result
            if heard.get("method") == "Log.entryAdded":
                self.complaints.append(heard["params"]["entry"]["text"])

    async def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = await self("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait until an expression is true in whatever page is there; its value."""
        async with asyncio.timeout(20):
            while not (value := await self.run(script)):
                await asyncio.sleep(0.05)
        return value

    async def open(self, url: str) -> None:
        await self("Page.navigate", url=url)
        await self.until(
            f"document.readyState === 'complete' && location.href !== 'about:blank' && {url!r} !== ''"
        )

    async def picture(self, path: Path) -> None:
        """What a person sees."""
        shot = await self("Page.captureScreenshot", format="png")
        path.write_bytes(b64decode(shot["data"]))
