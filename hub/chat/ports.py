"""What a chat asks of whoever moves files; without it a chat shows messages with files and can do nothing with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from hub.client import Entry, HubError


class FileRefused(HubError):
    """A file is not taken, or not yet; the message says why, in Chinese."""

    def __init__(self, message: str) -> None:
        super().__init__("invalid", message)


class Shelf(Protocol):
    """Files to the bank and back. Both raise `HubError` for a refusal and `OSError` for what this machine refuses."""

    async def upload(self, path: Path) -> tuple[str, Mapping[str, Any]]:
        """Uploads a file and waits until it can be sent; kind and body of a message with it (SEND)."""

    async def save(self, entry: Entry) -> Path:
        """Saves the file of a message under a name that is not taken; where that is."""
