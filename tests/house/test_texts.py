"""What the demonstration's phone shows."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.sms import outbox
from house import texts


async def test_lines_are_said_as_they_come(tmp_path: Path) -> None:
    assert texts.FILE == outbox.FILE
    path = tmp_path / texts.FILE
    path.write_text('{"phone": "138****0001", "text": "old"}\n')
    said: list[str] = []
    following = asyncio.create_task(texts.follow(path, said.append))
    await asyncio.sleep(0)
    with path.open("a") as file:
        file.write('{"phone": "138****0001", "text": "new"}\nnot json\n{"phone": "138****00')
    async with asyncio.timeout(5):
        while not said:
            await asyncio.sleep(0.02)
    path.write_text('{"phone": "138****0002", "text": "x"}\n')
    async with asyncio.timeout(5):
        while len(said) < 2:
            await asyncio.sleep(0.02)
    following.cancel()
    assert said == ["短信 138****0001: new", "短信 138****0002: x"]
