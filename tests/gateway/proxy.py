"""A real nginx with deploy/dmz/nginx.conf before a gateway, for tests; skipped with its reason where there is none."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

CONF = Path(__file__).resolve().parents[2] / "deploy/dmz/nginx.conf"
NAME = "bank.example"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def nginx(gateway_port: int, hub_port: int = 9) -> AsyncIterator[int]:
    """nginx before these ports; its own port."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx)")
    folder = Path(tempfile.mkdtemp(prefix="bankhub-nginx-"))
    port = free_port()
    text = CONF.read_text()
    for name, value in {
        "VAR": str(folder), "GATEWAY": f"127.0.0.1:{gateway_port}", "HUB": f"127.0.0.1:{hub_port}",
        "LISTEN": f"127.0.0.1:{port}", "NAME": NAME,
    }.items():  # fmt: skip
        text = text.replace("${" + name + "}", value)
    conf = folder / "nginx.conf"
    conf.write_text(text)
    words = [
        program,
        "-p",
        str(folder),
        "-c",
        str(conf),
        "-e",
        str(folder / "error.log"),
        "-g",
        "daemon off;",
    ]
    checked = await asyncio.to_thread(
        subprocess.run, [*words, "-t"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                except OSError:
                    await asyncio.sleep(0.02)
        yield port
    finally:
        process.terminate()
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)
