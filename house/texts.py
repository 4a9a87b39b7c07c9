"""The demonstration's phone: what would be sent as a short message, printed as it happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

FILE = "sms.jsonl"  # of gateway.sms.outbox
_LOOK_S = 0.3  # an outbox is a file: nobody tells when it grows


async def follow(path: Path, say: Callable[[str], None]) -> None:
    """Say each line that is added to the outbox from now on, for ever."""
    done = path.stat().st_size if path.exists() else 0
    while True:
        await asyncio.sleep(_LOOK_S)
        done = _news(path, done, say)


def _news(path: Path, done: int, say: Callable[[str], None]) -> int:
    """Say the whole lines after `done`; how far that is now. A file that was begun anew is read from its start."""
    try:
        size = path.stat().st_size
        if size == done:
            return done
        with path.open("rb") as file:
            file.seek(done if size > done else 0)
            text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            end = file.tell() - len(text) + len(whole)
    except OSError:
        return 0
    for line in whole.splitlines():
        try:
            message = json.loads(line)
            say(f"短信 {message['phone']}: {message['text']}")
        except (ValueError, KeyError, TypeError):
            continue
    return end
