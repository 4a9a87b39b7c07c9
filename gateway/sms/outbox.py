"""The SMS platform of a laptop: a file under ``var/``, mode 0600, whose lines `bankhub up` prints while it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson

from core.clock import Clock
from gateway.identity.rules import masked_phone
from gateway.sms.templates import text

FILE: Final = "sms.jsonl"
_BYTES: Final = 1 << 20  # begun anew beyond it: only the newest messages are of use


class FileOutbox:
    """Appends ``{"at_ms", "phone", "text"}``, the number masked; whole lines, also from several processes."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock

    async def send(self, phone: str, template: str, params: Mapping[str, str]) -> None:
        """See `SmsSender`."""
        line = {"at_ms": self._clock.now_ms(), "phone": masked_phone(phone), "text": text(template, params)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if os.fstat(file).st_size > _BYTES:
                os.ftruncate(file, 0)
            os.write(file, orjson.dumps(line) + b"\n")
        finally:
            os.close(file)

    async def close(self) -> None:
        """See `SmsSender`."""
