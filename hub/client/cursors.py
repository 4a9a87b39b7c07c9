"""Where a client keeps how far it has come, so that a restarted program continues."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol


class Saved(NamedTuple):
    """One stream's place: the newest entry that the application took, and the stream's epoch."""

    seq: int
    epoch: int
    left: bool = False


class CursorStore(Protocol):
    """Keeps the places of one person in one enterprise on one device."""

    def load(self) -> Mapping[str, Saved]:
        """What was saved last; empty at first."""
        ...

    def save(self, places: Mapping[str, Saved]) -> None:
        """Keep all places. Called at most once a second, and at the end."""
        ...


class FileCursors:
    """A small JSON file, written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Mapping[str, Saved]:
        try:
            read = json.loads(self._path.read_bytes())
            return {
                str(name): Saved(int(seq), int(epoch), bool(left))
                for name, (seq, epoch, left) in read.items()
            }
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError):
            return {}  # a damaged file costs reading again, never a message

    def save(self, places: Mapping[str, Saved]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=".cursors.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(dict(places), file)
        Path(name).replace(self._path)
